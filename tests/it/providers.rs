//! Limits of providers: who waits for one, who does not, and what becomes of the run.

use std::fs::File;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::{DEADLINE, Gates, HOLD, Output, TestEnv, await_none};

/// Works, as far as the test can see it.
const WORK: &str = "echo done > \"$AI_SDLC_STORY_ID\"";

/// Configures agents that are shell scripts, each its own provider.
fn agents(env: &TestEnv, scripts: &[(&str, &str)], besides: Value) {
    let mut config = besides;
    // They leave things outside of their worktrees.
    config["fence"] = json!({"enabled": false});
    for (name, script) in scripts {
        config["agents"][name] = json!({"adapter": "command", "command": ["sh", "-c", script]});
    }
    env.write(".ai-sdlc.json", &config.to_string());
}

/// A script that meets a limit once, which lasts so many seconds.
fn limited_once(seconds: u32) -> String {
    format!(
        "if mkdir \"$AI_SDLC_TEST_DIR/limited\" 2>/dev/null; then
            echo '{{\"outcome\":\"limited\",\"reason\":\"slow down\",\"retry_after\":{seconds}}}'
        else {WORK}; fi"
    )
}

fn started(output: &Output) -> Vec<String> {
    let started = output.events("story_started").into_iter();
    let story = |event: Value| event["story"].as_str().unwrap().to_owned();
    started.map(story).collect()
}

#[test]
fn no_more_stories_meet_a_limit_than_had_begun_before_it_was_known() {
    let env = TestEnv::new();
    // Whoever asks within two seconds after the first one is asked to wait as well.
    let script = format!(
        "now=$(date +%s%N); lifted=$((now + 2000000000))
        echo $lifted > \"$AI_SDLC_TEST_DIR/mine-$$\"
        ln \"$AI_SDLC_TEST_DIR/mine-$$\" \"$AI_SDLC_TEST_DIR/lifted\" 2>/dev/null
        if [ $now -lt $(cat \"$AI_SDLC_TEST_DIR/lifted\") ]; then
            echo '{{\"outcome\":\"limited\",\"reason\":\"slow down\",\"retry_after\":2}}'
        else {WORK}; fi"
    );
    agents(&env, &[("fake", &script)], json!({}));
    let ids = ["S-0001", "S-0002", "S-0003", "S-0004", "S-0005", "S-0006"];
    for id in ids {
        env.story(id).agent("fake").write();
    }
    let run = env.ai_sdlc(&["run", "--concurrent", "3", "--json"]).run();
    run.assert_code(0);
    let limited = run.events("story_retrying");
    assert!((1..=3).contains(&limited.len()), "{limited:#?}");
    for retry in &limited {
        assert_eq!(retry["outcome"], "quota_exhausted");
        assert_eq!(retry["reason"], "slow down");
    }
    let paused = &run.events("provider_paused")[0];
    assert_eq!(
        (&paused["provider"], &paused["reason"]),
        (&json!("fake"), &json!("slow down"))
    );
    assert!(!run.events("provider_resumed").is_empty());
    assert_eq!(ids.map(|id| env.status(id)), ids.map(|_| "done".to_owned()));
}

#[test]
fn stories_of_another_provider_go_on_during_a_limit() {
    let env = TestEnv::new();
    let limited = limited_once(2);
    agents(&env, &[("fake", &limited), ("other", WORK)], json!({}));
    for (id, agent) in [("S-0001", "fake"), ("S-0002", "fake"), ("S-0003", "other")] {
        env.story(id).agent(agent).write();
    }
    let run = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).run();
    run.assert_code(0);
    let started = started(&run);
    assert_eq!(started[..2], ["S-0001", "S-0003"], "{started:?}");
    assert_eq!(started.len(), 4);
}

/// The quota of a provider is used up after four stories of fifty, for an hour. The run is killed, and goes on an hour later.
#[test]
fn a_quota_that_dies_costs_no_more_than_the_turns_in_flight_and_the_run_ends_when_it_is_back() {
    const SLOTS: usize = 4;
    let env = TestEnv::new();
    env.kills_runs();
    let script = format!(
        "if mkdir \"$AI_SDLC_TEST_DIR\"/served-1 2>/dev/null || mkdir \"$AI_SDLC_TEST_DIR\"/served-2 2>/dev/null ||
            mkdir \"$AI_SDLC_TEST_DIR\"/served-3 2>/dev/null || mkdir \"$AI_SDLC_TEST_DIR\"/served-4 2>/dev/null ||
            [ -e \"$AI_SDLC_TEST_DIR\"/back ]
        then {WORK}
        else
            echo \"$AI_SDLC_STORY_ID\" >> \"$AI_SDLC_TEST_DIR\"/limited
            echo '{{\"outcome\":\"limited\",\"reason\":\"slow down\",\"retry_after\":3600}}'
        fi"
    );
    agents(&env, &[("fake", &script)], json!({}));
    let ids: Vec<String> = (1..=50).map(|number| format!("S-{number:04}")).collect();
    for id in &ids {
        env.story(id).agent("fake").write();
    }
    let slots = SLOTS.to_string();
    let mut run = env
        .ai_sdlc(&["run", "--concurrent", &slots])
        .variable("TZ", "UTC")
        .start();
    // With the time until when.
    run.line("Paused fake until ");
    run.line("waits ");
    run.signal(Signal::KILL);
    assert!(run.ends_within(DEADLINE));
    drop(run);
    let left = await_none(env.mark(), DEADLINE);
    assert!(left.is_empty(), "{left:#?}");
    let limited = || std::fs::read_to_string(env.base().join("limited")).unwrap();
    let wasted = limited().lines().count();
    assert!((1..=SLOTS).contains(&wasted), "{}", limited());

    // As if that had been an hour ago.
    std::fs::write(env.base().join("back"), "").unwrap();
    let latest = env.read(".ai-sdlc/runs/latest");
    let journal = env.path(&format!(".ai-sdlc/runs/{}/journal.jsonl", latest.trim()));
    let journal = File::options().append(true).open(journal).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3601);
    journal.set_modified(hour_ago).unwrap();
    drop(journal);
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(0);
    assert_eq!(continued.events("provider_resumed").len(), 1);
    assert_eq!(limited().lines().count(), wasted);
    let open: Vec<&String> = ids.iter().filter(|id| env.status(id) != "done").collect();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_provider_that_refuses_stops_its_own_stories_and_no_others() {
    let env = TestEnv::new();
    let refused = "echo '{\"outcome\":\"refused\",\"reason\":\"log in first\"}'";
    agents(&env, &[("fake", refused), ("other", WORK)], json!({}));
    for (id, agent) in [
        ("S-0001", "fake"),
        ("S-0002", "fake"),
        ("S-0003", "other"),
        ("S-0004", "fake"),
    ] {
        env.story(id).agent(agent).write();
    }
    let run = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).run();
    run.assert_code(1);
    let refusal = json!({"type": "provider_refused", "provider": "fake", "reason": "log in first"});
    assert_eq!(run.events("provider_refused"), [refusal]);
    assert_eq!(started(&run), ["S-0001", "S-0003"]);
    assert_eq!(run.outcome("S-0001"), "provider_refused");
    for id in ["S-0002", "S-0004"] {
        let settled = run.settled(id);
        assert_eq!(settled["outcome"], "skipped");
        assert_eq!(settled["reason"], "fake refuses: log in first");
        assert_eq!(env.status(id), "ready");
    }
    assert_eq!(env.status("S-0001"), "ready");
    assert_eq!(env.status("S-0003"), "done");

    // The person logs in, and goes on.
    agents(&env, &[("fake", WORK), ("other", WORK)], json!({}));
    env.ai_sdlc(&["run", "--continue"]).run().assert_code(0);
    assert_eq!(env.status("S-0004"), "done");
}

#[test]
fn a_refusal_is_told_once_to_people_with_what_to_do() {
    let env = TestEnv::new();
    let refused = "echo '{\"outcome\":\"refused\",\"reason\":\"log in first\"}'";
    agents(&env, &[("fake", refused)], json!({}));
    env.story("S-0001").agent("fake").write();
    let run = env.ai_sdlc(&["run"]).run();
    run.assert_code(1);
    let told = "     Refused fake, so that no story of it starts any more: log in first
             hint: see to its key or its account, then run again
";
    run.assert_stderr(told);
    assert_eq!(run.stderr.matches("no story of it starts").count(), 1);
}

#[test]
fn so_many_attempts_of_a_provider_are_alive_at_once_as_it_may_have() {
    let env = TestEnv::new();
    let hold = format!("{HOLD}\n{WORK}");
    let most = json!({"limits": {"providers": {"fake": {"maxConcurrent": 1}}}});
    agents(&env, &[("fake", &hold), ("other", &hold)], most);
    let ids = ["S-0001", "S-0002", "S-0003"];
    for (id, agent) in ids.into_iter().zip(["fake", "fake", "other"]) {
        env.story(id).agent(agent).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "3"]).start();
    assert_eq!(gates.next_in_any_order(2), ["S-0001", "S-0003"]);
    gates.release("S-0003");
    env.await_status("S-0003", "done");
    gates.assert_nobody_else();
    gates.release("S-0001");
    assert_eq!(gates.next(), "S-0002");
    gates.release("S-0002");
    run.wait().assert_code(0);
}

#[test]
fn a_limit_for_a_provider_that_no_agent_has_is_an_error() {
    let env = TestEnv::new();
    let most = json!({"limits": {"providers": {"antropic": {"maxConcurrent": 1}}}});
    env.write(".ai-sdlc.json", &most.to_string());
    env.story("S-0001").write();
    let run = env.ai_sdlc(&["run"]).run();
    run.assert_code(2);
    run.assert_stderr("no agent has that provider (did you mean `anthropic`?) (there are: acp, anthropic, command, dry-run, google, mock, openai, opencode, qwen, script)");
}
