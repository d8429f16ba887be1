//! Who joins the run: at its beginning, and later on when it waits for further stories.

use std::collections::{BTreeSet, HashSet};

use super::queue::{Place, Turn};
use super::{Comeback, Engine, Key, OnBoard, Remains, Stage, Stop, Tracked};
use crate::engine::effect::{Effect, Effects, Notice};
use crate::engine::fault::{self, Fault};
use crate::engine::limits::{Account, Usage};
use crate::engine::outcome::{Outcome, Skip};
use crate::engine::plan::PlannedStory;
use crate::engine::retry::Tries;
use crate::story::StoryId;

/// What came of taking stories into a run.
pub(super) struct Admitted {
    /// Those that were not there before.
    joined: Vec<StoryId>,
    /// Those that depend on a story of this run that has not succeeded.
    hopeless: Vec<(Key, Key)>,
}

impl Engine {
    /// Takes stories into the run, behind those that are there, and of those that are through the ones that come back.
    pub(super) fn admit(
        &mut self,
        plan: Vec<PlannedStory>,
        coming_back: &BTreeSet<Key>,
    ) -> Admitted {
        let mut joined = Vec::new();
        let mut fresh = Vec::new();
        let mut place = self.next_place();
        for planned in plan {
            place = Place(place.0 + 1);
            match self.key(&planned.id) {
                None => {
                    joined.push(planned.id.clone());
                    fresh.push((self.add(&planned, place), planned));
                }
                Some(key) => match &self.story(key).stage {
                    Stage::Done(_) if !coming_back.contains(&key) => {}
                    Stage::Done(_) => {
                        joined.push(planned.id.clone());
                        self.readmit(key, &planned, place);
                        fresh.push((key, planned));
                    }
                    Stage::Waiting if self.story(key).board == OnBoard::AsBefore => {
                        self.change(key, &planned, place);
                        fresh.push((key, planned));
                    }
                    Stage::Waiting | Stage::Delayed { .. } => self.move_to(key, place),
                    Stage::Attempting(_) => {}
                },
            }
        }
        // Only now every story is known that another one may depend on.
        let mut hopeless = Vec::new();
        for (key, planned) in fresh {
            if let Some(dependency) = self.connect(key, &planned) {
                hopeless.push((key, dependency));
            }
        }
        Admitted { joined, hopeless }
    }

    /// Which stories that are through and ready are worked on once more.
    ///
    /// One that never started is, as soon as nothing that it depends on is in its way any more. Any other one has to be
    /// asked for again: somebody has made it ready, or has changed what it says. A story that crashed for good is ready
    /// on the board without that, and to take it for new would be to retry it for ever.
    fn coming_back(&self, plan: &[PlannedStory]) -> BTreeSet<Key> {
        let awaited = self.awaited();
        let mut coming_back = BTreeSet::new();
        let mut skipped = Vec::new();
        for planned in plan {
            let Some(key) = self.key(&planned.id) else {
                continue;
            };
            let tracked = self.story(key);
            let alone = tracked.remains == Remains::Nothing || fault::is(Fault::UnendableComesBack);
            // What would only be skipped once more stays skipped.
            let refused = planned
                .provider
                .as_ref()
                .is_some_and(|name| self.refuses(name));
            if !alone || refused || awaited.contains(&key) || fault::is(Fault::NothingComesBack) {
                continue;
            }
            let asked_again = tracked.comeback == Comeback::Allowed
                || (tracked.fingerprint != planned.fingerprint && !fault::is(Fault::EditIgnored));
            match &tracked.stage {
                Stage::Done(Outcome::Skipped(_)) => skipped.push((key, planned)),
                Stage::Done(_) if asked_again => drop(coming_back.insert(key)),
                _ => {}
            }
        }
        // One may be what another one waits for; each round finds at least one, or is the last.
        loop {
            let before = coming_back.len();
            skipped.retain(|(key, planned)| {
                let hopeless = planned.dependencies.iter().any(|id| {
                    let dependency = self.key(id);
                    dependency.is_some_and(|dependency| {
                        self.is_in_vain(dependency) && !coming_back.contains(&dependency)
                    })
                });
                hopeless || !coming_back.insert(*key)
            });
            if coming_back.len() == before {
                return coming_back;
            }
        }
    }

    /// Whether a story is through without success.
    fn is_in_vain(&self, key: Key) -> bool {
        matches!(&self.story(key).stage, Stage::Done(outcome) if !outcome.is_success())
    }

    fn next_place(&self) -> Place {
        let places = self.stories.iter().map(|tracked| tracked.place);
        places.max().unwrap_or_default()
    }

    fn add(&mut self, planned: &PlannedStory, place: Place) -> Key {
        let key = Key(u32::try_from(self.stories.len()).unwrap_or(u32::MAX));
        let provider = self.line_of(planned.provider.as_ref());
        self.keys.insert(planned.id.clone(), key);
        self.stories.push(Tracked {
            id: planned.id.clone(),
            place,
            next_attempt: planned.next_attempt,
            missing: BTreeSet::new(),
            dependents: Vec::new(),
            provider,
            files: planned.files.clone(),
            tries: Tries::default(),
            last_end: None,
            used_before: Usage::default(),
            account: Account::default(),
            warned: BTreeSet::new(),
            board: OnBoard::AsBefore,
            stage: Stage::Waiting,
            scheduled: None,
            queued_at: None,
            turn: Turn::MayBePutOff,
            comeback: Comeback::NotYet,
            fingerprint: planned.fingerprint,
            resources: planned.resources,
            remains: Remains::Nothing,
        });
        self.unsettled += 1;
        key
    }

    /// A story that is through is selected once more.
    fn readmit(&mut self, key: Key, planned: &PlannedStory, place: Place) {
        self.change(key, planned, place);
        let tracked = self.story_mut(key);
        tracked.tries = Tries::default();
        tracked.last_end = None;
        tracked.used_before = Usage::default();
        tracked.account = Account::default();
        tracked.warned.clear();
        tracked.stage = Stage::Waiting;
        tracked.comeback = Comeback::NotYet;
        // While it was not ready it has not waited.
        tracked.queued_at = None;
        self.unsettled += 1;
    }

    fn change(&mut self, key: Key, planned: &PlannedStory, place: Place) {
        let provider = self.line_of(planned.provider.as_ref());
        let tracked = self.story_mut(key);
        tracked.place = place;
        tracked.provider = provider;
        tracked.files.clone_from(&planned.files);
        tracked.fingerprint = planned.fingerprint;
        tracked.resources = planned.resources;
        tracked.next_attempt = tracked.next_attempt.max(planned.next_attempt);
        tracked.missing.clear();
    }

    /// Takes a story that waits out of everything in which it is known by its dependencies, its files or its place.
    fn take_back(&mut self, key: Key) {
        self.dequeue(key);
        self.forget_order(key);
        let tracked = self.story_mut(key);
        let files = std::mem::take(&mut tracked.files);
        let missing = std::mem::take(&mut tracked.missing);
        for dependency in missing {
            self.story_mut(dependency)
                .dependents
                .retain(|dependent| *dependent != key);
        }
        self.contention.forget(key, &files);
    }

    /// Puts a story into its place. Gives the dependency by which it can never start, if there is one.
    fn connect(&mut self, key: Key, planned: &PlannedStory) -> Option<Key> {
        let mut missing = BTreeSet::new();
        let mut hopeless = None;
        let dependencies = planned.dependencies.iter();
        let dependencies: Vec<Key> = dependencies.filter_map(|id| self.key(id)).collect();
        for dependency in dependencies {
            match &self.story(dependency).stage {
                Stage::Done(outcome) if outcome.is_success() => {}
                Stage::Done(_) => hopeless = Some(dependency),
                _ => {
                    if missing.insert(dependency) {
                        self.story_mut(dependency).dependents.push(key);
                    }
                }
            }
        }
        let files = self.story(key).files.clone();
        self.contention.register(key, &files);
        let tracked = self.story_mut(key);
        tracked.missing = missing;
        let free = tracked.missing.is_empty() && hopeless.is_none();
        self.track_order(key);
        if free {
            self.enqueue(key);
        }
        hopeless
    }

    /// Stories of which something is still to be written down or compared. None of them comes back before, so that an
    /// answer never means two ends of one story.
    fn awaited(&self) -> BTreeSet<Key> {
        let mut awaited: BTreeSet<Key> = self.unwritten.iter().map(|(key, _)| *key).collect();
        if !fault::is(Fault::ComesBackUncompared) {
            awaited.extend(&self.comparing);
        }
        awaited
    }

    /// Something of a story is written down or compared. When that was the last of its end, the board says how it is,
    /// and whoever has asked for it again meanwhile is heard now.
    pub(super) fn look_at_board(&self, key: Key, effects: &mut Effects) {
        let through = matches!(self.story(key).stage, Stage::Done(_));
        let nothing_awaited = !self.awaited().contains(&key) && !fault::is(Fault::BoardNotLookedAt);
        if through && self.expects_stories() && nothing_awaited {
            effects.push(Effect::LookAtBoard);
        }
    }

    /// Stories that are through and not ready any more may come back: somebody makes them ready again then.
    fn allow_comebacks(&mut self, ready: &HashSet<StoryId>) {
        let awaited = self.awaited();
        for (key, tracked) in (0_u32..).map(Key).zip(&mut self.stories) {
            let through = matches!(tracked.stage, Stage::Done(_)) && !awaited.contains(&key);
            if through && !ready.contains(&tracked.id) {
                tracked.comeback = Comeback::Allowed;
            }
        }
    }

    /// The stories that wait for their first attempt.
    fn unbegun(&self) -> Vec<Key> {
        let mut waiting = self.waiting();
        waiting.retain(|key| self.story(*key).board == OnBoard::AsBefore);
        waiting
    }

    /// The board has changed while the run waits for further stories.
    pub(super) fn replan(&mut self, plan: Vec<PlannedStory>, effects: &mut Effects) {
        if self.stop != Stop::No || self.gate_is_closed() {
            return;
        }
        let ready: HashSet<StoryId> = plan.iter().map(|planned| planned.id.clone()).collect();
        let (kept, withdrawn): (Vec<Key>, Vec<Key>) = self
            .unbegun()
            .into_iter()
            .partition(|key| ready.contains(&self.story(*key).id));
        // What they depend on is said anew, so that nothing that is withdrawn takes them with it.
        for key in kept {
            self.take_back(key);
        }
        for key in withdrawn {
            self.conclude(key, None, Outcome::Skipped(Skip::Withdrawn), effects);
        }
        self.allow_comebacks(&ready);
        let coming_back = self.coming_back(&plan);
        let Admitted { joined, hopeless } = self.admit(plan, &coming_back);
        if !joined.is_empty() {
            effects.tell(Notice::Joined(joined));
        }
        for (key, dependency) in hopeless {
            let dependency = self.story(dependency).id.clone();
            let skipped = Outcome::Skipped(Skip::Dependency(dependency));
            self.conclude(key, None, skipped, effects);
        }
        self.give_up_refused(effects);
    }
}
