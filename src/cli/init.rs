//! `ai-sdlc init`: makes a board in the repository.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::error::{CliError, SUCCESS};
use super::{refuse_story_worktree, working_directory};
use crate::config::{Config, FILE_NAME};
use crate::git::{Repository, RepositoryError};
use crate::report;

/// What a new project is configured as. Only what one may want to change; everything else has a default.
const CONFIGURATION: &str = "{\n  \"ai\": {\n    \"provider\": \"claude\"\n  },\n  \"worktree\": {\n    \"basePath\": \".ai-sdlc/worktrees\"\n  }\n}\n";

/// What of the board is not for the repository: everything that belongs to this machine.
const IGNORED: &str = "/worktrees/\n/runs/\n/logs/\n*.lock\n";

pub(super) fn init() -> Result<ExitCode, CliError> {
    let here = working_directory()?;
    refuse_story_worktree(&here)?;
    // A repository without a commit can have a board; it is only running that needs one.
    let root = match Repository::discover(&here) {
        Ok(repository) => repository.root().to_owned(),
        Err(RepositoryError::NoCommit { path }) => path,
        Err(error) => return Err(error.into()),
    };
    if make_board(&root, CONFIGURATION)? == Made::New {
        report::hint("add a first story with `ai-sdlc add --ready \"Title\"`");
    }
    Ok(ExitCode::from(SUCCESS))
}

/// What came of making a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    New,
    WasThere,
}

/// Makes a board in `root`, as far as it is not there yet.
pub(super) fn make_board(root: &Path, configuration: &str) -> Result<Made, CliError> {
    let configured = write_new(&root.join(FILE_NAME), configuration)?;
    let config = Config::load(root).map_err(|error| CliError::from_error(&error))?;
    let board = root.join(&config.sdlc_folder);
    let stories = board.join("stories");
    let existed = stories.is_dir();
    fs::create_dir_all(&stories).map_err(|error| cannot("create", &stories, &error))?;
    let ignored = ignore_what_is_local(&board)?;
    let shown = board.display();
    if existed && !configured && !ignored {
        report::note("Unchanged", &format!("{shown} is a board already"));
        return Ok(Made::WasThere);
    }
    report::note("Initialised", &format!("{shown}"));
    Ok(Made::New)
}

/// Has git ignore what of a board belongs to this machine, unless the user has settled that. Whether it was needed.
pub(super) fn ignore_what_is_local(board: &Path) -> Result<bool, CliError> {
    write_new(&board.join(".gitignore"), IGNORED)
}

/// Writes a file unless there is one.
fn write_new(path: &Path, text: &str) -> Result<bool, CliError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| cannot("create", folder, &error))?;
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    match file {
        Ok(mut file) => {
            io::Write::write_all(&mut file, text.as_bytes())
                .map_err(|error| cannot("write", path, &error))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(cannot("write", path, &error)),
    }
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("cannot {verb} {}: {error}", path.display()))
}
