//! `hooks.beforeRemove` for worktrees that are removed outside of an attempt: by a command, or to make room.
//!
//! Its failure is told and stops no removal. It decides nothing about whether a worktree goes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::command::{self, Failure, Order};
use super::place::Place;
use super::{BEFORE_REMOVE, GIVEN_UP};
use crate::config::Hooks;
use crate::engine::RunId;
use crate::protocol::identity;
use crate::story::StoryId;

/// The folder of the board that has the logs of what happens outside of a run's attempts.
const LOGS: &str = "logs";

/// What the user wants to run before a worktree is removed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RemovalHook {
    /// None when nothing is to run.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    command: String,
    timeout: Duration,
    place: Place,
    run: RunId,
    keep: Arc<[String]>,
    /// Held by the one that runs, until nothing of it is left.
    turn: Arc<Mutex<()>>,
    /// When it has to end, once the run stops.
    stop: watch::Sender<Option<Instant>>,
}

/// How the hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a worktree stays when the hook was stopped"]
pub enum HookEnd {
    /// There is none, or it did what it was for.
    Well,
    /// It failed: how, and where its log is.
    Failed(String),
    /// It was ended, or did not begin, since the run stops.
    Stopped,
}

/// A worktree that is about to be removed.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    /// The worktree.
    pub path: &'a Path,
    /// Its story, as far as that is known.
    pub story: Option<&'a StoryId>,
    /// Its branch, if it is on one.
    pub branch: Option<&'a str>,
}

impl RemovalHook {
    /// The hook of a project. `run` is the name under which this process works, `keep` are names of processes that the
    /// hook may leave running.
    pub fn new(hooks: &Hooks, place: Place, run: RunId, keep: &[String]) -> Self {
        let shared = hooks.before_remove.clone().map(|command| {
            Arc::new(Shared {
                command,
                timeout: hooks.timeout,
                place,
                run,
                keep: keep.into(),
                turn: Arc::default(),
                stop: watch::channel(None).0,
            })
        });
        Self { shared }
    }

    /// How long it may take; none when there is no hook.
    pub fn timeout(&self) -> Option<Duration> {
        self.shared.as_ref().map(|shared| shared.timeout)
    }

    /// Runs it in a worktree that is there, with its output in `logs/before-remove-<worktree>.log` below the board, which
    /// has the last one of a worktree. When the future is dropped, the command is ended; [`Self::ended`] waits for that.
    pub async fn run(&self, leaving: Leaving<'_>) -> HookEnd {
        let Some(shared) = &self.shared else {
            return HookEnd::Well;
        };
        let turn = Arc::new(Arc::clone(&shared.turn).lock_owned().await);
        let stop = shared.stop.subscribe();
        if stop.borrow().is_some() {
            return HookEnd::Stopped;
        }
        let log = shared.log(leaving.path);
        start_anew(&log);
        let order = Order {
            what: BEFORE_REMOVE,
            command: &shared.command,
            folder: &shared.place.work_folder_in(leaving.path),
            variables: &shared.variables(leaving),
            log: &log,
            timeout: shared.timeout,
            stop,
            // The worktree can go another time.
            place: command::Place::Before,
            keep: &shared.keep,
            turn,
        };
        match order.run().await {
            Ok(()) => HookEnd::Well,
            Err(Failure::Stopped) => HookEnd::Stopped,
            Err(failure) => {
                let log = log.display();
                HookEnd::Failed(format!("`{BEFORE_REMOVE}` {failure} (log: {log})"))
            }
        }
    }

    /// The run stops: one that runs ends at once, and no other begins.
    pub fn stop(&self) {
        if let Some(shared) = &self.shared {
            shared.stop.send_replace(Some(Instant::now()));
        }
    }

    /// Resolves when nothing of one that was given up is left.
    pub async fn ended(&self) {
        let Some(shared) = &self.shared else {
            return;
        };
        let idle = tokio::time::timeout(GIVEN_UP, shared.turn.lock()).await;
        if idle.is_err() {
            tracing::error!("a hook that was given up does not end");
        }
    }
}

impl Shared {
    fn log(&self, worktree: &Path) -> PathBuf {
        let name = worktree.file_name().unwrap_or_default().to_string_lossy();
        let logs = self.place.board.join(LOGS);
        logs.join(format!("before-remove-{name}.log"))
    }

    fn variables(&self, leaving: Leaving<'_>) -> Vec<(&'static str, std::ffi::OsString)> {
        let Leaving {
            path,
            story,
            branch,
        } = leaving;
        let mut variables = self.place.variables(&self.run, path, branch);
        if let Some(story) = story {
            variables.push((identity::STORY, story.as_str().into()));
        }
        variables
    }
}

/// Removes the log of an earlier removal. What stays is written on in.
fn start_anew(log: &Path) {
    if let Err(error) = fs::remove_file(log)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::debug!(%error, log = %log.display(), "an old log stays");
    }
}
