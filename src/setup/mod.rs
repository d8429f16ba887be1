//! What makes the worktree of a story a place where work can be done: copies of files that git ignores, dependencies, the
//! user's own commands before and after an attempt, ports.
//!
//! It promises that a worktree either is set up to its end or is known not to be; that a command of the user runs under a
//! keeper, with a deadline and a log, and that nothing of it goes on afterwards; and that two stories that run never have
//! the same ports. It neither makes nor removes worktrees, and decides nothing about stories.
//!
//! Parts: `include` and `copy` (which files, and how they get there), `detect` and `note` (which command installs,
//! and whether it has to run), `command` and `keeper` (running one command, on this and on that side), `place` (what
//! every command is told), `removal` (the hook for what is removed outside of an attempt), `ports`.

mod command;
mod copy;
mod detect;
mod include;
mod install;
mod keeper;
mod note;
mod place;
mod ports;
mod removal;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::Instant;

use crate::config::SetupRules;
use crate::engine::{RunId, Unit};
use crate::git::{Git, Patterns, Prepared, Worktrees, ignored_files};
use crate::protocol::identity;
use crate::report::chain;
use command::{Failure, OUTCOME, Order};
use copy::{Copied, Copying};
use include::{DEFAULT_PATTERN, INCLUDE_FILE};
use ports::{Lease, Pool};

pub use place::Place;
pub use removal::{HookEnd, Leaving, RemovalHook};

/// The most of an include file that is looked at, in bytes. Git reads all of it.
const LONGEST_INCLUDE: u64 = 256 * 1024;

/// How long what was given up may take to end. A keeper needs four seconds for a command that does not listen.
const GIVEN_UP: Duration = Duration::from_secs(15);

/// Runs the keeper of a command, if that is what these arguments of the program ask for.
pub fn main(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, name, command, names @ ..] = arguments else {
        return None;
    };
    if name != keeper::COMMAND {
        return None;
    }
    let names: Option<Vec<String>> = names
        .iter()
        .map(|name| name.to_str().map(str::to_owned))
        .collect();
    Some(keeper::keep(command.to_str()?, &names?))
}

/// Sets up the worktrees of one run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Setup {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: SetupRules,
    place: Place,
    git: Git,
    worktrees: Worktrees,
    run: RunId,
    keep: Arc<[String]>,
    pool: Option<Pool>,
    desks: Mutex<HashMap<Unit, Arc<Desk>>>,
    /// When commands after an attempt have to end, once the run stops.
    stop: watch::Sender<Option<Instant>>,
}

/// What there is of one attempt.
#[derive(Debug)]
struct Desk {
    unit: Unit,
    prepared: Prepared,
    log: PathBuf,
    lease: OnceLock<Lease>,
    /// Held by whatever works in the worktree.
    turn: Arc<tokio::sync::Mutex<()>>,
    remarks: Mutex<Vec<String>>,
}

/// Sets a flag when it is dropped.
struct GivesUp(Arc<AtomicBool>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Setup {
    /// What sets up these worktrees. `keep` are names of processes that commands may leave running.
    pub fn new(
        rules: SetupRules,
        place: Place,
        worktrees: &Worktrees,
        run: RunId,
        keep: &[String],
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                pool: rules.ports.map(Pool::new),
                rules,
                place,
                git: worktrees.git().clone(),
                worktrees: worktrees.clone(),
                run,
                keep: keep.into(),
                desks: Mutex::default(),
                stop: watch::channel(None).0,
            }),
        }
    }

    /// Makes a worktree ready for an attempt. What is done is told in the log.
    ///
    /// When the future is dropped, the commands that run are ended; [`Self::unfinished`] waits for that.
    ///
    /// # Errors
    /// When something that is needed fails; the text says what, and what can be done.
    pub async fn prepare(
        &self,
        unit: &Unit,
        prepared: &Prepared,
        log: PathBuf,
    ) -> Result<(), String> {
        let desk = Arc::new(Desk {
            unit: unit.clone(),
            prepared: prepared.clone(),
            log,
            lease: OnceLock::new(),
            turn: Arc::default(),
            remarks: Mutex::default(),
        });
        self.desks().insert(unit.clone(), Arc::clone(&desk));
        let turn = Arc::new(Arc::clone(&desk.turn).lock_owned().await);
        self.lease(&desk).await?;
        let note = self.note_of(&desk).await?;
        let noted = blocking({
            let note = note.clone();
            move || note::read_note(&note)
        })
        .await?;
        self.copy(&desk, &turn).await?;
        let installed = self.install(&desk, &turn, noted).await?;
        let hooks = &self.shared.rules.hooks;
        if noted.is_none() {
            let hook = (AFTER_CREATE, hooks.after_create.as_deref());
            self.hook(&desk, &turn, hook, None).await?;
        }
        if noted != Some(installed) {
            let written = note::write_note(&note, installed);
            written.map_err(|error| format!("{} cannot be written: {error}", note.display()))?;
        }
        let hook = (BEFORE_RUN, hooks.before_run.as_deref());
        self.hook(&desk, &turn, hook, None).await
    }

    /// Runs what the user wants to run after an attempt. A failure is a remark.
    pub async fn after_run(&self, unit: &Unit, outcome: &str) {
        let hook = self.shared.rules.hooks.after_run.as_deref();
        self.hook_afterwards(unit, (AFTER_RUN, hook), outcome).await;
    }

    /// Whether the user wants something to run before a worktree is removed.
    pub fn asks_before_removal(&self) -> bool {
        self.shared.rules.hooks.before_remove.is_some()
    }

    /// Runs it. A failure is a remark.
    pub async fn before_remove(&self, unit: &Unit, outcome: &str) {
        let hook = self.shared.rules.hooks.before_remove.as_deref();
        self.hook_afterwards(unit, (BEFORE_REMOVE, hook), outcome)
            .await;
    }

    /// The worktree of an attempt whose setup has begun, once nothing of that works in it any more.
    pub async fn unfinished(&self, unit: &Unit) -> Option<Prepared> {
        let desk = self.desk(unit)?;
        let idle = tokio::time::timeout(GIVEN_UP, desk.turn.lock()).await;
        if idle.is_err() {
            tracing::error!(?unit, "what was given up does not end");
        }
        Some(desk.prepared.clone())
    }

    /// The first of the ports that belong to an attempt.
    pub fn port(&self, unit: &Unit) -> Option<u16> {
        self.desk(unit)?.lease.get().map(Lease::first)
    }

    /// An attempt is through: its ports are free again. Gives the remarks.
    pub fn close(&self, unit: &Unit) -> Vec<String> {
        let closed = self.desks().remove(unit);
        let Some(desk) = closed else {
            return Vec::new();
        };
        let mut remarks = desk.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *remarks)
    }

    /// The run stops: commands before an attempt end, those after one have so long, and each of them a second in any case.
    /// An earlier order to be quicker stays.
    pub fn stop_within(&self, grace: Duration) {
        let until = Instant::now() + grace;
        self.shared.stop.send_modify(|stop| {
            *stop = Some(stop.map_or(until, |earlier| earlier.min(until)));
        });
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<Unit, Arc<Desk>>> {
        let desks = self.shared.desks.lock();
        desks.unwrap_or_else(PoisonError::into_inner)
    }

    fn desk(&self, unit: &Unit) -> Option<Arc<Desk>> {
        self.desks().get(unit).cloned()
    }

    async fn lease(&self, desk: &Desk) -> Result<(), String> {
        if let Some(pool) = self.shared.pool.clone() {
            let lease = blocking(move || pool.lease()).await??;
            desk.lease.get_or_init(|| lease);
        }
        Ok(())
    }

    async fn note_of(&self, desk: &Desk) -> Result<PathBuf, String> {
        let path = &desk.prepared.path;
        let note = self.shared.worktrees.setup_note(path).await;
        let note = note.map_err(|error| chain(&error))?;
        note.ok_or_else(|| format!("{} is not a worktree any more", path.display()))
    }

    /// Copies what belongs into the worktree and is not in it.
    async fn copy(&self, desk: &Desk, turn: &Turn) -> Result<(), String> {
        let Shared { git, place, .. } = &*self.shared;
        let checkout = &place.checkout;
        let file = checkout.join(INCLUDE_FILE);
        let include = blocking({
            let file = file.clone();
            move || read_include(&file)
        })
        .await??;
        let patterns = match &include {
            Some(_) => Patterns::File(&file),
            None => Patterns::One(DEFAULT_PATTERN),
        };
        let found = ignored_files(git, checkout, patterns, &place.never_copied).await;
        let found = found.map_err(|error| chain(&error))?;
        let files = include::select(found, &place.never_copied, include.as_deref())?;
        if files.is_empty() {
            return Ok(());
        }
        let copying = Copying {
            checkout: checkout.clone(),
            worktree: desk.prepared.path.clone(),
            files,
        };
        let given_up = Arc::new(AtomicBool::new(false));
        let _gives_up = GivesUp(Arc::clone(&given_up));
        let turn = Arc::clone(turn);
        let copied = blocking(move || {
            let copied = copying.run(&given_up);
            drop(turn);
            copied
        });
        let Copied { files, left_out } = copied.await??;
        for file in left_out {
            command::note(&desk.log, &format!("not copied: {file}"));
        }
        if files > 0 {
            let count = crate::report::plural(files, "ignored file", "ignored files");
            command::note(&desk.log, &format!("copied {count} of the main checkout"));
        }
        Ok(())
    }

    /// Runs a hook, if there is one.
    async fn hook(
        &self,
        desk: &Desk,
        turn: &Turn,
        (what, command): (&str, Option<&str>),
        outcome: Option<&str>,
    ) -> Result<(), String> {
        let Some(command) = command else {
            return Ok(());
        };
        let timeout = self.shared.rules.hooks.timeout;
        let folder = self.shared.place.work_folder_in(&desk.prepared.path);
        let run = self.run(desk, turn, (what, command), &folder, timeout, outcome);
        run.await.map_err(|failure| format!("`{what}` {failure}"))
    }

    async fn hook_afterwards(&self, unit: &Unit, hook: (&str, Option<&str>), outcome: &str) {
        let Some(desk) = self.desk(unit).filter(|desk| desk.prepared.path.exists()) else {
            return;
        };
        let turn = Arc::new(Arc::clone(&desk.turn).lock_owned().await);
        if let Err(failure) = self.hook(&desk, &turn, hook, Some(outcome)).await {
            let log = desk.log.display();
            tracing::warn!(?unit, failure, %log, "a hook failed");
            let mut remarks = desk.remarks.lock().unwrap_or_else(PoisonError::into_inner);
            remarks.push(format!("{failure} (log: {log})"));
        }
    }

    /// Runs a command of the user.
    async fn run(
        &self,
        desk: &Desk,
        turn: &Turn,
        (what, command): (&str, &str),
        folder: &Path,
        timeout: Duration,
        outcome: Option<&str>,
    ) -> Result<(), Failure> {
        let order = Order {
            what,
            command,
            folder,
            variables: &self.variables(desk, outcome),
            log: &desk.log,
            timeout,
            stop: self.shared.stop.subscribe(),
            place: match outcome {
                Some(_) => command::Place::After,
                None => command::Place::Before,
            },
            keep: &self.shared.keep,
            turn: Arc::clone(turn),
        };
        order.run().await
    }

    /// What a command finds in its environment.
    fn variables(&self, desk: &Desk, outcome: Option<&str>) -> Vec<(&'static str, OsString)> {
        let Prepared { path, branch, .. } = &desk.prepared;
        let Shared { place, run, .. } = &*self.shared;
        let mut variables = place.variables(run, path, Some(branch));
        variables.extend([
            (identity::STORY, desk.unit.story.as_str().into()),
            (identity::ATTEMPT, desk.unit.attempt.to_string().into()),
        ]);
        if let Some(lease) = desk.lease.get() {
            variables.push((identity::PORT, lease.first().to_string().into()));
        }
        if let Some(outcome) = outcome {
            variables.push((OUTCOME, outcome.into()));
        }
        variables
    }
}

/// The right to work in a worktree, shared by what is at work.
type Turn = Arc<OwnedMutexGuard<()>>;

const AFTER_CREATE: &str = "hooks.afterCreate";
const BEFORE_RUN: &str = "hooks.beforeRun";
const AFTER_RUN: &str = "hooks.afterRun";
const BEFORE_REMOVE: &str = "hooks.beforeRemove";

/// The text of the include file, as much of it as tells what it names; none when there is no such file.
fn read_include(file: &Path) -> Result<Option<String>, String> {
    use std::io::{ErrorKind, Read as _};
    let mut text = Vec::new();
    let mut read = || {
        // A named pipe in its place would never be opened, by git neither.
        if !std::fs::metadata(file)?.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let opened = std::fs::File::open(file)?;
        opened.take(LONGEST_INCLUDE).read_to_end(&mut text)
    };
    match read() {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
    }
}

/// Runs work that blocks on a thread for it. It goes on when the future is dropped.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| format!("internal error: {error}"))
}
