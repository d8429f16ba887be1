//! Ends a git that is no longer wanted, gently: git removes its lock files when it is told to terminate, and leaves
//! them behind, in everybody's way, when it is killed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::Child;
use tokio::sync::oneshot;

use super::lock::AdminGuard;
use crate::process::Ownership;

/// How long git may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How long what git has started (a hook with a git of its own) may take longer than git.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// How long a killed git may take to disappear.
const REAP_DEADLINE: Duration = Duration::from_secs(5);

/// The longest that an ending takes: only a process that hangs in the kernel comes near it.
pub(super) const ENDING_DEADLINE: Duration = Duration::from_secs(8);

/// The endings of this process that are under way.
static UNDER_WAY: Registry = Registry {
    entries: Mutex::new(Entries {
        next: 0,
        directories: BTreeMap::new(),
    }),
    changed: Condvar::new(),
};

struct Registry {
    entries: Mutex<Entries>,
    changed: Condvar,
}

struct Entries {
    next: u64,
    /// Where the ending gits run, by a number that is never used again.
    directories: BTreeMap<u64, PathBuf>,
}

impl Registry {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, directory: PathBuf) -> u64 {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries.directories.insert(number, directory);
        number
    }

    fn leave(&self, number: u64) {
        self.entries().directories.remove(&number);
        self.changed.notify_all();
    }

    /// Waits until no ending matches.
    fn wait(&self, deadline: Duration, matches: impl Fn(u64, &Path) -> bool) -> bool {
        let is_under_way = |entries: &mut Entries| {
            let mut all = entries.directories.iter();
            all.any(|(number, directory)| matches(*number, directory))
        };
        let waited = self
            .changed
            .wait_timeout_while(self.entries(), deadline, is_under_way);
        let (_entries, result) = waited.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}

/// Waits until every git of this process that was interrupted (its future dropped, its deadline passed) has ended,
/// and tells whether that is so. Blocks for at most `deadline`; 3 s are enough except for a git that hangs in the
/// kernel. For a process that is about to exit: without it git may be left half-way through its clean-up.
pub fn wait_for_ending(deadline: Duration) -> bool {
    UNDER_WAY.wait(deadline, |_, _| true)
}

/// Waits likewise for the gits in these directories that have been interrupted before this call; does not block the
/// runtime.
pub(super) async fn wait_for_ending_in(directories: Vec<PathBuf>) -> bool {
    let first_later = {
        let entries = UNDER_WAY.entries();
        // The usual case, which is not worth a thread.
        if entries.directories.is_empty() {
            return true;
        }
        entries.next
    };
    super::blocking(move || {
        UNDER_WAY.wait(ENDING_DEADLINE, |number, directory| {
            number < first_later && directories.iter().any(|one| one == directory)
        })
    })
    .await
}

/// A running git, the leader of a process group of its own. When it is dropped, the group is ended.
pub(super) struct Running {
    child: Option<(Child, Ownership)>,
    directory: PathBuf,
    guard: Option<Arc<AdminGuard>>,
}

impl Running {
    /// `guard` is held until the process has ended, whatever becomes of its future.
    pub(super) fn new(
        child: (Child, Ownership),
        directory: &Path,
        guard: Option<Arc<AdminGuard>>,
    ) -> Self {
        Self {
            child: Some(child),
            directory: directory.to_owned(),
            guard,
        }
    }

    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.child {
            Some((child, _)) => child.wait().await,
            None => Err(io::Error::other("it is being ended")),
        }
    }

    /// Ends the group: asks it to terminate now, and sees to the rest on a thread. What is returned resolves at the
    /// end, which need not be awaited.
    pub(super) fn end(&mut self) -> oneshot::Receiver<()> {
        let (done, ended) = oneshot::channel();
        // A child that has been reaped has no number any more; dropping the sender says that it is gone.
        if let Some((child, ownership)) = self.child.take()
            && let Some(leader) = leader(&child)
        {
            let ending = Ending {
                child,
                _ownership: ownership,
                leader,
                number: UNDER_WAY.enter(std::mem::take(&mut self.directory)),
                guard: self.guard.take(),
            };
            ending.signal(Signal::TERM);
            // A stopped process does not hear anything else.
            ending.signal(Signal::CONT);
            let thread = thread::Builder::new().name("git-ending".to_owned());
            // Without a thread the ending is dropped at once, which kills.
            let spawned = thread.spawn(move || {
                ending.run();
                // Nobody listens when the future was dropped.
                let _: Result<(), ()> = done.send(());
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "git was killed, because no thread was to be had to end it");
            }
        }
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// A git that is being ended.
///
/// The child is not reaped before its last signal: until then its number cannot name another process.
struct Ending {
    child: Child,
    _ownership: Ownership,
    leader: Pid,
    number: u64,
    guard: Option<Arc<AdminGuard>>,
}

impl Ending {
    fn run(self) {
        let (sender, ended) = mpsc::channel();
        let leader = self.leader;
        // The kernel tells of the end without the process being reaped (WNOWAIT), but not with a deadline.
        let waiter = thread::Builder::new().name("git-wait".to_owned());
        let spawned = waiter.spawn(move || {
            wait_unreaped(leader);
            // Nobody listens after the last deadline.
            let _: Result<(), mpsc::SendError<()>> = sender.send(());
        });
        if spawned.is_ok() {
            if ended.recv_timeout(GRACE).is_ok() {
                thread::sleep(STRAGGLERS);
                self.signal(Signal::KILL);
            } else {
                self.signal(Signal::KILL);
                let _gone = ended.recv_timeout(REAP_DEADLINE);
            }
        }
        // Dropping reaps.
    }

    fn signal(&self, signal: Signal) {
        // It can only fail when nothing of the group is left.
        let _ended = kill_process_group(self.leader, signal);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // A process that is not gone yet is reaped by the runtime.
        drop(self.child.try_wait());
        drop(self.guard.take());
        UNDER_WAY.leave(self.number);
    }
}

fn leader(child: &Child) -> Option<Pid> {
    let number = child.id().and_then(|id| i32::try_from(id).ok());
    number.and_then(Pid::from_raw)
}

fn wait_unreaped(leader: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(
        waitid(WaitId::Pid(leader), options),
        Err(rustix::io::Errno::INTR)
    ) {}
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Instant;

    use tokio::process::Command;

    use super::*;
    use crate::git::lock::AdminLock;
    use crate::process;

    fn start(directory: &Path, script: &str, guard: Option<Arc<AdminGuard>>) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(directory);
        command.stdin(Stdio::null()).process_group(0);
        Running::new(process::spawn(&mut command).unwrap(), directory, guard)
    }

    async fn appears(path: &Path) {
        for _ in 0..2000 {
            if path.exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} does not appear", path.display());
    }

    #[tokio::test]
    async fn it_may_clean_up_and_the_lock_is_held_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let lock = AdminLock::new(dir.path());
        let guard = Arc::new(lock.acquire().await.unwrap());
        let script =
            "trap 'sleep 0.3; touch cleaned; exit' TERM; touch ready; while :; do sleep 0.05; done";
        let running = start(dir.path(), script, Some(guard));
        appears(&dir.path().join("ready")).await;
        drop(running);
        assert!(!dir.path().join("cleaned").exists());
        drop(lock.acquire().await.unwrap());
        assert!(dir.path().join("cleaned").exists());
    }

    #[tokio::test]
    async fn what_does_not_listen_is_killed_and_reaped() {
        let dir = tempfile::tempdir().unwrap();
        let script =
            "trap '' TERM; echo $$ > ready.new; mv ready.new ready; while :; do sleep 0.05; done";
        let running = start(dir.path(), script, None);
        appears(&dir.path().join("ready")).await;
        let number = std::fs::read_to_string(dir.path().join("ready")).unwrap();
        let pid = Pid::from_raw(number.trim().parse().unwrap()).unwrap();
        let started = Instant::now();
        drop(running);
        assert!(started.elapsed() < Duration::from_secs(1));
        assert!(wait_for_ending_in(vec![dir.path().to_owned()]).await);
        assert!(started.elapsed() >= GRACE);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[tokio::test]
    async fn a_wait_is_bounded_and_for_some_directories_only() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; touch ready; while :; do sleep 0.05; done";
        let running = start(dir.path(), script, None);
        appears(&dir.path().join("ready")).await;
        drop(running);
        let started = Instant::now();
        assert!(!wait_for_ending(Duration::from_millis(50)));
        assert!(wait_for_ending_in(vec!["/elsewhere".into()]).await);
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn what_has_ended_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = start(dir.path(), "exit 3", None);
        assert_eq!(running.wait().await.unwrap().code(), Some(3));
        assert!(running.end().await.is_err());
        assert!(wait_for_ending_in(vec![dir.path().to_owned()]).await);
    }
}
