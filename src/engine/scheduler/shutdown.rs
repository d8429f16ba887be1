//! How a run is stopped: drain, ask, kill, leave.
//!
//! The first request lets nothing more start and asks every executor to end within the grace; the second ends the
//! grace; the third ends the run whatever is still going on. Each has a deadline of its own, at which the next step is
//! taken without a request.

use super::{Attempt, Effects, Engine, Input, Key, Notice, Outcome, Stage, Stop, StopSignal, Unit};
use crate::engine::fault::{self, Fault};
use std::time::Duration;

impl Engine {
    /// The first signal stays the reason of the stop; a second one only hastens it, and a third one ends the run
    /// whatever is still going on: executors then end by the end of their connections.
    pub(super) fn request_stop(&mut self, signal: StopSignal, effects: &mut Effects) {
        let attempting = self.holding_slots();
        let running = attempting.len();
        let deadlines = self.settings.deadlines;
        let input = match self.stop {
            Stop::No => {
                self.stop = Stop::Asked(signal);
                let grace = deadlines.grace;
                self.stop_deadline = Some(self.now + deadlines.longest_stop(grace));
                effects.tell(Notice::Stopping { running, grace });
                Input::Stop
            }
            Stop::Asked(first) => {
                self.stop = Stop::Now(first);
                let longest = deadlines.longest_stop(Duration::ZERO);
                self.stop_deadline = self.stop_deadline.min(Some(self.now + longest));
                Input::StopNow
            }
            Stop::Now(_) => {
                self.leave(effects);
                return;
            }
        };
        for unit in &attempting {
            self.feed(unit, input.clone(), effects);
        }
        self.cancel_waiting(effects);
    }

    pub(super) fn cancel_waiting(&mut self, effects: &mut Effects) {
        for key in self.waiting() {
            let unit = match &self.story(key).stage {
                Stage::Delayed { .. } if fault::is(Fault::StopForgetsDelayed) => continue,
                Stage::Waiting if fault::is(Fault::StopForgetsWaiting) => continue,
                _ => self.last_unit(key),
            };
            self.conclude(key, unit, Outcome::Cancelled, effects);
        }
    }

    pub(super) fn last_unit(&self, key: Key) -> Option<Unit> {
        let (unit, _) = self.story(key).last_end.as_ref()?;
        Some(unit.clone())
    }

    /// Ends the run as it is. What was not through is cancelled: its work stays where it is, for the next run.
    pub(super) fn leave(&mut self, effects: &mut Effects) {
        // Also those that are only being settled: a hook of theirs may still run.
        let is_under_way = |stage: &Stage| matches!(stage, Stage::Attempting(_));
        let stories = self.stories.iter();
        let running = stories.filter(|story| is_under_way(&story.stage)).count();
        effects.tell(Notice::Leaving { running });
        let mut left: Vec<(Key, Option<Unit>)> = Vec::new();
        for key in (0_u32..).map(Key).take(self.stories.len()) {
            match &self.story(key).stage {
                Stage::Done(_) => {}
                Stage::Attempting(Attempt { trial, .. }) => {
                    let trial = *trial;
                    let unit = Unit {
                        story: self.story(key).id.clone(),
                        attempt: trial.number,
                    };
                    left.push((key, Some(unit)));
                    self.charge(key, trial, self.now);
                }
                Stage::Waiting | Stage::Delayed { .. } => left.push((key, self.last_unit(key))),
            }
        }
        for (key, unit) in left {
            self.conclude(key, unit, Outcome::Cancelled, effects);
        }
        self.finish(effects);
    }
}
