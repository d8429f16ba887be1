//! Repositories for tests: made with the git program in a temporary directory, without the user's configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::worktree::{WorktreeRequest, Worktrees};
use super::{CommitId, Git, Repository};
use crate::story::id::Slug;

/// A folder in memory, where there is a place for that: git waits for the disk again and again.
fn scratch() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let made = if in_memory.is_dir() {
        tempfile::tempdir_in(in_memory)
    } else {
        tempfile::tempdir()
    };
    made.unwrap()
}

pub(super) struct Fixture {
    _dir: TempDir,
    pub(super) root: PathBuf,
    pub(super) git: Git,
}

impl Fixture {
    /// A repository with one commit on the branch `trunk`, at a path with a space and a letter beyond ASCII.
    pub(super) async fn new() -> Self {
        let fixture = Self::empty().await;
        fixture.write("file.txt", "one\n");
        fixture.write("dir/other.txt", "other\n");
        fixture.sh("git add -A && git commit -qm first");
        fixture
    }

    /// A repository without a commit.
    pub(super) async fn empty() -> Self {
        let dir = scratch();
        let root = dir.path().canonicalize().unwrap().join("my répo");
        std::fs::create_dir(&root).unwrap();
        let git = Git::new()
            .await
            .unwrap()
            .with_variable("GIT_CONFIG_GLOBAL", "/dev/null")
            .with_variable("GIT_CONFIG_NOSYSTEM", "1");
        let fixture = Self {
            _dir: dir,
            root,
            git,
        };
        fixture.sh(
            "git init -q --template= -b trunk && mkdir .git/hooks .git/info && git config user.name Tester && git config user.email t@example.org",
        );
        fixture
    }

    pub(super) fn sh(&self, script: &str) -> String {
        sh(&self.root, script)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        write(&self.root, name, text);
    }

    pub(super) fn repository(&self) -> Repository {
        Repository::discover(&self.root).unwrap()
    }

    pub(super) fn worktrees(&self) -> Arc<Worktrees> {
        let base = self.root.join(".ai-sdlc/worktrees");
        Arc::new(Worktrees::new(self.repository(), self.git.clone(), &base).unwrap())
    }

    pub(super) fn head(&self) -> CommitId {
        self.sh("git rev-parse HEAD").trim().parse().unwrap()
    }

    pub(super) fn request(&self, id: &str) -> WorktreeRequest {
        WorktreeRequest {
            id: id.parse().unwrap(),
            slug: Slug::from_text("a title"),
            run: "20260101-000000-0000".parse().unwrap(),
            base_commit: self.head(),
        }
    }
}

pub(super) fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Runs a script in `dir` without the user's git configuration and gives its stdout; panics when it fails.
pub(super) fn sh(dir: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(dir)
        // So that the tests pass from a git hook, and prove with leaked variables that those do no harm.
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_WORK_TREE")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
