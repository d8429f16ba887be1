//! The table of processes, as `/proc` shows it (`proc(5)`). Linux only.
//!
//! What is read here may be out of date by the time it is looked at. Whoever signals a process holds it first
//! ([`super::handle`]).

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A process, or a thread, as `proc_pid_stat(5)` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pid: u32,
    /// Its name: at most 15 bytes, as the program chose it.
    pub(super) name: String,
    pub(super) state: State,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    pub(super) terminal: Terminal,
    /// When it started, in clock ticks since the system did. With the number, this is its identity.
    pub(super) started: u64,
    /// The processor time that it has used, with that of its children whose end was seen, in clock ticks.
    pub(super) used: u64,
    /// The memory of it that is there, in pages.
    pub(super) resident: u64,
}

/// What a process is at, as far as anybody here wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has ended, and waits to be reaped.
    Ended,
    /// It waits for a disk, or for something else that no signal interrupts.
    InDiskWait,
    /// Anything else.
    Alive,
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
        Self::read_any(pid).filter(|entry| entry.state != State::Ended)
    }

    /// The process of that number, also when it has ended.
    pub(super) fn read_any(pid: u32) -> Option<Self> {
        Self::read_in(Path::new(&format!("/proc/{pid}")))
    }

    /// The process or the thread of that folder, also when it has ended.
    pub(super) fn read_in(folder: &Path) -> Option<Self> {
        // A name may be any bytes: programs choose theirs, and the system cuts them wherever 15 bytes end.
        let stat = std::fs::read(folder.join("stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&stat))
    }

    /// Whether it has one of these names, of which the system keeps 15 bytes.
    pub(super) fn is_named(&self, names: &[String]) -> bool {
        names.iter().any(|name| {
            let kept = name.as_bytes().get(..15).unwrap_or(name.as_bytes());
            String::from_utf8_lossy(kept) == self.name
        })
    }

    /// The name in field 2 may hold anything, parentheses as well, so counting starts after its last one.
    fn parse(stat: &str) -> Option<Self> {
        let (front, rest) = stat.rsplit_once(')')?;
        let (pid, name) = front.split_once('(')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let state = match *fields.first()? {
            "Z" | "X" | "x" => State::Ended,
            "D" => State::InDiskWait,
            _ => State::Alive,
        };
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.chars().filter(|c| !c.is_control()).collect(),
            state,
            parent: u32::try_from(number(4)?).ok()?,
            group: u32::try_from(number(5)?).ok()?,
            session: u32::try_from(number(6)?).ok()?,
            // Field 7 is signed: a kernel thread has none, which is shown as 0.
            terminal: match fields.get(4) {
                Some(&"0") => Terminal::None,
                _ => Terminal::Some,
            },
            started: number(22)?,
            used: number(14)? + number(15)? + number(16)? + number(17)?,
            resident: number(24)?,
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
        let own = |other: &u32| Entry::read_any(*other).is_some_and(|entry| entry.parent == pid);
        return Some(all.into_iter().filter(own).collect());
    }
    let children = lists
        .into_iter()
        .filter_map(Result::ok)
        .flat_map(|list| numbers_in(&list).collect::<Vec<u32>>())
        .collect();
    Some(children)
}

/// The children that a process has inherited, and those that its main thread has started; those that have ended and are not
/// reaped included. The kernel gives orphans to the first thread of the process that inherits them, which is the main one
/// (`find_new_reaper` in its `exit.c`), so that the lists of all the others need not be read.
pub(super) fn inherited_children(pid: u32) -> Vec<u32> {
    match std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(list) => numbers_in(&list).collect(),
        Err(_) => children(pid),
    }
}

fn numbers_in(list: &str) -> impl Iterator<Item = u32> {
    list.split_whitespace().filter_map(|pid| pid.parse().ok())
}

/// Whether a process runs the same image as this one.
pub(super) fn has_own_image(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let image = |of: &str| {
        let metadata = std::fs::metadata(format!("/proc/{of}/exe")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    image(&pid.to_string()).is_some_and(|image_of| image("self") == Some(image_of))
}

/// Whether a process hides where it comes from and works in a folder, or below it: it has no terminal and no home, which a
/// person's process has. One whose environment may not be read hides nothing.
pub(super) fn hides_in(folder: &Path, entry: &Entry, variables: &Variables) -> bool {
    let readable = || std::fs::read(format!("/proc/{}/environ", entry.pid)).is_ok();
    entry.terminal == Terminal::None
        && variables.get("HOME").is_none()
        && working_directory(entry.pid).is_some_and(|directory| directory.starts_with(folder))
        && readable()
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
        let stat = "7 (a) b (c) S 1 6 5 0 -1 4194304 0 0 0 0 11 22 3 4 20 0 1 0 555 1000 333 1";
        let entry = Entry::parse(stat).unwrap();
        assert_eq!(
            (entry.pid, entry.parent, entry.session, entry.started),
            (7, 1, 5, 555)
        );
        assert_eq!((entry.used, entry.resident), (40, 333));
        assert_eq!(entry.state, State::Alive);
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
    fn a_name_may_be_any_bytes() {
        let seen_as = |name: Vec<u8>| {
            let name = std::ffi::CString::new(name).unwrap();
            std::thread::spawn(move || {
                rustix::thread::set_name(&name).unwrap();
                Entry::read_in(Path::new("/proc/thread-self")).unwrap()
            })
            .join()
            .unwrap()
        };
        let long = "fünfzehn-byteö";
        // The fifteenth byte is in the middle of a letter.
        assert!(std::str::from_utf8(&long.as_bytes()[..15]).is_err());
        let entry = seen_as(long.into());
        assert!(entry.is_named(&[long.to_owned()]), "{entry:?}");
        assert_eq!(seen_as(b"\xff\xfe) Z".to_vec()).parent, entry.parent);
    }

    #[test]
    fn what_a_process_is_at_is_told_by_its_letter() {
        let state = |letter: &str| {
            let stat = format!("7 (x) {letter} 1 6 5 0 -1 0 0 0 0 0 11 22 0 0 20 0 1 0 555 0 0 1");
            Entry::parse(&stat).map(|entry| entry.state)
        };
        assert_eq!(state("Z"), Some(State::Ended));
        assert_eq!(state("D"), Some(State::InDiskWait));
        assert_eq!(state("T"), Some(State::Alive));
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
        crate::process::exit::wait_unreaped(child.id());
        assert_eq!(Entry::read(child.id()), None);
        assert!(Entry::read_any(child.id()).is_some_and(|entry| entry.state == State::Ended));
        child.wait().unwrap();
        assert_eq!(Entry::read_any(child.id()), None);
    }
}
