//! What differs in a work tree from its commit, by libgit2.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{Index, IndexEntryExtendedFlag, Status, StatusOptions, StatusShow};

/// The most paths that [`Changes`] names.
pub const MAX_CHANGED_PATHS: usize = 1000;

/// The changed and untracked paths of a work tree; ignored files are no changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The first [`MAX_CHANGED_PATHS`], relative to the work tree.
    pub paths: Vec<PathBuf>,
    /// How many there are.
    pub total: usize,
    /// Paths with an unresolved merge conflict, of those named.
    pub unmerged: Vec<PathBuf>,
    /// Untracked directories that are repositories of their own, of those named: git would record a commit that
    /// nobody else has and none of their content.
    pub embedded: Vec<PathBuf>,
}

impl Changes {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Whether one of the paths named is a repository, a submodule included. Reads the disk.
    pub(super) fn hold_repository(&self, worktree: &Path) -> bool {
        let mut places = self.paths.iter().map(|path| worktree.join(path));
        places.any(|place| place.join(".git").symlink_metadata().is_ok())
    }
}

pub(super) fn read(
    opened: &git2::Repository,
    ignoring: Option<&str>,
) -> Result<Changes, git2::Error> {
    read_some(
        opened,
        ignoring,
        StatusShow::IndexAndWorkdir,
        MAX_CHANGED_PATHS,
    )
}

/// Likewise for a part of the comparison (files with index, index with commit), with any number of paths.
pub(super) fn read_some(
    opened: &git2::Repository,
    ignoring: Option<&str>,
    show: StatusShow,
    most: usize,
) -> Result<Changes, git2::Error> {
    let mut options = StatusOptions::new();
    options
        .show(show)
        .include_untracked(true)
        // libgit2 reports a repository inside this one as ignored while it has no commit.
        .include_ignored(true)
        .recurse_untracked_dirs(true)
        .include_unmodified(false)
        .renames_head_to_index(false)
        .renames_index_to_workdir(false);
    let worktree = opened.workdir().unwrap_or(opened.path());
    let index = opened.index()?;
    let mut changes = Changes::default();
    for entry in opened.statuses(Some(&mut options))?.iter() {
        let bytes = entry.path_bytes();
        let path = Path::new(OsStr::from_bytes(bytes));
        let status = entry.status();
        if ignoring.is_some_and(|folder| path.starts_with(folder)) {
            continue;
        }
        if status == Status::WT_DELETED && is_left_out(&index, path) {
            continue;
        }
        // With untracked files listed one by one, a directory is listed only when git does not look into it. These
        // are looked for beyond the limit too: losing one must not depend on how many other files there are.
        let is_directory = bytes.ends_with(b"/");
        let is_embedded = is_directory
            && (status.contains(Status::WT_NEW)
                || (status.is_ignored() && is_empty_repository(opened, worktree, path)?));
        if status.is_ignored() && !is_embedded {
            continue;
        }
        changes.total += 1;
        if changes.paths.len() < most {
            changes.paths.push(path.to_owned());
            if status.is_conflicted() {
                changes.unmerged.push(path.to_owned());
            }
        }
        if is_embedded && changes.embedded.len() < most {
            changes.embedded.push(path.to_owned());
        }
    }
    Ok(changes)
}

/// Whether a file that is not there is outside of a sparse checkout, of which libgit2 knows nothing.
fn is_left_out(index: &Index, path: &Path) -> bool {
    let skipped = IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
    let entry = index.get_path(path, 0);
    entry.is_some_and(|entry| entry.flags_extended & skipped != 0)
}

/// Whether what libgit2 reports as an ignored directory is a repository without a commit that nothing ignores.
fn is_empty_repository(
    opened: &git2::Repository,
    worktree: &Path,
    path: &Path,
) -> Result<bool, git2::Error> {
    let is_repository = worktree.join(path).join(".git").symlink_metadata().is_ok();
    Ok(is_repository && !opened.is_path_ignored(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::Fixture;

    #[tokio::test]
    async fn everything_that_is_not_ignored_is_a_change() {
        let fixture = Fixture::new().await;
        fixture.write(".gitignore", "*.log\n");
        fixture.sh("git add . && git commit -qm ignore");
        fixture.write("a.log", "");
        let status = |ignoring| {
            fixture
                .repository()
                .status(&fixture.root, ignoring)
                .unwrap()
        };
        assert!(status(None).is_empty());
        fixture.write("file.txt", "changed\n");
        fixture.write("new dir/ünew", "");
        fixture.write(".ai-sdlc/stories/x", "");
        fixture.sh(
            "rm dir/other.txt; chmod +x .gitignore; git init -q 'deep/in side'; git init -q x.log",
        );
        fixture.sh("git init -q full; cd full; touch f; git add f; git -c user.name=a -c user.email=b commit -qm x");
        let changes = status(Some(".ai-sdlc"));
        let paths: Vec<_> = changes
            .paths
            .iter()
            .map(|path| path.to_str().unwrap())
            .collect();
        let expected = [
            ".gitignore",
            "deep/in side/",
            "dir/other.txt",
            "file.txt",
            "full/",
            "new dir/ünew",
        ];
        assert_eq!(paths, expected);
        assert_eq!(
            changes.embedded,
            [Path::new("deep/in side"), Path::new("full")]
        );
        assert_eq!(status(None).total, changes.total + 1);
    }

    #[tokio::test]
    async fn what_a_sparse_checkout_leaves_out_is_no_change() {
        let fixture = Fixture::new().await;
        fixture.sh("git sparse-checkout set --no-cone /file.txt 2>/dev/null; test ! -e dir");
        let status = || fixture.repository().status(&fixture.root, None).unwrap();
        assert_eq!(status(), Changes::default());
        fixture.sh("rm file.txt; echo n > new");
        let paths = status().paths;
        assert_eq!(paths, [Path::new("file.txt"), Path::new("new")]);
    }
}
