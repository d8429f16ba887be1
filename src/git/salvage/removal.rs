//! Removes worktrees with uncommitted work in them, once that is saved.

use std::path::Path;
use std::time::Duration;

use super::{Salvage, SalvageError, SalvageRequest, blocking, look, salvage_ref};
use crate::engine::AttemptNumber;
use crate::git::commit_id::CommitId;
use crate::git::removal::{Removal, RemovalCheck, RemovalError, obstacle};
use crate::git::repository::RepositoryError;
use crate::git::worktree::Worktrees;
use crate::story::id::StoryId;

/// What became of a worktree that was to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "somebody should be told where its content is"]
pub struct TakenBack {
    /// Whether it is gone.
    pub removal: Removal,
    /// What was in it and in no commit; none when there was no such thing, or it could not be saved as a whole.
    pub saved: Option<CommitId>,
}

impl From<Removal> for TakenBack {
    fn from(removal: Removal) -> Self {
        Self {
            removal,
            saved: None,
        }
    }
}

impl TakenBack {
    fn kept(why: String) -> Self {
        Removal::Kept { why }.into()
    }
}

impl Worktrees {
    /// Removes the worktree at `path` as [`Self::remove`] does, and when something in it is not committed, saves that
    /// first. What cannot be saved as a whole is kept. Nothing may be running in the worktree.
    ///
    /// # Errors
    /// When it is not one of ours, or it cannot be examined or moved, or git fails.
    pub async fn salvage_and_remove(
        &self,
        path: &Path,
        branch: &str,
        story: &StoryId,
        attempt: AttemptNumber,
    ) -> Result<Removal, RemovalError> {
        let removal = self.remove(path, branch, RemovalCheck::Committed).await?;
        if removal == Removal::Removed {
            return Ok(removal);
        }
        let request = SalvageRequest {
            story: story.clone(),
            attempt,
            why: "before its worktree was removed".to_owned(),
        };
        let taken = self.save_and_take_away(path, &request, None);
        Ok(taken.await?.map_or(removal, |taken| taken.removal))
    }

    /// Removes a worktree that was made for an attempt which never came to work in it, if its branch ends at `at`
    /// ([`Self::check_taking_back`]). What is in it and in no commit is saved first: somebody else may have put it there.
    /// What cannot be saved as a whole, and within `patience` if there is one, is kept. Nothing may be running in the worktree.
    ///
    /// # Errors
    /// As [`Self::salvage_and_remove`].
    pub async fn take_back(
        &self,
        path: &Path,
        branch: &str,
        at: CommitId,
        request: &SalvageRequest,
        patience: Option<Duration>,
    ) -> Result<TakenBack, RemovalError> {
        if let Removal::Kept { why } = self.check_taking_back(path, branch, at).await? {
            return Ok(TakenBack::kept(why));
        }
        if let Some(taken) = self.save_and_take_away(path, request, patience).await? {
            return Ok(taken);
        }
        // Somebody has removed it.
        let removal = self.remove(path, branch, RemovalCheck::Committed).await?;
        Ok(removal.into())
    }

    /// Saves what is in a worktree and in no commit, and removes it. None when there is none that can be.
    async fn save_and_take_away(
        &self,
        path: &Path,
        request: &SalvageRequest,
        patience: Option<Duration>,
    ) -> Result<Option<TakenBack>, RemovalError> {
        let entry = {
            let (repository, path) = (self.repository.clone(), path.to_owned());
            blocking(move || repository.worktree_at(&path)).await?
        };
        let Some(entry) = entry.filter(|entry| path.is_dir() && obstacle(entry).is_none()) else {
            return Ok(None);
        };
        let place = look::Place {
            worktree: path.to_owned(),
            git_dir: entry.admin_dir,
        };
        let before = self.state_of(&place).await?;
        let mut saved = None;
        if before != look::State::Clean {
            let SalvageRequest {
                story,
                attempt,
                why,
            } = request;
            let saving = self.salvage(path, story, *attempt, why);
            saved = match tokio::time::timeout(patience.unwrap_or(Duration::MAX), saving).await {
                Ok(Ok(saved)) => saved,
                Ok(Err(error)) => return Ok(Some(TakenBack::kept(in_one_line(&error)))),
                Err(_) => {
                    let why = "there was no time to save what is not committed";
                    return Ok(Some(TakenBack::kept(why.to_owned())));
                }
            };
            if self.state_of(&place).await? != before {
                let why = "something is changing it".to_owned();
                let removal = Removal::Kept { why };
                return Ok(Some(TakenBack { removal, saved }));
            }
        }
        let removal = self.take_away(path).await?;
        Ok(Some(TakenBack { removal, saved }))
    }

    /// What keeps the worktree at `path` from being removed even when all that git can commit of it is saved.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn beyond_saving(
        &self,
        path: &Path,
    ) -> Result<Option<&'static str>, RepositoryError> {
        let (repository, path) = (self.repository.clone(), path.to_owned());
        blocking(move || {
            let entry = repository.worktree_at(&path)?;
            Ok(entry.as_ref().and_then(obstacle))
        })
        .await
    }

    async fn state_of(&self, place: &look::Place) -> Result<look::State, RemovalError> {
        let place = place.clone();
        Ok(blocking(move || look::look(&place)).await?.state)
    }
}

/// An error with its cause.
fn in_one_line(error: &SalvageError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    let text = format!("{error}{}", cause.unwrap_or_default());
    text.replace(char::is_control, " ")
}

impl Salvage {
    /// The name of its ref.
    pub fn reference(&self) -> String {
        salvage_ref(&self.story, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::git::test_support::{Fixture, sh, write};
    use crate::git::worktree::Prepared;

    async fn take_back(worktrees: &Worktrees, made: &Prepared) -> TakenBack {
        let request = SalvageRequest {
            story: "S-0001".parse().unwrap(),
            attempt: AttemptNumber::FIRST,
            why: "prepare_failed".to_owned(),
        };
        let patience = Some(Duration::from_secs(60));
        let taking = worktrees.take_back(&made.path, &made.branch, made.base, &request, patience);
        taking.await.unwrap()
    }

    async fn made(fixture: &Fixture) -> (Arc<Worktrees>, Prepared) {
        let worktrees = fixture.worktrees();
        let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        (worktrees, made)
    }

    #[tokio::test]
    async fn what_is_taken_back_is_saved_and_commits_on_its_branch_keep_it() {
        let fixture = Fixture::new().await;
        let (worktrees, made) = made(&fixture).await;
        write(&made.path, "half.txt", "half");
        write(&made.path, "file.txt", "changed");
        sh(
            &made.path,
            "git init -q inside && cd inside && git -c user.name=N -c user.email=n@example.org commit -q --allow-empty -m inside",
        );
        sh(&made.path, "git commit -q --allow-empty -m work");
        let kept = take_back(&worktrees, &made).await;
        assert!(matches!(kept.removal, Removal::Kept { why } if why.contains("its branch is at")));
        assert_eq!(kept.saved, None);
        sh(&made.path, "git reset -q --soft HEAD~");
        let taken = take_back(&worktrees, &made).await;
        assert_eq!(taken.removal, Removal::Removed);
        assert!(!made.path.exists());
        let salvages = fixture.repository().salvages().unwrap();
        assert_eq!(salvages.len(), 1);
        assert_eq!(Some(salvages[0].commit), taken.saved);
        assert!(salvages[0].has_repositories);
        let reference = salvages[0].reference();
        let saved = fixture.sh(&format!(
            "git show {reference}:half.txt {reference}:file.txt"
        ));
        assert_eq!(saved, "halfchanged");
    }

    #[tokio::test]
    async fn one_with_nothing_in_it_is_taken_back_without_a_salvage() {
        let fixture = Fixture::new().await;
        let (worktrees, made) = made(&fixture).await;
        let taken = take_back(&worktrees, &made).await;
        assert_eq!((taken.removal, taken.saved), (Removal::Removed, None));
        assert!(fixture.repository().salvages().unwrap().is_empty());
        // Nothing at all is as good.
        let again = take_back(&worktrees, &made).await;
        assert_eq!(again.removal, Removal::Removed);
    }
}
