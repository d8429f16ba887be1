//! Reading a journal back.
//!
//! Promises that every record that is given was written as it is, in this order, with none left out before it, whatever
//! files the journal lies in; that the memory used is that of the longest line, at most [`MAX_LINE`]; and that what a
//! crash leaves behind at the end is told apart from damage.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::{Fault, JournalError, Line};
use super::record::{self, Entry, MAX_LINE};
use super::segments::{self, Input, Kind, Segment};

/// How a journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The end has not been reached: there is more to read, or an error stands before it.
    Unread,
    /// With a whole line, or the journal is empty.
    Complete,
    /// With a line that was not written to its end, as a kill, a full disk or a power cut leaves it. Everything before
    /// it is whole.
    Torn {
        /// How long it is: the journal without it is shorter by this number of bytes.
        bytes: u64,
    },
}

/// Where a journal can be gone on with: behind its last whole line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// How many closed segments are before it.
    pub closed: u64,
    /// How much of the file, the open segment, is whole lines, in bytes.
    pub length: u64,
    /// The sequence number of the last of them, 0 when there is none.
    pub sequence: u64,
    /// Its time, in milliseconds since the start of the run.
    pub at_ms: u64,
}

/// The records of a journal, from the first. The iteration ends at the end of the journal, see [`Reader::tail`], or
/// after the first error.
#[derive(Debug)]
#[must_use = "it reads only what is asked for"]
pub struct Reader<T> {
    journal: PathBuf,
    /// The number of the segment that is being read.
    segment: u64,
    /// Its path.
    path: PathBuf,
    kind: Kind,
    input: BufReader<Input>,
    state: State,
    /// The line that is being read, or its first [`MAX_LINE`] + 1 bytes.
    line: Vec<u8>,
    /// The sequence number that it must have.
    number: u64,
    /// That of the first line of the segment.
    first: u64,
    /// Where it starts in the segment.
    offset: u64,
    /// The time of the record before it.
    last_ms: u64,
    records: PhantomData<fn() -> T>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Reading,
    Failed,
    Ended(Tail),
}

enum Step<T> {
    Entry(Entry<T>),
    End(Tail),
}

impl<T: DeserializeOwned> Reader<T> {
    /// Opens a journal. It may be one that is being written; a record that is not there yet in full is a torn tail.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let segment = segments::open(path, 1)?;
        Ok(Self {
            journal: path.to_owned(),
            segment: segment.number,
            path: segment.path,
            kind: segment.kind,
            input: BufReader::new(segment.input),
            state: State::Reading,
            line: Vec::new(),
            number: 1,
            first: 1,
            offset: 0,
            last_ms: 0,
            records: PhantomData,
        })
    }

    /// How the journal ends, once the iteration has come to its end without an error.
    pub fn tail(&self) -> Tail {
        match self.state {
            State::Reading | State::Failed => Tail::Unread,
            State::Ended(tail) => tail,
        }
    }

    /// Where the part that was read so far ends.
    pub fn end(&self) -> End {
        End {
            closed: self.segment - 1,
            length: self.offset,
            sequence: self.number - 1,
            at_ms: self.last_ms,
        }
    }

    fn step(&mut self) -> Result<Step<T>, JournalError> {
        let (length, follows) = loop {
            let read = self.read_line();
            let (length, follows) = read.map_err(JournalError::io("read", &self.path))?;
            if length > 0 {
                break (length, follows);
            }
            match self.kind {
                Kind::Open => return Ok(Step::End(Tail::Complete)),
                Kind::Closed => self.enter(segments::open(&self.journal, self.segment + 1)?),
            }
        };
        let fault = match record::decode(&self.line) {
            Ok(entry) => match self.misplaced(&entry) {
                None => {
                    self.number += 1;
                    self.offset += length;
                    self.last_ms = entry.at_ms;
                    return Ok(Step::Entry(entry));
                }
                Some(fault) => fault,
            },
            Err(error)
                if error.may_be_torn()
                    && follows == Follows::Nothing
                    && self.kind == Kind::Open =>
            {
                return Ok(Step::End(Tail::Torn { bytes: length }));
            }
            Err(error) => Fault::Line(error),
        };
        Err(JournalError::Damaged {
            path: self.path.clone(),
            line: Line::Number(self.number - self.first + 1),
            offset: self.offset,
            fault,
        })
    }

    fn enter(&mut self, segment: Segment) {
        self.segment = segment.number;
        self.path = segment.path;
        self.kind = segment.kind;
        self.input = BufReader::new(segment.input);
        self.first = self.number;
        self.offset = 0;
    }

    /// Reads the next line, gives its length in bytes, 0 at the end, and says whether there is more. Of a line that is
    /// too long no more is kept than shows that.
    fn read_line(&mut self) -> io::Result<(u64, Follows)> {
        self.line.clear();
        let kept = (MAX_LINE + 1) as u64;
        let mut length = (&mut self.input)
            .take(kept)
            .read_until(b'\n', &mut self.line)?;
        if self.line.len() > MAX_LINE && !self.line.ends_with(b"\n") {
            length += self.input.skip_until(b'\n')?;
        }
        let follows = if self.input.fill_buf()?.is_empty() {
            Follows::Nothing
        } else {
            Follows::Something
        };
        Ok((length as u64, follows))
    }

    /// Why a whole line cannot stand where it does.
    fn misplaced(&self, entry: &Entry<T>) -> Option<Fault> {
        if entry.sequence > self.number && self.number == self.first {
            return Some(Fault::Missing {
                first: self.number,
                last: entry.sequence - 1,
            });
        }
        if entry.sequence != self.number {
            return Some(Fault::Sequence {
                expected: self.number,
                found: entry.sequence,
            });
        }
        (entry.at_ms < self.last_ms).then_some(Fault::Backwards {
            at_ms: entry.at_ms,
            last_ms: self.last_ms,
        })
    }
}

/// What stands after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    Nothing,
    Something,
}

impl<T: DeserializeOwned> Iterator for Reader<T> {
    type Item = Result<Entry<T>, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let State::Reading = self.state else {
            return None;
        };
        match self.step() {
            Ok(Step::Entry(entry)) => Some(Ok(entry)),
            Ok(Step::End(tail)) => {
                self.state = State::Ended(tail);
                None
            }
            Err(error) => {
                self.state = State::Failed;
                Some(Err(error))
            }
        }
    }
}

impl<T: DeserializeOwned> FusedIterator for Reader<T> {}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::FileExt as _;

    use serde::Serialize;
    use serde_json::Value;
    use tempfile::TempDir;

    use super::super::{LineError, Writer};
    use super::*;

    /// A journal that is made of bytes.
    struct Journal {
        folder: TempDir,
    }

    impl Journal {
        fn of(bytes: impl AsRef<[u8]>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("journal.jsonl"), bytes).unwrap();
            Self { folder }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("journal.jsonl")
        }

        fn read(&self) -> Read {
            let mut reader = Reader::open(&self.path()).unwrap();
            assert_eq!(reader.tail(), Tail::Unread);
            let mut entries = Vec::new();
            let mut fault = None;
            for entry in reader.by_ref() {
                match entry {
                    Ok(entry) => entries.push(entry),
                    Err(JournalError::Damaged {
                        path,
                        line: Line::Number(line),
                        offset,
                        fault: found,
                    }) => {
                        assert_eq!(path, self.path());
                        fault = Some((line, offset, found));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(reader.next().is_none(), "goes on after its end");
            assert_eq!(fault.is_some(), reader.tail() == Tail::Unread);
            Read {
                entries,
                tail: reader.tail(),
                fault,
            }
        }
    }

    /// What a journal gave.
    #[derive(Debug)]
    struct Read {
        entries: Vec<Entry<Value>>,
        tail: Tail,
        /// Line, offset and what.
        fault: Option<(u64, u64, Fault)>,
    }

    fn line(sequence: u64, at_ms: u64, record: impl Serialize) -> String {
        record::encode(sequence, at_ms, &record).unwrap()
    }

    fn three_lines() -> [String; 3] {
        [
            line(1, 0, "started"),
            line(2, 15, ["a\n", "é"]),
            line(3, 15, "settled"),
        ]
    }

    fn entries(lines: &[String]) -> Vec<Entry<Value>> {
        let decode = |line: &String| record::decode(line.as_bytes()).unwrap();
        lines.iter().map(decode).collect()
    }

    /// How many lines end before a byte.
    fn line_of(lines: &[String], at: usize) -> usize {
        let ends = (1..=lines.len()).map(|count| lines[..count].concat().len());
        ends.filter(|end| *end <= at).count()
    }

    #[test]
    fn what_is_written_is_read_in_this_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        for number in 1..=2000_u64 {
            writer.append(number / 3, &number).unwrap();
        }
        for number in 1..=2000_u64 {
            let entry = reader.next().unwrap().unwrap();
            let expected = Entry {
                sequence: number,
                at_ms: number / 3,
                record: number,
            };
            assert_eq!(entry, expected);
        }
        assert!(reader.next().is_none());
        assert_eq!(reader.tail(), Tail::Complete);
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_gives_every_whole_line() {
        let lines = three_lines();
        let whole = lines.concat();
        let journal = Journal::of(&whole);
        let file = OpenOptions::new().write(true).open(journal.path()).unwrap();
        for length in (0..=whole.len()).rev() {
            file.set_len(length as u64).unwrap();
            let kept = line_of(&lines, length);
            let rest = length - lines[..kept].concat().len();
            let read = journal.read();
            assert_eq!(read.entries, entries(&lines[..kept]), "{length}");
            let tail = match rest {
                0 => Tail::Complete,
                rest => Tail::Torn { bytes: rest as u64 },
            };
            assert_eq!(read.tail, tail, "{length}");
        }
    }

    #[test]
    fn a_changed_byte_anywhere_never_gives_a_wrong_record() {
        let lines = three_lines();
        let whole = lines.concat().into_bytes();
        let last = whole.len() - lines[2].len();
        let journal = Journal::of(&whole);
        let file = OpenOptions::new().write(true).open(journal.path()).unwrap();
        for (at, byte) in whole.iter().copied().enumerate() {
            let before = line_of(&lines, at);
            for changed in [0, b'\n', b'2', 0xff, byte ^ 1, byte ^ 0x80] {
                if changed == byte {
                    continue;
                }
                file.write_all_at(&[changed], at as u64).unwrap();
                let read = journal.read();
                assert_eq!(read.entries, entries(&lines[..before]), "byte {at}");
                match read.fault {
                    Some((line, offset, _)) => {
                        assert_eq!(line, before as u64 + 1, "byte {at}");
                        assert_eq!(offset, lines[..before].concat().len() as u64);
                    }
                    // The newline before the last line makes one last line of two.
                    None => assert!(at + 1 >= last, "byte {at}: {:?}", read.tail),
                }
            }
            file.write_all_at(&[byte], at as u64).unwrap();
        }
    }

    #[test]
    fn the_nothing_that_a_power_cut_leaves_is_a_torn_tail() {
        let lines = three_lines();
        for begun in ["", "{\"version\":1,\"sequ", lines[2].trim_end()] {
            for nothing in [1, 4096, MAX_LINE + 4096] {
                let whole = lines[..2].concat();
                let journal = Journal::of(format!("{whole}{begun}"));
                let length = whole.len() + begun.len() + nothing;
                OpenOptions::new()
                    .write(true)
                    .open(journal.path())
                    .unwrap()
                    .set_len(length as u64)
                    .unwrap();
                let read = journal.read();
                assert_eq!(read.entries, entries(&lines[..2]));
                let bytes = (begun.len() + nothing) as u64;
                assert_eq!(read.tail, Tail::Torn { bytes });
            }
        }
    }

    #[test]
    fn a_last_line_that_is_no_line_is_a_torn_tail() {
        let lines = three_lines();
        for last in ["\n", "\0\0\n", "{\"version\":1,\n", &lines[2][1..]] {
            let journal = Journal::of(format!("{}{last}", lines[..2].concat()));
            let read = journal.read();
            assert_eq!(read.entries, entries(&lines[..2]));
            let bytes = last.len() as u64;
            assert_eq!(read.tail, Tail::Torn { bytes }, "{last:?}");
        }
    }

    #[test]
    fn what_is_no_line_before_the_end_is_an_error() {
        let lines = three_lines();
        for middle in ["\n", "\0\0\n", "{\"version\":1,\n", &lines[1][1..]] {
            let journal = Journal::of(format!("{}{middle}{}", lines[0], lines[2]));
            let read = journal.read();
            assert_eq!(read.entries, entries(&lines[..1]));
            let (line, offset, fault) = read.fault.unwrap();
            assert_eq!((line, offset), (2, lines[0].len() as u64));
            assert!(matches!(fault, Fault::Line(LineError::Malformed { .. })));
        }
    }

    #[test]
    fn lines_that_are_missing_or_there_twice_are_an_error() {
        let lines = three_lines();
        for (order, expected, found) in
            [(&[0, 2][..], 2, 3), (&[0, 0], 2, 1), (&[0, 1, 1, 2], 3, 2)]
        {
            let text: String = order.iter().map(|at| lines[*at].as_str()).collect();
            let (line, _, fault) = Journal::of(text).read().fault.unwrap();
            assert_eq!(line, expected);
            assert_eq!(fault, Fault::Sequence { expected, found });
        }
        let (line, _, fault) = Journal::of(&lines[2]).read().fault.unwrap();
        assert_eq!((line, fault), (1, Fault::Missing { first: 1, last: 2 }));
    }

    #[test]
    fn a_record_that_is_older_than_the_one_before_is_an_error() {
        let journal = Journal::of(line(1, 9, 'a') + &line(2, 8, 'b'));
        let (line, _, fault) = journal.read().fault.unwrap();
        assert_eq!(line, 2);
        let expected = Fault::Backwards {
            at_ms: 8,
            last_ms: 9,
        };
        assert_eq!(fault, expected);
    }

    #[test]
    fn a_line_that_was_written_on_purpose_is_no_torn_tail() {
        let journal = Journal::of(line(1, 1, 'a') + "{\"version\":2,\"and\":\"more\"}\n");
        let mut reader = Reader::<char>::open(&journal.path()).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().record, 'a');
        assert_eq!(
            reader.next().unwrap().unwrap_err().to_string(),
            format!(
                "{}: line 2, at byte 69: format version 2, and this program reads version 1",
                journal.path().display()
            )
        );

        let journal = Journal::of(line(1, 1, 'a') + &line(2, 1, "not one character"));
        let mut reader = Reader::<char>::open(&journal.path()).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().record, 'a');
        let message = reader.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("is not understood"), "{message}");
        assert!(reader.next().is_none());
    }

    #[test]
    fn a_line_that_is_too_long_is_neither_kept_nor_read_over() {
        let mut bytes = line(1, 1, 'a').into_bytes();
        bytes.resize(bytes.len() + 2 * MAX_LINE, b'x');
        bytes.push(b'\n');
        let torn = bytes.len() - line(1, 1, 'a').len();
        let journal = Journal::of(&bytes);
        let read = journal.read();
        assert_eq!(read.entries.len(), 1);
        let expected = Tail::Torn { bytes: torn as u64 };
        assert_eq!(read.tail, expected);

        bytes.extend(line(2, 1, 'b').into_bytes());
        let journal = Journal::of(&bytes);
        let (line, _, fault) = journal.read().fault.unwrap();
        assert_eq!(line, 2);
        assert_eq!(fault, Fault::Line(LineError::TooLong));
        let mut reader = Reader::<Value>::open(&journal.path()).unwrap();
        assert_eq!(reader.by_ref().count(), 2);
        let most = 2 * (MAX_LINE + 1);
        assert!(reader.line.capacity() <= most, "{}", reader.line.capacity());
    }

    #[test]
    fn a_line_that_is_one_byte_too_long_does_not_swallow_the_next() {
        let mut bytes = vec![b'x'; MAX_LINE];
        bytes.push(b'\n');
        bytes.extend(line(1, 1, 'a').into_bytes());
        let journal = Journal::of(&bytes);
        let (line, offset, fault) = journal.read().fault.unwrap();
        assert_eq!((line, offset), (1, 0));
        assert_eq!(fault, Fault::Line(LineError::TooLong));
    }

    #[test]
    fn an_empty_journal_is_complete() {
        let read = Journal::of("").read();
        assert!(read.entries.is_empty());
        assert_eq!(read.tail, Tail::Complete);
    }

    #[test]
    fn what_is_no_journal_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Reader::<Value>::open(folder.path()).unwrap_err();
        let expected = format!("{} is not a file", folder.path().display());
        assert_eq!(error.to_string(), expected);

        let missing = folder.path().join("journal.jsonl");
        let error = Reader::<Value>::open(&missing).unwrap_err();
        let expected = format!("cannot open {}", missing.display());
        assert_eq!(error.to_string(), expected);
        assert!(
            matches!(&error, JournalError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
        );
    }
}
