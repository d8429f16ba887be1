//! Agents that speak the Agent Client Protocol (version 1) on their standard input and output. Pure.
//!
//! `acp` is any of them, by its command; `acp:<name>` is one whose command is known, or one that the configuration
//! describes. Keys, places and the provider of a known one are those of the adapter of its command line. What is
//! particular to one is in [`Acp`] and in `updates`; all else is the protocol. Its types do not leave this folder.
//!
//! Less is told of failures than by the streams of the command lines (`docs/agents.md`): an agent that tries a request
//! again is silent, but for Codex, so that the watches over quiet agents are what finds a provider that never answers.

mod offer;
mod questions;
mod session;
#[cfg(test)]
mod tests;
mod trouble;
mod updates;
mod wire;
mod words;

use super::claude::Claude;
use super::codex::Codex;
use super::gemini::Gemini;
use super::opencode::OpenCode;
use super::qwen::Qwen;
use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Input, Invocation, Output, Permissions,
    Program, StreamEvent, StreamReader, Task, TaskError, Tells, Tools, Turn,
};
use crate::process::SessionExit;
use session::{Habits, Session, Wanted};

/// An agent that speaks the protocol.
struct Acp {
    name: &'static str,
    program: Program,
    /// Its arguments, and those with which it does everything without asking.
    arguments: &'static [&'static str],
    bypass: &'static [&'static str],
    model: ModelBy,
    /// The adapter of its command line, which has the same keys, places and variables.
    command_line: Option<&'static dyn Agent>,
    tells: Tells,
    habits: Habits,
}

/// How the model is chosen.
#[derive(Debug, Clone, Copy)]
enum ModelBy {
    /// In the conversation, where the agent lists its models.
    Conversation,
    /// By this argument, before the name.
    Argument(&'static str),
    /// By this variable.
    Variable(&'static str),
}

/// Any agent, by the command that the configuration names.
const ANY: Acp = Acp {
    name: "acp",
    program: Program::Configured,
    arguments: &[],
    bypass: &[],
    model: ModelBy::Conversation,
    command_line: None,
    tells: Tells {
        requests: false,
        cost: true,
        model: true,
    },
    habits: Habits {
        always_tells_use: false,
    },
};

/// An agent that tells no cost.
const WITHOUT_COST: Tells = Tells {
    cost: false,
    ..ANY.tells
};

/// The agents whose commands are known.
static KNOWN: [Acp; 5] = [
    Acp {
        name: "acp:claude",
        program: Program::Named {
            name: "claude-agent-acp",
            install: "npm install -g @agentclientprotocol/claude-agent-acp",
        },
        model: ModelBy::Variable("ANTHROPIC_MODEL"),
        command_line: Some(&Claude),
        ..ANY
    },
    Acp {
        name: "acp:codex",
        program: Program::Named {
            name: "codex-acp",
            install: "npm install -g @agentclientprotocol/codex-acp",
        },
        command_line: Some(&Codex),
        tells: WITHOUT_COST,
        // A turn that failed ends like a good one, but without what it has used.
        habits: Habits {
            always_tells_use: true,
        },
        ..ANY
    },
    Acp {
        name: "acp:gemini",
        program: Program::Named {
            name: "gemini",
            install: "npm install -g @google/gemini-cli",
        },
        arguments: &["--acp"],
        bypass: &["--skip-trust"],
        model: ModelBy::Argument("-m"),
        command_line: Some(&Gemini),
        tells: WITHOUT_COST,
        ..ANY
    },
    Acp {
        name: "acp:opencode",
        program: Program::Named {
            name: "opencode",
            install: "npm install -g opencode-ai",
        },
        arguments: &["acp"],
        command_line: Some(&OpenCode),
        ..ANY
    },
    Acp {
        name: "acp:qwen",
        program: Program::Named {
            name: "qwen",
            install: "npm install -g @qwen-code/qwen-code",
        },
        arguments: &["--acp"],
        model: ModelBy::Argument("-m"),
        command_line: Some(&Qwen),
        tells: Tells {
            requests: true,
            ..WITHOUT_COST
        },
        ..ANY
    },
];

/// The agent of that name: a known one, or `acp:` and anything, which the configuration has to describe.
pub(super) fn find(name: &str) -> Option<&'static dyn Agent> {
    if let Some(known) = KNOWN.iter().find(|known| known.name == name) {
        return Some(known);
    }
    let rest = name.strip_prefix(ANY.name)?;
    let is_any = rest.is_empty() || (rest.starts_with(':') && rest.len() > 1);
    is_any.then_some(&ANY as &dyn Agent)
}

impl Acp {
    fn wanted(&self, task: &Task) -> Wanted {
        let model = task.setup.model.clone();
        let by_conversation = matches!(self.model, ModelBy::Conversation);
        Wanted::of(task, model.filter(|_| by_conversation), self.habits)
    }

    /// The variables that its command line sets for itself.
    fn variables(&self, task: &Task) -> Vec<(&'static str, String)> {
        match self.command_line.map(|agent| agent.approach(task)) {
            Some(Ok(Approach::Run(invocation))) => invocation.variables,
            _ => Vec::new(),
        }
    }
}

impl Agent for Acp {
    fn capabilities(&self) -> Capabilities {
        let of_command_line = self.command_line.map(Agent::capabilities);
        let own_name = self.name.strip_prefix("acp:");
        let provider = of_command_line.and_then(|agent| agent.provider);
        Capabilities {
            // A command line without a provider of its own is its own provider.
            provider: provider.or(own_name),
            resumes: true,
            must_change_something: true,
            output: Output::Stream,
            ask: Ask::Say,
            environment: of_command_line.map_or(&[], |agent| agent.environment),
            fenced: true,
            state: of_command_line.map_or(&[], |agent| agent.state),
            limits_requests: false,
            tells: self.tells,
        }
    }

    fn program(&self) -> Program {
        self.program
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        let name = match self.program {
            Program::Named { name, .. } => name,
            _ if task.setup.command.is_empty() => return Err(TaskError::NoCommand),
            _ => "",
        };
        let bypass = match task.setup.permissions {
            Permissions::Bypass => self.bypass,
            Permissions::Configured => &[],
        };
        let arguments = self.arguments.iter().chain(bypass);
        let mut arguments: Vec<String> = arguments.map(|word| (*word).to_owned()).collect();
        let mut variables = self.variables(task);
        if let Some(model) = &task.setup.model {
            match self.model {
                ModelBy::Argument(option) => arguments.extend([option.to_owned(), model.clone()]),
                ModelBy::Variable(name) => variables.push((name, model.clone())),
                ModelBy::Conversation => {}
            }
        }
        let setup = &task.setup;
        let mut invocation = Invocation::of(name, setup, arguments, variables, String::new());
        invocation.input = Input::Dialogue;
        Ok(Approach::Run(invocation))
    }

    fn reader(&self, task: &Task) -> Box<dyn StreamReader> {
        Box::new(Reader {
            session: Session::new(self.wanted(task)),
            command_line: self.command_line.map(|agent| agent.reader(task)),
        })
    }

    /// The answer to its prompt is the end of its turn, however its program ends after that: it is told to.
    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion {
        let exit = if turn.is_over() {
            SessionExit::Code(0)
        } else {
            exit
        };
        match turn.conclude(exit, stderr, |_| None) {
            // It had not even heard of the story: another attempt may find it in order, such as a database that another
            // one was busy with.
            Conclusion::Failed(reason) if turn.conversation().is_none() => {
                Conclusion::Crashed(reason)
            }
            conclusion => conclusion,
        }
    }
}

struct Reader {
    session: Session,
    /// Who understands its standard error, which is that of its command line.
    command_line: Option<Box<dyn StreamReader>>,
}

impl StreamReader for Reader {
    fn tools(&self) -> Tools {
        Tools::Told
    }

    fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        self.session.read(line)
    }

    fn read_error_line(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let reader = self.command_line.as_mut();
        reader.map_or_else(Vec::new, |reader| reader.read_error_line(line))
    }

    fn say(&mut self) -> Vec<u8> {
        self.session.say()
    }

    fn interrupt(&mut self) {
        self.session.interrupt();
    }

    fn prepares(&self) -> Option<&'static str> {
        self.session.prepares()
    }

    fn is_over(&self) -> bool {
        self.session.is_over()
    }
}
