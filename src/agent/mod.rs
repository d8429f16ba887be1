//! Agents: the programs that executors drive, one module each.
//!
//! An adapter says how its agent is started for a task, understands what it tells, and what its exit codes stand for.
//! It starts nothing itself: processes belong to the executor. No other module knows the name of an agent.
//!
//! What an adapter understands becomes [`StreamEvent`]s, which are the same for all agents; [`Turn`] keeps what follows
//! from them, and says what the end of a turn means. All of it is pure, and tested with recorded streams
//! (`recordings/`).

mod acp;
mod answer;
mod claude;
mod codex;
mod command;
mod conclusion;
mod environment;
mod event;
mod gemini;
mod json;
mod messages;
mod mock;
mod opencode;
mod place;
mod prompt;
mod qwen;
#[cfg(test)]
mod recordings;
mod script;
mod tally;
mod turn;

pub use conclusion::Conclusion;
pub use environment::Environment;
pub use event::{Reset, StreamEvent, Trouble, TroubleKind, Usage};
pub use place::Place;
pub use prompt::{Brief, Earlier};
pub use turn::{ExitCodes, Heard, Turn};

use std::ffi::OsString;
use std::path::PathBuf;

use thiserror::Error;

use crate::process::SessionExit;

/// What an agent is asked to do in one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The whole story file.
    pub story_text: String,
    /// What to tell the agent.
    pub prompt: String,
    /// The conversation in which it is told.
    pub conversation: Conversation,
    /// The folder in which it works.
    pub folder: PathBuf,
    /// How it is set up.
    pub setup: Setup,
}

/// The conversation of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conversation {
    /// A new one. Agents that can be told its name are told this one, a UUID.
    New(String),
    /// The one of that name goes on.
    Resumed(String),
}

/// How an agent is set up, as the user wants it: what is not set is the agent's own default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setup {
    /// The program and its first arguments, instead of the agent's usual one.
    pub command: Vec<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The model.
    pub model: Option<String>,
    /// What the agent may do without asking.
    pub permissions: Permissions,
    /// The most requests to the model in one turn.
    pub most_requests: Option<u32>,
    /// The most that one turn may cost, in millionths of a US dollar.
    pub most_cost_micros_usd: Option<u64>,
}

/// What an agent may do without asking. Nobody answers questions while a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permissions {
    /// Everything: the agent's own checks are bypassed.
    #[default]
    Bypass,
    /// What the agent's own configuration allows; what it does not allow ends the story as blocked.
    Configured,
}

/// How to have a task done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approach {
    /// By running a program.
    Run(Invocation),
    /// There is nothing to run: this is the agent's answer.
    Answer(String),
}

/// What stands for the path of a file with the prompt in an argument.
pub const PROMPT_FILE: &str = "{prompt_file}";

/// The longest argument of a program, in bytes: Linux takes 128 KiB for one (`MAX_ARG_STRLEN`), its end included.
const LONGEST_ARGUMENT: usize = 128 * 1024 - 1;

/// A program to run in the worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program, looked up on the `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables that are set for it.
    pub variables: Vec<(&'static str, String)>,
    /// What it reads from its standard input.
    pub input: Input,
    /// What is in the file that [`PROMPT_FILE`] stands for in its arguments.
    pub prompt_file: Option<String>,
    /// One line on what is going on, for the person who watches.
    pub activity: String,
}

/// What a program reads from its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// This text, which then ends.
    Text(String),
    /// What its [`StreamReader`] says, for as long as that has something to say.
    Dialogue,
}

impl Invocation {
    /// The program of an agent with its arguments, or the one that the user wants instead, and the further arguments
    /// that the user wants.
    fn of(
        program: &str,
        setup: &Setup,
        arguments: Vec<String>,
        variables: Vec<(&'static str, String)>,
        input: String,
    ) -> Self {
        let mut command = setup.command.iter().cloned();
        let program = command.next().unwrap_or_else(|| program.to_owned());
        let model = setup.model.as_deref().unwrap_or("its usual model");
        let activity = format!("{program}, {model}");
        let arguments = command.chain(arguments).chain(setup.arguments.clone());
        Self {
            program: program.into(),
            arguments: arguments.map(OsString::from).collect(),
            variables,
            input: Input::Text(input),
            prompt_file: None,
            activity,
        }
    }
}

/// What is in an agent's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Lines for people, which go into the attempt's log.
    Log,
    /// Events, a line each, that [`StreamReader::read`] understands.
    Stream,
}

/// How an agent is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// By SIGTERM.
    Terminate,
    /// By SIGINT, after which it still tells what it has used; then by SIGTERM.
    InterruptFirst,
    /// By what its [`StreamReader`] says to it, after which it still tells what it has used; then by SIGTERM.
    Say,
}

/// What can be relied on with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Who serves it, in general: what a quota belongs to. None when that depends on how it is set up.
    pub provider: Option<&'static str>,
    /// Whether a conversation can go on in a later turn.
    pub resumes: bool,
    /// Whether a success needs a change, or the agent's word that there is nothing to change.
    pub must_change_something: bool,
    /// What is in its output.
    pub output: Output,
    /// How it is asked to end.
    pub ask: Ask,
    /// The variables that it needs besides those that every agent gets: its keys and places. `*` at the end stands for
    /// any rest.
    pub environment: &'static [&'static str],
    /// Whether it works inside of the fence around its writes. One that runs what the user wrote does not.
    pub fenced: bool,
    /// Where it keeps its own things: its settings, its conversations, its logs.
    pub state: &'static [Place],
    /// Whether it can be told the most requests to its model in one turn ([`Setup::most_requests`]).
    pub limits_requests: bool,
    /// What it tells of what it uses, besides its tokens.
    pub tells: Tells,
}

/// What an agent tells of what it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tells {
    /// Each request to its model, while a turn goes on. Of others only the end of a turn tells how many there were, if
    /// anything does.
    pub requests: bool,
    /// What it costs. One that is any program may tell it.
    pub cost: bool,
    /// Which model answers.
    pub model: bool,
}

impl Tells {
    /// One that uses nothing: all that there is to tell is known.
    const ALL: Self = Self {
        requests: true,
        cost: true,
        model: true,
    };

    /// One that tells no more than its tokens.
    const TOKENS_ALONE: Self = Self {
        requests: false,
        cost: false,
        model: false,
    };
}

/// Why a task cannot be given to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError {
    /// The script agent found nothing to run.
    #[error("the story has no fenced block marked `sh` for the script agent to run")]
    NoScript,
    /// The prompt does not fit into an argument.
    #[error(
        "the prompt has {length} bytes; at most {limit} fit into an argument (`{PROMPT_FILE}` gives it in a file)"
    )]
    PromptTooLong {
        /// Its length in bytes.
        length: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// Nobody said which program it is.
    #[error("the agent has no program: its `command` in the configuration says which")]
    NoCommand,
    /// The script does not fit into an argument.
    #[error("the story's script has {length} bytes; at most {limit} can be run")]
    ScriptTooLong {
        /// Its length in bytes.
        length: usize,
        /// The most that is accepted.
        limit: usize,
    },
}

/// Understands what an agent writes, line by line. Unknown lines and unknown fields mean nothing: every agent adds some
/// with every version.
pub trait StreamReader: Send {
    /// What a line tells. A line that was too long is given by its beginning.
    fn read(&mut self, line: &[u8]) -> Vec<StreamEvent>;

    /// What shows that the agent has a tool running.
    fn tools(&self) -> Tools {
        Tools::Unseen
    }

    /// What a line on its standard error tells, where other lines may be as well.
    fn read_error_line(&mut self, _line: &[u8]) -> Vec<StreamEvent> {
        Vec::new()
    }

    /// Takes what is to be written to the agent's standard input, where that is a dialogue: at its beginning, and after
    /// everything that was read.
    fn say(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// The turn is to end: what there is to say for that is said next.
    fn interrupt(&mut self) {}

    /// What the agent has to answer before it can be told what to do; nothing once it was told.
    fn prepares(&self) -> Option<&'static str> {
        None
    }

    /// Whether there is nothing more to say, so that the agent's standard input can end.
    fn is_over(&self) -> bool {
        true
    }
}

/// What shows that an agent has a tool running. One that has none waits for its model, whatever else it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tools {
    /// Nothing does.
    Unseen,
    /// It tells when one begins.
    Told,
    /// Those that take long are processes of their own.
    Processes,
}

/// A reader of output that tells nothing.
struct Mute;

impl StreamReader for Mute {
    fn read(&mut self, _line: &[u8]) -> Vec<StreamEvent> {
        Vec::new()
    }
}

/// One kind of agent.
pub trait Agent: Send + Sync {
    /// What can be relied on.
    fn capabilities(&self) -> Capabilities;

    /// The program that has to be there.
    fn program(&self) -> Program;

    /// How to have the task done.
    ///
    /// # Errors
    /// When the task is nothing that this agent can do.
    fn approach(&self, task: &Task) -> Result<Approach, TaskError>;

    /// Understands the output of one turn, in which that is done.
    fn reader(&self, _task: &Task) -> Box<dyn StreamReader> {
        Box::new(Mute)
    }

    /// What the end of a turn means, given the last of what it wrote to its standard error.
    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion;
}

/// The program that an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// None, or one that is everywhere.
    None,
    /// One of this name on the `PATH`, unless the configuration names another one.
    Named {
        /// The name.
        name: &'static str,
        /// How people get it.
        install: &'static str,
    },
    /// The one that the configuration names.
    Configured,
}

/// The agents that this version can drive, in the order in which they are listed.
pub const NAMES: &[&str] = &[
    "claude",
    "codex",
    "gemini",
    "opencode",
    "qwen",
    "acp",
    "acp:claude",
    "acp:codex",
    "acp:gemini",
    "acp:opencode",
    "acp:qwen",
    "command",
    "script",
    "mock",
    "dry-run",
];

/// The agent of a demonstration: it needs no model, no key and no network.
pub const EMBEDDED: &str = "script";

/// The agent of a story when nobody said anything else.
pub const DEFAULT: &str = "claude";

/// The agent of that name.
pub fn find(name: &str) -> Option<&'static dyn Agent> {
    match name {
        "claude" => Some(&claude::Claude),
        "codex" => Some(&codex::Codex),
        "gemini" => Some(&gemini::Gemini),
        "opencode" => Some(&opencode::OpenCode),
        "qwen" => Some(&qwen::Qwen),
        "command" => Some(&command::Command),
        "script" => Some(&script::Script),
        "mock" => Some(&mock::Mock::SaysTheSame),
        "dry-run" => Some(&mock::Mock::SaysThePrompt),
        name => acp::find(name),
    }
}

/// The name among these that was probably meant: the nearest one, if it is near.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&name, known), known))
        .filter(|(distance, known)| *distance <= 2.min(known.len() / 2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
