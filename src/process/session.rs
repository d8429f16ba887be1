//! A program in a session of its own, and everything that stays in its process group.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};

use super::own::{Ownership, spawn_blocking_child};
use super::{Ending, signal_group, until_ended};

/// A running program that leads a session of its own: it has no terminal, and no signal of one reaches it.
///
/// Its group is signalled only while its leader is unreaped, so that a number that was reused is never hit. When the
/// program has ended, what it left is the business of [`super::sweep_orphans`]; where that finds nothing, the rest of
/// the group is killed here. Dropping a running session kills its group.
#[derive(Debug)]
pub struct Session {
    child: Child,
    _ownership: Ownership,
    reaped: bool,
}

/// How the program of a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionExit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// How much rather the system ends an agent than its executor when memory runs out (`proc_pid_oom_score_adj(5)`, up to
/// 1000): an executor that lives can say what happened.
#[cfg(target_os = "linux")]
const AGENT_OOM_SCORE: &str = "500";

impl Session {
    /// Starts a program as the leader of a new session. On Linux it is killed when the calling thread ends, which has to
    /// be the main one for that reason.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        lead_session(command);
        let (child, ownership) = spawn_blocking_child(command)?;
        #[cfg(target_os = "linux")]
        if let Err(error) = std::fs::write(
            format!("/proc/{}/oom_score_adj", child.id()),
            AGENT_OOM_SCORE,
        ) {
            tracing::debug!(%error, "an agent is not preferred when memory runs out");
        }
        Ok(Self {
            child,
            _ownership: ownership,
            reaped: false,
        })
    }

    /// The number of its process group.
    pub fn group(&self) -> u32 {
        self.child.id()
    }

    /// Signals everything in the group.
    pub fn signal(&self, ending: Ending) {
        if !self.reaped {
            signal_group(self.child.id(), ending);
        }
    }

    /// Waits for the end of the program. Cancel-safe: a wait that was dropped can be taken up again.
    ///
    /// # Errors
    /// When the system does not tell how it ended.
    pub async fn wait(&mut self) -> io::Result<SessionExit> {
        until_ended(self.child.id()).await;
        // Where a sweep follows, that ends what is left in its own time; where none can, this is the last occasion.
        if !cfg!(target_os = "linux") {
            self.signal(Ending::Kill);
        }
        let status = self.child.wait()?;
        self.reaped = true;
        exit_of(status).ok_or_else(|| io::Error::other(format!("unexpected status {status}")))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.signal(Ending::Kill);
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "an agent could not be reaped");
        }
    }
}

#[expect(
    unsafe_code,
    reason = "only between fork and exec can a process enter a session and ask for a signal at its parent's death"
)]
fn lead_session(command: &mut Command) {
    #[cfg(target_os = "linux")]
    let parent = rustix::process::getpid();
    let enter = move || {
        rustix::process::setsid()?;
        // A run in the background of a shell ignores SIGINT, and a program that inherits this may not be able to hear
        // it at all.
        // SAFETY: it takes numbers, and changes only what this process does with the signal.
        if unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Signal, getppid, set_parent_process_death_signal};
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // A parent that died before that call sends no signal any more.
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    };
    // SAFETY: after the fork, the closure makes system calls only: it allocates nothing, takes no lock and traces
    // nothing (the errors that it builds hold a number).
    unsafe {
        command.pre_exec(enter);
    }
}

fn exit_of(status: ExitStatus) -> Option<SessionExit> {
    status
        .code()
        .map(SessionExit::Code)
        .or_else(|| status.signal().map(SessionExit::Signal))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Duration;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[tokio::test]
    async fn codes_and_signals_are_told_apart() {
        let mut session = Session::spawn(&mut sh("exit 143")).unwrap();
        assert_eq!(session.wait().await.unwrap(), SessionExit::Code(143));
        let mut session = Session::spawn(&mut sh("kill -9 $$")).unwrap();
        assert_eq!(session.wait().await.unwrap(), SessionExit::Signal(9));
    }

    #[tokio::test]
    async fn it_leads_a_session_without_a_terminal() {
        let (reader, writer) = io::pipe().unwrap();
        let mut command =
            sh("ps -o sid= -p $$; echo $$; (exec 3<>/dev/tty) 2>/dev/null || echo none");
        command.stdout(writer);
        let mut session = Session::spawn(&mut command).unwrap();
        drop(command);
        assert_eq!(session.wait().await.unwrap(), SessionExit::Code(0));
        let said = io::read_to_string(reader).unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words[0], words[1]);
        assert_eq!(words[2], "none");
    }

    #[tokio::test]
    async fn a_stopped_program_can_be_terminated() {
        let mut session = Session::spawn(&mut sh("kill -STOP $$; exit 0")).unwrap();
        session.signal(Ending::Terminate);
        let exit = tokio::time::timeout(Duration::from_secs(20), session.wait()).await;
        assert!(matches!(exit, Ok(Ok(_))));
    }

    #[tokio::test]
    async fn a_wait_that_was_dropped_can_be_taken_up_again() {
        let mut session = Session::spawn(sh("read x; exit 4").stdin(Stdio::piped())).unwrap();
        let first = tokio::time::timeout(Duration::from_millis(20), session.wait()).await;
        assert!(first.is_err());
        drop(session.child.stdin.take());
        assert_eq!(session.wait().await.unwrap(), SessionExit::Code(4));
    }
}
