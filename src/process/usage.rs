//! When a tree of processes last wrote anything to where its output goes.

use std::time::{Duration, SystemTime};

/// How long ago anything was written to the file that is this process's standard output, which its children share.
/// None when it is no file, or the clock says nonsense.
pub fn output_idle() -> Option<Duration> {
    let output = rustix::fs::fstat(rustix::stdio::stdout()).ok()?;
    let seconds = u64::try_from(output.st_mtime).ok()?;
    let nanos = u32::try_from(output.st_mtime_nsec).ok()?;
    let written = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))?;
    written.elapsed().ok()
}
