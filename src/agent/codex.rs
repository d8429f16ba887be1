//! The `codex` agent: Codex CLI, by its stream of JSON events. Pure.
//!
//! It tells what went wrong in words alone, and what the whole conversation has used only at the end of a turn. An
//! `error` event is no end: it may be a request that is tried again.

use serde_json::Value;

use super::event::{StreamEvent, Trouble, TroubleKind, Usage};
use super::json::{object, text, tokens};
use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Conversation, Invocation, Output, Permissions,
    Place, Program, StreamReader, Task, TaskError, Tells, Tools, Turn,
};
use crate::process::SessionExit;

/// What it keeps for itself.
const STATE: &[Place] = &[Place::folder(&[("CODEX_HOME", "")], ".codex")];

pub(super) struct Codex;

impl Agent for Codex {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            provider: Some("openai"),
            resumes: true,
            must_change_something: true,
            output: Output::Stream,
            ask: Ask::Terminate,
            environment: &["CODEX_*", "OPENAI_*"],
            fenced: true,
            state: STATE,
            limits_requests: false,
            tells: Tells::TOKENS_ALONE,
        }
    }

    fn program(&self) -> Program {
        Program::Named {
            name: "codex",
            install: "npm install -g @openai/codex",
        }
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        let mut arguments = vec!["exec"];
        if matches!(task.conversation, Conversation::Resumed(_)) {
            arguments.push("resume");
        }
        arguments.extend(["--json", "--skip-git-repo-check"]);
        if task.setup.permissions == Permissions::Bypass {
            arguments.push("--dangerously-bypass-approvals-and-sandbox");
        }
        if let Some(model) = &task.setup.model {
            arguments.extend(["-m", model]);
        }
        let mut invocation = Invocation::of(
            "codex",
            &task.setup,
            arguments.into_iter().map(str::to_owned).collect(),
            Vec::new(),
            task.prompt.clone(),
        );
        // What the user adds are options, which stand before these.
        if let Conversation::Resumed(name) = &task.conversation {
            invocation.arguments.push(name.into());
        }
        invocation.arguments.push("-".into());
        Ok(Approach::Run(invocation))
    }

    fn reader(&self, _task: &Task) -> Box<dyn StreamReader> {
        Box::new(Reader)
    }

    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion {
        if stderr.contains("no rollout found") {
            return Conclusion::ConversationLost("codex does not know it any more".to_owned());
        }
        turn.conclude(exit, stderr, |_| None)
    }
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
            Some("thread.started") => {
                let name = text(&event, "/thread_id").map(str::to_owned);
                name.map(StreamEvent::Conversation).into_iter().collect()
            }
            Some("item.started") => item_started(&event).into_iter().collect(),
            Some("item.completed") => item_completed(&event),
            Some("error") => retry(&event).into_iter().collect(),
            Some("turn.completed") => vec![
                StreamEvent::ConversationUsed(usage(&event)),
                StreamEvent::Finished { answer: None },
            ],
            Some("turn.failed") => {
                let message = text(&event, "/error/message").unwrap_or("it gave no reason");
                vec![StreamEvent::Failed(trouble(message))]
            }
            _ => Vec::new(),
        }
    }
}

fn item_started(event: &Value) -> Option<StreamEvent> {
    let (name, detail) = match text(event, "/item/type")? {
        "command_execution" => ("shell", text(event, "/item/command")),
        "mcp_tool_call" => ("mcp", text(event, "/item/tool")),
        "web_search" => ("web search", text(event, "/item/query")),
        _ => return None,
    };
    Some(StreamEvent::ToolStarted {
        name: name.to_owned(),
        detail: detail.map(|detail| detail.split_whitespace().collect::<Vec<_>>().join(" ")),
    })
}

fn item_completed(event: &Value) -> Vec<StreamEvent> {
    match text(event, "/item/type") {
        Some("agent_message") => {
            let said = text(event, "/item/text").map(str::to_owned);
            said.map(StreamEvent::Said).into_iter().collect()
        }
        Some("file_change") => {
            let file = text(event, "/item/changes/0/path").map(str::to_owned);
            vec![
                StreamEvent::ToolStarted {
                    name: "edit".to_owned(),
                    detail: file,
                },
                StreamEvent::ToolEnded,
            ]
        }
        Some("command_execution" | "mcp_tool_call" | "web_search") => vec![StreamEvent::ToolEnded],
        // One of the type `error` may be a mere warning.
        _ => Vec::new(),
    }
}

/// `Reconnecting... 1/5 (why)`. Any other message comes once more with the end of the turn.
fn retry(event: &Value) -> Option<StreamEvent> {
    let message = text(event, "/message")?;
    let why = message.strip_prefix("Reconnecting...")?;
    let why = why.split_once('(').map_or(why, |(_, why)| why);
    let why = why.trim().trim_end_matches(')');
    Some(StreamEvent::Retrying {
        trouble: trouble(why),
        delay: None,
    })
}

fn trouble(message: &str) -> Trouble {
    Trouble::new(TroubleKind::of_message(message), message)
}

fn usage(event: &Value) -> Usage {
    let of = |name: &str| tokens(event, &format!("/usage/{name}"));
    Usage::with_cached_among(
        of("input_tokens"),
        of("output_tokens"),
        of("cached_input_tokens"),
    )
}

#[cfg(test)]
mod tests {
    use crate::agent::recordings;

    #[test]
    fn what_it_told_is_understood() {
        insta::assert_snapshot!(recordings::table("codex"), @r#"
        bad-request: Failed("{\"error\": {\"message\": \"fake 400\", \"type\": \"invalid_request_error\", \"param\": null, \"code\": \"invalid_request\"}}")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        cut-always: Crashed("stream disconnected before completion: Transport error: network error: error decoding response body")
            0 requests, 0+0 tokens, no micros, 0 tools, 5 retries, conversation known
        cut-once: Finished(None)
            0 requests, 2000+100 tokens, no micros, 1 tools, 1 retries, conversation known
        denied: Finished(None)
            0 requests, 3000+150 tokens, no micros, 0 tools, 0 retries, conversation known
        error-in-stream: Limited { reset: None, reason: "Selected model is at capacity. Please try a different model." }
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        forbidden: Refused("unexpected status 403 Forbidden: fake 403, url: http://127.0.0.1:33471/x/id=codex-30481d3e,fail=403/v1/responses")
            0 requests, 0+0 tokens, no micros, 0 tools, 5 retries, conversation known
        happy: Finished(None)
            0 requests, 3000+150 tokens, no micros, 2 tools, 0 retries, conversation known
        interrupted-in-tool: Failed("the agent ended with exit code 1")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        limited-always: Limited { reset: None, reason: "exceeded retry limit, last status: 429 Too Many Requests" }
            0 requests, 0+0 tokens, no micros, 0 tools, 5 retries, conversation known
        limited-for-an-hour: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 1 retries, conversation known
        limited-twice: Finished(None)
            0 requests, 2000+100 tokens, no micros, 1 tools, 2 retries, conversation known
        no-key: Refused("Missing environment variable: `FAKE_KEY`.")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        overloaded: Limited { reset: None, reason: "unexpected status 529 <unknown status code>: fake 529, url: http://127.0.0.1:33471/x/id=codex-ca68f8f6,fail=529/v1/responses" }
            0 requests, 0+0 tokens, no micros, 0 tools, 5 retries, conversation known
        terminated-in-tool: Crashed("the agent was ended by signal 15")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        tool-fails: Finished(None)
            0 requests, 2000+100 tokens, no micros, 1 tools, 0 retries, conversation known
        unauthorized: Refused("unexpected status 401 Unauthorized: fake 401, url: http://127.0.0.1:33471/x/id=codex-9ed14c5d,fail=401/v1/responses")
            0 requests, 0+0 tokens, no micros, 0 tools, 5 retries, conversation known
        unavailable: Limited { reset: None, reason: "Selected model is at capacity. Please try a different model." }
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        unknown-session: ConversationLost("codex does not know it any more")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        "#);
        recordings::play_damaged("codex");
    }
}
