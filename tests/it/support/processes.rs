//! The processes of a test, found by the mark in their environment.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// A process that carries a mark.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pid: i32,
    arguments: Vec<String>,
    story: Option<String>,
}

impl Process {
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid).unwrap();
        // It may have ended by now, and that is all that is wanted.
        let _ended: Result<(), Errno> = rustix::process::kill_process(pid, signal);
    }

    fn is_executor(&self) -> bool {
        self.arguments
            .get(1)
            .is_some_and(|word| word == "agent-exec")
    }
}

/// The processes with this mark. Those that have ended and are not reaped yet have no environment any more.
pub(crate) fn living(mark: &str) -> Vec<Process> {
    let numbers = fs::read_dir("/proc").unwrap();
    numbers
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|pid| look(pid, mark))
        .collect()
}

fn look(pid: i32, mark: &str) -> Option<Process> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environment = String::from_utf8_lossy(&environment);
    let marked = environment
        .split('\0')
        .any(|entry| entry.strip_prefix("AI_SDLC_TEST_MARK=") == Some(mark));
    if !marked {
        return None;
    }
    let story = environment
        .split('\0')
        .find_map(|entry| entry.strip_prefix("AI_SDLC_STORY_ID="));
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&command_line);
    Some(Process {
        pid,
        arguments: arguments
            .split_terminator('\0')
            .map(str::to_owned)
            .collect(),
        story: story.map(str::to_owned),
    })
}

/// The stories whose executors are alive, in order.
pub(crate) fn executors(mark: &str) -> Vec<String> {
    let alive = living(mark).into_iter();
    let mut stories: Vec<String> = alive
        .filter(Process::is_executor)
        .filter_map(|process| process.story)
        .collect();
    stories.sort();
    stories
}

/// The executor of a story, if it is alive.
pub(crate) fn executor_of(mark: &str, story: &str) -> Option<Process> {
    living(mark)
        .into_iter()
        .find(|process| process.is_executor() && process.story.as_deref() == Some(story))
}

/// Waits until no process carries the mark, and gives those that still do when the time is up. Nobody tells of the
/// end of a process that is not one's own, so this looks again and again.
pub(crate) fn await_none(mark: &str, patience: Duration) -> Vec<Process> {
    let began = Instant::now();
    loop {
        let alive = living(mark);
        if alive.is_empty() || began.elapsed() > patience {
            return alive;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether there is a process of that number; one that waits to be reaped is none any more.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = fs::read(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    String::from_utf8_lossy(&stat)
        .rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
