//! Clears away what is of no use any more: worktrees that were never made to their end, entries whose directory is
//! gone, and branches that are merged. Nothing here removes a byte that somebody wrote.

use std::path::Path;
use std::sync::Arc;

use super::blocking;
use super::commit_id::CommitId;
use super::inventory::{Condition, condition};
use super::prepare_error::PrepareError;
use super::removal::{LOST_LINK, Removal, RemovalCheck, RemovalError};
use super::repository::{Repository, RepositoryError, open};
use super::survey::{Directory, Leftover, Target, remove_half_made, stray};
use super::undo::unused_branch;
use super::worktree::Worktrees;

/// How to clear away what is left at a place.
enum Way {
    /// The entry was not written to its end.
    HalfMade(std::path::PathBuf),
    /// The worktree is one that git can remove.
    Forget,
    Kept(&'static str),
    Gone,
}

impl Worktrees {
    /// Removes a worktree of ours that was never made to its end, directly below [`Self::base`]; its branch stays. One
    /// whose files we did not check out ourselves is removed only when all that is in it is in its commit as well.
    ///
    /// # Errors
    /// When it cannot be examined or removed, or git fails.
    pub async fn take_back_half_made(&self, path: &Path) -> Result<Removal, PrepareError> {
        if path.parent() != Some(self.base()) {
            let (path, base) = (path.to_owned(), self.base.clone());
            return Err(PrepareError::OutsideBase { path, base });
        }
        let guard = Arc::new(self.lock.acquire().await?);
        let way = {
            let (repository, path) = (self.repository.clone(), path.to_owned());
            blocking(move || way(&repository, &path)).await?
        };
        match way {
            Way::Gone => {}
            Way::Kept(why) => {
                let why = why.to_owned();
                return Ok(Removal::Kept { why });
            }
            Way::HalfMade(admin_dir) => remove_half_made(&admin_dir, path)?,
            Way::Forget => {
                let forgotten = self.forget(path, &guard).await;
                forgotten.map_err(|source| PrepareError::Git {
                    step: "take back",
                    path: path.to_owned(),
                    source: Box::new(source),
                    cleanup: Vec::new(),
                })?;
            }
        }
        Ok(Removal::Removed)
    }

    /// Drops the repository's entry of a worktree of ours whose directory is gone; its branch stays.
    ///
    /// # Errors
    /// When it cannot be examined, or git fails.
    pub async fn drop_entry(&self, path: &Path, branch: &str) -> Result<Removal, RemovalError> {
        if matches!(Directory::at(path), Ok(Directory::Empty)) {
            // An empty directory is nothing to lose. If it cannot be removed, the examination says what there is.
            drop(std::fs::remove_dir(path));
        }
        self.remove(path, branch, RemovalCheck::Committed).await
    }

    /// Deletes a branch if all of it is in the history of `base` and no worktree has it checked out. Whether it did.
    ///
    /// # Errors
    /// When the repository cannot be read or locked, or git fails.
    pub async fn delete_merged_branch(
        &self,
        branch: &str,
        base: CommitId,
    ) -> Result<bool, RemovalError> {
        let guard = Arc::new(self.lock.acquire().await?);
        let target = Target {
            // No worktree is an exception: whoever has it checked out keeps it.
            path: self.base.clone(),
            branch: branch.to_owned(),
        };
        let repository = self.repository.clone();
        let merged = blocking(move || unused_branch(&repository, &target, base)).await?;
        let Some(tip) = merged else { return Ok(false) };
        let deleted = self.delete_branch(branch, tip, &guard).await;
        deleted.map_err(|source| RemovalError::Branch {
            branch: branch.to_owned(),
            source,
        })?;
        Ok(true)
    }
}

/// Looks at what is there, under the lock. Blocks.
fn way(repository: &Repository, path: &Path) -> Result<Way, PrepareError> {
    let entry = repository.worktree_at(path)?;
    let directory = Directory::at(path)?;
    match condition(repository, path, entry.as_ref()) {
        Condition::HalfMade => {}
        Condition::Gone => return Ok(Way::Forget),
        Condition::Broken => return Ok(Way::Kept(LOST_LINK)),
        Condition::Ready => return Ok(Way::Kept("it was made to its end meanwhile")),
        Condition::Foreign(_) if matches!(directory, Directory::Missing) => return Ok(Way::Gone),
        Condition::Foreign(_) => return Ok(Way::Kept("it is not ours any more")),
    }
    let Some(entry) = entry else {
        return Ok(match stray(repository, path) {
            Leftover::HalfMade(admin_dir) => Way::HalfMade(admin_dir),
            Leftover::Nothing | Leftover::Entry => Way::Gone,
        });
    };
    if !entry.is_complete() {
        return Ok(Way::HalfMade(entry.admin_dir));
    }
    // What was being prepared had no agent in it yet. What another git was adding may be anything.
    let untouched = entry.is_being_prepared() || holds_only_its_commit(repository, path)?;
    Ok(if untouched {
        Way::Forget
    } else {
        Way::Kept("it has no index, and holds files that are not as in its commit")
    })
}

/// Whether a work tree without an index has no file but such as its commit has.
fn holds_only_its_commit(repository: &Repository, path: &Path) -> Result<bool, RepositoryError> {
    let failed = |error| repository.read_error("a work tree", error);
    let opened = open(path)?;
    let Ok(tree) = opened.head().and_then(|head| head.peel_to_tree()) else {
        // It has no commit to compare with.
        return Ok(false);
    };
    let mut options = git2::DiffOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true);
    let diff = opened
        .diff_tree_to_workdir(Some(&tree), Some(&mut options))
        .map_err(failed)?;
    // What is missing in the work tree was not checked out yet.
    let own = diff
        .deltas()
        .filter(|delta| delta.status() != git2::Delta::Deleted);
    Ok(own.count() == 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::git::test_support::{Fixture, sh, write};

    #[tokio::test]
    async fn what_we_began_is_taken_back_and_its_branch_stays() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        let kept = worktrees.take_back_half_made(&made.path).await.unwrap();
        assert!(matches!(kept, Removal::Kept { why } if why.contains("made to its end")));
        let marker = ".git/worktrees/S-0001-a-title/ai-sdlc-preparing";
        write(&fixture.root, marker, "");
        let gone = worktrees.take_back_half_made(&made.path).await.unwrap();
        assert_eq!(gone, Removal::Removed);
        assert!(!made.path.exists());
        assert_eq!(worktrees.list().await.unwrap(), []);
        let tip = fixture.repository().branch_tip(&made.branch).unwrap();
        assert_eq!(tip, Some(fixture.head()));
        // Nothing at all is as good.
        let again = worktrees.take_back_half_made(&made.path).await.unwrap();
        assert_eq!(again, Removal::Removed);
    }

    #[tokio::test]
    async fn without_an_index_only_what_is_in_the_commit_goes() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let path = worktrees.base().join("S-0001-a");
        let add = format!(
            "git worktree add -q -b ai-sdlc/S-0001-a '{}'",
            path.display()
        );
        fixture.sh(&add);
        let index = fixture.root.join(".git/worktrees/S-0001-a/index");
        fs::remove_file(&index).unwrap();
        fs::remove_file(path.join("file.txt")).unwrap();
        write(&path, "mine.txt", "mine");
        let kept = worktrees.take_back_half_made(&path).await.unwrap();
        assert!(matches!(kept, Removal::Kept { why } if why.contains("no index")));
        fs::remove_file(path.join("mine.txt")).unwrap();
        let gone = worktrees.take_back_half_made(&path).await.unwrap();
        assert_eq!(gone, Removal::Removed);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_not_ours_stays() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let path = worktrees.base().join("S-0001-a");
        write(&path, "file", "");
        let kept = worktrees.take_back_half_made(&path).await.unwrap();
        assert!(matches!(kept, Removal::Kept { why } if why.contains("not ours")));
        let outside = worktrees.take_back_half_made(&fixture.root).await;
        assert!(matches!(outside, Err(PrepareError::OutsideBase { .. })));
        assert!(path.join("file").exists());
    }

    #[tokio::test]
    async fn an_entry_goes_with_its_empty_folder_and_not_with_a_full_one() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        fs::remove_dir_all(&made.path).unwrap();
        fs::create_dir(&made.path).unwrap();
        let dropped = worktrees.drop_entry(&made.path, &made.branch).await;
        assert_eq!(dropped.unwrap(), Removal::Removed);
        assert_eq!(worktrees.list().await.unwrap(), []);
        let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        write(&made.path, "mine", "");
        let kept = worktrees.drop_entry(&made.path, &made.branch).await;
        assert!(matches!(kept.unwrap(), Removal::Kept { .. }));
    }

    #[tokio::test]
    async fn only_a_branch_that_is_merged_and_free_is_deleted() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        let base = fixture.head();
        let (branch, deleted) = (made.branch.as_str(), |branch, base| {
            worktrees.delete_merged_branch(branch, base)
        });
        assert!(!deleted(branch, base).await.unwrap(), "it is checked out");
        sh(&made.path, "touch x; git add x; git commit -qm x");
        let check = RemovalCheck::Committed;
        let removed = worktrees.remove(&made.path, branch, check).await.unwrap();
        assert_eq!(removed, Removal::Removed);
        assert!(!deleted(branch, base).await.unwrap(), "it is not merged");
        fixture.sh("git merge -q ai-sdlc/S-0001-a-title");
        assert!(deleted(branch, fixture.head()).await.unwrap());
        assert_eq!(fixture.repository().branch_tip(branch).unwrap(), None);
        assert!(
            !deleted(branch, fixture.head()).await.unwrap(),
            "it is gone"
        );
    }
}
