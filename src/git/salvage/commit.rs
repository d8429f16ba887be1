//! The commits of a salvage, and the ref that keeps them.

use git2::Oid;

use super::look::{Found, open_at, read_error};
use super::{Aim, SalvageError, SalvageRequest, Work, blocking, line, salvage_ref};
use crate::git::commit_id::CommitId;
use crate::git::repository::RepositoryError;
use crate::git::runner::{Git, GitError};
use crate::git::worktree::remove_settled;

/// What the message of the commit with the index begins with.
pub(super) const INDEX: &str = "index of the ";
/// What the message of the commit with the `.git` folders of repositories inside begins with.
pub(super) const INSIDE: &str = "repositories inside the ";

/// Who commits when git does not know: nothing must be lost for want of a name.
const NOBODY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "ai-sdlc"),
    ("GIT_AUTHOR_EMAIL", "ai-sdlc@localhost"),
    ("GIT_COMMITTER_NAME", "ai-sdlc"),
    ("GIT_COMMITTER_EMAIL", "ai-sdlc@localhost"),
];

/// How often the ref is set again that somebody else has set meanwhile.
const TRIES: usize = 3;

/// What is known of the trees that a salvage has to compare with.
struct Known {
    /// That of what is checked out.
    head_tree: Option<String>,
    /// Where the ref is.
    last: Option<CommitId>,
    /// Whether that has all of this.
    is_saved: bool,
}

impl Work<'_> {
    /// Commits the trees, unless what is checked out or the last salvage of the attempt has them.
    pub(super) async fn commit(
        &self,
        found: &Found,
        tree: String,
        staged: Option<String>,
        request: &SalvageRequest,
    ) -> Result<Option<CommitId>, SalvageError> {
        let inside = self.tree_of_git_folders().await?;
        let reference = salvage_ref(&request.story, request.attempt);
        let head = found.head;
        let known = self.known(head, &reference, &tree, staged.as_ref(), inside.as_ref());
        let known = known.await?;
        let head_tree = known.head_tree.as_ref();
        // An index that says nothing else than the files or the commit need not be kept.
        let staged = staged.filter(|staged| *staged != tree && Some(staged) != head_tree);
        if Some(&tree) == head_tree && staged.is_none() && inside.is_none() && found.head_is_kept {
            return Ok(None);
        }
        let SalvageRequest {
            story,
            attempt,
            why,
        } = request;
        let title = format!("salvage of {story}, attempt {}", attempt.get());
        if known.is_saved {
            return Ok(known.last);
        }
        if self.aim == Aim::Compare {
            return Ok(None);
        }
        let mut parents: Vec<String> = head.iter().map(ToString::to_string).collect();
        for (tree, begin) in [(staged, INDEX), (inside, INSIDE)] {
            if let Some(tree) = tree {
                let parent = head.map(|head| head.to_string());
                let message = format!("{begin}{title}\n");
                let below = if begin == INDEX {
                    parent.as_slice()
                } else {
                    &[]
                };
                let made = self.commit_tree(&tree, below, &message).await?;
                parents.push(made);
            }
        }
        let message = format!("{title}: {why}\n");
        let made = self.commit_tree(&tree, &parents, &message).await?;
        self.point(&reference, &made, known.last, why).await?;
        Ok(made.parse().ok())
    }

    async fn known(
        &self,
        head: Option<CommitId>,
        reference: &str,
        tree: &str,
        staged: Option<&String>,
        inside: Option<&String>,
    ) -> Result<Known, SalvageError> {
        let (place, reference) = (self.place.clone(), reference.to_owned());
        let wanted = Wanted {
            head: head.map(CommitId::oid),
            tree: tree.to_owned(),
            staged: staged.cloned(),
            inside: inside.cloned(),
        };
        let known = blocking(move || {
            let read = |source| read_error(&place, source);
            let opened = open_at(&place)?;
            let head_tree = match wanted.head {
                Some(head) => Some(tree_of(&opened, head).map_err(read)?),
                None => None,
            };
            let last = tip(&opened, &reference);
            let is_saved = last.is_some_and(|last| wanted.is_in(&opened, last, head_tree.as_ref()));
            Ok::<_, RepositoryError>(Known {
                head_tree,
                last: last.map(CommitId::from),
                is_saved,
            })
        });
        Ok(known.await?)
    }

    async fn commit_tree(
        &self,
        tree: &str,
        parents: &[String],
        message: &str,
    ) -> Result<String, SalvageError> {
        let run = async |git: &Git| {
            let call = git.call(&self.place.worktree);
            let call = call.args(["commit-tree", "--no-gpg-sign", "-F", "-"]);
            let call = call.args(parents.iter().flat_map(|parent| ["-p", parent]));
            call.arg(tree).input(message).run().await
        };
        let output = match run(&self.git).await {
            Err(GitError::Failed(failure)) => {
                tracing::debug!(%failure, "committing under a name of our own");
                let mut git = self.git.clone();
                for (name, value) in NOBODY {
                    git = git.with_variable(name, value);
                }
                run(&git).await
            }
            output => output,
        };
        Ok(line(&output.map_err(|source| self.failed(source))?.stdout))
    }

    /// Moves the ref from where it was.
    async fn point(
        &self,
        reference: &str,
        to: &str,
        mut from: Option<CommitId>,
        why: &str,
    ) -> Result<(), SalvageError> {
        let note = format!("salvage: {why}");
        for tried in 1.. {
            let old = from.map_or_else(|| "0".repeat(40), |from| from.to_string());
            let call = self.git.call(&self.place.worktree);
            let call = call.args(["update-ref", "--create-reflog", "-m"]);
            let error = match call.args([&note, reference, to, &old]).run().await {
                Ok(_) => break,
                Err(error) => self.failed(error),
            };
            if tried == TRIES || matches!(error, SalvageError::NoSpace { .. }) {
                return Err(error);
            }
            let (place, name) = (self.place.clone(), reference.to_owned());
            from = blocking(move || {
                let opened = open_at(&place)?;
                // A git that was killed leaves its lock; a living one has it for a moment.
                let lock = opened.commondir().join(format!("{name}.lock"));
                remove_settled(&lock)
                    .map_err(|source| SalvageError::io("remove", &lock, source))?;
                Ok::<_, SalvageError>(tip(&opened, &name).map(CommitId::from))
            })
            .await?;
        }
        Ok(())
    }
}

/// What a salvage must have to be as good as a new one.
struct Wanted {
    head: Option<Oid>,
    tree: String,
    staged: Option<String>,
    inside: Option<String>,
}

impl Wanted {
    fn is_in(&self, opened: &git2::Repository, last: Oid, head_tree: Option<&String>) -> bool {
        let Ok(commit) = opened.find_commit(last) else {
            return false;
        };
        let staged = self.staged.as_ref();
        let staged = staged.filter(|staged| **staged != self.tree && Some(*staged) != head_tree);
        let wanted = [Some(&self.tree), staged, self.inside.as_ref()];
        let parents = commit.parents().skip(usize::from(self.head.is_some()));
        let trees = parents.map(|parent| parent.tree_id().to_string());
        let has: Vec<String> = [commit.tree_id().to_string()]
            .into_iter()
            .chain(trees)
            .collect();
        let first = commit.parent_id(0).ok();
        let same_head = self.head.is_none_or(|head| first == Some(head));
        same_head && wanted.into_iter().flatten().eq(has.iter())
    }
}

fn tip(opened: &git2::Repository, reference: &str) -> Option<Oid> {
    let found = opened.find_reference(reference).ok()?;
    found.peel_to_commit().ok().map(|commit| commit.id())
}

fn tree_of(opened: &git2::Repository, commit: Oid) -> Result<String, git2::Error> {
    Ok(opened.find_commit(commit)?.tree_id().to_string())
}
