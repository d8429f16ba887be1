//! Groups of processes (cgroup v2), where the system lets this test make any.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the end of what is in a group may take.
const ENDING: Duration = Duration::from_secs(10);

/// Whether a group can be made here, a process be moved into it, and it be killed there. Says so where not.
pub(crate) fn can_be_made() -> bool {
    static MADE: OnceLock<bool> = OnceLock::new();
    let made = *MADE.get_or_init(try_to_make);
    if !made {
        let skipped = b"skipped: no group of processes can be made here\n";
        std::io::stderr().write_all(skipped).unwrap();
    }
    made
}

fn try_to_make() -> bool {
    own().is_some_and(|own| {
        let group = own.join(format!("ai-sdlc-test-{}", std::process::id()));
        if fs::create_dir(&group).is_err() {
            return false;
        }
        let mut sleep = Command::new("sleep");
        let mut child = sleep.arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let moved = fs::write(group.join("cgroup.procs"), child.id().to_string()).is_ok();
        let can_kill = group.join("cgroup.kill").exists();
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir(&group).unwrap();
        moved && can_kill
    })
}

/// The group of this test. Written for the usual places alone.
fn own() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let name = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let mut own = places.iter().map(|place| Path::new(place).join(name));
    own.find(|own| own.join("cgroup.procs").exists())
}

/// The groups that the runs of a board have noted and not removed.
pub(crate) fn noted(runs: &Path) -> Vec<PathBuf> {
    let notes = super::names_in(runs)
        .into_iter()
        .map(|run| runs.join(run).join("cgroup"));
    notes
        .filter_map(|note| fs::read_to_string(note).ok())
        .map(|path| PathBuf::from(path.trim()))
        // One that was killed may have noted half of it.
        .filter(|path| path.is_absolute())
        .collect()
}

/// Ends what is in a group and removes it.
pub(crate) fn clear(group: &Path) {
    let began = Instant::now();
    while group.exists() && began.elapsed() < ENDING {
        // It may be gone by now.
        drop(fs::write(group.join("cgroup.kill"), "1"));
        for name in super::names_in(group) {
            drop(fs::remove_dir(group.join(name)));
        }
        if fs::remove_dir(group).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
