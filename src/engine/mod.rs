//! The engine: every decision about a run, as a pure state machine `(state, event, now) -> effects`.
//!
//! Nothing here does I/O, reads a clock, draws a random number or knows tokio: the driver
//! ([`crate::orchestrator`]) turns what happens into an [`Event`] and performs each [`Effect`]. So every schedule of
//! the world can be played in a test.
//!
//! - [`mod@plan`]: which stories a run works on, and what is left out and why
//! - [`scheduler`]: slots, dependencies, the stop of a run, its end
//! - [`lifecycle`]: one attempt from its worktree to its end, with deadlines
//! - [`files`]: which files stories will touch, and which of them the same
//! - [`outcome`]: what the claim of an executor and the end of its process mean together

pub mod effect;
pub mod event;
pub mod files;
pub mod id;
pub mod lifecycle;
pub mod outcome;
pub mod plan;
#[cfg(test)]
mod properties;
pub mod scheduler;
pub mod time;

pub use effect::{BoardEntry, Disposal, Effect};
pub use event::{BoardWrite, Event, Settlement, StopSignal, Unit};
pub use files::{FileIndex, FilePattern, FilePatternError};
pub use id::{AttemptNumber, Phase, RunId};
pub use lifecycle::{Deadlines, Retention};
pub use outcome::{Claim, Exit, Outcome, StopReason};
pub use plan::{Candidate, LeftOut, Obstacle, Plan, PlannedStory, Selection, plan};
pub use scheduler::{Engine, Settings, Verdict};
pub use time::Moment;
