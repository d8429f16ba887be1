//! Stories that join a run which waits for them, leave it, and come back.

use super::*;
use crate::engine::event::Clash;

#[test]
fn a_story_that_is_through_comes_back_when_it_is_made_ready_again() {
    let mut run = Run::begin(watching(), &[1]);
    run.work(1);
    run.fail(1);
    run.catch_up();
    run.select_again(1);
    assert_eq!(run.attempts(1), 2);
}

#[test]
fn a_story_of_which_something_is_alive_comes_back_only_after_a_restart() {
    let mut run = Run::begin(watching(), &[1]);
    run.work(1);
    run.give_up(1);
    assert_eq!(run.ended_as(1), [OutcomeKind::Crashed]);
    run.catch_up();
    run.select_again(1);
    run.select_again(1);
    assert_eq!(run.attempts(1), 1);
    run.restart(5);
    run.select_again(1);
    assert_eq!(run.attempts(1), 2);
}

#[test]
fn a_restart_lets_a_story_be_tried_again_whose_process_could_not_be_ended() {
    let mut run = Run::begin(rules(1), &[1]);
    run.work(1);
    run.tell(Event::Disconnected(run.unit(1)));
    run.pass(60);
    run.restart(5);
    run.tell(Event::Settled(run.unit(1), Settlement::Confirmed));
    run.pass(10);
    assert_eq!(run.attempts(1), 2);
}

#[test]
fn a_story_does_not_come_back_before_its_branch_has_been_compared() {
    let mut run = Run::begin(watching(), &[1]);
    run.work(1);
    run.succeed(1);
    run.tell(Event::BoardWritten(id(1), BoardWrite::Written));
    run.tell(Event::BoardWritten(id(1), BoardWrite::Written));
    run.select_again(1);
    assert_eq!(run.attempts(1), 1);
    run.catch_up();
    run.select_again(1);
    assert_eq!(run.attempts(1), 2);
    run.work(1);
    run.succeed(1);
    run.catch_up();
    let compared = run.count(|effect| matches!(effect, Effect::Compare(_)));
    assert_eq!(compared, 2);
}

fn once() -> Settings {
    let mut settings = watching();
    settings.retry.most_attempts = NonZeroU32::MIN;
    settings
}

fn one_at_a_time() -> Settings {
    Settings {
        slots: NonZeroUsize::MIN,
        ..watching()
    }
}

fn plan_of(stories: &[PlannedStory]) -> Event {
    Event::Replanned(stories.to_vec())
}

fn needing(number: Number, needs: Number) -> PlannedStory {
    PlannedStory {
        dependencies: vec![id(needs)],
        ..planned(number)
    }
}

#[test]
fn a_story_that_is_done_runs_again_when_it_is_ready_at_the_next_look() {
    let mut run = Run::begin(watching(), &[1]);
    run.work(1);
    run.replan(&[]);
    run.succeed(1);
    run.catch_up();
    run.replan(&[1]);
    assert_eq!(run.attempts(1), 2);
}

#[test]
fn the_end_of_a_story_is_a_reason_to_look_at_the_board_once_it_is_written_down() {
    let mut run = Run::begin(watching(), &[1]);
    let looks = |run: &Run| run.count(|effect| matches!(effect, Effect::LookAtBoard));
    run.work(1);
    run.succeed(1);
    run.tell(Event::BoardWritten(id(1), BoardWrite::Written));
    run.tell(Event::BoardWritten(id(1), BoardWrite::Written));
    assert_eq!(looks(&run), 0);
    run.catch_up();
    assert_eq!(looks(&run), 1);
}

#[test]
fn a_story_that_crashed_for_good_comes_back_when_it_says_something_else() {
    let mut run = Run::begin(once(), &[1]);
    run.work(1);
    run.crash(1);
    run.catch_up();
    run.replan(&[1]);
    assert_eq!(run.attempts(1), 1);
    let edited = PlannedStory {
        fingerprint: Fingerprint::from(1 << 20),
        ..planned(1)
    };
    run.tell(plan_of(&[edited]));
    assert_eq!(run.attempts(1), 2);
}

#[test]
fn a_waiting_story_that_is_not_ready_for_a_moment_comes_back() {
    let mut run = Run::begin(one_at_a_time(), &[1, 2]);
    run.work(1);
    run.replan(&[]);
    assert_eq!(run.ends(2), [Outcome::Skipped(Skip::Withdrawn)]);
    run.replan(&[2]);
    run.succeed(1);
    assert_eq!(run.attempts(2), 1);
}

#[test]
fn what_needs_a_story_that_is_away_for_a_moment_comes_back_with_it() {
    let mut run = Run::begin(one_at_a_time(), &[1]);
    run.work(1);
    run.tell(plan_of(&[needing(3, 2), planned(2)]));
    // The planner still counts on the second one.
    run.tell(plan_of(&[needing(3, 2)]));
    assert_eq!(run.ends(3), [Outcome::Skipped(Skip::Dependency(id(2)))]);
    run.tell(plan_of(&[needing(3, 2), planned(2)]));
    run.succeed(1);
    run.work(2);
    run.succeed(2);
    assert_eq!(run.attempts(3), 1);
}

#[test]
fn what_needs_a_story_that_crashed_for_good_waits_until_that_comes_back() {
    let mut run = Run::begin(once(), &[1]);
    run.tell(plan_of(&[needing(2, 1)]));
    run.work(1);
    run.crash(1);
    run.catch_up();
    run.tell(plan_of(&[planned(1), needing(2, 1)]));
    assert_eq!(run.ends(2).len(), 1);
    let edited = PlannedStory {
        fingerprint: Fingerprint::from(1 << 20),
        ..planned(1)
    };
    run.tell(plan_of(&[needing(2, 1), edited]));
    run.work(1);
    run.succeed(1);
    assert_eq!(run.attempts(2), 1);
}

#[test]
fn a_pair_that_cannot_be_merged_is_told_once_and_forgotten_when_it_can() {
    let mut run = Run::begin(watching(), &[1, 2]);
    let conflicts =
        |run: &Run| run.count(|effect| matches!(effect, Effect::Tell(Notice::Conflict { .. })));
    let clash = |with| {
        let files = vec!["a.rs".to_owned()];
        Comparison::Compared(vec![Clash {
            with: id(with),
            files,
        }])
    };
    let finish = |run: &mut Run, story, comparison| {
        run.work(story);
        run.succeed(story);
        run.owed
            .retain(|event| !matches!(event, Event::Compared(..)));
        run.catch_up();
        run.tell(Event::Compared(id(story), comparison));
    };
    finish(&mut run, 1, Comparison::Compared(Vec::new()));
    finish(&mut run, 2, clash(1));
    run.select_again(1);
    finish(&mut run, 1, clash(2));
    assert_eq!(conflicts(&run), 1);
    assert_eq!(run.engine.view().conflicts.len(), 1);
    run.select_again(2);
    finish(&mut run, 2, Comparison::Compared(Vec::new()));
    assert!(run.engine.view().conflicts.is_empty());
}
