//! Agents that speak the Agent Client Protocol: what is said to them, what their answers mean, and that none of them is
//! waited for in vain. The agents here are shell scripts that say what the real ones say.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::support::{Gates, HOLD, Output, TestEnv, await_none};

/// What every script can do: read a line, which is kept beside the repository, tell one, and go through the beginning of
/// a conversation up to its prompt.
const WORDS: &str = r#"
hear() { IFS= read -r line && printf '%s\n' "$line" >> "$AI_SDLC_TEST_DIR/said"; }
tell() { printf '%s\n' "$1"; }
answer() { tell "{\"jsonrpc\":\"2.0\",\"id\":$1,\"result\":$2}"; }
update() { tell "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"s-1\",\"update\":$1}}"; }
hello() { hear; answer 1 '{"protocolVersion":1,"agentCapabilities":{"loadSession":true}}'; }
open() { hello; hear; answer 2 '{"sessionId":"s-1"}'; hear; }
ask() { tell '{"jsonrpc":"2.0","id":"q","method":"session/request_permission","params":{"sessionId":"s-1","toolCall":{"toolCallId":"t","title":"rm -r x","kind":"execute"},"options":[{"optionId":"yes","name":"Yes","kind":"allow_once"},{"optionId":"no","name":"No","kind":"reject_once"}]}}'; hear; }
end() { answer 3 "{\"stopReason\":\"$1\",\"usage\":{\"totalTokens\":110,\"inputTokens\":100,\"outputTokens\":10}}"; }
"#;

fn with_agent(script: &str) -> TestEnv {
    with_agent_and(script, "", "")
}

fn with_agent_and(script: &str, of_agent: &str, more: &str) -> TestEnv {
    let env = TestEnv::new();
    let program = env.base().join("agent.sh");
    fs::write(&program, format!("{WORDS}{script}\n")).unwrap();
    let config = format!(
        r#"{{"attempts": {{"most": 1}}, "fence": {{"enabled": false}}{more},
            "agents": {{"acp": {{"command": ["sh", "{}"]{of_agent}}}}}}}"#,
        program.display()
    );
    env.write(".ai-sdlc.json", &config);
    env.story("S-0001").agent("acp").write();
    env
}

fn run(env: &TestEnv) -> Output {
    env.ai_sdlc(&["run", "--json"]).run()
}

/// What was said to the agent, a line each.
fn said(env: &TestEnv) -> Vec<String> {
    let said = fs::read_to_string(env.base().join("said")).unwrap();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn an_agent_is_told_its_story_in_a_dialogue_and_its_work_is_committed() {
    let env = with_agent(
        r#"open; update '{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"I begin."}}'
        echo one > one.txt
        update '{"sessionUpdate":"usage_update","used":1,"size":2,"cost":{"amount":0.5,"currency":"USD"}}'
        end end_turn; cat > /dev/null"#,
    );
    let output = run(&env);
    output.assert_code(0);
    assert_eq!(output.outcome("S-0001"), "succeeded");
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["one.txt"]);
    let said = said(&env);
    let prompt: serde_json::Value = serde_json::from_str(&said[2]).unwrap();
    let text = prompt["params"]["prompt"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("Work on story S-0001"), "{text}");
    let folder = env.path(".ai-sdlc/worktrees/S-0001-work");
    let cwd = format!("\"cwd\":\"{}\"", folder.display());
    assert!(said[1].contains(&cwd), "{}", said[1]);
    let usage = &output.settled("S-0001")["usage"];
    assert_eq!(usage["input_tokens"], 100);
    assert_eq!(usage["cost_micros_usd"], 500_000);
    let statuses = output.events("story_status");
    assert_eq!(statuses.last().unwrap()["agent_session"], "s-1");
}

/// A script, the outcome of its story, and words of the reason.
const ENDS: &[(&str, &str, &str)] = &[
    ("open; echo x > x.txt; end refusal", "failed", "refuses"),
    (
        "open; echo x > x.txt; echo why >&2; exit 1",
        "failed",
        "exit code 1: why",
    ),
    (
        "hear; echo 'database is locked' >&2; exit 1",
        "crashed",
        "exit code 1: database is locked",
    ),
    ("open; echo x > x.txt", "crashed", "ended without a result"),
    ("open; echo x > x.txt; kill -9 $$", "crashed", "signal 9"),
    ("open; end end_turn", "failed", "the agent changed nothing"),
    (
        "hear; answer 1 '{\"protocolVersion\":7}'",
        "blocked",
        "version 7",
    ),
    (
        r#"open; echo x > x.txt; tell '{"id":3,"error":{"code":-32000,"message":"sign in"}}'"#,
        "provider_refused",
        "sign in",
    ),
    (
        r#"open; echo x > x.txt
        update '{"sessionUpdate":"session_info_update","_meta":{"codex":{"threadStatus":{"type":"systemError"}}}}'
        update '{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"it broke"}}'
        answer 3 '{"stopReason":"end_turn","usage":null}'"#,
        "crashed",
        "it broke",
    ),
    // What we do not know is answered, and no line is too odd to go on.
    (
        r#"open; tell '{"jsonrpc":"2.0","id":77,"method":"x/y"}'; hear
        case "$line" in *77*-32601*) echo x > x.txt;; esac; end end_turn"#,
        "succeeded",
        "",
    ),
    (
        r"printf 'no json\n\377\n{\n'; open; update '{'; tell '{}'; echo x > x.txt; end end_turn",
        "succeeded",
        "",
    ),
    (
        r#"open; head -c 5000000 /dev/zero | tr '\0' x; echo; echo x > x.txt
        yes '{"jsonrpc":"2.0","method":"session/update","params":{}}' | head -n 50000; end end_turn"#,
        "succeeded",
        "",
    ),
    // What asks is allowed to.
    (
        r#"open; ask; case "$line" in *yes*) echo x > x.txt;; esac; end end_turn"#,
        "succeeded",
        "",
    ),
    // What only a person can answer is declined and told.
    (
        r#"open; tell '{"id":7,"method":"elicitation/create","params":{"mode":"form","message":"Which one?"}}'; hear
        case "$line" in *decline*) echo x > x.txt;; esac; end end_turn"#,
        "blocked",
        "the agent asks: Which one?",
    ),
    (
        "hear; exec 0<&-; answer 1 '{\"protocolVersion\":1}'; exec sleep 1000",
        "crashed",
        "has closed its standard input",
    ),
    // Its turn is over, and it need not end by itself.
    (
        "open; echo x > x.txt; end end_turn; exec sleep 1000",
        "succeeded",
        "",
    ),
];

#[test]
fn every_end_has_its_outcome_and_its_reason() {
    for (script, outcome, words) in ENDS {
        let env = with_agent(script);
        run(&env).assert_end(script, "S-0001", outcome, words);
    }
}

#[test]
fn a_model_that_cannot_be_chosen_is_not_replaced_by_another_one() {
    let env = with_agent_and(
        "open; echo x > x.txt; end end_turn",
        r#", "model": "large""#,
        "",
    );
    let words = "the agent offers no choice of models";
    run(&env).assert_end("no models", "S-0001", "blocked", words);
    assert_eq!(said(&env).len(), 2, "it was given its prompt");
}

#[test]
fn what_its_own_rules_do_not_allow_blocks_the_story() {
    let env = with_agent_and(
        "open; ask; echo x > x.txt; end end_turn",
        r#", "permissions": "own""#,
        "",
    );
    let settled = run(&env).settled("S-0001");
    assert_eq!(settled["outcome"], "blocked", "{settled}");
    let reason = settled["reason"].as_str().unwrap();
    assert!(
        reason.contains("not allowed to: execute: rm -r x"),
        "{reason}"
    );
    assert!(said(&env).last().unwrap().contains("\"optionId\":\"no\""));
}

#[test]
fn an_agent_that_never_answers_is_found() {
    let health =
        r#", "health": {"quietMinutes": 0.025, "stalledMinutes": 0.05, "waitingMinutes": 0.1}"#;
    let env = with_agent_and("open; hear; exec sleep 1000", "", health);
    let settled = run(&env).settled("S-0001");
    assert_eq!(settled["outcome"], "stalled", "{settled}");
    assert!(said(&env).last().unwrap().contains("session/cancel"));
}

#[test]
fn an_agent_that_is_stopped_is_told_so_first_and_still_tells_what_it_has_used() {
    let env = with_agent(
        r#"open; echo one > one.txt; echo "$AI_SDLC_STORY_ID" > "$AI_SDLC_TEST_DIR/started"; hear; end cancelled"#,
    );
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    run.signal(Signal::TERM);
    let output = run.wait();
    output.assert_code(143);
    assert_eq!(output.outcome("S-0001"), "cancelled");
    assert_eq!(output.settled("S-0001")["usage"]["input_tokens"], 100);
    assert!(said(&env).last().unwrap().contains("session/cancel"));
}

#[test]
fn a_conversation_goes_on_without_its_history() {
    let hold = HOLD.replace('\n', "; ");
    let script = format!(
        r#"hello; hear
        case "$line" in
        *session/new*) answer 2 '{{"sessionId":"s-1"}}'; hear; update '{{"sessionUpdate":"plan","entries":[]}}'; {hold};;
        *session/load*s-1*)
            update '{{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"BLOCKED: long ago"}}}}'
            answer 2 null; hear; echo two > two.txt;;
        esac; end end_turn"#
    );
    let env = with_agent(&script);
    env.kills_runs();
    let gates = Gates::new(&env, &["S-0001"]);
    let killed = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    killed.event_where("a conversation", |event| event["agent_session"] == "s-1");
    killed.signal(Signal::KILL);
    killed.wait();
    await_none(env.mark(), Duration::from_secs(10));
    let output = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    output.assert_code(0);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["two.txt"]);
    assert!(
        said(&env)
            .last()
            .unwrap()
            .contains("Go on with story S-0001")
    );
}

#[test]
fn what_a_killed_attempt_has_told_of_the_cost_of_its_conversation_is_not_counted_again() {
    let hold = HOLD.replace('\n', "; ");
    let script = format!(
        r#"costs() {{ update "{{\"sessionUpdate\":\"usage_update\",\"used\":1,\"size\":2,\"cost\":{{\"amount\":$1,\"currency\":\"USD\"}}}}"; }}
        hello; hear
        case "$line" in
        *session/new*) answer 2 '{{"sessionId":"s-1"}}'; hear; costs 0.5; {hold}; kill -9 $PPID; exec sleep 1000;;
        esac
        answer 2 null; hear; costs 0.7; echo two > two.txt; end end_turn"#
    );
    let env = with_agent(&script);
    let config = fs::read_to_string(env.path(".ai-sdlc.json")).unwrap();
    let twice = config.replace(r#""most": 1"#, r#""most": 2, "backOffMs": 1"#);
    env.write(".ai-sdlc.json", &twice);
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    run.event_where("what it costs", |event| {
        event["usage"]["cost_micros_usd"] == 500_000
    });
    gates.release("S-0001");
    let output = run.wait();
    output.assert_code(0);
    assert_eq!(output.events("story_retrying").len(), 1);
    assert_eq!(
        output.settled("S-0001")["usage"]["cost_micros_usd"],
        700_000
    );
}

#[test]
fn an_agent_that_nobody_has_described_is_said_before_anything_starts() {
    let env = TestEnv::new();
    let refused = |agent: &str| {
        env.story("S-0001").agent(agent).write();
        env.ai_sdlc(&["run"])
            .variable("PATH", "/usr/bin:/bin")
            .run()
            .shown(&env)
    };
    insta::assert_snapshot!(refused("acp:mine-alone"), @"
    exit: 2
    --- stderr
    error: S-0001: nothing says which program the agent `acp:mine-alone` is
    hint: `agents.acp:mine-alone.command` in .ai-sdlc.json says it
    ");
    insta::assert_snapshot!(refused("acp:codec"), @"
    exit: 2
    --- stderr
    error: S-0001: there is no agent `acp:codec` (did you mean `acp:codex`?) (there are: acp, acp:claude, acp:codex, acp:gemini, acp:opencode, acp:qwen, claude, codex, command, dry-run, gemini, mock, opencode, qwen, script)
    hint: choose another one with --agent, with AI_SDLC_PROVIDER, with `ai.provider` in .ai-sdlc.json, or with `agent:` in the story
    ");
    insta::assert_snapshot!(refused("acp:codex"), @"
    exit: 2
    --- stderr
    error: S-0001: the agent `acp:codex` needs the program `codex-acp`, which is not there
    hint: `npm install -g @agentclientprotocol/codex-acp` installs it
    hint: choose another one with --agent, with AI_SDLC_PROVIDER, with `ai.provider` in .ai-sdlc.json, or with `agent:` in the story
    ");
    env.write(
        ".ai-sdlc.json",
        r#"{"agents": {"acp:mine-alone": {"command": ["sh", "-c", "exit 3"]}}}"#,
    );
    env.story("S-0001").agent("acp:mine-alone").write();
    let settled = run(&env).settled("S-0001");
    assert!(
        settled["reason"].as_str().unwrap().contains("exit code 3"),
        "{settled}"
    );
}
