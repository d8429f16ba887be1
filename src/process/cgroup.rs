//! Groups of processes that nothing leaves by itself: one cgroup for each attempt, where this process may make any.
//!
//! A second layer under the sweep of orphans. Membership is inherited and says nothing of the environment, the session
//! or the working directory, and the group outlives whoever made it: what a simultaneous SIGKILL of orchestrator and
//! executor leaves is found in it. It has to be cgroup v2, writable, with `cgroup.kill` (Linux 5.14). Nothing depends on
//! it: where a group cannot be made, or somebody takes it away, every function does nothing and says so at debug level.
//!
//! A group is `<the group of this process>/ai-sdlc-<run>/<story>-<attempt>`. That of a run is only ever used by who made
//! it, so that everything in it comes from that run.

use std::path::Path;
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Leaf, RunGroup};
#[cfg(target_os = "linux")]
pub(super) use linux::most_memory;
#[cfg(target_os = "linux")]
pub use linux::{Leaf, RunGroup};

use super::Found;

/// What became of what an attempt had left in its group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeafEnd {
    /// What was killed.
    pub ended: Vec<Found>,
    /// What is still there: it may stay, or it hangs in the kernel.
    pub stayed: Vec<Found>,
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Duration, LeafEnd, Path};

    /// The group of a run. There is none on this system.
    #[derive(Debug)]
    pub enum RunGroup {}

    impl RunGroup {
        /// Makes none.
        pub fn make(_run: &str) -> Option<Self> {
            None
        }

        /// Finds none.
        pub fn noted(_run: &str, _path: &Path) -> Option<Self> {
            None
        }

        /// The run.
        pub fn run(&self) -> &str {
            match *self {}
        }

        /// Where it is.
        pub fn path(&self) -> &Path {
            match *self {}
        }

        /// Makes none.
        pub fn leaf(&self, _story: &str, _attempt: u32) -> Option<Leaf> {
            match *self {}
        }

        /// Removes nothing.
        pub fn remove(&self) -> bool {
            match *self {}
        }
    }

    /// The group of an attempt. There is none on this system.
    #[derive(Debug)]
    pub enum Leaf {}

    impl Leaf {
        /// Moves nothing.
        pub fn join(&self, _pid: u32) -> bool {
            match *self {}
        }

        /// None.
        pub fn is_populated(&self) -> bool {
            match *self {}
        }

        /// Ends nothing.
        pub fn end(&self, _keep: &[String], _within: Duration) -> LeafEnd {
            match *self {}
        }

        /// Removes nothing.
        pub fn remove(&self) -> bool {
            match *self {}
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::{Component, PathBuf};
    use std::time::Instant;

    use super::super::table::Entry;
    use super::{Duration, Found, LeafEnd, Path};

    /// How long one look at a group that is ending waits for the next.
    const NAP: Duration = Duration::from_millis(1);

    /// How deep groups below one of ours are looked for: an agent may make some, and a run that it starts does.
    const DEEPEST: u32 = 16;

    /// The group of a run, which holds those of its attempts.
    #[derive(Debug)]
    pub struct RunGroup {
        run: String,
        path: PathBuf,
    }

    impl RunGroup {
        /// Makes that of a run, below the group that this process is in.
        pub fn make(run: &str) -> Option<Self> {
            match Self::try_make(run) {
                Ok(group) => Some(group),
                Err(error) => {
                    tracing::debug!(%error, run, "no groups for attempts");
                    None
                }
            }
        }

        fn try_make(run: &str) -> io::Result<Self> {
            let path = own_group()?.join(name_of(run).ok_or_else(|| unfit(run))?);
            // One that is there already is somebody else's.
            fs::create_dir(&path)?;
            let group = Self {
                run: run.to_owned(),
                path,
            };
            if !group.path.join(KILL).exists() {
                group.remove();
                return Err(io::Error::other("it has no cgroup.kill"));
            }
            Ok(group)
        }

        /// That of an earlier run, if it can be the one that was noted for it. It may be gone.
        pub fn noted(run: &str, path: &Path) -> Option<Self> {
            let name = name_of(run)?;
            let plain = path
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            let below = |mount: &Mount| path.starts_with(&mount.point);
            let is_it = plain && path.ends_with(&name) && mounts().ok()?.iter().any(below);
            is_it.then(|| Self {
                run: run.to_owned(),
                path: path.to_owned(),
            })
        }

        /// Where it is.
        pub fn path(&self) -> &Path {
            &self.path
        }

        /// Makes that of an attempt.
        pub fn leaf(&self, story: &str, attempt: u32) -> Option<Leaf> {
            if !is_fit(story) {
                return None;
            }
            let path = self.path.join(format!("{story}-{attempt}"));
            match fs::create_dir(&path) {
                Ok(()) => Some(Leaf { path }),
                Err(error) => {
                    tracing::debug!(%error, group = %path.display(), "not made");
                    None
                }
            }
        }

        /// Removes it and what is below it, as far as nobody is in there. Whether it is gone.
        pub fn remove(&self) -> bool {
            remove(&self.path)
        }

        /// The run.
        pub fn run(&self) -> &str {
            &self.run
        }

        /// The processes in it, with the stories whose groups they are in.
        pub(in super::super) fn members(&self) -> Vec<(u32, Option<String>)> {
            let mut members: Vec<_> = pids_in(&self.path).map(|pid| (pid, None)).collect();
            for leaf in below(&self.path) {
                let name = leaf.file_name().unwrap_or_default().to_string_lossy();
                let story = name.rsplit_once('-').map(|(story, _)| story.to_owned());
                let pids = pids(&leaf).into_iter();
                members.extend(pids.map(|pid| (pid, story.clone())));
            }
            members
        }

        /// Kills everything in it and waits for the end. Whether nobody is left.
        pub(in super::super) fn kill(&self, within: Duration) -> bool {
            kill(&self.path, within)
        }

        /// Whether there is a process in it.
        pub(in super::super) fn is_populated(&self) -> bool {
            is_populated(&self.path)
        }
    }

    /// The group of an attempt.
    #[derive(Debug)]
    pub struct Leaf {
        path: PathBuf,
    }

    impl Leaf {
        /// Moves a process into it, with all its threads; what it starts from then on is in it as well. Whether it was
        /// done. The caller holds the process unreaped. Blocks: the system may take milliseconds for it.
        pub fn join(&self, pid: u32) -> bool {
            let joined = write(&self.path.join(PROCESSES), &pid.to_string());
            if let Err(error) = &joined {
                tracing::debug!(%error, pid, group = %self.path.display(), "not moved");
            }
            joined.is_ok()
        }

        /// The processes in it.
        pub fn pids(&self) -> Vec<u32> {
            pids(&self.path)
        }

        /// Whether there is a process in it.
        pub fn is_populated(&self) -> bool {
            is_populated(&self.path)
        }

        /// Kills everything in it and waits for the end. Whether nobody is left.
        pub fn kill(&self, within: Duration) -> bool {
            kill(&self.path, within)
        }

        /// Kills everything in it, unless something in it has a name that may stay: then everything may, because what
        /// that has started cannot be told from the rest. Blocks.
        pub fn end(&self, keep: &[String], within: Duration) -> LeafEnd {
            let entries = entries(&self.pids());
            let mut end = LeafEnd::default();
            if entries.iter().any(|entry| entry.is_named(keep)) {
                end.stayed = found(&entries);
                return end;
            }
            if self.is_populated() {
                end.ended = found(&entries);
                if !self.kill(within) {
                    end.stayed = found(&self::entries(&self.pids()));
                    let stayed = &end.stayed;
                    end.ended.retain(|found| !stayed.contains(found));
                }
            }
            end
        }

        /// Removes it when nobody is in it. Whether it is gone.
        pub fn remove(&self) -> bool {
            remove(&self.path)
        }
    }

    const PROCESSES: &str = "cgroup.procs";
    const KILL: &str = "cgroup.kill";

    fn entries(pids: &[u32]) -> Vec<Entry> {
        pids.iter().filter_map(|pid| Entry::read(*pid)).collect()
    }

    fn found(entries: &[Entry]) -> Vec<Found> {
        let found = entries.iter().map(|entry| Found {
            pid: entry.pid,
            name: entry.name.clone(),
        });
        found.collect()
    }

    /// The name of the group of a run.
    fn name_of(run: &str) -> Option<String> {
        is_fit(run).then(|| format!("ai-sdlc-{run}"))
    }

    /// Whether a name can be part of that of a folder and means nothing else.
    fn is_fit(name: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        name.bytes().all(allowed)
            && name.len() <= 100
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
    }

    fn unfit(name: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, format!("not a name: {name}"))
    }

    /// A place where the hierarchy of version 2 can be seen.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Mount {
        /// The group that is shown there.
        root: PathBuf,
        point: PathBuf,
    }

    /// A text of the system, in which there may be names that are none.
    fn read(path: &str) -> io::Result<String> {
        fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn mounts() -> io::Result<Vec<Mount>> {
        let table = read("/proc/self/mountinfo")?;
        Ok(table.lines().filter_map(mount).collect())
    }

    /// A line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`), when it is about that hierarchy.
    fn mount(line: &str) -> Option<Mount> {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then(|| Mount {
            root: unescaped(root),
            point: unescaped(point),
        })
    }

    /// Blanks and the like are written as `\` and three octal digits.
    fn unescaped(text: &str) -> PathBuf {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let code = after
                .get(..3)
                .and_then(|code| std::str::from_utf8(code).ok());
            let code = code.and_then(|code| u8::from_str_radix(code, 8).ok());
            match code {
                Some(byte) if *first == b'\\' => {
                    bytes.push(byte);
                    rest = &after[3..];
                }
                _ => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        PathBuf::from(std::ffi::OsString::from_vec(bytes))
    }

    /// Where the group that this process is in can be seen, when others can be made below it.
    fn own_group() -> io::Result<PathBuf> {
        let path = group_of_this_process()?;
        // A group that hands controllers down holds no processes, but for the first one, which has no type.
        let handed = fs::read_to_string(path.join("cgroup.subtree_control"))?;
        if !handed.trim().is_empty() && path.join("cgroup.type").exists() {
            return Err(io::Error::other("its group hands controllers down"));
        }
        Ok(path)
    }

    /// The most memory that the groups let this process and what it starts have, in bytes; none when they do not say.
    pub(in crate::process) fn most_memory() -> Option<u64> {
        let own = group_of_this_process().ok()?;
        // Those that are no group have no such file.
        let limits = own
            .ancestors()
            .filter_map(|group| fs::read_to_string(group.join("memory.max")).ok());
        limits.filter_map(|limit| limit.trim().parse().ok()).min()
    }

    fn group_of_this_process() -> io::Result<PathBuf> {
        let groups = read("/proc/self/cgroup")?;
        let name = groups
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .ok_or_else(|| io::Error::other("there is no hierarchy of version 2"))?;
        let own = std::process::id().to_string();
        for mount in mounts()? {
            let Some(path) = place(&mount, Path::new(name)) else {
                continue;
            };
            // It is the right place only if this process is in it.
            let members = fs::read_to_string(path.join(PROCESSES)).unwrap_or_default();
            if members.lines().any(|pid| pid == own) {
                return Ok(path);
            }
        }
        Err(io::Error::other("its group cannot be seen"))
    }

    /// Where a group can be seen.
    fn place(mount: &Mount, group: &Path) -> Option<PathBuf> {
        let inside = group.strip_prefix(&mount.root).ok()?;
        let plain = |part| matches!(part, Component::Normal(_));
        inside
            .components()
            .all(plain)
            .then(|| mount.point.join(inside))
    }

    fn write(path: &Path, text: &str) -> io::Result<()> {
        // Not `fs::write`, which asks for a new file.
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    }

    /// The groups directly below one.
    fn below(group: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(group) else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect()
    }

    /// The processes of one group alone. One of another namespace has no number.
    fn pids_in(group: &Path) -> impl Iterator<Item = u32> {
        let list = fs::read_to_string(group.join(PROCESSES)).unwrap_or_default();
        let pids: Vec<u32> = list.lines().filter_map(|pid| pid.parse().ok()).collect();
        pids.into_iter().filter(|pid| *pid != 0)
    }

    /// The processes of a group and of those below it.
    fn pids(group: &Path) -> Vec<u32> {
        let mut found = Vec::new();
        let mut open = vec![(group.to_owned(), 0)];
        while let Some((group, depth)) = open.pop() {
            found.extend(pids_in(&group));
            if depth < DEEPEST {
                open.extend(below(&group).into_iter().map(|group| (group, depth + 1)));
            }
        }
        found
    }

    /// Of a group with those below it (`cgroup.events`).
    fn is_populated(group: &Path) -> bool {
        fs::read_to_string(group.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    fn kill(group: &Path, within: Duration) -> bool {
        let began = Instant::now();
        while is_populated(group) {
            if began.elapsed() > within {
                return false;
            }
            if let Err(error) = write(&group.join(KILL), "1") {
                tracing::debug!(%error, group = %group.display(), "not killed");
                return false;
            }
            std::thread::sleep(NAP);
        }
        true
    }

    /// The folders below one are removed first; their files go with them.
    fn remove(group: &Path) -> bool {
        let gone = |removed: &io::Result<()>| match removed {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if gone(&fs::remove_dir(group)) {
            return true;
        }
        let mut groups = vec![(group.to_owned(), 0)];
        let mut next = 0;
        while let Some((group, depth)) = groups.get(next).cloned() {
            if depth < DEEPEST {
                groups.extend(below(&group).into_iter().map(|group| (group, depth + 1)));
            }
            next += 1;
        }
        let mut all = true;
        for (group, _) in groups.iter().rev() {
            let removed = fs::remove_dir(group);
            if !gone(&removed) {
                tracing::debug!(?removed, group = %group.display(), "stays");
                all = false;
            }
        }
        all
    }

    #[cfg(test)]
    mod tests;
}
