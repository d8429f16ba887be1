//! Worktrees of real repositories: made, continued, repaired, removed, and many at once.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::git::test_support::{Fixture, sh, write};

const NAME: &str = "S-0001-a-title";

fn leftovers(fixture: &Fixture) -> String {
    fixture
        .sh("git worktree list | tail -n +2; git branch --list 'ai-sdlc/*'; ls .ai-sdlc/worktrees")
}

#[tokio::test]
async fn a_new_worktree_is_what_git_worktree_add_makes() {
    let fixture = Fixture::new().await;
    write(
        &fixture.root,
        ".git/hooks/post-checkout",
        "#!/bin/sh\necho $1 $2 $3 >> hook.out\n",
    );
    fixture.sh("chmod +x .git/hooks/post-checkout; git worktree add -q -b plain ../plain");
    let worktrees = fixture.worktrees();
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(prepared.origin, Origin::Fresh);
    assert_eq!(prepared.path, worktrees.base().join(NAME));
    assert_eq!(prepared.branch, "ai-sdlc/S-0001-a-title");
    let plain = fixture.root.join("../plain");
    let state = "cat file.txt dir/other.txt hook.out; git status --porcelain; git rev-parse HEAD";
    assert_eq!(sh(&prepared.path, state), sh(&plain, state));
    let files = "cd \"$(git rev-parse --git-dir)\" && ls | grep -v locked";
    assert_eq!(sh(&prepared.path, files), sh(&plain, files));
    let entry = worktrees.list().await.unwrap().swap_remove(0);
    assert_eq!(
        entry.locked.as_deref(),
        Some("ai-sdlc 20260101-000000-0000 S-0001")
    );
}

#[tokio::test]
async fn a_kept_worktree_is_taken_as_it_is() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    write(&prepared.path, "file.txt", "half done\n");
    write(&prepared.path, "untracked", "");
    fixture.sh("git commit -q --allow-empty -m 'trunk moves on'");
    let again = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(again.origin, Origin::KeptWorktree);
    let state = sh(&prepared.path, "cat file.txt; git status --porcelain");
    assert_eq!(state, "half done\n M file.txt\n?? untracked\n");
}

#[tokio::test]
async fn a_missing_directory_and_a_branch_alone_are_continued() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let first = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    sh(
        &first.path,
        "echo work > work.txt && git add -A && git commit -qm work",
    );
    for breakage in [
        "rm -rf .ai-sdlc/worktrees/*",
        "rm -rf .ai-sdlc/worktrees/* && mkdir .ai-sdlc/worktrees/S-0001-a-title",
        "git worktree remove -f -f .ai-sdlc/worktrees/S-0001-a-title",
        // What a git that was killed half-way leaves.
        "rm -r .ai-sdlc/worktrees/*/*.txt .ai-sdlc/worktrees/*/dir .git/worktrees/*/HEAD",
        "rm -r .ai-sdlc/worktrees/* .git/worktrees/*/gitdir .git/worktrees/*/commondir",
    ] {
        fixture.sh(breakage);
        let again = worktrees
            .prepare(&fixture.request("S-0001"))
            .await
            .expect(breakage);
        assert_eq!(again.origin, Origin::ContinuedBranch, "{breakage}");
        assert_eq!(
            sh(&again.path, "cat work.txt; git status --porcelain"),
            "work\n",
            "{breakage}"
        );
        assert_eq!(
            fixture.sh("ls .git/worktrees"),
            format!("{NAME}\n"),
            "{breakage}"
        );
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_left_alone() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let request = fixture.request("S-0001");
    let path = worktrees.base().join(NAME);
    write(&path, "precious", "");
    let error = worktrees.prepare(&request).await.unwrap_err();
    assert!(
        matches!(error, PrepareError::NotAWorktree { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("move it away"));
    sh(
        worktrees.base(),
        &format!("rm -r {NAME}; ln -s ../.. {NAME}"),
    );
    let error = worktrees.prepare(&request).await.unwrap_err();
    assert!(
        matches!(error, PrepareError::NotAWorktree { .. }),
        "{error}"
    );
    sh(worktrees.base(), &format!("rm {NAME}"));
    worktrees.prepare(&request).await.unwrap();
    sh(&path, "git checkout -q -b other");
    let error = worktrees.prepare(&request).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is on the branch `other` and not"),
        "{error}"
    );
    sh(&path, "git checkout -q --detach");
    let error = worktrees.prepare(&request).await.unwrap_err();
    assert!(matches!(error, PrepareError::OtherBranch { .. }), "{error}");
    fixture.sh("echo 'my disk' > .git/worktrees/S-0001-a-title/locked; rm -r .ai-sdlc/worktrees/*");
    let error = worktrees.prepare(&request).await.unwrap_err();
    assert!(
        matches!(error, PrepareError::LockedByOther { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_branch_that_is_checked_out_elsewhere_is_refused_and_stays() {
    let fixture = Fixture::new().await;
    fixture.sh(&format!(
        "git worktree add -q -b ai-sdlc/{NAME} ../elsewhere"
    ));
    let worktrees = fixture.worktrees();
    let error = worktrees
        .prepare(&fixture.request("S-0001"))
        .await
        .unwrap_err();
    let PrepareError::Git {
        source, cleanup, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("elsewhere"), "{source}");
    assert!(cleanup.is_empty());
    let tip = fixture
        .repository()
        .branch_tip(&format!("ai-sdlc/{NAME}"))
        .unwrap();
    assert_eq!(tip, Some(fixture.head()));
}

#[tokio::test]
async fn a_failed_checkout_leaves_nothing_behind() {
    let fixture = Fixture::new().await;
    fixture.sh("echo 'dir/* filter=x' > .gitattributes; git add -A; git commit -qm attributes");
    fixture.sh("git config filter.x.smudge false; git config filter.x.required true");
    let worktrees = fixture.worktrees();
    let error = worktrees
        .prepare(&fixture.request("S-0001"))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to check out the worktree"),
        "{error}"
    );
    assert_eq!(leftovers(&fixture), "");
    // A branch that was there before stays.
    fixture.sh(&format!("git branch ai-sdlc/{NAME}"));
    worktrees
        .prepare(&fixture.request("S-0001"))
        .await
        .unwrap_err();
    assert_eq!(leftovers(&fixture), format!("  ai-sdlc/{NAME}\n"));
    fixture.sh("git config filter.x.smudge cat");
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(prepared.origin, Origin::ContinuedBranch);
}

#[tokio::test]
async fn a_failed_hook_and_a_failed_add_leave_nothing_behind() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    write(
        &fixture.root,
        ".git/hooks/post-checkout",
        "#!/bin/sh\necho no luck >&2; exit 1\n",
    );
    fixture.sh("chmod +x .git/hooks/post-checkout");
    let error = worktrees
        .prepare(&fixture.request("S-0001"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PrepareError::Git { source, .. } if source.to_string().contains("no luck"))
    );
    assert_eq!(leftovers(&fixture), "");
    let mut request = fixture.request("S-0001");
    request.base_commit = "0123456789012345678901234567890123456789".parse().unwrap();
    let error = worktrees.prepare(&request).await.unwrap_err();
    assert!(
        error.to_string().starts_with("failed to add the worktree"),
        "{error}"
    );
    assert_eq!(leftovers(&fixture), "");
}

#[tokio::test]
async fn an_interrupted_checkout_is_repaired_by_the_next_prepare() {
    let fixture = Fixture::new().await;
    fixture.sh("echo 'dir/* filter=x' > .gitattributes; git add -A; git commit -qm attributes");
    fixture.sh("git config filter.x.smudge 'touch \"$(git rev-parse --git-common-dir)/reached\"; sleep 600'");
    let worktrees = fixture.worktrees();
    let task = {
        let (worktrees, request) = (Arc::clone(&worktrees), fixture.request("S-0001"));
        tokio::spawn(async move { worktrees.prepare(&request).await })
    };
    let reached = fixture.root.join(".git/reached");
    while !reached.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    fixture.sh("git config filter.x.smudge cat; touch .git/worktrees/S-0001-a-title/index.lock");
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(prepared.origin, Origin::Fresh);
    let state = sh(
        &prepared.path,
        "cat file.txt dir/other.txt; git status --porcelain",
    );
    assert_eq!(state, "one\nother\n");
}

#[tokio::test]
async fn many_worktrees_at_once_beside_a_foreign_git() {
    let fixture = Fixture::new().await;
    // Two queues, as two processes would have them.
    let worktrees = [fixture.worktrees(), fixture.worktrees()];
    let stop = Arc::new(AtomicBool::new(false));
    let foreign = {
        let (stop, root) = (Arc::clone(&stop), fixture.root.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for command in ["list", "prune"] {
                    let mut git = Command::new("git");
                    git.args(["worktree", command]).current_dir(&root);
                    git.stdout(Stdio::null()).stderr(Stdio::null());
                    // Its own failures are git's, and not the matter here.
                    let _status = git.status().unwrap();
                }
            }
        })
    };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let worktrees = Arc::clone(&worktrees[number % 2]);
        let request = fixture.request(&format!("S-{number:04}"));
        tasks.spawn(async move { worktrees.prepare(&request).await });
    }
    let results = tasks.join_all().await;
    stop.store(true, Ordering::Relaxed);
    foreign.join().unwrap();
    for result in results {
        let path = result.unwrap().path;
        assert_eq!(sh(&path, "git status --porcelain; cat file.txt"), "one\n");
    }
    assert_eq!(worktrees[0].list().await.unwrap().len(), 16);
}

#[tokio::test]
async fn what_someone_else_made_in_the_meantime_is_not_taken_back() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let request = fixture.request("S-0001");
    let theirs = worktrees.prepare(&request).await.unwrap();
    let target = worktrees.target(&request).unwrap();
    let undo = Undo {
        worktrees: &worktrees,
        target: &target,
        reason: "ai-sdlc of another run".to_owned(),
        new_branch_at: Some(request.base_commit),
    };
    assert!(undo.run().await.is_empty());
    assert!(theirs.path.join("file.txt").exists());
    assert!(
        fixture
            .repository()
            .branch_tip(&theirs.branch)
            .unwrap()
            .is_some()
    );
}
