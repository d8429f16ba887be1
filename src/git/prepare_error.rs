//! Why there is no worktree.

use std::path::PathBuf;

use thiserror::Error;

use super::file_error::FileError;
use super::link::LinkError;
use super::lock::LockError;
use super::repository::RepositoryError;
use super::runner::GitError;

/// Why worktrees cannot be made in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BaseProblem {
    /// It is a file or the like.
    #[error("it exists and is not a directory")]
    NotADirectory,
    /// It is `/`.
    #[error("it is the root of the file system")]
    Root,
    /// It is the root of the checkout or above it.
    #[error("the checkout itself is in it")]
    HoldsCheckout,
    /// It is the repository's git directory or below it.
    #[error("it is in the repository's git directory")]
    InGitDirectory,
}

/// Why there is no worktree.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The directory that was chosen for the worktrees will not do.
    #[error("worktrees cannot be made in {}: {problem}", base.display())]
    UnusableBase {
        /// The directory.
        base: PathBuf,
        /// What is wrong with it.
        problem: BaseProblem,
    },
    /// The branch of the story is in use.
    #[error(
        "the branch `{branch}` is already checked out in {} (check out another branch there, or remove that worktree \
         with `git worktree remove`, then try again)",
        path.display()
    )]
    CheckedOutElsewhere {
        /// The branch of the story.
        branch: String,
        /// The other worktree, or the main checkout.
        path: PathBuf,
    },
    /// The directory would not be directly below the base directory.
    #[error("the worktree {} would not be below {}", path.display(), base.display())]
    OutsideBase {
        /// The directory.
        path: PathBuf,
        /// The base directory.
        base: PathBuf,
    },
    /// Something else is where the worktree should be.
    #[error(
        "{} exists and is not a worktree of this repository (move it away, then try again)",
        path.display()
    )]
    NotAWorktree {
        /// The directory.
        path: PathBuf,
    },
    /// The worktree is there, and what ties it to the repository is not as git has made it.
    #[error("{0} (mend that, or move the worktree away, then try again)")]
    Tampered(LinkError),
    /// The worktree is there, without what ties it to the repository.
    #[error("the worktree {} has lost its `.git` file, which `git worktree repair` makes again", path.display())]
    LostLink {
        /// The worktree.
        path: PathBuf,
    },
    /// The worktree is there with something else checked out.
    #[error(
        "the worktree {} is on {found} and not on the branch `{branch}` (run `git checkout {branch}` in it)",
        path.display()
    )]
    OtherBranch {
        /// The worktree.
        path: PathBuf,
        /// The branch of the story.
        branch: String,
        /// What is checked out.
        found: String,
    },
    /// The worktree is there, and the branch that it has checked out is not.
    #[error(
        "the branch `{branch}` is gone, which the worktree {} has checked out (run `git reset <commit>` in it, with the \
         commit that it is to go on from)",
        path.display()
    )]
    BranchGone {
        /// The worktree.
        path: PathBuf,
        /// The branch of the story.
        branch: String,
    },
    /// The worktree's directory is missing, and someone has locked it: it may be on a disk that is not mounted.
    #[error("the worktree {} is missing, and locked by someone else ({reason})", path.display())]
    LockedByOther {
        /// The worktree.
        path: PathBuf,
        /// The reason, as it was given.
        reason: String,
    },
    /// A directory cannot be used.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The repository's lock was not to be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Git failed, and what the call had made was removed again.
    #[error("failed to {step} the worktree {}{}", path.display(), cleanup_note(cleanup))]
    Git {
        /// What was tried.
        step: &'static str,
        /// The worktree.
        path: PathBuf,
        /// Why.
        source: Box<GitError>,
        /// What could not be removed again, and why; mostly empty.
        cleanup: Vec<String>,
    },
}

impl PrepareError {
    /// Whether a person has to see to something before there can be a worktree.
    pub fn is_in_the_way(&self) -> bool {
        matches!(
            self,
            Self::CheckedOutElsewhere { .. }
                | Self::NotAWorktree { .. }
                | Self::Tampered(_)
                | Self::LostLink { .. }
                | Self::OtherBranch { .. }
                | Self::BranchGone { .. }
                | Self::LockedByOther { .. }
        )
    }
}

fn cleanup_note(cleanup: &[String]) -> String {
    if cleanup.is_empty() {
        String::new()
    } else {
        format!(" (and to clean up: {})", cleanup.join("; "))
    }
}
