//! What stories and the run may use, and what happens when it is used up.

use super::{
    Account, Budget, Effects, Engine, Gate, Input, Key, Limits, Moment, Notice, Overrun, Progress,
    Scope, Skip, Stage, Stop, Trial, Unit, Usage,
};
use crate::engine::fault::{self, Fault};
use crate::engine::outcome::OutcomeKind;

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
        let of_story = tracked.account.usage + total;
        self.feed(unit, Input::Progressed, effects);
        let exceeded = self.settings.story_limits.exceeded_by(of_story);
        if let Some(budget) = exceeded.filter(|_| !fault::is(Fault::StoryBudgetIgnored)) {
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
            Stage::Attempting(_) if fault::is(Fault::StoryTimeIgnored) => None,
            Stage::Attempting(attempt) => {
                Some(attempt.trial.began + time?.saturating_sub(tracked.account.time))
            }
            Stage::Waiting | Stage::Delayed { .. } | Stage::Done(_) => None,
        }
    }

    /// What a story may use and has nothing left of, so that no further attempt may follow.
    pub(super) fn used_up(&self, key: Key) -> Option<Overrun> {
        let account = self.story(key).account;
        let budget = self.settings.story_limits.used_up_by(account)?;
        Some(Overrun {
            scope: Scope::Story,
            budget,
        })
    }

    /// An attempt that lasted until `end` at the latest counts against what its story may use.
    pub(super) fn charge(&mut self, key: Key, trial: Trial, end: Moment) {
        let tracked = self.story_mut(key);
        tracked.used_before = tracked.used_before + trial.usage;
        tracked.account = charged(tracked.account, trial, end);
    }

    /// Whoever wants stories to be tried again that have used up what they may use wants the next attempt to have as
    /// much once more.
    pub(super) fn renews_allowance(&self, kind: OutcomeKind) -> bool {
        let used_up = matches!(kind, OutcomeKind::TimedOut | OutcomeKind::BudgetExceeded);
        used_up && self.settings.retry.retried.contains(&kind)
    }

    /// What a story counts for when an attempt at it has ended so and is taken care of.
    pub(super) fn account_after(&self, key: Key, trial: Trial, kind: OutcomeKind) -> Account {
        if self.renews_allowance(kind) {
            Account::default()
        } else {
            charged(self.story(key).account, trial, self.now)
        }
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

fn charged(account: Account, trial: Trial, end: Moment) -> Account {
    let end = trial.ended.unwrap_or(end);
    account.charged(end.since(trial.began), trial.usage)
}
