//! Where two lines of work touch the same files, and whether they can be merged. Reads only: merges are made in memory,
//! and a worktree in which an agent works is looked at without a lock and without refreshing its index.
//!
//! Paths are relative to the repository, with `/`; what is not UTF-8 in them is replaced. Every list is sorted, names a
//! path once, and has at most [`MAX_OVERLAP_PATHS`] paths.

use std::collections::BTreeSet;
use std::path::Path;

use super::changes;
use super::commit_id::CommitId;
use super::repository::{Repository, RepositoryError, open};

/// The most paths in a list; a list of this length may be cut. It is the limit of [`super::Changes`]: two lines of
/// work that touch more files than this (new formatting, a vendored library) get in the way of everything anyway.
pub const MAX_OVERLAP_PATHS: usize = changes::MAX_CHANGED_PATHS;

/// How deep merge bases are merged with each other when there is more than one. People's histories need two or three
/// levels. Without a limit libgit2 goes as deep as the history does, and one of some thousand crossed merges ends the
/// process, because every level takes some of the thread's stack.
const MAX_BASE_DEPTH: u32 = 20;

/// Above those of a repository on disk (1 and 2), so that new objects go there.
const MEMORY_PRIORITY: i32 = 1000;

impl Repository {
    /// The paths that conflict when `one` and `other` are merged; none when they merge cleanly. No object, reference or
    /// index is written. The order of the two does not matter.
    ///
    /// Takes some milliseconds and more with the number of files (about 11 ms for 2000), so that it pays to ask
    /// [`Self::changed_between`] first when many are compared.
    ///
    /// It is libgit2's merge, with renames detected as git does by default (from half of the content on). Where it
    /// differs from `git merge`:
    ///
    /// - Git also detects renamed directories, and reports files that the other side added to the old one.
    /// - Lines are matched by Myers' algorithm, not by histogram. That makes a difference only in files of few different
    ///   lines that repeat, where git finds more conflicts; in source code none was found.
    /// - Similarity is measured in another way, so that a file near the threshold may be renamed for one only; with
    ///   more than 1000 changed paths (or `merge.renameLimit`) only exact renames are found. `merge.renames=false` is
    ///   not read.
    /// - Of a renamed file in conflict, the old name is a path too.
    /// - Merge drivers that are programs are not run: such a file is merged as text. A submodule that both sides moved
    ///   is a conflict, where git takes the newer commit if it can.
    /// - Merge bases are merged with each other only to a depth of 20.
    ///
    /// Histories without a common commit are merged over an empty base: what both have with different content
    /// conflicts.
    ///
    /// # Errors
    /// When a commit, or something of its content, cannot be read.
    pub fn merge_conflicts(
        &self,
        one: CommitId,
        other: CommitId,
    ) -> Result<Vec<String>, RepositoryError> {
        if one == other {
            return Ok(Vec::new());
        }
        conflicts(&self.open_common()?, one, other)
            .map_err(|error| self.read_error("a merge", error))
    }

    /// The paths in which the trees of two commits differ; of a renamed file, both. Of a branch, pass the commit that
    /// it started from as `base`.
    ///
    /// # Errors
    /// When a commit cannot be read.
    pub fn changed_between(
        &self,
        base: CommitId,
        tip: CommitId,
    ) -> Result<Vec<String>, RepositoryError> {
        let opened = self.open_common()?;
        differing(&opened, base.oid(), tip.oid())
            .map(limited)
            .map_err(|error| self.read_error("a difference", error))
    }

    /// The paths in which the work tree at `worktree` differs from `base`: what was committed there since, is staged,
    /// is changed, and is untracked but not ignored; without those below the folder `ignoring` (relative to that work
    /// tree, with `/`). A change that was committed and then taken back without a commit counts.
    ///
    /// It may be called while somebody works there: no lock is taken, and nothing is written. What changes meanwhile
    /// may or may not be seen.
    ///
    /// # Errors
    /// When the work tree cannot be read, or has nothing checked out.
    pub fn changed_in_worktree(
        &self,
        worktree: &Path,
        base: CommitId,
        ignoring: Option<&str>,
    ) -> Result<Vec<String>, RepositoryError> {
        let opened = open(worktree)?;
        differing_on_disk(&opened, base, ignoring)
            .map(limited)
            .map_err(|error| self.read_error("the changes of a worktree", error))
    }
}

fn conflicts(
    opened: &git2::Repository,
    one: CommitId,
    other: CommitId,
) -> Result<Vec<String>, git2::Error> {
    // A merge makes an object of every file that it merges. Without this they would be written to the repository.
    opened.odb()?.add_new_mempack_backend(MEMORY_PRIORITY)?;
    let mut options = git2::MergeOptions::new();
    options
        .find_renames(true)
        .skip_reuc(true)
        .recursion_limit(MAX_BASE_DEPTH);
    let one = opened.find_commit(one.oid())?;
    let other = opened.find_commit(other.oid())?;
    let merged = opened.merge_commits(&one, &other, Some(&options))?;
    let mut paths = BTreeSet::new();
    for conflict in merged.conflicts()? {
        let conflict = conflict?;
        let sides = [conflict.ancestor, conflict.our, conflict.their];
        paths.extend(sides.into_iter().flatten().map(|entry| text(&entry.path)));
    }
    Ok(limited(paths))
}

fn differing(
    opened: &git2::Repository,
    base: git2::Oid,
    tip: git2::Oid,
) -> Result<BTreeSet<String>, git2::Error> {
    let old = opened.find_commit(base)?.tree()?;
    let new = opened.find_commit(tip)?.tree()?;
    let diff = opened.diff_tree_to_tree(Some(&old), Some(&new), None)?;
    let sides = diff
        .deltas()
        .flat_map(|delta| [delta.old_file(), delta.new_file()]);
    Ok(sides
        .filter_map(|file| file.path_bytes().map(text))
        .collect())
}

fn differing_on_disk(
    opened: &git2::Repository,
    base: CommitId,
    ignoring: Option<&str>,
) -> Result<BTreeSet<String>, git2::Error> {
    let head = opened.head()?.peel_to_commit()?.id();
    let mut paths = differing(opened, base.oid(), head)?;
    if let Some(folder) = ignoring {
        paths.retain(|path| !Path::new(path).starts_with(folder));
    }
    let changes = changes::read(opened, ignoring)?;
    for path in changes.paths {
        // A repository inside of the work tree is one path, that git writes with a slash behind it.
        let path = path.to_string_lossy();
        paths.insert(path.trim_end_matches('/').to_owned());
    }
    Ok(paths)
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn limited(paths: BTreeSet<String>) -> Vec<String> {
    paths.into_iter().take(MAX_OVERLAP_PATHS).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::git::test_support::{Fixture, sh};

    /// Twelve lines, so that changes at both ends merge and a changed file is still the same file.
    const LINES: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";

    /// The conflicts between two branches, each made by a script that starts from the same commit with a file of
    /// [`LINES`] and one in a folder; and what git says.
    async fn merged(one: &str, other: &str) -> (Vec<String>, Vec<String>) {
        let fixture = Fixture::new().await;
        fixture.write("lines", LINES);
        fixture.sh("git add -A && git commit -qm base");
        for (branch, script) in [("one", one), ("other", other)] {
            fixture.sh(&format!(
                "git checkout -qf -b {branch} trunk; {script}; git add -A; git commit -q --allow-empty -m x"
            ));
        }
        both(&fixture, "one", "other")
    }

    fn both(fixture: &Fixture, one: &str, other: &str) -> (Vec<String>, Vec<String>) {
        let repository = fixture.repository();
        let resolve = |name| repository.resolve(name).unwrap();
        let found = repository
            .merge_conflicts(resolve(one), resolve(other))
            .unwrap();
        let turned = repository
            .merge_conflicts(resolve(other), resolve(one))
            .unwrap();
        assert_eq!(found, turned, "the order of the two matters");
        (found, by_git(fixture, one, other))
    }

    fn by_git(fixture: &Fixture, one: &str, other: &str) -> Vec<String> {
        let output = fixture.sh(&format!(
            "git merge-tree --write-tree --allow-unrelated-histories --name-only --no-messages {one} {other} \
             || test $? = 1"
        ));
        output.lines().skip(1).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn scenarios_conflict_where_git_says_so() {
        let cases: [(&str, &str, &[&str]); 24] = [
            ("sed -i s/^1$/x/ lines", "sed -i s/^12$/x/ lines", &[]),
            ("sed -i s/^1$/x/ lines", "sed -i s/^1$/y/ lines", &["lines"]),
            ("sed -i s/^1$/x/ lines", "sed -i s/^1$/x/ lines", &[]),
            ("true", "rm lines; echo x > new", &[]),
            // Added by both.
            ("echo a > new", "echo b > new", &["new"]),
            ("echo a > new", "echo a > new", &[]),
            // Removed by one.
            ("rm lines", "echo 13 >> lines", &["lines"]),
            ("rm lines", "chmod +x lines", &["lines"]),
            ("rm lines", "rm lines", &[]),
            // Renamed.
            ("git mv lines moved", "echo 13 >> lines", &[]),
            ("git mv dir moved", "echo a > dir/other.txt", &[]),
            (
                "git mv lines moved; sed -i s/^1$/x/ moved",
                "sed -i s/^1$/y/ lines",
                &["lines", "moved"],
            ),
            (
                "git mv lines moved",
                "git mv lines new",
                &["lines", "moved", "new"],
            ),
            (
                "git mv lines moved",
                "git mv file.txt moved",
                &["file.txt", "lines", "moved"],
            ),
            ("git mv lines moved", "rm lines", &["lines", "moved"]),
            ("git mv lines moved", "echo b > moved", &["lines", "moved"]),
            // A file and a folder; git gives the file another name.
            ("echo a > new", "mkdir new; echo a > new/a", &["new"]),
            (
                "rm -r dir; echo a > dir",
                "echo b > dir/other.txt",
                &["dir", "dir/other.txt"],
            ),
            // Binary files and links.
            (
                "printf 'a\\0b' > lines",
                "printf 'a\\0c' > lines",
                &["lines"],
            ),
            ("printf 'a\\0b' > new", "printf 'a\\0c' > new", &["new"]),
            ("printf 'a\\0b' > lines", "echo x > file.txt", &[]),
            ("ln -s a link", "ln -s b link", &["link"]),
            ("rm lines; ln -s a lines", "echo 13 >> lines", &["lines"]),
            ("chmod +x lines", "echo 13 >> lines", &[]),
        ];
        for (one, other, expected) in cases {
            let (found, git) = merged(one, other).await;
            assert_eq!(found, expected, "{one} | {other}");
            assert_eq!(git.is_empty(), expected.is_empty(), "git: {git:?}");
        }
        // Where git has its own opinion: the new file would go to the new folder.
        let (found, git) = merged("git mv dir moved", "echo a > dir/new").await;
        assert!(found.is_empty() && git == ["moved/new"]);
    }

    #[tokio::test]
    async fn submodules_conflict_when_both_sides_move_them() {
        let fixture = Fixture::new().await;
        let commit = |branch: &str, from: &str, digit: &str| {
            let id = digit.repeat(40);
            fixture.sh(&format!(
                "git checkout -qf -b {branch} {from}; git update-index --add --cacheinfo 160000,{id},sub; \
                 git commit -qm x"
            ));
        };
        commit("base", "trunk", "1");
        commit("two", "base", "2");
        commit("three", "base", "3");
        commit("added", "trunk", "4");
        assert_eq!(both(&fixture, "two", "three").0, ["sub"]);
        assert_eq!(both(&fixture, "two", "added").0, ["sub"]);
        assert!(both(&fixture, "two", "trunk").0.is_empty());
        assert_eq!(by_git(&fixture, "two", "three"), ["sub"]);
    }

    #[tokio::test]
    async fn histories_of_every_shape_are_merged() {
        let fixture = Fixture::new().await;
        fixture.sh("git checkout -q -b ahead; echo two > file.txt; git commit -qam x");
        let none: (Vec<String>, Vec<String>) = Default::default();
        assert_eq!(both(&fixture, "trunk", "ahead"), none);
        assert_eq!(both(&fixture, "ahead", "ahead"), none);
        // Nothing in common: what both have must be the same.
        fixture.sh(
            "git checkout -q --orphan alone; git rm -rqf .; mkdir dir; echo other > dir/other.txt; \
             echo x > new; git add .; git commit -qm x",
        );
        assert_eq!(both(&fixture, "trunk", "alone"), none);
        fixture.sh("echo x > file.txt; git add .; git commit -qm x");
        let (found, git) = both(&fixture, "trunk", "alone");
        assert_eq!(
            (found, git),
            (vec!["file.txt".to_owned()], vec!["file.txt".to_owned()])
        );
        // Two merge bases, each with one half of what both sides have.
        fixture.write("lines", LINES);
        fixture.sh(
            "git checkout -qf trunk; git add lines; git commit -qm x; \
             git checkout -q -b left; sed -i s/^1$/x/ lines; git commit -qam x; \
             git checkout -q -b right trunk; sed -i s/^12$/y/ lines; git commit -qam x; \
             git checkout -q -b one left; git merge -q right; git checkout -q -b other right; git merge -q left",
        );
        assert_eq!(both(&fixture, "one", "other"), none);
        fixture.sh("sed -i s/^6$/a/ lines; git commit -qam x");
        assert_eq!(both(&fixture, "one", "other"), none);
        fixture.sh("git checkout -q one; sed -i s/^6$/b/ lines; git commit -qam x");
        let (found, git) = both(&fixture, "one", "other");
        assert_eq!(
            (found, git),
            (vec!["lines".to_owned()], vec!["lines".to_owned()])
        );
    }

    #[tokio::test]
    async fn a_history_of_endlessly_crossed_merges_is_no_end_of_the_stack() {
        let fixture = Fixture::new().await;
        let commit = |branch: &str, mark: usize, parents: &[usize]| {
            let parents: Vec<_> = ["from", "merge"]
                .iter()
                .zip(parents)
                .map(|(word, mark)| format!("{word} :{mark}\n"))
                .collect();
            format!(
                "commit refs/heads/{branch}\nmark :{mark}\ncommitter A <a@example.org> {mark} +0000\ndata 0\n{}\
                 M 100644 inline {branch}\ndata <<.\n{mark}\n.\n",
                parents.concat()
            )
        };
        let mut history =
            commit("base", 1, &[]) + &commit("one", 2, &[1]) + &commit("other", 3, &[1]);
        for mark in (4..10_000).step_by(2) {
            history += &commit("one", mark, &[mark - 2, mark - 1]);
            history += &commit("other", mark + 1, &[mark - 1, mark - 2]);
        }
        let import = fixture.root.join(".git/import");
        fs::write(&import, history).unwrap();
        fixture.sh("git fast-import --quiet < .git/import");
        let repository = fixture.repository();
        let (one, other) = (
            repository.resolve("one").unwrap(),
            repository.resolve("other").unwrap(),
        );
        // Which conflicts are found beyond the limit is not promised.
        assert!(repository.merge_conflicts(one, other).is_ok());
    }

    #[tokio::test]
    async fn merging_leaves_no_object_in_the_repository() {
        let fixture = Fixture::new().await;
        fixture.write("lines", LINES);
        fixture.sh(
            "git add .; git commit -qm x; git checkout -q -b one; sed -i s/^1$/x/ lines; git commit -qam x; \
             git checkout -q -b other trunk; sed -i s/^12$/y/ lines; git commit -qam x",
        );
        let objects = || fixture.sh("find .git -type f | sort");
        let before = objects();
        let repository = fixture.repository();
        let tip = |name| repository.branch_tip(name).unwrap().unwrap();
        let found = repository
            .merge_conflicts(tip("one"), tip("other"))
            .unwrap();
        assert!(found.is_empty());
        assert_eq!(objects(), before);
        let missing = "1".repeat(40).parse().unwrap();
        let error = repository.merge_conflicts(tip("one"), missing).unwrap_err();
        assert!(matches!(
            error,
            RepositoryError::Read {
                what: "a merge",
                ..
            }
        ));
    }

    #[tokio::test]
    async fn a_worktree_differs_in_everything_that_was_done_there() {
        let fixture = Fixture::new().await;
        fixture.write("same.txt", LINES);
        fixture.write(".gitignore", "*.log\n");
        fixture.sh("git add .; git commit -qm base; git worktree add -q -b story ../story");
        let base = fixture.head();
        let story = fixture.root.join("../story");
        let changed = || {
            fixture
                .repository()
                .changed_in_worktree(&story, base, Some(".ai-sdlc/"))
                .unwrap()
        };
        assert!(changed().is_empty());
        sh(
            &story,
            "mkdir -p new .ai-sdlc/a .ai-sdlc-like; echo x > committed; echo x > .ai-sdlc/committed; \
             git mv file.txt renamed; git add .; git commit -qm x; \
             echo x > staged; git add staged; rm dir/other.txt; echo x > new/ünew; echo x > a.log; \
             echo x > .ai-sdlc/a/b; echo x > .ai-sdlc-like/x; git init -q inner; touch same.txt",
        );
        let admin = || {
            sh(
                &story,
                "cd \"$(git rev-parse --git-dir)\"; find . -type f | sort | xargs sha1sum; stat -c '%y %i' index",
            )
        };
        // As when a git is at work there.
        sh(&story, "touch \"$(git rev-parse --git-dir)/index.lock\"");
        let before = admin();
        assert_eq!(
            changed(),
            [
                ".ai-sdlc-like/x",
                "committed",
                "dir/other.txt",
                "file.txt",
                "inner",
                "new/ünew",
                "renamed",
                "staged",
            ]
        );
        assert_eq!(admin(), before);
        // What is committed on the base's side is no change of the worktree.
        fixture.sh("echo x > later; git add .; git commit -qm later");
        assert_eq!(changed().len(), 8);
        let tip = fixture.repository().branch_tip("story").unwrap().unwrap();
        assert_eq!(
            fixture.repository().changed_between(base, tip).unwrap(),
            [".ai-sdlc/committed", "committed", "file.txt", "renamed"]
        );
    }

    #[tokio::test]
    async fn lists_are_cut_and_names_of_any_bytes_are_shown() {
        let fixture = Fixture::new().await;
        let base = fixture.head();
        fixture
            .sh("mkdir many; cd many; seq 1100 | xargs touch; touch \"$(printf '../caf\\351')\"");
        let repository = fixture.repository();
        let untracked = repository
            .changed_in_worktree(&fixture.root, base, None)
            .unwrap();
        assert_eq!(untracked.len(), MAX_OVERLAP_PATHS);
        fixture.sh("git add .; git commit -qm many");
        let changed = repository.changed_between(base, fixture.head()).unwrap();
        assert_eq!(changed.len(), MAX_OVERLAP_PATHS);
        assert_eq!(changed[..2], ["caf\u{fffd}", "many/1"]);
        assert!(changed.is_sorted());
        fixture.sh(
            "git checkout -q -b other HEAD~; mkdir many; cd many; for n in $(seq 1100); do echo > $n; done; \
             git add .; git commit -qm other; \
             git checkout -q trunk; for n in $(seq 1100); do echo x > $n; done; git commit -qam x",
        );
        let other = repository.branch_tip("other").unwrap().unwrap();
        let conflicts = repository.merge_conflicts(fixture.head(), other).unwrap();
        assert_eq!(conflicts.len(), MAX_OVERLAP_PATHS);
    }

    /// Numbers that look random and are the same in every run (an xorshift generator).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    type Files = BTreeMap<String, Vec<String>>;

    /// Some small changes: lines changed, added and removed; a file removed; a file added under one of few names.
    fn changed(base: &Files, numbers: &mut Numbers) -> Files {
        let mut files = base.clone();
        for _ in 0..=numbers.below(8) {
            let name = format!("f{}", numbers.below(4));
            let word = format!("word {}", numbers.below(3));
            match (numbers.below(12), files.get_mut(&name)) {
                (0, _) => drop(files.remove(&name)),
                (1, _) => drop(files.insert(format!("new{}", numbers.below(3)), vec![word])),
                (_, None) => {}
                (kind, Some(lines)) => {
                    let place = usize::try_from(numbers.below(lines.len() as u64)).unwrap();
                    match kind {
                        2..=3 if lines.len() > 20 => drop(lines.remove(place)),
                        4..=6 => lines.insert(place, word),
                        _ => lines[place] = word,
                    }
                }
            }
        }
        files
    }

    fn commit(opened: &git2::Repository, files: &Files, parent: Option<git2::Oid>) -> git2::Oid {
        let mut tree = opened.treebuilder(None).unwrap();
        for (name, lines) in files {
            let blob = opened.blob(format!("{}\n", lines.join("\n")).as_bytes());
            tree.insert(name, blob.unwrap(), 0o100_644).unwrap();
        }
        let tree = opened.find_tree(tree.write().unwrap()).unwrap();
        let parent = parent.map(|parent| opened.find_commit(parent).unwrap());
        let who = git2::Signature::new("a", "a@example.org", &git2::Time::new(0, 0)).unwrap();
        let parents: Vec<_> = parent.iter().collect();
        opened
            .commit(None, &who, &who, "x", &tree, &parents)
            .unwrap()
    }

    #[tokio::test]
    async fn random_changes_conflict_where_git_says_so() {
        let fixture = Fixture::new().await;
        let repository = fixture.repository();
        let opened = repository.open_common().unwrap();
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut conflicting = 0;
        for round in 0..ROUNDS {
            let base: Files = (0..4)
                .map(|file| {
                    let lines = (0..25).map(|line| format!("line {line} of {file}"));
                    (format!("f{file}"), lines.collect())
                })
                .collect();
            let root = commit(&opened, &base, None);
            let one = commit(&opened, &changed(&base, &mut numbers), Some(root));
            let other = commit(&opened, &changed(&base, &mut numbers), Some(root));
            let found = repository
                .merge_conflicts(one.into(), other.into())
                .unwrap();
            let git = by_git(&fixture, &one.to_string(), &other.to_string());
            assert_eq!(found, git, "round {round}: {one} and {other} from {root}");
            conflicting += usize::from(!found.is_empty());
        }
        // Neither answer is the exception.
        assert!(
            (ROUNDS / 5..ROUNDS * 4 / 5).contains(&conflicting),
            "{conflicting}"
        );
    }

    const ROUNDS: usize = 200;
}
