//! Whether an attempt is well, by clocks that are handed in: when its executor last answered, when its agent last
//! made progress, and when it was last seen to wait for something that ends or comes from outside. One more clock, the
//! wall budget, is a limit ([`crate::engine::limits`]). Pure.
//!
//! Silence alone is no verdict: what counts as progress (output, processor time, changed files) and as waiting (a
//! sleep, a disk, a connection) is measured outside and arrives as data. Quiet is shown first and stopped much later,
//! and what waits is stopped later still: rather a hang that is found late than a healthy agent that is stopped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::fault::{self, Fault};
use crate::engine::time::Moment;

/// Longer than any run.
const NO_LIMIT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The longest time between two health checks.
const LONGEST_PERIOD: Duration = Duration::from_secs(10);
/// The shortest one: executors say how they are at most ten times a second.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);
/// The longest time between two looks at the files of an attempt that shows nothing else.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// How long the clocks may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// Without an answer from the executor: four health checks.
    #[serde(with = "crate::engine::time::millis")]
    pub answer: Duration,
    /// Without progress, until that is shown.
    #[serde(with = "crate::engine::time::millis")]
    pub quiet: Duration,
    /// With neither progress nor a sign that it waits, until the attempt is stopped.
    #[serde(with = "crate::engine::time::millis")]
    pub stalled: Duration,
    /// Without progress, until an attempt is stopped that waits; never shorter than `stalled`.
    #[serde(with = "crate::engine::time::millis")]
    pub waiting: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            quiet: Duration::from_secs(5 * 60),
            stalled: Duration::from_secs(20 * 60),
            waiting: Duration::from_secs(60 * 60),
        }
    }
}

impl Patience {
    /// How often an executor is asked how it is: often enough that each of the clocks gets four answers.
    pub fn period(&self) -> Duration {
        let shortest = self.answer.min(self.quiet).min(self.stalled);
        (shortest.min(self.waiting) / 4).clamp(SHORTEST_PERIOD, LONGEST_PERIOD)
    }

    /// How often the files of an attempt that shows nothing else are looked at.
    pub fn look_every(&self) -> Duration {
        (self.stalled / 8).clamp(SHORTEST_PERIOD, LONGEST_LOOK)
    }

    /// How much too late the engine itself may be told of a deadline before the clocks start again: a machine that
    /// slept, or an orchestrator that was stopped, says nothing about its executors. Two health checks.
    fn oversleep(&self) -> Duration {
        self.period() * 2
    }

    /// That with an attempt of which no progress is expected for now.
    #[must_use]
    pub(super) fn without_progress(self) -> Self {
        Self {
            quiet: NO_LIMIT,
            stalled: NO_LIMIT,
            waiting: NO_LIMIT,
            ..self
        }
    }

    fn longest_wait(&self) -> Duration {
        self.waiting.max(self.stalled)
    }
}

/// By what an agent was seen to make progress. Its number is part of the protocol: only appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Its output grew.
    Output,
    /// Its processes used processor time.
    Cpu,
    /// Its processes read or wrote.
    Io,
    /// A process came or went.
    Processes,
    /// Files of its worktree changed.
    Files,
}

/// What an agent waits for. Its number is part of the protocol: only appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// For a time that ends.
    Sleep,
    /// For a disk.
    Disk,
    /// For somebody at the other end of a connection.
    Network,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Sleep => "a timer",
            Self::Disk => "a disk",
            Self::Network => "the network",
        })
    }
}

/// What an answer to a health check says of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// How long ago it last showed progress.
    #[serde(with = "crate::engine::time::millis")]
    pub idle: Duration,
    /// What it waits for now, if that can be seen.
    pub waits: Option<Wait>,
}

impl Vitals {
    /// Those of an agent that showed progress so many milliseconds ago.
    pub fn new(idle_ms: u64, waits: Option<Wait>) -> Self {
        Self {
            idle: Duration::from_millis(idle_ms),
            waits,
        }
    }
}

/// The clocks of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    answered: Moment,
    progressed: Moment,
    /// When it last made progress or waited.
    stirred: Moment,
    /// What it waited for when it last answered.
    waits: Option<Wait>,
    quiet: Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Quiet {
    Unnoticed,
    Shown,
}

/// What the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Condition {
    /// Nothing to do.
    Well,
    /// It has made no progress for a while; to be shown once, with what it waits for.
    Quiet(Duration, Option<Wait>),
    /// It has made no progress for too long, in spite of what it waits for.
    Stalled(Duration, Option<Wait>),
    /// Its executor does not answer.
    Unresponsive(Duration),
}

impl Clocks {
    /// Clocks that start now.
    pub fn start(now: Moment) -> Self {
        Self {
            answered: now,
            progressed: now,
            stirred: now,
            waits: None,
            quiet: Quiet::Unnoticed,
        }
    }

    /// The executor answered.
    pub fn answer(&mut self, vitals: Vitals, now: Moment, patience: &Patience) {
        self.answered = now;
        self.waits = vitals.waits;
        // Before the attempt began there was no agent: an age that is too great moves nothing.
        self.progressed = self.progressed.max(now.before(vitals.idle));
        self.stirred = self.stirred.max(self.progressed);
        if self.waits.is_some() && !fault::is(Fault::WaitingIgnored) {
            self.stirred = now;
        }
        if now.since(self.progressed) < patience.quiet {
            self.quiet = Quiet::Unnoticed;
        }
    }

    /// The agent made progress. An executor that can tell so is alive.
    pub fn progress(&mut self, now: Moment) {
        *self = Self::start(now);
    }

    /// When [`Self::look`] will say something new.
    pub fn deadline(&self, patience: &Patience) -> Moment {
        let stalled = self.stalled_at(patience);
        let progress = match self.quiet {
            Quiet::Unnoticed => stalled.min(self.progressed + patience.quiet),
            Quiet::Shown => stalled,
        };
        progress.min(self.answered + patience.answer)
    }

    fn stalled_at(&self, patience: &Patience) -> Moment {
        let stands_still = self.stirred + patience.stalled;
        stands_still.min(self.progressed + patience.longest_wait())
    }

    /// What the clocks say now; a deadline that is told of much too late starts them again instead.
    pub fn look(&mut self, now: Moment, patience: &Patience) -> Condition {
        let late = now.since(self.deadline(patience));
        if late > patience.oversleep() {
            self.answered = now;
            self.progressed = self.progressed + late;
            self.stirred = self.stirred + late;
            return Condition::Well;
        }
        if self.answered + patience.answer <= now {
            return Condition::Unresponsive(now.since(self.answered));
        }
        let idle = now.since(self.progressed);
        if self.stalled_at(patience) <= now {
            return Condition::Stalled(idle, self.waits);
        }
        if idle >= patience.quiet && self.quiet == Quiet::Unnoticed {
            self.quiet = Quiet::Shown;
            return Condition::Quiet(idle, self.waits);
        }
        Condition::Well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Looks at every deadline, while the executor answers every ten seconds with what `vitals` says of that second.
    fn watch(
        patience: Patience,
        until: u64,
        vitals: impl Fn(u64) -> Option<Vitals>,
    ) -> Vec<(u64, Condition)> {
        let mut clocks = Clocks::start(at(0));
        let mut seen = Vec::new();
        for second in 1..=until {
            if second % 10 == 0
                && let Some(vitals) = vitals(second)
            {
                clocks.answer(vitals, at(second), &patience);
            }
            if clocks.deadline(&patience) <= at(second) {
                let condition = clocks.look(at(second), &patience);
                seen.push((second, condition));
                if !matches!(condition, Condition::Quiet(..) | Condition::Well) {
                    break;
                }
            }
        }
        seen
    }

    /// The vitals of an agent that last made progress at that second.
    fn since(progress: u64, second: u64, waits: Option<Wait>) -> Vitals {
        Vitals::new(second.saturating_sub(progress) * 1000, waits)
    }

    #[test]
    fn an_agent_without_progress_is_shown_as_quiet_and_stopped_much_later() {
        assert_eq!(
            watch(Patience::default(), 2000, |second| Some(since(
                0, second, None
            ))),
            [
                (300, Condition::Quiet(seconds(300), None)),
                (1200, Condition::Stalled(seconds(1200), None))
            ]
        );
    }

    #[test]
    fn an_agent_that_waits_is_shown_with_what_it_waits_for_and_stopped_later_still() {
        let waits = Some(Wait::Network);
        assert_eq!(
            watch(Patience::default(), 5000, |second| Some(since(
                0, second, waits
            ))),
            [
                (300, Condition::Quiet(seconds(300), waits)),
                (3600, Condition::Stalled(seconds(3600), waits))
            ]
        );
    }

    #[test]
    fn one_that_no_longer_waits_has_the_usual_time_from_then() {
        let seen = watch(Patience::default(), 5000, |second| {
            let waits = (second <= 900).then_some(Wait::Sleep);
            Some(since(0, second, waits))
        });
        assert_eq!(
            seen.last(),
            Some(&(2100, Condition::Stalled(seconds(2100), None)))
        );
    }

    #[test]
    fn to_wait_never_shortens_the_time_that_there_is_without_it() {
        let patience = Patience {
            waiting: seconds(600),
            ..Patience::default()
        };
        let seen = watch(patience, 2000, |second| {
            Some(since(0, second, Some(Wait::Disk)))
        });
        assert_eq!(seen.last().map(|(second, _)| *second), Some(1200));
    }

    #[test]
    fn an_executor_that_does_not_answer_is_found_after_four_checks() {
        assert_eq!(
            watch(Patience::default(), 2000, |second| (second <= 100)
                .then_some(since(second, second, None))),
            [(130, Condition::Unresponsive(seconds(30)))]
        );
    }

    #[test]
    fn progress_starts_all_over() {
        let patience = Patience::default();
        let mut clocks = Clocks::start(at(0));
        clocks.answer(since(0, 299, None), at(299), &patience);
        assert_eq!(
            clocks.look(at(300), &patience),
            Condition::Quiet(seconds(300), None)
        );
        // It is the moment of the progress that counts, not that of the answer.
        clocks.answer(since(310, 315, None), at(315), &patience);
        clocks.answer(since(310, 600, None), at(600), &patience);
        assert_eq!(clocks.look(at(609), &patience), Condition::Well);
        assert_eq!(
            clocks.look(at(610), &patience),
            Condition::Quiet(seconds(300), None)
        );
    }

    #[test]
    fn an_answer_that_comes_late_takes_no_progress_back() {
        let patience = Patience::default();
        let mut clocks = Clocks::start(at(0));
        clocks.answer(since(100, 100, None), at(100), &patience);
        let before = clocks.deadline(&patience);
        clocks.answer(since(90, 100, None), at(100), &patience);
        assert_eq!(clocks.deadline(&patience), before);
    }

    #[test]
    fn a_machine_that_slept_does_not_take_its_sleep_for_that_of_its_executors() {
        let patience = Patience::default();
        let mut clocks = Clocks::start(at(0));
        assert_eq!(clocks.look(at(3600), &patience), Condition::Well);
        assert_eq!(
            clocks.look(at(3630), &patience),
            Condition::Unresponsive(seconds(30))
        );
    }

    #[test]
    fn checks_come_four_times_in_the_shortest_patience_and_neither_too_often_nor_too_seldom() {
        let usual = Patience::default();
        assert_eq!(usual.period(), Duration::from_millis(7_500));
        assert_eq!(usual.look_every(), seconds(60));
        let hasty = Patience {
            stalled: Duration::from_millis(1_800),
            ..usual
        };
        assert_eq!(hasty.period(), Duration::from_millis(450));
        assert_eq!(hasty.look_every(), Duration::from_millis(225));
        let hastiest = Patience {
            quiet: Duration::from_millis(1),
            ..usual
        };
        assert_eq!(hastiest.period(), Duration::from_millis(100));
        let calm = Patience {
            answer: seconds(600),
            ..usual
        };
        assert_eq!(calm.period(), seconds(10));
    }
}
