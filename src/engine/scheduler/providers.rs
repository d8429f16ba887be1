//! Whom the limits of providers let start: a provider that serves no more is left alone from the moment at which anybody
//! says so, by all of its stories. For how long is said in [`crate::engine::quota`]. For one that refuses (it knows no such
//! key, or wants money) nothing is started before a person goes on with the run: its stories stay as they are on the board.

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::queue::{ProviderKey, Queue};
use super::turns::{Answer, PUT_OFF_AFTER};
use super::{Delay, Engine, Key, Stage, Trial};
use crate::engine::effect::{Effects, Notice};
use crate::engine::event::{Provider, Unit};
use crate::engine::fault::{self, Fault};
use crate::engine::lifecycle::Input;
use crate::engine::outcome::{Claim, Skip, StopReason};
use crate::engine::pace::Pace;
use crate::engine::quota::{Brake, believed};
use crate::engine::time::Moment;

/// How a provider serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Service {
    paused_until: Option<Moment>,
    brake: Brake,
    /// Why it serves nothing before a person has seen to that.
    refused: Option<String>,
    /// How many attempts at its stories hold a slot, and how many may.
    running: usize,
    most: Option<NonZeroUsize>,
    /// How many turns it has in a minute.
    pub(super) pace: Pace,
    /// The attempts whose agents are to begin a turn, in the order in which they asked.
    pub(super) asking: VecDeque<Unit>,
    /// How many attempts have a slot and have not begun their first turn.
    pub(super) promised: usize,
    /// Whether it was told that stories wait for its next turn.
    pub(super) told_of_wait: bool,
}

impl Service {
    /// That of a provider of which so many attempts may be alive at once, and which has so many turns a minute.
    pub(super) fn limited(most: Option<NonZeroUsize>, turns: Option<NonZeroU32>) -> Self {
        Self {
            most,
            pace: Pace::of_most(turns),
            ..Self::default()
        }
    }

    /// Whether a story may start.
    pub(super) fn is_open(&self) -> bool {
        let paused = self.paused_until.is_some() && !fault::is(Fault::QuotaIgnored);
        let has_turn = self.pace.has_room_beside(self.promised);
        !paused && self.refused.is_none() && self.has_room() && has_turn
    }

    /// What whoever wants to begin a turn with the provider is answered now.
    pub(super) fn answer(&self, provider: Option<&Provider>, now: Moment) -> Answer {
        let name = provider.map_or("its provider", Provider::as_str);
        if let Some(reason) = &self.refused {
            return Answer::PutOff(StopReason::ProviderRefused(reason.clone()));
        }
        let paused = self
            .paused_until
            .filter(|_| !fault::is(Fault::QuotaIgnored));
        match paused {
            Some(until) if until.since(now) > PUT_OFF_AFTER && !fault::is(Fault::NobodyPutOff) => {
                Answer::PutOff(StopReason::ProviderPaused {
                    until,
                    reason: format!("{name} serves no more before its limit is lifted"),
                })
            }
            None if self.pace.has_room_beside(0) => Answer::Granted,
            Some(_) | None => Answer::NotYet,
        }
    }

    pub(super) fn paused_until(&self) -> Option<Moment> {
        self.paused_until
    }

    fn has_room(&self) -> bool {
        let is_full = self.most.is_some_and(|most| self.running >= most.get());
        !is_full || fault::is(Fault::ProviderRoomIgnored)
    }
}

impl Queue {
    /// When the first of the pauses is over, or a provider that has had all of its turns has the next one.
    pub(super) fn next_resumption(&self) -> Option<Moment> {
        let services = self.lines.iter().map(|line| &line.service);
        let moments = services.flat_map(|service| [service.paused_until, service.pace.next_room()]);
        moments.flatten().min()
    }

    /// A story of the provider has got a slot.
    pub(super) fn take_room(&mut self, provider: ProviderKey) {
        let service = &mut self.lines[provider.0].service;
        service.running += 1;
        service.promised += 1;
    }

    /// It has given the slot back. `began` is whether its agent had begun a turn.
    pub(super) fn give_room_back(&mut self, provider: ProviderKey, began: bool) {
        let service = &mut self.lines[provider.0].service;
        if !began {
            service.promised = service.promised.saturating_sub(1);
        }
        if !fault::is(Fault::ProviderRoomKept) {
            service.running = service.running.saturating_sub(1);
        }
    }

    pub(super) fn paused_until(&self, provider: ProviderKey) -> Option<Moment> {
        self.lines[provider.0].service.paused_until
    }
}

impl Engine {
    /// An executor says how its attempt ends. What that says of its provider counts at once for all of its stories, and
    /// not only when the attempt is taken care of.
    pub(super) fn hear_claim(&mut self, unit: &Unit, claim: Claim, effects: &mut Effects) {
        let heard = self
            .current(unit)
            .filter(|(_, attempt)| attempt.state.awaits_claim());
        let heard = heard.map(|(key, attempt)| (key, attempt.trial));
        let claim = match (claim, heard) {
            (Claim::QuotaExhausted { until, reason }, Some((key, trial)))
                if !fault::is(Fault::LimitHeardLate) =>
            {
                let until = self.note_limit(key, trial, until, &reason, effects);
                Claim::QuotaExhausted {
                    until: Some(until),
                    reason,
                }
            }
            (Claim::ProviderRefused { reason }, Some((key, _))) => {
                self.note_refusal(key, &reason, effects);
                Claim::ProviderRefused { reason }
            }
            // Its agent was told what is left of all budgets, and does not know whose the narrowest was.
            (Claim::Exceeded { reason }, Some((key, _))) => match self.nothing_left_for(key) {
                Some(overrun) => Claim::UsedUp(overrun),
                None => Claim::Exceeded { reason },
            },
            (claim, _) => claim,
        };
        self.feed(unit, Input::Claimed(claim), effects);
    }

    /// The provider of an attempt serves no more. Gives when it is asked again.
    fn note_limit(
        &mut self,
        key: Key,
        trial: Trial,
        told: Option<Moment>,
        reason: &str,
        effects: &mut Effects,
    ) -> Moment {
        let now = self.now;
        let told = told.map(|told| believed(told, now));
        let tracked = self.story(key);
        let (provider, waits) = (tracked.provider, tracked.tries.quota_waits);
        let (quota, seed) = (&self.settings.retry.quota, self.settings.retry.seed);
        let line = &mut self.queue.lines[provider.0];
        let Some(name) = &line.provider else {
            let wait = quota.wait(seed, self.stories[key.index()].id.as_str(), waits + 1);
            return told.filter(|told| *told > now).unwrap_or(now + wait);
        };
        let wait = |times| quota.wait(seed, name.as_str(), times);
        let brake = &mut line.service.brake;
        let until = brake.limited(trial.began, told, now, wait, quota.quiet);
        self.pause(provider, until, reason.to_owned(), effects);
        until
    }

    /// An attempt has succeeded, and so its provider serves.
    pub(super) fn note_served(&mut self, key: Key, trial: Trial) {
        let provider = self.story(key).provider;
        let line = &mut self.queue.lines[provider.0];
        line.service.brake.served(trial.began);
    }

    /// The provider of a story serves nothing before a person has seen to that.
    fn note_refusal(&mut self, key: Key, reason: &str, effects: &mut Effects) {
        let provider = self.story(key).provider;
        let line = &mut self.queue.lines[provider.0];
        let Some(name) = line.provider.clone() else {
            return;
        };
        if line.service.refused.is_some() || fault::is(Fault::RefusalIgnored) {
            return;
        }
        line.service.refused = Some(reason.to_owned());
        effects.tell(Notice::ProviderRefused {
            provider: name,
            reason: reason.to_owned(),
        });
        // What would have been tried again and is just being taken care of ends its story now.
        for key in (0_u32..).map(Key).take(self.stories.len()) {
            if self.story(key).provider == provider {
                self.foresee_failure(key);
            }
        }
        self.give_up_refused(effects);
    }

    /// Nothing more is started for providers that refuse. Stories between two attempts have ended as their last attempt
    /// did.
    pub(super) fn give_up_refused(&mut self, effects: &mut Effects) {
        for key in self.waiting() {
            if let Some(skip) = self.refusal(self.story(key).provider) {
                self.give_up(key, &skip, effects);
            }
        }
    }

    pub(super) fn refusal(&self, provider: ProviderKey) -> Option<Skip> {
        let line = &self.queue.lines[provider.0];
        let (name, reason) = (line.provider.clone()?, line.service.refused.clone()?);
        Some(Skip::ProviderRefused(name, reason))
    }

    /// Whether a provider serves nothing before a person has seen to that.
    pub(super) fn refuses(&self, provider: &Provider) -> bool {
        let mut lines = self.queue.lines.iter();
        lines.any(|line| line.provider.as_ref() == Some(provider) && line.service.refused.is_some())
    }

    /// The line of the stories of a provider.
    pub(super) fn line_of(&mut self, provider: Option<&Provider>) -> ProviderKey {
        let settings = &self.settings;
        let most = || provider.and_then(|name| settings.most_of_provider.get(name).copied());
        let turns = || provider.and_then(|name| settings.turns_per_minute.get(name).copied());
        self.queue
            .provider(provider, || Service::limited(most(), turns()))
    }

    /// A provider serves no more until then: nothing is started for it.
    pub(super) fn pause_provider(
        &mut self,
        provider: &Provider,
        until: Moment,
        reason: String,
        effects: &mut Effects,
    ) {
        let key = self.line_of(Some(provider));
        let until = believed(until, self.now);
        self.pause(key, until, reason, effects);
    }

    fn pause(&mut self, key: ProviderKey, until: Moment, reason: String, effects: &mut Effects) {
        let now = self.now;
        let line = &mut self.queue.lines[key.0];
        let Some(provider) = line.provider.clone() else {
            return;
        };
        // What was known before counts as long as it reaches further.
        let known = line.service.paused_until;
        if until <= now || known.is_some_and(|known| known >= until) {
            return;
        }
        line.service.paused_until = Some(until);
        effects.tell(Notice::ProviderPaused {
            provider,
            pause: until.since(now),
            reason,
        });
    }

    /// The orchestrator was away for a while, which the clock of the run leaves out: what providers have said holds until
    /// the time that they have named all the same. A person who goes on with the run may have seen to what they wanted.
    pub(super) fn return_to_providers(&mut self, away: Duration, effects: &mut Effects) {
        let away = if fault::is(Fault::RestartForgetsAway) {
            Duration::ZERO
        } else {
            away
        };
        for line in &mut self.queue.lines {
            let service = &mut line.service;
            service.refused = None;
            service.brake.bring_forward(away);
            service.pace.bring_forward(away);
            service.asking.clear();
            service.paused_until = service.paused_until.map(|until| until.before(away));
        }
        self.resume_providers(effects);
        for key in (0_u32..).map(Key).take(self.stories.len()) {
            let now = self.now;
            match &mut self.story_mut(key).stage {
                Stage::Delayed {
                    until,
                    reason: Delay::Quota,
                } => {
                    *until = until.before(away);
                    if *until <= now {
                        self.story_mut(key).stage = Stage::Waiting;
                        self.enqueue(key);
                    }
                    self.reschedule(key);
                }
                Stage::Attempting(attempt) => attempt.state.bring_quota_forward(away),
                _ => {}
            }
        }
    }

    /// Ends the pauses that are over.
    pub(super) fn resume_providers(&mut self, effects: &mut Effects) {
        for line in &mut self.queue.lines {
            let pause = &mut line.service.paused_until;
            if pause.is_some_and(|until| until <= self.now) {
                *pause = None;
                if let Some(provider) = line.provider.clone() {
                    effects.tell(Notice::ProviderResumed(provider));
                }
            }
        }
    }
}
