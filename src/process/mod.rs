//! Processes: sessions, signals, orphans, whether a tree of processes works, waits or stands still, and what runs leave
//! behind.
//!
//! Owns every call that makes, signals or inspects a process other than through a plain child handle, and all `unsafe`
//! code. A process or a group is only ever signalled while its leader is unreaped, or through a descriptor of it, so a
//! number that was reused is never hit; nothing is ever found by its name.

mod at_work;
mod cgroup;
mod evidence;
mod exit;
mod fence;
mod follow;
#[cfg(target_os = "linux")]
mod handle;
mod identity;
mod leftovers;
mod lifeline;
mod limits;
mod machine;
mod orphans;
mod own;
mod own_output;
#[cfg(target_os = "linux")]
mod readable;
mod session;
#[cfg(target_os = "linux")]
mod table;
mod watchdog;

pub use at_work::at_work_in;
pub use cgroup::{Leaf, LeafEnd, RunGroup};
pub use evidence::{Evidence, TreeUsage, TreeWatch, Wait, Work};
pub use exit::{until_ended, was_killed};
pub use fence::{Allowed, Extent, WriteFence, can_fence};
pub use follow::{Chunk, Counts, Follower, Limits, Rest};
pub use identity::{Identity, IdentityError};
pub use leftovers::{Leftover, Reaped, Search, end_leftovers, leftovers};
pub use lifeline::end_process_without;
pub use limits::FileLimit;
pub use machine::Machine;
use orphans::kill_descendants;
pub use orphans::{Sweep, Swept, Whose, adopt_orphans, reap_orphans, sweep_orphans};
pub use own::{Ownership, spawn};
pub use own_output::own_output_since;
pub use session::{Session, SessionExit};
pub use watchdog::LastDeadline;

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::process::{Pid, Signal};

/// A process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.pid, self.name)
    }
}

/// A polite or a final signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGINT, and SIGCONT so that a stopped process can act on it: what it does, it gives up.
    Interrupt,
    /// SIGTERM, and SIGCONT so that a stopped process can act on it.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Ending {
    fn signals(self) -> &'static [Signal] {
        match self {
            Self::Interrupt => &[Signal::INT, Signal::CONT],
            Self::Terminate => &[Signal::TERM, Signal::CONT],
            Self::Kill => &[Signal::KILL],
        }
    }
}

/// Signals one process. The caller holds it unreaped.
pub fn signal_process(pid: u32, ending: Ending) {
    let Some(pid) = to_pid(pid) else { return };
    for signal in ending.signals() {
        // The process may have ended by itself in the meantime: then there is nothing left to signal.
        if let Err(error) = rustix::process::kill_process(pid, *signal) {
            tracing::debug!(%error, ?pid, "could not be signalled");
        }
    }
}

/// Signals a whole process group. The caller holds its leader unreaped.
fn signal_group(leader: u32, ending: Ending) {
    let Some(leader) = to_pid(leader) else { return };
    for signal in ending.signals() {
        if let Err(error) = rustix::process::kill_process_group(leader, *signal) {
            tracing::debug!(%error, ?leader, "group could not be signalled");
        }
    }
}

/// What executors are called in lists of processes. At most 15 bytes, which is what Linux keeps.
pub const EXECUTOR_NAME: &str = "story-executor";

/// Gives the calling process the name of an executor, where the system has such names. Its main thread calls it.
#[cfg(target_os = "linux")]
pub fn take_executor_name() {
    let named = std::ffi::CString::new(EXECUTOR_NAME)
        .map_err(std::io::Error::from)
        .and_then(|name| Ok(rustix::thread::set_name(&name)?));
    if let Err(error) = named {
        tracing::debug!(%error, "no name of its own");
    }
}

/// Gives the calling process the name of an executor, where the system has such names.
#[cfg(not(target_os = "linux"))]
pub fn take_executor_name() {}

/// Whether a signal is ignored since whoever started this process wanted it so: `nohup`, for one.
#[expect(
    unsafe_code,
    reason = "there is no safe way to ask how a signal is handled"
)]
pub fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed without a new action, and the old one is written to memory of its size, which was
    // zeroed and is valid whatever is written.
    let action = unsafe {
        if libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) != 0 {
            return false;
        }
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// The program to re-execute. On Linux the running image itself, so that an upgrade of the file during a run does not mix
/// versions.
///
/// # Errors
/// When this program cannot be found.
pub fn own_program() -> io::Result<PathBuf> {
    let image = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && image.exists() {
        return Ok(image);
    }
    std::env::current_exe()
}

/// Whether processes can be seen at all. Where a system tells of them and does not, nothing that is left can be found.
pub fn can_see_processes() -> bool {
    !cfg!(target_os = "linux") || std::path::Path::new("/proc/self/stat").exists()
}

/// Has a stopped process go on when the one that started it dies, so that it can see to its own end. Where the system
/// cannot do that, it stays stopped.
#[cfg(target_os = "linux")]
pub fn wake_at_death_of_parent() {
    // It comes as well when only the thread ends that started this process, which does no harm.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::CONT)) {
        tracing::debug!(%error, "a stopped executor will not notice the death of its orchestrator");
    }
}

/// Has a stopped process go on when the one that started it dies, where the system can do that.
#[cfg(not(target_os = "linux"))]
pub fn wake_at_death_of_parent() {}

/// Puts the calling process into a session of its own: no terminal, and no signal that a terminal sends.
pub fn enter_own_session() {
    if let Err(error) = rustix::process::setsid() {
        tracing::warn!(%error, "no session of its own");
    }
}

/// Has no program that this process starts inherit what it has inherited itself besides its standard input and outputs: a
/// file that is open for writing can be written to from inside of every fence.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the call has no safe form")]
pub fn keep_inherited_files() {
    let first: libc::c_uint = 3;
    // SAFETY: the call takes three numbers, and sets a flag of descriptors that stay open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "an agent may inherit files that this program was started with");
    }
}

/// There is no fence either.
#[cfg(not(target_os = "linux"))]
pub fn keep_inherited_files() {}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
