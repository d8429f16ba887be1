//! Appending to a journal.
//!
//! Promises that a record is with the operating system, whole, when [`Writer::flush`] has returned: nothing is kept
//! back then, so a kill of this process takes nothing away; that it is on the disk when [`Writer::sync`] has; that a
//! [`Reader`](super::Reader) accepts whatever it writes, as far as [`record`] can read it back; that a write which
//! fails leaves no half line where the system lets it be cut off again; and that a segment is closed only at the end of a
//! line, when all of it is on the disk. Blocks; see [`Committer`](super::Committer) for a writer that does not, and that
//! has closed segments compressed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::JournalError;
use super::reader::End;
use super::record;
use super::segments::{self, NotClosed};

/// The writer of a journal. There is one for each journal.
#[derive(Debug)]
pub struct Writer<T> {
    path: PathBuf,
    file: File,
    /// Lines that are not in the file yet.
    waiting: String,
    /// How many segments are closed.
    closed: u64,
    /// The size at which a segment is closed, in bytes.
    segment_size: u64,
    /// The length at which this one is.
    close_at: u64,
    /// What the file has of whole lines.
    length: u64,
    /// How much of that is on the disk for certain.
    synced: u64,
    /// Whether the names of the files are.
    names: Names,
    /// The sequence number of the last line, 0 when there is none.
    sequence: u64,
    /// Its time.
    at_ms: u64,
    state: State,
    records: PhantomData<fn(&T)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Synced,
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The file ends with a whole line.
    Whole,
    /// The file may end within a line, or not hold what it was said to hold. A line that were glued to it could not be
    /// read, and would make the rest of the file unreadable.
    Broken,
}

impl<T: Serialize> Writer<T> {
    /// Makes a new, empty journal, whose name is on the disk.
    ///
    /// # Errors
    /// When there is a file already, or none can be made.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let failed = JournalError::io("create", path);
        if !segments::closed(path)?.is_empty() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let file = segments::create(path).map_err(failed)?;
        segments::sync_names(path).map_err(JournalError::io("make durable the name of", path))?;
        Ok(Self::new(path, file, End::default()))
    }

    /// Goes on with a journal that was read to its end. What follows that end, a line that was not written whole, is
    /// cut off.
    ///
    /// # Errors
    /// When it cannot be opened or cut, or was not read to its end.
    pub fn go_on(path: &Path, end: End) -> Result<Self, JournalError> {
        let is_later = |segment: &segments::Closed| segment.number > end.closed;
        if segments::closed(path)?.iter().any(is_later) {
            let path = path.to_owned();
            return Err(JournalError::Unread { path });
        }
        // The writer may have been killed between closing a segment and making the next one.
        let may_be_missing = end.closed > 0 && end.length == 0;
        let file = OpenOptions::new()
            .append(true)
            .create(may_be_missing)
            .open(path)
            .map_err(JournalError::io("open", path))?;
        file.set_len(end.length)
            .and_then(|()| file.sync_data())
            .and_then(|()| segments::sync_names(path))
            .map_err(JournalError::io("cut the end of", path))?;
        Ok(Self::new(path, file, end))
    }

    fn new(path: &Path, file: File, end: End) -> Self {
        Self {
            path: path.to_owned(),
            file,
            waiting: String::new(),
            closed: end.closed,
            segment_size: u64::MAX,
            close_at: u64::MAX,
            length: end.length,
            synced: end.length,
            names: Names::Synced,
            sequence: end.sequence,
            at_ms: end.at_ms,
            state: State::Whole,
            records: PhantomData,
        }
    }

    /// Closes segments of this size, in bytes, as soon as they are on the disk: nobody waits for that on their account
    /// unless they have twice the size. Without it, there is one segment. What is written together stays together, and
    /// may make one larger.
    #[must_use]
    pub fn in_segments_of(mut self, bytes: u64) -> Self {
        self.segment_size = bytes;
        self.close_at = bytes;
        self
    }

    /// Appends a record and gives its sequence number: [`Writer::push`] and [`Writer::flush`].
    ///
    /// # Errors
    /// As these.
    pub fn append(&mut self, at_ms: u64, record: &T) -> Result<u64, JournalError> {
        let sequence = self.push(at_ms, record)?;
        self.flush()?;
        Ok(sequence)
    }

    /// Takes a record, for the next [`Writer::flush`], and gives its sequence number, which counts from 1. `at_ms` is in
    /// milliseconds since the start of the run, and may not be less than that of the record before.
    ///
    /// # Errors
    /// [`JournalError::Encode`] and [`JournalError::Backwards`] when the record cannot be in the journal: no number is
    /// used, others can follow. [`JournalError::Broken`] when the journal takes nothing any more.
    pub fn push(&mut self, at_ms: u64, record: &T) -> Result<u64, JournalError> {
        self.check()?;
        if at_ms < self.at_ms {
            return Err(JournalError::Backwards {
                path: self.path.clone(),
                at_ms,
                last_ms: self.at_ms,
            });
        }
        let sequence = self.sequence + 1;
        let line = record::encode(sequence, at_ms, record).map_err(|source| {
            let path = self.path.clone();
            JournalError::Encode { path, source }
        })?;
        self.waiting.push_str(&line);
        self.sequence = sequence;
        self.at_ms = at_ms;
        Ok(sequence)
    }

    /// Writes what waits, to the next segment when this one is large enough.
    ///
    /// # Errors
    /// [`JournalError::Io`] when it could not be written to its end: what was written of it is cut off again, it goes on
    /// waiting, and a later call tries once more. Where it cannot be cut off, every later call is
    /// [`JournalError::Broken`], and the journal can be read up to the record before.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.check()?;
        // Not as soon as it is large enough: the open segment then has a record whenever a closed one is missing.
        let is_synced = self.synced == self.length;
        let is_overdue = self.length >= self.close_at.saturating_add(self.segment_size);
        let is_due = self.length >= self.close_at && is_synced || is_overdue;
        if is_due && !self.waiting.is_empty() {
            self.close_segment(is_synced)?;
        }
        // One system call. Should it take only a part, another one follows for the rest, and fails when the disk is
        // full.
        if let Err(source) = self.file.write_all(self.waiting.as_bytes()) {
            if self.file.set_len(self.length).is_err() {
                self.state = State::Broken;
            }
            return Err(JournalError::io("append to", &self.path)(source));
        }
        self.length += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Waits until the disk has what was written.
    ///
    /// # Errors
    /// When it did not take it. Nothing is known of the end of the file then: every later call is
    /// [`JournalError::Broken`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        let names = match self.names {
            Names::Synced => Ok(()),
            Names::Changed => segments::sync_names(&self.path),
        };
        names
            .and_then(|()| self.file.sync_data())
            .map_err(|source: io::Error| {
                self.state = State::Broken;
                JournalError::io("write to the disk", &self.path)(source)
            })?;
        self.names = Names::Synced;
        self.synced = self.length;
        Ok(())
    }

    /// Goes on with the next segment. When this one cannot be closed, it goes on to grow, and that is tried again when as
    /// much has been written once more.
    fn close_segment(&mut self, is_synced: bool) -> Result<(), JournalError> {
        if !is_synced {
            self.sync()?;
        }
        match segments::close(&self.path, self.closed + 1) {
            Ok(file) => {
                self.file = file;
                self.closed += 1;
                self.length = 0;
                self.synced = 0;
                self.names = Names::Changed;
                self.close_at = self.segment_size;
                Ok(())
            }
            Err(NotClosed::AsBefore(error)) => {
                tracing::warn!(%error, journal = %self.path.display(), "a segment of the journal is not closed");
                self.close_at = self.length.saturating_add(self.segment_size);
                Ok(())
            }
            Err(NotClosed::Uncertain(source)) => {
                self.state = State::Broken;
                Err(JournalError::io("close a segment of", &self.path)(source))
            }
        }
    }

    /// The path of the journal.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many segments are closed.
    pub(super) fn closed(&self) -> u64 {
        self.closed
    }

    /// How much waits to be written, in bytes.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes nothing any more.
    pub fn give_up(&mut self) {
        self.state = State::Broken;
        self.waiting = String::new();
    }

    fn check(&self) -> Result<(), JournalError> {
        match self.state {
            State::Whole => Ok(()),
            State::Broken => Err(JournalError::Broken {
                path: self.path.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::FileExt as _;

    use super::super::{EncodeError, Reader, Tail};
    use super::*;

    fn read(path: &Path) -> (Vec<String>, Tail) {
        let mut reader = Reader::open(path).unwrap();
        let records = reader.by_ref().map(|entry| entry.unwrap().record).collect();
        (records, reader.tail())
    }

    #[test]
    fn a_record_is_in_the_file_when_append_returns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        let mut expected = String::new();
        for (sequence, at_ms) in [(1, 0), (2, 5), (3, 5)] {
            let record = format!("record {sequence}");
            assert_eq!(writer.append(at_ms, &record).unwrap(), sequence);
            expected.push_str(&record::encode(sequence, at_ms, &record).unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn a_journal_is_never_taken_over_from_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        fs::write(&path, "of another run").unwrap();
        let error = Writer::<String>::create(&path).unwrap_err();
        assert!(
            matches!(&error, JournalError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"of another run");
    }

    #[test]
    fn records_are_appended_even_when_something_else_has_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        let other = OpenOptions::new().write(true).open(&path).unwrap();
        other.write_all_at(b"stray\n", 0).unwrap();
        writer.append(1, &"record").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("stray\n{\"version\":1,"), "{text}");
    }

    #[test]
    fn what_cannot_be_written_leaves_no_gap() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(7, &PathBuf::from("a")).unwrap();

        let not_unicode = PathBuf::from(OsStr::from_bytes(b"\xff"));
        let error = writer.append(8, &not_unicode).unwrap_err();
        let JournalError::Encode { source, .. } = error else {
            panic!("{error}");
        };
        assert!(matches!(source, EncodeError::Json(_)), "{source}");

        let error = writer.append(6, &PathBuf::from("b")).unwrap_err();
        let expected = format!(
            "a record of 6 ms cannot follow one of 7 ms in {}",
            path.display()
        );
        assert_eq!(error.to_string(), expected);

        assert_eq!(writer.append(7, &PathBuf::from("c")).unwrap(), 2);
        let expected = ["a", "c"].map(str::to_owned).to_vec();
        assert_eq!(read(&path), (expected, Tail::Complete));
    }

    #[test]
    fn nothing_follows_a_failed_write() {
        let path = Path::new("/dev/full");
        let full = OpenOptions::new().append(true).open(path).unwrap();
        let mut writer = Writer::new(path, full, End::default());
        let error = writer.append(1, &"a").unwrap_err();
        assert!(
            matches!(&error, JournalError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
        assert_eq!(error.to_string(), "cannot append to /dev/full");
        for _ in 0..2 {
            let error = writer.append(2, &"b").unwrap_err();
            assert!(matches!(error, JournalError::Broken { .. }), "{error}");
            assert_eq!(
                error.to_string(),
                "an earlier write to /dev/full has failed, and nothing can follow it"
            );
        }
    }

    #[test]
    fn after_half_a_line_the_records_before_it_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(1, &"a".to_owned()).unwrap();
        // As a disk that fills up within a line: a part of it is there, and then writing fails.
        let half = &record::encode(2, 2, &"b").unwrap().into_bytes()[..30];
        writer.file.write_all(half).unwrap();
        writer.file = File::open(&path).unwrap();
        assert!(matches!(
            writer.append(2, &"b".to_owned()),
            Err(JournalError::Io { .. })
        ));
        writer.file = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(matches!(
            writer.append(3, &"c".to_owned()),
            Err(JournalError::Broken { .. })
        ));
        assert_eq!(
            read(&path),
            (vec!["a".to_owned()], Tail::Torn { bytes: 30 })
        );
    }

    #[test]
    fn a_journal_that_ends_within_a_line_goes_on_behind_its_last_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(5, &"a".to_owned()).unwrap();
        writer.file.write_all(b"{\"version\":1,\"seq").unwrap();
        let mut reader = Reader::<String>::open(&path).unwrap();
        assert_eq!(reader.by_ref().count(), 1);
        let mut writer = Writer::go_on(&path, reader.end()).unwrap();
        assert!(writer.append(4, &"b".to_owned()).is_err());
        assert_eq!(writer.append(6, &"b".to_owned()).unwrap(), 2);
        let expected = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(read(&path), (expected, Tail::Complete));
    }

    #[test]
    fn what_could_not_be_written_is_written_when_there_is_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(1, &"a".to_owned()).unwrap();
        let good = std::mem::replace(&mut writer.file, taking_nothing());
        // That cannot be cut either: as if the disk were gone.
        assert!(writer.append(2, &"b".to_owned()).is_err());
        assert!(matches!(writer.flush(), Err(JournalError::Broken { .. })));
        writer.state = State::Whole;
        writer.file = good;
        assert_ne!(writer.waiting(), 0);
        assert_eq!(writer.append(3, &"c".to_owned()).unwrap(), 3);
        assert_eq!(writer.waiting(), 0);
        let expected = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(read(&path), (expected, Tail::Complete));
        writer.give_up();
        assert!(matches!(
            writer.append(4, &"d".to_owned()),
            Err(JournalError::Broken { .. })
        ));
    }

    /// A file that takes nothing.
    fn taking_nothing() -> File {
        OpenOptions::new().append(true).open("/dev/full").unwrap()
    }
}
