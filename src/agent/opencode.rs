//! The `opencode` agent, by its stream of JSON events. Pure.
//!
//! It tells of a tool when that has ended, of what was used step by step, and has no event for the end: a success is a
//! last step with the reason `stop` and exit code 0. While it tries a request again it tells nothing at all.

use std::time::Duration;

use serde_json::Value;

use super::event::{Reset, StreamEvent, Trouble, TroubleKind, Usage};
use super::json::{detail, micros, number, object, text, tokens};
use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Conversation, Invocation, Output, Permissions,
    Place, Program, StreamReader, Task, TaskError, Tells, Tools, Turn,
};
use crate::process::SessionExit;

/// What it keeps for itself.
const STATE: &[Place] = &[
    Place::folder(&[("XDG_DATA_HOME", "opencode")], ".local/share/opencode"),
    Place::folder(&[("XDG_STATE_HOME", "opencode")], ".local/state/opencode"),
    Place::folder(&[("XDG_CONFIG_HOME", "opencode")], ".config/opencode"),
    Place::folder(&[("XDG_CACHE_HOME", "opencode")], ".cache/opencode"),
];

/// What it says of its database when several begin together, above all for the first time: the one that comes a little
/// later finds it in order.
const DATABASE: &[&str] = &["database is locked", "Failed query: "];

pub(super) struct OpenCode;

impl Agent for OpenCode {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // It is a client of many providers.
            provider: None,
            resumes: true,
            must_change_something: true,
            output: Output::Stream,
            ask: Ask::Terminate,
            environment: &["OPENCODE_*"],
            fenced: true,
            state: STATE,
            limits_requests: false,
            tells: Tells {
                model: false,
                ..Tells::ALL
            },
        }
    }

    fn program(&self) -> Program {
        Program::Named {
            name: "opencode",
            install: "npm install -g opencode-ai",
        }
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        let mut arguments = vec!["run", "--format", "json"];
        if task.setup.permissions == Permissions::Bypass {
            arguments.push("--auto");
        }
        if let Some(model) = &task.setup.model {
            arguments.extend(["-m", model]);
        }
        match &task.conversation {
            // With a title it need not ask a model for one.
            Conversation::New(_) => arguments.extend(["--title", "ai-sdlc"]),
            Conversation::Resumed(name) => arguments.extend(["--session", name]),
        }
        Ok(Approach::Run(Invocation::of(
            "opencode",
            &task.setup,
            arguments.into_iter().map(str::to_owned).collect(),
            vec![("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned())],
            task.prompt.clone(),
        )))
    }

    fn reader(&self, _task: &Task) -> Box<dyn StreamReader> {
        Box::new(Reader::default())
    }

    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion {
        if stderr.contains("Session not found") {
            return Conclusion::ConversationLost("opencode does not know it any more".to_owned());
        }
        if let Some(line) = stderr.lines().find(|line| line.contains("auto-rejecting")) {
            let what = line.split_once("permission requested:");
            let what = what.map_or(line, |(_, what)| what);
            let what = what.trim().trim_end_matches("; auto-rejecting");
            return Conclusion::Blocked(format!("the agent was not allowed to: {what}"));
        }
        if turn.requests() == 0 && DATABASE.iter().any(|words| stderr.contains(words)) {
            let reason = "opencode could not open its database, with which another one was busy";
            return Conclusion::Crashed(reason.to_owned());
        }
        turn.conclude(exit, stderr, |_| None)
    }
}

#[derive(Default)]
struct Reader {
    told_conversation: bool,
}

impl StreamReader for Reader {
    fn tools(&self) -> Tools {
        Tools::Processes
    }

    fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let Some(event) = object(line) else {
            return Vec::new();
        };
        let mut events = Vec::new();
        if let Some(name) = text(&event, "/sessionID")
            && !self.told_conversation
        {
            self.told_conversation = true;
            events.push(StreamEvent::Conversation(name.to_owned()));
        }
        match text(&event, "/type") {
            Some("text") => {
                let said = text(&event, "/part/text").map(str::to_owned);
                events.extend(said.map(StreamEvent::Said));
            }
            Some("tool_use") => {
                events.push(StreamEvent::ToolStarted {
                    name: text(&event, "/part/tool").unwrap_or("tool").to_owned(),
                    detail: event.pointer("/part/state/input").and_then(detail),
                });
                events.push(StreamEvent::ToolEnded);
            }
            Some("step_finish") => {
                events.push(StreamEvent::RequestUsed {
                    request: text(&event, "/part/id").unwrap_or_default().to_owned(),
                    usage: usage(&event),
                });
                if text(&event, "/part/reason") == Some("stop") {
                    events.push(StreamEvent::Finished { answer: None });
                }
            }
            Some("error") => events.push(StreamEvent::Failed(trouble(&event))),
            _ => {}
        }
        events
    }
}

fn trouble(event: &Value) -> Trouble {
    let message = text(event, "/error/data/message")
        .or_else(|| text(event, "/error/name"))
        .unwrap_or("it gave no reason");
    let seconds = text(event, "/error/data/responseHeaders/retry-after");
    let reset = seconds
        .and_then(|seconds| seconds.parse().ok())
        .map(|seconds| Reset::After(Duration::from_secs(seconds)));
    let status = u16::try_from(number(event, "/error/data/statusCode")).ok();
    let by_status = status
        .filter(|status| *status > 0)
        .and_then(|status| TroubleKind::of_status(status, reset));
    let kind = by_status.unwrap_or_else(|| TroubleKind::of_message(message));
    Trouble::new(kind, message)
}

fn usage(event: &Value) -> Usage {
    let of = |name: &str| tokens(event, &format!("/part/tokens/{name}"));
    Usage {
        input_tokens: of("input").saturating_add(of("cache/write")),
        output_tokens: of("output").saturating_add(of("reasoning")),
        cached_tokens: of("cache/read"),
        cost_micros_usd: micros(event, "/part/cost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::recordings;

    #[test]
    fn what_it_told_is_understood() {
        insta::assert_snapshot!(recordings::table("opencode"), @r#"
        bad-request: Failed("fake 400")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        cut-always: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 1 tools, 0 retries, conversation known
        cut-once: Finished(None)
            2 requests, 2000+100 tokens, 7500 micros, 1 tools, 0 retries, conversation known
        denied: Blocked("the agent was not allowed to: bash (echo hi > a.txt)")
            1 requests, 1000+50 tokens, 3750 micros, 1 tools, 0 retries, conversation known
        error-in-stream: Finished(None)
            2 requests, 2000+100 tokens, 7500 micros, 1 tools, 0 retries, conversation known
        forbidden: Refused("fake 403")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        happy: Finished(None)
            3 requests, 3000+150 tokens, 11250 micros, 2 tools, 0 retries, conversation known
        interrupted-in-tool: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        limited-always: Limited { reset: Some(After(1s)), reason: "fake 429" }
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        limited-for-an-hour: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        limited-twice: Finished(None)
            2 requests, 2000+100 tokens, 7500 micros, 1 tools, 0 retries, conversation known
        overloaded: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        terminated-in-tool: Crashed("the agent was ended by signal 15")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        tool-fails: Finished(None)
            2 requests, 2000+100 tokens, 7500 micros, 1 tools, 0 retries, conversation known
        unauthorized: Refused("fake 401")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        unavailable: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        unknown-session: ConversationLost("opencode does not know it any more")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        "#);
        recordings::play_damaged("opencode");
    }

    #[test]
    fn one_that_finds_its_database_in_use_is_tried_again() {
        let conclude = |stderr| OpenCode.conclude(&Turn::default(), SessionExit::Code(1), stderr);
        for said in [
            "Error: Unexpected error\ndatabase is locked\n",
            "Failed query: CREATE TABLE `workspace` (\n);\nparams: \n",
        ] {
            assert!(matches!(conclude(said), Conclusion::Crashed(_)), "{said}");
        }
        assert!(matches!(conclude("no such model"), Conclusion::Failed(_)));
    }
}
