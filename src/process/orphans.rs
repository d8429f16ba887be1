//! Orphans: what the descendants of this process leave behind when they end.
//!
//! On Linux a process can ask to inherit the orphans among its descendants (a subreaper), so that nothing gets out of
//! its reach by a double fork or a session of its own. It then has to reap them, and it can end them: every child of
//! this process that nobody owns ([`super::own`]) is an orphan, and the tree below it goes with it. Nothing is found by
//! its name, and nothing that was there before this process was.
//!
//! Elsewhere there are no subreapers, and nothing is found.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::Found;

/// The most processes that are named when many are ended.
const MOST_NAMED: usize = 20;

/// What a sweep is to do.
#[derive(Debug, Clone, Copy)]
pub struct Sweep<'a> {
    /// Which orphans.
    pub whose: Whose<'a>,
    /// The folder of the worktrees, without links, where this process may have inherited what is not of its own: an orphan
    /// without a mark that hides where it comes from is swept if it works there. None for none.
    pub worktrees: Option<&'a Path>,
    /// Names of processes that may stay, with everything below them.
    pub keep: &'a [String],
    /// A process group whose members have been asked to end before. Nobody is asked twice: many take a second request
    /// for an order to leave at once.
    pub asked: Option<u32>,
    /// How long processes have to end when they are asked to; then they are killed. None are asked when it is zero.
    pub polite: Duration,
    /// How long the killing may take. Only a process that hangs in the kernel needs it.
    pub within: Duration,
}

/// Which orphans are swept. All of them carry marks: variables of the environment that they were started with.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// Every orphan, marked or not; of a process that had children before it was this program, or that is the first one
    /// of a container and inherits whatever there is, only those that carry this mark, or hide in a worktree: the others
    /// may be anybody's.
    All {
        /// The mark of everything that this program starts.
        mark: &'a str,
    },
    /// Likewise, but for those that carry the mark of this program without that of an attempt: what a hook of git
    /// leaves running.
    OfAttempts {
        /// The mark of everything that this program starts.
        mark: &'a str,
        /// The mark of what belongs to an attempt.
        attempt: &'a str,
    },
}

/// What a sweep has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many processes were ended.
    pub count: usize,
    /// The first of them.
    pub named: Vec<Found>,
    /// Those that could not be ended.
    pub stayed: Vec<Found>,
}

impl Swept {
    /// Whether there was nothing to do.
    pub fn is_clean(&self) -> bool {
        self.count == 0 && self.stayed.is_empty()
    }

    #[cfg(target_os = "linux")]
    fn note(&mut self, found: Found) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(found);
        }
    }
}

/// The processes that were ended, by number and name.
impl fmt::Display for Swept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.named.iter().map(ToString::to_string).collect();
        formatter.write_str(&names.join(", "))?;
        match self.count - self.named.len() {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

pub(super) use system::kill_descendants;
pub use system::{adopt_orphans, reap_orphans, sweep_orphans};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Sweep, Swept};

    /// Does nothing: this system has no subreapers.
    ///
    /// # Errors
    /// None.
    pub fn adopt_orphans() -> std::io::Result<()> {
        Ok(())
    }

    /// Never returns.
    pub async fn reap_orphans() {
        std::future::pending().await
    }

    /// Does nothing.
    pub(in crate::process) fn kill_descendants(_within: std::time::Duration) {}

    /// Finds nothing.
    pub fn sweep_orphans(_sweep: &Sweep<'_>) -> Swept {
        Swept::default()
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use rustix::io::Errno;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use tokio::signal::unix::{SignalKind, signal};

    use super::super::handle::Handle;
    use super::super::own::{Children, Standing, children};
    use super::super::table::{self, Entry, State, Variables};
    use super::super::{Ending, Found, signal_process, to_pid};
    use super::{Sweep, Swept, Whose};

    /// How long a round waits for the first of those that were asked or killed, before it looks again.
    const ASKED_NAP: Duration = Duration::from_millis(20);
    const KILLED_NAP: Duration = Duration::from_millis(2);

    /// The most processes below the orphans that one round looks at; the next one finds the others.
    const MOST_IN_A_ROUND: usize = 4096;

    /// How many looks in a row must find nothing, and have nothing ended meanwhile, before it counts as nothing. What
    /// forks and ends all the time is in no list for long, but it leaves something to be reaped with every step.
    const QUIET_LOOKS: u32 = 5;
    /// The same while the system says that there is a child, and nobody who was seen explains that: a process that is just
    /// losing its parent is in no list, and on a machine with much to do it can stay in that moment for a while.
    const UNEXPLAINED_LOOKS: u32 = 200;
    /// The time between two such looks: longer than a step of the fastest runner takes, which is a fork.
    const QUIET_NAP: Duration = Duration::from_micros(500);

    /// When it is looked again after a child whose standing was not clear.
    const UNCLEAR_NAP: Duration = Duration::from_millis(50);

    /// How many orphans have been reaped.
    static REAPED: AtomicU64 = AtomicU64::new(0);

    /// The children that were there before this process inherited anybody. They are none of its business.
    static STRANGERS: OnceLock<BTreeSet<u32>> = OnceLock::new();

    fn is_stranger(pid: u32) -> bool {
        STRANGERS
            .get()
            .is_some_and(|strangers| strangers.contains(&pid))
    }

    fn has_strangers() -> bool {
        if std::process::id() == 1 {
            return true;
        }
        STRANGERS
            .get()
            .is_some_and(|strangers| !strangers.is_empty())
    }

    /// From here on, the orphans among the descendants of this process are its children. Called before it starts any.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn adopt_orphans() -> io::Result<()> {
        STRANGERS.get_or_init(|| table::children(std::process::id()).into_iter().collect());
        rustix::process::set_child_subreaper(to_pid(std::process::id()))?;
        Ok(())
    }

    /// Reaps orphans as they end, for ever. Each end of a child is told by a signal; signals that come at once are one,
    /// which is why every look takes all that have ended.
    pub async fn reap_orphans() {
        let mut ends = match signal(SignalKind::child()) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::error!(%error, "orphans are reaped only when they are swept");
                return;
            }
        };
        loop {
            let unclear = reap();
            // Both may be dropped: what is missed is seen at the next look.
            tokio::select! {
                more = ends.recv() => if more.is_none() {
                    return;
                },
                () = tokio::time::sleep(UNCLEAR_NAP), if unclear => {}
            }
        }
    }

    /// Reaps the orphans that have ended. Whether there may be others.
    fn reap() -> bool {
        let list = children();
        let mut unclear = false;
        for pid in table::inherited_children(std::process::id()) {
            match list.standing(pid) {
                Standing::Orphan(entry) if entry.state == State::Ended && !is_stranger(pid) => {
                    reap_one(&list, pid);
                }
                Standing::Unclear => unclear = true,
                Standing::Orphan(_) | Standing::Owned | Standing::Gone => {}
            }
        }
        // The list may have missed one, of whose end nobody tells again.
        unclear || (!has_strangers() && has_ended_child())
    }

    /// Reaps an orphan. That the list is held is what makes sure that it still is one.
    fn reap_one(_list: &Children, pid: u32) {
        let Some(number) = to_pid(pid) else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if matches!(waitid(WaitId::Pid(number), options), Ok(Some(_))) {
            REAPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a child has ended that is not reaped yet, owned or not.
    fn has_ended_child() -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::All, options), Ok(Some(_)))
    }

    /// Whether this process has no child at all. The list of children may miss one, this does not.
    fn has_no_children() -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::All, options), Err(Errno::CHILD))
    }

    /// Ends the orphans of this process and everything below them, and looks again until there are none: each round
    /// takes what has been started or orphaned since the last one. Blocks.
    pub fn sweep_orphans(sweep: &Sweep<'_>) -> Swept {
        let mut swept = Swept::default();
        // The usual case, which costs one system call.
        if has_no_children() {
            return swept;
        }
        let began = Instant::now();
        let mut signalled = BTreeSet::new();
        let mut quiet_looks = 0;
        loop {
            let reaped_before = REAPED.load(Ordering::Relaxed);
            let elapsed = began.elapsed();
            let ending = if elapsed < sweep.polite {
                Ending::Terminate
            } else {
                Ending::Kill
            };
            let left = round(sweep, ending, &mut signalled, &mut swept);
            if left.found.is_empty() {
                if has_no_children() {
                    return swept;
                }
                if left.unclear {
                    std::thread::sleep(KILLED_NAP);
                }
                let is_quiet = !left.unclear && REAPED.load(Ordering::Relaxed) == reaped_before;
                quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
                // Somebody is there. When nobody who was seen explains that, it was in no list at that moment.
                let enough = if left.others {
                    QUIET_LOOKS
                } else {
                    UNEXPLAINED_LOOKS
                };
                if quiet_looks >= enough || elapsed >= sweep.polite + sweep.within {
                    return swept;
                }
                if is_quiet {
                    std::thread::sleep(QUIET_NAP);
                }
                continue;
            }
            quiet_looks = 0;
            if elapsed >= sweep.polite + sweep.within {
                swept.stayed = left.found;
                swept.count = swept.count.saturating_sub(swept.stayed.len());
                swept.named.retain(|found| !swept.stayed.contains(found));
                return swept;
            }
            let nap = match ending {
                Ending::Interrupt | Ending::Terminate => {
                    ASKED_NAP.min(sweep.polite.saturating_sub(elapsed))
                }
                Ending::Kill => KILLED_NAP,
            };
            match left.first {
                Some(first) => first.wait(nap),
                None => std::thread::sleep(KILLED_NAP),
            }
        }
    }

    /// Kills every descendant of this process, owned or not, for a process that is about to leave. Blocks.
    pub(in crate::process) fn kill_descendants(within: Duration) {
        let began = Instant::now();
        // No lock is taken here: whoever holds it may be what hangs. So each is signalled through its descriptor, and
        // reaping is left to others. What forks and ends all the time is in no list at some moments, so that the time
        // is used up unless there is no child at all.
        while began.elapsed() < within && !has_no_children() {
            let mut open = vec![std::process::id()];
            while let Some(parent) = open.pop() {
                for pid in table::children(parent) {
                    let handle = Handle::open(pid, |entry| entry.parent == parent);
                    if let Some(handle) = handle.filter(|_| !is_stranger(pid)) {
                        handle.signal(Ending::Kill);
                        open.push(pid);
                    }
                }
            }
            std::thread::sleep(KILLED_NAP);
        }
    }

    type Identity = (u32, u64);

    /// What a round has found.
    #[derive(Default)]
    struct Left {
        found: Vec<Found>,
        /// One of them, to wait for. Only one is held: descriptors are few, and processes may be many.
        first: Option<Handle>,
        /// Whether there are children of which it is not clear yet whether they are orphans.
        unclear: bool,
        /// Whether there are children that are not to be ended: owned ones, and those that may stay.
        others: bool,
    }

    impl Left {
        fn add(&mut self, entry: &Entry, handle: Option<Handle>) {
            self.found.push(Found {
                pid: entry.pid,
                name: entry.name.clone(),
            });
            if self.first.is_none() {
                self.first = handle;
            }
        }
    }

    /// Signals what is there and gives it. Those that are asked are asked once, those that are killed in every round.
    fn round(
        sweep: &Sweep<'_>,
        ending: Ending,
        signalled: &mut BTreeSet<Identity>,
        swept: &mut Swept,
    ) -> Left {
        let mut left = Left::default();
        let mut open = Vec::new();
        let Some(orphans) = living_orphans(&mut left) else {
            // What cannot be seen is not gone.
            left.found.push(Found {
                pid: std::process::id(),
                name: "children that cannot be listed".to_owned(),
            });
            return left;
        };
        for entry in orphans {
            // What is asked here of a process may hang with it, so nothing is locked.
            if entry.is_named(sweep.keep) || is_spared(&entry, sweep, has_strangers()) {
                left.others = true;
                continue;
            }
            let first = note(&entry, signalled, swept);
            if ending == Ending::Kill || (first && !was_asked(&entry, sweep)) {
                signal_orphan(&entry, ending);
            }
            open.push((entry.pid, entry.started));
            let handle = Handle::open(entry.pid, |now| now.started == entry.started);
            left.add(&entry, handle);
        }
        while let Some((parent, started)) = open.pop() {
            if left.found.len() >= MOST_IN_A_ROUND {
                break;
            }
            for pid in table::children(parent) {
                // One whose parent has ended is an orphan now: the next round takes it.
                let Some(handle) = Handle::open(pid, |entry| entry.parent == parent) else {
                    continue;
                };
                // The number of a parent that has ended may be somebody else's by now, and so are the children then.
                if Entry::read(parent).is_none_or(|now| now.started != started) {
                    break;
                }
                if handle.entry.is_named(sweep.keep) {
                    continue;
                }
                let first = note(&handle.entry, signalled, swept);
                if ending == Ending::Kill || (first && !was_asked(&handle.entry, sweep)) {
                    handle.signal(ending);
                }
                open.push((pid, handle.entry.started));
                let entry = handle.entry.clone();
                left.add(&entry, Some(handle));
            }
        }
        left
    }

    /// Reaps the orphans that have ended and gives the others; none when nothing can be seen.
    fn living_orphans(left: &mut Left) -> Option<Vec<Entry>> {
        let list = children();
        let mut living = Vec::new();
        for pid in table::try_children(std::process::id())? {
            match list.standing(pid) {
                Standing::Orphan(_) if is_stranger(pid) => left.others = true,
                Standing::Orphan(entry) if entry.state == State::Ended => reap_one(&list, pid),
                Standing::Orphan(entry) => living.push(entry),
                Standing::Unclear => left.unclear = true,
                Standing::Owned => left.others = true,
                Standing::Gone => {}
            }
        }
        Some(living)
    }

    /// Signals an orphan. Nobody reaps it while the list is held, so that its number is its own.
    fn signal_orphan(orphan: &Entry, ending: Ending) {
        let _list = children();
        if Entry::read(orphan.pid).is_some_and(|now| now.started == orphan.started) {
            signal_process(orphan.pid, ending);
        }
    }

    /// Notes a process that is about to be signalled. Whether it is the first time.
    fn note(entry: &Entry, signalled: &mut BTreeSet<Identity>, swept: &mut Swept) -> bool {
        let first = signalled.insert((entry.pid, entry.started));
        if first {
            swept.note(Found {
                pid: entry.pid,
                name: entry.name.clone(),
            });
        }
        first
    }

    fn was_asked(entry: &Entry, sweep: &Sweep<'_>) -> bool {
        sweep.asked == Some(entry.group)
    }

    /// Whether an orphan is not to be swept. `mixed` says that it may be that of a child that was there before.
    fn is_spared(entry: &Entry, sweep: &Sweep<'_>, mixed: bool) -> bool {
        let (mark, attempt) = match sweep.whose {
            Whose::All { .. } if !mixed => return false,
            Whose::All { mark } => (mark, None),
            Whose::OfAttempts { mark, attempt } => (mark, Some(attempt)),
        };
        let variables = Variables::of(entry.pid);
        if variables.get(mark).is_some() {
            return attempt.is_some_and(|attempt| variables.get(attempt).is_none());
        }
        let hides = |folder| table::hides_in(folder, entry, &variables);
        mixed && !sweep.worktrees.is_some_and(hides)
    }

    #[cfg(test)]
    mod tests {
        use std::os::unix::process::CommandExt as _;
        use std::path::Path;
        use std::process::Command;

        use super::super::super::table::Terminal;
        use super::*;

        #[test]
        fn where_others_may_have_orphans_only_what_is_marked_or_hides_in_a_worktree_is_swept() {
            let dir = tempfile::tempdir().unwrap();
            let inside = dir.path().canonicalize().unwrap();
            let outside = std::env::temp_dir();
            let spared = |environment: &[(&str, &str)], at: &Path, mixed: bool| {
                let mut command = Command::new("sleep");
                command.arg("1000").current_dir(at).env_clear();
                let environment = environment.iter().copied();
                let mut child = command.envs(environment).process_group(0).spawn().unwrap();
                let mut entry = Entry::read(child.id()).unwrap();
                // Where the test runs is not what is asked.
                entry.terminal = Terminal::None;
                let whose = Whose::All { mark: "MARK" };
                let sweep = Sweep {
                    whose,
                    worktrees: Some(&inside),
                    keep: &[],
                    asked: None,
                    polite: Duration::ZERO,
                    within: Duration::ZERO,
                };
                let attempt = "ATTEMPT";
                let of_attempts = Sweep {
                    whose: Whose::OfAttempts {
                        mark: "MARK",
                        attempt,
                    },
                    ..sweep
                };
                let answer = [&sweep, &of_attempts].map(|one| is_spared(&entry, one, mixed));
                child.kill().unwrap();
                child.wait().unwrap();
                answer
            };
            let (mark, home) = (("MARK", "a"), ("HOME", "/"));
            assert_eq!(spared(&[], &outside, false), [false, false]);
            assert_eq!(spared(&[home], &inside, false), [false, false]);
            assert_eq!(spared(&[], &outside, true), [true, true]);
            assert_eq!(spared(&[home], &inside, true), [true, true]);
            assert_eq!(spared(&[], &inside, true), [false, false]);
            assert_eq!(spared(&[mark, home], &outside, true), [false, true]);
            assert_eq!(
                spared(&[mark, ("ATTEMPT", "1")], &outside, true),
                [false, false]
            );
        }
    }
}
