//! The keeper of one command: `ai-sdlc hook-exec <command> [name …]`, the small owner of everything that the command
//! starts.
//!
//! Its standard input is its lifeline: nothing is ever written to it, and when it ends, nobody wants the command any more,
//! since it took too long, was given up, or its orchestrator is dead. Then, and also when the command ends by itself,
//! nothing that it has started goes on, but for processes of the names that may. What it prints is kept small.

use std::io::{self, Read as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::process::{self, Ending, Follower, Limits, Session, SessionExit, Sweep, Whose};
use crate::protocol::identity;

/// The name of the command under which the program is a keeper.
pub(super) const COMMAND: &str = "hook-exec";

/// How long a command may take to end when it is asked to; then it is killed.
const POLITE: Duration = Duration::from_secs(1);
/// How long the last kills may take. Only a process that hangs in the kernel needs it.
const WITHIN: Duration = Duration::from_secs(3);
/// How long the runtime may take to drop what is left.
const WIND_UP: Duration = Duration::from_millis(200);

/// The command was ended, since nobody wanted it any more (as `timeout(1)` has it).
const ENDED: u8 = 124;
/// The command could not be started (as shells have it).
const NOT_STARTED: u8 = 126;

/// Runs a command for `sh` and returns its exit code, as a shell would. What it prints goes where this process prints.
pub(super) fn keep(command: &str, names: &[String]) -> ExitCode {
    // First of all: a signal from the terminal is for the orchestrator.
    process::enter_own_session();
    process::take_executor_name();
    process::wake_at_death_of_parent();
    crate::diagnostics::to_stderr();
    if let Err(error) = process::adopt_orphans() {
        tracing::warn!(%error, "what leaves the command's tree will not be found");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::from(NOT_STARTED);
        }
    };
    let code = runtime.block_on(run(command, names));
    runtime.shutdown_timeout(WIND_UP);
    ExitCode::from(code)
}

async fn run(command: &str, names: &[String]) -> u8 {
    let mut lifeline = match lifeline() {
        Ok(lifeline) => lifeline,
        Err(error) => {
            tracing::error!(%error, "nobody would tell when the command is to end");
            return NOT_STARTED;
        }
    };
    tokio::spawn(process::reap_orphans());
    tokio::spawn(keep_output_small());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null());
    let mut session = match Session::spawn(&mut shell) {
        Ok(session) => session,
        Err(error) => {
            tracing::error!(%error, "cannot start sh");
            return NOT_STARTED;
        }
    };
    // Both can be dropped and taken up again.
    let (code, asked) = tokio::select! {
        exit = session.wait() => (code_of(exit), None),
        _ = &mut lifeline => {
            session.signal(Ending::Terminate);
            if tokio::time::timeout(POLITE, session.wait()).await.is_err() {
                session.signal(Ending::Kill);
            }
            (ENDED, Some(session.group()))
        }
    };
    drop(session);
    let keep = names.to_vec();
    let sweeping = tokio::task::spawn_blocking(move || {
        process::sweep_orphans(&Sweep {
            whose: Whose::All {
                mark: identity::RUN,
            },
            worktrees: None,
            keep: &keep,
            asked,
            polite: if asked.is_some() {
                Duration::ZERO
            } else {
                POLITE
            },
            within: WITHIN,
        })
    });
    match sweeping.await {
        Ok(swept) if swept.is_clean() => {}
        Ok(swept) => {
            let stayed = &swept.stayed;
            tracing::warn!(ended = %swept, ?stayed, "the command left processes running");
        }
        Err(error) => tracing::error!(%error, "what the command left running is not known"),
    }
    code
}

/// Reads what the command prints as it is written, for ever: of a flood, the beginning and the end stay in the file.
async fn keep_output_small() {
    let follow = async {
        let mut output = Follower::of_own_output(Limits::default())?;
        loop {
            output.next().await?;
        }
    };
    let followed: io::Result<()> = follow.await;
    if let Err(error) = followed {
        tracing::warn!(%error, "the output is not kept small");
    }
}

/// Resolves when the standard input ends. A thread waits for it, since what is read from may be anything.
fn lifeline() -> io::Result<oneshot::Receiver<()>> {
    let (sender, ended) = oneshot::channel();
    let waiting = move || {
        let mut buffer = [0; 64];
        let mut input = io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        // The command has ended by itself when nobody listens.
        let _told: Result<(), ()> = sender.send(());
    };
    let thread = std::thread::Builder::new().name("lifeline".to_owned());
    thread.spawn(waiting)?;
    Ok(ended)
}

fn code_of(exit: io::Result<SessionExit>) -> u8 {
    match exit {
        Ok(SessionExit::Code(code)) => u8::try_from(code).unwrap_or(u8::MAX),
        Ok(SessionExit::Signal(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Err(error) => {
            tracing::error!(%error, "the command was lost");
            NOT_STARTED
        }
    }
}
