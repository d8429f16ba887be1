//! Signals: a run stops cleanly, in time, and nothing is lost.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::{Gates, HOLD, Running, TestEnv, await_none};

/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(2);

/// Two stories at their gates, a third one waiting for a slot.
fn started(env: &TestEnv, prelude: &str) -> (Gates, Running) {
    let ids = ["S-0001", "S-0002", "S-0003"];
    for id in ids {
        let script = format!("{prelude}\necho half > half.txt\n{HOLD}");
        env.story(id).script(&script).write();
    }
    let gates = Gates::new(env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).start();
    assert_eq!(gates.next_in_any_order(2), ["S-0001", "S-0002"]);
    (gates, run)
}

fn stops_with(signal: Signal, code: i32) {
    let env = TestEnv::new();
    let (gates, run) = started(&env, "");
    let asked = Instant::now();
    run.signal(signal);
    let output = run.wait();
    assert!(asked.elapsed() < Duration::from_secs(5), "{output:#?}");
    output.assert_code(code);
    for id in ["S-0001", "S-0002", "S-0003"] {
        assert_eq!(output.outcome(id), "cancelled");
        assert_eq!(env.status(id), "ready");
    }
    gates.assert_nobody_else();
    assert_eq!(output.events("story_started").len(), 2);
    let stopping = &output.events("run_stopping")[0];
    assert_eq!(stopping["running"], 2);
    assert_eq!(stopping["grace_ms"], 10_000);
    assert_eq!(output.events("run_finished")[0]["exit_code"], code);
    assert_eq!(env.worktrees(), ["S-0001-work", "S-0002-work"]);
    assert_eq!(
        env.read(".ai-sdlc/worktrees/S-0001-work/half.txt"),
        "half\n"
    );

    // And on it goes.
    for id in ["S-0001", "S-0002", "S-0003"] {
        gates.release(id);
    }
    let again = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    again.assert_code(0);
    assert!(env.worktrees().is_empty());
}

#[test]
fn sigint_stops_the_run_cleanly() {
    stops_with(Signal::INT, 130);
}

#[test]
fn sigterm_stops_the_run_cleanly() {
    stops_with(Signal::TERM, 143);
}

#[test]
fn what_a_stop_has_no_time_to_save_is_told() {
    let env = TestEnv::new();
    env.git(&["config", "filter.slow.clean", "sleep 300"]);
    fs::write(env.path(".git/info/attributes"), "half.txt filter=slow\n").unwrap();
    let (_gates, run) = started(&env, "");
    let asked = Instant::now();
    run.signal(Signal::INT);
    let output = run.wait();
    assert!(asked.elapsed() < Duration::from_secs(8), "{output:#?}");
    output.assert_code(130);
    let kept = &output.settled("S-0001")["kept_worktree"];
    assert_eq!(kept["salvage"], serde_json::Value::Null);
    let reason = kept["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("no time to save"), "{kept}");
}

#[test]
fn agents_that_ignore_sigterm_are_gone_within_the_grace_and_a_second() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"process\": {\"graceMs\": 1000}}");
    let (_gates, run) = started(&env, "trap '' TERM");
    let asked = Instant::now();
    run.signal(Signal::INT);
    let output = run.wait();
    let took = asked.elapsed();
    output.assert_code(130);
    assert!(
        took >= Duration::from_millis(900),
        "they had their grace: {took:?}"
    );
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    for id in ["S-0001", "S-0002"] {
        assert_eq!(output.outcome(id), "cancelled");
        assert_eq!(env.status(id), "ready");
    }
    assert_eq!(env.worktrees(), ["S-0001-work", "S-0002-work"]);
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"process\": {\"graceMs\": 60000}}");
    let (_gates, run) = started(&env, "trap '' TERM");
    run.signal(Signal::INT);
    run.event("run_stopping", "");
    let asked = Instant::now();
    run.signal(Signal::INT);
    let output = run.wait();
    let took = asked.elapsed();
    output.assert_code(130);
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    assert_eq!(env.status("S-0001"), "ready");
    assert_eq!(env.worktrees(), ["S-0001-work", "S-0002-work"]);
}

#[test]
fn what_an_agent_does_on_sigterm_is_still_waited_for() {
    let env = TestEnv::new();
    let (_gates, run) = started(&env, "trap 'echo saved > saved.txt; exit 1' TERM");
    run.signal(Signal::TERM);
    run.wait().assert_code(143);
    assert_eq!(
        env.read(".ai-sdlc/worktrees/S-0002-work/saved.txt"),
        "saved\n"
    );
}

#[test]
fn what_is_cut_off_by_a_third_signal_is_counted() {
    for (hook, script) in [("beforeRun", "true"), ("afterRun", "exit 1")] {
        let env = TestEnv::new();
        let hold = format!("trap '' TERM; {}", HOLD.replace('\n', "; "));
        let config = serde_json::json!({"hooks": {hook: hold}});
        env.write(".ai-sdlc.json", &config.to_string());
        env.story("S-0001").script(script).write();
        let gates = Gates::new(&env, &["S-0001"]);
        let run = env.ai_sdlc(&["run", "--json"]).start();
        assert_eq!(gates.next(), "S-0001");
        run.signal(Signal::INT);
        run.event("run_stopping", "");
        // Two of one kind may arrive as one.
        run.signal(Signal::TERM);
        run.signal(Signal::INT);
        let output = run.wait();
        let warnings = output.events("warning");
        let cut_off = "cut off: 1 attempt left to end within seconds";
        let is_told = warnings.iter().any(|event| event["message"] == cut_off);
        assert!(is_told, "{hook}: {output:#?}");
        let left = await_none(env.mark(), Duration::from_secs(4) + SLACK);
        assert!(left.is_empty(), "{left:#?}");
    }
}

#[test]
fn people_are_told_that_a_run_stops_and_what_was_kept() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    env.story("S-0002").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "1"]).start();
    assert_eq!(gates.next(), "S-0001");
    run.line("Phase S-0001");
    run.signal(Signal::INT);
    insta::assert_snapshot!(run.wait().shown(&env), @"
    exit: 130
    --- stderr
         Running 2 stories, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 2 lines
        Stopping 1 attempt has <time> to end; press Ctrl-C again to end them now
       Cancelled S-0001 Do S-0001 in <time>
        Finished 2 cancelled in <time>
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0001-work (S-0001: cancelled)
    ");
}

#[test]
fn a_signal_at_any_moment_leaves_nothing_half_made() {
    let env = TestEnv::new();
    // Some worktrees stand, some are being made, and whatever else eight stories are at in that moment.
    for number in 1..=8 {
        env.story(&format!("S-{number:04}"))
            .script("echo x > x.txt")
            .write();
    }
    let run = env.ai_sdlc(&["run", "--concurrent", "4", "--json"]).start();
    run.event("story_prepared", "");
    run.signal(Signal::INT);
    let output = run.wait();
    output.assert_code(130);
    assert_eq!(output.events("story_settled").len(), 8);
    for number in 1..=8 {
        let id = format!("S-{number:04}");
        let done = output.outcome(&id) == "succeeded";
        assert_eq!(env.status(&id), if done { "done" } else { "ready" });
    }
    let again = env.ai_sdlc(&["run", "--concurrent", "4"]).run();
    again.assert_code(0);
    assert_eq!(env.branches().len(), 8);
    for branch in env.branches() {
        assert_eq!(env.changed_files(&branch), ["x.txt"]);
    }
    assert!(env.worktrees().is_empty());
}

/// A hook of git that stops at the moment when the branch of a story is locked: when it is made (`make`) or when it
/// moves on (`move`), whichever the file `hold` says; once.
const HOLDING_HOOK: &str = r#"#!/bin/sh
test "$1" = prepared || exit 0
while read -r old new name; do
    case "$name" in refs/heads/ai-sdlc/*) ;; *) continue ;; esac
    test "$old" != "$new" || continue
    case "$old" in *[!0]*) kind=move ;; *) kind=make ;; esac
    test "$kind" = "$(cat "$AI_SDLC_TEST_DIR/hold")" || continue
    echo nothing > "$AI_SDLC_TEST_DIR/hold"
    echo hook > "$AI_SDLC_TEST_DIR/started"
    read -r _ < "$AI_SDLC_TEST_DIR/gate-hook"
done
"#;

fn stops_while_git_holds_a_branch(kind: &str) {
    let env = TestEnv::new();
    env.story("S-0001").script("echo x > x.txt").write();
    env.write(".git/hooks/reference-transaction", HOLDING_HOOK);
    env.make_executable(".git/hooks/reference-transaction");
    let hold = env.base().join("hold");
    fs::write(&hold, kind).unwrap();
    let gates = Gates::new(&env, &["hook"]);

    let mut run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "hook");
    run.signal(Signal::INT);
    run.event("run_stopping", "");
    // Either git is given the time to finish, or it is ended in a way in which it clears up after itself. What must
    // not happen, that it is killed, happens at once.
    run.ends_within(Duration::from_millis(300));
    gates.release("hook");
    run.wait().assert_code(130);

    fs::write(&hold, "nothing").unwrap();
    let again = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    again.assert_code(0);
    assert_eq!(env.status("S-0001"), "done");
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x.txt"]);
    assert!(env.worktrees().is_empty());
}

#[test]
fn a_stop_while_git_makes_a_branch_leaves_no_lock_that_stops_the_next_run() {
    stops_while_git_holds_a_branch("make");
}

#[test]
fn a_stop_while_git_commits_leaves_no_lock_that_stops_the_next_run() {
    stops_while_git_holds_a_branch("move");
}

#[test]
fn a_stop_that_takes_too_long_is_cut_off_and_says_what_became_of_every_story() {
    let env = TestEnv::new();
    let ids = ["S-0001", "S-0002", "S-0003"];
    for id in ids {
        env.story(id).script(HOLD).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).start();
    gates.next_in_any_order(2);
    // Somebody holds the lock of the repository, so that no worktree can be removed.
    let lock = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(env.path(".git/ai-sdlc.lock"))
        .unwrap();
    lock.lock().unwrap();
    gates.release("S-0001");
    gates.release("S-0002");
    run.event("story_started", "S-0003");
    run.signal(Signal::TERM);
    run.event("run_stopping", "");
    run.signal(Signal::TERM);
    let output = run.wait();
    output.assert_code(75);
    for id in ids {
        assert_eq!(output.outcome(id), "cancelled");
        assert_eq!(env.status(id), "ready");
    }
    assert_eq!(output.events("story_settled").len(), 3);
    assert_eq!(output.events("run_finished").len(), 1);
    drop(lock);

    gates.release("S-0001");
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
}

#[test]
fn an_attempt_whose_end_is_being_taken_care_of_is_under_way() {
    let env = TestEnv::new();
    let hold = HOLD.replace('\n', "; ");
    let config = serde_json::json!({"hooks": {"afterRun": hold}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    gates.next();
    run.signal(Signal::INT);
    run.line("Stopping the end of 1 attempt is still being taken care of");
    gates.release("S-0001");
    run.wait().assert_code(130);
}
