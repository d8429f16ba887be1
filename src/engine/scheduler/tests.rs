//! What single schedules come to, told as stories of a run.

mod budgets;
mod failures;
mod providers;
mod resources;
mod restarts;
mod turns;
mod watching;

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::{Engine, RunView, Standing, StoryView, Verdict};
use crate::engine::effect::{Effect, Notice};
use crate::engine::event::{
    BoardWrite, Comparison, Event, OnBoard, Restart, Settlement, StopSignal, Unit,
};
use crate::engine::files::FilePattern;
use crate::engine::health::{Patience, Vitals};
use crate::engine::id::AttemptNumber;
use crate::engine::limits::{Limits, Usage};
use crate::engine::outcome::{Claim, Exit, Outcome, OutcomeKind, Skip};
use crate::engine::plan::{Fingerprint, PlannedStory};
use crate::engine::resources::{Capacity, Resources};
use crate::engine::settings::{OnFailure, Settings, WhenIdle};
use crate::engine::time::Moment;
use crate::story::StoryId;

/// A story of these tests, by its number.
type Number = u64;

fn id(number: Number) -> StoryId {
    StoryId::from_number(number)
}

fn planned(number: Number) -> PlannedStory {
    PlannedStory {
        id: id(number),
        dependencies: Vec::new(),
        next_attempt: AttemptNumber::FIRST,
        provider: None,
        files: Vec::new(),
        fingerprint: Fingerprint::default(),
        resources: Resources::default(),
    }
}

/// The usual rules, but for the patience with executors that say nothing.
fn rules(slots: usize) -> Settings {
    let mut settings = Settings::new(NonZeroUsize::new(slots).unwrap());
    let day = Duration::from_secs(24 * 60 * 60);
    settings.patience = Patience {
        answer: day,
        quiet: day,
        stalled: day,
        ..Patience::default()
    };
    settings
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tokens(tokens: u64) -> Usage {
    Usage {
        tokens,
        ..Usage::default()
    }
}

/// A run, its clock, and everything that it has asked for.
struct Run {
    engine: Engine,
    now: u64,
    asked: Vec<Effect>,
    /// What the board and git have not answered yet.
    owed: VecDeque<Event>,
}

impl Run {
    fn begin(settings: Settings, stories: &[Number]) -> Self {
        Self::begin_with(settings, stories.iter().map(|number| planned(*number)))
    }

    fn begin_with(settings: Settings, plan: impl Iterator<Item = PlannedStory>) -> Self {
        let mut run = Self {
            engine: Engine::new(settings, plan.collect()),
            now: 0,
            asked: Vec::new(),
            owed: VecDeque::new(),
        };
        run.tell(Event::Began);
        run
    }

    fn tell(&mut self, event: Event) {
        for effect in self.engine.step(event, Moment::from_millis(self.now)) {
            match &effect {
                Effect::WriteBoard(story, _) => {
                    let written = Event::BoardWritten(story.clone(), BoardWrite::Written);
                    self.owed.push_back(written);
                }
                Effect::Compare(story) => {
                    let compared = Comparison::Compared(Vec::new());
                    self.owed
                        .push_back(Event::Compared(story.clone(), compared));
                }
                _ => {}
            }
            self.asked.push(effect);
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds * 1000;
        while let Some(deadline) = self.engine.next_deadline().map(Moment::as_millis)
            && deadline <= end
        {
            self.now = self.now.max(deadline);
            self.tell(Event::TimePassed);
        }
        self.now = end;
    }

    /// The board and git have done what they were asked for.
    fn catch_up(&mut self) {
        while let Some(event) = self.owed.pop_front() {
            self.tell(event);
        }
    }

    /// The last attempt at a story that was begun.
    fn unit(&self, story: Number) -> Unit {
        let mut begun = self.asked.iter().filter_map(|effect| match effect {
            Effect::Prepare(unit) if unit.story == id(story) => Some(unit.clone()),
            _ => None,
        });
        begun.next_back().expect("the story has begun")
    }

    fn work(&mut self, story: Number) {
        self.tell(Event::Prepared(self.unit(story)));
        self.tell(Event::Connected(self.unit(story)));
    }

    fn use_up(&mut self, story: Number, usage: Usage) {
        self.tell(Event::Used(self.unit(story), usage));
    }

    fn change(&mut self, story: Number, file: &str) {
        let files = vec![FilePattern::literal(file)];
        self.tell(Event::Touched(self.unit(story), files));
    }

    fn exit(&mut self, story: Number, exit: Exit) {
        let unit = self.unit(story);
        self.tell(Event::Exited(unit.clone(), exit));
        self.tell(Event::Settled(unit, Settlement::Confirmed));
    }

    fn succeed(&mut self, story: Number) {
        self.tell(Event::Claimed(self.unit(story), Claim::Succeeded));
        self.exit(story, Exit::Code(0));
    }

    fn fail(&mut self, story: Number) {
        let reason = "no".to_owned();
        self.tell(Event::Claimed(self.unit(story), Claim::Failed { reason }));
        self.exit(story, Exit::Code(1));
    }

    fn crash(&mut self, story: Number) {
        self.exit(story, Exit::Signal(9));
    }

    /// Nothing ends the process of this attempt, whatever is tried, until it is given up.
    fn give_up(&mut self, story: Number) {
        self.tell(Event::Disconnected(self.unit(story)));
        self.pass(60);
        self.tell(Event::Settled(self.unit(story), Settlement::Confirmed));
    }

    /// These stories are ready on the board now, and no others.
    fn replan(&mut self, stories: &[Number]) {
        let plan = stories.iter().map(|number| PlannedStory {
            next_attempt: AttemptNumber::new(10).unwrap(),
            ..planned(*number)
        });
        self.tell(Event::Replanned(plan.collect()));
    }

    /// A story leaves the stories that are ready, and is made ready once more.
    fn select_again(&mut self, story: Number) {
        self.replan(&[]);
        self.replan(&[story]);
    }

    /// The orchestrator is killed, and comes back that much later. What had been asked for is not answered.
    fn restart(&mut self, seconds_later: u64) {
        self.now += seconds_later * 1000;
        self.restart_with(Restart::default());
    }

    /// The orchestrator is killed and comes back.
    fn restart_with(&mut self, restart: Restart) {
        self.owed.clear();
        self.tell(Event::Resumed(restart));
    }

    fn attempts(&self, story: Number) -> usize {
        let begins =
            |effect: &&Effect| matches!(effect, Effect::Prepare(unit) if unit.story == id(story));
        self.asked.iter().filter(begins).count()
    }

    fn is_asked_to_stop(&self, story: Number) -> bool {
        let asks = |effect: &Effect| matches!(effect, Effect::AskToStop { unit, .. } if *unit == self.unit(story));
        self.asked.iter().any(asks)
    }

    /// How a story was reported to have ended, every time that it was.
    fn ends(&self, story: Number) -> Vec<Outcome> {
        let ends = self.notices().filter_map(|notice| match notice {
            Notice::StoryEnded {
                story: of, outcome, ..
            } if *of == id(story) => Some(outcome.clone()),
            _ => None,
        });
        ends.collect()
    }

    fn ended_as(&self, story: Number) -> Vec<OutcomeKind> {
        self.ends(story).iter().map(Outcome::kind).collect()
    }

    fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.asked.iter().filter_map(|effect| match effect {
            Effect::Tell(notice) => Some(notice),
            _ => None,
        })
    }

    fn count(&self, is_it: impl Fn(&Effect) -> bool) -> usize {
        self.asked.iter().filter(|effect| is_it(effect)).count()
    }

    fn overlaps(&self) -> usize {
        self.count(|effect| matches!(effect, Effect::Tell(Notice::Overlap { .. })))
    }

    fn view(&self, story: Number) -> StoryView {
        let RunView { stories, .. } = self.engine.view();
        let mut stories = stories.into_iter();
        stories.find(|view| view.id == id(story)).unwrap()
    }
}

// The time of the run.

#[test]
fn the_time_of_a_run_counts_after_a_failure_has_stopped_the_starts() {
    let mut run = Run::begin(
        Settings {
            on_failure: OnFailure::StopStarting,
            run_limits: Limits {
                time: Some(seconds(100)),
                ..Limits::default()
            },
            ..rules(2)
        },
        &[1, 2],
    );
    run.work(1);
    run.work(2);
    run.fail(1);
    run.pass(99);
    assert!(!run.is_asked_to_stop(2));
    run.pass(2);
    assert!(run.is_asked_to_stop(2));
}

#[test]
fn the_time_of_a_run_is_up_once() {
    let mut run = Run::begin(
        Settings {
            run_limits: Limits {
                time: Some(seconds(10)),
                ..Limits::default()
            },
            ..rules(1)
        },
        &[1],
    );
    run.work(1);
    run.pass(15);
    let told = run.count(|effect| matches!(effect, Effect::Tell(Notice::RunExceeded(_))));
    assert_eq!(told, 1);
    run.exit(1, Exit::Code(0));
    assert_eq!(run.ended_as(1), [OutcomeKind::TimedOut]);
    run.catch_up();
    assert!(run.engine.is_finished());
    assert_eq!(run.engine.verdict(), Verdict::Exhausted);
}

#[test]
fn a_stop_that_was_asked_for_comes_before_the_time_of_the_run() {
    let mut run = Run::begin(
        Settings {
            run_limits: Limits {
                time: Some(seconds(1)),
                ..Limits::default()
            },
            ..rules(1)
        },
        &[1],
    );
    run.work(1);
    run.tell(Event::StopRequested(StopSignal::Interrupt));
    run.pass(5);
    run.exit(1, Exit::Signal(15));
    assert_eq!(run.ended_as(1), [OutcomeKind::Cancelled]);
}

// The verdict.

#[test]
fn a_run_whose_stories_all_succeeded_is_a_success_although_its_budget_is_used_up() {
    let mut run = Run::begin(
        Settings {
            run_limits: Limits {
                tokens: Some(10),
                ..Limits::default()
            },
            ..rules(1)
        },
        &[1],
    );
    run.work(1);
    run.tell(Event::Claimed(run.unit(1), Claim::Succeeded));
    run.use_up(1, tokens(11));
    run.exit(1, Exit::Code(0));
    run.catch_up();
    assert!(run.engine.is_finished());
    assert_eq!(run.ends(1), [Outcome::Succeeded]);
    assert_eq!(run.engine.verdict(), Verdict::AllSucceeded);
}

#[test]
fn a_success_that_is_not_on_the_board_is_not_the_fault_of_a_budget() {
    let mut run = Run::begin(
        Settings {
            run_limits: Limits {
                tokens: Some(10),
                ..Limits::default()
            },
            ..rules(1)
        },
        &[1],
    );
    run.work(1);
    run.tell(Event::Claimed(run.unit(1), Claim::Succeeded));
    run.use_up(1, tokens(11));
    run.exit(1, Exit::Code(0));
    run.tell(Event::BoardWritten(id(1), BoardWrite::Failed));
    run.catch_up();
    assert_eq!(run.engine.verdict(), Verdict::SomeDidNot);
}

// A run that waits for stories.

fn watching() -> Settings {
    Settings {
        when_idle: WhenIdle::WaitForStories,
        ..rules(2)
    }
}

// What a story may use.

fn limited(limits: Limits) -> Settings {
    Settings {
        story_limits: limits,
        ..rules(2)
    }
}

fn ten_tokens() -> Limits {
    Limits {
        tokens: Some(10),
        ..Limits::default()
    }
}

#[test]
fn a_story_without_tokens_left_is_not_tried_again() {
    let mut run = Run::begin(limited(ten_tokens()), &[1, 2]);
    run.work(1);
    run.work(2);
    run.use_up(1, tokens(10));
    run.use_up(2, tokens(9));
    run.crash(1);
    run.crash(2);
    run.pass(60);
    assert_eq!(run.ended_as(1), [OutcomeKind::Crashed]);
    assert_eq!(run.attempts(2), 2);
}

#[test]
fn the_attempts_of_a_story_share_its_tokens() {
    let mut run = Run::begin(limited(ten_tokens()), &[1]);
    run.work(1);
    run.use_up(1, tokens(6));
    run.crash(1);
    run.pass(10);
    run.work(1);
    run.use_up(1, tokens(4));
    assert!(!run.is_asked_to_stop(1));
    run.use_up(1, tokens(5));
    assert!(run.is_asked_to_stop(1));
    assert_eq!(run.view(1).usage, tokens(11));
}

#[test]
fn a_story_without_tokens_left_ends_when_a_restart_costs_it_its_attempt() {
    let mut run = Run::begin(limited(ten_tokens()), &[1]);
    run.work(1);
    run.use_up(1, tokens(12));
    run.restart(5);
    assert_eq!(run.ended_as(1), [OutcomeKind::BudgetExceeded]);
    assert_eq!(run.attempts(1), 1);
    assert_eq!(run.view(1).usage, tokens(12));
}

#[test]
fn a_story_without_time_left_ends_when_a_restart_costs_it_its_attempt() {
    let time = Some(seconds(100));
    let mut run = Run::begin(
        limited(Limits {
            time,
            ..Limits::default()
        }),
        &[1],
    );
    run.work(1);
    run.pass(101);
    assert!(run.is_asked_to_stop(1));
    run.restart(5);
    assert_eq!(run.ended_as(1), [OutcomeKind::TimedOut]);
}

#[test]
fn the_time_of_lost_attempts_counts_and_that_of_a_restart_does_not() {
    let time = Some(seconds(100));
    let mut run = Run::begin(
        limited(Limits {
            time,
            ..Limits::default()
        }),
        &[1],
    );
    run.work(1);
    run.pass(40);
    run.tell(Event::Answered(run.unit(1), Vitals::new(0, None)));
    run.restart(1000);
    assert_eq!(run.attempts(1), 2);
    run.work(1);
    run.pass(59);
    assert!(!run.is_asked_to_stop(1));
    run.pass(2);
    assert!(run.is_asked_to_stop(1));
}

#[test]
fn the_time_of_a_restart_does_not_count_for_an_attempt_that_had_ended() {
    let time = Some(seconds(100));
    let mut run = Run::begin(
        limited(Limits {
            time,
            ..Limits::default()
        }),
        &[1],
    );
    run.work(1);
    run.tell(Event::Exited(run.unit(1), Exit::Signal(9)));
    run.restart(1000);
    run.tell(Event::Settled(run.unit(1), Settlement::Confirmed));
    run.pass(10);
    assert_eq!(run.attempts(1), 2);
}

/// A run that tries again what has used up its budget, three times in all.
fn generous(limits: Limits) -> Settings {
    let mut settings = limited(limits);
    settings.retry.retried = vec![OutcomeKind::BudgetExceeded];
    settings.retry.most_attempts = NonZeroU32::new(3).unwrap();
    settings
}

#[test]
fn where_a_used_up_budget_is_retried_each_attempt_gets_all_of_it() {
    let mut run = Run::begin(generous(ten_tokens()), &[1]);
    for attempt in 1..=3 {
        assert_eq!(run.attempts(1), attempt);
        run.work(1);
        run.use_up(1, tokens(10));
        assert!(!run.is_asked_to_stop(1));
        run.use_up(1, tokens(11));
        assert!(run.is_asked_to_stop(1));
        run.exit(1, Exit::Signal(15));
        run.pass(60);
    }
    assert_eq!(run.attempts(1), 3);
    assert_eq!(run.ended_as(1), [OutcomeKind::BudgetExceeded]);
    assert_eq!(run.view(1).usage, tokens(33));
}

#[test]
fn where_a_used_up_budget_is_retried_a_lost_attempt_counts_as_one_that_used_it_up() {
    let mut run = Run::begin(generous(ten_tokens()), &[1]);
    for attempt in 1..=3 {
        assert_eq!(run.attempts(1), attempt);
        run.work(1);
        run.use_up(1, tokens(11));
        run.restart(5);
        run.pass(60);
    }
    assert_eq!(run.attempts(1), 3);
    assert_eq!(run.ended_as(1), [OutcomeKind::BudgetExceeded]);
}

#[test]
fn only_the_end_that_is_retried_brings_a_new_allowance() {
    let limits = Limits {
        time: Some(seconds(50)),
        ..ten_tokens()
    };
    let mut run = Run::begin(generous(limits), &[1]);
    run.work(1);
    run.pass(51);
    run.exit(1, Exit::Signal(15));
    run.pass(60);
    assert_eq!(run.ended_as(1), [OutcomeKind::TimedOut]);
}

#[test]
fn a_story_that_comes_back_has_its_whole_allowance() {
    let mut run = Run::begin(
        Settings {
            story_limits: ten_tokens(),
            ..watching()
        },
        &[1],
    );
    run.work(1);
    run.use_up(1, tokens(8));
    run.fail(1);
    run.catch_up();
    run.select_again(1);
    run.work(1);
    run.use_up(1, tokens(8));
    assert!(!run.is_asked_to_stop(1));
}

#[test]
fn what_a_story_used_is_shown_although_the_run_is_left() {
    let mut run = Run::begin(rules(1), &[1]);
    run.work(1);
    run.use_up(1, tokens(8));
    for _ in 0..3 {
        run.tell(Event::StopRequested(StopSignal::Interrupt));
    }
    assert_eq!(run.ended_as(1), [OutcomeKind::Cancelled]);
    assert_eq!(run.view(1).usage, tokens(8));
}

// Running stories that change the same files.

#[test]
fn an_overlap_is_told_once_for_as_long_as_both_run() {
    let mut run = Run::begin(rules(2), &[1, 2]);
    run.work(1);
    run.work(2);
    run.change(1, "a.rs");
    run.change(2, "a.rs");
    run.change(1, "b.rs");
    run.change(2, "b.rs");
    assert_eq!(run.overlaps(), 1);
}

#[test]
fn an_overlap_is_told_again_for_a_later_attempt() {
    let mut run = Run::begin(rules(2), &[1, 2]);
    run.work(1);
    run.work(2);
    run.change(1, "a.rs");
    run.change(2, "a.rs");
    run.crash(1);
    run.pass(10);
    run.work(1);
    run.change(1, "b.rs");
    run.change(2, "b.rs");
    assert_eq!(run.overlaps(), 2);
}
