//! What follows the end of an attempt: another one, or the end of its story and what that means for others.

use super::{
    Account, Attempt, BoardEntry, Comeback, Effect, Effects, Engine, Gate, Key, Notice, OnBoard,
    Outcome, Remains, Sequel, Skip, Stage, Stop, Trial, Unit,
};
use crate::engine::event::Decision;
use crate::engine::fault::{self, Fault};
use crate::engine::lifecycle::State;
use crate::engine::outcome::OutcomeKind;
use crate::engine::retry::Next;
use crate::engine::settings::OnFailure;

impl Engine {
    /// An attempt is over and taken care of.
    pub(super) fn end_attempt(
        &mut self,
        key: Key,
        trial: Trial,
        (outcome, sequel): (Outcome, Sequel),
        effects: &mut Effects,
    ) {
        self.failing.remove(&key);
        self.charge(key, trial, self.now);
        if sequel == Sequel::Forbidden {
            self.story_mut(key).remains = Remains::Something;
        }
        self.judge(key, trial, (outcome, sequel), effects);
    }

    /// What comes of an attempt that is over and counts against what its story may use.
    pub(super) fn judge(
        &mut self,
        key: Key,
        trial: Trial,
        (outcome, sequel): (Outcome, Sequel),
        effects: &mut Effects,
    ) {
        let kind = outcome.kind();
        let renewed = self.renews_allowance(kind);
        let tracked = self.story_mut(key);
        tracked.tries = tracked.tries.counting(kind);
        if renewed {
            tracked.account = Account::default();
            tracked.warned.clear();
        }
        let unit = Unit {
            story: tracked.id.clone(),
            attempt: trial.number,
        };
        self.reschedule(key);
        if outcome.is_success() {
            self.note_served(key, trial);
        }
        if kind.is_abnormal() {
            self.note_abnormal_end(effects);
        }
        let next = self.what_follows(key, &unit, &outcome, sequel);
        match next {
            Next::Through => self.conclude(key, Some(unit), outcome, effects),
            Next::Again { at, reason } => {
                if fault::is(Fault::RetryReportedAsEnd) {
                    effects.tell(Notice::StoryEnded {
                        story: unit.story.clone(),
                        unit: Some(unit.clone()),
                        outcome: outcome.clone(),
                    });
                }
                effects.tell(Notice::Retrying {
                    unit: unit.clone(),
                    outcome: outcome.clone(),
                    wait: at.since(self.now),
                    reason,
                });
                let tracked = self.story_mut(key);
                tracked.stage = Stage::Delayed { until: at, reason };
                tracked.last_end = Some((unit, outcome));
                self.reschedule(key);
            }
        }
    }

    fn what_follows(&self, key: Key, unit: &Unit, outcome: &Outcome, sequel: Sequel) -> Next {
        let may_follow = sequel == Sequel::Allowed
            && (self.stop == Stop::No || fault::is(Fault::StartsAfterStop))
            && !self.gate_is_closed()
            && self.refusal(self.story(key).provider).is_none()
            && (self.used_up(key).is_none() || fault::is(Fault::UsedUpTriedAgain));
        if may_follow {
            let tries = self.story(key).tries;
            self.settings.retry.after(unit, outcome, tries, self.now)
        } else {
            Next::Through
        }
    }

    /// The process of an attempt has ended, and with that its slot is free. Where a failure stops the starts, one that
    /// is certain stops them from now on, and not only when it is taken care of.
    pub(super) fn foresee_failure(&mut self, key: Key) {
        let tracked = self.story(key);
        let Stage::Attempting(Attempt { trial, state }) = &tracked.stage else {
            return;
        };
        let unit = Unit {
            story: tracked.id.clone(),
            attempt: trial.number,
        };
        let State::Settling {
            outcome, sequel, ..
        } = state
        else {
            return;
        };
        if self.settings.on_failure == OnFailure::GoOn
            || is_harmless(outcome)
            || fault::is(Fault::FailureCountsLate)
        {
            return;
        }
        let kind = outcome.kind();
        let account = self.account_after(key, *trial, kind);
        let used_up = self.settings.story_limits.used_up_by(account).is_some();
        let tries = self.story(key).tries.counting(kind);
        let next = self.settings.retry.after(&unit, outcome, tries, self.now);
        let refused = self.refusal(self.story(key).provider).is_some();
        if *sequel == Sequel::Forbidden || used_up || refused || next == Next::Through {
            self.failing.insert(key);
        }
    }

    fn note_abnormal_end(&mut self, effects: &mut Effects) {
        let intensity = self.settings.intensity;
        if let Some(until) = self.recent_ends.note(self.now, &intensity)
            && self.stop == Stop::No
        {
            self.paused_until = Some(until);
            effects.tell(Notice::StartsPaused {
                ends: intensity.ends.get(),
                window: intensity.window,
                pause: until.since(self.now),
            });
        }
    }

    /// A story is through. Stories that need it become eligible, or are through as well, and so on down the line.
    pub(super) fn conclude(
        &mut self,
        key: Key,
        unit: Option<Unit>,
        outcome: Outcome,
        effects: &mut Effects,
    ) {
        let (first, ended_as) = (key, outcome.clone());
        let mut through = vec![(key, unit, outcome)];
        while let Some((key, unit, outcome)) = through.pop() {
            if matches!(self.story(key).stage, Stage::Done(_)) {
                continue;
            }
            self.put_away(key, &outcome, effects);
            if outcome.is_success() {
                self.release_dependents(key);
                self.comparing.insert(key);
                effects.push(Effect::Compare(self.story(key).id.clone()));
            } else {
                let dependents = std::mem::take(&mut self.story_mut(key).dependents);
                let skipped = match outcome {
                    // Nothing went wrong with the dependency: the run ended before it was through.
                    Outcome::Cancelled => Outcome::Cancelled,
                    _ => Outcome::Skipped(Skip::Dependency(self.story(key).id.clone())),
                };
                if !fault::is(Fault::DependentsForgotten) {
                    let skipped = |dependent| (dependent, None, skipped.clone());
                    through.extend(dependents.into_iter().map(skipped));
                }
            }
            effects.tell(Notice::StoryEnded {
                story: self.story(key).id.clone(),
                unit: unit.clone(),
                outcome: outcome.clone(),
            });
        }
        // Only now it is known what is left to be started.
        self.follow_policy(first, &ended_as, effects);
    }

    /// Takes a story out of everything in which it waits, and writes down how it ended.
    fn put_away(&mut self, key: Key, outcome: &Outcome, effects: &mut Effects) {
        self.dequeue(key);
        self.story_mut(key).stage = Stage::Done(outcome.clone());
        self.reschedule(key);
        self.track_order(key);
        let files = std::mem::take(&mut self.story_mut(key).files);
        self.contention.forget(key, &files);
        self.unsettled -= 1;
        if matches!(
            outcome.kind(),
            OutcomeKind::QuotaExhausted | OutcomeKind::BudgetExceeded
        ) {
            self.trouble.exhausted += 1;
        }
        // A story that never started is on the board as it was.
        if self.story(key).board == OnBoard::Started {
            self.story_mut(key).board = OnBoard::AsBefore;
            let entry = match BoardEntry::of(outcome) {
                // A story that is skipped was worked on when a restart has cost it its attempt.
                None | Some(BoardEntry::Returned { error: None }) => BoardEntry::Returned {
                    error: self.last_error(key),
                },
                Some(entry) => entry,
            };
            // What we have not made ready ourselves is ready only when somebody asks for it again.
            if !matches!(entry, BoardEntry::Returned { .. }) {
                self.story_mut(key).comeback = Comeback::Allowed;
            }
            self.write_board(key, entry, effects);
        }
    }

    /// What went wrong with the last attempt of a story that was to be tried again.
    fn last_error(&self, key: Key) -> Option<String> {
        let (_, outcome) = self.story(key).last_end.as_ref()?;
        outcome.reason()
    }

    pub(super) fn release_dependents(&mut self, key: Key) {
        for dependent in std::mem::take(&mut self.story_mut(key).dependents) {
            let tracked = self.story_mut(dependent);
            tracked.missing.remove(&key);
            if tracked.missing.is_empty() && tracked.stage == Stage::Waiting {
                self.enqueue(dependent);
            }
        }
    }

    /// What a story that did not succeed means for those that have nothing to do with it.
    fn follow_policy(&mut self, key: Key, outcome: &Outcome, effects: &mut Effects) {
        if is_harmless(outcome) || self.gate != Gate::Open || self.stop != Stop::No {
            return;
        }
        match self.settings.on_failure {
            OnFailure::GoOn => {}
            OnFailure::StopStarting => {
                let after = self.story(key).id.clone();
                self.close_gate(&Skip::StoppedAfter(after), effects);
            }
            OnFailure::Ask if self.waiting().is_empty() => {}
            OnFailure::Ask => self.ask(key, effects),
        }
    }

    pub(super) fn ask(&mut self, after: Key, effects: &mut Effects) {
        self.gate = Gate::Asking {
            after,
            until: self.now + self.settings.deadlines.decide,
        };
        effects.push(Effect::AskToGoOn(self.story(after).id.clone()));
    }

    /// Nothing more is started in this run. Stories between two attempts have ended as their last attempt did.
    pub(super) fn close_gate(&mut self, skip: &Skip, effects: &mut Effects) {
        self.gate = Gate::Closed(skip.clone());
        for key in self.waiting() {
            self.give_up(key, skip, effects);
        }
    }

    /// A story that waits is not started any more: it is skipped, or has ended as its last attempt did.
    pub(super) fn give_up(&mut self, key: Key, skip: &Skip, effects: &mut Effects) {
        let (unit, outcome) = match &self.story(key).last_end {
            Some((unit, outcome)) => (Some(unit.clone()), outcome.clone()),
            None => (None, Outcome::Skipped(skip.clone())),
        };
        self.conclude(key, unit, outcome, effects);
    }

    /// The person has answered.
    pub(super) fn decide(&mut self, decision: Decision, effects: &mut Effects) {
        let Gate::Asking { after, .. } = self.gate else {
            return;
        };
        match decision {
            Decision::GoOn => self.gate = Gate::Open,
            Decision::StopHere => {
                let after = self.story(after).id.clone();
                self.close_gate(&Skip::StoppedAfter(after), effects);
            }
        }
    }
}

/// Whether an end says nothing against going on.
fn is_harmless(outcome: &Outcome) -> bool {
    matches!(
        outcome.kind(),
        OutcomeKind::Succeeded | OutcomeKind::Cancelled | OutcomeKind::Skipped
    )
}
