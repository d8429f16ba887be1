//! `worktrees remove`.

use std::process::Command;

use super::{by_hand, make_half, shown};
use crate::support::{Gates, HOLD, TestEnv};

#[test]
fn what_is_committed_goes_and_what_is_not_stays() {
    let env = TestEnv::new();
    let committed = "echo a > a.txt; git add a.txt; git commit -qm a; exit 1";
    env.story("S-0001").script(committed).write();
    env.story("S-0002").script("echo b > b.txt; exit 1").write();
    env.ai_sdlc(&["run", "--concurrent", "2"])
        .run()
        .assert_code(1);
    let output = env
        .ai_sdlc(&["worktrees", "remove", "S-0002", "s-0001"])
        .run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 1
    --- stderr
         Removed S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
            Kept the branch ai-sdlc/S-0001-work
    error: S-0002 keeps its worktree .ai-sdlc/worktrees/S-0002-work: not committed: b.txt
    hint: commit it in the worktree, or give `--salvage` to have it stored before the worktree is removed
    ");
    assert_eq!(env.worktrees(), ["S-0002-work"]);
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0002-work/b.txt"), "b\n");
    assert_eq!(env.commits("ai-sdlc/S-0001-work"), ["a"]);
    // The predecessor's spelling, whose `--force` did not force either.
    let forced = env
        .ai_sdlc(&["worktrees:remove", "S-0002", "--force"])
        .run();
    forced.assert_code(1).assert_stderr("not committed: b.txt");
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0002-work/b.txt"), "b\n");
}

#[test]
fn a_name_that_means_nothing_removes_nothing() {
    let env = TestEnv::new();
    env.story("S-0001").status("backlog").write();
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    let output = env
        .ai_sdlc(&["worktrees", "remove", "S-0001", "S-0002"])
        .run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 2
    --- stderr
    error: `S-0002` has no worktree; nothing was removed
    hint: `ai-sdlc worktrees` lists them
    ");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
    env.ai_sdlc(&["worktrees", "remove"]).run().assert_code(2);
    let part = env.ai_sdlc(&["worktrees", "remove", "ork"]).run();
    part.assert_code(2).assert_stderr("`ork` has no worktree");
    env.story("S-0002").status("backlog").write();
    env.ai_sdlc(&["worktrees", "add", "S-0002"])
        .run()
        .assert_code(0);
    let slug = env.ai_sdlc(&["worktrees", "remove", "work"]).run();
    slug.assert_code(2)
        .assert_stderr("`work` is the slug of S-0001 and of S-0002; nothing was removed");
    env.ai_sdlc(&["worktrees", "remove", "S-0002"])
        .run()
        .assert_code(0);
    let path = env.path(".ai-sdlc/worktrees/S-0001-work");
    let removed = env
        .ai_sdlc(&["worktrees", "remove", path.to_str().unwrap()])
        .run();
    removed.assert_code(0);
    assert!(env.worktrees().is_empty());
}

#[test]
fn commits_that_are_on_no_branch_stay() {
    let env = TestEnv::new();
    let detached = "git checkout -q --detach; echo a > a.txt; git add a.txt; git commit -qm a";
    env.story("S-0001").script(detached).write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    let removed = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
    removed.assert_code(1).assert_stderr("it is on no branch");
    let pruned = env.ai_sdlc(&["worktrees", "prune"]).run();
    pruned.assert_code(0).assert_stderr("it is on no branch");
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0001-work/a.txt"), "a\n");
}

#[test]
fn a_branch_goes_only_when_it_is_asked_for_and_merged() {
    let env = TestEnv::new();
    let committed = "echo a > a.txt; git add a.txt; git commit -qm a; exit 1";
    env.story("S-0001").script(committed).write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    let remove = ["worktrees", "remove", "S-0001", "--delete-branch"];
    let output = env.ai_sdlc(&remove).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
         Removed S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
    warning: the branch ai-sdlc/S-0001-work stays: it is not merged into trunk
    ");
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    env.git(&["merge", "--quiet", "ai-sdlc/S-0001-work"]);
    let output = env.ai_sdlc(&remove).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
         Removed S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
         Deleted the branch ai-sdlc/S-0001-work, which is merged
    ");
    assert!(env.branches().is_empty());
}

#[test]
fn nobody_loses_the_floor_under_their_feet() {
    let env = TestEnv::new();
    env.story("S-0001").status("backlog").write();
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    let path = env.path(".ai-sdlc/worktrees/S-0001-work");
    let mut person = Command::new("sleep")
        .arg("1000")
        .current_dir(&path)
        .spawn()
        .unwrap();
    let output = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
    person.kill().unwrap();
    person.wait().unwrap();
    let said = shown(&output, &env).replace(&person.id().to_string(), "<pid>");
    insta::assert_snapshot!(said, @r"
    exit: 1
    --- stderr
    error: S-0001 keeps its worktree .ai-sdlc/worktrees/S-0001-work: process <pid> sleep works in it
    hint: end that process, or have it leave the folder
    ");
    env.ai_sdlc(&["worktrees", "remove", "S-0001"])
        .run()
        .assert_code(0);
}

#[test]
fn what_a_run_works_in_and_what_others_made_stay() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    env.story("S-0002").status("backlog").write();
    env.ai_sdlc(&["worktrees", "add", "S-0002"])
        .run()
        .assert_code(0);
    by_hand(&env, &["-b", "feature", ".ai-sdlc/worktrees/by-hand"]);
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    env.await_status("S-0001", "in-progress");
    let names = ["worktrees", "remove", "S-0001", "S-0002", "by-hand"];
    let output = env.ai_sdlc(&names).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 1
    --- stderr
    error: S-0001 keeps its worktree .ai-sdlc/worktrees/S-0001-work: run <run>, process <pid> works in it
    hint: wait for the run, or stop it with Ctrl-C where it runs
         Removed S-0002 .ai-sdlc/worktrees/S-0002-work (<size>)
            Kept the branch ai-sdlc/S-0002-work
    error: by-hand keeps its worktree .ai-sdlc/worktrees/by-hand: it was not made for a story
    hint: `git worktree remove` removes what other people and programs have made
    ");
    gates.release("S-0001");
    run.wait().assert_code(0);
    assert_eq!(env.worktrees(), ["by-hand"]);
}

#[test]
fn half_made_and_gone_ones_go() {
    let env = TestEnv::new();
    for id in ["S-0001", "S-0002"] {
        env.story(id).status("backlog").write();
        env.ai_sdlc(&["worktrees", "add", id]).run().assert_code(0);
    }
    make_half(&env, "S-0001-work");
    std::fs::remove_dir_all(env.path(".ai-sdlc/worktrees/S-0002-work")).unwrap();
    let output = env
        .ai_sdlc(&["worktrees", "remove", "S-0001", "S-0002"])
        .run();
    output.assert_code(0);
    assert!(env.worktrees().is_empty());
    assert!(env.worktree_directories().is_empty());
}
