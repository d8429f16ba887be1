//! A call of `ai-sdlc --json` that is running: its events as they come, signals to it, its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::lines::Lines;
use crate::processes::Process;

/// A running call. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    process: Process,
    lines: Lines,
    events: Vec<Value>,
    said: Vec<String>,
    errors: PathBuf,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct End {
    /// Its exit code; none when a signal ended it, or it has not ended.
    pub(crate) code: Option<i32>,
    /// All of its events.
    pub(crate) events: Vec<Value>,
    /// What it wrote to its standard output besides.
    pub(crate) said: Vec<String>,
}

impl Program {
    /// Starts it, with a pipe for its events and a file for the rest.
    pub(crate) fn start(mut command: Command, errors: &Path) -> Self {
        let file = File::create(errors).expect("files can be written");
        command.stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().expect("the program is there");
        let process = Process::hold(child.id()).expect("it is not reaped");
        Self {
            lines: Lines::of(child.stdout.take().expect("is piped")),
            child,
            process,
            events: Vec::new(),
            said: Vec::new(),
            errors: errors.to_owned(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// An event of that type about that story (any, when it is empty), if it comes in time.
    pub(crate) fn event(&mut self, kind: &str, story: &str, patience: Duration) -> Option<Value> {
        let deadline = Instant::now() + patience;
        let mut place = 0;
        loop {
            while let Some(event) = self.events.get(place) {
                if event["type"] == kind && (story.is_empty() || event["story"] == story) {
                    return Some(event.clone());
                }
                place += 1;
            }
            let line = self.lines.next(deadline)?;
            self.take(&line);
        }
    }

    fn take(&mut self, line: &str) {
        if let Ok(mut record) = serde_json::from_str::<Value>(line) {
            self.events.push(record["event"].take());
        } else {
            self.said.push(line.trim_end().to_owned());
        }
    }

    /// Reads nothing more of what it says, and lets it know: the pipe has no reader.
    pub(crate) fn stop_reading(&mut self) {
        self.lines = Lines::of(File::open("/dev/null").expect("is always there"));
    }

    /// Whether it ends in time.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        self.process.ends_within(patience)
    }

    /// Its end; it is killed when that does not come in time, and then has no code.
    pub(crate) fn end(&mut self, patience: Duration) -> End {
        let deadline = Instant::now() + patience;
        let mut code = None;
        // It is read from while it is waited for: otherwise it might wait for room in the pipe.
        while let Some(line) = self.lines.next(deadline) {
            self.take(&line);
        }
        if self.ends_within(deadline.saturating_duration_since(Instant::now())) {
            code = self.child.wait().ok().and_then(|status| status.code());
        } else {
            self.process.kill();
        }
        End {
            code,
            events: std::mem::take(&mut self.events),
            said: std::mem::take(&mut self.said),
        }
    }

    /// What it has said to people so far.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.process.kill();
        drop(self.child.wait());
    }
}

impl End {
    /// What a story came to; nothing when it is not told.
    pub(crate) fn outcome(&self, story: &str) -> &str {
        self.settled(story)
            .and_then(|event| event["outcome"].as_str())
            .unwrap_or_default()
    }

    /// How a story was settled.
    pub(crate) fn settled(&self, story: &str) -> Option<&Value> {
        let mut settled = self
            .events
            .iter()
            .filter(|event| event["type"] == "story_settled");
        settled.find(|event| event["story"] == story)
    }
}
