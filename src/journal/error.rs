//! Why a journal was not written or read.

use std::fmt;
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
    /// A closed segment is not there, and a later one is.
    #[error("{} is missing, also in compressed form, and a later segment is there", .path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// It cannot be gone on with from there: there is more.
    #[error("{} was not read to its end", .path.display())]
    Unread {
        /// The journal.
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
    #[error("{}: {line}, at byte {offset}: {fault}", .path.display())]
    Damaged {
        /// The journal, or the closed segment of it.
        path: PathBuf,
        /// The line.
        line: Line,
        /// Where the line starts in that file, in bytes from 0, not counted in compressed form.
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

/// Which line of a file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// From 1.
    Number(u64),
    /// The last one: those before it were not counted.
    Last,
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(formatter, "line {number}"),
            Self::Last => formatter.write_str("the last line"),
        }
    }
}

/// What is wrong with a line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// It cannot be read.
    #[error(transparent)]
    Line(#[from] LineError),
    /// It is whole, but it is the first one of its file, and others have to be before it.
    #[error("records {first} to {last} are missing before it")]
    Missing {
        /// The sequence number that is due.
        first: u64,
        /// That before the one that is there.
        last: u64,
    },
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
