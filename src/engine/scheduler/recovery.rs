//! How a run goes on after its orchestrator was killed.
//!
//! The state is that of the journal. What the state does not know is how far the effects came that had been asked for:
//! so those that are not answered are asked for once more, and performing one twice must do no harm. The processes of
//! the attempts are gone with the orchestrator (the driver sees to that before it reports [`Event::Resumed`]): such an
//! attempt is lost, which is not held against its story, and another one follows, with a number of its own. What it had
//! used counts all the same: when nothing is left for another attempt, the lost one ends as if it had been stopped for
//! that. The time in which nobody was there counts for no story, but for providers it does: a limit that was to be lifted at
//! some time is lifted then.
//!
//! [`Event::Resumed`]: crate::engine::Event::Resumed

use super::{
    Effect, Effects, Engine, Gate, Key, Moment, Outcome, Overrun, Remains, Scene, Scope, Sequel,
    Skip, Stage, Stop, StoryId, Trial, Unit,
};
use crate::engine::event::{OnBoard, Restart};
use crate::engine::fault::{self, Fault};
use crate::engine::lifecycle::{State, settle_again};

/// An attempt that was under way when the orchestrator was killed.
struct Lost {
    key: Key,
    trial: Trial,
    /// What its story has nothing left of.
    overrun: Option<Overrun>,
}

impl Engine {
    /// Goes on after a restart. `last` is when something happened before it.
    pub(super) fn resume(&mut self, restart: Restart, last: Moment, effects: &mut Effects) {
        // However long nobody was there: what is left has its whole time again.
        self.wrap_up = None;
        self.settings.slots = restart.slots.unwrap_or(self.settings.slots);
        if let Some(limits) = restart.run_limits {
            self.settings.run_limits = limits;
            self.warned.retain(|(scope, _)| *scope != Scope::Run);
        }
        self.return_to_providers(restart.away, effects);
        for (story, on_board) in restart.found {
            self.end_as_found(&story, on_board, last, effects);
        }
        // What was asked for comes before what follows from the restart, as entries of one story keep their order.
        if fault::is(Fault::RestartForgetsBoard) {
            self.unwritten.clear();
        }
        for (key, entry) in &self.unwritten {
            let story = self.story(*key).id.clone();
            effects.push(Effect::WriteBoard(story, entry.clone()));
        }
        for key in &self.comparing {
            effects.push(Effect::Compare(self.story(*key).id.clone()));
        }
        if self.expects_stories() {
            effects.push(Effect::LookAtBoard);
        }
        let under_way: Vec<Key> = (0_u32..)
            .map(Key)
            .zip(&self.stories)
            .filter(|(_, tracked)| matches!(tracked.stage, Stage::Attempting(_)))
            .map(|(key, _)| key)
            .collect();
        if let Gate::Asking { after, .. } = self.gate {
            self.ask(after, effects);
        }
        for tracked in &mut self.stories {
            tracked.remains = Remains::Nothing;
        }
        let lost: Vec<Lost> = under_way
            .into_iter()
            .filter_map(|key| self.resume_attempt(key, last, effects))
            .collect();
        // First every story that goes on waits for its turn, and only then the others end, since it depends on those
        // that wait what the end of a story means. A story that ends waits for nothing in between.
        let (ending, going_on): (Vec<Lost>, Vec<Lost>) =
            lost.into_iter().partition(|lost| lost.overrun.is_some());
        for Lost { key, trial, .. } in going_on {
            self.queue_again(key, trial, effects);
        }
        for Lost {
            key,
            trial,
            overrun,
        } in ending
        {
            if let Some(overrun) = overrun {
                self.story_mut(key).stage = Stage::Waiting;
                let end = (Outcome::of_overrun(overrun), Sequel::Allowed);
                self.judge(key, trial, end, effects);
            }
        }
    }

    /// A story is through, as the board says. Nothing is written there: it is what was found.
    fn end_as_found(
        &mut self,
        story: &StoryId,
        on_board: OnBoard,
        last: Moment,
        effects: &mut Effects,
    ) {
        let Some(key) = self.key(story) else { return };
        let unit = match &self.story(key).stage {
            Stage::Done(_) => return,
            Stage::Attempting(attempt) => {
                let (trial, held) = (attempt.trial, attempt.state.holds_slot());
                if held {
                    self.release_slot(key);
                }
                self.failing.remove(&key);
                self.charge(key, trial, last);
                self.story_mut(key).stage = Stage::Waiting;
                Some(Unit {
                    story: story.clone(),
                    attempt: trial.number,
                })
            }
            Stage::Waiting | Stage::Delayed { .. } => self.last_unit(key),
        };
        self.unwritten.retain(|(of, _)| *of != key);
        self.story_mut(key).board = super::OnBoard::AsBefore;
        let outcome = match on_board {
            OnBoard::Done => Outcome::Succeeded,
            OnBoard::NotWanted => Outcome::Skipped(Skip::Withdrawn),
        };
        self.conclude(key, unit, outcome, effects);
    }

    fn queue_again(&mut self, key: Key, trial: Trial, effects: &mut Effects) {
        self.story_mut(key).stage = Stage::Waiting;
        self.reschedule(key);
        if self.stop != Stop::No || self.gate_is_closed() {
            let unit = Unit {
                story: self.story(key).id.clone(),
                attempt: trial.number,
            };
            self.conclude(key, Some(unit), Outcome::Cancelled, effects);
        } else {
            self.enqueue(key);
        }
    }

    /// An attempt whose end was being taken care of goes on with that; any other is lost, and its slot free.
    fn resume_attempt(&mut self, key: Key, last: Moment, effects: &mut Effects) -> Option<Lost> {
        let (now, rules) = (self.now, self.rules(key));
        let tracked = self.story_mut(key);
        let Stage::Attempting(attempt) = &mut tracked.stage else {
            return None;
        };
        if matches!(attempt.state, State::Settling { .. }) {
            if !fault::is(Fault::RestartForgetsSettling) {
                let unit = Unit {
                    story: tracked.id.clone(),
                    attempt: attempt.trial.number,
                };
                let scene = Scene {
                    unit: &unit,
                    now,
                    rules,
                };
                attempt.state = settle_again(attempt.state.clone(), &scene, effects);
            }
            self.reschedule(key);
            return None;
        }
        let trial = attempt.trial;
        if fault::is(Fault::RestartKeepsSlots) {
            self.occupied += 1;
        }
        self.release_slot(key);
        if !fault::is(Fault::RestartForgetsLimits) {
            self.charge(key, trial, last);
        }
        Some(Lost {
            key,
            trial,
            overrun: self.used_up(key),
        })
    }
}
