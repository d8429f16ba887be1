//! What the end of one story means for the others.

use super::*;
use crate::engine::effect::BoardEntry;

fn strict(on_failure: OnFailure) -> Settings {
    Settings {
        on_failure,
        ..rules(1)
    }
}

/// The process of a story has failed; nobody has taken care of that yet.
fn fails(run: &mut Run, story: Number) {
    let reason = "no".to_owned();
    run.tell(Event::Claimed(run.unit(story), Claim::Failed { reason }));
    run.tell(Event::Exited(run.unit(story), Exit::Code(1)));
}

#[test]
fn nothing_starts_between_the_failure_of_a_process_and_its_end() {
    for on_failure in [OnFailure::StopStarting, OnFailure::Ask] {
        let mut run = Run::begin(strict(on_failure), &[1, 2]);
        run.work(1);
        fails(&mut run, 1);
        assert_eq!(run.attempts(2), 0, "{on_failure:?}");
        run.tell(Event::Settled(run.unit(1), Settlement::Confirmed));
        assert_eq!(run.attempts(2), 0, "{on_failure:?}");
        let asked = run.count(|effect| matches!(effect, Effect::AskToGoOn(_)));
        assert_eq!(asked, usize::from(on_failure == OnFailure::Ask));
    }
}

#[test]
fn where_a_failure_means_nothing_its_slot_is_filled_at_once() {
    let mut run = Run::begin(strict(OnFailure::GoOn), &[1, 2]);
    run.work(1);
    fails(&mut run, 1);
    assert_eq!(run.attempts(2), 1);
}

#[test]
fn an_end_that_is_tried_again_and_a_success_hold_nothing() {
    for exit in [Exit::Signal(9), Exit::Code(0)] {
        let mut run = Run::begin(strict(OnFailure::StopStarting), &[1, 2]);
        run.work(1);
        if exit == Exit::Code(0) {
            run.tell(Event::Claimed(run.unit(1), Claim::Succeeded));
        }
        run.tell(Event::Exited(run.unit(1), exit));
        assert_eq!(run.attempts(2), 1, "{exit:?}");
    }
}

#[test]
fn a_crash_stays_one_when_nobody_could_take_care_of_it() {
    let mut run = Run::begin(strict(OnFailure::StopStarting), &[1, 2]);
    run.work(1);
    run.tell(Event::Exited(run.unit(1), Exit::Signal(9)));
    let refuted = Settlement::Refuted("broke".to_owned());
    run.tell(Event::Settled(run.unit(1), refuted));
    assert!(run.ends(1).is_empty());
}

#[test]
fn the_budget_of_the_run_says_nothing_of_a_story() {
    let limits = ten_tokens();
    for (of_run, of_story) in [(limits, Limits::default()), (Limits::default(), limits)] {
        let mut run = Run::begin(
            Settings {
                run_limits: of_run,
                story_limits: of_story,
                ..rules(1)
            },
            &[1],
        );
        run.work(1);
        run.use_up(1, tokens(11));
        run.exit(1, Exit::Signal(15));
        assert_eq!(run.ended_as(1), [OutcomeKind::BudgetExceeded]);
        let mut entries = run.asked.iter().filter_map(|effect| match effect {
            Effect::WriteBoard(_, entry) => Some(entry),
            _ => None,
        });
        let last = entries.next_back().unwrap();
        if of_run == limits {
            assert_eq!(*last, BoardEntry::Returned { error: None });
        } else {
            assert!(matches!(last, BoardEntry::NeedsPerson { .. }), "{last:?}");
        }
    }
}
