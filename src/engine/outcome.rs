//! How attempts end: what an executor claims, how its process ended, and what the two mean together. Pure.
//!
//! Success needs both a claim of success and exit code 0; every other combination has its own outcome. A process
//! that was stopped because of a fault is judged by that fault, whatever it says afterwards; one that was stopped
//! because its time or its budget was up has succeeded when it was through before.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::event::Provider;
use crate::engine::fault::{self, Fault};
use crate::engine::health::Wait;
use crate::engine::limits::{Budget, Overrun, Scope};
use crate::engine::time::Moment;
use crate::story::StoryId;

/// What the `complete` message of an executor says about its attempt. The evidence behind it stays with the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// The story's work is committed, or there was nothing to change.
    Succeeded,
    /// The agent or a check said no.
    Failed {
        /// One line for a person.
        reason: String,
    },
    /// A person has to decide something first.
    Blocked {
        /// One line for a person.
        reason: String,
    },
    /// The agent ended by a fault of its own.
    Crashed {
        /// One line for a person.
        reason: String,
    },
    /// The provider of the agent serves no more for now.
    QuotaExhausted {
        /// When it says that it will serve again.
        until: Option<Moment>,
        /// One line for a person.
        reason: String,
    },
    /// The provider of the agent serves nothing before a person has seen to that: it knows no such key, or wants money.
    ProviderRefused {
        /// One line for a person.
        reason: String,
    },
    /// The agent has used up what its own configuration allows it for one story.
    Exceeded {
        /// One line for a person.
        reason: String,
    },
    /// Its agent has ended by itself, since nothing is left of a budget: it was told how much there was. No executor says so;
    /// it is what [`Claim::Exceeded`] means then.
    UsedUp(Overrun),
    /// The executor stopped because it was told to.
    Cancelled,
}

/// How the process of an executor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// In a way that the operating system did not tell.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
            Self::Unknown => formatter.write_str("an unknown exit status"),
        }
    }
}

/// Why an attempt is being stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The run is stopping.
    RunStopping,
    /// The executor broke the protocol.
    ProtocolViolated(String),
    /// The executor did not connect within the start deadline.
    NotConnected,
    /// The executor said `complete` or closed its connection, and did not exit.
    Lingering,
    /// The executor has not answered for that long.
    Unresponsive(Duration),
    /// The agent has made no progress for that long, whatever it waits for.
    Stalled(Duration, Option<Wait>),
    /// A budget is used up.
    Exceeded(Overrun),
    /// The provider of its agent serves no more before that moment, and its agent has not begun a turn.
    ProviderPaused {
        /// When it is asked again.
        until: Moment,
        /// One line for a person.
        reason: String,
    },
    /// The provider of its agent serves nothing before a person has seen to that, and its agent has not begun a turn.
    ProviderRefused(String),
}

/// How an attempt ended, and with it, when no further attempt follows, how its story ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is committed on the story's branch, or there was nothing to change.
    Succeeded,
    /// The agent or a check said no; trying again unchanged would say no again.
    Failed {
        /// One line for a person.
        reason: String,
    },
    /// A person has to decide something first.
    Blocked {
        /// One line for a person.
        reason: String,
    },
    /// Its time was up.
    TimedOut {
        /// One line for a person.
        reason: String,
        /// Whose time it was.
        scope: Scope,
    },
    /// The agent made no progress for too long.
    Stalled {
        /// One line for a person.
        reason: String,
    },
    /// The executor or its agent ended by a signal, or without saying `complete`.
    Crashed {
        /// One line for a person.
        reason: String,
    },
    /// The executor broke the protocol.
    ProtocolError {
        /// One line for a person.
        reason: String,
    },
    /// The worktree could not be made or the executor could not be started.
    PrepareFailed {
        /// One line for a person.
        reason: String,
    },
    /// It used more tokens, money or turns than it, or the run, or all runs of the day, may use.
    BudgetExceeded {
        /// One line for a person.
        reason: String,
        /// Whose budget it was.
        scope: Scope,
    },
    /// The provider of its agent serves no more for now.
    QuotaExhausted {
        /// When it is asked again; none in journals of earlier versions, where it did not say that itself.
        until: Option<Moment>,
        /// One line for a person.
        reason: String,
    },
    /// The provider of its agent serves nothing before a person has seen to that. Nothing is wrong with the story.
    ProviderRefused {
        /// One line for a person.
        reason: String,
    },
    /// The run was stopped before the story was through.
    Cancelled,
    /// It was never started.
    Skipped(Skip),
}

/// Why a story was never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// A story that it depends on did not succeed.
    Dependency(StoryId),
    /// The run starts nothing more since this story did not succeed.
    StoppedAfter(StoryId),
    /// The run starts nothing more since its budget is used up.
    RunExceeded(Overrun),
    /// The run starts nothing more since its journal cannot be written.
    JournalLost,
    /// It was taken out of the selection while it waited.
    Withdrawn,
    /// The provider of its agent serves nothing, for this reason.
    ProviderRefused(Provider, String),
}

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dependency(story) => write!(formatter, "{story} did not succeed"),
            Self::StoppedAfter(story) => {
                write!(formatter, "nothing more was started after {story}")
            }
            Self::RunExceeded(overrun) => overrun.fmt(formatter),
            Self::JournalLost => formatter.write_str("the journal cannot be written"),
            Self::Withdrawn => formatter.write_str("it is no longer ready"),
            Self::ProviderRefused(provider, reason) => {
                write!(formatter, "{} refuses: {reason}", provider.as_str())
            }
        }
    }
}

/// What kind of outcome it is, for rules and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// [`Outcome::Succeeded`]
    Succeeded,
    /// [`Outcome::Failed`]
    Failed,
    /// [`Outcome::Blocked`]
    Blocked,
    /// [`Outcome::TimedOut`]
    TimedOut,
    /// [`Outcome::Stalled`]
    Stalled,
    /// [`Outcome::Crashed`]
    Crashed,
    /// [`Outcome::ProtocolError`]
    ProtocolError,
    /// [`Outcome::PrepareFailed`]
    PrepareFailed,
    /// [`Outcome::BudgetExceeded`]
    BudgetExceeded,
    /// [`Outcome::QuotaExhausted`]
    QuotaExhausted,
    /// [`Outcome::ProviderRefused`]
    ProviderRefused,
    /// [`Outcome::Cancelled`]
    Cancelled,
    /// [`Outcome::Skipped`]
    Skipped,
}

impl OutcomeKind {
    /// Every kind, in the order in which they are counted up for people.
    pub const ALL: [Self; 13] = [
        Self::Succeeded,
        Self::Failed,
        Self::Blocked,
        Self::TimedOut,
        Self::Stalled,
        Self::Crashed,
        Self::ProtocolError,
        Self::PrepareFailed,
        Self::BudgetExceeded,
        Self::QuotaExhausted,
        Self::ProviderRefused,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// Its name in JSON, in the configuration and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
            Self::Crashed => "crashed",
            Self::ProtocolError => "protocol_error",
            Self::PrepareFailed => "prepare_failed",
            Self::BudgetExceeded => "budget_exceeded",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ProviderRefused => "provider_refused",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether it says that something is wrong with the machinery and not with the story.
    pub fn is_abnormal(self) -> bool {
        matches!(
            self,
            Self::Crashed | Self::Stalled | Self::ProtocolError | Self::PrepareFailed
        )
    }
}

impl Outcome {
    /// Its kind.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Succeeded => OutcomeKind::Succeeded,
            Self::Failed { .. } => OutcomeKind::Failed,
            Self::Blocked { .. } => OutcomeKind::Blocked,
            Self::TimedOut { .. } => OutcomeKind::TimedOut,
            Self::Stalled { .. } => OutcomeKind::Stalled,
            Self::Crashed { .. } => OutcomeKind::Crashed,
            Self::ProtocolError { .. } => OutcomeKind::ProtocolError,
            Self::PrepareFailed { .. } => OutcomeKind::PrepareFailed,
            Self::BudgetExceeded { .. } => OutcomeKind::BudgetExceeded,
            Self::QuotaExhausted { .. } => OutcomeKind::QuotaExhausted,
            Self::ProviderRefused { .. } => OutcomeKind::ProviderRefused,
            Self::Cancelled => OutcomeKind::Cancelled,
            Self::Skipped(_) => OutcomeKind::Skipped,
        }
    }

    /// The outcome's name, as in JSON and in messages.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Whether stories that depend on this one may start.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded)
    }

    /// Why, in one line, where there is something to say.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Succeeded | Self::Cancelled => None,
            Self::Failed { reason }
            | Self::Blocked { reason }
            | Self::TimedOut { reason, .. }
            | Self::Stalled { reason }
            | Self::Crashed { reason }
            | Self::ProtocolError { reason }
            | Self::PrepareFailed { reason }
            | Self::BudgetExceeded { reason, .. }
            | Self::QuotaExhausted { reason, .. }
            | Self::ProviderRefused { reason } => Some(reason.clone()),
            Self::Skipped(skip) => Some(skip.to_string()),
        }
    }

    /// What an attempt that ran by itself to its end comes to.
    pub fn of_finished(claim: Option<Claim>, exit: Exit) -> Self {
        match (claim, exit) {
            (Some(Claim::Succeeded), Exit::Code(0)) => Self::Succeeded,
            (Some(Claim::Succeeded), _) if fault::is(Fault::ExitCodeIgnored) => Self::Succeeded,
            (Some(Claim::Succeeded), exit) => Self::Crashed {
                reason: format!("the executor reported success but ended with {exit}"),
            },
            (Some(Claim::Failed { reason }), _) => Self::Failed { reason },
            (Some(Claim::Blocked { reason }), _) => Self::Blocked { reason },
            (Some(Claim::Crashed { reason }), _) => Self::Crashed { reason },
            (Some(Claim::QuotaExhausted { until, reason }), _) => {
                Self::QuotaExhausted { until, reason }
            }
            (Some(Claim::ProviderRefused { reason }), _) => Self::ProviderRefused { reason },
            (Some(Claim::Exceeded { reason }), _) => Self::of_own_limit(reason),
            (Some(Claim::UsedUp(overrun)), _) => Self::of_overrun(overrun),
            // Nobody told it to stop: it was ended from outside, and its story has not been worked through.
            (Some(Claim::Cancelled), exit) => Self::Crashed {
                reason: format!("the executor was stopped from outside and ended with {exit}"),
            },
            (None, exit) => Self::Crashed {
                reason: format!("the executor ended with {exit} and without a result"),
            },
        }
    }

    /// What an attempt that was stopped for `reason` comes to.
    pub fn of_stopped(reason: &StopReason, claim: Option<Claim>, exit: Exit) -> Self {
        match reason {
            StopReason::RunStopping => Self::through(claim, exit).unwrap_or(Self::Cancelled),
            StopReason::Exceeded(overrun) => {
                Self::through(claim, exit).unwrap_or_else(|| Self::of_overrun(*overrun))
            }
            StopReason::Stalled(idle, waits) => Self::through(claim, exit).unwrap_or_else(|| {
                let idle = in_words(*idle);
                let reason = match waits {
                    Some(wait) => format!("no progress for {idle}; it waited for {wait}"),
                    None => format!("no progress for {idle}"),
                };
                Self::Stalled { reason }
            }),
            StopReason::ProviderPaused { until, reason } => Self::through(claim, exit)
                .unwrap_or_else(|| Self::QuotaExhausted {
                    until: Some(*until),
                    reason: reason.clone(),
                }),
            StopReason::ProviderRefused(reason) => {
                Self::through(claim, exit).unwrap_or_else(|| Self::ProviderRefused {
                    reason: reason.clone(),
                })
            }
            StopReason::ProtocolViolated(violation) => Self::ProtocolError {
                reason: violation.clone(),
            },
            StopReason::NotConnected => Self::Crashed {
                reason: "the executor did not connect within the start deadline".to_owned(),
            },
            StopReason::Unresponsive(silence) => Self::Crashed {
                reason: format!("the executor did not answer for {}", in_words(*silence)),
            },
            StopReason::Lingering => match claim {
                Some(Claim::Failed { reason }) => Self::Failed { reason },
                Some(Claim::Blocked { reason }) => Self::Blocked { reason },
                Some(Claim::Exceeded { reason }) => Self::of_own_limit(reason),
                Some(Claim::UsedUp(overrun)) => Self::of_overrun(overrun),
                Some(Claim::ProviderRefused { reason }) => Self::ProviderRefused { reason },
                Some(Claim::QuotaExhausted { until, reason }) => {
                    Self::QuotaExhausted { until, reason }
                }
                _ => Self::Crashed {
                    reason: "the executor closed its connection but did not exit".to_owned(),
                },
            },
        }
    }

    /// Work that was through when a stop came is through, success or not.
    fn through(claim: Option<Claim>, exit: Exit) -> Option<Self> {
        match claim {
            Some(Claim::Succeeded) if exit == Exit::Code(0) => Some(Self::Succeeded),
            Some(Claim::Failed { reason }) => Some(Self::Failed { reason }),
            Some(Claim::Blocked { reason }) => Some(Self::Blocked { reason }),
            Some(Claim::Exceeded { reason }) => Some(Self::of_own_limit(reason)),
            Some(Claim::UsedUp(overrun)) => Some(Self::of_overrun(overrun)),
            _ => None,
        }
    }

    /// The agent's own limit for one story is used up.
    fn of_own_limit(reason: String) -> Self {
        let scope = Scope::Story;
        Self::BudgetExceeded { reason, scope }
    }

    pub(super) fn of_overrun(overrun: Overrun) -> Self {
        let reason = overrun.to_string();
        let scope = overrun.scope;
        match overrun.budget {
            Budget::Time => Self::TimedOut { reason, scope },
            Budget::Tokens | Budget::Cost | Budget::Turns => Self::BudgetExceeded { reason, scope },
        }
    }
}

/// A time span as people say it, in whole seconds or minutes.
fn in_words(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Claim {
        Claim::Failed {
            reason: "no".to_owned(),
        }
    }

    #[test]
    fn success_needs_the_claim_and_the_exit_code() {
        let claims = [
            None,
            Some(Claim::Succeeded),
            Some(failed()),
            Some(Claim::Cancelled),
        ];
        let exits = [Exit::Code(0), Exit::Code(1), Exit::Signal(9), Exit::Unknown];
        for claim in claims {
            for exit in exits {
                let both = claim == Some(Claim::Succeeded) && exit == Exit::Code(0);
                let outcome = Outcome::of_finished(claim.clone(), exit);
                assert_eq!(outcome.is_success(), both, "{claim:?} {exit:?}");
            }
        }
    }

    #[test]
    fn an_executor_that_was_terminated_from_outside_has_not_succeeded() {
        let outcome = Outcome::of_finished(Some(Claim::Cancelled), Exit::Code(0));
        assert_eq!(outcome.name(), "crashed");
    }

    #[test]
    fn a_stop_that_comes_after_the_work_does_not_undo_it() {
        let stop = |claim, exit| Outcome::of_stopped(&StopReason::RunStopping, claim, exit);
        assert_eq!(
            stop(Some(Claim::Succeeded), Exit::Code(0)),
            Outcome::Succeeded
        );
        assert_eq!(stop(Some(failed()), Exit::Code(1)).name(), "failed");
        assert_eq!(
            stop(Some(Claim::Succeeded), Exit::Signal(9)),
            Outcome::Cancelled
        );
        assert_eq!(stop(None, Exit::Signal(15)), Outcome::Cancelled);
    }

    #[test]
    fn an_outcome_has_the_same_name_in_json_as_everywhere() {
        let reason = || "because".to_owned();
        for outcome in [
            Outcome::Succeeded,
            Outcome::TimedOut {
                scope: Scope::Story,
                reason: reason(),
            },
            Outcome::PrepareFailed { reason: reason() },
            Outcome::Cancelled,
            Outcome::Skipped(Skip::Withdrawn),
        ] {
            let json = serde_json::to_value(&outcome).unwrap();
            let name = match &json {
                serde_json::Value::Object(fields) => fields.keys().next().cloned(),
                other => other.as_str().map(str::to_owned),
            };
            assert_eq!(name.as_deref(), Some(outcome.name()), "{json}");
        }
    }

    #[test]
    fn a_fault_outweighs_what_its_executor_claims() {
        let violated = StopReason::ProtocolViolated("frame too long".to_owned());
        let outcome = Outcome::of_stopped(&violated, Some(Claim::Succeeded), Exit::Code(0));
        assert_eq!(outcome.name(), "protocol_error");
    }
}
