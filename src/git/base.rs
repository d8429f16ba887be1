//! The commit that a story starts from when it needs the work of stories that are not merged yet.

use std::fmt;
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
    /// The branch of a dependency does not merge with what comes before it. No repetition changes that.
    #[error(
        "the branch `{branch}` of {story} conflicts with {against} in {}",
        named(files)
    )]
    Conflict {
        /// The dependency.
        story: StoryId,
        /// Its branch.
        branch: String,
        /// What it conflicts with.
        against: Against,
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

/// What the branch of a dependency conflicts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// What stories start from.
    Base,
    /// The branch of another dependency.
    Dependency {
        /// The dependency.
        story: StoryId,
        /// Its branch.
        branch: String,
    },
    /// None of these alone: what the base and the dependencies before it come to together.
    Merged,
}

impl fmt::Display for Against {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => formatter.write_str("the base"),
            Self::Dependency { story, branch } => write!(formatter, "`{branch}` of {story}"),
            Self::Merged => formatter.write_str("the other dependencies, merged with the base,"),
        }
    }
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
    // The dependencies that are merged by now.
    let mut merged: Vec<(&StoryId, &str, CommitId)> = Vec::new();
    for (dependency, branch) in dependencies {
        let missing = || BaseError::MissingBranch {
            story: dependency.clone(),
            branch: branch.clone(),
        };
        let (place, name) = (repository.clone(), branch.clone());
        let relation = blocking(move || relate(&place, current, &name)).await?;
        match relation.ok_or_else(missing)? {
            Relation::Contained => {}
            Relation::Ahead(tip) => {
                merged.push((dependency, branch, tip));
                current = tip;
            }
            Relation::Diverged(tip) => {
                let merge = Merge {
                    git,
                    root: repository.root(),
                    ours: current,
                    theirs: tip,
                    branch,
                };
                let tree = match merge.tree().await? {
                    Merged::Tree(tree) => tree,
                    Merged::Conflict(files) => {
                        let others = [base].into_iter().chain(merged.iter().map(|of| of.2));
                        let first = merge.first_conflict(others).await?;
                        return Err(conflict((dependency, branch), &merged, first, files));
                    }
                };
                merged.push((dependency, branch, tip));
                let message = format!("ai-sdlc: base of {story}: merge {branch}");
                current = merge.commit(&tree, message).await?;
            }
        }
    }
    Ok(current)
}

/// Says what a dependency conflicts with: `first` is the first that does so alone, with 0 for the base and the others
/// after it, and the files.
fn conflict(
    (story, branch): (&StoryId, &str),
    merged: &[(&StoryId, &str, CommitId)],
    first: Option<(usize, Vec<PathBuf>)>,
    files: Vec<PathBuf>,
) -> BaseError {
    let (against, files) = match first {
        None => (Against::Merged, files),
        Some((0, files)) => (Against::Base, files),
        Some((place, files)) => {
            let against = merged.get(place - 1).map(|(story, branch, _)| {
                let (story, branch) = ((*story).clone(), (*branch).to_owned());
                Against::Dependency { story, branch }
            });
            (against.unwrap_or(Against::Merged), files)
        }
    };
    BaseError::Conflict {
        story: story.clone(),
        branch: branch.to_owned(),
        against,
        files,
    }
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

enum Merged {
    /// The tree that comes of it.
    Tree(String),
    /// The files in which both sides conflict.
    Conflict(Vec<PathBuf>),
}

struct Merge<'a> {
    git: &'a Git,
    root: &'a Path,
    ours: CommitId,
    theirs: CommitId,
    branch: &'a str,
}

impl Merge<'_> {
    async fn tree(&self) -> Result<Merged, BaseError> {
        self.tree_with(self.ours).await
    }

    /// The first of some commits with which the branch conflicts by itself, with its place among them and the files.
    async fn first_conflict(
        &self,
        others: impl Iterator<Item = CommitId>,
    ) -> Result<Option<(usize, Vec<PathBuf>)>, BaseError> {
        for (place, other) in others.enumerate() {
            if let Merged::Conflict(files) = self.tree_with(other).await? {
                return Ok(Some((place, files)));
            }
        }
        Ok(None)
    }

    async fn tree_with(&self, ours: CommitId) -> Result<Merged, BaseError> {
        let flags = [
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
        ];
        let call = self.git.call(self.root).args(flags).accept(&[0, 1]);
        let merged = call
            .arg(ours.to_string())
            .arg(self.theirs.to_string())
            .run()
            .await
            .map_err(|source| self.failed(source))?;
        let text = String::from_utf8_lossy(&merged.stdout);
        let mut fields = text.split('\0').filter(|field| !field.is_empty());
        let tree = fields.next().unwrap_or_default().to_owned();
        if merged.code == 0 {
            return Ok(Merged::Tree(tree));
        }
        Ok(Merged::Conflict(fields.map(PathBuf::from).collect()))
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
            .map(|branch| {
                (
                    format!("story-{branch}").parse().unwrap(),
                    (*branch).to_owned(),
                )
            })
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
    async fn a_conflict_names_both_sides_and_the_files() {
        let fixture = Fixture::new().await;
        branch(&fixture, "a", "file.txt", "a\n");
        branch(&fixture, "b", "file.txt", "b\n");
        let error = base_of(&fixture, &["a", "b"]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the branch `b` of story-b conflicts with `a` of story-a in file.txt"
        );
        branch(&fixture, "c", "other.txt", "c\n");
        let error = base_of(&fixture, &["c", "a", "b"]).await.unwrap_err();
        assert!(matches!(
            error,
            BaseError::Conflict { against: Against::Dependency { branch, .. }, .. } if branch == "a"
        ));
        fixture.write("file.txt", "trunk\n");
        fixture.sh("git commit -qam trunk");
        let error = base_of(&fixture, &["c", "a"]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the branch `a` of story-a conflicts with the base in file.txt"
        );
        let error = base_of(&fixture, &["gone"]).await.unwrap_err();
        assert!(matches!(error, BaseError::MissingBranch { .. }));
    }
}
