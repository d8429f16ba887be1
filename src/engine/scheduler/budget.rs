//! What stories and the run may use, and what happens when it is used up.

use super::{
    Budget, Effects, Engine, Gate, Input, Key, Limits, Moment, Notice, Overrun, Progress, Scope,
    Skip, Stage, Stop, Unit, Usage,
};
use crate::engine::fault::{self, Fault};

impl Engine {
    /// What an attempt has used so far.
    pub(super) fn note_usage(&mut self, unit: &Unit, usage: Usage, effects: &mut Effects) {
        let Some((key, attempt)) = self.current(unit) else {
            return;
        };
        let before = attempt.trial.usage;
        let total = before.max(usage);
        if total == before {
            return;
        }
        self.usage = self.usage + (total - before);
        let tracked = self.story_mut(key);
        if let Stage::Attempting(attempt) = &mut tracked.stage {
            attempt.trial.usage = total;
        }
        let of_story = tracked.used_before + total;
        self.feed(unit, Input::Progressed, effects);
        if let Some(budget) = self.settings.story_limits.exceeded_by(of_story) {
            let overrun = Overrun {
                scope: Scope::Story,
                budget,
            };
            self.feed(unit, Input::Exceeded(overrun), effects);
        }
        if let Some(budget) = self.settings.run_limits.exceeded_by(self.usage) {
            self.exceed_run(budget, effects);
        }
    }

    /// A budget of the run is used up: what runs is stopped, nothing more is started.
    pub(super) fn exceed_run(&mut self, budget: Budget, effects: &mut Effects) {
        let known = matches!(self.gate, Gate::Closed(Skip::RunExceeded(_)));
        if known || self.stop != Stop::No || fault::is(Fault::RunBudgetIgnored) {
            return;
        }
        let overrun = Overrun {
            scope: Scope::Run,
            budget,
        };
        self.trouble.exhausted += 1;
        effects.tell(Notice::RunExceeded(overrun));
        for unit in self.holding_slots() {
            self.feed(&unit, Input::Exceeded(overrun), effects);
        }
        self.close_gate(&Skip::RunExceeded(overrun), effects);
    }

    /// When the run's own time is used up.
    pub(super) fn time_up(&self) -> Option<Moment> {
        let Progress::Going { since } = self.progress else {
            return None;
        };
        let limit = self.settings.run_limits.time?;
        let known = match &self.gate {
            Gate::Closed(Skip::RunExceeded(_)) => true,
            Gate::Closed(_) => fault::is(Fault::RunTimeEndsWithStarts),
            Gate::Open | Gate::Asking { .. } => false,
        };
        (!known && self.stop == Stop::No).then_some(since + limit)
    }

    /// When the time of a story is used up, if it is being worked on.
    pub(super) fn story_time_up(&self, key: Key) -> Option<Moment> {
        let Limits { time, .. } = self.settings.story_limits;
        let tracked = self.story(key);
        match &tracked.stage {
            Stage::Attempting(attempt) => {
                Some(attempt.trial.began + time?.saturating_sub(tracked.spent))
            }
            Stage::Waiting | Stage::Delayed { .. } | Stage::Done(_) => None,
        }
    }

    /// Whether a story has time left for another attempt.
    pub(super) fn has_time_left(&self, key: Key) -> bool {
        let limit = self.settings.story_limits.time;
        limit.is_none_or(|limit| self.story(key).spent < limit)
    }

    pub(super) fn holding_slots(&self) -> Vec<Unit> {
        let attempting = self
            .stories
            .iter()
            .filter_map(|tracked| match &tracked.stage {
                Stage::Attempting(attempt) if attempt.state.holds_slot() => Some(Unit {
                    story: tracked.id.clone(),
                    attempt: attempt.trial.number,
                }),
                _ => None,
            });
        attempting.collect()
    }
}
