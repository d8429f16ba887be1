//! The diagram of the lifecycle, transition by transition: what is told when, what is asked for, and what it becomes.

mod late;

use std::time::Duration;

use Input::{
    Answered, Claimed, Connected, Disconnected, Exceeded, Exited, LaunchFailed, PhaseEntered,
    PrepareFailed, Prepared, Progressed, ProtocolViolated, Settled, Stop, StopNow, TimePassed,
    Touched,
};

use super::{
    Cause, Deadlines, Disposal, Effect, Effects, Input, Patience, Retention, Rules, Scene, Sequel,
    State, Step, StopStep, settle_again,
};
use crate::engine::effect::Notice;
use crate::engine::event::{Settlement, Unit};
use crate::engine::id::{AttemptNumber, Phase};
use crate::engine::limits::{Budget, Overrun, Scope};
use crate::engine::outcome::{Claim, Exit, Outcome, StopReason};
use crate::engine::time::Moment;

const SECOND: Duration = Duration::from_secs(1);

const TOKENS: Overrun = Overrun {
    scope: Scope::Story,
    budget: Budget::Tokens,
};

/// Deadlines that are all different, so that none can be taken for another one, in seconds: 100 to prepare, 30 to
/// connect, 20 to exit, 10 and 1 to stop, 5 to be reaped, 200 to settle.
fn rules() -> Rules {
    Rules {
        deadlines: Deadlines {
            prepare: 100 * SECOND,
            connect: 30 * SECOND,
            exit: 20 * SECOND,
            grace: 10 * SECOND,
            margin: SECOND,
            reap: 5 * SECOND,
            settle: 200 * SECOND,
            ..Deadlines::default()
        },
        patience: Patience {
            answer: 40 * SECOND,
            quiet: 300 * SECOND,
            stalled: 1000 * SECOND,
            oversleep: 20 * SECOND,
        },
        retention: Retention::RemoveSucceeded,
        look: None,
        time_up: None,
    }
}

fn unit() -> Unit {
    Unit {
        story: "S-0001".parse().unwrap(),
        attempt: AttemptNumber::FIRST,
    }
}

fn because() -> String {
    "because".to_owned()
}

fn failed() -> Claim {
    Claim::Failed { reason: because() }
}

const KILLED: Exit = Exit::Signal(9);

fn name_of_effect(effect: Effect) -> String {
    let (name, of) = match effect {
        Effect::Prepare(of) => ("prepare".to_owned(), of),
        Effect::AbandonPreparation(of) => ("abandon".to_owned(), of),
        Effect::Launch(of) => ("launch".to_owned(), of),
        Effect::AskToStop { unit, grace, .. } => (format!("ask within {}", grace.as_secs()), unit),
        Effect::Kill(of) => ("kill".to_owned(), of),
        Effect::LookAtFiles(of) => ("look".to_owned(), of),
        Effect::Settle {
            unit,
            outcome,
            disposal,
        } => {
            let disposal = match disposal {
                Disposal::Remove => "remove",
                Disposal::Undo => "undo",
                Disposal::Keep => "keep",
            };
            (format!("settle {} and {disposal}", outcome.name()), unit)
        }
        Effect::Tell(Notice::Quiet { unit, idle }) => {
            (format!("quiet for {}", idle.as_secs()), unit)
        }
        other => panic!("an attempt does not ask for {other:?}"),
    };
    assert_eq!(of, unit());
    name
}

fn name_of_state(state: &State) -> &'static str {
    match state {
        State::Preparing { .. } => "preparing",
        State::Abandoning {
            step: StopStep::Asked,
            ..
        } => "abandoning",
        State::Abandoning { .. } => "abandoned",
        State::Starting { .. } => "starting",
        State::Running { .. } => "running",
        State::Leaving { .. } => "leaving",
        State::Stopping {
            step: StopStep::Asked,
            ..
        } => "stopping",
        State::Stopping { .. } => "killed",
        State::Settling { .. } => "settling",
    }
}

/// One attempt, and its clock in seconds.
struct Play {
    rules: Rules,
    now: u64,
    step: Option<Step>,
}

impl Play {
    fn begin(rules: Rules) -> Self {
        let mut effects = Effects::default();
        let mut play = Self {
            rules,
            now: 0,
            step: None,
        };
        let state = State::begin(&play.scene(&unit()), &mut effects);
        assert_eq!(
            effects.into_iter().map(name_of_effect).collect::<Vec<_>>(),
            ["prepare"]
        );
        play.step = Some(Step::In(state));
        play
    }

    fn scene<'a>(&self, unit: &'a Unit) -> Scene<'a> {
        Scene {
            unit,
            now: Moment::from_millis(self.now * 1000),
            rules: self.rules,
        }
    }

    fn state(&self) -> &State {
        match &self.step {
            Some(Step::In(state)) => state,
            other => panic!("it is over: {other:?}"),
        }
    }

    /// Tells something so many seconds later, and says what is asked for and what it becomes.
    fn tell(&mut self, later: u64, input: Input) -> String {
        self.now += later;
        let Some(Step::In(state)) = self.step.take() else {
            panic!("it is over");
        };
        let mut effects = Effects::default();
        let step = state.advance(input, &self.scene(&unit()), &mut effects);
        let mut told: Vec<String> = effects.into_iter().map(name_of_effect).collect();
        told.push(match &step {
            Step::In(state) => name_of_state(state).to_owned(),
            Step::Over(outcome, Sequel::Allowed) => format!("over as {}", outcome.name()),
            Step::Over(outcome, Sequel::Forbidden) => {
                format!("over for good as {}", outcome.name())
            }
        });
        self.step = Some(step);
        told.join(", ")
    }
}

/// What is told so many seconds after what was told before, and what comes of it.
type Scripted = (u64, Input, &'static str);

fn play_by(rules: Rules, script: impl IntoIterator<Item = Scripted>) -> Play {
    let mut play = Play::begin(rules);
    for (index, (later, input, expected)) in script.into_iter().enumerate() {
        let what = format!("{index}: {input:?} after {later} s");
        assert_eq!(play.tell(later, input), expected, "{what}");
    }
    play
}

fn play(script: impl IntoIterator<Item = Scripted>) -> Play {
    play_by(rules(), script)
}

/// The way to a running attempt, and from there.
fn running(then: impl IntoIterator<Item = Scripted>) -> Vec<Scripted> {
    let mut script = vec![(2, Prepared, "launch, starting"), (1, Connected, "running")];
    script.extend(then);
    script
}

// The way on which all goes well.

#[test]
fn an_attempt_that_goes_well_is_prepared_started_run_left_and_settled() {
    play([
        (2, Prepared, "launch, starting"),
        (1, Connected, "running"),
        (1, PhaseEntered(Phase::Implement), "running"),
        (9, Answered, "running"),
        (9, Progressed, "running"),
        (1, Claimed(Claim::Succeeded), "leaving"),
        (
            1,
            Exited(Exit::Code(0)),
            "settle succeeded and remove, settling",
        ),
        (1, Settled(Settlement::Confirmed), "over as succeeded"),
    ]);
}

#[test]
fn worktrees_of_successes_stay_when_all_are_to_be_kept() {
    let rules = Rules {
        retention: Retention::KeepAll,
        ..rules()
    };
    play_by(
        rules,
        running([
            (1, Claimed(Claim::Succeeded), "leaving"),
            (
                1,
                Exited(Exit::Code(0)),
                "settle succeeded and keep, settling",
            ),
        ]),
    );
}

#[test]
fn a_success_that_the_branch_does_not_show_is_a_failure() {
    play(running([
        (1, Claimed(Claim::Succeeded), "leaving"),
        (
            1,
            Exited(Exit::Code(0)),
            "settle succeeded and remove, settling",
        ),
        (1, Settled(Settlement::Refuted(because())), "over as failed"),
    ]));
}

#[test]
fn a_success_that_is_not_proved_in_time_is_a_failure_that_nothing_follows() {
    play(running([
        (1, Claimed(Claim::Succeeded), "leaving"),
        (
            1,
            Exited(Exit::Code(0)),
            "settle succeeded and remove, settling",
        ),
        (199, TimePassed, "settling"),
        (1, TimePassed, "over for good as failed"),
    ]));
}

#[test]
fn another_end_that_is_not_taken_care_of_in_time_stays_what_it_is() {
    play(running([
        (1, Exited(KILLED), "settle crashed and keep, settling"),
        (200, TimePassed, "over for good as crashed"),
    ]));
}

// Preparing.

#[test]
fn what_cannot_be_prepared_or_launched_leaves_nothing_behind() {
    let undone = "settle prepare_failed and undo, settling";
    play([(1, PrepareFailed(because()), undone)]);
    play([
        (1, Prepared, "launch, starting"),
        (1, LaunchFailed(because()), undone),
    ]);
}

#[test]
fn a_preparation_that_takes_too_long_is_abandoned_and_given_up() {
    play([
        (99, TimePassed, "preparing"),
        (1, TimePassed, "abandon, abandoned"),
        (4, TimePassed, "abandoned"),
        (1, TimePassed, "settle prepare_failed and keep, settling"),
        (
            1,
            Settled(Settlement::Confirmed),
            "over for good as prepare_failed",
        ),
    ]);
}

#[test]
fn nothing_is_launched_in_a_worktree_that_comes_too_late() {
    play([
        (100, TimePassed, "abandon, abandoned"),
        (1, Prepared, "settle prepare_failed and undo, settling"),
        (1, Settled(Settlement::Confirmed), "over as prepare_failed"),
    ]);
}

#[test]
fn a_stop_lets_a_preparation_end_within_the_grace() {
    play([
        (1, Stop, "abandoning"),
        (9, TimePassed, "abandoning"),
        (0, Prepared, "settle cancelled and undo, settling"),
    ]);
    play([
        (1, Stop, "abandoning"),
        (10, TimePassed, "abandon, abandoned"),
        (
            1,
            PrepareFailed(because()),
            "settle cancelled and undo, settling",
        ),
    ]);
    play([
        (1, Stop, "abandoning"),
        (1, StopNow, "abandon, abandoned"),
        (1, StopNow, "abandoned"),
    ]);
    play([(1, StopNow, "abandon, abandoned")]);
}

#[test]
fn a_budget_that_is_used_up_abandons_a_preparation() {
    play([
        (1, Exceeded(TOKENS), "abandon, abandoned"),
        (1, Prepared, "settle budget_exceeded and undo, settling"),
    ]);
}

// Ends by themselves.

#[test]
fn an_attempt_ends_as_its_claim_and_its_exit_code_say_together() {
    let quota = || Claim::QuotaExhausted {
        until: None,
        reason: because(),
    };
    let blocked = || Claim::Blocked { reason: because() };
    let crashed = || Claim::Crashed { reason: because() };
    let table = [
        (
            Claim::Succeeded,
            Exit::Code(1),
            "settle crashed and keep, settling",
        ),
        (
            Claim::Succeeded,
            KILLED,
            "settle crashed and keep, settling",
        ),
        (failed(), Exit::Code(1), "settle failed and keep, settling"),
        (
            blocked(),
            Exit::Code(0),
            "settle blocked and keep, settling",
        ),
        (
            crashed(),
            Exit::Code(0),
            "settle crashed and keep, settling",
        ),
        (
            quota(),
            Exit::Code(0),
            "settle quota_exhausted and keep, settling",
        ),
        (
            Claim::Cancelled,
            Exit::Code(0),
            "settle crashed and keep, settling",
        ),
    ];
    for (claim, exit, expected) in table {
        play(running([
            (1, Claimed(claim), "leaving"),
            (1, Exited(exit), expected),
        ]));
    }
}

#[test]
fn an_end_without_a_claim_is_a_crash_wherever_it_comes() {
    let crashed = "settle crashed and keep, settling";
    play([
        (1, Prepared, "launch, starting"),
        (1, Exited(Exit::Code(0)), crashed),
    ]);
    play(running([(1, Exited(Exit::Code(0)), crashed)]));
    play(running([
        (1, Disconnected, "leaving"),
        (1, Exited(Exit::Code(0)), crashed),
    ]));
}

#[test]
fn who_claims_or_hangs_up_before_the_handshake_leaves_as_well() {
    for input in [Claimed(Claim::Succeeded), Disconnected] {
        play([(1, Prepared, "launch, starting"), (1, input, "leaving")]);
    }
}

// Every reason to stop, and what it comes to.

#[test]
fn every_reason_to_stop_asks_kills_and_gives_up() {
    let reasons: [(u64, Input, &'static str); 4] = [
        (1, Stop, "ask within 10, stopping"),
        (1, Exceeded(TOKENS), "ask within 10, stopping"),
        (1, ProtocolViolated(because()), "ask within 10, stopping"),
        // Unresponsive: there is nobody to whom a grace would be granted.
        (40, TimePassed, "ask within 0, stopping"),
    ];
    for reason in reasons {
        let after = if reason.2.contains("within 0") { 1 } else { 11 };
        play(running([
            reason,
            (after - 1, TimePassed, "stopping"),
            (1, TimePassed, "kill, killed"),
            (4, TimePassed, "killed"),
            (1, TimePassed, "settle crashed and keep, settling"),
            (
                1,
                Settled(Settlement::Confirmed),
                "over for good as crashed",
            ),
        ]));
    }
}

#[test]
fn a_stopped_attempt_ends_as_the_reason_says() {
    let table = [
        (Stop, "settle cancelled and keep, settling"),
        (StopNow, "settle cancelled and keep, settling"),
        (
            Exceeded(TOKENS),
            "settle budget_exceeded and keep, settling",
        ),
        (
            ProtocolViolated(because()),
            "settle protocol_error and keep, settling",
        ),
    ];
    for (input, expected) in table {
        let asked = match input {
            StopNow => "ask within 0, stopping",
            _ => "ask within 10, stopping",
        };
        play(running([(1, input, asked), (1, Exited(KILLED), expected)]));
    }
}

#[test]
fn an_executor_that_does_not_connect_is_stopped() {
    play([
        (1, Prepared, "launch, starting"),
        (29, TimePassed, "starting"),
        (1, TimePassed, "ask within 10, stopping"),
        (1, Connected, "stopping"),
        (1, Exited(KILLED), "settle crashed and keep, settling"),
    ]);
}

#[test]
fn an_executor_that_claims_or_hangs_up_and_stays_is_stopped() {
    let table = [
        (Claimed(failed()), "settle failed and keep, settling"),
        (
            Claimed(Claim::Succeeded),
            "settle crashed and keep, settling",
        ),
        (Disconnected, "settle crashed and keep, settling"),
    ];
    for (input, expected) in table {
        play(running([
            (1, input, "leaving"),
            (19, TimePassed, "leaving"),
            (1, TimePassed, "ask within 10, stopping"),
            (1, Exited(KILLED), expected),
        ]));
    }
}

#[test]
fn an_agent_without_progress_is_shown_and_stopped_much_later() {
    let mut script = running([]);
    let answers =
        |from: u64, until: u64| (from..until).step_by(30).map(|_| (30, Answered, "running"));
    script.extend(answers(0, 300));
    script.push((0, TimePassed, "quiet for 300, running"));
    script.extend(answers(300, 990));
    script.push((10, TimePassed, "ask within 10, stopping"));
    script.push((1, Exited(KILLED), "settle stalled and keep, settling"));
    play(script);
}

#[test]
fn a_success_before_the_end_of_the_grace_counts_when_the_attempt_itself_was_not_at_fault() {
    for input in [Stop, Exceeded(TOKENS)] {
        play(running([
            (1, input, "ask within 10, stopping"),
            (1, Claimed(Claim::Succeeded), "stopping"),
            (
                1,
                Exited(Exit::Code(0)),
                "settle succeeded and remove, settling",
            ),
        ]));
    }
    play(running([
        (1, ProtocolViolated(because()), "ask within 10, stopping"),
        (1, Claimed(Claim::Succeeded), "stopping"),
        (
            1,
            Exited(Exit::Code(0)),
            "settle protocol_error and keep, settling",
        ),
    ]));
}

#[test]
fn what_was_claimed_before_a_stop_is_not_forgotten() {
    play(running([
        (1, Claimed(Claim::Succeeded), "leaving"),
        (1, Stop, "ask within 10, stopping"),
        (
            1,
            Exited(Exit::Code(0)),
            "settle succeeded and remove, settling",
        ),
    ]));
}

#[test]
fn a_launch_that_fails_during_a_stop_is_cancelled() {
    play([
        (1, Prepared, "launch, starting"),
        (1, Stop, "ask within 10, stopping"),
        (
            1,
            LaunchFailed(because()),
            "settle cancelled and undo, settling",
        ),
    ]);
}

// The time of a story, and its files.

#[test]
fn the_time_of_a_story_ends_it_wherever_it_is() {
    let rules = Rules {
        time_up: Some(Moment::from_millis(20_000)),
        ..rules()
    };
    play_by(
        rules,
        [
            (20, TimePassed, "abandon, abandoned"),
            (1, Prepared, "settle timed_out and undo, settling"),
        ],
    );
    play_by(
        rules,
        [
            (1, Prepared, "launch, starting"),
            (19, TimePassed, "ask within 10, stopping"),
            (1, Exited(KILLED), "settle timed_out and keep, settling"),
        ],
    );
    play_by(
        rules,
        running([
            (17, TimePassed, "ask within 10, stopping"),
            (1, Exited(KILLED), "settle timed_out and keep, settling"),
        ]),
    );
    // Who has said that it is through may leave in peace.
    play_by(
        rules,
        running([
            (16, Claimed(Claim::Succeeded), "leaving"),
            (1, TimePassed, "leaving"),
            (
                1,
                Exited(Exit::Code(0)),
                "settle succeeded and remove, settling",
            ),
        ]),
    );
}

#[test]
fn files_are_looked_at_every_so_often_and_one_look_at_a_time() {
    let rules = Rules {
        look: Some(10 * SECOND),
        ..rules()
    };
    play_by(
        rules,
        running([
            (9, TimePassed, "running"),
            (1, TimePassed, "look, running"),
            (10, TimePassed, "running"),
            (1, Touched, "running"),
            (9, TimePassed, "running"),
            (1, TimePassed, "look, running"),
        ]),
    );
}

// What others need to know of it.

#[test]
fn a_slot_is_held_until_the_process_is_reaped() {
    let mut play = Play::begin(rules());
    for input in [Prepared, Connected, Stop, TimePassed, Exited(KILLED)] {
        assert!(play.state().holds_slot());
        let _told = play.tell(11, input);
    }
    assert!(!play.state().holds_slot());
}

#[test]
fn the_end_is_taken_care_of_again_after_a_restart_which_has_ended_everything() {
    let mut play = play(running([
        (1, Stop, "ask within 10, stopping"),
        (11, TimePassed, "kill, killed"),
        (5, TimePassed, "settle crashed and keep, settling"),
    ]));
    let mut effects = Effects::default();
    play.now += 1000;
    let state = settle_again(play.state().clone(), &play.scene(&unit()), &mut effects);
    assert_eq!(
        effects.into_iter().map(name_of_effect).collect::<Vec<_>>(),
        ["settle crashed and keep"]
    );
    play.step = Some(Step::In(state));
    assert_eq!(play.tell(199, TimePassed), "settling");
    assert_eq!(
        play.tell(0, Settled(Settlement::Confirmed)),
        "over as crashed"
    );
}

#[test]
fn an_abandoned_preparation_ends_as_its_cause_says() {
    let run = Overrun {
        scope: Scope::Run,
        budget: Budget::Time,
    };
    let table = [
        (Cause::RunStopping, Outcome::Cancelled),
        (Cause::Exceeded(run), Outcome::of_overrun(run)),
        (Cause::Exceeded(TOKENS), Outcome::of_overrun(TOKENS)),
    ];
    for (cause, outcome) in table {
        assert_eq!(super::abandoned(cause), outcome);
    }
}
