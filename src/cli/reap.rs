//! `ai-sdlc reap`: ends what runs that were killed have left running; every run does it before anything else.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::args::ReapArgs;
use super::error::{CliError, SOME_DID_NOT, SUCCESS};
use super::run::new_run_id;
use super::{find_project, working_directory};
use crate::config::Project;
use crate::engine::{Housekeeping, RunId};
use crate::orchestrator::{EarlierRuns, Occupation, RunLock};
use crate::process::{Leftover, can_see_processes};
use crate::report::{self, plural};

pub(super) fn run(args: &ReapArgs) -> Result<ExitCode, CliError> {
    let project = find_project(&working_directory()?)?;
    let (run, _) = new_run_id()?;
    // Of a run that is alive nothing is left over: the lock tells them apart.
    let (occupation, patience) = (Occupation::Command("reap"), Housekeeping::default().lock);
    let mut lock = RunLock::acquire(&project.board, &run, occupation, patience)?;
    let earlier = earlier_runs(&project, &run, &lock).looking_closely();
    check_sight()?;
    check_runs(&project.runs())?;
    if args.dry_run {
        lock.hand_on();
        let left = earlier.leftovers(&Housekeeping::default());
        show(&left);
        report::note("Found", &count(&left));
        return Ok(ExitCode::from(SUCCESS));
    }
    let reaped = earlier.end_leftovers(&Housekeeping::default());
    show(&reaped.ended);
    report::note("Ended", &count(&reaped.ended));
    if reaped.stayed.is_empty() {
        return Ok(ExitCode::from(SUCCESS));
    }
    lock.hand_on();
    report::warning(&format!("cannot be ended: {}", names(&reaped.stayed)));
    Ok(ExitCode::from(SOME_DID_NOT))
}

/// Ends what earlier runs of the board, and whoever held its lock before, have left running, and says so. What stays
/// is left to the next holder.
///
/// # Errors
/// When something of it cannot be ended: two attempts must never work in one place.
pub(super) fn end_leftovers(
    project: &Project,
    run: &RunId,
    lock: &mut RunLock,
) -> Result<(), CliError> {
    let earlier = earlier_runs(project, run, lock);
    let reaped = earlier.end_leftovers(&Housekeeping::default());
    if !reaped.ended.is_empty() {
        let (count, names) = (count(&reaped.ended), names(&reaped.ended));
        report::warning(&format!("ended {count}: {names}"));
    }
    if reaped.stayed.is_empty() {
        lock.has_ended_leftovers();
        return Ok(());
    }
    lock.hand_on();
    let (count, names) = (count(&reaped.stayed), names(&reaped.stayed));
    Err(CliError::new(format!("{count} cannot be ended: {names}"))
        .hint("end them by hand; `ai-sdlc reap --dry-run` lists what is left"))
}

/// Which runs there were is known by their folders.
fn check_runs(runs: &Path) -> Result<(), CliError> {
    match std::fs::read_dir(runs) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CliError::new(format!(
            "cannot read {}: {error}",
            runs.display()
        ))
        .hint("what earlier runs have left running is found only with it")),
        _ => Ok(()),
    }
}

fn check_sight() -> Result<(), CliError> {
    if can_see_processes() {
        return Ok(());
    }
    Err(
        CliError::new("processes cannot be seen: /proc is not there")
            .hint("what earlier runs have left running is found only with it"),
    )
}

fn earlier_runs(project: &Project, run: &RunId, lock: &RunLock) -> EarlierRuns {
    let last = lock.predecessor().clone();
    EarlierRuns::of(&project.runs(), &project.worktree_base(), run, last)
        .keeping(&project.config.kept_processes)
}

fn count(left: &[Leftover]) -> String {
    if left.is_empty() {
        return "nothing that an earlier run had left running".to_owned();
    }
    let processes = plural(left.len(), "process", "processes");
    format!("{processes} that an earlier run had left running")
}

fn names(left: &[Leftover]) -> String {
    let names: Vec<String> = left.iter().map(|left| left.found.to_string()).collect();
    names.join(", ")
}

/// One line for each: its number, its name, its story and its run, where they are known.
fn show(left: &[Leftover]) {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for left in left {
        let (story, run) = (known(&left.story), known(&left.run));
        let (pid, name) = (left.found.pid, &left.found.name);
        report::data(&format!("{pid}\t{name}\t{story}\t{run}\n"));
    }
}
