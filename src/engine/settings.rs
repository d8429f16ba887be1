//! The rules of one run, as data. Pure.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::event::Provider;
use crate::engine::health::Patience;
use crate::engine::intensity::Intensity;
use crate::engine::lifecycle::{Deadlines, Retention};
use crate::engine::limits::Limits;
use crate::engine::resources::Capacity;
use crate::engine::retry::RetryPolicy;

/// The rules of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How many executors may be alive at once.
    pub slots: NonZeroUsize,
    /// How many of them may be for stories of one provider; a provider that is not there may have all.
    #[serde(default)]
    pub most_of_provider: BTreeMap<Provider, NonZeroUsize>,
    /// How many turns a provider has in a minute; one that is not there has as many as are asked for.
    #[serde(default)]
    pub turns_per_minute: BTreeMap<Provider, NonZeroU32>,
    /// Which story is next.
    pub order: Order,
    /// What a story that does not succeed means for the others.
    pub on_failure: OnFailure,
    /// What the run does when no story is left.
    pub when_idle: WhenIdle,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// How long executors may be silent and agents without progress.
    pub patience: Patience,
    /// What becomes of worktrees.
    pub retention: Retention,
    /// Which ends are followed by another attempt.
    pub retry: RetryPolicy,
    /// How many abnormal ends pause the starts.
    pub intensity: Intensity,
    /// What one story may use.
    pub story_limits: Limits,
    /// What the run may use.
    pub run_limits: Limits,
    /// What all runs of the board may use on one calendar day; time is not among it.
    #[serde(default)]
    pub day_limits: Limits,
    /// What the agents of the run may want of the machine together. One that wants more runs alone.
    #[serde(default)]
    pub capacity: Capacity,
    /// How often the files that a running attempt has changed are looked at; none for never.
    #[serde(with = "crate::engine::time::optional_millis")]
    pub look_at_files: Option<Duration>,
    /// How long the driver takes for what it does by itself.
    pub housekeeping: Housekeeping,
}

/// How long the driver of a run takes for what it does by itself, without an event or an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Housekeeping {
    /// Between two health checks; follows from the patience.
    #[serde(with = "crate::engine::time::millis")]
    pub health_check: Duration,
    /// To read what a dead executor had sent. It is in the socket already.
    #[serde(with = "crate::engine::time::millis")]
    pub drain: Duration,
    /// For what an earlier run has left to end by itself: an executor whose orchestrator has just died is busy with its
    /// agent, which it gives a second and a half.
    #[serde(with = "crate::engine::time::millis")]
    pub left_alone: Duration,
    /// For it to end when it is asked to; then it is killed.
    #[serde(with = "crate::engine::time::millis")]
    pub left_asked: Duration,
    /// For looking at every process that starts when the last run died: what forks and ends all the time is in no list.
    #[serde(with = "crate::engine::time::millis")]
    pub look_at_newest: Duration,
    /// How late the driver may wake for a deadline on a busy machine. What is later was no time of its process: that was
    /// stopped, or the machine slept.
    #[serde(with = "crate::engine::time::millis")]
    pub late: Duration,
    /// To hear what has happened meanwhile, before that deadline counts.
    #[serde(with = "crate::engine::time::millis")]
    pub catch_up: Duration,
    /// For another run that is just ending to give the board back.
    #[serde(with = "crate::engine::time::millis")]
    pub lock: Duration,
    /// For the disk to take a record of the journal, then what follows from it is done all the same: a disk with much to do
    /// takes seconds at times.
    #[serde(with = "crate::engine::time::millis", default = "busy_disk")]
    pub busy_disk: Duration,
    /// The same while the run stops, which is to take no longer than it was said; and for the disk to give the end of a
    /// log, then that is not told.
    #[serde(with = "crate::engine::time::millis")]
    pub journal: Duration,
    /// For the last board entries to be written when a run was cut off.
    #[serde(with = "crate::engine::time::millis")]
    pub last_entries: Duration,
    /// For the last events to be shown.
    #[serde(with = "crate::engine::time::millis")]
    pub show: Duration,
}

impl Default for Housekeeping {
    fn default() -> Self {
        Self {
            health_check: Patience::default().period(),
            drain: Duration::from_secs(2),
            left_alone: Duration::from_secs(1),
            left_asked: Duration::from_secs(1),
            look_at_newest: Duration::from_millis(250),
            late: Duration::from_secs(1),
            catch_up: Duration::from_secs(2),
            lock: Duration::from_millis(500),
            busy_disk: busy_disk(),
            journal: Duration::from_millis(500),
            last_entries: Duration::from_secs(2),
            show: Duration::from_secs(5),
        }
    }
}

fn busy_disk() -> Duration {
    Duration::from_secs(10)
}

/// How much later than the engine and the driver themselves the process is ended when it hangs.
const HANGING: Duration = Duration::from_secs(1);

impl Settings {
    /// How long the process of a run may live after the first, the second, and the third request to stop, whatever it
    /// hangs at. The engine and the driver end it before that; the third request means at once.
    pub fn longest_lives(&self) -> [Duration; 3] {
        let besides = self.housekeeping.last_entries + self.housekeeping.show + HANGING;
        let stop = |grace| self.deadlines.longest_stop(grace) + besides;
        [stop(self.deadlines.grace), stop(Duration::ZERO), HANGING]
    }

    /// The usual rules, with that many slots.
    pub fn new(slots: NonZeroUsize) -> Self {
        Self {
            slots,
            most_of_provider: BTreeMap::new(),
            turns_per_minute: BTreeMap::new(),
            order: Order::AnyReady,
            on_failure: OnFailure::GoOn,
            when_idle: WhenIdle::Finish,
            deadlines: Deadlines::default(),
            patience: Patience::default(),
            retention: Retention::default(),
            retry: RetryPolicy::default(),
            intensity: Intensity::default(),
            story_limits: Limits::default(),
            run_limits: Limits::default(),
            day_limits: Limits::default(),
            capacity: Capacity::default(),
            look_at_files: None,
            housekeeping: Housekeeping::default(),
        }
    }
}

/// Which story is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The first that can start.
    AnyReady,
    /// The first that is not through: no story starts before those in front of it are.
    AsGiven,
}

/// What a story that does not succeed means for the others, apart from those that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing.
    GoOn,
    /// No further one is started.
    StopStarting,
    /// A person is asked.
    Ask,
}

/// What the run does when no story is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenIdle {
    /// It is over.
    Finish,
    /// It waits for further ones until it is stopped.
    WaitForStories,
}
