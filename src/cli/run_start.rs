//! How a run begins: it takes the board, brings it to what the last run has done, and finds out which run goes on.

use super::args::RunArgs;
use super::error::{CliError, LOCKED};
use super::last_run::{Continuation, LastRun};
use super::old_checkpoints;
use super::reap::end_leftovers;
use super::run_idle::Waiting;
use crate::config::Project;
use crate::engine::{Housekeeping, RunId};
use crate::git::Repository;
use crate::orchestrator::{Occupation, RunLock, RunLockError, unlocked_run};
use crate::report;
use crate::story::{Board, Store};

/// A run that knows its board.
pub(super) struct Start {
    /// The run: a new one, or the one that goes on.
    pub(super) run: RunId,
    pub(super) store: Store,
    pub(super) board: Board,
    /// How earlier runs are gone on with, when that is asked for.
    pub(super) continuation: Option<Continuation>,
    /// The stories that it does not take by itself.
    pub(super) waiting: Waiting,
    /// Whether it was told that the last run was killed.
    pub(super) told_of_killed: bool,
}

/// Takes the board for a run, when nothing of another one is alive any more.
pub(super) fn take_board(project: &Project, run: &RunId) -> Result<RunLock, CliError> {
    let patience = Housekeeping::default().lock;
    let mut lock = RunLock::acquire(&project.board, run, Occupation::Run, patience)?;
    if let Some(process) = unlocked_run(&project.runs(), &project.board, patience) {
        lock.hand_on();
        return Err(CliError::new(format!(
            "another run works on this board: process {process}, whose lock file was removed"
        ))
        .hint("wait for its end, or stop it with Ctrl-C")
        .exit(LOCKED));
    }
    end_leftovers(project, run, &mut lock)?;
    Ok(lock)
}

impl Start {
    /// Reads the board, and what the last run has left. Unless it is a dry run, `new_run` has the board.
    pub(super) fn new(
        new_run: RunId,
        project: &Project,
        repository: &Repository,
        args: &RunArgs,
    ) -> Result<Self, CliError> {
        let store = Store::new(&project.board);
        let mut board = store.load()?;
        if args.speaks() {
            old_checkpoints::tell(&project.board);
        }
        // Who only asks takes no lock, so that a run may be going on.
        let holder = args
            .dry_run
            .then(|| RunLock::holder(&project.board))
            .flatten();
        let works_alone = holder.is_none();
        let last = match holder {
            None => LastRun::of(project),
            Some(holder) if args.continues => return Err(RunLockError::Held { holder }.into()),
            Some(holder) => {
                if args.speaks() {
                    report::warning(&holder.works());
                }
                LastRun::None
            }
        };
        // The same run writes by itself what it owes.
        let repairs_itself = args.continues && last.goes_on();
        if !args.dry_run && !repairs_itself {
            last.repair(&store, &board, repository);
            board = store.load()?;
        }
        let told_of_killed = !args.continues && args.speaks() && last.tell();
        let continuation = args.continues.then(|| last.into_continuation(&board));
        let mut waiting = Waiting::of(&board);
        if !works_alone {
            waiting.interrupted.clear();
        }
        Ok(Self {
            run: match &continuation {
                Some(Continuation::SameRun(past)) => past.opening.run.clone(),
                _ => new_run,
            },
            store,
            board,
            continuation,
            waiting,
            told_of_killed,
        })
    }

    /// Whether it was to go on with something, and there is nothing.
    pub(super) fn has_no_sequel(&self) -> bool {
        matches!(self.continuation, Some(Continuation::Nothing))
    }
}
