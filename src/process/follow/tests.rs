//! What a follower reads, keeps and counts, with small files. A flood is in `executor/output.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::io::Write as _;

use proptest::prelude::*;
use tokio::time::timeout;

use super::*;

const KIB: u64 = 1024;
const LONG: Duration = Duration::from_secs(20);

/// Limits that are reached at once.
fn small(holes: bool) -> Limits {
    Limits {
        cap: 256 * KIB,
        whole: 48 * KIB,
        head: 8 * KIB,
        tail: 16 * KIB,
        lag: 32 * KIB,
        step: 8 * KIB,
        holes,
    }
}

struct Log {
    folder: tempfile::TempDir,
    file: File,
    length: u64,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = append(&folder.path().join("log"));
        Self {
            folder,
            file,
            length: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn follow(&self, limits: Limits) -> Follower {
        Follower::open(&self.path(), limits).unwrap()
    }

    /// Writes bytes that tell where they stand.
    fn write(&mut self, length: u64) {
        let bytes: Vec<u8> = (self.length..self.length + length).map(byte_at).collect();
        self.file.write_all(&bytes).unwrap();
        self.length += length;
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn append(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create(true).append(true).open(path).unwrap()
}

/// Never zero, which is what a hole is read as, and another one after every power of two.
fn byte_at(place: u64) -> u8 {
    u8::try_from(place % 251 + 1).unwrap()
}

/// Reads, and checks that every byte stands where the counts say.
#[derive(Default)]
struct Reader {
    read: u64,
    gaps: u64,
}

impl Reader {
    fn check(&mut self, bytes: &[u8], after_gap: bool, skipped: u64) {
        self.gaps += u64::from(after_gap);
        let begin = self.read + skipped;
        for (place, byte) in (begin..).zip(bytes) {
            assert_eq!(*byte, byte_at(place), "at {place}");
        }
        self.read += bytes.len() as u64;
    }

    /// Takes one chunk, if one comes.
    async fn take(&mut self, follower: &mut Follower, patience: Duration) -> bool {
        let Ok(chunk) = timeout(patience, follower.next()).await else {
            return false;
        };
        let chunk = chunk.unwrap();
        let (bytes, after_gap) = (chunk.bytes.to_vec(), chunk.after_gap);
        self.check(&bytes, after_gap, follower.counts().skipped);
        true
    }

    fn take_rest(&mut self, follower: &mut Follower) {
        let mut rest = follower.rest(LONG).unwrap();
        let mut chunks = Vec::new();
        while let Some(chunk) = rest.chunk().unwrap() {
            chunks.push((chunk.bytes.to_vec(), chunk.after_gap));
        }
        for (bytes, after_gap) in chunks {
            self.check(&bytes, after_gap, follower.counts().skipped);
        }
    }
}

#[tokio::test]
async fn what_two_writers_write_is_read_while_they_write() {
    let log = Log::new();
    let mut follower = log.follow(Limits::default());
    let writers: Vec<_> = ["a", "b"]
        .map(|name| {
            let mut file = append(&log.path());
            std::thread::spawn(move || {
                for number in 0..2000 {
                    file.write_all(format!("{name}{number}\n").as_bytes())
                        .unwrap();
                }
            })
        })
        .into();
    let lines = (0..2000).map(|number| format!("a{number}\nb{number}\n"));
    let length: usize = lines.map(|lines| lines.len()).sum();
    let mut read = Vec::new();
    while read.len() < length {
        let chunk = timeout(LONG, follower.next()).await.unwrap().unwrap();
        assert!(!chunk.after_gap);
        read.extend_from_slice(chunk.bytes);
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(read, std::fs::read(log.path()).unwrap());
    let counts = follower.counts();
    assert_eq!((counts.released, counts.skipped), (0, 0));
    assert_eq!(counts.written, read.len() as u64);
    drop(follower);
    assert_eq!(log.names(), ["log"]);
}

#[tokio::test]
async fn waiting_that_was_dropped_loses_nothing() {
    let mut log = Log::new();
    let mut follower = log.follow(Limits::default());
    let mut reader = Reader::default();
    for _ in 0..50 {
        log.write(1000);
        for patience in [0, 1, 2, 3] {
            let patience = Duration::from_millis(patience);
            reader.take(&mut follower, patience).await;
        }
    }
    while reader.read < log.length {
        assert!(reader.take(&mut follower, LONG).await);
    }
    assert!(!reader.take(&mut follower, Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_file_is_followed_where_nobody_tells_of_it() {
    let mut log = Log::new();
    let mut follower = log.follow(Limits::default());
    follower.ear = Ear::Looking;
    let mut reader = Reader::default();
    log.write(1000);
    assert!(reader.take(&mut follower, LONG).await);
    let came = tokio::join!(reader.take(&mut follower, LONG), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log.write(1000);
    });
    assert!(came.0 && reader.read == 2000);
}

#[tokio::test]
async fn only_regular_files_are_followed() {
    let error = Follower::open(Path::new("/dev/null"), Limits::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_descriptor_is_followed_and_its_name_found() {
    use std::os::fd::AsRawFd as _;
    let mut log = Log::new();
    let descriptor = format!("/proc/self/fd/{}", log.file.as_raw_fd());
    let mut follower = Follower::open(Path::new(&descriptor), Limits::default()).unwrap();
    assert_eq!(follower.path(), log.path().canonicalize().unwrap());
    log.write(10);
    assert!(Reader::default().take(&mut follower, LONG).await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_middle_of_a_large_file_becomes_a_hole() {
    let mut log = Log::new();
    let mut follower = log.follow(small(true));
    let mut reader = Reader::default();
    while log.length < 1024 * KIB {
        log.write(4 * KIB);
        assert!(reader.take(&mut follower, LONG).await);
        let allocated = log.file.metadata().unwrap().blocks() * 512;
        assert!(allocated <= 80 * KIB, "{allocated}");
    }
    reader.take_rest(&mut follower);
    let counts = follower.counts();
    assert_eq!((reader.read, counts.skipped), (log.length, 0));
    let bytes = std::fs::read(log.path()).unwrap();
    let kept = bytes.iter().filter(|byte| **byte != 0);
    let lost = log.length - kept.map(|_| 1).sum::<u64>();
    assert_eq!(lost, counts.released);
    assert!(lost >= (1024 - 48) * KIB, "{lost}");
    for place in (0..8 * KIB).chain(1008 * KIB..1024 * KIB) {
        assert_eq!(bytes[usize::try_from(place).unwrap()], byte_at(place));
    }
    assert_eq!(log.names(), ["log"]);
}

#[tokio::test]
async fn without_holes_the_file_is_cut_down_to_its_head() {
    let mut log = Log::new();
    let mut follower = log.follow(small(false));
    let mut reader = Reader::default();
    while log.length < 1024 * KIB {
        log.write(4 * KIB);
        assert!(reader.take(&mut follower, LONG).await);
        assert!(log.file.metadata().unwrap().len() <= 80 * KIB);
    }
    let counts = follower.counts();
    assert_eq!(
        (reader.read, reader.gaps, counts.skipped),
        (log.length, 0, 0)
    );
    let bytes = std::fs::read(log.path()).unwrap();
    assert_eq!(counts.released + bytes.len() as u64, log.length);
    for (place, byte) in (0..8 * KIB).zip(&bytes) {
        assert_eq!(*byte, byte_at(place));
    }
    let tail = &bytes[8 * 1024..];
    for (place, byte) in (log.length - tail.len() as u64..).zip(tail) {
        assert_eq!(*byte, byte_at(place));
    }
    assert_eq!(log.names(), ["log"]);
}

#[tokio::test]
async fn what_comes_in_one_burst_is_not_skipped_as_long_as_it_may_be_kept() {
    let mut log = Log::new();
    let mut follower = log.follow(small(true));
    log.write(48 * KIB);
    let mut reader = Reader::default();
    reader.take_rest(&mut follower);
    assert_eq!((reader.read, reader.gaps), (48 * KIB, 0));
}

#[tokio::test]
async fn who_lags_too_far_behind_goes_on_near_the_end() {
    let mut log = Log::new();
    let mut follower = log.follow(small(true));
    let mut reader = Reader::default();
    log.write(1024 * KIB);
    assert!(reader.take(&mut follower, LONG).await);
    assert_eq!((reader.read, reader.gaps), (32 * KIB, 1));
    assert_eq!(follower.counts().skipped, (1024 - 32) * KIB);
    // The tail is kept, also of what nobody read.
    assert!(follower.counts().released > 900 * KIB);
    let bytes = std::fs::read(log.path()).unwrap();
    let tail = usize::try_from((1024 - 16) * KIB).unwrap();
    assert!(bytes[tail..].iter().all(|byte| *byte != 0));
}

#[tokio::test]
async fn a_file_that_somebody_shortens_is_read_anew() {
    let mut log = Log::new();
    let mut follower = log.follow(Limits::default());
    log.write(1000);
    let first = timeout(LONG, follower.next()).await.unwrap().unwrap();
    assert_eq!(first.bytes.len(), 1000);
    log.file.set_len(0).unwrap();
    log.file.write_all(b"anew").unwrap();
    let second = timeout(LONG, follower.next()).await.unwrap().unwrap();
    assert_eq!(second.bytes, b"anew");
    assert_eq!(follower.counts().written, 1004);
}

#[tokio::test]
async fn a_writer_that_goes_on_does_not_hold_up_the_end() {
    for holes in [true, false] {
        let mut log = Log::new();
        let path = log.path();
        let mut follower = log.follow(Limits {
            holes,
            ..Limits::default()
        });
        log.write(2 * MIB);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (stop, mut file) = (Arc::clone(&stop), append(&path));
            std::thread::spawn(move || {
                for _ in 0..100_000 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    file.write_all(&[b'x'; 1024]).unwrap();
                }
            })
        };
        let began = Instant::now();
        let mut rest = follower.rest(Duration::ZERO).unwrap();
        let mut read = 0;
        while let Some(chunk) = rest.chunk().unwrap() {
            read += chunk.bytes.len() as u64;
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        // There was no time, so it is the last MiB.
        assert_eq!(read, MIB);
        assert!(follower.counts().skipped >= MIB);
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}

/// How often this thread went to sleep by itself.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let count = status.lines().find_map(|line| {
        line.strip_prefix("voluntary_ctxt_switches:")?
            .trim()
            .parse()
            .ok()
    });
    count.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nothing_runs_while_nothing_is_written() {
    let mut log = Log::new();
    let mut follower = log.follow(Limits::default());
    let mut reader = Reader::default();
    log.write(1000);
    assert!(reader.take(&mut follower, LONG).await);
    let before = sleeps();
    assert!(!reader.take(&mut follower, Duration::from_millis(600)).await);
    // For the event of what was read already, its pause, and the end of the test's own patience.
    let woken = sleeps() - before;
    assert!(woken <= 4, "{woken}");
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..120 * KIB).prop_map(Step::Write),
        (1..9 * KIB).prop_map(Step::Write),
        Just(Step::Take),
        Just(Step::Take),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_byte_is_read_where_it_stood_or_counted(steps in steps(), holes: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut log = Log::new();
            let mut follower = log.follow(small(holes));
            let mut reader = Reader::default();
            for step in steps {
                match step {
                    Step::Write(length) => log.write(length),
                    Step::Take => {
                        reader.take(&mut follower, Duration::from_millis(10)).await;
                    }
                }
            }
            reader.take_rest(&mut follower);
            let counts = follower.counts();
            assert_eq!(counts.written, log.length);
            assert_eq!(reader.read + counts.skipped, counts.written);
            assert_eq!(reader.gaps > 0, counts.skipped > 0);
            // What is released is not in the file, and all else is.
            let mut left = std::fs::read(log.path()).unwrap();
            left.retain(|byte| *byte != 0);
            assert_eq!(counts.released + left.len() as u64, counts.written);
        });
    }
}
