//! The world around the engine: executors, sockets, git, disks, the board, providers and a person, on a virtual clock.

mod hands;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use ai_sdlc::engine::{
    BoardEntry, BoardWrite, Claim, Effect, Engine, Event, Exit, Fingerprint, Moment, OutcomeKind,
    PlannedStory, Restart, StopSignal, Unit, WhenIdle,
};
use ai_sdlc::story::StoryId;

use crate::ledger::Ledger;
use crate::rng::Rng;
use crate::scenario::{Scenario, Temper};

/// The most steps of a run before it counts as one that never ends.
const MOST_STEPS: usize = 100_000;

/// After how many steps what can be seen of the run is compared with what has happened.
const VIEWED: u64 = 32;

/// Something that is going to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Happening {
    Tell(Event),
    /// A process ends.
    Exit(Unit, Exit),
    BoardWritten(StoryId, BoardEntry, BoardWrite),
    Stop(StopSignal),
    /// A person changes the board.
    Replan(usize),
    /// The board is looked at as it is.
    Look,
}

pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    engine: Engine,
    now: u64,
    sequence: u64,
    /// What happens when, with the generation of the attempt that it belongs to.
    agenda: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<(Happening, u32)>>,
    generations: BTreeMap<Unit, u32>,
    /// How many thirds of the later stories are on the board.
    part: usize,
    /// How often people have changed what stories say.
    edits: BTreeMap<StoryId, u64>,
    slow: BTreeSet<Unit>,
    preparing: BTreeSet<Unit>,
    /// How the executors of attempts end whose agents have not begun their last turn.
    plans: BTreeMap<Unit, (Option<Claim>, Exit)>,
    journal: Vec<(Event, u64)>,
    told: Vec<Event>,
    written: BTreeMap<StoryId, BoardEntry>,
    board_failed: bool,
    pub(crate) ledger: Ledger,
    pub(crate) steps: u64,
    kills: Vec<usize>,
    trace: Option<Vec<String>>,
}

/// What came of a run.
pub(crate) struct Done {
    pub(crate) steps: u64,
    pub(crate) events: usize,
    pub(crate) violation: Option<String>,
    pub(crate) seen: BTreeMap<&'static str, u64>,
    pub(crate) outcomes: BTreeMap<StoryId, OutcomeKind>,
    pub(crate) trace: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracing {
    Off,
    On,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, rng: Rng, tracing: Tracing) -> Self {
        let mut kills = scenario.kills.clone();
        kills.sort_unstable_by(|one, other| other.cmp(one));
        let mut world = Self {
            engine: Engine::new(scenario.settings.clone(), scenario.plan.clone()),
            ledger: Ledger::new(scenario.settings.clone(), &scenario.plan),
            scenario,
            rng,
            now: 0,
            sequence: 0,
            agenda: BinaryHeap::new(),
            happenings: Vec::new(),
            generations: BTreeMap::new(),
            part: 0,
            edits: BTreeMap::new(),
            slow: BTreeSet::new(),
            preparing: BTreeSet::new(),
            plans: BTreeMap::new(),
            journal: Vec::new(),
            told: Vec::new(),
            written: BTreeMap::new(),
            board_failed: false,
            steps: 0,
            kills,
            trace: (tracing == Tracing::On).then(Vec::new),
        };
        for at in &scenario.stops {
            let signal = *world
                .rng
                .pick(&[StopSignal::Interrupt, StopSignal::Terminate]);
            world.schedule(*at, Happening::Stop(signal), 0);
        }
        if scenario.settings.when_idle == WhenIdle::WaitForStories {
            for part in 1..=3 {
                let at = world.rng.below(100_000);
                world.schedule(at, Happening::Replan(part), 0);
            }
            for _ in 0..world.rng.below(4) {
                // People change their minds: what they take away is often soon back.
                let at = world.rng.below(1_000_000);
                world.schedule(at, Happening::Replan(3), 0);
                let again = at + world.rng.below(5_000);
                world.schedule(again, Happening::Replan(3), 0);
            }
        }
        world
    }

    pub(crate) fn run(mut self) -> Done {
        self.tell(Event::Began);
        while !self.engine.is_finished() && self.ledger.violation.is_none() {
            if self
                .kills
                .last()
                .is_some_and(|kill| *kill <= self.journal.len())
            {
                self.kills.pop();
                self.kill();
                continue;
            }
            let Some(happening) = self.next() else {
                self.ledger.must(false, || {
                    "nothing happens any more, and the run is not over".to_owned()
                });
                break;
            };
            self.happen(happening);
            self.ledger.must(self.journal.len() < MOST_STEPS, || {
                "the run does not end".to_owned()
            });
        }
        if self.ledger.violation.is_none() {
            self.check_end();
        }
        Done {
            steps: self.steps,
            events: self.journal.len(),
            violation: self.ledger.violation.take(),
            outcomes: self.ledger.outcomes(),
            seen: std::mem::take(&mut self.ledger.seen),
            trace: self.trace.unwrap_or_default(),
        }
    }

    fn check_end(&mut self) {
        self.ledger.check_end(self.engine.verdict());
        if !self.ledger.was_left() && !self.ledger.stubborn && !self.board_failed {
            self.ledger.check_board(&self.written);
        }
        if self.rng.percent(2) {
            let folded = self.fold();
            self.ledger.must(folded == self.engine, || {
                "the journal folds to another state".to_owned()
            });
        }
    }

    /// What happens next, and when: the clock of the engine is one of those to whom things happen.
    fn next(&mut self) -> Option<Happening> {
        let deadline = self.engine.next_deadline().map(Moment::as_millis);
        while let Some(Reverse((at, _, index))) = self.agenda.peek().copied() {
            if deadline.is_some_and(|deadline| deadline < at) {
                break;
            }
            self.agenda.pop();
            let (happening, generation) = self.happenings[index].take().expect("it happens once");
            if self.is_outdated(&happening, generation) {
                continue;
            }
            self.now = self.now.max(at);
            return Some(happening);
        }
        let deadline = deadline?;
        self.now = self.now.max(deadline);
        Some(Happening::Tell(Event::TimePassed))
    }

    fn is_outdated(&self, happening: &Happening, generation: u32) -> bool {
        let Some(unit) = unit_of(happening) else {
            return false;
        };
        generation != u32::MAX
            && self.generations.get(unit).copied().unwrap_or_default() != generation
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tell(event) => self.tell(event),
            Happening::Exit(unit, exit) => {
                if self.ledger.alive.remove(&unit) {
                    self.generation_ends(&unit);
                    self.tell(Event::Exited(unit, exit));
                }
            }
            Happening::BoardWritten(story, entry, write) => {
                if write == BoardWrite::Written {
                    self.written.insert(story.clone(), entry);
                } else {
                    self.board_failed = true;
                }
                self.tell(Event::BoardWritten(story, write));
            }
            Happening::Stop(signal) => self.tell(Event::StopRequested(signal)),
            Happening::Replan(part) => {
                self.part = self.part.max(part);
                let ready = match self.scenario.temper {
                    Temper::Wild => self.change_board(),
                    Temper::Steady => self.board(),
                };
                self.tell(Event::Replanned(ready));
            }
            Happening::Look => {
                let ready = self.board();
                self.tell(Event::Replanned(ready));
            }
        }
    }

    /// The stories that people have written so far, with what they say now.
    fn stories(&self) -> Vec<PlannedStory> {
        let share = self.scenario.later.len() * self.part / 3;
        let later = &self.scenario.later[..share];
        let said = |planned: &PlannedStory| {
            let edits = self.edits.get(&planned.id).copied().unwrap_or_default();
            PlannedStory {
                fingerprint: Fingerprint::from(edits << 16),
                ..planned.clone()
            }
        };
        self.scenario.plan.iter().chain(later).map(said).collect()
    }

    /// The stories that are ready when nobody but the run has changed the board.
    fn board(&self) -> Vec<PlannedStory> {
        let mut stories = self.stories();
        stories.retain(|planned| {
            let entry = self.written.get(&planned.id);
            matches!(entry, None | Some(BoardEntry::Returned { .. }))
        });
        stories
    }

    /// Somebody makes some of those that are through ready again, takes back others, and changes what they say.
    fn change_board(&mut self) -> Vec<PlannedStory> {
        let known = self.ledger.outcomes();
        for planned in self.stories() {
            if self.rng.percent(10) {
                *self.edits.entry(planned.id).or_default() += 1;
            }
        }
        let mut ready = self.stories();
        ready.retain(|planned| {
            let through = known.contains_key(&planned.id);
            self.rng.percent(if through { 40 } else { 95 })
        });
        ready
    }

    fn tell(&mut self, event: Event) {
        self.steps += 1;
        self.journal.push((event.clone(), self.now));
        self.ledger.told(&event, self.now);
        let effects: Vec<Effect> = self
            .engine
            .step(event.clone(), Moment::from_millis(self.now))
            .into_iter()
            .collect();
        if let Some(trace) = &mut self.trace {
            trace.push(format!(
                "{:>9} {:>5}  {event:?}",
                self.now,
                self.journal.len()
            ));
            trace.extend(
                effects
                    .iter()
                    .map(|effect| format!("                 -> {effect:?}")),
            );
        }
        for effect in effects {
            self.ledger.perform(&effect);
            self.perform(effect);
        }
        self.ledger.check();
        if self.steps.is_multiple_of(VIEWED) {
            self.ledger.check_view(&self.engine.view());
        }
        // Whatever was told may arrive once more, or much later.
        let repeats = matches!(
            event,
            Event::Prepared(_)
                | Event::Connected(_)
                | Event::Claimed(..)
                | Event::Disconnected(_)
                | Event::Settled(..)
                | Event::Answered(..)
                | Event::Exited(..)
                | Event::PrepareFailed(..)
                | Event::PrepareBlocked(..)
                | Event::LaunchFailed(..)
                | Event::ProtocolViolated(..)
        );
        if repeats
            && self.scenario.temper == Temper::Wild
            && self.rng.percent(self.scenario.trouble / 4)
        {
            self.told.push(event);
        }
        if !self.told.is_empty() && self.rng.percent(5) {
            let old = self.told.swap_remove(self.rng.index(self.told.len()));
            if event_unit(&old).is_some_and(|unit| self.ledger.is_current(unit)) {
                *self.ledger.seen.entry("told twice").or_default() += 1;
            }
            let at = self.now + self.rng.below(3);
            self.schedule(at, Happening::Tell(old), u32::MAX);
        }
    }

    /// The orchestrator is killed and comes back.
    fn kill(&mut self) {
        let folded = self.fold();
        self.ledger.must(folded == self.engine, || {
            "the journal folds to another state".to_owned()
        });
        *self.ledger.seen.entry("kills").or_default() += 1;
        self.engine = folded;
        // Everything that was under way is gone; people and their requests stay.
        let kept: Vec<(u64, Happening)> = std::mem::take(&mut self.agenda)
            .into_iter()
            .filter_map(|Reverse((at, _, index))| {
                let (happening, _) = self.happenings[index].take()?;
                matches!(happening, Happening::Stop(_) | Happening::Replan(_))
                    .then_some((at, happening))
            })
            .collect();
        self.happenings.clear();
        self.plans.clear();
        let mut kept = kept;
        kept.sort_by_key(|(at, _)| *at);
        for (at, happening) in kept {
            self.schedule(at, happening, 0);
        }
        // The clock of a stop goes on; so that the bound on stops means something, nobody is away for long then.
        self.now += if self.scenario.temper == Temper::Steady || !self.scenario.stops.is_empty() {
            0
        } else {
            self.rng.below(30_000)
        };
        self.generations.clear();
        let away = match self.scenario.temper {
            Temper::Steady => 0,
            Temper::Wild => self.rng.below(90_000),
        };
        self.tell(Event::Resumed(Restart {
            away: Duration::from_millis(away),
            ..Restart::default()
        }));
    }

    fn fold(&self) -> Engine {
        let mut engine = Engine::new(self.scenario.settings.clone(), self.scenario.plan.clone());
        for (event, at) in &self.journal {
            drop(engine.step(event.clone(), Moment::from_millis(*at)));
        }
        engine
    }

    fn schedule(&mut self, at: u64, happening: Happening, generation: u32) {
        self.sequence += 1;
        let index = self.happenings.len();
        self.happenings.push(Some((happening, generation)));
        self.agenda.push(Reverse((at, self.sequence, index)));
    }

    fn soon(&mut self, longest: u64, happening: Happening) -> u64 {
        let generation = unit_of(&happening)
            .and_then(|unit| self.generations.get(unit))
            .copied()
            .unwrap_or_default();
        let at = self.now + self.rng.below(longest);
        self.schedule(at, happening, generation);
        at
    }

    fn generation_ends(&mut self, unit: &Unit) {
        *self.generations.entry(unit.clone()).or_default() += 1;
        self.plans.remove(unit);
    }

    fn wrong(&mut self) -> bool {
        let share = self.scenario.trouble;
        self.rng.percent(share)
    }

    /// Rarely something is never answered at all.
    fn never(&mut self) -> bool {
        let never = self.scenario.trouble > 0 && self.rng.below(400) == 0;
        self.ledger.stubborn |= never;
        never
    }

    /// Whether something cannot be ended.
    fn outlives(&mut self) -> bool {
        let outlives = self.rng.percent(self.scenario.ghosts);
        self.ledger.stubborn |= outlives;
        outlives || self.never()
    }
}

fn unit_of(happening: &Happening) -> Option<&Unit> {
    match happening {
        Happening::Exit(unit, _) => Some(unit),
        Happening::Tell(event) => event_unit(event),
        Happening::BoardWritten(..)
        | Happening::Stop(_)
        | Happening::Replan(_)
        | Happening::Look => None,
    }
}

fn event_unit(event: &Event) -> Option<&Unit> {
    match event {
        Event::Prepared(unit)
        | Event::PrepareFailed(unit, _)
        | Event::PrepareBlocked(unit, _)
        | Event::LaunchFailed(unit, _)
        | Event::Connected(unit)
        | Event::PhaseEntered(unit, _)
        | Event::Answered(unit, _)
        | Event::TurnAsked(unit)
        | Event::Used(unit, _)
        | Event::Touched(unit, _)
        | Event::Claimed(unit, _)
        | Event::Disconnected(unit)
        | Event::ProtocolViolated(unit, _)
        | Event::Exited(unit, _)
        | Event::Settled(unit, _) => Some(unit),
        _ => None,
    }
}
