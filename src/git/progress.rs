//! How far the work in a worktree is, in words for whoever goes on with it.

use std::path::Path;
use std::time::Duration;

use super::commit_id::CommitId;
use super::runner::{Git, GitError};

/// How long each look may take: nothing that is only told is worth a long wait.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most that is told of each list, in bytes.
const MOST: usize = 4 * 1024;

/// How far the work is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How many commits there are beyond the base.
    pub commits: usize,
    /// Which files they changed, and which are changed without being committed, as git shows them, cut to 8 KiB.
    pub changes: String,
}

/// Looks at a worktree. Two or three processes.
///
/// # Errors
/// When git fails.
pub async fn progress(git: &Git, worktree: &Path, base: CommitId) -> Result<Progress, GitError> {
    let look = async |arguments: &[&str]| {
        let call = git.call(worktree).read_only().deadline(DEADLINE);
        let output = call.args(arguments).run().await?;
        Ok::<_, GitError>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let range = format!("{base}..HEAD");
    let count = look(&["rev-list", "--count", &range]).await?;
    let commits = count.trim().parse().unwrap_or(0);
    let mut changes = String::new();
    if commits > 0 {
        let three = format!("{base}...HEAD");
        changes.push_str(cut(&look(&["diff", "--stat=100", &three]).await?));
    }
    // No git is run in a submodule: an agent may have set that up.
    let status = ["status", "--short", "--ignore-submodules=dirty"];
    changes.push_str(cut(&look(&status).await?));
    Ok(Progress { commits, changes })
}

/// The first lines of a text, as far as there is room for them.
fn cut(text: &str) -> &str {
    if text.len() <= MOST {
        return text;
    }
    // Lines of git are much shorter than all that there is room for.
    let fits = |(place, _): &(usize, char)| *place < MOST;
    let lines = text.char_indices().take_while(fits);
    let last = lines.filter(|(_, character)| *character == '\n').last();
    &text[..last.map_or(0, |(place, _)| place + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_end_with_a_whole_line() {
        assert_eq!(cut("a\nb\n"), "a\nb\n");
        let long = "0123456789\n".repeat(1000);
        let short = cut(&long);
        assert!(short.len() <= MOST && short.ends_with("9\n"));
        assert!(cut(&"é".repeat(5000)).len() <= MOST);
    }
}
