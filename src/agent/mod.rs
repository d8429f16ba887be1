//! Agents: the programs that executors drive, one module each.
//!
//! An adapter says how its agent is started for a task and what its end means. It starts nothing itself: processes
//! belong to the executor. No other module knows the name of an agent.

mod environment;
mod mock;
mod script;

pub use environment::Environment;

use std::ffi::OsString;

use thiserror::Error;

use crate::process::SessionExit;

/// What an agent is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The whole story file.
    pub story_text: String,
}

/// How to have a task done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approach {
    /// By running a program.
    Run(Invocation),
    /// There is nothing to run: this is the agent's answer.
    Answer(String),
}

/// A program to run in the worktree, with nothing on its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program, looked up on the `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// One line on what is going on, for the person who watches.
    pub activity: String,
}

/// What the end of an agent's program means for the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// The agent is done, and the worktree holds its work.
    Finished,
    /// The agent says no.
    Failed(String),
    /// The agent ended by a fault.
    Crashed(String),
}

/// Why a task cannot be given to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError {
    /// The script agent found nothing to run.
    #[error("the story has no fenced block marked `sh` for the script agent to run")]
    NoScript,
    /// The script does not fit into an argument.
    #[error("the story's script has {length} bytes; at most {limit} can be run")]
    ScriptTooLong {
        /// Its length in bytes.
        length: usize,
        /// The most that is accepted.
        limit: usize,
    },
}

/// One kind of agent.
pub trait Agent: Send + Sync {
    /// How to have the task done.
    ///
    /// # Errors
    /// When the task is nothing that this agent can do.
    fn approach(&self, task: &Task) -> Result<Approach, TaskError>;

    /// What the end of the program means.
    fn conclude(&self, exit: SessionExit) -> Conclusion;
}

/// The agents that this version can drive, in the order in which they are listed.
pub const NAMES: &[&str] = &["script", "mock"];

/// The agent of a demonstration: it needs no model, no key and no network.
pub const EMBEDDED: &str = "script";

/// The agent of a story when nobody said anything else.
pub const DEFAULT: &str = "claude";

/// The agent of that name.
pub fn find(name: &str) -> Option<&'static dyn Agent> {
    match name {
        "script" => Some(&script::Script),
        "mock" => Some(&mock::Mock),
        _ => None,
    }
}
