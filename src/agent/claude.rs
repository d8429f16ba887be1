//! The `claude` agent: Claude Code, by its stream of JSON events. Pure.
//!
//! Two things of it are easy to get wrong: an error of the API ends as `subtype: "success"` with `is_error`, and the
//! tokens of an `assistant` event are those at the start of its answer. It is asked to end by SIGINT, after which it
//! still tells what it has used.

use serde_json::Value;

use super::event::{Reset, StreamEvent, Trouble, TroubleKind, Usage};
use super::json::{micros, millis, number, object, text, tokens};
use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Conversation, Invocation, Output, Permissions,
    Place, Program, StreamReader, Task, TaskError, Tells, Tools, Turn, messages,
};
use crate::process::SessionExit;

/// How often it tries a request again by itself, which takes up to about half a minute: a limit that lasts longer is
/// waited for by the orchestrator, which knows of all stories.
const MAX_RETRIES: &str = "4";

/// The model of messages that it makes itself to show an error, which comes once more with the result.
const SYNTHETIC: &str = "<synthetic>";

/// What it keeps for itself.
const STATE: &[Place] = &[
    Place::folder(&[("CLAUDE_CONFIG_DIR", "")], ".claude"),
    // It replaces the file, and where it may not, writes into it.
    Place::file(&[("CLAUDE_CONFIG_DIR", ".claude.json")], ".claude.json"),
];

pub(super) struct Claude;

impl Agent for Claude {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            provider: Some("anthropic"),
            resumes: true,
            must_change_something: true,
            output: Output::Stream,
            ask: Ask::InterruptFirst,
            environment: &[
                "ANTHROPIC_*",
                "CLAUDE_CONFIG_DIR",
                "CLAUDE_CODE_OAUTH_TOKEN",
                "CLAUDE_CODE_USE_*",
                "CLAUDE_CODE_SKIP_*",
                "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
                "IS_SANDBOX",
            ],
            fenced: true,
            state: STATE,
            limits_requests: true,
            tells: Tells::ALL,
        }
    }

    fn program(&self) -> Program {
        Program::Named {
            name: "claude",
            install: "npm install -g @anthropic-ai/claude-code",
        }
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        let setup = &task.setup;
        let mut words = vec!["-p", "--output-format", "stream-json", "--verbose"];
        if setup.permissions == Permissions::Bypass {
            words.push("--dangerously-skip-permissions");
        }
        let mut arguments: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let mut option = |name: &str, value: Option<String>| {
            arguments.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        option("--model", setup.model.clone());
        let requests = setup.most_requests.map(|most| most.to_string());
        option("--max-turns", requests);
        let cost = setup.most_cost_micros_usd.map(dollars);
        option("--max-budget-usd", cost);
        match &task.conversation {
            Conversation::New(name) => option("--session-id", Some(name.clone())),
            Conversation::Resumed(name) => option("--resume", Some(name.clone())),
        }
        Ok(Approach::Run(Invocation::of(
            "claude",
            setup,
            arguments,
            vec![
                ("CLAUDE_CODE_MAX_RETRIES", MAX_RETRIES.to_owned()),
                ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
                ("DISABLE_AUTOUPDATER", "1".to_owned()),
            ],
            task.prompt.clone(),
        )))
    }

    fn reader(&self, _task: &Task) -> Box<dyn StreamReader> {
        Box::new(Reader)
    }

    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion {
        // What it exits with when it is sent SIGTERM.
        turn.conclude(exit, stderr, |code| {
            (code == 143).then_some(TroubleKind::Interrupted)
        })
    }
}

/// Millionths of a dollar as dollars.
fn dollars(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

struct Reader;

impl StreamReader for Reader {
    fn tools(&self) -> Tools {
        Tools::Told
    }

    fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let Some(event) = object(line) else {
            return Vec::new();
        };
        match text(&event, "/type") {
            Some("system") => system(&event),
            Some("assistant") => assistant(&event),
            Some("user") => messages::results(&event),
            Some("rate_limit_event") => limit(&event),
            Some("result") => result(&event),
            _ => Vec::new(),
        }
    }
}

fn system(event: &Value) -> Vec<StreamEvent> {
    match text(event, "/subtype") {
        Some("init") => messages::opening(event),
        Some("api_retry") => {
            let status = u16::try_from(number(event, "/error_status")).ok();
            let status = status.filter(|status| *status > 0);
            let kind = status
                .and_then(|status| TroubleKind::of_status(status, None))
                .unwrap_or(TroubleKind::Connection);
            let what = text(event, "/error").unwrap_or("unknown");
            let message = match status {
                Some(status) => format!("{what} ({status})"),
                None => format!("the request failed ({what})"),
            };
            vec![StreamEvent::Retrying {
                trouble: Trouble::new(kind, message),
                delay: millis(event, "/retry_delay_ms"),
            }]
        }
        // Each comes once more with the result.
        _ => Vec::new(),
    }
}

fn assistant(event: &Value) -> Vec<StreamEvent> {
    if text(event, "/message/model") == Some(SYNTHETIC) {
        return Vec::new();
    }
    messages::answer(event, usage(event, "/message/usage"))
}

fn limit(event: &Value) -> Vec<StreamEvent> {
    if text(event, "/rate_limit_info/status") != Some("rejected") {
        return Vec::new();
    }
    let at = number(event, "/rate_limit_info/resetsAt");
    let at = (at > 0).then_some(StreamEvent::LimitReached(Reset::At(at)));
    at.into_iter().collect()
}

fn result(event: &Value) -> Vec<StreamEvent> {
    let mut events = Vec::new();
    events
        .extend(text(event, "/session_id").map(|name| StreamEvent::Conversation(name.to_owned())));
    events.push(StreamEvent::TurnUsed {
        usage: Usage {
            cost_micros_usd: cost(event),
            ..usage(event, "/usage")
        },
        requests: u32::try_from(number(event, "/num_turns")).ok(),
    });
    events.extend(messages::denials(event));
    let answer = text(event, "/result").map(str::to_owned);
    if messages::is_success(event) {
        events.push(StreamEvent::Finished { answer });
    } else {
        events.push(StreamEvent::Failed(trouble(event, answer)));
    }
    events
}

/// What the turn has cost. The total is that of the whole conversation; what came since the last result stands beside
/// it, for each model.
fn cost(event: &Value) -> Option<u64> {
    let models = event.get("model_usage_since_last_result");
    match models.and_then(Value::as_object) {
        Some(models) => Some(
            models
                .values()
                .filter_map(|model| micros(model, "/costUSD"))
                .fold(0, u64::saturating_add),
        ),
        None => micros(event, "/total_cost_usd"),
    }
}

fn trouble(event: &Value, answer: Option<String>) -> Trouble {
    let message = answer
        .or_else(|| Some(text(event, "/errors/0")?.to_owned()))
        .unwrap_or_else(|| "it gave no reason".to_owned());
    let interrupted =
        text(event, "/terminal_reason").is_some_and(|reason| reason.starts_with("aborted"));
    let kind = match text(event, "/subtype") {
        Some("error_max_turns" | "error_max_budget_usd") => TroubleKind::OwnLimit,
        _ if interrupted => TroubleKind::Interrupted,
        _ if message.starts_with("No conversation found") => TroubleKind::UnknownConversation,
        _ => kind_of(event, &message),
    };
    Trouble::new(kind, message)
}

fn kind_of(event: &Value, message: &str) -> TroubleKind {
    // A subscription's limit: the time stands behind the words, in seconds since the epoch.
    if let Some((_, at)) = message.split_once("usage limit reached|") {
        let digits = at
            .split(|character: char| !character.is_ascii_digit())
            .next();
        let at = digits.and_then(|digits| digits.parse().ok()).map(Reset::At);
        return TroubleKind::RateLimited { reset: at };
    }
    let by_message = TroubleKind::of_message(message);
    let status = u16::try_from(number(event, "/api_error_status")).ok();
    let by_status = status
        .filter(|status| *status > 0)
        .and_then(|status| TroubleKind::of_status(status, None));
    match (by_status, by_message) {
        // Credits that are used up come as a bad request.
        (_, TroubleKind::NoCredit) | (None, _) => by_message,
        (Some(kind), _) => kind,
    }
}

fn usage(event: &Value, place: &str) -> Usage {
    let of = |name: &str| tokens(event, &format!("{place}/{name}"));
    Usage {
        input_tokens: of("input_tokens").saturating_add(of("cache_creation_input_tokens")),
        output_tokens: of("output_tokens"),
        cached_tokens: of("cache_read_input_tokens"),
        cost_micros_usd: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::recordings;

    fn read(line: &str) -> Vec<StreamEvent> {
        Reader.read(line.as_bytes())
    }

    #[test]
    fn what_it_told_is_understood() {
        insta::assert_snapshot!(recordings::table("claude"), @r#"
        bad-request: Failed("API Error: 400 fake 400")
            1 requests, 0+0 tokens, 0 micros, 0 tools, 0 retries, conversation known
        cut-always: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 7 retries, conversation known
        cut-once: Finished(None)
            2 requests, 2000+100 tokens, 7500 micros, 1 tools, 1 retries, conversation known
        denied: Blocked("the agent was not allowed to: Bash: echo hi > a.txt")
            3 requests, 3000+150 tokens, 11250 micros, 2 tools, 0 retries, conversation known
        error-in-stream: Finished(None)
            2 requests, 3000+101 tokens, 7500 micros, 1 tools, 0 retries, conversation known
        forbidden: Refused("Failed to authenticate. API Error: 403 fake 403")
            1 requests, 0+0 tokens, 0 micros, 0 tools, 0 retries, conversation known
        happy: Finished(None)
            3 requests, 3000+150 tokens, 11250 micros, 2 tools, 0 retries, conversation known
        interrupted-in-tool: Crashed("[ede_diagnostic] result_type=user last_content_type=n/a stop_reason=tool_use")
            3 requests, 1000+50 tokens, 3750 micros, 1 tools, 0 retries, conversation known
        limited-always: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 7 retries, conversation known
        limited-for-an-hour: Limited { reset: None, reason: "API Error: Request rejected (429) · fake 429" }
            1 requests, 0+0 tokens, 0 micros, 0 tools, 0 retries, conversation known
        limited-twice: Finished(None)
            2 requests, 2000+100 tokens, 7500 micros, 1 tools, 2 retries, conversation known
        max-budget: Exceeded("Reached maximum budget ($0.005)")
            2 requests, 1000+50 tokens, 7500 micros, 2 tools, 0 retries, conversation known
        max-turns: Exceeded("Reached maximum number of turns (3)")
            4 requests, 3000+150 tokens, 11250 micros, 3 tools, 0 retries, conversation known
        no-key: Refused("Not logged in · Please run /login")
            1 requests, 0+0 tokens, 0 micros, 0 tools, 0 retries, conversation known
        overloaded: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 7 retries, conversation known
        terminated-in-tool: Crashed("exit code 143")
            1 requests, 1000+1 tokens, no micros, 1 tools, 0 retries, conversation known
        tool-fails: Finished(None)
            2 requests, 2000+100 tokens, 7500 micros, 1 tools, 0 retries, conversation known
        unauthorized: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 7 retries, conversation known
        unavailable: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 7 retries, conversation known
        unknown-session: ConversationLost("No conversation found with session ID: 11111111-2222-4333-8444-555555555555")
            0 requests, 0+0 tokens, 0 micros, 0 tools, 0 retries, conversation known
        "#);
        recordings::play_damaged("claude");
    }

    #[test]
    fn the_limit_of_a_subscription_has_a_time() {
        let limit = |message: &str| {
            let event = serde_json::json!({"subtype": "success", "result": message});
            kind_of(&event, message)
        };
        let at = |seconds| TroubleKind::RateLimited {
            reset: Some(Reset::At(seconds)),
        };
        let reached = "Claude AI usage limit reached|1764140400";
        assert_eq!(limit(reached), at(1_764_140_400));
        let rejected = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1764140400}}"#;
        let told = StreamEvent::LimitReached(Reset::At(1_764_140_400));
        assert_eq!(read(rejected), [told]);
        assert_eq!(read(&rejected.replace("rejected", "allowed_warning")), []);
    }

    #[test]
    fn what_a_subagent_says_is_no_answer() {
        let line = r#"{"type":"assistant","parent_tool_use_id":"t","message":{"id":"m","content":[{"type":"text","text":"x"}]}}"#;
        let used = StreamEvent::RequestUsed {
            request: "m".to_owned(),
            usage: Usage::default(),
        };
        assert_eq!(read(line), [used]);
    }

    #[test]
    fn dollars_are_written_out() {
        assert_eq!(dollars(5_000_000), "5.000000");
        assert_eq!(dollars(50), "0.000050");
    }
}
