//! Places and configurations in which a run cannot work, and those that only look like it.

use std::fs;

use super::support::TestEnv;

#[test]
fn outside_of_a_repository_there_is_no_board_to_make() {
    let env = TestEnv::without_repository();
    insta::assert_snapshot!(env.ai_sdlc(&["init"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: <dir>/my répo is not in a git repository
    hint: run `git init` and make a first commit
    ");
}

#[test]
fn outside_of_a_repository_nothing_runs() {
    let env = TestEnv::without_repository();
    env.story("S-0001").script("true").write();
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: <dir>/my répo is not in a git repository
    hint: run `git init` and make a first commit
    ");
}

#[test]
fn without_open_files_nothing_runs() {
    for limit in ["6", "20"] {
        let env = TestEnv::new();
        env.story("S-0001").script("true").write();
        let limited = format!("ulimit -n {limit}; exec \"$0\" run");
        let output = env.ai_sdlc(&[]).shell(&limited).run();
        insta::allow_duplicates! {
            insta::assert_snapshot!(output.shown(&env), @"
            exit: 2
            --- stderr
            error: 1 story at a time: that takes more open files than this process may have, which are enough for 0
            hint: raise the hard limit (`ulimit -Hn`), or run fewer at a time
            ");
        }
        assert_eq!(env.status("S-0001"), "ready");
    }
}

#[test]
fn what_is_left_running_is_not_nothing_when_nobody_can_know_it() {
    let env = TestEnv::new();
    env.write(".ai-sdlc/runs", "");
    insta::assert_snapshot!(env.ai_sdlc(&["reap"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: cannot read <dir>/my répo/.ai-sdlc/runs: Not a directory (os error 20)
    hint: what earlier runs have left running is found only with it
    ");
}

#[test]
fn a_bare_repository_is_refused() {
    let env = TestEnv::without_repository();
    env.git(&["init", "--quiet", "--bare"]);
    insta::assert_snapshot!(env.ai_sdlc(&["init"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: <dir>/my répo is a bare repository: a checkout is needed
    hint: run it in a clone with a work tree
    ");
    env.story("S-0001").script("true").write();
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: <dir>/my répo is a bare repository: a checkout is needed
    hint: run it in a clone with a work tree
    ");
}

#[test]
fn a_repository_without_a_commit_can_have_a_board_and_cannot_run() {
    let env = TestEnv::without_commit("trunk");
    env.ai_sdlc(&["init"]).run().assert_code(0);
    env.ai_sdlc(&["add", "--ready", "First"])
        .run()
        .assert_code(0);
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: the repository <dir>/my répo has no commit yet
    hint: make a first commit: stories start from what is committed
    ");
}

#[test]
fn without_git_nothing_runs() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    let nowhere = env.base().join("home");
    let output = env.ai_sdlc(&["run"]).variable("PATH", nowhere).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 2
    --- stderr
    error: git is not installed, or not on PATH
    hint: install git, or put it on the PATH
    ");
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn a_repository_without_a_board_is_told_to_make_one() {
    let env = TestEnv::without_board("trunk");
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: ai-sdlc is not initialised in <dir>/my répo or any folder above it
    hint: run `ai-sdlc init` in the root of the repository
    ");
    insta::assert_snapshot!(env.ai_sdlc(&["status"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: ai-sdlc is not initialised in <dir>/my répo or any folder above it
    hint: run `ai-sdlc init` in the root of the repository
    ");
    insta::assert_snapshot!(env.ai_sdlc(&["add", "Title"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: ai-sdlc is not initialised in <dir>/my répo or any folder above it
    hint: run `ai-sdlc init` in the root of the repository
    ");
}

#[test]
fn a_configuration_that_cannot_be_read_is_never_ignored() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    env.write(".ai-sdlc.json", "{\n  \"worktree\": {,}\n}\n");
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: <dir>/my répo/.ai-sdlc.json:2:16: key must be a string
    hint: mend the file, or move it away to use the defaults
    ");
    env.write(".ai-sdlc.json", "{\"process\": {\"graceMs\": -1}}\n");
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: <dir>/my répo/.ai-sdlc.json:1:26: `process.graceMs` must be a whole number from 0, not -1
    hint: mend the file, or move it away to use the defaults
    ");
    env.write(".ai-sdlc.json", "{\"sdlcFolder\": \"../elsewhere\"}\n");
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @r#"
    exit: 2
    --- stderr
    error: <dir>/my répo/.ai-sdlc.json:1:29: `sdlcFolder` must be a folder inside the project, not "../elsewhere"
    hint: mend the file, or move it away to use the defaults
    "#);
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn a_base_branch_that_does_not_exist_is_named() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    env.write(
        ".ai-sdlc.json",
        "{\"worktree\": {\"baseBranch\": \"nope\"}}",
    );
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: `nope` is not a branch, tag or commit of <dir>/my répo
    hint: mend `worktree.baseBranch` in .ai-sdlc.json
    ");
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn a_git_that_does_not_know_who_commits_is_found_out_before_anything_starts() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    env.git(&["config", "--unset", "user.email"]);
    env.git(&["config", "user.useConfigOnly", "true"]);
    let output = env.ai_sdlc(&["run"]).run();
    // The rest is what git says, which differs from version to version.
    output
        .assert_code(2)
        .assert_stderr("error: git does not know who commits in ")
        .assert_stderr("hint: git config --global user.name \"Your Name\"\n")
        .assert_stderr("hint: git config --global user.email you@example.com\n");
    assert_eq!(env.status("S-0001"), "ready");
    assert!(env.branches().is_empty());
}

#[test]
fn a_run_that_has_nowhere_to_write_is_refused() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    env.write(".ai-sdlc/runs", "a file, where a folder should be");
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: cannot write <dir>/my répo/.ai-sdlc/runs: Not a directory (os error 20)
    hint: a run needs a writable board folder with some free space
    ");
    assert_eq!(env.status("S-0001"), "ready");
    assert!(env.branches().is_empty());
}

#[test]
fn a_lock_that_cannot_be_opened_is_not_another_run() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    let lock = env.path(".ai-sdlc/run.lock");
    fs::create_dir(&lock).unwrap();
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: cannot lock <dir>/my répo/.ai-sdlc/run.lock: Is a directory (os error 21)
    hint: a run needs a writable board folder
    ");
    fs::remove_dir(lock).unwrap();
}

#[test]
fn a_board_without_write_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        // Nothing is read-only for root; the two tests above hold what follows from a refused write.
        return;
    }
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    let board = env.path(".ai-sdlc");
    fs::set_permissions(&board, fs::Permissions::from_mode(0o555)).unwrap();
    let output = env.ai_sdlc(&["run"]).run();
    fs::set_permissions(&board, fs::Permissions::from_mode(0o755)).unwrap();
    output.assert_code(2).assert_stderr("run.lock");
}

#[test]
fn the_worktree_of_a_story_is_not_a_place_to_run_in() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo x > x.txt").write();
    env.commit_all();
    env.ai_sdlc(&["run", "--keep-worktrees"])
        .run()
        .assert_code(0);
    let worktree = env.path(".ai-sdlc/worktrees/S-0001-work");
    let output = env.ai_sdlc(&["run"]).directory(&worktree).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 2
    --- stderr
    error: <dir>/my répo/.ai-sdlc/worktrees/S-0001-work is the worktree of a story, and its board only a copy
    hint: run it in the main checkout
    ");
}

#[test]
fn a_run_from_a_subdirectory_works_on_the_same_board() {
    let env = TestEnv::new();
    env.write("deep/er/file.txt", "x\n");
    env.story("S-0001").script("pwd > where.txt").write();
    env.commit_all();
    let output = env.ai_sdlc(&["run"]).directory(&env.path("deep/er")).run();
    output.assert_code(0);
    assert_eq!(env.status("S-0001"), "done");
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["where.txt"]);
}

#[test]
fn stories_start_from_the_branch_that_is_checked_out_whatever_its_name() {
    for branch in ["main", "master", "feature/ünicode"] {
        let env = TestEnv::on_branch(branch);
        env.story("S-0001").script("echo x > x.txt").write();
        let output = env.ai_sdlc(&["run"]).run();
        output.assert_code(0);
        output.assert_stderr(&format!("from branch {branch} ("));
        assert_eq!(env.commits("ai-sdlc/S-0001-work").len(), 1);
    }
}

#[test]
fn with_a_detached_head_stories_start_from_its_commit() {
    let env = TestEnv::new();
    env.git(&["checkout", "--quiet", "--detach", "HEAD~1"]);
    // The board is not in that commit; it is in the checkout, and that is what counts.
    fs::create_dir_all(env.path(".ai-sdlc/stories")).unwrap();
    env.story("S-0001").script("echo x > x.txt").write();
    insta::assert_snapshot!(env.ai_sdlc(&["run"]).run().shown(&env), @"
    exit: 0
    --- stderr
         Running 1 story, 1 at a time, from commit <commit>
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 1 line
       Succeeded S-0001 Do S-0001 in <time>: 1 commit, 1 file (+1 -0) on ai-sdlc/S-0001-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0001-work: 1 commit, 1 file (+1 -0)
    ");
    assert_eq!(env.commits("ai-sdlc/S-0001-work").len(), 1);
}

#[test]
fn stories_start_from_the_configured_branch() {
    let env = TestEnv::new();
    env.git(&["checkout", "--quiet", "-b", "develop"]);
    env.write("develop.txt", "x\n");
    env.commit_all();
    env.git(&["checkout", "--quiet", "trunk"]);
    env.write(
        ".ai-sdlc.json",
        "{\"worktree\": {\"baseBranch\": \"develop\"}}",
    );
    env.story("S-0001")
        .script("cp develop.txt copy.txt")
        .write();
    let output = env.ai_sdlc(&["run"]).run();
    output.assert_code(0).assert_stderr("from branch develop (");
    assert_eq!(
        env.git(&["diff", "--name-only", "develop...ai-sdlc/S-0001-work"]),
        "copy.txt\n"
    );
}

#[test]
fn an_executor_is_not_started_by_hand() {
    let env = TestEnv::new();
    insta::assert_snapshot!(env.ai_sdlc(&["agent-exec", "S-0001"]).run().shown(&env), @"
    exit: 2
    --- stderr
    error: the variable AI_SDLC_STORY_ID is not set
    hint: agent-exec is started by `ai-sdlc run`, not by hand
    ");
}

#[test]
fn uncommitted_changes_of_the_main_checkout_are_left_alone() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo x > x.txt").write();
    env.commit_all();
    env.write("README.md", "changed\n");
    env.write("staged.txt", "staged\n");
    env.git(&["add", "staged.txt"]);
    env.write("untracked.txt", "untracked\n");
    env.ai_sdlc(&["run"]).run().assert_code(0);
    insta::assert_snapshot!(env.git(&["status", "--porcelain"]), @"
     M .ai-sdlc/stories/S-0001/story.md
     M README.md
    A  staged.txt
    ?? untracked.txt
    ");
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x.txt"]);
}

#[test]
fn without_a_runtime_directory_sockets_find_another_place() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo x > x.txt").write();
    let run = env.ai_sdlc(&["run"]).variable("XDG_RUNTIME_DIR", "");
    run.run().assert_code(0);
    assert_eq!(env.status("S-0001"), "done");
}
