//! The worktrees of a run: made before an attempt, and cleared away, proved or kept after it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::base::Base;
use super::interrupted::Interrupted;
use super::run_folder::RunFolder;
use crate::engine::{Disposal, Outcome, RunId, Settlement, Unit};
use crate::git::{
    Against, BaseError, CommitId, Git, HURRIED_SALVAGE, Origin, Prepared, Removal, RemovalCheck,
    Repository, WorktreeRequest, Worktrees, base_with, branch_name, salvage_ref,
};
use crate::protocol::Evidence;
use crate::report::{chain, event::KeptWorktree};
use crate::setup::Setup;
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
    /// What makes them ready for an agent, and what is done before they go.
    pub setup: Setup,
    /// Where the run writes.
    pub folder: RunFolder,
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
    /// What went wrong besides, for the person.
    pub(super) remarks: Vec<String>,
}

/// A story that another one depends on.
#[derive(Debug, Clone)]
pub(super) struct Dependency {
    pub(super) story: Arc<Story>,
    /// Where its work of this run ended, when it did any.
    pub(super) tip: Option<CommitId>,
}

/// What a worktree is made for.
#[derive(Debug)]
pub(super) struct Preparation<'a> {
    pub(super) unit: &'a Unit,
    pub(super) story: &'a Story,
    pub(super) dependencies: &'a [Dependency],
    /// How a restart has found it, if it is the first attempt since.
    pub(super) interrupted: Option<&'a Interrupted>,
    /// Told as soon as it is known.
    pub(super) starts_from: &'a OnceLock<CommitId>,
}

impl Workspaces {
    /// Makes the worktree of a story, on top of the branches of its dependencies, and sets it up. Says as soon as it is
    /// known what the worktree starts from, for when this is given up half-way.
    pub(super) async fn prepare(
        &self,
        preparation: &Preparation<'_>,
    ) -> Result<Prepared, Unprepared> {
        let Preparation {
            unit,
            story,
            dependencies,
            interrupted,
            starts_from,
        } = preparation;
        let base = self.base_of(story, dependencies).await?;
        starts_from.get_or_init(|| base);
        self.take_over(story).await;
        let request = self.request(story, base);
        if let Some(interrupted) = interrupted {
            self.recover(&request, interrupted).await?;
        }
        let prepared = self.worktrees.prepare(&request).await;
        let prepared = prepared.map_err(|error| Unprepared::Failed(chain(&error)))?;
        let log = self.folder.setup_log(unit);
        let set_up = self.setup.prepare(unit, &prepared, log).await;
        set_up.map_err(Unprepared::Failed)?;
        Ok(prepared)
    }

    /// Takes back what a preparation that failed or was given up has left; nothing was made when it is not known what it
    /// was to start from.
    pub(super) async fn settle_unprepared(
        &self,
        unit: &Unit,
        begun: Option<(Arc<Story>, CommitId)>,
        outcome: &Outcome,
    ) -> Settled {
        let mut left = None;
        if let Some(prepared) = self.setup.unfinished(unit).await {
            left = self.take_back(unit, &prepared, outcome).await;
        } else if let Some((story, base)) = begun
            && let Err(error) = self.worktrees.undo(&self.request(&story, base)).await
        {
            tracing::warn!(error = chain(&error), story = %story.id, "not taken back");
        }
        Settled {
            settlement: Settlement::Confirmed,
            kept: left,
            head: None,
            remarks: self.setup.close(unit),
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
        // A hook that commits must not be what a success is proved by.
        self.setup.after_run(unit, outcome.name()).await;
        let proof = if outcome.is_success() {
            self.prove(&prepared.branch, evidence)
        } else {
            Ok(None)
        };
        let saved = match &proof {
            Err(reason) => self.save(unit, prepared, reason).await,
            Ok(_) if outcome.is_success() => Ok(None),
            Ok(_) => self.save_what_is_left(unit, prepared, outcome).await,
        };
        let (settlement, head, kept) = match proof {
            Ok(head) => {
                let kept = match disposal {
                    Disposal::Remove => {
                        let check = head.map_or(RemovalCheck::Committed, RemovalCheck::CommittedAt);
                        self.remove(unit, prepared, check, outcome).await
                    }
                    Disposal::Undo => self.take_back(unit, prepared, outcome).await,
                    Disposal::Keep => kept(&prepared.path, None),
                };
                (Settlement::Confirmed, head, kept)
            }
            Err(reason) => {
                let kept = kept(&prepared.path, None);
                (Settlement::Refuted(reason), None, kept)
            }
        };
        Settled {
            settlement,
            kept: with_salvage(kept, saved),
            head,
            remarks: self.setup.close(unit),
        }
    }

    /// Saves what an attempt that did not succeed has left. At a stop of the run there is not much time for it: the
    /// worktree is where it was.
    async fn save_what_is_left(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        outcome: &Outcome,
    ) -> Result<Option<String>, String> {
        let reason = outcome.reason().map(|reason| format!(": {reason}"));
        let why = format!("{}{}", outcome.name(), reason.unwrap_or_default());
        let saving = self.save(unit, prepared, &why);
        if *outcome != Outcome::Cancelled {
            return saving.await;
        }
        let saved = tokio::time::timeout(HURRIED_SALVAGE, saving).await;
        saved.unwrap_or_else(|_| {
            tracing::info!(story = %unit.story, "there was no time to save what it left");
            Ok(None)
        })
    }

    /// Removes the worktree of an attempt that never ran, unless it was there before.
    async fn take_back(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        outcome: &Outcome,
    ) -> Option<KeptWorktree> {
        match prepared.origin {
            Origin::Fresh => self.undo(unit, prepared, outcome).await,
            Origin::ContinuedBranch => {
                self.remove(unit, prepared, RemovalCheck::Committed, outcome)
                    .await
            }
            Origin::KeptWorktree => kept(&prepared.path, None),
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

    async fn remove(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        check: RemovalCheck,
        outcome: &Outcome,
    ) -> Option<KeptWorktree> {
        if self.setup.asks_before_removal() {
            // What stays is not told that it goes.
            let kept_by = self
                .worktrees
                .kept_by(&prepared.path, &prepared.branch, check)
                .await;
            match kept_by {
                Ok(None) => self.setup.before_remove(unit, outcome.name()).await,
                Ok(Some(why)) => return kept(&prepared.path, Some(why)),
                Err(error) => return kept(&prepared.path, Some(chain(&error))),
            }
        }
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
    async fn undo(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        outcome: &Outcome,
    ) -> Option<KeptWorktree> {
        let check = RemovalCheck::CommittedAt(prepared.base);
        let kept = self.remove(unit, prepared, check, outcome).await;
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
