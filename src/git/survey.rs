//! What is there for a story's worktree before anything is done: all the states that people, other gits and killed
//! gits leave, told apart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::admin::WorktreeEntry;
use super::commit_id::CommitId;
use super::file_error::FileError;
use super::prepare_error::PrepareError;
use super::repository::Repository;
use super::worktree::LOCK_PREFIX;

/// The names that belong to one story.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) branch: String,
}

/// What is there for a story before anything is done.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    pub(super) branch: Branch,
    pub(super) may_have_hook: bool,
}

/// The branch of a story.
#[derive(Debug, Clone, Copy)]
pub(super) enum Branch {
    Missing,
    /// It ends here with nothing of its own: all of it is in the history of the requested base.
    Behind(CommitId),
    /// It ends here and stays there: it has commits of its own, or someone is using it.
    Stays(CommitId),
}

#[derive(Debug)]
pub(super) enum State {
    Ready,
    /// Added, but never prepared to the end.
    Unfinished(WorktreeEntry),
    Absent(Leftover),
}

#[derive(Debug)]
pub(super) enum Leftover {
    Nothing,
    /// The entry of a directory that is gone.
    Entry,
    /// An entry that was not written to its end.
    HalfMade(PathBuf),
}

/// Looks at what is there for a story. Changes nothing but to remove an empty directory. Blocks.
pub(super) fn survey(
    repository: &Repository,
    target: &Target,
    base: CommitId,
) -> Result<Found, PrepareError> {
    let Target { path, branch } = target;
    let tip = repository.branch_tip(branch)?;
    let entry = repository.worktree_at(path)?;
    let directory = Directory::at(path)?;
    let state = match (entry, directory) {
        (Some(entry), _) if !entry.is_complete() => {
            State::Absent(Leftover::HalfMade(entry.admin_dir))
        }
        (Some(entry), Directory::Missing) => match entry.locked {
            Some(reason) if !reason.starts_with(LOCK_PREFIX) => {
                let path = path.clone();
                return Err(PrepareError::LockedByOther { path, reason });
            }
            _ => State::Absent(Leftover::Entry),
        },
        (Some(entry), Directory::Full) if entry.owns_directory() => {
            if entry.branch() == Some(branch) && tip.is_none() {
                let (path, branch) = (path.clone(), branch.clone());
                return Err(PrepareError::BranchGone { path, branch });
            }
            if entry.branch() != Some(branch) {
                return Err(PrepareError::OtherBranch {
                    path: path.clone(),
                    branch: branch.clone(),
                    found: match entry.branch() {
                        Some(found) => format!("the branch `{found}`"),
                        None => "a commit without a branch".to_owned(),
                    },
                });
            }
            if entry.is_checked_out() {
                State::Ready
            } else {
                State::Unfinished(entry)
            }
        }
        (None, Directory::Missing | Directory::Empty) => State::Absent(stray(repository, path)),
        (Some(_), Directory::Empty) => {
            // Without its `.git` file git refuses to remove it, and an empty directory is nothing to lose.
            drop(fs::remove_dir(path));
            State::Absent(Leftover::Entry)
        }
        (Some(entry), Directory::Full) if entry.has_lost_its_link() => {
            return Err(PrepareError::LostLink { path: path.clone() });
        }
        (entry, Directory::Full) => {
            let tampered = entry.and_then(|entry| entry.check_link().err());
            let path = path.clone();
            return Err(
                tampered.map_or(PrepareError::NotAWorktree { path }, PrepareError::Tampered)
            );
        }
    };
    let elsewhere = match (&state, tip) {
        (State::Ready, _) | (_, None) => None,
        (State::Unfinished(_) | State::Absent(_), Some(_)) => {
            repository.checked_out_elsewhere(branch, path)?
        }
    };
    let branch = match (&state, tip, elsewhere) {
        (_, None, _) => Branch::Missing,
        (State::Absent(_), _, Some(elsewhere)) => {
            return Err(PrepareError::CheckedOutElsewhere {
                branch: branch.clone(),
                path: elsewhere,
            });
        }
        (State::Ready, Some(tip), _) | (_, Some(tip), Some(_)) => Branch::Stays(tip),
        (_, Some(tip), None) if repository.is_ancestor(tip, base)? => Branch::Behind(tip),
        (_, Some(tip), None) => Branch::Stays(tip),
    };
    Ok(Found {
        state,
        branch,
        may_have_hook: repository.may_have_checkout_hook()?,
    })
}

/// What is at the place of a worktree.
pub(super) enum Directory {
    Missing,
    Empty,
    Full,
}

impl Directory {
    pub(super) fn at(path: &Path) -> Result<Self, PrepareError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Missing),
            Err(error) => Err(FileError::when("read", path)(error).into()),
            // A link would lead out of the base directory.
            Ok(data) if !data.is_dir() => Err(PrepareError::NotAWorktree {
                path: path.to_owned(),
            }),
            Ok(_) => match fs::read_dir(path)
                .map_err(FileError::when("read", path))?
                .next()
            {
                None => Ok(Self::Empty),
                Some(_) => Ok(Self::Full),
            },
        }
    }
}

/// What a git that was killed in its first moments leaves: an entry of that name that says nothing yet.
pub(super) fn stray(repository: &Repository, path: &Path) -> Leftover {
    let name = path.file_name().unwrap_or_default();
    let admin_dir = repository.common_dir().join("worktrees").join(name);
    let ours = match fs::read(admin_dir.join("locked")) {
        Ok(reason) => reason.starts_with(LOCK_PREFIX.as_bytes()),
        Err(_) => matches!(Directory::at(&admin_dir), Ok(Directory::Empty)),
    };
    if ours && !admin_dir.join("gitdir").exists() {
        Leftover::HalfMade(admin_dir)
    } else {
        Leftover::Nothing
    }
}

/// Removes an entry that was not written to its end, and its directory if nothing but git's link is in it.
pub(super) fn remove_half_made(admin_dir: &Path, path: &Path) -> Result<(), PrepareError> {
    let mut names = fs::read_dir(path).into_iter().flatten().flatten();
    if names.all(|item| item.file_name() == ".git") {
        let link = path.join(".git");
        if link.is_file() {
            drop(fs::remove_file(link));
        }
        drop(fs::remove_dir(path));
    } else {
        return Err(PrepareError::NotAWorktree {
            path: path.to_owned(),
        });
    }
    match fs::remove_dir_all(admin_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::when("remove", admin_dir)(error).into())
        }
        _ => Ok(()),
    }
}
