//! Ranges of ports, each leased to one running story at a time.
//!
//! A range is held by a lock on a file that belongs to the user's session, so that several orchestrators of one user do not
//! give out the same one, and so that the system takes a range back when an orchestrator dies, however it dies. A range of
//! which somebody uses a port is passed over. That a port is still free a moment later nobody can promise.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Ports;

/// How far the ranges of a run go beyond the first port.
const SPAN: u32 = 10_000;

/// Where ranges come from. Clones share what they have given out.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    rules: Ports,
    /// The folder of the locks; none where there is no place for them, and then only this process keeps to it.
    locks: Option<Arc<Path>>,
    given: Arc<Mutex<BTreeSet<u16>>>,
}

/// A range that is held. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    first: u16,
    lock: Option<(File, PathBuf)>,
    given: Arc<Mutex<BTreeSet<u16>>>,
}

impl Lease {
    /// The first port of the range.
    pub(super) fn first(&self) -> u16 {
        self.first
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((file, path)) = self.lock.take() {
            // Removed while it is locked: who opens it afterwards makes a new one, and who had opened it before sees that.
            let removed = fs::remove_file(path);
            // Closing alone would not do while a process that is just being started still has a copy of the descriptor.
            let unlocked = file.unlock();
            tracing::trace!(
                ?removed,
                ?unlocked,
                first = self.first,
                "ports are free again"
            );
        }
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.remove(&self.first);
    }
}

impl Pool {
    /// The pool of this user's session.
    pub(super) fn new(rules: Ports) -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let temporary = std::env::temp_dir();
        let uid = rustix::process::getuid().as_raw();
        let places = [
            runtime
                .filter(|runtime| runtime.is_absolute())
                .map(|runtime| runtime.join("ai-sdlc-ports")),
            Some(temporary.join(format!("ai-sdlc-ports-{uid}"))),
        ];
        let locks = places
            .into_iter()
            .flatten()
            .find(|place| is_ours(place, uid));
        if locks.is_none() {
            tracing::warn!("other runs may give out the same ports: no folder for locks");
        }
        Self::with_locks_in(locks.as_deref(), rules)
    }

    fn with_locks_in(locks: Option<&Path>, rules: Ports) -> Self {
        Self {
            rules,
            locks: locks.map(Arc::from),
            given: Arc::default(),
        }
    }

    /// The first range that is free. Blocks, for microseconds a range.
    ///
    /// # Errors
    /// When none is; the text says what to do.
    pub(super) fn lease(&self) -> Result<Lease, String> {
        for range in ranges(self.rules) {
            if let Some(lease) = self.take(&range) {
                return Ok(lease);
            }
        }
        let Ports { first, per_story } = self.rules;
        let last = end(self.rules) - 1;
        Err(format!(
            "no {per_story} ports in a row are free from {first} to {last} (set `ports.first` in .ai-sdlc.json to where some \
             are, or `ports.perStory` to 0)"
        ))
    }

    fn take(&self, range: &Range<u16>) -> Option<Lease> {
        let first = range.start;
        let is_new = {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            given.insert(first)
        };
        if !is_new {
            return None;
        }
        // From here on, dropping it gives the range back.
        let mut lease = Lease {
            first,
            lock: None,
            given: Arc::clone(&self.given),
        };
        if let Some(locks) = &self.locks {
            let path = locks.join(first.to_string());
            match lock(&path) {
                Ok(Some(file)) => lease.lock = Some((file, path)),
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "a range cannot be locked");
                }
            }
        }
        range.clone().all(is_free).then_some(lease)
    }
}

/// The port behind the last one that may be given out.
fn end(rules: Ports) -> u32 {
    (u32::from(rules.first) + SPAN).min(u32::from(u16::MAX))
}

/// All ranges, in order.
fn ranges(rules: Ports) -> impl Iterator<Item = Range<u16>> {
    let step = usize::from(rules.per_story.max(1));
    let firsts = (u32::from(rules.first)..end(rules)).step_by(step);
    firsts.map_while(move |first| {
        let behind = first + u32::from(rules.per_story.max(1));
        let range = u16::try_from(first).ok()?..u16::try_from(behind).ok()?;
        (behind <= end(rules)).then_some(range)
    })
}

/// Whether nobody listens on a port of this machine's own address.
fn is_free(port: u16) -> bool {
    let addresses = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    addresses.into_iter().all(|address| {
        // Whatever else stands in the way (a machine without that address) says nothing about the port.
        !matches!(TcpListener::bind(address), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
    })
}

/// The locked file, unless somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    match file.try_lock() {
        // One that was removed in between locks nothing.
        Ok(()) if file.metadata()?.nlink() == 0 => Ok(None),
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a folder that only we can write to, or finds that it is one.
fn is_ours(folder: &Path, uid: u32) -> bool {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return false,
        _ => {}
    }
    let metadata = fs::symlink_metadata(folder);
    metadata.is_ok_and(|there| there.is_dir() && there.uid() == uid && there.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(first: u16, per_story: u16) -> Vec<Range<u16>> {
        ranges(Ports { first, per_story }).collect()
    }

    #[test]
    fn ranges_follow_each_other_up_to_an_end() {
        let usual = all(20_000, 10);
        assert_eq!(usual.len(), 1000);
        assert_eq!(usual[..2], [20_000..20_010, 20_010..20_020]);
        assert_eq!(usual[999], 29_990..30_000);
        assert_eq!(all(65_000, 1000), []);
        let last = all(65_000, 300);
        assert_eq!((last.len(), &last[0]), (1, &(65_000..65_300)));
    }

    proptest! {
        #[test]
        fn no_port_is_in_two_ranges(first in 1024_u16..=65_000, per_story in 1_u16..=1000) {
            let ranges = all(first, per_story);
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
            }
            for range in ranges {
                prop_assert_eq!(range.len(), usize::from(per_story));
                prop_assert!(range.start >= first);
            }
        }
    }

    /// A port of this machine that nobody else uses at the moment, with room behind it.
    fn quiet_place() -> u16 {
        (1..60)
            .map(|place| 1024 + place * 500)
            .find(|first| (*first..*first + 40).all(is_free))
            .unwrap()
    }

    #[test]
    fn a_range_is_leased_once_and_free_again_afterwards() {
        let locks = tempfile::tempdir().unwrap();
        let rules = Ports {
            first: quiet_place(),
            per_story: 2,
        };
        let pool = Pool::with_locks_in(Some(locks.path()), rules);
        // Another process has its own memory of what it gave out, and the same locks.
        let other = Pool::with_locks_in(Some(locks.path()), rules);
        let one = pool.lease().unwrap();
        let two = other.lease().unwrap();
        let three = pool.clone().lease().unwrap();
        let firsts: BTreeSet<u16> = [&one, &two, &three].map(Lease::first).into();
        assert_eq!(firsts.len(), 3);
        let first = one.first();
        drop(one);
        assert_eq!(other.lease().unwrap().first(), first);
        drop((two, three));
        assert_eq!(fs::read_dir(locks.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_range_with_a_port_in_use_is_passed_over() {
        let rules = Ports {
            first: quiet_place() + 20,
            per_story: 5,
        };
        let pool = Pool::with_locks_in(None, rules);
        let _server = TcpListener::bind((Ipv4Addr::LOCALHOST, rules.first + 3)).unwrap();
        assert!(pool.lease().unwrap().first() >= rules.first + 5);
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let folder = dir.path().join("ports");
        assert!(is_ours(&folder, uid));
        assert!(is_ours(&folder, uid));
        assert!(!is_ours(&folder, uid + 1));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(!is_ours(&link, uid));
        assert!(!is_ours(&dir.path().join("a/b"), uid));
    }
}
