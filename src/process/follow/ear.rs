//! The system's word that a file was written to.
//!
//! Owns a watch of one file, which ends with it. Promises that a writing is not missed that comes after the file was
//! last looked at, and, where the system tells (inotify), that nothing runs while nothing is written. Elsewhere, or when
//! the system has no watch left to give, the file is looked at every so often. Nothing is heard of what is written by
//! way of a mapping, or on another machine.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io;
use std::time::Duration;

#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd as _, OwnedFd};
#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;

#[cfg(target_os = "linux")]
use super::super::readable;

/// How often a file is looked at when nobody tells of it.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How news of a file comes.
#[derive(Debug)]
pub(super) enum Ear {
    /// The system tells.
    #[cfg(target_os = "linux")]
    Told(AsyncFd<OwnedFd>),
    /// Nobody tells.
    Looking,
}

impl Ear {
    /// A watch of a file, where the system offers one.
    #[cfg(target_os = "linux")]
    pub(super) fn of(file: &File) -> Self {
        match watch(file) {
            Ok(watch) => Self::Told(watch),
            Err(error) => {
                // Mostly all watches that a user may have are taken.
                tracing::info!(%error, "output is looked at every so often");
                Self::Looking
            }
        }
    }

    /// A watch of a file, where the system offers one.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_file: &std::fs::File) -> Self {
        Self::Looking
    }

    /// Waits until the file may have grown. Cancel-safe, if the file is then looked at before this is called again.
    pub(super) async fn heard(&self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Told(watch) => told(watch).await,
            Self::Looking => {
                tokio::time::sleep(LOOK_AGAIN).await;
                Ok(())
            }
        }
    }
}

/// Watches the file itself, whatever its name leads to.
#[cfg(target_os = "linux")]
fn watch(file: &File) -> io::Result<AsyncFd<OwnedFd>> {
    use rustix::fs::inotify as news;
    let watch = news::init(news::CreateFlags::NONBLOCK | news::CreateFlags::CLOEXEC)?;
    let file = format!("/proc/self/fd/{}", file.as_raw_fd());
    news::add_watch(&watch, file, news::WatchFlags::MODIFY)?;
    Ok(readable::watch(watch)?)
}

/// Waits for events and takes them. The system keeps one event for any number of writings that nobody has heard of yet,
/// so one reading takes them all; reading until there is none could go on for as long as somebody writes.
#[cfg(target_os = "linux")]
async fn told(watch: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut events = [0; 1024];
    loop {
        let mut ready = watch.readable().await?;
        let read =
            ready.try_io(|watch| Ok(rustix::io::read(watch.get_ref(), events.as_mut_slice())?));
        if let Ok(read) = read {
            return read.map(|_| ());
        }
    }
}
