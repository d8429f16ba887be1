//! `worktrees add`.

use rustix::process::Signal;

use super::shown;
use crate::support::{DEADLINE, Gates, HOLD, TestEnv, await_none};

#[test]
fn a_story_gets_its_worktree_as_a_run_would_make_it_and_its_file_stays() {
    let env = TestEnv::new();
    env.story("S-0001").script("cat mine.txt").write();
    let before = env.story_text("S-0001");
    let output = env.ai_sdlc(&["worktrees", "add", "s-0001"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stdout
    <dir>/my répo/.ai-sdlc/worktrees/S-0001-work
    --- stderr
            Made the worktree of S-0001 Do S-0001
          Branch ai-sdlc/S-0001-work
            Base trunk (<commit>)
    ");
    assert_eq!(env.story_text("S-0001"), before);
    assert_eq!(env.worktrees(), ["S-0001-work"]);
    assert!(env.ai_sdlc(&["status"]).run().stdout.contains("READY (1)"));
    // What a person does in it is there for the run.
    env.write(".ai-sdlc/worktrees/S-0001-work/mine.txt", "mine\n");
    let again = env.ai_sdlc(&["worktrees:add", "work"]).run();
    insta::assert_snapshot!(shown(&again, &env), @r"
    exit: 0
    --- stdout
    <dir>/my répo/.ai-sdlc/worktrees/S-0001-work
    --- stderr
       Unchanged S-0001 Do S-0001 has its worktree
          Branch ai-sdlc/S-0001-work
    ");
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["mine.txt"]);
}

#[test]
fn the_base_is_that_of_a_run_with_the_work_of_dependencies() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("echo 1 > one.txt; git add one.txt; git commit -qm one; exit 1")
        .write();
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .status("backlog")
        .write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    let output = env.ai_sdlc(&["worktrees", "add", "S-0002"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stdout
    <dir>/my répo/.ai-sdlc/worktrees/S-0002-work
    --- stderr
    warning: S-0001, which S-0002 depends on, is not done: what is on its branch `ai-sdlc/S-0001-work` so far is in the base
            Made the worktree of S-0002 Do S-0002
          Branch ai-sdlc/S-0002-work
            Base trunk (<commit>)
    ");
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0002-work/one.txt"), "1\n");
}

#[test]
fn what_cannot_be_made_is_said() {
    let env = TestEnv::new();
    let unknown = env.ai_sdlc(&["worktrees", "add", "S-0009"]).run();
    insta::assert_snapshot!(shown(&unknown, &env), @r"
    exit: 2
    --- stderr
    error: there is no story `S-0009`
    hint: `ai-sdlc status` lists the stories
    ");
    env.story("S-0001").write();
    env.story("S-0002").write();
    let twice = env.ai_sdlc(&["worktrees", "add", "work"]).run();
    twice
        .assert_code(2)
        .assert_stderr("`work` is the slug of S-0001 and of S-0002");
    env.write(".ai-sdlc/worktrees/S-0001-work/file", "");
    let taken = env.ai_sdlc(&["worktrees", "add", "S-0001"]).run();
    insta::assert_snapshot!(shown(&taken, &env), @r"
    exit: 2
    --- stderr
    error: S-0001 gets no worktree: <dir>/my répo/.ai-sdlc/worktrees/S-0001-work exists and is not a worktree of this repository (move it away, then try again)
    ");
}

#[test]
fn several_commands_wait_for_each_other() {
    let env = TestEnv::new();
    let ids = ["S-0001", "S-0002", "S-0003", "S-0004"];
    for id in ids {
        env.story(id).status("backlog").write();
    }
    let adding: Vec<_> = ids
        .iter()
        .map(|id| env.ai_sdlc(&["worktrees", "add", id]).start())
        .collect();
    for command in adding {
        command.wait().assert_code(0);
    }
    assert_eq!(env.worktrees().len(), ids.len());
}

#[test]
fn one_that_was_killed_half_way_is_repaired_by_the_next() {
    let env = TestEnv::new();
    env.story("S-0001").status("backlog").write();
    let hook = "#!/bin/sh\necho S-0001 > \"$AI_SDLC_TEST_DIR/started\"\nread -r _ < \"$AI_SDLC_TEST_DIR/gate-S-0001\"\n";
    env.write(".git/hooks/post-checkout", hook);
    env.make_executable(".git/hooks/post-checkout");
    let gates = Gates::new(&env, &["S-0001"]);
    let add = ["worktrees", "add", "S-0001"];
    let killed = env.ai_sdlc(&add).start();
    assert_eq!(gates.next(), "S-0001");
    killed.signal(Signal::KILL);
    assert_eq!(killed.wait().code, None);
    let listed = env.ai_sdlc(&["worktrees"]).run();
    assert!(listed.stdout.contains("half-made"), "{}", listed.stdout);
    // The hook still works in it.
    let pruned = env.ai_sdlc(&["worktrees", "prune"]).run();
    pruned.assert_code(0).assert_stderr(" works in it");
    gates.release("S-0001");
    await_none(env.mark(), DEADLINE);
    std::fs::remove_file(env.path(".git/hooks/post-checkout")).unwrap();
    let again = env.ai_sdlc(&add).run();
    again
        .assert_code(0)
        .assert_stderr("Made the worktree of S-0001");
    let listed = env.ai_sdlc(&["worktrees"]).run();
    assert!(
        shown(&listed, &env).contains("backlog ready"),
        "{}",
        listed.stdout
    );
}

#[test]
fn beside_a_run_only_what_it_does_not_work_on_is_made() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .script("true")
        .write();
    env.story("S-0003").status("backlog").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    for id in ["S-0001", "S-0002"] {
        let refused = env.ai_sdlc(&["worktrees", "add", id]).run();
        let refused = shown(&refused, &env).replace(id, "<id>");
        insta::allow_duplicates!(insta::assert_snapshot!(refused, @r"
        exit: 3
        --- stderr
        error: <id> is being worked on, or may be at any moment: run <run>, process <pid> has the board
        hint: wait for the run, or stop it with Ctrl-C where it runs
        "));
    }
    env.ai_sdlc(&["worktrees", "add", "S-0003"])
        .run()
        .assert_code(0);
    gates.release("S-0001");
    run.wait().assert_code(0);
    assert_eq!(env.worktrees(), ["S-0003-work"]);
}
