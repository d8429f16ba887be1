//! A restart in which several stories end.

use super::{
    Effect, OnFailure, Outcome, OutcomeKind, Run, Settings, Skip, Standing, Verdict, id, rules,
    ten_tokens, tokens,
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
    assert_eq!(run.engine.verdict(), Verdict::SomeDidNot);
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
