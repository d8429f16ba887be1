//! The administrative directories of linked worktrees (`<common dir>/worktrees/*`), read as gitrepository-layout(5)
//! describes them.
//!
//! They are read here and not by libgit2 because that hides the incomplete ones, which are the ones to repair.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::link::{Link, LinkError};
use super::worktree::LOCK_PREFIX;
use crate::story::id::StoryId;

/// The file in a worktree's administrative directory that is there while we prepare it: from its making until its
/// files are checked out and the hook has ended well.
const PREPARING: &str = "ai-sdlc-preparing";

/// The file in there that says how the worktree was set up. Git removes it with the worktree.
const SETUP_NOTE: &str = "ai-sdlc-setup";

/// The most that is read of one of its files, in bytes: a path, a branch or a reason.
const LARGEST: u64 = 64 * 1024;

/// The lock files that a killed git can leave in there.
const LOCKS: [&str; 2] = ["index.lock", "HEAD.lock"];

/// A worktree that the repository knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorktreeEntry {
    /// Its directory, which may be missing.
    pub path: PathBuf,
    /// What it has checked out.
    pub head: WorktreeHead,
    /// The reason for which it is locked against removal; empty when none was given.
    pub locked: Option<String>,
    /// The directory that git keeps about it.
    pub(super) admin_dir: PathBuf,
}

/// What a worktree has checked out, as far as its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorktreeHead {
    /// A branch, without `refs/heads/`.
    Branch(String),
    /// A commit, or a reference that is no branch.
    Detached(String),
    /// Nothing yet: whoever added it did not finish.
    Missing,
}

impl WorktreeEntry {
    /// The branch that is checked out.
    pub fn branch(&self) -> Option<&str> {
        match &self.head {
            WorktreeHead::Branch(name) => Some(name),
            WorktreeHead::Detached(_) | WorktreeHead::Missing => None,
        }
    }

    /// Where it is noted how the worktree was set up. The file goes with the worktree.
    pub(super) fn setup_note(&self) -> PathBuf {
        self.admin_dir.join(SETUP_NOTE)
    }

    /// Whether git has written everything that makes it a worktree.
    pub(super) fn is_complete(&self) -> bool {
        self.head != WorktreeHead::Missing && self.admin_dir.join("commondir").exists()
    }

    /// Whether its files have been checked out: git writes the index when all of them are there. One that we began
    /// must be prepared to its end, too.
    pub(super) fn is_checked_out(&self) -> bool {
        self.admin_dir.join("index").exists() && !self.is_being_prepared()
    }

    /// Whether we have begun to prepare it and not come to the end: nobody has worked in it yet.
    pub(super) fn is_being_prepared(&self) -> bool {
        self.admin_dir.join(PREPARING).exists()
    }

    /// Says that its preparation has begun; the file that says so must be removed at the end of it.
    pub(super) fn begin_preparing(&self) -> io::Result<PathBuf> {
        let marker = self.admin_dir.join(PREPARING);
        fs::write(&marker, "")?;
        Ok(marker)
    }

    /// Removes the lock files of killed gits, and gives their names. Only when no process works in it any more.
    pub(super) fn clear_locks(&self) -> io::Result<Vec<&'static str>> {
        let mut cleared = Vec::new();
        for name in LOCKS {
            match fs::remove_file(self.admin_dir.join(name)) {
                Ok(()) => cleared.push(name),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(cleared)
    }

    /// Whether we have made it: git has locked it with our reason.
    pub(super) fn is_ours(&self) -> bool {
        let reason = self.locked.as_deref();
        reason.is_some_and(|reason| reason.starts_with(LOCK_PREFIX))
    }

    /// The story that we have made it for, as our lock says.
    pub(super) fn story(&self) -> Option<StoryId> {
        let of_us = self.locked.as_deref()?.strip_prefix(LOCK_PREFIX)?;
        of_us.split(' ').nth(1)?.parse().ok()
    }

    /// Whether the directory is there and belongs to this entry, and git can be called in it.
    pub(super) fn owns_directory(&self) -> bool {
        if fs::symlink_metadata(self.path.join(".git")).is_err() {
            return false;
        }
        let checked = self.check_link();
        if let Err(error) = &checked {
            tracing::debug!(%error, "a worktree is not as git has made it");
        }
        checked.is_ok()
    }

    /// Whether what ties the directory to this entry is as git has made it.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn check_link(&self) -> Result<(), LinkError> {
        Link::between(&self.path, &self.admin_dir).check(None)
    }

    /// Whether the directory is there, and nothing in it says any more to whom it belongs: its `.git` is gone, or a file
    /// that names no repository.
    pub(super) fn has_lost_its_link(&self) -> bool {
        let link = self.path.join(".git");
        match fs::symlink_metadata(&link) {
            Ok(data) if data.is_file() => {
                read_line(&link).is_some_and(|text| !text.starts_with("gitdir: "))
            }
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::NotFound && self.path.is_dir(),
        }
    }
}

/// All worktrees that the repository with this common directory has linked.
pub(super) fn entries(common_dir: &Path) -> io::Result<Vec<WorktreeEntry>> {
    let directory = match fs::read_dir(common_dir.join("worktrees")) {
        Ok(directory) => directory,
        // Git removes the directory with the last worktree.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    let mut resolved = Resolved::default();
    for item in directory {
        found.extend(read_entry(&item?.path(), &mut resolved));
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The worktree with that directory (resolved), whether that exists or not. One that git has given the name of its
/// directory, as it does unless another worktree has that name, is found without a look at the others, which may be many.
pub(super) fn entry_at(common_dir: &Path, path: &Path) -> io::Result<Option<WorktreeEntry>> {
    let own = |entry: &WorktreeEntry| entry.path == path;
    let named = path.file_name().and_then(|name| {
        let admin_dir = common_dir.join("worktrees").join(name);
        read_entry(&admin_dir, &mut Resolved::default())
    });
    match named.filter(own) {
        Some(entry) => Ok(Some(entry)),
        None => Ok(entries(common_dir)?.into_iter().find(own)),
    }
}

/// Folders of worktrees and what they resolve to: mostly it is the same one.
#[derive(Default)]
struct Resolved(BTreeMap<PathBuf, Option<PathBuf>>);

impl Resolved {
    fn of(&mut self, folder: &Path) -> Option<&Path> {
        if !self.0.contains_key(folder) {
            let resolved = folder.canonicalize().ok();
            self.0.insert(folder.to_owned(), resolved);
        }
        self.0.get(folder)?.as_deref()
    }
}

/// None when it does not say where its worktree is.
fn read_entry(admin_dir: &Path, resolved: &mut Resolved) -> Option<WorktreeEntry> {
    let link = read_small(&admin_dir.join("gitdir"))?;
    let link = admin_dir.join(OsStr::from_bytes(&link));
    let path = link.parent()?;
    // A symbolic link or a relative path must not hide that two names are one directory.
    let path = match path.parent().and_then(|parent| resolved.of(parent)) {
        Some(parent) => parent.join(path.file_name()?),
        None => path.to_owned(),
    };
    let head = match read_line(&admin_dir.join("HEAD")) {
        None => WorktreeHead::Missing,
        Some(text) => match text.strip_prefix("ref: refs/heads/") {
            Some(branch) => WorktreeHead::Branch(branch.to_owned()),
            None => WorktreeHead::Detached(text),
        },
    };
    Some(WorktreeEntry {
        path,
        head,
        locked: read_line(&admin_dir.join("locked")).map(|text| text.trim().to_owned()),
        admin_dir: admin_dir.to_owned(),
    })
}

/// What a small file says. Whoever works in a worktree could have made anything of it: nothing is waited for, and no more
/// is read than there can be.
fn read_small(path: &Path) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    text.truncate(text.trim_ascii_end().len());
    Some(text)
}

/// Likewise as text.
pub(super) fn read_line(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&read_small(path)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::Fixture;

    #[tokio::test]
    async fn worktrees_are_read_as_git_wrote_them() {
        let fixture = Fixture::new().await;
        let common = fixture.root.join(".git");
        assert_eq!(entries(&common).unwrap(), []);
        fixture.sh("git worktree add -q -b x/y '../a ü'; git worktree add -q --detach ../b");
        fixture.sh("git worktree lock --reason 'my disk' ../b");
        fixture.sh("git worktree add -q --no-checkout -b z ../c; mkdir .git/worktrees/half");
        let found = entries(&common).unwrap();
        let outside = fixture.root.parent().unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|entry| {
                (
                    entry.path.strip_prefix(outside).unwrap().to_str().unwrap(),
                    entry.branch(),
                )
            })
            .collect();
        assert_eq!(shown, [("a ü", Some("x/y")), ("b", None), ("c", Some("z"))]);
        assert_eq!(found[1].locked.as_deref(), Some("my disk"));
        assert_eq!(
            found[1].head,
            WorktreeHead::Detached(fixture.head().to_string())
        );
        assert!(
            found
                .iter()
                .all(|entry| entry.is_complete() && entry.owns_directory())
        );
        assert!(found[0].is_checked_out() && !found[2].is_checked_out());
        assert!(found.iter().all(|entry| !entry.has_lost_its_link()));
        fixture.sh("mv ../b ../moved");
        assert!(!found[1].owns_directory() && !found[1].has_lost_its_link());
        fixture.sh("rm ../c/.git");
        assert!(!found[2].owns_directory() && found[2].has_lost_its_link());
        fixture.sh("echo > ../c/.git");
        assert!(found[2].has_lost_its_link());
        fixture.sh("rm ../c/.git; git init -q ../c");
        assert!(!found[2].has_lost_its_link());
    }

    #[tokio::test]
    async fn a_worktree_is_found_by_its_directory_whatever_git_has_called_it() {
        let fixture = Fixture::new().await;
        // The second of the same name gets another one in the repository; the third is moved away from its name.
        fixture.sh("git worktree add -q ../one/a; git worktree add -q -b second ../two/a; git worktree add -q ../b");
        fixture.sh("git worktree move ../b ../c; git worktree add -q -b fourth ../b");
        let common = fixture.root.join(".git");
        let outside = fixture.root.parent().unwrap();
        let branch_at = |name: &str| {
            let entry = entry_at(&common, &outside.join(name)).unwrap();
            entry.map(|entry| entry.branch().unwrap().to_owned())
        };
        let found = ["one/a", "two/a", "b", "c", "a", ".."].map(branch_at);
        let expected = [
            Some("a"),
            Some("second"),
            Some("fourth"),
            Some("b"),
            None,
            None,
        ];
        assert_eq!(found, expected.map(|name| name.map(str::to_owned)));
    }
}
