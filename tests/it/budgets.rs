//! What stories, runs and days may use, and how many turns a provider has in a minute.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::continuing::killed;
use super::support::{DEADLINE, HOLD, Output, Running, TestEnv, await_none, pipe};

/// An agent that has cost half a dollar when it is done.
const HALF_A_DOLLAR: &str = r#"echo done > "$AI_SDLC_STORY_ID"
    echo '{"outcome":"succeeded","usage":{"input_tokens":1000,"cost_usd":0.5}}'"#;

/// An agent by the stream of the real one: it has used 900 tokens, and when it is let go 1300; then it waits for ever.
const LONG_TALK: &str = r#"cat > /dev/null
    said() { echo '{"type":"assistant","message":{"id":"'$1'","content":[{"type":"text","text":"hm"}],"usage":{"input_tokens":'$2',"output_tokens":0}}}'; }
    echo some > some.txt
    said one 900
    read -r _ < "$AI_SDLC_TEST_DIR/go"
    said two 400
    sleep 1000 & wait"#;

fn with(env: &TestEnv, adapter: &str, script: &str, limits: &Value) {
    let script = script.replace('\n', "\n ");
    let config = json!({
        "limits": limits,
        "agents": {"fake": {"adapter": adapter, "command": ["sh", "-c", script]}},
    });
    env.write(".ai-sdlc.json", &config.to_string());
}

fn stories(env: &TestEnv, count: u32) {
    for number in 1..=count {
        env.story(&format!("S-{number:04}")).agent("fake").write();
    }
}

/// Starts a run of the agent that talks for long, which is let go when it is known that it has used 900 tokens. The pipe has
/// to be there until then.
fn long_talk(env: &TestEnv) -> (Running, File) {
    let mut go = pipe(&env.base().join("go"));
    let run = env.ai_sdlc(&["run", "--json"]).start();
    run.event_where("900 tokens are told", |event| {
        event["usage"]["input_tokens"] == 900
    });
    writeln!(go, "go").unwrap();
    (run, go)
}

fn outcomes(output: &Output, count: u32) -> Vec<String> {
    let ids = (1..=count).map(|number| format!("S-{number:04}"));
    ids.map(|id| output.outcome(&id)).collect()
}

#[test]
fn a_turn_that_goes_past_its_budget_is_ended_and_its_work_is_kept() {
    let env = TestEnv::new();
    let limits = json!({"story": {"tokens": 1100}});
    with(&env, "claude", LONG_TALK, &limits);
    stories(&env, 1);
    let (run, _go) = long_talk(&env);
    let output = run.wait();
    output.assert_code(4);
    assert_eq!(outcomes(&output, 1), ["budget_exceeded"]);
    let settled = output.settled("S-0001");
    assert_eq!(settled["usage"]["input_tokens"], 1300);
    let near = output.events("budget_near");
    let expected = json!({
        "type": "budget_near", "story": "S-0001", "scope": "story", "budget": "tokens", "used": 900, "limit": 1100
    });
    assert_eq!(near, [expected]);
    let worktree = settled["kept_worktree"]["path"].as_str().unwrap();
    assert!(std::path::Path::new(worktree).join("some.txt").exists());
    assert_eq!(env.status("S-0001"), "blocked");
    assert!(await_none(env.mark(), DEADLINE).is_empty());
}

#[test]
fn turns_are_counted_as_they_are_told() {
    let env = TestEnv::new();
    with(&env, "claude", LONG_TALK, &json!({"story": {"turns": 1}}));
    stories(&env, 1);
    let (run, _go) = long_talk(&env);
    let output = run.wait();
    output.assert_code(4);
    assert_eq!(
        output.settled("S-0001")["reason"],
        "the story's budget of turns is used up"
    );
}

/// An agent that keeps what it was started with, and has cost half a dollar in one request.
const KEEPS_ITS_OPTIONS: &str = r#"cat > /dev/null; echo "$@" > options.txt
    echo '{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1,"total_cost_usd":0.5,"usage":{"input_tokens":10}}'"#;

#[test]
fn an_agent_that_can_be_told_what_is_left_is_told() {
    let env = TestEnv::new();
    let limits = json!({"run": {"cost": 2}, "story": {"turns": 7, "cost": 1.75}});
    with(&env, "claude", KEEPS_ITS_OPTIONS, &limits);
    stories(&env, 3);
    let output = env.ai_sdlc(&["run", "--json", "--concurrent", "1"]).run();
    output.assert_code(0);
    for (number, left) in [(1, "1.750000"), (2, "1.500000"), (3, "1.000000")] {
        let options = env.git(&["show", &format!("ai-sdlc/S-{number:04}-work:options.txt")]);
        let expected = format!("--max-turns 7 --max-budget-usd {left}");
        assert!(options.contains(&expected), "{options}");
    }
}

#[test]
fn the_command_line_says_what_a_run_may_use() {
    let env = TestEnv::new();
    with(
        &env,
        "command",
        HALF_A_DOLLAR,
        &json!({"run": {"costUsd": 100}}),
    );
    stories(&env, 4);
    let run = ["run", "--concurrent", "1", "--max-cost", "0.8", "--json"];
    let output = env.ai_sdlc(&run).run();
    output.assert_code(4);
    // What was through when the budget was used up is through.
    assert_eq!(
        outcomes(&output, 4),
        ["succeeded", "succeeded", "skipped", "skipped"]
    );
    assert_eq!(
        output.events("run_exceeded"),
        [json!({"type": "run_exceeded", "scope": "run", "budget": "cost"})]
    );
    // What was not worked on is as it was.
    assert_eq!(env.status("S-0003"), "ready");
    for (option, value, rule) in [
        (
            "--max-cost",
            "0",
            "--max-cost must be from 0.000001 to 1000000000",
        ),
        (
            "--max-minutes",
            "-1",
            "--max-minutes must be more than 0 and at most 43200, 30 days",
        ),
        ("--max-tokens", "0", "--max-tokens must be at least 1"),
        (
            "--max-tokens",
            "1x",
            "it must be a whole number such as 250000, 250k or 1.5M",
        ),
        ("--max-turns", "0", "--max-turns must be at least 1"),
    ] {
        let output = env.ai_sdlc(&["run", option, value]).run();
        output.assert_code(2);
        output.assert_stderr(rule);
    }
}

#[test]
fn runs_of_a_day_share_its_budget() {
    let env = TestEnv::new();
    let limits = json!({"day": {"cost": 1.2}});
    with(&env, "command", HALF_A_DOLLAR, &limits);
    stories(&env, 4);
    let once = || env.ai_sdlc(&["run", "--json"]).run();
    let first = once();
    first.assert_code(0);
    assert!(first.events("budget_near").is_empty());
    let second = once();
    second.assert_code(0);
    let near = &second.events("budget_near")[0];
    assert_eq!(
        (&near["scope"], &near["used"], &near["limit"]),
        (&json!("day"), &json!(1_000_000), &json!(1_200_000))
    );
    // Its only story was through before it was told that it was one too many.
    once().assert_code(0);
    let fourth = env.ai_sdlc(&["run"]).run();
    fourth.assert_code(4);
    fourth.assert_stderr("the day's cost budget is used up: nothing more starts");
    assert_eq!(env.status("S-0004"), "ready");
}

#[test]
fn a_dry_run_says_that_nothing_is_left_of_the_day() {
    let env = TestEnv::new();
    with(
        &env,
        "command",
        HALF_A_DOLLAR,
        &json!({"day": {"cost": 0.5}}),
    );
    stories(&env, 2);
    let dry = |arguments: &[&str]| {
        let dry = env
            .ai_sdlc(&[&["run", "--dry-run"], arguments].concat())
            .run();
        dry.assert_code(0);
        dry.stdout
    };
    let used_up = "the day's cost budget is used up";
    assert!(!dry(&[]).contains(used_up));
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let line =
        format!("{used_up}: no story would be started, and the run would end with exit code 4\n");
    let text = dry(&[]);
    assert!(text.ends_with(&line), "{text}");
    let plan: Value = serde_json::from_str(&dry(&["--json"])).unwrap();
    assert_eq!(
        (&plan["used_up"], &plan["exit_code"]),
        (&json!(used_up), &json!(0))
    );
    // It tells the truth.
    env.ai_sdlc(&["run"]).run().assert_code(4);
}

#[test]
fn use_that_cannot_be_true_uses_up_no_budget() {
    let env = TestEnv::new();
    let script = HALF_A_DOLLAR
        .replace("1000", "1e300")
        .replace("0.5", "1e300");
    let limits =
        json!({"story": {"tokens": 1000, "cost": 1}, "run": {"tokens": 1000}, "day": {"cost": 1}});
    with(&env, "command", &script, &limits);
    stories(&env, 2);
    let output = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).run();
    output.assert_code(0);
    assert_eq!(outcomes(&output, 2), ["succeeded", "succeeded"]);
    assert!(output.events("run_exceeded").is_empty());
    let usage = &output.events("run_finished")[0]["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cost_micros_usd"]),
        (&json!(0), &json!(0))
    );
    let logs = output.events("story_log");
    let told = logs.iter().filter(|log| {
        let text = log["text"].as_str().unwrap();
        text == "the agent told of a use that cannot be true; that does not count"
    });
    assert_eq!(told.count(), 2, "{logs:#?}");
}

#[test]
fn it_is_said_which_budgets_do_not_hold_an_agent() {
    let env = TestEnv::new();
    let command = ["sh", "-c", "exit 3"];
    let agents = |prices: Value| {
        let config = json!({
            "limits": {"story": {"turns": 10}, "day": {"costUsd": 5}},
            "prices": prices,
            "agents": {
                "cx": {"adapter": "codex", "command": command, "model": "gpt-5", "mostRequests": 5},
                "qw": {"adapter": "qwen", "command": command, "mostRequests": 5},
                "fake": {"adapter": "command", "command": command, "mostRequests": 5},
            },
        });
        env.write(".ai-sdlc.json", &config.to_string());
    };
    agents(json!({}));
    for (id, agent) in [("S-0001", "cx"), ("S-0002", "qw"), ("S-0003", "script")] {
        env.story(id).agent(agent).write();
    }
    let warnings = || {
        let output = env
            .ai_sdlc(&["run", "--dry-run", "--concurrent", "3"])
            .run();
        output.assert_code(0);
        output.stderr
    };
    insta::assert_snapshot!(warnings(), @"
    warning: `agents.cx.mostRequests` does nothing: `claude` and `qwen` can be told a limit of requests, `codex` cannot
    warning: the budget of turns stops `cx` only between two prompts: their requests to the model are told when one is answered, if at all
    warning: the cost budget does not hold `cx`, `qw`: what they cost is not told, and `prices` in .ai-sdlc.json has no price of their model
    ");
    agents(json!({"gpt-5": {"input": 1}}));
    insta::assert_snapshot!(warnings(), @"
    warning: `agents.cx.mostRequests` does nothing: `claude` and `qwen` can be told a limit of requests, `codex` cannot
    warning: the budget of turns stops `cx` only between two prompts: their requests to the model are told when one is answered, if at all
    ");
    // The run itself says the same.
    let expected = warnings();
    let output = env.ai_sdlc(&["run", "--concurrent", "3", "--json"]).run();
    let told: Vec<String> = output
        .events("warning")
        .iter()
        .map(|event| format!("warning: {}\n", event["message"].as_str().unwrap()))
        .collect();
    assert_eq!(told.concat(), expected);
}

#[test]
fn what_a_killed_run_has_used_counts_for_the_day() {
    let env = TestEnv::new();
    env.kills_runs();
    let limits = json!({"day": {"tokens": 1500}});
    with(&env, "claude", LONG_TALK, &limits);
    stories(&env, 1);
    let (mut run, _go) = long_talk(&env);
    run.event_where("1300 tokens are told", |event| {
        event["usage"]["input_tokens"] == 1300
    });
    run.signal(Signal::KILL);
    assert!(run.ends_within(DEADLINE));
    drop(run);
    assert!(await_none(env.mark(), DEADLINE).is_empty());
    env.story("S-0002").agent("fake").write();
    let next = env.ai_sdlc(&["run", "--story", "S-0002", "--json"]).run();
    next.assert_code(4);
    assert_eq!(next.outcome("S-0002"), "budget_exceeded");
    assert_eq!(next.events("run_exceeded")[0]["scope"], "day");
}

#[test]
fn a_run_that_goes_on_tells_what_it_has_used_in_all() {
    let env = TestEnv::new();
    with(&env, "command", HALF_A_DOLLAR, &json!({}));
    stories(&env, 1);
    env.story("S-0002").script(HOLD).write();
    let gates = killed(&env, &["run", "--concurrent", "1"], &["S-0002"]);
    gates.release("S-0002");
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(0);
    let before = &continued.events("run_continued")[0]["through"][0];
    let finished = &continued.events("run_finished")[0];
    for told in [before, finished] {
        let usage = &told["usage"];
        let known = ["input_tokens", "cost_micros_usd", "turns"].map(|key| &usage[key]);
        assert_eq!(known, [&json!(1000), &json!(500_000), &json!(1)], "{told}");
    }
}

#[test]
fn a_provider_has_no_more_turns_in_a_minute_than_it_may_have() {
    let env = TestEnv::new();
    let limits = json!({"providers": {"fake": {"requestsPerMinute": 2}}});
    with(&env, "command", HALF_A_DOLLAR, &limits);
    stories(&env, 3);
    let mut run = env.ai_sdlc(&["run", "--concurrent", "3", "--json"]).start();
    let settled = Cell::new(0);
    run.event_where("two stories are through", |event| {
        settled.set(settled.get() + u32::from(event["type"] == "story_settled"));
        settled.get() == 2
    });
    run.signal(Signal::INT);
    assert!(run.ends_within(DEADLINE));
    let output = run.wait();
    output.assert_code(130);
    let wait = &output.events("turns_used_up")[0];
    assert_eq!(wait["provider"], "fake");
    assert!(wait["wait_ms"].as_u64().unwrap() > 30_000, "{wait}");
    let started = output.events("story_started");
    let started: Vec<&Value> = started.iter().map(|event| &event["story"]).collect();
    assert_eq!(started, ["S-0001", "S-0002"]);
    assert_eq!(env.status("S-0003"), "ready");
}
