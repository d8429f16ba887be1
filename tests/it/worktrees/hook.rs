//! `hooks.beforeRemove` for worktrees that are removed outside of an attempt.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::shown;
use crate::support::{Gates, HOLD, TestEnv, await_none};

/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(3);

/// Notes what a hook is told, and that it runs in the worktree.
const NOTE: &str = "test \"$PWD\" = \"$AI_SDLC_WORKTREE\" && test -d \"$AI_SDLC_CHECKOUT/.git\" && test -d \"$AI_SDLC_ROOT/stories\" && test -n \"$AI_SDLC_RUN_ID\" && \
                    echo \"$AI_SDLC_STORY_ID $AI_SDLC_BRANCH ${AI_SDLC_ATTEMPT-none} ${AI_SDLC_OUTCOME-none}\" >> \"$AI_SDLC_TEST_DIR/goes\"";

/// A board with this hook and these worktrees.
fn with_hook(hook: &str, ids: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    let config = serde_json::json!({"hooks": {"beforeRemove": hook}});
    env.write(".ai-sdlc.json", &config.to_string());
    for id in ids {
        env.story(id).status("backlog").write();
        env.ai_sdlc(&["worktrees", "add", id]).run().assert_code(0);
    }
    env
}

/// What hooks have noted.
fn noted(env: &TestEnv) -> String {
    fs::read_to_string(env.base().join("goes")).unwrap_or_default()
}

#[test]
fn it_runs_for_what_is_removed_and_pruned_and_not_for_what_stays() {
    let env = with_hook(NOTE, &["S-0001", "S-0002", "S-0003"]);
    env.write(".ai-sdlc/worktrees/S-0002-work/mine.txt", "mine\n");
    let names = ["worktrees", "remove", "S-0001", "S-0002"];
    // An agent may call it.
    let remove = env.ai_sdlc(&names).variable("AI_SDLC_ATTEMPT", "7");
    remove.run().assert_code(1);
    assert_eq!(noted(&env), "S-0001 ai-sdlc/S-0001-work none none\n");
    let dry = env.ai_sdlc(&["worktrees", "prune", "--dry-run"]).run();
    dry.assert_code(0).assert_stderr("1 worktree would go");
    assert_eq!(noted(&env).lines().count(), 1);
    env.ai_sdlc(&["worktrees", "prune"]).run().assert_code(0);
    assert_eq!(env.worktrees(), ["S-0002-work"]);
    let told = noted(&env);
    assert_eq!(
        told.lines().last(),
        Some("S-0003 ai-sdlc/S-0003-work none none")
    );
    let log = env.read(".ai-sdlc/logs/before-remove-S-0003-work.log");
    assert!(log.starts_with("ai-sdlc: hooks.beforeRemove: "), "{log}");
    assert_eq!(env.git(&["status", "--porcelain", ".ai-sdlc/logs"]), "");
}

#[test]
fn what_it_writes_is_looked_at() {
    let env = with_hook("echo left > left.txt", &["S-0001"]);
    let output = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
    output
        .assert_code(1)
        .assert_stderr("not committed: left.txt");
    let remove = ["worktrees", "remove", "S-0001", "--salvage"];
    env.ai_sdlc(&remove).run().assert_code(0);
    assert!(env.worktrees().is_empty());
    let saved = env.git(&["show", "refs/ai-sdlc/salvage/S-0001/1:left.txt"]);
    assert_eq!(saved, "left\n");
}

#[test]
fn its_failure_is_told_and_stops_no_removal() {
    let env = with_hook("echo no database; exit 3", &["S-0001"]);
    let output = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
    warning: S-0001: `hooks.beforeRemove` ended with exit code 3 (log: <dir>/my répo/.ai-sdlc/logs/before-remove-S-0001-work.log)
         Removed S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
            Kept the branch ai-sdlc/S-0001-work
    ");
    let log = env.read(".ai-sdlc/logs/before-remove-S-0001-work.log");
    insta::assert_snapshot!(log, @r"
    ai-sdlc: hooks.beforeRemove: echo no database; exit 3
    no database
    ai-sdlc: hooks.beforeRemove ended with exit code 3
    ");
    let hook = "trap '' TERM; setsid sleep 1000 & sleep 1000";
    let config = serde_json::json!({"hooks": {"beforeRemove": hook, "timeout": 300}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    let began = Instant::now();
    let output = env.ai_sdlc(&["worktrees", "prune"]).run();
    output
        .assert_code(0)
        .assert_stderr("`hooks.beforeRemove` did not end within 300 ms and was killed (log: ");
    assert!(began.elapsed() < Duration::from_secs(3) + SLACK);
    assert!(await_none(env.mark(), Duration::ZERO).is_empty());
    assert!(env.worktrees().is_empty());
    // The log is that of the last one.
    let log = env.read(".ai-sdlc/logs/before-remove-S-0001-work.log");
    assert!(!log.contains("database"), "{log}");
}

#[test]
fn what_it_leaves_running_is_ended_even_when_its_keeper_is_killed() {
    let left = "setsid sleep 1000 & sleep 1000 & echo started > $AI_SDLC_TEST_DIR/goes";
    for end in ["true", "kill -9 $PPID; sleep 1000"] {
        let env = with_hook(&format!("{left}; {end}"), &["S-0001"]);
        let output = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
        output.assert_code(0);
        assert_eq!(output.stderr.contains("was killed"), end != "true");
        assert_eq!(noted(&env), "started\n");
        assert!(await_none(env.mark(), Duration::ZERO).is_empty());
    }
}

#[test]
fn it_runs_for_what_makes_room_for_another_worktree() {
    let note = format!("{NOTE}; exit 3");
    let env = with_hook(&note, &["S-0001", "S-0002"]);
    env.write(".ai-sdlc/worktrees/S-0002-work/mine.txt", "mine\n");
    let config =
        serde_json::json!({"hooks": {"beforeRemove": note}, "worktree": {"maxDisk": 4096}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0003").script("exit 1").write();
    let output = env.ai_sdlc(&["run"]).run();
    output.assert_code(1).assert_stderr(
        "/.ai-sdlc/worktrees/S-0001-work: `hooks.beforeRemove` ended with exit code 3 (log: ",
    );
    assert_eq!(noted(&env), "S-0001 ai-sdlc/S-0001-work none none\n");
    assert_eq!(env.worktrees(), ["S-0002-work", "S-0003-work"]);
    let log = env.read(".ai-sdlc/logs/before-remove-S-0001-work.log");
    assert!(log.ends_with("ended with exit code 3\n"), "{log}");
}

#[test]
fn hooks_do_not_hold_up_an_attempt_for_long() {
    let hook = "sleep 1000";
    let env = with_hook(hook, &["S-0001", "S-0002"]);
    let config = serde_json::json!({
        "hooks": {"beforeRemove": hook, "timeout": 300},
        "worktree": {"maxDisk": 4096},
    });
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0003").script("exit 1").write();
    let output = env.ai_sdlc(&["run"]).run();
    output
        .assert_code(1)
        .assert_stderr("`hooks.beforeRemove` takes too long to remove more of the others at once");
    assert_eq!(env.worktrees().len(), 2);
}

#[test]
fn a_run_that_stops_ends_it_and_keeps_the_worktree() {
    let hook = format!(
        "trap '' TERM; setsid sleep 1000 & {}",
        HOLD.replace('\n', "; ")
    );
    let env = with_hook(&hook, &["S-0001"]);
    let config =
        serde_json::json!({"hooks": {"beforeRemove": hook}, "worktree": {"maxDisk": 4096}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0002").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let asked = Instant::now();
    run.signal(Signal::INT);
    let output = run.wait();
    output.assert_code(130);
    let took = asked.elapsed();
    assert!(
        took < Duration::from_secs(3) + SLACK,
        "{took:?}: {output:#?}"
    );
    assert!(await_none(env.mark(), Duration::ZERO).is_empty());
    assert_eq!(env.worktrees(), ["S-0001-work"]);
    assert_eq!(env.status("S-0002"), "ready");
}

#[test]
fn a_stop_ends_it_and_keeps_the_worktree() {
    // SIGINT is ignored by what a shell has put into the background.
    for signal in [Signal::TERM, Signal::KILL] {
        let hook = format!(
            "trap '' TERM; setsid sleep 1000 & {}",
            HOLD.replace('\n', "; ")
        );
        let env = with_hook(&hook, &["S-0001"]);
        let gates = Gates::new(&env, &["S-0001"]);
        let remove = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).start();
        assert_eq!(gates.next(), "S-0001");
        remove.signal(signal);
        let output = remove.wait();
        assert_eq!(output.code, None, "{output:#?}");
        let left = await_none(env.mark(), Duration::from_secs(2) + SLACK);
        assert!(left.is_empty(), "{left:#?}");
        assert_eq!(env.worktrees(), ["S-0001-work"]);
    }
}

#[test]
fn a_run_that_takes_the_story_meanwhile_keeps_the_worktree() {
    let hold = HOLD
        .replace('\n', "; ")
        .replace("$AI_SDLC_STORY_ID", "hook");
    let env = with_hook(&hold, &["S-0001"]);
    env.story("S-0002").script(HOLD).write();
    let gates = Gates::new(&env, &["hook", "S-0002"]);
    let run = env.ai_sdlc(&["run", "--watch"]).start();
    assert_eq!(gates.next(), "S-0002");
    let remove = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).start();
    assert_eq!(gates.next(), "hook");
    env.story("S-0001").script(HOLD).write();
    gates.release("hook");
    let output = remove.wait();
    output
        .assert_code(1)
        .assert_stderr("may work in it at any moment");
    assert!(!output.stderr.contains("--salvage"), "{}", output.stderr);
    run.signal(Signal::INT);
    run.wait();
    assert_eq!(env.worktrees()[0], "S-0001-work");
}
