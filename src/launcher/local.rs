//! Executors as child processes of this one.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::groups::Groups;
use super::{AttemptSpec, Closed, Connection, Control, LaunchError, Launched, Launcher};
use crate::engine::Exit;
use crate::process::{
    self, Ending, FileLimit, Leaf, Ownership, Sweep, Swept, Whose, signal_process,
};
use crate::protocol::{Listener, SocketDir, identity};

/// Orders to one executor that may wait: it gets a SIGTERM, perhaps a second one, and a SIGKILL.
const ORDERS: usize = 4;
/// How long what a killed executor left may take to end when it is asked to: a git then removes its lock files.
const POLITE: Duration = Duration::from_millis(300);
/// How long what is still there at the end of a run may take.
const LAST_POLITE: Duration = Duration::from_secs(1);
/// How long a sweep may take in all. Only a process that hangs in the kernel needs it.
const SWEEPING: Duration = Duration::from_secs(3);
/// How long removing the group of a run may take.
const REMOVING: Duration = Duration::from_secs(1);

/// Starts executors on this machine, each with a socket of its own.
pub struct LocalLauncher {
    program: PathBuf,
    sockets: SocketDir,
    /// How many sockets there have been; each gets a number for its name, which has to be short.
    bound: AtomicU64,
    files: FileLimit,
    sweeper: Sweeper,
    groups: Groups,
    reaping: AbortHandle,
}

impl Drop for LocalLauncher {
    fn drop(&mut self) {
        self.reaping.abort();
    }
}

impl LocalLauncher {
    /// A launcher of this very program, which from here on inherits what its executors leave behind. Called inside a
    /// runtime, before anything is started. Executors work below `worktrees`; `keep` are names of processes that may outlive
    /// their agent; the file gets the path of the group of processes of the run, if it has one, for as long as it has it.
    ///
    /// # Errors
    /// When there is no place for sockets, or this program cannot be found.
    pub fn new(
        files: FileLimit,
        worktrees: &Path,
        keep: &[String],
        group: PathBuf,
    ) -> Result<Self, LaunchError> {
        let sockets =
            SocketDir::create().map_err(|error| LaunchError::Socket(error.to_string()))?;
        let program = process::own_program().map_err(LaunchError::Spawn)?;
        if let Err(error) = process::adopt_orphans() {
            tracing::warn!(%error, "what a killed executor leaves will not be found");
        }
        Ok(Self {
            program,
            sockets,
            bound: AtomicU64::new(0),
            files,
            sweeper: Sweeper {
                keep: keep.into(),
                worktrees: worktrees.into(),
            },
            groups: Groups::noted_in(group),
            reaping: tokio::spawn(process::reap_orphans()).abort_handle(),
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
        // Opened for appending, so that the agent's output and the executor's own lines do not overwrite each other, and
        // for reading, so that the executor can follow it.
        let log = OpenOptions::new()
            .create(true)
            .read(true)
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
        // A start waits until the new program runs, close to a millisecond: not on the thread of all the others.
        let (groups, run, unit) = (self.groups.clone(), spec.run.clone(), spec.unit.clone());
        let spawning = tokio::task::spawn_blocking(move || {
            let leaf = groups.leaf(&run, &unit);
            match process::spawn(&mut command) {
                Ok((child, ownership)) => {
                    // It starts nothing before it is told to, and that takes its connection: nothing of it stays outside.
                    let join = |(leaf, pid)| groups.join(leaf, pid);
                    let leaf = leaf.zip(child.id()).and_then(join);
                    Ok((child, ownership, leaf))
                }
                Err(error) => {
                    if let Some(leaf) = leaf {
                        leaf.remove();
                    }
                    Err(error)
                }
            }
        });
        let spawned = spawning.await.map_err(io::Error::other).flatten();
        let (child, ownership, leaf) = spawned.map_err(LaunchError::Spawn)?;
        let Some(pid) = child.id() else {
            return Err(LaunchError::Spawn(io::Error::other("it has no process id")));
        };
        self.files.hand_down(pid);
        let (orders, received) = mpsc::channel(ORDERS);
        let (told, exit) = oneshot::channel();
        let keeper = Keeper {
            child,
            _ownership: ownership,
            pid,
            sweeper: self.sweeper.clone(),
            groups: self.groups.clone(),
            leaf: leaf.map(Arc::new),
        };
        tokio::spawn(keeper.stay(received, told));
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

    async fn close(&self) -> Closed {
        let mark = identity::RUN;
        let swept = self.sweeper.sweep(Whose::All { mark }, LAST_POLITE).await;
        let groups = self.groups.clone();
        let removing = tokio::task::spawn_blocking(move || groups.close());
        match tokio::time::timeout(REMOVING, removing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "groups of processes stay"),
            // Its note lies on a disk, which may hang.
            Err(_) => tracing::warn!("the group of this run is not removed in time"),
        }
        let names: Vec<String> = swept.stayed.iter().map(ToString::to_string).collect();
        Closed {
            ended: (swept.count > 0).then(|| swept.to_string()),
            stayed: (!names.is_empty()).then(|| names.join(", ")),
        }
    }
}

/// Owns an executor until it is reaped, so that it is only signalled while its number is its own.
struct Keeper {
    child: Child,
    _ownership: Ownership,
    pid: u32,
    sweeper: Sweeper,
    groups: Groups,
    leaf: Option<Arc<Leaf>>,
}

impl Keeper {
    async fn stay(mut self, mut orders: mpsc::Receiver<Ending>, told: oneshot::Sender<Exit>) {
        let pid = self.pid;
        let mut ended = std::pin::pin!(process::until_ended(pid));
        loop {
            // The end is the same future in every round; `recv` loses nothing when dropped.
            tokio::select! {
                () = &mut ended => break,
                Some(ending) = orders.recv() => signal_process(pid, ending),
            }
        }
        let killed = process::was_killed(pid);
        let exit = loop {
            // Over at once, unless this system does not tell of ends; `Child::wait` may be dropped and called again.
            tokio::select! {
                status = self.child.wait() => break status.map_or(Exit::Unknown, exit_of),
                Some(ending) = orders.recv() => signal_process(pid, ending),
            }
        };
        // An executor that came to its end has swept. What any other had below it belongs to this process now.
        let swept = !killed && matches!(exit, Exit::Code(0 | 1));
        if !swept {
            self.end_what_it_left().await;
        }
        if let Some(leaf) = &self.leaf {
            self.end_its_group(leaf).await;
        }
        // Nobody waits for it any more when the run was given up.
        let _: Result<(), Exit> = told.send(exit);
        if let Some(leaf) = self.leaf {
            self.groups.remove(leaf);
        }
    }

    /// What got past the sweeps. It was asked by those.
    async fn end_its_group(&self, leaf: &Arc<Leaf>) {
        let end = self
            .groups
            .end(Arc::clone(leaf), &self.sweeper.keep, SWEEPING)
            .await;
        if !end.ended.is_empty() {
            let (ended, stayed) = (&end.ended, &end.stayed);
            tracing::warn!(
                pid = self.pid,
                ?ended,
                ?stayed,
                "an executor left processes in its group"
            );
        }
    }

    async fn end_what_it_left(&self) {
        let whose = Whose::OfAttempts {
            mark: identity::RUN,
            attempt: identity::STORY,
        };
        let swept = self.sweeper.sweep(whose, POLITE).await;
        if !swept.is_clean() {
            let stayed = &swept.stayed;
            tracing::warn!(pid = self.pid, ended = %swept, ?stayed, "a killed executor left processes");
        }
    }
}

/// Ends what executors leave behind.
#[derive(Clone)]
struct Sweeper {
    /// Names of processes that may outlive their agent.
    keep: Arc<[String]>,
    /// Where executors work.
    worktrees: Arc<Path>,
}

impl Sweeper {
    /// Ends orphans of this process on a thread of its own.
    async fn sweep(&self, whose: Whose<'static>, polite: Duration) -> Swept {
        let Self { keep, worktrees } = self.clone();
        let sweeping = tokio::task::spawn_blocking(move || {
            // Where processes work is told without links.
            let worktrees = worktrees.canonicalize().ok();
            process::sweep_orphans(&Sweep {
                whose,
                worktrees: worktrees.as_deref(),
                keep: &keep,
                asked: None,
                polite,
                within: SWEEPING,
            })
        });
        sweeping.await.unwrap_or_else(|error| {
            tracing::error!(%error, "nobody ended what was left behind");
            Swept::default()
        })
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    status
        .code()
        .map(Exit::Code)
        .or_else(|| status.signal().map(Exit::Signal))
        .unwrap_or(Exit::Unknown)
}
