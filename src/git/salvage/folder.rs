//! The folder for the files of one salvage, in the administrative directory of the worktree. It goes with the call, also
//! after an error; what a killed program leaves goes with the next one that is late enough, or with the worktree.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::look::Place;
use super::{SalvageError, blocking};

/// What the names of these folders begin with.
const PREFIX: &str = "ai-sdlc-salvage-";

/// How old a folder must be before it is taken for one that nobody uses.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// The folder of one salvage.
#[derive(Debug)]
pub(super) struct Folder {
    folder: TempDir,
}

/// An index for git to work on.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) path: PathBuf,
    /// Whether it is that of the worktree; else there is none yet.
    pub(super) is_copied: bool,
}

impl Folder {
    pub(super) fn new(place: &Place) -> Result<Self, SalvageError> {
        remove_abandoned(&place.git_dir);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&place.git_dir)
            .map_err(|source| SalvageError::io("create a folder in", &place.git_dir, source))?;
        Ok(Self { folder })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of the worktree's index as it is at this moment, if it can be used.
    pub(super) async fn copy_of_index(&self, place: &Place) -> Result<Index, SalvageError> {
        let (from, to) = (place.git_dir.join("index"), self.file("index"));
        blocking(move || match copy_with_time(&from, &to) {
            Ok(()) => Ok(Index {
                is_copied: is_whole(&to),
                path: to,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index {
                is_copied: false,
                path: to,
            }),
            Err(source) => Err(SalvageError::io("copy", &from, source)),
        })
        .await
    }
}

/// Copies a file with the time of its last change: by that time git tells which of its entries were made so shortly
/// before that a later change of the file would not show.
fn copy_with_time(from: &Path, to: &Path) -> io::Result<()> {
    // Git replaces its index as a whole: what is open here stays what it is.
    let mut source = File::open(from)?;
    let modified = source.metadata()?.modified()?;
    let mut copy = File::create_new(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_modified(modified)
}

/// Whether a file is an index, by its checksum too, which git itself does not look at. One that is none is removed.
fn is_whole(path: &Path) -> bool {
    let is_whole = match git2::Index::open(path) {
        Ok(_) => true,
        // Those of a split or sparse index, which libgit2 does not read and git does.
        Err(error) => error.message().contains("mandatory extension"),
    };
    if !is_whole {
        drop(fs::remove_file(path));
    }
    is_whole
}

fn remove_abandoned(git_dir: &Path) {
    let entries = fs::read_dir(git_dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let is_old = || {
            let modified = entry.metadata().and_then(|data| data.modified());
            modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
        };
        if name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) && is_old() {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
