//! The worktrees of a run: made before an attempt, and cleared away, proved or kept after it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::base::Base;
use super::room::Room;
use crate::engine::{Disposal, Outcome, RunId, Settlement, Unit};
use crate::git::{
    Against, BaseError, CommitId, Git, HURRIED_SALVAGE, Origin, Prepared, Removal, RemovalCheck,
    Repository, WorktreeRequest, Worktrees, base_with, branch_name, salvage_ref,
};
use crate::protocol::Evidence;
use crate::report::{chain, event::KeptWorktree};
use crate::story::{Story, StoryId};

/// Makes and clears away the worktrees of one run.
#[derive(Debug, Clone)]
pub struct Workspaces {
    /// The repository.
    pub repository: Repository,
    /// The git program.
    pub git: Git,
    /// The worktrees.
    pub worktrees: Worktrees,
    /// What stories start from.
    pub base: Base,
    /// The run.
    pub run: RunId,
    /// The disk space for them.
    pub room: Room,
}

/// Why there is no worktree.
#[derive(Debug)]
pub(super) enum Unprepared {
    /// Something went wrong.
    Failed(String),
    /// Nothing did, and there can be none before a person has decided something.
    NeedsPerson(String),
}

impl Unprepared {
    /// Branches that conflict do so again however often they are merged.
    fn of(error: &BaseError) -> Self {
        let BaseError::Conflict { against, .. } = error else {
            return Self::Failed(chain(error));
        };
        let hint = match against {
            Against::Dependency { .. } => "merge one into the other",
            Against::Base | Against::Merged => "merge the base into it",
        };
        Self::NeedsPerson(format!("{error}: {hint}, then set the story to ready"))
    }
}

/// What settling an attempt came to.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) settlement: Settlement,
    pub(super) kept: Option<KeptWorktree>,
    /// The commit that a success was proved by.
    pub(super) head: Option<CommitId>,
}

/// A story that another one depends on.
#[derive(Debug, Clone)]
pub(super) struct Dependency {
    pub(super) story: Arc<Story>,
    /// Where its work of this run ended, when it did any.
    pub(super) tip: Option<CommitId>,
}

impl Workspaces {
    /// Makes the worktree of a story, on top of the branches of its dependencies. Says as soon as it is known what the
    /// worktree starts from, for when this is given up half-way.
    pub(super) async fn prepare(
        &self,
        story: &Story,
        dependencies: &[Dependency],
        starts_from: &OnceLock<CommitId>,
    ) -> Result<Prepared, Unprepared> {
        let path = self.worktrees.path_of(&story.id, &story.slug);
        let making = self.room.make_for(&path, self.repository.common_dir());
        making.await.map_err(Unprepared::Failed)?;
        let base = self.base_of(story, dependencies).await?;
        starts_from.get_or_init(|| base);
        self.take_over(story).await;
        let prepared = self.worktrees.prepare(&self.request(story, base)).await;
        prepared.map_err(|error| Unprepared::Failed(chain(&error)))
    }

    /// Makes the worktree of a story as a run would, on top of what its dependencies have done so far.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn make(
        &self,
        story: &Story,
        dependencies: Vec<Arc<Story>>,
    ) -> Result<Prepared, String> {
        let dependencies: Vec<Dependency> = dependencies
            .into_iter()
            .map(|story| Dependency { story, tip: None })
            .collect();
        let made = self.prepare(story, &dependencies, &OnceLock::new()).await;
        made.map_err(|unprepared| match unprepared {
            Unprepared::Failed(reason) | Unprepared::NeedsPerson(reason) => reason,
        })
    }

    /// Takes back what a preparation that was given up has left, when it was to start from `base`.
    pub(super) async fn undo_unfinished(&self, story: &Story, base: CommitId) {
        if let Err(error) = self.worktrees.undo(&self.request(story, base)).await {
            tracing::warn!(error = chain(&error), story = %story.id, "not taken back");
        }
    }

    async fn base_of(
        &self,
        story: &Story,
        dependencies: &[Dependency],
    ) -> Result<CommitId, Unprepared> {
        let base = self
            .base
            .now(&self.repository)
            .map_err(Unprepared::Failed)?;
        let branches = self
            .branches(dependencies, base)
            .map_err(Unprepared::Failed)?;
        base_with(&self.git, &self.repository, &story.id, base, &branches)
            .await
            .map_err(|error| Unprepared::of(&error))
    }

    fn request(&self, story: &Story, base_commit: CommitId) -> WorktreeRequest {
        WorktreeRequest {
            id: story.id.clone(),
            slug: story.slug.clone(),
            run: self.run.clone(),
            base_commit,
        }
    }

    /// Clears away the locks that a killed git has left in the worktree of an earlier attempt. Nothing works in it any
    /// more: an attempt is settled once its process is gone, and what earlier runs have left was ended before this one.
    async fn take_over(&self, story: &Story) {
        let path = self.worktrees.path_of(&story.id, &story.slug);
        let branch = branch_name(&story.id, &story.slug);
        match self.worktrees.clear_stale_locks(&path, &branch).await {
            Ok(cleared) if cleared.is_empty() => {}
            Ok(cleared) => tracing::info!(?cleared, "removed locks that a killed git had left"),
            Err(error) => tracing::warn!(error = chain(&error), "locks may be left"),
        }
    }

    /// The branches of dependencies that still exist: the one that a story's file names, else the one that it would
    /// have. A branch that is gone was merged and deleted: its work is in the base, and of this run's work that is
    /// made sure.
    fn branches(
        &self,
        dependencies: &[Dependency],
        base: CommitId,
    ) -> Result<Vec<(StoryId, String)>, String> {
        let mut branches = Vec::new();
        for Dependency {
            story: dependency,
            tip: worked_up_to,
        } in dependencies
        {
            let before = branches.len();
            let usual = branch_name(&dependency.id, &dependency.slug);
            for branch in dependency.branch.iter().chain([&usual]) {
                let tip = self.repository.branch_tip(branch);
                if tip.map_err(|error| chain(&error))?.is_some() {
                    branches.push((dependency.id.clone(), branch.clone()));
                    break;
                }
            }
            if let Some(tip) = worked_up_to.filter(|_| branches.len() == before) {
                let contained = self.repository.is_ancestor(tip, base);
                if !contained.map_err(|error| chain(&error))? {
                    return Err(format!(
                        "the branch `{usual}` of {} is gone, and its work ({}) is not in the base ({})",
                        dependency.id,
                        tip.short(),
                        base.short()
                    ));
                }
            }
        }
        Ok(branches)
    }

    /// Proves what a success claims, and does with the worktree what was decided. Nothing is removed that is not on
    /// the branch.
    pub(super) async fn settle(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        outcome: &Outcome,
        evidence: Option<&Evidence>,
        disposal: Disposal,
    ) -> Settled {
        let proof = if outcome.is_success() {
            self.prove(&prepared.branch, evidence)
        } else {
            Ok(None)
        };
        let head = match proof {
            Ok(head) => head,
            Err(reason) => {
                let saved = self.save(unit, prepared, &reason).await;
                return Settled {
                    settlement: Settlement::Refuted(reason),
                    kept: with_salvage(kept(&prepared.path, None), saved),
                    head: None,
                };
            }
        };
        let saved = if outcome.is_success() {
            Ok(None)
        } else {
            let reason = outcome.reason().map(|reason| format!(": {reason}"));
            let why = format!("{}{}", outcome.name(), reason.unwrap_or_default());
            let saving = self.save(unit, prepared, &why);
            if *outcome == Outcome::Cancelled {
                let saved = tokio::time::timeout(HURRIED_SALVAGE, saving).await;
                saved.unwrap_or_else(|_| {
                    tracing::info!(story = %unit.story, "there was no time to save what it left");
                    Ok(None)
                })
            } else {
                saving.await
            }
        };
        let kept = match disposal {
            Disposal::Remove => {
                let check = head.map_or(RemovalCheck::Committed, RemovalCheck::CommittedAt);
                self.remove(prepared, check).await
            }
            Disposal::Undo if prepared.origin == Origin::Fresh => self.undo(prepared).await,
            Disposal::Undo if prepared.origin == Origin::ContinuedBranch => {
                self.remove(prepared, RemovalCheck::Committed).await
            }
            Disposal::Undo | Disposal::Keep => kept(&prepared.path, None),
        };
        Settled {
            settlement: Settlement::Confirmed,
            kept: with_salvage(kept, saved),
            head,
        }
    }

    /// Saves what an attempt that did not succeed has left uncommitted, and gives the ref that has it.
    async fn save(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        why: &str,
    ) -> Result<Option<String>, String> {
        // Its agent may have removed it.
        if !prepared.path.is_dir() {
            return Ok(None);
        }
        let (story, attempt) = (&unit.story, unit.attempt);
        let saving = self
            .worktrees
            .salvage(&prepared.path, story, attempt, why)
            .await;
        match saving {
            Ok(commit) => Ok(commit.map(|_| salvage_ref(story, attempt))),
            Err(error) => {
                tracing::warn!(error = chain(&error), %story, "not saved");
                Err(chain(&error))
            }
        }
    }

    /// The commit that a success claims to be on the branch, when it is.
    fn prove(&self, branch: &str, evidence: Option<&Evidence>) -> Result<Option<CommitId>, String> {
        let evidence = evidence.ok_or("it came without evidence")?;
        let claimed: CommitId = evidence
            .head
            .parse()
            .map_err(|_| format!("`{}` is no commit", evidence.head))?;
        let tip = self.repository.branch_tip(branch);
        match tip.map_err(|error| chain(&error))? {
            Some(tip) if tip == claimed => Ok(Some(claimed)),
            Some(tip) => Err(format!(
                "it reported commit {} but {branch} is at {}",
                claimed.short(),
                tip.short()
            )),
            None => Err(format!(
                "it reported a commit but there is no branch {branch}"
            )),
        }
    }

    async fn remove(&self, prepared: &Prepared, check: RemovalCheck) -> Option<KeptWorktree> {
        let removal = self
            .worktrees
            .remove(&prepared.path, &prepared.branch, check);
        match removal.await {
            Ok(Removal::Removed) => None,
            Ok(Removal::Kept { why }) => kept(&prepared.path, Some(why)),
            Err(error) => kept(&prepared.path, Some(chain(&error))),
        }
    }

    /// Takes back a worktree and a branch that were made for an attempt that never ran.
    async fn undo(&self, prepared: &Prepared) -> Option<KeptWorktree> {
        let check = RemovalCheck::CommittedAt(prepared.base);
        let kept = self.remove(prepared, check).await;
        if kept.is_none() {
            let reference = format!("refs/heads/{}", prepared.branch);
            let base = prepared.base.to_string();
            // Only while it still points at the base, so that nothing can be lost by it.
            let arguments = ["update-ref", "-d", &reference, &base];
            if let Err(error) = self.git.run(self.repository.root(), arguments).await {
                tracing::warn!(%error, "an unused branch stays");
            }
        }
        kept
    }
}

/// A worktree that stays; none when its agent has removed it.
fn kept(path: &Path, reason: Option<String>) -> Option<KeptWorktree> {
    path.exists().then(|| KeptWorktree {
        path: PathBuf::from(path),
        reason,
        salvage: None,
    })
}

/// Says of a kept worktree where its uncommitted work is saved as well, or why it is not.
fn with_salvage(
    kept: Option<KeptWorktree>,
    saved: Result<Option<String>, String>,
) -> Option<KeptWorktree> {
    let mut kept = kept?;
    match saved {
        Ok(reference) => kept.salvage = reference,
        Err(error) => {
            let why = kept.reason.map(|reason| format!("{reason}; "));
            kept.reason = Some(format!("{}{error}", why.unwrap_or_default()));
        }
    }
    Some(kept)
}
