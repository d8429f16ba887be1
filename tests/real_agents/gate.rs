//! Places at which a tool of an agent and a case wait for each other: named pipes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A named pipe. It is open for both directions here, so that nobody waits for the other one to open it, and nothing is
/// lost when one is faster.
pub(crate) struct Gate(File);

impl Gate {
    /// Makes it.
    pub(crate) fn new(path: &Path) -> Self {
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.is_ok_and(|made| made.success()), "no pipe can be made");
        let mut options = OpenOptions::new();
        let pipe = options.read(true).write(true).open(path);
        Self(pipe.expect("it can be opened"))
    }

    /// Waits until somebody has come to it.
    pub(crate) fn await_somebody(&self, patience: Duration) -> Result<(), String> {
        let timeout = Timespec::try_from(patience).ok();
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        let came = poll(&mut watched, timeout.as_ref()).map_err(|error| error.to_string())?;
        if came == 0 {
            return Err(format!("the tool does not run within {patience:?}"));
        }
        let read = (&self.0).read(&mut [0; 64]);
        read.map(drop).map_err(|error: io::Error| error.to_string())
    }

    /// Lets the next one pass who comes to it, or is there.
    pub(crate) fn open(&self) -> Result<(), String> {
        let written = (&self.0).write_all(b"go\n");
        written.map_err(|error| error.to_string())
    }
}
