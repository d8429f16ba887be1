//! Whose agent may begin a turn. Every executor asks before it, and is answered in the order in which they ask, so that no
//! story waits while others have one turn after the other. A turn is granted unless its provider has had as many as it has
//! in a minute, serves no more for now, or nothing is left of what may be used. An attempt that would have to wait for long
//! is put off and gives its slot to others.

use std::collections::VecDeque;
use std::time::Duration;

use super::queue::ProviderKey;
use super::{
    Account, Effect, Effects, Engine, Input, Key, Limits, Notice, Overrun, Scope, Stage, Unit,
    Usage,
};
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
            self.set_waiting_for_turn(key, true);
        }
    }

    /// The budget of which nothing is left for a further turn of a story; time has its own clock.
    fn nothing_left_for(&self, key: Key) -> Option<Overrun> {
        let tracked = self.story(key);
        let used = match &tracked.stage {
            Stage::Attempting(attempt) => attempt.trial.usage,
            _ => return None,
        };
        let of_story = tracked.account.usage + used;
        used_up(Scope::Story, self.settings.story_limits, of_story).or_else(|| self.nothing_left())
    }

    /// The budget of the run or of the day of which nothing is left for anybody; time has its own clock.
    pub(super) fn nothing_left(&self) -> Option<Overrun> {
        let of_run = used_up(Scope::Run, self.settings.run_limits, self.usage);
        let of_day = self.today.usage(self.usage);
        of_run.or_else(|| used_up(Scope::Day, self.settings.day_limits, of_day))
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
                    effects.push(Effect::GrantTurn(unit));
                }
                Answer::NotYet => waiting.push_back(unit),
                Answer::PutOff(reason) => {
                    self.set_waiting_for_turn(key, false);
                    self.feed(&unit, Input::PutOff(reason), effects);
                }
            }
        }
        self.queue.lines[provider.0].service.asking = waiting;
    }

    fn grant_turn(&mut self, key: Key, provider: ProviderKey) {
        let service = &mut self.queue.lines[provider.0].service;
        service.pace.grant(self.now);
        if let Stage::Attempting(attempt) = &mut self.stories[key.index()].stage {
            if attempt.trial.turns == 0 {
                service.promised = service.promised.saturating_sub(1);
            }
            attempt.trial.turns += 1;
        }
        self.set_waiting_for_turn(key, false);
    }

    /// Nothing is expected of an agent that waits for its turn.
    fn set_waiting_for_turn(&mut self, key: Key, waits: bool) {
        if let Stage::Attempting(attempt) = &mut self.story_mut(key).stage {
            attempt.trial.waits_for_turn = waits;
        }
        self.reschedule(key);
    }
}

fn used_up(scope: Scope, limits: Limits, usage: Usage) -> Option<Overrun> {
    let account = Account {
        usage,
        ..Account::default()
    };
    let counted = Limits {
        time: None,
        ..limits
    };
    let budget = counted.used_up_by(account)?;
    Some(Overrun { scope, budget })
}
