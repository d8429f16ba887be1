//! Whether files of the worktree changed: work that is done for the agent by processes outside of its tree, such as
//! those of a container, shows only here.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

/// More entries than this are not looked at.
const MOST_ENTRIES: usize = 20_000;

/// Folders into which nobody looks, because they are large and hardly ever the work itself. That entries of the folder
/// itself came or went is seen.
const SKIPPED: &[&str] = &[
    ".git",
    ".gradle",
    ".next",
    ".tox",
    ".venv",
    "__pycache__",
    "node_modules",
    "target",
    "venv",
];

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    Yes,
    No,
}

/// Seconds and nanoseconds since the epoch, by the clock of the file system.
type Stamp = (i64, i64);

/// Watches the files below a folder.
#[derive(Debug)]
pub(super) struct Changes {
    folder: PathBuf,
    newest: Newest,
}

#[derive(Debug, Clone, Copy)]
enum Newest {
    /// Nobody has looked yet: what changed after this moment is new.
    After(Stamp),
    Seen(Stamp),
}

impl Changes {
    /// A watch for what changes from now on.
    pub(super) fn since_now(folder: PathBuf) -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let stamp = (
            i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            i64::from(now.subsec_nanos()),
        );
        Self {
            folder,
            newest: Newest::After(stamp),
        }
    }

    /// Whether something changed since the last look. Blocks.
    pub(super) fn look(&mut self) -> Changed {
        let newest = newest(self.folder.clone());
        let (Newest::After(last) | Newest::Seen(last)) = self.newest;
        self.newest = Newest::Seen(newest);
        // Stamps are compared with each other from now on, not with the clock of this machine.
        if newest > last {
            Changed::Yes
        } else {
            Changed::No
        }
    }
}

/// When an entry below a folder last changed: the time that nobody can set (`ctime`), which moves with every other.
/// Breadth first, so that a bound that is reached leaves out what lies deepest.
fn newest(folder: PathBuf) -> Stamp {
    let mut newest = (0, 0);
    let mut left = MOST_ENTRIES;
    if let Ok(metadata) = fs::symlink_metadata(&folder) {
        newest = (metadata.ctime(), metadata.ctime_nsec());
    }
    let mut open = VecDeque::from([folder]);
    while let Some(folder) = open.pop_front() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if left == 0 {
                return newest;
            }
            left -= 1;
            let name = entry.file_name();
            // A `.git` in which our own git works is no work of the agent.
            if name == ".git" {
                continue;
            }
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            newest = newest.max((metadata.ctime(), metadata.ctime_nsec()));
            if metadata.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                open.push_back(entry.path());
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Longer than the clock of a file system takes to move on.
    fn tick() {
        std::thread::sleep(Duration::from_millis(30));
    }

    #[test]
    fn what_changes_below_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("src/deep")).unwrap();
        fs::write(path("src/deep/a.rs"), "a").unwrap();
        tick();
        let mut changes = Changes::since_now(folder.path().to_owned());
        assert_eq!(changes.look(), Changed::No);
        tick();
        fs::write(path("src/deep/a.rs"), "b").unwrap();
        assert_eq!(changes.look(), Changed::Yes);
        assert_eq!(changes.look(), Changed::No);
        tick();
        fs::remove_file(path("src/deep/a.rs")).unwrap();
        assert_eq!(changes.look(), Changed::Yes);
    }

    #[test]
    fn the_first_look_sees_what_changed_since_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = Changes::since_now(folder.path().to_owned());
        tick();
        fs::write(folder.path().join("a"), "a").unwrap();
        assert_eq!(changes.look(), Changed::Yes);
    }

    #[test]
    fn nobody_looks_into_folders_of_tools() {
        let folder = tempfile::tempdir().unwrap();
        for skipped in SKIPPED {
            fs::create_dir_all(folder.path().join(skipped).join("deep")).unwrap();
        }
        tick();
        let mut changes = Changes::since_now(folder.path().to_owned());
        tick();
        for skipped in SKIPPED {
            fs::write(folder.path().join(skipped).join("deep/a"), "a").unwrap();
        }
        assert_eq!(changes.look(), Changed::No);
    }

    #[test]
    fn a_folder_that_is_gone_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = Changes::since_now(folder.path().join("gone"));
        assert_eq!(changes.look(), Changed::No);
    }
}
