//! The engine: every decision about a run, as a pure state machine.

pub mod id;

pub use id::{AttemptNumber, Phase, RunId};
