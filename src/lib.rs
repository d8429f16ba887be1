//! `ai-sdlc` works through a repository's backlog with many coding agents at once.
//!
//! `ai-sdlc run --concurrent N` runs N stories (markdown files) at a time. Each story is a child process, the same
//! binary re-executed, in its own git worktree on its own branch, which drives one agent and is supervised over a
//! typed binary protocol. This library is the whole program; `main.rs` only calls it.
//!
//! From the outside in:
//!
//! - [`cli`]: the commands
//! - [`orchestrator`]: the parent: turns the world into events and performs effects
//! - [`setup`]: what a worktree needs besides its files: copies of ignored files, dependencies, hooks, ports
//! - [`executor`]: the child: owns one agent, commits what it did
//! - [`launcher`]: how executors are started and ended
//! - [`protocol`]: what the two say to each other
//! - [`agent`]: the programs that do the work
//! - [`git`]: worktrees, commits, and what can be read from a repository
//! - [`story`]: the board
//! - [`report`]: everything that is printed
//! - [`watch`]: tells that the board may have changed
//! - [`journal`]: a file of records that is only appended to
//! - [`config`], [`process`], [`disk`], [`diagnostics`]: configuration, processes, disk space, diagnostic messages
//! - [`engine`]: every decision, as a pure state machine
//!
//! Dependencies point down this list, never up; `tests/architecture` holds that. `docs/architecture.md` is the map
//! with the reasons.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::await_holding_lock))]

use std::process::ExitCode;

pub mod agent;
pub mod cli;
pub mod config;
pub mod diagnostics;
pub mod disk;
pub mod engine;
pub mod executor;
pub mod git;
pub mod journal;
pub mod launcher;
pub mod orchestrator;
pub mod process;
pub mod protocol;
pub mod report;
pub mod setup;
pub mod story;
pub mod watch;

/// The whole program: runs it with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // An executor starts once for every story: it does without the command line parser.
    if let [_, command, story] = arguments.as_slice()
        && command == "agent-exec"
        && let Some(story) = story.to_str()
    {
        return executor::main(story);
    }
    if let Some(code) = setup::main(&arguments) {
        return code;
    }
    cli::main(arguments)
}
