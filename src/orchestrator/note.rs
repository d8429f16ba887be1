//! What the driver notes in the journal besides the events: what it has to know after a restart, and the engine need not.

use serde::{Deserialize, Serialize};

use crate::engine::{Record, Unit};
use crate::git::Origin;
use crate::protocol::Evidence;

/// A record of a run's journal.
pub type JournalRecord = Record<Note>;

/// Something to know after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The worktree of an attempt stands. It lies under the name of its branch.
    Worktree {
        /// The attempt.
        unit: Unit,
        /// The branch that is checked out.
        branch: String,
        /// The commit that it starts from, as a hexadecimal id.
        base: String,
        /// Where it comes from.
        origin: Origin,
    },
    /// The agent of an attempt has a name for its conversation, by which it can go on.
    Conversation {
        /// The attempt.
        unit: Unit,
        /// What the user calls the agent.
        agent: String,
        /// The agent's name for the conversation.
        name: String,
    },
    /// The executor of an attempt proves a success by this.
    Evidence {
        /// The attempt.
        unit: Unit,
        /// The proof.
        evidence: Evidence,
    },
}
