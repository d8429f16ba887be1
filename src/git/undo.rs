//! Takes back worktrees and branches that were made and are not wanted.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocking;
use super::commit_id::CommitId;
use super::ending::wait_for_ending_in;
use super::lock::AdminGuard;
use super::prepare_error::PrepareError;
use super::repository::{Repository, RepositoryError};
use super::runner::GitError;
use super::survey::{Directory, Leftover, Target, remove_half_made, stray};
use super::worktree::{WorktreeRequest, Worktrees};

impl Worktrees {
    /// Takes back what a [`Self::prepare`] of this request has left whose future was dropped: a worktree of ours that
    /// is not finished, and the branch, if that has no commits beyond the base and no worktree has it checked out.
    /// Nothing else is touched: a worktree that is ready stays, and its branch with it. Waits for the git of the
    /// dropped future, if that is still about to end.
    ///
    /// # Errors
    /// When the repository cannot be read or locked, something cannot be removed, or git fails.
    pub async fn undo(&self, request: &WorktreeRequest) -> Result<(), PrepareError> {
        let target = self.target(request)?;
        self.wait_for_interrupted(&target).await;
        let guard = Arc::new(self.lock.acquire().await?);
        let git_error = |source| PrepareError::Git {
            step: "take back",
            path: target.path.clone(),
            source: Box::new(source),
            cleanup: Vec::new(),
        };
        let left = {
            let (repository, target) = (self.repository.clone(), target.clone());
            blocking(move || left(&repository, &target)).await?
        };
        match left {
            Left::Nothing => {}
            Left::Worktree => self.forget(&target.path, &guard).await.map_err(git_error)?,
            Left::HalfMade(admin_dir) => remove_half_made(&admin_dir, &target.path)?,
            Left::NotToTakeBack => return Ok(()),
        }
        let unused = {
            let (repository, target, base) =
                (self.repository.clone(), target.clone(), request.base_commit);
            blocking(move || unused_branch(&repository, &target, base)).await?
        };
        if let Some(tip) = unused {
            let deleted = self.delete_branch(&target.branch, tip, &guard).await;
            deleted.map_err(git_error)?;
        }
        Ok(())
    }

    /// Waits for the gits of dropped futures that worked for this worktree.
    pub(super) async fn wait_for_interrupted(&self, target: &Target) {
        let directories = vec![self.repository.root().to_owned(), target.path.clone()];
        if !wait_for_ending_in(directories).await {
            tracing::warn!(path = %target.path.display(), "an interrupted git does not end");
        }
    }

    /// Deletes a branch that points at `tip`.
    pub(super) async fn delete_branch(
        &self,
        branch: &str,
        tip: CommitId,
        guard: &Arc<AdminGuard>,
    ) -> Result<(), GitError> {
        let reference = format!("refs/heads/{branch}");
        let arguments = ["update-ref", "-d", &reference, &tip.to_string()];
        let call = self.git.call(self.repository.root()).args(arguments);
        call.under(guard).run().await.map(drop)
    }
}

/// What an abandoned preparation has left.
enum Left {
    /// No worktree, and no trace of one.
    Nothing,
    Worktree,
    /// An entry that was not written to its end.
    HalfMade(PathBuf),
    /// Something that is ready, or not ours.
    NotToTakeBack,
}

/// Looks at what is there. Changes nothing but to remove an empty directory. Blocks.
fn left(repository: &Repository, target: &Target) -> Result<Left, PrepareError> {
    let path = &target.path;
    let directory = Directory::at(path)?;
    let Some(entry) = repository.worktree_at(path)? else {
        return Ok(match (directory, stray(repository, path)) {
            (Directory::Full, _) => Left::NotToTakeBack,
            (_, Leftover::HalfMade(admin_dir)) => Left::HalfMade(admin_dir),
            _ => {
                drop(fs::remove_dir(path));
                Left::Nothing
            }
        });
    };
    if !entry.is_ours() || entry.is_checked_out() {
        return Ok(Left::NotToTakeBack);
    }
    if !entry.is_complete() {
        return Ok(Left::HalfMade(entry.admin_dir));
    }
    match directory {
        Directory::Full if entry.owns_directory() => {}
        Directory::Full => return Ok(Left::NotToTakeBack),
        // Without its `.git` file git refuses to remove it.
        Directory::Empty => drop(fs::remove_dir(path)),
        Directory::Missing => {}
    }
    if entry.branch() == Some(&target.branch) {
        Ok(Left::Worktree)
    } else {
        Ok(Left::NotToTakeBack)
    }
}

/// The tip of the story's branch, if nothing would be lost with the branch and nobody uses it. Blocks.
pub(super) fn unused_branch(
    repository: &Repository,
    target: &Target,
    base: CommitId,
) -> Result<Option<CommitId>, RepositoryError> {
    let Some(tip) = repository.branch_tip(&target.branch)? else {
        return Ok(None);
    };
    let elsewhere = repository.checked_out_elsewhere(&target.branch, &target.path)?;
    let unused = elsewhere.is_none() && repository.is_ancestor(tip, base)?;
    Ok(unused.then_some(tip))
}

/// Takes back what one call made, when that call fails.
pub(super) struct Undo<'a> {
    pub(super) worktrees: &'a Worktrees,
    pub(super) target: &'a Target,
    /// The reason of the worktree's lock, by which the call knows its own.
    pub(super) reason: String,
    /// The commit at which the call creates the branch, if it does.
    pub(super) new_branch_at: Option<CommitId>,
}

impl Undo<'_> {
    pub(super) fn error(
        &self,
        step: &'static str,
        source: GitError,
        cleanup: Vec<String>,
    ) -> PrepareError {
        PrepareError::Git {
            step,
            path: self.target.path.clone(),
            source: Box::new(source),
            cleanup,
        }
    }

    /// Removes worktree and branch, and gives what could not be removed. Only under the lock.
    pub(super) async fn run(&self, guard: &Arc<AdminGuard>) -> Vec<String> {
        let Target { path, branch } = self.target;
        let repository = &self.worktrees.repository;
        let mut trouble = Vec::new();
        let removed = match repository.worktree_at(path) {
            // Someone else was faster: that is why git failed, and not for this call to take back.
            Ok(Some(entry)) if entry.locked.as_ref() != Some(&self.reason) => return trouble,
            Ok(Some(entry)) if entry.is_complete() => self
                .worktrees
                .forget(path, guard)
                .await
                .map_err(|error| error.to_string()),
            Ok(Some(entry)) => {
                remove_half_made(&entry.admin_dir, path).map_err(|error| error.to_string())
            }
            // Git removes what it has made when it fails; only an empty directory may remain, or one with git's link
            // when the entry was pruned by another git.
            Ok(None) => {
                remove_dead_link(repository, path);
                drop(fs::remove_dir(path));
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        trouble.extend(removed.err());
        if let Some(base) = self.new_branch_at {
            // A branch that has moved on is not ours to delete.
            if matches!(repository.branch_tip(branch), Ok(Some(tip)) if tip == base) {
                let deleted = self.worktrees.delete_branch(branch, base, guard).await;
                trouble.extend(deleted.err().map(|error| error.to_string()));
            }
        }
        trouble
    }
}

/// Removes git's link from a directory that holds nothing else, if it leads to an entry of this repository that is
/// gone.
fn remove_dead_link(repository: &Repository, path: &Path) {
    let mut names = fs::read_dir(path).into_iter().flatten().flatten();
    let link = path.join(".git");
    if names.all(|item| item.file_name() == ".git")
        && let Ok(text) = fs::read(&link)
        && let Some(entry) = text.trim_ascii_end().strip_prefix(b"gitdir: ")
    {
        let entry = path.join(OsStr::from_bytes(entry));
        let is_of_repository = entry.starts_with(repository.common_dir().join("worktrees"));
        if is_of_repository && !entry.exists() {
            drop(fs::remove_file(link));
        }
    }
}
