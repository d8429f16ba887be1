//! What people are told, and whether it is so.

use std::time::Duration;

use ai_sdlc::engine::{Claim, Delay, Exit, Notice, OnFailure, Outcome, OutcomeKind, Unit, Usage};
use ai_sdlc::story::StoryId;

use super::{Ledger, is_failure, millis};

impl Ledger {
    pub(super) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::StoryEnded {
                story,
                unit,
                outcome,
            } => self.end(story, unit.as_ref(), outcome),
            Notice::Retrying {
                unit,
                wait,
                reason,
                outcome,
            } => {
                self.count("retries");
                self.count(outcome.name());
                let retry = self.settings.retry.clone();
                let lost = self.lost.contains(unit);
                self.must(self.settled.contains(unit) || lost, || {
                    format!("{unit:?} is retried unsettled")
                });
                let usage = self.usage.get(unit).copied().unwrap_or_default();
                let known = self.stories.get_mut(&unit.story).unwrap();
                if !lost {
                    known.charge(self.now, usage);
                }
                if matches!(
                    outcome.kind(),
                    OutcomeKind::TimedOut | OutcomeKind::BudgetExceeded
                ) {
                    (known.time, known.account) = (0, Usage::default());
                    let renewed = &unit.story;
                    self.near.retain(|(of, ..)| of.as_ref() != Some(renewed));
                    *self.seen.entry("allowances").or_default() += 1;
                }
                known.attempting = None;
                known.failed_after = None;
                known.delayed_until = Some(self.now + millis(*wait));
                known.delayed_by = Some(*reason);
                match reason {
                    Delay::BackOff => known.back_offs += 1,
                    Delay::Quota => known.quota_waits += 1,
                }
                let doublings = known.back_offs.saturating_sub(1).min(20);
                let longest = retry.longest_wait.min(retry.first_wait * (1 << doublings));
                let fits = *wait <= longest && *wait + Duration::from_millis(1) >= longest * 3 / 4;
                let fits = fits || *reason == Delay::Quota;
                let bounded = known.back_offs < retry.most_attempts.get()
                    && known.quota_waits <= retry.most_quota_waits;
                self.must(bounded, || format!("{unit:?} is retried too often"));
                self.must(fits, || format!("{unit:?} is retried after {wait:?}"));
            }
            Notice::StartsPaused { pause, .. } => {
                self.count("pauses");
                self.paused_until = self.now + millis(*pause);
            }
            Notice::ProviderPaused {
                provider, pause, ..
            } => {
                self.count("provider pauses");
                let until = self.now + millis(*pause);
                self.providers.insert(provider.clone(), until);
            }
            Notice::ProviderResumed(provider) => {
                let until = self.over.remove(provider);
                let until = until.or_else(|| self.providers.remove(provider));
                let clock = self.now;
                self.must(until.is_some_and(|until| until <= clock), || {
                    format!("{provider:?} serves again, and is paused until {until:?}")
                });
            }
            Notice::ProviderRefused { provider, .. } => {
                self.count("provider refusals");
                let told = self.refused.insert(provider.clone(), true);
                self.must(told == Some(false), || {
                    format!("that {provider:?} refuses is told: {told:?}")
                });
            }
            Notice::RunExceeded(_) => {
                self.count("run budgets");
                self.must(!self.exceeded, || "a budget is used up twice".to_owned());
                self.exceeded = true;
                self.closed = Some("the budget of the run is used up");
            }
            Notice::WaitsForRoom { lack, .. } => {
                self.count("waits for the machine");
                let lacks = lack.wanted > 0 && lack.taken + lack.wanted > lack.capacity;
                self.must(lacks, || format!("there is too little: {lack:?}"));
            }
            Notice::TurnsUsedUp { .. } => self.count("turns used up"),
            Notice::BudgetNear {
                story,
                scope,
                share,
            } => self.budget_near(story.as_ref(), *scope, *share),
            Notice::Leaving { .. } => {
                self.count("runs left");
                self.left = true;
            }
            Notice::Quiet { .. } => self.count("quiet"),
            Notice::Joined(stories) => {
                self.count("joins");
                for story in stories {
                    let expected = self.joining.remove(story);
                    self.must(expected, || format!("{story} joins"));
                }
            }
            Notice::Overlap { one, other, .. } => {
                self.count("overlaps");
                let expected = self.overlaps.remove(&(one.clone(), other.clone()));
                self.must(expected, || {
                    format!("{one} and {other} are told to overlap")
                });
            }
            Notice::Conflict { .. } => self.count("conflicts"),
            Notice::Stopping { .. } => {
                self.count("stops");
                self.must(self.stopped_at.is_some(), || "it stops unasked".to_owned());
            }
        }
    }

    fn end(&mut self, story: &StoryId, unit: Option<&Unit>, outcome: &Outcome) {
        self.count(outcome.name());
        let Some(known) = self.stories.get_mut(story) else {
            return self.must(false, || format!("{story} was not selected"));
        };
        let twice = known.ended.replace(outcome.clone());
        let delayed = known.delayed_until.is_some();
        let failed_after = known.failed_after.take();
        known.attempting = None;
        self.must(twice.is_none(), || format!("{story} is reported twice"));
        if let Some(unit) = unit
            && self.settling.remove(unit)
            && !self.left
        {
            self.stories.get_mut(story).unwrap().haunted = Some(unit.clone());
        }
        if let Some(unit) = unit
            && !delayed
            && !self.left
            && *outcome != Outcome::Cancelled
        {
            let settled = self.settled.contains(unit) || self.lost.contains(unit) || self.stubborn;
            self.must(settled, || {
                format!("{unit:?} has ended before it was taken care of")
            });
        }
        if outcome.is_success() {
            let unit = unit.expect("a success has an attempt");
            let proved = self.claims.get(unit) == Some(&Claim::Succeeded)
                && self.exits.get(unit) == Some(&Exit::Code(0))
                && self.confirmed.contains(unit);
            self.must(proved, || format!("{unit:?} has not succeeded"));
        }
        if unit.is_none() && outcome.kind() == OutcomeKind::Skipped {
            self.count("never started");
        }
        let fails = is_failure(outcome);
        let settled = unit.is_some_and(|unit| self.settled.contains(unit));
        if let Some(before) = failed_after
            && fails
            && settled
            && self.closed.is_none()
            && self.stopped_at.is_none()
        {
            let none = self.starts == before;
            self.must(none, || {
                format!("something starts between the failure of {story} and its end")
            });
        }
        if fails && self.settings.on_failure == OnFailure::StopStarting && self.stopped_at.is_none()
        {
            self.closed.get_or_insert("a story did not succeed");
        }
    }
}
