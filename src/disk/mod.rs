//! Disk space: amounts of it as people write them, how much trees of files take, and how much is free.
//!
//! Reads only. Measuring has a deadline and says when it was not enough.

mod amount;
mod measure;

pub use amount::{Bytes, BytesError};
pub use measure::{Measured, measure};

use std::io;
use std::path::Path;
use std::time::Duration;

/// How long measuring may take where nobody wants to wait: some millions of files that are in memory, some ten thousand
/// on a slow disk.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How much the file system of a path has free for this user.
///
/// # Errors
/// When the system does not say.
pub fn free(path: &Path) -> io::Result<Bytes> {
    let system = rustix::fs::statvfs(path)?;
    Ok(Bytes(system.f_bavail.saturating_mul(system.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_said_of_a_directory_and_not_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free(dir.path()).unwrap() > Bytes(0));
        assert!(free(&dir.path().join("none")).is_err());
    }
}
