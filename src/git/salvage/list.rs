//! What has been saved, and how much of it is on the branch of its story by now. Reads only.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{Delta, DiffOptions, Oid};

use super::commit::{INDEX, INSIDE};
use super::{CHECKPOINT, SALVAGE_PREFIX};
use crate::engine::AttemptNumber;
use crate::git::commit_id::CommitId;
use crate::git::repository::{BRANCH_PREFIX, MAX_DIFFED_FILE, Repository, RepositoryError};
use crate::story::id::StoryId;

/// A salvage as its ref and its commit tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// The story.
    pub story: StoryId,
    /// The attempt.
    pub attempt: AttemptNumber,
    /// The commit with the files.
    pub commit: CommitId,
    /// What was checked out; none on a branch without a commit.
    pub base: Option<CommitId>,
    /// The commit with the index, where that was something else than the files.
    pub index: Option<CommitId>,
    /// Whether the `.git` folders of repositories inside are saved with it.
    pub has_repositories: bool,
    /// Why it was saved.
    pub why: String,
    /// When, in seconds since the epoch.
    pub saved_at: i64,
}

/// How a salvage and the branch of its story stand to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The branch; none when it is gone: then it is compared with what the main checkout has checked out.
    pub branch: Option<String>,
    /// How many files it changes over what it is compared with ([`Repository::origin_of`]).
    pub files: usize,
    /// How many of these are otherwise, or not, on the branch.
    pub differing: usize,
    /// It is a checkpoint of an attempt that went on to commit its work.
    pub is_superseded: bool,
}

/// A file that a salvage changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    /// Relative to the worktree.
    pub path: PathBuf,
    /// `A`dded, `D`eleted, `M`odified, `T`ype changed.
    pub letter: char,
    /// Lines added; none in binary files and files above 8 MiB.
    pub insertions: usize,
    /// Lines removed, likewise.
    pub deletions: usize,
}

impl Repository {
    /// What has been saved, by story and attempt.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn salvages(&self) -> Result<Vec<Salvage>, RepositoryError> {
        let failed = |error| self.read_error("the salvages", error);
        let opened = self.open_common()?;
        let glob = format!("{SALVAGE_PREFIX}*");
        let mut found = Vec::new();
        for reference in opened.references_glob(&glob).map_err(failed)? {
            let reference = reference.map_err(failed)?;
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            // What somebody else has put there is not for us to read.
            if let Some((story, attempt)) = parse_ref(&name)
                && let Ok(commit) = reference.peel_to_commit()
            {
                found.push(read(story, attempt, &commit));
            }
        }
        found.sort_by(|one, other| (&one.story, one.attempt).cmp(&(&other.story, other.attempt)));
        Ok(found)
    }

    /// How a salvage and the branch of its story stand to each other.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn standing_of(&self, salvage: &Salvage) -> Result<Standing, RepositoryError> {
        let failed = |error| self.read_error("a salvage", error);
        let opened = self.open_common()?;
        let (branch, tip) = self.counterpart(salvage)?;
        let tip_commit = match tip {
            Some(tip) => Some(opened.find_commit(tip.oid()).map_err(failed)?),
            None => None,
        };
        let tree = tip_commit.as_ref().map(git2::Commit::tree).transpose();
        let tree = tree.map_err(failed)?;
        let origin = self.parted_at(&opened, salvage, tip)?;
        let changes = changed_files(&opened, salvage, origin).map_err(failed)?;
        let is_there = |path: &Path, id: Oid, mode: i32| {
            let entry = tree.as_ref().and_then(|tree| tree.get_path(path).ok());
            match entry {
                Some(entry) => entry.id() == id && entry.filemode() == mode,
                None => id.is_zero(),
            }
        };
        let differing = changes
            .iter()
            .filter(|(path, id, mode)| !is_there(path, *id, *mode));
        let went_on = match (salvage.base, tip) {
            (Some(base), Some(tip)) => base != tip && self.is_ancestor(base, tip)?,
            _ => false,
        };
        Ok(Standing {
            differing: differing.count(),
            files: changes.len(),
            is_superseded: salvage.why == CHECKPOINT && went_on,
            branch,
        })
    }

    /// What a salvage is compared with: what was checked out, or, where that has commits which are not on the branch of
    /// the story, the last commit that both have; none when there is no such commit. Commits on no branch are in the
    /// salvage alone, as files that were never committed are.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn origin_of(&self, salvage: &Salvage) -> Result<Option<CommitId>, RepositoryError> {
        let (_, tip) = self.counterpart(salvage)?;
        self.parted_at(&self.open_common()?, salvage, tip)
    }

    /// The branch of a salvage's story and its commit; without a branch, that of the main checkout.
    fn counterpart(
        &self,
        salvage: &Salvage,
    ) -> Result<(Option<String>, Option<CommitId>), RepositoryError> {
        let begin = format!("{BRANCH_PREFIX}{}-", salvage.story);
        // A story has one branch; of several the last has the newer title.
        let branch = self.branches_with_prefix(&begin)?.pop();
        let tip = match &branch {
            Some(branch) => self.branch_tip(branch)?,
            None => Some(self.head()?.commit()),
        };
        Ok((branch, tip))
    }

    fn parted_at(
        &self,
        opened: &git2::Repository,
        salvage: &Salvage,
        tip: Option<CommitId>,
    ) -> Result<Option<CommitId>, RepositoryError> {
        let (Some(base), Some(tip)) = (salvage.base, tip) else {
            return Ok(salvage.base);
        };
        match opened.merge_base(base.oid(), tip.oid()) {
            Ok(common) => Ok(Some(common.into())),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.read_error("the history", error)),
        }
    }

    /// The files that a salvage changes over `origin` ([`Self::origin_of`]).
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn saved_files(
        &self,
        salvage: &Salvage,
        origin: Option<CommitId>,
    ) -> Result<Vec<SavedFile>, RepositoryError> {
        let failed = |error| self.read_error("a salvage", error);
        let opened = self.open_common()?;
        let diff = difference(&opened, salvage, origin).map_err(failed)?;
        let mut files = Vec::new();
        for (place, delta) in diff.deltas().enumerate() {
            let patch = git2::Patch::from_diff(&diff, place).map_err(failed)?;
            let stats = patch.map(|patch| patch.line_stats()).transpose();
            let (_, insertions, deletions) = stats.map_err(failed)?.unwrap_or_default();
            let letter = match delta.status() {
                Delta::Added => 'A',
                Delta::Deleted => 'D',
                Delta::Typechange => 'T',
                _ => 'M',
            };
            files.push(SavedFile {
                path: path_of(&delta),
                letter,
                insertions,
                deletions,
            });
        }
        Ok(files)
    }
}

fn parse_ref(name: &str) -> Option<(StoryId, AttemptNumber)> {
    let (story, attempt) = name.strip_prefix(SALVAGE_PREFIX)?.split_once('/')?;
    let attempt = AttemptNumber::new(attempt.parse().ok()?)?;
    Some((story.parse().ok()?, attempt))
}

fn read(story: StoryId, attempt: AttemptNumber, commit: &git2::Commit<'_>) -> Salvage {
    let begins =
        |parent: &git2::Commit<'_>, with: &str| parent.message_bytes().starts_with(with.as_bytes());
    let is_base = |parent: &git2::Commit<'_>| !begins(parent, INDEX) && !begins(parent, INSIDE);
    let id = |commit: git2::Commit<'_>| CommitId::from(commit.id());
    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
    let why = message
        .split_once(": ")
        .map_or("", |(_, why)| why.trim_end());
    Salvage {
        base: commit.parents().next().filter(is_base).map(id),
        index: commit
            .parents()
            .find(|parent| begins(parent, INDEX))
            .map(id),
        has_repositories: commit.parents().any(|parent| begins(&parent, INSIDE)),
        why: why.to_owned(),
        saved_at: commit.time().seconds(),
        commit: commit.id().into(),
        story,
        attempt,
    }
}

fn difference<'repository>(
    opened: &'repository git2::Repository,
    salvage: &Salvage,
    origin: Option<CommitId>,
) -> Result<git2::Diff<'repository>, git2::Error> {
    let tree = |commit: CommitId| opened.find_commit(commit.oid())?.tree();
    let old = origin.map(tree).transpose()?;
    let new = tree(salvage.commit)?;
    let mut options = DiffOptions::new();
    options.max_size(MAX_DIFFED_FILE).include_typechange(true);
    opened.diff_tree_to_tree(old.as_ref(), Some(&new), Some(&mut options))
}

/// The paths that a salvage changes, with what they are in it; a zero id when they are deleted.
fn changed_files(
    opened: &git2::Repository,
    salvage: &Salvage,
    origin: Option<CommitId>,
) -> Result<Vec<(PathBuf, Oid, i32)>, git2::Error> {
    let diff = difference(opened, salvage, origin)?;
    let changed = diff.deltas().map(|delta| {
        let mode = i32::try_from(u32::from(delta.new_file().mode())).unwrap_or_default();
        (path_of(&delta), delta.new_file().id(), mode)
    });
    Ok(changed.collect())
}

fn path_of(delta: &git2::DiffDelta<'_>) -> PathBuf {
    let bytes = delta
        .new_file()
        .path_bytes()
        .or(delta.old_file().path_bytes());
    PathBuf::from(OsStr::from_bytes(bytes.unwrap_or_default()))
}
