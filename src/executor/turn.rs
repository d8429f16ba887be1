//! One turn of the agent: its program from its start to its end, and what it tells meanwhile.
//!
//! The agent writes to files, never to a pipe, and reads its prompt from a file, unless its input is a dialogue
//! (`dialogue.rs`). What it writes to its standard error goes into the attempt's log; its standard output too, unless it
//! is a stream of events: that is kept in a file of its own. An agent that only tries again is ended after a while.
//! Decides nothing about the story.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::dialogue::Dialogue;
use super::ear::LogEar;
use super::fence::Enclosure;
use super::hearing::Hearing;
use super::lines::LONGEST_EVENT;
use super::orders::{Orders, StopStep};
use super::output::{Output, Seen};
use super::pulse::{Beat, Pulse};
use crate::agent::{Ask, Input, Invocation, PROMPT_FILE, StreamReader, Turn, Usage};
use crate::process::{Ending, Follower, Limits, Session, SessionExit, own_output_since};

/// What is read of the agent's last words on its standard error, in bytes.
const LAST_WORDS: u64 = 8 * 1024;

/// How long an agent that was interrupted, or told to stop, may take to tell what it has used: those that do take a
/// quarter of a second.
const LAST_REPORT: Duration = Duration::from_millis(1500);

/// How long an agent may take to end that was asked to because it only tries again.
const GIVING_UP: Duration = Duration::from_secs(5);

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
    /// What holds its writes, if anything does.
    pub(super) enclosure: Option<Enclosure>,
    /// The variables that the agent gets, all of them.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// How it is asked to end.
    pub(super) ask: Ask,
    /// What its conversation has used before, by its own count.
    pub(super) used_before: Usage,
    /// Whom to tell that it does something.
    pub(super) pulse: &'a Pulse,
    /// What it writes into the log, as its activity.
    pub(super) log: watch::Receiver<Seen>,
    /// What it writes into the log, line by line.
    pub(super) ear: &'a LogEar,
}

/// How a turn ended.
pub(super) struct Ended {
    /// How the program ended; none when it was ended because it only tried again.
    pub(super) exit: Option<SessionExit>,
    /// What was heard of it.
    pub(super) turn: Turn,
    /// Its last words on its standard error.
    pub(super) stderr: String,
    /// Whether it had told that it is done before it was asked to end, if it was.
    pub(super) was_through: bool,
    /// Its process group, which has no leader any more.
    pub(super) group: u32,
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
    // It is there until the agent has ended.
    let prompt_file = invocation
        .prompt_file
        .as_deref()
        .map(prompt_file)
        .transpose();
    let prompt_file = prompt_file.map_err(|error| format!("no file for the prompt: {error}"))?;
    let mut command = Command::new(&invocation.program);
    command
        .args(arguments(
            invocation,
            prompt_file.as_ref().map(NamedTempFile::path),
        ))
        .current_dir(stage.folder)
        .env_clear()
        .envs(stage.environment)
        .envs(invocation.variables.iter().cloned());
    // A folder of its own for temporary files is there until the agent has ended.
    let _temporary = stage
        .enclosure
        .and_then(|enclosure| enclosure.enclose(&mut command));
    let (hearing, output, listening) = match stream {
        None => {
            stage.pulse.set(Beat::Writing);
            (Hearing::of_nothing(), None, None)
        }
        Some(Stream { file, reader }) => {
            let (writer, follower) = transcript(&file).map_err(|error| {
                let path = file.display();
                format!("cannot keep what the agent tells in {path}: {error}")
            })?;
            command.stdout(writer);
            let hearing = Hearing::new(reader, Turn::after(stage.used_before), stage.pulse.clone());
            let (events, errors) = (hearing.clone(), hearing.clone());
            let output = Output::follow(follower, LONGEST_EVENT, move |line| {
                events.event(line.bytes);
            });
            let listening = stage.ear.listen(move |line| errors.error_line(line));
            (hearing, Some(output), Some(listening))
        }
    };
    let mut dialogue = match &invocation.input {
        Input::Text(text) => {
            let input = input(text).map_err(|error| format!("no file for the prompt: {error}"))?;
            command.stdin(input);
            Dialogue::none()
        }
        Input::Dialogue => Dialogue::with(&mut command, &hearing)
            .map_err(|error| format!("no pipe to the agent: {error}"))?,
    };
    let mut session = Session::spawn(&mut command).map_err(|error| {
        let program = invocation.program.to_string_lossy();
        format!("cannot start `{program}`: {error}")
    })?;
    // What the program got of ours is not held open here any longer.
    drop(command);
    #[cfg(feature = "faults")]
    super::hold::at(super::hold::Point::Working);
    let mut heard = hearing.heard();
    let mut log = stage.log;
    let mut pressing = Pressing::default();
    let mut was_through = false;
    let exit = loop {
        // All of them can be dropped and taken up again.
        tokio::select! {
            exit = session.wait() => {
                break exit.map_err(|error| format!("the agent was lost: {error}"))?;
            }
            step = orders.next_step() => match step {
                StopStep::Ask => {
                    was_through |= hearing.with_turn(Turn::is_finished) && !pressing.has_asked();
                    let left = orders.time_left().unwrap_or_default();
                    press(pressing.ask(stage.ask, left), &session, &hearing);
                }
                StopStep::Kill => session.signal(Ending::Kill),
            },
            () = until(pressing.next()) => session.signal(pressing.step()),
            () = until(hearing.patience_ends()), if !pressing.has_asked() => {
                pressing.gives_up();
                press(pressing.ask(stage.ask, GIVING_UP), &session, &hearing);
            }
            () = dialogue.until_to_be_ended() => session.signal(pressing.end()),
            Ok(()) = heard.changed(), if output.is_some() => hearing.with_turn(|turn| tell(turn, None)),
            Ok(()) = log.changed(), if output.is_none() => {
                let seen = log.borrow_and_update().clone();
                hearing.with_turn(|turn| tell(turn, Some(&seen)));
            }
        }
    };
    let (_, words) = own_output_since(began, LAST_WORDS).unwrap_or_default();
    let told = match output {
        Some(output) => {
            output.end().await;
            true
        }
        None => false,
    };
    drop(listening);
    stage.pulse.set(Beat::Writing);
    let turn = hearing.take();
    if told {
        tell(&turn, None);
    }
    Ok(Ended {
        exit: (!pressing.gave_up()).then_some(exit),
        turn,
        stderr: String::from_utf8_lossy(&words).into_owned(),
        was_through,
        group: session.group(),
    })
}

/// Does what presses the agent to end.
fn press(step: Option<Step>, session: &Session, hearing: &Hearing) {
    match step {
        Some(Step::Signal(ending)) => session.signal(ending),
        Some(Step::Say) => hearing.interrupt(),
        None => {}
    }
}

/// What presses an agent to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A signal.
    Signal(Ending),
    /// What is said to it.
    Say,
}

/// How an agent is made to end, step by step.
#[derive(Debug, Default)]
struct Pressing {
    gave_up: bool,
    asked: bool,
    terminated: bool,
    /// SIGTERM follows then, for one that was interrupted first.
    terminate_at: Option<Instant>,
    /// SIGKILL follows then, for one that is not ended by an order.
    kill_at: Option<Instant>,
}

impl Pressing {
    /// It only tries again, and is ended for that.
    fn gives_up(&mut self) {
        self.gave_up = true;
        self.kill_at = Some(Instant::now() + GIVING_UP);
    }

    fn gave_up(&self) -> bool {
        self.gave_up
    }

    fn has_asked(&self) -> bool {
        self.asked
    }

    /// What asks it, when it has so much time; nothing when it was asked gently and still has time for that: the same
    /// order comes by two ways.
    fn ask(&mut self, how: Ask, left: Duration) -> Option<Step> {
        let first = !std::mem::replace(&mut self.asked, true);
        let gently = match how {
            Ask::InterruptFirst => Some(Step::Signal(Ending::Interrupt)),
            Ask::Say => Some(Step::Say),
            Ask::Terminate => None,
        };
        let at = Instant::now() + LAST_REPORT.min(left / 3);
        match (gently, self.terminate_at) {
            (Some(gently), _) if first => {
                self.terminate_at = Some(at);
                Some(gently)
            }
            (_, Some(before)) if !left.is_zero() => {
                self.terminate_at = Some(before.min(at));
                None
            }
            // It is at its end: many take a second SIGTERM for a request to drop everything.
            _ if self.terminated && !left.is_zero() => None,
            _ => {
                self.terminate_at = None;
                self.terminated = true;
                Some(Step::Signal(Ending::Terminate))
            }
        }
    }

    /// What ends it, when all is said.
    fn end(&mut self) -> Ending {
        self.terminate_at = None;
        self.terminated = true;
        self.kill_at = self.kill_at.or(Some(Instant::now() + GIVING_UP));
        Ending::Terminate
    }

    fn next(&self) -> Option<Instant> {
        self.terminate_at.or(self.kill_at)
    }

    fn step(&mut self) -> Ending {
        if self.terminate_at.take().is_some() {
            self.terminated = true;
            return Ending::Terminate;
        }
        self.kill_at = None;
        Ending::Kill
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// A file with the prompt.
fn prompt_file(text: &str) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix("ai-sdlc-prompt-").suffix(".md").tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    Ok(file)
}

/// The arguments, with the path of the file with the prompt where that stands.
fn arguments(invocation: &Invocation, file: Option<&Path>) -> Vec<OsString> {
    let path = file.map(|file| file.display().to_string());
    let argument = |argument: &OsString| match (&path, argument.to_str()) {
        (Some(path), Some(text)) => text.replace(PROMPT_FILE, path).into(),
        _ => argument.clone(),
    };
    invocation.arguments.iter().map(argument).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_interrupted_is_terminated_next_and_killed_last() {
        let mut pressing = Pressing::default();
        assert_eq!(pressing.next(), None);
        pressing.gives_up();
        let interrupt = Some(Step::Signal(Ending::Interrupt));
        let terminate = Some(Step::Signal(Ending::Terminate));
        assert_eq!(pressing.ask(Ask::InterruptFirst, GIVING_UP), interrupt);
        let first = pressing.next().unwrap();
        // The same order once more changes nothing.
        assert_eq!(pressing.ask(Ask::InterruptFirst, GIVING_UP), None);
        assert_eq!(pressing.next(), Some(first));
        assert_eq!(pressing.step(), Ending::Terminate);
        assert!(pressing.next().unwrap() > first);
        assert_eq!(pressing.step(), Ending::Kill);
        assert_eq!(pressing.next(), None);
        // Who is asked once more has no time left.
        let mut pressing = Pressing::default();
        assert_eq!(pressing.ask(Ask::InterruptFirst, GIVING_UP), interrupt);
        assert_eq!(pressing.ask(Ask::InterruptFirst, Duration::ZERO), terminate);
        assert_eq!(pressing.next(), None);
    }

    #[test]
    fn one_that_has_time_left_is_terminated_once_however_often_the_order_comes() {
        let terminate = Some(Step::Signal(Ending::Terminate));
        let mut pressing = Pressing::default();
        assert_eq!(pressing.ask(Ask::Terminate, GIVING_UP), terminate);
        assert_eq!(pressing.ask(Ask::Terminate, GIVING_UP), None);
        assert_eq!(pressing.ask(Ask::Terminate, Duration::ZERO), terminate);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_told_is_terminated_when_that_does_not_help() {
        let mut pressing = Pressing::default();
        assert_eq!(pressing.ask(Ask::Say, GIVING_UP), Some(Step::Say));
        assert!(pressing.next().is_some());
        assert_eq!(pressing.end(), Ending::Terminate);
        assert_eq!(pressing.step(), Ending::Kill);
    }
}
