//! Executors as child processes of this one.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use super::{AttemptSpec, Connection, Control, LaunchError, Launched, Launcher};
use crate::engine::Exit;
use crate::process::{self, Ending, signal_process};
use crate::protocol::{Listener, SocketDir, identity};

/// Orders to one executor that may wait: it gets a SIGTERM, perhaps a second one, and a SIGKILL.
const ORDERS: usize = 4;

/// Starts executors on this machine, each with a socket of its own.
pub struct LocalLauncher {
    program: PathBuf,
    sockets: SocketDir,
    /// How many sockets there have been; each gets a number for its name, which has to be short.
    bound: AtomicU64,
}

impl LocalLauncher {
    /// A launcher of this very program.
    ///
    /// # Errors
    /// When there is no place for sockets, or this program cannot be found.
    pub fn new() -> Result<Self, LaunchError> {
        let sockets =
            SocketDir::create().map_err(|error| LaunchError::Socket(error.to_string()))?;
        Ok(Self {
            program: own_program().map_err(LaunchError::Spawn)?,
            sockets,
            bound: AtomicU64::new(0),
        })
    }

    fn command(
        &self,
        spec: &AttemptSpec,
        socket: &std::path::Path,
    ) -> Result<Command, LaunchError> {
        let log_error = |source| LaunchError::Log {
            path: spec.log.clone(),
            source,
        };
        if let Some(folder) = spec.log.parent() {
            std::fs::create_dir_all(folder).map_err(log_error)?;
        }
        // Opened for appending, so that the agent's output and the executor's own lines do not overwrite each other.
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(log_error)?;
        let errors = log.try_clone().map_err(log_error)?;
        let mut command = Command::new(&self.program);
        // Not the name of the program: `pkill ai-sdlc` is meant for orchestrators, which then end their executors.
        command.as_std_mut().arg0(process::EXECUTOR_NAME);
        command
            .args(["agent-exec", spec.unit.story.as_str()])
            .env(identity::STORY, spec.unit.story.as_str())
            .env(identity::RUN, spec.run.as_str())
            .env(identity::ATTEMPT, spec.unit.attempt.to_string())
            .env(identity::SOCKET, socket)
            .current_dir(&spec.worktree)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        Ok(command)
    }
}

impl Launcher for LocalLauncher {
    async fn launch(&self, spec: &AttemptSpec) -> Result<Launched, LaunchError> {
        let name = self.bound.fetch_add(1, Ordering::Relaxed).to_string();
        let listener = Listener::bind(&self.sockets, &name)
            .map_err(|error| LaunchError::Socket(error.to_string()))?;
        let mut command = self.command(spec, listener.path())?;
        let child = command.spawn().map_err(LaunchError::Spawn)?;
        let Some(pid) = child.id() else {
            return Err(LaunchError::Spawn(io::Error::other("it has no process id")));
        };
        let (orders, received) = mpsc::channel(ORDERS);
        let (told, exit) = oneshot::channel();
        tokio::spawn(keep(child, pid, received, told));
        Ok(Launched {
            pid,
            connection: Box::pin(async move {
                let stream = listener.accept(pid).await.map_err(io::Error::other)?;
                Ok(Box::new(stream) as Connection)
            }),
            control: Control { orders },
            exit: Box::pin(async move { exit.await.unwrap_or(Exit::Unknown) }),
        })
    }
}

/// Owns the child until it is reaped, so that it is only signalled while its number is its own.
async fn keep(
    mut child: Child,
    pid: u32,
    mut orders: mpsc::Receiver<Ending>,
    told: oneshot::Sender<Exit>,
) {
    let mut ended = std::pin::pin!(process::until_ended(pid));
    loop {
        // The end is the same future in every round; `recv` loses nothing when dropped.
        tokio::select! {
            () = &mut ended => break,
            Some(ending) = orders.recv() => signal_process(pid, ending),
        }
    }
    if process::was_killed(pid) {
        sweep(pid).await;
    }
    let exit = loop {
        // Over at once, unless this system does not tell of ends; `Child::wait` may be dropped and called again.
        tokio::select! {
            status = child.wait() => break status.map_or(Exit::Unknown, exit_of),
            Some(ending) = orders.recv() => signal_process(pid, ending),
        }
    };
    // Nobody waits for it any more when the run was given up.
    let _: Result<(), Exit> = told.send(exit);
}

/// An executor that was killed could not end its agent: what it left in its session is ended here.
async fn sweep(leader: u32) {
    match tokio::task::spawn_blocking(move || process::end_session(leader)).await {
        Ok(left) if left.is_empty() => {}
        Ok(left) => tracing::info!(?left, "ended what a killed executor left behind"),
        Err(error) => tracing::error!(%error, "nobody ended what a killed executor left behind"),
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    status
        .code()
        .map(Exit::Code)
        .or_else(|| status.signal().map(Exit::Signal))
        .unwrap_or(Exit::Unknown)
}

/// The program to re-execute. On Linux the running image itself, so that an upgrade of the file during a run does
/// not mix versions.
fn own_program() -> io::Result<PathBuf> {
    let image = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && image.exists() {
        return Ok(image);
    }
    std::env::current_exe()
}
