//! Appending to a journal on a thread of its own, for a loop that may not wait for a disk.
//!
//! Records are taken in their order and written together, whatever has come meanwhile; those that have to be on the disk
//! share one wait for it (group commit). How far it is can be watched. Closed segments are compressed by another thread
//! ([`super::compress`]), which is not waited for.
//!
//! Promises that nothing counts as written or durable that is not; that a failure is told once, and that afterwards as
//! much as is reasonable is kept and written when there is room again; and that it never makes its caller wait. Does not
//! know what a record means.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::compress::Compressor;
use super::error::JournalError;
use super::writer::Writer;

/// Records that may wait to be written. That many are some seconds of a very busy run: a disk that is further behind
/// counts as one that does not take anything.
const MOST_WAITING: usize = 16 * 1024;

/// The most records that are written together, so that those who wait for the first of them do not wait for long.
const MOST_TOGETHER: usize = 1024;

/// What is kept of records that could not be written, in bytes.
const MOST_KEPT: usize = 8 * 1024 * 1024;

/// What a record has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process.
    Written,
    /// The end of the machine as well.
    Synced,
}

/// How far a committer is. Records are counted as they were handed in, from 1.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Up to here the operating system has them.
    pub written: u64,
    /// Up to here the disk has them.
    pub durable: u64,
    /// Why it could not go on: nobody has to wait any more. What is written and durable goes on to be told.
    pub failed: Option<Arc<JournalError>>,
    /// How often it has waited for the disk.
    pub syncs: u64,
    /// For how long, in all.
    pub syncing: Duration,
    /// How long writing took, in all.
    pub writing: Duration,
}

impl Progress {
    /// Whether nothing has to be waited for: a record is as safe as it will be.
    pub fn has(&self, record: u64, durability: Durability) -> bool {
        let reached = match durability {
            Durability::Written => self.written,
            Durability::Synced => self.durable,
        };
        self.failed.is_some() || record <= reached
    }
}

/// Hands records to the thread. Dropping it lets the thread end when everything is written.
#[derive(Debug)]
pub struct Committer<T> {
    requests: SyncSender<Request<T>>,
    progress: watch::Receiver<Progress>,
    handed_in: u64,
}

#[derive(Debug)]
struct Request<T> {
    at_ms: u64,
    record: T,
    durability: Durability,
}

impl<T: Serialize + Send + 'static> Committer<T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn start(writer: Writer<T>) -> io::Result<Self> {
        let (requests, waiting) = sync_channel(MOST_WAITING);
        let (told, progress) = watch::channel(Progress::default());
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || work(writer, &waiting, &told))?;
        Ok(Self {
            requests,
            progress,
            handed_in: 0,
        })
    }

    /// Hands in a record and gives its number.
    ///
    /// # Errors
    /// When the disk is too far behind, or the thread is gone: the record is not in the journal, and nothing that follows
    /// can be.
    pub fn hand_in(
        &mut self,
        at_ms: u64,
        record: T,
        durability: Durability,
    ) -> Result<u64, io::Error> {
        let request = Request {
            at_ms,
            record,
            durability,
        };
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                TrySendError::Full(_) => io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the disk has not taken the last {MOST_WAITING} records"),
                ),
                TrySendError::Disconnected(_) => io::ErrorKind::BrokenPipe.into(),
            })?;
        self.handed_in += 1;
        Ok(self.handed_in)
    }

    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

fn work<T: Serialize>(
    mut writer: Writer<T>,
    requests: &Receiver<Request<T>>,
    told: &watch::Sender<Progress>,
) {
    let mut progress = Progress::default();
    let mut compressor = Compressor::of(writer.path());
    let mut closed = 0;
    let mut taken = 0;
    while let Ok(first) = requests.recv() {
        let mut durability = Durability::Written;
        let mut result = Ok(());
        for request in std::iter::once(first)
            .chain(requests.try_iter())
            .take(MOST_TOGETHER)
        {
            taken += 1;
            if request.durability == Durability::Synced {
                durability = Durability::Synced;
            }
            if let Err(error) = writer.push(request.at_ms, &request.record) {
                // Without it, those that follow would tell another story.
                writer.give_up();
                result = result.and(Err(error));
            }
        }
        // After a failure it is tried again when it matters.
        if progress.failed.is_none() || durability == Durability::Synced {
            let began = Instant::now();
            result = result.and(writer.flush());
            progress.writing += began.elapsed();
            // Also those that were there before, the first time.
            if writer.closed() > closed {
                closed = writer.closed();
                compressor.start();
            }
            if result.is_ok() {
                progress.written = taken;
                told.send_replace(progress.clone());
                if durability == Durability::Synced {
                    let began = Instant::now();
                    result = writer.sync();
                    progress.syncing += began.elapsed();
                    progress.syncs += 1;
                    if result.is_ok() {
                        progress.durable = taken;
                    }
                }
            }
        }
        if let Err(error) = result {
            progress.failed.get_or_insert(Arc::new(error));
        }
        if writer.waiting() > MOST_KEPT {
            writer.give_up();
        }
        told.send_replace(progress.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Reader, Tail};
    use super::*;

    async fn until(
        progress: &mut watch::Receiver<Progress>,
        is: impl Fn(&Progress) -> bool,
    ) -> Progress {
        let waiting = progress.wait_for(is);
        let reached = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        reached.unwrap().unwrap().clone()
    }

    fn records(path: &Path) -> (Vec<String>, Tail) {
        let mut reader = Reader::open(path).unwrap();
        let records = reader.by_ref().map(|entry| entry.unwrap().record).collect();
        (records, reader.tail())
    }

    #[tokio::test]
    async fn records_that_come_together_share_a_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut committer = Committer::start(Writer::create(&path).unwrap()).unwrap();
        let mut progress = committer.progress();
        let mut last = 0;
        for number in 0..1000_u64 {
            last = committer
                .hand_in(number, format!("record {number}"), Durability::Synced)
                .unwrap();
        }
        assert_eq!(last, 1000);
        let at_last = until(&mut progress, |progress| {
            progress.has(last, Durability::Synced)
        })
        .await;
        assert!(at_last.syncs < 1000, "{at_last:?}");
        assert!(at_last.failed.is_none());
        let (records, tail) = records(&path);
        assert_eq!((records.len(), tail), (1000, Tail::Complete));
        assert_eq!(records[999], "record 999");
    }

    #[tokio::test]
    async fn what_need_not_be_on_the_disk_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut committer = Committer::start(Writer::create(&path).unwrap()).unwrap();
        let mut progress = committer.progress();
        let number = committer
            .hand_in(0, "a".to_owned(), Durability::Written)
            .unwrap();
        let reached = until(&mut progress, |progress| {
            progress.has(number, Durability::Written)
        })
        .await;
        assert_eq!((reached.syncs, reached.durable), (0, 0));
        assert!(!reached.has(number, Durability::Synced));
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_told_of_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let writer: Writer<String> = Writer::create(&path).unwrap();
        let mut committer = Committer::start(writer).unwrap();
        let mut progress = committer.progress();
        // A line that is too long for any journal.
        let long = "x".repeat(super::super::MAX_LINE);
        let number = committer.hand_in(0, long, Durability::Synced).unwrap();
        let reached = until(&mut progress, |progress| progress.failed.is_some()).await;
        assert!(reached.has(number, Durability::Synced));
        let later = committer
            .hand_in(1, "b".to_owned(), Durability::Synced)
            .unwrap();
        assert!(
            until(&mut progress, |_| true)
                .await
                .has(later, Durability::Synced)
        );
    }
}
