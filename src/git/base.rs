//! The commit that a story starts from when it needs the work of stories that are not merged yet.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::blocking;
use super::commit_id::CommitId;
use super::repository::{Repository, RepositoryError};
use super::runner::{Git, GitError};
use crate::story::id::StoryId;

/// The most conflicting files that an error names.
const MAX_NAMED_FILES: usize = 5;

/// Why there is no common base.
#[derive(Debug, Error)]
pub enum BaseError {
    /// The branch of a dependency does not exist.
    #[error("the branch `{branch}` of {story} does not exist")]
    MissingBranch {
        /// The dependency.
        story: StoryId,
        /// Its branch.
        branch: String,
    },
    /// The branch of a dependency does not merge with the base and the dependencies before it.
    #[error(
        "the branch `{branch}` of {story} conflicts with the base in {}",
        named(files)
    )]
    Conflict {
        /// The dependency.
        story: StoryId,
        /// Its branch.
        branch: String,
        /// The files in conflict.
        files: Vec<PathBuf>,
    },
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Git failed.
    #[error("failed to merge the branch `{branch}`")]
    Git {
        /// The branch.
        branch: String,
        /// Why.
        source: GitError,
    },
}

fn named(files: &[PathBuf]) -> String {
    let shown = files.iter().take(MAX_NAMED_FILES);
    let mut text = shown
        .map(|file| file.display().to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if files.len() > MAX_NAMED_FILES {
        text.push_str(", …");
    }
    text
}

/// The commit that contains `base` and the branches of all dependencies of `story`, merged in the given order.
///
/// Nothing is checked out and no branch moves: merges are made in memory, and the new commits belong to no branch
/// until one is created there. Without unmerged dependencies no process is started.
///
/// # Errors
/// When a branch is missing or conflicts, or git fails.
pub async fn base_with(
    git: &Git,
    repository: &Repository,
    story: &StoryId,
    base: CommitId,
    dependencies: &[(StoryId, String)],
) -> Result<CommitId, BaseError> {
    let mut current = base;
    for (dependency, branch) in dependencies {
        let missing = || BaseError::MissingBranch {
            story: dependency.clone(),
            branch: branch.clone(),
        };
        let (place, name) = (repository.clone(), branch.clone());
        let relation = blocking(move || relate(&place, current, &name)).await?;
        match relation.ok_or_else(missing)? {
            Relation::Contained => {}
            Relation::Ahead(tip) => current = tip,
            Relation::Diverged(tip) => {
                let merge = Merge {
                    git,
                    root: repository.root(),
                    ours: current,
                    theirs: tip,
                    branch,
                };
                let tree = merge.tree(dependency).await?;
                let message = format!("ai-sdlc: base of {story}: merge {branch}");
                current = merge.commit(&tree, message).await?;
            }
        }
    }
    Ok(current)
}

enum Relation {
    Contained,
    Ahead(CommitId),
    Diverged(CommitId),
}

fn relate(
    repository: &Repository,
    current: CommitId,
    branch: &str,
) -> Result<Option<Relation>, RepositoryError> {
    let Some(tip) = repository.branch_tip(branch)? else {
        return Ok(None);
    };
    Ok(Some(if repository.is_ancestor(tip, current)? {
        Relation::Contained
    } else if repository.is_ancestor(current, tip)? {
        Relation::Ahead(tip)
    } else {
        Relation::Diverged(tip)
    }))
}

struct Merge<'a> {
    git: &'a Git,
    root: &'a Path,
    ours: CommitId,
    theirs: CommitId,
    branch: &'a str,
}

impl Merge<'_> {
    async fn tree(&self, story: &StoryId) -> Result<String, BaseError> {
        let flags = [
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
        ];
        let call = self.git.call(self.root).args(flags).accept(&[0, 1]);
        let merged = call
            .arg(self.ours.to_string())
            .arg(self.theirs.to_string())
            .run()
            .await
            .map_err(|source| self.failed(source))?;
        let text = String::from_utf8_lossy(&merged.stdout);
        let mut fields = text.split('\0').filter(|field| !field.is_empty());
        let tree = fields.next().unwrap_or_default().to_owned();
        if merged.code == 0 {
            return Ok(tree);
        }
        Err(BaseError::Conflict {
            story: story.clone(),
            branch: self.branch.to_owned(),
            files: fields.map(PathBuf::from).collect(),
        })
    }

    async fn commit(&self, tree: &str, message: String) -> Result<CommitId, BaseError> {
        let parents = [self.ours.to_string(), self.theirs.to_string()];
        // The same parents give the same commit, whoever makes it and when: a preparation that is repeated finds its
        // branch where it would put it.
        let date = self.latest_parent(&parents).await?;
        let git = [("AUTHOR", &date), ("COMMITTER", &date)].into_iter().fold(
            self.git.clone(),
            |git, (role, date)| {
                git.with_variable(format!("GIT_{role}_NAME"), "ai-sdlc")
                    .with_variable(format!("GIT_{role}_EMAIL"), "ai-sdlc@localhost")
                    .with_variable(format!("GIT_{role}_DATE"), date)
            },
        );
        let call = git
            .call(self.root)
            .args(["commit-tree", "--no-gpg-sign", tree, "-F", "-"]);
        let made = call
            .args(["-p", &parents[0], "-p", &parents[1]])
            .input(message)
            .run()
            .await
            .map_err(|source| self.failed(source))?;
        let text = String::from_utf8_lossy(&made.stdout);
        Ok(text.trim().parse().expect("git prints the commit it made"))
    }

    /// The later of the dates at which the parents were committed, as git reads it.
    async fn latest_parent(&self, parents: &[String; 2]) -> Result<String, BaseError> {
        let call = self.git.call(self.root).read_only();
        let dates = call
            .args(["show", "--no-patch", "--format=%ct"])
            .args(parents)
            .run()
            .await
            .map_err(|source| self.failed(source))?;
        let text = String::from_utf8_lossy(&dates.stdout);
        let latest = text
            .lines()
            .filter_map(|line| line.parse::<u64>().ok())
            .max();
        Ok(format!("{} +0000", latest.unwrap_or_default()))
    }

    fn failed(&self, source: GitError) -> BaseError {
        BaseError::Git {
            branch: self.branch.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::Fixture;

    async fn base_of(fixture: &Fixture, branches: &[&str]) -> Result<CommitId, BaseError> {
        let story = "S-0009".parse().unwrap();
        let dependencies: Vec<_> = branches
            .iter()
            .map(|branch| ("S-0001".parse().unwrap(), (*branch).to_owned()))
            .collect();
        let repository = fixture.repository();
        let base = repository.resolve("trunk").unwrap();
        base_with(&fixture.git, &repository, &story, base, &dependencies).await
    }

    fn branch(fixture: &Fixture, name: &str, file: &str, text: &str) -> CommitId {
        fixture.sh(&format!("git checkout -q -b {name} trunk"));
        fixture.write(file, text);
        fixture.sh("git add -A && git commit -qm change");
        let commit = fixture.head();
        fixture.sh("git checkout -q trunk");
        commit
    }

    #[tokio::test]
    async fn merged_branches_change_nothing_and_a_branch_ahead_is_the_base() {
        let fixture = Fixture::new().await;
        fixture.sh("git branch done");
        let ahead = branch(&fixture, "ahead", "a.txt", "a");
        assert_eq!(base_of(&fixture, &["done"]).await.unwrap(), fixture.head());
        assert_eq!(base_of(&fixture, &["done", "ahead"]).await.unwrap(), ahead);
    }

    #[tokio::test]
    async fn diverged_branches_are_merged_without_touching_the_checkout() {
        let fixture = Fixture::new().await;
        let (a, b) = (
            branch(&fixture, "a", "a.txt", "a"),
            branch(&fixture, "b", "b.txt", "b"),
        );
        let base = base_of(&fixture, &["a", "b"]).await.unwrap();
        assert_eq!(base_of(&fixture, &["a", "b"]).await.unwrap(), base);
        let repository = fixture.repository();
        assert!(
            repository.is_ancestor(a, base).unwrap() && repository.is_ancestor(b, base).unwrap()
        );
        let shown = fixture.sh(&format!(
            "git log -1 --format=%s {base}; git ls-tree --name-only {base}"
        ));
        assert_eq!(
            shown,
            "ai-sdlc: base of S-0009: merge b\na.txt\nb.txt\ndir\nfile.txt\n"
        );
        assert_eq!(fixture.sh("git status --porcelain"), "");
    }

    #[tokio::test]
    async fn a_conflict_names_the_branch_and_the_files() {
        let fixture = Fixture::new().await;
        branch(&fixture, "a", "file.txt", "a\n");
        branch(&fixture, "b", "file.txt", "b\n");
        let error = base_of(&fixture, &["a", "b"]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the branch `b` of S-0001 conflicts with the base in file.txt"
        );
        let error = base_of(&fixture, &["gone"]).await.unwrap_err();
        assert!(matches!(error, BaseError::MissingBranch { .. }));
    }
}
