//! The turns of agents: who has asked for one, who was granted one, and how many their provider has.

use std::collections::{BTreeMap, BTreeSet};

use ai_sdlc::engine::{Provider, Unit};

use super::{Known, Ledger};

/// The span in which turns are counted.
const WINDOW: u64 = 60_000;

/// For how long an attempt may wait in its slot for a provider that serves no more.
const LONGEST_PAUSE: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// In the order in which they asked.
    asking: Vec<Unit>,
    /// Attempts that had a turn.
    begun: BTreeSet<Unit>,
    /// Until when each counts that was granted.
    granted: BTreeMap<Provider, Vec<u64>>,
}

impl Turns {
    /// Nobody asks any more, and so much time has passed that the clock leaves out.
    pub(super) fn resume(&mut self, on_the_wall: u64) {
        self.asking.clear();
        for until in self.granted.values_mut().flatten() {
            *until = until.saturating_sub(on_the_wall);
        }
    }
}

impl Ledger {
    pub(super) fn ask_for_turn(&mut self, unit: &Unit) {
        if self.may_have_turn(unit) && !self.turns.asking.contains(unit) {
            self.count("turns asked for");
            self.turns.asking.push(unit.clone());
        }
    }

    pub(super) fn grant_turn(&mut self, unit: &Unit) {
        self.count("turns");
        let place = self.turns.asking.iter().position(|asking| asking == unit);
        let provider = self.stories[&unit.story].provider.clone();
        self.must(place.is_some(), || {
            format!("{unit:?} is granted a turn and has not asked for one")
        });
        let Some(place) = place else { return };
        let earlier = self.turns.asking[..place].iter().find(|other| {
            self.stories[&other.story].provider == provider && self.may_have_turn(other)
        });
        let earlier = earlier.cloned();
        self.must(earlier.is_none(), || {
            format!("{unit:?} is granted a turn before {earlier:?}")
        });
        let reason = self.nothing_for(provider.as_ref());
        self.must(reason.is_none(), || {
            format!("{unit:?} is granted a turn although {reason:?}")
        });
        self.turns.asking.remove(place);
        self.turns.begun.insert(unit.clone());
        let now = self.now;
        self.progress(unit, now);
        if let Some(provider) = provider {
            self.turns
                .granted
                .entry(provider)
                .or_default()
                .push(now + WINDOW);
        }
    }

    /// Whoever asks is answered as soon as there is an answer, and does not wait in its slot for long.
    pub(super) fn check_turns(&mut self) {
        let mut waiting = self.turns.asking.clone();
        waiting.retain(|unit| self.may_have_turn(unit));
        for unit in waiting {
            let provider = self.stories[&unit.story].provider.clone();
            let reason = self.nothing_for(provider.as_ref());
            self.must(reason.is_some(), || {
                format!("{unit:?} asks for a turn and is not answered")
            });
            let pause = provider.as_ref().and_then(|name| self.providers.get(name));
            let left = pause.map_or(0, |until| until.saturating_sub(self.now));
            self.must(left <= LONGEST_PAUSE, || {
                format!("{unit:?} waits for its turn for {left} ms")
            });
            self.count("turns waited for");
        }
    }

    /// Whether a provider has a turn for one more story that starts.
    pub(super) fn has_turn(&self, known: &Known) -> bool {
        let Some(provider) = &known.provider else {
            return true;
        };
        let promised = self.holders.iter().filter(|unit| {
            self.stories[&unit.story].provider.as_ref() == Some(provider)
                && !self.turns.begun.contains(unit)
        });
        self.turns_left(provider)
            .is_none_or(|left| promised.count() < left)
    }

    /// Why a provider has no turn now.
    fn nothing_for(&self, provider: Option<&Provider>) -> Option<&'static str> {
        let provider = provider?;
        if self
            .providers
            .get(provider)
            .is_some_and(|until| *until > self.clock)
        {
            Some("its provider is paused")
        } else if self.refused.contains_key(provider) {
            Some("its provider refuses")
        } else if self.turns_left(provider) == Some(0) {
            Some("its provider has had its turns")
        } else {
            None
        }
    }

    /// How many turns a provider has now, if there is a limit.
    fn turns_left(&self, provider: &Provider) -> Option<usize> {
        let most = self.settings.turns_per_minute.get(provider)?.get() as usize;
        let granted = self.turns.granted.get(provider).into_iter().flatten();
        let recent = granted.filter(|until| **until > self.now).count();
        Some(most.saturating_sub(recent))
    }

    /// Whether its executor works and was not asked to stop.
    fn may_have_turn(&self, unit: &Unit) -> bool {
        self.holders.contains(unit)
            && self.lives.contains_key(unit)
            && !self.asked.contains(unit)
            && !self.leaving.contains(unit)
            && !self.exits.contains_key(unit)
    }
}
