//! The lock under which worktrees of one repository are added and removed, by whatever process does it.
//!
//! `git worktree add` is not safe beside another one (measured: every tenth of 32 at once failed). The lock is a
//! file in the repository's common directory that is never deleted; it serialises programs that know it, and git
//! commands of others do not.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::file_error::FileError;

/// How long to wait for other processes: far longer than any administrative part takes, short enough to be reported.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long to wait for one's turn in this process: a thousand stories that start at once wait for each other, at tens
/// of milliseconds each, more on a loaded machine.
const QUEUE_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// The name of the lock file in the common directory.
const FILE_NAME: &str = "ai-sdlc.lock";

/// The lock of one repository. Clones share one queue, in the order of asking.
#[derive(Debug, Clone)]
pub struct AdminLock {
    path: Arc<Path>,
    turn: Arc<Semaphore>,
    deadline: Duration,
    queue_deadline: Duration,
}

/// Why the lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// The lock file cannot be used.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Someone else has held it for too long.
    #[error("another process holds {} for more than {} s", path.display(), after.as_secs())]
    TimedOut {
        /// The lock file.
        path: PathBuf,
        /// The deadline.
        after: Duration,
    },
}

/// The held lock; dropping it releases it.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock"]
pub struct AdminGuard {
    file: File,
    _turn: OwnedSemaphorePermit,
}

impl Drop for AdminGuard {
    fn drop(&mut self) {
        // Closing alone would not do while a process that is just being started still has a copy of the descriptor.
        // If this fails, closing is what remains, and that cannot fail.
        let _unlocked = self.file.unlock();
    }
}

impl AdminLock {
    /// The lock of the repository with this common directory. Nothing is opened yet.
    pub fn new(common_dir: &Path) -> Self {
        Self {
            path: common_dir.join(FILE_NAME).into(),
            turn: Arc::new(Semaphore::new(1)),
            deadline: DEADLINE,
            queue_deadline: QUEUE_DEADLINE,
        }
    }

    /// Takes the lock, waiting in line for others in this process, and then at most 60 s for other processes.
    ///
    /// # Errors
    /// When the file cannot be opened or locked, or the wait was too long.
    pub async fn acquire(&self) -> Result<AdminGuard, LockError> {
        let timed_out = || LockError::TimedOut {
            path: self.path.to_path_buf(),
            after: self.deadline,
        };
        let io_error = || FileError::when("lock", &*self.path);
        let turn = timeout(self.queue_deadline, Arc::clone(&self.turn).acquire_owned())
            .await
            .map_err(|_| timed_out())?
            .expect("the semaphore is never closed");
        let until = Instant::now() + self.deadline;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(io_error())?;
        match file.try_lock() {
            Ok(()) => return Ok(AdminGuard { file, _turn: turn }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(io_error()(source).into()),
        }
        // A blocked lock cannot be cancelled, so a thread waits for it. The thread keeps our turn: however often
        // the wait times out, there is never more than one such thread.
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new()
            .name("git-lock".to_owned())
            .spawn(move || {
                let guard = file.lock().map(|()| AdminGuard { file, _turn: turn });
                // After a timeout nobody receives it, and dropping it releases the lock.
                drop(sender.send(guard));
            })
            .map_err(io_error())?;
        let locked = timeout_at(until, receiver)
            .await
            .map_err(|_| timed_out())?
            .expect("the thread sends before it ends");
        Ok(locked.map_err(io_error())?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn only_one_holds_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        // Two locks of one repository, as two processes would have them, each with several users.
        let locks = [AdminLock::new(dir.path()), AdminLock::new(dir.path())];
        let holders = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let lock = locks[number % 2].clone();
            let holders = Arc::clone(&holders);
            tasks.spawn(async move {
                let guard = lock.acquire().await.unwrap();
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                holders.fetch_sub(1, Ordering::SeqCst);
                drop(guard);
            });
        }
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn a_wait_that_is_too_long_fails_and_the_lock_stays_usable() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = AdminLock::new(dir.path());
        let other = AdminLock::new(dir.path());
        let held = other.acquire().await.unwrap();
        lock.deadline = Duration::from_millis(50);
        lock.queue_deadline = lock.deadline;
        assert!(matches!(
            lock.acquire().await,
            Err(LockError::TimedOut { .. })
        ));
        // The second one waits for the turn that the first one's thread still has.
        assert!(matches!(
            lock.acquire().await,
            Err(LockError::TimedOut { .. })
        ));
        drop(held);
        lock.deadline = DEADLINE;
        lock.queue_deadline = QUEUE_DEADLINE;
        drop(lock.acquire().await.unwrap());
        assert!(dir.path().join(FILE_NAME).exists());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_named() {
        let error = AdminLock::new(Path::new("/nonexistent"))
            .acquire()
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to lock /nonexistent/ai-sdlc.lock"
        );
    }
}
