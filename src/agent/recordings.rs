//! What real programs have told, played to their adapters. The streams lie in `tests/recordings/<agent>/`, with an
//! index that says how each program ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::{Conclusion, Conversation, NAMES, Permissions, Setup, StreamEvent, Task, Turn, find};
use crate::process::SessionExit;

/// How a program ended that was recorded.
#[derive(Deserialize)]
struct Recorded {
    exit: Option<i32>,
    signal: Option<i32>,
    stderr: String,
    /// The conversation that was to go on, when one was.
    #[serde(default)]
    resumed: Option<String>,
    /// Whether it had to ask for permission.
    #[serde(default)]
    asks: bool,
}

impl Recorded {
    /// What it was to do.
    fn task(&self) -> Task {
        let conversation = match &self.resumed {
            Some(name) => Conversation::Resumed(name.clone()),
            None => Conversation::New("new".to_owned()),
        };
        let permissions = if self.asks {
            Permissions::Configured
        } else {
            Permissions::Bypass
        };
        task(conversation, permissions)
    }
}

/// Something to do.
pub(super) fn task(conversation: Conversation, permissions: Permissions) -> Task {
    Task {
        story_text: String::new(),
        prompt: "Do it.".to_owned(),
        conversation,
        folder: "/repo".into(),
        setup: Setup {
            command: vec!["program".to_owned()],
            permissions,
            ..Setup::default()
        },
    }
}

fn any_task() -> Task {
    task(Conversation::New("new".to_owned()), Permissions::Bypass)
}

fn folder(agent: &str) -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    tests.join("recordings").join(agent.replace(':', "-"))
}

fn index(agent: &str) -> BTreeMap<String, Recorded> {
    let text = fs::read_to_string(folder(agent).join("index.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The recorded streams of an agent.
pub(super) fn streams(agent: &str) -> Vec<Vec<u8>> {
    let cases = index(agent).into_keys();
    cases
        .map(|case| fs::read(folder(agent).join(format!("{case}.jsonl"))).unwrap())
        .collect()
}

/// One line for every recorded case: what its end means, and what was heard.
pub(super) fn table(agent: &str) -> String {
    let adapter = find(agent).unwrap();
    let mut table = String::new();
    for (case, recorded) in index(agent) {
        let stream = fs::read(folder(agent).join(format!("{case}.jsonl"))).unwrap();
        let mut reader = adapter.reader(&recorded.task());
        let mut turn = Turn::default();
        let (mut tools, mut retries) = (0, 0);
        for line in stream.split(|byte| *byte == b'\n') {
            for event in reader.read(line) {
                match event {
                    StreamEvent::ToolStarted { .. } => tools += 1,
                    StreamEvent::Retrying { .. } => retries += 1,
                    _ => {}
                }
                turn.hear(event);
            }
        }
        let exit = match (recorded.exit, recorded.signal) {
            (Some(code), _) => SessionExit::Code(code),
            (None, signal) => SessionExit::Signal(signal.unwrap()),
        };
        let conclusion = adapter.conclude(&turn, exit, &recorded.stderr);
        let usage = turn.usage();
        writeln!(
            table,
            "{case}: {}\n    {} requests, {}+{} tokens, {} micros, {tools} tools, {retries} retries, conversation {}",
            told(&conclusion),
            turn.requests(),
            usage.input_tokens,
            usage.output_tokens,
            usage
                .cost_micros_usd
                .map_or("no".to_owned(), |cost| cost.to_string()),
            turn.conversation().map_or("unknown", |_| "known"),
        )
        .unwrap();
    }
    table
}

fn told(conclusion: &Conclusion) -> String {
    let mut text = format!("{conclusion:?}");
    if text.chars().count() > 160 {
        text = text.chars().take(160).collect();
        text.push('…');
    }
    text
}

/// Plays every recorded stream cut off and damaged everywhere: nothing may panic.
pub(super) fn play_damaged(agent: &str) {
    let adapter = find(agent).unwrap();
    for stream in streams(agent) {
        for line in stream.split(|byte| *byte == b'\n') {
            let step = (line.len() / 40).max(1);
            for place in (0..line.len()).step_by(step) {
                let mut damaged = line.to_vec();
                damaged[place] ^= 0x15;
                drop(adapter.reader(&any_task()).read(&line[..place]));
                drop(adapter.reader(&any_task()).read(&damaged));
            }
        }
    }
}

proptest! {
    /// Whatever an agent writes: bytes of any kind, and JSON with the words of the real events in any places.
    #[test]
    fn no_line_makes_a_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        json in "(\\{|\\}|\\[|\\]|:|,|\"(type|subtype|result|message|content|usage|item|part|error|init|system|assistant|text|[a-z0-9é]{0,5})\"|-?[0-9]{1,25}|null|true|1e400){0,60}",
    ) {
        for name in NAMES {
            let mut reader = find(name).unwrap().reader(&any_task());
            let mut turn = Turn::default();
            for line in [bytes.as_slice(), json.as_bytes()] {
                for event in reader.read(line).into_iter().chain(reader.read_error_line(line)) {
                    turn.hear(event);
                }
            }
            drop(turn.conclude(SessionExit::Code(0), &String::from_utf8_lossy(&bytes), |_| None));
        }
    }
}
