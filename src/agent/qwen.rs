//! The `qwen` agent: Qwen Code, by its stream of JSON events, which are like those of Claude Code. Pure.
//!
//! What it may not do is not offered to its model at all. At a limit of its own it ends without a `result`, with an exit
//! code that says which.

use std::time::Duration;

use serde_json::Value;

use super::event::{StreamEvent, Trouble, TroubleKind, Usage};
use super::json::{millis, object, text, tokens};
use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Conversation, Invocation, Output, Permissions,
    Place, Program, StreamReader, Task, TaskError, Tells, Tools, Turn, messages,
};
use crate::process::SessionExit;

/// What it keeps for itself.
const STATE: &[Place] = &[
    Place::folder(&[("QWEN_HOME", "")], ".qwen"),
    Place::folder(&[("QWEN_RUNTIME_DIR", "")], ""),
];

pub(super) struct Qwen;

impl Agent for Qwen {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // It is a client of every provider with an API like that of OpenAI.
            provider: None,
            resumes: true,
            must_change_something: true,
            output: Output::Stream,
            ask: Ask::Terminate,
            environment: &["QWEN_*", "DASHSCOPE_*", "OPENAI_*"],
            fenced: true,
            state: STATE,
            limits_requests: true,
            tells: Tells {
                cost: false,
                ..Tells::ALL
            },
        }
    }

    fn program(&self) -> Program {
        Program::Named {
            name: "qwen",
            install: "npm install -g @qwen-code/qwen-code",
        }
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        let mut arguments: Vec<String> =
            ["--output-format", "stream-json"].map(str::to_owned).into();
        if task.setup.permissions == Permissions::Bypass {
            arguments.push("--yolo".to_owned());
        }
        let mut option = |name: &str, value: Option<String>| {
            arguments.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        option("-m", task.setup.model.clone());
        let requests = task.setup.most_requests.map(|most| most.to_string());
        option("--max-session-turns", requests);
        match &task.conversation {
            Conversation::New(name) => option("--session-id", Some(name.clone())),
            Conversation::Resumed(name) => option("--resume", Some(name.clone())),
        }
        Ok(Approach::Run(Invocation::of(
            "qwen",
            &task.setup,
            arguments,
            vec![
                ("QWEN_CODE_NO_RELAUNCH", "1".to_owned()),
                ("QWEN_CODE_SUPPRESS_YOLO_WARNING", "1".to_owned()),
            ],
            task.prompt.clone(),
        )))
    }

    fn reader(&self, _task: &Task) -> Box<dyn StreamReader> {
        Box::new(Reader)
    }

    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion {
        if stderr.contains("No saved session found") {
            return Conclusion::ConversationLost("qwen does not know it any more".to_owned());
        }
        turn.conclude(exit, stderr, |code| match code {
            53 | 55 => Some(TroubleKind::OwnLimit),
            _ => None,
        })
    }
}

struct Reader;

impl StreamReader for Reader {
    fn tools(&self) -> Tools {
        Tools::Told
    }

    /// `Retrying in 60s (attempt 1/10): [API Error: 429 …]`: the event in the stream does not say why.
    fn read_error_line(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let line = String::from_utf8_lossy(line);
        let Some((when, why)) = line
            .strip_prefix("Retrying in ")
            .and_then(|rest| rest.split_once(": "))
        else {
            return Vec::new();
        };
        let seconds = when
            .split_once('s')
            .and_then(|(seconds, _)| seconds.parse().ok());
        vec![StreamEvent::Retrying {
            trouble: Trouble::new(TroubleKind::of_message(why), why),
            delay: seconds.map(Duration::from_secs),
        }]
    }

    fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let Some(event) = object(line) else {
            return Vec::new();
        };
        match (text(&event, "/type"), text(&event, "/subtype")) {
            (Some("system"), Some("init")) => messages::opening(&event),
            (Some("system"), Some("retry")) => vec![StreamEvent::Retrying {
                trouble: Trouble::new(TroubleKind::Overloaded, "the request failed"),
                delay: millis(&event, "/data/delayMs"),
            }],
            (Some("assistant"), _) => messages::answer(&event, usage(&event, "/message/usage")),
            (Some("user"), _) => messages::results(&event),
            (Some("result"), _) => result(&event),
            _ => Vec::new(),
        }
    }
}

fn result(event: &Value) -> Vec<StreamEvent> {
    // That of the whole conversation, with the requests of which no event tells.
    let used = StreamEvent::ConversationUsed(usage(event, "/usage"));
    let end = if messages::is_success(event) {
        StreamEvent::Finished {
            answer: text(event, "/result").map(str::to_owned),
        }
    } else {
        let message = text(event, "/error/message").unwrap_or("it gave no reason");
        let kind = if message.starts_with("Missing API key") {
            TroubleKind::Unauthorized
        } else {
            TroubleKind::of_message(message)
        };
        StreamEvent::Failed(Trouble::new(kind, message))
    };
    std::iter::once(used)
        .chain(messages::denials(event))
        .chain([end])
        .collect()
}

fn usage(event: &Value, place: &str) -> Usage {
    let of = |name: &str| tokens(event, &format!("{place}/{name}"));
    Usage::with_cached_among(
        of("input_tokens"),
        of("output_tokens"),
        of("cache_read_input_tokens"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::recordings;

    #[test]
    fn what_it_told_is_understood() {
        insta::assert_snapshot!(recordings::table("qwen"), @r#"
        bad-request: Failed("[API Error: 400 fake 400]")
            1 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        cut-always: Crashed("[API Error: terminated (cause: UND_ERR_SOCKET: other side closed)]")
            1 requests, 0+0 tokens, no micros, 0 tools, 2 retries, conversation known
        cut-once: Finished(None)
            2 requests, 2000+100 tokens, no micros, 1 tools, 1 retries, conversation known
        denied: Finished(None)
            1 requests, 4000+200 tokens, no micros, 0 tools, 0 retries, conversation known
        error-in-stream: Finished(None)
            2 requests, 2000+100 tokens, no micros, 1 tools, 2 retries, conversation known
        forbidden: Refused("[API Error: 403 fake 403]")
            1 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        happy: Finished(None)
            3 requests, 3000+150 tokens, no micros, 2 tools, 0 retries, conversation known
        interrupted-in-tool: Crashed("the agent was ended by signal 2")
            1 requests, 1000+50 tokens, no micros, 1 tools, 0 retries, conversation known
        limited-always: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 1 retries, conversation known
        limited-for-an-hour: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        limited-twice: Finished(None)
            2 requests, 2000+100 tokens, no micros, 1 tools, 0 retries, conversation known
        max-turns: Exceeded("Reached max session turns for this session. Increase the number of turns by specifying maxSessionTurns in settings.json.")
            3 requests, 3000+150 tokens, no micros, 3 tools, 0 retries, conversation known
        no-key: Refused("Missing API key for OpenAI-compatible auth. Set settings.security.auth.apiKey, or set the 'OPENAI_API_KEY' environment variable.")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        overloaded: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        terminated-in-tool: Crashed("the agent was ended by signal 15")
            1 requests, 1000+50 tokens, no micros, 1 tools, 0 retries, conversation known
        tool-fails: Finished(None)
            2 requests, 2000+100 tokens, no micros, 1 tools, 0 retries, conversation known
        unauthorized: Refused("[API Error: 401 fake 401]")
            1 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        unavailable: Crashed("the agent was ended by signal 9")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation known
        unknown-session: ConversationLost("qwen does not know it any more")
            0 requests, 0+0 tokens, no micros, 0 tools, 0 retries, conversation unknown
        "#);
        recordings::play_damaged("qwen");
    }

    #[test]
    fn it_says_on_its_standard_error_why_it_tries_again() {
        let line = b"Retrying in 60s (attempt 1/10): [API Error: 429 fake 429]";
        let limited = TroubleKind::RateLimited { reset: None };
        let retrying = StreamEvent::Retrying {
            trouble: Trouble::new(limited, "[API Error: 429 fake 429]"),
            delay: Some(Duration::from_secs(60)),
        };
        assert_eq!(Reader.read_error_line(line), [retrying]);
        assert_eq!(Reader.read_error_line(b"Retrying provider attempt"), []);
    }
}
