//! Who joins the run: at its beginning, and later on when it waits for further stories.

use std::collections::{BTreeSet, HashSet};

use super::queue::{Place, Turn};
use super::{Comeback, Engine, Key, OnBoard, Remains, Stage, Stop, Tracked};
use crate::engine::effect::{Effects, Notice};
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
    /// Takes stories into the run, behind those that are there.
    pub(super) fn admit(&mut self, plan: Vec<PlannedStory>) -> Admitted {
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
                    // A story that crashed for good is ready again on the board. To take it for new would be to retry
                    // it for ever.
                    Stage::Done(_) if !self.may_come_back(key) => {}
                    Stage::Done(_) => {
                        joined.push(planned.id.clone());
                        self.readmit(key, &planned, place);
                        fresh.push((key, planned));
                    }
                    Stage::Waiting if self.story(key).board == OnBoard::AsBefore => {
                        self.take_back(key);
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

    fn may_come_back(&self, key: Key) -> bool {
        let tracked = self.story(key);
        let alone = tracked.remains == Remains::Nothing || fault::is(Fault::UnendableComesBack);
        tracked.comeback == Comeback::Allowed && alone
    }

    fn next_place(&self) -> Place {
        let places = self.stories.iter().map(|tracked| tracked.place);
        places.max().unwrap_or_default()
    }

    fn add(&mut self, planned: &PlannedStory, place: Place) -> Key {
        let key = Key(u32::try_from(self.stories.len()).unwrap_or(u32::MAX));
        let provider = self.queue.provider(planned.provider.as_ref());
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
            board: OnBoard::AsBefore,
            stage: Stage::Waiting,
            scheduled: None,
            queued_at: None,
            turn: Turn::MayBePutOff,
            comeback: Comeback::NotYet,
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
        tracked.stage = Stage::Waiting;
        tracked.comeback = Comeback::NotYet;
        self.unsettled += 1;
    }

    fn change(&mut self, key: Key, planned: &PlannedStory, place: Place) {
        let provider = self.queue.provider(planned.provider.as_ref());
        let tracked = self.story_mut(key);
        tracked.place = place;
        tracked.provider = provider;
        tracked.files.clone_from(&planned.files);
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

    /// Stories that are through and not ready any more may come back: somebody makes them ready again then. Not before
    /// what they have left is written down and compared, so that an answer never means two ends of one story.
    fn allow_comebacks(&mut self, ready: &HashSet<StoryId>) {
        let mut awaited: HashSet<Key> = self.unwritten.iter().map(|(key, _)| *key).collect();
        if !fault::is(Fault::ComesBackUncompared) {
            awaited.extend(&self.comparing);
        }
        for (key, tracked) in (0_u32..).map(Key).zip(&mut self.stories) {
            let through = matches!(tracked.stage, Stage::Done(_)) && !awaited.contains(&key);
            if through && !ready.contains(&tracked.id) {
                tracked.comeback = Comeback::Allowed;
            }
        }
    }

    /// The board has changed while the run waits for further stories.
    pub(super) fn replan(&mut self, plan: Vec<PlannedStory>, effects: &mut Effects) {
        if self.stop != Stop::No || self.gate_is_closed() {
            return;
        }
        let ready: HashSet<StoryId> = plan.iter().map(|planned| planned.id.clone()).collect();
        self.allow_comebacks(&ready);
        let withdrawn: Vec<Key> = self
            .waiting()
            .into_iter()
            .filter(|key| {
                let tracked = self.story(*key);
                tracked.board == OnBoard::AsBefore && !ready.contains(&tracked.id)
            })
            .collect();
        let Admitted { joined, hopeless } = self.admit(plan);
        if !joined.is_empty() {
            effects.tell(Notice::Joined(joined));
        }
        for (key, dependency) in hopeless {
            let dependency = self.story(dependency).id.clone();
            let skipped = Outcome::Skipped(Skip::Dependency(dependency));
            self.conclude(key, None, skipped, effects);
        }
        for key in withdrawn {
            self.conclude(key, None, Outcome::Skipped(Skip::Withdrawn), effects);
        }
    }
}
