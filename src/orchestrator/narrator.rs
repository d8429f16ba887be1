//! Tells the surfaces what happens in a run: puts together what the engine decides with what the world adds to it
//! (times, places, what an executor said).
//!
//! It reads no disk itself, which may hang: what has to be read for an event is read where events are shown, in their
//! order.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::log_tail::LogReader;
use super::run_folder::RunFolder;
use crate::engine::{
    Conflict, Delay, Housekeeping, Notice, Outcome, OutcomeKind, Phase, RunId, Unit,
};
use crate::git::{Origin, Prepared};
use crate::protocol::{self, Evidence, FromExecutor, LogLevel, Reason, StatusUpdate};
use crate::report::event::{
    Change, Counts, KeptWorktree, Level, RunEvent, StoryName, StorySettled, Usage, WorktreeOrigin,
};
use crate::report::{self, Background, plural};
use crate::story::{Story, StoryId};

/// The teller of one run.
pub(super) struct Narrator {
    run: RunId,
    logs: LogReader,
    surfaces: Background,
    /// How long the last events may take to be shown.
    patience: Duration,
    began: Instant,
    attempts: HashMap<StoryId, Tale>,
    counts: Counts,
    /// What the attempts of each story have used that are over.
    used: HashMap<StoryId, Usage>,
}

/// What is known of the current attempt at a story.
struct Tale {
    began: Instant,
    ended: Option<Instant>,
    branch: Option<String>,
    phase: Option<Phase>,
    change: Option<Change>,
    kept: Option<KeptWorktree>,
    /// What the attempt has used so far.
    used: Usage,
    /// What its agent tries again, as long as it does.
    retrying: Option<Reason>,
}

/// What an attempt has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    pub(super) micros_usd: u64,
    /// Whether it is computed, and not the agent's own word.
    pub(super) is_computed: bool,
}

impl Tale {
    fn duration_ms(&self) -> u64 {
        let ended = self.ended.unwrap_or_else(Instant::now);
        millis(ended.saturating_duration_since(self.began))
    }
}

impl Narrator {
    pub(super) fn new(
        run: RunId,
        folder: RunFolder,
        surfaces: Background,
        patience: &Housekeeping,
    ) -> Self {
        Self {
            run,
            patience: patience.show,
            logs: LogReader::new(folder, patience.journal),
            surfaces,
            began: Instant::now(),
            attempts: HashMap::new(),
            counts: Counts::default(),
            used: HashMap::new(),
        }
    }

    pub(super) fn tell(&mut self, event: &RunEvent) {
        self.surfaces.show(&self.run, event);
    }

    pub(super) fn warn(&mut self, message: String) {
        tracing::warn!(message);
        self.tell(&RunEvent::Warning { message });
    }

    pub(super) fn started(&mut self, unit: &Unit, story: &Story, agent: &str) {
        let tale = Tale {
            began: Instant::now(),
            ended: None,
            branch: None,
            phase: None,
            change: None,
            kept: None,
            used: Usage::default(),
            retrying: None,
        };
        if let Some(before) = self.attempts.insert(unit.story.clone(), tale) {
            self.note_use(&unit.story, before.used);
        }
        self.tell(&RunEvent::StoryStarted {
            story: unit.story.clone(),
            title: story.title.clone(),
            attempt: unit.attempt,
            agent: agent.to_owned(),
        });
    }

    pub(super) fn prepared(&mut self, unit: &Unit, prepared: &Prepared) {
        if let Some(tale) = self.attempts.get_mut(&unit.story) {
            tale.branch = Some(prepared.branch.clone());
        }
        self.tell(&RunEvent::StoryPrepared {
            story: unit.story.clone(),
            attempt: unit.attempt,
            worktree: prepared.path.clone(),
            branch: prepared.branch.clone(),
            origin: match prepared.origin {
                Origin::Fresh => WorktreeOrigin::Fresh,
                Origin::ContinuedBranch => WorktreeOrigin::ContinuedBranch,
                Origin::KeptWorktree => WorktreeOrigin::KeptWorktree,
            },
        });
    }

    /// What an executor says, but for `complete`, whose meaning is the engine's.
    pub(super) fn said(&mut self, unit: &Unit, message: FromExecutor) {
        let (story, attempt) = (unit.story.clone(), unit.attempt);
        let event = match message {
            FromExecutor::HealthResponse(health) => RunEvent::StoryHealth {
                story,
                attempt,
                rss_kib: health.rss_kib,
                cpu_ms: health.cpu_ms,
                output_idle_ms: health.output_idle_ms,
                processes: health.processes,
                idle_ms: health.idle_ms,
                sign: health.sign,
                waits: health.waits,
            },
            FromExecutor::Log(log) => RunEvent::StoryLog {
                story,
                attempt,
                level: match log.level {
                    LogLevel::Debug => Level::Debug,
                    LogLevel::Info => Level::Info,
                    LogLevel::Warning => Level::Warning,
                    LogLevel::Error => Level::Error,
                },
                text: log.text.to_string(),
            },
            FromExecutor::Error(report) => RunEvent::StoryLog {
                story,
                attempt,
                level: Level::Error,
                text: format!("{}: {}", report.code, report.message),
            },
            // A status is told with what it has cost, which is not for the narrator to know.
            FromExecutor::Hello(_)
            | FromExecutor::StatusUpdate(_)
            | FromExecutor::PermitRequest
            | FromExecutor::Complete(_) => {
                return;
            }
        };
        self.tell(&event);
    }

    pub(super) fn status(&mut self, unit: &Unit, update: StatusUpdate, cost: Cost) {
        let (story, attempt) = (unit.story.clone(), unit.attempt);
        let activity = update.activity.as_ref().map(ToString::to_string);
        let usage = Usage {
            input_tokens: update.usage.input_tokens,
            output_tokens: update.usage.output_tokens,
            cached_tokens: update.usage.cached_tokens,
            cost_micros_usd: cost.micros_usd,
            cost_is_computed: cost.is_computed,
            turns: update.usage.turns,
        };
        if let Some(tale) = self.attempts.get_mut(&unit.story) {
            tale.used = usage;
        }
        self.note_retry(unit, update.retrying.as_ref());
        let entered = match self.attempts.get_mut(&unit.story) {
            Some(tale) if tale.phase != Some(update.phase) => {
                tale.phase = Some(update.phase);
                true
            }
            _ => false,
        };
        if entered {
            self.tell(&RunEvent::StoryPhase {
                story: story.clone(),
                attempt,
                phase: update.phase,
                activity: activity.clone(),
            });
        }
        self.tell(&RunEvent::StoryStatus {
            story,
            attempt,
            phase: update.phase,
            progress: update.progress.map(protocol::Percent::get),
            activity,
            usage,
            agent_session: update.agent_session.map(|session| session.to_string()),
            model: update.model.map(|model| model.to_string()),
            tool: update.tool.map(|tool| tool.to_string()),
        });
    }

    /// Tells when an agent begins to try a request again; that it goes on with it is no news.
    fn note_retry(&mut self, unit: &Unit, retrying: Option<&protocol::Retrying>) {
        let Some(tale) = self.attempts.get_mut(&unit.story) else {
            return;
        };
        let reason = retrying.map(|retrying| retrying.reason.clone());
        let before = std::mem::replace(&mut tale.retrying, reason);
        if before.is_none()
            && let Some(retrying) = retrying
        {
            self.tell(&RunEvent::StoryRetriesRequest {
                story: unit.story.clone(),
                attempt: unit.attempt,
                reason: retrying.reason.to_string(),
                delay_ms: retrying.delay_ms,
            });
        }
    }

    /// Counts what an attempt has used that is over.
    fn note_use(&mut self, story: &StoryId, used: Usage) {
        let before = self.used.entry(story.clone()).or_default();
        *before = before.plus(used);
    }

    /// An attempt is over, and another one follows.
    pub(super) fn retrying(
        &mut self,
        unit: &Unit,
        outcome: &Outcome,
        wait: Duration,
        delay: Delay,
    ) {
        // Its worktree stays for the next attempt, and for the person when there is none.
        if let Some(tale) = self.attempts.get_mut(&unit.story) {
            tale.ended.get_or_insert_with(Instant::now);
        }
        let (logs, unit) = (self.logs.clone(), unit.clone());
        let (outcome, reason) = (outcome.kind(), outcome.reason());
        let make = move || RunEvent::StoryRetrying {
            log: logs.telling_log(&unit),
            story: unit.story,
            attempt: unit.attempt,
            outcome,
            reason,
            wait_ms: millis(wait),
            delay,
        };
        self.surfaces.show_made(&self.run, make);
    }

    /// What the engine tells of the run as a whole, or of stories that go on.
    pub(super) fn notice(&mut self, notice: Notice) {
        let event = match notice {
            Notice::Quiet { unit, idle, waits } => RunEvent::StoryQuiet {
                story: unit.story,
                attempt: unit.attempt,
                idle_ms: millis(idle),
                waits,
            },
            Notice::StartsPaused {
                ends,
                window,
                pause,
            } => RunEvent::StartsPaused {
                ends,
                window_ms: millis(window),
                pause_ms: millis(pause),
            },
            Notice::ProviderPaused {
                provider,
                pause,
                reason,
            } => RunEvent::ProviderPaused {
                provider: provider.into(),
                pause_ms: millis(pause),
                until: report::time_in(pause),
                reason,
            },
            Notice::ProviderResumed(provider) => RunEvent::ProviderResumed {
                provider: provider.into(),
            },
            Notice::WaitsForRoom { story, lack } => RunEvent::WaitsForRoom { story, lack },
            Notice::TurnsUsedUp { provider, wait } => RunEvent::TurnsUsedUp {
                provider: provider.into(),
                wait_ms: millis(wait),
            },
            Notice::ProviderRefused { provider, reason } => RunEvent::ProviderRefused {
                provider: provider.into(),
                reason,
            },
            Notice::RunExceeded(overrun) => RunEvent::RunExceeded(overrun),
            Notice::BudgetNear {
                story,
                scope,
                share,
            } => RunEvent::BudgetNear {
                story,
                scope,
                share,
            },
            Notice::Overlap { one, other, files } => RunEvent::StoriesOverlap {
                one,
                other,
                files: files.iter().map(|file| file.as_str().to_owned()).collect(),
            },
            Notice::Conflict { one, other, files } => {
                RunEvent::BranchesConflict(Conflict { one, other, files })
            }
            Notice::Leaving { running: 0 } => {
                return self.warn("cut off before all was written down".to_owned());
            }
            Notice::Leaving { running } => {
                let count = plural(running, "attempt", "attempts");
                return self.warn(format!("cut off: {count} left to end within seconds"));
            }
            // The driver tells these, with what it knows besides.
            Notice::StoryEnded { .. }
            | Notice::Retrying { .. }
            | Notice::Joined(_)
            | Notice::Stopping { .. } => return,
        };
        self.tell(&event);
    }

    /// The run is stopping. `settling` are attempts whose processes have ended.
    pub(super) fn stopping(&mut self, running: usize, settling: usize, grace: Duration) {
        self.tell(&RunEvent::RunStopping {
            running,
            settling,
            grace_ms: millis(grace),
        });
    }

    pub(super) fn proved(&mut self, unit: &Unit, evidence: &Evidence) {
        if let Some(tale) = self.attempts.get_mut(&unit.story) {
            tale.change = change_of(evidence.change);
        }
    }

    pub(super) fn kept(&mut self, unit: &Unit, kept: Option<KeptWorktree>) {
        if let Some(tale) = self.attempts.get_mut(&unit.story) {
            tale.kept = kept;
        }
    }

    /// A story is through.
    pub(super) fn settled(&mut self, story: StoryName, unit: Option<&Unit>, outcome: &Outcome) {
        self.counts.count(outcome.kind());
        let tale = unit.and_then(|unit| self.attempts.remove(&unit.story));
        if let (Some(unit), Some(tale)) = (unit, &tale) {
            self.note_use(&unit.story, tale.used);
        }
        let usage = self.used.get(&story.id).copied().unwrap_or_default();
        let needs_explanation = !matches!(
            outcome,
            Outcome::Succeeded | Outcome::Cancelled | Outcome::Skipped(_)
        );
        let mut settled = StorySettled {
            story: story.id,
            title: story.title,
            attempt: unit.map(|unit| unit.attempt),
            outcome: outcome.name(),
            reason: outcome.reason(),
            duration_ms: tale.as_ref().map(Tale::duration_ms),
            branch: tale.as_ref().and_then(|tale| tale.branch.clone()),
            change: tale.as_ref().and_then(|tale| tale.change),
            kept_worktree: tale.and_then(|tale| tale.kept),
            log: None,
            log_tail: Vec::new(),
            usage,
        };
        let (logs, unit) = (self.logs.clone(), unit.cloned());
        let make = move || {
            settled.log = unit.and_then(|unit| logs.telling_log(&unit));
            if let Some(log) = settled.log.as_ref().filter(|_| needs_explanation) {
                settled.log_tail = logs.last_lines(log);
            }
            RunEvent::StorySettled(Box::new(settled))
        };
        self.surfaces.show_made(&self.run, make);
    }

    /// Counts a story that was through before this process began.
    pub(super) fn count(&mut self, kind: OutcomeKind) {
        self.counts.count(kind);
    }

    /// Counts what a story had used before this process began.
    pub(super) fn had_used(&mut self, story: &StoryId, used: Usage) {
        self.note_use(story, used);
    }

    /// Sees to it that everything is shown.
    pub(super) fn close(&mut self) {
        let lost = self.surfaces.finish(self.patience);
        if lost > 0 {
            tracing::warn!(lost, "events were not shown: nobody took them");
        }
    }

    pub(super) fn finished(&mut self, exit_code: u8, conflicts: Vec<Conflict>) -> Counts {
        let used = self.used.values().copied();
        let event = RunEvent::RunFinished {
            counts: self.counts,
            usage: used.fold(Usage::default(), Usage::plus),
            conflicts,
            duration_ms: millis_since(self.began),
            exit_code,
        };
        self.tell(&event);
        self.close();
        self.counts
    }
}

/// What a story has changed, as it is told.
pub(super) fn change_of(change: protocol::Change) -> Option<Change> {
    match change {
        protocol::Change::Committed {
            commits,
            files,
            insertions,
            deletions,
        } => Some(Change {
            commits,
            files,
            insertions,
            deletions,
        }),
        protocol::Change::Nothing => None,
    }
}

fn millis_since(began: Instant) -> u64 {
    millis(began.elapsed())
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::report::{Reporter, Stamp};

    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<RunEvent>>>);

    impl Reporter for Shown {
        fn show(&mut self, _run: &RunId, _stamp: &Stamp, event: &RunEvent) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    fn log_of(folder: &RunFolder, unit: &Unit) -> PathBuf {
        let log = folder.log(unit);
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        log
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_in_time_holds_up_neither_the_run_nor_the_order() {
        let runs = tempfile::tempdir().unwrap();
        let run = RunId::new("20261122-120000", 1).unwrap();
        let folder = RunFolder::create(runs.path(), &run).unwrap();
        let [hangs, after]: [Unit; 2] = ["S-0001", "S-0002"].map(|id| Unit {
            story: id.parse().unwrap(),
            attempt: crate::engine::AttemptNumber::FIRST,
        });
        // Whoever opens a pipe to read waits for somebody who writes.
        let pipe = log_of(&folder, &hangs);
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        std::fs::write(log_of(&folder, &after), "the end\n").unwrap();
        let shown = Shown::default();
        let surfaces = Background::new(vec![Box::new(shown.clone())]).unwrap();
        let patience = Housekeeping {
            journal: Duration::from_secs(2),
            show: Duration::from_secs(20),
            ..Housekeeping::default()
        };
        let mut narrator = Narrator::new(run, folder, surfaces, &patience);
        let outcome = Outcome::Crashed {
            reason: "it broke".to_owned(),
        };
        for unit in [&hangs, &after] {
            let name = StoryName {
                id: unit.story.clone(),
                title: String::new(),
            };
            narrator.settled(name, Some(unit), &outcome);
        }
        narrator.warn("later".to_owned());
        narrator.close();
        // Lets go of the reader.
        let mut both = std::fs::OpenOptions::new();
        drop(both.read(true).write(true).open(&pipe).unwrap());
        let shown = shown.0.lock().unwrap();
        let [
            RunEvent::StorySettled(first),
            RunEvent::StorySettled(second),
            RunEvent::Warning { .. },
        ] = &shown[..]
        else {
            panic!("{shown:?}");
        };
        assert_eq!((&first.story, &second.story), (&hangs.story, &after.story));
        assert_eq!((&first.log, first.log_tail.len()), (&Some(pipe), 0));
        // Nothing is asked of a disk that owes an answer.
        assert_eq!((&second.log, second.log_tail.len()), (&None, 0));
    }
}
