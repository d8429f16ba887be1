//! A file or directory that could not be used: the same words in every error of git work.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file or directory could not be used.
#[derive(Debug, Error)]
#[error("failed to {verb} {}", path.display())]
pub struct FileError {
    /// What was tried.
    pub verb: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: the error of what was tried with that path.
    pub(super) fn when(
        verb: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            verb,
            path: path.as_ref().to_owned(),
            source,
        }
    }
}
