//! The processes that belong to a test: those that carry its mark in their arguments or in their environment.
//!
//! They are held by descriptors, so that a number that changed hands is never signalled and an end is told instead of
//! guessed.

use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::bounds::{EXECUTOR_DEAD, SLACK};

/// How long a zombie may wait for its parent: an executor that was killed is reaped when what it left is gone, so that
/// its number stays its own for so long.
const REAPING: Duration = EXECUTOR_DEAD.saturating_add(SLACK);

/// How often `/proc` is read again where nothing tells of news.
const AGAIN: Duration = Duration::from_millis(10);

/// A process that is held.
pub(crate) struct Process {
    pid: u32,
    arguments: String,
    descriptor: OwnedFd,
}

impl fmt::Debug for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = state(self.pid).unwrap_or('-');
        write!(formatter, "{} {state} {}", self.pid, self.arguments)
    }
}

impl Process {
    /// The process of that number, if there is one.
    pub(crate) fn hold(pid: u32) -> Option<Self> {
        let descriptor = pidfd_open(to_pid(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self {
            pid,
            arguments: arguments(pid),
            descriptor,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended by now, and then there is nothing to do.
        let _ended: Result<(), Errno> = pidfd_send_signal(&self.descriptor, signal);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether it ends within that time.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).ok();
        let mut watched = [PollFd::new(&self.descriptor, PollFlags::IN)];
        matches!(poll(&mut watched, timeout.as_ref()), Ok(1..))
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    /// Whether it was started with this as one of its arguments.
    pub(crate) fn has_argument(&self, argument: &str) -> bool {
        self.arguments.split(' ').any(|word| word == argument)
    }
}

/// Which processes are meant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// All with this mark.
    Marked(&'a str),
    /// Those of one story: its executor, and what belongs to its agent.
    Story(&'a str, &'a str),
}

impl Scope<'_> {
    fn holds(&self, pid: u32) -> bool {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let command_line = read("cmdline");
        // Threads of the kernel and what has ended: most of the list.
        if command_line.is_empty() {
            return false;
        }
        match self {
            Self::Marked(mark) => {
                let mark = mark.as_bytes();
                contains(&command_line, mark) || contains(&read("environ"), mark)
            }
            Self::Story(mark, story) => {
                if contains(&command_line, format!("{mark}{story}.").as_bytes()) {
                    return true;
                }
                let environment = read("environ");
                let variable = format!("AI_SDLC_STORY_ID={story}\0");
                contains(&environment, mark.as_bytes())
                    && contains(&environment, variable.as_bytes())
            }
        }
    }

    /// Those that live. What has ended and is not reaped has neither arguments nor environment any more.
    pub(crate) fn living(&self) -> Vec<Process> {
        let own = std::process::id();
        numbers()
            .filter(|pid| *pid != own && self.holds(*pid))
            .filter_map(Process::hold)
            // It is held now: had its number changed hands, it would not be wanted any more.
            .filter(|process| process.is_alive() && self.holds(process.pid))
            .collect()
    }

    /// The executor of a story, if it lives.
    pub(crate) fn executor(&self, story: &str) -> Option<Process> {
        self.executors()
            .into_iter()
            .find(|process| process.has_argument(story))
    }

    /// The executors that live.
    pub(crate) fn executors(&self) -> Vec<Process> {
        let mut living = self.living();
        living.retain(|process| process.has_argument("agent-exec"));
        living
    }

    /// Waits until there are none, and says when that was, and which there still are when the time is up.
    pub(crate) fn await_none(&self, since: Instant, patience: Duration) -> Gone {
        let deadline = since + patience;
        let mut last = None;
        loop {
            let left = self.living();
            if left.is_empty() || Instant::now() >= deadline {
                return Gone {
                    after: last.unwrap_or_else(Instant::now) - since,
                    left: left.iter().map(|process| format!("{process:?}")).collect(),
                };
            }
            for process in &left {
                process.ends_within(deadline.saturating_duration_since(Instant::now()));
            }
            last = Some(Instant::now());
            // Those that are ended one after the other need not be looked for without a pause.
            std::thread::sleep(AGAIN);
        }
    }

    /// Ends all of them, whatever they do. For what a test that failed leaves.
    pub(crate) fn kill_all(&self) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            let left = self.living();
            if left.is_empty() {
                return;
            }
            for process in &left {
                process.kill();
            }
            std::thread::sleep(AGAIN);
        }
    }
}

/// What became of processes whose end was waited for.
#[derive(Debug)]
pub(crate) struct Gone {
    /// When the last one ended.
    pub(crate) after: Duration,
    /// Those that have not.
    pub(crate) left: Vec<String>,
}

/// The numbers of all processes.
fn numbers() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    let (Some(first), Some(rest)) = (part.first(), part.get(1..)) else {
        return true;
    };
    let mut places = text.iter().enumerate().filter(|(_, byte)| *byte == first);
    places.any(|(place, _)| text[place + 1..].starts_with(rest))
}

fn arguments(pid: u32) -> String {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.trim_end_matches('\0').replace(['\0', '\n'], " ")
}

/// The fields of `/proc/<pid>/stat` from the third one (`proc_pid_stat(5)`).
pub(crate) fn stat(pid: u32) -> Option<Vec<String>> {
    // A name may be any bytes.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The letter for the state of a process.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Waits for a state of a process, which nothing else tells of.
pub(crate) fn await_state(pid: u32, wanted: char, patience: Duration) -> bool {
    let began = Instant::now();
    while state(pid) != Some(wanted) {
        if began.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// The children of these processes that have ended and that nobody reaps.
pub(crate) fn zombies(parents: &[u32]) -> Vec<u32> {
    let ended = || -> Vec<u32> {
        let mut ended: Vec<u32> = parents
            .iter()
            .flat_map(|parent| children(*parent))
            .collect();
        ended.retain(|child| state(*child) == Some('Z'));
        ended
    };
    let began = Instant::now();
    let mut lingering = ended();
    while !lingering.is_empty() && began.elapsed() < REAPING {
        std::thread::sleep(AGAIN);
        let now = ended();
        lingering.retain(|child| now.contains(child));
    }
    lingering
}

/// A line of `/proc/<pid>/status` or `smaps_rollup`, in KiB.
pub(crate) fn kib(pid: u32, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What a process has used of processors so far.
pub(crate) fn processor_time(pid: u32) -> Option<Duration> {
    let fields = stat(pid)?;
    let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
    let tick_ms = 1000 / rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks * tick_ms))
}

/// The blocks that the files below a folder take on the disk, in bytes.
pub(crate) fn allocated(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => allocated(&entry.path()),
            Ok(about) => about.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

pub(crate) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
