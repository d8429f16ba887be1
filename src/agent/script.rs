//! The `script` agent: no model; runs the first fenced block of the story that is marked `sh`, with `sh -eu`.
//!
//! For chores, for trying the program, and for tests.

use super::{
    Agent, Approach, Ask, Capabilities, Conclusion, Input, Invocation, LONGEST_ARGUMENT, Output,
    Program, Task, TaskError, Tells, Turn,
};
use crate::process::SessionExit;

pub(super) struct Script;

impl Agent for Script {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            provider: None,
            resumes: false,
            must_change_something: false,
            output: Output::Log,
            ask: Ask::Terminate,
            environment: &[],
            fenced: false,
            state: &[],
            limits_requests: false,
            tells: Tells::ALL,
        }
    }

    fn program(&self) -> Program {
        // There is a shell wherever this program runs.
        Program::None
    }

    fn approach(&self, task: &Task) -> Result<Approach, TaskError> {
        let script = first_shell_block(&task.story_text).ok_or(TaskError::NoScript)?;
        if script.len() > LONGEST_ARGUMENT || script.contains('\0') {
            return Err(TaskError::ScriptTooLong {
                length: script.len(),
                limit: LONGEST_ARGUMENT,
            });
        }
        let lines = script.lines().count();
        let unit = if lines == 1 { "line" } else { "lines" };
        Ok(Approach::Run(Invocation {
            program: "sh".into(),
            arguments: vec!["-eu".into(), "-c".into(), script.into(), "story".into()],
            variables: Vec::new(),
            input: Input::Text(String::new()),
            prompt_file: None,
            activity: format!("sh -eu, {lines} {unit}"),
        }))
    }

    fn conclude(&self, _turn: &Turn, exit: SessionExit, _stderr: &str) -> Conclusion {
        match exit {
            SessionExit::Code(0) => Conclusion::Finished(None),
            SessionExit::Code(code) => {
                Conclusion::Failed(format!("the script ended with exit code {code}"))
            }
            SessionExit::Signal(signal) => {
                Conclusion::Crashed(format!("the script was ended by signal {signal}"))
            }
        }
    }
}

/// The content of the first fenced code block whose info string starts with the word `sh`, by the rules of
/// `CommonMark`: fences of three or more backticks or tildes, indented by up to three spaces, closed by a fence of
/// the same kind that is at least as long, or by the end of the text.
fn first_shell_block(text: &str) -> Option<String> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = Fence::opening(line) else {
            continue;
        };
        let content: Vec<&str> = lines
            .by_ref()
            .take_while(|line| !fence.is_closed_by(line))
            .collect();
        if fence.language == "sh" {
            let stripped = content.iter().map(|line| fence.without_indent(line));
            return Some(stripped.flat_map(|line| [line, "\n"]).collect());
        }
    }
    None
}

struct Fence<'a> {
    mark: char,
    length: usize,
    indent: usize,
    language: &'a str,
}

impl<'a> Fence<'a> {
    fn opening(line: &'a str) -> Option<Self> {
        let (indent, mark, length, rest) = split_fence(line)?;
        let language = rest.split_whitespace().next().unwrap_or("");
        // A line such as ```` ```inline``` ```` is no fence.
        (mark != '`' || !rest.contains('`')).then_some(Self {
            mark,
            length,
            indent,
            language,
        })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        split_fence(line).is_some_and(|(_, mark, length, rest)| {
            mark == self.mark && length >= self.length && rest.trim().is_empty()
        })
    }

    fn without_indent<'l>(&self, line: &'l str) -> &'l str {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        &line[spaces.min(self.indent)..]
    }
}

/// Indentation, kind and length of a fence, and what stands behind it.
fn split_fence(line: &str) -> Option<(usize, char, usize, &str)> {
    let unindented = line.trim_start_matches(' ');
    let indent = line.len() - unindented.len();
    let mark = unindented.chars().next().filter(|c| "`~".contains(*c))?;
    let rest = unindented.trim_start_matches(mark);
    let length = unindented.len() - rest.len();
    (indent <= 3 && length >= 3).then_some((indent, mark, length, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_block_marked_sh_is_taken() {
        let text =
            "# T\n\n```rust\nfn main() {}\n```\n\n```sh\necho a\necho b\n```\n\n```sh\nno\n```\n";
        assert_eq!(first_shell_block(text).unwrap(), "echo a\necho b\n");
    }

    #[test]
    fn a_block_inside_a_block_is_text() {
        let text = "````md\n```sh\nno\n```\n````\n~~~ sh title\nyes\n```\n~~~\n";
        assert_eq!(first_shell_block(text).unwrap(), "yes\n```\n");
    }

    #[test]
    fn carriage_returns_and_indentation_are_taken_off() {
        let text = "  ```sh\r\n  echo a\r\n    echo b\r\n  ```\r\n";
        assert_eq!(first_shell_block(text).unwrap(), "echo a\n  echo b\n");
    }

    #[test]
    fn other_languages_and_inline_code_are_not_scripts() {
        for text in [
            "",
            "```shell\nx\n```",
            "```\nx\n```",
            "```sh x```",
            "    ```sh\n    x\n",
            "sh",
        ] {
            assert_eq!(first_shell_block(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_block_that_is_never_closed_reaches_to_the_end() {
        assert_eq!(first_shell_block("```sh\ntrue").unwrap(), "true\n");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(```|~~~|sh|[ a\n\r`~é])*") {
            drop(first_shell_block(&text));
        }
    }
}
