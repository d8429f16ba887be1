//! No fence: this system has none that an unprivileged process could put around another one.

use std::io;
use std::process::Command;

use super::Allowed;

/// A fence, of which there is none here.
#[derive(Debug)]
pub struct WriteFence(std::convert::Infallible);

/// Why there is no fence.
///
/// # Errors
/// Always.
pub fn can_fence() -> Result<(), &'static str> {
    Err("this system has no Landlock")
}

impl WriteFence {
    /// There is none.
    ///
    /// # Errors
    /// Never.
    pub fn around(_allowed: &[Allowed]) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Nothing to do.
    pub fn enclose(self, _command: &mut Command) {
        match self.0 {}
    }
}
