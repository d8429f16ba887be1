//! Who a process is, in a form that can be written down: its number alone is somebody else's after a while.

use std::fmt;
use std::str::FromStr;

/// A process: the start of the system that it runs on, its number, and when it started, in clock ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    boot: String,
    pid: u32,
    started: u64,
}

impl Identity {
    /// That of this process, where the system tells.
    #[cfg(target_os = "linux")]
    pub fn of_this_process() -> Option<Self> {
        let pid = std::process::id();
        Some(Self {
            boot: boot()?,
            pid,
            started: super::table::Entry::read(pid)?.started,
        })
    }

    /// That of this process, where the system tells.
    #[cfg(not(target_os = "linux"))]
    pub fn of_this_process() -> Option<Self> {
        None
    }

    /// Whether that very process has not ended.
    #[cfg(target_os = "linux")]
    pub fn is_alive(&self) -> bool {
        boot().as_ref() == Some(&self.boot)
            && super::table::Entry::read(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Whether that very process has not ended, where the system tells.
    #[cfg(not(target_os = "linux"))]
    pub fn is_alive(&self) -> bool {
        false
    }

    /// Whether that very process goes on: one that is just ending gives its locks back before it is gone, and has
    /// `patience` for the rest. Blocks.
    #[cfg(target_os = "linux")]
    pub fn goes_on(&self, patience: std::time::Duration) -> bool {
        if !self.is_alive() {
            return false;
        }
        let own = |entry: &super::table::Entry| entry.started == self.started;
        if let Some(handle) = super::handle::Handle::open(self.pid, own) {
            handle.wait(patience);
        }
        self.is_alive()
    }

    /// Whether that very process goes on, where the system tells.
    #[cfg(not(target_os = "linux"))]
    pub fn goes_on(&self, _patience: std::time::Duration) -> bool {
        false
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// A name of the start of this system, which no other start has.
#[cfg(target_os = "linux")]
fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.boot, self.pid, self.started)
    }
}

/// Not the text of an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this names no process")]
pub struct IdentityError;

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[boot, pid, started] = words.as_slice() else {
            return Err(IdentityError);
        };
        Ok(Self {
            boot: boot.to_owned(),
            pid: pid.parse().map_err(|_| IdentityError)?,
            started: started.parse().map_err(|_| IdentityError)?,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_of_its_number_is_not_it() {
        let own = Identity::of_this_process().unwrap();
        assert!(own.is_alive() && own.goes_on(std::time::Duration::from_millis(1)));
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        let earlier = Identity {
            started: own.started - 1,
            ..own.clone()
        };
        let before = Identity {
            boot: "another".to_owned(),
            ..own
        };
        assert!(!earlier.is_alive() && !before.is_alive());
        for text in ["", "a b c", "a 1", "a 1 2 3"] {
            assert_eq!(text.parse::<Identity>(), Err(IdentityError), "{text}");
        }
    }
}
