//! What ties a worktree to its repository, and whether it still does.
//!
//! Whoever works in a worktree can write to its `.git` file and to its administrative directory. A git that is called
//! there takes its configuration, and with it programs to run, from wherever those lead, and writes through the symbolic
//! links in there. So before a git of ours is called for somebody who could not run that program, or write there,
//! himself, it is looked whether both are still what git has made. Nothing is repaired.

use std::collections::BTreeMap;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::admin::read_line;

/// The settings of a worktree alone that work in it may change: which files of the repository it has. None of them names
/// a program.
const SPARSE: [&str; 3] = [
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "index.sparse",
];

/// A worktree and the directories that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub(super) worktree: PathBuf,
    /// Its administrative directory.
    pub(super) git_dir: PathBuf,
    common_dir: PathBuf,
    /// The worktree's own settings, as they were.
    settings: Settings,
}

/// Something is not as git has made it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} {what}: no git is called in {} any more", path.display(), worktree.display())]
pub struct LinkError {
    path: PathBuf,
    what: &'static str,
    worktree: PathBuf,
}

impl Link {
    /// That of a worktree as it is now, before anybody works in it. Blocks.
    ///
    /// # Errors
    /// When it is none, or not as git has made it.
    pub fn read(worktree: &Path) -> Result<Self, LinkError> {
        let git_dir = target(worktree).ok_or_else(|| LinkError {
            path: worktree.join(".git"),
            what: "names no repository",
            worktree: worktree.to_owned(),
        })?;
        let link = Self::between(worktree, &git_dir);
        link.check(None).map(|()| link)
    }

    /// The one that there should be, as the repository says.
    pub(super) fn between(worktree: &Path, git_dir: &Path) -> Self {
        Self {
            worktree: worktree.to_owned(),
            common_dir: common_dir_of(git_dir).to_owned(),
            settings: settings(git_dir),
            git_dir: git_dir.to_owned(),
        }
    }

    /// The worktree.
    pub fn worktree(&self) -> &Path {
        &self.worktree
    }

    /// Whether it still is what it was; with what git writes to for a commit on `branch`, if one is given. A `.git` that is
    /// gone is none of its business: no repository is found then. Blocks.
    ///
    /// # Errors
    /// What is different.
    pub fn check(&self, branch: Option<&str>) -> Result<(), LinkError> {
        let pointer = self.worktree.join(".git");
        match fs::symlink_metadata(&pointer) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(data) if data.is_file() => {}
            _ => return Err(self.wrong(pointer, "is not the file that git has made")),
        }
        if !target(&self.worktree).is_some_and(|target| same(&target, &self.git_dir)) {
            return Err(self.wrong(pointer, "names another repository"));
        }
        for folder in ["", "logs"] {
            let Some(branch) = branch else { break };
            let path = self.common_dir.join(folder).join("refs/heads").join(branch);
            if fs::symlink_metadata(&path).is_ok_and(|data| !data.is_file()) {
                return Err(self.wrong(path, "is no file"));
            }
        }
        self.check_git_dir()
    }

    /// Likewise of the administrative directory alone, for a git that is told where that is.
    ///
    /// # Errors
    /// What is different.
    pub(super) fn check_git_dir(&self) -> Result<(), LinkError> {
        if let Some(path) = foreign(&self.git_dir).or_else(|| foreign(&self.git_dir.join("logs"))) {
            return Err(self.wrong(path, "is neither a file nor a folder"));
        }
        // Without that file it is no repository at all, as one that was not made to its end.
        let common = read_line(&self.git_dir.join("commondir"));
        if common.is_some_and(|common| !same(&self.git_dir.join(common), &self.common_dir)) {
            return Err(self.wrong(self.git_dir.join("commondir"), "names another repository"));
        }
        if settings(&self.git_dir) != self.settings {
            let path = self.git_dir.join("config.worktree");
            return Err(self.wrong(path, "has other settings than before"));
        }
        Ok(())
    }

    fn wrong(&self, path: PathBuf, what: &'static str) -> LinkError {
        LinkError {
            path,
            what,
            worktree: self.worktree.clone(),
        }
    }
}

/// The directory that all worktrees share, of the administrative directory of one.
pub(super) fn common_dir_of(git_dir: &Path) -> &Path {
    let worktrees = git_dir.parent();
    let worktrees = worktrees.filter(|parent| parent.ends_with("worktrees"));
    worktrees.and_then(Path::parent).unwrap_or(git_dir)
}

/// What the `.git` file of a worktree names.
fn target(worktree: &Path) -> Option<PathBuf> {
    let text = read_line(&worktree.join(".git"))?;
    let named = text.strip_prefix("gitdir: ")?;
    worktree.join(named).canonicalize().ok()
}

fn same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// What is in a folder and neither a file nor a folder itself. A socket is where git's own watcher of files is reached.
fn foreign(folder: &Path) -> Option<PathBuf> {
    let is_usual = |kind: FileType| kind.is_file() || kind.is_dir() || kind.is_socket();
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.find(|entry| !entry.file_type().is_ok_and(is_usual));
    found.map(|entry| entry.path())
}

/// Settings of a worktree alone, but for those that work in it may change; none where there are none.
type Settings = Option<BTreeMap<String, Vec<Vec<u8>>>>;

fn settings(git_dir: &Path) -> Settings {
    let path = git_dir.join("config.worktree");
    fs::symlink_metadata(&path).ok()?;
    let mut settings: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let read = git2::Config::open(&path).and_then(|config| {
        config.entries(None)?.for_each(|entry| {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            if !SPARSE.contains(&&*name) {
                settings
                    .entry(name)
                    .or_default()
                    .push(entry.value_bytes().to_vec());
            }
        })
    });
    if let Err(error) = read {
        tracing::debug!(%error, path = %path.display(), "settings that cannot be read");
        settings.insert("unreadable".to_owned(), Vec::new());
    }
    // A file without any counts as none: git makes one to write to it.
    (!settings.is_empty()).then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::{Fixture, sh};

    #[tokio::test]
    async fn honest_work_leaves_it_as_it_is() {
        let fixture = Fixture::new().await;
        fixture
            .sh("git worktree add -q -b ai-sdlc/x ../w; git config extensions.worktreeConfig true");
        let worktree = fixture.root.parent().unwrap().join("w");
        let link = Link::read(&worktree).unwrap();
        sh(
            &worktree,
            "echo 1 > a; git add a; git commit -qm a; git commit -q --amend -m b; git stash -q || true; \
             git sparse-checkout set dir; git rebase -q HEAD~1; git switch -q -c other; git switch -q -",
        );
        assert_eq!(link.check(Some("ai-sdlc/x")), Ok(()));
        let watcher = link.git_dir.join("fsmonitor--daemon.ipc");
        let _watcher = std::os::unix::net::UnixListener::bind(watcher).unwrap();
        sh(&worktree, "rm .git");
        assert_eq!(link.check(Some("ai-sdlc/x")), Ok(()));
    }

    #[tokio::test]
    async fn whatever_leads_elsewhere_is_seen() {
        let lies = [
            ("rm .git; git init -q", "is not the file"),
            ("mv .git l; ln -s l .git", "is not the file"),
            ("rm .git; mkfifo .git", "is not the file"),
            (
                "rm .git; git init -q --separate-git-dir=../e",
                "names another repository",
            ),
            (
                "echo gitdir: ../main/.git > .git",
                "names another repository",
            ),
            (
                "git init -q ../e; echo ../../../../e/.git > $A/commondir",
                "commondir names another",
            ),
            (
                "ln -s ../../../file.txt $A/COMMIT_EDITMSG",
                "COMMIT_EDITMSG is neither",
            ),
            ("mv $A/index i; ln -s $PWD/i $A/index", "index is neither"),
            ("rm $A/HEAD; mkfifo $A/HEAD", "HEAD is neither"),
            (
                "mv $A/logs/HEAD h; ln -s $PWD/h $A/logs/HEAD",
                "HEAD is neither",
            ),
            ("ln -sf $PWD/x $C/logs/refs/heads/ai-sdlc/x", "x is no file"),
            ("ln -sf ../trunk $C/refs/heads/ai-sdlc/x", "x is no file"),
            (
                "git config -f $A/config.worktree core.fsmonitor evil",
                "has other settings",
            ),
            (
                "git config -f $A/config.worktree include.path /evil",
                "has other settings",
            ),
        ];
        for (lie, expected) in lies {
            let fixture = Fixture::new().await;
            fixture.sh("git worktree add -q -b ai-sdlc/x ../w");
            let worktree = fixture.root.parent().unwrap().join("w");
            let link = Link::read(&worktree).unwrap();
            let places = format!(
                "IFS=; A='{}' C='{}'; {lie}",
                link.git_dir.display(),
                link.common_dir.display()
            );
            sh(&worktree, &places);
            let error = link.check(Some("ai-sdlc/x")).unwrap_err().to_string();
            assert!(error.contains(expected), "{lie}: {error}");
        }
    }
}
