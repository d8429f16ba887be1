//! The `gemini` agent: Gemini CLI, by its stream of JSON events. Pure.
//!
//! It exits with the status of the last HTTP answer modulo 256, so that a code above 127 is no signal. Without the
//! variable that keeps it from starting itself again, a launcher stands in front that ignores SIGTERM.

use serde_json::Value;

use super::event::{StreamEvent, Trouble, TroubleKind, Usage};
use super::json::{detail, object, text, tokens};
use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Conversation, Invocation, Output, Permissions,
    Place, Program, StreamReader, Task, TaskError, Tells, Tools, Turn, messages,
};
use crate::process::SessionExit;

/// What it keeps for itself.
const STATE: &[Place] = &[Place::folder(&[("GEMINI_CLI_HOME", ".gemini")], ".gemini")];

pub(super) struct Gemini;

impl Agent for Gemini {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            provider: Some("google"),
            resumes: true,
            must_change_something: true,
            output: Output::Stream,
            ask: Ask::Terminate,
            environment: &["GEMINI_*", "GOOGLE_*", "CLOUDSDK_CONFIG"],
            fenced: true,
            state: STATE,
            limits_requests: false,
            tells: Tells {
                model: true,
                ..Tells::TOKENS_ALONE
            },
        }
    }

    fn program(&self) -> Program {
        Program::Named {
            name: "gemini",
            install: "npm install -g @google/gemini-cli",
        }
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        let mut arguments = vec!["--output-format", "stream-json"];
        if task.setup.permissions == Permissions::Bypass {
            arguments.extend(["--yolo", "--skip-trust"]);
        }
        if let Some(model) = &task.setup.model {
            arguments.extend(["-m", model]);
        }
        arguments.extend(match &task.conversation {
            Conversation::New(name) => ["--session-id", name],
            Conversation::Resumed(name) => ["--resume", name],
        });
        let mut variables = vec![("GEMINI_CLI_NO_RELAUNCH", "1".to_owned())];
        if task.setup.permissions == Permissions::Bypass {
            variables.push(("GEMINI_CLI_TRUST_WORKSPACE", "true".to_owned()));
        }
        Ok(Approach::Run(Invocation::of(
            "gemini",
            &task.setup,
            arguments.into_iter().map(str::to_owned).collect(),
            variables,
            task.prompt.clone(),
        )))
    }

    fn reader(&self, _task: &Task) -> Box<dyn StreamReader> {
        Box::new(Reader::default())
    }

    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion {
        if exit == SessionExit::Code(42) && stderr.contains("resuming session") {
            return Conclusion::ConversationLost("gemini does not know it any more".to_owned());
        }
        turn.conclude(exit, stderr, code)
    }
}

/// What its exit codes stand for (its documentation, and statuses of HTTP modulo 256).
fn code(code: i32) -> Option<TroubleKind> {
    match code {
        41 => Some(TroubleKind::Unauthorized),
        42 => Some(TroubleKind::Misconfigured),
        53 => Some(TroubleKind::OwnLimit),
        144..=243 => TroubleKind::of_status(u16::try_from(code + 256).ok()?, None),
        17 => Some(TroubleKind::Overloaded),
        _ => None,
    }
}

/// Joins the parts of what the model says, which other events divide.
#[derive(Default)]
struct Reader {
    speaks: bool,
}

/// How it says on its standard error that it tries again.
const RETRYING: &str = "Retrying with backoff";

impl StreamReader for Reader {
    fn tools(&self) -> Tools {
        Tools::Told
    }

    fn read_error_line(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let line = String::from_utf8_lossy(line);
        let Some((what, _)) = line.split_once(RETRYING) else {
            return Vec::new();
        };
        let what = what.trim().trim_end_matches('.');
        vec![StreamEvent::Retrying {
            trouble: Trouble::new(TroubleKind::of_message(what), what),
            delay: None,
        }]
    }

    fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let Some(event) = object(line) else {
            return Vec::new();
        };
        let spoke = std::mem::take(&mut self.speaks);
        match text(&event, "/type") {
            Some("init") => messages::opening(&event),
            Some("message") if text(&event, "/role") == Some("assistant") => {
                self.speaks = true;
                let said = text(&event, "/content").unwrap_or_default().to_owned();
                vec![if spoke {
                    StreamEvent::SaidPart(said)
                } else {
                    StreamEvent::Said(said)
                }]
            }
            Some("tool_use") => vec![StreamEvent::ToolStarted {
                name: text(&event, "/tool_name").unwrap_or("tool").to_owned(),
                detail: event.get("parameters").and_then(detail),
            }],
            Some("tool_result") => vec![StreamEvent::ToolEnded],
            Some("result") => result(&event),
            _ => Vec::new(),
        }
    }
}

fn result(event: &Value) -> Vec<StreamEvent> {
    let of = |name: &str| tokens(event, &format!("/stats/{name}"));
    let used = StreamEvent::TurnUsed {
        usage: Usage::with_cached_among(of("input_tokens"), of("output_tokens"), of("cached")),
        requests: None,
    };
    let end = if text(event, "/status") == Some("success") {
        StreamEvent::Finished { answer: None }
    } else {
        StreamEvent::Failed(trouble(event))
    };
    vec![used, end]
}

fn trouble(event: &Value) -> Trouble {
    let message = text(event, "/error/message").unwrap_or("it gave no reason");
    let kind = match text(event, "/error/type") {
        Some("FatalTurnLimitedError") => TroubleKind::OwnLimit,
        // A stream that was cut.
        _ if message == "[API Error: terminated]" => TroubleKind::Connection,
        _ => TroubleKind::of_message(message),
    };
    Trouble::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::recordings;

    #[test]
    fn what_it_told_is_understood() {
        insta::assert_snapshot!(recordings::table("gemini"), @r#"
        bad-request: Failed("[API Error: {\"error\":{\"code\":400,\"message\":\"fake 400\",\"status\":\"UNKNOWN\"}}]")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        cut-always: Crashed("[API Error: terminated]")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        cut-once: Crashed("[API Error: terminated]")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        denied: Finished(None)
            0 requests, 1000+50 tokens, no micros, 0 tools, 0 retries, conversation known
        error-in-stream: Finished(None)
            0 requests, 3000+150 tokens, no micros, 1 tools, 0 retries, conversation known
        forbidden: Refused("[API Error: {\"error\":{\"code\":403,\"message\":\"fake 403\",\"status\":\"PERMISSION_DENIED\"}}]")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        happy: Finished(None)
            0 requests, 3000+150 tokens, no micros, 2 tools, 0 retries, conversation known
        interrupted-in-tool: Crashed("the agent ended without a result: [STARTUP] Cannot measure phase 'cleanup_ops': start mark 'startup:cleanup_ops:start' not found (likely cleared by res…
            0 requests, 0+0 tokens, no micros, 1 tools, 0 retries, conversation known
        limited-always: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        limited-for-an-hour: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        limited-twice: Finished(None)
            0 requests, 2000+100 tokens, no micros, 1 tools, 0 retries, conversation known
        no-key: Refused("Update your environment and try again (no reload needed if using .env)!")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        overloaded: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        terminated-in-tool: Crashed("the agent ended without a result: Ripgrep is not available. Falling back to GrepTool.")
            0 requests, 0+0 tokens, no micros, 1 tools, 0 retries, conversation known
        tool-fails: Finished(None)
            0 requests, 2000+100 tokens, no micros, 1 tools, 0 retries, conversation known
        unauthorized: Refused("[API Error: {\"error\":{\"code\":401,\"message\":\"fake 401\",\"status\":\"UNAUTHENTICATED\"}}]")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        unavailable: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        unknown-session: ConversationLost("gemini does not know it any more")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        "#);
        recordings::play_damaged("gemini");
    }

    #[test]
    fn it_says_on_its_standard_error_that_it_tries_again() {
        let line = b"Attempt 2 failed with status 429. Retrying with backoff... _ApiError: {";
        let limited = TroubleKind::RateLimited { reset: None };
        let retrying = StreamEvent::Retrying {
            trouble: Trouble::new(limited, "Attempt 2 failed with status 429"),
            delay: None,
        };
        assert_eq!(Reader::default().read_error_line(line), [retrying]);
        assert_eq!(Reader::default().read_error_line(b"    at x (y.js:1)"), []);
    }

    #[test]
    fn exit_codes_are_statuses_modulo_256() {
        let limited = TroubleKind::RateLimited { reset: None };
        for (number, kind) in [
            (173, Some(limited)),
            (145, Some(TroubleKind::Unauthorized)),
            (144, Some(TroubleKind::BadRequest)),
            (17, Some(TroubleKind::Overloaded)),
            (41, Some(TroubleKind::Unauthorized)),
            (53, Some(TroubleKind::OwnLimit)),
            (1, None),
            (137, None),
        ] {
            assert_eq!(code(number), kind, "{number}");
        }
    }
}
