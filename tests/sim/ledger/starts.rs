//! Whether a story may begin: slots, dependencies, providers, files, turns.

use std::collections::BTreeSet;

use ai_sdlc::engine::scheduler::MOST_OVERTAKEN;
use ai_sdlc::engine::{Order, Outcome, Provider, Resources, Unit};
use ai_sdlc::story::StoryId;

use super::{Begun, Known, Ledger};

impl Ledger {
    pub(super) fn start(&mut self, unit: &Unit) {
        self.count("attempts");
        let fresh = self.used.insert(unit.clone());
        self.must(fresh, || format!("{unit:?} is used twice"));
        let Some(known) = self.stories.get(&unit.story) else {
            return self.must(false, || format!("{unit:?} was not selected"));
        };
        let problem = if self.stopped_at.is_some() {
            Some("the run is stopping")
        } else if self.closed.is_some() {
            self.closed
        } else if self.asking {
            Some("the person is being asked")
        } else if self.paused_until > self.clock {
            Some("starts are paused")
        } else if known
            .provider
            .as_ref()
            .and_then(|provider| self.providers.get(provider))
            .is_some_and(|until| *until > self.clock)
        {
            Some("its provider is paused")
        } else if known
            .provider
            .as_ref()
            .is_some_and(|provider| self.refused.contains_key(provider))
        {
            Some("its provider refuses")
        } else if !self.has_turn(known) {
            Some("its provider has had its turns")
        } else if !self.fits(known) {
            Some("the machine has too little for it")
        } else if known.attempting.is_some() {
            Some("another attempt is under way")
        } else if known.haunted.is_some() {
            Some("an earlier attempt could not be ended")
        } else if known.ended.is_some() {
            Some("it is through")
        } else if known.delayed_until.is_some_and(|until| until > self.now) {
            Some("its wait is not over")
        } else if known.begun == Begun::Yes && known.is_used_up(&self.settings.story_limits) {
            Some("it has used up what it may use")
        } else if !self.may_begin(known) {
            Some("a dependency has not succeeded")
        } else if self.settings.order == Order::AsGiven
            && self
                .stories
                .values()
                .any(|other| other.place < known.place && other.ended.is_none())
        {
            Some("it is not its turn")
        } else {
            None
        };
        let place = known.place;
        if self.settings.order == Order::AnyReady
            && known.waits.unwrap_or_default() < MOST_OVERTAKEN
            && self.is_in_the_way(&unit.story, known)
        {
            let mut others = self.stories.iter();
            let better = others.find(|(id, other)| {
                **id != unit.story && self.startable(id, other) && !self.is_in_the_way(id, other)
            });
            let better = better.map(|(id, _)| id.clone());
            self.must(better.is_none(), || {
                format!("{unit:?} starts beside the same files, and {better:?} does not")
            });
        }
        self.must(problem.is_none(), || {
            format!("{unit:?} starts although {}", problem.unwrap_or_default())
        });
        let passed: Vec<StoryId> = self
            .stories
            .iter()
            .filter(|(id, known)| known.place < place && self.startable(id, known))
            .map(|(id, _)| id.clone())
            .collect();
        for id in passed {
            let overtaken = &mut self.stories.get_mut(&id).unwrap().overtaken;
            *overtaken += 1;
            let most = MOST_OVERTAKEN + 16;
            let many = *overtaken > most;
            self.must(!many, || {
                format!("{id} is overtaken more than {most} times")
            });
        }
        let came: BTreeSet<StoryId> = self
            .stories
            .iter()
            .filter(|(_, known)| known.waits.is_some() || self.is_eligible(known))
            .map(|(id, _)| id.clone())
            .collect();
        for id in came {
            *self.stories.get_mut(&id).unwrap().waits.get_or_insert(0) += 1;
        }
        let known = self.stories.get_mut(&unit.story).unwrap();
        known.waits = None;
        known.attempting = Some(unit.clone());
        known.delayed_until = None;
        known.overtaken = 0;
        known.begun = Begun::Yes;
        known.began_at = self.now;
        known.ended_at = None;
        known.failed_after = None;
        self.starts += 1;
        self.preparing.insert(unit.clone());
        self.holders.insert(unit.clone());
    }

    pub(super) fn succeeded(&self, id: &StoryId) -> bool {
        // What is not part of the run counts as met: leaving it out is the plan's business.
        self.stories
            .get(id)
            .is_none_or(|known| known.ended == Some(Outcome::Succeeded))
    }

    /// What a story depends on counts for its first attempt: a dependency that comes back later on has succeeded.
    pub(super) fn may_begin(&self, known: &Known) -> bool {
        known.begun == Begun::Yes || known.dependencies.iter().all(|id| self.succeeded(id))
    }

    /// Whether another attempt at a story of its provider may be alive.
    fn has_room(&self, known: &Known) -> bool {
        let provider = known.provider.as_ref();
        let most = provider.and_then(|name| self.settings.most_of_provider.get(name));
        most.is_none_or(|most| self.holders_of(provider) < most.get())
    }

    /// Whether the machine has enough for its agent: alone it always has.
    pub(super) fn fits(&self, known: &Known) -> bool {
        let taken = self.holders.iter().fold(Resources::default(), |sum, unit| {
            sum + self.stories[&unit.story].resources
        });
        let fits = |capacity: Option<u64>, wanted: u64, taken: u64| {
            wanted == 0 || capacity.is_none_or(|capacity| taken + wanted <= capacity)
        };
        let (capacity, wanted) = (self.settings.capacity, known.resources);
        self.holders.is_empty()
            || (fits(
                capacity.memory_bytes,
                wanted.memory_bytes,
                taken.memory_bytes,
            ) && fits(capacity.millicpus, wanted.millicpus, taken.millicpus))
    }

    /// How many attempts at stories of a provider hold a slot.
    pub(super) fn holders_of(&self, provider: Option<&Provider>) -> usize {
        let holders = self.holders.iter();
        let of = |unit: &&Unit| self.stories[&unit.story].provider.as_ref() == provider;
        holders.filter(of).count()
    }

    pub(super) fn startable(&self, _id: &StoryId, known: &Known) -> bool {
        let provider = known
            .provider
            .as_ref()
            .and_then(|provider| self.providers.get(provider));
        provider.is_none_or(|until| *until <= self.clock)
            && self.has_room(known)
            && self.has_turn(known)
            && self.is_eligible(known)
    }

    /// Whether it could start if its provider served it.
    pub(super) fn is_eligible(&self, known: &Known) -> bool {
        known.ended.is_none()
            && known.attempting.is_none()
            && known.haunted.is_none()
            && known.delayed_until.is_none_or(|until| until <= self.clock)
            && self.may_begin(known)
    }

    /// Whether its files overlap with those that a running story names or has changed.
    fn is_in_the_way(&self, id: &StoryId, known: &Known) -> bool {
        let others = self.holders.iter().filter(|unit| unit.story != *id);
        let mut touched = others.flat_map(|unit| {
            let changed = self.touched.get(unit).into_iter().flatten();
            self.stories[&unit.story].files.iter().chain(changed)
        });
        touched.any(|file| known.files.iter().any(|own| own.overlaps(file)))
    }
}
