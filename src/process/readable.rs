//! Descriptors that tell of something by becoming readable: the end of a process, news of a file. Linux only.

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};

/// Watches a descriptor, which from here on belongs to the watcher.
///
/// # Errors
/// When the runtime cannot watch it.
#[expect(
    unsafe_code,
    reason = "tokio cannot know that a descriptor stays open while it is watched"
)]
pub(super) fn watch(
    descriptor: OwnedFd,
) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: the watcher owns the descriptor, so it is closed only after it is no longer watched.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
}
