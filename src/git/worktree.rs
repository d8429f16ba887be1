//! Makes the worktree of a story: `<base>/<ID>-<slug>` on the branch `ai-sdlc/<ID>-<slug>`.
//!
//! It owns the names, and it promises that a call either gives a complete worktree or leaves nothing behind that
//! it made, that nothing that was there before is reset or deleted, and that what an interrupted call left is
//! repaired by the next one. Only the administrative part runs under the repository's lock; files are checked out
//! in parallel. Callers see to it that a story has only one worktree call at a time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::admin::WorktreeEntry;
use super::blocking;
use super::commit_id::CommitId;
use super::lock::{AdminLock, LockError};
use super::repository::{BRANCH_PREFIX, Repository, RepositoryError};
use super::runner::{Git, GitError};
use super::survey::{Leftover, State, Target, remove_half_made, survey};
use crate::engine::id::RunId;
use crate::story::id::{Slug, StoryId};

/// How long the checkout of one worktree may take: a large repository on a slow disk, with files from LFS.
const CHECKOUT_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// The pauses before another try, when a git command of someone else came between.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// What the reason of our worktree locks begins with.
pub(super) const LOCK_PREFIX: &str = "ai-sdlc ";

/// The branch of a story.
pub fn branch_name(id: &StoryId, slug: &Slug) -> String {
    format!("{BRANCH_PREFIX}{}", worktree_name(id, slug))
}

fn worktree_name(id: &StoryId, slug: &Slug) -> String {
    format!("{id}-{slug}")
}

/// The worktrees of one repository below one directory. Cheap to clone; clones share the lock's queue.
#[derive(Debug, Clone)]
pub struct Worktrees {
    pub(super) repository: Repository,
    pub(super) git: Git,
    pub(super) base: PathBuf,
    pub(super) lock: AdminLock,
}

/// The worktree that a story needs.
#[derive(Debug, Clone)]
pub struct WorktreeRequest {
    /// The story.
    pub id: StoryId,
    /// What the story is about, for the names.
    pub slug: Slug,
    /// The run, for the reason of the worktree's lock.
    pub run: RunId,
    /// Where a new branch begins.
    pub base_commit: CommitId,
}

/// A worktree that is ready for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its directory, absolute and resolved.
    pub path: PathBuf,
    /// The branch that is checked out.
    pub branch: String,
    /// The commit that was asked for as the base. A branch that existed before may have begun elsewhere.
    pub base: CommitId,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a worktree comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Worktree and branch are new.
    Fresh,
    /// The worktree is new, the branch was there.
    ContinuedBranch,
    /// The worktree was there and is as it was.
    KeptWorktree,
}

/// Why there is no worktree.
#[derive(Debug, Error)]
pub enum PrepareError {
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
    /// The worktree's directory is missing, and someone has locked it: it may be on a disk that is not mounted.
    #[error("the worktree {} is missing, and locked by someone else ({reason})", path.display())]
    LockedByOther {
        /// The worktree.
        path: PathBuf,
        /// The reason, as it was given.
        reason: String,
    },
    /// A directory cannot be used.
    #[error("failed to {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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

fn cleanup_note(cleanup: &[String]) -> String {
    if cleanup.is_empty() {
        String::new()
    } else {
        format!(" (and to clean up: {})", cleanup.join("; "))
    }
}

impl Worktrees {
    /// The worktrees below `base`, which is created when it is missing. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be created or resolved.
    pub fn new(repository: Repository, git: Git, base: &Path) -> Result<Self, PrepareError> {
        let io_error = |verb| {
            move |source| PrepareError::Io {
                verb,
                path: base.to_owned(),
                source,
            }
        };
        fs::create_dir_all(base).map_err(io_error("create"))?;
        let base = base.canonicalize().map_err(io_error("resolve"))?;
        let lock = AdminLock::new(repository.common_dir());
        Ok(Self {
            repository,
            git,
            base,
            lock,
        })
    }

    /// The directory that the worktrees are in, absolute and resolved.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The repository's lock, for other work that must not meet a half-made worktree (a fetch).
    pub fn lock(&self) -> &AdminLock {
        &self.lock
    }

    /// The linked worktrees of the repository, whoever made them.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn list(&self) -> Result<Vec<WorktreeEntry>, RepositoryError> {
        let repository = self.repository.clone();
        blocking(move || repository.worktrees()).await
    }

    /// Gives the worktree of a story: the one that is there, else one on the branch that is there, else a new one.
    /// Two git processes; none for a worktree that is there.
    ///
    /// When the future is dropped, git is killed, and the next call repairs what is left.
    ///
    /// # Errors
    /// When something else is in the way, or git fails.
    pub async fn prepare(&self, request: &WorktreeRequest) -> Result<Prepared, PrepareError> {
        let target = self.target(request)?;
        let found = {
            let (repository, target) = (self.repository.clone(), target.clone());
            blocking(move || survey(&repository, &target)).await?
        };
        let continued = match found.tip {
            None => Origin::Fresh,
            Some(_) => Origin::ContinuedBranch,
        };
        let commit = found.tip.unwrap_or(request.base_commit);
        let origin = match found.state {
            State::Ready => Origin::KeptWorktree,
            State::Unfinished(entry) => {
                // Left by a killed git; nothing else can hold it, because the story has no other worktree call.
                drop(fs::remove_file(entry.admin_dir.join("index.lock")));
                self.check_out(&target, commit, found.may_have_hook)
                    .await
                    .map_err(|(step, source)| PrepareError::Git {
                        step,
                        path: target.path.clone(),
                        source: Box::new(source),
                        cleanup: Vec::new(),
                    })?;
                if commit == request.base_commit {
                    Origin::Fresh
                } else {
                    Origin::ContinuedBranch
                }
            }
            State::Absent(leftover) => {
                let undo = Undo {
                    worktrees: self,
                    target: &target,
                    reason: format!("{LOCK_PREFIX}{} {}", request.run, request.id),
                    new_branch_at: found.tip.is_none().then_some(request.base_commit),
                };
                self.add(&target, request, &leftover, &undo).await?;
                let checked_out = self.check_out(&target, commit, found.may_have_hook).await;
                if let Err((step, source)) = checked_out {
                    let cleanup = match self.lock.acquire().await {
                        Ok(guard) => {
                            let trouble = undo.run().await;
                            drop(guard);
                            trouble
                        }
                        Err(error) => vec![error.to_string()],
                    };
                    return Err(undo.error(step, source, cleanup));
                }
                continued
            }
        };
        Ok(Prepared {
            path: target.path,
            branch: target.branch,
            base: request.base_commit,
            origin,
        })
    }

    fn target(&self, request: &WorktreeRequest) -> Result<Target, PrepareError> {
        let name = worktree_name(&request.id, &request.slug);
        let path = self.base.join(&name);
        if path.parent() != Some(&self.base) || path.file_name() != Some(name.as_ref()) {
            let base = self.base.clone();
            return Err(PrepareError::OutsideBase { path, base });
        }
        Ok(Target {
            path,
            branch: branch_name(&request.id, &request.slug),
        })
    }

    /// The administrative part, under the lock.
    async fn add(
        &self,
        target: &Target,
        request: &WorktreeRequest,
        leftover: &Leftover,
        undo: &Undo<'_>,
    ) -> Result<(), PrepareError> {
        let base = request.base_commit.to_string();
        let guard = self.lock.acquire().await?;
        match leftover {
            Leftover::Nothing => {}
            Leftover::Entry => self.forget(&target.path).await.map_err(|source| {
                undo.error("forget the missing directory of", source, Vec::new())
            })?,
            Leftover::HalfMade(admin_dir) => remove_half_made(admin_dir, &target.path)?,
        }
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            let call = self.git.call(self.repository.root()).args([
                "worktree",
                "add",
                "--quiet",
                "--no-checkout",
                "--lock",
                "--reason",
                &undo.reason,
            ]);
            let call = match undo.new_branch_at {
                Some(_) => call
                    .args(["-b", &target.branch])
                    .arg(&target.path)
                    .arg(&base),
                None => call.arg(&target.path).arg(&target.branch),
            };
            let Err(error) = call.run().await else {
                drop(guard);
                return Ok(());
            };
            let trouble = undo.run().await;
            match pauses.next() {
                Some(pause) if trouble.is_empty() && is_race(&error) => {
                    tracing::debug!(%error, "git worktree add met another git; trying again");
                    tokio::time::sleep(*pause).await;
                }
                _ => return Err(undo.error("add", error, trouble)),
            }
        }
    }

    /// Fills a worktree that was added without its files, as `git worktree add` does it itself: the same command,
    /// and the hook with the same arguments (many hooks tell a new worktree by the zeros).
    async fn check_out(
        &self,
        target: &Target,
        commit: CommitId,
        may_have_hook: bool,
    ) -> Result<(), (&'static str, GitError)> {
        let reset = ["reset", "--hard", "--quiet", "--no-recurse-submodules"];
        let call = self.git.call(&target.path).args(reset);
        let call = call.deadline(CHECKOUT_DEADLINE);
        call.run().await.map_err(|error| ("check out", error))?;
        if may_have_hook {
            let zeros = "0".repeat(40);
            let hook = ["hook", "run", "--ignore-missing", "post-checkout", "--"];
            let call = self.git.call(&target.path).args(hook);
            let call = call.args([&zeros, &commit.to_string(), "1"]);
            let call = call.deadline(CHECKOUT_DEADLINE);
            let ran = call.run().await;
            ran.map_err(|error| ("run the post-checkout hook of", error))?;
        }
        Ok(())
    }

    /// Drops the entry of a worktree and, if it is there, its directory. Only under the lock.
    pub(super) async fn forget(&self, path: &Path) -> Result<(), GitError> {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            // Twice, because once does not remove a locked one.
            let remove = ["worktree", "remove", "--force", "--force"];
            let call = self.git.call(self.repository.root()).args(remove);
            match (call.arg(path).run().await, pauses.next()) {
                (Err(error), Some(pause)) if is_race(&error) => tokio::time::sleep(*pause).await,
                (result, _) => return result.map(drop),
            }
        }
    }
}

/// Takes back what one call made.
struct Undo<'a> {
    worktrees: &'a Worktrees,
    target: &'a Target,
    /// The reason of the worktree's lock, by which the call knows its own.
    reason: String,
    /// The commit at which the call creates the branch, if it does.
    new_branch_at: Option<CommitId>,
}

impl Undo<'_> {
    fn error(&self, step: &'static str, source: GitError, cleanup: Vec<String>) -> PrepareError {
        PrepareError::Git {
            step,
            path: self.target.path.clone(),
            source: Box::new(source),
            cleanup,
        }
    }

    /// Removes worktree and branch, and gives what could not be removed. Only under the lock.
    async fn run(&self) -> Vec<String> {
        let Target { path, branch } = self.target;
        let repository = &self.worktrees.repository;
        let mut trouble = Vec::new();
        let removed = match repository.worktree_at(path) {
            // Someone else was faster: that is why git failed, and not for this call to take back.
            Ok(Some(entry)) if entry.locked.as_ref() != Some(&self.reason) => return trouble,
            Ok(Some(entry)) if entry.is_complete() => self
                .worktrees
                .forget(path)
                .await
                .map_err(|error| error.to_string()),
            Ok(Some(entry)) => {
                remove_half_made(&entry.admin_dir, path).map_err(|error| error.to_string())
            }
            // Git removes what it has made when it fails; only an empty directory may remain.
            Ok(None) => {
                drop(fs::remove_dir(path));
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        trouble.extend(removed.err());
        if let Some(base) = self.new_branch_at {
            // A branch that has moved on is not ours to delete.
            if matches!(repository.branch_tip(branch), Ok(Some(tip)) if tip == base) {
                let call = self.worktrees.git.call(repository.root());
                let reference = format!("refs/heads/{branch}");
                let call = call.args(["update-ref", "-d", &reference, &base.to_string()]);
                trouble.extend(call.run().await.err().map(|error| error.to_string()));
            }
        }
        trouble
    }
}

/// Whether git failed because another git, which does not know our lock, was adding or removing at that moment.
fn is_race(error: &GitError) -> bool {
    let GitError::Failed(failure) = error else {
        return false;
    };
    let text = &failure.stderr;
    text.contains("commondir")
        || text.contains("Invalid path")
        || (text.contains("worktrees") && text.contains("No such file or directory"))
        || (text.contains("could not open") && text.contains("/locked"))
}

#[cfg(test)]
#[path = "worktree_tests.rs"]
mod tests;
