//! What the files of a board look like from outside: enough to tell that one of them has changed, for the price of
//! looking at their metadata.
//!
//! A file has changed when its identity, size or times have. Times are only as fine as the file system keeps them, so
//! a file that was changed just before a look is also known by its content: a second change within the same tick of
//! the clock is seen by the next look.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::story::board::STORY_FILE;
use crate::story::file::MAX_STORY_LEN;

/// The name of the file beside a story that says how it is to be done.
pub(super) const PLAN_FILE: &str = "plan.md";

/// The coarsest time that a file system in use keeps, in seconds: that of FAT.
const COARSEST_TIME: i64 = 2;

/// The files of a board at one moment.
#[derive(Debug, Default)]
pub(super) struct Fingerprint {
    folder: Option<FolderId>,
    files: BTreeMap<PathBuf, Mark>,
    has_links: bool,
}

/// Which folder a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FolderId {
    device: u64,
    inode: u64,
}

/// What two looks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Difference {
    Same,
    Different,
}

/// What is remembered of a file.
#[derive(Debug)]
struct Mark {
    stamp: Stamp,
    /// A hash, when the times cannot be relied on yet.
    content: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    /// When anything about the file changed last: nobody can set it, so it shows what a copied time of modification
    /// hides.
    changed: (i64, i64),
}

impl Fingerprint {
    /// The first look. Blocks.
    pub(super) fn take(stories: &Path) -> Self {
        Self::default().renew(stories).0
    }

    /// Looks again, and says whether something has changed. Blocks.
    pub(super) fn renew(&self, stories: &Path) -> (Self, Difference) {
        // A clock before 1970 makes every file one of the future, and those are never relied on.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().cast_signed());
        self.renew_at(stories, now)
    }

    /// Whether files or folders are links. What happens behind a link is notified to nobody.
    pub(super) fn has_links(&self) -> bool {
        self.has_links
    }

    fn renew_at(&self, stories: &Path, now: i64) -> (Self, Difference) {
        let mut next = Self {
            folder: FolderId::of(stories),
            ..Self::default()
        };
        let mut difference = Difference::Same;
        // What cannot be read is not there: the board says what is wrong with it.
        let entries = fs::read_dir(stories).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            if is_hidden(&entry.file_name()) {
                continue;
            }
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            next.has_links |= is_link;
            for name in [STORY_FILE, PLAN_FILE] {
                let path = entry.path().join(name);
                let Some(metadata) = next.metadata(&path) else {
                    continue;
                };
                let before = self.files.get(&path);
                let mark = Mark::of(&path, &metadata, before, now);
                if before.is_none_or(|before| !mark.is_like(before)) {
                    difference = Difference::Different;
                }
                next.files.insert(path, mark.without_needless_content(now));
            }
        }
        if next.folder != self.folder || next.files.len() != self.files.len() {
            difference = Difference::Different;
        }
        (next, difference)
    }

    /// Of the file that the path leads to, or of the link itself when it leads nowhere.
    fn metadata(&mut self, path: &Path) -> Option<Metadata> {
        let metadata = fs::symlink_metadata(path).ok()?;
        if !metadata.is_symlink() {
            return Some(metadata);
        }
        self.has_links = true;
        Some(fs::metadata(path).unwrap_or(metadata))
    }
}

impl FolderId {
    /// None when there is no folder.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        metadata.is_dir().then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Mark {
    fn of(path: &Path, metadata: &Metadata, before: Option<&Self>, now: i64) -> Self {
        let stamp = Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        let was_doubtful = before.is_some_and(|before| before.content.is_some());
        // Only a file is read: opening a pipe waits for its other end.
        let is_read = metadata.is_file() && (was_doubtful || stamp.is_recent(now));
        Self {
            stamp,
            content: if is_read { hash(path) } else { None },
        }
    }

    /// Whether the file is still what it was before.
    fn is_like(&self, before: &Self) -> bool {
        self.stamp == before.stamp && (before.content.is_none() || self.content == before.content)
    }

    /// The content counts no longer once a change would show in the times.
    fn without_needless_content(self, now: i64) -> Self {
        Self {
            content: self.content.filter(|_| self.stamp.is_recent(now)),
            ..self
        }
    }
}

impl Stamp {
    /// Whether a change at `now` (seconds since 1970) could leave the times as they are. Times of the future are never
    /// relied on.
    fn is_recent(&self, now: i64) -> bool {
        self.modified.0.max(self.changed.0) >= now - COARSEST_TIME
    }
}

/// Of the part of a file that a story may have; none when it cannot be read.
fn hash(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut file = File::open(path).ok()?.take(MAX_STORY_LEN);
    let mut buffer = [0; 8192];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finish()),
            len => hasher.write(&buffer[..len]),
        }
    }
}

/// Whether a name in the folder of stories is not that of a story.
pub(super) fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::Difference::{Different, Same};
    use super::*;

    fn board(names: &[&str]) -> tempfile::TempDir {
        let stories = tempfile::tempdir().unwrap();
        for name in names {
            let path = stories.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "a").unwrap();
        }
        stories
    }

    /// Looks twice, with a change between.
    fn after(stories: &Path, change: impl FnOnce()) -> Difference {
        let first = Fingerprint::take(stories);
        change();
        first.renew(stories).1
    }

    #[test]
    fn changes_of_the_files_of_stories_are_seen_and_nothing_else_is() {
        let folder = board(&["S-1/story.md", "S-2/story.md"]);
        let stories = folder.path();
        let path = |name: &str| stories.join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        assert_eq!(after(stories, || ()), Same);
        assert_eq!(
            after(stories, || write("S-1/story.md", "longer")),
            Different
        );
        assert_eq!(after(stories, || write("S-1/plan.md", "new")), Different);
        assert_eq!(after(stories, || write("S-1/plan.md", "wen")), Different);
        assert_eq!(after(stories, || write("S-1/.story.x1.tmp", "")), Same);
        assert_eq!(after(stories, || write("S-1/notes.md", "")), Same);
        let hide = || fs::create_dir(path(".trash")).unwrap();
        assert_eq!(after(stories, hide), Same);
        let hidden = || write(".trash/story.md", "");
        assert_eq!(after(stories, hidden), Same);
        let swap = || fs::rename(path("S-1/plan.md"), path("S-2/plan.md")).unwrap();
        assert_eq!(after(stories, swap), Different);
        let remove = || fs::remove_dir_all(path("S-2")).unwrap();
        assert_eq!(after(stories, remove), Different);
        let remove_all = || fs::remove_dir_all(stories).unwrap();
        assert_eq!(after(stories, remove_all), Different);
        assert_eq!(after(stories, || ()), Same);
        let make = || fs::create_dir(stories).unwrap();
        assert_eq!(after(stories, make), Different);
    }

    #[test]
    fn a_file_of_the_same_size_and_time_is_another_one() {
        let folder = board(&["S-1/story.md", "S-1/next"]);
        let path = folder.path().join("S-1/story.md");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let change = || {
            let next = folder.path().join("S-1/next");
            let file = File::options().write(true).open(&next).unwrap();
            file.set_modified(time).unwrap();
            fs::rename(next, &path).unwrap();
        };
        assert_eq!(after(folder.path(), change), Different);
    }

    #[test]
    fn a_second_change_in_the_same_tick_of_the_clock_is_seen() {
        let folder = board(&["S-1/story.md"]);
        let path = folder.path().join("S-1/story.md");
        let mut first = Fingerprint::take(folder.path());
        fs::write(&path, "b").unwrap();
        // As if the clock had not moved.
        let (second, _) = first.renew(folder.path());
        first.files.get_mut(&path).unwrap().stamp = second.files[&path].stamp;
        assert_eq!(first.renew(folder.path()).1, Different);
        // Also when the next look is much later; the content counts for that look, and then no longer.
        let later = second.files[&path].stamp.changed.0 + 100;
        let (third, difference) = first.renew_at(folder.path(), later);
        assert_eq!(difference, Different);
        assert_eq!(third.files[&path].content, None);
        assert_eq!(second.renew_at(folder.path(), later).1, Same);
        assert_eq!(third.renew_at(folder.path(), later).1, Same);
    }

    #[test]
    fn links_are_followed_and_noted() {
        let folder = board(&["S-1/story.md", ".shared/story.md", ".shared/plan.md"]);
        let stories = folder.path();
        assert!(!Fingerprint::take(stories).has_links());
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(stories.join(target), stories.join(name)).unwrap();
        };
        link(".shared/plan.md", "S-1/plan.md");
        assert!(Fingerprint::take(stories).has_links());
        let shared = stories.join(".shared/plan.md");
        assert_eq!(
            after(stories, || fs::write(&shared, "b").unwrap()),
            Different
        );
        assert_eq!(
            after(stories, || fs::remove_file(&shared).unwrap()),
            Different
        );
        fs::remove_file(stories.join("S-1/plan.md")).unwrap();
        link(".shared", "S-2");
        assert!(Fingerprint::take(stories).has_links());
        let story = stories.join(".shared/story.md");
        assert_eq!(
            after(stories, || fs::write(&story, "b").unwrap()),
            Different
        );
    }
}
