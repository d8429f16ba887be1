//! How story files reach the disk: one lock for all writers of a board, and files that are replaced whole or not at
//! all.
//!
//! Promises that a reader sees the old file or the new one, that nothing is left behind when writing fails, and that
//! every wait ends. Does not know what is in a story.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use super::error::StoreError;

/// The largest story file that is read or written, in bytes.
pub const MAX_STORY_LEN: u64 = 512 * 1024;

/// After this time without a sign of life, the predecessor too takes its lock directory for abandoned.
const PREDECESSOR_STALE: Duration = Duration::from_secs(10);

/// How often to look for the end of a predecessor's lock. A directory cannot be waited for, and the predecessor
/// holds its lock for milliseconds.
const PREDECESSOR_LOOK: Duration = Duration::from_millis(25);

/// The lock of a board. It is released when this is dropped, and by the operating system when the process dies.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub(crate) struct BoardLock {
    _file: File,
}

impl BoardLock {
    /// Takes the lock of the board below `root`, waiting at most `patience`.
    pub(crate) fn take(root: &Path, patience: Duration) -> Result<Self, StoreError> {
        let path = root.join("board.lock");
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = open.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotInitialised {
                path: root.to_owned(),
            },
            _ => StoreError::io("open the lock", &path)(error),
        })?;
        match file.try_lock() {
            Ok(()) => return Ok(Self { _file: file }),
            Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", &path)(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        // The system call has no deadline, so a thread makes it. Should it get the lock too late, nobody takes the
        // file out of the channel, and dropping it releases the lock.
        let (sender, receiver) = mpsc::sync_channel(1);
        let wait = move || {
            let locked = file.lock().map(|()| file);
            sender.send(locked).unwrap_or_else(drop);
        };
        thread::Builder::new()
            .name("board-lock".to_owned())
            .spawn(wait)
            .map_err(StoreError::io("wait for the lock", &path))?;
        match receiver.recv_timeout(patience) {
            Ok(Ok(file)) => Ok(Self { _file: file }),
            Ok(Err(source)) => Err(StoreError::io("lock", &path)(source)),
            Err(_) => Err(StoreError::Locked {
                path,
                waited: patience,
            }),
        }
    }
}

/// Waits until the predecessor does not hold its lock directory beside `target` (a resolved path), at most
/// `patience`. A directory without a sign of life for 10 s counts as abandoned.
pub(crate) fn wait_for_predecessor(target: &Path, patience: Duration) -> Result<(), StoreError> {
    let mut name = target.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let start = Instant::now();
    loop {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return Ok(());
        };
        // A time in the future is a clock that was set back: the lock counts as fresh.
        let age = metadata
            .modified()
            .ok()
            .and_then(|time| time.elapsed().ok())
            .unwrap_or_default();
        if age >= PREDECESSOR_STALE {
            return Ok(());
        }
        if start.elapsed() >= patience {
            return Err(StoreError::LockedByPredecessor {
                path,
                waited: patience,
            });
        }
        thread::sleep(PREDECESSOR_LOOK);
    }
}

/// Reads a story file; none when there is nothing at that path.
pub(crate) fn read(path: &Path) -> Result<Option<String>, StoreError> {
    read_at_most(path, MAX_STORY_LEN)
}

/// Reads a text file of at most `limit` bytes; none when there is nothing at that path.
pub(super) fn read_at_most(path: &Path, limit: u64) -> Result<Option<String>, StoreError> {
    let missing = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    match fs::symlink_metadata(path) {
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path)(error)),
        Ok(_) => {}
    }
    let too_large = || StoreError::TooLarge {
        path: path.to_owned(),
    };
    // Asked before opening, because opening a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(StoreError::io("read", path))?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile {
            path: path.to_owned(),
        });
    }
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| StoreError::NotText {
            path: path.to_owned(),
        })
}

/// How the names of temporary files begin and end.
const TEMPORARY_PREFIX: &str = ".story.";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Whether an existing file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing<'a> {
    /// It is replaced if it still says what is expected, and the new file gets its permissions.
    Replace {
        /// What it said when it was read.
        expected: &'a str,
    },
    /// It stays, and that is an error.
    Keep,
}

/// Writes a file whole: a temporary file beside it, made durable, then renamed. Whether it was written: not when it
/// says something else than expected by then. (Between that look and the rename lie microseconds in which an edit of
/// somebody who does not hold the lock would be lost; no system call closes that gap.)
pub(crate) fn write(path: &Path, text: &str, existing: Existing<'_>) -> Result<bool, StoreError> {
    if text.len() as u64 > MAX_STORY_LEN {
        return Err(StoreError::TooLarge {
            path: path.to_owned(),
        });
    }
    let failed = StoreError::io("write", path);
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let attempt = || -> io::Result<bool> {
        let mut temporary = temporary_in(directory)?;
        if let Existing::Replace { .. } = existing {
            temporary
                .as_file()
                .set_permissions(fs::metadata(path)?.permissions())?;
        }
        temporary.write_all(text.as_bytes())?;
        temporary.as_file().sync_all()?;
        match existing {
            Existing::Replace { expected } if fs::read(path)? != expected.as_bytes() => {
                return Ok(false);
            }
            Existing::Replace { .. } => temporary.persist(path)?,
            Existing::Keep => temporary.persist_noclobber(path)?,
        };
        File::open(directory)?.sync_all()?;
        Ok(true)
    };
    attempt().map_err(failed)
}

/// Removes temporary files that a killed writer has left beside a story. The caller holds the lock of the board, so
/// that they are nobody's.
pub(crate) fn sweep_temporaries(story: &Path) {
    let siblings = story
        .parent()
        .and_then(|directory| fs::read_dir(directory).ok());
    for entry in siblings.into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(TEMPORARY_PREFIX)
            && name.ends_with(TEMPORARY_SUFFIX)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(%error, path = %entry.path().display(), "a temporary file stays");
        }
    }
}

/// A temporary file with the permissions that the user's umask leaves to a new file; removed when dropped.
fn temporary_in(directory: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .suffix(TEMPORARY_SUFFIX)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_lock_that_is_held_is_waited_for_and_given_up() {
        let root = tempfile::tempdir().unwrap();
        let held = BoardLock::take(root.path(), Duration::ZERO).unwrap();
        let error = BoardLock::take(root.path(), Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }));
        let path = root.path().to_owned();
        let waiting =
            thread::spawn(move || BoardLock::take(&path, Duration::from_secs(10)).map(drop));
        drop(held);
        waiting.join().unwrap().unwrap();
        // The waiter that gave up got the lock and let it go.
        BoardLock::take(root.path(), Duration::from_secs(10))
            .map(drop)
            .unwrap();
    }

    #[test]
    fn a_fresh_lock_of_the_predecessor_is_respected_and_a_stale_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let story = root.path().join("story.md");
        wait_for_predecessor(&story, Duration::ZERO).unwrap();
        let lock = root.path().join("story.md.lock");
        fs::create_dir(&lock).unwrap();
        let error = wait_for_predecessor(&story, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(error, StoreError::LockedByPredecessor { path, .. } if path == lock));
        let old = SystemTime::now() - Duration::from_secs(11);
        File::open(&lock).unwrap().set_modified(old).unwrap();
        wait_for_predecessor(&story, Duration::ZERO).unwrap();
    }

    #[test]
    fn what_is_no_text_file_of_reasonable_size_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("story.md");
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(StoreError::NotText { .. })));
        File::create(&path)
            .unwrap()
            .set_len(MAX_STORY_LEN + 1)
            .unwrap();
        assert!(matches!(read(&path), Err(StoreError::TooLarge { .. })));
        assert!(matches!(
            read(root.path()),
            Err(StoreError::NotAFile { .. })
        ));
        let dangling = root.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(matches!(
            read(&dangling),
            Err(StoreError::Io { verb: "read", .. })
        ));
    }

    #[test]
    fn writing_keeps_permissions_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("story.md");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let expected = &fs::read_to_string(&path).unwrap();
        assert!(!write(&path, "new", Existing::Replace { expected: "else" }).unwrap());
        assert_eq!(&fs::read_to_string(&path).unwrap(), expected);
        assert!(write(&path, "new", Existing::Replace { expected }).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        let refused = write(&path, "other", Existing::Keep).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("cannot write {}", path.display())
        );
        let nowhere = root.path().join("missing/story.md");
        let refused = write(&nowhere, "new", Existing::Keep).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("cannot write {}", nowhere.display())
        );
        let large = "x".repeat(usize::try_from(MAX_STORY_LEN).unwrap() + 1);
        assert!(matches!(
            write(&path, &large, Existing::Replace { expected: "new" }),
            Err(StoreError::TooLarge { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
