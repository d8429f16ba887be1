//! The invariants of the engine under schedules that shrink: whatever a run is told, in whatever order, they hold after
//! every step. `tests/sim` plays whole worlds; this finds the shortest way to a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::effect::{Effect, Notice};
use super::event::{
    BoardWrite, Comparison, Event, Provider, Restart, Settlement, StopSignal, Unit,
};
use super::health::Vitals;
use super::id::AttemptNumber;
use super::outcome::{Claim, Exit, Outcome};
use super::plan::{Fingerprint, PlannedStory};
use super::resources::Resources;
use super::scheduler::{Engine, Verdict};
use super::settings::Settings;
use super::time::Moment;
use crate::story::StoryId;

/// The providers of every first and second of three stories.
const PROVIDERS: [&str; 2] = ["a", "b"];

/// How many slots there are, and how many attempts of each provider may be alive at once.
fn rooms() -> impl Strategy<Value = (usize, [usize; 2])> {
    (1_usize..5, [1_usize..5, 1_usize..5])
}

/// One step of a schedule. Which attempt it is about is picked among those that are under way.
#[derive(Debug, Clone)]
enum Turn {
    Prepared(usize),
    PrepareFails(usize),
    LaunchFails(usize),
    Connects(usize),
    Answers(usize),
    Claims(usize, Claim),
    HangsUp(usize),
    BreaksTheProtocol(usize),
    Exits(usize, i32),
    IsKilled(usize),
    Settles(usize),
    IsRefuted(usize),
    /// Everything that was asked of the board and of git is done.
    Catches,
    SecondsPass(u64),
    Stop,
    Killed,
}

fn turns() -> impl Strategy<Value = Turn> {
    let pick = || any::<prop::sample::Index>().prop_map(|index| index.index(64));
    let claim = prop_oneof![
        4 => Just(Claim::Succeeded),
        1 => Just(Claim::Failed { reason: "no".to_owned() }),
        1 => Just(Claim::Crashed { reason: "no".to_owned() }),
        1 => Just(Claim::QuotaExhausted { until: None, reason: "no".to_owned() }),
        1 => Just(Claim::ProviderRefused { reason: "no".to_owned() }),
        1 => Just(Claim::Exceeded { reason: "no".to_owned() }),
        1 => Just(Claim::Cancelled),
    ];
    prop_oneof![
        6 => pick().prop_map(Turn::Prepared),
        1 => pick().prop_map(Turn::PrepareFails),
        1 => pick().prop_map(Turn::LaunchFails),
        6 => pick().prop_map(Turn::Connects),
        1 => pick().prop_map(Turn::Answers),
        5 => (pick(), claim).prop_map(|(pick, claim)| Turn::Claims(pick, claim)),
        1 => pick().prop_map(Turn::HangsUp),
        1 => pick().prop_map(Turn::BreaksTheProtocol),
        5 => (pick(), prop_oneof![4 => Just(0), 1 => Just(1)]).prop_map(|(pick, code)| Turn::Exits(pick, code)),
        1 => pick().prop_map(Turn::IsKilled),
        5 => pick().prop_map(Turn::Settles),
        1 => pick().prop_map(Turn::IsRefuted),
        4 => Just(Turn::Catches),
        3 => (0_u64..400).prop_map(Turn::SecondsPass),
        1 => Just(Turn::Stop),
        1 => Just(Turn::Killed),
    ]
}

/// Up to 8 stories, each depending on some of those before it.
fn plans() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let needs = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    prop::collection::vec(needs, 1..8).prop_map(|stories| {
        let numbered = stories.into_iter().enumerate();
        numbered
            .map(|(index, needs)| {
                let needs = needs.into_iter().filter(|_| index > 0);
                let set: BTreeSet<usize> = needs.map(|need| need.index(index)).collect();
                set.into_iter().collect()
            })
            .collect()
    })
}

fn story(index: usize) -> StoryId {
    StoryId::from_number(index as u64 + 1)
}

struct World {
    engine: Engine,
    settings: Settings,
    plan: Vec<PlannedStory>,
    journal: Vec<(Event, Moment)>,
    now: u64,
    holders: BTreeSet<Unit>,
    settling: BTreeSet<Unit>,
    alive: BTreeSet<Unit>,
    used: BTreeSet<Unit>,
    ended: BTreeMap<StoryId, Outcome>,
    owed: Vec<Event>,
    stops: usize,
    left: bool,
    finished: bool,
}

impl World {
    fn new((slots, most): (usize, [usize; 2]), dependencies: &[Vec<usize>]) -> Self {
        let plan: Vec<PlannedStory> = dependencies
            .iter()
            .enumerate()
            .map(|(index, needs)| PlannedStory {
                id: story(index),
                dependencies: needs.iter().map(|need| story(*need)).collect(),
                next_attempt: AttemptNumber::FIRST,
                // Two that have limits, and one story after the other without one.
                provider: PROVIDERS
                    .get(index % 3)
                    .map(|name| Provider::from((*name).to_owned())),
                files: Vec::new(),
                fingerprint: Fingerprint::default(),
                resources: Resources::default(),
            })
            .collect();
        let mut settings = Settings::new(NonZeroUsize::new(slots).unwrap());
        for (name, most) in PROVIDERS.iter().zip(most) {
            let name = Provider::from((*name).to_owned());
            let most = NonZeroUsize::new(most).unwrap();
            settings.most_of_provider.insert(name, most);
        }
        let mut world = Self {
            engine: Engine::new(settings.clone(), plan.clone()),
            settings,
            plan,
            journal: Vec::new(),
            now: 0,
            holders: BTreeSet::new(),
            settling: BTreeSet::new(),
            alive: BTreeSet::new(),
            used: BTreeSet::new(),
            ended: BTreeMap::new(),
            owed: Vec::new(),
            stops: 0,
            left: false,
            finished: false,
        };
        world.tell(Event::Began);
        world
    }

    fn tell(&mut self, event: Event) {
        let now = Moment::from_millis(self.now);
        self.journal.push((event.clone(), now));
        for effect in self.engine.step(event, now) {
            self.perform(effect);
        }
        assert!(
            self.holders.len() <= self.settings.slots.get(),
            "too many: {:?}",
            self.holders
        );
        for (name, most) in &self.settings.most_of_provider {
            let of = |unit: &&Unit| self.engine.provider_of(&unit.story) == Some(name);
            let alive = self.holders.iter().filter(of).count();
            assert!(
                alive <= most.get(),
                "too many of {name:?}: {:?}",
                self.holders
            );
        }
        assert_eq!(self.finished, self.engine.is_finished());
    }

    fn perform(&mut self, effect: Effect) {
        assert!(!self.finished, "{effect:?} after the end");
        match effect {
            Effect::Prepare(unit) => {
                assert_eq!(self.stops, 0, "{unit:?} is prepared after a stop");
                let planned = self
                    .plan
                    .iter()
                    .find(|planned| planned.id == unit.story)
                    .unwrap();
                for need in &planned.dependencies {
                    assert_eq!(
                        self.ended.get(need),
                        Some(&Outcome::Succeeded),
                        "{unit:?} needs {need}"
                    );
                }
                let others = self.holders.iter().chain(&self.settling);
                assert!(
                    others.into_iter().all(|other| other.story != unit.story),
                    "{unit:?} is a second attempt"
                );
                assert!(self.used.insert(unit.clone()), "{unit:?} is used twice");
                self.holders.insert(unit);
            }
            Effect::Launch(unit) => {
                assert_eq!(self.stops, 0, "{unit:?} is launched after a stop");
                self.alive.insert(unit);
            }
            Effect::AskToStop { unit, .. } | Effect::Kill(unit) => {
                assert!(self.alive.contains(&unit), "{unit:?} is not alive");
            }
            Effect::Settle { unit, .. } => {
                self.holders.remove(&unit);
                self.alive.remove(&unit);
                self.settling.insert(unit);
            }
            Effect::WriteBoard(story, _) => self
                .owed
                .push(Event::BoardWritten(story, BoardWrite::Written)),
            Effect::Compare(story) => self
                .owed
                .push(Event::Compared(story, Comparison::Compared(Vec::new()))),
            Effect::Tell(Notice::StoryEnded {
                story,
                outcome,
                unit,
            }) => {
                if let Some(unit) = unit {
                    self.settling.remove(&unit);
                }
                let twice = self.ended.insert(story.clone(), outcome);
                assert_eq!(twice, None, "{story} ends twice");
            }
            Effect::Tell(Notice::Retrying { unit, .. }) => drop(self.settling.remove(&unit)),
            Effect::Tell(Notice::Leaving { .. }) => self.left = true,
            Effect::Finish => {
                self.finished = true;
                assert_eq!(self.ended.len(), self.plan.len());
                assert!(
                    self.left || self.alive.is_empty(),
                    "{:?} outlive the run",
                    self.alive
                );
            }
            _ => {}
        }
    }

    fn play(&mut self, turn: Turn) {
        let held = |pick: usize| {
            self.holders
                .iter()
                .nth(pick % self.holders.len().max(1))
                .cloned()
        };
        let settling = |pick: usize| {
            self.settling
                .iter()
                .nth(pick % self.settling.len().max(1))
                .cloned()
        };
        let reason = || "because".to_owned();
        let event = match turn {
            Turn::Prepared(pick) => held(pick).map(Event::Prepared),
            Turn::PrepareFails(pick) => held(pick).map(|unit| match pick % 3 {
                0 => Event::PrepareBlocked(unit, reason()),
                _ => Event::PrepareFailed(unit, reason()),
            }),
            Turn::LaunchFails(pick) => held(pick)
                .filter(|unit| self.alive.contains(unit))
                .map(|unit| Event::LaunchFailed(unit, reason())),
            Turn::Connects(pick) => held(pick).map(Event::Connected),
            Turn::Answers(pick) => {
                held(pick).map(|unit| Event::Answered(unit, Vitals::new(0, None)))
            }
            Turn::Claims(pick, claim) => held(pick).map(|unit| Event::Claimed(unit, claim)),
            Turn::HangsUp(pick) => held(pick).map(Event::Disconnected),
            Turn::BreaksTheProtocol(pick) => {
                held(pick).map(|unit| Event::ProtocolViolated(unit, reason()))
            }
            Turn::Exits(pick, code) => held(pick).map(|unit| Event::Exited(unit, Exit::Code(code))),
            Turn::IsKilled(pick) => held(pick).map(|unit| Event::Exited(unit, Exit::Signal(9))),
            Turn::Settles(pick) => {
                settling(pick).map(|unit| Event::Settled(unit, Settlement::Confirmed))
            }
            Turn::IsRefuted(pick) => {
                settling(pick).map(|unit| Event::Settled(unit, Settlement::Refuted(reason())))
            }
            Turn::Catches => return self.catch_up(),
            Turn::SecondsPass(seconds) => {
                self.now += seconds * 1000;
                Some(Event::TimePassed)
            }
            Turn::Stop => {
                self.stops += usize::from(!self.finished);
                Some(Event::StopRequested(StopSignal::Interrupt))
            }
            Turn::Killed => return self.kill(),
        };
        if let Some(event) = event {
            self.tell(event);
        }
    }

    fn catch_up(&mut self) {
        for event in std::mem::take(&mut self.owed) {
            self.tell(event);
        }
    }

    /// The orchestrator is killed, and goes on from its journal.
    fn kill(&mut self) {
        self.engine = self.fold();
        self.holders.clear();
        self.alive.clear();
        self.owed.clear();
        self.tell(Event::Resumed(Restart::default()));
    }

    fn fold(&self) -> Engine {
        let mut engine = Engine::new(self.settings.clone(), self.plan.clone());
        for (event, now) in &self.journal {
            // As it would come from the disk.
            let text = serde_json::to_string(event).unwrap();
            drop(engine.step(serde_json::from_str(&text).unwrap(), *now));
        }
        assert_eq!(engine, self.engine);
        engine
    }

    /// Nothing answers any more but the clock.
    fn time_out(&mut self) {
        for _ in 0..1000 {
            let Some(deadline) = self.engine.next_deadline() else {
                return;
            };
            self.now = self.now.max(deadline.as_millis());
            self.tell(Event::TimePassed);
        }
        panic!("the clock alone does not end it");
    }
}

proptest! {
    #[test]
    fn the_invariants_hold_under_any_schedule(
        slots in rooms(),
        plan in plans(),
        schedule in prop::collection::vec(turns(), 0..120),
    ) {
        let mut world = World::new(slots, &plan);
        for turn in schedule {
            world.play(turn);
        }
        drop(world.fold());
    }

    #[test]
    fn a_stop_ends_everything_by_the_clock_alone(
        slots in rooms(),
        plan in plans(),
        schedule in prop::collection::vec(turns(), 0..60),
    ) {
        let mut world = World::new(slots, &plan);
        for turn in schedule {
            world.play(turn);
        }
        let asked_at = world.now;
        let first = world.stops == 0;
        world.play(Turn::Stop);
        world.time_out();
        prop_assert!(world.finished, "not over: {:?}", world.engine.view());
        let deadlines = world.settings.deadlines;
        let longest = deadlines.longest_stop(deadlines.grace).as_millis();
        prop_assert!(!first || u128::from(world.now - asked_at) <= longest);
    }

    #[test]
    fn a_world_in_which_all_goes_well_ends_with_success(slots in rooms(), plan in plans()) {
        let mut world = World::new(slots, &plan);
        for _ in 0..plan.len() * 4 {
            let units: Vec<Unit> = world.holders.iter().cloned().collect();
            for unit in units {
                world.tell(Event::Prepared(unit.clone()));
                world.tell(Event::Connected(unit.clone()));
                world.tell(Event::Claimed(unit.clone(), Claim::Succeeded));
                world.tell(Event::Exited(unit.clone(), Exit::Code(0)));
                world.tell(Event::Settled(unit, Settlement::Confirmed));
            }
            world.catch_up();
        }
        prop_assert!(world.finished);
        prop_assert_eq!(world.engine.verdict(), Verdict::AllSucceeded);
    }
}
