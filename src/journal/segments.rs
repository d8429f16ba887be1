//! The files of a journal: their names, which there are, opening one, and closing the one that is written.
//!
//! The open segment has the journal's own name, `journal.jsonl`; closed ones are `journal.0001.jsonl` and so on, or
//! `journal.0001.jsonl.gz` when they are compressed. [`super`] has the table of what a kill can leave.
//!
//! Promises that a segment can be opened while the journal is written, rotated and compressed by others; that one which
//! is missing is told of; and that nothing replaces a closed segment.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::read::GzDecoder;

use super::error::JournalError;

/// What the name of a compressed file ends with.
const COMPRESSED: &str = ".gz";

/// What the name of a file ends with that is being compressed.
const HALF: &str = ".gz.part";

/// A file of a journal, from its beginning.
#[derive(Debug)]
pub(super) struct Segment {
    /// Counts from 1.
    pub(super) number: u64,
    /// The journal's own path for the open one.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) input: Input,
}

/// Whether a segment may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is the last one, and may end within a line.
    Open,
    /// Others follow. It was on the disk, whole, before it was closed.
    Closed,
}

/// Where the bytes of a segment come from.
#[derive(Debug)]
pub(super) enum Input {
    /// There is no file: the writer was killed before it had made it.
    Nothing,
    Plain(File),
    Compressed(Box<GzDecoder<File>>),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Nothing => Ok(0),
            Self::Plain(file) => file.read(buffer),
            Self::Compressed(decoder) => decoder.read(buffer),
        }
    }
}

/// Opens a segment, which is the open one when it is not closed.
///
/// # Errors
/// When there is no such journal, a later segment and not this one, or the file cannot be opened.
pub(super) fn open(journal: &Path, number: u64) -> Result<Segment, JournalError> {
    // First the open one, then whether this one is closed: if it is not, what has been opened cannot be a later one,
    // whatever the writer does between the two.
    let open = open_file(journal)?;
    if let Some(segment) = open_closed(journal, number)? {
        return Ok(segment);
    }
    let is_later = |segment: &Closed| segment.number > number;
    if closed(journal)?.iter().any(is_later) {
        // Both may have been closed since.
        return open_closed(journal, number)?.ok_or_else(|| JournalError::Missing {
            path: plain(journal, number),
        });
    }
    let input = match open {
        Some(file) => Input::Plain(file),
        None if number > 1 => Input::Nothing,
        None => {
            // As the system has said it.
            let source = io::Error::from(rustix::io::Errno::NOENT);
            return Err(JournalError::io("open", journal)(source));
        }
    };
    Ok(Segment {
        number,
        path: journal.to_owned(),
        kind: Kind::Open,
        input,
    })
}

/// Plain, else compressed: a plain one goes when it is there in compressed form, never the other way round.
fn open_closed(journal: &Path, number: u64) -> Result<Option<Segment>, JournalError> {
    let segment = |path, input| Segment {
        number,
        path,
        kind: Kind::Closed,
        input,
    };
    let path = plain(journal, number);
    if let Some(file) = open_file(&path)? {
        return Ok(Some(segment(path, Input::Plain(file))));
    }
    let path = compressed(journal, number);
    let file = open_file(&path)?;
    Ok(file.map(|file| segment(path, Input::Compressed(Box::new(GzDecoder::new(file))))))
}

/// Opens a file if it is there.
fn open_file(path: &Path) -> Result<Option<File>, JournalError> {
    let open = || {
        // Before opening, which would wait for the other end of a pipe.
        let is_file = fs::metadata(path)?.is_file();
        is_file.then(|| File::open(path)).transpose()
    };
    match open() {
        Ok(Some(file)) => Ok(Some(file)),
        Ok(None) => Err(JournalError::NotAFile {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::io("open", path)(error)),
    }
}

/// A closed segment that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Compressed,
}

/// The closed segments that are there, in no order. One that was just compressed may be there in both forms.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn closed(journal: &Path) -> Result<Vec<Closed>, JournalError> {
    let list = || -> io::Result<Vec<Closed>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder(journal))? {
            found.extend(parse(journal, entry?.path()));
        }
        Ok(found)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(JournalError::io("look for the segments of", journal)),
    }
}

/// What a path in the folder of a journal is.
fn parse(journal: &Path, path: PathBuf) -> Option<Closed> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix(journal.file_stem()?.to_str()?)?;
    let digits = rest.strip_prefix('.')?.split('.').next()?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    // Only as it is written.
    let form = if plain(journal, number).file_name()? == name {
        Form::Plain
    } else if compressed(journal, number).file_name()? == name {
        Form::Compressed
    } else {
        return None;
    };
    Some(Closed { number, path, form })
}

/// The path of a closed segment.
pub(super) fn plain(journal: &Path, number: u64) -> PathBuf {
    named(journal, number, "")
}

/// The path of a closed segment that is compressed.
pub(super) fn compressed(journal: &Path, number: u64) -> PathBuf {
    named(journal, number, COMPRESSED)
}

/// The path under which a closed segment is compressed.
pub(super) fn half(journal: &Path, number: u64) -> PathBuf {
    named(journal, number, HALF)
}

fn named(journal: &Path, number: u64, ending: &str) -> PathBuf {
    let mut name = OsString::from(journal.file_stem().unwrap_or_default());
    name.push(format!(".{number:04}"));
    if let Some(extension) = journal.extension() {
        name.push(".");
        name.push(extension);
    }
    name.push(ending);
    journal.with_file_name(name)
}

fn folder(journal: &Path) -> &Path {
    match journal.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the names in the folder of a journal durable. A file whose name is not on the disk is not there after a power
/// cut, whatever is in it.
pub(super) fn sync_names(journal: &Path) -> io::Result<()> {
    File::open(folder(journal))?.sync_all()
}

/// Whether there is a journal, be it an empty one.
pub fn exists(journal: &Path) -> bool {
    last_change(journal).is_some()
}

/// When a journal was last written, if there is one.
pub fn last_change(journal: &Path) -> Option<SystemTime> {
    let modified = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        metadata.is_file().then(|| metadata.modified().ok())?
    };
    modified(journal).or_else(|| {
        let closed = closed(journal).ok()?;
        let last = closed.iter().max_by_key(|segment| segment.number)?;
        modified(&last.path)
    })
}

/// Why a segment was not closed.
#[derive(Debug)]
pub(super) enum NotClosed {
    /// It is open as before.
    AsBefore(io::Error),
    /// What it is called is not certain: nothing may be written to it any more.
    Uncertain(io::Error),
}

/// Closes the open segment, which is on the disk to its end, under a number, and opens the next one. The names are on
/// the disk after the next [`sync_names`].
///
/// # Errors
/// When a name cannot be changed, or no file be made.
pub(super) fn close(journal: &Path, number: u64) -> Result<File, NotClosed> {
    let closed = plain(journal, number);
    let taken = [&closed, &compressed(journal, number)]
        .into_iter()
        .try_fold(false, |taken, path| Ok(taken || path.try_exists()?));
    match taken {
        Ok(false) => {}
        Ok(true) => return Err(NotClosed::AsBefore(io::ErrorKind::AlreadyExists.into())),
        Err(error) => return Err(NotClosed::AsBefore(error)),
    }
    fs::rename(journal, &closed).map_err(NotClosed::AsBefore)?;
    create(journal).map_err(|error| {
        let back = fs::rename(&closed, journal).and_then(|()| sync_names(journal));
        match back {
            Ok(()) => NotClosed::AsBefore(error),
            Err(_) => NotClosed::Uncertain(error),
        }
    })
}

/// Makes the file of an open segment.
pub(super) fn create(journal: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(journal)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::{
        Committer, Durability, Entry, Fault, Line, Reader, Tail, Writer, compress_closed,
    };
    use super::*;

    /// A journal in a folder of its own.
    struct Journal {
        folder: TempDir,
        path: PathBuf,
    }

    impl Journal {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal.jsonl");
            Self { folder, path }
        }

        /// One of `a` to `e`, each of which fills a segment: `e` is in the open one.
        fn of_five() -> Self {
            let journal = Self::new();
            let mut writer = Writer::create(&journal.path).unwrap().in_segments_of(1);
            for (at_ms, record) in (0..).zip(five()) {
                writer.append(at_ms, &record).unwrap();
            }
            journal
        }

        fn read(&self) -> (Vec<Entry<String>>, Tail) {
            let mut reader = Reader::open(&self.path).unwrap();
            let entries = reader.by_ref().map(Result::unwrap).collect();
            (entries, reader.tail())
        }

        /// The records, of which there is a whole number.
        fn records(&self) -> Vec<String> {
            let (entries, tail) = self.read();
            assert_eq!(tail, Tail::Complete);
            for (expected, entry) in (1..).zip(&entries) {
                assert_eq!(entry.sequence, expected);
            }
            entries.into_iter().map(|entry| entry.record).collect()
        }

        /// How many records are read before an error, and that.
        fn error(&self) -> (u64, JournalError) {
            let mut reader = match Reader::<String>::open(&self.path) {
                Ok(reader) => reader,
                Err(error) => return (0, error),
            };
            let error = reader.find_map(Result::err).unwrap();
            assert_eq!(reader.tail(), Tail::Unread);
            (reader.end().sequence, error)
        }

        fn go_on(&self) -> Result<Writer<String>, JournalError> {
            let mut reader = Reader::<String>::open(&self.path).unwrap();
            reader.by_ref().for_each(|entry| drop(entry.unwrap()));
            Writer::go_on(&self.path, reader.end())
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    fn five() -> Vec<String> {
        ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec()
    }

    fn records() -> impl Strategy<Value = Vec<String>> {
        let text = prop_oneof![any::<String>(), "[a-z\n\"]{0,300}"];
        prop::collection::vec(text, 1..30)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn what_is_written_is_read_whatever_the_segments(
            records in records(),
            segment in 1..3000_u64,
            together in 1..5_usize,
            compress_at in prop::collection::btree_set(0..30_usize, 0..5),
            restart_at in any::<prop::sample::Index>(),
            go_on_at in prop::collection::vec(any::<prop::sample::Index>(), 3),
        ) {
            let journal = Journal::new();
            let mut writer = Writer::create(&journal.path).unwrap().in_segments_of(segment);
            let restart_at = restart_at.index(records.len());
            for (at, record) in records.iter().enumerate() {
                writer.push(at as u64, record).unwrap();
                if at % together == 0 {
                    writer.flush().unwrap();
                }
                if at == restart_at {
                    writer.flush().unwrap();
                    writer = journal.go_on().unwrap().in_segments_of(segment);
                }
                // Some are compressed while it is written, and some are not yet.
                if compress_at.contains(&at) {
                    compress_closed(&journal.path).unwrap();
                }
            }
            writer.flush().unwrap();
            prop_assert_eq!(journal.records(), &records[..]);

            // Cut in the open segment, at every end of a line and within many, it gives what is whole, and goes on behind that.
            let open = fs::read(&journal.path).unwrap();
            let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() - 1;
            let before = records.len() - lines(&open);
            let goes_on = |length| go_on_at.iter().any(|at| at.index(open.len() + 1) == length);
            let at_end = |length: usize| open[length.saturating_sub(2)..].iter().take(4).any(|byte| *byte == b'\n');
            let looked_at = |length: &usize| length.is_multiple_of(13) || at_end(*length) || goes_on(*length);
            for length in (0..=open.len()).rev().filter(looked_at) {
                let cut = &open[..length];
                fs::write(&journal.path, cut).unwrap();
                let (entries, tail) = journal.read();
                prop_assert_eq!(entries.len(), before + lines(cut));
                prop_assert!(entries.iter().zip(&records).all(|(entry, record)| entry.record == *record));
                let rest = cut.rsplit(|byte| *byte == b'\n').next().unwrap().len() as u64;
                let expected = if rest == 0 { Tail::Complete } else { Tail::Torn { bytes: rest } };
                prop_assert_eq!(tail, expected);
                if goes_on(length) {
                    let mut writer = journal.go_on().unwrap();
                    writer.append(1000, &"more".to_owned()).unwrap();
                    let expected = [&records[..before + lines(cut)], &["more".to_owned()]].concat();
                    prop_assert_eq!(journal.records(), expected);
                }
            }
        }
    }

    /// Makes a state of the files of a journal of five segments.
    type Make = fn(&Path);

    /// What a kill leaves, see the table in the module above: each with the last closed segment, `d`, in question.
    fn crash_states() -> Vec<(&'static str, Make)> {
        fn compressed_copy(journal: &Path) -> Vec<u8> {
            let bytes = fs::read(plain(journal, 4)).unwrap();
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            io::Write::write_all(&mut encoder, &bytes).unwrap();
            encoder.finish().unwrap()
        }
        vec![
            ("nothing", |_| {}),
            ("the next segment is not there yet", |journal| {
                fs::rename(journal, plain(journal, 5)).unwrap();
            }),
            ("the next segment is empty", |journal| {
                fs::rename(journal, plain(journal, 5)).unwrap();
                create(journal).unwrap();
            }),
            ("compressing has begun", |journal| {
                fs::write(half(journal, 4), "").unwrap();
            }),
            ("half of it is compressed", |journal| {
                let bytes = compressed_copy(journal);
                fs::write(half(journal, 4), &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("all of it is compressed", |journal| {
                fs::write(half(journal, 4), compressed_copy(journal)).unwrap();
            }),
            ("it is there in both forms", |journal| {
                fs::write(compressed(journal, 4), compressed_copy(journal)).unwrap();
            }),
            ("it is compressed", |journal| {
                fs::write(compressed(journal, 4), compressed_copy(journal)).unwrap();
                fs::remove_file(plain(journal, 4)).unwrap();
            }),
            (
                "everything is compressed and the next one missing",
                |journal| {
                    fs::rename(journal, plain(journal, 5)).unwrap();
                    compress_closed(journal).unwrap();
                },
            ),
        ]
    }

    #[test]
    fn whatever_a_kill_leaves_has_the_same_records_and_goes_on() {
        for (state, make) in crash_states() {
            let journal = Journal::of_five();
            make(&journal.path);
            assert_eq!(journal.records(), five(), "{state}");
            assert!(exists(&journal.path), "{state}");
            let mut writer = journal.go_on().unwrap().in_segments_of(1);
            assert_eq!(journal.records(), five(), "{state}");
            assert_eq!(writer.append(9, &"f".to_owned()).unwrap(), 6, "{state}");
            let mut six = five();
            six.push("f".to_owned());
            assert_eq!(journal.records(), six, "{state}");
            compress_closed(&journal.path).unwrap();
            assert_eq!(journal.records(), six, "{state}");
            let mut names: Vec<String> = (1..=5)
                .map(|number| format!("journal.{number:04}.jsonl.gz"))
                .collect();
            names.push("journal.jsonl".to_owned());
            assert_eq!(journal.names(), names, "{state}");
        }
    }

    #[test]
    fn a_segment_that_is_missing_is_an_error() {
        for compressed_too in [false, true] {
            for number in 1..=3_u64 {
                let journal = Journal::of_five();
                if compressed_too {
                    compress_closed(&journal.path).unwrap();
                }
                let name = if compressed_too { compressed } else { plain };
                fs::remove_file(name(&journal.path, number)).unwrap();
                let (read, error) = journal.error();
                assert_eq!(read, number - 1);
                let expected = format!(
                    "{} is missing, also in compressed form, and a later segment is there",
                    plain(&journal.path, number).display()
                );
                assert_eq!(error.to_string(), expected);
            }
            // The last closed one: the open one tells.
            let journal = Journal::of_five();
            if compressed_too {
                compress_closed(&journal.path).unwrap();
                fs::remove_file(compressed(&journal.path, 4)).unwrap();
            } else {
                fs::remove_file(plain(&journal.path, 4)).unwrap();
            }
            let (read, error) = journal.error();
            assert_eq!(read, 3);
            let expected = format!(
                "{}: line 1, at byte 0: records 4 to 4 are missing before it",
                journal.path.display()
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_closed_segment_that_is_not_whole_is_an_error() {
        let journal = Journal::of_five();
        let path = plain(&journal.path, 2);
        let bytes = fs::read(&path).unwrap();
        for length in 1..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let (read, error) = journal.error();
            assert_eq!(read, 1, "{length}");
            let JournalError::Damaged {
                path: found,
                line,
                fault,
                ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((found, line), (path.clone(), Line::Number(1)));
            assert!(matches!(fault, Fault::Line(_)), "{fault}");
        }
        fs::write(&path, &bytes).unwrap();
        compress_closed(&journal.path).unwrap();
        let path = compressed(&journal.path, 2);
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let (read, error) = journal.error();
            assert!(read <= 1, "{length}: {read}");
            let expected = format!("cannot read {}", path.display());
            assert_eq!(error.to_string(), expected, "{length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            fs::write(&path, &changed).unwrap();
            // Some bytes of the header say nothing of the rest.
            let mut reader = Reader::<String>::open(&journal.path).unwrap();
            for (entry, expected) in reader.by_ref().map_while(Result::ok).zip(five()) {
                assert_eq!(entry.record, expected, "{at}");
            }
        }
    }

    #[test]
    fn what_cannot_be_compressed_stays_and_is_tried_again() {
        let journal = Journal::of_five();
        let in_the_way = half(&journal.path, 2);
        fs::create_dir(&in_the_way).unwrap();
        let error = compress_closed(&journal.path).unwrap_err();
        let expected = format!("cannot compress {}", plain(&journal.path, 2).display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(journal.records(), five());
        assert!(plain(&journal.path, 2).is_file());
        assert!(compressed(&journal.path, 3).is_file());
        fs::remove_dir(&in_the_way).unwrap();
        compress_closed(&journal.path).unwrap();
        assert!(!plain(&journal.path, 2).exists());
        assert_eq!(journal.records(), five());
    }

    #[test]
    fn a_segment_whose_name_is_taken_goes_on_and_replaces_nothing() {
        let journal = Journal::new();
        let mut writer = Writer::create(&journal.path).unwrap().in_segments_of(1);
        writer.append(1, &"a".to_owned()).unwrap();
        let taken = compressed(&journal.path, 1);
        fs::write(&taken, "of somebody else").unwrap();
        writer.append(2, &"b".to_owned()).unwrap();
        assert_eq!(fs::read(&taken).unwrap(), b"of somebody else");
        fs::remove_file(&taken).unwrap();
        assert_eq!(journal.records(), five()[..2]);
        writer.append(3, &"c".to_owned()).unwrap();
        assert_eq!(journal.records(), five()[..3]);
        assert_eq!(journal.names(), ["journal.0001.jsonl", "journal.jsonl"]);
    }

    #[test]
    fn a_journal_with_closed_segments_is_neither_begun_again_nor_gone_on_with_from_its_middle() {
        let journal = Journal::of_five();
        let mut reader = Reader::<String>::open(&journal.path).unwrap();
        reader.next().unwrap().unwrap();
        let error = Writer::<String>::go_on(&journal.path, reader.end()).unwrap_err();
        assert!(matches!(error, JournalError::Unread { .. }), "{error}");
        fs::remove_file(&journal.path).unwrap();
        let error = Writer::<String>::create(&journal.path).unwrap_err();
        assert!(matches!(error, JournalError::Io { .. }), "{error}");
        assert_eq!(journal.records(), five()[..4]);
    }

    #[test]
    fn only_names_that_are_given_are_segments() {
        let journal = Journal::of_five();
        for other in [
            "journal.1.jsonl",
            "journal.0000.jsonl",
            "journal.00006.jsonl",
            "journal.+006.jsonl",
            "journal.0006.jsonl.gz.part",
            "journal.0006.jsonl.bak",
            "other.0006.jsonl",
            "journal.0006",
        ] {
            fs::write(journal.folder.path().join(other), "").unwrap();
        }
        assert_eq!(closed(&journal.path).unwrap().len(), 4);
        assert_eq!(journal.records(), five());
        let many = plain(&journal.path, 12_345);
        assert!(many.ends_with("journal.12345.jsonl"));
        assert_eq!(parse(&journal.path, many.clone()).unwrap().number, 12_345);
    }

    #[test]
    fn a_journal_is_read_while_it_is_written_closed_and_compressed() {
        const RECORDS: u64 = 3000;
        const DEADLINE: Duration = Duration::from_secs(60);
        let journal = Journal::new();
        let writer = Writer::create(&journal.path).unwrap().in_segments_of(4096);
        let mut committer = Committer::start(writer).unwrap();
        let progress = committer.progress();
        let (path, began) = (journal.path.clone(), Instant::now());
        // Who tells does not wait, and is heard only by one who waits at that moment.
        let (tell, looked) = mpsc::sync_channel(0);
        let reading = thread::spawn(move || {
            while began.elapsed() < DEADLINE {
                let written = progress.borrow().written;
                let mut reader = Reader::<String>::open(&path).unwrap();
                let mut read = 0;
                for entry in reader.by_ref() {
                    read += 1;
                    assert_eq!(entry.unwrap().record, format!("record {read}"));
                }
                assert!(read >= written, "{read} of {written}");
                let _heard: Result<(), mpsc::TrySendError<u64>> = tell.try_send(read);
                if read == RECORDS {
                    return;
                }
            }
            panic!("not all was written in time");
        });
        for number in 1..=RECORDS {
            let handed_in =
                committer.hand_in(number, format!("record {number}"), Durability::Synced);
            handed_in.unwrap();
            // As a loop that is told of what happens, not all at once.
            if number % 8 == 0 {
                while !committer
                    .progress()
                    .borrow()
                    .has(number, Durability::Synced)
                {
                    assert!(began.elapsed() < DEADLINE, "{number} is not written");
                    thread::yield_now();
                }
            }
            // Not only the whole of it is looked at.
            if number % 500 == 0 && number < RECORDS {
                assert!(looked.recv_timeout(DEADLINE).unwrap() <= number);
            }
        }
        reading.join().unwrap();
        assert!(committer.progress().borrow().failed.is_none());
        assert!(closed(&journal.path).unwrap().len() > 20);
        drop(committer);
    }
}
