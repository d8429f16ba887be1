//! A program that is running: its lines as they come, signals to it, its end; every wait with a deadline.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use serde_json::Value;

use super::{DEADLINE, Output};

/// A program that is running. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    ended: Receiver<()>,
    stdout: Lines,
    stderr: Lines,
    has_ended: bool,
    reaped: bool,
}

/// A stream: what came so far, and the lines that nobody has looked at yet.
struct Lines {
    text: Arc<Mutex<Vec<u8>>>,
    waiting: Receiver<String>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&text);
        let (sender, waiting) = channel();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            loop {
                let mut line = Vec::new();
                match stream.read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                copy.lock().unwrap().extend_from_slice(&line);
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                // The text is kept as well, for when nobody looks at single lines any more.
                drop(sender.send(line));
            }
        });
        Self { text, waiting }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn await_end(&self) -> bool {
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            match self.waiting.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = pid_of(&child);
        let (sender, ended) = channel();
        std::thread::spawn(move || {
            // Told without reaping, so that the process keeps its number for as long as it may be signalled.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            if rustix::process::waitid(WaitId::Pid(pid), options).is_ok() {
                // Nobody waits for it any more when the test has failed.
                let _told: Result<(), SendError<()>> = sender.send(());
            }
        });
        Self {
            stdout: Lines::of(child.stdout.take().unwrap()),
            stderr: Lines::of(child.stderr.take().unwrap()),
            child,
            ended,
            has_ended: false,
            reaped: false,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(pid_of(&self.child), signal).unwrap();
    }

    /// The next line of standard output that is an event of that type about that story (any, when it is empty).
    pub(crate) fn event(&self, kind: &str, story: &str) -> Value {
        self.event_where(&format!("{kind} {story}"), |event| {
            event["type"] == kind && (story.is_empty() || event["story"] == story)
        })
    }

    pub(crate) fn event_where(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            match self.stdout.waiting.recv_timeout(left) {
                Ok(line) => {
                    let mut record: Value = serde_json::from_str(&line)
                        .unwrap_or_else(|error| panic!("{error}: {line}"));
                    let event = record["event"].take();
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(error) => panic!("no event `{what}` ({error})\n{}", self.so_far()),
            }
        }
    }

    /// Waits for a line on standard error that contains these words.
    pub(crate) fn line(&self, words: &str) {
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            match self.stderr.waiting.recv_timeout(left) {
                Ok(line) if line.contains(words) => return,
                Ok(_) => {}
                Err(error) => panic!("no line `{words}` ({error})\n{}", self.so_far()),
            }
        }
    }

    /// The stories of which it has said by now that they start, in that order.
    pub(crate) fn started_so_far(&self) -> Vec<String> {
        let text = self.stdout.text();
        let records = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records
            .filter(|record| record["event"]["type"] == "story_started")
            .map(|record| record["event"]["story"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Whether it ends by itself within that time.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> bool {
        self.has_ended = self.has_ended || self.ended.recv_timeout(patience).is_ok();
        self.has_ended
    }

    /// The end of it.
    pub(crate) fn wait(mut self) -> Output {
        assert!(
            self.ends_within(DEADLINE),
            "it did not end within {DEADLINE:?}\n{}",
            self.so_far()
        );
        assert!(
            self.stdout.await_end() && self.stderr.await_end(),
            "somebody holds its output open\n{}",
            self.so_far()
        );
        let status = self.child.wait().unwrap();
        self.reaped = true;
        Output {
            code: status.code(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    fn so_far(&self) -> String {
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        format!("--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            // Only when a test has failed, or does not care how it ends.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}
