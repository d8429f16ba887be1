//! What is noted of a worktree that was set up: with what its dependencies were installed. A worktree without such a note
//! was not set up to its end.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::Path;

/// The most of a lock file that counts, in bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// The first word of a note, so that a later version can tell its own.
const VERSION: &str = "1";

/// With what dependencies were installed: changes when the command or what it goes by changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Installed(u64);

impl Installed {
    /// Nothing was.
    pub(super) const NOTHING: Self = Self(0);

    /// What this command installs, going by these files. One that is not there counts as such. Blocks.
    pub(super) fn by<'a>(
        command: &str,
        folder: &Path,
        files: impl Iterator<Item = &'a str>,
    ) -> Self {
        // It may come out differently with another version of the compiler, and then something is installed once more.
        let mut hasher = DefaultHasher::new();
        command.hash(&mut hasher);
        for file in files {
            file.hash(&mut hasher);
            read(&folder.join(file)).ok().hash(&mut hasher);
        }
        Self(hasher.finish().max(1))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A named pipe in its place would never be opened.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a note says; none when there is none that can be read.
pub(super) fn read_note(path: &Path) -> Option<Installed> {
    let text = fs::read_to_string(path).ok()?;
    let (version, installed) = text.strip_suffix('\n')?.split_once(' ')?;
    let number = u64::from_str_radix(installed, 16).ok()?;
    (version == VERSION).then_some(Installed(number))
}

/// Notes that a worktree is set up. A note that was only half written counts as none.
pub(super) fn write_note(path: &Path, installed: Installed) -> io::Result<()> {
    fs::write(path, format!("{VERSION} {:x}\n", installed.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("note");
        assert_eq!(read_note(&note), None);
        for installed in [Installed::NOTHING, Installed(u64::MAX)] {
            write_note(&note, installed).unwrap();
            assert_eq!(read_note(&note), Some(installed));
        }
        for broken in ["", "1", "1 ff", "2 ff\n", "1 x\n"] {
            fs::write(&note, broken).unwrap();
            assert_eq!(read_note(&note), None, "{broken:?}");
        }
    }

    #[test]
    fn a_changed_lock_file_or_command_is_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let by = |command| Installed::by(command, dir.path(), ["lock", "manifest"].into_iter());
        let none = by("install");
        fs::write(dir.path().join("lock"), "1").unwrap();
        let one = by("install");
        assert_eq!(by("install"), one);
        assert_ne!(by("other"), one);
        fs::write(dir.path().join("lock"), "2").unwrap();
        let all = [none, one, by("install"), Installed::NOTHING];
        for (place, installed) in all.iter().enumerate() {
            assert!(!all[..place].contains(installed));
        }
    }
}
