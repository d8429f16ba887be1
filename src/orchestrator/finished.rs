//! The branches of a run's stories that succeeded, compared with each other by merging them in memory.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::engine::{Clash, Comparison};
use crate::git::{CommitId, Repository};
use crate::report::chain;
use crate::story::StoryId;

/// A branch that is finished.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) story: StoryId,
    /// Where it started.
    pub(super) base: CommitId,
    /// Where it ends.
    pub(super) tip: CommitId,
}

/// The branches that are finished so far, with what each has changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Finished {
    branches: Vec<Arc<Changed>>,
}

#[derive(Debug)]
struct Changed {
    branch: Branch,
    /// Filled when it is first needed; reading a difference takes about as long as merging.
    paths: std::sync::OnceLock<BTreeSet<String>>,
}

impl Finished {
    /// Takes a branch in, in place of an earlier one of its story, and gives what compares it with those that were there
    /// before. That blocks.
    pub(super) fn add(
        &mut self,
        repository: Repository,
        branch: Branch,
    ) -> impl FnOnce() -> Result<Comparison, String> + Send + 'static {
        let story = &branch.story;
        self.branches.retain(|other| other.branch.story != *story);
        let earlier = self.branches.clone();
        let new = Arc::new(Changed {
            branch,
            paths: std::sync::OnceLock::new(),
        });
        self.branches.push(Arc::clone(&new));
        move || compare(&repository, &new, &earlier)
    }
}

fn compare(
    repository: &Repository,
    new: &Changed,
    earlier: &[Arc<Changed>],
) -> Result<Comparison, String> {
    let mut clashes = Vec::new();
    if new.branch.tip != new.branch.base {
        for other in earlier {
            let files = if may_conflict(new.paths(repository)?, other.paths(repository)?) {
                repository
                    .merge_conflicts(other.branch.tip, new.branch.tip)
                    .map_err(|error| chain(&error))?
            } else {
                Vec::new()
            };
            if !files.is_empty() {
                clashes.push(Clash {
                    with: other.branch.story.clone(),
                    files,
                });
            }
        }
    }
    Ok(Comparison::Compared(clashes))
}

impl Changed {
    fn paths(&self, repository: &Repository) -> Result<&BTreeSet<String>, String> {
        if let Some(paths) = self.paths.get() {
            return Ok(paths);
        }
        let paths = repository
            .changed_between(self.branch.base, self.branch.tip)
            .map_err(|error| chain(&error))?;
        Ok(self.paths.get_or_init(|| paths.into_iter().collect()))
    }
}

/// Whether two sets of changed paths have anything in common: a path, or one that is a folder in the other. Branches
/// that have nothing in common always merge, so that the merge itself, which is dearer, need not be made.
fn may_conflict(one: &BTreeSet<String>, other: &BTreeSet<String>) -> bool {
    // A list that may be cut says nothing of what it leaves out.
    let cut = |paths: &BTreeSet<String>| paths.len() >= crate::git::MAX_OVERLAP_PATHS;
    cut(one) || cut(other) || meets(one, other) || meets(other, one)
}

/// Whether a path of `others` is one of `paths` or lies below one.
fn meets(paths: &BTreeSet<String>, others: &BTreeSet<String>) -> bool {
    paths.iter().any(|path| {
        let folder = format!("{path}/");
        let after = (Bound::Included(folder.as_str()), Bound::Unbounded);
        let below = others.range::<str, _>(after).next();
        others.contains(path) || below.is_some_and(|other| other.starts_with(&folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn a_path_in_common_or_a_folder_in_its_place_may_conflict() {
        assert!(may_conflict(&set(&["a", "b"]), &set(&["b", "c"])));
        assert!(may_conflict(&set(&["a"]), &set(&["a/b"])));
        assert!(may_conflict(&set(&["x", "a/b/c"]), &set(&["a"])));
        assert!(!may_conflict(
            &set(&["a", "b.rs"]),
            &set(&["ab", "b", "c/a"])
        ));
        assert!(!may_conflict(&set(&[]), &set(&["a"])));
    }
}
