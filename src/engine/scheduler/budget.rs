//! What stories, the run and the runs of a day may use, when it is told that little is left, and what happens when it is
//! used up.

use std::time::Duration;

use super::{
    Account, Allowance, Budget, Effects, Engine, Gate, Input, Key, Limits, Moment, Notice, Overrun,
    Progress, Scope, Skip, Stage, Stop, Trial, Unit, Usage,
};
use crate::engine::day::CalendarDay;
use crate::engine::fault::{self, Fault};
use crate::engine::limits::Share;
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
        self.warn_of_use(key, of_story, effects);
        if let Some(budget) = self.settings.run_limits.exceeded_by(self.usage) {
            self.exceed_run(Scope::Run, budget, effects);
        }
        let of_day = self.today.usage(self.usage);
        if let Some(budget) = self.settings.day_limits.exceeded_by(of_day) {
            self.exceed_run(Scope::Day, budget, effects);
        }
    }

    /// It is that day, on which other runs have used so much. When nothing is left of what may be used on it, nothing is
    /// started.
    pub(super) fn note_day(&mut self, day: CalendarDay, elsewhere: Usage, effects: &mut Effects) {
        if self.today.day() != Some(day) {
            self.warned.retain(|(scope, _)| *scope != Scope::Day);
        }
        self.today.is(day, elsewhere, self.usage);
        if let Some(overrun) = self.nothing_left_of_day() {
            self.exceed_run(overrun.scope, overrun.budget, effects);
        }
    }

    /// Says once of each budget that little of it is left. `of_story` is what counts for the story.
    fn warn_of_use(&mut self, key: Key, of_story: Usage, effects: &mut Effects) {
        let of_day = self.today.usage(self.usage);
        let (run_limits, day_limits) = (self.settings.run_limits, self.settings.day_limits);
        for share in self.settings.story_limits.nearly_used_up_by(of_story) {
            self.warn_of_story(key, share, effects);
        }
        for share in run_limits.nearly_used_up_by(self.usage) {
            self.warn(Scope::Run, share, effects);
        }
        for share in day_limits.nearly_used_up_by(of_day) {
            self.warn(Scope::Day, share, effects);
        }
    }

    fn warn_of_story(&mut self, key: Key, share: Share, effects: &mut Effects) {
        let tracked = self.story_mut(key);
        if tracked.warned.insert(share.budget) && !is_passed(share) {
            effects.tell(Notice::BudgetNear {
                story: Some(tracked.id.clone()),
                scope: Scope::Story,
                share,
            });
        }
    }

    fn warn(&mut self, scope: Scope, share: Share, effects: &mut Effects) {
        if self.warned.insert((scope, share.budget)) && !is_passed(share) {
            effects.tell(Notice::BudgetNear {
                story: None,
                scope,
                share,
            });
        }
    }

    /// When little is left of the run's own time.
    pub(super) fn time_near(&self) -> Option<Moment> {
        let Progress::Going { since } = self.progress else {
            return None;
        };
        let near = self.settings.run_limits.time_until_near()?;
        let known = self.warned.contains(&(Scope::Run, Budget::Time));
        (!known && self.stop == Stop::No && !self.gate_is_closed()).then_some(since + near)
    }

    /// Little is left of the run's own time.
    pub(super) fn warn_of_time(&mut self, effects: &mut Effects) {
        if let (Progress::Going { since }, Some(limit)) =
            (self.progress, self.settings.run_limits.time)
        {
            let share = share_of_time(self.now.since(since), limit);
            self.warn(Scope::Run, share, effects);
        }
    }

    /// When little is left of the time of a story, if it is being worked on.
    pub(super) fn story_time_near(&self, key: Key) -> Option<Moment> {
        let tracked = self.story(key);
        let near = self.settings.story_limits.time_until_near()?;
        match &tracked.stage {
            Stage::Attempting(attempt)
                if attempt.trial.ended.is_none() && !tracked.warned.contains(&Budget::Time) =>
            {
                Some(attempt.trial.began + near.saturating_sub(tracked.account.time))
            }
            _ => None,
        }
    }

    /// Says that little is left of the time of a story, when it is so.
    pub(super) fn warn_of_story_time(&mut self, key: Key, effects: &mut Effects) {
        let is_near = self
            .story_time_near(key)
            .is_some_and(|near| near <= self.now);
        let tracked = self.story(key);
        if let (true, Stage::Attempting(attempt), Some(limit)) =
            (is_near, &tracked.stage, self.settings.story_limits.time)
        {
            let used = tracked.account.time + self.now.since(attempt.trial.began);
            self.warn_of_story(key, share_of_time(used, limit), effects);
        }
    }

    /// A budget of the run, or of the day, is used up: what runs is stopped, nothing more is started.
    pub(super) fn exceed_run(&mut self, scope: Scope, budget: Budget, effects: &mut Effects) {
        let known = matches!(self.gate, Gate::Closed(Skip::RunExceeded(_)));
        if known || self.stop != Stop::No || fault::is(Fault::RunBudgetIgnored) {
            return;
        }
        let overrun = Overrun { scope, budget };
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

    /// The budget of which nothing is left for a further turn of a story; time has its own clock.
    pub(super) fn nothing_left_for(&self, key: Key) -> Option<Overrun> {
        let of_story = self.counts_for(key);
        used_up(Scope::Story, self.settings.story_limits, of_story).or_else(|| self.nothing_left())
    }

    /// What a further turn of a story may use. What is left of the run and of the day is there for all of its agents, so
    /// that together they may use more; whoever has it ends is told when it is used up.
    pub(super) fn allowance(&self, key: Key) -> Allowance {
        let settings = &self.settings;
        let of_story = settings.story_limits.left_after(self.counts_for(key));
        let of_run = settings.run_limits.left_after(self.usage);
        let of_day = settings.day_limits.left_after(self.today.usage(self.usage));
        of_story.and(of_run).and(of_day)
    }

    /// What counts for a story, with the attempt that goes on.
    fn counts_for(&self, key: Key) -> Usage {
        let tracked = self.story(key);
        match &tracked.stage {
            Stage::Attempting(attempt) => tracked.account.usage + attempt.trial.usage,
            _ => tracked.account.usage,
        }
    }

    /// The budget of the run or of the day of which nothing is left for anybody; time has its own clock.
    pub(super) fn nothing_left(&self) -> Option<Overrun> {
        let of_run = used_up(Scope::Run, self.settings.run_limits, self.usage);
        of_run.or_else(|| self.nothing_left_of_day())
    }

    fn nothing_left_of_day(&self) -> Option<Overrun> {
        let of_day = self.today.usage(self.usage);
        used_up(Scope::Day, self.settings.day_limits, of_day)
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

fn used_up(scope: Scope, limits: Limits, usage: Usage) -> Option<Overrun> {
    let budget = limits.nothing_left_after(usage)?;
    Some(Overrun { scope, budget })
}

/// Whether nothing is left: that is told as what it is.
fn is_passed(share: Share) -> bool {
    share.used > share.limit
}

fn share_of_time(used: Duration, limit: Duration) -> Share {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Share {
        budget: Budget::Time,
        used: millis(used),
        limit: millis(limit),
    }
}

fn charged(account: Account, trial: Trial, end: Moment) -> Account {
    let end = trial.ended.unwrap_or(end);
    account.charged(end.since(trial.began), trial.usage)
}
