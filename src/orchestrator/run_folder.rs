//! Where a run keeps what it writes: `.ai-sdlc/runs/<RunId>/`, with one folder for each attempt.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::engine::{AttemptNumber, RunId, Unit};
use crate::journal;
use crate::story::StoryId;

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run below `runs`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(runs: &Path, run: &RunId) -> io::Result<Self> {
        let path = runs.join(run.as_str());
        fs::create_dir_all(path.join(ATTEMPTS))?;
        Ok(Self { path })
    }

    /// Notes that this is the last run of its board. What cannot be noted is told by the names of the folders.
    pub(super) fn mark_latest(&self) {
        let (Some(runs), Some(run)) = (self.path.parent(), self.path.file_name()) else {
            return;
        };
        let note = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(runs)?;
            file.write_all(run.as_encoded_bytes())?;
            file.as_file().sync_all()?;
            file.persist(runs.join(LATEST))?;
            // The name of the run's own folder as well.
            fs::File::open(runs)?.sync_all()
        };
        if let Err(error) = note() {
            tracing::warn!(%error, "which run is the last one is told by their names");
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file for the orchestrator's own diagnostics.
    pub fn diagnostics(&self) -> PathBuf {
        self.path.join("orchestrator.log")
    }

    /// The journal of the run: its open segment, beside which closed ones are.
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The file that says which group of processes is the run's, while it has one.
    pub fn group(&self) -> PathBuf {
        self.path.join(GROUP)
    }

    /// The log of an attempt.
    pub fn log(&self, unit: &Unit) -> PathBuf {
        self.of_attempt(unit).join("log")
    }

    /// The log of what was done to set up the worktree for an attempt, and after it.
    pub fn setup_log(&self, unit: &Unit) -> PathBuf {
        self.of_attempt(unit).join("setup.log")
    }

    /// The log that tells how an attempt ended: its own, or that of the setup when it came no further. None when there is
    /// neither.
    pub fn telling_log(&self, unit: &Unit) -> Option<PathBuf> {
        let mut logs = [self.log(unit), self.setup_log(unit)].into_iter();
        logs.find(|log| log.exists())
    }

    /// The folder for what the run keeps of files that others have changed, the nth time.
    pub(super) fn kept(&self, number: usize) -> PathBuf {
        self.path.join(KEPT).join(number.to_string())
    }

    pub fn of_attempt(&self, unit: &Unit) -> PathBuf {
        let name = format!("{}-{}", unit.story, unit.attempt);
        self.path.join(ATTEMPTS).join(name)
    }
}

const ATTEMPTS: &str = "attempts";
const KEPT: &str = "kept";

/// The name of the file beside the folders of the runs that names the last one: clocks are set back.
const LATEST: &str = "latest";

/// The last run of a board that has begun anything, by the folder of its runs.
pub fn latest_run(runs: &Path) -> Option<RunId> {
    let has_journal = |run: &RunId| journal::exists(&runs.join(run.as_str()).join(JOURNAL));
    let noted = fs::read_to_string(runs.join(LATEST)).ok();
    let noted = noted.and_then(|name| name.trim().parse().ok());
    noted.filter(has_journal).or_else(|| {
        let names = entries(runs).into_iter().filter_map(|path| {
            let run: RunId = path.file_name()?.to_str()?.parse().ok()?;
            has_journal(&run).then_some(run)
        });
        names.max()
    })
}

/// The name of the file in a run's folder that says which group of processes is its own.
pub(super) const GROUP: &str = "cgroup";

/// The name of a run's journal in its folder.
pub const JOURNAL: &str = "journal.jsonl";

/// The attempts that earlier runs have made, by their folders, so that no number is used twice.
#[derive(Debug, Clone, Default)]
pub struct PastAttempts {
    last: BTreeMap<StoryId, AttemptNumber>,
}

impl PastAttempts {
    /// Reads the folders of all runs below `runs`. What cannot be read counts as not there: the numbers of attempts
    /// keep runs apart that are on disk, and a run whose folder is gone has left nothing to be confused with.
    pub fn read(runs: &Path) -> Self {
        let mut past = Self {
            last: super::retention::noted(runs),
        };
        for run in entries(runs) {
            for attempt in entries(&run.join(ATTEMPTS)) {
                let parsed = attempt.file_name().and_then(OsStr::to_str).and_then(parse);
                if let Some((story, number)) = parsed {
                    let last = past.last.entry(story).or_insert(number);
                    *last = number.max(*last);
                }
            }
        }
        past
    }

    /// The numbers of the last attempts.
    pub(super) fn all(&self) -> &BTreeMap<StoryId, AttemptNumber> {
        &self.last
    }

    /// The number of a story's last attempt, if there was one.
    pub fn last(&self, story: &StoryId) -> Option<AttemptNumber> {
        self.last.get(story).copied()
    }

    /// The number of a story's next attempt.
    pub fn next(&self, story: &StoryId) -> AttemptNumber {
        self.last
            .get(story)
            .map_or(AttemptNumber::FIRST, |last| last.next())
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect()
}

fn parse(name: &str) -> Option<(StoryId, AttemptNumber)> {
    let (story, number) = name.rsplit_once('-')?;
    Some((
        story.parse().ok()?,
        AttemptNumber::new(number.parse().ok()?)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_count_on_over_runs() {
        let folder = tempfile::tempdir().unwrap();
        let story: StoryId = "S-0001".parse().unwrap();
        assert_eq!(
            PastAttempts::read(folder.path()).next(&story),
            AttemptNumber::FIRST
        );
        for (nonce, attempts) in [
            (1, ["S-0001-1", "S-0001-2"]),
            (2, ["S-0001-10", "S-00012-99"]),
        ] {
            let run = RunId::new("20261122-120000", nonce).unwrap();
            let run = RunFolder::create(folder.path(), &run).unwrap();
            for attempt in attempts {
                fs::create_dir(run.path().join(ATTEMPTS).join(attempt)).unwrap();
            }
        }
        fs::write(folder.path().join("stray"), "").unwrap();
        assert_eq!(PastAttempts::read(folder.path()).next(&story).get(), 11);
    }
}
