//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What each executor needs in its orchestrator: its connection, the socket on which it makes one, and two descriptors
/// by which its end is seen.
const FILES_PER_EXECUTOR: u64 = 4;
/// What an orchestrator needs besides: its own files, the journal, gits that run at the moment.
const FILES_BESIDES: u64 = 64;

/// The limit on open files that this process was started with. What it starts gets that one again: programs that use
/// `select` break when they see numbers above 1023.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimit {
    inherited: Rlimit,
    most: Option<u64>,
}

impl FileLimit {
    /// Raises the limit as far as this process may.
    pub fn raise() -> Self {
        let inherited = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: inherited.maximum,
            maximum: inherited.maximum,
        };
        let most = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => inherited.maximum,
            Err(error) => {
                // macOS refuses what is beyond a limit of its own.
                tracing::debug!(%error, "the limit on open files stays as it was");
                inherited.current
            }
        };
        Self { inherited, most }
    }

    /// How many executors can be supervised at a time; none when there is no limit.
    pub fn most_executors(&self) -> Option<u64> {
        let left = self.most?.saturating_sub(FILES_BESIDES);
        Some(left / FILES_PER_EXECUTOR)
    }

    /// Gives a child the limit that this process was started with.
    #[cfg(target_os = "linux")]
    pub fn hand_down(&self, child: u32) {
        let pid = super::to_pid(child);
        if let Err(error) = rustix::process::prlimit(pid, Resource::Nofile, self.inherited) {
            tracing::debug!(%error, child, "it keeps a raised limit on open files");
        }
    }

    /// Gives a child the limit that this process was started with, where a system allows that.
    #[cfg(not(target_os = "linux"))]
    pub fn hand_down(&self, _child: u32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_executors_follows_from_the_limit() {
        let limit = |most| FileLimit {
            inherited: Rlimit {
                current: None,
                maximum: None,
            },
            most,
        };
        assert_eq!(limit(Some(1024)).most_executors(), Some(240));
        assert_eq!(limit(Some(10)).most_executors(), Some(0));
        assert_eq!(limit(None).most_executors(), None);
    }
}
