//! Whether git knows who commits here, asked once before a run and not by the first commit hours later.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::runner::{Git, GitError};

/// Git would refuse to commit, or could not be asked.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// There is no usable name or address.
    #[error("git does not know who commits in {}", dir.display())]
    Unknown {
        /// The work tree.
        dir: PathBuf,
        /// What git said.
        source: GitError,
    },
    /// Git could not be asked.
    #[error(transparent)]
    Git(GitError),
}

/// Checks that git has a committer for the repository at `dir`, and gives it as `Name <address>` (one process).
///
/// # Errors
/// When there is none, or git does not run.
pub async fn check_identity(git: &Git, dir: &Path) -> Result<String, IdentityError> {
    let asked = git
        .call(dir)
        .read_only()
        .args(["var", "GIT_COMMITTER_IDENT"]);
    match asked.run().await {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let end = text.rfind('>').map_or(0, |at| at + 1);
            Ok(text[..end].to_owned())
        }
        Err(source @ GitError::Failed(_)) => Err(IdentityError::Unknown {
            dir: dir.to_owned(),
            source,
        }),
        Err(error) => Err(IdentityError::Git(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::Fixture;

    #[tokio::test]
    async fn a_repository_without_a_committer_is_told_what_to_set() {
        let fixture = Fixture::new().await;
        let known = check_identity(&fixture.git, &fixture.root).await.unwrap();
        assert_eq!(known, "Tester <t@example.org>");
        fixture.sh("git config --unset user.email && git config user.useConfigOnly true");
        let error = check_identity(&fixture.git, &fixture.root)
            .await
            .unwrap_err();
        assert!(matches!(error, IdentityError::Unknown { .. }));
    }
}
