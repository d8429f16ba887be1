//! A process that is held, so that it can be signalled and waited for. Linux only.
//!
//! It is signalled through a descriptor of it (pidfd) that was opened before it was looked at: a number that changed
//! hands in between is never hit.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::table::Entry;
use super::{Ending, Found, to_pid};

/// A process by its descriptor.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) entry: Entry,
    descriptor: OwnedFd,
}

impl Handle {
    /// Holds the process of that number if `wanted` picks it.
    pub(super) fn open(pid: u32, wanted: impl Fn(&Entry) -> bool) -> Option<Self> {
        // Most are not wanted: they are looked at once before anything is opened.
        if !wanted(&Entry::read(pid)?) {
            return None;
        }
        let descriptor = pidfd_open(to_pid(pid)?, PidfdFlags::empty()).ok()?;
        // What is looked at now is what the descriptor holds: had that process ended, its number would be free or
        // somebody else's, and the look that follows would not want it.
        let entry = Entry::read(pid)?;
        wanted(&entry).then_some(Self { entry, descriptor })
    }

    pub(super) fn found(&self) -> Found {
        Found {
            pid: self.entry.pid,
            name: self.entry.name.clone(),
        }
    }

    pub(super) fn signal(&self, ending: Ending) {
        for signal in ending.signals() {
            if let Err(error) = pidfd_send_signal(&self.descriptor, *signal) {
                tracing::debug!(%error, pid = self.entry.pid, "not signalled");
            }
        }
    }

    /// Waits for its end, at most that long.
    pub(super) fn wait(&self, patience: Duration) {
        let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::IN)];
        let timeout = Timespec::try_from(patience).ok();
        if let Err(error) = poll(&mut descriptors, timeout.as_ref()) {
            tracing::debug!(%error, pid = self.entry.pid, "not waited for");
        }
    }
}
