//! Lines for people on standard error: one when a story starts, enters a phase and ends, and a summary.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::budget::{little_left, too_little};
use super::conflicts;
use super::event::{Change, Counts, Level, RunEvent, StorySettled, Usage, WorktreeOrigin};
use super::pauses::{PausesTold, local_time};
use super::style::{Colour, Tone, duration, plural};
use super::{Reporter, Stamp, Verbosity, output};
use crate::engine::{Conflict, Delay, RunId};
use crate::story::StoryId;

/// The most conflicts of one story that are told when they are found.
const MOST_CONFLICTS_TOLD: usize = 3;

/// Shows a run to a person.
#[derive(Debug)]
pub struct Human {
    colour: Colour,
    verbosity: Verbosity,
    settled: Vec<StorySettled>,
    /// How many conflicts of the story that is just being compared have come.
    conflicts: usize,
    paused: PausesTold,
    /// In which times of day are told.
    zone: TimeZone,
    line: Line,
}

/// Where the cursor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Begins,
    /// Behind a question that waits for its answer.
    HoldsQuestion,
}

impl Human {
    /// A surface for the terminal, or whatever standard error is.
    pub fn new(verbosity: Verbosity) -> Self {
        Self {
            colour: Colour::of_stderr(),
            verbosity,
            settled: Vec::new(),
            conflicts: 0,
            paused: PausesTold::default(),
            zone: TimeZone::system(),
            line: Line::Begins,
        }
    }

    /// What is written about an event.
    fn text(&mut self, event: &RunEvent) -> Option<String> {
        let text = self.render(event);
        let line = self.line;
        match event {
            RunEvent::Asking { .. } => self.line = Line::HoldsQuestion,
            // The terminal has shown the end of the line.
            RunEvent::Answered { typed: true, .. } => self.line = Line::Begins,
            RunEvent::Answered { typed: false, .. } if line == Line::HoldsQuestion => {
                self.line = Line::Begins;
                return Some("\n".to_owned());
            }
            _ if text.is_some() && line == Line::HoldsQuestion => {
                self.line = Line::Begins;
                return text.map(|text| format!("\n{text}"));
            }
            _ => {}
        }
        text
    }

    /// What a person gets to read about an event; nothing for most of them.
    fn render(&mut self, event: &RunEvent) -> Option<String> {
        match event {
            RunEvent::BranchesConflict(_) => self.conflicts += 1,
            RunEvent::BranchCompared { story } => {
                let found = std::mem::take(&mut self.conflicts);
                let more = found.saturating_sub(MOST_CONFLICTS_TOLD);
                let count = plural(more, "more story", "more stories");
                let text = format!("{story} cannot be merged with {count} either");
                return (more > 0).then(|| self.colour.line(Tone::Warning, "Conflict", &text));
            }
            _ => {}
        }
        if let RunEvent::StorySettled(settled) = event {
            // A story that was worked on again is as it is now.
            let story = &settled.story;
            self.settled.retain(|earlier| earlier.story != *story);
            self.settled.push((**settled).clone());
        }
        if let RunEvent::RunContinued { through, .. } = event {
            self.settled.extend_from_slice(through);
        }
        let loud = self.verbosity == Verbosity::Normal;
        let colour = self.colour;
        let line = |tone, verb: &str, text: &str| colour.line(tone, verb, text);
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
            RunEvent::RunContinued {
                through,
                interrupted,
            } if loud => {
                let count = plural(through.len(), "story is", "stories are");
                let mut text = format!("{count} through");
                if !interrupted.is_empty() {
                    let ids: Vec<&str> = interrupted.iter().map(StoryId::as_str).collect();
                    text = format!("{text}; interrupted: {}", ids.join(", "));
                }
                Some(line(Tone::Good, "Continuing", &text))
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
            RunEvent::StoryRetriesRequest {
                story,
                reason,
                delay_ms,
                ..
            } if loud => {
                let when = delay_ms.map(|delay| format!(" in {}", duration(delay)));
                let text = format!(
                    "{story} tries a request again{}: {reason}",
                    when.unwrap_or_default()
                );
                Some(line(Tone::Warning, "Waiting", &text))
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
            RunEvent::StoryQuiet {
                story,
                idle_ms,
                waits,
                ..
            } => {
                let mut text = format!("{story} has made no progress for {}", duration(*idle_ms));
                if let Some(wait) = waits {
                    text = format!("{text}; it waits for {wait}");
                }
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
                let text = format!(
                    "{one} and {other} both change {}",
                    conflicts::shortened(files)
                );
                Some(line(Tone::Warning, "Overlap", &text))
            }
            RunEvent::BranchesConflict(_) if self.conflicts > MOST_CONFLICTS_TOLD => None,
            RunEvent::BranchesConflict(conflict) => {
                Some(line(Tone::Warning, "Conflict", &conflicts::pair(conflict)))
            }
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
            RunEvent::ProviderPaused {
                provider,
                pause_ms,
                until,
                reason,
            } => {
                // Every story that runs into it says so once more.
                if !self.paused.is_news(provider, until) {
                    return None;
                }
                let text = format!(
                    "{provider} until {} (in {}): {reason}",
                    local_time(until, *pause_ms, &self.zone),
                    duration(*pause_ms)
                );
                Some(self.colour.line(Tone::Warning, "Paused", &text))
            }
            RunEvent::ProviderResumed { provider } => {
                let was_told = self.paused.forget(provider);
                let text = format!("{provider}: its stories start again");
                (loud && was_told).then(|| self.colour.line(Tone::Good, "Resumed", &text))
            }
            RunEvent::WaitsForRoom { story, lack } => {
                let text = too_little(story, *lack);
                loud.then(|| self.colour.line(Tone::Good, "Waiting", &text))
            }
            RunEvent::TurnsUsedUp { provider, wait_ms } => {
                let text = format!(
                    "{provider} has had its turns of this minute; the next one begins in {}",
                    duration(*wait_ms)
                );
                loud.then(|| self.colour.line(Tone::Good, "Waiting", &text))
            }
            RunEvent::ProviderRefused { provider, reason } => {
                let text = format!("{provider}, so that no story of it starts any more: {reason}");
                let mut lines = line(Tone::Bad, "Refused", &text);
                let mend = "hint: see to its key or its account, then run again";
                lines.push_str(&self.colour.detail(mend));
                Some(lines)
            }
            RunEvent::RunExceeded(overrun) => {
                let text = format!("{overrun}: nothing more starts, what runs is stopped");
                Some(line(Tone::Bad, "Budget", &text))
            }
            RunEvent::BudgetNear {
                story,
                scope,
                share,
            } => Some(line(
                Tone::Warning,
                "Budget",
                &little_left(story.as_ref(), *scope, *share),
            )),
            RunEvent::Asking { story } => Some(format!(
                "{story} did not succeed. Go on with the next story? [y/N] "
            )),
            RunEvent::StorySettled(settled) => self.settled(settled),
            RunEvent::RunStopping {
                running: 0,
                settling,
                ..
            } => {
                let text = match settling {
                    0 => "no attempt is under way".to_owned(),
                    1 => "the end of 1 attempt is still being taken care of".to_owned(),
                    count => format!("the ends of {count} attempts are still being taken care of"),
                };
                Some(line(Tone::Warning, "Stopping", &text))
            }
            RunEvent::RunStopping {
                running, grace_ms, ..
            } => {
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
                usage,
                duration_ms,
                ..
            } if loud => Some(self.summary(counts, conflicts, usage, *duration_ms)),
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
            "provider_refused" => (Tone::Bad, "Refused"),
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
        if let Some(used) = settled.usage.in_words() {
            push(&mut text, format_args!(" ({used})"));
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

    fn summary(
        &self,
        counts: &Counts,
        conflicts: &[Conflict],
        usage: &Usage,
        duration_ms: u64,
    ) -> String {
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
        let mut text = format!("{counted} in {}", duration(duration_ms));
        if let Some(used) = usage.in_words() {
            push(&mut text, format_args!(", {used}"));
        }
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
        for (place, text) in conflicts::summary(conflicts).into_iter().enumerate() {
            let verb = if place == 0 { "Conflicts" } else { "" };
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
        let saved: Vec<&str> = self
            .settled
            .iter()
            .filter(|settled| {
                let kept = settled.kept_worktree.as_ref();
                kept.is_some_and(|kept| kept.salvage.is_some())
            })
            .map(|settled| settled.story.as_str())
            .collect();
        if !saved.is_empty() {
            let text = format!("{} (`ai-sdlc recover`)", saved.join(", "));
            summary.push_str(&self.colour.line(Tone::Plain, "Saved", &text));
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
        if let Some(text) = self.text(event) {
            output::people(&text);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn human() -> Human {
        Human {
            colour: Colour::Never,
            zone: TimeZone::UTC,
            ..Human::new(Verbosity::Normal)
        }
    }

    fn read(events: &[RunEvent]) -> String {
        let mut human = human();
        events
            .iter()
            .filter_map(|event| human.text(event))
            .collect()
    }

    fn asking() -> RunEvent {
        let story = "S-1".parse().unwrap();
        RunEvent::Asking { story }
    }

    fn stopping() -> RunEvent {
        RunEvent::RunStopping {
            running: 0,
            settling: 0,
            grace_ms: 10_000,
        }
    }

    #[test]
    fn nothing_is_glued_to_a_question() {
        let question = "S-1 did not succeed. Go on with the next story? [y/N] ";
        let stopped = "    Stopping no attempt is under way\n";
        let answered = |typed| RunEvent::Answered {
            go_on: false,
            typed,
        };
        for (events, expected) in [
            // Enter, which the terminal shows.
            (
                vec![asking(), answered(true), stopping()],
                format!("{question}{stopped}"),
            ),
            // Ctrl-D.
            (
                vec![asking(), answered(false), stopping()],
                format!("{question}\n{stopped}"),
            ),
            // Ctrl-C.
            (
                vec![asking(), stopping(), answered(false)],
                format!("{question}\n{stopped}"),
            ),
        ] {
            assert_eq!(read(&events), expected);
        }
    }

    #[test]
    fn of_many_conflicts_at_once_the_first_are_told() {
        let conflict = |number: usize| {
            RunEvent::BranchesConflict(Conflict {
                one: format!("S-{number}").parse().unwrap(),
                other: "S-99".parse().unwrap(),
                files: vec!["a".to_owned()],
            })
        };
        let compared = || RunEvent::BranchCompared {
            story: "S-99".parse().unwrap(),
        };
        let mut events: Vec<RunEvent> = (1..=30).map(conflict).collect();
        events.extend([compared(), conflict(1), compared()]);
        let text = read(&events);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        assert_eq!(
            lines,
            [
                "Conflict S-1 and S-99 cannot be merged in a",
                "Conflict S-2 and S-99 cannot be merged in a",
                "Conflict S-3 and S-99 cannot be merged in a",
                "Conflict S-99 cannot be merged with 27 more stories either",
                "Conflict S-1 and S-99 cannot be merged in a",
            ]
        );
    }

    #[test]
    fn a_pause_of_a_provider_is_told_once_and_that_it_is_over() {
        let paused = |provider: &str, until: &str, pause_ms| RunEvent::ProviderPaused {
            provider: provider.to_owned(),
            pause_ms,
            until: format!("2026-11-22T{until}Z"),
            reason: "too many requests".to_owned(),
        };
        let resumed = |provider: &str| RunEvent::ProviderResumed {
            provider: provider.to_owned(),
        };
        let text = read(&[
            paused("a", "14:05:10", 3_480_000),
            // Another story runs into the same.
            paused("a", "14:05:11", 3_480_000),
            paused("b", "13:07:32.5", 2_000),
            paused("a", "14:30:00", 4_000_000),
            resumed("a"),
            paused("a", "04:00:00", 36_000_000),
        ]);
        let expected = "      Paused a until 14:05 (in 58m 00s): too many requests
      Paused b until 13:07:32 (in 2.0s): too many requests
      Paused a until 14:30 (in 1h 06m): too many requests
     Resumed a: its stories start again
      Paused a until 2026-11-22 04:00 (in 10h 00m): too many requests
";
        assert_eq!(text, expected);
    }
}
