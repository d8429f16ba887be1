//! The single writer of a board: edits stories and adds new ones, under one lock, each file whole or not at all.
//!
//! Promises that two writers lose nothing of each other (each reads under the lock what it edits), that an id is
//! given once, and that a file is untouched when anything fails. Calls block; the longest wait is the patience of
//! the store, for the lock and for the predecessor's lock each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::board::{self, Board, Problem, STORY_FILE, Story};
use super::edit::Edit;
use super::error::StoreError;
use super::fields::Priority;
use super::file::{self, BoardLock, Existing};
use super::front_matter::Document;
use super::id::StoryId;
use super::new_story::{NewStory, TakenNames, number_in};

/// How long a writer waits for another one.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

/// How often an edit is tried again when the file changes under it.
const MOST_TRIES: usize = 5;

/// How many files are written at the same time: to wait for the disk with several costs little more than with one.
const WRITERS: usize = 8;

/// Writes to the board below one directory, usually `.ai-sdlc`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    patience: Duration,
}

/// Edits of the front matter of the story in a file.
#[derive(Debug, Clone)]
pub struct FileEdit {
    /// The file. A link is followed, and the file behind it is replaced.
    pub path: PathBuf,
    /// The edits, made together.
    pub edits: Vec<Edit>,
}

/// What an edit did to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It has been replaced.
    Changed,
    /// It said so already, and was not touched.
    AsItWas,
}

impl Store {
    /// The store of the board below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            patience: DEFAULT_PATIENCE,
        }
    }

    /// The same store with another patience.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The directory that holds the board.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads the whole board.
    ///
    /// # Errors
    /// As [`Board::load`].
    pub fn load(&self) -> Result<Board, StoreError> {
        Board::load(&self.root)
    }

    /// Reads the story in a file of the board.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, path: &Path) -> Result<Story, Problem> {
        board::read_story(&self.root, path)
    }

    /// Edits the front matter of a story.
    ///
    /// # Errors
    /// When no usable story has that id, and as [`Store::edit_file`].
    pub fn edit(&self, id: &StoryId, edits: &[Edit]) -> Result<Written, StoreError> {
        let path = self.path_of(id)?;
        self.edit_file(&path, edits)
    }

    /// Edits the front matter of the story in a file. A link is followed, and the file behind it is replaced.
    ///
    /// # Errors
    /// When another writer holds a lock for too long, or the file cannot be read, edited line by line or written.
    pub fn edit_file(&self, path: &Path, edits: &[Edit]) -> Result<Written, StoreError> {
        let _lock = BoardLock::take(&self.root, self.patience)?;
        let target = resolve(path)?;
        file::sweep_temporaries(&target);
        self.edit_target(path, &target, edits)
    }

    /// Makes many edits under one lock and says of each what came of it, as [`Store::edit_file`] does. Edits of the same
    /// file are made in their order.
    ///
    /// # Errors
    /// When another writer holds the lock for too long: then nothing was edited.
    pub fn edit_files(
        &self,
        wanted: &[FileEdit],
    ) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
        let _lock = BoardLock::take(&self.root, self.patience)?;
        let mut results: Vec<_> = wanted.iter().map(|_| Ok(Written::AsItWas)).collect();
        let mut targets: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (index, edit) in wanted.iter().enumerate() {
            match resolve(&edit.path) {
                Ok(target) => targets.entry(target).or_default().push(index),
                Err(error) => results[index] = Err(error),
            }
        }
        // Before any is written: files that links lead to may lie beside each other.
        for target in targets.keys() {
            file::sweep_temporaries(target);
        }
        let targets: Vec<_> = targets.into_iter().collect();
        let next = AtomicUsize::new(0);
        let write = || {
            let mut written = Vec::new();
            while let Some((target, indices)) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                for &index in indices {
                    let FileEdit { path, edits } = &wanted[index];
                    written.push((index, self.edit_target(path, target, edits)));
                }
            }
            written
        };
        thread::scope(|scope| {
            let threads = WRITERS.min(targets.len());
            // Those that cannot be started are not needed: this thread writes as well.
            let others: Vec<_> = (1..threads)
                .filter_map(|_| thread::Builder::new().spawn_scoped(scope, write).ok())
                .collect();
            let mut written = write();
            for other in others {
                match other.join() {
                    Ok(more) => written.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            for (index, result) in written {
                results[index] = result;
            }
        });
        Ok(results)
    }

    fn edit_target(
        &self,
        path: &Path,
        target: &Path,
        edits: &[Edit],
    ) -> Result<Written, StoreError> {
        file::wait_for_predecessor(target, self.patience)?;
        // People and their editors know nothing of the lock: a file that has changed since it was read is read again.
        for _ in 1..MOST_TRIES {
            if let Some(written) = Self::try_edit(path, target, edits)? {
                return Ok(written);
            }
        }
        let last = Self::try_edit(path, target, edits)?;
        last.ok_or_else(|| StoreError::io("edit", path)(io::ErrorKind::ResourceBusy.into()))
    }

    /// One try; nothing when the file has changed meanwhile.
    fn try_edit(path: &Path, target: &Path, edits: &[Edit]) -> Result<Option<Written>, StoreError> {
        let missing = || StoreError::io("read", path)(io::ErrorKind::NotFound.into());
        let text = file::read(target)?.ok_or_else(missing)?;
        let broken = |source| StoreError::FrontMatter {
            path: path.to_owned(),
            source,
        };
        let document = Document::parse(&text).map_err(broken)?;
        let failed = |source| StoreError::Edit {
            path: path.to_owned(),
            source,
        };
        let edited = document.with(edits).map_err(failed)?;
        if edited == text {
            return Ok(Some(Written::AsItWas));
        }
        let replaced = file::write(target, &edited, Existing::Replace { expected: &text })?;
        Ok(replaced.then_some(Written::Changed))
    }

    /// Adds a story, with an id above all that are known and a priority behind all others.
    ///
    /// # Errors
    /// When there is no board, another writer holds the lock for too long, the story has no title or cannot be
    /// used, or it cannot be written.
    pub fn create(&self, new: &NewStory) -> Result<Story, StoreError> {
        let _lock = BoardLock::take(&self.root, self.patience)?;
        let board = self.load()?;
        let priority = board
            .stories
            .iter()
            .filter_map(|story| story.priority)
            .max();
        let priority = priority.map_or(Priority::STEP, Priority::next);
        let mut number = self.highest_number(&board, &new.taken)?;
        loop {
            number = number.checked_add(1).ok_or(StoreError::NoIdLeft)?;
            let id = StoryId::from_number(number);
            let directory = self.root.join("stories").join(id.as_str());
            // Before anything is on disk, so that a story that could not be read back is never written.
            let text = new.text(&id, priority)?;
            let path = directory.join(STORY_FILE);
            let story =
                Story::from_text(&path, id.as_str(), &text).map_err(StoreError::Unusable)?;
            match fs::create_dir(&directory) {
                // The lock does not keep other programs away, and on many file systems `s-7` is `S-7`.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(StoreError::io("create", &directory))?,
            }
            if let Err(error) =
                file::write(&path, &text, Existing::Keep).and_then(|_| self.sync_stories())
            {
                // Only succeeds while the directory is empty, and the error that counts is the first one.
                fs::remove_dir(&directory).unwrap_or_default();
                return Err(error);
            }
            return Ok(story);
        }
    }

    /// The file of a usable story.
    fn path_of(&self, id: &StoryId) -> Result<PathBuf, StoreError> {
        let usual = self.root.join("stories").join(id.as_str()).join(STORY_FILE);
        if let Ok(Some(text)) = file::read(&usual) {
            let story = Story::from_text(&usual, id.as_str(), &text);
            if story.is_ok_and(|story| story.id.same_as(id.as_str())) {
                return Ok(usual);
            }
        }
        let board = self.load()?;
        let story = board
            .find(id.as_str())
            .ok_or_else(|| StoreError::UnknownStory { id: id.clone() })?;
        Ok(story.path.clone())
    }

    /// The highest number that a story has or had.
    fn highest_number(&self, board: &Board, taken: &TakenNames) -> Result<u64, StoreError> {
        let mut highest = board.highest_number();
        let mut see = |name: &str| highest = highest.max(number_in(name).unwrap_or(0));
        for directory in board::story_directories(&self.root)? {
            see(&directory.file_name().unwrap_or_default().to_string_lossy());
        }
        for directory in std::iter::once(&self.root.join("done")).chain(&taken.worktree_directories)
        {
            for name in names_in(directory)? {
                see(&name);
            }
        }
        taken.branches.iter().for_each(|branch| see(branch));
        Ok(highest)
    }

    fn sync_stories(&self) -> Result<(), StoreError> {
        let path = self.root.join("stories");
        File::open(&path)
            .and_then(|directory| directory.sync_all())
            .map_err(StoreError::io("write", &path))
    }
}

/// The file that is meant by a path.
fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    fs::canonicalize(path).map_err(StoreError::io("read", path))
}

/// The names in a directory; none when it does not exist.
fn names_in(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StoreError::io("read", directory))?,
    };
    entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(StoreError::io("read", directory))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::story::scalar::Key;
    use crate::story::{EditError, Status};

    fn store(stories: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
        let project = tempfile::tempdir().unwrap();
        let root = project.path().join("a b é/.ai-sdlc");
        fs::create_dir_all(root.join("stories")).unwrap();
        for (name, text) in stories {
            fs::create_dir(root.join("stories").join(name)).unwrap();
            fs::write(root.join("stories").join(name).join(STORY_FILE), text).unwrap();
        }
        (project, Store::new(root))
    }

    fn files(store: &Store) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for directory in board::story_directories(store.root()).unwrap() {
            for name in names_in(&directory).unwrap() {
                found.insert(format!(
                    "{}/{name}",
                    directory.file_name().unwrap().to_str().unwrap()
                ));
            }
        }
        found
    }

    fn set(key: &str, value: &str) -> Edit {
        Edit::set(Key::new(key).unwrap(), value)
    }

    #[test]
    fn what_a_killed_writer_has_left_is_removed_by_the_next_one() {
        let (_project, store) = store(&[]);
        let story = store.create(&NewStory::titled("A", "2026-11-22")).unwrap();
        let left = story.path.with_file_name(".story.x1.tmp");
        let kept = story.path.with_file_name(".story.md");
        for path in [&left, &kept] {
            fs::write(path, "half").unwrap();
        }
        let edit = Edit::set(Key::STATUS, "ready");
        store.edit_file(&story.path, &[edit]).unwrap();
        assert!(!left.exists() && kept.exists());
    }

    #[test]
    fn an_edit_changes_the_file_and_nothing_else() {
        let (_project, store) = store(&[
            ("S-1", "---\nstatus: ready # c\n---\nx"),
            ("odd", "---\nid: S-2\n---\n"),
        ]);
        let id: StoryId = "s-1".parse().unwrap();
        let path = store.root().join("stories/S-1/story.md");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(
            store.edit(&id, &[set("status", "done")]).unwrap(),
            Written::Changed
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "---\nstatus: done # c\n---\nx"
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o604
        );
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(
            store.edit(&id, &[set("status", "done")]).unwrap(),
            Written::AsItWas
        );
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(
            store
                .edit(&"S-2".parse().unwrap(), &[set("agent", "x")])
                .unwrap(),
            Written::Changed
        );
        let unknown = store.edit(&"S-3".parse().unwrap(), &[]).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no story S-3");
        assert_eq!(
            files(&store),
            BTreeSet::from(["S-1/story.md".to_owned(), "odd/story.md".to_owned()])
        );
    }

    #[test]
    fn many_edits_are_made_together_and_each_says_what_came_of_it() {
        let names: Vec<String> = (1..=40).map(|number| format!("S-{number}")).collect();
        let stories: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), "---\na: old\n---\n"))
            .collect();
        let (_project, store) = store(&stories);
        let story = |name: &str| store.root().join("stories").join(name).join(STORY_FILE);
        let edit = |name: &str, value: &str| FileEdit {
            path: story(name),
            edits: vec![set("a", value)],
        };
        let mut wanted: Vec<_> = names.iter().map(|name| edit(name, "new")).collect();
        wanted.extend([
            edit("S-7", "newest"),
            edit("none", "new"),
            edit("S-8", "old"),
            edit("S-8", "old"),
        ]);
        let results = store.edit_files(&wanted).unwrap();
        let (last, results) = (&results[40..], &results[..40]);
        for result in results {
            assert_eq!(result.as_ref().unwrap(), &Written::Changed);
        }
        assert_eq!(last[0].as_ref().unwrap(), &Written::Changed);
        assert!(last[1].is_err());
        assert_eq!(last[2].as_ref().unwrap(), &Written::Changed);
        assert_eq!(last[3].as_ref().unwrap(), &Written::AsItWas);
        for name in &names {
            let expected = match name.as_str() {
                "S-7" => "newest",
                "S-8" => "old",
                _ => "new",
            };
            let text = fs::read_to_string(story(name)).unwrap();
            assert_eq!(text, format!("---\na: {expected}\n---\n"), "{name}");
        }
        assert_eq!(files(&store).len(), 40, "something is left");
    }

    #[test]
    fn a_link_is_written_through() {
        let (project, store) = store(&[("S-1", "")]);
        let (path, target) = (
            store.root().join("stories/S-1/story.md"),
            project.path().join("a b é/shared.md"),
        );
        fs::remove_file(&path).unwrap();
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert_eq!(
            store.edit_file(&path, &[set("status", "done")]).unwrap(),
            Written::Changed
        );
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(
            fs::read_to_string(&target).unwrap(),
            "---\nstatus: done\n---\nx"
        );
    }

    #[test]
    fn what_cannot_be_edited_stays_as_it_is() {
        let (_project, store) = store(&[
            ("S-1", "---\n{id: S-1}\n---\n"),
            ("S-2", "---\na: [\n---\n"),
        ]);
        let path = |name: &str| store.root().join("stories").join(name).join(STORY_FILE);
        let flow = store
            .edit_file(&path("S-1"), &[set("status", "done")])
            .unwrap_err();
        assert!(matches!(
            flow,
            StoreError::Edit {
                source: EditError::FlowMap { line: 2 },
                ..
            }
        ));
        let broken = store
            .edit_file(&path("S-2"), &[set("status", "done")])
            .unwrap_err();
        assert!(matches!(broken, StoreError::FrontMatter { .. }));
        fs::create_dir(store.root().join("stories/S-1/story.md.lock")).unwrap();
        let hurried = store.clone().with_patience(Duration::from_millis(1));
        let locked = hurried.edit_file(&path("S-1"), &[]).unwrap_err();
        assert!(matches!(locked, StoreError::LockedByPredecessor { .. }));
    }

    #[test]
    fn ids_are_allocated_above_everything_that_was_ever_there() {
        let (project, store) = store(&[
            ("S-0001", "---\npriority: 12.5\n---\n"),
            ("odd", "---\nid: S-3\npriority: 3\n---\n"),
        ]);
        let mut new = NewStory::titled("Add a page", "2026-01-15");
        let story = store.create(&new).unwrap();
        assert_eq!(
            (story.id.as_str(), story.priority),
            ("S-0004", Priority::new(22.0).ok())
        );
        assert_eq!(
            (story.status, story.slug.as_str()),
            (Status::Backlog, "add-a-page")
        );
        assert_eq!(
            store.load().unwrap().find("S-0004").unwrap().text,
            story.text
        );
        fs::create_dir_all(store.root().join("done/S-0010")).unwrap();
        assert_eq!(store.create(&new).unwrap().id.as_str(), "S-0011");
        let worktrees = project.path().join("trees");
        fs::create_dir_all(worktrees.join("S-0020-x")).unwrap();
        new.taken.worktree_directories = vec![worktrees, project.path().join("missing")];
        assert_eq!(store.create(&new).unwrap().id.as_str(), "S-0021");
        new.taken.branches = vec!["main".to_owned(), "ai-sdlc/S-0030-x".to_owned()];
        assert_eq!(store.create(&new).unwrap().id.as_str(), "S-0031");
        fs::create_dir(store.root().join("stories/S-0040")).unwrap();
        assert_eq!(store.create(&new).unwrap().id.as_str(), "S-0041");
        new.taken.branches = vec![format!("S-{}", u64::MAX)];
        assert!(matches!(store.create(&new), Err(StoreError::NoIdLeft)));
    }

    #[test]
    fn the_first_story_has_the_first_number_and_priority() {
        let (_project, store) = store(&[]);
        let story = store.create(&NewStory::titled("x", "2026-01-15")).unwrap();
        assert_eq!(
            (story.id.as_str(), story.priority),
            ("S-0001", Priority::new(10.0).ok())
        );
        let empty = store
            .create(&NewStory::titled("\u{7}", "2026-01-15"))
            .unwrap_err();
        assert!(matches!(empty, StoreError::EmptyTitle));
        assert_eq!(
            files(&store),
            BTreeSet::from(["S-0001/story.md".to_owned()])
        );
        let nowhere =
            Store::new(store.root().join("stories")).create(&NewStory::titled("x", "2026-01-15"));
        assert!(matches!(nowhere, Err(StoreError::NotInitialised { .. })));
    }

    #[test]
    fn a_story_that_cannot_be_written_leaves_nothing_behind() {
        let (_project, store) = store(&[]);
        let text = "x".repeat(usize::try_from(file::MAX_STORY_LEN).unwrap());
        let content = crate::story::Content::File {
            name: "x.md".to_owned(),
            text,
        };
        let error = store
            .create(&NewStory {
                content,
                ..NewStory::titled("", "2026-01-15")
            })
            .unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }));
        assert_eq!(names_in(&store.root().join("stories")).unwrap(), [""; 0]);
    }

    #[test]
    fn writers_at_the_same_time_get_ids_of_their_own() {
        let (_project, store) = store(&[]);
        let add = || {
            store
                .create(&NewStory::titled("x", "2026-01-15"))
                .unwrap()
                .id
        };
        let ids: BTreeSet<StoryId> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| [add(), add()])).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(ids, (1..=16).map(StoryId::from_number).collect());
        assert_eq!(files(&store).len(), 16);
    }

    #[test]
    fn edits_at_the_same_time_lose_nothing() {
        let (_project, store) = store(&[("S-1", "---\n# c\na: 0\nb: 0\n---\nx")]);
        let id: StoryId = "S-1".parse().unwrap();
        thread::scope(|scope| {
            for key in ["a", "b"] {
                let (store, id) = (&store, &id);
                scope.spawn(move || {
                    for number in 1..=20 {
                        let edit = Edit::set(Key::new(key).unwrap(), number);
                        assert_eq!(store.edit(id, &[edit]).unwrap(), Written::Changed);
                    }
                });
            }
        });
        let text = fs::read_to_string(store.root().join("stories/S-1/story.md")).unwrap();
        assert_eq!(text, "---\n# c\na: 20\nb: 20\n---\nx");
        assert_eq!(files(&store).len(), 1);
    }
}
