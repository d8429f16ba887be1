//! How much trees of files take on the disk.
//!
//! Several threads read folders, as many as help and no more, until a deadline. Links are not followed, other file
//! systems are not entered, and a file with several names counts once.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Bytes;

/// Beyond this many threads a disk does not get faster.
const MOST_THREADS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// The most files with several names that are remembered; what is beyond counts with every name.
const MOST_LINKED: usize = 1_000_000;

/// How many entries of one folder are read between two looks at the clock.
const BETWEEN_LOOKS: usize = 256;

/// The bytes of the blocks in which `stat` counts, whatever those of the file system are.
const BLOCK: u64 = 512;

/// How much a tree takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// What was counted.
    pub bytes: Bytes,
    /// Whether there is more, that could not be read in time or at all.
    pub incomplete: bool,
}

/// Measures trees, for as long as `patience` at most. A root that does not exist takes nothing. Blocks.
pub fn measure(roots: &[PathBuf], patience: Duration) -> Vec<Measured> {
    let until = Instant::now() + patience;
    let mut todo = Todo {
        folders: Vec::new(),
        at_work: 0,
        trees: vec![Measured::default(); roots.len()],
        linked: HashSet::new(),
    };
    for (tree, root) in roots.iter().enumerate() {
        if let Ok(data) = fs::symlink_metadata(root) {
            todo.trees[tree].bytes = Bytes(data.blocks().saturating_mul(BLOCK));
            if data.is_dir() {
                let path = root.clone();
                let device = data.dev();
                todo.folders.push(Folder { tree, device, path });
            }
        }
    }
    let survey = Survey {
        todo: Mutex::new(todo),
        changed: Condvar::new(),
        until,
    };
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    thread::scope(|scope| {
        for _ in 1..threads.min(MOST_THREADS).get() {
            // One that cannot be started is not needed: this thread reads as well.
            drop(thread::Builder::new().spawn_scoped(scope, || survey.work()));
        }
        survey.work();
    });
    let todo = survey.todo.into_inner();
    todo.unwrap_or_else(PoisonError::into_inner).trees
}

struct Survey {
    todo: Mutex<Todo>,
    /// There are folders to read, or nothing is left to do.
    changed: Condvar,
    until: Instant,
}

struct Todo {
    folders: Vec<Folder>,
    /// How many threads read a folder, which may hold further ones.
    at_work: usize,
    trees: Vec<Measured>,
    /// Files with several names that were counted.
    linked: HashSet<(u64, u64)>,
}

struct Folder {
    /// The tree that it belongs to.
    tree: usize,
    /// The file system of that.
    device: u64,
    path: PathBuf,
}

/// What was found in one folder.
#[derive(Default)]
struct Content {
    bytes: u64,
    incomplete: bool,
    folders: Vec<PathBuf>,
    /// Files with several names: device, number and bytes.
    linked: Vec<(u64, u64, u64)>,
}

impl Survey {
    fn work(&self) {
        let mut todo = self.lock();
        loop {
            let Some(folder) = todo.folders.pop() else {
                if todo.at_work == 0 {
                    self.changed.notify_all();
                    return;
                }
                let waited = self.changed.wait(todo);
                todo = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            todo.at_work += 1;
            drop(todo);
            let content = self.read(&folder);
            todo = self.lock();
            todo.at_work -= 1;
            todo.take(&folder, content);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Todo> {
        // Whoever panicked has left sums that are too small at worst.
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, folder: &Folder) -> Content {
        let mut content = Content::default();
        if Instant::now() >= self.until {
            content.incomplete = true;
            return content;
        }
        let Ok(entries) = fs::read_dir(&folder.path) else {
            // It is gone, or may not be read.
            content.incomplete = is_there(&folder.path);
            return content;
        };
        for (place, entry) in entries.enumerate() {
            if place % BETWEEN_LOOKS == BETWEEN_LOOKS - 1 && Instant::now() >= self.until {
                content.incomplete = true;
                break;
            }
            let Ok(entry) = entry else {
                content.incomplete = true;
                break;
            };
            // Of the entry itself: a link is not followed. One that is gone by now takes nothing.
            if let Ok(data) = entry.metadata()
                && data.dev() == folder.device
            {
                content.add(&data, || entry.path());
            }
        }
        content
    }
}

impl Content {
    fn add(&mut self, data: &Metadata, path: impl FnOnce() -> PathBuf) {
        let bytes = data.blocks().saturating_mul(BLOCK);
        if data.is_dir() {
            self.folders.push(path());
        } else if data.nlink() > 1 {
            self.linked.push((data.dev(), data.ino(), bytes));
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Todo {
    fn take(&mut self, folder: &Folder, content: Content) {
        let mut bytes = content.bytes;
        for (device, number, size) in content.linked {
            let room = self.linked.len() < MOST_LINKED;
            if !room || self.linked.insert((device, number)) {
                bytes = bytes.saturating_add(size);
            }
        }
        let tree = &mut self.trees[folder.tree];
        tree.bytes = Bytes(tree.bytes.0.saturating_add(bytes));
        tree.incomplete |= content.incomplete;
        self.folders
            .extend(content.folders.into_iter().map(|path| Folder {
                tree: folder.tree,
                device: folder.device,
                path,
            }));
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn write(path: &Path, bytes: usize) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![1; bytes]).unwrap();
    }

    #[test]
    fn trees_are_measured_apart_and_shared_files_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for place in 0..20 {
            write(&one.join(format!("{place}/deep/file")), 100_000);
        }
        write(&two.join("file"), 100_000);
        let before = measure(&[one.clone(), two.clone()], PATIENCE);
        assert!(before.iter().all(|tree| !tree.incomplete));
        assert!(before[0].bytes >= Bytes(2_000_000) && before[0].bytes < Bytes(3_000_000));
        assert!(before[1].bytes >= Bytes(100_000) && before[1].bytes < Bytes(200_000));
        fs::hard_link(one.join("0/deep/file"), two.join("same")).unwrap();
        std::os::unix::fs::symlink(&one, two.join("link")).unwrap();
        let after = measure(&[one, two, dir.path().join("none")], PATIENCE);
        let sum = |trees: &[Measured]| trees.iter().map(|tree| tree.bytes).sum::<Bytes>();
        assert!(sum(&after).saturating_sub(sum(&before)) < Bytes(50_000));
        assert_eq!(after[2], Measured::default());
    }

    #[test]
    fn what_takes_too_long_is_incomplete() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a/file"), 100_000);
        let measured = measure(&[dir.path().to_owned()], Duration::ZERO);
        assert!(measured[0].incomplete);
        assert!(measured[0].bytes < Bytes(50_000));
    }
}
