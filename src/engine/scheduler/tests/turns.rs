//! Whose agents may begin a turn.

use super::providers::{provider, run};
use super::*;

/// Rules with that many slots, by which a provider has so many turns a minute.
fn paced(slots: usize, turns: u32) -> Settings {
    let turns = NonZeroU32::new(turns).map(|turns| (provider("a"), turns));
    Settings {
        turns_per_minute: turns.into_iter().collect(),
        ..rules(slots)
    }
}

impl Run {
    fn ask(&mut self, story: Number) {
        self.tell(Event::TurnAsked(self.unit(story)));
    }

    /// Whose turns were granted, in that order.
    fn granted(&self) -> Vec<Number> {
        let granted = self.asked.iter().filter_map(|effect| match effect {
            Effect::GrantTurn(unit, _) => Some(unit.story.clone()),
            _ => None,
        });
        granted
            .map(|story| (1..100).find(|number| id(*number) == story).unwrap())
            .collect()
    }

    fn started(&self) -> usize {
        self.count(|effect| matches!(effect, Effect::Prepare(_)))
    }
}

#[test]
fn a_turn_is_granted_at_once_when_nothing_is_in_its_way() {
    let mut run = run(rules(2), &[("a", 1), ("b", 2)]);
    run.work(1);
    run.work(2);
    run.ask(2);
    run.ask(1);
    run.ask(1);
    assert_eq!(run.granted(), [2, 1, 1]);
}

#[test]
fn a_provider_that_has_had_its_turns_starts_no_story_and_others_do() {
    let stories = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5)];
    let mut run = run(paced(4, 2), &stories);
    // Each story that starts is to have a turn soon.
    assert_eq!(run.started(), 4);
    for story in [1, 2, 4, 5] {
        run.work(story);
        run.ask(story);
    }
    assert_eq!(run.granted(), [1, 2, 4, 5]);
    run.fail(4);
    assert_eq!(run.started(), 4);
    run.pass(59);
    assert_eq!(run.started(), 4);
    run.pass(1);
    assert_eq!(run.started(), 5);
}

#[test]
fn further_turns_are_granted_in_the_order_in_which_they_were_asked_for() {
    let mut run = run(paced(3, 3), &[("a", 1), ("a", 2), ("a", 3)]);
    for story in [1, 2, 3] {
        run.work(story);
        run.ask(story);
        run.pass(10);
    }
    for story in [2, 1, 2, 3] {
        run.ask(story);
    }
    assert_eq!(run.granted(), [1, 2, 3]);
    run.pass(30);
    assert_eq!(run.granted(), [1, 2, 3, 2]);
    run.pass(20);
    assert_eq!(run.granted(), [1, 2, 3, 2, 1, 3]);
}

#[test]
fn an_attempt_that_never_began_a_turn_gives_back_what_was_promised_to_it() {
    let mut run = run(paced(1, 1), &[("a", 1), ("a", 2)]);
    run.work(1);
    run.tell(Event::Claimed(
        run.unit(1),
        Claim::Failed {
            reason: "no".to_owned(),
        },
    ));
    run.exit(1, Exit::Code(0));
    assert_eq!(run.started(), 2);
}

#[test]
fn whoever_waits_for_a_turn_is_not_stalled() {
    let mut settings = paced(1, 1);
    settings.patience = Patience::default();
    let mut run = run(settings, &[("a", 1)]);
    run.work(1);
    run.ask(1);
    // The provider serves no more for a little while, again and again.
    for round in 0..60 {
        let until = Moment::from_millis(round * 40_000 + 50_000);
        run.tell(Event::ProviderPaused(provider("a"), until, "no".to_owned()));
        if round == 0 {
            run.ask(1);
        }
        for _ in 0..4 {
            run.pass(10);
            run.tell(Event::Answered(run.unit(1), Vitals::new(u64::MAX, None)));
        }
    }
    assert!(!run.is_asked_to_stop(1));
    run.pass(60);
    assert_eq!(run.granted(), [1, 1]);
}

#[test]
fn nobody_begins_a_turn_with_a_provider_that_serves_no_more() {
    let mut run = run(rules(3), &[("a", 1), ("a", 2), ("b", 3)]);
    run.work(1);
    run.work(2);
    run.work(3);
    run.ask(1);
    run.limit(1, Some(3600));
    run.ask(2);
    run.ask(3);
    assert_eq!(run.granted(), [1, 3]);
    // It gives its slot to others until then.
    assert!(run.is_asked_to_stop(2));
    run.exit(2, Exit::Code(0));
    assert_eq!(run.ends(2), []);
    assert_eq!(run.started(), 3);
    run.pass(3600);
    assert_eq!(run.started(), 5);
}

#[test]
fn a_short_pause_is_waited_for() {
    let mut run = run(rules(1), &[("a", 1)]);
    run.work(1);
    let until = Moment::from_millis(30_000);
    run.tell(Event::ProviderPaused(provider("a"), until, "no".to_owned()));
    run.ask(1);
    run.pass(29);
    assert!(run.granted().is_empty());
    run.pass(1);
    assert_eq!(run.granted(), [1]);
    assert!(!run.is_asked_to_stop(1));
}

#[test]
fn nobody_begins_a_turn_with_a_provider_that_refuses() {
    let mut run = run(rules(2), &[("a", 1), ("a", 2)]);
    run.work(1);
    run.work(2);
    run.ask(1);
    let claim = Claim::ProviderRefused {
        reason: "no such key".to_owned(),
    };
    run.tell(Event::Claimed(run.unit(1), claim));
    run.ask(2);
    run.exit(2, Exit::Code(0));
    assert_eq!(run.granted(), [1]);
    assert_eq!(run.ended_as(2), [OutcomeKind::ProviderRefused]);
}

#[test]
fn no_turn_begins_when_nothing_is_left_of_a_budget() {
    let of_ten = Limits {
        tokens: Some(10),
        ..Limits::default()
    };
    let settings = Settings {
        story_limits: of_ten,
        ..rules(2)
    };
    let mut story = run(settings, &[("a", 1), ("a", 2)]);
    for number in [1, 2] {
        story.work(number);
        story.ask(number);
    }
    story.use_up(1, tokens(10));
    assert!(!story.is_asked_to_stop(1));
    story.ask(1);
    assert_eq!(story.granted(), [1, 2]);
    assert!(story.is_asked_to_stop(1));
    assert!(!story.is_asked_to_stop(2));

    let settings = Settings {
        run_limits: of_ten,
        ..rules(2)
    };
    let mut whole = run(settings, &[("a", 1), ("a", 2), ("a", 3)]);
    whole.work(1);
    whole.ask(1);
    whole.use_up(1, tokens(10));
    whole.work(2);
    whole.ask(2);
    assert_eq!(whole.granted(), [1]);
    assert_eq!(whole.ended_as(3), [OutcomeKind::Skipped]);
}

#[test]
fn a_restart_forgets_who_asked_and_not_what_was_granted() {
    let mut run = run(paced(1, 1), &[("a", 1), ("a", 2)]);
    run.work(1);
    run.ask(1);
    run.ask(1);
    run.tell(Event::Resumed(Restart {
        away: seconds(20),
        ..Restart::default()
    }));
    assert_eq!(run.started(), 1);
    run.pass(39);
    assert_eq!(run.started(), 1);
    run.pass(1);
    assert_eq!(run.started(), 2);
    assert_eq!(run.granted(), [1]);
}
