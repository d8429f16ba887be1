//! Worktrees of real repositories: made, continued, repaired, removed, and many at once.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::git::commit::{CommitRequest, commit_all};
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

/// Why there is no worktree; the same is what a look after a restart finds.
async fn refused(worktrees: &Worktrees, request: &WorktreeRequest) -> PrepareError {
    let error = worktrees.prepare(request).await.unwrap_err();
    let seen = worktrees.look(request).await.unwrap();
    assert_eq!(seen.tree, Tree::Foreign);
    assert_eq!(seen.obstacle.unwrap().to_string(), error.to_string());
    error
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_left_alone() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let request = fixture.request("S-0001");
    let path = worktrees.base().join(NAME);
    write(&path, "precious", "");
    let error = refused(&worktrees, &request).await;
    assert!(
        matches!(error, PrepareError::NotAWorktree { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("move it away"));
    sh(
        worktrees.base(),
        &format!("rm -r {NAME}; ln -s ../.. {NAME}"),
    );
    let error = refused(&worktrees, &request).await;
    assert!(
        matches!(error, PrepareError::NotAWorktree { .. }),
        "{error}"
    );
    sh(worktrees.base(), &format!("rm {NAME}"));
    worktrees.prepare(&request).await.unwrap();
    sh(&path, "git checkout -q -b other");
    let error = refused(&worktrees, &request).await;
    assert!(
        error
            .to_string()
            .contains("is on the branch `other` and not"),
        "{error}"
    );
    sh(&path, "git checkout -q --detach");
    let error = refused(&worktrees, &request).await;
    assert!(matches!(error, PrepareError::OtherBranch { .. }), "{error}");
    let branch = sh(
        &path,
        "git rev-parse --symbolic-full-name ai-sdlc/S-0001-a-title",
    );
    let branch = branch.trim();
    sh(
        &path,
        &format!("git symbolic-ref HEAD {branch}; git update-ref -d {branch}"),
    );
    let error = refused(&worktrees, &request).await;
    assert!(matches!(error, PrepareError::BranchGone { .. }), "{error}");
    // What the error tells to do.
    sh(&path, "git reset -q trunk");
    worktrees.prepare(&request).await.unwrap();
    fixture.sh("ln -s nowhere .git/worktrees/S-0001-a-title/odd");
    let error = refused(&worktrees, &request).await.to_string();
    assert!(error.contains("odd is neither a file nor"), "{error}");
    assert!(error.contains("move the worktree away"), "{error}");
    fixture.sh("rm .git/worktrees/S-0001-a-title/odd");
    worktrees.prepare(&request).await.unwrap();
    fixture.sh("echo 'my disk' > .git/worktrees/S-0001-a-title/locked; rm -r .ai-sdlc/worktrees/*");
    let error = refused(&worktrees, &request).await;
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
    let request = fixture.request("S-0001");
    let error = refused(&worktrees, &request).await;
    let PrepareError::CheckedOutElsewhere { path, .. } = &error else {
        panic!("{error}");
    };
    assert!(path.ends_with("elsewhere"), "{error}");
    assert!(error.to_string().contains("check out another branch there"));
    let tip = fixture
        .repository()
        .branch_tip(&format!("ai-sdlc/{NAME}"))
        .unwrap();
    assert_eq!(tip, Some(fixture.head()));
    // A rebase there is what only git itself recognises; the main checkout counts, too.
    let path = fixture.root.join("../elsewhere").canonicalize().unwrap();
    sh(&path, "git commit -q --allow-empty -m work");
    sh(
        &path,
        "GIT_SEQUENCE_EDITOR='echo break >' git rebase -q -i HEAD^ 2>/dev/null",
    );
    let error = worktrees.prepare(&request).await.unwrap_err();
    assert!(
        matches!(&error, PrepareError::CheckedOutElsewhere { path: found, .. } if *found == path),
        "{error:?}"
    );
    fixture.sh(&format!(
        "git worktree remove -f -f ../elsewhere; git checkout -q ai-sdlc/{NAME}"
    ));
    let error = refused(&worktrees, &request).await;
    assert!(
        matches!(&error, PrepareError::CheckedOutElsewhere { path, .. } if *path == fixture.root),
        "{error:?}"
    );
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
    assert_eq!(prepared.origin, Origin::Fresh);
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

/// Begins a preparation and drops it when a file `reached` has appeared in the common directory.
async fn interrupted(fixture: &Fixture, worktrees: &Arc<Worktrees>) {
    let task = {
        let (worktrees, request) = (Arc::clone(worktrees), fixture.request("S-0001"));
        tokio::spawn(async move { worktrees.prepare(&request).await })
    };
    let reached = fixture.root.join(".git/reached");
    while !reached.exists() {
        assert!(!task.is_finished());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    fs::remove_file(reached).unwrap();
}

fn make_checkout_slow(fixture: &Fixture) {
    fixture.sh("echo 'dir/* filter=x' > .gitattributes; git add -A; git commit -qm attributes");
    fixture.sh("git config filter.x.smudge 'touch \"$(git rev-parse --git-common-dir)/reached\"; sleep 600'");
}

fn make_checkout_fast(fixture: &Fixture) {
    fixture.sh("git config filter.x.smudge cat");
}

fn hook(fixture: &Fixture, script: &str) {
    let text = format!("#!/bin/sh\n{script}\n");
    write(&fixture.root, ".git/hooks/post-checkout", &text);
    fixture.sh("chmod +x .git/hooks/post-checkout");
}

#[tokio::test]
async fn an_interrupted_checkout_is_repaired_by_the_next_prepare() {
    let fixture = Fixture::new().await;
    make_checkout_slow(&fixture);
    let worktrees = fixture.worktrees();
    interrupted(&fixture, &worktrees).await;
    make_checkout_fast(&fixture);
    fixture.sh("touch .git/worktrees/S-0001-a-title/index.lock");
    // The base has moved on, and with it an unfinished worktree that holds nothing.
    fixture.sh("echo two > file.txt; git commit -qam second");
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(prepared.origin, Origin::Fresh);
    let state = sh(
        &prepared.path,
        "cat file.txt dir/other.txt; git status --porcelain; git rev-parse HEAD",
    );
    assert_eq!(state, format!("two\nother\n{}\n", fixture.head()));
}

#[tokio::test]
async fn an_interrupted_hook_runs_again() {
    let fixture = Fixture::new().await;
    hook(
        &fixture,
        "touch \"$(git rev-parse --git-common-dir)/reached\"; sleep 600",
    );
    let worktrees = fixture.worktrees();
    interrupted(&fixture, &worktrees).await;
    let path = worktrees.base().join(NAME);
    assert!(path.join("file.txt").exists());
    let removal = worktrees
        .remove(
            &path,
            &format!("ai-sdlc/{NAME}"),
            crate::git::RemovalCheck::Committed,
        )
        .await;
    assert!(matches!(removal, Ok(crate::git::Removal::Kept { .. })));
    hook(&fixture, "echo $3 > hook.out");
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(prepared.origin, Origin::Fresh);
    assert_eq!(sh(&path, "cat hook.out"), "1\n");
    let again = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(again.origin, Origin::KeptWorktree);
}

#[tokio::test]
async fn an_unfinished_worktree_with_commits_keeps_its_branch_where_it_is() {
    let fixture = Fixture::new().await;
    make_checkout_slow(&fixture);
    fixture.sh(&format!(
        "git checkout -q -b ai-sdlc/{NAME}; echo work > work.txt; git add -A; git commit -qm work; git checkout -q trunk"
    ));
    let worktrees = fixture.worktrees();
    interrupted(&fixture, &worktrees).await;
    make_checkout_fast(&fixture);
    fixture.sh("git commit -q --allow-empty -m 'trunk moves on'");
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(prepared.origin, Origin::ContinuedBranch);
    assert_eq!(
        sh(&prepared.path, "cat work.txt; git status --porcelain"),
        "work\n"
    );
}

#[tokio::test]
async fn a_branch_without_commits_of_its_own_starts_from_the_base() {
    let fixture = Fixture::new().await;
    fixture.sh(&format!(
        "git branch ai-sdlc/{NAME}; echo two > file.txt; git commit -qam second"
    ));
    let worktrees = fixture.worktrees();
    let prepared = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    assert_eq!(prepared.origin, Origin::Fresh);
    let state = sh(
        &prepared.path,
        "git rev-parse HEAD; git status --porcelain; cat file.txt",
    );
    assert_eq!(state, format!("{}\ntwo\n", fixture.head()));
}

#[tokio::test]
async fn a_worktree_without_our_mark_is_never_reset() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    fixture.sh(&format!(
        "git worktree add -q -b ai-sdlc/{NAME} .ai-sdlc/worktrees/{NAME}"
    ));
    let path = worktrees.base().join(NAME);
    write(&path, "file.txt", "half done\n");
    fixture.sh("git commit -q --allow-empty -m 'trunk moves on'");
    let request = fixture.request("S-0001");
    let prepared = worktrees.prepare(&request).await.unwrap();
    assert_eq!(prepared.origin, Origin::KeptWorktree);
    worktrees.undo(&request).await.unwrap();
    assert_eq!(
        sh(&path, "git status --porcelain; cat file.txt"),
        " M file.txt\nhalf done\n"
    );
    assert_ne!(
        sh(&path, "git rev-parse HEAD"),
        format!("{}\n", fixture.head())
    );
}

#[tokio::test]
async fn an_abandoned_preparation_is_taken_back() {
    let fixture = Fixture::new().await;
    make_checkout_slow(&fixture);
    let worktrees = fixture.worktrees();
    let request = fixture.request("S-0001");
    interrupted(&fixture, &worktrees).await;
    assert_ne!(leftovers(&fixture), "");
    worktrees.undo(&request).await.unwrap();
    assert_eq!(leftovers(&fixture), "");
    // And again, with nothing there.
    worktrees.undo(&request).await.unwrap();
    // What git leaves that was ended while it added.
    make_checkout_fast(&fixture);
    for breakage in [
        "rm -r .ai-sdlc/worktrees/*/* .ai-sdlc/worktrees/*/.gita* .git/worktrees/*/HEAD .git/worktrees/*/index",
        "rm -r .ai-sdlc/worktrees/* .git/worktrees/*/gitdir .git/worktrees/*/index",
        "rm -r .ai-sdlc/worktrees/* .git/worktrees/*/index",
        "rm -r .ai-sdlc/worktrees/*/* .ai-sdlc/worktrees/*/.git* .git/worktrees/*/index",
    ] {
        worktrees.prepare(&request).await.unwrap();
        fixture.sh(breakage);
        worktrees.undo(&request).await.expect(breakage);
        assert_eq!(leftovers(&fixture), "", "{breakage}");
    }
}

#[tokio::test]
async fn what_is_ready_or_holds_work_or_is_not_ours_is_not_taken_back() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let request = fixture.request("S-0001");
    let made = worktrees.prepare(&request).await.unwrap();
    worktrees.undo(&request).await.unwrap();
    assert!(made.path.join("file.txt").exists());
    // An unfinished one on a branch with commits: only the worktree goes.
    sh(&made.path, "git commit -q --allow-empty -m work");
    fixture.sh("rm .git/worktrees/*/index");
    worktrees.undo(&request).await.unwrap();
    assert_eq!(leftovers(&fixture), format!("  ai-sdlc/{NAME}\n"));
    // An unused branch that someone has checked out elsewhere.
    fixture.sh(&format!(
        "git branch -f ai-sdlc/{NAME} trunk; git worktree add -q ../x ai-sdlc/{NAME}"
    ));
    worktrees.undo(&request).await.unwrap();
    assert!(leftovers(&fixture).contains(&format!("+ ai-sdlc/{NAME}")));
    // Someone else's unfinished worktree, and a directory that is in the way.
    fixture.sh(&format!(
        "git worktree remove ../x; git worktree add -q --no-checkout .ai-sdlc/worktrees/{NAME} ai-sdlc/{NAME}"
    ));
    worktrees.undo(&request).await.unwrap();
    assert_eq!(worktrees.list().await.unwrap().len(), 1);
    fixture.sh(&format!("git worktree remove -f .ai-sdlc/worktrees/{NAME}"));
    write(&made.path, "precious", "");
    worktrees.undo(&request).await.unwrap();
    assert!(made.path.join("precious").exists());
}

#[tokio::test]
async fn a_checkout_waits_for_a_short_lock_of_another_git() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let request = fixture.request("S-0001");
    worktrees.prepare(&request).await.unwrap();
    let target = worktrees.target(&request).unwrap();
    let lock = fixture
        .root
        .join(".git/worktrees")
        .join(NAME)
        .join("index.lock");
    fs::write(&lock, "").unwrap();
    let error = worktrees
        .check_out(&target, request.base_commit, false)
        .await;
    assert!(error.is_err_and(|(_, error)| is_index_race(&error)));
    let release = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        fs::remove_file(lock)
    });
    let filled = worktrees
        .check_out(&target, request.base_commit, false)
        .await;
    filled.unwrap();
    release.await.unwrap().unwrap();
}

#[tokio::test]
async fn stale_locks_are_cleared_when_that_is_asked_for() {
    let fixture = Fixture::new().await;
    let worktrees = fixture.worktrees();
    let made = worktrees.prepare(&fixture.request("S-0001")).await.unwrap();
    fixture.sh("touch .git/worktrees/S-0001-a-title/index.lock .git/index.lock");
    let cleared = worktrees
        .clear_stale_locks(&made.path, &made.branch)
        .await
        .unwrap();
    assert_eq!(cleared, ["index.lock"]);
    sh(&made.path, "git commit -q --allow-empty -m work");
    let none = worktrees
        .clear_stale_locks(&made.path, &made.branch)
        .await
        .unwrap();
    assert!(none.is_empty());
    let main = worktrees
        .clear_stale_locks(&fixture.root, &made.branch)
        .await
        .unwrap();
    assert!(main.is_empty() && fixture.root.join(".git/index.lock").exists());
}

#[tokio::test]
async fn a_base_that_would_do_harm_is_refused() {
    let fixture = Fixture::new().await;
    fixture.sh("ln -s .git link");
    let refusal =
        |base: &Path| match Worktrees::new(fixture.repository(), fixture.git.clone(), base)
            .unwrap_err()
        {
            PrepareError::UnusableBase { problem, .. } => problem,
            error => panic!("{error}"),
        };
    let root = &fixture.root;
    for (base, problem) in [
        (root.join("file.txt"), BaseProblem::NotADirectory),
        (PathBuf::from("/"), BaseProblem::Root),
        (root.join("dir/../new/.."), BaseProblem::HoldsCheckout),
        (root.join(".."), BaseProblem::HoldsCheckout),
        (root.join(".git"), BaseProblem::InGitDirectory),
        (root.join("link/new/worktrees"), BaseProblem::InGitDirectory),
    ] {
        assert_eq!(refusal(&base), problem, "{}", base.display());
    }
    assert!(!root.join(".git/new").exists() && !root.join("new").exists());
    let below = root.join("dir/worktrees");
    assert!(Worktrees::new(fixture.repository(), fixture.git.clone(), &below).is_ok());
}

#[tokio::test]
async fn a_variable_of_ours_reaches_hooks() {
    let mut fixture = Fixture::new().await;
    fixture.git = fixture.git.with_variable("AI_SDLC_RUN_ID", "the run");
    let record = "echo \"$AI_SDLC_RUN_ID\" >> \"$(git rev-parse --git-common-dir)/seen\"";
    hook(&fixture, record);
    fixture.sh("cp .git/hooks/post-checkout .git/hooks/pre-commit");
    let made = fixture
        .worktrees()
        .prepare(&fixture.request("S-0001"))
        .await;
    let made = made.unwrap();
    write(&made.path, "new.txt", "");
    let request = CommitRequest {
        message: "work".to_owned(),
        branch: made.branch,
        base: made.base,
        board_folder: None,
        deadline: CHECKOUT_DEADLINE,
        held_to: None,
    };
    let _done = commit_all(&fixture.git, &made.path, &request)
        .await
        .unwrap();
    assert_eq!(fixture.sh("cat .git/seen"), "the run\nthe run\n");
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
    let guard = Arc::new(worktrees.lock.acquire().await.unwrap());
    assert!(undo.run(&guard).await.is_empty());
    assert!(theirs.path.join("file.txt").exists());
    assert!(
        fixture
            .repository()
            .branch_tip(&theirs.branch)
            .unwrap()
            .is_some()
    );
    // What is left when another git prunes the entry of a worktree that has just been added.
    let other = fixture.request("S-0002");
    let target = worktrees.target(&other).unwrap();
    fixture.sh("git worktree add -q --no-checkout --detach .ai-sdlc/worktrees/S-0002-a-title");
    fixture.sh("rm -r .git/worktrees/S-0002-a-title");
    let undo = Undo {
        target: &target,
        ..undo
    };
    assert!(undo.run(&guard).await.is_empty());
    assert!(!target.path.exists());
}
