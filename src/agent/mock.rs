//! The `mock` agent: answers every task at once and changes nothing, as the predecessor's did.

use super::{Agent, Approach, Conclusion, Task, TaskError};
use crate::process::SessionExit;

pub(super) struct Mock;

impl Agent for Mock {
    fn approach(&self, _task: &Task) -> Result<Approach, TaskError> {
        Ok(Approach::Answer("mock response".to_owned()))
    }

    fn conclude(&self, _exit: SessionExit) -> Conclusion {
        Conclusion::Finished
    }
}
