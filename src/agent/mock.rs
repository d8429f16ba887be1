//! The agents `mock` and `dry-run`, which ask no model: they answer every task at once and change nothing, as the
//! predecessor's did.

use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Output, Program, Task, TaskError, Tells, Turn,
};
use crate::process::SessionExit;

/// How much of the prompt `dry-run` repeats, in characters.
const SHOWN: usize = 100;

pub(super) enum Mock {
    /// Always says the same.
    SaysTheSame,
    /// Says what it would have asked.
    SaysThePrompt,
}

impl Agent for Mock {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            provider: None,
            resumes: false,
            must_change_something: false,
            output: Output::Log,
            ask: Ask::Terminate,
            environment: &[],
            fenced: true,
            state: &[],
            limits_requests: false,
            tells: Tells::ALL,
        }
    }

    fn program(&self) -> Program {
        Program::None
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        Ok(Approach::Answer(match self {
            Self::SaysTheSame => "mock response".to_owned(),
            Self::SaysThePrompt => {
                let shown: String = task.prompt.chars().take(SHOWN).collect();
                format!("[DRY RUN] No actual AI query performed. Prompt: {shown}...")
            }
        }))
    }

    fn conclude(&self, _turn: &Turn, _exit: SessionExit, _stderr: &str) -> Conclusion {
        Conclusion::Finished(None)
    }
}
