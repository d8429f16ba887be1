//! Lines that come from another process, with a deadline for each; and named pipes.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::Errno;

/// A pipe from which lines are read.
pub(crate) struct Lines {
    source: File,
    waiting: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The lines of a pipe. It holds a million bytes before its writer has to wait.
    pub(crate) fn of(source: impl Into<OwnedFd>) -> Self {
        let source = File::from(source.into());
        // A small one does as well, as long as somebody reads.
        let _small: Result<usize, Errno> = rustix::pipe::fcntl_setpipe_size(&source, 1 << 20);
        Self {
            source,
            waiting: Vec::new(),
            ended: false,
        }
    }

    /// The lines that are written to a new named pipe. It has no end.
    pub(crate) fn at(path: &Path) -> Self {
        Self::of(named_pipe(path))
    }

    /// The next line, if it comes in time.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<String> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.ended || !readable(&self.source, left) {
                return None;
            }
            let mut chunk = [0; 16 * 1024];
            match self.source.read(&mut chunk) {
                Ok(0) | Err(_) => self.ended = true,
                Ok(count) => self.waiting.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

fn readable(source: &File, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    let mut watched = [PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN)];
    matches!(poll(&mut watched, timeout.as_ref()), Ok(1..))
}

/// A gate at which another process waits until a line comes.
pub(crate) struct Gate(File);

impl Gate {
    pub(crate) fn at(path: &Path) -> Self {
        Self(named_pipe(path))
    }

    pub(crate) fn open(&self) {
        (&self.0)
            .write_all(b"go\n")
            .expect("a line fits into the pipe");
    }
}

/// The end of a named pipe at which the last writer's end is seen. Tells of processes that live too short to be found.
pub(crate) struct LastOne {
    end: OwnedFd,
    path: PathBuf,
}

impl LastOne {
    pub(crate) fn at(path: &Path) -> Self {
        drop(named_pipe(path));
        Self {
            end: open_end(path, OFlags::RDONLY),
            path: path.to_owned(),
        }
    }

    /// Whether the last writer is gone by then.
    pub(crate) fn is_gone_by(&self, deadline: Instant) -> bool {
        // The end of the last one is told only when there has been one.
        drop(open_end(&self.path, OFlags::WRONLY));
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut watched = [PollFd::new(&self.end, PollFlags::empty())];
        matches!(poll(&mut watched, timeout.as_ref()), Ok(1..))
    }
}

fn open_end(path: &Path, direction: OFlags) -> OwnedFd {
    let flags = direction | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes a named pipe and opens it for both directions: nobody waits for the other side, and nothing is lost.
fn named_pipe(path: &Path) -> File {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
