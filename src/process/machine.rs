//! How much memory and how many processors this process may have, with what it starts.

use std::num::NonZeroUsize;

/// What there is of a machine for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Memory in bytes, less where a group of processes has less; none where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// Processors, less where a group or an affinity gives less; none where the system does not tell.
    pub processors: Option<NonZeroUsize>,
}

impl Machine {
    /// The one that this process runs on.
    pub fn this() -> Self {
        Self {
            memory_bytes: memory(),
            processors: std::thread::available_parallelism().ok(),
        }
    }
}

#[cfg(target_os = "linux")]
fn memory() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = total(&told);
    total.into_iter().chain(super::cgroup::most_memory()).min()
}

#[cfg(not(target_os = "linux"))]
fn memory() -> Option<u64> {
    None
}

/// The memory of the machine, by the text in which Linux says it.
#[cfg(target_os = "linux")]
fn total(told: &str) -> Option<u64> {
    let total = told
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibi: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibi.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_machine_is_what_the_system_says() {
        let told = "MemTotal:       16316412 kB\nMemFree:          100 kB\n";
        assert_eq!(total(told), Some(16_316_412 * 1024));
        assert_eq!(total("MemTotal: many kB"), None);
        assert_eq!(total(""), None);
    }

    #[test]
    fn this_machine_has_some() {
        let this = Machine::this();
        assert!(this.memory_bytes > Some(1 << 20), "{this:?}");
        assert!(this.processors.is_some());
    }
}
