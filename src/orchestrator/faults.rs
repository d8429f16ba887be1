//! Points at which a test ends the orchestrator as a `kill -9` would. Only in builds for tests.
//!
//! There is one before everything that a restart could see a difference of: a record of the journal that is handed in, and
//! an effect that is performed. They are counted from 1 in the order in which they are reached.

use std::fmt::Debug;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The number of the point at which the process is killed.
const KILL_AT: &str = "AI_SDLC_TEST_KILL_AT";
/// A file to which every point that is passed is appended, one line each.
const POINTS: &str = "AI_SDLC_TEST_POINTS";

static PASSED: AtomicU64 = AtomicU64::new(0);

/// Passes the point before something is done, unless it is the one at which the process is killed.
pub(super) fn point(kind: &str, what: &dyn Debug) {
    let number = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    if let Some(path) = std::env::var_os(POINTS).map(PathBuf::from) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{kind} {what:?}"));
        if let Err(error) = written {
            tracing::error!(%error, path = %path.display(), "a point is not written down");
        }
    }
    let kill_at = std::env::var(KILL_AT).ok();
    if kill_at.and_then(|text| text.parse().ok()) == Some(number)
        && let Err(error) = kill_process(getpid(), Signal::KILL)
    {
        tracing::error!(%error, "not killed");
    }
}
