//! Plays every run of a test once more from its journal: the same state must come of it.

use std::fs;
use std::path::{Path, PathBuf};

use ai_sdlc::engine::replay::Agreement;
use ai_sdlc::engine::{Moment, Replay};
use ai_sdlc::journal::{Reader, Tail};
use ai_sdlc::orchestrator::JournalRecord;

/// How the runs of a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// By themselves: every journal says how.
    ByThemselves,
    /// Some were killed.
    Killed,
}

/// What is wrong with the journals below a directory.
pub(super) fn faults(base: &Path, ends: Ends) -> Vec<String> {
    let fault = |journal: PathBuf| {
        let played = replay(&journal, ends).err();
        played.map(|fault| format!("{}: {fault}", journal.display()))
    };
    journals(base).into_iter().filter_map(fault).collect()
}

fn replay(journal: &Path, ends: Ends) -> Result<(), String> {
    let mut reader: Reader<JournalRecord> =
        Reader::open(journal).map_err(|error| error.to_string())?;
    let Some(first) = reader.next() else {
        // The run was killed before it had written anything.
        return match ends {
            Ends::Killed => Ok(()),
            Ends::ByThemselves => Err("it is empty".to_owned()),
        };
    };
    let first = first.map_err(|error| error.to_string())?;
    let mut replay = Replay::open(first.record).map_err(|error| error.to_string())?;
    let mut events = 0;
    for entry in reader.by_ref() {
        let entry = entry.map_err(|error| error.to_string())?;
        let at = Moment::from_millis(entry.at_ms);
        replay
            .take(entry.record, at)
            .map_err(|error| error.to_string())?;
        events += 1;
    }
    match (replay.agrees(), reader.tail()) {
        (Some(Agreement::Differs), _) => Err(format!("another end than {:#?}", replay.view())),
        (Some(Agreement::Same), Tail::Complete) if events > 1 => Ok(()),
        // A run that was killed does not say how it ended.
        (None, _) if ends == Ends::Killed => Ok(()),
        (None, tail) => Err(format!(
            "it does not say how the run ended: {events} events, {tail:?}"
        )),
        (Some(Agreement::Same), tail) => Err(format!("{events} events, {tail:?}")),
    }
}

fn journals(base: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if name == "journal.jsonl" {
                found.push(path);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != ".git" {
                folders.push(path);
            }
        }
    }
    found
}
