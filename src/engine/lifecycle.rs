//! The lifecycle of one attempt: what each state may become, and what it asks for on the way. Pure.
//!
//! ```text
//! Preparing ──▶ Starting ──▶ Running ──▶ Settling ──▶ (settled)
//!     │             │           │            ▲
//!     │             └───────────┴▶ Stopping ─┤
//!     └──────────────────────────────────────┘
//! ```
//!
//! An attempt holds a slot until its process is reaped (it leaves `Stopping`, or `Running`, for `Settling`). What an
//! event means depends on the state alone; an event that does not fit the state changes nothing, so that late and
//! doubled ones do no harm.

use std::time::Duration;

use crate::engine::effect::{Disposal, Effect};
use crate::engine::event::{Settlement, Unit};
use crate::engine::outcome::{Claim, Exit, Outcome, StopReason};
use crate::engine::time::Moment;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the start of a process to its handshake. Generous: on a loaded machine 50 children once took over 10 s.
    pub connect: Duration,
    /// From `complete` to the end of the process.
    pub exit: Duration,
    /// From the request to stop to the agent's SIGKILL.
    pub grace: Duration,
    /// From the end of the grace, in which the executor ends its agent itself, to the executor's SIGKILL.
    pub margin: Duration,
    /// From SIGKILL to the moment when the process is given up as impossible to end.
    pub reap: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            exit: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            margin: Duration::from_millis(500),
            reap: Duration::from_secs(5),
        }
    }
}

impl Deadlines {
    /// The longest that a stop may take in all: its executors end within the grace and the margin, and then what is
    /// left has as long as a process that is hard to end.
    pub fn longest_stop(&self, grace: Duration) -> Duration {
        grace + self.margin + self.reap
    }
}

/// What becomes of the worktrees of stories that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// They are removed.
    #[default]
    RemoveSucceeded,
    /// They stay.
    KeepAll,
}

/// Where an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Preparing,
    /// The run is stopping: whatever comes of the preparation, nothing is started in it.
    Abandoning {
        step: StopStep,
        deadline: Moment,
    },
    Starting {
        deadline: Moment,
    },
    Running,
    /// It said `complete` or closed its connection; its process should end now.
    Leaving {
        claim: Option<Claim>,
        deadline: Moment,
    },
    Stopping {
        reason: StopReason,
        claim: Option<Claim>,
        step: StopStep,
        deadline: Moment,
    },
    Settling(Outcome),
    Settled(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopStep {
    Asked,
    Killed,
}

/// What can happen to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Prepared,
    PrepareFailed(String),
    LaunchFailed(String),
    Connected,
    Claimed(Claim),
    Disconnected,
    ProtocolViolated(String),
    Exited(Exit),
    Settled(Settlement),
    /// The run stops: end within the grace.
    Stop,
    /// The run stops at once: end without a grace.
    StopNow,
    TimePassed,
}

/// The rules of one run that lifecycles follow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    pub(super) deadlines: Deadlines,
    pub(super) retention: Retention,
}

impl State {
    /// The first state and what it asks for.
    pub(super) fn begin(unit: &Unit) -> (Self, Vec<Effect>) {
        (Self::Preparing, vec![Effect::Prepare(unit.clone())])
    }

    /// Whether the attempt holds a slot.
    pub(super) fn holds_slot(&self) -> bool {
        !matches!(self, Self::Settling(_) | Self::Settled(_))
    }

    /// When [`Input::TimePassed`] will change something.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Starting { deadline }
            | Self::Leaving { deadline, .. }
            | Self::Stopping { deadline, .. }
            | Self::Abandoning {
                step: StopStep::Asked,
                deadline,
            } => Some(*deadline),
            Self::Preparing
            | Self::Abandoning { .. }
            | Self::Running
            | Self::Settling(_)
            | Self::Settled(_) => None,
        }
    }

    /// The next state and what it asks for.
    pub(super) fn advance(
        self,
        unit: &Unit,
        input: Input,
        now: Moment,
        rules: &Rules,
    ) -> (Self, Vec<Effect>) {
        match self {
            Self::Preparing => preparing(unit, input, now, rules),
            Self::Abandoning { step, deadline } => abandoning(step, deadline, unit, &input, now),
            Self::Settling(outcome) => settling(outcome, input),
            Self::Settled(outcome) => (Self::Settled(outcome), Vec::new()),
            alive => with_process(alive, unit, input, now, rules),
        }
    }
}

fn preparing(unit: &Unit, input: Input, now: Moment, rules: &Rules) -> (State, Vec<Effect>) {
    match input {
        Input::Prepared => (
            State::Starting {
                deadline: now + rules.deadlines.connect,
            },
            vec![Effect::Launch(unit.clone())],
        ),
        Input::PrepareFailed(reason) => {
            settle(unit, Outcome::PrepareFailed { reason }, Disposal::Undo)
        }
        // It is mostly through in a moment, and then nothing half-made is left.
        Input::Stop => (
            State::Abandoning {
                step: StopStep::Asked,
                deadline: now + rules.deadlines.grace,
            },
            Vec::new(),
        ),
        Input::StopNow => abandon(unit, now),
        _ => (State::Preparing, Vec::new()),
    }
}

fn abandoning(
    step: StopStep,
    deadline: Moment,
    unit: &Unit,
    input: &Input,
    now: Moment,
) -> (State, Vec<Effect>) {
    match (step, input) {
        (_, Input::Prepared | Input::PrepareFailed(_)) => {
            settle(unit, Outcome::Cancelled, Disposal::Undo)
        }
        (StopStep::Asked, Input::StopNow) => abandon(unit, now),
        (StopStep::Asked, Input::TimePassed) if deadline <= now => abandon(unit, now),
        (step, _) => (State::Abandoning { step, deadline }, Vec::new()),
    }
}

fn abandon(unit: &Unit, now: Moment) -> (State, Vec<Effect>) {
    let state = State::Abandoning {
        step: StopStep::Killed,
        deadline: now,
    };
    (state, vec![Effect::AbandonPreparation(unit.clone())])
}

fn with_process(
    state: State,
    unit: &Unit,
    input: Input,
    now: Moment,
    rules: &Rules,
) -> (State, Vec<Effect>) {
    match input {
        Input::Exited(exit) => {
            let outcome = match state {
                State::Stopping { reason, claim, .. } => Outcome::of_stopped(&reason, claim, exit),
                State::Leaving { claim, .. } => Outcome::of_finished(claim, exit),
                _ => Outcome::of_finished(None, exit),
            };
            let disposal = disposal(&outcome, rules.retention);
            settle(unit, outcome, disposal)
        }
        Input::LaunchFailed(reason) => {
            let outcome = match state {
                State::Stopping {
                    reason: StopReason::RunStopping,
                    ..
                } => Outcome::Cancelled,
                _ => Outcome::PrepareFailed { reason },
            };
            settle(unit, outcome, Disposal::Undo)
        }
        Input::Connected if matches!(state, State::Starting { .. }) => (State::Running, Vec::new()),
        Input::Claimed(claim) => match state {
            State::Starting { .. } | State::Running => (
                State::Leaving {
                    claim: Some(claim),
                    deadline: now + rules.deadlines.exit,
                },
                Vec::new(),
            ),
            State::Stopping {
                reason,
                claim: None,
                step,
                deadline,
            } => (
                State::Stopping {
                    reason,
                    claim: Some(claim),
                    step,
                    deadline,
                },
                Vec::new(),
            ),
            state => (state, Vec::new()),
        },
        Input::Disconnected if matches!(state, State::Starting { .. } | State::Running) => (
            State::Leaving {
                claim: None,
                deadline: now + rules.deadlines.exit,
            },
            Vec::new(),
        ),
        Input::ProtocolViolated(violation) if !is_stopping(&state) => stop(
            state,
            unit,
            StopReason::ProtocolViolated(violation),
            rules.deadlines.grace,
            now,
            rules,
        ),
        Input::Stop if !is_stopping(&state) => stop(
            state,
            unit,
            StopReason::RunStopping,
            rules.deadlines.grace,
            now,
            rules,
        ),
        Input::StopNow if !is_killed(&state) => {
            let reason = match &state {
                State::Stopping { reason, .. } => reason.clone(),
                _ => StopReason::RunStopping,
            };
            stop(state, unit, reason, Duration::ZERO, now, rules)
        }
        Input::TimePassed if state.deadline().is_some_and(|deadline| deadline <= now) => {
            deadline_reached(state, unit, now, rules)
        }
        _ => (state, Vec::new()),
    }
}

fn deadline_reached(state: State, unit: &Unit, now: Moment, rules: &Rules) -> (State, Vec<Effect>) {
    let grace = rules.deadlines.grace;
    match state {
        State::Starting { .. } => stop(state, unit, StopReason::NotConnected, grace, now, rules),
        State::Leaving { .. } => stop(state, unit, StopReason::Lingering, grace, now, rules),
        State::Stopping {
            reason,
            claim,
            step: StopStep::Asked,
            ..
        } => (
            State::Stopping {
                reason,
                claim,
                step: StopStep::Killed,
                deadline: now + rules.deadlines.reap,
            },
            vec![Effect::Kill(unit.clone())],
        ),
        // Nothing that we could do to it is left. Its slot is given back, its worktree stays, the run ends with the
        // exit code that says so.
        State::Stopping { .. } => settle(
            unit,
            Outcome::Crashed {
                reason: "the executor could not be ended, not even by SIGKILL".to_owned(),
            },
            Disposal::Keep,
        ),
        state => (state, Vec::new()),
    }
}

fn settling(outcome: Outcome, input: Input) -> (State, Vec<Effect>) {
    match input {
        Input::Settled(Settlement::Confirmed) => (State::Settled(outcome), Vec::new()),
        Input::Settled(Settlement::Refuted(reason)) => {
            (State::Settled(Outcome::Failed { reason }), Vec::new())
        }
        _ => (State::Settling(outcome), Vec::new()),
    }
}

fn stop(
    state: State,
    unit: &Unit,
    reason: StopReason,
    grace: Duration,
    now: Moment,
    rules: &Rules,
) -> (State, Vec<Effect>) {
    let claim = match state {
        State::Leaving { claim, .. } | State::Stopping { claim, .. } => claim,
        _ => None,
    };
    let ask = Effect::AskToStop {
        unit: unit.clone(),
        reason: reason.clone(),
        grace,
    };
    (
        State::Stopping {
            reason,
            claim,
            step: StopStep::Asked,
            deadline: now + grace + rules.deadlines.margin,
        },
        vec![ask],
    )
}

fn settle(unit: &Unit, outcome: Outcome, disposal: Disposal) -> (State, Vec<Effect>) {
    let effect = Effect::Settle {
        unit: unit.clone(),
        outcome: outcome.clone(),
        disposal,
    };
    (State::Settling(outcome), vec![effect])
}

fn disposal(outcome: &Outcome, retention: Retention) -> Disposal {
    match (outcome.is_success(), retention) {
        (true, Retention::RemoveSucceeded) => Disposal::Remove,
        _ => Disposal::Keep,
    }
}

fn is_stopping(state: &State) -> bool {
    matches!(state, State::Stopping { .. })
}

fn is_killed(state: &State) -> bool {
    matches!(
        state,
        State::Stopping {
            step: StopStep::Killed,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::id::AttemptNumber;

    fn unit() -> Unit {
        Unit {
            story: "S-0001".parse().unwrap(),
            attempt: AttemptNumber::FIRST,
        }
    }

    /// Plays inputs, each at its moment in milliseconds, from the first state on.
    fn play(inputs: &[(u64, Input)]) -> (State, Vec<Effect>) {
        let rules = Rules::default();
        let (mut state, mut effects) = State::begin(&unit());
        for (at, input) in inputs {
            let now = Moment::from_millis(*at);
            let (next, more) = state.advance(&unit(), input.clone(), now, &rules);
            state = next;
            effects.extend(more);
        }
        (state, effects)
    }

    fn kinds(effects: &[Effect]) -> Vec<&'static str> {
        effects
            .iter()
            .map(|effect| match effect {
                Effect::Prepare(_) => "prepare",
                Effect::AbandonPreparation(_) => "abandon",
                Effect::Launch(_) => "launch",
                Effect::AskToStop { .. } => "ask",
                Effect::Kill(_) => "kill",
                Effect::Settle { .. } => "settle",
                _ => "other",
            })
            .collect()
    }

    #[test]
    fn a_good_attempt_goes_straight_through() {
        let (state, effects) = play(&[
            (0, Input::Prepared),
            (1, Input::Connected),
            (2, Input::Claimed(Claim::Succeeded)),
            (3, Input::Exited(Exit::Code(0))),
            (4, Input::Settled(Settlement::Confirmed)),
        ]);
        assert_eq!(state, State::Settled(Outcome::Succeeded));
        assert_eq!(kinds(&effects), ["prepare", "launch", "settle"]);
    }

    #[test]
    fn a_success_that_the_branch_does_not_show_is_a_failure() {
        let (state, _) = play(&[
            (0, Input::Prepared),
            (1, Input::Connected),
            (2, Input::Claimed(Claim::Succeeded)),
            (3, Input::Exited(Exit::Code(0))),
            (
                4,
                Input::Settled(Settlement::Refuted("no commit".to_owned())),
            ),
        ]);
        assert!(matches!(state, State::Settled(Outcome::Failed { .. })));
    }

    #[test]
    fn an_executor_that_never_connects_is_asked_killed_and_given_up() {
        let inputs = [
            (0, Input::Prepared),
            (29_999, Input::TimePassed),
            (30_000, Input::TimePassed),
            (40_499, Input::TimePassed),
            (40_500, Input::TimePassed),
            (45_500, Input::TimePassed),
        ];
        let (state, effects) = play(&inputs);
        assert_eq!(
            kinds(&effects),
            ["prepare", "launch", "ask", "kill", "settle"]
        );
        assert!(matches!(state, State::Settling(Outcome::Crashed { .. })));
    }

    #[test]
    fn an_executor_that_completes_and_stays_is_not_a_success() {
        let (state, effects) = play(&[
            (0, Input::Prepared),
            (1, Input::Connected),
            (2, Input::Claimed(Claim::Succeeded)),
            (10_002, Input::TimePassed),
            (10_100, Input::Exited(Exit::Code(0))),
        ]);
        assert_eq!(kinds(&effects), ["prepare", "launch", "ask", "settle"]);
        assert!(matches!(state, State::Settling(Outcome::Crashed { .. })));
    }

    #[test]
    fn a_stop_before_the_start_undoes_what_was_prepared() {
        let (state, effects) = play(&[(0, Input::Stop), (1, Input::Prepared)]);
        assert_eq!(state, State::Settling(Outcome::Cancelled));
        assert_eq!(kinds(&effects), ["prepare", "settle"]);
        assert!(matches!(
            effects.last(),
            Some(Effect::Settle {
                disposal: Disposal::Undo,
                ..
            })
        ));
    }

    #[test]
    fn a_preparation_that_outlasts_the_grace_is_given_up() {
        let (_, effects) = play(&[
            (0, Input::Stop),
            (9_999, Input::TimePassed),
            (10_000, Input::TimePassed),
            (10_001, Input::PrepareFailed("given up".to_owned())),
        ]);
        assert_eq!(kinds(&effects), ["prepare", "abandon", "settle"]);
        let (_, effects) = play(&[(0, Input::Stop), (1, Input::StopNow), (2, Input::StopNow)]);
        assert_eq!(kinds(&effects), ["prepare", "abandon"]);
    }

    #[test]
    fn a_second_stop_shortens_the_first() {
        let (_, effects) = play(&[
            (0, Input::Prepared),
            (1, Input::Connected),
            (2, Input::Stop),
            (3, Input::Stop),
            (4, Input::StopNow),
            (504, Input::TimePassed),
            (505, Input::StopNow),
        ]);
        assert_eq!(kinds(&effects), ["prepare", "launch", "ask", "ask", "kill"]);
    }

    #[test]
    fn events_that_do_not_fit_the_state_change_nothing() {
        let reached = play(&[(0, Input::Prepared), (1, Input::Connected)]);
        let disturbed = play(&[
            (0, Input::Connected),
            (0, Input::Exited(Exit::Code(0))),
            (0, Input::Settled(Settlement::Confirmed)),
            (0, Input::Prepared),
            (1, Input::Connected),
            (2, Input::Prepared),
            (2, Input::Connected),
            (2, Input::PrepareFailed("late".to_owned())),
            (9_000_000, Input::TimePassed),
        ]);
        assert_eq!(reached, disturbed);
    }
}
