//! Who has the board: this command, so that no run can begin meanwhile; or a run, whose stories are its own; or another
//! command that changes worktrees.

use std::collections::BTreeSet;
use std::time::Duration;

use super::removal_hook;
use super::scene::Scene;
use crate::cli::error::{CliError, LOCKED, WAIT_FOR_COMMAND};
use crate::cli::reap::end_leftovers;
use crate::cli::run::new_run_id;
use crate::config::Project;
use crate::engine::{Housekeeping, Record, RunId};
use crate::git::is_name_of;
use crate::journal::Reader;
use crate::orchestrator::{
    JOURNAL, JournalRecord, LockHolder, Occupation, RunLock, RunLockError, unlocked_run,
};
use crate::setup::RemovalHook;
use crate::story::{Status, StoryId};

/// How long another command that changes worktrees is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run that works on the board, or another command.
#[derive(Debug)]
pub(super) struct Holder {
    who: LockHolder,
    /// The stories that it began with; none when that is not known.
    planned: Option<BTreeSet<StoryId>>,
}

/// The board, held by this command until dropped, or by a run.
pub(super) struct Claim {
    /// The name under which this command works.
    pub(super) run: RunId,
    /// Who has the board, if not this command.
    pub(super) holder: Option<Holder>,
    /// What the user wants to run before a worktree goes.
    pub(super) hook: RemovalHook,
    _lock: Option<RunLock>,
}

/// What is going to happen to worktrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are only looked at.
    Look,
    /// They are changed.
    Change,
}

impl Claim {
    /// Takes the board, as a run does: what earlier runs have left running is ended, because nothing must work in a
    /// worktree that is removed. When a run has the board, it keeps it. `command` is what this one is called.
    pub(super) fn take(
        scene: &Scene,
        command: &'static str,
        purpose: Purpose,
    ) -> Result<Self, CliError> {
        let project = &scene.project;
        let (run, _) = new_run_id()?;
        let hook = removal_hook(project, &scene.repository, &run);
        let patience = Housekeeping::default().lock;
        let occupation = Occupation::Command(command);
        let mut lock = match acquire(project, &run, occupation, patience)? {
            Ok(lock) => lock,
            Err(holder) => {
                return Ok(Self {
                    run,
                    holder: Some(holder),
                    hook,
                    _lock: None,
                });
            }
        };
        if let Some(process) = unlocked_run(&project.runs(), &project.board, patience) {
            lock.hand_on();
            return Err(CliError::new(format!(
                "a run works on this board: process {process}, whose lock file was removed"
            ))
            .hint("wait for its end, or stop it with Ctrl-C")
            .exit(LOCKED));
        }
        match purpose {
            Purpose::Look => lock.hand_on(),
            Purpose::Change => end_leftovers(project, &run, &mut lock)?,
        }
        Ok(Self {
            run,
            holder: None,
            hook,
            _lock: Some(lock),
        })
    }

    /// Sees whether the run that had the board has made way for another one.
    pub(super) fn refresh(&mut self, project: &Project) {
        if self.holder.is_some()
            && let Some(holder) = Holder::look(project)
        {
            self.holder = Some(holder);
        }
    }
}

/// The lock of the board, or who has it. A command such as this one has it only for a while, and is waited for.
fn acquire(
    project: &Project,
    run: &RunId,
    occupation: Occupation,
    patience: Duration,
) -> Result<Result<RunLock, Holder>, CliError> {
    let once = |patience| match RunLock::acquire(&project.board, run, occupation, patience) {
        Ok(lock) => Ok(Ok(lock)),
        Err(RunLockError::Held { holder }) => Ok(Err(Holder::of(project, holder))),
        Err(error) => Err(CliError::from(error)),
    };
    match once(patience)? {
        // A run says with its journal what it works on.
        Err(holder) if holder.planned.is_none() => once(PATIENCE),
        result => Ok(result),
    }
}

impl Holder {
    /// Who works on the board, when somebody does. Changes nothing.
    pub(super) fn look(project: &Project) -> Option<Self> {
        RunLock::holder(&project.board).map(|who| Self::of(project, who))
    }

    fn of(project: &Project, who: LockHolder) -> Self {
        let planned = who.run().and_then(|run| {
            let journal = project.runs().join(run.as_str()).join(JOURNAL);
            match Reader::<JournalRecord>::open(&journal)
                .ok()?
                .next()?
                .ok()?
                .record
            {
                Record::Opened(opening) => {
                    let planned = opening.plan.into_iter();
                    Some(planned.map(|planned| planned.id).collect())
                }
                Record::Event(_) | Record::Noted(_) | Record::Closed(_) => None,
            }
        });
        Self { who, planned }
    }

    /// Who it is.
    pub(super) fn who(&self) -> &LockHolder {
        &self.who
    }

    /// What a person can do about it.
    pub(super) fn hint(&self) -> &'static str {
        if self.who.is_a_run() {
            "wait for the run, or stop it with Ctrl-C where it runs"
        } else {
            WAIT_FOR_COMMAND
        }
    }

    /// What it does in the worktree of a story with this status, in words.
    pub(super) fn at_work(&self, status: Option<Status>) -> String {
        let who = &self.who;
        match status {
            _ if !who.is_a_run() => format!("{who} may change it at any moment"),
            Some(Status::InProgress) => format!("{who} works in it"),
            _ => format!("{who} may work in it at any moment"),
        }
    }

    /// Whether the run works on the story whose worktree has this name, or may begin at any moment: it is ready, or the
    /// run began with it and it is not done. What is not known counts as yes, and so does another command.
    pub(super) fn may_work_on(&self, worktree: &str, status: Option<Status>) -> bool {
        let Some(planned) = &self.planned else {
            return true;
        };
        match status {
            Some(Status::Ready | Status::InProgress) => true,
            Some(Status::Done) => false,
            Some(Status::Backlog | Status::Blocked) | None => {
                planned.iter().any(|id| is_name_of(worktree, id))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StoryId {
        text.parse().unwrap()
    }

    #[test]
    fn a_run_has_what_it_began_with_and_what_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::new("20261122-120000", 1).unwrap();
        let patience = Duration::from_secs(5);
        let _lock = RunLock::acquire(folder.path(), &run, Occupation::Run, patience).unwrap();
        let mut holder = Holder {
            who: RunLock::holder(folder.path()).unwrap(),
            planned: Some([id("S-0001")].into()),
        };
        assert!(holder.may_work_on("S-0001-a", Some(Status::Blocked)));
        assert!(holder.may_work_on("S-0001-a", None));
        assert!(!holder.may_work_on("S-0001-a", Some(Status::Done)));
        assert!(holder.may_work_on("S-0002-b", Some(Status::Ready)));
        assert!(holder.may_work_on("S-0002-b", Some(Status::InProgress)));
        assert!(!holder.may_work_on("S-0002-b", Some(Status::Blocked)));
        assert!(!holder.may_work_on("S-0002-b", None));
        holder.planned = None;
        assert!(holder.may_work_on("S-0002-b", Some(Status::Done)));
    }
}
