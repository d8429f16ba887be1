//! What `/proc` tells of a tree of processes. A process that ends while it is looked at is left out, and so is what
//! may not be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::table::{self, Entry, State};
use super::{Counters, Identity, Snapshot, Wait, sockets};

/// More processes than this are not looked at, nor more threads.
const MOST: usize = 4096;

/// The tree below `owner`.
pub(super) fn snapshot(owner: u32) -> Snapshot {
    let page_kib = rustix::param::page_size() as u64 / 1024;
    let tick_ms = 1000 / rustix::param::clock_ticks_per_second().max(1);
    let mut processes: BTreeMap<Identity, Counters> = BTreeMap::new();
    let mut open = table::children(owner);
    while let Some(pid) = open.pop() {
        if processes.len() >= MOST {
            break;
        }
        let Some(entry) = Entry::read_any(pid) else {
            continue;
        };
        let io = read(format!("/proc/{pid}/io"));
        let counters = Counters {
            cpu_ms: entry.used * tick_ms,
            io_bytes: io.map_or(0, |text| parse_io(&text)),
            rss_kib: entry.resident * page_kib,
        };
        processes.insert((pid, entry.started), counters);
        open.extend(table::children(pid));
    }
    Snapshot {
        processes,
        waits: None,
    }
}

/// What a tree waits for: the kind of which one would want to know first.
pub(super) fn wait_of(snapshot: &Snapshot) -> Option<Wait> {
    let pids = || snapshot.processes.keys().map(|(pid, _)| *pid);
    let (mut threads, mut sleeps) = (0, false);
    for pid in pids() {
        for task in threads_of(pid) {
            threads += 1;
            if threads > MOST {
                break;
            }
            if is_in_disk_wait(&task) {
                return Some(Wait::Disk);
            }
            sleeps = sleeps || has_time_limit(&task);
        }
        sleeps = sleeps || has_timer(pid);
    }
    let found = sockets::look(pids());
    if found.connected {
        Some(Wait::Network)
    } else {
        (sleeps || found.timer).then_some(Wait::Sleep)
    }
}

pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The folders of the threads of a process.
fn threads_of(pid: u32) -> Vec<PathBuf> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(Result::ok)
        .map(|task| task.path())
        .collect()
}

/// `proc_pid_io(5)`: all bytes together.
fn parse_io(io: &str) -> u64 {
    let counted = ["rchar", "wchar", "read_bytes", "write_bytes"];
    io.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| counted.contains(name))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

fn is_in_disk_wait(task: &Path) -> bool {
    Entry::read_in(task).is_some_and(|entry| entry.state == State::InDiskWait)
}

/// Whether a process has a POSIX timer. Whether it is armed is not told.
fn has_timer(pid: u32) -> bool {
    read(format!("/proc/{pid}/timers")).is_some_and(|timers| !timers.is_empty())
}

/// Whether a thread is in a system call that ends by itself.
fn has_time_limit(task: &Path) -> bool {
    match read(task.join("syscall")).and_then(|text| parse_call(&text)) {
        Some(call) => is_timed(&call),
        // Where arguments may not be read, the name of the place still tells of sleeps, though not of time limits.
        None => read(task.join("wchan")).is_some_and(|place| place.contains("nanosleep")),
    }
}

/// A system call that a thread is in: its number and its arguments.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    number: u64,
    arguments: [u64; 6],
}

/// `proc_pid_syscall(5)`: nothing of a thread that runs.
fn parse_call(text: &str) -> Option<Call> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        let word = words.next()?.strip_prefix("0x")?;
        *argument = u64::from_str_radix(word, 16).ok()?;
    }
    Some(Call { number, arguments })
}

/// How a system call says how long it waits.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// It always ends.
    Always,
    /// In milliseconds in this argument; negative for without end.
    Millis(usize),
    /// By a pointer in this argument; none for without end.
    Pointer(usize),
}

use Limit::{Always, Millis, Pointer};

/// The numbers of the calls that can wait with a limit (`syscalls(2)`; the kernel's `syscall_64.tbl`).
#[cfg(target_arch = "x86_64")]
const TIMED: &[(u64, Limit)] = &[
    (35, Always),      // nanosleep
    (230, Always),     // clock_nanosleep
    (219, Always),     // restart_syscall: one of those with a limit, after a SIGSTOP and a SIGCONT
    (7, Millis(2)),    // poll
    (232, Millis(3)),  // epoll_wait
    (281, Millis(3)),  // epoll_pwait
    (441, Pointer(3)), // epoll_pwait2
    (271, Pointer(2)), // ppoll
    (23, Pointer(4)),  // select
    (270, Pointer(4)), // pselect6
    (202, Pointer(3)), // futex
    (449, Pointer(3)), // futex_waitv
    (455, Pointer(4)), // futex_wait
    (128, Pointer(2)), // rt_sigtimedwait
    (220, Pointer(3)), // semtimedop
    (208, Pointer(4)), // io_getevents
];

/// The same (the kernel's `asm-generic/unistd.h`).
#[cfg(target_arch = "aarch64")]
const TIMED: &[(u64, Limit)] = &[
    (101, Always),     // nanosleep
    (115, Always),     // clock_nanosleep
    (128, Always),     // restart_syscall
    (22, Millis(3)),   // epoll_pwait
    (441, Pointer(3)), // epoll_pwait2
    (73, Pointer(2)),  // ppoll
    (72, Pointer(4)),  // pselect6
    (98, Pointer(3)),  // futex
    (449, Pointer(3)), // futex_waitv
    (455, Pointer(4)), // futex_wait
    (137, Pointer(2)), // rt_sigtimedwait
    (192, Pointer(3)), // semtimedop
    (4, Pointer(4)),   // io_getevents
];

/// Elsewhere the numbers are not known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const TIMED: &[(u64, Limit)] = &[];

fn is_timed(call: &Call) -> bool {
    let limit = TIMED.iter().find(|(number, _)| *number == call.number);
    limit.is_some_and(|(_, limit)| match *limit {
        Always => true,
        // An `int`: its upper half may hold anything, and its highest bit is its sign.
        Millis(index) => call.arguments[index] & 0x8000_0000 == 0,
        Pointer(index) => call.arguments[index] != 0,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::super::{Evidence, TreeWatch, Work};
    use super::*;
    use crate::process::{Ending, signal_group};

    /// How long anything may take that a test waits for.
    const DEADLINE: Duration = Duration::from_secs(30);
    /// The time between two looks.
    const WINDOW: Duration = Duration::from_millis(300);

    /// A shell, and the tree below it.
    struct Tree {
        shell: Child,
        watch: TreeWatch,
    }

    impl Tree {
        fn grow(script: &str, input: Stdio) -> Self {
            let shell = Command::new("sh")
                .args(["-c", script])
                .stdin(input)
                .process_group(0)
                .spawn()
                .unwrap();
            let watch = TreeWatch::new(shell.id());
            Self { shell, watch }
        }

        /// What is seen as soon as nothing comes and goes any more and there is somebody to look at.
        fn settled(&mut self) -> Evidence {
            let began = Instant::now();
            let mut last = None;
            loop {
                std::thread::sleep(WINDOW);
                let (evidence, usage) = self.watch.look();
                let started = usage.processes > 0 && evidence != Evidence::Works(Work::Processes);
                // Twice, because a program that starts works at first.
                if started && last == Some(evidence) {
                    return evidence;
                }
                last = started.then_some(evidence);
                assert!(began.elapsed() < DEADLINE, "{evidence:?}, {usage:?}");
            }
        }

        fn is_settled_as(&mut self, expected: Evidence) {
            let began = Instant::now();
            loop {
                let seen = self.settled();
                if seen == expected {
                    return;
                }
                assert!(began.elapsed() < DEADLINE, "{seen:?} and not {expected:?}");
            }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            // Its number is its own only as long as nobody has waited for it, and what it has started outlives it: so
            // before the end of its input ends it.
            if matches!(self.shell.try_wait(), Ok(None)) {
                signal_group(self.shell.id(), Ending::Kill);
            }
            drop(self.shell.wait());
        }
    }

    // A shell does not become its last command when another one follows.

    #[test]
    fn a_sleep_waits() {
        let mut tree = Tree::grow("sleep 1000; :", Stdio::null());
        tree.is_settled_as(Evidence::Waits(Wait::Sleep));
    }

    #[test]
    fn what_has_a_time_limit_waits_although_it_reads_what_nobody_writes() {
        let mut tree = Tree::grow("timeout 1000 cat; :", Stdio::piped());
        tree.is_settled_as(Evidence::Waits(Wait::Sleep));
    }

    #[test]
    fn a_busy_loop_works() {
        let mut tree = Tree::grow("sh -c 'while :; do :; done'; :", Stdio::null());
        tree.is_settled_as(Evidence::Works(Work::Cpu));
    }

    #[test]
    fn copying_works() {
        // Two shells, no program that comes and goes, and little processor time; a line of 2 KiB every 50 ms.
        let mut tree = Tree::grow("cat > /dev/null; :", Stdio::piped());
        let mut input = tree.shell.stdin.take().unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            let line = [b'x'; 2048];
            while stopped.recv_timeout(Duration::from_millis(50)).is_err() {
                input.write_all(&line).unwrap();
            }
        });
        tree.is_settled_as(Evidence::Works(Work::Io));
        stop.send(()).unwrap();
        writer.join().unwrap();
    }

    #[test]
    fn to_read_what_nobody_writes_is_no_evidence() {
        let mut tree = Tree::grow("cat; :", Stdio::piped());
        tree.is_settled_as(Evidence::Nothing);
    }

    #[test]
    fn a_connection_that_says_nothing_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap();
        let mut tree = Tree::grow("cat; :", Stdio::from(OwnedFd::from(near)));
        tree.is_settled_as(Evidence::Waits(Wait::Network));
        drop(far);
    }

    #[test]
    fn a_connection_within_the_tree_is_no_evidence() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let shell = Command::new("sh")
            .args(["-c", "cat; :"])
            .stdin(Stdio::from(OwnedFd::from(near)))
            .stdout(Stdio::from(OwnedFd::from(far)))
            .process_group(0)
            .spawn()
            .unwrap();
        let watch = TreeWatch::new(shell.id());
        Tree { shell, watch }.is_settled_as(Evidence::Nothing);
    }

    #[test]
    fn what_the_owner_uses_is_not_counted() {
        let mut tree = Tree::grow("cat & read -r _; :", Stdio::piped());
        let mut watch = TreeWatch::new(std::process::id());
        let (_, usage) = watch.look();
        assert!(usage.processes >= 1 && usage.rss_kib > 0, "{usage:?}");
        let (_, of_shell) = tree.watch.look();
        assert!(of_shell.processes <= 1, "{of_shell:?}");
    }

    #[test]
    fn bytes_of_all_kinds_are_counted_together() {
        let io = "rchar: 1\nwchar: 20\nsyscr: 7\nsyscw: 8\nread_bytes: 300\nwrite_bytes: 4000\n\
                  cancelled_write_bytes: 5\n";
        assert_eq!(parse_io(io), 4321);
        assert_eq!(parse_io("nonsense"), 0);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_with_a_limit_are_told_from_those_without() {
        let is_timed = |text| parse_call(text).is_some_and(|call| is_timed(&call));
        for timed in [
            "230 0x0 0x0 0x7ffd 0x7ffe 0x0 0x0 0x7fff 0x7f2e",
            "7 0x7ffd 0x1 0x1388 0x0 0x0 0x0 0x7fff 0x7f2e",
            "281 0x9 0x7ffd 0x400 0x3e8 0x0 0x8 0x7fff 0x7f2e",
            "202 0x7ffd 0x189 0x0 0x7ffe 0x0 0xffffffff 0x7fff 0x7f2e",
        ] {
            assert!(is_timed(timed), "{timed}");
        }
        for endless in [
            "running",
            "-1 0x7fff 0x7f2e",
            "0 0x0 0x7ffd 0x1000 0x0 0x0 0x0 0x7fff 0x7f2e",
            "7 0x7ffd 0x1 0xffffffff 0x0 0x0 0x0 0x7fff 0x7f2e",
            "232 0x9 0x7ffd 0x400 0xffffffffffffffff 0x0 0x8 0x7fff 0x7f2e",
            "202 0x7ffd 0x189 0x0 0x0 0x0 0xffffffff 0x7fff 0x7f2e",
            "61 0xffffffff 0x7ffd 0x0 0x0 0x0 0x0 0x7fff 0x7f2e",
        ] {
            assert!(!is_timed(endless), "{endless}");
        }
    }

    #[test]
    fn a_look_at_a_small_tree_is_cheap() {
        let script = "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & read -r _";
        let mut tree = Tree::grow(script, Stdio::piped());
        while tree.watch.look().1.processes < 5 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let fastest = |look: &mut dyn FnMut()| {
            let once = |look: &mut dyn FnMut()| {
                let began = Instant::now();
                look();
                began.elapsed()
            };
            (0..20).map(|_| once(look)).min().unwrap()
        };
        let owner = tree.shell.id();
        let counted = fastest(&mut || drop(snapshot(owner)));
        let looked = fastest(&mut || {
            tree.watch.look();
        });
        // Measured: a hundredth of that.
        assert!(looked < Duration::from_millis(50), "{counted:?} {looked:?}");
    }

    #[test]
    fn this_kernel_tells_what_is_asked() {
        let mut text = String::new();
        let mut file = fs::File::open("/proc/self/syscall").unwrap();
        file.read_to_string(&mut text).unwrap();
        assert!(parse_call(&text).is_some(), "{text}");
    }
}
