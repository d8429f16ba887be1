//! The seam between deciding that an executor runs and making it run.
//!
//! A launcher starts one process for one attempt and gives back three things: its connection, a way to end it, and
//! how it ended. It decides and retries nothing, and it does not look inside the connection. Today there is one, for
//! this machine; what it gives must stay possible for a process on another one.

mod groups;
mod local;

pub use local::LocalLauncher;

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::engine::{Exit, RunId, Unit};
use crate::process::Ending;

/// What is to be started: only names and places, everything else goes over the connection.
#[derive(Debug, Clone)]
pub struct AttemptSpec {
    /// The run.
    pub run: RunId,
    /// The story and the attempt.
    pub unit: Unit,
    /// The worktree, in which the executor starts.
    pub worktree: PathBuf,
    /// The file that gets what the executor and its agent write to their standard output and error.
    pub log: PathBuf,
}

/// An executor that was started.
pub struct Launched {
    /// Its process id, which it has to prove in its `hello`.
    pub pid: u32,
    /// Its connection, once it has made one. The deadline is the caller's.
    pub connection: Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>,
    /// Ends it.
    pub control: Control,
    /// How it ended, once it has ended and is reaped.
    pub exit: Pin<Box<dyn Future<Output = Exit> + Send>>,
}

/// A connection to an executor.
pub type Connection = Box<dyn Duplex>;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Ends an executor. An executor that has ended is not signalled, whoever has its number now.
#[derive(Debug, Clone)]
pub struct Control {
    orders: mpsc::Sender<Ending>,
}

impl Control {
    /// Asks for the signal. It comes to nothing when the executor has ended, or when so many orders are waiting that
    /// one more would not change what happens to it.
    pub fn end(&self, ending: Ending) {
        if let Err(error) = self.orders.try_send(ending) {
            tracing::debug!(%error, ?ending, "not delivered");
        }
    }
}

/// Why an executor could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// No socket for it.
    #[error("no socket for the executor: {0}")]
    Socket(String),
    /// No log file for it.
    #[error("cannot open its log {path}: {source}", path = path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No process for it.
    #[error("cannot start the executor: {0}")]
    Spawn(#[source] io::Error),
}

/// Starts executors.
pub trait Launcher: Send + Sync + 'static {
    /// Starts the executor of one attempt.
    fn launch(
        &self,
        spec: &AttemptSpec,
    ) -> impl Future<Output = Result<Launched, LaunchError>> + Send;

    /// Sees to it that nothing is left of what it has started, but for executors that are still ending by themselves.
    /// Called once, when no further executor is started.
    fn close(&self) -> impl Future<Output = Closed> + Send;
}

/// What there was to do when a launcher closed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closed {
    /// Processes that had to be ended, for a person; none when there were none.
    pub ended: Option<String>,
    /// Processes that could not be ended, for a person; none when there are none.
    pub stayed: Option<String>,
}
