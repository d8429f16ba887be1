//! What executors say and do, as events.

use super::{Driver, FromExecutor};
use crate::engine::{Claim, Event, Moment, Tokens, Unit, Usage};
use crate::launcher::Launcher;
use crate::orchestrator::day;
use crate::orchestrator::narrator::Cost;
use crate::orchestrator::note::Note;
use crate::orchestrator::unit::{Message, News};
use crate::protocol::{self, Retrying, StatusUpdate};

impl<L: Launcher> Driver<L> {
    /// An executor did something.
    pub(in crate::orchestrator) fn receive(&mut self, message: Message) {
        let Message { unit, news } = message;
        match news {
            News::NotLaunched(reason) => self.feed(Event::LaunchFailed(unit, reason)),
            News::Connected => self.feed(Event::Connected(unit)),
            News::Disconnected => self.feed(Event::Disconnected(unit)),
            News::Violated(violation) => self.feed(Event::ProtocolViolated(unit, violation)),
            News::Exited(exit) => self.feed(Event::Exited(unit, exit)),
            News::Said(message) => self.hear(unit, message),
        }
    }

    fn hear(&mut self, unit: Unit, message: FromExecutor) {
        match message {
            FromExecutor::Complete(claim) => {
                let claim = self.note_claim(&unit, claim);
                self.feed(Event::Claimed(unit, claim));
            }
            FromExecutor::StatusUpdate(update) => {
                let cost = self.cost(&unit, &update);
                self.note_status(&unit, &update, cost);
                self.narrator.status(&unit, *update, cost);
            }
            FromExecutor::HealthResponse(health) => {
                self.narrator
                    .said(&unit, FromExecutor::HealthResponse(health));
                self.feed(Event::Answered(unit, health.vitals()));
            }
            FromExecutor::PermitRequest => {
                self.see_day();
                self.feed(Event::TurnAsked(unit));
            }
            message => self.narrator.said(&unit, message),
        }
    }

    fn note_claim(&mut self, unit: &Unit, claim: protocol::Claim) -> Claim {
        match claim {
            protocol::Claim::Succeeded(evidence) => {
                self.note(Note::Evidence {
                    unit: unit.clone(),
                    evidence: evidence.clone(),
                });
                if let Some(attempt) = self.attempts.get_mut(unit) {
                    attempt.evidence = Some(evidence);
                }
                Claim::Succeeded
            }
            protocol::Claim::Failed { reason } => Claim::Failed {
                reason: reason.to_string(),
            },
            protocol::Claim::Blocked { reason } => Claim::Blocked {
                reason: reason.to_string(),
            },
            protocol::Claim::Crashed { reason } => Claim::Crashed {
                reason: reason.to_string(),
            },
            protocol::Claim::Limited { until_ms, reason } => Claim::QuotaExhausted {
                until: until_ms.map(|until| self.moment_of(until)),
                reason: reason.to_string(),
            },
            protocol::Claim::Refused { reason } => Claim::ProviderRefused {
                reason: reason.to_string(),
            },
            protocol::Claim::Exceeded { reason } => Claim::Exceeded {
                reason: reason.to_string(),
            },
            protocol::Claim::Cancelled { .. } => Claim::Cancelled,
        }
    }

    /// The moment of the run at a time of the wall clock, in milliseconds since the epoch: now, when that has passed.
    fn moment_of(&mut self, until_ms: u64) -> Moment {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let ahead = until_ms.saturating_sub(u64::try_from(now_ms).unwrap_or(0));
        Moment::from_millis(self.now().as_millis().saturating_add(ahead))
    }

    /// What an attempt has cost: by its agent's word, or else by the prices of its model.
    fn cost(&self, unit: &Unit, update: &StatusUpdate) -> Cost {
        if let Some(micros_usd) = update.usage.cost_micros_usd {
            return Cost {
                micros_usd,
                is_computed: false,
            };
        }
        let assigned = self
            .attempts
            .get(unit)
            .and_then(|attempt| attempt.assigned.as_ref());
        let setup = assigned.and_then(|assigned| self.request.agent_setups.get(&assigned.agent));
        let configured = setup.and_then(|setup| setup.model.clone());
        let told = update.model.as_ref().map(ToString::to_string);
        let tokens = Tokens {
            input: update.usage.input_tokens,
            output: update.usage.output_tokens,
            cached: update.usage.cached_tokens,
        };
        let computed = told
            .or(configured)
            .and_then(|model| self.request.prices.cost(&model, tokens));
        Cost {
            micros_usd: computed.unwrap_or(0),
            is_computed: computed.is_some(),
        }
    }

    /// Tells what is new in a status update; the same once more is no event.
    fn note_status(&mut self, unit: &Unit, update: &StatusUpdate, cost: Cost) {
        let Some(attempt) = self.attempts.get_mut(unit) else {
            return;
        };
        let entered = attempt.phase.replace(update.phase) != Some(update.phase);
        let usage = Usage {
            tokens: update
                .usage
                .input_tokens
                .saturating_add(update.usage.output_tokens),
            cost_micros_usd: cost.micros_usd,
            turns: u64::from(update.usage.turns),
        };
        let retries = attempt.retrying != update.retrying;
        attempt.retrying.clone_from(&update.retrying);
        let used = std::mem::replace(&mut attempt.usage, usage) != usage;
        let conversation = update.agent_session.as_ref();
        if let Some(name) = conversation.filter(|name| attempt.conversation.as_ref() != Some(name))
        {
            attempt.conversation = Some(name.clone());
            let agent = attempt
                .assigned
                .as_ref()
                .map(|assigned| assigned.agent.clone());
            let note = Note::Conversation {
                unit: unit.clone(),
                agent: agent.unwrap_or_default(),
                name: name.to_string(),
            };
            self.note(note);
        }
        if entered {
            self.feed(Event::PhaseEntered(unit.clone(), update.phase));
        }
        if used {
            self.see_day();
            self.feed(Event::Used(unit.clone(), usage));
        }
        if let Some(retrying) = update.retrying.as_ref().filter(|_| retries) {
            self.note_retry(unit, retrying);
        }
    }

    /// Tells when another day has begun, on which no other run has worked on the board yet.
    fn see_day(&mut self) {
        if self.engine.day() != Some(day::today()) {
            self.tell_day(Usage::default());
        }
    }

    /// An agent waits for a limit of its provider by itself: no further story runs into it meanwhile.
    fn note_retry(&mut self, unit: &Unit, retrying: &Retrying) {
        let provider = self.engine.provider_of(&unit.story).cloned();
        let Some(provider) = provider.filter(|_| retrying.limited) else {
            return;
        };
        let least = self.request.settings.retry.quota.least;
        let now = self.now();
        let told = now
            .as_millis()
            .saturating_add(retrying.delay_ms.unwrap_or(0));
        let until = Moment::from_millis(told).max(now + least);
        let reason = retrying.reason.to_string();
        self.feed(Event::ProviderPaused(provider, until, reason));
    }
}
