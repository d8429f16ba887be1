//! Turns, line by line.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::agent::recordings::{self, task};
use crate::agent::{Conversation, find as agent};

/// A turn, and what came of it.
struct Play {
    reader: Box<dyn StreamReader>,
    turn: Turn,
    told: Vec<StreamEvent>,
}

impl Play {
    fn of(name: &str, task: &Task) -> Self {
        Self {
            reader: agent(name).unwrap().reader(task),
            turn: Turn::default(),
            told: Vec::new(),
        }
    }

    fn new(permissions: Permissions) -> Self {
        Self::of("acp", &task(Conversation::New("x".to_owned()), permissions))
    }

    fn resumed() -> Self {
        let name = Conversation::Resumed("s-1".to_owned());
        Self::of("acp", &task(name, Permissions::Bypass))
    }

    /// In the middle of its turn.
    fn prompted(permissions: Permissions) -> Self {
        let mut play = Self::new(permissions);
        play.hear(&answer(
            1,
            &json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}),
        ));
        play.hear(&answer(2, &json!({"sessionId": "s-1"})));
        play.says();
        play
    }

    fn hear(&mut self, message: &Value) -> Vec<StreamEvent> {
        self.hear_line(message.to_string().as_bytes())
    }

    fn hear_line(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let events = self.reader.read(line);
        self.told.extend(events.clone());
        for event in events.clone() {
            self.turn.hear(event);
        }
        events
    }

    /// What it says, in short.
    fn says(&mut self) -> String {
        let said = String::from_utf8(self.reader.say()).unwrap();
        let mut short = String::new();
        for line in said.lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            assert_eq!(message["jsonrpc"], "2.0");
            let body = ["params", "result", "error"]
                .iter()
                .find_map(|name| message.get(name));
            let method = message["method"].as_str().unwrap_or("answer");
            writeln!(short, "{} {method} {}", message["id"], body.unwrap()).unwrap();
        }
        short
    }

    fn end(&self) -> String {
        let conclusion = ANY.conclude(&self.turn, SessionExit::Code(0), "");
        format!("{conclusion:?}")
    }
}

fn answer(number: u64, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": number, "result": result})
}

fn update(update: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s-1", "update": update}})
}

fn chunk(text: &str) -> Value {
    update(
        &json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}),
    )
}

fn question() -> Value {
    json!({"jsonrpc": "2.0", "id": "q", "method": "session/request_permission", "params": {
    "sessionId": "s-1",
    "toolCall": {"toolCallId": "t", "title": "rm -r x", "kind": "execute"},
    "options": [
        {"optionId": "new", "name": "New", "kind": "allow_forever_and_ever"},
        {"optionId": "once", "name": "Yes", "kind": "allow_once"},
        {"optionId": "always", "name": "Always", "kind": "allow_always"},
        {"optionId": "no", "name": "No", "kind": "reject_once"},
    ]}})
}

#[test]
fn a_turn_is_a_dialogue() {
    let mut play = Play::new(Permissions::Bypass);
    let mut dialogue = play.says();
    let mut hear = |message: &Value| {
        play.hear(message);
        dialogue.push_str(&play.says());
    };
    hear(&answer(1, &json!({"protocolVersion": 1, "new": {"x": 1}})));
    hear(&answer(
        2,
        &json!({"sessionId": "s-1", "modes": {"currentModeId": "default", "availableModes": [
            {"id": "default", "name": "Default"}, {"id": "yolo", "name": "YOLO"}]}}),
    ));
    hear(&update(&json!({"sessionUpdate": "unheard_of"})));
    hear(&answer(3, &json!({})));
    hear(&chunk("Do"));
    hear(&chunk("ne."));
    hear(&question());
    hear(&json!({"jsonrpc": "2.0", "id": 9, "method": "fs/read_text_file", "params": {}}));
    assert!(!play.reader.is_over());
    play.hear(&answer(4, &json!({"stopReason": "end_turn"})));
    assert!(play.reader.is_over());
    insta::assert_snapshot!(dialogue.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r#"
    1 initialize {"protocolVersion":1,"clientCapabilities":{"fs":{"readTextFile":false,"writeTextFile":false},"terminal":false,"auth":{"terminal":false}},"clientInfo":{"name":"ai-sdlc","version":"VERSION"}}
    2 session/new {"cwd":"/repo","mcpServers":[]}
    3 session/set_mode {"sessionId":"s-1","modeId":"yolo"}
    4 session/prompt {"sessionId":"s-1","prompt":[{"type":"text","text":"Do it."}]}
    "q" answer {"outcome":{"outcome":"selected","optionId":"always"}}
    9 answer {"code":-32601,"message":"Method not found"}
    "#);
    assert_eq!(play.end(), "Finished(None)");
    assert_eq!(play.hear(&chunk("more")), []);
    assert_eq!(play.hear(&question()), []);
}

#[test]
fn a_conversation_goes_on_without_its_history() {
    let mut play = Play::resumed();
    play.hear(&answer(
        1,
        &json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}),
    ));
    play.says();
    let cost = |amount: f64| {
        update(
            &json!({"sessionUpdate": "usage_update", "used": 1, "size": 2,
            "cost": {"amount": amount, "currency": "USD"}}),
        )
    };
    assert_eq!(play.hear(&chunk("long ago")), []);
    assert_eq!(play.hear(&cost(1.5)), []);
    play.turn = Turn::after(crate::agent::Usage {
        cost_micros_usd: Some(1_500_000),
        ..Default::default()
    });
    play.hear(&answer(2, &Value::Null));
    assert_eq!(play.told, [StreamEvent::Conversation("s-1".to_owned())]);
    assert!(play.says().contains("session/prompt"));
    play.hear(&cost(2.0));
    play.hear(&answer(
        3,
        &json!({"stopReason": "end_turn",
        "usage": {"totalTokens": 12, "inputTokens": 10, "outputTokens": 2}}),
    ));
    let usage = play.turn.usage();
    assert_eq!(
        (usage.input_tokens, usage.cost_micros_usd),
        (10, Some(500_000))
    );
}

#[test]
fn a_conversation_that_cannot_go_on_is_lost() {
    let mut play = Play::resumed();
    play.hear(&answer(1, &json!({"protocolVersion": 1})));
    assert!(
        play.end().starts_with("ConversationLost("),
        "{}",
        play.end()
    );
    for (error, end) in [
        (
            json!({"code": -32603, "message": "no such session"}),
            "ConversationLost(",
        ),
        (json!({"code": -32000, "message": "sign in"}), "Refused("),
    ] {
        let mut play = Play::resumed();
        play.hear(&answer(
            1,
            &json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}),
        ));
        play.hear(&json!({"id": 2, "error": error}));
        assert!(play.end().starts_with(end), "{}", play.end());
        assert!(play.reader.is_over());
    }
}

#[test]
fn a_question_is_answered_by_what_the_agent_may_do() {
    let mut play = Play::prompted(Permissions::Bypass);
    assert_eq!(play.hear(&question()), []);
    assert_eq!(
        play.says(),
        "\"q\" answer {\"outcome\":{\"outcome\":\"selected\",\"optionId\":\"always\"}}\n"
    );
    let mut play = Play::prompted(Permissions::Configured);
    play.hear(&question());
    assert_eq!(
        play.says(),
        "\"q\" answer {\"outcome\":{\"outcome\":\"selected\",\"optionId\":\"no\"}}\n"
    );
    play.hear(&chunk("I could not."));
    play.hear(&answer(3, &json!({"stopReason": "cancelled"})));
    assert_eq!(
        play.end(),
        "Blocked(\"the agent was not allowed to: execute: rm -r x\")"
    );
}

#[test]
fn a_question_that_cannot_be_answered_is_not_waited_for() {
    let whole = question().to_string();
    for question in [
        r#"{"id":5,"method":"session/request_permission","params":{"options":"odd"}}"#,
        &whole[..whole.len() / 2],
    ] {
        let mut play = Play::prompted(Permissions::Bypass);
        play.hear_line(question.as_bytes());
        let said = play.says();
        assert!(said.contains("cancelled"), "{said}");
        play.hear(&answer(3, &json!({"stopReason": "end_turn"})));
        assert!(play.end().starts_with("Blocked("), "{}", play.end());
    }
}

#[test]
fn what_only_a_person_can_answer_is_declined_and_blocks_the_story() {
    let ask = |params: &Value| json!({"id": "q", "method": "elicitation/create", "params": params});
    let rows = [
        (
            json!({"mode": "form", "message": "Which\n database?", "requestedSchema": {}}),
            "Which database?",
        ),
        (
            json!({"mode": "url", "message": "Log in:", "url": "https://localhost/x"}),
            "Log in: https://localhost/x",
        ),
        (json!({}), "something that it did not say"),
    ];
    for (params, question) in rows {
        let mut play = Play::prompted(Permissions::Bypass);
        play.hear(&ask(&params));
        assert_eq!(play.says(), "\"q\" answer {\"action\":\"decline\"}\n");
        play.hear(&answer(3, &json!({"stopReason": "end_turn"})));
        let blocked = format!("Blocked(\"the agent asks: {question}\")");
        assert_eq!(play.end(), blocked);
    }
    let mut play = Play::prompted(Permissions::Bypass);
    play.reader.interrupt();
    play.says();
    assert_eq!(play.hear(&ask(&json!({"message": "Which?"}))), []);
    assert!(play.says().contains("decline"));
}

#[test]
fn every_end_has_its_meaning() {
    let rows = [
        ("end_turn", "Finished(None)"),
        ("max_tokens", "Exceeded("),
        ("max_turn_requests", "Exceeded("),
        ("refusal", "Failed(\"the model refuses"),
        ("cancelled", "Crashed("),
        (
            "something_new",
            "Failed(\"the turn ended for an unknown reason: something_new",
        ),
    ];
    for (reason, end) in rows {
        let mut play = Play::prompted(Permissions::Bypass);
        play.hear(&answer(3, &json!({"stopReason": reason})));
        assert!(play.end().starts_with(end), "{reason}: {}", play.end());
    }
    let mut play = Play::prompted(Permissions::Bypass);
    play.hear(&json!({"id": 3, "error": {"code": 429, "message": "slow down"}}));
    assert!(play.end().starts_with("Limited"), "{}", play.end());
    let mut play = Play::prompted(Permissions::Bypass);
    play.hear_line(br#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"end_turn","_meta":{"#);
    assert!(
        play.end().contains("longer than what is read"),
        "{}",
        play.end()
    );
    let play = Play::prompted(Permissions::Bypass);
    assert!(
        play.end().contains("ended without a result"),
        "{}",
        play.end()
    );
    // What its program does when it is told to end is no part of the turn.
    let mut play = Play::prompted(Permissions::Bypass);
    play.hear(&answer(3, &json!({"stopReason": "end_turn"})));
    let ended = ANY.conclude(&play.turn, SessionExit::Signal(15), "");
    assert_eq!(ended, Conclusion::Finished(None));
}

#[test]
fn a_turn_that_failed_may_end_like_a_good_one() {
    let status = |status: &str| {
        update(&json!({"sessionUpdate": "session_info_update",
            "_meta": {"codex": {"threadStatus": {"type": status}}}}))
    };
    let retry = update(
        &json!({"sessionUpdate": "session_info_update", "_meta": {"codex": {"error": {
        "message": "Reconnecting... 1/5", "willRetry": true,
        "codexErrorInfo": {"responseStreamDisconnected": {"httpStatusCode": 529}}}}}}),
    );
    let mut play = Play::prompted(Permissions::Bypass);
    play.hear(&chunk("Half of it is done."));
    assert!(matches!(
        play.hear(&retry)[..],
        [StreamEvent::Retrying { .. }]
    ));
    play.hear(&status("systemError"));
    play.hear(&answer(
        3,
        &json!({"stopReason": "end_turn", "usage": null}),
    ));
    assert!(play.end().starts_with("Limited"), "{}", play.end());

    let mut play = Play::prompted(Permissions::Bypass);
    play.hear(&status("systemError"));
    play.hear(&status("active"));
    play.hear(&answer(3, &json!({"stopReason": "end_turn"})));
    assert_eq!(play.end(), "Finished(None)");

    let task = task(Conversation::New("x".to_owned()), Permissions::Bypass);
    let mut play = Play::of("acp:codex", &task);
    play.hear(&answer(1, &json!({"protocolVersion": 1})));
    play.hear(&answer(2, &json!({"sessionId": "s-1"})));
    play.hear(&chunk("the stream was cut"));
    play.hear(&answer(
        3,
        &json!({"stopReason": "end_turn", "usage": null}),
    ));
    assert_eq!(play.end(), "Crashed(\"the stream was cut\")");
}

#[test]
fn an_agent_of_another_version_is_not_driven() {
    let mut play = Play::new(Permissions::Bypass);
    play.hear(&answer(1, &json!({"protocolVersion": 2})));
    assert_eq!(
        play.end(),
        "Blocked(\"the agent speaks version 2 of the Agent Client Protocol, and not version 1\")"
    );
    let mut play = Play::new(Permissions::Bypass);
    play.hear(&json!({"id": 1, "error": {"code": -32603, "message": "cannot start"}}));
    assert_eq!(play.end(), "Crashed(\"cannot start\")");
    let mut play = Play::new(Permissions::Bypass);
    play.hear(&answer(1, &json!("hello")));
    assert!(play.end().contains("is not understood"), "{}", play.end());
}

#[test]
fn a_model_is_chosen_where_there_is_a_choice() {
    let wants = |model: &str| {
        let mut task = task(Conversation::New("x".to_owned()), Permissions::Bypass);
        task.setup.model = Some(model.to_owned());
        let mut play = Play::of("acp", &task);
        play.hear(&answer(1, &json!({"protocolVersion": 1})));
        play.says();
        play
    };
    let choice = json!({"sessionId": "s-1", "configOptions": [
        {"id": "mode", "name": "Mode", "category": "mode", "type": "select", "currentValue": "a", "options": []},
        {"id": "m", "name": "Model", "category": "model", "type": "select", "currentValue": "small",
            "options": [{"value": "small", "name": "S"}, {"value": "large", "name": "L"}]}]});
    let mut play = wants("large");
    play.hear(&answer(2, &choice));
    assert_eq!(
        play.says(),
        "3 session/set_config_option {\"sessionId\":\"s-1\",\"configId\":\"m\",\"value\":\"large\"}\n"
    );
    play.hear(&answer(3, &json!({})));
    assert!(play.says().contains("4 session/prompt"));
    assert_eq!(play.turn.model(), Some("large"));

    let mut play = wants("huge");
    play.hear(&answer(2, &choice));
    play.hear(&json!({"id": 3, "error": {"code": -32602, "message": "Invalid params"}}));
    assert_eq!(
        play.end(),
        "Blocked(\"the agent does not take the model `huge` (it has: small, large): Invalid params\")"
    );
    // Whoever wants a certain model does not want to pay for another one.
    let mut play = wants("large");
    play.hear(&answer(2, &json!({"sessionId": "s-1"})));
    assert_eq!(play.says(), "");
    let end = play.end();
    assert!(
        end.starts_with("Blocked(\"the agent offers no choice of models"),
        "{end}"
    );
}

#[test]
fn a_turn_is_cancelled_before_anything_else_is_tried() {
    let mut play = Play::prompted(Permissions::Bypass);
    play.reader.interrupt();
    play.reader.interrupt();
    assert_eq!(play.says(), "null session/cancel {\"sessionId\":\"s-1\"}\n");
    assert!(!play.reader.is_over());
    play.hear(&question());
    assert!(play.says().contains("cancelled"));
    play.hear(&answer(
        3,
        &json!({"stopReason": "cancelled",
        "usage": {"totalTokens": 3, "inputTokens": 2, "outputTokens": 1}}),
    ));
    assert!(play.reader.is_over());
    assert_eq!(play.turn.usage().input_tokens, 2);
    // Before the prompt there is nothing to cancel.
    let mut play = Play::new(Permissions::Bypass);
    play.says();
    play.reader.interrupt();
    assert_eq!(play.says(), "");
    assert!(play.reader.is_over());
}

#[test]
fn what_helpers_tell_is_progress_and_nothing_else() {
    let mut play = Play::prompted(Permissions::Bypass);
    play.hear(&chunk("mine"));
    let mut theirs = chunk("BLOCKED: theirs");
    theirs["params"]["sessionId"] = json!("s-2");
    assert_eq!(play.hear(&theirs), [StreamEvent::Thinking]);
    play.hear(&answer(3, &json!({"stopReason": "end_turn"})));
    assert_eq!(play.end(), "Finished(None)");
}

#[test]
fn names_are_those_of_known_agents_or_begin_like_them() {
    for name in ["acp", "acp:claude", "acp:mine"] {
        assert!(agent(name).is_some(), "{name}");
    }
    for name in ["acp:", "acpx", "acp-x", ":acp"] {
        assert!(agent(name).is_none(), "{name}");
    }
    for name in ["claude", "codex", "gemini", "opencode", "qwen"] {
        let of_command_line = agent(name).unwrap().capabilities();
        let of_protocol = agent(&format!("acp:{name}")).unwrap().capabilities();
        assert_eq!(
            of_protocol.provider,
            of_command_line.provider.or(Some(name))
        );
        assert_eq!(of_protocol.environment, of_command_line.environment);
        assert_eq!(of_protocol.state, of_command_line.state);
    }
}

#[test]
fn the_command_of_an_agent_is_known_or_configured() {
    let mut shown = String::new();
    for name in ["claude", "codex", "gemini", "opencode", "qwen"] {
        let mut task = task(Conversation::New("x".to_owned()), Permissions::Bypass);
        task.setup.command = Vec::new();
        task.setup.model = Some("large".to_owned());
        let approach = agent(&format!("acp:{name}")).unwrap().approach(&task);
        let Ok(Approach::Run(run)) = approach else {
            unreachable!("it is run");
        };
        assert_eq!(run.input, Input::Dialogue);
        writeln!(
            shown,
            "{:?} {:?} {:?}",
            run.program, run.arguments, run.variables
        )
        .unwrap();
    }
    insta::assert_snapshot!(shown, @r#"
    "claude-agent-acp" [] [("CLAUDE_CODE_MAX_RETRIES", "4"), ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"), ("DISABLE_AUTOUPDATER", "1"), ("ANTHROPIC_MODEL", "large")]
    "codex-acp" [] []
    "gemini" ["--acp", "--skip-trust", "-m", "large"] [("GEMINI_CLI_NO_RELAUNCH", "1"), ("GEMINI_CLI_TRUST_WORKSPACE", "true")]
    "opencode" ["acp"] [("OPENCODE_DISABLE_AUTOUPDATE", "1")]
    "qwen" ["--acp", "-m", "large"] [("QWEN_CODE_NO_RELAUNCH", "1"), ("QWEN_CODE_SUPPRESS_YOLO_WARNING", "1")]
    "#);
    let mut task = task(Conversation::New("x".to_owned()), Permissions::Bypass);
    task.setup.command = Vec::new();
    assert_eq!(ANY.approach(&task), Err(TaskError::NoCommand));
}

#[test]
fn what_real_programs_told_is_understood() {
    let mut tables = String::new();
    for known in &KNOWN {
        let table = recordings::table(known.name);
        writeln!(tables, "{}\n{table}", known.name).unwrap();
        recordings::play_damaged(known.name);
    }
    insta::assert_snapshot!(tables, @r#"
    acp:claude
    denied: Blocked("the agent was not allowed to: Bash: echo hi > a.txt; Bash: exit 3")
        0 requests, 3000+150 tokens, 15000 micros, 4 tools, 0 retries, conversation known
    hang: Crashed("the turn was cancelled")
        0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
    happy: Finished(None)
        0 requests, 3000+150 tokens, 15000 micros, 4 tools, 0 retries, conversation known
    limited-always: Limited { reset: None, reason: "API Error: Request rejected (429) · fake 429" }
        0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
    overloaded: Limited { reset: None, reason: "API Error: 529 fake 529. This is a server-side issue, usually temporary — try again in a moment. If it persists, check your infe…
        0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
    resumed: Finished(None)
        0 requests, 1000+50 tokens, 15000 micros, 0 tools, 0 retries, conversation known
    stopped: Crashed("the turn was cancelled")
        0 requests, 2000+100 tokens, 11250 micros, 4 tools, 0 retries, conversation known
    unauthorized: Refused("Authentication required")
        0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known

    acp:codex
    cut-once: Finished(None)
        0 requests, 3000+150 tokens, no micros, 2 tools, 1 retries, conversation known
    denied: Finished(None)
        0 requests, 3000+150 tokens, no micros, 1 tools, 0 retries, conversation known
    happy: Finished(None)
        0 requests, 3000+150 tokens, no micros, 2 tools, 0 retries, conversation known
    limited-always: Limited { reset: None, reason: "exceeded retry limit, last status: 429 Too Many Requests" }
        0 requests, 0+0 tokens, no micros, 0 tools, 5 retries, conversation known
    limited-twice: Finished(None)
        0 requests, 3000+150 tokens, no micros, 2 tools, 2 retries, conversation known
    overloaded: Limited { reset: None, reason: "unexpected status 529 <unknown status code>: fake 529, url: http://127.0.0.1:41773/x/id=s1,fail=529/v1/responses" }
        0 requests, 0+0 tokens, no micros, 0 tools, 5 retries, conversation known
    resumed: Finished(None)
        0 requests, 1000+50 tokens, no micros, 0 tools, 0 retries, conversation known
    stopped: Crashed("the turn was cancelled")
        0 requests, 2000+100 tokens, no micros, 2 tools, 0 retries, conversation known
    unauthorized: Refused("Authentication required")
        0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known

    acp:gemini
    denied: Blocked("the agent was not allowed to: execute: echo hi > a.txt; execute: exit 3")
        0 requests, 3000+150 tokens, no micros, 0 tools, 0 retries, conversation known
    happy: Finished(None)
        0 requests, 3000+150 tokens, no micros, 2 tools, 0 retries, conversation known
    resumed: Finished(None)
        0 requests, 1000+50 tokens, no micros, 0 tools, 0 retries, conversation known
    stopped: Crashed("the turn was cancelled")
        0 requests, 0+0 tokens, no micros, 2 tools, 0 retries, conversation known
    unauthorized: Refused("{\"error\":{\"code\":401,\"message\":\"fake 401\",\"status\":\"UNAUTHENTICATED\"}}")
        0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known

    acp:opencode
    denied: Finished(None)
        0 requests, 1000+50 tokens, 11250 micros, 4 tools, 0 retries, conversation known
    happy: Finished(None)
        0 requests, 1000+50 tokens, 11250 micros, 4 tools, 0 retries, conversation known
    limited-always: Limited { reset: None, reason: "fake 429" }
        0 requests, 0+0 tokens, 0 micros, 0 tools, 0 retries, conversation known
    resumed: Finished(None)
        0 requests, 1000+50 tokens, 7500 micros, 0 tools, 0 retries, conversation known
    unauthorized: Refused("fake 401")
        0 requests, 0+0 tokens, 0 micros, 0 tools, 0 retries, conversation known

    acp:qwen
    denied: Blocked("the agent was not allowed to: run_shell_command: echo hi > a.txt")
        1 requests, 1000+50 tokens, no micros, 1 tools, 0 retries, conversation known
    happy: Finished(None)
        3 requests, 3000+150 tokens, no micros, 4 tools, 0 retries, conversation known
    resumed: Finished(None)
        3 requests, 3000+150 tokens, no micros, 3 tools, 0 retries, conversation known
    unauthorized: Refused("401 fake 401")
        0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
    "#);
}

/// Messages as agents write them, or nearly so.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "agent_message_chunk",
        "tool_call",
        "tool_call_update",
        "usage_update",
        "session_info_update",
        "s-1",
        "end_turn",
        "cancelled",
        "completed",
        "text",
        "USD",
        "allow_once",
        "é",
    ]);
    let leaf = prop_oneof![
        word.prop_map(|word| json!(word)),
        any::<u32>().prop_map(|number| json!(number)),
        Just(Value::Null),
        Just(json!(1)),
        Just(json!({"type": "text", "text": "said"})),
    ];
    let name = prop::sample::select(vec![
        "sessionUpdate",
        "toolCallId",
        "title",
        "status",
        "kind",
        "content",
        "rawInput",
        "cost",
        "amount",
        "currency",
        "used",
        "size",
        "_meta",
        "usage",
        "codex",
        "error",
        "threadStatus",
        "type",
        "stopReason",
        "sessionId",
        "update",
        "options",
        "toolCall",
        "modes",
        "configOptions",
        "protocolVersion",
        "messageId",
    ]);
    let body = leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    });
    let id = prop_oneof![
        (0_u64..6).prop_map(|id| json!(id)),
        Just(Value::Null),
        Just(json!("id")),
    ];
    let method = prop::sample::select(vec!["session/update", "session/request_permission", "x"]);
    let shape = prop::sample::select(vec!["params", "result", "error"]);
    (id, method, shape, body, any::<prop::sample::Index>(), 0..8).prop_map(
        |(id, method, shape, body, cut, kind)| {
            let mut message = json!({"jsonrpc": "2.0", "id": id, shape: body});
            if shape == "params" {
                message["method"] = json!(method);
            }
            let mut line = message.to_string().into_bytes();
            if kind == 0 {
                line.truncate(cut.index(line.len()));
            }
            line
        },
    )
}

proptest! {
    /// Whatever an agent writes, nothing panics, every line of ours is one message, and nothing that was kept grows.
    #[test]
    fn no_agent_brings_a_session_out_of_order(
        lines in prop::collection::vec(prop_oneof![
            8 => message(),
            1 => prop::collection::vec(any::<u8>(), 0..64),
        ], 0..40),
        opened in any::<bool>(),
        interrupted in any::<Option<prop::sample::Index>>(),
    ) {
        let mut play = if opened { Play::prompted(Permissions::Bypass) } else { Play::resumed() };
        let interrupted = interrupted.map(|index| index.index(lines.len() + 1));
        for (place, line) in lines.iter().enumerate() {
            if interrupted == Some(place) {
                play.reader.interrupt();
            }
            let was_over = play.reader.is_over();
            let events = play.hear_line(line);
            prop_assert!(!was_over || events.is_empty());
            prop_assert!(events.len() <= 4);
            // It checks that these are messages.
            let said = play.says();
            prop_assert!(said.lines().count() <= 3, "{}", said);
        }
        let ends = play.told.iter().filter(|event| matches!(event, StreamEvent::Finished { .. } | StreamEvent::Failed(_)));
        prop_assert!(ends.count() <= 1);
        drop(play.end());
    }
}
