//! The worktrees of a run: made before an attempt, and cleared away, proved or kept after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ground::{Ground, Site, Unprepared};
use super::run_folder::RunFolder;
use super::sentry::Sentry;
use crate::engine::recovery::Stood;
use crate::engine::{AttemptNumber, Disposal, Outcome, Settlement, Unit};
use crate::git::{CommitId, HURRIED_SALVAGE, Origin, Prepared, Removal, RemovalCheck, salvage_ref};
use crate::protocol::Evidence;
use crate::report::{chain, event::KeptWorktree};
use crate::setup::Setup;
use crate::story::Story;

/// Makes and clears away the worktrees of one run.
#[derive(Debug, Clone)]
pub struct Workspaces {
    /// Where they are made.
    pub ground: Ground,
    /// What makes them ready for an agent, and what is done before they go.
    pub setup: Setup,
    /// Where the run writes.
    pub folder: RunFolder,
    /// Who looks after what agents should not change.
    pub sentry: Sentry,
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

/// An attempt that is to get a worktree.
#[derive(Debug)]
pub(super) struct Preparation<'a> {
    pub(super) unit: &'a Unit,
    pub(super) site: Site<'a>,
}

impl Workspaces {
    /// Makes the worktree of a story, on top of the branches of its dependencies, and sets it up.
    pub(super) async fn prepare(
        &self,
        preparation: &Preparation<'_>,
    ) -> Result<Prepared, Unprepared> {
        let unit = preparation.unit;
        let prepared = self.ground.stand(&preparation.site).await?;
        if prepared.origin == Origin::KeptWorktree {
            let why = match preparation.site.stood {
                Some(Stood::Working) => "the orchestrator was killed",
                _ => "before another attempt",
            };
            self.save_what_was_there(unit, &prepared, why).await;
        }
        let log = self.folder.setup_log(unit);
        let set_up = self.setup.prepare(unit, &prepared, log).await;
        set_up.map_err(Unprepared::Failed)?;
        self.sentry.begin(preparation.site.story).await;
        Ok(prepared)
    }

    /// Saves what is uncommitted in a kept worktree, before commands and an agent go on with it, as of the attempt before:
    /// its orchestrator may have been killed, and people may have worked there since. Nothing is done for what the
    /// salvage of that attempt has already.
    async fn save_what_was_there(&self, unit: &Unit, prepared: &Prepared, why: &str) {
        let before = AttemptNumber::new(unit.attempt.get().saturating_sub(1));
        let before = Unit {
            attempt: before.unwrap_or(AttemptNumber::FIRST),
            ..unit.clone()
        };
        // What cannot be saved is logged; it is where it was, and the attempt goes on with it.
        let _saved = self.save(&before, prepared, why).await;
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
        self.sentry.forget(&unit.story).await;
        self.ground.room.is_quiet().await;
        if let Some(prepared) = self.setup.unfinished(unit).await {
            left = self.take_back(unit, &prepared, outcome).await;
        } else if let Some((story, base)) = begun
            && let Err(error) = self
                .ground
                .worktrees
                .undo(&self.ground.request(&story, base))
                .await
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
        // Before the user's own commands, which may do there what they like.
        let hurried = *outcome == Outcome::Cancelled;
        let mut remarks = self.sentry.end(&unit.story, hurried).await;
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
        remarks.extend(self.setup.close(unit));
        Settled {
            settlement,
            kept: with_salvage(kept, saved),
            head,
            remarks,
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
            Err(
                "what is not committed is in it alone: the stop left no time to save that"
                    .to_owned(),
            )
        })
    }

    /// Removes the worktree of an attempt that never ran, with what its setup has put into it, unless it was there before.
    async fn take_back(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        outcome: &Outcome,
    ) -> Option<KeptWorktree> {
        match prepared.origin {
            Origin::Fresh => self.undo(unit, prepared, outcome).await,
            Origin::ContinuedBranch => {
                // Whatever is committed is on a branch that was there before, and stays.
                let tip = self.ground.repository.branch_tip(&prepared.branch);
                let check = match tip {
                    Ok(Some(tip)) => RemovalCheck::UnusedAt(tip),
                    Ok(None) | Err(_) => RemovalCheck::Committed,
                };
                self.remove(unit, prepared, check, outcome).await
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
            .ground
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
        let tip = self.ground.repository.branch_tip(branch);
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
            let worktrees = &self.ground.worktrees;
            let removal = worktrees.check_removal(&prepared.path, &prepared.branch, check);
            match removal.await {
                Ok(Removal::Removed) => self.setup.before_remove(unit, outcome.name()).await,
                Ok(Removal::Kept { why }) => return kept(&prepared.path, Some(why)),
                Err(error) => return kept(&prepared.path, Some(chain(&error))),
            }
        }
        let removal = self
            .ground
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
        let check = RemovalCheck::UnusedAt(prepared.base);
        let kept = self.remove(unit, prepared, check, outcome).await;
        if kept.is_none() {
            let reference = format!("refs/heads/{}", prepared.branch);
            let base = prepared.base.to_string();
            // Only while it still points at the base, so that nothing can be lost by it.
            let arguments = ["update-ref", "-d", &reference, &base];
            if let Err(error) = self
                .ground
                .git
                .run(self.ground.repository.root(), arguments)
                .await
            {
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
