//! A restart in which several stories end.

use std::num::NonZeroUsize;

use super::{
    Claim, Effect, Event, Exit, OnBoard, OnFailure, Outcome, OutcomeKind, Restart, Run, Settings,
    Skip, Standing, Verdict, id, rules, ten_tokens, tokens,
};
use crate::engine::recovery::{
    Attempt, Branch, Conversation, Found, Left, Processes, Stood, Tree, decide,
};

fn cautious() -> Settings {
    Settings {
        on_failure: OnFailure::StopStarting,
        story_limits: ten_tokens(),
        ..rules(3)
    }
}

#[test]
fn a_restart_reports_every_story_once_when_several_have_used_up_their_budgets() {
    let mut run = Run::begin(cautious(), &[1, 2, 3, 4]);
    for story in [1, 2, 3] {
        run.work(story);
    }
    run.use_up(1, tokens(3));
    run.use_up(2, tokens(12));
    run.use_up(3, tokens(13));
    run.restart(5);
    let skipped = Outcome::Skipped(Skip::StoppedAfter(id(2)));
    assert_eq!(run.ends(1), std::slice::from_ref(&skipped));
    assert_eq!(run.ended_as(2), [OutcomeKind::BudgetExceeded]);
    assert_eq!(run.ended_as(3), [OutcomeKind::BudgetExceeded]);
    assert_eq!(run.ends(4), [skipped]);
    run.catch_up();
    assert!(run.engine.is_finished());
    assert_eq!(run.engine.verdict(), Verdict::Exhausted);
}

#[test]
fn a_restart_asks_the_person_once_when_several_have_used_up_their_budgets() {
    let mut run = Run::begin(
        Settings {
            on_failure: OnFailure::Ask,
            ..cautious()
        },
        &[1, 2, 3],
    );
    for story in [1, 2, 3] {
        run.work(story);
    }
    run.use_up(1, tokens(12));
    run.use_up(3, tokens(12));
    run.restart(5);
    let asked = run.count(|effect| matches!(effect, Effect::AskToGoOn(_)));
    assert_eq!(asked, 1);
    assert_eq!(run.view(2).standing, Standing::Ready);
    assert_eq!(run.attempts(2), 1);
}

#[test]
fn what_the_board_says_of_a_story_counts_when_its_end_was_not_recorded() {
    let mut run = Run::begin(rules(2), &[1, 2, 3, 4]);
    run.work(1);
    run.work(2);
    run.catch_up();
    run.restart_with(Restart {
        slots: NonZeroUsize::new(1),
        found: vec![(id(1), OnBoard::Done), (id(3), OnBoard::NotWanted)],
        ..Restart::default()
    });
    assert_eq!(run.ended_as(1), [OutcomeKind::Succeeded]);
    assert_eq!(run.ends(3), [Outcome::Skipped(Skip::Withdrawn)]);
    // Nothing is written of either, and the only slot goes to what was interrupted.
    let written = run.count(|effect| {
        matches!(effect, Effect::WriteBoard(story, _) if *story == id(1) || *story == id(3))
    });
    assert_eq!(written, 1);
    assert_eq!(run.view(2).standing, Standing::Preparing);
    assert_eq!(run.unit(2).attempt.get(), 2);
    assert_eq!(run.view(4).standing, Standing::Ready);
    run.work(2);
    run.succeed(2);
    run.work(4);
    run.succeed(4);
    run.catch_up();
    assert!(run.engine.is_finished());
    assert_eq!(run.engine.verdict(), Verdict::SomeDidNot);
}

#[test]
fn a_restart_does_with_every_attempt_what_the_table_says() {
    type Play = fn(&mut Run);
    let stages: [(Stood, Play); 5] = [
        (Stood::NotBegun, |_| {}),
        (Stood::Preparing, |_| {}),
        (Stood::Working, |run| run.work(1)),
        (Stood::Settling, |run| {
            run.work(1);
            run.tell(Event::Claimed(run.unit(1), Claim::Succeeded));
            run.tell(Event::Exited(run.unit(1), Exit::Code(0)));
        }),
        (Stood::Through, |run| {
            run.work(1);
            run.succeed(1);
        }),
    ];
    for (stood, play) in stages {
        let mut run = Run::begin(cautious(), &[1, 2, 3, 4]);
        play(&mut run);
        // The fourth one waits for a slot, unless one has become free.
        let story = if stood == Stood::NotBegun { 4 } else { 1 };
        let before = run.asked.len();
        run.restart(1);
        let asked = &run.asked[before..];
        let prepares = |number| {
            asked.iter().any(|effect| {
                matches!(effect, Effect::Prepare(unit) if unit.story == id(story) && unit.attempt.get() == number)
            })
        };
        let settles = asked
            .iter()
            .any(|effect| matches!(effect, Effect::Settle { .. }));
        let expected = decide(Found {
            stood,
            processes: Processes::Gone,
            tree: Tree::Stands,
            branch: Branch::Ahead,
            conversation: Conversation::Unknown,
            left: Left::Something,
        });
        let does = match expected.attempt {
            Attempt::Next(_) => prepares(2) && !settles,
            Attempt::SettleAgain => settles && !prepares(2),
            Attempt::Wait => !prepares(2) && run.view(story).standing == Standing::Ready,
            Attempt::Over => !settles && !prepares(2),
            other => panic!("{other:?}"),
        };
        assert!(does, "{stood:?}: {expected:?} and not {asked:?}");
    }
}

#[test]
fn the_same_restart_gives_the_same_effects() {
    let play = || {
        let mut run = Run::begin(cautious(), &[3, 1, 2]);
        for story in [1, 2, 3] {
            run.work(story);
            run.use_up(story, tokens(12));
        }
        run.restart(5);
        run.asked
    };
    assert_eq!(play(), play());
}
