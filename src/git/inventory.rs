//! What is in the directory of the worktrees, told apart: ours in all their states, those of the predecessor, and what
//! other people and programs put there, which is never touched.
//!
//! A worktree is ours when git has locked it with our reason, or when nobody has locked it and its names are those that
//! we and the predecessor give: the directory `<ID>-<slug>`, on the branch of the same name or on `ai-sdlc/<slug>`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::admin::{WorktreeEntry, WorktreeHead};
use super::blocking;
use super::commit_id::CommitId;
use super::repository::{BRANCH_PREFIX, Repository, RepositoryError, open};
use super::survey::{Directory, Leftover, stray};
use super::worktree::Worktrees;
use crate::story::id::StoryId;

/// What git writes as the reason of the lock of a worktree that it is just adding.
const BEING_ADDED: &str = "initializing";

/// Something in the directory of the worktrees, or an entry of the repository about something there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its directory, absolute and resolved; it may be missing.
    pub path: PathBuf,
    /// The story that it was made for, of one that is ours, as far as its lock or its name says.
    pub story: Option<StoryId>,
    /// The branch that it has checked out, of a worktree of the repository.
    pub branch: Option<String>,
    /// How it stands.
    pub condition: Condition,
    /// When git last did something in it, or its topmost folder was changed.
    pub used: Option<SystemTime>,
}

/// How something in the directory of the worktrees stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A worktree of ours, or of the predecessor, with its files.
    Ready,
    /// One that was never made to its end.
    HalfMade,
    /// The repository has an entry of ours, and the directory is gone.
    Gone,
    /// It is ours and has its files, and its `.git` is gone: git does not know it from the inside.
    Broken,
    /// Not ours.
    Foreign(Foreign),
}

/// Why something is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// It is no worktree of this repository.
    NotAWorktree,
    /// It is one, and neither its lock nor its names are ours.
    MadeByHand,
    /// Somebody has locked it, for this reason.
    Locked(String),
}

/// What a worktree holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The commit that it has checked out.
    pub tip: CommitId,
    /// How many commits that has which the base has not; none without a base.
    pub ahead: Option<usize>,
    /// How many paths are changed or untracked, and not ignored.
    pub uncommitted: usize,
}

impl Place {
    /// The name of its directory.
    pub fn name(&self) -> &str {
        // Names of ours are ASCII. Another one that is no text is nobody's story.
        let name = self.path.file_name().and_then(OsStr::to_str);
        name.unwrap_or_default()
    }

    /// Whether its name is one of a story's: the id, a dash, and what the story is about.
    pub fn is_of(&self, story: &StoryId) -> bool {
        is_name_of(self.name(), story)
    }

    /// Whether it is not ours.
    pub fn is_foreign(&self) -> bool {
        matches!(self.condition, Condition::Foreign(_))
    }
}

/// Whether the name of a worktree is one of a story's, in whatever case.
pub fn is_name_of(worktree: &str, story: &StoryId) -> bool {
    let id = story.as_str();
    let start = worktree.as_bytes().get(..id.len());
    let begins = start.is_some_and(|start| start.eq_ignore_ascii_case(id.as_bytes()));
    begins && worktree.as_bytes().get(id.len()) == Some(&b'-')
}

impl Worktrees {
    /// Everything that is in the directory of the worktrees, and the repository's entries about what is gone from
    /// there, in the order of the paths. What removals have left to be deleted is left out, as are plain files.
    ///
    /// # Errors
    /// When the directory or the repository cannot be read.
    pub async fn inventory(&self) -> Result<Vec<Place>, RepositoryError> {
        let (repository, base) = (self.repository.clone(), self.base.clone());
        blocking(move || inventory(&repository, &base)).await
    }
}

fn inventory(repository: &Repository, base: &Path) -> Result<Vec<Place>, RepositoryError> {
    let mut places = BTreeMap::new();
    for name in folders_in(base).map_err(|source| RepositoryError::Worktrees {
        path: base.to_owned(),
        source,
    })? {
        let path = base.join(name);
        places.insert(path.clone(), None);
    }
    for entry in repository.worktrees()? {
        if entry.path.parent() == Some(base) {
            places.insert(entry.path.clone(), Some(entry));
        }
    }
    for name in folders_in(&repository.common_dir().join("worktrees")).unwrap_or_default() {
        let path = base.join(name);
        if is_story_name(&path) && matches!(stray(repository, &path), Leftover::HalfMade(_)) {
            places.entry(path).or_insert(None);
        }
    }
    let places = places.into_iter();
    Ok(places
        .map(|(path, entry)| place(repository, path, entry.as_ref()))
        .collect())
}

/// The names of the folders and links in a directory, but for removed worktrees; none when there is none.
fn folders_in(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_trash = name.as_encoded_bytes().starts_with(b".ai-sdlc-trash-");
        if !is_trash && entry.file_type().is_ok_and(|kind| !kind.is_file()) {
            names.push(name);
        }
    }
    Ok(names)
}

fn place(repository: &Repository, path: PathBuf, entry: Option<&WorktreeEntry>) -> Place {
    let condition = condition(repository, &path, entry);
    let ours = !matches!(condition, Condition::Foreign(_));
    let story = entry
        .and_then(WorktreeEntry::story)
        .or_else(|| story_in_name(&path));
    Place {
        story: story.filter(|_| ours),
        condition,
        branch: entry.and_then(|entry| entry.branch().map(str::to_owned)),
        used: used(&path, entry),
        path,
    }
}

/// How the directory at `path` stands, which the repository has this entry of.
pub(super) fn condition(
    repository: &Repository,
    path: &Path,
    entry: Option<&WorktreeEntry>,
) -> Condition {
    let Some(entry) = entry else {
        let empty = !matches!(Directory::at(path), Ok(Directory::Full) | Err(_));
        return match stray(repository, path) {
            Leftover::HalfMade(_) if empty && is_story_name(path) => Condition::HalfMade,
            _ => Condition::Foreign(Foreign::NotAWorktree),
        };
    };
    match (&entry.locked, entry.is_ours()) {
        (_, true) => {}
        (None, false) if has_our_names(entry) => {}
        (None, false) => return Condition::Foreign(Foreign::MadeByHand),
        (Some(reason), false) if reason == BEING_ADDED && has_our_names(entry) => {}
        (Some(reason), false) => return Condition::Foreign(Foreign::Locked(reason.clone())),
    }
    if !entry.is_complete() {
        return Condition::HalfMade;
    }
    match Directory::at(path) {
        Ok(Directory::Full) if entry.has_lost_its_link() => Condition::Broken,
        Ok(Directory::Full) if !entry.owns_directory() => Condition::Foreign(Foreign::NotAWorktree),
        Ok(Directory::Full) if entry.is_checked_out() => Condition::Ready,
        Ok(Directory::Full) => Condition::HalfMade,
        Ok(Directory::Empty | Directory::Missing) => Condition::Gone,
        Err(_) => Condition::Foreign(Foreign::NotAWorktree),
    }
}

/// Whether names are those that we or the predecessor give. Its implement phase left the branch of the worktree for one
/// that is named after the slug alone.
fn has_our_names(entry: &WorktreeEntry) -> bool {
    let Some(branch) = entry.branch() else {
        // Not written yet, or nothing that a branch could be compared with.
        return entry.head == WorktreeHead::Missing && is_story_name(&entry.path);
    };
    let Some(rest) = branch.strip_prefix(BRANCH_PREFIX) else {
        return false;
    };
    is_story_name(&entry.path) || entry.path.file_name() == Some(OsStr::new(rest))
}

/// Whether a directory is named `S-<digits>-…`, as the worktrees of stories are.
fn is_story_name(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name
        .strip_prefix("S-")
        .and_then(|rest| rest.split_once('-'));
    number.is_some_and(|(digits, slug)| {
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits && !digits.is_empty() && !slug.is_empty()
    })
}

/// The id in a name such as `S-0001-add-a-login-page`.
fn story_in_name(path: &Path) -> Option<StoryId> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_prefix("S-")?.split('-').next()?;
    let id: StoryId = format!("S-{number}").parse().ok()?;
    id.number().map(|_| id)
}

fn used(path: &Path, entry: Option<&WorktreeEntry>) -> Option<SystemTime> {
    let of_git = entry
        .into_iter()
        .flat_map(|entry| ["HEAD", "index", "logs/HEAD"].map(|name| entry.admin_dir.join(name)));
    of_git
        .chain([path.to_owned()])
        .filter_map(|path| fs::symlink_metadata(path).ok()?.modified().ok())
        .max()
}

impl Repository {
    /// What the worktree at `path` holds, compared with `base`. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn work_in(&self, path: &Path, base: Option<CommitId>) -> Result<Work, RepositoryError> {
        let tip = self.head_of(path)?.commit();
        let uncommitted = self.status(path, None)?.total;
        let ahead = match base {
            None => None,
            Some(base) => Some(self.ahead(tip, base)?),
        };
        Ok(Work {
            tip,
            ahead,
            uncommitted,
        })
    }

    /// How many commits `tip` has which `base` has not.
    fn ahead(&self, tip: CommitId, base: CommitId) -> Result<usize, RepositoryError> {
        let counted = open(self.common_dir())?.graph_ahead_behind(tip.oid(), base.oid());
        counted
            .map(|(ahead, _)| ahead)
            .map_err(|error| self.read_error("the history", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::{Fixture, write};

    /// The names in the directory of the worktrees, with how they stand.
    async fn conditions(worktrees: &Worktrees) -> Vec<(String, Condition)> {
        let places = worktrees.inventory().await.unwrap();
        let shown = places.into_iter();
        shown
            .map(|place| (place.name().to_owned(), place.condition))
            .collect()
    }

    #[test]
    fn a_name_belongs_to_the_id_in_front_of_its_slug() {
        let is_of = |name, id: &str| is_name_of(name, &id.parse().unwrap());
        assert!(is_of("S-0001-work", "S-0001"));
        assert!(is_of("s-0001-work", "S-0001"));
        assert!(!is_of("S-00012-work", "S-0001"));
        assert!(!is_of("S-0001", "S-0001"));
        assert!(!is_of("", "S-0001"));
        assert!(!is_of("é", "S-0001"));
    }

    #[test]
    fn the_id_of_a_story_is_read_from_a_name() {
        let read = |name| story_in_name(Path::new(name)).map(|id| id.to_string());
        assert_eq!(read("S-0001-work"), Some("S-0001".to_owned()));
        assert_eq!(read("S-x-work"), None);
        assert_eq!(read("feature"), None);
    }

    #[tokio::test]
    async fn ours_are_told_from_what_others_have_put_there() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        assert_eq!(conditions(&worktrees).await, []);
        worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        let base = worktrees.base().display();
        // The predecessor's: one as it was made, one whose agent has gone to a branch named after the slug alone.
        fixture.sh(&format!(
            "cd '{base}'; git -C '{0}' worktree add -q -b ai-sdlc/S-0002-old '{base}/S-0002-old'\n\
             git -C '{0}' worktree add -q -b ai-sdlc/old '{base}/S-0003-old'\n\
             git -C '{0}' worktree add -q -b feature '{base}/S-0004-mine'\n\
             git -C '{0}' worktree add -q -b ai-sdlc/x '{base}/by-hand'\n\
             git -C '{0}' worktree add -q -b ai-sdlc/S-0005-a '{base}/S-0005-a'\n\
             git -C '{0}' worktree lock --reason 'on a stick' '{base}/S-0005-a'\n\
             git -C '{0}' worktree add -q -b ai-sdlc/S-0006-a '../elsewhere'\n\
             git init -q '{base}/S-0007-other'; mkdir S-0008-folder; touch file",
            fixture.root.display()
        ));
        let hand = Condition::Foreign(Foreign::MadeByHand);
        let folder = Condition::Foreign(Foreign::NotAWorktree);
        let locked = Condition::Foreign(Foreign::Locked("on a stick".to_owned()));
        let expected = [
            ("S-0001-a-title", Condition::Ready),
            ("S-0002-old", Condition::Ready),
            ("S-0003-old", Condition::Ready),
            ("S-0004-mine", hand.clone()),
            ("S-0005-a", locked),
            ("S-0007-other", folder.clone()),
            ("S-0008-folder", folder),
            ("by-hand", hand),
        ];
        let expected = expected.map(|(name, condition)| (name.to_owned(), condition));
        assert_eq!(conditions(&worktrees).await, expected);
    }

    #[tokio::test]
    async fn half_made_and_gone_ones_are_seen() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let mut paths = Vec::new();
        for id in ["S-0001", "S-0002"] {
            let prepared = worktrees.prepare(&fixture.request(id)).await.unwrap();
            paths.push(prepared.path);
        }
        let admin = fixture.root.join(".git/worktrees");
        write(&admin, "S-0001-a-title/ai-sdlc-preparing", "");
        fs::remove_dir_all(&paths[1]).unwrap();
        write(&admin, "S-0003-a/locked", "ai-sdlc x S-0003");
        fs::create_dir(admin.join("S-0004-a")).unwrap();
        fs::create_dir(admin.join("other")).unwrap();
        // Another git was killed while it added one.
        let base = worktrees.base().display();
        let add = "git worktree add -q --no-checkout -b ai-sdlc";
        fixture.sh(&format!("{add}/S-0005-a '{base}/S-0005-a'"));
        write(&admin, "S-0005-a/locked", "initializing\n");
        let found = conditions(&worktrees).await;
        let expected = [
            ("S-0001-a-title", Condition::HalfMade),
            ("S-0002-a-title", Condition::Gone),
            ("S-0003-a", Condition::HalfMade),
            ("S-0004-a", Condition::HalfMade),
            ("S-0005-a", Condition::HalfMade),
        ];
        assert_eq!(
            found,
            expected.map(|(name, condition)| (name.to_owned(), condition))
        );
    }

    #[tokio::test]
    async fn work_is_what_is_ahead_and_what_is_not_committed() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        let base = fixture.head();
        write(&made.path, "one", "");
        fixture.sh(&format!(
            "cd '{}'; git add one; git commit -qm one",
            made.path.display()
        ));
        write(&made.path, "two", "");
        let work = fixture
            .repository()
            .work_in(&made.path, Some(base))
            .unwrap();
        assert_eq!((work.ahead, work.uncommitted), (Some(1), 1));
        assert_ne!(work.tip, base);
    }
}
