//! What there is of a checkout that nobody who works elsewhere should change: what it has checked out, which of its
//! tracked files differ from that, and the repository's configuration, hooks and branches.
//!
//! It is looked at before and after such work, so it has to be cheap: git compares the times of files, and the contents
//! of a file are not read unless it may differ. Says what is different, and decides nothing about who did it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blocking;
use super::runner::{Git, GitError};

/// How long git may take to compare the files: it takes a quarter of a second for 100,000.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long the whole look may take where there is not much time.
pub const HURRIED_LOOK: Duration = Duration::from_secs(1);

/// The most that is read of what git says, in bytes: more than 10,000 changed files are compared in part.
const MOST_SAID: u64 = 2 * 1024 * 1024;

/// The largest file of the repository that is kept, in bytes. Of larger ones it is known that they have changed.
const LARGEST_KEPT: u64 = 1024 * 1024;

/// The most hooks that are looked at.
const MOST_HOOKS: usize = 64;

/// What a checkout is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckoutState {
    /// The commit.
    pub commit: String,
    /// The branch; `(detached)` for none.
    pub branch: String,
    /// The tracked files that differ from the commit, staged or not, each with what tells one difference from another.
    files: BTreeMap<PathBuf, String>,
    /// The configuration and the hooks.
    private: BTreeMap<PathBuf, PrivateFile>,
    /// The branches that are not checked out there, with their commits.
    branches: BTreeMap<String, String>,
}

/// A file of the repository itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateFile {
    mode: u32,
    /// What is in it; its size and time when it is too large.
    content: Result<Vec<u8>, (u64, i64)>,
}

impl PrivateFile {
    /// Writes it to another place, with its permissions.
    ///
    /// # Errors
    /// When it was too large to be kept, or cannot be written.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(content) = &self.content else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)?;
        fs::set_permissions(path, Permissions::from_mode(self.mode & 0o777))
    }
}

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckoutChange {
    /// Another commit or branch is checked out.
    Head,
    /// A tracked file.
    File {
        /// Relative to the root of the checkout.
        path: PathBuf,
        /// Whether it was then as it is committed.
        was_clean: bool,
    },
    /// The configuration, or a hook.
    Private {
        /// Relative to the repository's common directory.
        path: PathBuf,
        /// What it was; none when there was none.
        before: Option<PrivateFile>,
    },
    /// A branch that was there is gone, or ends elsewhere. A new one is no loss.
    Branch {
        /// Its name, without `refs/heads/`.
        name: String,
        /// The commit that it ended at.
        before: String,
    },
}

impl CheckoutState {
    /// Looks at the checkout with this root, but not at the folder `ignoring` (relative to it).
    ///
    /// # Errors
    /// When git does not say, or takes too long.
    pub async fn look(
        git: &Git,
        root: &Path,
        common_dir: &Path,
        ignoring: Option<&str>,
    ) -> Result<Self, GitError> {
        let mut call = git.call(root).read_only().deadline(DEADLINE);
        call = call.capture(MOST_SAID).args([
            "status",
            "--porcelain=v2",
            "-z",
            "--branch",
            "--untracked-files=no",
            "--ignore-submodules=all",
            "--no-renames",
        ]);
        if let Some(folder) = ignoring {
            call = call.args(["--", ":/", &format!(":(top,exclude,literal){folder}")]);
        }
        let said = call.run().await?.stdout;
        let (root, common_dir) = (root.to_owned(), common_dir.to_owned());
        let looked = blocking(move || {
            let mut state = Self::of_status(&said);
            for (path, difference) in &mut state.files {
                difference.push_str(&stamp(&root.join(path)));
            }
            state.private = private_files(&common_dir);
            state.branches = branches(&common_dir).unwrap_or_else(|error| {
                tracing::warn!(%error, "the branches are not looked at");
                BTreeMap::new()
            });
            state.branches.remove(&state.branch);
            state
        });
        Ok(looked.await)
    }

    fn of_status(said: &[u8]) -> Self {
        let mut state = Self {
            commit: String::new(),
            branch: String::new(),
            files: BTreeMap::new(),
            private: BTreeMap::new(),
            branches: BTreeMap::new(),
        };
        for record in said.split(|byte| *byte == 0) {
            let text = String::from_utf8_lossy(record);
            if let Some(commit) = text.strip_prefix("# branch.oid ") {
                commit.clone_into(&mut state.commit);
            } else if let Some(branch) = text.strip_prefix("# branch.head ") {
                branch.clone_into(&mut state.branch);
            }
            // Fields before the path, of a changed and of an unmerged file.
            let fields = match record.first() {
                Some(b'1') => 8,
                Some(b'u') => 10,
                _ => continue,
            };
            let mut parts = record.splitn(fields + 1, |byte| *byte == b' ');
            let said: Vec<_> = parts.by_ref().take(fields).collect();
            if let Some(path) = parts.next() {
                let said = String::from_utf8_lossy(&said.join(&b' ')).into_owned();
                let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
                state.files.insert(path, said);
            }
        }
        state
    }

    /// What is not as it was in `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<CheckoutChange> {
        let mut changes = Vec::new();
        if (&self.commit, &self.branch) != (&before.commit, &before.branch) {
            changes.push(CheckoutChange::Head);
        }
        // When another commit is checked out, files differ from something else; those are told by it.
        let same_commit = self.commit == before.commit;
        for path in different(&before.files, &self.files).filter(|_| same_commit) {
            changes.push(CheckoutChange::File {
                was_clean: !before.files.contains_key(path),
                path: path.clone(),
            });
        }
        for path in different(&before.private, &self.private) {
            changes.push(CheckoutChange::Private {
                before: before.private.get(path).cloned(),
                path: path.clone(),
            });
        }
        for (name, commit) in &before.branches {
            // Which one is checked out is told already.
            if self.branches.get(name) != Some(commit) && *name != self.branch {
                changes.push(CheckoutChange::Branch {
                    name: name.clone(),
                    before: commit.clone(),
                });
            }
        }
        changes
    }
}

/// The keys with different values, or that only one of two maps has, in order.
fn different<'a, V: PartialEq>(
    one: &'a BTreeMap<PathBuf, V>,
    other: &'a BTreeMap<PathBuf, V>,
) -> impl Iterator<Item = &'a PathBuf> {
    let gone_or_changed = one
        .iter()
        .filter(|(key, value)| other.get(*key) != Some(*value));
    let new = other.iter().filter(|(key, _)| !one.contains_key(*key));
    let keys = gone_or_changed.chain(new).map(|(key, _)| key);
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys.into_iter()
}

/// What tells one content of a file from another without reading it.
fn stamp(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Ok(data) => format!(" {} {}.{}", data.len(), data.mtime(), data.mtime_nsec()),
        Err(_) => " gone".to_owned(),
    }
}

fn branches(common_dir: &Path) -> Result<BTreeMap<String, String>, git2::Error> {
    let opened = git2::Repository::open(common_dir)?;
    let mut branches = BTreeMap::new();
    for reference in opened.references_glob("refs/heads/*")? {
        let Ok(reference) = reference else { continue };
        if let (Ok(name), Some(commit)) = (reference.shorthand(), reference.target()) {
            branches.insert(name.to_owned(), commit.to_string());
        }
    }
    Ok(branches)
}

fn private_files(common_dir: &Path) -> BTreeMap<PathBuf, PrivateFile> {
    let mut paths = vec![PathBuf::from("config"), PathBuf::from("config.worktree")];
    let hooks = fs::read_dir(common_dir.join("hooks"));
    let hooks = hooks.into_iter().flatten().flatten();
    let mut hooks: Vec<_> = hooks
        .map(|entry| entry.file_name())
        // Git makes these with every repository, and never calls them.
        .filter(|name| !name.as_bytes().ends_with(b".sample"))
        .map(|name| Path::new("hooks").join(name))
        .collect();
    hooks.sort_unstable();
    hooks.truncate(MOST_HOOKS);
    paths.append(&mut hooks);
    let read = |path: PathBuf| Some((read_private(&common_dir.join(&path))?, path));
    let files = paths.into_iter().filter_map(read);
    files.map(|(file, path)| (path, file)).collect()
}

fn read_private(path: &Path) -> Option<PrivateFile> {
    let data = fs::metadata(path).ok()?;
    let small = data.is_file() && data.len() <= LARGEST_KEPT;
    let content = small.then(|| fs::read(path).ok()).flatten();
    Some(PrivateFile {
        mode: data.mode(),
        content: content.ok_or((data.len(), data.mtime())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::Fixture;

    async fn look(fixture: &Fixture) -> CheckoutState {
        let (git, root) = (&fixture.git, &fixture.root);
        let common_dir = root.join(".git");
        let looked = CheckoutState::look(git, root, &common_dir, Some("board"));
        looked.await.unwrap()
    }

    #[tokio::test]
    async fn whatever_is_different_is_named_once() {
        let fixture = Fixture::new().await;
        fixture.sh(
            "mkdir -p board 'a ü'; echo 1 > board/s; echo 1 > 'a ü/f'; echo 1 > dirty; \
                    git branch moved; git branch gone; git branch stays; git add .; git commit -qm more; echo 2 > dirty; echo x > .git/hooks/old",
        );
        let before = look(&fixture).await;
        assert_eq!(look(&fixture).await.changes_since(&before), []);
        fixture.sh(
            "echo 2 > board/s; echo 22 > 'a ü/f'; echo 33 > dirty; git config a.b c; \
                    rm .git/hooks/old; echo y > .git/hooks/new; echo untracked > u; \
                    git branch -q -f moved; git branch -q -D gone; git branch new",
        );
        let after = look(&fixture).await;
        let changes = after.changes_since(&before);
        let shown: Vec<String> = changes
            .iter()
            .map(|change| match change {
                CheckoutChange::Head => "head".to_owned(),
                CheckoutChange::File { path, was_clean } => {
                    format!("{} {was_clean}", path.display())
                }
                CheckoutChange::Private { path, before } => {
                    format!("{} {}", path.display(), before.is_some())
                }
                CheckoutChange::Branch { name, .. } => name.clone(),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a ü/f true",
                "dirty false",
                "config true",
                "hooks/new false",
                "hooks/old true",
                "gone",
                "moved"
            ]
        );
        assert_eq!(after.changes_since(&after), []);
        fixture.sh("git commit -qam next");
        let moved = look(&fixture).await.changes_since(&after);
        assert_eq!(moved, [CheckoutChange::Head]);
    }

    #[tokio::test]
    async fn what_was_in_a_file_of_the_repository_can_be_written_again() {
        let fixture = Fixture::new().await;
        fixture.sh("echo old > .git/hooks/h; chmod 755 .git/hooks/h");
        let before = look(&fixture).await;
        fixture.sh("echo new > .git/hooks/h");
        let changes = look(&fixture).await.changes_since(&before);
        let [
            CheckoutChange::Private {
                before: Some(file), ..
            },
        ] = &changes[..]
        else {
            panic!("{changes:?}");
        };
        let kept = fixture.root.join("kept/h");
        file.write_to(&kept).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "old\n");
        assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o755);
    }
}
