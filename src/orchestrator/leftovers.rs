//! What earlier runs of a board have left running, after an end that nobody could prepare for.
//!
//! An executor ends its agent when its orchestrator dies, and an orchestrator ends what an executor leaves; when both
//! die at the same moment, nobody is left to do it. So whoever takes the run lock of a board next does it: no run of
//! that board can be alive then. Where a run could put its attempts into groups of processes, its folder says which. A
//! command that held the lock and ran a hook has no folder: the text of the lock has the name that it worked under.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::run_folder::GROUP;
use super::run_lock::Predecessor;
use crate::engine::{Housekeeping, RunId};
use crate::process::{self, Identity, Leftover, Reaped, RunGroup, Search};
use crate::protocol::identity;

/// The runs of a board that are over.
#[derive(Debug, Clone)]
pub struct EarlierRuns {
    runs: PathBuf,
    worktrees: PathBuf,
    current: RunId,
    last: Predecessor,
    keep: Vec<String>,
    /// Whether what is never there for long is looked for even when the last holder ended well.
    closely: bool,
    /// How long an orchestrator that is just ending may take.
    patience: Duration,
}

impl EarlierRuns {
    /// The runs that have a folder in `runs`, and whoever held the run lock and died, but for `current`. The caller holds
    /// the lock, which says how the `last` holder ended.
    pub fn of(runs: &Path, worktrees: &Path, current: &RunId, last: Predecessor) -> Self {
        let resolved = worktrees.canonicalize();
        Self {
            runs: runs.to_owned(),
            // Where processes work is told without links.
            worktrees: resolved.unwrap_or_else(|_| worktrees.to_owned()),
            current: current.clone(),
            last,
            keep: Vec::new(),
            closely: false,
            patience: Housekeeping::default().lock,
        }
    }

    /// The same, but for processes of these names.
    #[must_use]
    pub fn keeping(self, names: &[String]) -> Self {
        Self {
            keep: names.to_vec(),
            ..self
        }
    }

    /// The same, and looks for what is never there for long in any case.
    #[must_use]
    pub fn looking_closely(self) -> Self {
        Self {
            closely: true,
            ..self
        }
    }

    /// What they have left. Blocks for as long as it takes to look at every process once, and at those that start then.
    pub fn leftovers(&self, housekeeping: &Housekeeping) -> Vec<Leftover> {
        let known = self.known();
        if known.is_empty() {
            return Vec::new();
        }
        let is_over = |run: &str| self.is_over(&known, run);
        let groups = self.groups(&known);
        let newest = self.newest(housekeeping);
        process::leftovers(&self.search(&known, &is_over, &groups, newest))
    }

    /// Ends what they have left. Blocks, for seconds when there is something to end.
    pub fn end_leftovers(&self, housekeeping: &Housekeeping) -> Reaped {
        let known = self.known();
        if known.is_empty() {
            return Reaped::default();
        }
        let is_over = |run: &str| self.is_over(&known, run);
        let groups = self.groups(&known);
        let newest = self.newest(housekeeping);
        let search = self.search(&known, &is_over, &groups, newest);
        let reaped =
            process::end_leftovers(&search, housekeeping.left_alone, housekeeping.left_asked);
        for group in &groups {
            // Something that may stay can be in it: then a later run looks again.
            if group.remove() {
                self.forget(group);
            }
        }
        reaped
    }

    /// For how long to look at processes that start.
    fn newest(&self, housekeeping: &Housekeeping) -> Duration {
        // Only who died has left anything that has to be looked for with such care.
        match self.last {
            Predecessor::EndedWell if !self.closely => Duration::ZERO,
            Predecessor::EndedWell | Predecessor::Died(_) => housekeeping.look_at_newest,
        }
    }

    /// The groups that these runs have noted and not removed.
    fn groups(&self, known: &[RunId]) -> Vec<RunGroup> {
        let noted = known.iter().filter_map(|run| {
            let path = std::fs::read_to_string(self.note(run.as_str())).ok()?;
            RunGroup::noted(run.as_str(), Path::new(path.trim_end_matches('\n')))
        });
        noted.collect()
    }

    fn forget(&self, group: &RunGroup) {
        if let Err(error) = std::fs::remove_file(self.note(group.run())) {
            tracing::debug!(%error, run = group.run(), "the note of its group stays");
        }
    }

    fn note(&self, run: &str) -> PathBuf {
        self.runs.join(run).join(GROUP)
    }

    fn search<'a>(
        &'a self,
        known: &[RunId],
        is_over: &'a dyn Fn(&str) -> bool,
        groups: &'a [RunGroup],
        newest: Duration,
    ) -> Search<'a> {
        Search {
            run: identity::RUN,
            story: identity::STORY,
            is_over,
            keep: &self.keep,
            worktrees: &self.worktrees,
            groups,
            // A run that ended well has left nothing, and what those before the last one left was ended by the next.
            since: match &self.last {
                Predecessor::Died(names) => names.first().or(known.last()).and_then(began),
                Predecessor::EndedWell => None,
            },
            newest,
        }
    }

    fn is_over(&self, known: &[RunId], run: &str) -> bool {
        run != self.current.as_str() && known.iter().any(|known| known.as_str() == run)
    }

    /// The runs that there are folders of, and the dead holders of the lock, the oldest first; none whose orchestrator is
    /// alive. One that is holds another lock than ours: this board is a copy of its own, or its lock file was removed.
    fn known(&self) -> Vec<RunId> {
        let entries = std::fs::read_dir(&self.runs).into_iter().flatten();
        let mut known: Vec<RunId> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .chain(self.last.dead().iter().cloned())
            .filter(|run: &RunId| *run != self.current)
            .filter(|run| {
                Orchestrator::of(&self.runs.join(run.as_str()))
                    .is_none_or(|one| !one.is_alive(self.patience))
            })
            .collect();
        known.sort();
        known.dedup();
        known
    }
}

/// The orchestrator of a run, as it has written itself down in the run's folder.
struct Orchestrator {
    identity: Identity,
    board: PathBuf,
}

impl Orchestrator {
    fn of(run: &Path) -> Option<Self> {
        let text = std::fs::read(run.join(ORCHESTRATOR)).ok()?;
        let line = text.iter().position(|byte| *byte == b'\n')?;
        let (identity, board) = text.split_at(line);
        Some(Self {
            identity: std::str::from_utf8(identity).ok()?.parse().ok()?,
            board: PathBuf::from(OsStr::from_bytes(board.trim_ascii())),
        })
    }

    fn is_alive(&self, patience: Duration) -> bool {
        self.identity.goes_on(patience)
    }
}

/// The name of the file in a run's folder that says which process is its orchestrator, and of which board.
const ORCHESTRATOR: &str = "orchestrator";

/// Writes down that this process is the orchestrator of a run, where a process can be told from others.
///
/// # Errors
/// When it cannot be written.
pub fn sign(run: &Path, board: &Path) -> io::Result<()> {
    let Some(identity) = Identity::of_this_process() else {
        return Ok(());
    };
    let board = board.canonicalize()?;
    let text = [
        identity.to_string().as_bytes(),
        b"\n",
        board.as_os_str().as_bytes(),
        b"\n",
    ]
    .concat();
    std::fs::write(run.join(ORCHESTRATOR), text)
}

/// The process of a run of this board that is alive although its lock is free: somebody has removed the lock file.
pub fn unlocked_run(runs: &Path, board: &Path, patience: Duration) -> Option<u32> {
    let board = board.canonicalize().ok()?;
    let folders = std::fs::read_dir(runs).ok()?;
    folders
        .filter_map(Result::ok)
        .filter_map(|folder| Orchestrator::of(&folder.path()))
        .find(|one| one.board == board && one.is_alive(patience))
        .map(|one| one.identity.pid())
}

/// When a run began, as its name says.
fn began(run: &RunId) -> Option<SystemTime> {
    let (stamp, _) = run.as_str().rsplit_once('-')?;
    let began = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", stamp).ok()?;
    let began = began.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(SystemTime::from(began.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_with_a_folder_and_dead_holders_of_the_lock_count_and_never_the_current_one() {
        let folder = tempfile::tempdir().unwrap();
        let run = |nonce| RunId::new("20261122-120000", nonce).unwrap();
        for nonce in [1, 2] {
            std::fs::create_dir(folder.path().join(run(nonce).as_str())).unwrap();
        }
        std::fs::create_dir(folder.path().join("stray")).unwrap();
        let died = Predecessor::Died(vec![run(1), run(2), run(4)]);
        let earlier = EarlierRuns::of(folder.path(), folder.path(), &run(2), died);
        let known = earlier.known();
        assert_eq!(known, [run(1), run(4)]);
        for (nonce, over) in [(1, true), (2, false), (3, false), (4, true)] {
            assert_eq!(earlier.is_over(&known, run(nonce).as_str()), over);
        }
    }

    #[test]
    fn the_name_of_a_run_says_when_it_began() {
        let run = RunId::new("20261122-120000", 1).unwrap();
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_348_800);
        assert_eq!(began(&run), Some(expected));
        assert_eq!(began(&RunId::new("99999999-999999", 1).unwrap()), None);
    }
}
