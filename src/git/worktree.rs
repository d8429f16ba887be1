//! Makes the worktree of a story: `<base>/<ID>-<slug>` on the branch `ai-sdlc/<ID>-<slug>`.
//!
//! It owns the names, and it promises that a call either gives a complete worktree or leaves nothing behind that
//! it made, that no work that was there before is reset or deleted, and that what an interrupted call left is repaired
//! by the next one. A branch that has nothing of its own is moved to the base that is asked for. Only the
//! administrative part runs under the repository's lock; files are checked out in parallel. Callers see to it that a
//! story has only one worktree call at a time.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::admin::WorktreeEntry;
use super::blocking;
use super::commit_id::CommitId;
use super::file_error::FileError;
use super::lock::{AdminGuard, AdminLock};
use super::prepare_error::{BaseProblem, PrepareError};
use super::repository::{BRANCH_PREFIX, Repository, RepositoryError};
use super::runner::{Git, GitError};
use super::survey::{Branch, Leftover, State, Target, remove_half_made, survey};
use super::undo::Undo;
use crate::engine::id::RunId;
use crate::engine::recovery::{Branch as OwnBranch, Tree};
use crate::story::id::{Slug, StoryId};

/// How long the checkout of one worktree may take: a large repository on a slow disk, with files from LFS.
const CHECKOUT_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// The pauses before another try, when a git command of someone else came between.
const RETRY_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// What the reason of our worktree locks begins with.
pub(super) const LOCK_PREFIX: &str = "ai-sdlc ";

/// How old the lock file of a branch must be before it is taken for one that a killed git has left.
const SETTLED: Duration = Duration::from_secs(1);

/// Removes a lock file once it has been there for [`SETTLED`]. Whether there was one.
pub(super) fn remove_settled(path: &Path) -> io::Result<bool> {
    let modified = match fs::metadata(path) {
        Ok(metadata) => metadata.modified()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    std::thread::sleep(SETTLED.saturating_sub(modified.elapsed().unwrap_or_default()));
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

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

/// What is there for a story.
#[derive(Debug)]
pub struct Seen {
    /// What lies where its worktree belongs.
    pub tree: Tree,
    /// What its branch has. Not looked at, and given as missing, where the tree is [`Tree::Foreign`].
    pub branch: OwnBranch,
    /// What a person has to see to, where the tree is [`Tree::Foreign`].
    pub obstacle: Option<PrepareError>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The worktree is new, and the branch begins at the base: new, or moved there because it had no commits that
    /// the base has not.
    Fresh,
    /// The worktree is new, the branch was there with commits of its own.
    ContinuedBranch,
    /// The worktree was there and is as it was.
    KeptWorktree,
}

impl Worktrees {
    /// The worktrees below `base`, which is created when it is missing. Blocks.
    ///
    /// # Errors
    /// When the directory will not do (nothing is created then), or cannot be created or resolved.
    pub fn new(repository: Repository, git: Git, base: &Path) -> Result<Self, PrepareError> {
        let io_error = |verb| FileError::when(verb, base);
        let unusable = |problem| PrepareError::UnusableBase {
            base: base.to_owned(),
            problem,
        };
        let expected = resolve(base).map_err(io_error("resolve"))?;
        if let Some(problem) = problem_with(&expected, &repository) {
            return Err(unusable(problem));
        }
        fs::create_dir_all(base).map_err(io_error("create"))?;
        let base = base.canonicalize().map_err(io_error("resolve"))?;
        // Again, because a link may have pointed nowhere before.
        if let Some(problem) = problem_with(&base, &repository) {
            return Err(unusable(problem));
        }
        let lock = AdminLock::new(repository.common_dir());
        Ok(Self {
            repository,
            git,
            base,
            lock,
        })
    }

    /// The worktrees of the same repository below another directory. They share the lock's queue. Blocks.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn beside(&self, base: &Path) -> Result<Self, PrepareError> {
        let other = Self::new(self.repository.clone(), self.git.clone(), base)?;
        let lock = self.lock.clone();
        Ok(Self { lock, ..other })
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
    /// When the future is dropped, git is ended, and the next call repairs what is left, or [`Self::undo`] takes it
    /// back.
    ///
    /// # Errors
    /// When something else is in the way, or git fails.
    pub async fn prepare(&self, request: &WorktreeRequest) -> Result<Prepared, PrepareError> {
        let target = self.target(request)?;
        self.wait_for_interrupted(&target).await;
        let base = request.base_commit;
        let found = {
            let (repository, target) = (self.repository.clone(), target.clone());
            blocking(move || survey(&repository, &target, base)).await?
        };
        let started = match found.branch {
            Branch::Missing | Branch::Behind(_) => Origin::Fresh,
            Branch::Stays(_) => Origin::ContinuedBranch,
        };
        let origin = match found.state {
            State::Ready => Origin::KeptWorktree,
            State::Unfinished(entry) => {
                // Left by a killed git; nothing else can hold it, because the story has no other worktree call.
                drop(entry.clear_locks());
                self.fill(&target, base, found.branch, found.may_have_hook)
                    .await?;
                started
            }
            State::Absent(leftover) => {
                let undo = Undo {
                    worktrees: self,
                    target: &target,
                    reason: format!("{LOCK_PREFIX}{} {}", request.run, request.id),
                    new_branch_at: matches!(found.branch, Branch::Missing).then_some(base),
                };
                self.add(&target, request, &leftover, &undo).await?;
                let filled = self.fill(&target, base, found.branch, found.may_have_hook);
                if let Err(mut error) = filled.await {
                    let trouble = match self.lock.acquire().await {
                        Ok(guard) => undo.run(&Arc::new(guard)).await,
                        Err(error) => vec![error.to_string()],
                    };
                    if let PrepareError::Git { cleanup, .. } = &mut error {
                        *cleanup = trouble;
                    } else if !trouble.is_empty() {
                        tracing::warn!(?trouble, "a worktree could not be taken back");
                    }
                    return Err(error);
                }
                started
            }
        };
        Ok(Prepared {
            path: target.path,
            branch: target.branch,
            base,
            origin,
        })
    }

    /// Removes the lock files that a killed git has left: of the branch of a story, and in the administrative directory
    /// of its worktree at `path` (`index.lock`, `HEAD.lock`), if that is one directly below [`Self::base`]. Gives
    /// their names. Only when no process of ours works on either any more: the locks of a living one are its
    /// protection. That of the branch must be a second old, since a git of the user (`pack-refs`) holds such locks for
    /// moments.
    ///
    /// # Errors
    /// When the repository cannot be read or a file not be removed.
    pub async fn clear_stale_locks(
        &self,
        path: &Path,
        branch: &str,
    ) -> Result<Vec<String>, PrepareError> {
        let (repository, path) = (self.repository.clone(), path.to_owned());
        let is_below = path.parent() == Some(&self.base);
        let heads = self.repository.common_dir().join("refs/heads");
        let branch_lock = heads.join(format!("{branch}.lock"));
        blocking(move || {
            const CLEARING: &str = "remove the lock files in";
            let mut cleared = Vec::new();
            if remove_settled(&branch_lock).map_err(FileError::when(CLEARING, &branch_lock))? {
                cleared.push(branch_lock.display().to_string());
            }
            if let Some(entry) = repository.worktree_at(&path)?.filter(|_| is_below) {
                let locks = entry
                    .clear_locks()
                    .map_err(FileError::when(CLEARING, &entry.admin_dir))?;
                cleared.extend(locks.into_iter().map(str::to_owned));
            }
            Ok(cleared)
        })
        .await
    }

    /// What is there for a story, after a restart: its worktree and its branch. Changes nothing that anybody would miss.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn look(&self, request: &WorktreeRequest) -> Result<Seen, PrepareError> {
        let target = self.target(request)?;
        let (repository, base) = (self.repository.clone(), request.base_commit);
        let found = match blocking(move || survey(&repository, &target, base)).await {
            Ok(found) => found,
            Err(error) if error.is_in_the_way() => {
                return Ok(Seen {
                    tree: Tree::Foreign,
                    branch: OwnBranch::Missing,
                    obstacle: Some(error),
                });
            }
            Err(error) => return Err(error),
        };
        let tree = match found.state {
            State::Absent(_) => Tree::Missing,
            State::Unfinished(_) => Tree::HalfMade,
            State::Ready => Tree::Stands,
        };
        let branch = match found.branch {
            Branch::Missing => OwnBranch::Missing,
            Branch::Behind(_) => OwnBranch::Level,
            Branch::Stays(_) => OwnBranch::Ahead,
        };
        Ok(Seen {
            tree,
            branch,
            obstacle: None,
        })
    }

    /// Where the worktree of a story is, when there is one.
    pub fn path_of(&self, id: &StoryId, slug: &Slug) -> PathBuf {
        self.base.join(worktree_name(id, slug))
    }

    /// The repository that they belong to.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The git program that makes them.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// The file for a note of how the worktree at `path` was set up, which goes with the worktree; none when the repository
    /// does not know it.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn setup_note(&self, path: &Path) -> Result<Option<PathBuf>, RepositoryError> {
        let (repository, path) = (self.repository.clone(), path.to_owned());
        let entry = blocking(move || repository.worktree_at(&path)).await?;
        Ok(entry.map(|entry| entry.setup_note()))
    }

    pub(super) fn target(&self, request: &WorktreeRequest) -> Result<Target, PrepareError> {
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
        let guard = Arc::new(self.lock.acquire().await?);
        match leftover {
            Leftover::Nothing => {}
            Leftover::Entry => self.forget(&target.path, &guard).await.map_err(|source| {
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
            let Err(error) = call.under(&guard).run().await else {
                let Err(error) = self.begin_preparing(target).await else {
                    return Ok(());
                };
                let trouble = undo.run(&guard).await;
                match pauses.next() {
                    // Another git's `worktree prune` took the entry for a stale one while it was being written.
                    Some(pause) if trouble.is_empty() && is_vanished(&error) => {
                        tokio::time::sleep(*pause).await;
                        continue;
                    }
                    _ => return Err(error),
                }
            };
            let trouble = undo.run(&guard).await;
            if let Some(path) = checked_out_at(&error) {
                let branch = target.branch.clone();
                return Err(PrepareError::CheckedOutElsewhere { branch, path });
            }
            match pauses.next() {
                Some(pause) if trouble.is_empty() && is_race(&error) => {
                    tracing::debug!(%error, "git worktree add met another git; trying again");
                    tokio::time::sleep(*pause).await;
                }
                _ => return Err(undo.error("add", error, trouble)),
            }
        }
    }

    /// Makes a worktree ready that was added without its files. Until the end of this it is marked as unfinished.
    async fn fill(
        &self,
        target: &Target,
        base: CommitId,
        branch: Branch,
        may_have_hook: bool,
    ) -> Result<(), PrepareError> {
        let git_error = |(step, source)| PrepareError::Git {
            step,
            path: target.path.clone(),
            source: Box::new(source),
            cleanup: Vec::new(),
        };
        let marker = self.begin_preparing(target).await?;
        let commit = match branch {
            Branch::Stays(tip) => tip,
            Branch::Missing | Branch::Behind(_) => base,
        };
        if let Branch::Behind(tip) = branch
            && tip != base
        {
            let moved = self.move_branch(target, tip, base).await;
            moved.map_err(|source| git_error(("move the branch of", source)))?;
        }
        let filled = self.check_out(target, commit, may_have_hook).await;
        filled.map_err(git_error)?;
        // The last thing, and without a pause in which the future could be dropped: it is ready now.
        fs::remove_file(&marker).map_err(FileError::when("remove", &marker))?;
        Ok(())
    }

    async fn begin_preparing(&self, target: &Target) -> Result<PathBuf, PrepareError> {
        let (repository, path) = (self.repository.clone(), target.path.clone());
        let entry = blocking(move || repository.worktree_at(&path)).await?;
        let marked = match entry {
            // Not on a blocking thread, which could do it long after the future was dropped.
            Some(entry) => entry.begin_preparing(),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        Ok(marked.map_err(FileError::when("mark as unfinished", &target.path))?)
    }

    /// Moves the branch that is checked out in an unfinished worktree, if it is still where it was.
    async fn move_branch(
        &self,
        target: &Target,
        from: CommitId,
        to: CommitId,
    ) -> Result<(), GitError> {
        let reference = format!("refs/heads/{}", target.branch);
        let (from, to) = (from.to_string(), to.to_string());
        let arguments = ["update-ref", "-m", "ai-sdlc: start", &reference, &to, &from];
        self.git.run(&target.path, arguments).await.map(drop)
    }

    /// Fills a worktree as `git worktree add` does it itself: the same command, and the hook with the same arguments
    /// (many hooks tell a new worktree by the zeros).
    async fn check_out(
        &self,
        target: &Target,
        commit: CommitId,
        may_have_hook: bool,
    ) -> Result<(), (&'static str, GitError)> {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            let reset = ["reset", "--hard", "--quiet", "--no-recurse-submodules"];
            let call = self.git.call(&target.path).args(reset);
            let call = call.deadline(CHECKOUT_DEADLINE);
            match (call.run().await, pauses.next()) {
                (Ok(_), _) => break,
                (Err(error), Some(pause)) if is_index_race(&error) => {
                    tracing::debug!(%error, "the checkout met another git; trying again");
                    tokio::time::sleep(*pause).await;
                }
                (Err(error), _) => return Err(("check out", error)),
            }
        }
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
    pub(super) async fn forget(
        &self,
        path: &Path,
        guard: &Arc<AdminGuard>,
    ) -> Result<(), GitError> {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            // Twice, because once does not remove a locked one.
            let remove = ["worktree", "remove", "--force", "--force"];
            let call = self.git.call(self.repository.root()).args(remove);
            match (call.arg(path).under(guard).run().await, pauses.next()) {
                (Err(error), Some(pause)) if is_race(&error) => tokio::time::sleep(*pause).await,
                (result, _) => return result.map(drop),
            }
        }
    }
}

/// Where a path leads, as far as it exists.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        if part == Component::ParentDir {
            resolved.pop();
        } else {
            resolved.push(part);
            resolved = resolved.canonicalize().unwrap_or(resolved);
        }
    }
    Ok(resolved)
}

fn problem_with(base: &Path, repository: &Repository) -> Option<BaseProblem> {
    if base.metadata().is_ok_and(|data| !data.is_dir()) {
        Some(BaseProblem::NotADirectory)
    } else if base.parent().is_none() {
        Some(BaseProblem::Root)
    } else if repository.root().starts_with(base) {
        Some(BaseProblem::HoldsCheckout)
    } else if base.starts_with(repository.common_dir()) {
        Some(BaseProblem::InGitDirectory)
    } else {
        None
    }
}

/// The other worktree, when git refused a branch because it is checked out there.
fn checked_out_at(error: &GitError) -> Option<PathBuf> {
    let GitError::Failed(failure) = error else {
        return None;
    };
    // The second is what git said before 2.42.
    [
        " is already used by worktree at '",
        " is already checked out at '",
    ]
    .iter()
    .find_map(|words| failure.stderr.split_once(words))
    .and_then(|(_, rest)| rest.lines().next()?.rsplit_once('\''))
    .map(|(path, _)| path.into())
}

/// Whether a checkout failed because another git (of an editor, a prompt) was refreshing the index at that moment.
fn is_index_race(error: &GitError) -> bool {
    let GitError::Failed(failure) = error else {
        return false;
    };
    let text = &failure.stderr;
    (text.contains("index.lock") && text.contains("File exists"))
        || text.contains("Could not write new index file")
        || text.contains("Unable to write new index file")
        || text.contains("unable to write new index file")
}

/// Whether a worktree is not there any more.
fn is_vanished(error: &PrepareError) -> bool {
    matches!(error, PrepareError::Io(error) if error.source.kind() == io::ErrorKind::NotFound)
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
