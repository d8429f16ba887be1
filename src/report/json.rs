//! `--json`: one event per line on standard output.

use super::event::{Record, SCHEMA_VERSION};
use super::{Reporter, RunEvent, Stamp, output};
use crate::engine::RunId;

/// Writes every event as a line of JSON.
#[derive(Debug, Default)]
pub struct Json {
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
    fn show(&mut self, run: &RunId, stamp: &Stamp, event: &RunEvent) {
        if self.broken == Broken::Yes {
            return;
        }
        let record = Record {
            version: SCHEMA_VERSION,
            sequence: stamp.sequence,
            time: &stamp.time,
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
