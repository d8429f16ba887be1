//! The commands: one file each. They read the command line, the configuration and the board, call the rest, and turn
//! how it went into an exit code.

mod add;
mod agents;
mod args;
mod demo;
mod dry_run;
mod error;
mod init;
mod last_run;
mod old_checkpoints;
mod reap;
mod recover;
mod replay;
mod run;
mod run_fence;
mod run_idle;
mod run_intent;
mod run_plan;
mod run_request;
mod run_settings;
mod run_shortfalls;
mod run_start;
mod runs;
mod status;
mod worktrees;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::config::Project;
use crate::config::project::ROOT_VARIABLE;
use crate::git::{Repository, WorkTree};
use args::{Cli, Command, WorktreesCommand};
use error::CliError;

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let done = match cli.command {
        Command::Init => init::init(),
        Command::Add(args) => add::add(&args),
        Command::Status(args) => status::status(&args),
        Command::Run(args) => run::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Reap(args) => reap::run(&args),
        Command::Worktrees(args) => worktrees::worktrees(args),
        Command::WorktreesAdd(args) => worktrees::change(WorktreesCommand::Add(args)),
        Command::WorktreesRemove(args) => worktrees::change(WorktreesCommand::Remove(args)),
        Command::WorktreesPrune(args) => worktrees::change(WorktreesCommand::Prune(args)),
        Command::Recover(args) => recover::recover(&args),
        Command::Demo => demo::demo(),
        Command::AgentExec { story } => return crate::executor::main(&story),
    };
    done.unwrap_or_else(|error| error.report())
}

/// Help and version go to standard output and are what was asked for; everything else is a usage error.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            crate::report::data(&error.render().to_string());
            ExitCode::from(error::SUCCESS)
        }
        _ => {
            crate::report::people(&error.render().to_string());
            ExitCode::from(error::USAGE)
        }
    }
}

/// The project that a folder is in. The worktree of a story is none: its board is a copy that nobody keeps up to date,
/// and what is written there is never committed.
fn find_project(here: &Path) -> Result<Project, CliError> {
    // Whoever names a board means that one, wherever it is said.
    if std::env::var_os(ROOT_VARIABLE).is_none() {
        refuse_story_worktree(here)?;
    }
    Ok(Project::find(here)?)
}

fn refuse_story_worktree(here: &Path) -> Result<(), CliError> {
    match Repository::discover(here) {
        Ok(repository) if repository.work_tree() == WorkTree::Story => {
            let root = repository.root().display();
            let message = format!("{root} is the worktree of a story, and its board only a copy");
            Err(CliError::new(message).hint("run it in the main checkout"))
        }
        // What else is wrong with the repository is the command's business: a board can be looked at without one.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn working_directory() -> Result<PathBuf, CliError> {
    std::env::current_dir()
        .map_err(|error| CliError::new(format!("the current directory cannot be used: {error}")))
}
