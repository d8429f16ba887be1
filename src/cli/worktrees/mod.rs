//! `ai-sdlc worktrees`: shows the worktrees of stories, makes one, and removes those that nobody needs.
//!
//! Parts: [`scene`] (what there is), [`holder`] (who works on it), [`clear`] (what may go), [`interruption`] (what a signal
//! does), [`list`], [`add`], [`remove`], [`prune`].

mod add;
mod clear;
mod holder;
mod interruption;
mod list;
mod prune;
mod remove;
mod scene;

use std::process::ExitCode;

use super::args::{WorktreesArgs, WorktreesCommand};
use super::error::CliError;
use super::run::{GIT_ENDING, WIND_UP};
use super::run_request::place;
use crate::config::Project;
use crate::engine::RunId;
use crate::git::{Git, Repository, Worktrees};
use crate::orchestrator::{Ledger, Room};
use crate::process;
use crate::setup::RemovalHook;

/// Where the predecessor made the worktrees of `run --concurrent` by accident, below the folder of the board.
pub(super) const ACCIDENTAL: &str = ".ai-sdlc/worktrees";

pub(super) fn worktrees(args: WorktreesArgs) -> Result<ExitCode, CliError> {
    change(args.command.unwrap_or(WorktreesCommand::List(args.list)))
}

/// Does what a subcommand asks for.
pub(super) fn change(command: WorktreesCommand) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no runtime: {error}")))?;
    let done = runtime.block_on(async {
        // What a hook leaves running whose keeper was killed is found here, and ended.
        match process::adopt_orphans() {
            Ok(()) => drop(tokio::spawn(process::reap_orphans())),
            Err(error) => tracing::warn!(%error, "what a killed hook leaves will not be found"),
        }
        match command {
            WorktreesCommand::List(args) => list::list(&args).await,
            WorktreesCommand::Add(args) => add::add(&args).await,
            WorktreesCommand::Remove(args) => remove::remove(&args).await,
            WorktreesCommand::Prune(args) => prune::prune(&args).await,
        }
    });
    runtime.shutdown_timeout(WIND_UP);
    crate::git::wait_for_ending(GIT_ENDING);
    done
}

/// Where the worktrees of a project are: in its configured folder, and where the predecessor made some by accident.
fn homes(
    project: &Project,
    repository: &Repository,
    git: &Git,
) -> Result<Vec<Worktrees>, CliError> {
    let base = project.worktree_base();
    let home = Worktrees::new(repository.clone(), git.clone(), &base)
        .map_err(|error| CliError::from_error(&error))?;
    let other = accidental(project, &home)?;
    Ok([home].into_iter().chain(other).collect())
}

/// The place of the predecessor's accidental worktrees, when there is one.
fn accidental(project: &Project, home: &Worktrees) -> Result<Option<Worktrees>, CliError> {
    let folder = project.board.join(ACCIDENTAL);
    if !folder.is_dir() {
        return Ok(None);
    }
    let other = home
        .beside(&folder)
        .map_err(|error| CliError::from_error(&error))?;
    Ok((other.base() != home.base()).then_some(other))
}

/// What the user wants to run before a worktree of the project is removed. `run` is the name under which it happens.
fn removal_hook(project: &Project, repository: &Repository, run: &RunId) -> RemovalHook {
    let config = &project.config;
    let place = place(project, repository);
    RemovalHook::new(
        &config.setup.hooks,
        place,
        run.clone(),
        &config.kept_processes,
    )
}

/// The disk space of a run's worktrees.
pub(super) fn room(
    project: &Project,
    worktrees: &Worktrees,
    run: &RunId,
) -> Result<Room, CliError> {
    let other = match project.config.max_disk {
        Some(_) => accidental(project, worktrees)?,
        // Nobody asks what they take.
        None => None,
    };
    let homes = [worktrees.clone()].into_iter().chain(other).collect();
    Ok(Room {
        min_free: project.config.min_free,
        max_disk: project.config.max_disk,
        homes,
        hook: removal_hook(project, worktrees.repository(), run),
        ledger: Ledger::default(),
    })
}
