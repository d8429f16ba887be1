//! How far the work in a worktree is, in words for whoever goes on with it.

use std::path::Path;
use std::time::Duration;

use super::commit_id::CommitId;
use super::runner::{Git, GitError};

/// How long each look may take: nothing that is only told is worth a long wait.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most that is told of each list, in bytes.
const MOST: usize = 4 * 1024;

/// The most that is told of the changes themselves, in bytes.
const MOST_DIFF: usize = 12 * 1024;

/// Of a change of more lines, nothing is told but how large it is: a part of it would mislead.
const MOST_LINES: u64 = 1000;

/// How far the work is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// How many commits there are beyond the base.
    pub commits: usize,
    /// Which files they changed, and which are changed without being committed, as git shows them, cut to 8 KiB.
    pub changes: String,
    /// The changes themselves against the base, of files that git follows, cut to 12 KiB; empty when there are too many
    /// of them.
    pub diff: String,
}

/// Looks at a worktree. At most five processes.
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
        changes.push_str(cut(&look(&["diff", "--stat=100", &three]).await?, MOST));
    }
    // No git is run in a submodule: an agent may have set that up.
    let submodules = "--ignore-submodules=dirty";
    changes.push_str(cut(&look(&["status", "--short", submodules]).await?, MOST));
    let base = base.to_string();
    let plain = [
        "diff",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        submodules,
    ];
    let lines = look(&[&plain[..], &["--shortstat", &base]].concat()).await?;
    let diff = if changed_lines(&lines) <= MOST_LINES {
        let whole = look(&[&plain[..], &[&base]].concat()).await?;
        cut(&whole, MOST_DIFF).to_owned()
    } else {
        String::new()
    };
    Ok(Progress {
        commits,
        changes,
        diff,
    })
}

/// How many lines come and go, by what git says in short: ` 1 file changed, 2 insertions(+), 1 deletion(-)`.
fn changed_lines(summary: &str) -> u64 {
    let counts = summary.split(',').skip(1);
    let numbers = counts.filter_map(|count| count.split_whitespace().next()?.parse::<u64>().ok());
    numbers.fold(0, u64::saturating_add)
}

/// The first lines of a text, as far as there is room for them in so many bytes.
fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    // Lines of git are much shorter than all that there is room for.
    let fits = |(place, _): &(usize, char)| *place < most;
    let lines = text.char_indices().take_while(fits);
    let last = lines.filter(|(_, character)| *character == '\n').last();
    &text[..last.map_or(0, |(place, _)| place + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_end_with_a_whole_line() {
        assert_eq!(cut("a\nb\n", MOST), "a\nb\n");
        let long = "0123456789\n".repeat(1000);
        let short = cut(&long, MOST);
        assert!(short.len() <= MOST && short.ends_with("9\n"));
        assert!(cut(&"é".repeat(5000), MOST).len() <= MOST);
    }

    #[test]
    fn lines_are_counted_by_what_git_says() {
        let summary = " 1 file changed, 2 insertions(+), 1 deletion(-)\n";
        assert_eq!(changed_lines(summary), 3);
        assert_eq!(changed_lines(" 3 files changed, 1 insertion(+)\n"), 1);
        assert_eq!(changed_lines(""), 0);
    }
}
