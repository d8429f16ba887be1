//! One command of the user, from its start to its end: under a keeper, with a deadline, its output in a file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::{OwnedMutexGuard, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::keeper;
use crate::git::is_passed_on;
use crate::process::{self, Ownership, Sweep, Whose};
use crate::protocol::identity;

/// How long a keeper may take to end its command, and itself; then it is killed.
const ENDING: Duration = Duration::from_secs(6);
/// How long what a killed keeper has left may take to end when it is asked to.
const POLITE: Duration = Duration::from_millis(300);
/// How long a sweep may take in all. Only a process that hangs in the kernel needs it.
const SWEEPING: Duration = Duration::from_secs(3);

/// How long a command after an attempt may take however late it is when a run stops.
const LEAST_AFTERWARDS: Duration = Duration::from_secs(1);

/// How the attempt ended, for the hooks that run after it.
pub(super) const OUTCOME: &str = "AI_SDLC_OUTCOME";

/// A command that is to run.
pub(super) struct Order<'a> {
    /// What it is, for people: the key of the configuration.
    pub(super) what: &'a str,
    /// The command, for `sh`.
    pub(super) command: &'a str,
    /// Where.
    pub(super) folder: &'a Path,
    /// What it finds in its environment besides that of this process.
    pub(super) variables: &'a [(&'static str, OsString)],
    /// The file that gets what it prints.
    pub(super) log: &'a Path,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// When commands after an attempt have to end, since the run stops; changes when that becomes known.
    pub(super) stop: watch::Receiver<Option<Instant>>,
    /// Whether this is one.
    pub(super) place: Place,
    /// Names of processes that it may leave running.
    pub(super) keep: &'a Arc<[String]>,
    /// Held until nothing of it is left, also when nobody waits for it any more.
    pub(super) turn: Arc<OwnedMutexGuard<()>>,
}

/// When a command runs, which says what a stop of the run means for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before an attempt, which will not be made: the command ends at once.
    Before,
    /// After an attempt: it has what is left of the time, and [`LEAST_AFTERWARDS`] in any case.
    After,
}

impl Place {
    /// When a command that began then has to end, if commands after an attempt have until `stop`.
    fn end(self, stop: Instant, began: Instant) -> Instant {
        match self {
            Self::Before => began,
            Self::After => stop.max(began + LEAST_AFTERWARDS),
        }
    }
}

/// Why a command did not do what it was for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no process, or no file for its output.
    NotStarted(String),
    /// It ended with this code.
    Code(i32),
    /// Its keeper was killed.
    Killed,
    /// It took too long.
    TimedOut(Duration),
    /// It was ended since the run stops.
    Stopped,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStarted(why) => write!(formatter, "could not be started: {why}"),
            Self::Code(code) => write!(formatter, "ended with exit code {code}"),
            Self::Killed => write!(formatter, "was killed"),
            Self::TimedOut(after) if after.subsec_millis() == 0 => {
                let seconds = after.as_secs();
                write!(formatter, "did not end within {seconds} s and was killed")
            }
            Self::TimedOut(after) => {
                let milliseconds = after.as_millis();
                write!(
                    formatter,
                    "did not end within {milliseconds} ms and was killed"
                )
            }
            Self::Stopped => write!(formatter, "was ended, since the run stops"),
        }
    }
}

impl Order<'_> {
    /// Runs it to its end. When the future is dropped, the command is ended with everything that it has started.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let not_started = |error: io::Error| Failure::NotStarted(error.to_string());
        let mut stop = self.stop.clone();
        let kept = self.start().map_err(not_started)?;
        let Kept { mut ended, leash } = kept;
        let (began, place) = (Instant::now(), self.place);
        let deadline = began + self.timeout;
        let end = |stop: Option<Instant>| stop.map(|stop| place.end(stop, began));
        let mut cut_off = end(*stop.borrow_and_update());
        let status = loop {
            let until = cut_off.map_or(deadline, |moment| moment.min(deadline));
            // All of them can be dropped and taken up again.
            tokio::select! {
                status = &mut ended => break Some(status),
                () = tokio::time::sleep_until(until) => break None,
                Ok(()) = stop.changed() => cut_off = end(*stop.borrow_and_update()),
            }
        };
        let Some(status) = status else {
            // The keeper ends the command when its lifeline goes.
            drop(leash);
            if let Err(error) = ended.await {
                tracing::error!(%error, "nobody saw the end of a command");
            }
            let failure = if cut_off.is_some_and(|moment| moment < deadline) {
                Failure::Stopped
            } else {
                Failure::TimedOut(self.timeout)
            };
            note(self.log, &format!("{} {failure}", self.what));
            return Err(failure);
        };
        let status = status
            .map_err(io::Error::other)
            .flatten()
            .map_err(not_started)?;
        let failure = match status.code() {
            Some(0) => return Ok(()),
            Some(code) => Failure::Code(code),
            None => Failure::Killed,
        };
        note(self.log, &format!("{} {failure}", self.what));
        Err(failure)
    }

    fn start(&mut self) -> io::Result<Kept> {
        note(self.log, &format!("{}: {}", self.what, self.command));
        let log = open(self.log)?;
        let (reader, lifeline) = io::pipe()?;
        let mut command = Command::new(process::own_program()?);
        // Not the name of the program: `pkill ai-sdlc` is meant for orchestrators.
        command.as_std_mut().arg0(process::EXECUTOR_NAME);
        command
            .args([keeper::COMMAND, self.command])
            .args(self.keep.iter())
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_inherited(name)))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder)
            .stdin(reader)
            .stderr(log.try_clone()?)
            .stdout(log);
        let child = process::spawn(&mut command)?;
        // Its end of the lifeline is its own alone now.
        drop(command);
        let (held, let_go) = oneshot::channel();
        let (turn, keep) = (Arc::clone(&self.turn), Arc::clone(self.keep));
        let folder = self.folder.to_owned();
        let ended = tokio::spawn(async move {
            let status = see_end(child, let_go, &keep, &folder).await;
            drop(turn);
            status
        });
        Ok(Kept {
            ended,
            leash: Leash {
                _lifeline: lifeline,
                _held: held,
            },
        })
    }
}

/// A command that runs.
struct Kept {
    ended: JoinHandle<io::Result<ExitStatus>>,
    leash: Leash,
}

/// What a keeper lives by. Dropping it ends the command.
struct Leash {
    _lifeline: PipeWriter,
    /// Tells the task that reaps the keeper that it is about to end.
    _held: oneshot::Sender<()>,
}

/// Owns a keeper until it is reaped.
async fn see_end(
    (mut child, ownership): (Child, Ownership),
    let_go: oneshot::Receiver<()>,
    keep: &Arc<[String]>,
    folder: &Path,
) -> io::Result<ExitStatus> {
    // `wait` may be dropped and called again.
    let status = tokio::select! {
        status = child.wait() => status,
        _ = let_go => {
            if let Ok(status) = tokio::time::timeout(ENDING, child.wait()).await {
                status
            } else {
                child.start_kill()?;
                child.wait().await
            }
        }
    };
    drop(ownership);
    // A keeper that came to its end has swept. What any other had below it belongs to this process now.
    if status.as_ref().is_ok_and(|status| status.code().is_none()) {
        let (keep, folder) = (Arc::clone(keep), folder.to_owned());
        let sweeping = tokio::task::spawn_blocking(move || {
            process::sweep_orphans(&Sweep {
                whose: Whose::OfAttempts {
                    mark: identity::RUN,
                    attempt: identity::STORY,
                },
                // Where processes work is told without links.
                worktrees: folder.canonicalize().ok().as_deref(),
                keep: &keep,
                asked: None,
                polite: POLITE,
                within: SWEEPING,
            })
        });
        match sweeping.await {
            Ok(swept) => tracing::warn!(ended = %swept, "the keeper of a command was killed"),
            Err(error) => tracing::error!(%error, "what a killed keeper has left is not known"),
        }
    }
    status
}

/// Whether a command gets a variable of this process: not those that belong to an attempt of another run, from whose agent
/// this one may have been started, nor those that tie git to one repository.
fn is_inherited(name: &OsStr) -> bool {
    let of_attempt = [
        identity::STORY,
        identity::ATTEMPT,
        identity::SOCKET,
        identity::PORT,
        OUTCOME,
    ];
    is_passed_on(name) && !of_attempt.iter().any(|one| name == *one)
}

/// Writes a line of ours into the log of an attempt's setup.
pub(super) fn note(log: &Path, line: &str) {
    let written = open(log).and_then(|mut file| writeln!(file, "ai-sdlc: {line}"));
    if let Err(error) = written {
        tracing::warn!(%error, log = %log.display(), line, "not noted");
    }
}

fn open(log: &Path) -> io::Result<File> {
    let in_place = |error: io::Error| {
        let log = log.display();
        io::Error::new(error.kind(), format!("cannot open {log}: {error}"))
    };
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(in_place)?;
    }
    // For appending, so that nobody's lines overwrite those of others; for reading, so that the keeper can follow it.
    let mut options = OpenOptions::new();
    let options = options.create(true).read(true).append(true);
    options.open(log).map_err(in_place)
}

/// Whether a program can be found on the `PATH`.
pub(super) fn is_on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path)
        // A relative entry would mean another program in every worktree.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(tool));
    files.any(|file: PathBuf| is_program(&file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
