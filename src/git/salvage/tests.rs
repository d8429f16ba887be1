//! Each row of the table in the module's description, with the git program.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::*;
use crate::git::removal::{Removal, RemovalCheck};
use crate::git::test_support::{Fixture, sh, write};
use crate::git::worktree::Prepared;

/// What is at a path: a file with its bytes and whether it can be run, or a link with its target.
pub(super) type Tree = BTreeMap<PathBuf, (Vec<u8>, u32)>;

/// Everything below a folder, but for its own `.git`.
pub(super) fn tree_below(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            let data = path.symlink_metadata().unwrap();
            if relative == Path::new(".git") {
            } else if data.is_dir() {
                open.push(path);
            } else if data.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                tree.insert(
                    relative,
                    (target.as_os_str().as_encoded_bytes().to_vec(), 0o120_000),
                );
            } else if data.is_file() {
                let mode = data.permissions().mode() & 0o100;
                tree.insert(relative, (fs::read(&path).unwrap(), mode));
            }
        }
    }
    tree
}

pub(super) struct Story {
    fixture: Fixture,
    worktrees: Arc<Worktrees>,
    prepared: Prepared,
}

impl Story {
    pub(super) async fn new() -> Self {
        let fixture = Fixture::new().await;
        fixture.write(".gitignore", "*.log\n.ai-sdlc/worktrees\n");
        fixture.write("run.sh", "#!/bin/sh\n");
        fixture.sh("ln -s file.txt link; git add -A && git commit -qm more");
        let worktrees = fixture.worktrees();
        let request = fixture.request("S-0001");
        let prepared = worktrees.prepare(&request).await.unwrap();
        Self {
            fixture,
            worktrees,
            prepared,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.prepared.path
    }

    fn link(&self) -> Link {
        Link::read(self.path()).unwrap()
    }

    pub(super) fn sh(&self, script: &str) -> String {
        sh(self.path(), script)
    }

    async fn try_salvage(&self) -> Result<Option<CommitId>, SalvageError> {
        let attempt = AttemptNumber::FIRST;
        let story = "S-0001".parse().unwrap();
        let salvage = self
            .worktrees
            .salvage(self.path(), &story, attempt, "a test");
        let result = salvage.await;
        let admin = self.fixture.root.join(".git/worktrees/S-0001-a-title");
        let names = fs::read_dir(admin).unwrap();
        let left: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("salvage") || name.contains("lock") && name != "locked")
            .collect();
        assert_eq!(left, [""; 0], "files were left behind");
        result
    }

    pub(super) async fn salvage(&self) -> Option<CommitId> {
        self.try_salvage().await.unwrap()
    }

    /// What is given back of a salvage.
    pub(super) async fn restored(&self, commit: CommitId) -> Tree {
        let to = self.fixture.root.parent().unwrap().join("restored");
        let repository = self.fixture.repository();
        restore_files(&self.fixture.git, &repository, commit, &to)
            .await
            .unwrap();
        let tree = tree_below(&to);
        fs::remove_dir_all(to).unwrap();
        tree
    }

    /// Salvages, and checks that everything but `ignored` comes back.
    async fn check(&self, ignored: &[&str]) -> CommitId {
        let before = tree_below(self.path());
        let status = self.sh("git status --porcelain");
        let index = fs::read(
            self.fixture
                .root
                .join(".git/worktrees/S-0001-a-title/index"),
        );
        let commit = self.salvage().await.expect("something to save");
        let mut expected = before.clone();
        expected.retain(|path, _| !ignored.iter().any(|ignored| path.starts_with(ignored)));
        assert_eq!(self.restored(commit).await, expected);
        assert_eq!(tree_below(self.path()), before);
        let after = fs::read(
            self.fixture
                .root
                .join(".git/worktrees/S-0001-a-title/index"),
        );
        assert!(index.ok() == after.ok(), "the index has changed");
        assert_eq!(self.sh("git status --porcelain"), status);
        commit
    }

    fn parents(&self, commit: CommitId) -> Vec<String> {
        let listed = self.sh(&format!("git log -1 --format=%P {commit}"));
        listed.split_whitespace().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_clean_worktree_has_nothing_to_save() {
    let story = Story::new().await;
    write(story.path(), "build.log", "ignored");
    assert_eq!(story.salvage().await, None);
    story.sh("echo two > file.txt && git commit -qam two");
    assert_eq!(story.salvage().await, None);
    assert_eq!(story.sh("git for-each-ref refs/ai-sdlc"), "");
}

#[tokio::test]
async fn a_worktree_that_was_never_ready_has_nothing_to_save() {
    let story = Story::new().await;
    let admin = story.fixture.root.join(".git/worktrees/S-0001-a-title");
    story.sh("rm file.txt run.sh");
    fs::rename(admin.join("index"), admin.join("ai-sdlc-preparing")).unwrap();
    assert_eq!(story.salvage().await, None);
}

#[tokio::test]
async fn everything_that_differs_comes_back() {
    let story = Story::new().await;
    story.sh(
        "echo two > file.txt; chmod +x run.sh; rm link; ln -s nowhere link; ln -s dir dirlink; rm dir/other.txt
         mkdir -p 'new dir/ü'; printf 'a\\0b' > 'new dir/ü/b\nc'; echo x > $(printf 'bad\\377'); echo i > x.log
         echo b > 'back\\slash'; mkfifo pipe; mkdir empty; echo s > .ai-sdlc-not",
    );
    let commit = story.check(&["x.log", "pipe"]).await;
    let shown = story.sh(&format!("git log -1 --format='%an %s%n%P' {commit}"));
    let head = story.fixture.head();
    assert_eq!(
        shown,
        format!("Tester salvage of S-0001, attempt 1: a test\n{head}\n")
    );
    let reference = story.sh("git rev-parse refs/ai-sdlc/salvage/S-0001/1");
    assert_eq!(reference.trim(), commit.to_string());
}

#[tokio::test]
async fn the_same_again_is_not_saved_twice_and_something_else_keeps_the_first_in_the_reflog() {
    let story = Story::new().await;
    write(story.path(), "new.txt", "1");
    let first = story.salvage().await.unwrap();
    assert_eq!(story.salvage().await, Some(first));
    write(story.path(), "new.txt", "2");
    let second = story.salvage().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(story.parents(second), [story.fixture.head().to_string()]);
    let before = story.sh("git rev-parse 'refs/ai-sdlc/salvage/S-0001/1@{1}'");
    assert_eq!(before.trim(), first.to_string());
}

#[tokio::test]
async fn a_change_in_the_same_moment_and_of_the_same_length_is_seen() {
    let story = Story::new().await;
    for text in ["aaa", "bbb", "ccc", "ddd"] {
        story.sh(&format!(
            "printf xxx > racy; git add racy; printf {text} > racy"
        ));
        let commit = story.salvage().await.unwrap();
        let saved = story.sh(&format!("git show {commit}:racy"));
        assert_eq!(saved, text);
    }
}

#[tokio::test]
async fn what_is_staged_and_different_on_disk_is_the_second_parent() {
    let story = Story::new().await;
    story.sh("echo staged > file.txt; git add file.txt; echo later > file.txt; echo n > new; git add new; rm new");
    let commit = story.check(&[]).await;
    let parents = story.parents(commit);
    assert_eq!(parents.len(), 2);
    let staged = story.sh(&format!(
        "git show {0}:file.txt; git show {0}:new",
        parents[1]
    ));
    assert_eq!(staged, "staged\nn\n");
}

#[tokio::test]
async fn files_in_conflict_are_saved_as_they_are() {
    let story = Story::new().await;
    story.sh("echo ours > file.txt && git commit -qam ours");
    let theirs = "echo theirs > file.txt && git commit -qam theirs";
    story.fixture.sh(theirs);
    story.sh("git merge -q trunk >/dev/null 2>&1 || true; echo x > untracked");
    let commit = story.check(&[]).await;
    let saved = story.sh(&format!("git show {commit}:file.txt"));
    assert!(saved.contains("<<<<<<< HEAD\nours\n"), "{saved}");
}

#[tokio::test]
async fn whatever_is_checked_out_is_the_first_parent() {
    let story = Story::new().await;
    story.sh("git checkout -q -b elsewhere; echo x > x; git add x; git commit -qm x; echo y > y");
    let commit = story.check(&[]).await;
    let elsewhere = story.sh("git rev-parse elsewhere");
    assert_eq!(story.parents(commit), [elsewhere.trim()]);
    story.sh("rm y; git checkout -q --detach");
    assert_eq!(story.salvage().await, None);
    story.sh("git commit -q --allow-empty -m 'on no branch'");
    let commit = story.check(&[]).await;
    assert_eq!(
        story.parents(commit),
        [story.sh("git rev-parse HEAD").trim()]
    );
    let repository = story.fixture.repository();
    let salvages = repository.salvages().unwrap();
    // The branch of the story has nothing of what was committed elsewhere.
    let standing = repository.standing_of(&salvages[0]).unwrap();
    assert_eq!((standing.files, standing.differing), (1, 1));
    let origin = repository.origin_of(&salvages[0]).unwrap();
    assert_eq!(origin, Some(story.prepared.base));
    let files = repository.saved_files(&salvages[0], origin).unwrap();
    assert_eq!(files[0].path, Path::new("x"));
    story.sh("git checkout -q --orphan fresh; rm run.sh; git add -A");
    let commit = story.check(&[]).await;
    assert!(story.parents(commit).is_empty());
}

#[tokio::test]
async fn files_that_git_was_told_not_to_look_at_are_saved() {
    let story = Story::new().await;
    story.sh("git update-index --assume-unchanged file.txt; git update-index --skip-worktree run.sh; echo a > file.txt; echo b > run.sh");
    story.check(&[]).await;
}

#[tokio::test]
async fn a_sparse_checkout_does_not_lose_what_it_leaves_out() {
    let story = Story::new().await;
    story.sh("git sparse-checkout set --no-cone /file.txt 2>/dev/null; test ! -e dir; mkdir out; echo n > out/new; echo two > file.txt");
    for mode in [
        "",
        "git sparse-checkout set --cone --sparse-index other; echo three > file.txt",
    ] {
        story.sh(mode);
        let commit = story.salvage().await.unwrap();
        let saved = story.sh(&format!("git ls-tree -r --name-only {commit}"));
        let expected = ".gitignore\ndir/other.txt\nfile.txt\nlink\nout/new\nrun.sh\n";
        assert_eq!(saved, expected, "{mode}");
    }
}

#[tokio::test]
async fn a_split_index_is_read_and_stays() {
    let story = Story::new().await;
    story.sh("git update-index --split-index; echo two > file.txt; git add file.txt; echo three > file.txt");
    story.check(&[]).await;
}

#[tokio::test]
async fn an_index_that_is_missing_or_damaged_is_not_needed() {
    for script in [
        "rm",
        "truncate -s 0",
        "truncate -s 40",
        "dd status=none conv=notrunc if=/dev/zero of=",
    ] {
        let story = Story::new().await;
        let index = story
            .fixture
            .root
            .join(".git/worktrees/S-0001-a-title/index");
        let script = match script.strip_suffix('=') {
            Some(start) => format!("{start}='{}' bs=1 seek=20 count=80", index.display()),
            None => format!("{script} '{}'", index.display()),
        };
        story.sh(&format!("echo two > file.txt; rm dir/other.txt; {script}"));
        let before = tree_below(story.path());
        let commit = story.salvage().await.unwrap();
        assert_eq!(story.restored(commit).await, before, "{script}");
    }
}

#[tokio::test]
async fn a_worktree_that_has_lost_its_link_is_still_its_own() {
    let story = Story::new().await;
    write(story.path(), "new.txt", "x");
    fs::remove_file(story.path().join(".git")).unwrap();
    let before = tree_below(story.path());
    let commit = story.salvage().await.unwrap();
    assert_eq!(story.restored(commit).await, before);
    let elsewhere = story.path().join("dir");
    let story_id = "S-0001".parse().unwrap();
    let refused = story
        .worktrees
        .salvage(&elsewhere, &story_id, AttemptNumber::FIRST, "x");
    let error = refused.await.unwrap_err();
    assert!(
        matches!(error, SalvageError::NotAWorktree { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn repositories_inside_are_saved_with_all_they_have() {
    let story = Story::new().await;
    let id = "git -c user.name=a -c user.email=b";
    story.sh(&format!(
        "git init -q bare-new; echo n > bare-new/file
         git init -q 'deep/in side'; cd 'deep/in side'; echo f > f; {id} add f; {id} commit -qm x; echo '*.o' > .gitignore
         echo o > x.o; echo u > untracked; git init -q nested; echo y > nested/y; cd ../..
         git init -q swallowed; cd swallowed; echo s > s; {id} add s; {id} commit -qm s; cd ..; git add swallowed 2>/dev/null",
    ));
    let head = story.sh("git -C 'deep/in side' rev-parse HEAD");
    let commit = story.check(&["deep/in side/x.o"]).await;
    assert_eq!(story.salvage().await, Some(commit));
    let to = story.fixture.root.parent().unwrap().join("again");
    let repository = story.fixture.repository();
    let git = &story.fixture.git;
    restore_files(git, &repository, commit, &to).await.unwrap();
    assert_eq!(sh(&to, "git -C 'deep/in side' rev-parse HEAD"), head);
    assert_eq!(
        sh(&to, "git -C 'deep/in side' status --porcelain"),
        "?? .gitignore\n?? nested/\n?? untracked\n"
    );
    assert_eq!(sh(&to, "git -C bare-new status --porcelain"), "?? file\n");
    let again = restore_files(git, &repository, commit, &to).await;
    assert!(matches!(again, Err(RestoreError::Exists { .. })));
    // A checkpoint takes the files alone.
    story.sh("git update-ref -d refs/ai-sdlc/salvage/S-0001/1");
    let request = SalvageRequest {
        story: "S-0001".parse().unwrap(),
        attempt: AttemptNumber::FIRST,
        why: "a checkpoint".to_owned(),
    };
    let point = checkpoint(git, &story.link(), &request).await.unwrap();
    let point = point.unwrap();
    assert_eq!(
        story.sh(&format!("git rev-parse {point}^{{tree}}")),
        story.sh(&format!("git rev-parse {commit}^{{tree}}"))
    );
    assert_eq!(story.parents(point).len(), 2);
}

#[tokio::test]
async fn a_repository_around_files_that_are_known_is_saved_too() {
    let story = Story::new().await;
    story.sh("git init -q dir");
    story.check(&[]).await;
    story.sh("echo two > dir/other.txt; echo new > dir/new");
    let commit = story.check(&[]).await;
    let saved = story.sh(&format!("git ls-tree -r --name-only {commit} dir"));
    assert_eq!(saved, "dir/new\ndir/other.txt\n");
    story.sh("rm -r dir/.git; echo 'gitdir: /nowhere' > dir/.git");
    let error = story.try_salvage().await.unwrap_err();
    assert!(
        error.to_string().ends_with("can be saved: dir/.git"),
        "{error}"
    );
}

#[tokio::test]
async fn a_submodule_with_something_of_its_own_is_named() {
    let story = Story::new().await;
    story.fixture.sh("git init -q ../sub; cd ../sub; echo s > s; git add s; git -c user.name=a -c user.email=b commit -qm s");
    let sub = story.fixture.root.parent().unwrap().join("sub");
    story.sh(&format!(
        "git -c protocol.file.allow=always submodule --quiet add '{}' sub; git commit -qm sub",
        sub.display()
    ));
    assert_eq!(story.salvage().await, None);
    story.sh("echo changed > sub/s; echo new > new");
    let error = story.try_salvage().await.unwrap_err();
    let SalvageError::Incomplete {
        left_out, commit, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(left_out, &[PathBuf::from("sub")]);
    let saved = story.sh(&format!("git ls-tree {} sub new", commit.unwrap()));
    assert!(
        saved.contains("160000 commit") && saved.contains("100644 blob"),
        "{saved}"
    );
}

#[tokio::test]
async fn filters_and_encodings_that_fail_lose_nothing() {
    let story = Story::new().await;
    write(
        story.path(),
        ".gitattributes",
        "*.lfs filter=gone\n*.utf16 text working-tree-encoding=UTF-16\n",
    );
    story.sh("git config filter.gone.clean false; git config filter.gone.required true");
    story.sh("echo big > a.lfs; chmod +x a.lfs; printf odd > b.utf16; echo plain > c.txt; ln -s a.lfs d; rm dir/other.txt");
    let commit = story.salvage().await.unwrap();
    story.sh("git config --unset filter.gone.required");
    let saved = story.sh(&format!(
        "git show {commit}:a.lfs {commit}:b.utf16 {commit}:c.txt {commit}:d"
    ));
    assert_eq!(saved, "big\noddplain\na.lfs");
    let listed = story.sh(&format!("git ls-tree -r {commit}"));
    assert!(listed.contains("100755 blob"), "{listed}");
    assert!(!listed.contains("dir/other.txt"), "{listed}");
}

#[tokio::test]
async fn names_that_git_refuses_are_left_out_and_named() {
    let story = Story::new().await;
    story
        .sh("mkdir d; echo g > 'd/git~1'; echo x > new; git init -q inner; echo y > 'inner/git~1'");
    let error = story.try_salvage().await.unwrap_err();
    let SalvageError::Incomplete {
        left_out, commit, ..
    } = &error
    else {
        panic!("{error}");
    };
    let expected = ["d/git~1", "inner/git~1"].map(PathBuf::from);
    assert_eq!(left_out, &expected);
    assert!(
        error
            .to_string()
            .ends_with("can be saved: d/git~1, inner/git~1")
    );
    let saved = story.restored(commit.unwrap()).await;
    assert!(saved.contains_key(Path::new("new")));
}

#[tokio::test]
async fn hooks_signing_and_a_missing_name_do_not_matter() {
    let story = Story::new().await;
    let hooks = story.fixture.root.join(".git/hooks");
    for hook in [
        "pre-commit",
        "post-index-change",
        "reference-transaction",
        "commit-msg",
    ] {
        let path = hooks.join(hook);
        fs::write(&path, "#!/bin/sh\ntouch \"$0.ran\"\nexit 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    story.fixture.sh("git config commit.gpgsign true; git config gpg.program false; git config user.useConfigOnly true; git config --unset user.email");
    write(story.path(), "new.txt", "x");
    let commit = story.salvage().await.unwrap();
    let shown = story.sh(&format!("git log -1 --format=%ae {commit}"));
    assert_eq!(shown, "ai-sdlc@localhost\n");
    let ran = fs::read_dir(hooks).unwrap();
    let ran = ran.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".ran")
    });
    assert_eq!(ran.count(), 0);
}

#[tokio::test]
async fn a_lock_that_a_killed_git_has_left_on_the_ref_is_removed() {
    let story = Story::new().await;
    write(
        &story.fixture.root,
        ".git/refs/ai-sdlc/salvage/S-0001/1.lock",
        "",
    );
    fs::write(story.path().join("new.txt"), "x").unwrap();
    // That of the index is nobody's business here.
    write(
        &story.fixture.root,
        ".git/worktrees/S-0001-a-title/index.lock",
        "",
    );
    let story_id = "S-0001".parse().unwrap();
    let saved = story
        .worktrees
        .salvage(story.path(), &story_id, AttemptNumber::FIRST, "x");
    assert!(saved.await.unwrap().is_some());
    fs::remove_file(
        story
            .fixture
            .root
            .join(".git/worktrees/S-0001-a-title/index.lock"),
    )
    .unwrap();
}

#[tokio::test]
async fn what_is_unsaved_has_a_number_that_changes_with_it() {
    let story = Story::new().await;
    assert_eq!(unsaved(&story.link()).await.unwrap(), None);
    write(story.path(), "new.txt", "x");
    let first = unsaved(&story.link()).await.unwrap();
    assert!(first.is_some());
    assert_eq!(unsaved(&story.link()).await.unwrap(), first);
    write(story.path(), "new.txt", "xy");
    assert_ne!(unsaved(&story.link()).await.unwrap(), first);
}

#[tokio::test]
async fn a_dirty_worktree_is_removed_once_it_is_saved_and_not_before() {
    let story = Story::new().await;
    let id: StoryId = "S-0001".parse().unwrap();
    let remove = async || {
        let (path, branch) = (story.path(), &story.prepared.branch);
        let worktrees = &story.worktrees;
        let removal = worktrees.salvage_and_remove(path, branch, &id, AttemptNumber::FIRST);
        removal.await.unwrap()
    };
    story.sh("echo new > new; echo x > 'git~1'");
    let Removal::Kept { why } = remove().await else {
        panic!("it was removed");
    };
    assert!(why.ends_with("can be saved: git~1"), "{why}");
    fs::remove_file(story.path().join("git~1")).unwrap();
    let before = tree_below(story.path());
    assert_eq!(remove().await, Removal::Removed);
    assert!(!story.path().exists());
    let repository = story.fixture.repository();
    let salvages = repository.salvages().unwrap();
    let [salvage] = &salvages[..] else {
        panic!("{salvages:?}");
    };
    assert_eq!(story.restored(salvage.commit).await, before);
    assert_eq!(salvage.why, "before its worktree was removed");
    let standing = repository.standing_of(salvage).unwrap();
    assert_eq!((standing.files, standing.differing), (1, 1));
    assert_eq!(standing.branch.as_ref(), Some(&story.prepared.branch));
    let branch = &story.prepared.branch;
    story
        .fixture
        .sh(&format!("git branch -f {branch} {}", salvage.commit));
    assert_eq!(repository.standing_of(salvage).unwrap().differing, 0);
}

#[tokio::test]
async fn a_worktree_whose_branch_is_gone_is_removed_once_it_is_saved() {
    let story = Story::new().await;
    story.sh("echo x > x; git update-ref -d HEAD");
    let Story {
        worktrees,
        prepared,
        ..
    } = &story;
    let check = RemovalCheck::Committed;
    let kept = worktrees.remove(&prepared.path, &prepared.branch, check);
    let Ok(Removal::Kept { why }) = kept.await else {
        panic!("it should stay");
    };
    assert_eq!(
        why,
        format!("its branch `{}` has no commit", prepared.branch)
    );
    let before = tree_below(story.path());
    let id = "S-0001".parse().unwrap();
    let removing =
        worktrees.salvage_and_remove(&prepared.path, &prepared.branch, &id, AttemptNumber::FIRST);
    assert_eq!(removing.await.unwrap(), Removal::Removed);
    let salvages = story.fixture.repository().salvages().unwrap();
    assert_eq!(story.restored(salvages[0].commit).await, before);
}
