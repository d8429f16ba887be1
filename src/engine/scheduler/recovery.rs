//! How a run goes on after its orchestrator was killed.
//!
//! The state is that of the journal. What the state does not know is how far the effects came that had been asked for:
//! so those that are not answered are asked for once more, and performing one twice must do no harm. The processes of
//! the attempts are gone with the orchestrator (the driver sees to that before it reports [`Event::Resumed`]): such an
//! attempt is lost, which is not charged to its story, and another one follows, with a number of its own.
//!
//! [`Event::Resumed`]: crate::engine::Event::Resumed

use super::{Effect, Effects, Engine, Gate, Key, Outcome, Remains, Scene, Stage, Stop, Unit};
use crate::engine::fault::{self, Fault};
use crate::engine::lifecycle::{State, settle_again};

impl Engine {
    pub(super) fn resume(&mut self, effects: &mut Effects) {
        // However long nobody was there: what is left has its whole time again.
        self.wrap_up = None;
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
        for tracked in &mut self.stories {
            tracked.remains = Remains::Nothing;
        }
        let under_way: Vec<Key> = (0_u32..)
            .map(Key)
            .zip(&self.stories)
            .filter(|(_, tracked)| matches!(tracked.stage, Stage::Attempting(_)))
            .map(|(key, _)| key)
            .collect();
        for key in under_way {
            self.resume_attempt(key, effects);
        }
        if let Gate::Asking { after, .. } = self.gate {
            self.ask(after, effects);
        }
    }

    fn resume_attempt(&mut self, key: Key, effects: &mut Effects) {
        let (now, rules) = (self.now, self.rules(key));
        let tracked = self.story_mut(key);
        let Stage::Attempting(mut attempt) = std::mem::replace(&mut tracked.stage, Stage::Waiting)
        else {
            return;
        };
        let unit = Unit {
            story: tracked.id.clone(),
            attempt: attempt.trial.number,
        };
        if matches!(attempt.state, State::Settling { .. }) {
            if !fault::is(Fault::RestartForgetsSettling) {
                let scene = Scene {
                    unit: &unit,
                    now,
                    rules,
                };
                attempt.state = settle_again(attempt.state, &scene, effects);
            }
            tracked.stage = Stage::Attempting(attempt);
            self.reschedule(key);
            return;
        }
        tracked.used_before = tracked.used_before + attempt.trial.usage;
        self.reschedule(key);
        if fault::is(Fault::RestartKeepsSlots) {
            self.occupied += 1;
        }
        self.release_slot(key);
        if self.stop != Stop::No || self.gate_is_closed() {
            self.conclude(key, Some(unit), Outcome::Cancelled, effects);
        } else {
            self.enqueue(key);
        }
    }
}
