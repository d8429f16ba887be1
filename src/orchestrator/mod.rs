//! The orchestrator: one process that owns a run.
//!
//! A thin driver around the engine. It turns what happens (a worktree stands, an executor speaks or ends, a signal, a
//! deadline) into events, and performs the effects that the engine answers with. Whatever takes time runs in a task
//! of its own; the loop itself never waits for anything but the next thing to happen. It is the only writer of the
//! board.

mod assigned;
mod base;
mod board;
mod clock;
mod day;
mod driver;
#[cfg(feature = "faults")]
mod faults;
mod finished;
mod ground;
mod leftovers;
mod log_tail;
mod narrator;
mod note;
mod past;
mod repair;
mod retention;
mod room;
mod run_folder;
mod run_journal;
mod run_lock;
mod sentry;
mod signals;
mod tasks;
mod unit;
mod workspace;

pub use base::Base;
pub use board::{CheckError, check_writable, fingerprint};
pub use day::{midnight, used_today};
pub use ground::Ground;
pub use leftovers::{EarlierRuns, sign, unlocked_run};
pub use note::{JournalRecord, Note};
pub use past::{Past, PastError};
pub use repair::repair_board;
pub use retention::{compress_runs, prune_runs};
pub use room::{Ledger, Room};
pub use run_folder::{JOURNAL, PastAttempts, RunFolder, latest_run};
pub use run_lock::{LockHolder, Occupation, Predecessor, RunLock, RunLockError};
pub use sentry::Sentry;
pub use signals::Signals;
pub use workspace::Workspaces;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::disk::Bytes;
use crate::engine::{
    Event, Moment, Opening, PlannedStory, Prices, Restart, RunId, Settings, Usage, Verdict,
};
use crate::journal::JournalError;
use crate::launcher::Launcher;
use crate::protocol::{AgentSetup, FenceSetup};
use crate::report::event::Counts;
use crate::report::{Background, Reporter, chain};
use crate::story::{Store, Story, StoryId};
use crate::watch::BoardWatcher;
use clock::RunClock;
use driver::Driver;
use run_journal::RunJournal;

/// Messages of executors that may wait to be looked at; executors wait when there are more.
const WAITING_MESSAGES: usize = 256;

/// What a run needs that waits for further stories.
pub struct WatchRequest {
    /// The folder of the stories.
    pub stories: PathBuf,
    /// How long it must be quiet before a change counts.
    pub settle: Duration,
    /// How often it is looked at where changes are not notified.
    pub poll: Duration,
    /// Plans anew over the board as it is, for a run that works on the given stories. Blocks.
    pub replan: Arc<dyn Fn(BTreeSet<StoryId>) -> Result<Replan, String> + Send + Sync>,
}

/// A plan that was made while a run goes on.
#[derive(Debug)]
pub struct Replan {
    /// The stories that are ready, in order.
    pub plan: Vec<PlannedStory>,
    /// Every story of the board.
    pub stories: HashMap<StoryId, Arc<Story>>,
    /// The agent of each.
    pub agents: HashMap<StoryId, String>,
    /// What is wrong with some of them.
    pub remarks: Vec<String>,
}

/// A run that goes on.
pub struct Continued {
    /// What its journal tells.
    pub past: Past,
    /// What is not to be as before; what is found besides is added when it goes on.
    pub restart: Restart,
}

/// Everything that a run needs to know before it starts.
pub struct RunRequest {
    /// Its name.
    pub run: RunId,
    /// Its rules.
    pub settings: Settings,
    /// What there was of it, when it goes on after its orchestrator was killed.
    pub past: Option<Continued>,
    /// How further stories join, when it waits for them.
    pub watch: Option<WatchRequest>,
    /// Its stories, in order.
    pub plan: Vec<PlannedStory>,
    /// Every story of the board, by id: those of the plan, and those that they depend on.
    pub stories: HashMap<StoryId, Arc<Story>>,
    /// The agent of each story of the plan.
    pub agents: HashMap<StoryId, String>,
    /// The agent of stories that name none.
    pub default_agent: String,
    /// How agents are set up, by their names: all that a story may name.
    pub agent_setups: BTreeMap<String, AgentSetup>,
    /// What other runs have used on this calendar day.
    pub used_today: Usage,
    /// What tokens cost, for agents that do not say what they have cost.
    pub prices: Prices,
    /// Where worktrees come from.
    pub workspaces: Workspaces,
    /// The board.
    pub store: Store,
    /// Where the run writes.
    pub folder: RunFolder,
    /// The size at which a segment of the journal is closed.
    pub journal_segment: Bytes,
    /// What a commit must never contain, relative to the root of a worktree, with `/`.
    pub board_folder: Option<String>,
    /// Where agents work, relative to the root of a worktree, with `/`.
    pub work_folder: String,
    /// Names of variables that agents get besides the usual ones.
    pub environment: Vec<String>,
    /// Names of processes that may go on when their agent has ended.
    pub keep: Vec<String>,
    /// The time between two checkpoints of a worktree; none for no checkpoints.
    pub checkpoint_every: Option<Duration>,
    /// The fence around what agents write; none for none.
    pub fence: Option<FenceSetup>,
    /// What the person is told at the beginning.
    pub remarks: Vec<String>,
}

/// Runs stories until all are through or the run is stopped.
///
/// # Errors
/// When signals cannot be listened to or nothing can be shown; nothing has been started then.
pub async fn run<L: Launcher>(
    mut request: RunRequest,
    launcher: L,
    reporters: Vec<Box<dyn Reporter>>,
    exit_code: impl Fn(Verdict) -> u8,
) -> io::Result<(Verdict, Counts)> {
    let mut signals = Signals::listen(request.settings.longest_lives())?;
    let (sender, mut inbox) = mpsc::channel(WAITING_MESSAGES);
    let surfaces = Background::new(reporters)?;
    let journal = open_journal(&request).map_err(|error| io::Error::other(chain(&error)))?;
    request.folder.mark_latest();
    let past = request.past.take();
    let remarks = std::mem::take(&mut request.remarks);
    let mut driver = Driver::new(request, journal, Arc::new(launcher), sender, surfaces);
    let mut watcher = driver.watcher();
    driver.tell_beginning();
    for remark in remarks {
        driver.narrator.warn(remark);
    }
    match past {
        Some(past) => driver.go_on(past),
        None => driver.begin(),
    }
    // What has changed between the plan and the first look at the board.
    driver.replan();
    while !driver.is_through() {
        let deadline = driver.engine.next_deadline();
        let patience = driver.patience_ends();
        // Every arm can lose the race and be waited for again without losing anything: both receivers and the task
        // set keep what has arrived, and the deadline is computed anew in every round.
        // They are looked at in this order: what has happened counts before the time that it took, so that a process
        // that was stopped for a while (a suspended machine) does not take its own sleep for that of others.
        tokio::select! {
            biased;
            signal = signals.next() => driver.feed(Event::StopRequested(signal)),
            () = driver.journal.moved() => driver.journal_moved(),
            Some(message) = inbox.recv() => driver.receive(message),
            Some(finished) = driver.tasks.next() => driver.finish(finished),
            () = changed(watcher.as_mut()) => driver.replan(),
            () = sleep_until(&driver.clock, deadline) => driver.pass_time(deadline),
            () = until(patience) => driver.lose_patience(),
        }
    }
    driver.write_last_entries().await;
    driver.close_launcher().await;
    driver.close_journal().await;
    let verdict = driver.engine.verdict();
    let conflicts = driver.engine.view().conflicts;
    let counts = driver.narrator.finished(exit_code(verdict), conflicts);
    Ok((verdict, counts))
}

fn open_journal(request: &RunRequest) -> Result<RunJournal, JournalError> {
    let path = request.folder.journal();
    if let Some(Continued { past, .. }) = &request.past {
        return RunJournal::go_on(&path, past.end, request.journal_segment);
    }
    let opening = Opening {
        run: request.run.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        settings: request.settings.clone(),
        plan: request.plan.clone(),
        default_agent: request.default_agent.clone(),
    };
    RunJournal::open(&path, opening, request.journal_segment)
}

async fn changed(watcher: Option<&mut BoardWatcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: &RunClock, deadline: Option<Moment>) {
    until(deadline.map(|moment| clock.instant(moment))).await;
}
