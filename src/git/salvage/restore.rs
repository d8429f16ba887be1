//! Gives back what was saved: as files in a new folder, or as a branch. Nothing that exists is written to.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::commit::INSIDE;
use super::embedded::{GIT, PATH, as_they_are};
use super::{DEADLINE, blocking, plumbing};
use crate::git::commit_id::CommitId;
use crate::git::file_error::FileError;
use crate::git::repository::{Repository, RepositoryError};
use crate::git::runner::{Git, GitError};

/// Why nothing is given back.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// Something is there already.
    #[error("{} exists", path.display())]
    Exists {
        /// The folder that was to be made.
        path: PathBuf,
    },
    /// There is such a branch.
    #[error("there is a branch `{branch}` already, at {}", tip.short())]
    BranchExists {
        /// Its name.
        branch: String,
        /// Where it ends.
        tip: CommitId,
    },
    /// Git keeps branches as paths: none can have a name that is the beginning of another one's.
    #[error("there can be no branch `{branch}` beside the branch `{other}`")]
    BranchBeside {
        /// Its name.
        branch: String,
        /// The one that is there.
        other: String,
    },
    /// Git does not take the name for one of a branch.
    #[error("`{branch}` is no name for a branch")]
    BranchName {
        /// The name.
        branch: String,
    },
    /// The folder cannot be made or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// A `.git` folder of a repository inside.
struct Inside {
    /// Where the repository is, relative to the worktree.
    path: PathBuf,
    tree: git2::Oid,
}

/// Writes the files of a salvage into a folder that does not exist yet, with the `.git` folders of repositories inside.
/// After an error the folder is gone again.
///
/// # Errors
/// When there is something at `to`, it cannot be written, or git fails.
pub async fn restore_files(
    git: &Git,
    repository: &Repository,
    commit: CommitId,
    to: &Path,
) -> Result<(), RestoreError> {
    let inside = {
        let repository = repository.clone();
        blocking(move || repositories_inside(&repository, commit)).await?
    };
    let to = std::path::absolute(to).map_err(FileError::when("find", to))?;
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).map_err(FileError::when("create", above))?;
    }
    match fs::create_dir(&to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(RestoreError::Exists { path: to });
        }
        made => made.map_err(FileError::when("create", &to))?,
    }
    let written = write_all(git, repository, commit, &to, inside).await;
    if written.is_err() {
        let to = to.clone();
        // It is our own, and half of it is worse than nothing.
        drop(blocking(move || fs::remove_dir_all(to)).await);
    }
    written
}

async fn write_all(
    git: &Git,
    repository: &Repository,
    commit: CommitId,
    to: &Path,
    inside: Vec<Inside>,
) -> Result<(), RestoreError> {
    let common_dir = repository.common_dir();
    let folder = tempfile::Builder::new()
        .prefix("ai-sdlc-restore-")
        .tempdir_in(common_dir)
        .map_err(FileError::when("write to", to))?;
    let git = plumbing(git, common_dir);
    let whole = git.clone().with_variable("GIT_WORK_TREE", to);
    let index = folder.path().join("index");
    check_out(&whole, &index, to, &commit.to_string()).await?;
    for (number, inside) in inside.into_iter().enumerate() {
        let target = to.join(&inside.path).join(".git");
        // A repository needs these, and git keeps no empty folders.
        for name in ["objects", "refs"] {
            fs::create_dir_all(target.join(name)).map_err(FileError::when("write to", to))?;
        }
        let git = as_they_are(&git).with_variable("GIT_WORK_TREE", &target);
        let index = folder.path().join(format!("index-{number}"));
        check_out(&git, &index, &target, &inside.tree.to_string()).await?;
    }
    Ok(())
}

async fn check_out(git: &Git, index: &Path, to: &Path, tree: &str) -> Result<(), GitError> {
    let git = git.clone().with_variable("GIT_INDEX_FILE", index);
    let call = git.call(to).args([
        "-c",
        "core.sparseCheckout=false",
        "read-tree",
        "--reset",
        "-u",
        tree,
    ]);
    call.deadline(DEADLINE).run().await.map(drop)
}

fn repositories_inside(
    repository: &Repository,
    commit: CommitId,
) -> Result<Vec<Inside>, RepositoryError> {
    let failed = |source| repository.read_error("a salvage", source);
    let opened = repository.open_common()?;
    let commit = opened.find_commit(commit.oid()).map_err(failed)?;
    let is_ours = |parent: &git2::Commit<'_>| parent.message_bytes().starts_with(INSIDE.as_bytes());
    let Some(holder) = commit.parents().find(is_ours) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in &holder.tree().map_err(failed)? {
        let tree = opened.find_tree(entry.id()).map_err(failed)?;
        if let (Some(path), Some(git)) = (tree.get_name(PATH), tree.get_name(GIT)) {
            let path = opened.find_blob(path.id()).map_err(failed)?;
            let path = PathBuf::from(OsStr::from_bytes(path.content()));
            let stays_inside = path
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if stays_inside {
                found.push(Inside {
                    path,
                    tree: git.id(),
                });
            }
        }
    }
    Ok(found)
}

/// Makes a branch at a salvage.
///
/// # Errors
/// When there is such a branch, the name is none, or git fails.
pub async fn restore_branch(
    git: &Git,
    repository: &Repository,
    commit: CommitId,
    branch: &str,
) -> Result<(), RestoreError> {
    let named = || branch.to_owned();
    let call = git.call(repository.root());
    let check = call.args(["check-ref-format", "--branch", branch]);
    if check.accept(&[0, 128]).run().await?.code != 0 {
        return Err(RestoreError::BranchName { branch: named() });
    }
    if let Some(tip) = repository.branch_tip(branch)? {
        let branch = named();
        return Err(RestoreError::BranchExists { branch, tip });
    }
    if let Some(other) = branch_beside(repository, branch)? {
        let branch = named();
        return Err(RestoreError::BranchBeside { branch, other });
    }
    let reference = format!("refs/heads/{branch}");
    let commit = commit.to_string();
    // Only while there is none.
    let zeros = "0".repeat(40);
    let arguments = [
        "update-ref",
        "-m",
        "ai-sdlc: recover",
        &reference,
        &commit,
        &zeros,
    ];
    git.run(repository.root(), arguments).await?;
    Ok(())
}

/// A branch whose name is the beginning of this one's, or the other way round.
fn branch_beside(repository: &Repository, branch: &str) -> Result<Option<String>, RepositoryError> {
    let above = branch.match_indices('/').map(|(end, _)| &branch[..end]);
    for other in above {
        if repository.branch_tip(other)?.is_some() {
            return Ok(Some(other.to_owned()));
        }
    }
    let below = repository.branches_with_prefix(&format!("{branch}/"))?;
    Ok(below.into_iter().next())
}
