//! Removes worktrees, and only those with which nothing is lost.
//!
//! Ignored files (build output) are lost on purpose. Nothing may be running in the worktree any more.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::admin::WorktreeEntry;
use super::blocking;
use super::changes::Changes;
use super::commit_id::CommitId;
use super::file_error::FileError;
use super::hidden::hidden_change;
use super::lock::LockError;
use super::repository::{Head, Repository, RepositoryError, open};
use super::runner::GitError;
use super::worktree::Worktrees;

/// What the names of directories that are being deleted begin with; a name of the repository follows.
const TRASH_PREFIX: &str = ".ai-sdlc-trash-";

/// How often a tree is deleted again that someone else is deleting, too.
const DELETE_TRIES: usize = 5;

/// How many changed paths a reason names.
const MAX_NAMED_PATHS: usize = 3;

/// What must hold for a worktree to be removed, besides having nothing uncommitted in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalCheck {
    /// Everything is on its branch.
    Committed,
    /// Everything is on its branch, and that ends at this commit.
    CommittedAt(CommitId),
}

/// What became of a worktree that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a worktree that is kept takes up space, and somebody should be told"]
pub enum Removal {
    /// It is gone, or was not there.
    Removed,
    /// It is as it was.
    Kept {
        /// Why, in one line.
        why: String,
    },
}

/// Why a worktree could not be removed, although nothing would have been lost.
#[derive(Debug, Error)]
pub enum RemovalError {
    /// Not one of ours.
    #[error("{} is not directly below {}", path.display(), base.display())]
    OutsideBase {
        /// The directory.
        path: PathBuf,
        /// The directory of our worktrees.
        base: PathBuf,
    },
    /// A directory cannot be moved or read.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The repository's lock was not to be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Git failed; the directory is where it was.
    #[error("failed to remove the worktree {}", path.display())]
    Git {
        /// The worktree.
        path: PathBuf,
        /// Why.
        source: GitError,
    },
    /// Git failed to delete a branch.
    #[error("failed to delete the branch `{branch}`")]
    Branch {
        /// The branch.
        branch: String,
        /// Why.
        source: GitError,
    },
}

enum Verdict {
    Gone,
    Remove,
    Keep(String),
    /// libgit2 sees changes; git itself decides (libgit2 runs no filters, so that a file of LFS can look changed).
    AskGit(Changes),
}

impl Worktrees {
    /// Removes the worktree at `path`, if nothing in it would be lost; its branch stays. One git process.
    ///
    /// When the future is dropped half-way, [`Self::sweep_trash`] and the next prepare finish the work.
    ///
    /// # Errors
    /// When it is not one of ours, or it cannot be examined or moved, or git fails.
    pub async fn remove(
        &self,
        path: &Path,
        branch: &str,
        check: RemovalCheck,
    ) -> Result<Removal, RemovalError> {
        match self.judge(path, branch, check).await? {
            Verdict::Gone => return Ok(Removal::Removed),
            Verdict::Keep(why) => return Ok(Removal::Kept { why }),
            Verdict::AskGit(_) | Verdict::Remove => {}
        }
        self.take_away(path).await
    }

    /// Removes a worktree with whatever is in it.
    pub(super) async fn take_away(&self, path: &Path) -> Result<Removal, RemovalError> {
        // Moving is quick and deleting is not, so only the first is done under the lock. With the directory gone,
        // git removes no more than its entry.
        let guard = Arc::new(self.lock.acquire().await?);
        let trash = self.move_to_trash(path)?;
        // An entry that is gone already is as good (an agent can remove its own worktree).
        if let Err(source) = self.forget(path, &guard).await
            && self.may_be_known(path).await
        {
            if let Some(trash) = trash {
                put_back(&trash, path)?;
            }
            let path = path.to_owned();
            return Err(RemovalError::Git { path, source });
        }
        drop(guard);
        if let Some(trash) = trash {
            blocking(move || {
                if let Err(error) = delete(&trash) {
                    tracing::warn!(path = %trash.display(), %error, "failed to delete a removed worktree");
                }
            })
            .await;
        }
        Ok(Removal::Removed)
    }

    /// Says what [`Self::remove`] would do, and does not do it.
    ///
    /// # Errors
    /// As [`Self::remove`], as far as it is not about removing.
    pub async fn check_removal(
        &self,
        path: &Path,
        branch: &str,
        check: RemovalCheck,
    ) -> Result<Removal, RemovalError> {
        Ok(match self.judge(path, branch, check).await? {
            Verdict::Gone | Verdict::AskGit(_) | Verdict::Remove => Removal::Removed,
            Verdict::Keep(why) => Removal::Kept { why },
        })
    }

    /// What is to be done with a worktree. Git has been asked where that is needed.
    async fn judge(
        &self,
        path: &Path,
        branch: &str,
        check: RemovalCheck,
    ) -> Result<Verdict, RemovalError> {
        self.check_base(path)?;
        let verdict = {
            let (repository, path, branch) =
                (self.repository.clone(), path.to_owned(), branch.to_owned());
            blocking(move || examine(&repository, &path, &branch, check)).await?
        };
        Ok(match verdict {
            // In a repository inside, whose configuration an agent may have written, no git is run.
            Verdict::AskGit(changes)
                if changes.hold_repository(path) || !self.is_clean_to_git(path).await? =>
            {
                Verdict::Keep(named(&changes))
            }
            verdict => verdict,
        })
    }

    /// What keeps the worktree at `path` from being taken back whatever is uncommitted in it: its branch does not end at
    /// `at`, something in it is not finished, or it cannot be saved.
    ///
    /// # Errors
    /// As [`Self::check_removal`].
    pub async fn check_taking_back(
        &self,
        path: &Path,
        branch: &str,
        at: CommitId,
    ) -> Result<Removal, RemovalError> {
        self.check_base(path)?;
        let (repository, path, branch) =
            (self.repository.clone(), path.to_owned(), branch.to_owned());
        let found = blocking(move || tip_in(&repository, &path, &branch)).await?;
        Ok(match found {
            Ok(tip) if tip == at => Removal::Removed,
            Ok(tip) => Removal::Kept {
                why: elsewhere(tip, at),
            },
            Err(Verdict::Keep(why)) => Removal::Kept { why },
            Err(Verdict::Gone | Verdict::Remove | Verdict::AskGit(_)) => Removal::Removed,
        })
    }

    fn check_base(&self, path: &Path) -> Result<(), RemovalError> {
        if path.parent() == Some(&self.base) && path.file_name().is_some() {
            return Ok(());
        }
        Err(RemovalError::OutsideBase {
            path: path.to_owned(),
            base: self.base.clone(),
        })
    }

    /// Deletes what interrupted removals of this repository's worktrees have left, and gives its number. Blocking work
    /// is done on a blocking thread.
    ///
    /// # Errors
    /// When the directory of the worktrees cannot be read or a leftover not be deleted.
    pub async fn sweep_trash(&self) -> Result<usize, RemovalError> {
        // Under the lock no removal is at a point where it could still put something back. What one is deleting at
        // this moment may be deleted twice, which does no harm.
        let guard = self.lock.acquire().await?;
        let (base, prefix) = (self.base.clone(), self.trash_prefix()?);
        let trash = blocking(move || find_trash(&base, &prefix)).await?;
        drop(guard);
        let number = trash.len();
        blocking(move || {
            for path in trash {
                delete(&path).map_err(FileError::when("delete", path))?;
            }
            Ok(number)
        })
        .await
    }

    /// What the names of this repository's trash begin with: several may share the directory of the worktrees.
    fn trash_prefix(&self) -> Result<String, RemovalError> {
        let common_dir = self.repository.common_dir();
        let bytes = common_dir.as_os_str().as_encoded_bytes();
        let name = git2::Oid::hash_object(git2::ObjectType::Blob, bytes).map_err(|source| {
            RepositoryError::Read {
                what: "the name",
                path: common_dir.to_owned(),
                source,
            }
        })?;
        Ok(format!("{TRASH_PREFIX}{:.16}-", name.to_string()))
    }

    async fn may_be_known(&self, path: &Path) -> bool {
        let (repository, path) = (self.repository.clone(), path.to_owned());
        let entry = blocking(move || repository.worktree_at(&path)).await;
        !matches!(entry, Ok(None))
    }

    async fn is_clean_to_git(&self, path: &Path) -> Result<bool, RemovalError> {
        let call = self.git.call(path).read_only();
        let call = call.args(["status", "--porcelain", "-z", "--untracked-files=normal"]);
        let call = call.arg("--ignore-submodules=dirty");
        match call.run().await {
            Ok(output) => Ok(output.stdout.is_empty()),
            Err(source) => Err(RemovalError::Git {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// None when there is no directory to move.
    fn move_to_trash(&self, path: &Path) -> Result<Option<PathBuf>, RemovalError> {
        if !path.exists() {
            return Ok(None);
        }
        let trash = tempfile::Builder::new()
            .prefix(&self.trash_prefix()?)
            .tempdir_in(&self.base)
            .map_err(FileError::when("create a directory in", &self.base))?;
        fs::rename(path, inside(trash.path())).map_err(FileError::when("move", path))?;
        Ok(Some(trash.keep()))
    }
}

fn find_trash(base: &Path, prefix: &str) -> Result<Vec<PathBuf>, FileError> {
    let read_error = || FileError::when("read", base);
    let mut found = Vec::new();
    for item in fs::read_dir(base).map_err(read_error())? {
        let item = item.map_err(read_error())?;
        let name = item.file_name();
        let is_trash = name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if is_trash && item.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(item.path());
        }
    }
    Ok(found)
}

fn inside(trash: &Path) -> PathBuf {
    trash.join("worktree")
}

fn put_back(trash: &Path, path: &Path) -> Result<(), FileError> {
    fs::rename(inside(trash), path)
        .and_then(|()| fs::remove_dir(trash))
        .map_err(FileError::when("move back", inside(trash)))
}

/// The commit that is checked out in a worktree which is on its branch and in order, whatever is uncommitted in it; else
/// what is to be done with it.
fn tip_in(
    repository: &Repository,
    path: &Path,
    branch: &str,
) -> Result<Result<CommitId, Verdict>, RemovalError> {
    let keep = |why: &str| Ok(Err(Verdict::Keep(why.to_owned())));
    let not_on_branch = || Err(Verdict::Keep(format!("it is not on the branch `{branch}`")));
    let exists = fs::symlink_metadata(path).is_ok();
    let Some(entry) = repository.worktree_at(path)? else {
        return if exists {
            keep("it is not a worktree of this repository")
        } else {
            Ok(Err(Verdict::Gone))
        };
    };
    if !exists {
        // Whoever removed the directory, the branch has all that is left. Only an entry that may hold more, or that
        // someone else has locked (a disk that is not mounted), is not ours to drop.
        let unclaimed = entry.locked.is_none() || entry.is_ours();
        let droppable = unclaimed && entry.is_complete() && entry.branch().is_some();
        return Ok(Err(if droppable {
            Verdict::Remove
        } else {
            Verdict::Gone
        }));
    }
    if entry.branch() != Some(branch) {
        return Ok(not_on_branch());
    }
    if let Some(why) = obstacle(&entry) {
        return keep(why);
    }
    if repository.branch_tip(branch)?.is_none() {
        return keep(&format!("its branch `{branch}` has no commit"));
    }
    if open(path)?.state() != git2::RepositoryState::Clean {
        return keep("a merge, rebase or similar is not finished in it");
    }
    Ok(match repository.head_of(path)? {
        Head::Branch { name, commit } if name == branch => Ok(commit),
        _ => not_on_branch(),
    })
}

fn elsewhere(tip: CommitId, expected: CommitId) -> String {
    let (tip, expected) = (tip.short(), expected.short());
    format!("its branch is at {tip} and not at {expected}")
}

fn examine(
    repository: &Repository,
    path: &Path,
    branch: &str,
    check: RemovalCheck,
) -> Result<Verdict, RemovalError> {
    let tip = match tip_in(repository, path, branch)? {
        Ok(tip) => tip,
        Err(verdict) => return Ok(verdict),
    };
    if let RemovalCheck::CommittedAt(expected) = check
        && expected != tip
    {
        return Ok(Verdict::Keep(elsewhere(tip, expected)));
    }
    let hidden = hidden_change(&open(path)?);
    if let Some(file) = hidden.map_err(|error| repository.read_error("the index", error))? {
        let file = file.to_string_lossy().replace(char::is_control, "?");
        return Ok(Verdict::Keep(format!(
            "not committed, and git is told not to look at it: {file}"
        )));
    }
    let changes = repository.status(path, None)?;
    Ok(if changes.is_empty() {
        Verdict::Remove
    } else if changes.embedded.is_empty() {
        Verdict::AskGit(changes)
    } else {
        Verdict::Keep(named(&changes))
    })
}

/// What is wrong with a worktree that has lost its `.git`.
pub const LOST_LINK: &str = "its `.git` file is gone";

/// What keeps a worktree from being removed whatever is committed or saved.
pub(super) fn obstacle(entry: &WorktreeEntry) -> Option<&'static str> {
    if entry.has_lost_its_link() {
        Some(LOST_LINK)
    } else if !entry.owns_directory() {
        Some("it is not the worktree that the repository knows under this path")
    } else if !entry.is_checked_out() {
        Some("its files were never completely checked out")
    } else if entry.admin_dir.join("modules").exists() {
        // The repositories of submodules are in the worktree's own admin directory and would go with it.
        Some("it has submodules of its own")
    } else {
        None
    }
}

fn named(changes: &Changes) -> String {
    let paths: Vec<_> = changes
        .paths
        .iter()
        .take(MAX_NAMED_PATHS)
        // A file name can hold a line break.
        .map(|path| path.to_string_lossy().replace(char::is_control, "?"))
        .collect();
    let more = changes.total - paths.len();
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("not committed: {}{more}", paths.join(", "))
}

/// Deletes a tree, also when directories in it are read-only (as those of Go's module cache), and when someone else
/// is deleting it, too.
fn delete(path: &Path) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..DELETE_TRIES {
        result = fs::remove_dir_all(path);
        let Err(error) = &result else { break };
        match error.kind() {
            io::ErrorKind::PermissionDenied => make_writable(path)?,
            io::ErrorKind::NotFound if fs::symlink_metadata(path).is_err() => return Ok(()),
            io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty => {}
            _ => break,
        }
    }
    result
}

fn make_writable(directory: &Path) -> io::Result<()> {
    unless_gone(fs::set_permissions(
        directory,
        fs::Permissions::from_mode(0o700),
    ))?;
    let Some(items) = unless_gone(fs::read_dir(directory))? else {
        return Ok(());
    };
    for item in items {
        let item = item?;
        // The type of the item itself: a symbolic link is not followed.
        if unless_gone(item.file_type())?.is_some_and(|kind| kind.is_dir()) {
            make_writable(&item.path())?;
        }
    }
    Ok(())
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::{Fixture, sh, write};
    use crate::git::worktree::{Origin, Prepared};

    async fn prepared(fixture: &Fixture, worktrees: &Worktrees) -> Prepared {
        worktrees.prepare(&fixture.request("S-0001")).await.unwrap()
    }

    async fn kept(worktrees: &Worktrees, prepared: &Prepared) -> String {
        let check = RemovalCheck::Committed;
        match worktrees
            .remove(&prepared.path, &prepared.branch, check)
            .await
            .unwrap()
        {
            Removal::Kept { why } => why,
            Removal::Removed => panic!("it was removed"),
        }
    }

    #[tokio::test]
    async fn a_worktree_with_everything_committed_goes_and_its_branch_stays() {
        let fixture = Fixture::new().await;
        fixture.write(".gitignore", "*.log\n.ai-sdlc\n");
        fixture.sh("git add -A && git commit -qm ignore");
        let worktrees = fixture.worktrees();
        let made = prepared(&fixture, &worktrees).await;
        write(&made.path, "build.log", "ignored");
        write(&made.path, "new.txt", "new");
        sh(&made.path, "git add -A && git commit -qm work");
        sh(
            &made.path,
            "mkdir -p cache.log/x && touch cache.log/x/y && chmod 555 cache.log/x",
        );
        let wrong = RemovalCheck::CommittedAt(fixture.head());
        let removal = worktrees
            .remove(&made.path, &made.branch, wrong)
            .await
            .unwrap();
        assert!(matches!(removal, Removal::Kept { why } if why.contains("its branch is at")));
        let tip = sh(&made.path, "git rev-parse HEAD").trim().parse().unwrap();
        let check = RemovalCheck::CommittedAt(tip);
        let removal = worktrees
            .remove(&made.path, &made.branch, check)
            .await
            .unwrap();
        assert_eq!(removal, Removal::Removed);
        assert_eq!(worktrees.list().await.unwrap(), []);
        assert_eq!(fs::read_dir(worktrees.base()).unwrap().count(), 0);
        assert_eq!(
            fixture.repository().branch_tip(&made.branch).unwrap(),
            Some(tip)
        );
        assert_eq!(fixture.sh("git status --porcelain"), "");
        let again = worktrees
            .remove(&made.path, &made.branch, check)
            .await
            .unwrap();
        assert_eq!(again, Removal::Removed);
        assert_eq!(
            prepared(&fixture, &worktrees).await.origin,
            Origin::ContinuedBranch
        );
    }

    #[tokio::test]
    async fn a_worktree_with_anything_uncommitted_stays() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = prepared(&fixture, &worktrees).await;
        write(&made.path, "file.txt", "changed");
        assert_eq!(kept(&worktrees, &made).await, "not committed: file.txt");
        sh(&made.path, "git checkout -q file.txt");
        write(&made.path, ".ai-sdlc/stories/x", "");
        assert_eq!(
            kept(&worktrees, &made).await,
            "not committed: .ai-sdlc/stories/x"
        );
        for name in ["a", "b", "c", "d"] {
            write(&made.path, name, "");
        }
        let why = kept(&worktrees, &made).await;
        assert_eq!(why, "not committed: .ai-sdlc/stories/x, a, b and 2 more");
        sh(&made.path, "rm -rf .ai-sdlc a b c d; git init -q nested");
        assert_eq!(kept(&worktrees, &made).await, "not committed: nested/");
        sh(&made.path, "rm -rf nested; git checkout -q --detach");
        let why = kept(&worktrees, &made).await;
        assert_eq!(why, "it is not on the branch `ai-sdlc/S-0001-a-title`");
        let outside = fixture.root.join("dir");
        let error = worktrees
            .remove(&outside, &made.branch, RemovalCheck::Committed)
            .await;
        assert!(matches!(error, Err(RemovalError::OutsideBase { .. })));
        fs::create_dir(worktrees.base().join("theirs")).unwrap();
        let theirs = worktrees.base().join("theirs");
        let removal = worktrees
            .remove(&theirs, &made.branch, RemovalCheck::Committed)
            .await;
        assert!(matches!(removal, Ok(Removal::Kept { .. })) && theirs.exists());
    }

    #[tokio::test]
    async fn a_file_that_only_libgit2_takes_for_changed_does_not_keep_a_worktree() {
        let fixture = Fixture::new().await;
        fixture.sh(
            "git config filter.up.clean 'tr A-Z a-z'; git config filter.up.smudge 'tr a-z A-Z'",
        );
        fixture.sh("echo '*.txt filter=up' > .gitattributes; git add -A; git commit -qm filter");
        let worktrees = fixture.worktrees();
        let made = prepared(&fixture, &worktrees).await;
        assert_eq!(sh(&made.path, "cat file.txt"), "ONE\n");
        sh(&made.path, "touch -d '1 hour ago' file.txt");
        let check = RemovalCheck::Committed;
        let removal = worktrees
            .remove(&made.path, &made.branch, check)
            .await
            .unwrap();
        assert_eq!(removal, Removal::Removed);
    }

    #[tokio::test]
    async fn the_leftovers_of_interrupted_removals_are_swept() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = prepared(&fixture, &worktrees).await;
        let trash = worktrees.move_to_trash(&made.path).unwrap().unwrap();
        // Another repository can have the same base, and a user what names they like.
        let elsewhere = Fixture::new().await;
        let shared = Worktrees::new(
            elsewhere.repository(),
            elsewhere.git.clone(),
            worktrees.base(),
        );
        let shared = shared.unwrap();
        let theirs = shared.prepare(&elsewhere.request("S-0002")).await.unwrap();
        let theirs = shared.move_to_trash(&theirs.path).unwrap().unwrap();
        fs::create_dir(worktrees.base().join(".trash-mine")).unwrap();
        assert_eq!(worktrees.sweep_trash().await.unwrap(), 1);
        assert!(!trash.exists());
        assert!(theirs.exists() && worktrees.base().join(".trash-mine").exists());
        // The entry is still there; the next prepare replaces it.
        let made = prepared(&fixture, &worktrees).await;
        assert_eq!(made.origin, Origin::Fresh);
        assert!(made.path.join("file.txt").exists());
    }

    #[tokio::test]
    async fn a_sweep_waits_for_a_removal_that_may_put_the_worktree_back() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = prepared(&fixture, &worktrees).await;
        // Another process.
        let guard = fixture.worktrees().lock.acquire().await.unwrap();
        let trash = worktrees.move_to_trash(&made.path).unwrap().unwrap();
        let sweep = {
            let worktrees = Arc::clone(&worktrees);
            tokio::spawn(async move { worktrees.sweep_trash().await })
        };
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        put_back(&trash, &made.path).unwrap();
        drop(guard);
        assert_eq!(sweep.await.unwrap().unwrap(), 0);
        assert!(made.path.join("file.txt").exists());
    }

    #[test]
    fn a_tree_can_be_deleted_by_two_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..5 {
            let tree = dir.path().join(round.to_string());
            for number in 0..300 {
                write(&tree, &format!("{}/{number}/x", number % 7), "");
            }
            let other = {
                let tree = tree.clone();
                std::thread::spawn(move || delete(&tree))
            };
            delete(&tree).unwrap();
            other.join().unwrap().unwrap();
            assert!(!tree.exists());
        }
    }

    #[tokio::test]
    async fn a_worktree_that_its_agent_has_removed_is_removed() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        for breakage in [
            "rm -rf ../S-0001-a-title",
            "git checkout -q -b other; rm -rf ../S-0001-a-title",
            "git worktree unlock .; rm -rf ../S-0001-a-title",
            "git worktree remove -f -f .",
            "git worktree unlock . && git worktree remove -f .",
        ] {
            let made = prepared(&fixture, &worktrees).await;
            sh(&made.path, "git commit -q --allow-empty -m work");
            sh(&made.path, breakage);
            let tip = fixture.repository().branch_tip(&made.branch).unwrap();
            let check = RemovalCheck::CommittedAt(tip.unwrap());
            let removal = worktrees.remove(&made.path, &made.branch, check).await;
            assert_eq!(removal.unwrap(), Removal::Removed, "{breakage}");
            assert_eq!(worktrees.list().await.unwrap(), [], "{breakage}");
            let after = fixture.repository().branch_tip(&made.branch).unwrap();
            assert_eq!(after, tip, "{breakage}");
        }
    }

    #[tokio::test]
    async fn a_missing_directory_that_someone_has_locked_keeps_its_entry() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = prepared(&fixture, &worktrees).await;
        fixture.sh("echo 'my disk' > .git/worktrees/S-0001-a-title/locked");
        fs::remove_dir_all(&made.path).unwrap();
        let check = RemovalCheck::Committed;
        let removal = worktrees.remove(&made.path, &made.branch, check).await;
        assert_eq!(removal.unwrap(), Removal::Removed);
        assert_eq!(worktrees.list().await.unwrap().len(), 1);
    }
}
