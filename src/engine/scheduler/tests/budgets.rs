//! What is told before a budget is used up, and what the runs of a day may use.

use super::*;
use crate::engine::day::CalendarDay;
use crate::engine::effect::BoardEntry;
use crate::engine::limits::{Budget, Overrun, Scope};

const TODAY: CalendarDay = CalendarDay::new(2026, 11, 26);
const TOMORROW: CalendarDay = CalendarDay::new(2026, 11, 27);

fn of_tokens(most: u64) -> Limits {
    Limits {
        tokens: Some(most),
        ..Limits::default()
    }
}

impl Run {
    /// The budgets of which was told that little is left.
    fn near(&self) -> Vec<(Scope, Budget, u64)> {
        let near = self.notices().filter_map(|notice| match notice {
            Notice::BudgetNear { scope, share, .. } => Some((*scope, share.budget, share.used)),
            _ => None,
        });
        near.collect()
    }

    fn exceeded(&self) -> Vec<Overrun> {
        let exceeded = self.notices().filter_map(|notice| match notice {
            Notice::RunExceeded(overrun) => Some(*overrun),
            _ => None,
        });
        exceeded.collect()
    }
}

#[test]
fn little_that_is_left_is_told_once_of_each_budget() {
    let settings = Settings {
        story_limits: of_tokens(100),
        run_limits: of_tokens(150),
        ..rules(2)
    };
    let mut run = Run::begin(settings, &[1, 2]);
    run.work(1);
    run.work(2);
    run.use_up(1, tokens(79));
    assert_eq!(run.near(), []);
    run.use_up(1, tokens(80));
    run.use_up(1, tokens(85));
    run.use_up(2, tokens(35));
    run.use_up(2, tokens(36));
    let expected = [
        (Scope::Story, Budget::Tokens, 80),
        (Scope::Run, Budget::Tokens, 120),
    ];
    assert_eq!(run.near(), expected);
}

#[test]
fn a_turn_may_use_what_is_left_of_every_budget() {
    let cost = |most| Limits {
        cost_micros_usd: Some(most),
        ..Limits::default()
    };
    let used = |cost_micros_usd| Usage {
        cost_micros_usd,
        ..Usage::default()
    };
    let settings = Settings {
        story_limits: cost(100),
        run_limits: cost(150),
        ..rules(2)
    };
    let mut run = Run::begin(settings, &[1, 2]);
    run.work(1);
    run.work(2);
    let mut allowed = |story, uses| {
        run.use_up(story, used(uses));
        run.tell(Event::TurnAsked(run.unit(story)));
        let granted = run.asked.iter().rev().find_map(|effect| match effect {
            Effect::GrantTurn(_, allowance) => Some(*allowance),
            _ => None,
        });
        granted.unwrap()
    };
    assert_eq!(allowed(1, 0).cost_micros_usd, Some(100));
    assert_eq!(allowed(1, 90).cost_micros_usd, Some(10));
    assert_eq!(allowed(2, 30).cost_micros_usd, Some(30));
    assert_eq!(allowed(2, 30).turns, None);
}

#[test]
fn an_agent_that_ends_at_what_is_left_for_everybody_is_not_to_blame() {
    for used in [10, 11] {
        let settings = Settings {
            run_limits: of_tokens(10),
            ..rules(1)
        };
        let mut run = Run::begin(settings, &[1]);
        run.work(1);
        run.use_up(1, tokens(used));
        let reason = "its budget is used up".to_owned();
        run.tell(Event::Claimed(run.unit(1), Claim::Exceeded { reason }));
        run.exit(1, Exit::Code(0));
        let overrun = Overrun {
            scope: Scope::Run,
            budget: Budget::Tokens,
        };
        assert_eq!(run.ends(1), [Outcome::of_overrun(overrun)], "{used}");
        let entry = BoardEntry::Returned { error: None };
        assert!(run.asked.contains(&Effect::WriteBoard(id(1), entry)));
    }
}

#[test]
fn what_is_used_up_at_once_is_told_as_that_alone() {
    let settings = Settings {
        run_limits: of_tokens(10),
        ..rules(1)
    };
    let mut run = Run::begin(settings, &[1]);
    run.work(1);
    run.use_up(1, tokens(11));
    assert_eq!(run.near(), []);
    assert_eq!(run.exceeded().len(), 1);
}

#[test]
fn little_time_that_is_left_is_told() {
    let settings = Settings {
        story_limits: Limits {
            time: Some(seconds(100)),
            ..Limits::default()
        },
        run_limits: Limits {
            time: Some(seconds(200)),
            ..Limits::default()
        },
        ..rules(1)
    };
    let mut run = Run::begin(settings, &[1]);
    run.pass(50);
    run.work(1);
    run.pass(29);
    assert_eq!(run.near(), []);
    run.pass(1);
    assert_eq!(run.near(), [(Scope::Story, Budget::Time, 80_000)]);
    run.pass(30);
    assert_eq!(run.ended_as(1), []);
    assert!(run.is_asked_to_stop(1));
    run.exit(1, Exit::Signal(15));
    assert_eq!(run.near().len(), 1);
}

#[test]
fn turns_are_a_budget() {
    let settings = Settings {
        story_limits: Limits {
            turns: Some(2),
            ..Limits::default()
        },
        ..rules(1)
    };
    let mut run = Run::begin(settings, &[1]);
    run.work(1);
    let turns = |turns| Usage {
        turns,
        ..Usage::default()
    };
    run.use_up(1, turns(2));
    assert!(!run.is_asked_to_stop(1));
    run.use_up(1, turns(3));
    assert!(run.is_asked_to_stop(1));
    run.exit(1, Exit::Signal(15));
    assert_eq!(run.ended_as(1), [OutcomeKind::BudgetExceeded]);
    run.catch_up();
    assert_eq!(run.engine.verdict(), Verdict::Exhausted);
}

#[test]
fn what_other_runs_have_used_today_counts_for_the_day() {
    let settings = Settings {
        day_limits: of_tokens(100),
        ..rules(1)
    };
    let mut run = Run::begin(settings, &[1, 2]);
    run.tell(Event::DayIs(TODAY, tokens(70)));
    run.work(1);
    run.use_up(1, tokens(20));
    assert_eq!(run.near(), [(Scope::Day, Budget::Tokens, 90)]);
    run.use_up(1, tokens(31));
    assert!(run.is_asked_to_stop(1));
    let overrun = Overrun {
        scope: Scope::Day,
        budget: Budget::Tokens,
    };
    assert_eq!(run.exceeded(), [overrun]);
    run.exit(1, Exit::Signal(15));
    run.catch_up();
    assert_eq!(run.ended_as(1), [OutcomeKind::BudgetExceeded]);
    assert_eq!(run.ended_as(2), [OutcomeKind::Skipped]);
    assert_eq!(run.engine.verdict(), Verdict::Exhausted);
}

#[test]
fn a_new_day_has_its_own_budget() {
    let settings = Settings {
        day_limits: of_tokens(100),
        ..rules(1)
    };
    let mut run = Run::begin(settings, &[1]);
    run.tell(Event::DayIs(TODAY, tokens(0)));
    run.work(1);
    run.use_up(1, tokens(95));
    run.tell(Event::DayIs(TOMORROW, tokens(0)));
    run.use_up(1, tokens(180));
    assert!(!run.is_asked_to_stop(1));
    // Told of each day.
    assert_eq!(
        run.near(),
        [
            (Scope::Day, Budget::Tokens, 95),
            (Scope::Day, Budget::Tokens, 85)
        ]
    );
    let own = run.engine.view().day.unwrap();
    assert_eq!((own.day, own.usage), (TOMORROW, tokens(85)));
    run.use_up(1, tokens(196));
    assert!(run.is_asked_to_stop(1));
}

#[test]
fn nothing_starts_on_a_day_of_which_nothing_is_left() {
    let settings = Settings {
        day_limits: of_tokens(100),
        ..rules(1)
    };
    let mut engine = Engine::new(settings, vec![planned(1)]);
    let now = Moment::default();
    let mut effects = Vec::new();
    for event in [Event::DayIs(TODAY, tokens(100)), Event::Began] {
        effects.extend(engine.step(event, now));
    }
    let starts = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Prepare(_)));
    assert!(!starts, "{effects:?}");
    assert!(engine.is_finished());
    assert_eq!(engine.verdict(), Verdict::Exhausted);
}

#[test]
fn a_restart_may_raise_what_the_run_may_use() {
    let settings = Settings {
        run_limits: of_tokens(100),
        ..rules(1)
    };
    let mut run = Run::begin(settings, &[1]);
    run.work(1);
    run.use_up(1, tokens(90));
    run.tell(Event::Resumed(Restart {
        run_limits: Some(of_tokens(1000)),
        ..Restart::default()
    }));
    run.work(1);
    run.use_up(1, tokens(500));
    assert!(run.exceeded().is_empty());
    assert_eq!(run.near(), [(Scope::Run, Budget::Tokens, 90)]);
}
