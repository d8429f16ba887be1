//! The messages between orchestrator and executor, and the envelope that carries each of them. Pure.
//!
//! Owns the shape of the wire: what may be said, with which limits. How it becomes bytes is `codec`'s business.
//!
//! # How this file may change
//! The bytes of a message follow from the order of variants and fields. So variants are only appended, never
//! reordered, removed or given another meaning; a field is never added to a variant that has been released. New data
//! is a new variant, or a new [`PROTOCOL_VERSION`]. The golden bytes in `golden.rs`, one for every variant, show a
//! change of layout that was not meant. In a run both ends are the same binary, so a version that differs is always
//! an error and never negotiated.
//!
//! Every frame begins with the version, and in every future version too: one byte, 1 to 250, before anything
//! whose layout may change. A decoder reads it alone first.
//!
//! `artifact` (section files for the board) is appended with the feature that sends it.
//!
//! Texts that an agent or a command wrote have types that clean themselves ([`OneLine`], [`LogText`]), when they are
//! made and again when they are read.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::text::{LogText, OneLine};
use crate::engine::{Allowance, AttemptNumber, Phase, RunId, Sign, Vitals, Wait};
use crate::story::StoryId;

/// The version of everything in this file. At most 250, so that it stays one byte.
pub const PROTOCOL_VERSION: u16 = 5;

/// What the agent does right now, for the person who watches.
pub type Activity = OneLine<200>;

/// Why something ended or must end, for the person who reads the record.
pub type Reason = OneLine<1000>;

/// A short name that a program may compare: an error code, a version, a session.
pub type Label = OneLine<200>;

/// One message with what says whose it is and where it belongs in the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<B> {
    /// [`PROTOCOL_VERSION`] of the sender. Must stay the first field.
    pub version: u16,
    /// The run that both ends belong to.
    pub run: RunId,
    /// The story that is worked on.
    pub story: StoryId,
    /// The attempt that the message belongs to.
    pub attempt: AttemptNumber,
    /// Rises with every message of one direction, from 1.
    pub sequence: u64,
    /// When it was sent, in milliseconds since the epoch by the sender's wall clock; information only.
    pub sent_at_ms: u64,
    /// The message.
    pub body: B,
}

/// What an executor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromExecutor {
    /// The first frame, and no other.
    Hello(Hello),
    /// Where the attempt is. Coalesced: a newer one replaces one that was not yet sent.
    StatusUpdate(Box<StatusUpdate>),
    /// The answer to [`ToExecutor::HealthCheck`]. Coalesced.
    HealthResponse(HealthResponse),
    /// A line for the person. Coalesced; the attempt's log file has everything.
    Log(Log),
    /// Something went wrong. Never dropped.
    Error(ErrorReport),
    /// How the attempt ended, as the executor claims; the last frame. Never dropped.
    Complete(Claim),
    /// The agent is to begin a turn: it does when [`ToExecutor::PermitGrant`] comes. Never dropped.
    PermitRequest,
}

/// Who the executor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its process id, as it sees it.
    pub pid: u32,
    /// Its [`PROTOCOL_VERSION`].
    pub protocol_version: u16,
    /// The version of its program.
    pub binary_version: Label,
}

/// Where an attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusUpdate {
    /// The phase of the workflow.
    pub phase: Phase,
    /// How much of it is done, when that is known.
    pub progress: Option<Percent>,
    /// What is being done.
    pub activity: Option<Activity>,
    /// What the attempt has used so far, in total.
    pub usage: Usage,
    /// The agent's own name for its conversation, by which it can be resumed.
    pub agent_session: Option<Label>,
    /// The model that answers, as the agent calls it.
    pub model: Option<Label>,
    /// The tool that the agent has running.
    pub tool: Option<Label>,
    /// What the agent waits for before it tries a request again.
    pub retrying: Option<Retrying>,
}

/// An agent tries a request again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrying {
    /// What went wrong.
    pub reason: Reason,
    /// How long the agent waits, in milliseconds, where it says so.
    pub delay_ms: Option<u64>,
    /// Whether it waits for a limit of its provider, which holds for all of its stories.
    pub limited: bool,
}

/// A share of a whole, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub struct Percent(u8);

/// A number that is not a percentage.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} is more than 100 percent")]
pub struct PercentError(u8);

impl Percent {
    /// The share; more than 100 is 100.
    pub fn new(percent: u8) -> Self {
        Self(percent.min(100))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Percent {
    type Error = PercentError;

    fn try_from(percent: u8) -> Result<Self, Self::Error> {
        (percent <= 100)
            .then_some(Self(percent))
            .ok_or(PercentError(percent))
    }
}

/// What an attempt has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent to the model, without cached ones.
    pub input_tokens: u64,
    /// Tokens that the model wrote.
    pub output_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Cost in millionths of a US dollar, as the agent states it; none when it does not.
    pub cost_micros_usd: Option<u64>,
    /// Requests to the model.
    pub turns: u32,
}

/// How the tree of processes below the executor is, which is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResponse {
    /// That of the check which is answered.
    pub sequence: u64,
    /// Resident memory of the tree, in KiB; to be shown.
    pub rss_kib: u64,
    /// CPU time that the tree has used, in milliseconds; to be shown.
    pub cpu_ms: u64,
    /// Time since the agent last wrote anything, in milliseconds; to be shown.
    pub output_idle_ms: u64,
    /// Processes in the tree; to be shown.
    pub processes: u32,
    /// Time since the agent last gave evidence of progress, of whatever kind, in milliseconds; since the executor
    /// began its work when there was none.
    pub idle_ms: u64,
    /// The kind of that evidence.
    pub sign: Option<Sign>,
    /// What the agent waits for now, if that can be seen.
    pub waits: Option<Wait>,
}

impl HealthResponse {
    /// What of it decides whether the attempt is well.
    pub fn vitals(&self) -> Vitals {
        Vitals::new(self.idle_ms, self.waits)
    }
}

/// A line for the person who watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// How important it is.
    pub level: LogLevel,
    /// The line.
    pub text: LogText,
}

impl Log {
    /// A line, cleaned and cut to [`MAX_LOG_BYTES`](super::text::MAX_LOG_BYTES).
    pub fn new(level: LogLevel, text: &str) -> Self {
        Self {
            level,
            text: LogText::new(text),
        }
    }
}

/// How important a log line is, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// For the developer of this program.
    Debug,
    /// What happens.
    Info,
    /// What may matter.
    Warning,
    /// What went wrong.
    Error,
}

/// Something went wrong in the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// A stable name for the kind of error, such as `agent_not_found`.
    pub code: Label,
    /// What happened.
    pub message: Reason,
    /// Whether the attempt goes on.
    pub recovery: Recovery,
}

/// Whether an attempt goes on after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recovery {
    /// It goes on.
    Recoverable,
    /// It ends.
    Fatal,
}

/// How an attempt ended as its executor says. The orchestrator believes it only together with the exit status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// Done, and this proves it.
    Succeeded(Evidence),
    /// The agent gave up, or the checks fail.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// A person must decide something.
    Blocked {
        /// What.
        reason: Reason,
    },
    /// The agent died or could not be run.
    Crashed {
        /// How.
        reason: Reason,
    },
    /// It was told to stop.
    Cancelled {
        /// By what.
        reason: Reason,
    },
    /// The provider of the agent serves no more for now.
    Limited {
        /// When it says that it will serve again, in milliseconds since the epoch.
        until_ms: Option<u64>,
        /// Why.
        reason: Reason,
    },
    /// The provider of the agent does not serve before a person has mended something: a key, a login, a payment.
    Refused {
        /// What.
        reason: Reason,
    },
    /// What the agent was given for a turn is used up.
    Exceeded {
        /// What.
        reason: Reason,
    },
}

impl Claim {
    /// Why it is no success; none when it is one.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Succeeded(_) => None,
            Self::Failed { reason }
            | Self::Blocked { reason }
            | Self::Crashed { reason }
            | Self::Cancelled { reason }
            | Self::Limited { reason, .. }
            | Self::Refused { reason }
            | Self::Exceeded { reason } => Some(reason),
        }
    }
}

/// What proves that a story is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The commit that the checks ran on, as a hexadecimal id.
    pub head: String,
    /// The commit that the work began from, as a hexadecimal id.
    pub base: String,
    /// What lies between the two.
    pub change: Change,
    /// The checks, in the order in which they ran.
    pub commands: Vec<CommandRecord>,
}

/// What a story changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Commits on its branch.
    Committed {
        /// How many.
        commits: u32,
        /// Files that differ from the base.
        files: u32,
        /// Lines added.
        insertions: u32,
        /// Lines removed.
        deletions: u32,
    },
    /// Nothing had to be changed, and the agent said so.
    Nothing,
}

/// A check that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// The command line, for a person.
    pub command: Reason,
    /// Its exit code; negative for the number of the signal that ended it.
    pub exit_code: i32,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// What an orchestrator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToExecutor {
    /// The work; the first frame.
    Start(Box<Start>),
    /// Asks for a [`HealthResponse`] with the same number.
    HealthCheck {
        /// The number of the check.
        sequence: u64,
    },
    /// End the attempt: stop the agent, keep its work, claim what became of it, exit.
    Shutdown {
        /// Why.
        reason: ShutdownReason,
        /// The time until it is killed, in milliseconds.
        grace_ms: u64,
    },
    /// The agent may begin the turn that [`FromExecutor::PermitRequest`] asked for, and may use so much in it.
    PermitGrant(Allowance),
}

/// Everything that an executor needs to know. Fits a frame when the story's text is at most 512 KiB, as the story
/// store ensures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The story's title.
    pub title: String,
    /// The story's whole text.
    pub story_text: String,
    /// The agent.
    pub agent: AgentSetup,
    /// Where what the agent tells is kept: a folder of this attempt alone, by its path on the machine of the executor.
    pub attempt_folder: String,
    /// The commit to work from, as a hexadecimal id.
    pub base: String,
    /// The branch to work on, which the worktree has checked out.
    pub branch: String,
    /// The phases to go through, in order.
    pub phases: Vec<Phase>,
    /// A folder that a commit must never contain changes of, relative to the root of the worktree, with `/`.
    pub board_folder: Option<String>,
    /// Where the agent works, relative to the root of the worktree, with `/`; empty for the root.
    pub work_folder: String,
    /// The message of the commit.
    pub commit_message: String,
    /// What an earlier attempt left behind.
    pub previous_attempt: Option<Reason>,
    /// Names of variables that the agent gets besides the usual ones; `*` at the end stands for any rest.
    pub environment: Vec<String>,
    /// Names of processes that may go on when the agent has ended.
    pub keep: Vec<String>,
    /// The shortest time between two looks at the files of the worktree for evidence of progress, in milliseconds.
    pub look_every_ms: u64,
    /// The time between two checkpoints of the worktree, in milliseconds; 0 for none.
    pub checkpoint_every_ms: u64,
    /// The first of the ports that the agent may use; none when it has none of its own.
    pub port: Option<u16>,
    /// The fence around what the agent writes; none when it has none.
    pub fence: Option<FenceSetup>,
}

/// What an agent's writes must not reach, and what they may besides the usual. Paths on the machine of the executor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FenceSetup {
    /// The directory of the repository that all worktrees share.
    pub common_dir: String,
    /// Folders of which nothing is open that is not named: no place that holds one of them is opened. Resolved.
    pub closed: Vec<String>,
    /// What the user allows.
    pub open: Vec<String>,
}

/// Which agent works on a story, and how it is set up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentSetup {
    /// What the user calls it.
    pub name: String,
    /// The adapter that drives it.
    pub adapter: String,
    /// The program and its first arguments; empty for the usual one.
    pub command: Vec<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The model; none for the agent's own default.
    pub model: Option<String>,
    /// Whether it works by its own rules of what it may do, instead of being allowed everything.
    pub own_permissions: bool,
    /// The most requests to the model in one turn.
    pub most_requests: Option<u32>,
    /// Names of variables that it gets besides the usual ones (`*` at the end stands for any rest), and variables that
    /// are set for it, as `NAME=value`.
    pub environment: Vec<String>,
}

/// Why an executor must end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShutdownReason {
    /// The whole run stops.
    RunStopping,
    /// Only this attempt is stopped.
    AttemptStopped {
        /// Why.
        why: Reason,
    },
}
