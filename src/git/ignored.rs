//! Files of a checkout that git ignores, found by patterns in the syntax of `.gitignore`. The matching is git's own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::runner::{Git, GitError};

/// The most that is read of a list of files, in bytes: tens of thousands of them.
const LONGEST_LIST: u64 = 4 * 1024 * 1024;

/// The most arguments that say where to look: with their names, far below what a command may have.
const MOST_PLACES: usize = 2000;

/// Which files are meant.
#[derive(Debug, Clone, Copy)]
pub enum Patterns<'a> {
    /// Those that this pattern matches.
    One(&'a str),
    /// Those that the patterns of this file match.
    File(&'a Path),
}

/// Files that were found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IgnoredFiles {
    /// Relative to the root of the checkout. A directory is not among them, and a repository within the checkout is one
    /// path that ends in `/`.
    pub paths: Vec<PathBuf>,
    /// Whether there are more, which were not looked at.
    pub is_cut: bool,
}

/// The files of a checkout that these patterns match and that git both ignores and does not track. Git does not look into
/// the folders `without` (relative to the root): what comes and goes there while it looks would make it fail.
///
/// # Errors
/// When git fails.
pub async fn ignored_files(
    git: &Git,
    root: &Path,
    patterns: Patterns<'_>,
    without: &[PathBuf],
) -> Result<IgnoredFiles, GitError> {
    let Some(places) = places(root, without) else {
        return Ok(IgnoredFiles::default());
    };
    let mut given = OsString::new();
    match patterns {
        Patterns::One(pattern) => {
            given.push("--exclude=");
            given.push(pattern);
        }
        Patterns::File(file) => {
            given.push("--exclude-from=");
            given.push(file);
        }
    }
    let list = ["ls-files", "--others", "--ignored", "-z"];
    let call = git.call(root).read_only().args(list).arg(given);
    let call = call.arg("--").args(places);
    let untracked = call.capture(LONGEST_LIST).run().await?;
    let mut paths = untracked.stdout;
    if untracked.truncated {
        // The last one may be half a name.
        let end = paths.iter().rposition(|byte| *byte == 0);
        paths.truncate(end.map_or(0, |end| end + 1));
    }
    Ok(IgnoredFiles {
        // These patterns say nothing of whether git ignores them, too.
        paths: if paths.is_empty() {
            Vec::new()
        } else {
            check(git, root, paths).await?
        },
        is_cut: untracked.truncated,
    })
}

/// Everything in a checkout but some of its folders, as arguments for git; none when there is nothing else. A checkout with
/// too much in its root for that is looked at as a whole.
fn places(root: &Path, without: &[PathBuf]) -> Option<Vec<OsString>> {
    let mut places = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root.join(&folder));
        for entry in entries.into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            if path == Path::new(".git") || without.contains(&path) {
                continue;
            }
            if without.iter().any(|other| other.starts_with(&path)) {
                folders.push(path);
            } else {
                let mut place = OsString::from(":(top,literal)");
                place.push(&path);
                places.push(place);
            }
        }
        if places.len() > MOST_PLACES {
            return Some(Vec::new());
        }
    }
    (!places.is_empty()).then_some(places)
}

/// Whether git ignores all of these paths, relative to `directory`, whether they exist or not. One that ends in `/` stands
/// for a directory.
///
/// # Errors
/// When git fails.
pub async fn are_ignored(git: &Git, directory: &Path, paths: &[&str]) -> Result<bool, GitError> {
    let list = paths.iter().flat_map(|path| [path.as_bytes(), b"\0"]);
    let list = list.flatten().copied().collect();
    Ok(check(git, directory, list).await?.len() == paths.len())
}

/// Those of these paths, each of which ends in a NUL, that git ignores.
async fn check(git: &Git, directory: &Path, paths: Vec<u8>) -> Result<Vec<PathBuf>, GitError> {
    let call = git.call(directory).read_only();
    let call = call.args(["check-ignore", "--stdin", "-z"]).input(paths);
    // 1 when there is none.
    let ignored = call.accept(&[0, 1]).capture(LONGEST_LIST).run().await?;
    let names = ignored.stdout.split(|byte| *byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::Fixture;

    async fn found(fixture: &Fixture, patterns: Patterns<'_>) -> Vec<String> {
        let without = [PathBuf::from("trees"), PathBuf::from("deep/down/trees")];
        let found = ignored_files(&fixture.git, &fixture.root, patterns, &without).await;
        let found = found.unwrap();
        assert!(!found.is_cut);
        let names = found.paths.iter();
        names
            .map(|path| path.to_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn only_what_git_ignores_and_does_not_track_is_found() {
        let fixture = Fixture::new().await;
        assert_eq!(found(&fixture, Patterns::One(".env*")).await, [""; 0]);
        fixture.sh("printf '.env*\nsecret/\n' > .gitignore; mkdir -p 'a b' secret");
        fixture.sh("touch .env 'a b/.env.local' .env-tracked secret/key secret/other");
        fixture.sh("git add --force .env-tracked; git commit -qm more");
        fixture.sh("git worktree add -q trees/one; touch trees/one/.env");
        fixture.sh("mkdir -p deep/down/trees/gone; touch deep/.env deep/down/trees/.env");
        // As a worktree that is being removed looks to who walks through it.
        fixture.sh("echo 'gitdir: /nowhere' > deep/down/trees/gone/.git");
        let default = found(&fixture, Patterns::One(".env*")).await;
        assert_eq!(default, [".env", "a b/.env.local", "deep/.env"]);
        // A file that is neither ignored nor tracked is the user's work in progress.
        fixture.sh("touch draft; printf '# ours\ndraft\n.env*\n!a b/.env.local\nsecret/*\n!secret/other\n' > include");
        let include = fixture.root.join("include");
        let included = found(&fixture, Patterns::File(&include)).await;
        assert_eq!(included, [".env", "deep/.env", "secret/key"]);
        fixture.sh(": > include");
        assert_eq!(found(&fixture, Patterns::File(&include)).await, [""; 0]);
    }

    #[tokio::test]
    async fn it_is_known_what_would_be_ignored() {
        let fixture = Fixture::new().await;
        fixture.sh("printf 'node_modules/\n' > .gitignore");
        let ignored = async |paths: &[&str]| {
            are_ignored(&fixture.git, &fixture.root, paths)
                .await
                .unwrap()
        };
        assert!(ignored(&["node_modules/"]).await);
        assert!(!ignored(&["node_modules/", "dist/"]).await);
        assert!(!ignored(&["dist/"]).await);
    }
}
