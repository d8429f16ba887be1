//! What the outside world tells the engine. A run's journal is the list of these. Pure.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::day::CalendarDay;
use crate::engine::files::FilePattern;
use crate::engine::health::Vitals;
use crate::engine::id::{AttemptNumber, Phase};
use crate::engine::limits::{Limits, Usage};
use crate::engine::outcome::{Claim, Exit};
use crate::engine::plan::PlannedStory;
use crate::engine::time::Moment;
use crate::story::StoryId;

/// One attempt at one story.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unit {
    /// The story.
    pub story: StoryId,
    /// Which try it is.
    pub attempt: AttemptNumber,
}

/// The signal that asked the run to stop; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
}

/// Something happened. Events about an attempt that is not the current one of its story change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    Began,
    /// The orchestrator was killed and is back. No process of the run is alive any more, and nothing that was asked for
    /// before and not answered will be answered.
    Resumed(Restart),
    /// The journal takes no more records: what is under way is brought to its end, and nothing more is started, since
    /// nobody would know of it after a kill.
    JournalLost,
    /// The stories that are ready now, in their order: those that are new join, those that wait and are not among them
    /// are withdrawn, and the others take their new places.
    Replanned(Vec<PlannedStory>),
    /// The attempt's worktree stands and is set up.
    Prepared(Unit),
    /// The attempt's worktree could not be made; what there was of it is cleaned up.
    PrepareFailed(Unit, String),
    /// The attempt's worktree cannot be made, however often it is tried, before a person has decided something.
    PrepareBlocked(Unit, String),
    /// No process could be started for the attempt.
    LaunchFailed(Unit, String),
    /// The executor is connected, proved who it is, and has its work.
    Connected(Unit),
    /// The attempt enters a phase.
    PhaseEntered(Unit, Phase),
    /// The executor answered a health check, and says how its agent is.
    Answered(Unit, Vitals),
    /// What the attempt has used so far, in total.
    Used(Unit, Usage),
    /// It is that day, on which the other runs of the board have used so much.
    DayIs(CalendarDay, Usage),
    /// The executor asks whether its agent may begin a turn: answered by `GrantTurn`, or by a stop.
    TurnAsked(Unit),
    /// Files that the attempt has changed in its worktree so far.
    Touched(Unit, Vec<FilePattern>),
    /// The executor sent `complete`.
    Claimed(Unit, Claim),
    /// The executor closed its connection without `complete`.
    Disconnected(Unit),
    /// The executor sent something that it may not send.
    ProtocolViolated(Unit, String),
    /// The executor's process has ended and every frame that it had sent has been delivered.
    Exited(Unit, Exit),
    /// The end of the attempt is taken care of.
    Settled(Unit, Settlement),
    /// A board entry was written, or could not be.
    BoardWritten(StoryId, BoardWrite),
    /// The branch of a story that succeeded has been merged, in memory, with those that were finished before it.
    Compared(StoryId, Comparison),
    /// An agent says that its provider serves no more until then, and why; the agent waits for that by itself.
    ProviderPaused(Provider, Moment, String),
    /// The person was asked whether to go on, and answered.
    Decided(Decision),
    /// A person or the system asks the run to stop.
    StopRequested(StopSignal),
    /// Time has passed: one of the deadlines that the engine named may be reached.
    TimePassed,
}

/// Who serves the agent of a story: what a quota belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Provider(Arc<str>);

impl Provider {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Provider {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<Provider> for String {
    fn from(provider: Provider) -> Self {
        provider.0.as_ref().to_owned()
    }
}

/// What is other than before when a run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restart {
    /// How many slots there are, when a person has asked for others.
    pub slots: Option<NonZeroUsize>,
    /// What the run may use, when a person has said something else.
    #[serde(default)]
    pub run_limits: Option<Limits>,
    /// Stories that the journal does not know to be through, and of which the board says something else.
    pub found: Vec<(StoryId, OnBoard)>,
    /// How long ago it was, by the clock on the wall, that the journal was last written to: time that the run does not
    /// count, and providers do.
    #[serde(with = "crate::engine::time::millis", default)]
    pub away: Duration,
}

/// What the board says of a story that the journal does not know to be through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBoard {
    /// It is done: its end could not be recorded, or a person has done it.
    Done,
    /// It is not to be worked on.
    NotWanted,
}

/// What the settling of an attempt found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// Everything is as the outcome says.
    Confirmed,
    /// The executor claimed a success that its branch does not show.
    Refuted(String),
}

/// The result of writing a board entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoardWrite {
    /// It is on disk.
    Written,
    /// It is not; the driver has said why.
    Failed,
}

/// What comparing a finished branch with earlier ones found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// These cannot be merged with it; none when it goes with all.
    Compared(Vec<Clash>),
    /// It could not be found out; the driver has said why.
    Failed,
}

/// Another finished branch that cannot be merged with the one in question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clash {
    /// Its story.
    pub with: StoryId,
    /// The files in which they conflict.
    pub files: Vec<String>,
}

/// What a person says when a run asks whether to go on after a story that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// With the next story.
    GoOn,
    /// Nothing more is started.
    StopHere,
}
