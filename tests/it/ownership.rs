//! Whose a process is: what is ended with a run, what has its time, and what is nobody's business.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use super::support::{Gates, HOLD, TestEnv, executor_of, living, runs};

#[test]
fn what_works_behind_a_wrapper_that_dies_at_once_has_the_whole_grace() {
    let env = TestEnv::new();
    // The shell that the agent is knows no mercy for itself; its worker needs a while, and a second request would end it.
    let script = "sh -c 'trap \"trap - TERM; sleep 1; echo saved > saved.txt; exit 0\" TERM; \
         echo S-0001 > \"$AI_SDLC_TEST_DIR/started\"; while :; do sleep 0.05; done'\necho after";
    env.story("S-0001").script(script).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    run.signal(Signal::INT);
    run.wait().assert_code(130);
    let saved = env.read(".ai-sdlc/worktrees/S-0001-work/saved.txt");
    assert_eq!(saved, "saved\n");
}

/// A run with a story at its gate.
fn going(env: &TestEnv) -> (Gates, super::support::Running) {
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    (gates, run)
}

#[test]
fn the_live_run_of_a_board_is_not_touched_from_a_copy_of_it() {
    let env = TestEnv::new();
    let (gates, run) = going(&env);
    let copy = env.base().join("copy");
    let copied = Command::new("cp")
        .arg("-a")
        .args([env.path(""), copy.clone()])
        .status();
    assert!(copied.unwrap().success());
    let before = living(env.mark()).len();
    let reaped = env.ai_sdlc(&["reap"]).directory(&copy).run();
    reaped
        .assert_code(0)
        .assert_stderr("nothing that an earlier run had left running");
    assert_eq!(living(env.mark()).len(), before);
    gates.release("S-0001");
    run.wait().assert_code(0);
    fs::remove_dir_all(copy).unwrap();
}

#[test]
fn a_run_whose_lock_file_was_removed_still_has_its_board() {
    let env = TestEnv::new();
    let (gates, run) = going(&env);
    fs::remove_file(env.path(".ai-sdlc/run.lock")).unwrap();
    let before = living(env.mark()).len();
    env.ai_sdlc(&["reap"]).run().assert_code(0);
    assert_eq!(living(env.mark()).len(), before);
    let other = env.ai_sdlc(&["run"]).run();
    other
        .assert_code(3)
        .assert_stderr("whose lock file was removed");
    gates.release("S-0001");
    run.wait().assert_code(0);
}

#[test]
fn a_run_that_was_started_with_nohup_outlives_its_terminal() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env
        .ai_sdlc(&["run"])
        .shell("trap '' HUP; exec \"$0\" run --json")
        .start();
    assert_eq!(gates.next(), "S-0001");
    run.signal(Signal::HUP);
    gates.release("S-0001");
    let output = run.wait();
    output.assert_code(0);
    assert!(output.events("run_stopping").is_empty());
}

#[test]
fn what_hides_in_a_worktree_ends_with_its_executor_also_where_others_may_have_orphans() {
    let env = TestEnv::new();
    env.without_retries();
    let script = format!(
        "env -i setsid sleep 1000 </dev/null >/dev/null 2>&1 &\n\
         echo $! > hidden\n\
         until test \"$(cat /proc/$!/comm)\" = sleep; do sleep 0.01; done\n{HOLD}"
    );
    env.story("S-0001").script(&script).write();
    let gates = Gates::new(&env, &["S-0001"]);
    // The run has a child that is none of its business.
    let run = env
        .ai_sdlc(&["run"])
        .shell("sleep 1000 </dev/null >/dev/null 2>&1 & exec \"$0\" run")
        .start();
    assert_eq!(gates.next(), "S-0001");
    let hidden = env.read(".ai-sdlc/worktrees/S-0001-work/hidden");
    assert!(runs(hidden.trim()));
    executor_of(env.mark(), "S-0001").unwrap().kill();
    run.wait().assert_code(1);
    assert!(!runs(hidden.trim()));
    let strangers = living(env.mark());
    assert_eq!(strangers.len(), 1, "{strangers:#?}");
    strangers[0].kill();
}

#[test]
fn an_agent_gets_no_descriptor_of_its_log_but_its_output_and_its_errors() {
    let env = TestEnv::new();
    let script =
        "ls -l /proc/$$/fd | grep '/log$' | sed 's/.* \\([0-9]*\\) -> .*/\\1/' > descriptors";
    env.story("S-0001").script(script).write();
    env.ai_sdlc(&["run", "--keep-worktrees"])
        .run()
        .assert_code(0);
    let descriptors = env.read(".ai-sdlc/worktrees/S-0001-work/descriptors");
    assert_eq!(descriptors, "1\n2\n");
}
