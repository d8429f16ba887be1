//! Where the worktrees of a run are made, and what each of them starts from.

use std::sync::{Arc, OnceLock};

use super::base::Base;
use super::room::Room;
use crate::engine::RunId;
use crate::engine::recovery::{Attempt, Conversation, Found, Left, Processes, Stood, decide};
use crate::git::{
    Against, BaseError, CommitId, Git, Prepared, Repository, Seen, WorktreeRequest, Worktrees,
    base_with, branch_name,
};
use crate::report::chain;
use crate::story::{Story, StoryId};

/// Where worktrees are made.
#[derive(Debug, Clone)]
pub struct Ground {
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

/// A story that another one depends on.
#[derive(Debug, Clone)]
pub(super) struct Dependency {
    pub(super) story: Arc<Story>,
    /// Where its work of this run ended, when it did any.
    pub(super) tip: Option<CommitId>,
}

/// What a worktree is made for.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) story: &'a Story,
    pub(super) dependencies: &'a [Dependency],
    /// How far a restart has found it, if this is the first attempt since.
    pub(super) stood: Option<Stood>,
    /// Told as soon as it is known, for when this is given up half-way.
    pub(super) starts_from: &'a OnceLock<CommitId>,
}

impl Ground {
    /// Makes the worktree of a story, on top of the branches of its dependencies.
    pub(super) async fn stand(&self, site: &Site<'_>) -> Result<Prepared, Unprepared> {
        let Site {
            story,
            dependencies,
            stood,
            starts_from,
        } = site;
        let path = self.worktrees.path_of(&story.id, &story.slug);
        let making = self.room.make_for(&path, self.repository.common_dir());
        making.await.map_err(Unprepared::Failed)?;
        let base = self.base_of(story, dependencies).await?;
        starts_from.get_or_init(|| base);
        self.take_over(story).await;
        let request = self.request(story, base);
        if let Some(stood) = *stood {
            self.recover(&request, stood).await?;
        }
        let prepared = self.worktrees.prepare(&request).await;
        prepared.map_err(|error| Unprepared::Failed(chain(&error)))
    }

    /// Makes the worktree of a story as a run would, on top of what its dependencies have done so far. It is set up when
    /// an attempt begins in it.
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
        let site = Site {
            story,
            dependencies: &dependencies,
            stood: None,
            starts_from: &OnceLock::new(),
        };
        self.stand(&site)
            .await
            .map_err(|unprepared| match unprepared {
                Unprepared::Failed(reason) | Unprepared::NeedsPerson(reason) => reason,
            })
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

    pub(super) fn request(&self, story: &Story, base_commit: CommitId) -> WorktreeRequest {
        WorktreeRequest {
            id: story.id.clone(),
            slug: story.slug.clone(),
            run: self.run.clone(),
            base_commit,
        }
    }

    /// Whether a story may be worked on that a restart has found so.
    async fn recover(&self, request: &WorktreeRequest, stood: Stood) -> Result<(), Unprepared> {
        let Seen {
            tree,
            branch,
            obstacle,
        } = match self.worktrees.look(request).await {
            Ok(seen) => seen,
            Err(error) => return Err(Unprepared::Failed(chain(&error))),
        };
        let recovery = decide(Found {
            stood,
            // A run does not begin while something is left that cannot be ended.
            processes: Processes::Gone,
            tree,
            branch,
            conversation: Conversation::Unknown,
            // What has nothing left is not prepared.
            left: Left::Something,
        });
        tracing::info!(story = %request.id, ?stood, ?tree, ?branch, ?recovery, "recovered");
        if recovery.attempt == Attempt::AskPerson {
            let reason = obstacle.map_or_else(String::new, |error| chain(&error));
            return Err(Unprepared::NeedsPerson(reason));
        }
        Ok(())
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
}
