//! Everything that touches the user's repository: worktrees, commits, and what can be read from it.
//!
//! Writes go through the `git` program ([`Git`]), so that filters, LFS, hooks, signing and unusual repositories
//! behave as the user's own git does; reads go through libgit2 in this process ([`Repository`]), because a process
//! per question would cost more than the answer. Nothing here fetches, pushes or changes the main checkout.

mod admin;
mod base;
mod changes;
mod checkout;
mod clearing;
mod commit;
mod commit_id;
mod ending;
mod file_error;
mod hidden;
mod identity;
mod ignored;
mod inventory;
mod link;
mod lock;
mod overlap;
mod prepare_error;
mod progress;
mod removal;
mod repository;
mod runner;
mod salvage;
mod saved;
mod survey;
#[cfg(test)]
mod test_support;
mod undo;
mod worktree;
mod writable;

pub use admin::{WorktreeEntry, WorktreeHead};
pub use base::{Against, BaseError, base_with};
pub use changes::{Changes, MAX_CHANGED_PATHS};
pub use checkout::{CheckoutChange, CheckoutState, HURRIED_LOOK, PrivateFile};
pub use commit::{CommitError, CommitOutcome, CommitRequest, DEFAULT_COMMIT_DEADLINE, commit_all};
pub use commit_id::{CommitId, CommitIdError};
pub use ending::wait_for_ending;
pub use file_error::FileError;
pub use identity::{IdentityError, check_identity};
pub use ignored::{IgnoredFiles, Patterns, are_ignored, ignored_files};
pub use inventory::{Condition, Foreign, Place, Work, is_name_of};
pub use link::{Link, LinkError};
pub use lock::{AdminGuard, AdminLock, LockError};
pub use overlap::MAX_OVERLAP_PATHS;
pub use prepare_error::{BaseProblem, PrepareError};
pub use progress::{Progress, progress};
pub use removal::{LOST_LINK, Removal, RemovalCheck, RemovalError};
pub use repository::{BRANCH_PREFIX, DiffStat, Head, Repository, RepositoryError, WorkTree};
pub use runner::{
    Call, DEFAULT_DEADLINE, Failure, Git, GitError, MINIMUM_VERSION, Output, is_passed_on,
};
pub use salvage::{
    CHECKPOINT, HURRIED_SALVAGE, RestoreError, SALVAGE_PREFIX, Salvage, SalvageError,
    SalvageRequest, SavedFile, Standing, TakenBack, checkpoint, restore_branch, restore_files,
    salvage_ref, unsaved,
};
pub use saved::SavedError;
pub use worktree::{Origin, Prepared, Seen, WorktreeRequest, Worktrees, branch_name};
pub use writable::written_by_commits;

/// A number that stands for a text as good as alone: its SHA-1 as git has it.
pub fn digest(text: &str) -> [u8; 20] {
    let counted = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes());
    let mut bytes = [0; 20];
    match counted {
        Ok(id) => bytes.copy_from_slice(id.as_bytes()),
        // It has no reason to: nothing is read or written.
        Err(error) => tracing::error!(%error, "libgit2 counts nothing"),
    }
    bytes
}

/// Runs work that blocks (libgit2, deleting a tree) on the runtime's blocking threads.
///
/// A task that has begun there cannot be cancelled, so the only other end is a panic, which goes on in the caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
