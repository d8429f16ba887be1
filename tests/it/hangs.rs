//! Agents that stand still are stopped, and only those: what works, or waits for something that ends, goes on.

use std::fs;
use std::time::Duration;

use super::support::{Gates, HOLD, TestEnv};

/// Three seconds of standing still; it is said after half of that.
fn hasty(env: &TestEnv, waiting_minutes: f64) {
    let config = format!(
        r#"{{"attempts": {{"most": 1}}, "health":
            {{"quietMinutes": 0.025, "stalledMinutes": 0.05, "waitingMinutes": {waiting_minutes}}}}}"#
    );
    env.write(".ai-sdlc.json", &config);
}

#[test]
fn an_agent_that_stands_still_is_shown_and_then_stopped() {
    let env = TestEnv::new();
    hasty(&env, 60.0);
    env.story("S-0001").script(HOLD).write();
    let _gates = Gates::new(&env, &["S-0001"]);
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    assert_eq!(output.outcome("S-0001"), "stalled");
    let quiet = output.events("story_quiet");
    assert_eq!(quiet.len(), 1, "{quiet:?}");
    assert!(quiet[0]["waits"].is_null(), "{quiet:?}");
    let idle = quiet[0]["idle_ms"].as_u64().unwrap();
    assert!((1_500..3_000).contains(&idle), "{idle}");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
}

#[test]
fn an_agent_that_sleeps_is_shown_with_that_and_goes_on() {
    let env = TestEnv::new();
    hasty(&env, 60.0);
    env.story("S-0001").script("sleep 7").write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(0);
    assert_eq!(output.outcome("S-0001"), "succeeded");
    // On a slow machine it is quiet before it sleeps as well.
    let quiet = output.events("story_quiet");
    let waits: Vec<_> = quiet.iter().map(|quiet| &quiet["waits"]).collect();
    assert_eq!(
        waits.last(),
        Some(&&serde_json::json!("sleep")),
        "{quiet:?}"
    );
    let health = output.events("story_health");
    assert!(health.iter().any(|health| health["sign"] == "processes"));
}

#[test]
fn an_agent_that_sleeps_for_too_long_is_stopped() {
    let env = TestEnv::new();
    hasty(&env, 0.08);
    env.story("S-0001").script("sleep 1000").write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    let settled = output.settled("S-0001");
    assert_eq!(settled["outcome"], "stalled");
    let reason = settled["reason"].as_str().unwrap();
    assert!(reason.ends_with("it waited for a timer"), "{reason}");
}

#[test]
fn an_agent_that_computes_and_says_nothing_goes_on() {
    let env = TestEnv::new();
    hasty(&env, 0.05);
    // No process comes or goes, nothing is read or written.
    let script = "timeout 7 sh -c 'while :; do :; done' || test $? = 124";
    env.story("S-0001").script(script).write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(0);
    assert_eq!(output.outcome("S-0001"), "succeeded");
    let health = output.events("story_health");
    assert!(health.iter().any(|health| health["sign"] == "cpu"));
}

#[test]
fn work_that_others_do_in_the_worktree_counts() {
    let env = TestEnv::new();
    hasty(&env, 60.0);
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    for round in 0..35 {
        let file = env.path(".ai-sdlc/worktrees/S-0001-work/result.txt");
        fs::write(file, round.to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    gates.release("S-0001");
    let output = run.wait();
    output.assert_code(0);
    assert_eq!(output.outcome("S-0001"), "succeeded");
    let health = output.events("story_health");
    assert!(health.iter().any(|health| health["sign"] == "files"));
}
