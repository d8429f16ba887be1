//! What is in a worktree and in no commit, seen by libgit2 without a process and without changing anything.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use git2::{IndexEntryExtendedFlag, IndexEntryFlag, RepositoryState, StatusShow};

use crate::git::changes::{self, Changes};
use crate::git::commit::is_submodule;
use crate::git::commit_id::CommitId;
use crate::git::link::Link;
use crate::git::repository::{RepositoryError, open};

/// A worktree and the directory that git keeps about it. Nothing is looked for from here on: a worktree whose `.git`
/// is gone would be taken for a part of the checkout around it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) worktree: PathBuf,
    pub(super) git_dir: PathBuf,
}

impl Place {
    pub(super) fn of(link: &Link) -> Self {
        Self {
            worktree: link.worktree.clone(),
            git_dir: link.git_dir.clone(),
        }
    }
}

/// What a look shows.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    /// What is checked out; none on a branch without a commit.
    pub(super) head: Option<CommitId>,
    /// Whether everything up to there is on some branch.
    pub(super) head_is_kept: bool,
    /// Files that are there and that git was told not to look at, each with a zero byte at its end.
    pub(super) flagged: Vec<u8>,
    /// Submodules with something that is only in them.
    pub(super) left_out: Vec<PathBuf>,
}

/// Whether something is in no commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Clean,
    /// Something is; another number means something else.
    Changed(u64),
    /// The index is of a kind that libgit2 does not read: git has to say.
    Unknown,
}

impl State {
    pub(super) fn fingerprint(self) -> Option<u64> {
        match self {
            Self::Clean => None,
            Self::Changed(number) => Some(number),
            // It cannot be told from another one.
            Self::Unknown => Some(now()),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.unwrap_or_default().as_nanos();
    u64::try_from(nanos).unwrap_or_default()
}

/// Opens the repository of a worktree, also when the worktree's own link to it is gone.
pub(super) fn open_at(place: &Place) -> Result<git2::Repository, RepositoryError> {
    let opened = open(&place.git_dir)?;
    opened
        .set_workdir(&place.worktree, false)
        .map_err(|source| read_error(place, source))?;
    Ok(opened)
}

pub(super) fn read_error(place: &Place, source: git2::Error) -> RepositoryError {
    RepositoryError::Read {
        what: "the state",
        path: place.worktree.clone(),
        source,
    }
}

/// Looks at a worktree. Blocks.
pub(super) fn look(place: &Place) -> Result<Found, RepositoryError> {
    let opened = open_at(place)?;
    let head = opened.head().ok();
    let commit = head.as_ref().and_then(|head| head.peel_to_commit().ok());
    let head_is_kept = match (&head, &commit) {
        (Some(head), Some(_)) if head.is_branch() => true,
        (_, Some(commit)) => is_on_a_branch(&opened, commit.id()),
        (_, None) => true,
    };
    let mut found = Found {
        state: State::Unknown,
        head: commit.as_ref().map(|commit| commit.id().into()),
        head_is_kept,
        flagged: Vec::new(),
        left_out: Vec::new(),
    };
    let (index, changed) = match (opened.index(), all_changes(&opened)) {
        (Ok(index), Ok(changed)) => (index, changed),
        // A split or sparse index, or a damaged one.
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "libgit2 cannot look at a worktree");
            return Ok(found);
        }
    };
    found.flagged = flagged(place, &index);
    found.left_out = changed_submodules(&opened, place, commit.as_ref(), &index);
    let is_clean = changed.is_empty()
        && found.flagged.is_empty()
        && found.left_out.is_empty()
        && hidden_repositories(&place.worktree, &index).is_empty()
        && head_is_kept
        && opened.state() == RepositoryState::Clean;
    found.state = if is_clean {
        State::Clean
    } else {
        let paths = changed.paths.iter().map(PathBuf::as_path);
        State::Changed(fingerprint(place, &found, paths.collect()))
    };
    Ok(found)
}

fn all_changes(opened: &git2::Repository) -> Result<Changes, git2::Error> {
    changes::read_some(opened, None, StatusShow::IndexAndWorkdir, usize::MAX)
}

/// A number for what is changed: which files, when they last changed, and what the index and HEAD are.
fn fingerprint(place: &Place, found: &Found, mut paths: Vec<&Path>) -> u64 {
    let mut hasher = DefaultHasher::new();
    found.head.hash(&mut hasher);
    found.flagged.hash(&mut hasher);
    let stamp = |path: &Path| {
        let data = fs::symlink_metadata(path).ok()?;
        Some((data.ctime(), data.ctime_nsec(), data.size(), data.mode()))
    };
    stamp(&place.git_dir.join("index")).hash(&mut hasher);
    paths.sort();
    for path in paths {
        path.hash(&mut hasher);
        stamp(&place.worktree.join(path)).hash(&mut hasher);
    }
    let flagged = found.flagged.split(|byte| *byte == 0);
    for path in flagged.filter(|path| !path.is_empty()) {
        stamp(&place.worktree.join(OsStr::from_bytes(path))).hash(&mut hasher);
    }
    hasher.finish()
}

fn is_on_a_branch(opened: &git2::Repository, commit: git2::Oid) -> bool {
    let Ok(branches) = opened.branches(None) else {
        return false;
    };
    branches.flatten().any(|(branch, _)| {
        let tip = branch.into_reference().peel_to_commit();
        tip.is_ok_and(|tip| {
            tip.id() == commit || opened.graph_descendant_of(tip.id(), commit) == Ok(true)
        })
    })
}

/// Files that exist although git takes them for unchanged or absent whatever they are.
fn flagged(place: &Place, index: &git2::Index) -> Vec<u8> {
    let mut flagged = Vec::new();
    for entry in index.iter() {
        let assumed = entry.flags & IndexEntryFlag::VALID.bits() != 0;
        let skipped = entry.flags_extended & IndexEntryExtendedFlag::SKIP_WORKTREE.bits() != 0;
        let path = place.worktree.join(OsStr::from_bytes(&entry.path));
        if assumed || (skipped && path.symlink_metadata().is_ok()) {
            flagged.extend_from_slice(&entry.path);
            flagged.push(0);
        }
    }
    flagged
}

/// Folders with a `.git` of their own, of those in which the index has files: git goes on to look at these, and never
/// at that.
pub(super) fn hidden_repositories(worktree: &Path, index: &git2::Index) -> Vec<PathBuf> {
    let mut folders = BTreeSet::new();
    for entry in index.iter() {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        for folder in path.ancestors().skip(1) {
            if folder.as_os_str().is_empty() || !folders.insert(folder.to_owned()) {
                break;
            }
        }
    }
    folders.retain(|folder| is_repository(&worktree.join(folder)));
    folders.into_iter().collect()
}

/// Submodules with changes, or with a commit that the commit which is checked out does not name: both are in the
/// submodule's repository alone.
fn changed_submodules(
    opened: &git2::Repository,
    place: &Place,
    head: Option<&git2::Commit<'_>>,
    index: &git2::Index,
) -> Vec<PathBuf> {
    let tree = head.and_then(|commit| commit.tree().ok());
    let mut changed = Vec::new();
    for entry in index.iter().filter(|entry| is_gitlink(entry.mode)) {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let directory = place.worktree.join(path);
        if !is_repository(&directory) || !is_submodule(opened, path) {
            continue;
        }
        let known = tree.as_ref().and_then(|tree| tree.get_path(path).ok());
        let inner = git2::Repository::open(&directory);
        let is_contained = inner.is_ok_and(|inner| {
            let at = inner.head().ok().and_then(|head| head.target());
            let clean = changes::read(&inner, None).is_ok_and(|changes| changes.is_empty());
            clean && at.is_some() && at == known.map(|known| known.id())
        });
        if !is_contained {
            changed.push(path.to_owned());
        }
    }
    changed
}

pub(super) fn is_gitlink(mode: u32) -> bool {
    mode == u32::from(git2::FileMode::Commit)
}

/// Whether a directory has a repository of its own.
pub(super) fn is_repository(directory: &Path) -> bool {
    directory.join(".git").symlink_metadata().is_ok()
}
