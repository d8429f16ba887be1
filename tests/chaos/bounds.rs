//! How long what may take. What users are promised, and what a loaded machine may add to it.

use std::time::Duration;

use crate::scratch::GRACE;

/// What a machine with more to do than it can may add to any of these.
pub(crate) const SLACK: Duration = Duration::from_secs(2);

/// All is gone after the death of the parent.
pub(crate) const PARENT_DEAD: Duration = Duration::from_secs(3);

/// All of a story is gone after the death of its executor.
pub(crate) const EXECUTOR_DEAD: Duration = Duration::from_secs(2);

/// All is gone after the order to stop, or the end of an agent.
pub(crate) const STOP: Duration = GRACE.saturating_add(Duration::from_secs(1));

/// What a double death has left is gone: it may get some seconds to end by itself first.
pub(crate) const RECOVERY: Duration = Duration::from_secs(8);

/// The time of a story whose agent never ends, in minutes.
pub(crate) const STORY_MINUTES: f64 = 0.04;

/// The same.
pub(crate) const STORY_TIME: Duration = Duration::from_millis(2400);
