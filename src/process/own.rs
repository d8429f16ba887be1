//! Which children of this process are its own, and which it has inherited.
//!
//! A subreaper inherits the orphans of its descendants. They have to be reaped here, but the exit status of a child
//! that somebody waits for must not be taken away. So every child is started through this module, which notes it until
//! its owner has seen its end; all others are orphans. Never `waitpid(-1)`: it takes whatever comes.
//!
//! The list is locked only to be looked at. A start can hang for as long as a file system does (until the new program
//! runs, whoever starts it waits), so nothing is locked during one: what may be the child of a start that goes on is
//! left alone instead, and nothing else waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

static CHILDREN: Mutex<Children> = Mutex::new(Children {
    owned: BTreeSet::new(),
    starts: BTreeMap::new(),
    next: 0,
});

/// The children that somebody waits for, and those that are being started.
#[derive(Debug)]
pub(super) struct Children {
    owned: BTreeSet<u32>,
    starts: BTreeMap<u64, Start>,
    /// The number of the next start.
    next: u64,
}

/// The start of a child that has not come back.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only where orphans are inherited is it looked at")
)]
struct Start {
    began: Instant,
    /// The same in clock ticks since the system started: its child did not start before that.
    ticks: u64,
}

/// The list. Whoever holds it does nothing that can hang.
pub(super) fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The claim to a child. It is kept with the child and dropped with it, once the child is reaped or nobody wants to
/// know how it ended.
#[derive(Debug)]
#[must_use = "a child that nobody owns is an orphan"]
pub struct Ownership(u32);

impl Drop for Ownership {
    fn drop(&mut self) {
        children().owned.remove(&self.0);
    }
}

/// A start that goes on, noted until it is dropped.
struct Starting(u64);

impl Starting {
    fn new() -> Self {
        let start = Start {
            began: Instant::now(),
            ticks: ticks_now(),
        };
        let mut children = children();
        let number = children.next;
        children.next += 1;
        children.starts.insert(number, start);
        Self(number)
    }

    /// The child is there, and owned. At no moment is it neither that nor being started.
    fn owns(self, pid: u32) -> Ownership {
        {
            let mut children = children();
            children.owned.insert(pid);
            children.starts.remove(&self.0);
        }
        Ownership(pid)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        children().starts.remove(&self.0);
    }
}

/// Starts a child of this process. Blocks until it runs its program.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(
    command: &mut tokio::process::Command,
) -> io::Result<(tokio::process::Child, Ownership)> {
    let starting = Starting::new();
    let child = command.spawn()?;
    // It is not reaped yet, so that it has a number.
    let pid = child.id().unwrap_or_default();
    Ok((child, starting.owns(pid)))
}

/// Starts a child of this process.
pub(super) fn spawn_blocking_child(
    command: &mut std::process::Command,
) -> io::Result<(std::process::Child, Ownership)> {
    let starting = Starting::new();
    let child = command.spawn()?;
    let pid = child.id();
    Ok((child, starting.owns(pid)))
}

#[cfg(target_os = "linux")]
fn ticks_now() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Boottime);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * per_second + nanoseconds * per_second / 1_000_000_000
}

#[cfg(not(target_os = "linux"))]
fn ticks_now() -> u64 {
    0
}

#[cfg(target_os = "linux")]
pub(super) use standing::Standing;

#[cfg(target_os = "linux")]
mod standing {
    use std::time::{Duration, Instant};

    use super::super::table::{Entry, State, has_own_image};
    use super::Children;

    /// How long a start may take before it counts as hanging. Usually it is a millisecond.
    const USUAL_START: Duration = Duration::from_secs(2);

    /// What a child of this process is to it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(in super::super) enum Standing {
        /// Somebody waits for it.
        Owned,
        /// It may be the child of a start that goes on. That is over soon.
        Unclear,
        /// It was inherited; how it was when it was looked at.
        Orphan(Entry),
        /// There is no such process.
        Gone,
    }

    impl Children {
        /// What that child is. As long as the list is held, its number stays its own when it is an orphan, since nobody
        /// else reaps one.
        pub(in super::super) fn standing(&self, pid: u32) -> Standing {
            if self.owned.contains(&pid) {
                return Standing::Owned;
            }
            let Some(entry) = Entry::read_any(pid) else {
                return Standing::Gone;
            };
            let mut possible = self
                .starts
                .values()
                .filter(|start| start.ticks <= entry.started)
                .peekable();
            if possible.peek().is_none() {
                return Standing::Orphan(entry);
            }
            let now = Instant::now();
            if possible.any(|start| now.duration_since(start.began) < USUAL_START) {
                return Standing::Unclear;
            }
            // A start that hangs has not come to another program yet; or its child has failed, and its end will be
            // asked for.
            if entry.state == State::Ended || has_own_image(pid) {
                Standing::Owned
            } else {
                Standing::Orphan(entry)
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use std::time::Duration;

    use super::super::table;
    use super::*;

    /// A child whose program does not come: `exec` hangs until the pipe is written to.
    #[test]
    fn a_start_that_hangs_holds_up_nobody_and_its_child_is_nobodys_orphan() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (said, told) = std::sync::mpsc::channel();
        let hanging = std::thread::spawn(move || {
            let mut command = Command::new("sh");
            command.args(["-c", "exit 7"]);
            let mut gate = reader;
            let wait = move || gate.read_exact(&mut [0]);
            #[expect(unsafe_code, reason = "this is where a start hangs")]
            // SAFETY: between fork and exec it reads from a descriptor, and nothing else.
            unsafe {
                command.pre_exec(wait);
            }
            said.send(rustix::thread::gettid().as_raw_nonzero().get())
                .unwrap();
            let (mut child, _ownership) = spawn_blocking_child(&mut command).unwrap();
            child.wait().unwrap().code()
        });
        // Its own children are listed with the thread that started them.
        let thread = told.recv().unwrap();
        let own = std::process::id();
        let list = format!("/proc/{own}/task/{thread}/children");
        let pid: u32 = loop {
            let listed = std::fs::read_to_string(&list).unwrap();
            if let Ok(pid) = listed.trim().parse() {
                break pid;
            }
            std::thread::yield_now();
        };
        assert_eq!(children().standing(pid), Standing::Unclear);

        let mut other = Command::new("sh");
        let (mut child, ownership) = spawn_blocking_child(other.args(["-c", "exit 5"])).unwrap();
        assert_eq!(children().standing(child.id()), Standing::Owned);
        assert_eq!(child.wait().unwrap().code(), Some(5));
        drop(ownership);

        // As if it had hung for long: it is still of this very image, so that it is left alone.
        for start in children().starts.values_mut() {
            start.began -= Duration::from_secs(60);
        }
        assert_eq!(children().standing(pid), Standing::Owned);
        // What has a program of its own is not what is being started.
        assert!(!table::has_own_image(1));

        writer.write_all(b"x").unwrap();
        assert_eq!(hanging.join().unwrap(), Some(7));
        assert_eq!(children().standing(pid), Standing::Gone);
    }

    #[test]
    fn what_was_there_before_a_start_is_an_orphan_during_it() {
        let mut before = Command::new("sleep").arg("1000").spawn().unwrap();
        // Starts are told apart by ticks of the system's clock.
        let born = table::Entry::read_any(before.id()).unwrap().started;
        while ticks_now() <= born {
            std::thread::yield_now();
        }
        let until = Instant::now() + Duration::from_secs(30);
        let is_orphan = loop {
            let starting = Starting::new();
            let standing = children().standing(before.id());
            drop(starting);
            // A start of another test may have begun before it was born, and is over soon.
            if standing != Standing::Unclear || Instant::now() > until {
                break matches!(standing, Standing::Orphan(_));
            }
            std::thread::yield_now();
        };
        before.kill().unwrap();
        before.wait().unwrap();
        assert!(is_orphan);
    }
}
