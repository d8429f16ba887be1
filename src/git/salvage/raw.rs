//! What git does not add in its own way: a filter fails, an encoding does not fit, a file cannot be read. What can be
//! read is recorded byte for byte.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use git2::StatusShow;

use super::look::{Place, is_repository, open_at, read_error};
use super::{DEADLINE, Folder, SalvageError, Work, blocking};
use crate::git::changes;
use crate::git::runner::Git;

/// How many files one git is given: the names of their blobs are read back, and of that there is a limit.
const BATCH: usize = 4000;

/// What differs between an index and a directory.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Repositories that the index has nothing of, relative to the directory.
    pub(super) repositories: Vec<PathBuf>,
    /// Everything else.
    pub(super) files: Vec<PathBuf>,
}

/// A file that is recorded as it is.
#[derive(Debug)]
struct Raw {
    /// Where it is in the index.
    path: PathBuf,
    mode: &'static str,
    /// What holds its bytes.
    content: PathBuf,
}

/// Whether git has recorded what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

impl Work<'_> {
    /// What an index does not have of a directory.
    pub(super) async fn rest(&self, index: &Path, directory: &Path) -> Result<Rest, SalvageError> {
        let place = Place {
            worktree: directory.to_owned(),
            git_dir: self.place.git_dir.clone(),
        };
        let index = index.to_owned();
        blocking(move || {
            let failed = |source| read_error(&place, source);
            let opened = open_at(&place)?;
            let mut index = git2::Index::open(&index).map_err(failed)?;
            opened.set_index(&mut index).map_err(failed)?;
            let found = changes::read_some(&opened, None, StatusShow::Workdir, usize::MAX);
            let found = found.map_err(failed)?;
            // What the index records of a repository inside is no file, and looked for there.
            let is_file = |path: &PathBuf| {
                !found.embedded.contains(path) && !is_repository(&place.worktree.join(path))
            };
            Ok(Rest {
                files: found
                    .paths
                    .iter()
                    .filter(|path| is_file(path))
                    .cloned()
                    .collect(),
                // Without the slash at their ends.
                repositories: found
                    .embedded
                    .iter()
                    .map(|path| path.components().collect())
                    .collect(),
            })
        })
        .await
    }

    /// Records files as they are, and notes those of which that is not possible.
    pub(super) async fn add_raw(
        &mut self,
        git: &Git,
        files: Vec<PathBuf>,
        directory: &Path,
        below: &Path,
    ) -> Result<(), SalvageError> {
        let mut gone = Vec::new();
        let mut raw = Vec::new();
        for (number, path) in files.into_iter().enumerate() {
            match readable(self.folder, directory, &path, number) {
                Ok(Some(file)) => raw.push(file),
                Ok(None) => gone.extend(removal_line(&path)),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "a file cannot be saved");
                    self.left_out.push(below.join(path));
                }
            }
        }
        self.update(git, directory, gone).await?;
        for batch in raw.chunks(BATCH) {
            let mut names = Vec::new();
            for file in batch {
                names.extend(quoted(&file.content));
            }
            let call = git.call(directory);
            let call = call.args(["hash-object", "-w", "--no-filters", "--stdin-paths"]);
            let output = call.input(names).deadline(DEADLINE).run().await;
            let output = output.map_err(|source| self.failed(source))?;
            let blobs = String::from_utf8_lossy(&output.stdout).into_owned();
            for (file, blob) in batch.iter().zip(blobs.lines()) {
                let mut entry = format!("{} {blob}\t", file.mode).into_bytes();
                entry.extend_from_slice(file.path.as_os_str().as_bytes());
                entry.push(0);
                // One by one, since git does not say clearly which names it refuses.
                if self.update(git, directory, entry).await? == Taken::No {
                    self.left_out.push(below.join(&file.path));
                }
            }
        }
        Ok(())
    }

    async fn update(
        &self,
        git: &Git,
        directory: &Path,
        lines: Vec<u8>,
    ) -> Result<Taken, SalvageError> {
        if lines.is_empty() {
            return Ok(Taken::Yes);
        }
        let call = git.call(directory);
        let call = call.args(["update-index", "-z", "--add", "--replace", "--index-info"]);
        let output = call.input(lines).run().await;
        let output = output.map_err(|source| self.failed(source))?;
        let refused = output.stderr.starts_with(b"Ignoring path");
        Ok(if refused { Taken::No } else { Taken::Yes })
    }
}

/// The line for `git update-index --index-info` that takes a path out of the index.
pub(super) fn removal_line(path: &Path) -> Vec<u8> {
    let mut line = format!("0 {}\t", "0".repeat(40)).into_bytes();
    line.extend_from_slice(path.as_os_str().as_bytes());
    line.push(0);
    line
}

/// How a file can be recorded; none when it is gone.
fn readable(
    folder: &Folder,
    directory: &Path,
    path: &Path,
    number: usize,
) -> io::Result<Option<Raw>> {
    let full = directory.join(path);
    let data = match fs::symlink_metadata(&full) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let raw = |mode, content| {
        Ok(Some(Raw {
            path: path.to_owned(),
            mode,
            content,
        }))
    };
    if data.is_symlink() {
        let content = folder.file(&format!("link-{number}"));
        fs::write(&content, fs::read_link(&full)?.as_os_str().as_bytes())?;
        return raw("120000", content);
    }
    if !data.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    File::open(&full)?;
    let is_executable = data.permissions().mode() & 0o100 != 0;
    raw(if is_executable { "100755" } else { "100644" }, full)
}

/// A path as a line for git, whatever characters it has.
fn quoted(path: &Path) -> Vec<u8> {
    let mut line = String::from("\"");
    for byte in OsStr::as_bytes(path.as_os_str()) {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            line.push(char::from(*byte));
        } else {
            // Writing to a text cannot fail.
            let _written: Result<(), std::fmt::Error> = write!(line, "\\{byte:03o}");
        }
    }
    line.push_str("\"\n");
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_reads_them() {
        let path = Path::new(OsStr::from_bytes(b"a b/\xff\n\"\\.txt"));
        assert_eq!(
            quoted(path),
            b"\"a\\040b/\\377\\012\\042\\134.txt\"\n".to_vec()
        );
    }
}
