//! What runs that are over have left running: found by identity, reported, ended.
//!
//! A process is a leftover when it carries the mark of a run that is over; or when it has cleared its environment, works
//! in a worktree of this board, started after such a run did, has no terminal and has lost its parent; or when it
//! descends from one of these; or when it is in a group that only such a run has put processes into ([`super::cgroup`]),
//! which needs no mark and no place. Neither its name nor its working directory alone says anything: a person's shell and
//! editor work in worktrees too. Only Linux tells what is asked here; elsewhere nothing is found.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Found, RunGroup};

/// Where to look and for what.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The variable that names the run of a process.
    pub run: &'a str,
    /// The variable that names its story.
    pub story: &'a str,
    /// Whether a run is over, and one of this board. The caller holds the lock that makes sure of it.
    pub is_over: &'a dyn Fn(&str) -> bool,
    /// Names of processes that may stay, with everything below them.
    pub keep: &'a [String],
    /// The folder of the worktrees of this board.
    pub worktrees: &'a Path,
    /// The groups of those runs, where they could make some.
    pub groups: &'a [RunGroup],
    /// When the run began that left processes without a mark; none when such are not looked for.
    pub since: Option<SystemTime>,
    /// For how long to look at every process that starts as well. One that forks and ends, over and over, is never in a
    /// list that takes longer to read than it lives.
    pub newest: Duration,
}

/// A process that a run has left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Which process.
    pub found: Found,
    /// The run, where the process says so.
    pub run: Option<String>,
    /// The story, where the process says so.
    pub story: Option<String>,
}

/// What became of the leftovers of earlier runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Those that had to be ended.
    pub ended: Vec<Leftover>,
    /// Those that could not be ended.
    pub stayed: Vec<Leftover>,
}

#[cfg(target_os = "linux")]
pub use linux::{end_leftovers, leftovers};

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{end_leftovers, leftovers};

/// How long leftovers may take in all to end once they are killed. Only a process that hangs in the kernel needs it.
#[cfg(target_os = "linux")]
const KILLING: Duration = Duration::from_secs(5);

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Duration, Leftover, Reaped, Search};

    /// Finds nothing.
    pub fn leftovers(_search: &Search<'_>) -> Vec<Leftover> {
        Vec::new()
    }

    /// Finds nothing.
    pub fn end_leftovers(_search: &Search<'_>, _alone: Duration, _polite: Duration) -> Reaped {
        Reaped::default()
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::{Duration, Instant, SystemTime};

    use super::super::Ending;
    use super::super::handle::Handle;
    use super::super::table::{self, Entry, Variables};
    use super::{KILLING, Leftover, Reaped, Search};

    /// The most processes that are named when many are ended.
    const MOST_NAMED: usize = 100;

    /// How long a group that was killed may take to end before everything is looked at again.
    const GROUP_KILLING: Duration = Duration::from_millis(100);

    /// How long one look waits for the first of those that were asked or killed.
    const NAP: Duration = Duration::from_millis(20);

    /// The leftovers that are there now; of one that forks and ends, over and over, its last process.
    pub fn leftovers(search: &Search<'_>) -> Vec<Leftover> {
        let mut found: Vec<Leftover> = look(search).into_iter().map(|(_, left)| left).collect();
        let origin = |left: &Leftover| (left.run.clone(), left.story.clone());
        let known: BTreeSet<_> = found.iter().map(origin).collect();
        let mut fleeting = BTreeMap::new();
        watch_starts(search, |handle, left| {
            fleeting.insert((origin(&left), handle.found().name), left);
        });
        fleeting.retain(|(origin, _), _| !known.contains(origin));
        found.extend(fleeting.into_values());
        found
    }

    /// Gives leftovers the time `alone` to end by themselves, asks what is left, and kills what is left `polite` later.
    /// Blocks.
    pub fn end_leftovers(search: &Search<'_>, alone: Duration, polite: Duration) -> Reaped {
        let began = Instant::now();
        let mut reaped = Reaped::default();
        let mut signalled = BTreeSet::new();
        loop {
            let there = look(search);
            let elapsed = began.elapsed();
            let hurried = elapsed >= alone + polite || there.is_empty();
            let chased = hurried && chase(search, &mut reaped) == Chased::Some;
            let Some((first, _)) = there.first() else {
                let killed = kill_groups(search, &mut reaped);
                if (chased || killed) && elapsed < alone + polite + KILLING {
                    continue;
                }
                return reaped;
            };
            let (ending, until) = if elapsed < alone {
                (None, alone)
            } else if elapsed < alone + polite {
                (Some(Ending::Terminate), alone + polite)
            } else {
                (Some(Ending::Kill), alone + polite + KILLING)
            };
            if let Some(ending) = ending {
                for (handle, left) in &there {
                    let fresh = signalled.insert((handle.entry.pid, handle.entry.started));
                    if fresh {
                        reaped.ended.push(left.clone());
                    }
                    if fresh || ending == Ending::Kill {
                        handle.signal(ending);
                    }
                }
                if ending == Ending::Kill {
                    kill_groups(search, &mut reaped);
                }
            }
            if elapsed >= alone + polite + KILLING {
                reaped.stayed = there.into_iter().map(|(_, left)| left).collect();
                let stayed = &reaped.stayed;
                reaped.ended.retain(|left| !stayed.contains(left));
                return reaped;
            }
            let left = until.saturating_sub(elapsed);
            first.wait(if ending.is_some() {
                left.min(NAP)
            } else {
                left
            });
        }
    }

    /// Kills what is in the groups, also what is never there for long. One with a process that is not to be touched is
    /// left to the other ways. Whether there was any.
    fn kill_groups(search: &Search<'_>, reaped: &mut Reaped) -> bool {
        let mut killed = false;
        for group in search.groups.iter().filter(|group| group.is_populated()) {
            let members = group.members();
            let entries: Vec<(Entry, Option<String>)> = members
                .into_iter()
                .filter_map(|(pid, story)| Some((Entry::read(pid)?, story)))
                .collect();
            let untouchable = ancestors(Entry::read);
            let is_barred =
                |entry: &Entry| untouchable.contains(&entry.pid) || entry.is_named(search.keep);
            if entries.iter().any(|(entry, _)| is_barred(entry)) {
                continue;
            }
            killed = true;
            group.kill(GROUP_KILLING);
            for (entry, story) in entries {
                let is_new = reaped.ended.iter().all(|left| left.found.pid != entry.pid);
                if is_new && reaped.ended.len() < MOST_NAMED {
                    reaped
                        .ended
                        .push(in_group(&entry, group.run(), story.as_deref()));
                }
            }
        }
        killed
    }

    fn in_group(entry: &Entry, run: &str, story: Option<&str>) -> Leftover {
        Leftover {
            found: super::Found {
                pid: entry.pid,
                name: entry.name.clone(),
            },
            run: Some(printable(run)),
            story: story.map(printable),
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Chased {
        None,
        Some,
    }

    /// Kills every process with the mark of a run that is over as soon as it starts.
    fn chase(search: &Search<'_>, reaped: &mut Reaped) -> Chased {
        let mut chased = Chased::None;
        watch_starts(search, |handle, left| {
            handle.signal(Ending::Kill);
            chased = Chased::Some;
            if reaped.ended.len() < MOST_NAMED {
                reaped.ended.push(left);
            }
        });
        chased
    }

    /// Tells of every process with the mark of a run that is over as soon as it starts, for as long as is searched for such.
    /// The number of the newest process is told by the system, so that one is seen within microseconds of its start.
    fn watch_starts(search: &Search<'_>, mut tell: impl FnMut(&Handle, Leftover)) {
        let until = Instant::now() + search.newest;
        let mut last = newest_process().unwrap_or_default();
        while Instant::now() < until {
            let newest = newest_process().unwrap_or_default();
            // Numbers start again from below when all have been used.
            let first = if newest > last { last + 1 } else { newest };
            // The newest first: the others may have ended by now, and it may soon.
            for pid in (first..=newest).rev() {
                if pid == last {
                    continue;
                }
                let variables = Variables::of(pid);
                let Some(run) = variables
                    .get(search.run)
                    .filter(|run| (search.is_over)(run))
                else {
                    continue;
                };
                // The same number has the same start, or it is another process that is not meant.
                let marked = |_: &Entry| {
                    Variables::of(pid).get(search.run) == Some(run)
                        && !is_untouchable(pid, search.keep)
                };
                if let Some(handle) = Handle::open(pid, marked) {
                    let left = Leftover {
                        found: handle.found(),
                        run: Some(printable(run)),
                        story: variables.get(search.story).map(printable),
                    };
                    tell(&handle, left);
                }
            }
            last = newest;
        }
    }

    /// The number that was given last (`proc_loadavg(5)`).
    fn newest_process() -> Option<u32> {
        let text = std::fs::read_to_string("/proc/loadavg").ok()?;
        text.split_whitespace().next_back()?.parse().ok()
    }

    fn look(search: &Search<'_>) -> Vec<(Handle, Leftover)> {
        let entries: BTreeMap<u32, Entry> = table::all()
            .into_iter()
            .filter_map(|pid| Some((pid, Entry::read(pid)?)))
            .collect();
        // Read after the table: who was in it before and is the same process afterwards was meant.
        let mut members = BTreeMap::new();
        for group in search.groups {
            for (pid, story) in group.members() {
                members.insert(pid, (group.run(), story));
            }
        }
        let mut untouchable = ancestors(|pid| entries.get(&pid).cloned());
        untouchable.extend(with_descendants(&entries, |entry| {
            entry.is_named(search.keep)
        }));
        let mut found: BTreeMap<u32, Option<Leftover>> = BTreeMap::new();
        let mut open = Vec::new();
        for entry in entries.values() {
            if untouchable.contains(&entry.pid) {
                continue;
            }
            if let Some(left) = recognise(entry, &entries, search) {
                found.insert(entry.pid, Some(left));
                open.push(entry.pid);
            } else if let Some((run, story)) = members.get(&entry.pid) {
                let left = in_group(entry, run, story.as_deref());
                found.insert(entry.pid, Some(left));
                open.push(entry.pid);
            }
        }
        // What descends from them came from the same run, whatever it says of itself.
        while let Some(parent) = open.pop() {
            for entry in entries.values().filter(|entry| entry.parent == parent) {
                if !untouchable.contains(&entry.pid) && !found.contains_key(&entry.pid) {
                    found.insert(entry.pid, None);
                    open.push(entry.pid);
                }
            }
        }
        found
            .into_iter()
            .filter_map(|(pid, left)| {
                let entry = entries.get(&pid)?;
                let handle = Handle::open(pid, |now| now.started == entry.started)?;
                let left = left.unwrap_or_else(|| Leftover {
                    found: handle.found(),
                    run: None,
                    story: None,
                });
                Some((handle, left))
            })
            .collect()
    }

    /// Whether a process that has just started belongs to this one or to one that may stay.
    fn is_untouchable(pid: u32, names: &[String]) -> bool {
        let mut line = BTreeSet::new();
        let mut above = pid;
        while above > 1 && line.insert(above) {
            let Some(entry) = Entry::read(above) else {
                break;
            };
            if above == std::process::id() || entry.is_named(names) {
                return true;
            }
            above = entry.parent;
        }
        let mut own = std::process::id();
        while own > 1 && own != pid {
            match Entry::read(own) {
                Some(entry) => own = entry.parent,
                None => break,
            }
        }
        own == pid
    }

    /// This process and those that it descends from: a person may well have started it from what an agent left.
    fn ancestors(read: impl Fn(u32) -> Option<Entry>) -> BTreeSet<u32> {
        let mut line = BTreeSet::new();
        let mut pid = std::process::id();
        while line.insert(pid) {
            match read(pid) {
                Some(entry) => pid = entry.parent,
                None => break,
            }
        }
        line
    }

    /// Those of these processes that are wanted, with everything below them.
    fn with_descendants(
        entries: &BTreeMap<u32, Entry>,
        wanted: impl Fn(&Entry) -> bool,
    ) -> BTreeSet<u32> {
        let first = entries.values().filter(|entry| wanted(entry));
        let mut open: Vec<u32> = first.map(|entry| entry.pid).collect();
        let mut all = BTreeSet::new();
        while let Some(pid) = open.pop() {
            if all.insert(pid) {
                let children = entries.values().filter(|entry| entry.parent == pid);
                open.extend(children.map(|entry| entry.pid));
            }
        }
        all
    }

    fn recognise(
        entry: &Entry,
        entries: &BTreeMap<u32, Entry>,
        search: &Search<'_>,
    ) -> Option<Leftover> {
        let variables = Variables::of(entry.pid);
        let run = variables.get(search.run);
        let is_left = match run {
            Some(run) => (search.is_over)(run),
            None => is_stray(entry, &variables, entries, search),
        };
        is_left.then(|| Leftover {
            found: super::Found {
                pid: entry.pid,
                name: entry.name.clone(),
            },
            run: run.map(printable),
            story: variables.get(search.story).map(printable),
        })
    }

    /// A process that hides where it comes from.
    fn is_stray(
        entry: &Entry,
        variables: &Variables,
        entries: &BTreeMap<u32, Entry>,
        search: &Search<'_>,
    ) -> bool {
        has_lost_its_parent(entry, entries)
            && search
                .since
                .is_some_and(|since| started_after(entry, since))
            && table::hides_in(search.worktrees, entry, variables)
    }

    /// It belongs to the first process, or to one that it was not started by: a child is in the session of its parent
    /// or leads one of its own.
    fn has_lost_its_parent(entry: &Entry, entries: &BTreeMap<u32, Entry>) -> bool {
        if entry.parent <= 1 {
            return true;
        }
        let leads = entry.session == entry.pid;
        let with_parent = entries
            .get(&entry.parent)
            .is_some_and(|parent| parent.session == entry.session);
        !leads && !with_parent
    }

    /// Within a second, which is as exact as the name of a run is.
    fn started_after(entry: &Entry, since: SystemTime) -> bool {
        let Some(uptime) = std::fs::read_to_string("/proc/uptime")
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        else {
            return false;
        };
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let age = Duration::try_from_secs_f64(uptime)
            .unwrap_or_default()
            .saturating_sub(Duration::from_millis(entry.started * 1000 / ticks));
        let now = SystemTime::now();
        let started = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        started + Duration::from_secs(1) >= since
    }

    fn printable(text: &str) -> String {
        text.chars().filter(|c| !c.is_control()).take(80).collect()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const RUN: &str = "LEFTOVERS_TEST_RUN";

    /// A process that ends with the test, however that ends.
    struct Started(std::process::Child);

    impl Drop for Started {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// Starts a shell and waits until it has said a line.
    fn started(command: &mut Command) -> (Started, String) {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Started(command.spawn().unwrap());
        let mut line = String::new();
        let stdout = child.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        (child, line.trim().to_owned())
    }

    fn search<'a>(worktrees: &'a Path, mark: &'a dyn Fn(&str) -> bool) -> Search<'a> {
        Search {
            run: RUN,
            story: "LEFTOVERS_TEST_STORY",
            is_over: mark,
            keep: &[],
            worktrees,
            groups: &[],
            since: Some(SystemTime::now()),
            newest: Duration::ZERO,
        }
    }

    #[test]
    fn a_process_that_is_never_there_for_long_is_found_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let stop = folder.path().join("stop");
        // Each shell starts the next one and ends. The file is the way out if nobody finds it.
        let script = "test -e stop || { sh ./runner.sh & }";
        std::fs::write(folder.path().join("runner.sh"), script).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo here; exec sh ./runner.sh >/dev/null"])
            .current_dir(folder.path())
            .env(RUN, "over");
        let (runner, _) = started(&mut command);
        let is_over = |run: &str| run == "over";
        let mut search = search(folder.path(), &is_over);
        search.newest = Duration::from_millis(200);
        // Each of its processes is another one, and one is enough to say that it is there.
        let named = leftovers(&search);
        let of_run = |left: &Leftover| left.run.as_deref() == Some("over");
        assert!(!named.is_empty() && named.iter().all(of_run), "{named:?}");
        let reaped = end_leftovers(&search, Duration::ZERO, Duration::ZERO);
        std::fs::write(stop, "").unwrap();
        drop(runner);
        assert!(!reaped.ended.is_empty());
        assert_eq!(reaped.stayed, []);
    }

    #[test]
    fn marked_processes_and_their_descendants_are_ended_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let shell = |mark: Option<&str>, script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(&path);
            if let Some(mark) = mark {
                command.env(RUN, mark);
            }
            started(&mut command)
        };
        let (mut person, _) = shell(None, "echo here; exec sleep 1000");
        let (mut current, _) = shell(Some("now"), "echo here; exec sleep 1000");
        let is_over = |run: &str| run == "over";
        let search = search(&path, &is_over);
        assert_eq!(leftovers(&search), []);

        let (agent, child) = shell(
            Some("over"),
            "env -i sleep 1000 >/dev/null & echo $!; trap '' TERM; while :; do sleep 0.05; done",
        );
        let child: u32 = child.parse().unwrap();
        let found: Vec<u32> = leftovers(&search)
            .iter()
            .map(|left| left.found.pid)
            .collect();
        assert!(
            found.contains(&agent.0.id()) && found.contains(&child),
            "{found:?}"
        );
        let reaped = end_leftovers(&search, Duration::ZERO, Duration::from_millis(50));
        assert!(
            reaped
                .ended
                .iter()
                .any(|left| left.run.as_deref() == Some("over"))
        );
        assert_eq!(reaped.stayed, []);
        assert_eq!(leftovers(&search), []);
        assert_eq!(person.0.try_wait().unwrap(), None);
        assert_eq!(current.0.try_wait().unwrap(), None);
    }

    #[test]
    fn a_daemon_that_cleared_its_environment_is_found_by_where_it_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let daemon = |environment: &str| {
            // The shell between ends at once, so that the daemon has lost its parent.
            let script = format!(
                "setsid sh -c 'exec env {environment} sh -c \"sleep 1000 >/dev/null 2>&1 & echo \\$!\"'"
            );
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(&path);
            let (shell, line) = started(&mut command);
            drop(shell);
            line.parse::<u32>().unwrap()
        };
        let hidden = daemon("-i");
        let persons = daemon("HOME=/somewhere");
        let is_over = |_: &str| false;
        let mut search = search(&path, &is_over);
        search.since = Some(SystemTime::now() - Duration::from_secs(5));
        let left = leftovers(&search);
        let found: Vec<u32> = left.iter().map(|left| left.found.pid).collect();
        assert_eq!(found, [hidden]);
        search.since = Some(SystemTime::now() + Duration::from_secs(60));
        assert_eq!(leftovers(&search), []);
        search.since = Some(SystemTime::now() - Duration::from_secs(5));
        let reaped = end_leftovers(&search, Duration::ZERO, Duration::from_secs(1));
        assert_eq!(reaped.ended.len(), 1);
        super::super::signal_process(persons, super::super::Ending::Kill);
    }
}
