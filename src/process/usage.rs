//! What a tree of processes uses, and when it last wrote anything.

use std::time::{Duration, SystemTime};

use super::evidence::TreeUsage;

/// How long ago anything was written to the file that is this process's standard output, which its children share.
/// None when it is no file, or the clock says nonsense.
pub fn output_idle() -> Option<Duration> {
    let output = rustix::fs::fstat(rustix::stdio::stdout()).ok()?;
    let seconds = u64::try_from(output.st_mtime).ok()?;
    let nanos = u32::try_from(output.st_mtime_nsec).ok()?;
    let written = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))?;
    written.elapsed().ok()
}

/// More processes than this are not looked at: the answer is for a health report, and it must stay cheap.
#[cfg(target_os = "linux")]
const MOST_PROCESSES: u32 = 4096;

/// What the tree below (and with) `root` uses. Empty where the system does not tell.
#[cfg(target_os = "linux")]
pub fn tree_usage(root: u32) -> TreeUsage {
    let page_kib = rustix::param::page_size() as u64 / 1024;
    let tick_ms = 1000 / rustix::param::clock_ticks_per_second().max(1);
    let mut usage = TreeUsage::default();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        // A process that has just ended has no files any more; it is left out.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let Some((ticks, pages)) = parse_stat(&stat) else {
            continue;
        };
        usage.processes += 1;
        usage.cpu_ms += ticks * tick_ms;
        usage.rss_kib += pages * page_kib;
        if usage.processes >= MOST_PROCESSES {
            break;
        }
        open.extend(children(pid));
    }
    usage
}

/// What the tree below (and with) `root` uses. Empty where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn tree_usage(_root: u32) -> TreeUsage {
    TreeUsage::default()
}

/// Processor time in clock ticks and resident memory in pages (`proc_pid_stat(5)`: fields 14, 15 and 24). The name in
/// field 2 may hold anything, so counting starts after its last parenthesis.
#[cfg(target_os = "linux")]
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((number(14)? + number(15)?, number(24)?))
}

#[cfg(target_os = "linux")]
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(Result::ok)
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 0 0 0 0 11 22 0 0 20 0 1 0 5 1000 333 1";
        assert_eq!(parse_stat(stat), Some((33, 333)));
    }

    #[test]
    fn this_process_is_found_and_uses_memory() {
        let usage = tree_usage(std::process::id());
        assert!(usage.processes >= 1 && usage.rss_kib > 0);
    }
}
