//! Removes worktrees with uncommitted work in them, once that is saved.

use std::path::Path;

use super::{Salvage, SalvageError, blocking, look, salvage_ref};
use crate::engine::AttemptNumber;
use crate::git::removal::{Removal, RemovalCheck, RemovalError, obstacle};
use crate::git::repository::RepositoryError;
use crate::git::worktree::Worktrees;
use crate::story::id::StoryId;

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
        let entry = {
            let (repository, path) = (self.repository.clone(), path.to_owned());
            blocking(move || repository.worktree_at(&path)).await?
        };
        let Some(entry) = entry.filter(|entry| path.is_dir() && obstacle(entry).is_none()) else {
            return Ok(removal);
        };
        let place = look::Place {
            worktree: path.to_owned(),
            git_dir: entry.admin_dir,
        };
        let before = self.state_of(&place).await?;
        let why = "before its worktree was removed";
        if let Err(error) = self.salvage(path, story, attempt, why).await {
            return Ok(Removal::Kept {
                why: in_one_line(&error),
            });
        }
        if self.state_of(&place).await? != before {
            let why = "something is changing it".to_owned();
            return Ok(Removal::Kept { why });
        }
        self.take_away(path).await
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
