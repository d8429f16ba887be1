//! The fence of a run: what agents must not write to, and what the user allows them besides the usual.

use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::config::Project;
use crate::git::Repository;
use crate::process::can_fence;
use crate::protocol::FenceSetup;

/// What is told when agents that should have a fence get none.
pub(super) fn without_fence(reason: &str) -> String {
    format!(
        "there is no fence around the agents of this run: {reason}. They can write wherever you can, also to the main \
         checkout and to the board; what they change there is told of afterwards"
    )
}

/// The fence for the agents of a project, and what there is to be said of it; neither when it is not wanted.
///
/// # Errors
/// When it would hold nothing.
pub(super) fn fence(
    project: &Project,
    repository: &Repository,
    wanted: bool,
) -> Result<Option<FenceSetup>, CliError> {
    if !wanted || !project.config.fence.enabled {
        return Ok(None);
    }
    let closed = closed(project, repository);
    let mut open = Vec::new();
    for named in &project.config.fence.write {
        let path = resolved(&place(named, &project.root));
        if let Some(closed) = closed.iter().find(|closed| closed.starts_with(&path)) {
            return Err(CliError::new(format!(
                "`fence.write` names {}, and with it {}, which stays closed to agents",
                named.display(),
                closed.display()
            ))
            .hint("name folders in it, or have no fence: `\"fence\": {\"enabled\": false}`"));
        }
        open.push(path.display().to_string());
    }
    Ok(Some(FenceSetup {
        common_dir: repository.common_dir().display().to_string(),
        closed: closed
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        open,
    }))
}

/// Why agents that should have a fence have none, if that is so.
pub(super) fn obstacle(fence: Option<&FenceSetup>) -> Option<String> {
    fence?;
    can_fence().err().map(without_fence)
}

/// The repository with its main checkout, the one that the run was started in, the board, and the worktrees.
fn closed(project: &Project, repository: &Repository) -> Vec<PathBuf> {
    let common_dir = repository.common_dir();
    let main = common_dir
        .parent()
        .filter(|_| common_dir.file_name().is_some_and(|name| name == ".git"));
    let mut closed: Vec<PathBuf> = main.map(resolved).into_iter().collect();
    for path in [
        repository.root(),
        common_dir,
        &project.board,
        &project.worktree_base(),
    ] {
        let path = resolved(path);
        if !closed.contains(&path) {
            closed.push(path);
        }
    }
    closed
}

/// Where a configured path is. One below a home folder that is not known is nowhere.
fn place(named: &Path, root: &Path) -> PathBuf {
    match named.strip_prefix("~") {
        Ok(below) => std::env::home_dir().unwrap_or_default().join(below),
        Err(_) => root.join(named),
    }
}

fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
