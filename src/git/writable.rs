//! What of a repository git writes to while work is committed in a linked worktree, as gitrepository-layout(5) describes
//! it.
//!
//! It is less than git may write at all: nobody who commits there needs another branch, a tag, the stash, the
//! configuration, the hooks, or what the main checkout has checked out and staged.

use std::path::{Path, PathBuf};

use super::admin;
use super::repository::BRANCH_PREFIX;

/// What all worktrees share and a commit on a branch of ours changes: objects, and our branches with their logs. Large
/// files (git-lfs) and recorded resolutions of conflicts are kept there as well, once they are used.
const SHARED: [&str; 3] = ["objects", "lfs", "rr-cache"];

/// The folders and files that have to be writable for the work in `worktree`, a linked worktree of the repository with
/// this common directory. Some of them need not be there. Blocks.
pub fn written_by_commits(common_dir: &Path, worktree: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = SHARED.iter().map(|name| common_dir.join(name)).collect();
    let branches = Path::new("refs/heads").join(BRANCH_PREFIX.trim_end_matches('/'));
    places.push(common_dir.join(&branches));
    places.push(common_dir.join("logs").join(&branches));
    // What the worktree says of itself is not asked: whoever works in it can change that.
    match admin::entry_at(common_dir, worktree) {
        Ok(own) => places.extend(own.map(|entry| entry.admin_dir)),
        Err(error) => tracing::warn!(%error, "the repository's worktrees cannot be listed"),
    }
    places
}
