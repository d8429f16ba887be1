//! Saves what is in a worktree and in no commit, as a commit under `refs/ai-sdlc/salvage/<story>/<attempt>`.
//!
//! It works with plumbing on an index of its own, in a folder of the worktree's administrative directory that goes
//! with the call: no hook runs, nothing is signed, and index, files, HEAD and branches of the worktree stay as they
//! are. It takes no lock that anybody waits for. Something may be running in the worktree: what is saved then is a
//! moment of it.
//!
//! | what is there | what is saved |
//! |---|---|
//! | changed, new and deleted files, modes, symbolic links | as `git add` records them, with the user's filters |
//! | ignored files | nothing, on purpose |
//! | the board's folder | like everything else: a commit of the story leaves it out, a salvage does not |
//! | staged, and different on disk | the index is the second parent; not while files are in conflict |
//! | files in conflict | as they are on disk, with their markers |
//! | assume-unchanged or skip-worktree, and there | as it is on disk |
//! | outside of a sparse checkout, and not there | as it is in the index |
//! | another branch, a commit without a branch | likewise; the first parent is what is checked out |
//! | a branch without a commit | likewise, without that parent |
//! | an index that is missing or damaged | likewise, compared with what is checked out |
//! | a worktree whose preparation was interrupted | nothing: nobody has worked in it |
//! | no `.git` in the worktree any more | likewise, where the repository knows the worktree |
//! | a repository inside | its files, below its path; its `.git` folder in the last parent ([`embedded`]) |
//! | a submodule | the commit that it has checked out. One with changes or commits of its own counts as left out |
//! | a filter that fails, an encoding that does not fit | the bytes as they are ([`raw`]) |
//! | files that cannot be read, names that git refuses | left out, and [`SalvageError::Incomplete`] names them |
//! | empty folders, sockets, named pipes | nothing: git has no form for them |
//!
//! The ref moves on when something else is saved for the same attempt, and its reflog keeps what it was before. A chain
//! of commits would keep every checkpoint of every attempt for ever, and show the same work many times; the reflog
//! does so for as long as git is told to keep what nobody refers to (30 days).

mod commit;
mod embedded;
mod folder;
mod list;
mod look;
mod raw;
mod removal;
mod restore;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::admin::WorktreeEntry;
use super::blocking;
use super::commit_id::CommitId;
use super::file_error::FileError;
use super::link::{Link, LinkError, common_dir_of};
use super::repository::RepositoryError;
use super::runner::{Git, GitError};
use super::worktree::Worktrees;
use crate::engine::AttemptNumber;
use crate::process::{self, Allowed};
use crate::story::id::StoryId;
use embedded::Extent;
use folder::Folder;
use look::{Place, State};

pub use list::{Salvage, SavedFile, Standing};
pub use removal::TakenBack;
pub use restore::{RestoreError, restore_branch, restore_files};

/// What the names of all salvage refs begin with.
pub const SALVAGE_PREFIX: &str = "refs/ai-sdlc/salvage/";

/// Why a checkpoint is saved.
pub const CHECKPOINT: &str = "checkpoint";

/// How long one git of a salvage may take. Only adding the files takes long, and a whole salvage must fit into the time
/// that the end of an attempt has.
const DEADLINE: Duration = Duration::from_secs(4 * 60);

/// How long a salvage may take that the stop of a run waits for. What is not saved by then stays in its worktree, and a
/// run that is stopped must end soon.
pub const HURRIED_SALVAGE: Duration = Duration::from_secs(3);

/// The pauses before files are added once more that were changed or removed meanwhile.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// How many paths an error names.
const MAX_NAMED_PATHS: usize = 5;

/// The ref that the salvage of an attempt has.
pub fn salvage_ref(story: &StoryId, attempt: AttemptNumber) -> String {
    format!("{SALVAGE_PREFIX}{story}/{}", attempt.get())
}

/// What to call a salvage.
#[derive(Debug, Clone)]
pub struct SalvageRequest {
    /// The story.
    pub story: StoryId,
    /// The attempt.
    pub attempt: AttemptNumber,
    /// Why it is saved, in one line.
    pub why: String,
}

/// Why a worktree is not, or not as a whole, saved.
#[derive(Debug, Error)]
pub enum SalvageError {
    /// The repository does not know the directory.
    #[error("{} is not a worktree of this repository", path.display())]
    NotAWorktree {
        /// The directory.
        path: PathBuf,
    },
    /// Something in it cannot be saved; the rest is.
    #[error("not everything in {} can be saved: {}", path.display(), named(left_out))]
    Incomplete {
        /// The worktree.
        path: PathBuf,
        /// What is not saved, relative to it.
        left_out: Vec<PathBuf>,
        /// What is saved; none when there is nothing else.
        commit: Option<CommitId>,
    },
    /// The disk is full.
    #[error("there is no space left to save {}", path.display())]
    NoSpace {
        /// The worktree.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The worktree cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// No git can be called for it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Git failed.
    #[error("failed to save {}", path.display())]
    Git {
        /// The worktree.
        path: PathBuf,
        /// Why.
        source: GitError,
    },
}

fn named(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths
        .iter()
        .take(MAX_NAMED_PATHS)
        // A file name can hold a line break.
        .map(|path| path.to_string_lossy().replace(char::is_control, "?"))
        .collect();
    let more = match paths.len().saturating_sub(MAX_NAMED_PATHS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

impl SalvageError {
    fn git(place: &Place, source: GitError) -> Self {
        let path = place.worktree.clone();
        let full = ["No space left on device", "Disk quota exceeded"];
        match &source {
            GitError::Failed(failure) if full.iter().any(|text| failure.stderr.contains(text)) => {
                Self::NoSpace { path }
            }
            _ => Self::Git { path, source },
        }
    }

    fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io(FileError::when(verb, path)(source)),
        }
    }
}

impl Worktrees {
    /// Saves what is in the worktree at `path` and in no commit. None when nothing would be lost with it: the files are
    /// those of the branch that is checked out. Some six git processes, none when nothing is changed.
    ///
    /// # Errors
    /// When something cannot be saved. The worktree must stay then.
    pub async fn salvage(
        &self,
        path: &Path,
        story: &StoryId,
        attempt: AttemptNumber,
        why: &str,
    ) -> Result<Option<CommitId>, SalvageError> {
        let entry = self.entry_of(path).await?;
        // Files that are missing there were never checked out, and nobody has deleted them.
        if entry.is_being_prepared() {
            return Ok(None);
        }
        let place = Place {
            worktree: path.to_owned(),
            git_dir: entry.admin_dir,
        };
        let request = SalvageRequest {
            story: story.clone(),
            attempt,
            why: why.to_owned(),
        };
        let extent = Extent::Everything;
        save(&self.git, &place, &request, extent, Aim::Save).await
    }

    /// The salvage of an attempt, if that has all that is in the worktree at `path` and in no commit. Moves no ref.
    ///
    /// # Errors
    /// As [`Self::salvage`]; also when something in it cannot be saved.
    pub(super) async fn salvage_of(
        &self,
        path: &Path,
        story: &StoryId,
        attempt: AttemptNumber,
    ) -> Result<Option<CommitId>, SalvageError> {
        let request = SalvageRequest {
            story: story.clone(),
            attempt,
            why: String::new(),
        };
        let place = Place {
            worktree: path.to_owned(),
            git_dir: self.entry_of(path).await?.admin_dir,
        };
        let extent = Extent::Everything;
        save(&self.git, &place, &request, extent, Aim::Compare).await
    }

    /// What the repository knows of a worktree that is there.
    async fn entry_of(&self, path: &Path) -> Result<WorktreeEntry, SalvageError> {
        let (repository, directory) = (self.repository.clone(), path.to_owned());
        blocking(move || {
            let entry = repository.worktree_at(&directory)?;
            let Some(entry) = entry.filter(|_| directory.is_dir()) else {
                return Err(SalvageError::NotAWorktree { path: directory });
            };
            Link::between(&directory, &entry.admin_dir).check_git_dir()?;
            Ok(entry)
        })
        .await
    }
}

/// What the trees are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Save,
    /// To see whether they are saved.
    Compare,
}

/// Whether something in the worktree of a running attempt is in no commit, as a number that differs when something else
/// is. No process.
///
/// # Errors
/// When the worktree cannot be read.
pub async fn unsaved(link: &Link) -> Result<Option<u64>, SalvageError> {
    let link = link.clone();
    let looking = blocking(move || {
        link.check_git_dir()?;
        Ok::<_, SalvageError>(look::look(&Place::of(&link))?)
    });
    Ok(looking.await?.state.fingerprint())
}

/// Saves a moment of a worktree in which an attempt is running: everything but the `.git` folders of repositories inside,
/// which may be large and are saved at the end.
///
/// # Errors
/// When something cannot be saved.
pub async fn checkpoint(
    git: &Git,
    link: &Link,
    request: &SalvageRequest,
) -> Result<Option<CommitId>, SalvageError> {
    save(git, &Place::of(link), request, Extent::Files, Aim::Save).await
}

async fn save(
    git: &Git,
    place: &Place,
    request: &SalvageRequest,
    extent: Extent,
    aim: Aim,
) -> Result<Option<CommitId>, SalvageError> {
    let found = {
        let place = place.clone();
        blocking(move || look::look(&place)).await?
    };
    if found.state == State::Clean {
        return Ok(None);
    }
    let folder = Folder::new(place)?;
    let index = folder.copy_of_index(place).await?;
    let git = plumbing(git, &place.git_dir);
    let mut work = Work {
        git,
        place,
        folder: &folder,
        extent,
        aim,
        left_out: found.left_out.clone(),
        inner: Vec::new(),
        number: 0,
    };
    let staged = if index.is_copied {
        work.staged(&index.path).await?
    } else {
        Staged::Unreadable
    };
    if staged == Staged::Unreadable {
        work.start_from_head(&index.path, found.head).await?;
    }
    work.forget_flags(&index.path, &found.flagged).await?;
    let tree = work
        .tree(&index.path, &place.worktree, Path::new(""))
        .await?;
    let saved = work.commit(&found, tree, staged.tree(), request).await?;
    let mut left_out = work.left_out;
    if left_out.is_empty() {
        return Ok(saved);
    }
    left_out.sort();
    left_out.dedup();
    Err(SalvageError::Incomplete {
        path: place.worktree.clone(),
        left_out,
        commit: saved,
    })
}

/// The git that saves: it finds no repository by itself, and what the user has configured for commits and for the index
/// of the worktree does not concern it.
fn plumbing(git: &Git, git_dir: &Path) -> Git {
    const SETTINGS: &[(&str, &str)] = &[
        ("core.hooksPath", "/dev/null"),
        // The copy of the index is a plain one, and nobody watches files for it.
        ("core.splitIndex", "false"),
        ("index.sparse", "false"),
        ("core.fsmonitor", "false"),
        ("core.untrackedCache", "false"),
        // Line endings that do not survive are better than nothing.
        ("core.safecrlf", "false"),
        ("advice.addEmbeddedRepo", "false"),
        ("i18n.commitEncoding", "UTF-8"),
        ("maintenance.auto", "false"),
        ("gc.auto", "0"),
    ];
    // Not what the directory itself names: whoever works in the worktree can change that.
    configured(git.clone(), SETTINGS)
        .with_variable("GIT_DIR", git_dir)
        .with_variable("GIT_COMMON_DIR", common_dir_of(git_dir))
}

/// What adding files writes to: the index, objects, and large files.
fn written_by_adding(git_dir: &Path) -> Vec<Allowed> {
    let common_dir = common_dir_of(git_dir);
    let null = Allowed {
        path: "/dev/null".into(),
        extent: process::Extent::Existing,
    };
    let places = [
        git_dir.to_owned(),
        common_dir.join("objects"),
        common_dir.join("lfs"),
    ];
    let places = places.into_iter().map(|path| Allowed {
        path,
        extent: process::Extent::Everything,
    });
    places.chain([null]).collect()
}

/// A git with these settings, which come before those of files.
fn configured(mut git: Git, settings: &[(&str, &str)]) -> Git {
    git = git.with_variable("GIT_CONFIG_COUNT", settings.len().to_string());
    for (place, (name, value)) in settings.iter().enumerate() {
        git = git
            .with_variable(format!("GIT_CONFIG_KEY_{place}"), *name)
            .with_variable(format!("GIT_CONFIG_VALUE_{place}"), *value);
    }
    git
}

/// One salvage under way.
struct Work<'a> {
    git: Git,
    place: &'a Place,
    folder: &'a Folder,
    extent: Extent,
    aim: Aim,
    /// What cannot be saved, relative to the worktree.
    left_out: Vec<PathBuf>,
    /// The repositories inside: their paths relative to the worktree, and the trees of their `.git` folders.
    inner: Vec<(PathBuf, String)>,
    /// The last number of an index for one of them.
    number: usize,
}

impl Work<'_> {
    /// A call on an index, in a directory that counts as the root of the work tree.
    fn git_with(&self, index: &Path, directory: &Path) -> Git {
        let git = self.git.clone().with_variable("GIT_INDEX_FILE", index);
        git.with_variable("GIT_WORK_TREE", directory)
    }

    fn failed(&self, source: GitError) -> SalvageError {
        SalvageError::git(self.place, source)
    }

    /// The tree of the index as it is.
    async fn staged(&self, index: &Path) -> Result<Staged, SalvageError> {
        let git = self.git_with(index, &self.place.worktree);
        match self.write_tree(&git, &self.place.worktree).await {
            Ok(tree) => Ok(Staged::Tree(tree)),
            Err(SalvageError::Git { source, .. }) if is_about_the_index(&source) => {
                Ok(Staged::Unreadable)
            }
            Err(SalvageError::Git { source, .. }) => {
                tracing::debug!(%source, "the index is not saved");
                Ok(Staged::InConflict)
            }
            Err(error) => Err(error),
        }
    }

    async fn write_tree(&self, git: &Git, directory: &Path) -> Result<String, SalvageError> {
        // Objects that a partial clone has not fetched are not fetched for this.
        let call = git.call(directory).args(["write-tree", "--missing-ok"]);
        let output = call.deadline(DEADLINE).run().await;
        let output = output.map_err(|source| self.failed(source))?;
        Ok(line(&output.stdout))
    }

    /// Makes an index of what is checked out, if anything is.
    async fn start_from_head(
        &self,
        index: &Path,
        head: Option<CommitId>,
    ) -> Result<(), SalvageError> {
        drop(std::fs::remove_file(index));
        let git = self.git_with(index, &self.place.worktree);
        let call = git.call(&self.place.worktree).arg("read-tree");
        let call = match head {
            Some(head) => call.arg(head.to_string()),
            None => call.arg("--empty"),
        };
        let output = call.deadline(DEADLINE).run().await;
        output.map(drop).map_err(|source| self.failed(source))
    }

    /// Has git look at files that it was told not to look at.
    async fn forget_flags(&self, index: &Path, flagged: &[u8]) -> Result<(), SalvageError> {
        if flagged.is_empty() {
            return Ok(());
        }
        let git = self.git_with(index, &self.place.worktree);
        for flag in ["--no-assume-unchanged", "--no-skip-worktree"] {
            let call = git.call(&self.place.worktree);
            let call = call.args(["update-index", flag, "-z", "--stdin"]);
            let output = call.input(flagged).run().await;
            output.map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// The tree of a directory that counts as the root of a work tree and is at `below` in the worktree. The index may
    /// hold what is known of it.
    async fn tree(
        &mut self,
        index: &Path,
        directory: &Path,
        below: &Path,
    ) -> Result<String, SalvageError> {
        let git = self.git_with(index, directory);
        let inner = self.add(&git, index, directory, below).await?;
        self.take_in_repositories(&git, index, directory, below, inner)
            .await?;
        self.write_tree(&git, directory).await
    }

    /// Adds everything to the index, as often as it takes, and what git cannot add in its own way as it is. Gives the
    /// repositories without a commit, of which nothing is added.
    async fn add(
        &mut self,
        git: &Git,
        index: &Path,
        directory: &Path,
        below: &Path,
    ) -> Result<Vec<PathBuf>, SalvageError> {
        let mut pauses = PAUSES.iter();
        loop {
            let call = git.call(directory);
            let call = call.args(["add", "--all", "--ignore-errors", "--sparse", "--", "."]);
            // It asks each repository inside that the index has how that is, by its own configuration.
            let call = call.held_to(written_by_adding(&self.place.git_dir));
            let error = match call.deadline(DEADLINE).run().await {
                Ok(_) => return Ok(Vec::new()),
                Err(error @ GitError::Failed(_)) => error,
                Err(error) => return Err(self.failed(error)),
            };
            if let error @ SalvageError::NoSpace { .. } = self.failed(error) {
                return Err(error);
            }
            let rest = self.rest(index, directory).await?;
            if rest.files.is_empty() {
                return Ok(rest.repositories);
            }
            let Some(pause) = pauses.next() else {
                self.add_raw(git, rest.files, directory, below).await?;
                return Ok(rest.repositories);
            };
            tokio::time::sleep(*pause).await;
        }
    }
}

/// What can be had of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Staged {
    Tree(String),
    /// There is no tree while files are in conflict.
    InConflict,
    Unreadable,
}

impl Staged {
    fn tree(self) -> Option<String> {
        match self {
            Self::Tree(tree) => Some(tree),
            Self::InConflict | Self::Unreadable => None,
        }
    }
}

/// Whether git could not read an index.
fn is_about_the_index(error: &GitError) -> bool {
    let GitError::Failed(failure) = error else {
        return false;
    };
    ["index file", "bad signature", "bad index"]
        .iter()
        .any(|text| failure.stderr.contains(text))
}

/// The first line of an output.
fn line(output: &[u8]) -> String {
    String::from_utf8_lossy(output.trim_ascii_end()).into_owned()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
