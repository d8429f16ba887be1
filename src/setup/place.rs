//! Where things are, for whatever runs in a worktree.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::engine::RunId;
use crate::protocol::identity;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of the board, absolute.
    pub board: PathBuf,
    /// The root of the main checkout.
    pub checkout: PathBuf,
    /// Folders of which nothing is copied, relative to the root of the repository.
    pub never_copied: Vec<PathBuf>,
    /// The folder of the project, relative to the root of a worktree: commands run there.
    pub work_folder: String,
}

impl Place {
    /// The project's folder in a worktree; the worktree itself where the commit does not have that folder.
    pub(super) fn work_folder_in(&self, worktree: &Path) -> PathBuf {
        let folder = worktree.join(&self.work_folder);
        if folder.is_dir() {
            folder
        } else {
            worktree.to_owned()
        }
    }

    /// What every command in a worktree finds in its environment.
    pub(super) fn variables(
        &self,
        run: &RunId,
        worktree: &Path,
        branch: Option<&str>,
    ) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = vec![
            (identity::RUN, run.as_str().into()),
            ("AI_SDLC_WORKTREE", worktree.into()),
            ("AI_SDLC_BRANCH", branch.unwrap_or_default().into()),
            ("AI_SDLC_CHECKOUT", self.checkout.clone().into()),
            // An `ai-sdlc` that is called works on the user's board, and not on the copy in the worktree.
            ("AI_SDLC_ROOT", self.board.clone().into()),
        ];
        if let Some(base) = worktree.parent() {
            // A worktree that has lost its `.git` must not be taken for a part of the main checkout.
            variables.push(("GIT_CEILING_DIRECTORIES", base.into()));
        }
        variables
    }
}
