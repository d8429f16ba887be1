//! The last record of a journal, without reading the rest.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::{Fault, JournalError, Line};
use super::record::{self, Entry, MAX_LINE};
use super::segments;

/// How much is read at first, in bytes: most lines are much shorter.
const FIRST_READ: u64 = 64 * 1024;

/// The last record, if the open segment of the journal ends with a whole line. Nothing is said of those before it.
///
/// # Errors
/// When there is no journal, it cannot be read, or its last line is whole and not one of a journal.
pub fn last_record<T: DeserializeOwned>(path: &Path) -> Result<Option<Entry<T>>, JournalError> {
    let failed = |source| JournalError::io("read", path)(source);
    let mut file = match File::open(path) {
        // The writer was killed between two segments.
        Err(error) if error.kind() == io::ErrorKind::NotFound && segments::exists(path) => {
            return Ok(None);
        }
        file => file.map_err(failed)?,
    };
    let length = file.metadata().map_err(failed)?.len();
    let mut wanted = FIRST_READ;
    loop {
        let from = length.saturating_sub(wanted);
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let mut end = Vec::new();
        (&mut file)
            .take(wanted)
            .read_to_end(&mut end)
            .map_err(failed)?;
        let Some((b'\n', before)) = end.split_last() else {
            return Ok(None);
        };
        let start = before.iter().rposition(|byte| *byte == b'\n');
        let line = match start {
            Some(start) => &end[start + 1..],
            None if from == 0 => &end,
            None if wanted > MAX_LINE as u64 => return Ok(None),
            None => {
                wanted *= 4;
                continue;
            }
        };
        return match record::decode(line) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.may_be_torn() => Ok(None),
            Err(error) => Err(JournalError::Damaged {
                path: path.to_owned(),
                line: Line::Last,
                offset: length - line.len() as u64,
                fault: Fault::Line(error),
            }),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Writer;
    use super::*;

    #[test]
    fn the_last_whole_line_is_found_however_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        assert_eq!(last_record::<String>(&path).unwrap(), None);
        for (at, length) in [(1, 3), (2, 70_000), (3, 1_000_000), (4, 0)] {
            writer.append(at, &"x".repeat(length)).unwrap();
            let last = last_record::<String>(&path).unwrap().unwrap();
            assert_eq!((last.at_ms, last.record.len()), (at, length));
        }
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"version\":1,").unwrap();
        assert_eq!(last_record::<String>(&path).unwrap(), None);
    }

    #[test]
    fn a_last_line_that_was_written_on_purpose_is_named_without_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let first = record::encode(1, 1, &'a').unwrap();
        std::fs::write(&path, first + "{\"version\":2,\"and\":\"more\"}\n").unwrap();
        assert_eq!(
            last_record::<char>(&path).unwrap_err().to_string(),
            format!(
                "{}: the last line, at byte 69: format version 2, and this program reads version 1",
                path.display()
            )
        );
    }

    #[test]
    fn between_two_segments_there_is_no_last_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        assert!(last_record::<char>(&path).is_err());
        let mut writer = Writer::create(&path).unwrap().in_segments_of(1);
        writer.append(1, &'a').unwrap();
        writer.append(2, &'b').unwrap();
        assert_eq!(last_record::<char>(&path).unwrap().unwrap().record, 'b');
        std::fs::remove_file(&path).unwrap();
        assert_eq!(last_record::<char>(&path).unwrap(), None);
    }
}
