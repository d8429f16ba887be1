//! Lines for people on standard error: one when a story starts, enters a phase and ends, and a summary.

use std::fmt::Write as _;

use super::event::{Change, Counts, Level, RunEvent, StorySettled, WorktreeOrigin};
use super::style::{Colour, Tone, duration, plural};
use super::{Reporter, Stamp, Verbosity, output};
use crate::engine::{Conflict, Delay, RunId};

/// The most files of a conflict that a line names.
const MOST_FILES: usize = 3;

/// Shows a run to a person.
#[derive(Debug)]
pub struct Human {
    colour: Colour,
    verbosity: Verbosity,
    settled: Vec<StorySettled>,
}

impl Human {
    /// A surface for the terminal, or whatever standard error is.
    pub fn new(verbosity: Verbosity) -> Self {
        Self {
            colour: Colour::of_stderr(),
            verbosity,
            settled: Vec::new(),
        }
    }

    /// What a person gets to read about an event; nothing for most of them.
    fn render(&mut self, event: &RunEvent) -> Option<String> {
        if let RunEvent::StorySettled(settled) = event {
            // A story that was worked on again is as it is now.
            let story = &settled.story;
            self.settled.retain(|earlier| earlier.story != *story);
            self.settled.push((**settled).clone());
        }
        let loud = self.verbosity == Verbosity::Normal;
        let line = |tone, verb: &str, text: &str| self.colour.line(tone, verb, text);
        match event {
            RunEvent::RunStarted {
                stories,
                concurrent,
                base_branch,
                base_commit,
                ..
            } if loud => {
                let short: String = base_commit.chars().take(8).collect();
                let base = match base_branch {
                    Some(branch) => format!("branch {branch} ({short})"),
                    None => format!("commit {short}"),
                };
                let count = plural(stories.len(), "story", "stories");
                let text = format!("{count}, {concurrent} at a time, from {base}");
                Some(line(Tone::Good, "Running", &text))
            }
            RunEvent::StoryStarted {
                story,
                title,
                attempt,
                ..
            } if loud => {
                let again = match attempt.get() {
                    1 => String::new(),
                    number => format!(" (attempt {number})"),
                };
                Some(line(
                    Tone::Plain,
                    "Starting",
                    &format!("{story} {title}{again}"),
                ))
            }
            RunEvent::StoryPrepared { story, origin, .. } if loud => {
                let text = match origin {
                    WorktreeOrigin::Fresh => return None,
                    WorktreeOrigin::ContinuedBranch => "goes on from its branch",
                    WorktreeOrigin::KeptWorktree => "goes on in its kept worktree",
                };
                Some(line(Tone::Faint, "Resuming", &format!("{story} {text}")))
            }
            RunEvent::StoryPhase {
                story,
                phase,
                activity,
                ..
            } if loud => {
                let activity = activity.as_ref().map(|text| format!(": {text}"));
                let text = format!("{story} {phase}{}", activity.unwrap_or_default());
                Some(line(Tone::Faint, "Phase", &text))
            }
            RunEvent::StoryLog {
                story, level, text, ..
            } => match level {
                Level::Warning | Level::Error => {
                    Some(line(Tone::Warning, "Message", &format!("{story} {text}")))
                }
                Level::Debug | Level::Info => None,
            },
            RunEvent::StoriesJoined { stories } if loud => {
                let lines = stories.iter().map(|story| {
                    line(
                        Tone::Plain,
                        "Joining",
                        &format!("{} {}", story.id, story.title),
                    )
                });
                Some(lines.collect())
            }
            RunEvent::StoryQuiet { story, idle_ms, .. } => {
                let text = format!("{story} has made no progress for {}", duration(*idle_ms));
                Some(line(Tone::Warning, "Quiet", &text))
            }
            RunEvent::StoryRetrying {
                story,
                outcome,
                reason,
                wait_ms,
                delay,
                log,
                ..
            } => {
                let wait = match delay {
                    Delay::BackOff => format!("again in {}", duration(*wait_ms)),
                    Delay::Quota => format!("waits {} for its quota", duration(*wait_ms)),
                };
                let reason = reason.as_ref().map(|reason| format!(": {reason}"));
                let text = format!(
                    "{story} {}{}; {wait}",
                    outcome.name(),
                    reason.unwrap_or_default()
                );
                let mut lines = line(Tone::Warning, "Retrying", &text);
                if let Some(log) = log {
                    lines.push_str(&self.colour.detail(&format!("log: {}", log.display())));
                }
                Some(lines)
            }
            RunEvent::StoriesOverlap { one, other, files } => {
                let text = format!("{one} and {other} both change {}", shortened(files));
                Some(line(Tone::Warning, "Overlap", &text))
            }
            RunEvent::BranchesConflict(conflict) => Some(line(
                Tone::Warning,
                "Conflict",
                &describe_conflict(conflict),
            )),
            RunEvent::StartsPaused {
                ends,
                window_ms,
                pause_ms,
            } => {
                let text = format!(
                    "{ends} attempts ended abnormally within {}: nothing starts for {}",
                    duration(*window_ms),
                    duration(*pause_ms)
                );
                Some(line(Tone::Bad, "Pausing", &text))
            }
            RunEvent::ProviderPaused { provider, pause_ms } => {
                let text = format!("{provider} serves no more for {}", duration(*pause_ms));
                Some(line(Tone::Warning, "Pausing", &text))
            }
            RunEvent::RunExceeded(overrun) => {
                let text = format!("{overrun}: nothing more starts, what runs is stopped");
                Some(line(Tone::Bad, "Budget", &text))
            }
            RunEvent::Asking { story } => Some(format!(
                "{story} did not succeed. Go on with the next story? [y/N] "
            )),
            RunEvent::StorySettled(settled) => self.settled(settled),
            RunEvent::RunStopping { running, grace_ms } => {
                let what = plural(*running, "attempt has", "attempts have");
                let text = format!(
                    "{what} {} to end; press Ctrl-C again to end them now",
                    duration(*grace_ms)
                );
                Some(line(Tone::Warning, "Stopping", &text))
            }
            RunEvent::Warning { message } => {
                let label = self.colour.paint(Tone::Warning, "warning");
                Some(format!("{label}: {message}\n"))
            }
            RunEvent::RunFinished {
                counts,
                conflicts,
                duration_ms,
                ..
            } if loud => Some(self.summary(counts, conflicts, *duration_ms)),
            _ => None,
        }
    }

    fn settled(&self, settled: &StorySettled) -> Option<String> {
        let (tone, verb) = match settled.outcome {
            "succeeded" => (Tone::Good, "Succeeded"),
            "cancelled" => (Tone::Warning, "Cancelled"),
            "skipped" => (Tone::Warning, "Skipped"),
            "failed" => (Tone::Bad, "Failed"),
            "blocked" => (Tone::Bad, "Blocked"),
            "crashed" => (Tone::Bad, "Crashed"),
            "timed_out" => (Tone::Bad, "Timed out"),
            "stalled" => (Tone::Bad, "Stalled"),
            "budget_exceeded" => (Tone::Bad, "Budget"),
            "quota_exhausted" => (Tone::Bad, "Quota"),
            _ => (Tone::Bad, "Error"),
        };
        let quiet = self.verbosity == Verbosity::Quiet;
        // Stories that a stop kept from starting are counted in the summary; a line each would bury the others.
        let never_started = settled.outcome == "cancelled" && settled.attempt.is_none();
        if never_started || (quiet && tone == Tone::Good) {
            return None;
        }
        let mut text = format!("{} {}", settled.story, settled.title);
        if let Some(millis) = settled.duration_ms {
            push(&mut text, format_args!(" in {}", duration(millis)));
        }
        match (&settled.reason, &settled.branch) {
            (Some(reason), _) => push(&mut text, format_args!(": {reason}")),
            (None, Some(branch)) if settled.outcome == "succeeded" => {
                let change = settled
                    .change
                    .map_or_else(|| "nothing to change".to_owned(), describe);
                push(&mut text, format_args!(": {change} on {branch}"));
            }
            (None, _) => {}
        }
        let mut lines = self.colour.line(tone, verb, &text);
        for tail in &settled.log_tail {
            lines.push_str(&self.colour.detail(&format!("| {tail}")));
        }
        if let Some(log) = settled.log.as_ref().filter(|_| tone == Tone::Bad) {
            lines.push_str(&self.colour.detail(&format!("log: {}", log.display())));
        }
        Some(lines)
    }

    fn summary(&self, counts: &Counts, conflicts: &[Conflict], duration_ms: u64) -> String {
        let parts: Vec<String> = counts
            .each()
            .into_iter()
            .filter(|(_, number)| *number > 0)
            .map(|(name, number)| format!("{number} {name}"))
            .collect();
        let all_well = counts.each().iter().skip(1).all(|(_, number)| *number == 0);
        let tone = if all_well { Tone::Good } else { Tone::Bad };
        let counted = if parts.is_empty() {
            "nothing".to_owned()
        } else {
            parts.join(", ")
        };
        let text = format!("{counted} in {}", duration(duration_ms));
        let mut summary = self.colour.line(tone, "Finished", &text);
        let branches = self
            .settled
            .iter()
            .filter(|settled| settled.outcome == "succeeded");
        for (place, settled) in branches.enumerate() {
            let Some(branch) = &settled.branch else {
                continue;
            };
            let verb = if place == 0 { "Branches" } else { "" };
            let change = settled
                .change
                .map_or_else(|| "nothing to change".to_owned(), describe);
            summary.push_str(
                &self
                    .colour
                    .line(Tone::Plain, verb, &format!("{branch}: {change}")),
            );
        }
        for (place, conflict) in conflicts.iter().enumerate() {
            let verb = if place == 0 { "Conflicts" } else { "" };
            let text = describe_conflict(conflict);
            summary.push_str(&self.colour.line(Tone::Warning, verb, &text));
        }
        let kept = self.settled.iter().filter_map(|settled| {
            let worktree = settled.kept_worktree.as_ref()?;
            let reason = worktree.reason.as_deref().unwrap_or(settled.outcome);
            Some(format!(
                "{} ({}: {reason})",
                worktree.path.display(),
                settled.story
            ))
        });
        for (place, text) in kept.enumerate() {
            let verb = if place == 0 { "Kept" } else { "" };
            summary.push_str(&self.colour.line(Tone::Warning, verb, &text));
        }
        let troubled = self
            .settled
            .iter()
            .filter(|settled| settled.outcome != "succeeded" && settled.reason.is_some());
        for (place, settled) in troubled.enumerate() {
            let verb = if place == 0 { "Why" } else { "" };
            let reason = settled.reason.as_deref().unwrap_or_default();
            let text = format!("{} {}: {reason}", settled.story, settled.outcome);
            summary.push_str(&self.colour.line(Tone::Bad, verb, &text));
        }
        summary
    }
}

impl Reporter for Human {
    fn show(&mut self, _run: &RunId, _stamp: &Stamp, event: &RunEvent) {
        if let Some(text) = self.render(event) {
            output::people(&text);
        }
    }
}

fn describe_conflict(conflict: &Conflict) -> String {
    let Conflict { one, other, files } = conflict;
    format!("{one} and {other} cannot be merged in {}", shortened(files))
}

/// A list of files that fits a line.
fn shortened(files: &[String]) -> String {
    let shown = files.iter().take(MOST_FILES).map(String::as_str);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(MOST_FILES) {
        0 => shown,
        more => format!("{shown} and {}", plural(more, "other file", "other files")),
    }
}

fn describe(change: Change) -> String {
    let as_usize = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    format!(
        "{}, {} (+{} -{})",
        plural(as_usize(change.commits), "commit", "commits"),
        plural(as_usize(change.files), "file", "files"),
        change.insertions,
        change.deletions,
    )
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more)
        .expect("writing to a string cannot fail");
}
