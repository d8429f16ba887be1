//! The engine itself: takes one event after the other and answers with effects. Pure.
//!
//! Invariants, held by the simulation in `tests/sim` and the properties beside this module after every step:
//! - never more attempts hold a slot than there are slots, and of a provider than it may have, and together their agents
//!   want no more of the machine than it has, unless there is only one; no slot is free while a story could start;
//! - a story starts only after everything it depends on succeeded, and never after the run was asked to stop;
//! - every story of the run is reported exactly once, and the run finishes when all of them are;
//! - no number of an attempt is used twice, and never two attempts at one story at a time;
//! - the same events give the same state.
//!
//! Parts: `queue` (who is next), `providers` (whom their limits let start), `contention` (whose files overlap), `room` (whom
//! the machine has enough for), `turns`
//! (whose agents may begin one), `admission` (who joins), `ends` (what follows the end of an attempt), `budget` (what may
//! be used), `clock` (deadlines), `shutdown` (how a run is stopped), `recovery` (how it goes on after a `kill -9`), `view`
//! (what can be seen of it).

mod admission;
mod budget;
mod clock;
mod contention;
mod ends;
mod providers;
mod queue;
mod recovery;
mod room;
mod shutdown;
#[cfg(test)]
mod tests;
mod turns;
mod view;

pub use queue::MOST_OVERTAKEN;
pub use view::{Conflict, RunView, Standing, StoryView};

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use serde::{Deserialize, Serialize};

use crate::engine::day::Today;
use crate::engine::effect::{BoardEntry, Effect, Effects, Notice};
use crate::engine::event::{BoardWrite, Clash, Comparison, Event, StopSignal, Unit};
use crate::engine::fault::{self, Fault};
use crate::engine::files::FilePattern;
use crate::engine::id::AttemptNumber;
use crate::engine::intensity::RecentEnds;
use crate::engine::lifecycle::{Input, Rules, Scene, Sequel, State, Step};
use crate::engine::limits::{Account, Allowance, Budget, Limits, Overrun, Scope, Usage};
use crate::engine::outcome::{Outcome, Skip};
use crate::engine::plan::{Fingerprint, PlannedStory};
use crate::engine::resources::{Resource, Resources};
use crate::engine::retry::{Delay, Tries};
use crate::engine::settings::{Settings, WhenIdle};
use crate::engine::time::Moment;
use crate::story::StoryId;
use contention::Contention;
use queue::{Place, ProviderKey, Queue, Turn};

/// How a run went, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every story succeeded, and the board says so.
    AllSucceeded,
    /// Some story did not, or the board could not be written.
    SomeDidNot,
    /// A budget of the run or a quota kept stories from being worked on.
    Exhausted,
    /// The run was asked to stop, and stopped.
    Interrupted(StopSignal),
    /// Some process could not be ended, or a stop took too long and was cut off.
    DeadlineHit,
}

/// A story of this run, by the order in which it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u32);

impl Key {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    settings: Settings,
    /// When the last event happened.
    now: Moment,
    /// Never iterated, so that its order cannot matter.
    keys: HashMap<StoryId, Key, BuildHasherDefault<DefaultHasher>>,
    stories: Vec<Tracked>,
    queue: Queue,
    contention: Contention,
    /// When which story's deadline is.
    deadlines: BTreeSet<(Moment, Key)>,
    occupied: usize,
    /// What the agents of those that hold a slot want of the machine.
    taken: Resources,
    /// What was told that there is too little of.
    short_of: BTreeSet<Resource>,
    unsettled: usize,
    /// Board entries that were asked for and are not written yet, in order.
    unwritten: VecDeque<(Key, BoardEntry)>,
    /// Stories whose branch is being compared with the others.
    comparing: BTreeSet<Key>,
    conflicts: Vec<Conflict>,
    usage: Usage,
    today: Today,
    /// The budgets of which was told that little is left of them.
    warned: BTreeSet<(Scope, Budget)>,
    gate: Gate,
    /// Stories of which it is known that they are through and did not succeed, while the end of their last attempt is
    /// being taken care of.
    failing: BTreeSet<Key>,
    recent_ends: RecentEnds,
    paused_until: Option<Moment>,
    stop: Stop,
    /// When a stop ends the run whatever is still going on.
    stop_deadline: Option<Moment>,
    /// When the run ends although not everything is written down.
    wrap_up: Option<Moment>,
    progress: Progress,
    trouble: Trouble,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tracked {
    id: StoryId,
    place: Place,
    next_attempt: AttemptNumber,
    /// Dependencies in this run that have not succeeded yet.
    missing: BTreeSet<Key>,
    dependents: Vec<Key>,
    provider: ProviderKey,
    files: Vec<FilePattern>,
    tries: Tries,
    /// What earlier attempts of this run used.
    used_before: Usage,
    /// What they count for against the limits of the story.
    account: Account,
    /// The budgets of which was told that little is left of them.
    warned: BTreeSet<Budget>,
    /// How the last attempt of this run ended, when another one is to follow.
    last_end: Option<(Unit, Outcome)>,
    board: OnBoard,
    stage: Stage,
    /// How many stories had started when it came to its turn.
    queued_at: Option<u64>,
    turn: Turn,
    comeback: Comeback,
    fingerprint: Fingerprint,
    /// What its agent wants of the machine. Does not change while it holds a slot.
    resources: Resources,
    remains: Remains,
    /// Its entry in the deadlines of the run.
    scheduled: Option<Moment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// For its dependencies, or for its turn.
    Waiting,
    /// For its next attempt.
    Delayed {
        until: Moment,
        reason: Delay,
    },
    Attempting(Attempt),
    Done(Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attempt {
    trial: Trial,
    state: State,
}

/// What is known of an attempt wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trial {
    number: AttemptNumber,
    began: Moment,
    /// When its process had ended, or it was known that there is none: what is still to be taken care of is not what
    /// its story takes.
    ended: Option<Moment>,
    usage: Usage,
    /// Whether its agent was granted a turn.
    has_begun: bool,
}

/// What the board says of a story, as far as this run is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnBoard {
    AsBefore,
    Started,
}

/// Whether a story that is through may be selected once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comeback {
    /// It has not left the stories that are ready since: nobody has asked for it again.
    NotYet,
    Allowed,
}

/// What there may still be of the earlier attempts at a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remains {
    Nothing,
    /// A process, or whoever takes care of its end, that could not be ended: until a restart nobody may work beside it.
    Something,
}

/// Whether stories may be started.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Gate {
    Open,
    /// A person is asked whether to go on after this story.
    Asking {
        after: Key,
        until: Moment,
    },
    Closed(Skip),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Asked(StopSignal),
    Now(StopSignal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    NotBegun,
    Going { since: Moment },
    Finished,
}

/// What keeps a run from being called a success although no outcome says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Trouble {
    board_failures: usize,
    unendable: usize,
    overdue: usize,
    exhausted: usize,
}

impl Engine {
    /// A run over `plan`, in that order. Dependencies that are not part of the plan count as met: leaving out what
    /// must not start is the plan's business.
    pub fn new(settings: Settings, plan: Vec<PlannedStory>) -> Self {
        let mut engine = Self {
            settings,
            now: Moment::default(),
            keys: HashMap::default(),
            stories: Vec::new(),
            queue: Queue::default(),
            contention: Contention::default(),
            deadlines: BTreeSet::new(),
            occupied: 0,
            taken: Resources::default(),
            short_of: BTreeSet::new(),
            unsettled: 0,
            unwritten: VecDeque::new(),
            comparing: BTreeSet::new(),
            conflicts: Vec::new(),
            usage: Usage::default(),
            today: Today::default(),
            warned: BTreeSet::new(),
            gate: Gate::Open,
            failing: BTreeSet::new(),
            recent_ends: RecentEnds::default(),
            paused_until: None,
            stop: Stop::No,
            stop_deadline: None,
            wrap_up: None,
            progress: Progress::NotBegun,
            trouble: Trouble::default(),
        };
        // Nothing is through yet, so that nothing can be hopeless or come back.
        drop(engine.admit(plan, &BTreeSet::new()));
        engine
    }

    /// Takes one event and says what to do about it. `now` never goes back from one event to the next.
    pub fn step(&mut self, event: Event, now: Moment) -> Effects {
        let mut effects = Effects::default();
        let before = self.now;
        self.now = before.max(now);
        if self.progress == Progress::Finished {
            // The verdict stands; nothing that comes later changes it.
            return effects;
        }
        self.take(event, before, &mut effects);
        if let Progress::Going { .. } = self.progress {
            self.answer_turns(&mut effects);
            self.fill_slots(&mut effects);
            self.tell_of_waits(&mut effects);
            self.finish_when_through(&mut effects);
        }
        effects
    }

    /// Takes an event. `before` is when the one before it happened.
    fn take(&mut self, event: Event, before: Moment, effects: &mut Effects) {
        match event {
            Event::Began => self.begin(),
            Event::Resumed(restart) => {
                // The kill may have come before the beginning was noted.
                self.begin();
                self.resume(restart, before, effects);
            }
            Event::JournalLost => self.close_gate(&Skip::JournalLost, effects),
            Event::Replanned(plan) => self.replan(plan, effects),
            Event::Prepared(unit) => self.feed(&unit, Input::Prepared, effects),
            Event::PrepareFailed(unit, reason) => {
                self.feed(&unit, Input::PrepareFailed(reason), effects);
            }
            Event::PrepareBlocked(unit, reason) => {
                self.feed(&unit, Input::PrepareBlocked(reason), effects);
            }
            Event::LaunchFailed(unit, reason) => {
                self.feed(&unit, Input::LaunchFailed(reason), effects);
            }
            Event::Connected(unit) => self.feed(&unit, Input::Connected, effects),
            Event::PhaseEntered(unit, phase) => {
                self.feed(&unit, Input::PhaseEntered(phase), effects);
            }
            Event::Answered(unit, vitals) => self.feed(&unit, Input::Answered(vitals), effects),
            Event::Used(unit, usage) => self.note_usage(&unit, usage, effects),
            Event::DayIs(day, elsewhere) => self.note_day(day, elsewhere, effects),
            Event::TurnAsked(unit) => self.ask_for_turn(&unit, effects),
            Event::Touched(unit, files) => self.note_files(&unit, &files, effects),
            Event::Claimed(unit, claim) => self.hear_claim(&unit, claim, effects),
            Event::Disconnected(unit) => self.feed(&unit, Input::Disconnected, effects),
            Event::ProtocolViolated(unit, violation) => {
                self.feed(&unit, Input::ProtocolViolated(violation), effects);
            }
            Event::Exited(unit, exit) => self.feed(&unit, Input::Exited(exit), effects),
            Event::Settled(unit, settlement) => {
                self.feed(&unit, Input::Settled(settlement), effects);
            }
            Event::BoardWritten(story, write) => self.note_written(&story, &write, effects),
            Event::Compared(story, comparison) => {
                self.note_comparison(&story, comparison, effects);
            }
            Event::ProviderPaused(provider, until, reason) => {
                self.pause_provider(&provider, until, reason, effects);
            }
            Event::Decided(decision) => self.decide(decision, effects),
            Event::StopRequested(signal) => self.request_stop(signal, effects),
            Event::TimePassed => self.pass_time(effects),
        }
    }

    fn begin(&mut self) {
        if self.progress == Progress::NotBegun {
            self.progress = Progress::Going { since: self.now };
        }
    }

    /// The moment at which [`Event::TimePassed`] should be reported at the latest.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.is_finished() {
            return None;
        }
        let asking = match &self.gate {
            Gate::Asking { until, .. } => Some(*until),
            Gate::Open | Gate::Closed(_) => None,
        };
        let first = self.deadlines.first().map(|(moment, _)| *moment);
        [
            first,
            self.stop_deadline,
            self.wrap_up,
            self.paused_until,
            self.queue.next_resumption(),
            self.time_up(),
            self.time_near(),
            asking,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether [`Effect::Finish`] was asked for.
    pub fn is_finished(&self) -> bool {
        self.progress == Progress::Finished
    }

    /// How many attempts hold a slot.
    pub fn occupied_slots(&self) -> usize {
        self.occupied
    }

    /// How the run went. Only final once [`Self::is_finished`].
    pub fn verdict(&self) -> Verdict {
        let all_succeeded = self
            .stories
            .iter()
            .all(|tracked| matches!(&tracked.stage, Stage::Done(outcome) if outcome.is_success()));
        if self.trouble.unendable > 0 || self.trouble.overdue > 0 {
            return Verdict::DeadlineHit;
        }
        let exhausted = self.trouble.exhausted > 0
            && (!all_succeeded || fault::is(Fault::ExhaustedBeatsSuccess));
        match self.stop {
            Stop::Asked(signal) | Stop::Now(signal) => Verdict::Interrupted(signal),
            Stop::No if exhausted => Verdict::Exhausted,
            Stop::No if all_succeeded && self.trouble.board_failures == 0 => Verdict::AllSucceeded,
            Stop::No => Verdict::SomeDidNot,
        }
    }

    fn key(&self, story: &StoryId) -> Option<Key> {
        self.keys.get(story).copied()
    }

    fn story(&self, key: Key) -> &Tracked {
        &self.stories[key.index()]
    }

    fn story_mut(&mut self, key: Key) -> &mut Tracked {
        &mut self.stories[key.index()]
    }

    /// The attempt that a unit names, when it is the current one of its story.
    fn current(&self, unit: &Unit) -> Option<(Key, &Attempt)> {
        let key = self.key(&unit.story)?;
        match &self.story(key).stage {
            Stage::Attempting(attempt)
                if attempt.trial.number == unit.attempt || fault::is(Fault::StaleAttemptHeard) =>
            {
                Some((key, attempt))
            }
            _ => None,
        }
    }

    /// Something happens to an attempt.
    fn feed(&mut self, unit: &Unit, input: Input, effects: &mut Effects) {
        let Some((key, _)) = self.current(unit) else {
            return;
        };
        let (now, rules) = (self.now, self.rules(key));
        let tracked = self.story_mut(key);
        let Stage::Attempting(attempt) = std::mem::replace(&mut tracked.stage, Stage::Waiting)
        else {
            return;
        };
        let Attempt { mut trial, state } = attempt;
        let held = state.holds_slot();
        let by_time_alone = input == Input::TimePassed;
        let scene = Scene { unit, now, rules };
        match state.advance(input, &scene, effects) {
            Step::In(state) => {
                let given_back = held && !state.holds_slot();
                if given_back {
                    trial.ended = Some(now);
                }
                tracked.stage = Stage::Attempting(Attempt { trial, state });
                self.reschedule(key);
                if given_back {
                    // A slot is given back when a process has ended or was never started; by time alone only when
                    // it is given up as impossible to end.
                    self.trouble.unendable += usize::from(by_time_alone);
                    self.release_slot(key);
                    self.foresee_failure(key);
                }
            }
            Step::Over(outcome, sequel) => {
                self.end_attempt(key, trial, (outcome, sequel), effects);
            }
        }
    }

    fn fill_slots(&mut self, effects: &mut Effects) {
        while self.may_start() && self.occupied < self.settings.slots.get() {
            let Some(key) = self.next_story() else {
                return;
            };
            if let Some(overrun) = self.nothing_left() {
                return self.exceed_run(overrun.scope, overrun.budget, effects);
            }
            if let Some(lack) = self.lacks_room_for(key) {
                return self.tell_of_lack(key, lack, effects);
            }
            self.start(key, effects);
        }
    }

    fn may_start(&self) -> bool {
        let stopping = self.stop != Stop::No && !fault::is(Fault::StartsAfterStop);
        let pausing = self.paused_until.is_some() && !fault::is(Fault::IntensityIgnored);
        !stopping && !pausing && self.gate == Gate::Open && self.failing.is_empty()
    }

    fn start(&mut self, key: Key, effects: &mut Effects) {
        self.dequeue(key);
        let now = self.now;
        let tracked = self.story_mut(key);
        let trial = Trial {
            number: tracked.next_attempt,
            began: now,
            ended: None,
            usage: Usage::default(),
            has_begun: false,
        };
        tracked.queued_at = None;
        let unit = Unit {
            story: tracked.id.clone(),
            attempt: trial.number,
        };
        if !fault::is(Fault::AttemptReused) {
            tracked.next_attempt = tracked.next_attempt.next();
        }
        if tracked.board == OnBoard::AsBefore {
            tracked.board = OnBoard::Started;
            self.write_board(key, BoardEntry::Started, effects);
        }
        let rules = self.rules(key);
        let scene = Scene {
            unit: &unit,
            now,
            rules,
        };
        let state = State::begin(&scene, effects);
        self.story_mut(key).stage = Stage::Attempting(Attempt { trial, state });
        self.reschedule(key);
        self.take_slot(key);
        if fault::is(Fault::DependencyMetByStart) {
            self.release_dependents(key);
        }
    }

    fn take_slot(&mut self, key: Key) {
        self.taken = self.taken + self.story(key).resources;
        if !fault::is(Fault::SlotNotCounted) {
            self.occupied += 1;
        }
        if fault::is(Fault::SlotCountedTwice) {
            self.occupied += 1;
        }
        self.queue.take_room(self.story(key).provider);
        self.count_start();
        self.heat_up(key);
    }

    fn release_slot(&mut self, key: Key) {
        self.occupied = self.occupied.saturating_sub(1);
        if !fault::is(Fault::CapacityKept) {
            self.taken = self.taken - self.story(key).resources;
        }
        let tracked = self.story(key);
        let began = match &tracked.stage {
            Stage::Attempting(attempt) => attempt.trial.has_begun,
            _ => false,
        };
        self.queue.give_room_back(tracked.provider, began);
        self.cool_down(key);
    }

    fn write_board(&mut self, key: Key, entry: BoardEntry, effects: &mut Effects) {
        let story = self.story(key).id.clone();
        self.unwritten.push_back((key, entry.clone()));
        effects.push(Effect::WriteBoard(story, entry));
    }

    fn note_written(&mut self, story: &StoryId, write: &BoardWrite, effects: &mut Effects) {
        let Some(key) = self.key(story) else { return };
        // Entries of one story are written in order, so that the first one is meant.
        let first = self.unwritten.iter().position(|(of, _)| *of == key);
        let Some(place) = first else { return };
        self.unwritten.remove(place);
        if *write == BoardWrite::Failed {
            self.trouble.board_failures += 1;
        }
        self.look_at_board(key, effects);
    }

    fn note_comparison(&mut self, story: &StoryId, comparison: Comparison, effects: &mut Effects) {
        let Some(key) = self.key(story) else { return };
        if !self.comparing.remove(&key) {
            return;
        }
        if let Comparison::Compared(clashes) = comparison {
            self.note_clashes(story, clashes, effects);
        }
        self.look_at_board(key, effects);
    }

    /// With which others a branch cannot be merged now. That of a story that was run again has been compared before: a
    /// pair is told once, and forgotten when it can be merged.
    fn note_clashes(&mut self, story: &StoryId, clashes: Vec<Clash>, effects: &mut Effects) {
        self.conflicts.retain(|known| {
            let other = known.other_than(story);
            other.is_none_or(|other| clashes.iter().any(|clash| clash.with == *other))
        });
        for Clash { with, files } in clashes {
            let is_pair = |known: &&mut Conflict| known.other_than(story) == Some(&with);
            if let Some(known) = self.conflicts.iter_mut().find(is_pair) {
                known.files = files;
                continue;
            }
            effects.tell(Notice::Conflict {
                one: with.clone(),
                other: story.clone(),
                files: files.clone(),
            });
            self.conflicts.push(Conflict {
                one: with,
                other: story.clone(),
                files,
            });
        }
    }

    fn finish_when_through(&mut self, effects: &mut Effects) {
        if self.unsettled > 0 || self.expects_stories() {
            self.wrap_up = None;
            return;
        }
        if self.unwritten.is_empty() && self.comparing.is_empty() {
            self.finish(effects);
        } else if self.wrap_up.is_none() {
            self.wrap_up = Some(self.now + self.settings.deadlines.wrap_up);
        }
    }

    /// Whether further stories may join.
    fn expects_stories(&self) -> bool {
        self.settings.when_idle == WhenIdle::WaitForStories
            && self.stop == Stop::No
            && !self.gate_is_closed()
    }

    fn finish(&mut self, effects: &mut Effects) {
        self.progress = Progress::Finished;
        effects.push(Effect::Finish);
    }
}
