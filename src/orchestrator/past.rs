//! What the journal of a run tells after the end of its orchestrator: the state in which it was, and what it had noted.
//!
//! Reading changes nothing: who goes on with the run does so from what is returned here.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use thiserror::Error;

use super::note::{JournalRecord, Note};
use crate::engine::{Engine, Moment, Opening, Record, Replay, ReplayError, RunId, RunView, Unit};
use crate::git::{CommitId, Origin};
use crate::journal::{self, End, JournalError, Reader};
use crate::protocol::Evidence;
use crate::story::StoryId;

/// A run as its journal tells it.
#[derive(Debug)]
pub struct Past {
    /// What it started from.
    pub opening: Opening,
    /// The state in which it was.
    pub engine: Engine,
    /// How it ended; none when its orchestrator was killed.
    pub closed: Option<RunView>,
    /// When the last thing happened.
    pub last: Moment,
    /// The same by the clock on the wall, as the file system has it.
    pub last_written: SystemTime,
    pub(super) end: End,
    pub(super) notes: Notes,
}

/// What the driver had noted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) worktrees: HashMap<Unit, NotedWorktree>,
    pub(super) evidence: HashMap<Unit, Evidence>,
    /// The last branch of each story.
    pub(super) branches: HashMap<StoryId, NotedWorktree>,
}

/// The worktree of an attempt.
#[derive(Debug, Clone)]
pub(super) struct NotedWorktree {
    pub(super) branch: String,
    pub(super) base: CommitId,
    pub(super) origin: Origin,
}

/// Why a run cannot be known from its journal.
#[derive(Debug, Error)]
pub enum PastError {
    /// It holds nothing: its orchestrator was killed before it had written anything.
    #[error("the journal of {0} holds no record")]
    Empty(RunId),
    /// It cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It is not that of a run.
    #[error("the journal of {run} is none")]
    Replay {
        /// The run.
        run: RunId,
        /// Why.
        source: ReplayError,
    },
}

impl Past {
    /// Reads the journal of a run. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or is not the journal of a run.
    pub fn read(run: &RunId, journal: &Path) -> Result<Self, PastError> {
        let replaying = |source| PastError::Replay {
            run: run.clone(),
            source,
        };
        let mut reader: Reader<JournalRecord> = Reader::open(journal)?;
        let Some(first) = reader.next() else {
            return Err(PastError::Empty(run.clone()));
        };
        let first = first?.record;
        let Record::Opened(opening) = first.clone() else {
            return Err(replaying(ReplayError::NotOpened));
        };
        let mut replay = Replay::open(first).map_err(replaying)?;
        let mut notes = Notes::default();
        let mut last = Moment::default();
        for entry in reader.by_ref() {
            let entry = entry?;
            last = Moment::from_millis(entry.at_ms);
            if let Record::Noted(note) = &entry.record {
                notes.take(note.clone());
            }
            replay.take(entry.record, last).map_err(replaying)?;
        }
        Ok(Self {
            opening: *opening,
            closed: replay.closed().cloned(),
            engine: replay.into_engine(),
            last,
            last_written: journal::last_change(journal).unwrap_or_else(SystemTime::now),
            end: reader.end(),
            notes,
        })
    }

    /// Where the work of a story was, as far as the run has come with it: its branch, and what that starts from.
    pub fn branch_of(&self, story: &StoryId) -> Option<(&str, CommitId)> {
        let noted = self.notes.branches.get(story)?;
        Some((&noted.branch, noted.base))
    }
}

impl Notes {
    fn take(&mut self, note: Note) {
        match note {
            Note::Worktree {
                unit,
                branch,
                base,
                origin,
            } => {
                // One that cannot be read is as good as none: the attempt is then prepared anew.
                let Ok(base) = base.parse() else { return };
                let noted = NotedWorktree {
                    branch,
                    base,
                    origin,
                };
                self.branches.insert(unit.story.clone(), noted.clone());
                self.worktrees.insert(unit, noted);
            }
            // Executors find it in the worktree; here it is kept for people.
            Note::Conversation { .. } => {}
            Note::Evidence { unit, evidence } => {
                self.evidence.insert(unit, evidence);
            }
        }
    }
}
