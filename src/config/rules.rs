//! The part of the configuration that says how runs behave: attempts, budgets, patience, parallelism.

use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::Invalid;
use super::document::section;
use super::limits::{CostLimits, LimitSections, UsageRules};
use super::size::size;
use crate::disk::Bytes;
use crate::engine::{Intensity, Limits, OutcomeKind, Patience, RetryPolicy};

/// The longest time that may be configured for anything, in minutes: thirty days.
const LONGEST_MINUTES: u64 = 30 * 24 * 60;

/// The most slots that may be configured; every one is a process with an agent.
pub const MOST_SLOTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// The time that one story may take when nothing is configured. Long enough for any story that an agent can finish at
/// all, short enough that one that never ends does not keep a slot for a weekend.
const STORY_TIME: Duration = Duration::from_secs(4 * 60 * 60);

/// The shortest time that executors may be given to answer.
const SHORTEST_ANSWER: Duration = Duration::from_secs(1);

/// How often the files of a running attempt are looked at when nothing is configured. Looking takes up to some hundred
/// milliseconds of one core in a large repository.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How many runs keep their folders when nothing is configured: with the logs of their attempts, some hundred megabytes
/// at most of what people work with.
const KEPT_RUNS: usize = 100;

/// The size at which a segment of a journal is closed when nothing is configured. A run of 16 slots closes a few a day, and
/// what of a journal is not compressed is less than what a single log may have.
const JOURNAL_SEGMENT: Bytes = Bytes(16 * 1024 * 1024);

/// Between these a segment of a journal has to be: less than a block of a disk saves nothing, and compressing more takes
/// as much room again for a while.
const SEGMENTS: RangeInclusive<Bytes> = Bytes(4096)..=Bytes::GIBI;

/// How runs behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which ends are followed by another attempt.
    pub retry: RetryPolicy,
    /// How many abnormal ends pause the starts.
    pub intensity: Intensity,
    /// How long executors may be silent and agents without progress.
    pub patience: Patience,
    /// What may be used.
    pub limits: UsageRules,
    /// How often the files of a running attempt are looked at; none for never.
    pub look_at_files: Option<Duration>,
    /// How many stories of an epic are worked on at once.
    pub epic_slots: NonZeroUsize,
    /// What a failed story of an epic means for the others.
    pub epic_failure: EpicFailure,
    /// What becomes of the worktrees of an epic.
    pub epic_worktrees: EpicWorktrees,
    /// How long the board must be quiet before a change of it counts.
    pub settle: Duration,
    /// How often the board is looked at where changes are not notified.
    pub poll: Duration,
    /// How many runs keep their folders.
    pub kept_runs: usize,
    /// The size at which a segment of a journal is closed.
    pub journal_segment: Bytes,
}

/// What a failed story of an epic means for the others: `epic.continueOnFailure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpicFailure {
    /// Nothing.
    GoOn,
    /// No further one is started.
    StopStarting,
}

/// What becomes of the worktrees of an epic: `epic.keepWorktrees`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpicWorktrees {
    /// Those of stories that succeed are removed.
    Remove,
    /// They stay.
    Keep,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            intensity: Intensity::default(),
            patience: Patience::default(),
            limits: UsageRules {
                story: Limits {
                    time: Some(STORY_TIME),
                    ..Limits::default()
                },
                ..UsageRules::default()
            },
            look_at_files: Some(LOOK_EVERY),
            // As in the predecessor, like the two of the watch below.
            epic_slots: NonZeroUsize::MIN.saturating_add(2),
            epic_failure: EpicFailure::GoOn,
            epic_worktrees: EpicWorktrees::Remove,
            settle: Duration::from_millis(500),
            poll: Duration::from_secs(5),
            kept_runs: KEPT_RUNS,
            journal_segment: JOURNAL_SEGMENT,
        }
    }
}

/// The keys of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Sections {
    #[serde(deserialize_with = "section")]
    attempts: Attempts,
    #[serde(deserialize_with = "section")]
    limits: LimitSections,
    #[serde(deserialize_with = "section")]
    cost_limits: CostLimits,
    #[serde(deserialize_with = "section")]
    health: Health,
    #[serde(deserialize_with = "section")]
    conflicts: Conflicts,
    #[serde(deserialize_with = "section")]
    epic: Epic,
    #[serde(deserialize_with = "section")]
    daemon: Daemon,
    #[serde(deserialize_with = "section")]
    runs: Runs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Attempts {
    most: Option<u64>,
    retry: Option<Vec<String>>,
    back_off_ms: Option<u64>,
    longest_back_off_ms: Option<u64>,
    pause_after: Option<usize>,
    pause_window_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Health {
    answer_seconds: Option<f64>,
    quiet_minutes: Option<f64>,
    stalled_minutes: Option<f64>,
    waiting_minutes: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conflicts {
    look_every_seconds: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Epic {
    max_concurrent: Option<usize>,
    keep_worktrees: Option<bool>,
    continue_on_failure: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Daemon {
    polling_interval: Option<u64>,
    process_delay: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Runs {
    keep: Option<usize>,
    #[serde(deserialize_with = "size")]
    journal_segment: Option<Bytes>,
}

impl Sections {
    pub(super) fn rules(self) -> Result<Rules, Invalid> {
        let mut rules = Rules::default();
        self.attempts.apply(&mut rules)?;
        self.health.apply(&mut rules.patience)?;
        let of_story = rules.limits.story;
        rules.limits = self.limits.rules(of_story, &self.cost_limits)?;
        if let Some(seconds) = self.conflicts.look_every_seconds {
            rules.look_at_files = look_every(seconds)?;
        }
        if let Some(slots) = self.epic.max_concurrent {
            rules.epic_slots = NonZeroUsize::new(slots)
                .filter(|slots| *slots <= MOST_SLOTS)
                .ok_or(Invalid::new("epic.maxConcurrent", "must be from 1 to 1000"))?;
        }
        if self.epic.continue_on_failure == Some(false) {
            rules.epic_failure = EpicFailure::StopStarting;
        }
        if self.epic.keep_worktrees == Some(true) {
            rules.epic_worktrees = EpicWorktrees::Keep;
        }
        let millis = |value: Option<u64>, default, key| match value {
            Some(value @ 1..=3_600_000) => Ok(Duration::from_millis(value)),
            Some(_) => Err(Invalid::new(key, "must be from 1 to 3600000")),
            None => Ok(default),
        };
        rules.settle = millis(
            self.daemon.process_delay,
            rules.settle,
            "daemon.processDelay",
        )?;
        rules.poll = millis(
            self.daemon.polling_interval,
            rules.poll,
            "daemon.pollingInterval",
        )?;
        if let Some(keep) = self.runs.keep {
            rules.kept_runs = match keep {
                1..=100_000 => keep,
                _ => return Err(Invalid::new("runs.keep", "must be from 1 to 100000")),
            };
        }
        if let Some(size) = self.runs.journal_segment {
            if !SEGMENTS.contains(&size) {
                return Err(Invalid::new(
                    "runs.journalSegment",
                    "must be from 4 KiB to 1 GiB",
                ));
            }
            rules.journal_segment = size;
        }
        Ok(rules)
    }
}

impl Attempts {
    fn apply(self, rules: &mut Rules) -> Result<(), Invalid> {
        if let Some(most) = self.most {
            rules.retry.most_attempts = u32::try_from(most)
                .ok()
                .and_then(NonZeroU32::new)
                .filter(|most| most.get() <= 100)
                .ok_or(Invalid::new("attempts.most", "must be from 1 to 100"))?;
        }
        if let Some(names) = self.retry {
            rules.retry.retried = names
                .iter()
                .map(|name| retryable(name))
                .collect::<Option<_>>()
                .ok_or(Invalid::new(
                    "attempts.retry",
                    "may hold crashed, stalled, protocol_error, prepare_failed, failed, timed_out and \
                     budget_exceeded",
                ))?;
        }
        let millis = |value: Option<u64>, default, key| match value {
            Some(value @ 0..=86_400_000) => Ok(Duration::from_millis(value)),
            Some(_) => Err(Invalid::new(key, "must be at most 86400000, a day")),
            None => Ok(default),
        };
        let retry = &mut rules.retry;
        retry.first_wait = millis(self.back_off_ms, retry.first_wait, "attempts.backOffMs")?;
        let longest = retry.longest_wait.max(retry.first_wait);
        retry.longest_wait = millis(
            self.longest_back_off_ms,
            longest,
            "attempts.longestBackOffMs",
        )?;
        if let Some(ends) = self.pause_after {
            rules.intensity.ends = NonZeroUsize::new(ends)
                .filter(|ends| ends.get() <= 1000)
                .ok_or(Invalid::new(
                    "attempts.pauseAfter",
                    "must be from 1 to 1000",
                ))?;
        }
        if let Some(seconds) = self.pause_window_seconds {
            if !(1..=86_400).contains(&seconds) {
                return Err(Invalid::new(
                    "attempts.pauseWindowSeconds",
                    "must be from 1 to 86400",
                ));
            }
            rules.intensity.window = Duration::from_secs(seconds);
        }
        Ok(())
    }
}

/// The outcomes after which another attempt can make sense.
fn retryable(name: &str) -> Option<OutcomeKind> {
    [
        OutcomeKind::Crashed,
        OutcomeKind::Stalled,
        OutcomeKind::ProtocolError,
        OutcomeKind::PrepareFailed,
        OutcomeKind::Failed,
        OutcomeKind::TimedOut,
        OutcomeKind::BudgetExceeded,
    ]
    .into_iter()
    .find(|kind| kind.name() == name)
}

impl Health {
    fn apply(self, patience: &mut Patience) -> Result<(), Invalid> {
        if let Some(seconds) = self.answer_seconds {
            // Less than a busy machine may take is no patience: what does not answer is killed.
            patience.answer = span(seconds, 1.0)
                .filter(|span| *span >= SHORTEST_ANSWER)
                .ok_or(Invalid::new(
                    "health.answerSeconds",
                    "must be from 1 to 2592000, 30 days",
                ))?;
        }
        if let Some(minutes) = self.waiting_minutes {
            patience.waiting = some_time(minutes, "health.waitingMinutes")?;
        }
        if let Some(minutes) = self.stalled_minutes {
            patience.stalled = some_time(minutes, "health.stalledMinutes")?;
        }
        if let Some(minutes) = self.quiet_minutes {
            patience.quiet = some_time(minutes, "health.quietMinutes")?;
            if patience.quiet > patience.stalled {
                let stalled = patience.stalled.as_secs_f64() / 60.0;
                let rule = format!("must be at most `health.stalledMinutes`, which is {stalled}");
                return Err(Invalid::new("health.quietMinutes", rule));
            }
        }
        // What is stopped earlier is shown earlier.
        patience.quiet = patience.quiet.min(patience.stalled);
        Ok(())
    }
}

/// How often files are looked at: never, or so seldom that looking is not all that is done.
fn look_every(seconds: f64) -> Result<Option<Duration>, Invalid> {
    let (key, rule) = (
        "conflicts.lookEverySeconds",
        "must be 0, for never, or from 1 second to 30 days",
    );
    let period = span(seconds, 1.0).filter(|span| span.is_zero() || span.as_secs() >= 1);
    match period {
        Some(Duration::ZERO) if seconds > 0.0 => Err(Invalid::new(key, rule)),
        Some(Duration::ZERO) => Ok(None),
        Some(period) => Ok(Some(period)),
        None => Err(Invalid::new(key, rule)),
    }
}

/// A time in minutes, which is not none.
pub(super) fn some_time(minutes: f64, key: &'static str) -> Result<Duration, Invalid> {
    span(minutes, 60.0)
        .filter(|span| !span.is_zero())
        .ok_or(Invalid::new(
            key,
            "must be more than 0 and at most 43200, 30 days",
        ))
}

/// A number of units of so many seconds, of at most 30 days; zero is zero.
fn span(value: f64, unit: f64) -> Option<Duration> {
    let seconds = value * unit;
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let longest = (LONGEST_MINUTES * 60) as f64;
    if !(0.0..=longest).contains(&seconds) {
        return None;
    }
    // Journals hold whole milliseconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "its range has just been checked"
    )]
    Some(Duration::from_millis((seconds * 1000.0).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules, String> {
        let sections: Sections = serde_json::from_str(text).unwrap();
        sections
            .rules()
            .map_err(|Invalid(key, reason)| format!("{key} {reason}"))
    }

    #[test]
    fn nothing_gives_the_defaults() {
        assert_eq!(rules("{}"), Ok(Rules::default()));
        let old = r#"{"epic":{"maxConcurrent":3,"keepWorktrees":false,"continueOnFailure":true},
            "daemon":{"pollingInterval":5000,"processDelay":500},"retry":{"maxRetries":3}}"#;
        assert_eq!(rules(old), Ok(Rules::default()));
    }

    #[test]
    fn everything_can_be_set() {
        let text = r#"{"attempts":{"most":1,"retry":["failed"],"backOffMs":10,"longestBackOffMs":20,
            "pauseAfter":9,"pauseWindowSeconds":2},
            "limits":{"story":{"minutes":1.5,"tokens":7},"run":{"minutes":60}},
            "costLimits":{"perStoryMaxTokens":1,"perRunMaxTokens":9},
            "health":{"quietMinutes":0.02,"stalledMinutes":0.03,"waitingMinutes":3,"answerSeconds":9},
            "conflicts":{"lookEverySeconds":0},
            "epic":{"maxConcurrent":8,"keepWorktrees":true,"continueOnFailure":false},
            "daemon":{"pollingInterval":1,"processDelay":2},
            "runs":{"keep":3,"journalSegment":"64KiB"}}"#;
        let rules = rules(text).unwrap();
        assert_eq!(rules.retry.most_attempts.get(), 1);
        assert_eq!(rules.retry.retried, [OutcomeKind::Failed]);
        assert_eq!(rules.retry.longest_wait, Duration::from_millis(20));
        assert_eq!(rules.intensity.ends.get(), 9);
        assert_eq!(rules.limits.story.time, Some(Duration::from_secs(90)));
        assert_eq!(rules.limits.story.tokens, Some(7));
        assert_eq!(rules.limits.run.tokens, Some(9));
        assert_eq!(rules.patience.stalled, Duration::from_millis(1_800));
        assert_eq!(rules.patience.waiting, Duration::from_secs(180));
        assert_eq!(rules.patience.answer, Duration::from_secs(9));
        assert_eq!(rules.look_at_files, None);
        assert_eq!(rules.epic_slots.get(), 8);
        assert_eq!(rules.epic_failure, EpicFailure::StopStarting);
        assert_eq!(rules.epic_worktrees, EpicWorktrees::Keep);
        assert_eq!(rules.settle, Duration::from_millis(2));
        assert_eq!(rules.kept_runs, 3);
        assert_eq!(rules.journal_segment, Bytes(65_536));
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (text, expected) in [
            (
                r#"{"attempts":{"most":0}}"#,
                "attempts.most must be from 1 to 100",
            ),
            (
                r#"{"attempts":{"retry":["cancelled"]}}"#,
                "attempts.retry may hold crashed, stalled, protocol_error, prepare_failed, failed, timed_out and \
                 budget_exceeded",
            ),
            (
                r#"{"epic":{"maxConcurrent":0}}"#,
                "epic.maxConcurrent must be from 1 to 1000",
            ),
            (
                r#"{"runs":{"journalSegment":4095}}"#,
                "runs.journalSegment must be from 4 KiB to 1 GiB",
            ),
            (
                r#"{"attempts":{"most":4294967297}}"#,
                "attempts.most must be from 1 to 100",
            ),
            (
                r#"{"health":{"quietMinutes":3,"stalledMinutes":2}}"#,
                "health.quietMinutes must be at most `health.stalledMinutes`, which is 2",
            ),
            (
                r#"{"health":{"quietMinutes":30}}"#,
                "health.quietMinutes must be at most `health.stalledMinutes`, which is 20",
            ),
            (
                r#"{"health":{"stalledMinutes":0.0000001}}"#,
                "health.stalledMinutes must be more than 0 and at most 43200, 30 days",
            ),
            (
                r#"{"conflicts":{"lookEverySeconds":0.5}}"#,
                "conflicts.lookEverySeconds must be 0, for never, or from 1 second to 30 days",
            ),
            (
                r#"{"health":{"waitingMinutes":0}}"#,
                "health.waitingMinutes must be more than 0 and at most 43200, 30 days",
            ),
            (
                r#"{"health":{"answerSeconds":0.5}}"#,
                "health.answerSeconds must be from 1 to 2592000, 30 days",
            ),
            (
                r#"{"daemon":{"pollingInterval":0}}"#,
                "daemon.pollingInterval must be from 1 to 3600000",
            ),
        ] {
            assert_eq!(rules(text), Err(expected.to_owned()));
        }
    }
}
