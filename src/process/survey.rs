//! Finding processes that an executor or a run has left behind, and ending or waiting for them.
//!
//! A process is only signalled through a descriptor of it (pidfd) that was opened before it was looked at, so that a
//! number that changed hands in between is never hit. Only Linux tells what is asked here; elsewhere nothing is found.

use std::path::Path;
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

#[cfg(target_os = "linux")]
use super::Ending;

/// A process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// Where processes are looked for.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// Those whose working directory is this folder or below it.
    Within(&'a Path),
    /// Those whose working directory is this folder.
    Exactly(&'a Path),
}

/// How long processes may take to end by themselves when they are asked to.
#[cfg(target_os = "linux")]
const POLITE: Duration = Duration::from_secs(1);

/// How long a process may take to be gone after SIGKILL before the list is read again.
#[cfg(target_os = "linux")]
const GONE: Duration = Duration::from_millis(100);

/// How often the list of processes is read again while it still names some. Each round takes what has been started
/// since the last one.
#[cfg(target_os = "linux")]
const MOST_ROUNDS: usize = 100;

/// Ends every process of a session but its leader, until none is left: asked first (a git then removes its lock
/// files), killed after a second. The caller holds the leader unreaped, so that its number still means this session.
/// Gives those that were ended.
#[cfg(target_os = "linux")]
pub fn end_session(leader: u32) -> Vec<Found> {
    let members = || linux::processes(|process| process.session == leader && process.pid != leader);
    end(members)
}

/// Ends every process of a session but its leader. Gives those that were ended.
#[cfg(not(target_os = "linux"))]
pub fn end_session(_leader: u32) -> Vec<Found> {
    Vec::new()
}

/// Ends what earlier runs have left in a place: processes that carry a variable whose value `is_left_over` knows, as
/// every process of a run does. They get `patience` to end by themselves. A person's shell or editor there is none of
/// them. Gives those that had to be ended. Blocks.
#[cfg(target_os = "linux")]
pub fn end_leftovers(
    place: Place<'_>,
    variable: &str,
    is_left_over: impl Fn(&str) -> bool,
    patience: Duration,
) -> Vec<Found> {
    let there = || {
        linux::processes(|process| {
            process.is_in(place)
                && process
                    .variable(variable)
                    .is_some_and(|value| is_left_over(&value))
        })
    };
    let deadline = Instant::now() + patience;
    loop {
        let found = there();
        let left = deadline.saturating_duration_since(Instant::now());
        match found.first() {
            None => return Vec::new(),
            Some(_) if left.is_zero() => return end(there),
            Some(first) => first.wait(left),
        }
    }
}

/// Ends what earlier runs have left in a place.
#[cfg(not(target_os = "linux"))]
pub fn end_leftovers(
    _place: Place<'_>,
    _variable: &str,
    _is_left_over: impl Fn(&str) -> bool,
    _patience: Duration,
) -> Vec<Found> {
    Vec::new()
}

/// Ends all that `members` finds, until it finds nothing more.
#[cfg(target_os = "linux")]
fn end(members: impl Fn() -> Vec<linux::Handle>) -> Vec<Found> {
    let asked = members();
    for member in &asked {
        member.signal(Ending::Terminate);
    }
    let deadline = Instant::now() + POLITE;
    for member in &asked {
        member.wait(deadline.saturating_duration_since(Instant::now()));
    }
    let mut ended: Vec<Found> = asked.into_iter().map(|member| member.found).collect();
    for _ in 0..MOST_ROUNDS {
        let left = members();
        if left.is_empty() {
            break;
        }
        for member in &left {
            member.signal(Ending::Kill);
        }
        for member in left {
            member.wait(GONE);
            if !ended.contains(&member.found) {
                ended.push(member.found);
            }
        }
    }
    ended
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

    use super::super::{Ending, to_pid};
    use super::{Found, Place};

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

        /// The value of a variable in the environment that it was started with.
        pub(super) fn variable(&self, name: &str) -> Option<String> {
            let environment = std::fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
            let value = environment
                .split(|byte| *byte == 0)
                .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
            String::from_utf8(value.to_vec()).ok()
        }

        pub(super) fn is_in(&self, place: Place<'_>) -> bool {
            let Ok(path) = std::fs::read_link(format!("/proc/{}/cwd", self.pid)) else {
                return false;
            };
            // The kernel marks a folder that was removed.
            let bytes = path.as_os_str().as_bytes();
            let kept = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
            let path = Path::new(std::ffi::OsStr::from_bytes(kept));
            match place {
                Place::Within(folder) => path.starts_with(folder),
                Place::Exactly(folder) => path == folder,
            }
        }
    }

    impl Handle {
        pub(super) fn signal(&self, ending: Ending) {
            for signal in ending.signals() {
                if let Err(error) = pidfd_send_signal(&self.descriptor, *signal) {
                    tracing::debug!(%error, pid = self.found.pid, "not signalled");
                }
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
        let ended = end_session(session);
        assert_eq!(ended.len(), 1, "{ended:?}");
        assert_ne!(ended[0].pid, session);
        assert_eq!(end_session(session), []);
    }

    #[test]
    fn only_marked_processes_in_the_folder_are_ended() {
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
        let end = |patience| {
            let place = Place::Within(&path);
            end_leftovers(place, "SURVEY_TEST_MARK", |value| value == "x", patience)
        };
        let mut person = run(false);
        assert_eq!(end(Duration::ZERO), []);
        let agent = run(true);
        let ended = end(Duration::from_millis(10));
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].pid, agent.0.id());
        assert_eq!(end(Duration::ZERO), []);
        assert_eq!(person.0.try_wait().unwrap(), None);
    }
}
