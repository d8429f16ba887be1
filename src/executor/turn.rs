//! One turn of the agent: its program from its start to its end, and what it tells meanwhile.
//!
//! The agent reads its prompt from a file and writes to files, never from or to a pipe. What it writes to its standard
//! error goes into the attempt's log; its standard output too, unless it is a stream of events: that is kept in a file
//! of its own. Decides nothing about the story.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use super::lines::LONGEST_EVENT;
use super::orders::{Orders, StopStep};
use super::output::{Output, Seen};
use super::pulse::{Beat, Pulse};
use crate::agent::{Ask, Heard, Invocation, StreamReader, Turn, Usage};
use crate::process::{Ending, Follower, Limits, Session, SessionExit, own_output_since};

/// What is read of the agent's last words on its standard error, in bytes.
const LAST_WORDS: u64 = 8 * 1024;

/// How long an agent that was interrupted may take to tell what it has used: those that do take a quarter of a second.
const LAST_REPORT: Duration = Duration::from_millis(1500);

/// Where an agent's stream goes, and who understands it.
pub(super) struct Stream {
    /// The file, which must not be there yet.
    pub(super) file: PathBuf,
    /// Who understands it.
    pub(super) reader: Box<dyn StreamReader>,
}

/// What is needed to play a turn.
pub(super) struct Stage<'a> {
    /// Where the agent works.
    pub(super) folder: &'a Path,
    /// The variables that the agent gets, all of them.
    pub(super) environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// How it is asked to end.
    pub(super) ask: Ask,
    /// What its conversation has used before, by its own count.
    pub(super) used_before: Usage,
    /// Whom to tell that it does something.
    pub(super) pulse: &'a Pulse,
    /// What it writes into the log.
    pub(super) log: watch::Receiver<Seen>,
}

/// How a turn ended.
pub(super) struct Ended {
    /// How the program ended.
    pub(super) exit: SessionExit,
    /// What was heard of it.
    pub(super) turn: Turn,
    /// Its last words on its standard error.
    pub(super) stderr: String,
    /// Its process group, which has no leader any more.
    pub(super) group: u32,
}

/// What is known of a turn that goes on.
#[derive(Clone)]
struct Live(Arc<Mutex<Turn>>);

impl Live {
    fn new(turn: Turn) -> Self {
        Self(Arc::new(Mutex::new(turn)))
    }

    /// What was heard.
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plays a turn. `tell` is called whenever something was heard, with the last line of the log where there is no stream.
///
/// # Errors
/// When the program cannot be started, or the system does not tell how it ended.
pub(super) async fn play(
    stage: Stage<'_>,
    invocation: &Invocation,
    stream: Option<Stream>,
    orders: &mut Orders,
    mut tell: impl FnMut(&Turn, Option<&Seen>),
) -> Result<Ended, String> {
    let began = own_output_since(0, 0).map_or(0, |(end, _)| end);
    let live = Live::new(Turn::after(stage.used_before));
    let (told, mut heard) = watch::channel(());
    let mut command = Command::new(&invocation.program);
    command
        .args(&invocation.arguments)
        .current_dir(stage.folder)
        .env_clear()
        .envs(stage.environment)
        .envs(invocation.variables.iter().cloned())
        .stdin(
            input(&invocation.input).map_err(|error| format!("no file for the prompt: {error}"))?,
        );
    let output = match stream {
        None => {
            stage.pulse.set(Beat::Writing);
            None
        }
        Some(Stream { file, mut reader }) => {
            let path = file.display().to_string();
            let no_file =
                |error: io::Error| format!("cannot keep what the agent tells in {path}: {error}");
            let (writer, follower) = transcript(&file).map_err(no_file)?;
            command.stdout(writer);
            let (live, pulse) = (live.clone(), stage.pulse.clone());
            pulse.set(Beat::Telling(Instant::now()));
            Some(Output::follow(follower, LONGEST_EVENT, move |line| {
                let mut turn = live.turn();
                for event in reader.read(line.bytes) {
                    if turn.hear(event) == Heard::Progress {
                        pulse.set(Beat::Telling(Instant::now()));
                    }
                }
                drop(turn);
                told.send_replace(());
            }))
        }
    };
    let mut session = Session::spawn(&mut command).map_err(|error| {
        let program = invocation.program.to_string_lossy();
        format!("cannot start `{program}`: {error}")
    })?;
    // What the program got of ours is not held open here any longer.
    drop(command);
    let mut log = stage.log;
    let mut pressing = None;
    let exit = loop {
        // All of them can be dropped and taken up again.
        tokio::select! {
            exit = session.wait() => {
                break exit.map_err(|error| format!("the agent was lost: {error}"))?;
            }
            step = orders.next_step() => match (step, stage.ask) {
                (StopStep::Ask, Ask::InterruptFirst) if pressing.is_none() => {
                    session.signal(Ending::Interrupt);
                    let patience = orders.time_left().unwrap_or_default() / 3;
                    pressing = Some(Box::pin(sleep(LAST_REPORT.min(patience))));
                }
                (StopStep::Ask, _) => session.signal(Ending::Terminate),
                (StopStep::Kill, _) => session.signal(Ending::Kill),
            },
            () = async {
                match &mut pressing {
                    Some(pressing) => pressing.await,
                    None => std::future::pending().await,
                }
            } => {
                session.signal(Ending::Terminate);
                pressing = Some(Box::pin(sleep(Duration::MAX)));
            }
            Ok(()) = heard.changed(), if output.is_some() => {
                heard.mark_unchanged();
                tell(&live.turn(), None);
            }
            Ok(()) = log.changed(), if output.is_none() => {
                let seen = log.borrow_and_update().clone();
                tell(&live.turn(), Some(&seen));
            }
        }
    };
    let (_, words) = own_output_since(began, LAST_WORDS).unwrap_or_default();
    if let Some(output) = output {
        output.end().await;
    }
    stage.pulse.set(Beat::Writing);
    let turn = std::mem::take(&mut *live.turn());
    tell(&turn, None);
    Ok(Ended {
        exit,
        turn,
        stderr: String::from_utf8_lossy(&words).into_owned(),
        group: session.group(),
    })
}

/// The agent's standard input: a file without a name, which ends where the text does.
fn input(text: &str) -> io::Result<Stdio> {
    if text.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

/// The file for a stream, open for the agent to append to and for us to follow.
fn transcript(path: &Path) -> io::Result<(File, Follower)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create_new(true).mode(0o600);
    let file = options.open(path)?;
    let follower = Follower::new(file.try_clone()?, path.to_owned(), Limits::default())?;
    Ok((file, follower))
}
