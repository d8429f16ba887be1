//! A program and everything that stays in its process group.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{WaitId, WaitIdOptions};
use tokio::sync::oneshot;

use super::{Ending, signal_group, to_pid};

/// A running program in a process group of its own.
///
/// When the program ends, by itself or not, the rest of its group is killed before the program is reaped: nothing
/// that stays in the group outlives it. Dropping a running group kills it.
#[derive(Debug)]
pub struct Group {
    child: Child,
    ended: Option<oneshot::Receiver<()>>,
    reaped: bool,
}

/// How the program of a group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupExit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Group {
    /// Starts a program as the leader of a new process group.
    ///
    /// # Errors
    /// When it cannot be started, or no thread can be had to wait for it.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let pid = child.id();
        let (sender, ended) = oneshot::channel();
        let group = Self {
            child,
            ended: Some(ended),
            reaped: false,
        };
        // The kernel tells of the end without the process being reaped (WNOWAIT), so that its group number cannot be
        // reused before the group is killed. A thread waits, because no async interface offers that.
        let waiter = std::thread::Builder::new()
            .name("wait-agent".to_owned())
            .spawn(move || {
                wait_unreaped(pid);
                // Nobody listens any more when the group was dropped.
                let _: Result<(), ()> = sender.send(());
            });
        if let Err(error) = waiter {
            // Dropping the group kills and reaps it.
            drop(group);
            return Err(error);
        }
        Ok(group)
    }

    /// Signals everything in the group.
    pub fn signal(&self, ending: Ending) {
        if !self.reaped {
            signal_group(self.child.id(), ending);
        }
    }

    /// Waits for the end of the program, then kills what is left of its group. Cancel-safe: a wait that was dropped
    /// can be taken up again.
    ///
    /// # Errors
    /// When the system does not tell how it ended.
    pub async fn wait(&mut self) -> io::Result<GroupExit> {
        if let Some(ended) = self.ended.as_mut() {
            // An error means that the waiting thread is gone, which it only is after the end.
            let _: Result<(), oneshot::error::RecvError> = ended.await;
            self.ended = None;
        }
        let status = self.kill_and_reap()?;
        exit_of(status).ok_or_else(|| io::Error::other(format!("unexpected status {status}")))
    }

    fn kill_and_reap(&mut self) -> io::Result<ExitStatus> {
        self.signal(Ending::Kill);
        let status = self.child.wait();
        self.reaped = true;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped
            && let Err(error) = self.kill_and_reap()
        {
            tracing::warn!(%error, "an agent could not be reaped");
        }
    }
}

fn wait_unreaped(pid: u32) {
    let Some(pid) = to_pid(pid) else { return };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(
        rustix::process::waitid(WaitId::Pid(pid), options),
        Err(rustix::io::Errno::INTR)
    ) {}
}

fn exit_of(status: ExitStatus) -> Option<GroupExit> {
    status
        .code()
        .map(GroupExit::Code)
        .or_else(|| status.signal().map(GroupExit::Signal))
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
        let mut group = Group::spawn(&mut sh("exit 143")).unwrap();
        assert_eq!(group.wait().await.unwrap(), GroupExit::Code(143));
        let mut group = Group::spawn(&mut sh("kill -9 $$")).unwrap();
        assert_eq!(group.wait().await.unwrap(), GroupExit::Signal(9));
    }

    #[tokio::test]
    async fn what_the_program_leaves_in_its_group_ends_with_it() {
        // The background process holds the pipe open: its end is seen as the end of the file.
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = sh("sleep 1000 & exit 0");
        command.stdout(writer);
        let mut group = Group::spawn(&mut command).unwrap();
        drop(command);
        assert_eq!(group.wait().await.unwrap(), GroupExit::Code(0));
        let read = tokio::task::spawn_blocking(move || std::io::read_to_string(reader));
        let left = tokio::time::timeout(Duration::from_secs(20), read).await;
        assert_eq!(left.unwrap().unwrap().unwrap(), "");
    }

    #[tokio::test]
    async fn a_stopped_program_can_be_terminated() {
        let mut group = Group::spawn(&mut sh("kill -STOP $$; exit 0")).unwrap();
        group.signal(Ending::Terminate);
        let exit = tokio::time::timeout(Duration::from_secs(20), group.wait()).await;
        assert!(matches!(exit, Ok(Ok(_))));
    }

    #[tokio::test]
    async fn a_wait_that_was_dropped_can_be_taken_up_again() {
        let mut group = Group::spawn(sh("read x; exit 4").stdin(Stdio::piped())).unwrap();
        let first = tokio::time::timeout(Duration::from_millis(20), group.wait()).await;
        assert!(first.is_err());
        drop(group.child.stdin.take());
        assert_eq!(group.wait().await.unwrap(), GroupExit::Code(4));
    }
}
