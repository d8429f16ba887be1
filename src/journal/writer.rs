//! Appending to a journal.
//!
//! Promises that a record is with the operating system, whole, when [`Writer::flush`] has returned: nothing is kept
//! back then, so a kill of this process takes nothing away; that it is on the disk when [`Writer::sync`] has; that a
//! [`Reader`](super::Reader) accepts whatever it writes, as far as [`record`] can read it back; and that a write which
//! fails leaves no half line where the system lets it be cut off again. Blocks; see
//! [`Committer`](super::Committer) for a writer that does not.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::JournalError;
use super::reader::End;
use super::record;

/// The writer of a journal. There is one for each journal.
#[derive(Debug)]
pub struct Writer<T> {
    path: PathBuf,
    file: File,
    /// Lines that are not in the file yet.
    waiting: String,
    /// What the file has of whole lines.
    length: u64,
    /// The sequence number of the last line, 0 when there is none.
    sequence: u64,
    /// Its time.
    at_ms: u64,
    state: State,
    records: PhantomData<fn(&T)>,
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
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(JournalError::io("create", path))?;
        // A file whose name is not on the disk is not there after a power cut, whatever is in it.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(JournalError::io("make durable the name of", path))?;
        }
        Ok(Self::new(path, file, End::default()))
    }

    /// Goes on with a journal that was read to its end. What follows that end, a line that was not written whole, is
    /// cut off.
    ///
    /// # Errors
    /// When it cannot be opened or cut.
    pub fn go_on(path: &Path, end: End) -> Result<Self, JournalError> {
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(JournalError::io("open", path))?;
        file.set_len(end.length)
            .and_then(|()| file.sync_data())
            .map_err(JournalError::io("cut the end of", path))?;
        Ok(Self::new(path, file, end))
    }

    fn new(path: &Path, file: File, end: End) -> Self {
        Self {
            path: path.to_owned(),
            file,
            waiting: String::new(),
            length: end.length,
            sequence: end.sequence,
            at_ms: end.at_ms,
            state: State::Whole,
            records: PhantomData,
        }
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

    /// Writes what waits.
    ///
    /// # Errors
    /// [`JournalError::Io`] when it could not be written to its end: what was written of it is cut off again, it goes on
    /// waiting, and a later call tries once more. Where it cannot be cut off, every later call is
    /// [`JournalError::Broken`], and the journal can be read up to the record before.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.check()?;
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
        self.file.sync_data().map_err(|source: io::Error| {
            self.state = State::Broken;
            JournalError::io("write to the disk", &self.path)(source)
        })
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
