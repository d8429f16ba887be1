//! Learning of the end of a child without reaping it: as long as it is a zombie, its number is its own, and with it
//! the number of its group and of its session.

use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Waits until a child of this process has ended, without reaping it. Returns at once when there is no such child.
pub async fn until_ended(pid: u32) {
    #[cfg(target_os = "linux")]
    if watch_end(pid).await {
        return;
    }
    // The kernel tells of the end only to whoever waits for it.
    if let Err(error) = tokio::task::spawn_blocking(move || wait_unreaped(pid)).await {
        tracing::warn!(%error, pid, "the end of a process cannot be waited for");
    }
}

/// Waits for the end through a descriptor of the process. Whether that was possible.
#[cfg(target_os = "linux")]
async fn watch_end(pid: u32) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open};
    let descriptor = super::to_pid(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
    let Some(descriptor) = descriptor.and_then(|one| super::readable::watch(one).ok()) else {
        return false;
    };
    // A process descriptor is readable once its process has ended.
    descriptor.readable().await.is_ok()
}

pub(super) fn wait_unreaped(pid: u32) {
    let Some(pid) = super::to_pid(pid) else {
        return;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(
        waitid(WaitId::Pid(pid), options),
        Err(rustix::io::Errno::INTR)
    ) {}
}

/// Whether a child that has ended and is not reaped was ended by a signal.
pub fn was_killed(pid: u32) -> bool {
    let Some(pid) = super::to_pid(pid) else {
        return false;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::Pid(pid), options) {
        Ok(Some(status)) => status.killed() || status.dumped(),
        Ok(None) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_end_is_seen_and_the_child_can_still_be_reaped() {
        let mut child = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
        until_ended(child.id()).await;
        assert!(!was_killed(child.id()));
        assert_eq!(child.wait().unwrap().code(), Some(5));
        until_ended(child.id()).await;
    }

    #[tokio::test]
    async fn an_end_by_a_signal_is_told_apart() {
        let mut child = Command::new("sh")
            .args(["-c", "kill -9 $$"])
            .spawn()
            .unwrap();
        until_ended(child.id()).await;
        assert!(was_killed(child.id()));
        assert_eq!(child.wait().unwrap().code(), None);
    }

    #[test]
    fn an_end_can_be_waited_for_without_a_descriptor_too() {
        let mut child = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
        wait_unreaped(child.id());
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }
}
