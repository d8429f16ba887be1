//! The worktrees of a run: made before an attempt, and cleared away, proved or kept after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ground::{Ground, Site, Unprepared};
use super::run_folder::RunFolder;
use super::sentry::Sentry;
use crate::engine::recovery::Stood;
use crate::engine::{AttemptNumber, Disposal, Outcome, Settlement, Unit};
use crate::git::{
    CommitId, HURRIED_SALVAGE, Origin, Prepared, Removal, RemovalCheck, SalvageRequest, TakenBack,
    salvage_ref,
};
use crate::process;
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

/// What clearing a worktree away came to.
#[derive(Debug, Default)]
struct Cleared {
    kept: Option<KeptWorktree>,
    /// Where the content of one that is gone is saved, for the person.
    remark: Option<String>,
}

/// Why a worktree may go, besides that nothing is lost with it.
#[derive(Debug, Clone, Copy)]
enum Reason {
    /// An attempt in it is through.
    Used(RemovalCheck),
    /// None has worked in it, and its branch ends at this commit.
    Unused(CommitId),
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
        self.sentry.take(&unit.story).await;
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
        let mut cleared = Cleared::default();
        self.sentry.forget(&unit.story).await;
        self.ground.room.is_quiet().await;
        if let Some(prepared) = self.setup.unfinished(unit).await {
            cleared = self.take_back(unit, &prepared, outcome).await;
        } else if let Some((story, base)) = begun
            && let Err(error) = self
                .ground
                .worktrees
                .undo(&self.ground.request(&story, base))
                .await
        {
            tracing::warn!(error = chain(&error), story = %story.id, "not taken back");
        }
        self.sentry.leave(&unit.story).await;
        Settled {
            settlement: Settlement::Confirmed,
            kept: cleared.kept,
            head: None,
            remarks: self.remarks(unit, cleared.remark),
        }
    }

    /// What there is to say of an attempt that is through.
    fn remarks(&self, unit: &Unit, cleared: Option<String>) -> Vec<String> {
        self.setup.close(unit).into_iter().chain(cleared).collect()
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
        let (settlement, head, cleared) = match proof {
            Ok(head) => {
                let cleared = match disposal {
                    Disposal::Remove => {
                        let check = head.map_or(RemovalCheck::Committed, RemovalCheck::CommittedAt);
                        let reason = Reason::Used(check);
                        self.clear_away(unit, prepared, reason, outcome).await
                    }
                    Disposal::Undo => self.take_back(unit, prepared, outcome).await,
                    Disposal::Keep => kept(&prepared.path, None),
                };
                (Settlement::Confirmed, head, cleared)
            }
            Err(reason) => {
                let kept = kept(&prepared.path, None);
                (Settlement::Refuted(reason), None, kept)
            }
        };
        remarks.extend(self.remarks(unit, cleared.remark));
        self.sentry.leave(&unit.story).await;
        Settled {
            settlement,
            kept: with_salvage(cleared.kept, saved),
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
        let why = why(outcome);
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

    /// Removes the worktree of an attempt that never ran, unless it was there before. What its setup and anybody else has
    /// put into it is saved.
    async fn take_back(&self, unit: &Unit, prepared: &Prepared, outcome: &Outcome) -> Cleared {
        match prepared.origin {
            Origin::Fresh => self.undo(unit, prepared, outcome).await,
            Origin::ContinuedBranch => {
                // Whatever is committed is on a branch that was there before, and stays.
                let tip = self.ground.repository.branch_tip(&prepared.branch);
                let reason = match tip {
                    Ok(Some(tip)) => Reason::Unused(tip),
                    Ok(None) | Err(_) => Reason::Used(RemovalCheck::Committed),
                };
                self.clear_away(unit, prepared, reason, outcome).await
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

    /// Removes a worktree if nothing is lost with it, once the user's hook has run.
    async fn clear_away(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        reason: Reason,
        outcome: &Outcome,
    ) -> Cleared {
        let path = &prepared.path;
        if self.setup.asks_before_removal() {
            // What stays is not told that it goes.
            match self.check(prepared, reason).await {
                Ok(Removal::Removed) => self.setup.before_remove(unit, outcome.name()).await,
                Ok(Removal::Kept { why }) | Err(why) => return kept(path, Some(why)),
            }
        }
        let taken = self.remove(unit, prepared, reason, outcome).await;
        let TakenBack { removal, saved } = match taken {
            Ok(taken) => taken,
            Err(why) => return kept(path, Some(why)),
        };
        let saved = saved.map(|_| salvage_ref(&unit.story, unit.attempt));
        match removal {
            Removal::Removed => Cleared {
                kept: None,
                remark: saved.map(|reference| {
                    format!("what was in its worktree is saved as {reference} (`ai-sdlc recover`)")
                }),
            },
            Removal::Kept { why } => Cleared {
                kept: with_salvage(kept(path, Some(why)).kept, Ok(saved)),
                remark: None,
            },
        }
    }

    /// What would become of a worktree.
    async fn check(&self, prepared: &Prepared, reason: Reason) -> Result<Removal, String> {
        let (worktrees, Prepared { path, branch, .. }) = (&self.ground.worktrees, prepared);
        let checked = match reason {
            Reason::Used(check) => worktrees.check_removal(path, branch, check).await,
            Reason::Unused(at) => match occupied(path) {
                Some(why) => return Ok(Removal::Kept { why }),
                None => worktrees.check_taking_back(path, branch, at).await,
            },
        };
        checked.map_err(|error| chain(&error))
    }

    async fn remove(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        reason: Reason,
        outcome: &Outcome,
    ) -> Result<TakenBack, String> {
        let (worktrees, Prepared { path, branch, .. }) = (&self.ground.worktrees, prepared);
        let taken = match reason {
            Reason::Used(check) => {
                let removal = worktrees.remove(path, branch, check).await;
                removal.map(TakenBack::from)
            }
            Reason::Unused(at) => {
                if let Some(why) = occupied(path) {
                    return Ok(Removal::Kept { why }.into());
                }
                let request = SalvageRequest {
                    story: unit.story.clone(),
                    attempt: unit.attempt,
                    why: why(outcome),
                };
                let hurried = *outcome == Outcome::Cancelled;
                let patience = hurried.then_some(HURRIED_SALVAGE);
                let taking = worktrees.take_back(path, branch, at, &request, patience);
                taking.await
            }
        };
        taken.map_err(|error| chain(&error))
    }

    /// Takes back a worktree and a branch that were made for an attempt that never ran.
    async fn undo(&self, unit: &Unit, prepared: &Prepared, outcome: &Outcome) -> Cleared {
        let reason = Reason::Unused(prepared.base);
        let cleared = self.clear_away(unit, prepared, reason, outcome).await;
        if cleared.kept.is_none() {
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
        cleared
    }
}

/// Why something is saved, by the end of its attempt.
fn why(outcome: &Outcome) -> String {
    let reason = outcome.reason().map(|reason| format!(": {reason}"));
    format!("{}{}", outcome.name(), reason.unwrap_or_default())
}

/// That a process works in a worktree in which nothing of ours does, if there is one.
fn occupied(path: &Path) -> Option<String> {
    let process = process::at_work_in(&[path]).into_iter().flatten().next()?;
    Some(format!("process {process} works in it"))
}

/// A worktree that stays; nothing when its agent has removed it.
fn kept(path: &Path, reason: Option<String>) -> Cleared {
    let kept = path.exists().then(|| KeptWorktree {
        path: PathBuf::from(path),
        reason,
        salvage: None,
    });
    Cleared { kept, remark: None }
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
