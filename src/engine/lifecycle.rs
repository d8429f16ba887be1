//! The lifecycle of one attempt: what each state may become, and what it asks for on the way. Pure.
//!
//! ```text
//! Preparing ──▶ Starting ──▶ Running ──▶ Leaving ──▶ Settling ──▶ (over)
//!     │             │           │           │            ▲
//!     │             └───────────┴───────────┴▶ Stopping ─┤
//!     └▶ Abandoning ────────────────────────────────────-┘
//! ```
//!
//! An attempt holds a slot until its process is reaped (it leaves `Stopping`, `Leaving` or `Running` for `Settling`).
//! What an event means depends on the state alone; an event that does not fit the state changes nothing, so that late
//! and doubled ones do no harm. Every state has a deadline, so that nothing is waited for without end.

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::effect::{Disposal, Effect, Effects, Notice};
use crate::engine::event::{Settlement, Unit};
use crate::engine::fault::{self, Fault};
use crate::engine::health::{Clocks, Condition, Patience, Vitals};
use crate::engine::id::Phase;
use crate::engine::limits::{Budget, Overrun, Scope};
use crate::engine::outcome::{Claim, Exit, Outcome, StopReason};
use crate::engine::time::Moment;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// To make and set up a worktree. Long: a checkout of a large repository takes minutes on a slow disk.
    #[serde(with = "crate::engine::time::millis")]
    pub prepare: Duration,
    /// From the start of a process to its handshake. Generous: on a loaded machine 50 children once took over 10 s.
    #[serde(with = "crate::engine::time::millis")]
    pub connect: Duration,
    /// From `complete` to the end of the process.
    #[serde(with = "crate::engine::time::millis")]
    pub exit: Duration,
    /// From the request to stop to the agent's SIGKILL.
    #[serde(with = "crate::engine::time::millis")]
    pub grace: Duration,
    /// From the end of the grace, in which the executor ends its agent itself, to the executor's SIGKILL.
    #[serde(with = "crate::engine::time::millis")]
    pub margin: Duration,
    /// From SIGKILL to the moment when the process is given up as impossible to end.
    #[serde(with = "crate::engine::time::millis")]
    pub reap: Duration,
    /// To take care of the end of an attempt.
    #[serde(with = "crate::engine::time::millis")]
    pub settle: Duration,
    /// For the last board entries and comparisons, once all stories are through.
    #[serde(with = "crate::engine::time::millis")]
    pub wrap_up: Duration,
    /// For a person to answer a question.
    #[serde(with = "crate::engine::time::millis")]
    pub decide: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            prepare: Duration::from_secs(15 * 60),
            connect: Duration::from_secs(30),
            exit: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            margin: Duration::from_millis(500),
            reap: Duration::from_secs(5),
            settle: Duration::from_secs(10 * 60),
            wrap_up: Duration::from_secs(60),
            decide: Duration::from_secs(60 * 60),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// They are removed.
    #[default]
    RemoveSucceeded,
    /// They stay.
    KeepAll,
}

/// Where an attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) enum State {
    Preparing {
        deadline: Moment,
    },
    /// Whatever comes of the preparation, nothing is started in it.
    Abandoning {
        cause: Cause,
        step: StopStep,
        deadline: Moment,
    },
    Starting {
        deadline: Moment,
    },
    Running {
        phase: Option<Phase>,
        clocks: Clocks,
        files: Files,
    },
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
    Settling {
        outcome: Outcome,
        disposal: Disposal,
        sequel: Sequel,
        deadline: Moment,
    },
}

/// What an attempt becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(super) enum Step {
    In(State),
    Over(Outcome, Sequel),
}

/// Whether another attempt may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Sequel {
    Allowed,
    /// Something of this attempt could not be ended: two attempts must never work in one place.
    Forbidden,
}

/// Why a preparation is abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Cause {
    RunStopping,
    Exceeded(Overrun),
    TookTooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum StopStep {
    Asked,
    Killed,
}

/// When the files of a running attempt are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Files {
    Never,
    LookAt(Moment),
    BeingLookedAt,
}

/// What can happen to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Prepared,
    PrepareFailed(String),
    PrepareBlocked(String),
    LaunchFailed(String),
    Connected,
    PhaseEntered(Phase),
    Answered(Vitals),
    Progressed,
    Touched,
    Claimed(Claim),
    Disconnected,
    ProtocolViolated(String),
    Exited(Exit),
    Settled(Settlement),
    /// The run stops: end within the grace.
    Stop,
    /// The run stops at once: end without a grace.
    StopNow,
    /// A budget is used up.
    Exceeded(Overrun),
    /// Its agent may begin no turn for now, for this reason.
    PutOff(StopReason),
    TimePassed,
}

/// The rules that an attempt follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) deadlines: Deadlines,
    pub(super) patience: Patience,
    pub(super) retention: Retention,
    /// How often the files of a running attempt are looked at.
    pub(super) look: Option<Duration>,
    /// When the story's time is used up.
    pub(super) time_up: Option<Moment>,
}

/// One attempt, its rules, and the moment in which something happens to it.
pub(super) struct Scene<'a> {
    pub(super) unit: &'a Unit,
    pub(super) now: Moment,
    pub(super) rules: Rules,
}

impl State {
    /// The first state and what it asks for.
    pub(super) fn begin(scene: &Scene<'_>, effects: &mut Effects) -> Self {
        effects.push(Effect::Prepare(scene.unit.clone()));
        Self::Preparing {
            deadline: scene.now + scene.rules.deadlines.prepare,
        }
    }

    /// Whether the attempt holds a slot.
    pub(super) fn holds_slot(&self) -> bool {
        let asked = matches!(self, Self::Stopping { .. }) && fault::is(Fault::SlotFreedByAsking);
        !matches!(self, Self::Settling { .. }) && !asked
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// The provider of an attempt that has met a limit is asked again so much earlier.
    pub(super) fn bring_quota_forward(&mut self, by: Duration) {
        if let Self::Settling {
            outcome: Outcome::QuotaExhausted { until, .. },
            ..
        } = self
        {
            *until = until.map(|until| until.before(by));
        }
    }

    /// Whether what its executor claims now counts: nothing was claimed before.
    pub(super) fn awaits_claim(&self) -> bool {
        matches!(
            self,
            Self::Starting { .. } | Self::Running { .. } | Self::Stopping { claim: None, .. }
        )
    }

    /// When [`Input::TimePassed`] will change something.
    pub(super) fn deadline(&self, rules: &Rules) -> Moment {
        let own = match self {
            Self::Preparing { deadline }
            | Self::Starting { deadline }
            | Self::Leaving { deadline, .. }
            | Self::Stopping { deadline, .. }
            | Self::Abandoning { deadline, .. }
            | Self::Settling { deadline, .. } => *deadline,
            Self::Running { clocks, files, .. } => {
                let clocks = clocks.deadline(&rules.patience);
                match files {
                    Files::LookAt(moment) => clocks.min(*moment),
                    Files::Never | Files::BeingLookedAt => clocks,
                }
            }
        };
        match (self, rules.time_up) {
            (Self::Preparing { .. } | Self::Starting { .. } | Self::Running { .. }, Some(up)) => {
                own.min(up)
            }
            _ => own,
        }
    }

    /// The next state and what it asks for.
    pub(super) fn advance(self, input: Input, scene: &Scene<'_>, effects: &mut Effects) -> Step {
        match self {
            Self::Preparing { deadline } => preparing(deadline, input, scene, effects),
            Self::Abandoning {
                cause,
                step,
                deadline,
            } => Step::In(abandoning(cause, step, deadline, &input, scene, effects)),
            Self::Settling {
                outcome,
                disposal,
                sequel,
                deadline,
            } => settling(outcome, disposal, sequel, deadline, input, scene),
            alive => Step::In(with_process(alive, input, scene, effects)),
        }
    }
}

fn time_is_up(scene: &Scene<'_>) -> bool {
    scene.rules.time_up.is_some_and(|up| up <= scene.now)
}

const TIME_UP: Overrun = Overrun {
    scope: Scope::Story,
    budget: Budget::Time,
};

fn preparing(deadline: Moment, input: Input, scene: &Scene<'_>, effects: &mut Effects) -> Step {
    let Scene { unit, now, rules } = scene;
    Step::In(match input {
        Input::Prepared => {
            effects.push(Effect::Launch((*unit).clone()));
            State::Starting {
                deadline: *now + rules.deadlines.connect,
            }
        }
        Input::PrepareFailed(reason) => {
            let outcome = Outcome::PrepareFailed { reason };
            settle(outcome, Disposal::Undo, Sequel::Allowed, scene, effects)
        }
        Input::PrepareBlocked(reason) => {
            let outcome = Outcome::Blocked { reason };
            settle(outcome, Disposal::Undo, Sequel::Allowed, scene, effects)
        }
        // It is mostly through in a moment, and then nothing half-made is left.
        Input::Stop => State::Abandoning {
            cause: Cause::RunStopping,
            step: StopStep::Asked,
            deadline: *now + rules.deadlines.grace,
        },
        Input::StopNow => abandon(Cause::RunStopping, scene, effects),
        Input::Exceeded(overrun) => abandon(Cause::Exceeded(overrun), scene, effects),
        Input::TimePassed if time_is_up(scene) => abandon(Cause::Exceeded(TIME_UP), scene, effects),
        Input::TimePassed if deadline <= *now => abandon(Cause::TookTooLong, scene, effects),
        _ => State::Preparing { deadline },
    })
}

fn abandoning(
    cause: Cause,
    step: StopStep,
    deadline: Moment,
    input: &Input,
    scene: &Scene<'_>,
    effects: &mut Effects,
) -> State {
    let late = deadline <= scene.now;
    match (step, input) {
        (_, Input::Prepared | Input::PrepareFailed(_) | Input::PrepareBlocked(_)) => {
            let outcome = abandoned(cause);
            settle(outcome, Disposal::Undo, Sequel::Allowed, scene, effects)
        }
        (StopStep::Asked, Input::StopNow) => abandon(cause, scene, effects),
        (StopStep::Asked, Input::TimePassed) if late => abandon(cause, scene, effects),
        // Not even that is answered: what there is of the worktree stays for the next run.
        (StopStep::Killed, Input::TimePassed) if late => {
            let outcome = abandoned(cause);
            settle(outcome, Disposal::Keep, Sequel::Forbidden, scene, effects)
        }
        (step, _) => State::Abandoning {
            cause,
            step,
            deadline,
        },
    }
}

fn abandoned(cause: Cause) -> Outcome {
    match cause {
        Cause::RunStopping => Outcome::Cancelled,
        Cause::Exceeded(overrun) => Outcome::of_overrun(overrun),
        Cause::TookTooLong => Outcome::PrepareFailed {
            reason: "its worktree was not ready in time".to_owned(),
        },
    }
}

fn abandon(cause: Cause, scene: &Scene<'_>, effects: &mut Effects) -> State {
    effects.push(Effect::AbandonPreparation(scene.unit.clone()));
    State::Abandoning {
        cause,
        step: StopStep::Killed,
        deadline: scene.now + scene.rules.deadlines.reap,
    }
}

/// What happens to an attempt that has a process: starting, running, leaving or stopping.
fn with_process(state: State, input: Input, scene: &Scene<'_>, effects: &mut Effects) -> State {
    let Scene { now, rules, .. } = scene;
    let grace = rules.deadlines.grace;
    match input {
        Input::Exited(exit) => {
            let outcome = match state {
                State::Stopping { reason, claim, .. } => Outcome::of_stopped(&reason, claim, exit),
                State::Leaving { claim, .. } => Outcome::of_finished(claim, exit),
                _ => Outcome::of_finished(None, exit),
            };
            let disposal = disposal(&outcome, rules.retention);
            settle(outcome, disposal, Sequel::Allowed, scene, effects)
        }
        Input::LaunchFailed(reason) => {
            let outcome = match state {
                State::Stopping {
                    reason: StopReason::RunStopping,
                    ..
                } => Outcome::Cancelled,
                _ => Outcome::PrepareFailed { reason },
            };
            settle(outcome, Disposal::Undo, Sequel::Allowed, scene, effects)
        }
        Input::Connected if matches!(state, State::Starting { .. }) => State::Running {
            phase: None,
            clocks: Clocks::start(*now),
            files: next_look(scene),
        },
        Input::Claimed(claim) => claimed(state, claim, scene),
        Input::Disconnected if matches!(state, State::Starting { .. } | State::Running { .. }) => {
            leaving(None, scene)
        }
        Input::ProtocolViolated(violation) if !is_stopping(&state) => {
            let reason = StopReason::ProtocolViolated(violation);
            stop(state, reason, grace, scene, effects)
        }
        Input::Stop if !is_stopping(&state) => {
            stop(state, StopReason::RunStopping, grace, scene, effects)
        }
        Input::Exceeded(overrun) if !is_stopping(&state) => {
            stop(state, StopReason::Exceeded(overrun), grace, scene, effects)
        }
        Input::PutOff(reason) if !is_stopping(&state) => stop(state, reason, grace, scene, effects),
        Input::StopNow if !is_killed(&state) => {
            let reason = match &state {
                State::Stopping { reason, .. } => reason.clone(),
                _ => StopReason::RunStopping,
            };
            stop(state, reason, Duration::ZERO, scene, effects)
        }
        input => match state {
            State::Running {
                phase,
                clocks,
                files,
            } => running(phase, clocks, files, &input, scene, effects),
            state => {
                let late = state.deadline(rules) <= *now;
                if input == Input::TimePassed && late {
                    deadline_reached(state, scene, effects)
                } else {
                    state
                }
            }
        },
    }
}

fn next_look(scene: &Scene<'_>) -> Files {
    match scene.rules.look {
        Some(period) => Files::LookAt(scene.now + period),
        None => Files::Never,
    }
}

fn leaving(claim: Option<Claim>, scene: &Scene<'_>) -> State {
    State::Leaving {
        claim,
        deadline: scene.now + scene.rules.deadlines.exit,
    }
}

fn claimed(state: State, claim: Claim, scene: &Scene<'_>) -> State {
    match state {
        State::Starting { .. } | State::Running { .. } => leaving(Some(claim), scene),
        State::Stopping {
            reason,
            claim: None,
            step,
            deadline,
        } => State::Stopping {
            reason,
            claim: Some(claim),
            step,
            deadline,
        },
        state => state,
    }
}

fn running(
    phase: Option<Phase>,
    mut clocks: Clocks,
    mut files: Files,
    input: &Input,
    scene: &Scene<'_>,
    effects: &mut Effects,
) -> State {
    let Scene { unit, now, rules } = scene;
    let grace = rules.deadlines.grace;
    let mut phase = phase;
    let mut fault = None;
    match input {
        Input::PhaseEntered(entered) => {
            phase = Some(*entered);
            clocks.progress(*now);
        }
        Input::Answered(vitals) => clocks.answer(*vitals, *now, &rules.patience),
        Input::Progressed => clocks.progress(*now),
        Input::Touched => files = next_look(scene),
        Input::TimePassed if time_is_up(scene) => {
            fault = Some((StopReason::Exceeded(TIME_UP), grace));
        }
        Input::TimePassed => {
            if matches!(files, Files::LookAt(moment) if moment <= *now) {
                files = Files::BeingLookedAt;
                effects.push(Effect::LookAtFiles((*unit).clone()));
            }
            if clocks.deadline(&rules.patience) <= *now {
                match clocks.look(*now, &rules.patience) {
                    Condition::Well => {}
                    Condition::Quiet(idle, waits) => effects.tell(Notice::Quiet {
                        unit: (*unit).clone(),
                        idle,
                        waits,
                    }),
                    Condition::Stalled(idle, waits) => {
                        fault = Some((StopReason::Stalled(idle, waits), grace));
                    }
                    // There is nobody to whom a grace would be granted.
                    Condition::Unresponsive(silence) => {
                        fault = Some((StopReason::Unresponsive(silence), Duration::ZERO));
                    }
                }
            }
        }
        _ => {}
    }
    let state = State::Running {
        phase,
        clocks,
        files,
    };
    match fault {
        Some((reason, grace)) => stop(state, reason, grace, scene, effects),
        None => state,
    }
}

fn deadline_reached(state: State, scene: &Scene<'_>, effects: &mut Effects) -> State {
    let grace = scene.rules.deadlines.grace;
    match state {
        State::Starting { .. } if time_is_up(scene) => {
            stop(state, StopReason::Exceeded(TIME_UP), grace, scene, effects)
        }
        State::Starting { .. } => stop(state, StopReason::NotConnected, grace, scene, effects),
        State::Leaving { .. } => stop(state, StopReason::Lingering, grace, scene, effects),
        State::Stopping {
            reason,
            claim,
            step: StopStep::Asked,
            ..
        } => {
            if !fault::is(Fault::KillForgotten) {
                effects.push(Effect::Kill(scene.unit.clone()));
            }
            State::Stopping {
                reason,
                claim,
                step: StopStep::Killed,
                deadline: scene.now + scene.rules.deadlines.reap,
            }
        }
        // Nothing that we could do to it is left. Its slot is given back, its worktree stays, the run ends with the
        // exit code that says so.
        State::Stopping { .. } => {
            let outcome = Outcome::Crashed {
                reason: "the executor could not be ended, not even by SIGKILL".to_owned(),
            };
            settle(outcome, Disposal::Keep, Sequel::Forbidden, scene, effects)
        }
        state => state,
    }
}

fn settling(
    outcome: Outcome,
    disposal: Disposal,
    sequel: Sequel,
    deadline: Moment,
    input: Input,
    scene: &Scene<'_>,
) -> Step {
    match input {
        // Only a success can be refuted: any other end stays what it was.
        Input::Settled(Settlement::Refuted(reason)) if outcome.is_success() => {
            Step::Over(Outcome::Failed { reason }, sequel)
        }
        Input::Settled(_) => Step::Over(outcome, sequel),
        Input::TimePassed if deadline <= scene.now => {
            let outcome = if outcome.is_success() {
                Outcome::Failed {
                    reason: "its success could not be proved in time".to_owned(),
                }
            } else {
                outcome
            };
            Step::Over(outcome, Sequel::Forbidden)
        }
        _ => Step::In(State::Settling {
            outcome,
            disposal,
            sequel,
            deadline,
        }),
    }
}

fn stop(
    state: State,
    reason: StopReason,
    grace: Duration,
    scene: &Scene<'_>,
    effects: &mut Effects,
) -> State {
    let claim = match state {
        State::Leaving { claim, .. } | State::Stopping { claim, .. } => claim,
        _ => None,
    };
    effects.push(Effect::AskToStop {
        unit: scene.unit.clone(),
        reason: reason.clone(),
        grace,
    });
    State::Stopping {
        reason,
        claim,
        step: StopStep::Asked,
        deadline: scene.now + grace + scene.rules.deadlines.margin,
    }
}

fn settle(
    outcome: Outcome,
    disposal: Disposal,
    sequel: Sequel,
    scene: &Scene<'_>,
    effects: &mut Effects,
) -> State {
    effects.push(Effect::Settle {
        unit: scene.unit.clone(),
        outcome: outcome.clone(),
        disposal,
    });
    State::Settling {
        outcome,
        disposal,
        sequel,
        deadline: scene.now + scene.rules.deadlines.settle,
    }
}

/// Takes care of the end of an attempt once more, when it is not known how far that had come. What could not be ended
/// before is gone by now.
pub(super) fn settle_again(state: State, scene: &Scene<'_>, effects: &mut Effects) -> State {
    match state {
        State::Settling {
            outcome, disposal, ..
        } => settle(outcome, disposal, Sequel::Allowed, scene, effects),
        state => state,
    }
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
