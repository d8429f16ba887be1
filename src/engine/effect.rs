//! What the engine asks of the outside world. Pure.

use std::time::Duration;

use crate::engine::event::Unit;
use crate::engine::outcome::{Outcome, StopReason};
use crate::story::StoryId;

/// Something to do. The driver performs each at once and without waiting for the others; what comes of it returns as
/// an [`Event`](crate::engine::Event).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the attempt's worktree: answered by `Prepared` or `PrepareFailed`.
    Prepare(Unit),
    /// Give up making it: answered by `PrepareFailed`, unless it was through already.
    AbandonPreparation(Unit),
    /// Start the executor: answered by `Connected`, `LaunchFailed` or `Exited`.
    Launch(Unit),
    /// Send `shutdown` and SIGTERM. The executor has `grace` to end its agent.
    AskToStop {
        /// Whom.
        unit: Unit,
        /// Why.
        reason: StopReason,
        /// How long the agent may take to end by itself.
        grace: Duration,
    },
    /// SIGKILL.
    Kill(Unit),
    /// Take care of the end of an attempt: answered by `Settled`.
    Settle {
        /// Which attempt.
        unit: Unit,
        /// How it ended.
        outcome: Outcome,
        /// What becomes of its worktree.
        disposal: Disposal,
    },
    /// Write what the board should say of a story: answered by `BoardWritten`. Entries of one story are written in
    /// the order in which they are asked for.
    WriteBoard(StoryId, BoardEntry),
    /// Tell the person and the programs who watch that a story is through. Once for every selected story.
    Report {
        /// Which story.
        story: StoryId,
        /// Its last attempt, if there was one.
        unit: Option<Unit>,
        /// How it ended.
        outcome: Outcome,
    },
    /// Tell them that the run is stopping.
    ReportStopping {
        /// How many attempts are under way.
        running: usize,
        /// How long they have.
        grace: Duration,
    },
    /// Tell them that the run is left at once, with executors that end by themselves.
    ReportLeaving {
        /// How many.
        running: usize,
    },
    /// The run is over; nothing is left to wait for.
    Finish,
}

/// What becomes of a worktree when its attempt is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    /// The work is on the branch: the worktree goes once it is proved that nothing in it would be lost.
    Remove,
    /// No executor ever ran in it: what this attempt made of it goes, what an earlier one left stays.
    Undo,
    /// It stays for the next attempt and for the person.
    Keep,
}

/// What the board says about a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoardEntry {
    /// It is being worked on: `in-progress`.
    Started,
    /// It is `done`.
    Done,
    /// It waits for a person: `blocked`, with the reason.
    NeedsPerson {
        /// One line.
        reason: String,
    },
    /// It is what it was before it started, so that it can be picked again.
    Returned {
        /// What went wrong, where something did.
        error: Option<String>,
    },
}

impl BoardEntry {
    /// What the board says of a story whose last attempt ended so. A skipped story never left its place.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Succeeded => Some(Self::Done),
            Outcome::Failed { reason } | Outcome::Blocked { reason } => Some(Self::NeedsPerson {
                reason: reason.clone(),
            }),
            Outcome::Crashed { reason }
            | Outcome::ProtocolError { reason }
            | Outcome::PrepareFailed { reason } => Some(Self::Returned {
                error: Some(reason.clone()),
            }),
            Outcome::Cancelled => Some(Self::Returned { error: None }),
            Outcome::Skipped { .. } => None,
        }
    }
}
