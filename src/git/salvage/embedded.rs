//! Repositories inside a worktree: made or cloned there by an agent. Git records at most the commit that they have
//! checked out, which nobody else has.
//!
//! Their files are recorded below their path as if there were no repository, ignored ones aside. Their `.git` folders are
//! recorded whole in a commit of their own, the last parent of the salvage: `0/path` holds the path (relative to the
//! worktree, as bytes), `0/git` the folder, and so on for every one. Git refuses the name `.git` in a tree.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use super::look::{Place, hidden_repositories, is_gitlink, is_repository, open_at, read_error};
use super::raw::removal_line;
use super::{DEADLINE, SalvageError, Work, blocking, configured, line};
use crate::git::commit::is_submodule;
use crate::git::runner::Git;

/// How much of a repository inside is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its files.
    Files,
    /// Its files and its `.git` folder.
    Everything,
}

/// The file in a tree of the last parent that holds the path of a repository.
pub(super) const PATH: &str = "path";
/// The folder beside it.
pub(super) const GIT: &str = "git";

impl Work<'_> {
    /// Replaces the repositories in an index by their files. Those without a commit are not in there, and given.
    pub(super) async fn take_in_repositories(
        &mut self,
        git: &Git,
        index: &Path,
        directory: &Path,
        below: &Path,
        without_commit: Vec<PathBuf>,
    ) -> Result<(), SalvageError> {
        let (mut inner, hidden) = self.recorded(index, directory).await?;
        inner.extend(without_commit);
        inner.sort();
        inner.dedup();
        for path in inner {
            self.number += 1;
            let own_index = self.folder.file(&format!("index-{}", self.number));
            let inside = directory.join(&path);
            let name = below.join(&path);
            let tree = self.boxed_tree(&own_index, &inside, &name).await?;
            let removal = removal_line(&path);
            let call = git
                .call(directory)
                .args(["update-index", "-z", "--index-info"]);
            let output = call.input(removal).run().await;
            output.map_err(|source| self.failed(source))?;
            let mut prefix = OsString::from("--prefix=");
            prefix.push(&path);
            prefix.push("/");
            let call = git.call(directory).arg("read-tree").arg(prefix).arg(tree);
            let output = call.deadline(DEADLINE).run().await;
            output.map_err(|source| self.failed(source))?;
            if self.extent == Extent::Everything && inside.join(".git").is_dir() {
                self.keep_git_folder(&inside, name).await?;
            }
        }
        for path in hidden {
            let (inside, name) = (directory.join(&path), below.join(&path));
            match self.extent {
                Extent::Files => {}
                Extent::Everything if inside.join(".git").is_dir() => {
                    self.keep_git_folder(&inside, name).await?;
                }
                // A file, which git takes for the way to a repository and records as little.
                Extent::Everything => self.left_out.push(name.join(".git")),
            }
        }
        Ok(())
    }

    /// A repository inside may have one inside, and so on.
    fn boxed_tree<'a>(
        &'a mut self,
        index: &'a Path,
        directory: &'a Path,
        below: &'a Path,
    ) -> Pin<Box<dyn Future<Output = Result<String, SalvageError>> + Send + 'a>> {
        Box::pin(self.tree(index, directory, below))
    }

    /// The repositories that an index records as commits, submodules aside, and those that were made around files which
    /// it records.
    async fn recorded(
        &self,
        index: &Path,
        directory: &Path,
    ) -> Result<(Vec<PathBuf>, Vec<PathBuf>), SalvageError> {
        let place = Place {
            worktree: directory.to_owned(),
            git_dir: self.place.git_dir.clone(),
        };
        let index = index.to_owned();
        let is_outermost = directory == self.place.worktree;
        let found = blocking(move || {
            let opened = open_at(&place)?;
            let failed = |source| read_error(&place, source);
            let index = git2::Index::open(&index).map_err(failed)?;
            let mut found = Vec::new();
            for entry in index.iter().filter(|entry| is_gitlink(entry.mode)) {
                let path = PathBuf::from(OsStr::from_bytes(&entry.path));
                let is_known = is_outermost && is_submodule(&opened, &path);
                if is_repository(&place.worktree.join(&path)) && !is_known {
                    found.push(path);
                }
            }
            let hidden = hidden_repositories(&place.worktree, &index);
            Ok::<_, SalvageError>((found, hidden))
        });
        found.await
    }

    /// Saves the `.git` folder of a repository, byte for byte.
    async fn keep_git_folder(&mut self, inside: &Path, name: PathBuf) -> Result<(), SalvageError> {
        let folder = &inside.join(".git");
        self.number += 1;
        let index = self.folder.file(&format!("index-{}", self.number));
        let git = as_they_are(&self.git)
            .with_variable("GIT_INDEX_FILE", &index)
            .with_variable("GIT_WORK_TREE", folder);
        let call = git.call(folder);
        let call = call.args([
            "add",
            "--all",
            "--force",
            "--ignore-errors",
            "--sparse",
            ".",
        ]);
        if let Err(source) = call.deadline(DEADLINE).run().await {
            match self.failed(source) {
                SalvageError::Git { source, .. } => {
                    tracing::warn!(%source, path = %name.display(), "a repository inside is not saved as a whole");
                    self.left_out.push(name.join(".git"));
                }
                error => return Err(error),
            }
        }
        let tree = self.write_tree(&git, folder).await?;
        self.inner.push((name, tree));
        Ok(())
    }

    /// The tree with all `.git` folders; none without any.
    pub(super) async fn tree_of_git_folders(&self) -> Result<Option<String>, SalvageError> {
        if self.inner.is_empty() {
            return Ok(None);
        }
        let mut entries = Vec::new();
        for (number, (path, tree)) in self.inner.iter().enumerate() {
            let call = self.git.call(&self.place.worktree);
            let call = call.args(["hash-object", "-w", "--stdin"]);
            let output = call.input(path.as_os_str().as_bytes()).run().await;
            let blob = line(&output.map_err(|source| self.failed(source))?.stdout);
            let made = format!("040000 tree {tree}\t{GIT}\n100644 blob {blob}\t{PATH}\n");
            let made = self.make_tree(made).await?;
            entries.push(format!("040000 tree {made}\t{number}\n"));
        }
        self.make_tree(entries.concat()).await.map(Some)
    }

    async fn make_tree(&self, entries: String) -> Result<String, SalvageError> {
        let call = self.git.call(&self.place.worktree).arg("mktree");
        let output = call.input(entries).run().await;
        Ok(line(&output.map_err(|source| self.failed(source))?.stdout))
    }
}

/// A git that changes no byte and ignores no file.
pub(super) fn as_they_are(git: &Git) -> Git {
    const SETTINGS: &[(&str, &str)] = &[
        ("core.hooksPath", "/dev/null"),
        ("core.autocrlf", "false"),
        ("core.eol", "lf"),
        ("core.attributesFile", "/dev/null"),
        ("core.excludesFile", "/dev/null"),
        ("core.sparseCheckout", "false"),
        ("advice.addEmbeddedRepo", "false"),
    ];
    configured(git.clone(), SETTINGS)
}
