//! What the outside world tells the engine. Pure.

use crate::engine::id::AttemptNumber;
use crate::engine::outcome::{Claim, Exit};
use crate::story::StoryId;

/// One attempt at one story.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// The story.
    pub story: StoryId,
    /// Which try it is.
    pub attempt: AttemptNumber,
}

/// The signal that asked the run to stop; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
}

/// Something happened. Events about an attempt that is not the current one of its story change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The run begins.
    Began,
    /// The attempt's worktree stands and is set up.
    Prepared(Unit),
    /// The attempt's worktree could not be made; what there was of it is cleaned up.
    PrepareFailed(Unit, String),
    /// No process could be started for the attempt.
    LaunchFailed(Unit, String),
    /// The executor is connected, proved who it is, and has its work.
    Connected(Unit),
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
    /// A person or the system asks the run to stop.
    StopRequested(StopSignal),
    /// Time has passed: one of the deadlines that the engine named may be reached.
    TimePassed,
}

/// What the settling of an attempt found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Everything is as the outcome says.
    Confirmed,
    /// The executor claimed a success that its branch does not show.
    Refuted(String),
}

/// The result of writing a board entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoardWrite {
    /// It is on disk.
    Written,
    /// It is not; the driver has said why.
    Failed,
}
