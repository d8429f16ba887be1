//! Whatever an agent leaves in its worktree: the bytes before are the bytes that come back.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::tests::{Story, Tree, tree_below};
use super::*;
use crate::git::test_support::sh;

/// Something that an agent does. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Act {
    Write(Vec<OsString>, Vec<u8>, bool),
    Change(usize, Vec<u8>),
    Delete(usize),
    Rename(usize, Vec<OsString>),
    Link(Vec<OsString>, OsString),
    Ignored(Vec<OsString>),
    Stage,
    Unstage,
    Commit,
    /// A repository of its own, with or without a commit.
    Repository(Vec<OsString>, bool),
}

/// A name that git can hold: any bytes but `/` and zero, and none of those that mean something.
fn name() -> impl Strategy<Value = OsString> {
    let odd = prop::sample::select(vec![
        " a b ",
        "ü",
        "line\nbreak",
        "-n",
        "~",
        "a\\b",
        "\"q\"",
        ":(top)x",
        "*",
    ]);
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(OsString::from),
        2 => odd.prop_map(OsString::from),
        1 => prop::collection::vec(1..=255_u8, 1..12).prop_map(OsString::from_vec),
    ]
    .prop_filter("a name that means something", |name| {
        let is_ignored = Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "log");
        let bytes = name.as_encoded_bytes();
        !bytes.contains(&b'/') && !bytes.starts_with(b".") && !is_ignored
    })
}

fn path() -> impl Strategy<Value = Vec<OsString>> {
    prop::collection::vec(name(), 1..4)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 9_000..9_100),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (path(), bytes(), any::<bool>()).prop_map(|(path, bytes, run)| Act::Write(path, bytes, run)),
        3 => (any::<usize>(), bytes()).prop_map(|(which, bytes)| Act::Change(which, bytes)),
        2 => any::<usize>().prop_map(Act::Delete),
        2 => (any::<usize>(), path()).prop_map(|(which, path)| Act::Rename(which, path)),
        2 => (path(), name()).prop_map(|(path, target)| Act::Link(path, target)),
        1 => path().prop_map(Act::Ignored),
        2 => Just(Act::Stage),
        1 => Just(Act::Unstage),
        1 => Just(Act::Commit),
        1 => (path(), any::<bool>()).prop_map(|(path, commit)| Act::Repository(path, commit)),
    ]
}

/// Does it, as far as what is there allows.
fn perform(story: &Story, act: &Act) {
    let root = story.path();
    let full = |path: &[OsString]| root.join(path.iter().collect::<PathBuf>());
    let pick = |which: usize| {
        let tree = tree_below(root);
        // What is ignored stays what it is.
        let kept = [".git", ".gitignore"];
        let inside = |path: &&PathBuf| {
            !path
                .iter()
                .any(|part| kept.iter().any(|kept| part == *kept))
        };
        let files: Vec<_> = tree.keys().filter(inside).cloned().collect();
        files
            .get(which % files.len().max(1))
            .map(|path| root.join(path))
    };
    let make_room = |path: &Path| {
        path.parent()
            .is_some_and(|above| fs::create_dir_all(above).is_ok())
            && path.symlink_metadata().is_err()
    };
    match act {
        Act::Write(path, bytes, run) => {
            let path = full(path);
            if make_room(&path) {
                fs::write(&path, bytes).unwrap();
                let mode = if *run { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        Act::Change(which, bytes) => {
            if let Some(path) = pick(*which).filter(|path| !path.is_symlink()) {
                fs::write(path, bytes).unwrap();
            }
        }
        Act::Delete(which) => {
            if let Some(path) = pick(*which) {
                fs::remove_file(path).unwrap();
            }
        }
        Act::Rename(which, path) => {
            let to = full(path);
            if make_room(&to)
                && let Some(from) = pick(*which)
            {
                // A folder on the way may have been the file.
                drop(fs::rename(from, to));
            }
        }
        Act::Link(path, target) => {
            let path = full(path);
            if make_room(&path) {
                symlink(target, path).unwrap();
            }
        }
        Act::Ignored(path) => {
            let path = full(path).with_extension("log");
            if make_room(&path) {
                fs::write(path, "ignored").unwrap();
            }
        }
        // Git may refuse something of it.
        Act::Stage => drop(story.sh("git add -A 2>/dev/null || true")),
        Act::Unstage => drop(story.sh("git reset -q 2>/dev/null || true")),
        Act::Commit => drop(story.sh("git commit -qm more >/dev/null 2>&1 || true")),
        Act::Repository(path, commit) => {
            let path = full(path);
            let free = path.iter().all(|part| part != ".git");
            if free && fs::create_dir_all(&path).is_ok() {
                let id = "git -c user.name=a -c user.email=b";
                let commit = if *commit {
                    format!("echo x > x; git add x; {id} commit -qm x")
                } else {
                    String::new()
                };
                sh(
                    &path,
                    &format!("test -e .git || git init -q --template= .; {commit}"),
                );
            }
        }
    }
}

/// The paths at which two trees differ.
fn differing(one: &Tree, other: &Tree) -> Vec<PathBuf> {
    let paths = one.keys().chain(other.keys());
    paths
        .filter(|path| one.get(*path) != other.get(*path))
        .cloned()
        .collect()
}

/// Whether a path lies in a repository inside of the worktree, which has rules of its own of what is ignored.
fn is_in_repository(path: &Path, tree: &Tree) -> bool {
    let folders = path.ancestors().skip(1);
    let inside = folders.filter(|folder| !folder.as_os_str().is_empty());
    let mut marks = inside.map(|folder| folder.join(".git"));
    marks.any(|mark| tree.keys().any(|path| path.starts_with(&mark)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_bytes_before_are_the_bytes_that_come_back(acts in prop::collection::vec(act(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let story = Story::new().await;
            for act in &acts {
                perform(&story, act);
            }
            let before = tree_below(story.path());
            let mut expected = before.clone();
            expected.retain(|path, _| {
                let is_log = path.extension().is_some_and(|extension| extension == "log");
                !is_log || is_in_repository(path, &before)
            });
            let commit = match story.salvage().await {
                Some(commit) => commit,
                // Then the branch has it.
                None => story.sh("git rev-parse HEAD").trim().parse().unwrap(),
            };
            let restored = story.restored(commit).await;
            let differing = differing(&restored, &expected);
            assert!(differing.is_empty(), "{differing:?} differ");
            assert!(tree_below(story.path()) == before);
        });
    }
}
