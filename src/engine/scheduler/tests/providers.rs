//! What providers say of their limits, and which stories start then.

use std::num::NonZeroUsize;

use super::{
    Claim, Effect, Event, Exit, Moment, Notice, Outcome, OutcomeKind, PlannedStory, Restart, Run,
    Settings, Skip, Standing, Verdict, WhenIdle, id, planned, rules, seconds,
};
use crate::engine::effect::BoardEntry;
use crate::engine::event::Provider;
use crate::engine::limits::Scope;

pub(super) fn provider(name: &str) -> Provider {
    Provider::from(name.to_owned())
}

fn served_by(name: &str, number: u64) -> PlannedStory {
    PlannedStory {
        provider: Some(provider(name)),
        ..planned(number)
    }
}

pub(super) fn run(settings: Settings, stories: &[(&str, u64)]) -> Run {
    let stories = stories
        .iter()
        .map(|(name, number)| served_by(name, *number));
    Run::begin_with(settings, stories)
}

impl Run {
    pub(super) fn claim_limit(&mut self, story: u64, until: Option<u64>) {
        let claim = Claim::QuotaExhausted {
            until: until.map(|seconds| Moment::from_millis(seconds * 1000)),
            reason: "slow down".to_owned(),
        };
        self.tell(Event::Claimed(self.unit(story), claim));
    }

    pub(super) fn limit(&mut self, story: u64, until: Option<u64>) {
        self.claim_limit(story, until);
        self.exit(story, Exit::Code(0));
    }

    /// The lengths of the pauses that were told, in seconds, rounded up.
    fn pauses(&self) -> Vec<u64> {
        let pauses = self.notices().filter_map(|notice| match notice {
            Notice::ProviderPaused { pause, .. } => {
                Some(pause.as_secs() + u64::from(pause.subsec_millis() > 0))
            }
            _ => None,
        });
        pauses.collect()
    }
}

#[test]
fn a_limit_brakes_its_provider_at_once_and_no_other() {
    let mut run = run(
        rules(3),
        &[("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)],
    );
    for story in [1, 2, 3] {
        run.work(story);
    }
    run.claim_limit(1, Some(100));
    // Its slot is free again before its end is taken care of.
    run.tell(Event::Exited(run.unit(1), Exit::Code(0)));
    assert_eq!((run.attempts(4), run.attempts(5)), (0, 1));
    run.succeed(2);
    run.pass(99);
    assert_eq!(run.attempts(4), 0);
    assert!(matches!(
        run.view(4).standing,
        Standing::WaitsForProvider(_)
    ));
    run.pass(1);
    assert_eq!(run.attempts(4), 1);
    let resumed = run.count(|effect| matches!(effect, Effect::Tell(Notice::ProviderResumed(_))));
    assert_eq!(resumed, 1);
}

#[test]
fn waits_of_which_nothing_is_told_double_for_the_provider_and_the_story_alike() {
    let mut run = run(rules(2), &[("a", 1), ("a", 2)]);
    run.work(1);
    run.work(2);
    run.limit(1, None);
    run.pass(1);
    run.limit(2, None);
    let first = run.pauses();
    assert!(
        first.len() == 1 && (23..=30).contains(&first[0]),
        "{first:?}"
    );
    run.pass(30);
    assert_eq!((run.attempts(1), run.attempts(2)), (2, 2));
    run.work(1);
    run.work(2);
    run.limit(2, None);
    let second = run.pauses()[1];
    assert!((45..=60).contains(&second), "{second}");
    run.succeed(1);
    run.pass(60);
    run.work(2);
    run.succeed(2);
    run.catch_up();
    assert!(run.engine.is_finished());
}

#[test]
fn an_agent_that_waits_by_itself_keeps_others_from_starting_for_as_long() {
    let mut run = run(rules(2), &[("a", 1), ("a", 2), ("a", 3)]);
    run.work(1);
    run.work(2);
    let until = Moment::from_millis(7_000);
    run.tell(Event::ProviderPaused(
        provider("a"),
        until,
        "429".to_owned(),
    ));
    run.succeed(2);
    assert_eq!(run.attempts(3), 0);
    run.pass(7);
    assert_eq!(run.attempts(3), 1);
}

#[test]
fn a_limit_is_waited_for_so_often_and_not_more() {
    let mut settings = rules(1);
    settings.retry.most_quota_waits = 1;
    settings.retry.quota.first = seconds(1);
    let mut run = run(settings, &[("a", 1)]);
    run.work(1);
    run.limit(1, None);
    run.pass(1);
    run.work(1);
    run.limit(1, None);
    assert_eq!(run.ended_as(1), [OutcomeKind::QuotaExhausted]);
    let ends = run.ends(1);
    assert!(matches!(
        ends[0],
        Outcome::QuotaExhausted { until: Some(_), .. }
    ));
}

#[test]
fn a_provider_that_refuses_stops_its_own_stories_alone() {
    let mut run = run(
        rules(2),
        &[("a", 1), ("b", 2), ("a", 3), ("b", 4), ("a", 5)],
    );
    run.work(1);
    run.work(2);
    let reason = "no such key".to_owned();
    let claim = Claim::ProviderRefused {
        reason: reason.clone(),
    };
    run.tell(Event::Claimed(run.unit(1), claim));
    let skipped = Outcome::Skipped(Skip::ProviderRefused(provider("a"), reason.clone()));
    assert_eq!(run.ends(3), std::slice::from_ref(&skipped));
    assert_eq!(run.ends(5), [skipped]);
    run.exit(1, Exit::Code(0));
    assert_eq!(
        run.ends(1),
        [Outcome::ProviderRefused {
            reason: reason.clone()
        }]
    );
    let returned = BoardEntry::Returned {
        error: Some(reason),
    };
    assert!(run.asked.contains(&Effect::WriteBoard(id(1), returned)));
    run.work(4);
    run.succeed(2);
    run.succeed(4);
    run.catch_up();
    assert_eq!(run.engine.verdict(), Verdict::SomeDidNot);
    let told = |effect: &Effect| matches!(effect, Effect::Tell(Notice::ProviderRefused { .. }));
    assert_eq!(run.count(told), 1);
}

#[test]
fn a_run_that_waits_for_stories_skips_those_of_a_provider_that_refuses_once() {
    let mut settings = rules(1);
    settings.when_idle = WhenIdle::WaitForStories;
    let mut run = run(settings, &[("a", 1), ("a", 2)]);
    run.work(1);
    let reason = "no such key".to_owned();
    run.tell(Event::Claimed(
        run.unit(1),
        Claim::ProviderRefused { reason },
    ));
    run.exit(1, Exit::Code(0));
    run.catch_up();
    let board = || vec![served_by("a", 2), served_by("a", 3), served_by("b", 4)];
    run.tell(Event::Replanned(board()));
    run.tell(Event::Replanned(board()));
    assert_eq!((run.ends(2).len(), run.ends(3).len()), (1, 1));
    assert_eq!(run.attempts(4), 1);
    // Whoever goes on with the run has seen to it.
    run.restart(0);
    run.tell(Event::Replanned(board()));
    run.work(4);
    run.succeed(4);
    assert_eq!(run.attempts(2), 1);
    assert_eq!(run.ends(3).len(), 1);
}

#[test]
fn what_an_agent_may_use_is_a_budget_of_its_story() {
    let mut run = run(rules(1), &[("a", 1)]);
    run.work(1);
    let reason = "its 50 turns are used up".to_owned();
    run.tell(Event::Claimed(
        run.unit(1),
        Claim::Exceeded {
            reason: reason.clone(),
        },
    ));
    run.exit(1, Exit::Code(0));
    let scope = Scope::Story;
    let outcome = Outcome::BudgetExceeded {
        reason: reason.clone(),
        scope,
    };
    assert_eq!(run.ends(1), [outcome]);
    let entry = BoardEntry::NeedsPerson { reason };
    assert!(run.asked.contains(&Effect::WriteBoard(id(1), entry)));
}

#[test]
fn no_more_attempts_of_a_provider_are_alive_than_it_may_have_and_others_pass_them() {
    let mut settings = rules(3);
    settings
        .most_of_provider
        .insert(provider("a"), NonZeroUsize::MIN);
    let mut run = run(
        settings,
        &[("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)],
    );
    let begun = |run: &Run| [1, 2, 3, 4, 5].map(|story| run.attempts(story));
    assert_eq!(begun(&run), [1, 0, 1, 0, 1]);
    run.work(1);
    run.work(3);
    run.succeed(3);
    assert_eq!(begun(&run), [1, 0, 1, 0, 1]);
    run.succeed(1);
    assert_eq!(begun(&run), [1, 1, 1, 0, 1]);
}

#[test]
fn a_limit_is_over_when_it_was_to_be_although_the_run_was_dead_meanwhile() {
    let minutes = |minutes: u64| minutes * 60;
    let mut run = run(rules(1), &[("a", 1), ("a", 2)]);
    run.work(1);
    run.limit(1, Some(minutes(60)));
    run.pass(minutes(10));
    // The clock of the run stands still while it is dead.
    run.restart_with(Restart {
        away: seconds(minutes(40)),
        ..Restart::default()
    });
    run.pass(minutes(10) - 1);
    assert_eq!((run.attempts(1), run.attempts(2)), (1, 0));
    run.pass(1);
    assert_eq!(run.attempts(1) + run.attempts(2), 2);

    let mut run = self::run(rules(2), &[("a", 1), ("a", 2)]);
    run.work(1);
    run.limit(1, Some(minutes(60)));
    run.restart_with(Restart {
        away: seconds(minutes(90)),
        ..Restart::default()
    });
    assert_eq!((run.attempts(1), run.attempts(2)), (2, 2));
}

#[test]
fn journals_of_versions_without_it_say_that_nobody_was_away() {
    let restart: Restart = serde_json::from_str(r#"{"slots":null,"found":[]}"#).unwrap();
    assert_eq!(restart, Restart::default());
    let mut settings = serde_json::to_value(rules(1)).unwrap();
    let fields = settings.as_object_mut().unwrap();
    fields.remove("most_of_provider");
    fields["retry"].as_object_mut().unwrap().remove("quota");
    assert_eq!(
        serde_json::from_value::<Settings>(settings).unwrap(),
        rules(1)
    );
}
