//! The journal of a run: every event is in it before its effects are performed.
//!
//! A journal that cannot be written any more (a full disk) does not end what is under way: that is told once, nothing
//! more is started, and the board and the branches go on to say how the stories are.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use super::note::{JournalRecord, Note};
use crate::disk::Bytes;
use crate::engine::{Effect, Event, Moment, Opening, Record, RunView};
use crate::journal::{Committer, Durability, End, JournalError, Progress, Writer};
use crate::report::chain;

#[derive(Debug)]
pub(super) struct RunJournal {
    committer: Committer<JournalRecord>,
    progress: watch::Receiver<Progress>,
    last: u64,
    /// Why the thread was not even asked.
    overrun: Option<io::Error>,
    told: Told,
}

/// Whether it was told that the journal is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Told,
}

impl RunJournal {
    /// Opens the journal of a new run, in segments of that many bytes.
    pub(super) fn open(
        path: &Path,
        opening: Opening,
        segment: Bytes,
    ) -> Result<Self, JournalError> {
        let mut writer = Writer::create(path)?.in_segments_of(segment.0);
        writer.append(0, &Record::Opened(Box::new(opening)))?;
        writer.sync()?;
        Self::start(path, writer)
    }

    /// Goes on with the journal of a run that was read to its end.
    pub(super) fn go_on(path: &Path, end: End, segment: Bytes) -> Result<Self, JournalError> {
        let writer = Writer::go_on(path, end)?.in_segments_of(segment.0);
        Self::start(path, writer)
    }

    fn start(path: &Path, writer: Writer<JournalRecord>) -> Result<Self, JournalError> {
        let committer = Committer::start(writer).map_err(|source| JournalError::Io {
            verb: "start a thread for",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            progress: committer.progress(),
            committer,
            last: 0,
            overrun: None,
            told: Told::NotYet,
        })
    }

    /// Notes an event that leads to these effects, and gives the number of its record.
    pub(super) fn event(&mut self, event: Event, effects: &[Effect], now: Moment) -> u64 {
        let durability = durability(&event, effects);
        self.hand_in(now, Record::Event(event), durability)
    }

    /// Notes what is to be known after a restart.
    pub(super) fn note(&mut self, note: Note, now: Moment) {
        self.hand_in(now, Record::Noted(note), Durability::Written);
    }

    /// Notes how the run ended.
    pub(super) fn close(&mut self, view: RunView, now: Moment) {
        self.hand_in(now, Record::Closed(Box::new(view)), Durability::Synced);
    }

    fn hand_in(&mut self, now: Moment, record: JournalRecord, durability: Durability) -> u64 {
        if self.overrun.is_none() {
            match self.committer.hand_in(now.as_millis(), record, durability) {
                Ok(number) => {
                    self.last = number;
                    return number;
                }
                Err(error) => self.overrun = Some(error),
            }
        }
        // It is in no journal.
        u64::MAX
    }

    /// The number of the last record.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether nothing has to be waited for any more before the effects of that record are performed.
    pub(super) fn has(&self, record: u64, durability: Durability) -> bool {
        self.overrun.is_some() || self.progress.borrow().has(record, durability)
    }

    /// Whether a restart would know of that record, as far as the system does not die with this process.
    pub(super) fn is_recorded(&self, record: u64) -> bool {
        record <= self.progress.borrow().written
    }

    /// Whether the operating system has every record.
    pub(super) fn has_all(&self) -> bool {
        self.has(self.last, Durability::Written)
    }

    /// Waits until the journal is further than it was, or until it is known that it takes nothing more. Cancel-safe.
    pub(super) async fn moved(&mut self) {
        if self.overrun.is_some() && self.told == Told::NotYet {
            // The thread says nothing while it waits for the disk.
            return;
        }
        if self.progress.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Why the journal takes no more records: once.
    pub(super) fn lost(&mut self) -> Option<String> {
        if self.told == Told::Told {
            return None;
        }
        let failed = self.progress.borrow().failed.clone();
        let reason = match (&failed, &self.overrun) {
            (Some(error), _) => chain(error.as_ref()),
            (None, Some(error)) => chain(error),
            (None, None) => return None,
        };
        self.told = Told::Told;
        Some(reason)
    }

    /// Waits until everything is on the disk, for a while.
    pub(super) async fn finish(&mut self, patience: Duration) {
        let last = self.last;
        let written = self
            .progress
            .wait_for(|progress| progress.has(last, Durability::Synced));
        if tokio::time::timeout(patience, written).await.is_err() {
            tracing::warn!("the disk does not take the end of the journal");
        }
        let progress = self.progress.borrow();
        tracing::info!(
            records = last,
            syncs = progress.syncs,
            writing = ?progress.writing,
            syncing = ?progress.syncing,
            "the journal of this run"
        );
    }
}

/// What has to survive a power cut: that the run and its attempts began, how they ended, what the board is told, and for
/// how long a provider pauses. The rest would be found out once more.
fn durability(event: &Event, effects: &[Effect]) -> Durability {
    let begins_or_ends = matches!(
        event,
        Event::Began
            | Event::Resumed(_)
            | Event::Settled(..)
            | Event::ProviderPaused(..)
            | Event::JournalLost
    );
    let started_or_told = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Prepare(_) | Effect::WriteBoard(..)));
    if begins_or_ends || started_or_told {
        Durability::Synced
    } else {
        Durability::Written
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::engine::Settings;

    #[tokio::test]
    async fn a_journal_that_takes_nothing_more_is_told_of_while_its_disk_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let opening = Opening {
            run: "20261122-120000-0001".parse().unwrap(),
            program: "test".to_owned(),
            settings: Settings::new(NonZeroUsize::MIN),
            plan: Vec::new(),
            default_agent: "script".to_owned(),
        };
        let path = folder.path().join("journal.jsonl");
        let mut journal = RunJournal::open(&path, opening, Bytes::GIBI).unwrap();
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, journal.moved()).await.is_err());
        journal.overrun = Some(io::ErrorKind::TimedOut.into());
        journal.moved().await;
        assert!(journal.lost().is_some());
        // Once, and then there is nothing to wait for any more.
        assert!(journal.lost().is_none());
        assert!(tokio::time::timeout(short, journal.moved()).await.is_err());
        assert!(journal.has_all());
    }
}
