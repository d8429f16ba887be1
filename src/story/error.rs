//! Why a story file was not read or written: one error for all that touches the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::board::Problem;
use super::edit::EditError;
use super::file;
use super::front_matter::FrontMatterError;
use super::id::StoryId;

/// Why a story file was not read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no `stories` directory.
    #[error("there is no board at {}", .path.display())]
    NotInitialised {
        /// The directory that would hold it.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {verb} {}", .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has held the lock of the board for too long.
    #[error("another process has held {} for {} s", .path.display(), .waited.as_secs())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The TypeScript program has held the lock of a story for too long.
    #[error("another program has held the lock {} for {} s", .path.display(), .waited.as_secs())]
    LockedByPredecessor {
        /// The lock directory.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// Larger than [`file::MAX_STORY_LEN`].
    #[error("{} is larger than {} KiB", .path.display(), file::MAX_STORY_LEN / 1024)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not text.
    #[error("{} is not UTF-8 text", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A directory, a pipe or the like.
    #[error("{} is not a file", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The front matter cannot be read.
    #[error("{}:{}: cannot read the front matter", .path.display(), .source.line())]
    FrontMatter {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FrontMatterError,
    },
    /// The front matter cannot be edited.
    #[error("cannot edit {}", .path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: EditError,
    },
    /// What would be written, or is there, cannot be used as a story.
    #[error("{0}")]
    Unusable(Problem),
    /// No story has that id.
    #[error("there is no story {id}")]
    UnknownStory {
        /// The id.
        id: StoryId,
    },
    /// A story needs a title.
    #[error("the title is empty")]
    EmptyTitle,
    /// No number is left.
    #[error("the highest story number is taken")]
    NoIdLeft,
}

impl StoreError {
    /// Turns an I/O error into one that says what was tried with which path.
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            verb,
            path: path.to_owned(),
            source,
        }
    }
}
