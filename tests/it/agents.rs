//! Agents by their streams: what they are told, what their words mean, and in which conversation they go on. The agents
//! here are shell scripts that say what the real ones say.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::support::{Gates, HOLD, Output, TestEnv, await_none};

/// What a conversation of the real program begins with.
const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"11111111-2222-4333-8444-555555555555","model":"fake-model"}"#;

/// What it ends with when all is well.
const DONE: &str = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":2,"result":"Done.","session_id":"11111111-2222-4333-8444-555555555555","total_cost_usd":0.0523,"usage":{"input_tokens":12000,"cache_read_input_tokens":300,"output_tokens":45}}"#;

/// A board whose story S-0001 is for the agent `claude`, which is this shell script. Each call leaves what it was given
/// beside the repository: `arguments-N` and `prompt-N`.
fn with_claude(script: &str) -> TestEnv {
    with_claude_and(script, "")
}

fn with_claude_and(script: &str, more: &str) -> TestEnv {
    let env = TestEnv::new();
    let head = "cd \"$AI_SDLC_TEST_DIR\"; calls=$(($(cat calls 2>/dev/null || echo 0) + 1)); echo $calls > calls\n\
                for word in \"$@\"; do echo \"$word\"; done > arguments-$calls; cat > prompt-$calls; cd - > /dev/null\n";
    let program = env.base().join("claude.sh");
    let script = script.replace("INIT", &format!("echo '{INIT}'"));
    let script = script.replace("DONE", &format!("echo '{DONE}'"));
    fs::write(&program, format!("{head}{script}\n")).unwrap();
    let config = format!(
        r#"{{"attempts": {{"most": 1}}, "fence": {{"enabled": false}}, "agents": {{"claude": {{"command": ["sh", "{}"]{more}}}}}}}"#,
        program.display()
    );
    // What it was given is left outside of its worktree.
    env.write(".ai-sdlc.json", &config);
    env.story("S-0001").agent("claude").write();
    env
}

fn given(env: &TestEnv, what: &str) -> String {
    fs::read_to_string(env.base().join(what)).unwrap()
}

fn run(env: &TestEnv) -> Output {
    env.ai_sdlc(&["run", "--json"]).run()
}

#[test]
fn an_agent_is_told_its_story_and_its_work_is_committed() {
    let env = with_claude("INIT; echo one > one.txt; DONE");
    let output = run(&env);
    output.assert_code(0);
    assert_eq!(output.outcome("S-0001"), "succeeded");
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["one.txt"]);
    insta::assert_snapshot!(given(&env, "prompt-1"), @"
    Work on story S-0001 of this repository until it is done: Do S-0001

    You are in a git worktree that was made for this story; its branch `ai-sdlc/S-0001-work` is checked out. The story is below.

    - Do the whole story, with tests where the project has tests, and in the style of the code that is there.
    - Change files in this worktree only. Do not switch branches, and do not touch other worktrees.
    - You need not commit: what is in the worktree when you are done is committed for you.
    - Leave nothing running.
    - Nobody can answer questions. If you cannot go on without a person's decision, end with a line `BLOCKED: ` and the question.
    - If it turns out that nothing has to be changed, end with a line `NOTHING TO CHANGE: ` and the reason.

    The story:

    ---
    id: S-0001
    title: Do S-0001
    slug: work
    agent: claude
    ---

    # Words

    Nothing to run.
    ");
    let arguments = given(&env, "arguments-1");
    let name = arguments.lines().last().unwrap();
    insta::assert_snapshot!(arguments.replace(name, "NAME"), @"
    -p
    --output-format
    stream-json
    --verbose
    --dangerously-skip-permissions
    --session-id
    NAME
    ");
    // The events as they came are kept.
    let transcript = output.settled("S-0001")["log"].as_str().unwrap().to_owned();
    let transcript = transcript.replace("/log", "/transcript.jsonl");
    assert_eq!(
        fs::read_to_string(transcript).unwrap(),
        format!("{INIT}\n{DONE}\n")
    );
}

#[test]
fn what_was_used_is_told_with_the_story_and_for_the_run() {
    let env = with_claude("INIT; echo one > one.txt; DONE");
    let output = run(&env);
    let usage = &output.settled("S-0001")["usage"];
    let used = [
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "cost_micros_usd",
        "turns",
    ]
    .map(|name| usage[name].as_u64().unwrap());
    assert_eq!(used, [12_000, 45, 300, 52_300, 2]);
    assert_eq!(output.events("run_finished")[0]["usage"], *usage);
    let statuses = output.events("story_status");
    let last = statuses.last().unwrap();
    assert_eq!(last["model"], "fake-model");
    assert_eq!(
        last["agent_session"],
        "11111111-2222-4333-8444-555555555555"
    );
    let env = with_claude("INIT; echo one > one.txt; DONE");
    let told = env.ai_sdlc(&["run"]).run();
    told.assert_code(0).assert_stderr("(12.3k tokens, $0.06)");
}

/// A script, the outcome of its story, and words of the reason.
const ENDS: &[(&str, &str, &str)] = &[
    ("INIT; echo x > x.txt", "crashed", "ended without a result"),
    (
        r#"echo x > x.txt; echo '{"type":"result","subtype":"success","is_error":true,"result":"API Error: 400 no","api_error_status":400}'"#,
        "failed",
        "API Error: 400 no",
    ),
    (
        "echo x > x.txt; DONE; echo bad >&2; exit 3",
        "failed",
        "said that it is done, and ended with exit code 3: bad",
    ),
    ("INIT; echo x > x.txt; kill -9 $$", "crashed", "signal 9"),
    ("INIT; echo why >&2; exit 143", "crashed", "why"),
    ("DONE", "failed", "the agent changed nothing"),
    (
        r#"echo '{"type":"result","subtype":"success","is_error":false,"result":"NOTHING TO CHANGE: it is there"}'"#,
        "succeeded",
        "",
    ),
    (
        r#"echo x > x.txt; echo '{"type":"result","subtype":"success","is_error":false,"result":"BLOCKED: which one?"}'"#,
        "blocked",
        "which one?",
    ),
    (
        r#"echo x > x.txt; echo '{"type":"result","subtype":"success","is_error":false,"result":"x","permission_denials":[{"tool_name":"Bash","tool_input":{"command":"rm x"}}]}'"#,
        "blocked",
        "not allowed to: Bash: rm x",
    ),
    (
        "INIT; printf 'no json\\n\\377\\n{\\n'; echo x > x.txt; DONE",
        "succeeded",
        "",
    ),
];

#[test]
fn a_block_without_a_reason_says_what_can_be_done() {
    let blocked =
        r#"echo '{"type":"result","subtype":"success","is_error":false,"result":"BLOCKED:"}'"#;
    let env = with_claude(blocked);
    let output = env.ai_sdlc(&["run"]).run();
    let reason = "the agent says that it cannot go on, and not why; hint: its log tells how far it came: add to the story \
         what it may lack, then set `status: ready`";
    output.assert_code(1).assert_stderr(&format!(": {reason}"));
    // The board has all of it.
    let on_board = env.field("S-0001", "blocked_reason").unwrap();
    assert!(on_board.contains(reason), "{on_board}");
}

#[test]
fn exit_code_0_is_no_success_by_itself_and_every_end_has_its_reason() {
    for (script, outcome, words) in ENDS {
        let env = with_claude(script);
        run(&env).assert_end(script, "S-0001", outcome, words);
    }
}

#[test]
fn a_conversation_goes_on_after_everything_was_killed() {
    let hold = HOLD.replace('\n', "; ");
    let script = format!("INIT; echo $calls >> calls.txt; test $calls = 2 || {{ {hold}; }}; DONE");
    let env = with_claude(&script);
    env.kills_runs();
    let gates = Gates::new(&env, &["S-0001"]);
    let killed = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    // It is known by now, since it was said before the agent came to the gate.
    killed.event_where("a conversation", |event| !event["agent_session"].is_null());
    killed.signal(Signal::KILL);
    killed.wait();
    await_none(env.mark(), Duration::from_secs(10));
    let output = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    output.assert_code(0);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["calls.txt"]);
    let arguments = given(&env, "arguments-2");
    let last: Vec<&str> = arguments.lines().rev().take(2).collect();
    assert_eq!(last, ["11111111-2222-4333-8444-555555555555", "--resume"]);
    insta::assert_snapshot!(given(&env, "prompt-2"), @"
    Go on with story S-0001 in this worktree, on the branch `ai-sdlc/S-0001-work`. Check what is there before you build on it: files may not be as you last saw them.

    An earlier attempt at it ended: told to stop
    It has committed nothing. This is what there is:

    ```
    ?? calls.txt
    ```

    What was said about how to work and how to end still holds.
    ");
}

#[test]
fn a_conversation_that_is_gone_begins_anew_with_what_there_is() {
    let lost = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["No conversation found with session ID: x"]}"#;
    let script = format!(
        "case $calls in\n1) INIT; echo one > one.txt; echo two > two.txt; git add two.txt; exit 1;;\n2) echo '{lost}'; exit 1;;\n*) INIT; DONE;;\nesac"
    );
    let env = with_claude(&script);
    run(&env).assert_code(1);
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
    assert!(given(&env, "arguments-2").contains("--resume"));
    assert!(given(&env, "arguments-3").contains("--session-id"));
    let prompt = given(&env, "prompt-3");
    assert!(
        prompt.contains("An earlier attempt at it ended: the agent ended with exit code 1"),
        "{prompt}"
    );
    for told in ["?? one.txt", "```diff", "+two", "The story:"] {
        assert!(prompt.contains(told), "{told} is not in: {prompt}");
    }
    // Who has seen how it came about is not told once more.
    assert!(!given(&env, "prompt-2").contains("+two"));
}

#[test]
fn a_commit_that_a_hook_refuses_is_given_back_once() {
    let script =
        "INIT; if test $calls = 1; then echo bad > x.txt; else echo good > x.txt; fi; DONE";
    let hook =
        "#!/bin/sh\ngrep -q bad x.txt && { echo 'lint: x.txt is bad' >&2; exit 1; }\nexit 0\n";
    let env = with_claude(script);
    env.write(".git/hooks/pre-commit", hook);
    env.make_executable(".git/hooks/pre-commit");
    let output = run(&env);
    output.assert_code(0);
    assert_eq!(env.git(&["show", "ai-sdlc/S-0001-work:x.txt"]), "good\n");
    assert!(given(&env, "prompt-2").contains("lint: x.txt is bad"));
    assert_eq!(output.settled("S-0001")["usage"]["turns"], 4);

    let env = with_claude("INIT; echo bad > x.txt; DONE");
    env.write(".git/hooks/pre-commit", hook);
    env.make_executable(".git/hooks/pre-commit");
    let output = run(&env);
    assert_eq!(output.outcome("S-0001"), "failed");
    assert_eq!(given(&env, "calls"), "2\n");
}

#[test]
fn keys_of_others_do_not_reach_an_agent() {
    let env = with_claude_and(
        "INIT; env > seen.txt; DONE",
        r#", "env": ["WANTED_*", "SET=here"]"#,
    );
    let call = env.ai_sdlc(&["run"]);
    let variables = [
        ("ANTHROPIC_API_KEY", "own"),
        ("OPENAI_API_KEY", "other"),
        ("MY_TOKEN", "secret"),
        ("WANTED_ONE", "yes"),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ];
    let call = variables
        .into_iter()
        .fold(call, |call, (name, value)| call.variable(name, value));
    call.run().assert_code(0);
    let seen = env.git(&["show", "ai-sdlc/S-0001-work:seen.txt"]);
    let has = |line: &str| seen.lines().any(|seen| seen == line);
    assert!(
        has("ANTHROPIC_API_KEY=own") && has("WANTED_ONE=yes") && has("SET=here"),
        "{seen}"
    );
    assert!(has("HTTPS_PROXY=http://127.0.0.1:1"), "{seen}");
    assert!(
        !seen.contains("other") && !seen.contains("secret"),
        "{seen}"
    );
    assert!(!seen.contains("AI_SDLC_SOCKET"), "{seen}");
}

#[test]
fn one_that_cannot_succeed_by_trying_again_is_ended_at_once() {
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"retry_delay_ms":1000,"error_status":401,"error":"authentication_failed"}"#;
    let env = with_claude(&format!("INIT; echo '{retry}'; sleep 1000"));
    let output = run(&env);
    output.assert_code(1);
    let settled = output.settled("S-0001");
    let reason = settled["reason"].as_str().unwrap();
    assert!(reason.contains("authentication_failed (401)"), "{reason}");
    let retries = output.events("story_retries_request");
    assert_eq!(retries.len(), 1, "{retries:?}");
    assert_eq!(retries[0]["delay_ms"], 1000);
}

#[test]
fn one_that_is_stopped_still_tells_what_it_has_used() {
    // A shell that waits for a child misses no signal; one that is just about to read would.
    let hold = "echo \"$AI_SDLC_STORY_ID\" > \"$AI_SDLC_TEST_DIR/started\"; sleep 1000 & wait";
    let interrupted = DONE.replace("\"is_error\":false", "\"is_error\":true");
    let env = with_claude(&format!(
        "trap \"echo '$RESULT'; exit 0\" INT; INIT; {hold}"
    ));
    let program = env.base().join("claude.sh");
    let script = fs::read_to_string(&program).unwrap();
    let script = script.replace(
        "'$RESULT'",
        &format!("'{}'", interrupted.replace('"', "\\\"")),
    );
    fs::write(&program, script).unwrap();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    run.signal(Signal::TERM);
    let output = run.wait();
    output.assert_code(143);
    assert_eq!(output.outcome("S-0001"), "cancelled");
    let usage = &output.settled("S-0001")["usage"];
    assert_eq!(usage["cost_micros_usd"], 52_300, "{usage}");
}

#[test]
fn what_cannot_be_driven_is_said_before_anything_starts() {
    let env = TestEnv::new();
    env.story("S-0001").agent("claude").write();
    // Nothing but git is there.
    let programs = env.base().join("programs");
    fs::create_dir(&programs).unwrap();
    let git = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("git"))
        .find(|git| git.is_file());
    std::os::unix::fs::symlink(git.unwrap(), programs.join("git")).unwrap();
    let call = || env.ai_sdlc(&["run"]).variable("PATH", &programs);
    insta::assert_snapshot!(call().run().shown(&env), @"
    exit: 2
    --- stderr
    error: S-0001: the agent `claude` needs the program `claude`, which is not there
    hint: `npm install -g @anthropic-ai/claude-code` installs it
    hint: choose another one with --agent, with AI_SDLC_PROVIDER, with `ai.provider` in .ai-sdlc.json, or with `agent:` in the story
    ");
    env.story("S-0001").agent("cluade").write();
    insta::assert_snapshot!(call().run().shown(&env), @"
    exit: 2
    --- stderr
    error: S-0001: there is no agent `cluade` (did you mean `claude`?) (there are: acp, acp:claude, acp:codex, acp:gemini, acp:opencode, acp:qwen, claude, codex, command, dry-run, gemini, mock, opencode, qwen, script)
    hint: choose another one with --agent, with AI_SDLC_PROVIDER, with `ai.provider` in .ai-sdlc.json, or with `agent:` in the story
    ");
    env.story("S-0001").agent("command").write();
    insta::assert_snapshot!(call().run().shown(&env), @"
    exit: 2
    --- stderr
    error: S-0001: nothing says which program the agent `command` is
    hint: `agents.command.command` in .ai-sdlc.json says it
    ");
    env.write(".ai-sdlc.json", r#"{"agents": {"mine": {"command": "x"}}}"#);
    insta::assert_snapshot!(call().run().shown(&env), @"
    exit: 2
    --- stderr
    error: the configuration describes an agent `mine`, and there is no adapter `mine`
    hint: `agents.mine.adapter` says how it is driven: claude, codex, gemini, opencode, qwen, acp, acp:claude, acp:codex, acp:gemini, acp:opencode, acp:qwen, command, script, mock, dry-run
    ");
    env.write(
        ".ai-sdlc.json",
        r#"{"agents": {"mine": {"adapter": "acp:cluade"}}}"#,
    );
    insta::assert_snapshot!(call().run().shown(&env), @"
    exit: 2
    --- stderr
    error: the configuration describes an agent `mine`, and there is no adapter `acp:cluade` (did you mean `acp:claude`?)
    hint: `agents.mine.adapter` says how it is driven: claude, codex, gemini, opencode, qwen, acp, acp:claude, acp:codex, acp:gemini, acp:opencode, acp:qwen, command, script, mock, dry-run
    ");
    env.write(
        ".ai-sdlc.json",
        r#"{"agents": {"claude": {"permissions": "all"}}}"#,
    );
    insta::assert_snapshot!(call().run().shown(&env), @r#"
    exit: 2
    --- stderr
    error: <dir>/my répo/.ai-sdlc.json:1:43: `agents.claude.permissions` must be "bypass" (it may do everything) or "own" (what its own configuration allows), not "all"
    hint: mend the file, or move it away to use the defaults
    "#);
    assert!(env.branches().is_empty());
}

#[test]
fn any_program_is_an_agent() {
    for (words, script) in [
        ("", "cat > got.txt"),
        (r#", "{prompt_file}""#, "cat \"$1\" > got.txt"),
        (
            r#", "--say={prompt}""#,
            "printf '%s' \"${1#--say=}\" > got.txt",
        ),
    ] {
        let env = TestEnv::new();
        let program = env.base().join("mine.sh");
        let result = r#"{"outcome":"succeeded","usage":{"input_tokens":7,"cost_usd":0.5}}"#;
        fs::write(
            &program,
            format!("{script}\necho working\necho '{result}'\n"),
        )
        .unwrap();
        let config = format!(
            r#"{{"agents": {{"mine": {{"adapter": "command", "command": ["sh", "{}"{words}]}}}}}}"#,
            program.display()
        );
        env.write(".ai-sdlc.json", &config);
        env.story("S-0001").agent("mine").write();
        let output = run(&env);
        output.assert_code(0);
        let got = env.git(&["show", "ai-sdlc/S-0001-work:got.txt"]);
        assert!(got.starts_with("Work on story S-0001"), "{words}: {got}");
        assert_eq!(
            output.settled("S-0001")["usage"]["cost_micros_usd"],
            500_000
        );
    }
}

#[test]
fn what_an_agent_does_not_say_is_computed_from_prices_and_marked() {
    let env = TestEnv::new();
    let result =
        r#"{"outcome":"succeeded","usage":{"input_tokens":500000,"output_tokens":100000}}"#;
    let config = format!(
        r#"{{"prices": {{"m-": {{"input": 2, "output": 10}}}},
            "agents": {{"mine": {{"adapter": "command", "model": "m-1",
                "command": ["sh", "-c", "echo x > x.txt; echo '{}'"]}}}}}}"#,
        result.replace('"', "\\\"")
    );
    env.write(".ai-sdlc.json", &config);
    env.story("S-0001").agent("mine").write();
    let output = run(&env);
    output.assert_code(0);
    let usage = &output.settled("S-0001")["usage"];
    assert_eq!(usage["cost_micros_usd"], 2_000_000, "{usage}");
    assert_eq!(usage["cost_is_computed"], true);
    env.story("S-0002").agent("mine").write();
    env.ai_sdlc(&["run"])
        .run()
        .assert_stderr("(600k tokens, about $2.00)");
}
