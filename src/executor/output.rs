//! The output of an agent: followed, told as activity, and kept small.
//!
//! Owns the task that reads one file while an agent writes to it. It gives every line to whoever understands the agent,
//! the last complete line as the activity (at most once a second), and the counts for health reports. Promises to end
//! within a quarter of a second after it is told that the agent is gone, whoever may still hold the file open, and to
//! say in the log what was not kept. It does not start agents and knows nothing of what their lines mean.

use std::io;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::lines::{LONGEST_LINE, Line, LineSplitter};
use crate::process::{Counts, Follower, Limits};
use crate::protocol::Activity;

/// The shortest time between two activities.
const ACTIVITY_INTERVAL: Duration = Duration::from_secs(1);

/// How long reading what is left may take when the agent is gone. A leaker may still be writing.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// What is kept of a line as the activity: an activity is shorter, and some of a line may be invisible.
const KEPT_OF_LINE: usize = 4 * 1024;

/// What is known of an output.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The last complete line that is not blank, as it was at most a second ago.
    pub(super) activity: Option<Activity>,
    /// What became of the bytes, up to now.
    pub(super) counts: Counts,
}

/// An output that is followed. When this is dropped the file is no longer followed, after a last look at it.
#[derive(Debug)]
pub(super) struct Output {
    seen: watch::Receiver<Seen>,
    /// Never used: that it is gone tells the task to come to its end.
    open: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Output {
    /// Follows a file in a task of its own. Every line, of at most so many bytes, is given to `line`, which must not take long.
    pub(super) fn follow(
        follower: Follower,
        longest_line: usize,
        line: impl FnMut(Line<'_>) + Send + 'static,
    ) -> Self {
        let (sender, seen) = watch::channel(Seen {
            activity: None,
            counts: follower.counts(),
        });
        let (open, closed) = oneshot::channel();
        let reading = Reading {
            lines: LineSplitter::new(longest_line),
            line,
            latest: Latest::default(),
            due: Instant::now(),
            sender,
        };
        Self {
            seen,
            open,
            task: tokio::spawn(reading.work(follower, closed)),
        }
    }

    /// Follows what this process and its children write to its standard output, when that is a file. The orchestrator
    /// has opened it for reading, too.
    pub(super) fn of_this_process(line: impl FnMut(Line<'_>) + Send + 'static) -> Self {
        match Follower::of_own_output(Limits::default()) {
            Ok(follower) => Self::follow(follower, LONGEST_LINE, line),
            Err(error) => {
                tracing::warn!(%error, "the output is not followed");
                Self::of_nothing()
            }
        }
    }

    /// An output of which nothing is known.
    pub(super) fn of_nothing() -> Self {
        let (_, seen) = watch::channel(Seen {
            activity: None,
            counts: Counts {
                written: 0,
                released: 0,
                skipped: 0,
                grew: std::time::Instant::now(),
            },
        });
        let (open, _) = oneshot::channel();
        Self {
            seen,
            open,
            task: tokio::spawn(std::future::ready(())),
        }
    }

    /// What is known. A change of it is notified for every new activity, and not for counts alone.
    pub(super) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Reads what is left, without waiting for more. The agent is gone.
    pub(super) async fn end(self) -> Seen {
        drop(self.open);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the output was not followed to its end");
        }
        self.seen.borrow().clone()
    }
}

/// What the task needs for every chunk.
struct Reading<F> {
    lines: LineSplitter,
    line: F,
    latest: Latest,
    /// The earliest time for the next activity.
    due: Instant,
    sender: watch::Sender<Seen>,
}

/// The last line that is worth to be told.
#[derive(Debug, Default)]
struct Latest {
    line: Vec<u8>,
    is_new: bool,
}

impl Latest {
    fn take(&mut self, line: Line<'_>) {
        let begin = &line.bytes[..line.bytes.len().min(KEPT_OF_LINE)];
        if !begin.trim_ascii().is_empty() {
            self.line.clear();
            self.line.extend_from_slice(begin);
            self.is_new = true;
        }
    }
}

impl<F: FnMut(Line<'_>)> Reading<F> {
    async fn work(mut self, mut follower: Follower, mut closed: oneshot::Receiver<()>) {
        let read = self.read(&mut follower, &mut closed).await;
        if let Err(error) = read {
            tracing::warn!(%error, path = %follower.path().display(), "output is no longer followed");
        }
        self.lines.finish(|line| {
            self.latest.take(line);
            (self.line)(line);
        });
        self.tell(follower.counts(), true);
        let Counts {
            written,
            released,
            skipped,
            ..
        } = follower.counts();
        if released > 0 || skipped > 0 {
            tracing::warn!(
                path = %follower.path().display(),
                "of {written} bytes of output {released} are not kept and {skipped} were not read"
            );
        }
    }

    async fn read(
        &mut self,
        follower: &mut Follower,
        closed: &mut oneshot::Receiver<()>,
    ) -> io::Result<()> {
        loop {
            // All three can be dropped and taken up again.
            tokio::select! {
                biased;
                _ = &mut *closed => break,
                () = sleep_until(self.due), if self.latest.is_new => {}
                chunk = follower.next() => {
                    let chunk = chunk?;
                    self.take(chunk.bytes, chunk.after_gap);
                }
            }
            self.tell(follower.counts(), false);
        }
        let mut rest = follower.rest(LAST_LOOK)?;
        while let Some(chunk) = rest.chunk()? {
            self.take(chunk.bytes, chunk.after_gap);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], after_gap: bool) {
        if after_gap {
            self.lines.resync();
        }
        self.lines.feed(bytes, |line| {
            self.latest.take(line);
            (self.line)(line);
        });
    }

    /// Updates the counts, and the activity when there is a new one whose time has come.
    fn tell(&mut self, counts: Counts, is_last: bool) {
        let now = Instant::now();
        let activity = self.latest.is_new && (is_last || now >= self.due);
        self.sender.send_if_modified(|seen| {
            seen.counts = counts;
            if activity {
                let text = String::from_utf8_lossy(&self.latest.line);
                seen.activity = Some(Activity::new(&text));
            }
            activity
        });
        if activity {
            self.latest.is_new = false;
            self.due = now + ACTIVITY_INTERVAL;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex, PoisonError};

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const MIB: u64 = 1024 * 1024;
    const FLOOD: u64 = 1024 * MIB;

    fn append(path: &Path) -> File {
        let mut options = OpenOptions::new();
        options.create(true).append(true).open(path).unwrap()
    }

    fn sh(script: &str, output: File) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command.stdout(output).spawn().unwrap()
    }

    async fn until(output: &Output, wanted: &str) {
        let mut seen = output.seen();
        let has_come = |seen: &Seen| {
            let activity = seen.activity.as_ref();
            activity.is_some_and(|activity| activity.to_string() == wanted)
        };
        let came = timeout(LONG, seen.wait_for(has_come)).await;
        drop(came.unwrap().unwrap());
    }

    #[tokio::test]
    async fn the_last_line_is_the_activity_and_every_line_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut file = append(&path);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let output = {
            let lines = Arc::clone(&lines);
            let follower = Follower::open(&path, Limits::default()).unwrap();
            Output::follow(follower, LONGEST_LINE, move |line| {
                let text = String::from_utf8_lossy(line.bytes).into_owned();
                lines.lock().unwrap().push(text);
            })
        };
        file.write_all(b"one\ntwo\n  \nthr").unwrap();
        until(&output, "two").await;
        let began = Instant::now();
        file.write_all(b"ee\nfour\x1b[1m!\n").unwrap();
        until(&output, "four!").await;
        assert!(began.elapsed() >= Duration::from_millis(800));
        file.write_all(b"five").unwrap();
        let seen = output.end().await;
        assert_eq!(seen.activity, Some(Activity::new("five")));
        assert_eq!((seen.counts.released, seen.counts.skipped), (0, 0));
        let lines = lines.lock().unwrap();
        assert_eq!(
            *lines,
            ["one", "two", "  ", "three", "four\x1b[1m!", "five"]
        );
    }

    #[tokio::test]
    async fn an_endless_line_is_told_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut child = sh("head -c 8000000 /dev/zero | tr '\\0' x", append(&path));
        let follower = Follower::open(&path, Limits::default()).unwrap();
        let output = Output::follow(follower, LONGEST_LINE, |line| {
            assert!(line.bytes.len() <= LONGEST_LINE);
        });
        child.wait().unwrap();
        until(&output, &format!("{}…", "x".repeat(199))).await;
        let seen = output.end().await;
        assert_eq!((seen.counts.written, seen.counts.skipped), (8_000_000, 0));
    }

    #[tokio::test]
    async fn a_leaker_does_not_hold_up_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut child = sh("exec yes leaking", append(&path));
        let follower = Follower::open(&path, Limits::default()).unwrap();
        let output = Output::follow(follower, LONGEST_LINE, |_| {});
        until(&output, "leaking").await;
        assert!(output.seen().borrow().counts.grew.elapsed() < Duration::from_secs(10));
        let began = Instant::now();
        let seen = output.end().await;
        let took = began.elapsed();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            seen.counts.written > 0 && took < Duration::from_secs(2),
            "{took:?}"
        );
    }

    /// Names the part of this process when it is started by the test itself: what it uses is then its own.
    const PART: &str = "OUTPUT_TEST_PART";

    /// One after the other: each takes all that a processor can give.
    static TURN: Mutex<()> = Mutex::new(());

    fn in_a_process_of_its_own(test: &str, part: impl FnOnce()) {
        if std::env::var_os(PART).is_some() {
            return part();
        }
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(PART, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{errors}");
        assert!(said.contains("1 passed"), "{said}");
    }

    fn resident() -> u64 {
        let memory = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages = memory.split(' ').nth(1).unwrap();
        pages.parse::<u64>().unwrap() * 4096
    }

    struct Most {
        allocated: u64,
        at_the_end: u64,
        /// More than before it.
        memory: u64,
        samples: u64,
    }

    /// Lets a script write a flood, and checks what was used at any time of it. On a machine that is busy with other
    /// things the reader may not get a processor for as long as a flood needs to reach the cap, so it may try again.
    fn flood(script: &str, limits: Limits) -> Seen {
        for attempt in 1.. {
            let (most, seen) = one_flood(script, limits);
            let (memory, allocated) = (most.memory, most.allocated);
            assert!(most.samples > 20 && memory < 8 * MIB, "{memory}");
            assert!(most.at_the_end <= limits.cap);
            if allocated <= limits.cap {
                return seen;
            }
            assert!(attempt < 4, "{allocated}");
        }
        unreachable!()
    }

    /// Lets a script write a flood, and gives the most that was used at any time of it.
    fn one_flood(script: &str, limits: Limits) -> (Most, Seen) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = append(&path);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let before = resident();
        runtime.block_on(async {
            let follower = Follower::open(&path, limits).unwrap();
            let output = Output::follow(follower, LONGEST_LINE, |_| {});
            let mut child = sh(script, log.try_clone().unwrap());
            let watched = tokio::task::spawn_blocking(move || {
                let mut most = Most {
                    allocated: 0,
                    at_the_end: 0,
                    memory: 0,
                    samples: 0,
                };
                while child.try_wait().unwrap().is_none() {
                    let allocated = log.metadata().unwrap().blocks() * 512;
                    most.allocated = most.allocated.max(allocated);
                    most.memory = most.memory.max(resident().saturating_sub(before));
                    most.samples += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                most
            });
            let mut most = watched.await.unwrap();
            let seen = output.end().await;
            most.at_the_end = path.metadata().unwrap().blocks() * 512;
            (most, seen)
        })
    }

    #[test]
    fn a_flood_fills_neither_memory_nor_disk() {
        let test = "executor::output::tests::a_flood_fills_neither_memory_nor_disk";
        in_a_process_of_its_own(test, || {
            let script =
                format!("yes 'one line of very many' | head -c {FLOOD}; printf '\\nend\\n'");
            let seen = flood(&script, Limits::default());
            assert_eq!(seen.counts.written, FLOOD + 5);
            assert!(seen.counts.released > 900 * MIB);
            assert_eq!(seen.activity, Some(Activity::new("end")));
        });
    }

    #[test]
    fn a_flood_fills_nothing_where_there_are_no_holes() {
        let test = "executor::output::tests::a_flood_fills_nothing_where_there_are_no_holes";
        in_a_process_of_its_own(test, || {
            // What is written in the moment of cutting is lost: not the last line, after a pause.
            let script =
                "dd if=/dev/zero bs=1M count=1024 2>/dev/null; sleep 0.3; printf '\\nend\\n'";
            let limits = Limits {
                holes: false,
                ..Limits::default()
            };
            let seen = flood(script, limits);
            assert!(seen.counts.released > FLOOD / 2);
            assert_eq!(seen.activity, Some(Activity::new("end")));
        });
    }
}
