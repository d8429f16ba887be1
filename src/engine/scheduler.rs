//! The engine itself: which story starts when, and when the run is over. Pure.
//!
//! Invariants, held by the properties beside this file after every step:
//! - never more attempts hold a slot than there are slots, and no slot is free while a story could start;
//! - a story starts only after everything it depends on succeeded, and never after the run was asked to stop;
//! - every story of the plan is reported exactly once, and the run finishes when all of them are.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::engine::effect::{BoardEntry, Effect};
use crate::engine::event::{BoardWrite, Event, StopSignal, Unit};
use crate::engine::id::AttemptNumber;
use crate::engine::lifecycle::{Deadlines, Input, Retention, Rules, State};
use crate::engine::outcome::Outcome;
use crate::engine::plan::PlannedStory;
use crate::engine::time::Moment;
use crate::story::StoryId;

/// The rules of one run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many executors may be alive at once.
    pub slots: NonZeroUsize,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// What becomes of worktrees.
    pub retention: Retention,
}

/// How a run went, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every story succeeded, and the board says so.
    AllSucceeded,
    /// Some story did not, or the board could not be written.
    SomeDidNot,
    /// The run was asked to stop, and stopped.
    Interrupted(StopSignal),
    /// Some process could not be ended, or a stop took too long and was cut off.
    DeadlineHit,
}

/// The state of a run.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    stories: BTreeMap<StoryId, Tracked>,
    /// Stories that could start if a slot were free, by their place in the plan.
    eligible: BTreeSet<(usize, StoryId)>,
    /// When which attempt's deadline is.
    deadlines: BTreeSet<(Moment, StoryId)>,
    occupied: usize,
    unsettled: usize,
    unwritten: usize,
    stop: Stop,
    /// When a stop ends the run whatever is still going on.
    stop_deadline: Option<Moment>,
    progress: Progress,
    trouble: Trouble,
}

#[derive(Debug)]
struct Tracked {
    place: usize,
    next_attempt: AttemptNumber,
    /// Dependencies in this run that have not succeeded yet.
    missing: BTreeSet<StoryId>,
    dependents: Vec<StoryId>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for its dependencies or for a slot.
    Queued,
    Attempting(Unit, State),
    Done(Outcome),
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
    Going,
    Finished,
}

/// What keeps a run from being called a success although no outcome says so.
#[derive(Debug, Clone, Copy, Default)]
struct Trouble {
    board_failures: usize,
    unendable: usize,
    overdue: usize,
}

impl Engine {
    /// A run over `plan`, in that order. Dependencies that are not part of the plan count as met: leaving out what
    /// must not start is the plan's business.
    pub fn new(settings: Settings, plan: Vec<PlannedStory>) -> Self {
        let mut stories: BTreeMap<StoryId, Tracked> = BTreeMap::new();
        let names: BTreeSet<StoryId> = plan.iter().map(|story| story.id.clone()).collect();
        let mut dependents: BTreeMap<StoryId, Vec<StoryId>> = BTreeMap::new();
        for (place, story) in plan.into_iter().enumerate() {
            let missing: BTreeSet<StoryId> = story
                .dependencies
                .into_iter()
                .filter(|dependency| names.contains(dependency))
                .collect();
            for dependency in &missing {
                let list = dependents.entry(dependency.clone()).or_default();
                list.push(story.id.clone());
            }
            let tracked = Tracked {
                place,
                next_attempt: story.next_attempt,
                missing,
                dependents: Vec::new(),
                stage: Stage::Queued,
            };
            stories.insert(story.id, tracked);
        }
        for (dependency, list) in dependents {
            if let Some(tracked) = stories.get_mut(&dependency) {
                tracked.dependents = list;
            }
        }
        let eligible = stories
            .iter()
            .filter(|(_, tracked)| tracked.missing.is_empty())
            .map(|(id, tracked)| (tracked.place, id.clone()))
            .collect();
        Self {
            settings,
            eligible,
            deadlines: BTreeSet::new(),
            occupied: 0,
            unsettled: stories.len(),
            unwritten: 0,
            stories,
            stop: Stop::No,
            stop_deadline: None,
            progress: Progress::NotBegun,
            trouble: Trouble::default(),
        }
    }

    /// Takes one event and says what to do about it.
    #[must_use = "effects are to be performed"]
    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.progress == Progress::Finished {
            // The verdict stands; nothing that comes later changes it.
            return effects;
        }
        match event {
            Event::Began => {
                if self.progress == Progress::NotBegun {
                    self.progress = Progress::Going;
                }
            }
            Event::Prepared(unit) => self.feed(&unit, Input::Prepared, now, &mut effects),
            Event::PrepareFailed(unit, reason) => {
                self.feed(&unit, Input::PrepareFailed(reason), now, &mut effects);
            }
            Event::LaunchFailed(unit, reason) => {
                self.feed(&unit, Input::LaunchFailed(reason), now, &mut effects);
            }
            Event::Connected(unit) => self.feed(&unit, Input::Connected, now, &mut effects),
            Event::Claimed(unit, claim) => {
                self.feed(&unit, Input::Claimed(claim), now, &mut effects);
            }
            Event::Disconnected(unit) => self.feed(&unit, Input::Disconnected, now, &mut effects),
            Event::ProtocolViolated(unit, violation) => {
                self.feed(&unit, Input::ProtocolViolated(violation), now, &mut effects);
            }
            Event::Exited(unit, exit) => self.feed(&unit, Input::Exited(exit), now, &mut effects),
            Event::Settled(unit, settlement) => {
                self.feed(&unit, Input::Settled(settlement), now, &mut effects);
            }
            Event::BoardWritten(_, write) => {
                self.unwritten = self.unwritten.saturating_sub(1);
                if write == BoardWrite::Failed {
                    self.trouble.board_failures += 1;
                }
            }
            Event::StopRequested(signal) => self.request_stop(signal, now, &mut effects),
            Event::TimePassed => self.pass_time(now, &mut effects),
        }
        if self.progress == Progress::Going {
            self.fill_slots(&mut effects);
            if self.unsettled == 0 && self.unwritten == 0 {
                self.progress = Progress::Finished;
                effects.push(Effect::Finish);
            }
        }
        effects
    }

    /// The moment at which [`Event::TimePassed`] should be reported at the latest.
    pub fn next_deadline(&self) -> Option<Moment> {
        let first = self.deadlines.first().map(|(moment, _)| *moment);
        first.into_iter().chain(self.stop_deadline).min()
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
            .values()
            .all(|tracked| matches!(&tracked.stage, Stage::Done(outcome) if outcome.is_success()));
        if self.trouble.unendable > 0 || self.trouble.overdue > 0 {
            return Verdict::DeadlineHit;
        }
        match self.stop {
            Stop::Asked(signal) | Stop::Now(signal) => Verdict::Interrupted(signal),
            Stop::No if all_succeeded && self.trouble.board_failures == 0 => Verdict::AllSucceeded,
            Stop::No => Verdict::SomeDidNot,
        }
    }

    fn feed(&mut self, unit: &Unit, input: Input, now: Moment, effects: &mut Vec<Effect>) {
        let rules = self.rules();
        let Some(tracked) = self.stories.get_mut(&unit.story) else {
            return;
        };
        let state = match std::mem::replace(&mut tracked.stage, Stage::Queued) {
            Stage::Attempting(current, state) if current == *unit => state,
            other => {
                tracked.stage = other;
                return;
            }
        };
        let held = state.holds_slot();
        let old_deadline = state.deadline();
        let by_time_alone = input == Input::TimePassed;
        let (state, more) = state.advance(unit, input, now, &rules);
        effects.extend(more);
        let new_deadline = state.deadline();
        if held && !state.holds_slot() {
            self.occupied -= 1;
            // A slot is given back when a process has ended or was never started; by time alone only when it is given
            // up as impossible to end.
            self.trouble.unendable += usize::from(by_time_alone);
        }
        match state {
            State::Settled(outcome) => {
                tracked.stage = Stage::Queued;
                self.conclude(unit.story.clone(), Some(unit.clone()), outcome, effects);
            }
            state => tracked.stage = Stage::Attempting(unit.clone(), state),
        }
        if old_deadline != new_deadline {
            if let Some(moment) = old_deadline {
                self.deadlines.remove(&(moment, unit.story.clone()));
            }
            if let Some(moment) = new_deadline {
                self.deadlines.insert((moment, unit.story.clone()));
            }
        }
    }

    /// A story is through. Stories that need it become eligible, or are through as well, and so on down the line.
    fn conclude(
        &mut self,
        story: StoryId,
        unit: Option<Unit>,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let mut through = vec![(story, unit, outcome)];
        while let Some((story, unit, outcome)) = through.pop() {
            let Some(tracked) = self.stories.get_mut(&story) else {
                continue;
            };
            if matches!(tracked.stage, Stage::Done(_)) {
                continue;
            }
            tracked.stage = Stage::Done(outcome.clone());
            self.eligible.remove(&(tracked.place, story.clone()));
            self.unsettled -= 1;
            let dependents = std::mem::take(&mut tracked.dependents);
            for dependent in dependents {
                if !outcome.is_success() {
                    let skipped = match outcome {
                        // Nothing went wrong with the dependency: the run ended before it was through.
                        Outcome::Cancelled => Outcome::Cancelled,
                        _ => Outcome::Skipped {
                            dependency: story.clone(),
                        },
                    };
                    through.push((dependent, None, skipped));
                } else if let Some(tracked) = self.stories.get_mut(&dependent) {
                    tracked.missing.remove(&story);
                    if tracked.missing.is_empty() && matches!(tracked.stage, Stage::Queued) {
                        self.eligible.insert((tracked.place, dependent));
                    }
                }
            }
            // A story that never started is on the board as it was.
            if unit.is_some()
                && let Some(entry) = BoardEntry::of(&outcome)
            {
                self.unwritten += 1;
                effects.push(Effect::WriteBoard(story.clone(), entry));
            }
            effects.push(Effect::Report {
                story,
                unit,
                outcome,
            });
        }
    }

    fn fill_slots(&mut self, effects: &mut Vec<Effect>) {
        while self.stop == Stop::No && self.occupied < self.settings.slots.get() {
            let Some((_, story)) = self.eligible.pop_first() else {
                return;
            };
            let Some(tracked) = self.stories.get_mut(&story) else {
                continue;
            };
            let unit = Unit {
                story: story.clone(),
                attempt: tracked.next_attempt,
            };
            tracked.next_attempt = tracked.next_attempt.next();
            let (state, more) = State::begin(&unit);
            tracked.stage = Stage::Attempting(unit, state);
            self.occupied += 1;
            self.unwritten += 1;
            effects.push(Effect::WriteBoard(story, BoardEntry::Started));
            effects.extend(more);
        }
    }

    /// The first signal stays the reason of the stop; a second one only hastens it, and a third one ends the run
    /// whatever is still going on: executors then end by the end of their connections.
    fn request_stop(&mut self, signal: StopSignal, now: Moment, effects: &mut Vec<Effect>) {
        let attempting: Vec<Unit> = self
            .stories
            .values()
            .filter_map(|tracked| match &tracked.stage {
                Stage::Attempting(unit, state) if state.holds_slot() => Some(unit.clone()),
                _ => None,
            })
            .collect();
        let running = attempting.len();
        let input = match self.stop {
            Stop::No => {
                self.stop = Stop::Asked(signal);
                let grace = self.settings.deadlines.grace;
                self.stop_deadline = Some(now + self.settings.deadlines.longest_stop(grace));
                effects.push(Effect::ReportStopping { running, grace });
                Input::Stop
            }
            Stop::Asked(first) => {
                self.stop = Stop::Now(first);
                let longest = self.settings.deadlines.longest_stop(Duration::ZERO);
                self.stop_deadline = self.stop_deadline.min(Some(now + longest));
                Input::StopNow
            }
            Stop::Now(_) => {
                self.leave(running, effects);
                return;
            }
        };
        for unit in &attempting {
            self.feed(unit, input.clone(), now, effects);
        }
        let mut queued: Vec<(usize, StoryId)> = self
            .stories
            .iter()
            .filter(|(_, tracked)| matches!(tracked.stage, Stage::Queued))
            .map(|(id, tracked)| (tracked.place, id.clone()))
            .collect();
        queued.sort();
        for (_, story) in queued {
            self.conclude(story, None, Outcome::Cancelled, effects);
        }
    }

    /// Ends the run as it is. What was not through is cancelled: its work stays where it is, for the next run.
    fn leave(&mut self, running: usize, effects: &mut Vec<Effect>) {
        self.progress = Progress::Finished;
        effects.push(Effect::ReportLeaving { running });
        let left: Vec<(StoryId, Option<Unit>)> = self
            .stories
            .iter()
            .filter_map(|(id, tracked)| match &tracked.stage {
                Stage::Done(_) => None,
                Stage::Attempting(unit, _) => Some((id.clone(), Some(unit.clone()))),
                Stage::Queued => Some((id.clone(), None)),
            })
            .collect();
        for (story, unit) in left {
            self.conclude(story, unit, Outcome::Cancelled, effects);
        }
        effects.push(Effect::Finish);
    }

    fn pass_time(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.pass_deadlines(now, effects);
        let done = self.unsettled == 0 && self.unwritten == 0;
        if !done && self.stop_deadline.is_some_and(|deadline| deadline <= now) {
            self.trouble.overdue += 1;
            self.leave(self.occupied, effects);
        }
    }

    fn pass_deadlines(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        loop {
            let due = match self.deadlines.first() {
                Some((moment, story)) if *moment <= now => story.clone(),
                _ => return,
            };
            let unit = self
                .stories
                .get(&due)
                .and_then(|tracked| match &tracked.stage {
                    Stage::Attempting(unit, _) => Some(unit.clone()),
                    Stage::Queued | Stage::Done(_) => None,
                });
            // Every deadline belongs to a living attempt, whose answer moves the deadline on.
            let Some(unit) = unit else { return };
            self.feed(&unit, Input::TimePassed, now, effects);
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            deadlines: self.settings.deadlines,
            retention: self.settings.retention,
        }
    }
}
