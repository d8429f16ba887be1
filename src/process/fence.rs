//! A fence around the writes of a process and of everything that it starts: Landlock, where Linux has it.
//!
//! Whoever is inside reads, runs and connects to whatever it could before, and writes only to what it was allowed: it
//! makes, changes, moves and removes nothing elsewhere, controls no other device, and signals nobody outside. Nobody inside can leave it, nor
//! gain privileges (`no_new_privs`: no `sudo`), nor mount anything. What is open already stays as it was opened.
//!
//! Places are what they are when the fence is made: a folder that is removed and made again is outside of it. A place
//! holds with all that is below it, so nothing can be taken out of one again. Decides nothing about which places those
//! are.

#[cfg(target_os = "linux")]
#[path = "fence/linux.rs"]
mod system;

#[cfg(not(target_os = "linux"))]
#[path = "fence/none.rs"]
mod system;

use std::path::PathBuf;

pub use system::{WriteFence, can_fence};

/// A place that can be written to from inside of a fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// A file, or a folder with everything below it. What is not there is not allowed either.
    pub path: PathBuf,
    /// What may be done there.
    pub extent: Extent,
}

/// What may be done in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Everything,
    /// Files and devices that are there may be written to; none can be made, moved or removed.
    Existing,
}
