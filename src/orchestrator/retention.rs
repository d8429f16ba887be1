//! Folders of runs that are kept, with their journals compressed, and what is left of those that are not: the numbers of
//! their attempts.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use super::run_folder::{JOURNAL, PastAttempts, latest_run};
use crate::engine::{AttemptNumber, RunId};
use crate::journal::{compress_closed, last_change};
use crate::report::chain;
use crate::story::StoryId;

/// The name of the file beside the folders of the runs that has the numbers of attempts whose folders are gone.
const NUMBERS: &str = "attempts.json";

/// Removes the folders of all but the last `keep` runs, those of `current` and of the last run never, and none of those
/// that were at work after `since`: what they have used may count for a day. What cannot be removed stays. Blocks.
pub fn prune_runs(runs: &Path, keep: usize, current: &RunId, since: Option<SystemTime>) {
    let mut known = run_ids(runs);
    known.sort();
    let many = known.len().saturating_sub(keep);
    let last = latest_run(runs);
    known.truncate(many);
    let counts = |run: &RunId| {
        let changed = last_change(&runs.join(run.as_str()).join(JOURNAL));
        changed
            .zip(since)
            .is_some_and(|(changed, since)| changed >= since)
    };
    known.retain(|run| run != current && Some(run) != last.as_ref() && !counts(run));
    if known.is_empty() {
        return;
    }
    // Before anything is gone: a number is never used twice.
    if let Err(error) = note(runs, &PastAttempts::read(runs)) {
        tracing::warn!(%error, "the folders of old runs stay");
        return;
    }
    for run in known {
        if let Err(error) = fs::remove_dir_all(runs.join(run.as_str())) {
            tracing::warn!(%error, %run, "the folder of an old run stays");
        }
    }
}

/// Compresses what earlier runs have closed of their journals and not compressed any more: those of all runs but `current`,
/// which does so itself. Only who has the run lock may do so. What cannot be compressed stays as it is. Blocks.
pub fn compress_runs(runs: &Path, current: &RunId) {
    for run in run_ids(runs).into_iter().filter(|run| run != current) {
        if let Err(error) = compress_closed(&runs.join(run.as_str()).join(JOURNAL)) {
            tracing::warn!(error = chain(&error), %run, "the journal of an old run stays uncompressed");
        }
    }
}

pub(super) fn run_ids(runs: &Path) -> Vec<RunId> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The numbers of attempts whose folders may be gone.
pub(super) fn noted(runs: &Path) -> BTreeMap<StoryId, AttemptNumber> {
    let text = fs::read(runs.join(NUMBERS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn note(runs: &Path, past: &PastAttempts) -> std::io::Result<()> {
    let text = serde_json::to_vec(past.all()).map_err(std::io::Error::other)?;
    let mut file = tempfile::NamedTempFile::new_in(runs)?;
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(runs.join(NUMBERS))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::run_folder::RunFolder;
    use super::*;
    use crate::journal::Writer;

    #[test]
    fn old_runs_go_and_their_numbers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path();
        let story: StoryId = "S-0001".parse().unwrap();
        let run = |hour: u32| RunId::new(&format!("20261122-{hour:02}0000"), 1).unwrap();
        for hour in 0..6 {
            let folder = RunFolder::create(runs, &run(hour)).unwrap();
            fs::write(folder.path().join(JOURNAL), "").unwrap();
            let attempt = format!("attempts/S-0001-{}", 10 - hour);
            fs::create_dir_all(folder.path().join(attempt)).unwrap();
        }
        fs::write(runs.join("latest"), run(1).as_str()).unwrap();
        prune_runs(runs, 3, &run(5), Some(SystemTime::UNIX_EPOCH));
        assert!((0..6).all(|hour| runs.join(run(hour).as_str()).exists()));
        prune_runs(runs, 3, &run(5), None);
        let left = |hour: u32| runs.join(run(hour).as_str()).exists();
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(left),
            [false, true, false, true, true, true]
        );
        fs::remove_file(runs.join("latest")).unwrap();
        prune_runs(runs, 1, &run(5), None);
        assert_eq!([1, 3, 4, 5].map(left), [false, false, false, true]);
        assert_eq!(PastAttempts::read(runs).next(&story).get(), 11);
    }

    #[test]
    fn journals_of_other_runs_are_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path();
        let run = |hour: u32| RunId::new(&format!("20261122-{hour:02}0000"), 1).unwrap();
        for hour in 0..2 {
            let folder = RunFolder::create(runs, &run(hour)).unwrap();
            let mut writer = Writer::create(&folder.journal()).unwrap().in_segments_of(1);
            writer.append(1, &'a').unwrap();
            writer.append(2, &'b').unwrap();
        }
        compress_runs(runs, &run(1));
        let is_there = |hour, name| runs.join(run(hour).as_str()).join(name).is_file();
        let there = ["journal.0001.jsonl", "journal.0001.jsonl.gz", JOURNAL];
        assert_eq!(there.map(|name| is_there(0, name)), [false, true, true]);
        assert_eq!(there.map(|name| is_there(1, name)), [true, false, true]);
    }
}
