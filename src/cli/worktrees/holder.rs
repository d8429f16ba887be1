//! Who has the board: this command, so that no run can begin meanwhile, or a run, whose stories are its own.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cli::error::{CliError, LOCKED};
use crate::cli::reap::end_leftovers;
use crate::cli::run::new_run_id;
use crate::config::Project;
use crate::engine::{Housekeeping, Record, RunId};
use crate::git::is_name_of;
use crate::journal::Reader;
use crate::orchestrator::{JOURNAL, JournalRecord, RunLock, RunLockError, unlocked_run};
use crate::story::{Status, StoryId};

/// How long another command that changes worktrees is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run that works on the board.
#[derive(Debug)]
pub(super) struct Holder {
    /// What it says of itself.
    name: String,
    /// The stories that it began with; none when that is not known.
    planned: Option<BTreeSet<StoryId>>,
}

/// The board, held by this command until dropped, or by a run.
pub(super) struct Claim {
    /// The name under which this command works.
    pub(super) run: RunId,
    /// The run that has the board.
    pub(super) holder: Option<Holder>,
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
    /// worktree that is removed. When a run has the board, it keeps it.
    pub(super) fn take(project: &Project, purpose: Purpose) -> Result<Self, CliError> {
        let (run, _) = new_run_id()?;
        let patience = Housekeeping::default().lock;
        let mut lock = match acquire(project, &run, patience)? {
            Ok(lock) => lock,
            Err(holder) => {
                return Ok(Self {
                    run,
                    holder: Some(holder),
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
            Purpose::Change => {
                if let Err(error) = end_leftovers(project, &run, lock.predecessor()) {
                    lock.hand_on();
                    return Err(error);
                }
            }
        }
        Ok(Self {
            run,
            holder: None,
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

/// The lock of the board, or the run that has it. A command such as this one has it only for a while, and is waited for.
fn acquire(
    project: &Project,
    run: &RunId,
    patience: Duration,
) -> Result<Result<RunLock, Holder>, CliError> {
    let once = |patience| match RunLock::acquire(&project.board, run, patience) {
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
    /// The run that works on the board, when there is one. Changes nothing.
    pub(super) fn look(project: &Project) -> Option<Self> {
        RunLock::holder(&project.board).map(|name| Self::of(project, name))
    }

    /// `name` is what the run says of itself: `run <id>, process <number>`.
    fn of(project: &Project, name: String) -> Self {
        let run = name.split([' ', ',']).find_map(|word| word.parse().ok());
        let planned = run.and_then(|run: RunId| {
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
        Self { name, planned }
    }

    /// What the run says of itself.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the run works on the story whose worktree has this name, or may begin at any moment: it is ready, or the
    /// run began with it and it is not done. What is not known counts as yes.
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
        let mut holder = Holder {
            name: String::new(),
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
