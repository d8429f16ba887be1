//! Deadlines: which one is next, and what happens when it is reached.

use super::{Budget, Effects, Engine, Gate, Input, Key, Rules, Scope, Skip, Stage, Unit};
use crate::engine::fault::{self, Fault};
use crate::engine::health::Patience;

/// What a deadline belongs to.
enum Due {
    Attempt(Unit),
    Delay(Key),
    Nothing,
}

impl Engine {
    pub(super) fn rules(&self, key: Key) -> Rules {
        Rules {
            deadlines: self.settings.deadlines,
            patience: self.patience_with(key),
            retention: self.settings.retention,
            look: self.settings.look_at_files,
            time_up: self.story_time_up(key),
        }
    }

    fn patience_with(&self, key: Key) -> Patience {
        let patience = self.settings.patience;
        if self.waits_for_turn(key) {
            patience.without_progress()
        } else {
            patience
        }
    }

    /// Puts the deadline of a story where it belongs now.
    pub(super) fn reschedule(&mut self, key: Key) {
        let deadline = match &self.story(key).stage {
            Stage::Attempting(attempt) => {
                let deadline = attempt.state.deadline(&self.rules(key));
                let near = self.story_time_near(key);
                Some(near.map_or(deadline, |near| near.min(deadline)))
            }
            Stage::Delayed { .. } if fault::is(Fault::BackOffForgotten) => None,
            Stage::Delayed { until, .. } => Some(*until),
            Stage::Waiting | Stage::Done(_) => None,
        };
        let tracked = self.story_mut(key);
        let before = std::mem::replace(&mut tracked.scheduled, deadline);
        if before == deadline {
            return;
        }
        if let Some(moment) = before {
            self.deadlines.remove(&(moment, key));
        }
        if let Some(moment) = deadline {
            self.deadlines.insert((moment, key));
        }
    }

    pub(super) fn pass_time(&mut self, effects: &mut Effects) {
        self.pass_deadlines(effects);
        if self.paused_until.is_some_and(|until| until <= self.now) {
            self.paused_until = None;
        }
        self.resume_providers(effects);
        if let Gate::Asking { after, until } = self.gate
            && until <= self.now
        {
            let after = self.story(after).id.clone();
            self.close_gate(&Skip::StoppedAfter(after), effects);
        }
        if self.time_near().is_some_and(|near| near <= self.now) {
            self.warn_of_time(effects);
        }
        if self.time_up().is_some_and(|up| up <= self.now) {
            self.exceed_run(Scope::Run, Budget::Time, effects);
        }
        let done = self.unsettled == 0 && self.unwritten.is_empty() && self.comparing.is_empty();
        if !done
            && self
                .stop_deadline
                .is_some_and(|deadline| deadline <= self.now)
        {
            self.trouble.overdue += 1;
            self.leave(effects);
        } else if self.wrap_up.is_some_and(|deadline| deadline <= self.now) {
            self.trouble.board_failures += self.unwritten.len();
            self.finish(effects);
        }
    }

    fn pass_deadlines(&mut self, effects: &mut Effects) {
        // An answer to a deadline may bring a new one that is reached as well, but never without end: each moves an
        // attempt closer to its end.
        while let Some((moment, key)) = self.deadlines.first().copied()
            && moment <= self.now
        {
            match self.due(key) {
                Due::Attempt(unit) => {
                    self.warn_of_story_time(key, effects);
                    self.feed(&unit, Input::TimePassed, effects);
                }
                Due::Delay(key) => {
                    self.story_mut(key).stage = Stage::Waiting;
                    self.enqueue(key);
                }
                Due::Nothing => {}
            }
            self.reschedule(key);
            if self.deadlines.first() == Some(&(moment, key)) {
                // It did not move: looked at again when time passes again.
                return;
            }
        }
    }

    fn due(&self, key: Key) -> Due {
        let tracked = self.story(key);
        match &tracked.stage {
            Stage::Attempting(attempt) => Due::Attempt(Unit {
                story: tracked.id.clone(),
                attempt: attempt.trial.number,
            }),
            Stage::Delayed { .. } => Due::Delay(key),
            Stage::Waiting | Stage::Done(_) => Due::Nothing,
        }
    }
}
