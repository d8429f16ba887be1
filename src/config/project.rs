//! Where the project is: its root, its board and its configuration, found from where the user stands.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Config, ConfigError, FILE_NAME};

/// The variable that names the folder of the board, as in the predecessor.
pub const ROOT_VARIABLE: &str = "AI_SDLC_ROOT";

/// A project that has a board.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder that holds the configuration and the board.
    pub root: PathBuf,
    /// The folder of the board, `.ai-sdlc` unless configured otherwise.
    pub board: PathBuf,
    /// Its configuration.
    pub config: Config,
}

/// Why there is no project to work on.
#[derive(Debug, Error)]
pub enum ProjectError {
    /// Nothing was found.
    #[error("ai-sdlc is not initialised in {} or any folder above it", start.display())]
    NotInitialised {
        /// Where the search began.
        start: PathBuf,
    },
    /// There is a configuration, and no board.
    #[error("the board folder {} does not exist", board.join("stories").display())]
    NoBoard {
        /// Where it should be.
        board: PathBuf,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Project {
    /// The project that `start` is in: the nearest folder, going up, with a configuration or a board.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn find(start: &Path) -> Result<Self, ProjectError> {
        if let Some(board) = std::env::var_os(ROOT_VARIABLE).filter(|value| !value.is_empty()) {
            return Self::with_board(&start.join(board));
        }
        let root = start
            .ancestors()
            .find(|folder| is_project(folder))
            .ok_or_else(|| ProjectError::NotInitialised {
                start: start.to_owned(),
            })?;
        Self::at(root)
    }

    /// The project in exactly this folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn at(root: &Path) -> Result<Self, ProjectError> {
        let config = Config::load(root)?;
        let board = root.join(&config.sdlc_folder);
        Self::existing(root.to_owned(), board, config)
    }

    fn with_board(board: &Path) -> Result<Self, ProjectError> {
        let root = board.parent().unwrap_or(board).to_owned();
        let config = Config::load(&root)?;
        Self::existing(root, board.to_owned(), config)
    }

    fn existing(root: PathBuf, board: PathBuf, config: Config) -> Result<Self, ProjectError> {
        if board.join("stories").is_dir() {
            Ok(Self {
                root,
                board,
                config,
            })
        } else {
            Err(ProjectError::NoBoard { board })
        }
    }

    /// The folder in which worktrees are made.
    pub fn worktree_base(&self) -> PathBuf {
        self.root.join(&self.config.worktree_base)
    }

    /// The folder that holds one folder for each run.
    pub fn runs(&self) -> PathBuf {
        self.board.join("runs")
    }
}

fn is_project(folder: &Path) -> bool {
    let default = Config::default().sdlc_folder;
    folder.join(FILE_NAME).is_file() || folder.join(default).join("stories").is_dir()
}
