//! The `command` agent: any program that takes a prompt, works in the current folder and ends. Pure.
//!
//! The prompt is on its standard input, or where its command line says `{prompt}` or `{prompt_file}`. Exit code 0 is
//! success. A line of its standard output may be a JSON object with the key `outcome`, which then counts: see
//! [`Reader`]. All other lines are what it says.

use std::time::Duration;

use serde_json::Value;

use super::event::{Reset, StreamEvent, Trouble, TroubleKind, Usage};
use super::json::{micros, number, object, text, tokens};
use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Input, Invocation, LONGEST_ARGUMENT, Output,
    PROMPT_FILE, Program, StreamReader, Task, TaskError, Tells, Turn,
};
use crate::process::SessionExit;

/// What stands for the prompt in a word of the command line.
const PROMPT: &str = "{prompt}";

pub(super) struct Command;

impl Agent for Command {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            provider: None,
            resumes: false,
            must_change_something: true,
            output: Output::Stream,
            ask: Ask::Terminate,
            environment: &[],
            fenced: true,
            state: &[],
            limits_requests: false,
            tells: Tells {
                cost: true,
                ..Tells::TOKENS_ALONE
            },
        }
    }

    fn program(&self) -> Program {
        Program::Configured
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        if task.setup.command.is_empty() {
            return Err(TaskError::NoCommand);
        }
        let mut invocation = Invocation::of("", &task.setup, Vec::new(), Vec::new(), String::new());
        let words = || task.setup.command.iter().chain(&task.setup.arguments);
        let says = |what: &str| words().any(|word| word.contains(what));
        invocation.activity.clone_from(&task.setup.command[0]);
        if says(PROMPT_FILE) {
            invocation.prompt_file = Some(task.prompt.clone());
        } else if !says(PROMPT) {
            invocation.input = Input::Text(task.prompt.clone());
        }
        if says(PROMPT) {
            if task.prompt.len() > LONGEST_ARGUMENT || task.prompt.contains('\0') {
                return Err(TaskError::PromptTooLong {
                    length: task.prompt.len(),
                    limit: LONGEST_ARGUMENT,
                });
            }
            let all = words().skip(1);
            invocation.arguments = all
                .map(|word| word.replace(PROMPT, &task.prompt).into())
                .collect();
        }
        Ok(Approach::Run(invocation))
    }

    fn reader(&self, _task: &Task) -> Box<dyn StreamReader> {
        Box::new(Reader)
    }

    fn conclude(&self, turn: &Turn, exit: SessionExit, stderr: &str) -> Conclusion {
        turn.conclude_by_exit(exit, stderr)
    }
}

/// Understands results such as
/// `{"outcome": "succeeded", "usage": {"input_tokens": 1, "output_tokens": 1, "cost_usd": 0.1}}`. The outcomes are
/// `succeeded`, `nothing_to_change`, `failed`, `blocked`, `limited` (with `retry_after` in seconds) and `refused`, each
/// but the first with a `reason`.
struct Reader;

impl StreamReader for Reader {
    fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let result = object(line).filter(|value| value.get("outcome").is_some());
        if let Some(result) = result {
            return outcome(&result);
        }
        let line = String::from_utf8_lossy(line);
        vec![StreamEvent::SaidPart(format!("{line}\n"))]
    }
}

fn outcome(result: &Value) -> Vec<StreamEvent> {
    let reason = || {
        let reason = text(result, "/reason").unwrap_or("it gave no reason");
        reason.to_owned()
    };
    let failed = |kind| StreamEvent::Failed(Trouble::new(kind, reason()));
    let end = match text(result, "/outcome") {
        Some("succeeded") => StreamEvent::Finished { answer: None },
        Some("nothing_to_change") => StreamEvent::Finished {
            answer: Some(format!("NOTHING TO CHANGE: {}", reason())),
        },
        // Without a reason, the turn says what that means.
        Some("blocked") => StreamEvent::Asked {
            question: text(result, "/reason").unwrap_or_default().to_owned(),
        },
        Some("limited") => {
            let after = result.get("retry_after").is_some();
            let after = after.then(|| Duration::from_secs(number(result, "/retry_after")));
            failed(TroubleKind::RateLimited {
                reset: after.map(Reset::After),
            })
        }
        Some("refused") => failed(TroubleKind::Unauthorized),
        Some("failed") => failed(TroubleKind::Other),
        other => StreamEvent::Failed(Trouble::new(
            TroubleKind::Other,
            match other {
                Some(other) => format!("its result has the unknown outcome `{other}`"),
                None => "the outcome of its result is no text".to_owned(),
            },
        )),
    };
    let used = result.get("usage").map(|_| StreamEvent::TurnUsed {
        usage: Usage {
            input_tokens: tokens(result, "/usage/input_tokens"),
            output_tokens: tokens(result, "/usage/output_tokens"),
            cached_tokens: tokens(result, "/usage/cached_tokens"),
            cost_micros_usd: micros(result, "/usage/cost_usd"),
        },
        requests: u32::try_from(number(result, "/usage/requests")).ok(),
    });
    used.into_iter().chain([end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Conversation, Setup};

    fn approach(command: &[&str]) -> Result<Invocation, TaskError> {
        let task = Task {
            story_text: String::new(),
            prompt: "do it".to_owned(),
            conversation: Conversation::New("n".to_owned()),
            folder: "/".into(),
            setup: Setup {
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                ..Setup::default()
            },
        };
        match Command.approach(&task)? {
            Approach::Run(invocation) => Ok(invocation),
            Approach::Answer(_) => unreachable!("it is run"),
        }
    }

    #[test]
    fn the_prompt_goes_where_the_command_line_says() {
        let run = approach(&["x", "-a"]).unwrap();
        let text = |text: &str| Input::Text(text.to_owned());
        assert_eq!((run.input, run.prompt_file), (text("do it"), None));
        let run = approach(&["x", "--say={prompt}"]).unwrap();
        assert_eq!((run.input, run.prompt_file), (text(""), None));
        assert_eq!(run.arguments, ["--say=do it"]);
        let run = approach(&["x", "{prompt_file}"]).unwrap();
        assert_eq!(
            (run.input, run.prompt_file.as_deref()),
            (text(""), Some("do it"))
        );
        assert_eq!(approach(&[]), Err(TaskError::NoCommand));
    }

    #[test]
    fn its_end_is_its_exit_code_or_the_result_that_it_gives() {
        let conclude = |lines: &[&str], code| {
            let mut turn = Turn::default();
            for line in lines {
                for event in Reader.read(line.as_bytes()) {
                    turn.hear(event);
                }
            }
            let conclusion = Command.conclude(&turn, SessionExit::Code(code), "why\n");
            format!("{conclusion:?}")
        };
        let rows = [
            (conclude(&["working"], 0), "Finished(None)"),
            (
                conclude(&["working"], 3),
                "Failed(\"the agent ended with exit code 3: why\")",
            ),
            (conclude(&["x", "BLOCKED: why?"], 0), "Blocked(\"why?\")"),
            (
                conclude(&[r#"{"outcome":"succeeded"}"#], 0),
                "Finished(None)",
            ),
            (
                conclude(&[r#"{"outcome":"nothing_to_change","reason":"r"}"#], 0),
                "Finished(Some(\"r\"))",
            ),
            (
                conclude(&[r#"{"outcome":"failed","reason":"r"}"#], 0),
                "Failed(\"r\")",
            ),
            (
                conclude(&[r#"{"outcome":"blocked","reason":"r"}"#], 0),
                "Blocked(\"the agent asks: r\")",
            ),
            (
                conclude(&[r#"{"outcome":"blocked"}"#], 0),
                "Blocked(\"the agent says that it cannot go on, and not why; hint: its log tells how far it came: \
                add to the story what it may lack, then set `status: ready`\")",
            ),
            (
                conclude(
                    &[r#"{"outcome":"limited","reason":"r","retry_after":5}"#],
                    1,
                ),
                "Limited { reset: Some(After(5s)), reason: \"r\" }",
            ),
            (
                conclude(&[r#"{"outcome":"refused","reason":"r"}"#], 1),
                "Refused(\"r\")",
            ),
            (
                conclude(&[r#"{"outcome":"x"}"#], 0),
                "Failed(\"its result has the unknown outcome `x`\")",
            ),
            (conclude(&[r#"{"other":1}"#], 0), "Finished(None)"),
        ];
        for (conclusion, expected) in rows {
            assert_eq!(conclusion, expected);
        }
    }
}
