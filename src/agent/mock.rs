//! The `mock` agent: answers every task at once and changes nothing, as the predecessor's did.

use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Output, Program, Task, TaskError, Turn,
};
use crate::process::SessionExit;

pub(super) struct Mock;

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
        }
    }

    fn program(&self) -> Program {
        Program::None
    }

    fn approach(&self, _task: &Task) -> Result<Approach, TaskError> {
        Ok(Approach::Answer("mock response".to_owned()))
    }

    fn conclude(&self, _turn: &Turn, _exit: SessionExit, _stderr: &str) -> Conclusion {
        Conclusion::Finished(None)
    }
}
