//! The invariants of the engine, checked after every step of random schedules: random plans, a world that answers in
//! any order with any answer, late and doubled events, and stops at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::effect::Effect;
use super::event::{BoardWrite, Event, Settlement, StopSignal, Unit};
use super::id::AttemptNumber;
use super::lifecycle::{Deadlines, Retention};
use super::outcome::{Claim, Exit, Outcome};
use super::plan::PlannedStory;
use super::scheduler::{Engine, Settings, Verdict};
use super::time::Moment;
use crate::story::StoryId;

/// What the world still owes the engine for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Preparation,
    Connection,
    Result,
    Exit,
    Settlement,
}

struct World {
    engine: Engine,
    slots: usize,
    now: u64,
    dependencies: BTreeMap<StoryId, Vec<StoryId>>,
    owed: BTreeMap<Unit, Owed>,
    alive: BTreeSet<Unit>,
    board: Vec<StoryId>,
    started: BTreeSet<StoryId>,
    attempts: BTreeSet<Unit>,
    reported: BTreeMap<StoryId, Outcome>,
    history: Vec<Event>,
    stops: usize,
    left: bool,
    finished: bool,
}

fn story(index: usize) -> StoryId {
    StoryId::from_number(index as u64 + 1)
}

impl World {
    fn new(slots: usize, dependencies: &[Vec<usize>]) -> Self {
        let plan: Vec<PlannedStory> = dependencies
            .iter()
            .enumerate()
            .map(|(index, needs)| PlannedStory {
                id: story(index),
                dependencies: needs.iter().map(|need| story(*need)).collect(),
                next_attempt: AttemptNumber::FIRST,
            })
            .collect();
        let settings = Settings {
            slots: NonZeroUsize::new(slots).unwrap(),
            deadlines: Deadlines::default(),
            retention: Retention::RemoveSucceeded,
        };
        Self {
            slots,
            now: 0,
            dependencies: plan
                .iter()
                .map(|planned| (planned.id.clone(), planned.dependencies.clone()))
                .collect(),
            engine: Engine::new(settings, plan),
            owed: BTreeMap::new(),
            alive: BTreeSet::new(),
            board: Vec::new(),
            started: BTreeSet::new(),
            attempts: BTreeSet::new(),
            reported: BTreeMap::new(),
            history: Vec::new(),
            stops: 0,
            left: false,
            finished: false,
        }
    }

    fn tell(&mut self, event: Event) {
        self.history.push(event.clone());
        let effects = self.engine.step(event, Moment::from_millis(self.now));
        for effect in effects {
            self.perform(effect);
        }
        self.check();
    }

    fn perform(&mut self, effect: Effect) {
        assert!(!self.finished, "{effect:?} after the end");
        match effect {
            Effect::Prepare(unit) => {
                assert_eq!(self.stops, 0, "{unit:?} prepared after a stop");
                for need in &self.dependencies[&unit.story] {
                    let outcome = self.reported.get(need);
                    assert_eq!(outcome, Some(&Outcome::Succeeded), "{unit:?} needs {need}");
                }
                assert!(self.attempts.insert(unit.clone()), "{unit:?} used twice");
                self.started.insert(unit.story.clone());
                self.owed.insert(unit, Owed::Preparation);
            }
            Effect::Launch(unit) => {
                assert_eq!(self.stops, 0, "{unit:?} launched after a stop");
                self.alive.insert(unit.clone());
                self.owed.insert(unit, Owed::Connection);
            }
            Effect::AskToStop { unit, .. } => {
                assert!(self.alive.contains(&unit), "{unit:?} is not alive");
                self.owed.insert(unit, Owed::Exit);
            }
            Effect::Kill(unit) => assert!(self.alive.contains(&unit), "{unit:?} is not alive"),
            Effect::AbandonPreparation(unit) => {
                assert_eq!(self.owed.get(&unit), Some(&Owed::Preparation));
            }
            Effect::Settle { unit, .. } => {
                // A process that survives SIGKILL is given up; it is not ours to count any more.
                self.alive.remove(&unit);
                self.owed.insert(unit, Owed::Settlement);
            }
            Effect::WriteBoard(story, _) => self.board.push(story),
            Effect::Report { story, outcome, .. } => {
                let earlier = self.reported.insert(story.clone(), outcome);
                assert_eq!(earlier, None, "{story} reported twice");
            }
            Effect::ReportStopping { .. } => assert_eq!(self.stops, 1),
            Effect::ReportLeaving { .. } => self.left = true,
            Effect::Finish => self.finished = true,
        }
    }

    fn check(&self) {
        assert!(self.alive.len() <= self.slots, "too many: {:?}", self.alive);
        if self.stops == 0 && self.engine.occupied_slots() < self.slots {
            let startable = self.dependencies.iter().find(|(id, needs)| {
                let met = |need| self.reported.get(need) == Some(&Outcome::Succeeded);
                !self.started.contains(*id) && needs.iter().all(met)
            });
            assert_eq!(startable, None, "a slot is free and a story could start");
        }
        // A third request to stop, or a stop that takes too long, ends the run as it is.
        if self.finished {
            assert_eq!(self.reported.len(), self.dependencies.len());
        }
        if self.finished && !self.left {
            assert!(self.alive.is_empty() && self.owed.is_empty() && self.board.is_empty());
        }
        assert_eq!(self.finished, self.engine.is_finished());
    }

    /// One answer of the world, picked by `choice` among all that are owed, and varied by `detail`.
    fn answer(&mut self, choice: usize, detail: usize) {
        let owed: Vec<(Unit, Owed)> = self.owed.iter().map(|(u, o)| (u.clone(), *o)).collect();
        let total = owed.len() + usize::from(!self.board.is_empty());
        if total == 0 {
            return;
        }
        let picked = choice % total;
        let Some((unit, owed)) = owed.get(picked).cloned() else {
            let written =
                [BoardWrite::Written, BoardWrite::Failed][usize::from(detail % 7 == 6)].clone();
            let story = self.board.remove(0);
            self.tell(Event::BoardWritten(story, written));
            return;
        };
        let reason = || "because".to_owned();
        let exit = [Exit::Code(0), Exit::Code(1), Exit::Signal(9), Exit::Unknown][detail % 4];
        let event = match owed {
            Owed::Preparation if detail % 5 == 4 => {
                self.owed.remove(&unit);
                Event::PrepareFailed(unit, reason())
            }
            Owed::Preparation => {
                self.owed.remove(&unit);
                Event::Prepared(unit)
            }
            Owed::Connection if detail % 9 == 7 => {
                self.owed.remove(&unit);
                self.alive.remove(&unit);
                Event::LaunchFailed(unit, reason())
            }
            Owed::Connection if detail % 9 != 8 => {
                self.owed.insert(unit.clone(), Owed::Result);
                Event::Connected(unit)
            }
            Owed::Result if detail % 9 == 6 => {
                self.owed.insert(unit.clone(), Owed::Exit);
                Event::Disconnected(unit)
            }
            Owed::Result if detail % 9 == 7 => Event::ProtocolViolated(unit, reason()),
            Owed::Result if detail % 9 != 8 => {
                self.owed.insert(unit.clone(), Owed::Exit);
                let claims = [
                    Claim::Succeeded,
                    Claim::Succeeded,
                    Claim::Failed { reason: reason() },
                    Claim::Blocked { reason: reason() },
                    Claim::Crashed { reason: reason() },
                    Claim::Cancelled,
                ];
                Event::Claimed(unit, claims[detail % 9].clone())
            }
            Owed::Settlement => {
                self.owed.remove(&unit);
                let refuted = Settlement::Refuted(reason());
                Event::Settled(
                    unit,
                    [Settlement::Confirmed, refuted][usize::from(detail % 7 == 6)].clone(),
                )
            }
            Owed::Connection | Owed::Result | Owed::Exit => {
                self.owed.remove(&unit);
                self.alive.remove(&unit);
                Event::Exited(unit, exit)
            }
        };
        self.tell(event);
    }

    fn play(&mut self, (kind, choice, detail): (u8, usize, usize)) {
        match kind {
            0 if !self.history.is_empty() => {
                // Something that was told before arrives once more. Exits and board results come from the system, once
                // each; a second request to stop is a request of its own.
                let old = self.history[choice % self.history.len()].clone();
                let once = matches!(
                    old,
                    Event::Exited(..) | Event::BoardWritten(..) | Event::StopRequested(_)
                ) || self.is_current(&old);
                if !once {
                    self.tell(old);
                }
            }
            1 => {
                self.now += (detail as u64 % 50) * 1000;
                self.tell(Event::TimePassed);
            }
            2 if choice % 8 == 0 => self.request_stop(),
            _ => self.answer(choice, detail),
        }
    }

    fn request_stop(&mut self) {
        // A run that is over cannot be stopped any more.
        self.stops += usize::from(!self.finished);
        self.tell(Event::StopRequested(StopSignal::Interrupt));
    }

    /// Whether a doubled event would be taken for a first one, because the world owes that very event now.
    fn is_current(&self, event: &Event) -> bool {
        match event {
            Event::Prepared(unit)
            | Event::PrepareFailed(unit, _)
            | Event::LaunchFailed(unit, _)
            | Event::Claimed(unit, _)
            | Event::Disconnected(unit)
            | Event::ProtocolViolated(unit, _)
            | Event::Connected(unit)
            | Event::Settled(unit, _) => self.owed.contains_key(unit),
            _ => false,
        }
    }

    /// The world answers everything that it owes until the run is over.
    fn run_out(&mut self) {
        for round in 0..10_000 {
            if self.finished {
                return;
            }
            self.answer(round, 0);
        }
        panic!("the run does not end: {:?}", self.engine);
    }

    /// Nothing answers but the clock.
    fn time_out(&mut self) {
        for _ in 0..self.dependencies.len() * 4 + 4 {
            let Some(deadline) = self.engine.next_deadline() else {
                return;
            };
            self.now = self.now.max(deadline.as_millis());
            self.tell(Event::TimePassed);
        }
    }
}

/// Up to 12 stories, each depending on some of those before it.
fn plans() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        0..12,
    )
    .prop_map(|stories| {
        let mut plan = Vec::new();
        for (index, needs) in stories.into_iter().enumerate() {
            let mut set: BTreeSet<usize> = BTreeSet::new();
            if index > 0 {
                set.extend(needs.into_iter().map(|need| need.index(index)));
            }
            plan.push(set.into_iter().collect());
        }
        plan
    })
}

proptest! {
    #[test]
    fn the_invariants_hold_under_any_schedule(
        slots in 1_usize..5,
        plan in plans(),
        schedule in prop::collection::vec((0_u8..12, any::<usize>(), any::<usize>()), 0..120),
    ) {
        let mut world = World::new(slots, &plan);
        world.tell(Event::Began);
        for turn in schedule {
            world.play(turn);
        }
        world.run_out();
        let clean = world.stops == 0 && world.reported.values().all(Outcome::is_success);
        match world.engine.verdict() {
            Verdict::AllSucceeded => prop_assert!(clean),
            Verdict::SomeDidNot => prop_assert_eq!(world.stops, 0),
            Verdict::Interrupted(_) => prop_assert!(world.stops > 0),
            // A process outlived its SIGKILL, or a stop took too long.
            Verdict::DeadlineHit => prop_assert!(!clean),
        }
    }

    #[test]
    fn a_stop_ends_every_process_by_the_clock_alone(
        slots in 1_usize..5,
        plan in plans(),
        schedule in prop::collection::vec((3_u8..12, any::<usize>(), any::<usize>()), 0..60),
    ) {
        let mut world = World::new(slots, &plan);
        world.tell(Event::Began);
        for turn in schedule {
            world.play(turn);
        }
        let asked_at = world.now;
        world.request_stop();
        world.time_out();
        prop_assert!(world.alive.is_empty(), "still alive: {:?}", world.alive);
        prop_assert!(world.finished, "not over: {:?}", world.engine);
        let rules = Deadlines::default();
        let longest = rules.longest_stop(rules.grace);
        prop_assert!(u128::from(world.now - asked_at) <= longest.as_millis());
    }

    #[test]
    fn a_world_in_which_all_goes_well_ends_with_success(slots in 1_usize..5, plan in plans()) {
        let mut world = World::new(slots, &plan);
        world.tell(Event::Began);
        world.run_out();
        prop_assert_eq!(world.engine.verdict(), Verdict::AllSucceeded);
    }
}

#[test]
fn a_process_that_outlives_its_sigkill_is_given_up_and_the_verdict_says_so() {
    let mut world = World::new(1, &[vec![], vec![]]);
    world.tell(Event::Began);
    let unit = world.owed.keys().next().unwrap().clone();
    world.owed.remove(&unit);
    world.tell(Event::Prepared(unit));
    // It never connects, is asked to end, is killed, and stays.
    world.time_out();
    world.run_out();
    assert_eq!(world.reported[&story(1)], Outcome::Succeeded);
    assert_eq!(world.engine.verdict(), Verdict::DeadlineHit);
}
