//! The engine: every decision about a run, as a pure state machine `(state, event, now) -> effects`.
//!
//! Nothing here does I/O, reads a clock, draws a random number or knows tokio: the driver
//! ([`crate::orchestrator`]) turns what happens into an [`Event`] and performs each [`Effect`]. So every schedule of
//! the world can be played in a test, and a run can be played again from its journal.
//!
//! - [`mod@plan`]: which stories a run works on, and what is left out and why
//! - [`settings`]: the rules of a run, as data
//! - [`scheduler`]: slots, dependencies, conflicts, retries, the stop of a run, its recovery, its end
//! - [`lifecycle`]: one attempt from its worktree to its end, with deadlines
//! - [`outcome`]: what the claim of an executor and the end of its process mean together
//! - [`retry`], [`quota`], [`intensity`], [`health`], [`limits`], [`day`], [`pace`]: the policies, each by itself
//! - [`files`]: which files stories will touch, to predict conflicts
//! - [`replay`]: a run once more, from its journal
//! - [`recovery`]: what becomes of a story of a run that was killed
//! - [`fault`]: deliberate faults, for the simulation that has to find them

pub mod day;
pub mod effect;
pub mod event;
pub mod fault;
pub mod files;
pub mod health;
pub mod id;
pub mod intensity;
pub mod lifecycle;
pub mod limits;
pub mod outcome;
pub mod pace;
pub mod plan;
pub mod prices;
#[cfg(test)]
mod properties;
pub mod quota;
pub mod recovery;
pub mod replay;
pub mod resources;
pub mod retry;
pub mod scheduler;
pub mod settings;
pub mod time;

pub use day::{CalendarDay, DayUsage};
pub use effect::{BoardEntry, Disposal, Effect, Effects, Notice};
pub use event::{
    BoardWrite, Clash, Comparison, Decision, Event, OnBoard, Provider, Restart, Settlement,
    StopSignal, Unit,
};
pub use files::{FilePattern, FilePatternError};
pub use health::{Patience, Sign, Vitals, Wait};
pub use id::{AttemptNumber, Phase, RunId};
pub use intensity::Intensity;
pub use lifecycle::{Deadlines, Retention};
pub use limits::{Account, Allowance, Budget, Limits, Overrun, Scope, Share, Usage};
pub use outcome::{Claim, Exit, Outcome, OutcomeKind, Skip, StopReason};
pub use plan::{
    Candidate, Candidates, Completeness, EpicName, Fingerprint, LeftOut, Obstacle, Plan,
    PlannedStory, PredictedConflict, PredictedConflicts, Remark, Selection, plan,
};
pub use prices::{Price, Prices, Tokens};
pub use quota::QuotaWaits;
pub use replay::{Opening, Record, Replay, ReplayError};
pub use resources::{Capacity, Lack, Resource, Resources};
pub use retry::{Delay, RetryPolicy};
pub use scheduler::{Conflict, Engine, RunView, Standing, StoryView, Verdict};
pub use settings::{Housekeeping, OnFailure, Order, Settings, WhenIdle};
pub use time::Moment;
