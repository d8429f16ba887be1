//! What the stories of a run start from. A branch moves while a run goes on (people merge what is finished), so that
//! every attempt asks anew where it is.

use crate::git::{CommitId, Head, Repository};
use crate::report::chain;

/// What the stories of a run start from.
#[derive(Debug, Clone)]
pub enum Base {
    /// The branch that the main checkout had when the run began.
    Branch {
        /// Its name.
        name: String,
        /// Its tip at that time.
        start: CommitId,
    },
    /// What the configuration names: a branch, a tag or a commit.
    Configured {
        /// The name.
        name: String,
        /// What it meant when the run began.
        start: CommitId,
    },
    /// The commit that the main checkout had, without a branch.
    Commit(CommitId),
}

impl From<Head> for Base {
    fn from(head: Head) -> Self {
        match head {
            Head::Branch { name, commit } => Self::Branch {
                name,
                start: commit,
            },
            Head::Detached { commit } => Self::Commit(commit),
        }
    }
}

impl Base {
    /// What people call it, when it is more than a commit.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Branch { name, .. } | Self::Configured { name, .. } => Some(name),
            Self::Commit(_) => None,
        }
    }

    /// The commit that it was when the run began.
    pub fn start(&self) -> CommitId {
        match self {
            Self::Branch { start, .. } | Self::Configured { start, .. } | Self::Commit(start) => {
                *start
            }
        }
    }

    /// The commit that it is now.
    pub(super) fn now(&self, repository: &Repository) -> Result<CommitId, String> {
        match self {
            Self::Branch { name, .. } => {
                let tip = repository.branch_tip(name);
                let tip = tip.map_err(|error| chain(&error))?;
                tip.ok_or_else(|| {
                    format!("the branch `{name}`, from which the run started, is gone")
                })
            }
            Self::Configured { name, .. } => {
                repository.resolve(name).map_err(|error| chain(&error))
            }
            Self::Commit(commit) => Ok(*commit),
        }
    }
}
