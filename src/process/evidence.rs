//! Whether a tree of processes works, waits or stands still, by comparing it with how it was before.
//!
//! A tree is everything below a process; the process itself, its owner, is not part of it. What is taken for evidence:
//!
//! - *Work*: a process came or went; they used more than 1 % of one core; they read or wrote more than a little.
//! - *A wait* for something that ends or comes from outside, of any thread: a sleep, or a call with a time limit; an
//!   armed timer; a disk; a connection to somebody outside of the tree.
//!
//! Runtimes that always keep a timer (Go, the JVM, Node with an interval) therefore count as waiting when they do
//! nothing: rather a hang that is found late than healthy work that is stopped. What waits for a process, a lock or a
//! pipe of the same tree is no evidence.
//!
//! Only Linux tells what is asked here. Elsewhere a tree is empty, and there is no evidence of this kind.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod sockets;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The use of a tree of processes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeUsage {
    /// Resident memory, in KiB. Memory that processes share is counted once for each.
    pub rss_kib: u64,
    /// Processor time of the living processes and of those whose end they have seen, in milliseconds.
    pub cpu_ms: u64,
    /// How many processes there are.
    pub processes: u32,
}

/// What a comparison shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Something was done.
    Works(Work),
    /// Nothing was done; it waits for something that ends or comes from outside.
    Waits(Wait),
    /// Neither.
    Nothing,
}

/// By what work shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A process came or went.
    Processes,
    /// Processor time was used.
    Cpu,
    /// Something was read or written.
    Io,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A time that ends.
    Sleep,
    /// A disk.
    Disk,
    /// Somebody at the other end of a connection.
    Network,
}

/// A process, told apart from a later one with the same number by when it started (in clock ticks).
type Identity = (u32, u64);

/// What one process has used since it started. What its children used counts once it has seen their end, so that those
/// that came and went between two snapshots count as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counters {
    cpu_ms: u64,
    /// Bytes in all system calls that read or write, and bytes that really went to or came from a disk.
    io_bytes: u64,
    rss_kib: u64,
}

/// A tree of processes at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Snapshot {
    processes: BTreeMap<Identity, Counters>,
    /// Only looked for when nothing else is found.
    waits: Option<Wait>,
}

impl Snapshot {
    fn usage(&self) -> TreeUsage {
        let counters = || self.processes.values();
        TreeUsage {
            rss_kib: counters().map(|counters| counters.rss_kib).sum(),
            cpu_ms: counters().map(|counters| counters.cpu_ms).sum(),
            processes: u32::try_from(self.processes.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Which part of the time may be spent on a processor without being work: one in so many. Idle runtimes with a timer
/// use a tenth to a half of this.
const NOISE_OF_ONE_CORE: u128 = 100;
/// Less than this is never work, however short the time: the clock of the system ticks that often.
const LEAST_CPU_MS: u128 = 10;
/// Bytes a second that may be read and written without being work: wake-up calls between threads, signs of life on a
/// connection.
const NOISE_IO_PER_SECOND: u128 = 64;
/// So many are never work, however short the time.
const LEAST_IO: u128 = 128;

/// What happened to a tree between two snapshots.
fn compare(before: &Snapshot, after: &Snapshot, elapsed: Duration) -> Evidence {
    if !before.processes.keys().eq(after.processes.keys()) {
        return Evidence::Works(Work::Processes);
    }
    let grown = |counter: fn(&Counters) -> u64| -> u128 {
        let pairs = before.processes.values().zip(after.processes.values());
        pairs
            .map(|(before, after)| u128::from(counter(after).saturating_sub(counter(before))))
            .sum()
    };
    let elapsed_ms = elapsed.as_millis();
    if grown(|counters| counters.cpu_ms) > LEAST_CPU_MS.max(elapsed_ms / NOISE_OF_ONE_CORE) {
        return Evidence::Works(Work::Cpu);
    }
    if grown(|counters| counters.io_bytes) > LEAST_IO.max(elapsed_ms * NOISE_IO_PER_SECOND / 1000) {
        return Evidence::Works(Work::Io);
    }
    after.waits.map_or(Evidence::Nothing, Evidence::Waits)
}

/// Watches the tree below a process.
#[derive(Debug)]
pub struct TreeWatch {
    owner: u32,
    before: Snapshot,
    at: Instant,
}

impl TreeWatch {
    /// A watch of what is below `owner`, where there is nothing yet.
    pub fn new(owner: u32) -> Self {
        Self {
            owner,
            before: Snapshot::default(),
            at: Instant::now(),
        }
    }

    /// What has happened since the last look, and what the tree uses now. Takes some hundred microseconds for a few
    /// processes; on a machine with very many connections longer.
    pub fn look(&mut self) -> (Evidence, TreeUsage) {
        let mut after = snapshot(self.owner);
        let at = Instant::now();
        let elapsed = at.saturating_duration_since(self.at);
        let mut evidence = compare(&self.before, &after, elapsed);
        if evidence == Evidence::Nothing {
            after.waits = wait_of(&after);
            evidence = compare(&self.before, &after, elapsed);
        }
        let usage = after.usage();
        self.before = after;
        self.at = at;
        (evidence, usage)
    }
}

#[cfg(target_os = "linux")]
use linux::{snapshot, wait_of};

#[cfg(not(target_os = "linux"))]
fn snapshot(_owner: u32) -> Snapshot {
    Snapshot::default()
}

#[cfg(not(target_os = "linux"))]
fn wait_of(_snapshot: &Snapshot) -> Option<Wait> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    fn tree(processes: &[(u32, u64, u64, u64)]) -> Snapshot {
        let counted = |&(pid, start, cpu_ms, io_bytes)| {
            let counters = Counters {
                cpu_ms,
                io_bytes,
                rss_kib: 1,
            };
            ((pid, start), counters)
        };
        Snapshot {
            processes: processes.iter().map(counted).collect(),
            waits: None,
        }
    }

    #[test]
    fn a_process_that_came_or_went_is_work_even_under_a_number_that_is_used_again() {
        let one = tree(&[(5, 100, 0, 0)]);
        let came_or_went = Evidence::Works(Work::Processes);
        let two = tree(&[(5, 100, 0, 0), (6, 101, 0, 0)]);
        assert_eq!(compare(&one, &two, TEN_SECONDS), came_or_went);
        assert_eq!(compare(&two, &one, TEN_SECONDS), came_or_went);
        let again = tree(&[(5, 200, 0, 0)]);
        assert_eq!(compare(&one, &again, TEN_SECONDS), came_or_went);
        assert_eq!(compare(&one, &one, TEN_SECONDS), Evidence::Nothing);
        let none = tree(&[]);
        assert_eq!(compare(&none, &none, TEN_SECONDS), Evidence::Nothing);
    }

    #[test]
    fn processor_time_is_work_beyond_one_percent_of_a_core_for_all_together() {
        let before = tree(&[(5, 1, 1000, 0), (6, 1, 0, 0)]);
        let after = |one: u64, other| tree(&[(5, 1, 1000 + one, 0), (6, 1, other, 0)]);
        let compared = |one, other, elapsed| compare(&before, &after(one, other), elapsed);
        assert_eq!(compared(50, 50, TEN_SECONDS), Evidence::Nothing);
        assert_eq!(compared(50, 60, TEN_SECONDS), Evidence::Works(Work::Cpu));
        let short = Duration::from_millis(100);
        assert_eq!(compared(10, 0, short), Evidence::Nothing);
        assert_eq!(compared(20, 0, short), Evidence::Works(Work::Cpu));
    }

    #[test]
    fn reading_and_writing_is_work_beyond_a_little() {
        let before = tree(&[(5, 1, 0, 7)]);
        let compared =
            |bytes: u64, elapsed| compare(&before, &tree(&[(5, 1, 0, 7 + bytes)]), elapsed);
        assert_eq!(compared(640, TEN_SECONDS), Evidence::Nothing);
        assert_eq!(compared(641, TEN_SECONDS), Evidence::Works(Work::Io));
        assert_eq!(compared(128, Duration::ZERO), Evidence::Nothing);
        assert_eq!(compared(129, Duration::ZERO), Evidence::Works(Work::Io));
    }

    #[test]
    fn counters_that_run_backwards_are_no_work() {
        let before = tree(&[(5, 1, 1000, 1000)]);
        let after = tree(&[(5, 1, 0, 0)]);
        assert_eq!(compare(&before, &after, TEN_SECONDS), Evidence::Nothing);
    }

    #[test]
    fn a_wait_counts_when_there_is_no_work() {
        let idle = tree(&[(5, 1, 0, 0)]);
        let waits = |snapshot| Snapshot {
            waits: Some(Wait::Network),
            ..snapshot
        };
        assert_eq!(
            compare(&idle, &waits(idle.clone()), TEN_SECONDS),
            Evidence::Waits(Wait::Network)
        );
        // Only what is now counts.
        assert_eq!(
            compare(&waits(idle.clone()), &idle, TEN_SECONDS),
            Evidence::Nothing
        );
        let works = waits(tree(&[(5, 1, 500, 0)]));
        assert_eq!(
            compare(&idle, &works, TEN_SECONDS),
            Evidence::Works(Work::Cpu)
        );
    }
}
