//! The logs of attempts, as a person gets to see them: which of them tells how one ended, and its last lines.
//!
//! The disk that they are on may hang. So it is asked on another thread, and whoever asks waits for no longer than a
//! deadline. While an answer is overdue nothing more is asked, so that one thread at most is stuck, and the time is lost
//! once.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::run_folder::RunFolder;
use crate::engine::Unit;
use crate::protocol::one_line;

/// How much of the file is looked at, in bytes.
const BYTES: u64 = 8 * 1024;
/// How many lines are shown.
const LINES: usize = 10;
/// How long a line may be, in bytes.
const LINE_LENGTH: usize = 200;

/// Reads the logs of one run. Clones share what is overdue.
#[derive(Debug, Clone)]
pub(super) struct LogReader {
    folder: RunFolder,
    /// How long the disk may take for an answer.
    patience: Duration,
    is_overdue: Arc<AtomicBool>,
}

impl LogReader {
    pub(super) fn new(folder: RunFolder, patience: Duration) -> Self {
        Self {
            folder,
            patience,
            is_overdue: Arc::default(),
        }
    }

    /// The log that tells how an attempt ended. None when there is none, or the disk does not answer. Blocks.
    pub(super) fn telling_log(&self, unit: &Unit) -> Option<PathBuf> {
        let (folder, unit) = (self.folder.clone(), unit.clone());
        self.ask(move || folder.telling_log(&unit)).flatten()
    }

    /// The last lines of a log, without control characters. None when there is nothing to be read, or the disk does not
    /// answer. Blocks.
    pub(super) fn last_lines(&self, log: &Path) -> Vec<String> {
        let log = log.to_owned();
        self.ask(move || read(&log)).unwrap_or_default()
    }

    fn ask<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        if self.is_overdue.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let is_overdue = Arc::clone(&self.is_overdue);
        let asked = std::thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || {
                let read = read();
                is_overdue.store(false, Ordering::Relaxed);
                // Nobody waits for it any more when it comes too late.
                let _late = answer.try_send(read);
            });
        if let Err(error) = asked {
            tracing::debug!(%error, "there is no thread to read logs");
            self.is_overdue.store(false, Ordering::Relaxed);
        }
        answered.recv_timeout(self.patience).ok()
    }
}

fn read(path: &Path) -> Vec<String> {
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
    use crate::engine::RunId;

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

    #[test]
    fn a_disk_that_hangs_is_waited_for_once_and_asked_again_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::new("20261122-120000", 1).unwrap();
        let folder = RunFolder::create(folder.path(), &run).unwrap();
        let reader = LogReader::new(folder, Duration::from_millis(100));
        let (release, held) = sync_channel::<()>(0);
        assert_eq!(reader.ask(move || held.recv().is_ok()), None);
        // A clone as well, and without any wait: else this would be an answer.
        assert_eq!(reader.clone().ask(|| true), None);
        release.send(()).unwrap();
        while reader.ask(|| true).is_none() {
            std::thread::yield_now();
        }
    }
}
