//! Whether an attempt is well, by clocks that are handed in: when its executor last answered, and when its agent last
//! made progress. The third clock, the wall budget, is a limit ([`crate::engine::limits`]). Pure.
//!
//! Silence alone is no verdict: what counts as progress (output, processor time, changed files) is measured outside and
//! arrives as an event. Quiet is shown first and stopped much later.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::time::Moment;

/// How long the clocks may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// Without an answer from the executor: three health checks, ten seconds apart.
    #[serde(with = "crate::engine::time::millis")]
    pub answer: Duration,
    /// Without progress, until that is shown.
    #[serde(with = "crate::engine::time::millis")]
    pub quiet: Duration,
    /// Without progress, until the attempt is stopped.
    #[serde(with = "crate::engine::time::millis")]
    pub stalled: Duration,
    /// How much too late the engine itself may be told of a deadline before the clocks start again: a machine that
    /// slept, or an orchestrator that was stopped, says nothing about its executors. Two health checks.
    #[serde(with = "crate::engine::time::millis")]
    pub oversleep: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            quiet: Duration::from_secs(5 * 60),
            stalled: Duration::from_secs(20 * 60),
            oversleep: Duration::from_secs(20),
        }
    }
}

/// The clocks of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    answered: Moment,
    progressed: Moment,
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
    /// It has made no progress for a while; to be shown once.
    Quiet(Duration),
    /// It has made no progress for too long.
    Stalled(Duration),
    /// Its executor does not answer.
    Unresponsive(Duration),
}

impl Clocks {
    /// Clocks that start now.
    pub fn start(now: Moment) -> Self {
        Self {
            answered: now,
            progressed: now,
            quiet: Quiet::Unnoticed,
        }
    }

    /// The executor answered.
    pub fn answer(&mut self, now: Moment) {
        self.answered = now;
    }

    /// The agent made progress. An executor that can tell so is alive.
    pub fn progress(&mut self, now: Moment) {
        *self = Self::start(now);
    }

    /// When [`Self::look`] will say something new.
    pub fn deadline(&self, patience: &Patience) -> Moment {
        let progress = match self.quiet {
            Quiet::Unnoticed => patience.quiet.min(patience.stalled),
            Quiet::Shown => patience.stalled,
        };
        (self.answered + patience.answer).min(self.progressed + progress)
    }

    /// What the clocks say now; a deadline that is told of much too late starts them again instead.
    pub fn look(&mut self, now: Moment, patience: &Patience) -> Condition {
        let late = now.since(self.deadline(patience));
        if late > patience.oversleep {
            self.answered = now;
            self.progressed = self.progressed + late;
            return Condition::Well;
        }
        if self.answered + patience.answer <= now {
            return Condition::Unresponsive(now.since(self.answered));
        }
        let idle = now.since(self.progressed);
        if idle >= patience.stalled {
            return Condition::Stalled(idle);
        }
        if idle >= patience.quiet && self.quiet == Quiet::Unnoticed {
            self.quiet = Quiet::Shown;
            return Condition::Quiet(idle);
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

    /// Looks at every deadline, while the executor answers every ten seconds until `answers_until`.
    fn watch(until: u64, answers_until: u64) -> Vec<(u64, Condition)> {
        let patience = Patience::default();
        let mut clocks = Clocks::start(at(0));
        let mut seen = Vec::new();
        for second in 1..=until {
            if second % 10 == 0 && second <= answers_until {
                clocks.answer(at(second));
            }
            if clocks.deadline(&patience) <= at(second) {
                let condition = clocks.look(at(second), &patience);
                seen.push((second, condition));
                if !matches!(condition, Condition::Quiet(_) | Condition::Well) {
                    break;
                }
            }
        }
        seen
    }

    #[test]
    fn an_agent_without_progress_is_shown_as_quiet_and_stopped_much_later() {
        let seconds = Duration::from_secs;
        assert_eq!(
            watch(2000, 2000),
            [
                (300, Condition::Quiet(seconds(300))),
                (1200, Condition::Stalled(seconds(1200)))
            ]
        );
    }

    #[test]
    fn an_executor_that_does_not_answer_is_found_after_three_checks() {
        let seconds = Duration::from_secs;
        assert_eq!(
            watch(2000, 100),
            [(130, Condition::Unresponsive(seconds(30)))]
        );
    }

    #[test]
    fn progress_starts_all_over() {
        let patience = Patience::default();
        let mut clocks = Clocks::start(at(0));
        clocks.answer(at(299));
        assert_eq!(
            clocks.look(at(300), &patience),
            Condition::Quiet(Duration::from_secs(300))
        );
        clocks.progress(at(310));
        clocks.answer(at(600));
        assert_eq!(clocks.look(at(609), &patience), Condition::Well);
        assert_eq!(
            clocks.look(at(610), &patience),
            Condition::Quiet(Duration::from_secs(300))
        );
    }

    #[test]
    fn a_machine_that_slept_does_not_take_its_sleep_for_that_of_its_executors() {
        let patience = Patience::default();
        let mut clocks = Clocks::start(at(0));
        assert_eq!(clocks.look(at(3600), &patience), Condition::Well);
        assert_eq!(
            clocks.look(at(3630), &patience),
            Condition::Unresponsive(Duration::from_secs(30))
        );
    }
}
