//! The end of an attempt's log, as a person gets to see it after an end that needs an explanation.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::protocol::one_line;

/// How much of the file is looked at, in bytes.
const BYTES: u64 = 8 * 1024;
/// How many lines are shown.
const LINES: usize = 10;
/// How long a line may be, in bytes.
const LINE_LENGTH: usize = 200;

/// The last lines of a log, without control characters. Empty when there is nothing to be read.
pub(super) fn read(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        file.take(BYTES).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        tracing::debug!(%error, path = %path.display(), "no log to show");
    }
    last_lines(&String::from_utf8_lossy(&bytes))
}

fn last_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .map(|line| one_line(line, LINE_LENGTH))
        .filter(|line| !line.trim().is_empty())
        .take(LINES)
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_without_control_characters() {
        let lines: Vec<String> = (0..20)
            .map(|n| format!("\u{1b}[31mline {n}\u{1b}[0m\r\n\n"))
            .collect();
        let text = lines.concat();
        let lines = last_lines(&text);
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "line 10");
        assert_eq!(lines[9], "line 19");
    }

    #[test]
    fn only_the_end_of_a_long_file_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            [b"x".repeat(1 << 20), b"\nthe end".to_vec()].concat(),
        )
        .unwrap();
        assert_eq!(read(file.path()).last().unwrap(), "the end");
        assert!(read(Path::new("/nowhere")).is_empty());
    }
}
