//! Whose agent may begin a turn. Every executor asks before it, and is answered in the order in which they ask, so that no
//! story waits while others have one turn after the other. A turn is granted unless its provider has had as many as it has
//! in a minute, serves no more for now, or nothing is left of what may be used. An attempt that would have to wait for long
//! is put off and gives its slot to others.

use std::collections::VecDeque;
use std::time::Duration;

use super::queue::ProviderKey;
use super::{Effect, Effects, Engine, Input, Key, Notice, Scope, Stage, Unit};
use crate::engine::fault::{self, Fault};
use crate::engine::outcome::StopReason;

/// For how long an attempt waits for its turn in the slot that it has: about what it takes to make another worktree and to
/// start another executor in its place.
pub(super) const PUT_OFF_AFTER: Duration = Duration::from_secs(60);

/// What an executor that asks for a turn is answered.
pub(super) enum Answer {
    Granted,
    NotYet,
    PutOff(StopReason),
}

impl Engine {
    /// An executor asks whether its agent may begin a turn.
    pub(super) fn ask_for_turn(&mut self, unit: &Unit, effects: &mut Effects) {
        // One that is stopped has its answer already.
        let asking = self
            .current(unit)
            .filter(|(_, attempt)| attempt.state.is_running());
        let Some((key, _)) = asking else { return };
        if let Some(overrun) = self.nothing_left_for(key) {
            match overrun.scope {
                Scope::Story => self.feed(unit, Input::Exceeded(overrun), effects),
                Scope::Run | Scope::Day => self.exceed_run(overrun.scope, overrun.budget, effects),
            }
            return;
        }
        if fault::is(Fault::TurnForgotten) {
            return;
        }
        let provider = self.story(key).provider;
        let asking = &mut self.queue.lines[provider.0].service.asking;
        if !asking.contains(unit) {
            asking.push_back(unit.clone());
            self.reschedule(key);
        }
    }

    /// Answers those who ask, as far as there is an answer.
    pub(super) fn answer_turns(&mut self, effects: &mut Effects) {
        for provider in (0..self.queue.lines.len()).map(ProviderKey) {
            let service = &mut self.queue.lines[provider.0].service;
            service.pace.look(self.now);
            if !service.asking.is_empty() {
                self.answer_turns_of(provider, effects);
            }
        }
    }

    /// Says once that stories wait for the next turn of a provider.
    pub(super) fn tell_of_waits(&mut self, effects: &mut Effects) {
        let now = self.now;
        for line in &mut self.queue.lines {
            let waits = line.has_waiting() && line.service.paused_until().is_none();
            let service = &mut line.service;
            match (service.pace.next_room(), &line.provider) {
                (Some(until), Some(provider)) if waits && !service.told_of_wait => {
                    service.told_of_wait = true;
                    effects.tell(Notice::TurnsUsedUp {
                        provider: provider.clone(),
                        wait: until.since(now),
                    });
                }
                (Some(_), _) => {}
                (None, _) => service.told_of_wait = false,
            }
        }
    }

    fn answer_turns_of(&mut self, provider: ProviderKey, effects: &mut Effects) {
        let asking = std::mem::take(&mut self.queue.lines[provider.0].service.asking);
        let mut waiting = VecDeque::new();
        for unit in asking {
            let running = self
                .current(&unit)
                .filter(|(_, attempt)| attempt.state.is_running());
            let Some((key, _)) = running else { continue };
            let line = &mut self.queue.lines[provider.0];
            match line.service.answer(line.provider.as_ref(), self.now) {
                Answer::Granted => {
                    self.grant_turn(key, provider);
                    self.feed(&unit, Input::Progressed, effects);
                    effects.push(Effect::GrantTurn(unit, self.allowance(key)));
                }
                Answer::NotYet => waiting.push_back(unit),
                Answer::PutOff(reason) => self.feed(&unit, Input::PutOff(reason), effects),
            }
        }
        self.queue.lines[provider.0].service.asking = waiting;
    }

    fn grant_turn(&mut self, key: Key, provider: ProviderKey) {
        let service = &mut self.queue.lines[provider.0].service;
        service.pace.grant(self.now);
        if let Stage::Attempting(attempt) = &mut self.stories[key.index()].stage
            && !std::mem::replace(&mut attempt.trial.has_begun, true)
        {
            service.promised = service.promised.saturating_sub(1);
        }
    }

    /// Whether an attempt at a story waits for its turn: nothing is expected of its agent then.
    pub(super) fn waits_for_turn(&self, key: Key) -> bool {
        let tracked = self.story(key);
        let asking = &self.queue.lines[tracked.provider.0].service.asking;
        asking.iter().any(|unit| unit.story == tracked.id)
    }
}
