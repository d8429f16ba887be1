//! `--json`: one event per line on standard output.

use super::event::{Record, SCHEMA_VERSION};
use super::{Reporter, RunEvent, output};
use crate::engine::RunId;

/// Writes every event as a line of JSON.
#[derive(Debug, Default)]
pub struct Json {
    sequence: u64,
    /// The reader is gone; the run goes on without one.
    broken: Broken,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Broken {
    #[default]
    No,
    Yes,
}

impl Reporter for Json {
    fn show(&mut self, run: &RunId, event: &RunEvent) {
        if self.broken == Broken::Yes {
            return;
        }
        self.sequence += 1;
        let record = Record {
            version: SCHEMA_VERSION,
            sequence: self.sequence,
            time: jiff::Timestamp::now().to_string(),
            run,
            event,
        };
        let line = match serde_json::to_string(&record) {
            Ok(line) => line,
            Err(error) => {
                // Only a path that is not Unicode cannot be written as JSON.
                output::warning(&format!("an event cannot be written as JSON: {error}"));
                return;
            }
        };
        if output::try_data(&format!("{line}\n")).is_err() {
            self.broken = Broken::Yes;
        }
    }
}
