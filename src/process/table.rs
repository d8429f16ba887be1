//! The table of processes, as `/proc` shows it (`proc(5)`). Linux only.
//!
//! What is read here may be out of date by the time it is looked at. Whoever signals a process holds it first
//! ([`super::handle`]).

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A process that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pid: u32,
    /// Its name: at most 15 bytes, as the program chose it.
    pub(super) name: String,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    pub(super) terminal: Terminal,
    /// When it started, in clock ticks since the system did. With the number, this is its identity.
    pub(super) started: u64,
}

/// Whether a process has a controlling terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terminal {
    None,
    Some,
}

/// The environment that a process was started with.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables(Vec<u8>);

impl Variables {
    /// Those of a process; none when they may not be read, or it has cleared them.
    pub(super) fn of(pid: u32) -> Self {
        Self(std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self
            .0
            .split(|byte| *byte == 0)
            .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        std::str::from_utf8(value).ok()
    }
}

impl Entry {
    /// The process of that number; none when there is none, or it has ended and only waits to be reaped.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&stat)
    }

    /// Whether it has one of these names, of which the system keeps 15 bytes.
    pub(super) fn is_named(&self, names: &[String]) -> bool {
        names.iter().any(|name| {
            let kept = name.as_bytes().get(..15).unwrap_or(name.as_bytes());
            kept == self.name.as_bytes()
        })
    }

    /// The name in field 2 may hold anything, parentheses as well, so counting starts after its last one.
    fn parse(stat: &str) -> Option<Self> {
        let (front, rest) = stat.rsplit_once(')')?;
        let (pid, name) = front.split_once('(')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        if matches!(fields.first(), Some(&"Z" | &"X" | &"x")) {
            return None;
        }
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.chars().filter(|c| !c.is_control()).collect(),
            parent: u32::try_from(number(4)?).ok()?,
            group: u32::try_from(number(5)?).ok()?,
            session: u32::try_from(number(6)?).ok()?,
            // Field 7 is signed: a kernel thread has none, which is shown as 0.
            terminal: match fields.get(4) {
                Some(&"0") => Terminal::None,
                _ => Terminal::Some,
            },
            started: number(22)?,
        })
    }
}

/// Every number that is in use.
pub(super) fn all() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The children of a process, those that have ended and are not reaped included; none when it is gone or they cannot be
/// read. One that starts or ends meanwhile may be missing.
pub(super) fn children(pid: u32) -> Vec<u32> {
    try_children(pid).unwrap_or_default()
}

/// The children of a process, as far as they can be read: none when nothing can.
pub(super) fn try_children(pid: u32) -> Option<Vec<u32>> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let lists: Vec<std::io::Result<String>> = threads
        .filter_map(Result::ok)
        .map(|thread| std::fs::read_to_string(thread.path().join("children")))
        .collect();
    // A kernel without `CONFIG_PROC_CHILDREN`: every process is asked for its parent.
    if lists.iter().all(Result::is_err) {
        let all = all();
        // Not even this process is seen: nothing can be read.
        if all.is_empty() {
            return None;
        }
        let own = |other: &u32| parent_of(*other) == Some(pid);
        return Some(all.into_iter().filter(own).collect());
    }
    let children = lists
        .into_iter()
        .filter_map(Result::ok)
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect();
    Some(children)
}

/// Also of a process that has ended.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The working directory of a process.
pub(super) fn working_directory(pid: u32) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    // The kernel marks a folder that was removed.
    let bytes = path.as_os_str().as_bytes();
    let kept = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Some(Path::new(std::ffi::OsStr::from_bytes(kept)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 6 5 0 -1 4194304 0 0 0 0 11 22 0 0 20 0 1 0 555 1000 333 1";
        let entry = Entry::parse(stat).unwrap();
        assert_eq!(
            (entry.pid, entry.parent, entry.session, entry.started),
            (7, 1, 5, 555)
        );
        assert_eq!(entry.name, "a) b (c");
        assert_eq!(entry.terminal, Terminal::None);
    }

    #[test]
    fn names_are_compared_as_far_as_the_system_keeps_them() {
        let stat =
            "7 (a-very-long-nam) S 1 6 5 0 -1 4194304 0 0 0 0 11 22 0 0 20 0 1 0 555 1000 333 1";
        let entry = Entry::parse(stat).unwrap();
        assert!(entry.is_named(&["other".to_owned(), "a-very-long-name".to_owned()]));
        assert!(!entry.is_named(&["a-very-long".to_owned()]));
        assert!(!entry.is_named(&[]));
    }

    #[test]
    fn what_has_ended_is_no_entry() {
        let stat = "7 (x) Z 1 6 5 0 -1 4194304 0 0 0 0 11 22 0 0 20 0 1 0 555 0 0 1";
        assert_eq!(Entry::parse(stat), None);
        assert_eq!(Entry::parse("nonsense"), None);
    }

    #[test]
    fn this_process_has_the_children_that_it_starts() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        let entry = Entry::read(child.id()).unwrap();
        assert_eq!(entry.parent, std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Entry::read(child.id()), None);
    }
}
