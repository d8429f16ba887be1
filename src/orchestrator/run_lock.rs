//! The lock of a board, held by its only orchestrator, or by a command that nothing else must happen beside.
//!
//! It is a lock of the operating system on `.ai-sdlc/run.lock`, so it ends with its holder, however that ends. The
//! text in the file says who holds it, and under which name it works: when that was killed, what it has left running
//! carries the name. A holder that ends well takes the text out. It is information and never trusted with the board.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::engine::RunId;

/// The most that is read of what holders say of themselves, in bytes: names of some hundred of them.
const LONGEST_DESCRIPTION: u64 = 4096;

/// What the line of a run begins with.
const RUN: &str = "run ";

/// The lock, held until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    /// What it says of its holder, and the name under which that works.
    line: String,
    run: RunId,
    predecessor: Predecessor,
    sign: Sign,
}

/// What becomes of the text in the file when the lock is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    TakenOut,
    HandedOn,
}

/// What the lock is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupation {
    /// A run.
    Run,
    /// Another command, by its name.
    Command(&'static str),
}

impl Occupation {
    /// What the holder says of itself.
    fn line(self, run: &RunId) -> String {
        let process = std::process::id();
        match self {
            Self::Run => format!("{RUN}{run}, process {process}"),
            Self::Command(name) => format!("{name}, process {process}"),
        }
    }
}

/// How the last holder of a lock ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predecessor {
    /// In good order, or there was none.
    EndedWell,
    /// It was killed, or had to leave before it was through. With the names under which it worked, and those before it
    /// whose leftovers nobody has ended since.
    Died(Vec<RunId>),
}

impl Predecessor {
    /// The names whose bearers are dead, and may have left something running.
    pub fn dead(&self) -> &[RunId] {
        match self {
            Self::EndedWell => &[],
            Self::Died(names) => names,
        }
    }
}

/// Who has the lock, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// None when it does not say.
    line: Option<String>,
}

impl LockHolder {
    /// Whether it is a run, as far as is known.
    pub fn is_a_run(&self) -> bool {
        self.line.as_ref().is_none_or(|line| line.starts_with(RUN))
    }

    /// The run, if it is one and says which.
    pub fn run(&self) -> Option<RunId> {
        let line = self.line.as_ref()?.strip_prefix(RUN)?;
        line.split(',').next()?.parse().ok()
    }

    fn kind(&self) -> &'static str {
        if self.is_a_run() { "run" } else { "command" }
    }

    /// That it works on the board, as a sentence.
    pub fn works(&self) -> String {
        format!("another {} works on this board: {self}", self.kind())
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.line.as_deref().unwrap_or("it does not say which"))
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        let written = match self.sign {
            Sign::TakenOut => self.file.set_len(0),
            Sign::HandedOn => write(&mut self.file, "handed on", self.predecessor.dead()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the next holder of the lock will take this one for killed");
        }
    }
}

/// Why the lock cannot be had.
#[derive(Debug, Error)]
pub enum RunLockError {
    /// Somebody else has it.
    #[error("{}", holder.works())]
    Held {
        /// Who.
        holder: LockHolder,
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
    /// Takes the lock of a board, or gives up after `patience`: a holder that is just ending is waited for. `run` is
    /// the name under which the holder works.
    ///
    /// # Errors
    /// When it is held, or the file cannot be used.
    pub fn acquire(
        board: &Path,
        run: &RunId,
        occupation: Occupation,
        patience: Duration,
    ) -> Result<Self, RunLockError> {
        let path = board.join("run.lock");
        let taken = Self::try_acquire(&path, run, occupation, patience);
        taken.map_err(|error| match error {
            TryLockError::WouldBlock => RunLockError::Held {
                holder: describe_holder(&path),
            },
            TryLockError::Error(source) => RunLockError::Io { path, source },
        })
    }

    /// Who has the lock of a board; none when nobody has. Asking takes the lock for a moment, which a run that begins
    /// just then waits for.
    pub fn holder(board: &Path) -> Option<LockHolder> {
        let path = board.join("run.lock");
        let file = File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(describe_holder(&path)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    fn try_acquire(
        path: &Path,
        run: &RunId,
        occupation: Occupation,
        patience: Duration,
    ) -> Result<Self, TryLockError> {
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
        let predecessor = match read(&mut file) {
            Ok(text) if text.is_empty() => Predecessor::EndedWell,
            Ok(text) => Predecessor::Died(names_in(&text)),
            Err(_) => Predecessor::Died(Vec::new()),
        };
        let mut lock = Self {
            file,
            line: occupation.line(run),
            run: run.clone(),
            predecessor,
            sign: Sign::TakenOut,
        };
        lock.sign();
        Ok(lock)
    }

    /// Says that the holder is another run than it said at first: one that goes on.
    pub fn describe(&mut self, run: &RunId) {
        self.line = Occupation::Run.line(run);
        self.run = run.clone();
        self.sign();
    }

    /// Nothing is left running of those that held it before.
    pub fn has_ended_leftovers(&mut self) {
        self.predecessor = Predecessor::EndedWell;
        self.sign();
    }

    fn sign(&mut self) {
        let names = [&self.run].into_iter().chain(self.predecessor.dead());
        if let Err(error) = write(&mut self.file, &self.line, names) {
            // The lock counts, the text does not.
            tracing::warn!(%error, "the lock file cannot be written");
        }
    }

    /// Leaves to the next holder what the last one should have seen to: it will find that its predecessor died.
    pub fn hand_on(&mut self) {
        if self.predecessor != Predecessor::EndedWell {
            self.sign = Sign::HandedOn;
        }
    }

    /// How the last holder ended.
    pub fn predecessor(&self) -> &Predecessor {
        &self.predecessor
    }
}

/// Replaces the text. The new one is there before the rest of the old one goes: names must not be lost in between.
fn write<'a>(
    file: &mut File,
    line: &str,
    names: impl IntoIterator<Item = &'a RunId>,
) -> io::Result<()> {
    let mut text = format!("{line}\n");
    for name in names {
        text.push_str(name.as_str());
        text.push('\n');
    }
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(length)
}

fn read(file: &mut File) -> io::Result<String> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(LONGEST_DESCRIPTION).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The names in a text, each once.
fn names_in(text: &str) -> Vec<RunId> {
    let words = text.split([' ', ',', '\n']);
    let mut names: Vec<RunId> = words.filter_map(|word| word.parse().ok()).collect();
    names.sort();
    names.dedup();
    names
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

fn describe_holder(path: &Path) -> LockHolder {
    let text = File::open(path).and_then(|mut file| read(&mut file));
    let text = text.unwrap_or_default();
    let line = text.lines().next().filter(|line| !line.is_empty());
    LockHolder {
        line: line.map(|line| line.chars().filter(|c| !c.is_control()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(nonce: u32) -> RunId {
        RunId::new("20261122-120000", nonce).unwrap()
    }

    fn acquire(folder: &Path, nonce: u32, occupation: Occupation) -> RunLock {
        // Programs that other tests start hold every lock for the moment until they run.
        RunLock::acquire(folder, &run(nonce), occupation, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn the_second_one_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let process = std::process::id();
        for (occupation, says, expected) in [
            (
                Occupation::Run,
                Some(run(0xbeef)),
                format!(
                    "another run works on this board: run 20261122-120000-beef, process {process}"
                ),
            ),
            (
                Occupation::Command("worktrees prune"),
                None,
                format!("another command works on this board: worktrees prune, process {process}"),
            ),
        ] {
            let first = acquire(folder.path(), 0xbeef, occupation);
            let patience = Duration::from_millis(50);
            let error = RunLock::acquire(folder.path(), &run(1), Occupation::Run, patience);
            assert_eq!(error.unwrap_err().to_string(), expected);
            let holder = RunLock::holder(folder.path()).unwrap();
            assert!(expected.ends_with(&holder.to_string()), "{holder}");
            assert_eq!(holder.run(), says);
            assert_eq!(holder.is_a_run(), occupation == Occupation::Run);
            drop(first);
        }
    }

    #[test]
    fn a_holder_that_was_killed_is_told_from_one_that_ended_well() {
        let folder = tempfile::tempdir().unwrap();
        let take = |nonce| acquire(folder.path(), nonce, Occupation::Run);
        // One that is killed takes nothing out.
        let kill = |lock: RunLock| {
            let text = std::fs::read(folder.path().join("run.lock")).unwrap();
            drop(lock);
            std::fs::write(folder.path().join("run.lock"), text).unwrap();
        };
        let first = take(1);
        assert_eq!(first.predecessor(), &Predecessor::EndedWell);
        drop(first);
        let second = take(2);
        assert_eq!(second.predecessor(), &Predecessor::EndedWell);
        kill(second);
        let third = acquire(folder.path(), 3, Occupation::Command("worktrees prune"));
        assert_eq!(third.predecessor(), &Predecessor::Died(vec![run(2)]));
        // Nor has this one seen to what the one before has left.
        kill(third);
        let mut fourth = take(4);
        let both = Predecessor::Died(vec![run(2), run(3)]);
        assert_eq!(fourth.predecessor(), &both);
        // Who only looks leaves it to the next one.
        fourth.hand_on();
        drop(fourth);
        let mut fifth = take(5);
        assert_eq!(fifth.predecessor(), &both);
        fifth.has_ended_leftovers();
        kill(fifth);
        assert_eq!(take(6).predecessor(), &Predecessor::Died(vec![run(5)]));
        assert_eq!(take(7).predecessor(), &Predecessor::EndedWell);
    }
}
