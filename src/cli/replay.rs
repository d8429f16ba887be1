//! `ai-sdlc replay`: plays a run again from its journal and shows how it stood.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::ReplayArgs;
use super::error::{CliError, SOME_DID_NOT, SUCCESS};
use super::{find_project, working_directory};
use crate::engine::replay::Agreement;
use crate::engine::{Moment, Replay, RunId, RunView};
use crate::journal::{self, JournalError, Reader, Tail};
use crate::orchestrator::{JOURNAL, JournalRecord, RunLock, latest_run};
use crate::report::{self, chain, plural};

pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode, CliError> {
    let journal = journal_of(args.run.as_deref())?;
    let played = play(&journal, args.at)?;
    report::data(&show(&played, args)?);
    match played.replay.agrees() {
        Some(Agreement::Differs) => {
            report::warning(
                "the run ended otherwise: this version of the program does not decide as the one that wrote the \
                 journal",
            );
            Ok(ExitCode::from(SOME_DID_NOT))
        }
        Some(Agreement::Same) | None => Ok(ExitCode::from(SUCCESS)),
    }
}

/// The journal of a run that is named, or of the last one.
fn journal_of(run: Option<&str>) -> Result<PathBuf, CliError> {
    if let Some(run) = run.filter(|run| run.contains(std::path::MAIN_SEPARATOR)) {
        let path = PathBuf::from(run);
        let journal = if path.is_dir() {
            path.join(JOURNAL)
        } else {
            path
        };
        return Ok(journal);
    }
    let runs = find_project(&working_directory()?)?.runs();
    let run = match run {
        Some(run) => run.to_owned(),
        None => newest(&runs)?,
    };
    let journal = runs.join(&run).join(JOURNAL);
    if journal::exists(&journal) {
        Ok(journal)
    } else {
        let known = format!("the runs are the folders in {}", runs.display());
        Err(CliError::new(format!("there is no journal of a run {run}")).hint(&known))
    }
}

/// A run that has been played.
struct Played {
    run: RunId,
    replay: Replay,
    /// The records that were taken.
    records: u64,
    at: Moment,
    tail: Tail,
    open: Open,
}

fn play(path: &Path, until: Option<NonZeroU64>) -> Result<Played, CliError> {
    let mut reader: Reader<JournalRecord> =
        Reader::open(path).map_err(|error| broken(&error, 0))?;
    let first = match reader.next() {
        Some(entry) => entry.map_err(|error| broken(&error, 0))?,
        None => return Err(no_journal(format!("{} holds no record", path.display()))),
    };
    let impossible = |error| CliError::new(format!("{}: {error}", path.display()));
    let mut replay = Replay::open(first.record)
        .map_err(|error| no_journal(format!("{}: {error}", path.display())))?;
    let run = replay.run().clone();
    let (mut records, mut at) = (1, Moment::default());
    while until.is_none_or(|until| records < until.get()) {
        let Some(entry) = reader.next() else { break };
        let entry = entry.map_err(|error| broken(&error, records))?;
        at = Moment::from_millis(entry.at_ms);
        replay.take(entry.record, at).map_err(impossible)?;
        records = entry.sequence;
    }
    if let Some(until) = until.filter(|until| until.get() > records) {
        return Err(CliError::new(format!(
            "the journal has {records} records; there is no record {until}"
        )));
    }
    let open = match until {
        None => is_going_on(path, &run),
        Some(_) => Open::Unknown,
    };
    Ok(Played {
        open,
        run,
        replay,
        records,
        at,
        tail: reader.tail(),
    })
}

/// A journal that cannot be read behind so many records, and what can be done about it.
fn broken(error: &JournalError, records: u64) -> CliError {
    let message = chain(error);
    match records {
        0 => no_journal(message),
        _ => CliError::new(message).hint(format!(
            "--at {records} shows the run as it stood before the damage"
        )),
    }
}

fn no_journal(message: String) -> CliError {
    CliError::new(message).hint(format!(
        "the journal of a run is `{JOURNAL}` in its folder, .ai-sdlc/runs/<run>"
    ))
}

/// What is known of a run that its journal does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// It has the run lock.
    GoesOn,
    /// Nobody has it, or another run.
    WasKilled,
    /// It was not asked for its end, or there is no board beside the journal.
    Unknown,
}

/// Whether a run still goes on: the run lock of its board tells.
fn is_going_on(journal: &Path, run: &RunId) -> Open {
    // <board>/runs/<run>/journal.jsonl
    let board = journal.canonicalize().ok().and_then(|journal| {
        let folder = journal
            .parent()
            .filter(|folder| folder.ends_with(run.as_str()))?;
        let board = folder.parent()?.parent()?;
        board.join("stories").is_dir().then(|| board.to_owned())
    });
    match board.map(|board| RunLock::holder(&board)) {
        None => Open::Unknown,
        Some(Some(holder)) if holder.run().as_ref() == Some(run) => Open::GoesOn,
        Some(_) => Open::WasKilled,
    }
}

/// The run that started last; names of runs sort by their start.
fn newest(runs: &Path) -> Result<String, CliError> {
    let latest = latest_run(runs).map(|run| run.to_string());
    latest.ok_or_else(|| {
        CliError::new(format!(
            "there is no run in {}",
            PathBuf::from(runs).display()
        ))
        .hint("`ai-sdlc run` makes one")
    })
}

fn show(played: &Played, args: &ReplayArgs) -> Result<String, CliError> {
    let view = played.replay.view();
    if args.json {
        let json = serde_json::to_string_pretty(&view)
            .map_err(|error| CliError::new(format!("it cannot be written as JSON: {error}")))?;
        return Ok(format!("{json}\n"));
    }
    let seconds = played.at.as_millis() / 1000;
    let records = plural(
        usize::try_from(played.records).unwrap_or(usize::MAX),
        "record",
        "records",
    );
    let mut lines = vec![format!(
        "run {}, {records}, {seconds} s after its start",
        played.run
    )];
    lines.extend(people(&view, played.open));
    // A run that goes on is just writing its last record.
    if let Tail::Torn { bytes } = played.tail
        && played.open != Open::GoesOn
    {
        lines.push(format!(
            "the journal ends within a record ({bytes} bytes): the program was killed while it wrote it"
        ));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(text)
}

fn people(view: &RunView, open: Open) -> Vec<String> {
    let stories = view.stories.iter().map(|story| {
        let tries = match story.attempts {
            0 | 1 => String::new(),
            tries => format!(" ({tries} attempts)"),
        };
        format!("{:<8} {}{tries}", story.id, story.standing)
    });
    let conflicts = view.conflicts.iter().map(|conflict| {
        let files = conflict.files.join(", ");
        format!(
            "{} and {} cannot be merged in {files}",
            conflict.one, conflict.other
        )
    });
    let verdict = match (view.verdict, open) {
        (Some(verdict), _) => format!("over: {}", super::error::in_words(verdict)),
        (None, Open::GoesOn) => "it goes on".to_owned(),
        (None, Open::WasKilled) => "not over: it was killed".to_owned(),
        (None, Open::Unknown) => "not over".to_owned(),
    };
    stories.chain(conflicts).chain([verdict]).collect()
}
