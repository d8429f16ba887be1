//! The end of a connection, seen by a thread of the operating system.
//!
//! A runtime that is stuck does not see that the other side is gone. So the connection is watched by a thread of its
//! own as well, which reads nothing of it and asks the system for its end alone; from then on that thread is the last
//! deadline of this process ([`super::watchdog`]). Where a system does not tell of the end by itself, nothing is watched.

use std::io;
use std::os::fd::OwnedFd;

use super::watchdog::LastDeadline;

/// Ends this process by that deadline once the other side of a connection is gone. The descriptor is another one of the
/// same connection, which is not closed before the process ends.
///
/// # Errors
/// When no thread is to be had.
#[cfg(target_os = "linux")]
pub fn end_process_without(connection: OwnedFd, deadline: LastDeadline) -> io::Result<()> {
    let watch = move || {
        wait_for_end(&connection);
        deadline.keep();
    };
    std::thread::Builder::new()
        .name("lifeline".to_owned())
        .spawn(watch)?;
    Ok(())
}

/// Watches nothing.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn end_process_without(_connection: OwnedFd, _deadline: LastDeadline) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn wait_for_end(connection: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;

    /// The time between two tries when the system cannot be asked.
    const REFUSED: std::time::Duration = std::time::Duration::from_millis(100);

    // Not for what can be read: the runtime reads. The other two are told of in any case.
    let mut watched = [PollFd::new(connection, PollFlags::RDHUP)];
    loop {
        match poll(&mut watched, None) {
            Ok(_) if !watched[0].revents().is_empty() => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => std::thread::sleep(REFUSED),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_end_is_seen_and_nothing_is_read() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let watched = OwnedFd::from(here.try_clone().unwrap());
        let (said, ended) = mpsc::channel();
        let watching = std::thread::spawn(move || {
            wait_for_end(&watched);
            said.send(()).unwrap();
        });
        there.write_all(b"abc").unwrap();
        here.write_all(b"def").unwrap();
        let early = ended.recv_timeout(Duration::from_millis(100));
        assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
        // One who goes without having read what was sent to it is gone as well.
        drop(there);
        assert_eq!(ended.recv_timeout(Duration::from_secs(30)), Ok(()));
        watching.join().unwrap();
        let mut left = [0; 3];
        here.read_exact(&mut left).unwrap();
        assert_eq!(&left, b"abc");
    }
}
