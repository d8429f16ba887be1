//! Finding processes that an executor or a run has left behind, and ending or waiting for them.
//!
//! A process is only signalled through a descriptor of it (pidfd) that was opened before it was looked at, so that a
//! number that changed hands in between is never hit. Only Linux tells what is asked here; elsewhere nothing is found.

use std::time::{Duration, Instant};

/// A process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// How often the list of processes is read again while it still names some. Each round takes what has been started
/// since the last one.
#[cfg(target_os = "linux")]
const MOST_ROUNDS: usize = 100;

/// Kills every process of a session but its leader, until none is left. The caller holds the leader unreaped, so that
/// its number still means this session. Gives those that were ended.
#[cfg(target_os = "linux")]
pub fn kill_session(leader: u32) -> Vec<Found> {
    let mut ended: Vec<Found> = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let members =
            linux::processes(|process| process.session == leader && process.pid != leader);
        if members.is_empty() {
            break;
        }
        for member in members {
            member.kill();
            member.wait(Duration::from_millis(100));
            if !ended.iter().any(|found| found.pid == member.found.pid) {
                ended.push(member.found);
            }
        }
    }
    ended
}

/// Kills every process of a session but its leader. Gives those that were ended.
#[cfg(not(target_os = "linux"))]
pub fn kill_session(_leader: u32) -> Vec<Found> {
    Vec::new()
}

/// Waits until no process of any run works in `folder` any more: none that carries the mark of a run in its
/// environment and has its working directory there. A person's shell or editor in the folder does not count. Blocks.
///
/// # Errors
/// Those that are still there when the time is up.
#[cfg(target_os = "linux")]
pub fn wait_until_left(
    folder: &std::path::Path,
    mark: &str,
    patience: Duration,
) -> Result<(), Vec<Found>> {
    let deadline = Instant::now() + patience;
    loop {
        let there = linux::processes(|process| process.is_marked(mark) && process.is_in(folder));
        let Some(first) = there.first() else {
            return Ok(());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(there.into_iter().map(|handle| handle.found).collect());
        }
        first.wait(left);
    }
}

/// Waits until no process of any run works in `folder` any more.
#[cfg(not(target_os = "linux"))]
pub fn wait_until_left(
    _folder: &std::path::Path,
    _mark: &str,
    _patience: Duration,
) -> Result<(), Vec<Found>> {
    let _: Instant = Instant::now();
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    use super::super::to_pid;
    use super::Found;

    /// A process as `/proc` shows it.
    pub(super) struct Process {
        pub(super) pid: u32,
        pub(super) session: u32,
        name: String,
    }

    /// A process that is held, so that it can be signalled and waited for.
    pub(super) struct Handle {
        pub(super) found: Found,
        descriptor: OwnedFd,
    }

    impl Process {
        fn read(pid: u32) -> Option<Self> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (front, rest) = stat.rsplit_once(')')?;
            let (_, name) = front.split_once('(')?;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            // Fields 3 and 6 of proc_pid_stat(5). A zombie has ended; only its parent has to be told.
            if matches!(fields.first(), Some(&"Z" | &"X")) {
                return None;
            }
            Some(Self {
                pid,
                session: fields.get(3)?.parse().ok()?,
                name: name.chars().filter(|c| !c.is_control()).collect(),
            })
        }

        pub(super) fn is_marked(&self, mark: &str) -> bool {
            let environment = std::fs::read(format!("/proc/{}/environ", self.pid));
            environment.is_ok_and(|bytes| {
                bytes
                    .split(|byte| *byte == 0)
                    .any(|variable| variable.starts_with(mark.as_bytes()))
            })
        }

        pub(super) fn is_in(&self, folder: &Path) -> bool {
            let current = std::fs::read_link(format!("/proc/{}/cwd", self.pid));
            // The kernel marks a folder that was removed.
            current.is_ok_and(|path| {
                let bytes = path.as_os_str().as_bytes();
                let kept = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
                Path::new(std::ffi::OsStr::from_bytes(kept)).starts_with(folder)
            })
        }
    }

    impl Handle {
        pub(super) fn kill(&self) {
            if let Err(error) = pidfd_send_signal(&self.descriptor, Signal::KILL) {
                tracing::debug!(%error, pid = self.found.pid, "not killed");
            }
        }

        /// Waits for its end, at most that long.
        pub(super) fn wait(&self, patience: Duration) {
            let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::IN)];
            let timeout = Timespec::try_from(patience).ok();
            if let Err(error) = poll(&mut descriptors, timeout.as_ref()) {
                tracing::debug!(%error, pid = self.found.pid, "not waited for");
            }
        }
    }

    /// The living processes that `wanted` picks.
    pub(super) fn processes(wanted: impl Fn(&Process) -> bool) -> Vec<Handle> {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| hold(pid, &wanted))
            .collect()
    }

    fn hold(pid: u32, wanted: impl Fn(&Process) -> bool) -> Option<Handle> {
        // Most are not wanted: they are looked at once before anything is opened.
        if !wanted(&Process::read(pid)?) {
            return None;
        }
        let descriptor = pidfd_open(to_pid(pid)?, PidfdFlags::empty()).ok()?;
        // What is looked at now is what the descriptor holds: had that process ended, its number would be free or
        // somebody else's, and the look that follows would not want it.
        let process = Process::read(pid)?;
        wanted(&process).then(|| Handle {
            found: Found {
                pid,
                name: process.name,
            },
            descriptor,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// A process that ends with the test, however that ends.
    struct Started(std::process::Child);

    impl Drop for Started {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// Starts a shell and waits until it has said a line.
    fn started(command: &mut Command) -> (Started, String) {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Started(command.spawn().unwrap());
        let mut line = String::new();
        let stdout = child.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        (child, line.trim().to_owned())
    }

    #[test]
    fn what_is_left_of_a_session_is_killed_and_its_leader_is_not() {
        // `setsid` makes the shell a session leader.
        let script = "sleep 1000 >/dev/null & echo $$; kill -STOP $$";
        let (leader, line) = started(Command::new("setsid").args(["-w", "sh", "-c", script]));
        let session: u32 = line.parse().unwrap();
        assert_eq!(session, leader.0.id());
        let ended = kill_session(session);
        assert_eq!(ended.len(), 1, "{ended:?}");
        assert_ne!(ended[0].pid, session);
        assert_eq!(kill_session(session), []);
    }

    #[test]
    fn only_marked_processes_in_the_folder_are_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let run = |mark: bool| {
            let mut command = Command::new("sh");
            command
                .args(["-c", "echo here; exec sleep 1000"])
                .current_dir(&path);
            if mark {
                command.env("SURVEY_TEST_MARK", "x");
            }
            started(&mut command).0
        };
        let wait = |patience| wait_until_left(&path, "SURVEY_TEST_MARK=", patience);
        let _person = run(false);
        assert_eq!(wait(Duration::ZERO), Ok(()));
        let agent = run(true);
        let there = wait(Duration::from_millis(10)).unwrap_err();
        assert_eq!(there[0].pid, agent.0.id());
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || wait_until_left(&path, "SURVEY_TEST_MARK=", Duration::from_secs(20))
        });
        drop(agent);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    }
}
