//! `ai-sdlc` works through a repository's backlog with many coding agents at once.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::await_holding_lock))]

use std::process::ExitCode;

pub mod agent;
pub mod config;
pub mod engine;
pub mod git;
pub mod process;
pub mod protocol;
pub mod report;
pub mod story;

/// The whole program.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
