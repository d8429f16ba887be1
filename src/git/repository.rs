//! What can be read from the user's repository, by libgit2 in this process.
//!
//! A [`Repository`] is plain data: it holds no open repository, and every question opens one (tens of
//! microseconds). All functions here block; async callers put them on a blocking thread where it matters.

use std::io;
use std::path::{Path, PathBuf};

use git2::ErrorCode;
use thiserror::Error;

use super::admin::{self, WorktreeEntry};
use super::changes::{self, Changes};
use super::commit_id::CommitId;
use super::worktree::LOCK_PREFIX;

/// What the names of our branches begin with.
pub const BRANCH_PREFIX: &str = "ai-sdlc/";

/// Files above this size count as binary in a [`DiffStat`], so that a large one is not read for its lines (bytes).
pub(super) const MAX_DIFFED_FILE: i64 = 8 * 1024 * 1024;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    common_dir: PathBuf,
    root: PathBuf,
    work_tree: WorkTree,
}

/// What kind of work tree it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkTree {
    /// The main one of its repository.
    Main,
    /// Made by `git worktree add`, by whatever program.
    Linked,
    /// A linked one that was made for a story (by any run), whatever is checked out in it.
    Story,
}

/// Why a repository cannot be used or a question about it not be answered.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// There is no repository here or above.
    #[error("{} is not in a git repository", path.display())]
    NotARepository {
        /// Where the search began.
        path: PathBuf,
    },
    /// The repository has no work tree.
    #[error("{} is a bare repository: a checkout is needed", path.display())]
    Bare {
        /// The repository.
        path: PathBuf,
    },
    /// Nothing has been committed.
    #[error("the repository {} has no commit yet", path.display())]
    NoCommit {
        /// The work tree.
        path: PathBuf,
    },
    /// The repository is stored in a way that libgit2 cannot read.
    #[error(
        "the repository at {} has a format that is not supported (reftable, SHA-256 or another extension): {detail}",
        path.display()
    )]
    Format {
        /// Where the search began.
        path: PathBuf,
        /// What libgit2 said.
        detail: String,
    },
    /// The repository belongs to another user.
    #[error(
        "the repository of {} belongs to another user: {detail} (to trust it, run \
         `git config --global --add safe.directory <path>` with that path)",
        path.display()
    )]
    Owner {
        /// Where the search began.
        path: PathBuf,
        /// What libgit2 said; it names the path that must be trusted.
        detail: String,
    },
    /// There is no such branch, tag or commit.
    #[error("`{revision}` is not a branch, tag or commit of {}", path.display())]
    UnknownRevision {
        /// What was asked for.
        revision: String,
        /// The work tree.
        path: PathBuf,
    },
    /// The list of worktrees cannot be read.
    #[error("failed to list the worktrees in {}", path.display())]
    Worktrees {
        /// The common directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed.
    #[error("failed to read {what} of the repository at {}", path.display())]
    Read {
        /// What was to be read.
        what: &'static str,
        /// The work tree or the directory that was opened.
        path: PathBuf,
        /// What libgit2 said.
        source: git2::Error,
    },
}

/// What a work tree has checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A branch.
    Branch {
        /// Its name, without `refs/heads/`.
        name: String,
        /// Its tip.
        commit: CommitId,
    },
    /// A commit without a branch.
    Detached {
        /// The commit.
        commit: CommitId,
    },
}

impl Head {
    /// The commit, on a branch or not.
    pub fn commit(&self) -> CommitId {
        match self {
            Self::Branch { commit, .. } | Self::Detached { commit } => *commit,
        }
    }
}

/// How much one commit differs from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffStat {
    /// Commits that are in the second and not in the first.
    pub commits: usize,
    /// Files that differ.
    pub files: usize,
    /// Lines added; binary files and files above 8 MiB count none.
    pub insertions: usize,
    /// Lines removed, likewise.
    pub deletions: usize,
}

impl Repository {
    /// Finds the repository that `start` is in.
    ///
    /// # Errors
    /// When there is none, or it is bare, has no commit, or cannot be read.
    pub fn discover(start: &Path) -> Result<Self, RepositoryError> {
        let opened = git2::Repository::discover(start).map_err(|error| open_error(start, error))?;
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let common_dir = absolute(opened.commondir());
        let Some(root) = opened.workdir().map(absolute) else {
            return Err(RepositoryError::Bare { path: common_dir });
        };
        let repository = Self {
            common_dir,
            root,
            work_tree: work_tree(&opened),
        };
        match opened.head() {
            Ok(_) => Ok(repository),
            Err(error) if error.code() == ErrorCode::UnbornBranch => {
                Err(RepositoryError::NoCommit {
                    path: repository.root,
                })
            }
            Err(error) => Err(repository.read_error("HEAD", error)),
        }
    }

    /// The directory that all worktrees share (`.git` of the main checkout).
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The root of the work tree that the search began in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What kind of work tree that is.
    pub fn work_tree(&self) -> WorkTree {
        self.work_tree
    }

    /// What the work tree at [`Self::root`] has checked out.
    pub fn head(&self) -> Result<Head, RepositoryError> {
        self.head_of(&self.root)
    }

    /// What the work tree at `path` has checked out.
    pub fn head_of(&self, path: &Path) -> Result<Head, RepositoryError> {
        let opened = open(path)?;
        let head = opened
            .head()
            .map_err(|error| self.read_error("HEAD", error))?;
        let commit = head
            .peel_to_commit()
            .map_err(|error| self.read_error("HEAD", error))?
            .id()
            .into();
        Ok(if head.is_branch() {
            let name = String::from_utf8_lossy(head.shorthand_bytes()).into_owned();
            Head::Branch { name, commit }
        } else {
            Head::Detached { commit }
        })
    }

    /// The commit that a revision names: a local branch, else a remote branch (`origin/x`, or `x` of `origin`),
    /// else a tag, else whatever git's revision syntax makes of it (a hash, `HEAD~1`).
    pub fn resolve(&self, revision: &str) -> Result<CommitId, RepositoryError> {
        let opened = self.open_common()?;
        for namespace in [
            "refs/heads/",
            "refs/remotes/",
            "refs/remotes/origin/",
            "refs/tags/",
        ] {
            let found = opened.find_reference(&format!("{namespace}{revision}"));
            if let Ok(commit) = found.and_then(|reference| reference.peel_to_commit()) {
                return Ok(commit.id().into());
            }
        }
        // `HEAD` means that of the work tree, which the common directory does not know of a linked one.
        let opened = open(&self.root)?;
        let found = opened
            .revparse_single(revision)
            .and_then(|object| object.peel_to_commit());
        match found {
            Ok(commit) => Ok(commit.id().into()),
            Err(_) => Err(RepositoryError::UnknownRevision {
                revision: revision.chars().take(200).collect(),
                path: self.root.clone(),
            }),
        }
    }

    /// The tip of a local branch; none when there is no such branch.
    pub fn branch_tip(&self, name: &str) -> Result<Option<CommitId>, RepositoryError> {
        let opened = self.open_common()?;
        let found = opened.find_reference(&format!("refs/heads/{name}"));
        match found.and_then(|reference| reference.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit.id().into())),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.read_error("a branch", error)),
        }
    }

    /// Whether `ancestor` is `descendant` or in its history.
    pub fn is_ancestor(
        &self,
        ancestor: CommitId,
        descendant: CommitId,
    ) -> Result<bool, RepositoryError> {
        if ancestor == descendant {
            return Ok(true);
        }
        self.open_common()?
            .graph_descendant_of(descendant.oid(), ancestor.oid())
            .map_err(|error| self.read_error("the history", error))
    }

    /// The names of the local branches that begin with `prefix`, such as [`BRANCH_PREFIX`], sorted.
    pub fn branches_with_prefix(&self, prefix: &str) -> Result<Vec<String>, RepositoryError> {
        let failed = |error| self.read_error("the branches", error);
        let opened = self.open_common()?;
        let mut names = Vec::new();
        for branch in opened
            .branches(Some(git2::BranchType::Local))
            .map_err(failed)?
        {
            let (branch, _) = branch.map_err(failed)?;
            let name = String::from_utf8_lossy(branch.name_bytes().map_err(failed)?).into_owned();
            if name.starts_with(prefix) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// What is changed or untracked (and not ignored) in the work tree at `worktree`, except below the folder
    /// `ignoring` (relative to that work tree, with `/`).
    pub fn status(
        &self,
        worktree: &Path,
        ignoring: Option<&str>,
    ) -> Result<Changes, RepositoryError> {
        changes::read(&open(worktree)?, ignoring)
            .map_err(|error| self.read_error("the status", error))
    }

    /// How much `head` differs from `base`. The trees are compared as they are: of a branch, pass the commit that
    /// it started from.
    pub fn diff_stat(&self, base: CommitId, head: CommitId) -> Result<DiffStat, RepositoryError> {
        diff_stat(&self.open_common()?, base, head)
            .map_err(|error| self.read_error("a difference", error))
    }

    /// The linked worktrees, whoever made them, sorted by path.
    pub fn worktrees(&self) -> Result<Vec<WorktreeEntry>, RepositoryError> {
        admin::entries(&self.common_dir).map_err(|source| self.list_error(source))
    }

    /// The linked worktree whose directory is `path` (resolved), whether that exists or not.
    pub(super) fn worktree_at(
        &self,
        path: &Path,
    ) -> Result<Option<WorktreeEntry>, RepositoryError> {
        admin::entry_at(&self.common_dir, path).map_err(|source| self.list_error(source))
    }

    /// Where the branch is checked out besides `path`, as the files of the worktrees say; the directory may be missing.
    pub(super) fn checked_out_elsewhere(
        &self,
        branch: &str,
        path: &Path,
    ) -> Result<Option<PathBuf>, RepositoryError> {
        let entries = self.worktrees()?;
        let linked = entries
            .into_iter()
            .find(|entry| entry.path != path && entry.branch() == Some(branch));
        if let Some(entry) = linked {
            return Ok(Some(entry.path));
        }
        let opened = self.open_common()?;
        let head = opened
            .find_reference("HEAD")
            .map_err(|error| self.read_error("HEAD", error))?;
        let target = head.symbolic_target_bytes();
        let is_checked_out = target.is_some_and(|name| {
            name.strip_prefix(b"refs/heads/".as_slice()) == Some(branch.as_bytes())
        });
        // A bare repository has nothing checked out.
        let main = opened.workdir().filter(|_| is_checked_out);
        Ok(main.map(Path::to_owned))
    }

    /// Whether a post-checkout hook may have to run: unsure is yes, because the answer only saves a process.
    pub(super) fn may_have_checkout_hook(&self) -> Result<bool, RepositoryError> {
        // libgit2 does not read the files that these name, and they may say where the hooks are.
        let elsewhere = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"];
        if elsewhere
            .iter()
            .any(|name| std::env::var_os(name).is_some())
            || self.common_dir.join("hooks/post-checkout").exists()
        {
            return Ok(true);
        }
        let config = self
            .open_common()?
            .config()
            .and_then(|mut config| config.snapshot())
            .map_err(|error| self.read_error("the configuration", error))?;
        Ok(config.get_bytes("core.hooksPath").is_ok())
    }

    fn list_error(&self, source: io::Error) -> RepositoryError {
        RepositoryError::Worktrees {
            path: self.common_dir.clone(),
            source,
        }
    }

    pub(super) fn open_common(&self) -> Result<git2::Repository, RepositoryError> {
        open(&self.common_dir)
    }

    pub(super) fn read_error(&self, what: &'static str, source: git2::Error) -> RepositoryError {
        RepositoryError::Read {
            what,
            path: self.root.clone(),
            source,
        }
    }
}

fn work_tree(opened: &git2::Repository) -> WorkTree {
    if !opened.is_worktree() {
        return WorkTree::Main;
    }
    // The path of a linked one is its administrative directory.
    match std::fs::read(opened.path().join("locked")) {
        Ok(reason) if reason.starts_with(LOCK_PREFIX.as_bytes()) => WorkTree::Story,
        _ => WorkTree::Linked,
    }
}

/// Opens exactly this repository, without looking above it.
pub(super) fn open(path: &Path) -> Result<git2::Repository, RepositoryError> {
    git2::Repository::open(path).map_err(|error| open_error(path, error))
}

pub(super) fn diff_stat(
    opened: &git2::Repository,
    base: CommitId,
    head: CommitId,
) -> Result<DiffStat, git2::Error> {
    if base == head {
        return Ok(DiffStat::default());
    }
    let mut walk = opened.revwalk()?;
    walk.push(head.oid())?;
    walk.hide(base.oid())?;
    let old = opened.find_commit(base.oid())?.tree()?;
    let new = opened.find_commit(head.oid())?.tree()?;
    let mut options = git2::DiffOptions::new();
    options.max_size(MAX_DIFFED_FILE).ignore_submodules(true);
    let diff = opened.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))?;
    let stats = diff.stats()?;
    Ok(DiffStat {
        commits: walk.count(),
        files: stats.files_changed(),
        insertions: stats.insertions(),
        deletions: stats.deletions(),
    })
}

fn open_error(path: &Path, source: git2::Error) -> RepositoryError {
    let path = path.to_owned();
    let detail = source.message();
    let is_format = [
        "extension",
        "object format",
        "repository version",
        "repositoryformat",
    ]
    .iter()
    .any(|word| detail.contains(word));
    match source.code() {
        ErrorCode::NotFound => RepositoryError::NotARepository { path },
        ErrorCode::Owner => RepositoryError::Owner {
            path,
            detail: detail.to_owned(),
        },
        _ if is_format => RepositoryError::Format {
            path,
            detail: detail.to_owned(),
        },
        _ => RepositoryError::Read {
            what: "the configuration",
            path,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::{Fixture, sh, write};

    #[tokio::test]
    async fn a_repository_is_found_from_a_folder_inside_it() {
        let fixture = Fixture::new().await;
        let found = Repository::discover(&fixture.root.join("dir")).unwrap();
        assert_eq!(found.root(), fixture.root);
        assert_eq!(found.common_dir(), fixture.root.join(".git"));
        assert!(found.work_tree() == WorkTree::Main);
        let commit = fixture.head();
        let name = "trunk".to_owned();
        assert_eq!(found.head().unwrap(), Head::Branch { name, commit });
        fixture.sh("git checkout -q --detach");
        assert_eq!(found.head().unwrap(), Head::Detached { commit });
    }

    #[tokio::test]
    async fn a_linked_worktree_knows_its_own_root_and_the_common_directory() {
        let fixture = Fixture::new().await;
        fixture.sh("git worktree add -q -b side ../side");
        let found = Repository::discover(&fixture.root.join("../side")).unwrap();
        assert!(found.work_tree() != WorkTree::Main);
        assert_eq!(found.common_dir(), fixture.root.join(".git"));
        assert_eq!(found.root().file_name().unwrap(), "side");
        assert!(matches!(found.head().unwrap(), Head::Branch { name, .. } if name == "side"));
        // A bare repository whose checkouts are all linked ones is a common arrangement.
        fixture
            .sh("git clone -q --bare . ../x.git; git -C ../x.git worktree add -q ../of-bare trunk");
        let found = Repository::discover(&fixture.root.join("../of-bare")).unwrap();
        assert!(found.common_dir().ends_with("x.git"));
        assert_eq!(
            found.resolve("HEAD").unwrap(),
            found.resolve("trunk").unwrap()
        );
    }

    #[tokio::test]
    async fn the_worktree_of_a_story_is_known_whatever_is_checked_out() {
        let fixture = Fixture::new().await;
        let request = fixture.request("S-0001");
        let made = fixture.worktrees().prepare(&request).await.unwrap();
        fixture.sh("git worktree add -q -b ai-sdlc/like-ours ../side");
        fixture.sh("git worktree lock --reason 'my disk' ../side");
        let kind = |path: &Path| Repository::discover(path).unwrap().work_tree();
        assert_eq!(kind(&fixture.root), WorkTree::Main);
        assert_eq!(kind(&fixture.root.join("../side")), WorkTree::Linked);
        assert_eq!(kind(&made.path), WorkTree::Story);
        sh(&made.path, "git checkout -q --detach");
        assert_eq!(kind(&made.path.join("dir")), WorkTree::Story);
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |name: &str| Repository::discover(&dir.path().join(name)).unwrap_err();
        sh(
            dir.path(),
            "mkdir plain; git init -q --bare bare; git init -q empty",
        );
        sh(
            dir.path(),
            "git init -q --ref-format=reftable reftable; git init -q --object-format=sha256 sha256",
        );
        assert!(matches!(
            refusal("plain"),
            RepositoryError::NotARepository { .. }
        ));
        assert!(matches!(refusal("bare"), RepositoryError::Bare { .. }));
        assert!(matches!(refusal("empty"), RepositoryError::NoCommit { .. }));
        for name in ["reftable", "sha256"] {
            let error = refusal(name);
            assert!(matches!(error, RepositoryError::Format { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_revision_is_a_branch_before_it_is_anything_else() {
        let fixture = Fixture::new().await;
        let first = fixture.head();
        fixture
            .sh("git tag v1; git update-ref refs/remotes/origin/remote-only HEAD; git branch side");
        fixture.sh("git commit -q --allow-empty -m second && git tag side");
        let second = fixture.head();
        let repository = fixture.repository();
        for (revision, commit) in [
            ("trunk", second),
            ("side", first),
            ("remote-only", first),
            ("origin/remote-only", first),
            ("v1", first),
            ("HEAD~1", first),
            (&first.to_string(), first),
        ] {
            assert_eq!(repository.resolve(revision).unwrap(), commit, "{revision}");
        }
        for wrong in ["", "nothing", "-x", "HEAD:file.txt"] {
            let error = repository.resolve(wrong).unwrap_err();
            assert!(
                matches!(error, RepositoryError::UnknownRevision { .. }),
                "{error:?}"
            );
        }
        assert!(repository.is_ancestor(first, second).unwrap());
        assert!(!repository.is_ancestor(second, first).unwrap());
        assert_eq!(repository.branch_tip("side").unwrap(), Some(first));
        assert_eq!(repository.branch_tip("nothing").unwrap(), None);
    }

    #[tokio::test]
    async fn our_branches_are_listed_and_a_difference_is_counted() {
        let fixture = Fixture::new().await;
        let base = fixture.head();
        fixture.sh("git branch ai-sdlc/S-2-b; git branch ai-sdlc/S-1-a");
        write(&fixture.root, "file.txt", "two\nthree\n");
        fixture.sh("git commit -qam change");
        let repository = fixture.repository();
        let names = repository.branches_with_prefix(BRANCH_PREFIX).unwrap();
        assert_eq!(names, ["ai-sdlc/S-1-a", "ai-sdlc/S-2-b"]);
        let stat = repository.diff_stat(base, fixture.head()).unwrap();
        let expected = DiffStat {
            commits: 1,
            files: 1,
            insertions: 2,
            deletions: 1,
        };
        assert_eq!(stat, expected);
    }
}
