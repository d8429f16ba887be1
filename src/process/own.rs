//! Which children of this process are its own, and which it has inherited.
//!
//! A subreaper inherits the orphans of its descendants. They have to be reaped here, but the exit status of a child
//! that somebody waits for must not be taken away. So every child is started through this module, which notes it until
//! its owner has seen its end; all others are orphans. Never `waitpid(-1)`: it takes whatever comes.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The children that somebody waits for. Held while one is started, so that nobody takes a new one for an orphan.
static OWNED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

pub(super) fn owned() -> MutexGuard<'static, BTreeSet<u32>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The claim to a child. It is kept with the child and dropped with it, once the child is reaped or nobody wants to
/// know how it ended.
#[derive(Debug)]
#[must_use = "a child that nobody owns is an orphan"]
pub struct Ownership(u32);

impl Drop for Ownership {
    fn drop(&mut self) {
        owned().remove(&self.0);
    }
}

/// Starts a child of this process.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(
    command: &mut tokio::process::Command,
) -> io::Result<(tokio::process::Child, Ownership)> {
    let mut owned = owned();
    let child = command.spawn()?;
    // It is not reaped yet, so that it has a number.
    let pid = child.id().unwrap_or_default();
    owned.insert(pid);
    Ok((child, Ownership(pid)))
}

/// Starts a child of this process.
pub(super) fn spawn_blocking_child(
    command: &mut std::process::Command,
) -> io::Result<(std::process::Child, Ownership)> {
    let mut owned = owned();
    let child = command.spawn()?;
    owned.insert(child.id());
    let pid = child.id();
    Ok((child, Ownership(pid)))
}
