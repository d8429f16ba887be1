//! Changes that git was told not to look at (`git update-index --assume-unchanged`, `--skip-worktree`): no status names
//! them, and they would be gone with their worktree.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag, ObjectType, Oid};

/// The first file of a work tree that is not as in the index, and that git takes for unchanged all the same. Contents are
/// compared as they are: one that a filter changes may count as another one.
pub(super) fn hidden_change(opened: &git2::Repository) -> Result<Option<PathBuf>, git2::Error> {
    let Some(worktree) = opened.workdir() else {
        return Ok(None);
    };
    let index = opened.index()?;
    let mut entries = index.iter();
    let hidden = entries.find(|entry| is_hidden_change(worktree, entry));
    Ok(hidden.map(|entry| PathBuf::from(OsStr::from_bytes(&entry.path))))
}

fn is_hidden_change(worktree: &Path, entry: &IndexEntry) -> bool {
    let assumed = entry.flags & IndexEntryFlag::VALID.bits() != 0;
    let skipped = entry.flags_extended & IndexEntryExtendedFlag::SKIP_WORKTREE.bits() != 0;
    if !assumed && !skipped {
        return false;
    }
    match content(&worktree.join(OsStr::from_bytes(&entry.path))) {
        Ok(content) => content != entry.id,
        // Outside of a sparse checkout nothing is there.
        Err(error) => assumed || error.kind() != io::ErrorKind::NotFound,
    }
}

fn content(path: &Path) -> io::Result<Oid> {
    let hashed = if fs::symlink_metadata(path)?.is_symlink() {
        let target = fs::read_link(path)?;
        Oid::hash_object(ObjectType::Blob, target.as_os_str().as_bytes())
    } else {
        Oid::hash_file(ObjectType::Blob, path)
    };
    hashed.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::repository::open;
    use crate::git::test_support::Fixture;

    #[tokio::test]
    async fn what_git_does_not_look_at_is_looked_at() {
        let fixture = Fixture::new().await;
        let hidden = || hidden_change(&open(&fixture.root).unwrap()).unwrap();
        assert_eq!(hidden(), None);
        fixture.sh("git update-index --assume-unchanged file.txt");
        assert_eq!(hidden(), None);
        fixture.write("file.txt", "changed\n");
        assert_eq!(fixture.sh("git status --porcelain"), "");
        assert_eq!(hidden(), Some(PathBuf::from("file.txt")));
        fixture.sh("git update-index --no-assume-unchanged file.txt; git checkout -q file.txt");
        fixture.sh("git update-index --skip-worktree file.txt; rm file.txt");
        assert_eq!(hidden(), None);
        fixture.write("file.txt", "changed\n");
        assert_eq!(hidden(), Some(PathBuf::from("file.txt")));
    }
}
