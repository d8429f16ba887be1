//! Everything that is printed: lines for people on standard error, data for programs on standard output; and what the
//! person at the terminal answers.
//!
//! Nothing else in the program prints. A surface renders [`RunEvent`]s and decides nothing. Output that nobody takes
//! any more (a closed pipe, a full disk) never fails what is being reported.

mod background;
mod budget;
mod conflicts;
pub mod event;
mod human;
mod json;
mod output;
mod pauses;
mod style;
mod terminal;

pub use background::Background;
pub use budget::of_machine;
pub use event::{RunEvent, SCHEMA_VERSION};
pub use human::Human;
pub use json::Json;
pub use output::{data, error, hint, note, people, try_data, warning};
pub use style::{chain, duration, plural, shell_quoted};
pub use terminal::{Answer, forget_what_was_typed, is_interactive, read_answer};

use std::time::Duration;

use crate::engine::RunId;

/// A surface.
pub trait Reporter: Send {
    /// Shows one event.
    fn show(&mut self, run: &RunId, stamp: &Stamp, event: &RunEvent);
}

/// The place of an event in its run. Given when it happens: events that nobody took leave a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Rises by one with every event, from 1.
    pub sequence: u64,
    /// When it happened, RFC 3339 in UTC.
    pub time: String,
}

impl Stamp {
    /// The stamp of something that happens now.
    pub fn now(sequence: u64) -> Self {
        Self {
            sequence,
            time: jiff::Timestamp::now().to_string(),
        }
    }
}

/// The time after that span, RFC 3339 in UTC.
pub fn time_in(span: Duration) -> String {
    let now = jiff::Timestamp::now();
    let time = jiff::SignedDuration::try_from(span).and_then(|span| now.checked_add(span));
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// How much people get to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// What happens.
    #[default]
    Normal,
    /// Only what did not go well.
    Quiet,
}
