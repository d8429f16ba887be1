//! Landlock. The ruleset is made by whoever starts the program; between fork and exec it is only put in force.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, Scope,
};

use super::{Allowed, Extent};

/// What is refused outside of the fence: all kinds of writes that this version of Landlock knows, and signals (Linux 6.12).
/// An older kernel refuses those of them that it knows.
const NEWEST: ABI = ABI::V7;

/// The oldest version that is used (Linux 5.19). The one before it refuses every move from one folder to another, also
/// inside of the fence, and no build gets far without.
const OLDEST: ABI = ABI::V2;

/// What makes the kernel act as if it had no Landlock, for tests.
#[cfg(feature = "faults")]
const WITHOUT: &str = "AI_SDLC_TEST_NO_LANDLOCK";

/// A fence that has not been put around anything yet.
#[derive(Debug)]
pub struct WriteFence {
    ruleset: OwnedFd,
}

/// Whether there can be a fence here.
///
/// # Errors
/// Why there is none.
pub fn can_fence() -> Result<(), &'static str> {
    #[cfg(feature = "faults")]
    if std::env::var_os(WITHOUT).is_some() {
        return Err("this kernel has no Landlock that can be used");
    }
    let required = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(OLDEST))
        .and_then(Ruleset::create);
    required
        .map(drop)
        .map_err(|_| "this kernel has no Landlock that can be used")
}

impl WriteFence {
    /// A fence that lets nothing be written but what is allowed; none where there can be none. Reads the disk.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn around(allowed: &[Allowed]) -> io::Result<Option<Self>> {
        if can_fence().is_err() {
            return Ok(None);
        }
        let refused = AccessFs::from_write(NEWEST);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(refused)
            .and_then(|ruleset| ruleset.scope(Scope::Signal))
            .and_then(Ruleset::create)
            .map_err(io::Error::other)?;
        for Allowed { path, extent } in allowed {
            let Some((place, is_folder)) = open(path)? else {
                continue;
            };
            let mut access = match extent {
                Extent::Everything => refused,
                Extent::Existing => existing(),
            };
            if !is_folder {
                access &= existing();
            }
            ruleset = ruleset
                .add_rule(PathBeneath::new(place, access))
                .map_err(io::Error::other)?;
        }
        let ruleset: Option<OwnedFd> = ruleset.into();
        Ok(ruleset.map(|ruleset| Self { ruleset }))
    }

    /// Has the program of a command begin inside of it.
    #[expect(
        unsafe_code,
        reason = "only between fork and exec can a process be restricted without its parent"
    )]
    pub fn enclose(self, command: &mut Command) {
        let enter = move || restrict(&self.ruleset);
        // SAFETY: after the fork, the closure makes two system calls: it allocates nothing, takes no lock and traces
        // nothing (the errors that it builds hold a number). The descriptor is open as long as the command is there.
        unsafe {
            command.pre_exec(enter);
        }
    }
}

/// What can be done to files and devices that are there.
fn existing() -> BitFlags<AccessFs> {
    AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
}

/// A place, without access to it, and whether it is a folder; none when there is none.
fn open(path: &Path) -> io::Result<Option<(OwnedFd, bool)>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH);
    match options.open(path) {
        Ok(place) => {
            let is_folder = place.metadata()?.is_dir();
            Ok(Some((place.into(), is_folder)))
        }
        // Whoever may not even come there cannot write there.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Puts a ruleset in force for the calling process, and everything that it starts, for good.
#[expect(
    unsafe_code,
    reason = "these two calls have no safe form that allocates nothing"
)]
fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // The kernel restricts nobody who could get rid of that by a program with more privileges.
    rustix::thread::set_no_new_privs(true)?;
    let no_flags: libc::c_uint = 0;
    // SAFETY: the call takes two numbers and touches no memory of this process.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            no_flags,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
