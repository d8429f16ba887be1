//! Why a journal was not written or read.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::record::{EncodeError, LineError};

/// Why a journal was not written or read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("cannot {verb} {}", .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The journal.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe or the like.
    #[error("{} is not a file", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The record cannot become a line. Nothing was written.
    #[error("cannot write a record to {}", .path.display())]
    Encode {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// The record is older than the one before it. Nothing was written.
    #[error("a record of {at_ms} ms cannot follow one of {last_ms} ms in {}", .path.display())]
    Backwards {
        /// The journal.
        path: PathBuf,
        /// The time of the record, in milliseconds since the start of the run.
        at_ms: u64,
        /// That of the last one.
        last_ms: u64,
    },
    /// An earlier record could not be written, and half of it may be there: nothing more is appended.
    #[error("an earlier write to {} has failed, and nothing can follow it", .path.display())]
    Broken {
        /// The journal.
        path: PathBuf,
    },
    /// A line is not what must be there.
    #[error("{}: line {line}, at byte {offset}: {fault}", .path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Where the line starts, in bytes from 0.
        offset: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

impl JournalError {
    pub(super) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

/// What is wrong with a line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// It cannot be read.
    #[error(transparent)]
    Line(#[from] LineError),
    /// It is whole, but not the one that follows: lines are missing, or there twice.
    #[error("record {found} where record {expected} has to be")]
    Sequence {
        /// The sequence number that is due.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// It is whole, but older than the line before it.
    #[error("a record of {at_ms} ms follows one of {last_ms} ms")]
    Backwards {
        /// The time of the record, in milliseconds since the start of the run.
        at_ms: u64,
        /// That of the record before it.
        last_ms: u64,
    },
}
