//! Removes worktrees whose work is in no branch, but in a salvage that is there already.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::blocking;
use super::inventory::{Condition, Place, condition};
use super::removal::{RemovalError, obstacle};
use super::salvage::{Salvage, SalvageError};
use super::worktree::Worktrees;

/// Why a worktree stays that was to be saved and removed.
#[derive(Debug, Error)]
pub enum SavedError {
    /// It cannot be saved as a whole.
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    /// It is saved, and cannot be removed.
    #[error(transparent)]
    Removal(#[from] RemovalError),
    /// It is none of ours, or none that may be removed.
    #[error("{} cannot be removed: {why}", path.display())]
    NotReady {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
}

impl Worktrees {
    /// The newest salvage of the story whose worktree this is, if that has all that would be lost with the worktree.
    /// Changes no ref. Some git processes when there is a salvage, none when there is none.
    ///
    /// # Errors
    /// When the worktree or the repository cannot be read.
    pub async fn saved_as(&self, place: &Place) -> Result<Option<Salvage>, SalvageError> {
        let repository = self.repository.clone();
        let salvages = blocking(move || repository.salvages()).await?;
        let of_story = salvages.into_iter().filter(|one| place.is_of(&one.story));
        let Some(newest) = of_story.max_by_key(|one| (one.saved_at, one.attempt)) else {
            return Ok(None);
        };
        let saving = self.salvage_of(&place.path, &newest.story, newest.attempt);
        let saved = saving.await?;
        Ok(Some(newest).filter(|newest| saved == Some(newest.commit)))
    }

    /// Removes a worktree of ours if the newest salvage of its story has all that would be lost with it; its branch
    /// stays. Gives that salvage; none when the worktree stays. Nothing may be running in it any more.
    ///
    /// # Errors
    /// When it cannot be read or removed.
    pub async fn remove_saved(&self, place: &Place) -> Result<Option<Salvage>, SavedError> {
        self.check_ready(&place.path).await?;
        let saved = self.saved_as(place).await?;
        if saved.is_some() {
            let _removed = self.take_away(&place.path).await?;
        }
        Ok(saved)
    }

    async fn check_ready(&self, path: &Path) -> Result<(), SavedError> {
        let is_below = path.parent() == Some(self.base());
        let (repository, directory) = (self.repository.clone(), path.to_owned());
        let found = blocking(move || {
            let entry = repository.worktree_at(&directory)?;
            let ready = condition(&repository, &directory, entry.as_ref()) == Condition::Ready;
            Ok(entry.filter(|_| ready && is_below))
        });
        let why = match found.await.map_err(SalvageError::Repository)? {
            None => Some("it is not a worktree of ours with its files"),
            Some(entry) => obstacle(&entry),
        };
        let path = path.to_owned();
        why.map_or(Ok(()), |why| Err(SavedError::NotReady { path, why }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::AttemptNumber;
    use crate::git::test_support::{Fixture, sh, write};
    use crate::git::worktree::Prepared;
    use crate::story::id::StoryId;

    async fn made(fixture: &Fixture) -> (Prepared, StoryId, Place) {
        let worktrees = fixture.worktrees();
        let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
        let place = worktrees.inventory().await.unwrap().remove(0);
        (made, "S-0001".parse().unwrap(), place)
    }

    #[tokio::test]
    async fn only_what_a_salvage_has_as_a_whole_counts_as_saved() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let (made, story, place) = made(&fixture).await;
        write(&made.path, "mine.txt", "mine\n");
        assert_eq!(worktrees.saved_as(&place).await.unwrap(), None);
        let first = AttemptNumber::FIRST;
        let saved = worktrees.salvage(&made.path, &story, first, "asked").await;
        let saved = saved.unwrap();
        let found = worktrees.saved_as(&place).await.unwrap();
        assert_eq!(found.map(|salvage| salvage.commit), saved);
        write(&made.path, "more.txt", "more\n");
        assert_eq!(worktrees.saved_as(&place).await.unwrap(), None);
        assert_eq!(worktrees.remove_saved(&place).await.unwrap(), None);
        assert!(made.path.exists());
        // To compare has changed nothing.
        let reference = fixture.sh("git rev-parse refs/ai-sdlc/salvage/S-0001/1");
        assert_eq!(Some(reference.trim().parse().unwrap()), saved);
        fs::remove_file(made.path.join("more.txt")).unwrap();
        assert!(worktrees.remove_saved(&place).await.unwrap().is_some());
        assert!(!made.path.exists());
    }

    #[tokio::test]
    async fn what_is_not_ours_is_not_removed_even_when_it_is_saved() {
        let fixture = Fixture::new().await;
        let worktrees = fixture.worktrees();
        let (made, story, place) = made(&fixture).await;
        write(&made.path, "mine.txt", "mine\n");
        let first = AttemptNumber::FIRST;
        let saved = worktrees.salvage(&made.path, &story, first, "asked").await;
        assert!(saved.unwrap().is_some());
        sh(
            &made.path,
            "git worktree unlock .; git worktree lock --reason mine .",
        );
        let refused = worktrees.remove_saved(&place).await;
        assert!(matches!(refused, Err(SavedError::NotReady { .. })));
        assert!(made.path.join("mine.txt").exists());
    }
}
