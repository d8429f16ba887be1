//! The lock that makes this process the only orchestrator of a board.
//!
//! It is a lock of the operating system on `.ai-sdlc/run.lock`, so it ends with its holder, however that ends. The
//! text in the file says who holds it, and is taken out by a holder that ends well; it is information and never
//! trusted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::engine::RunId;

/// The most that is read of what a holder says of itself, in bytes.
const LONGEST_DESCRIPTION: u64 = 200;

/// The lock, held until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    predecessor: Predecessor,
    sign: Sign,
}

/// What becomes of the text in the file when the lock is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    TakenOut,
    Left,
}

/// How the last holder of a lock ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// In good order, or there was none.
    EndedWell,
    /// It was killed, or had to leave before it was through.
    Died,
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if self.sign == Sign::TakenOut
            && let Err(error) = self.file.set_len(0)
        {
            tracing::warn!(%error, "the next run will take this one for killed");
        }
    }
}

/// Why the lock cannot be had.
#[derive(Debug, Error)]
pub enum RunLockError {
    /// Another orchestrator has it.
    #[error("another run works on this board: {holder}")]
    Held {
        /// What it says of itself.
        holder: String,
    },
    /// The file cannot be used.
    #[error("cannot lock {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RunLock {
    /// Takes the lock of a board, or gives up after `patience`: a holder that is just ending is waited for.
    ///
    /// # Errors
    /// When it is held, or the file cannot be used.
    pub fn acquire(board: &Path, run: &RunId, patience: Duration) -> Result<Self, RunLockError> {
        let path = board.join("run.lock");
        Self::try_acquire(&path, run, patience).map_err(|error| match error {
            TryLockError::WouldBlock => RunLockError::Held {
                holder: describe_holder(&path),
            },
            TryLockError::Error(source) => RunLockError::Io { path, source },
        })
    }

    /// What the run that works on a board says of itself; none when there is none. Asking takes the lock for a moment,
    /// which a run that begins just then waits for.
    pub fn holder(board: &Path) -> Option<String> {
        let path = board.join("run.lock");
        let file = File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(describe_holder(&path)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    fn try_acquire(path: &Path, run: &RunId, patience: Duration) -> Result<Self, TryLockError> {
        // Never truncated on opening: the text belongs to whoever holds the lock.
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(TryLockError::Error)?;
        if let Err(error) = file.try_lock() {
            file = wait_for(file, error, patience)?;
        }
        let predecessor = match file.metadata() {
            Ok(data) if data.len() == 0 => Predecessor::EndedWell,
            Ok(_) | Err(_) => Predecessor::Died,
        };
        let mut lock = Self {
            file,
            predecessor,
            sign: Sign::TakenOut,
        };
        lock.describe(run);
        Ok(lock)
    }

    /// Says that the holder is another run than it said at first: one that goes on.
    pub fn describe(&mut self, run: &RunId) {
        let text = format!("run {run}, process {}\n", std::process::id());
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()));
        if let Err(error) = written {
            // The lock counts, the text does not.
            tracing::warn!(%error, "the lock file cannot be written");
        }
    }

    /// Leaves to the next holder what the last one should have seen to: it will find that its predecessor died.
    pub fn hand_on(&mut self) {
        if self.predecessor == Predecessor::Died {
            self.sign = Sign::Left;
        }
    }

    /// How the last holder ended.
    pub fn predecessor(&self) -> Predecessor {
        self.predecessor
    }
}

/// Waits a moment for a holder that is just ending: the system frees the lock of a process that was killed only once
/// all of it is gone. A thread waits in the kernel; one that waits in vain ends with the process.
fn wait_for(file: File, error: TryLockError, patience: Duration) -> Result<File, TryLockError> {
    let TryLockError::WouldBlock = error else {
        return Err(error);
    };
    let (sender, locked) = std::sync::mpsc::channel();
    let spawned = std::thread::Builder::new().spawn(move || {
        let result = file.lock().map(|()| file);
        // Nobody listens any more when it took too long.
        drop(sender.send(result));
    });
    if let Err(error) = spawned {
        return Err(TryLockError::Error(error));
    }
    match locked.recv_timeout(patience) {
        Ok(result) => result.map_err(TryLockError::Error),
        Err(_) => Err(TryLockError::WouldBlock),
    }
}

fn describe_holder(path: &Path) -> String {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(LONGEST_DESCRIPTION).read_to_string(&mut text));
    let line = text.lines().next().unwrap_or_default();
    if read.is_err() || line.is_empty() {
        return "it does not say which".to_owned();
    }
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::new("20261122-120000", 0xbeef).unwrap();
        let first = RunLock::acquire(folder.path(), &run, Duration::from_millis(50)).unwrap();
        let error = RunLock::acquire(folder.path(), &run, Duration::from_millis(50)).unwrap_err();
        let expected = format!(
            "another run works on this board: run 20261122-120000-beef, process {}",
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        let holder = RunLock::holder(folder.path()).unwrap();
        assert!(expected.ends_with(&holder), "{holder}");
        drop(first);
        // Programs that other tests start hold every lock for the moment until they run.
        RunLock::acquire(folder.path(), &run, Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_holder_that_was_killed_is_told_from_one_that_ended_well() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::new("20261122-120000", 0xbeef).unwrap();
        let acquire = || RunLock::acquire(folder.path(), &run, Duration::from_secs(5)).unwrap();
        let first = acquire();
        assert_eq!(first.predecessor(), Predecessor::EndedWell);
        let text = std::fs::read(folder.path().join("run.lock")).unwrap();
        drop(first);
        assert_eq!(acquire().predecessor(), Predecessor::EndedWell);
        // One that is killed takes nothing out.
        std::fs::write(folder.path().join("run.lock"), text).unwrap();
        let mut third = acquire();
        assert_eq!(third.predecessor(), Predecessor::Died);
        // Who only looks leaves it to the next one.
        third.hand_on();
        drop(third);
        assert_eq!(acquire().predecessor(), Predecessor::Died);
        assert_eq!(acquire().predecessor(), Predecessor::EndedWell);
    }
}
