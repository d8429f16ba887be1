//! Compressing the closed segments of a journal, on a thread of its own.
//!
//! Promises that a plain segment goes only when its compressed form is on the disk, under its name; that what cannot be
//! compressed stays as it is and is tried again when the next segment is closed, or the journal is gone on with; and that
//! nobody waits for it: a disk that hangs holds up this thread alone, and there is one at a time.

use std::error::Error as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::error::JournalError;
use super::segments::{self, Form};
use crate::disk;

/// Compresses what is closed of one journal.
#[derive(Debug)]
pub(super) struct Compressor {
    journal: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Compressor {
    pub(super) fn of(journal: &Path) -> Self {
        Self {
            journal: journal.to_owned(),
            thread: None,
        }
    }

    /// Begins to compress what is closed, unless that goes on still: then it is done when this is called again. Does not
    /// wait.
    pub(super) fn start(&mut self) {
        let busy = |thread: &JoinHandle<()>| !thread.is_finished();
        if self.thread.as_ref().is_some_and(busy) {
            return;
        }
        let journal = self.journal.clone();
        let thread = std::thread::Builder::new().name("journal-gzip".to_owned());
        let started = thread.spawn(move || {
            if let Err(error) = compress_closed(&journal) {
                let reason = error.source().map(ToString::to_string);
                tracing::warn!(%error, reason, "a segment of the journal stays uncompressed");
            }
        });
        match started {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "the journal stays uncompressed"),
        }
    }
}

/// Compresses the closed segments of a journal that are plain. Nobody else may do so meanwhile; it may be written and read.
/// Blocks.
///
/// # Errors
/// The first one, when some could not be compressed. These are as before.
pub fn compress_closed(journal: &Path) -> Result<(), JournalError> {
    let mut plain = segments::closed(journal)?;
    plain.retain(|segment| segment.form == Form::Plain);
    plain.sort_by_key(|segment| segment.number);
    let mut result = Ok(());
    for segment in plain {
        let compressed = compress(journal, segment.number);
        result = result.and(compressed.map_err(JournalError::io("compress", &segment.path)));
    }
    result
}

fn compress(journal: &Path, number: u64) -> io::Result<()> {
    let (plain, half) = (
        segments::plain(journal, number),
        segments::half(journal, number),
    );
    let mut file = File::open(&plain)?;
    // The journal that is written needs what is left of a disk more than this does.
    if disk::free(&plain)?.0 < file.metadata()?.len() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    write(&mut file, &half).inspect_err(|_| drop(fs::remove_file(&half)))?;
    fs::rename(&half, segments::compressed(journal, number))?;
    segments::sync_names(journal)?;
    fs::remove_file(&plain)
}

fn write(from: &mut File, to: &Path) -> io::Result<()> {
    let mut encoder = GzEncoder::new(File::create(to)?, Compression::default());
    io::copy(from, &mut encoder)?;
    encoder.finish()?.sync_all()
}
