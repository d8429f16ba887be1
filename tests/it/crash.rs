//! Processes that are killed.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::{DEADLINE, Gates, HOLD, TestEnv, await_none, executor_of, living};

#[test]
fn an_executor_that_is_killed_is_a_crash_and_disturbs_nobody() {
    let env = TestEnv::new();
    env.without_retries();
    let ids = ["S-0001", "S-0002", "S-0003"];
    for id in ids {
        let script = format!("echo half > half.txt\necho 'the last words' >&2\n{HOLD}");
        env.story(id).script(&script).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "3", "--json"]).start();
    assert_eq!(gates.next_in_any_order(3), ids);

    executor_of(env.mark(), "S-0002").unwrap().kill();
    let settled = run.event("story_settled", "S-0002");
    gates.release("S-0001");
    gates.release("S-0003");
    let output = run.wait();

    output.assert_code(1);
    assert_eq!(settled["outcome"], "crashed");
    assert_eq!(settled["log_tail"][0], "the last words");
    assert_eq!(output.outcome("S-0001"), "succeeded");
    assert_eq!(output.outcome("S-0003"), "succeeded");
    assert_eq!(env.status("S-0002"), "ready");
    assert!(
        env.field("S-0002", "last_error")
            .unwrap()
            .contains("signal 9")
    );
    assert_eq!(env.worktrees(), ["S-0002-work"]);
    assert_eq!(
        env.read(".ai-sdlc/worktrees/S-0002-work/half.txt"),
        "half\n"
    );
}

#[test]
fn nothing_of_an_agent_outlives_an_executor_that_was_killed() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    executor_of(env.mark(), "S-0001").unwrap().kill();
    run.wait().assert_code(1);
    let left = await_none(env.mark(), Duration::from_secs(5));
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn an_executor_that_is_killed_as_soon_as_it_exists_is_a_crash() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").script(HOLD).write();
    let _gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    let began = Instant::now();
    loop {
        // Before the handshake or just after it: the promise is the same, so it does not matter which one is hit.
        if let Some(executor) = executor_of(env.mark(), "S-0001") {
            executor.kill();
            break;
        }
        assert!(began.elapsed() < DEADLINE, "no executor was started");
    }
    let output = run.wait();
    output.assert_code(1);
    assert_eq!(output.outcome("S-0001"), "crashed");
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn a_script_that_is_killed_by_a_signal_is_a_crash() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").script("echo gone\nkill -9 $$").write();
    let output = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 2 lines
         Crashed S-0001 Do S-0001 in <time>: the script was ended by signal 9
                 | gone
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0001-1/log
        Finished 1 crashed in <time>
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0001-work (S-0001: crashed)
             Why S-0001 crashed: the script was ended by signal 9
    ");
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn when_the_orchestrator_is_killed_everything_ends_and_the_next_run_goes_on_in_the_kept_worktree() {
    let env = TestEnv::new();
    let ids = ["S-0001", "S-0002"];
    for id in ids {
        let script = format!("echo \"$AI_SDLC_ATTEMPT\" >> attempts.txt\n{HOLD}");
        env.story(id).script(&script).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "2"]).start();
    assert_eq!(gates.next_in_any_order(2), ids);
    env.kills_runs();
    run.signal(Signal::KILL);
    assert_eq!(run.wait().code, None);
    let left = await_none(env.mark(), Duration::from_secs(15));
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(env.status("S-0001"), "in-progress");

    let plain = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(plain.shown(&env), @"
    exit: 0
    --- stderr
    warning: run <run> was killed: 0 of 2 stories through; interrupted: S-0001, S-0002
    hint: `ai-sdlc run --continue` goes on with it
        Finished no story is ready
    ");

    for id in ids {
        gates.release(id);
        let again = env.ai_sdlc(&["run", "--story", id, "--json"]).run();
        again.assert_code(0);
        let prepared = &again.events("story_prepared")[0];
        assert_eq!(prepared["origin"], "kept_worktree");
        assert_eq!(again.settled(id)["attempt"], 2);
        let kept = env.git(&["show", &format!("ai-sdlc/{id}-work:attempts.txt")]);
        assert_eq!(kept, "1\n2\n");
        assert_eq!(env.status(id), "done");
    }
    assert!(env.worktrees().is_empty());
}

#[test]
fn agents_that_ignore_sigterm_end_as_well_when_the_orchestrator_is_killed() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script(&format!("trap '' TERM HUP\n{HOLD}"))
        .write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    assert!(living(env.mark()).len() >= 3);
    env.kills_runs();
    run.signal(Signal::KILL);
    run.wait();
    let left = await_none(env.mark(), Duration::from_secs(15));
    assert!(left.is_empty(), "{left:#?}");
    // The next run clears away the socket directory that the killed one left.
    gates.release("S-0001");
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
}

#[test]
fn an_executor_that_somebody_terminates_politely_costs_only_its_own_story() {
    let env = TestEnv::new();
    env.without_retries();
    let ids = ["S-0001", "S-0002"];
    for id in ids {
        env.story(id).script(HOLD).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).start();
    assert_eq!(gates.next_in_any_order(2), ids);
    executor_of(env.mark(), "S-0001").unwrap().terminate();
    run.event("story_settled", "S-0001");
    gates.release("S-0002");
    let output = run.wait();
    output.assert_code(1);
    assert_ne!(output.outcome("S-0001"), "succeeded");
    assert_eq!(output.outcome("S-0002"), "succeeded");
    assert_eq!(env.status("S-0001"), "ready");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
}

#[test]
fn what_is_left_when_orchestrator_and_executor_are_killed_at_once_is_ended_by_the_next_run() {
    let env = TestEnv::new();
    // At the first attempt, something deaf to everything but SIGKILL, that the end of the agent alone does not end.
    let script = format!(
        "test \"$AI_SDLC_ATTEMPT\" = 1 || {{ rm -f deaf; echo x > x.txt; exit 0; }}\n\
         setsid sh -c \"trap '' TERM; echo > deaf; while :; do sleep 0.1; done\" &\n\
         until test -e deaf; do sleep 0.01; done\n{HOLD}"
    );
    env.story("S-0001").script(&script).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let executor = executor_of(env.mark(), "S-0001").unwrap();
    env.kills_runs();
    run.signal(Signal::KILL);
    executor.kill();
    assert_eq!(run.wait().code, None);
    gates.release("S-0001");
    assert!(!living(env.mark()).is_empty(), "something was to stay");

    let again = env.ai_sdlc(&["run", "--story", "S-0001", "--json"]).run();
    again.assert_code(0);
    assert_eq!(living(env.mark()).len(), 0);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x.txt"]);
}
