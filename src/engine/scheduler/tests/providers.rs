//! What providers say of their limits, and which stories start then.

use super::{
    Claim, Effect, Event, Exit, Moment, Notice, Outcome, OutcomeKind, PlannedStory, Run, Settings,
    Standing, planned, rules, seconds,
};
use crate::engine::event::Provider;

fn provider(name: &str) -> Provider {
    Provider::from(name.to_owned())
}

fn served_by(name: &str, number: u64) -> PlannedStory {
    PlannedStory {
        provider: Some(provider(name)),
        ..planned(number)
    }
}

fn run(settings: Settings, stories: &[(&str, u64)]) -> Run {
    let stories = stories
        .iter()
        .map(|(name, number)| served_by(name, *number));
    Run::begin_with(settings, stories)
}

impl Run {
    fn claim_limit(&mut self, story: u64, until: Option<u64>) {
        let claim = Claim::QuotaExhausted {
            until: until.map(|seconds| Moment::from_millis(seconds * 1000)),
            reason: "slow down".to_owned(),
        };
        self.tell(Event::Claimed(self.unit(story), claim));
    }

    fn limit(&mut self, story: u64, until: Option<u64>) {
        self.claim_limit(story, until);
        self.exit(story, Exit::Code(0));
    }

    /// The lengths of the pauses that were told, in seconds, rounded up.
    fn pauses(&self) -> Vec<u64> {
        let pauses = self.notices().filter_map(|notice| match notice {
            Notice::ProviderPaused { pause, .. } => Some(pause.as_millis().div_ceil(1000) as u64),
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
