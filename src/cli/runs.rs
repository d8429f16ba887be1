//! `ai-sdlc runs`: lists the runs of a board.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use serde::Serialize;

use super::args::RunsArgs;
use super::error::{CliError, SUCCESS};
use super::{find_project, working_directory};
use crate::engine::{Moment, OutcomeKind, Record, RunId, RunView, Standing, StopSignal, Verdict};
use crate::journal::{last_change, last_record};
use crate::orchestrator::{JOURNAL, JournalRecord, Past, RunLock};
use crate::report::event::{amount, cost};
use crate::report::{self, chain, duration, plural};

/// The version of the JSON form.
const VERSION: u32 = 1;

pub(super) fn run(args: &RunsArgs) -> Result<ExitCode, CliError> {
    let project = find_project(&working_directory()?)?;
    let holder = RunLock::holder(&project.board);
    let mut runs = all(&project.runs());
    for row in &mut runs {
        let lives = holder
            .as_ref()
            .is_some_and(|holder| holder.run().as_ref() == Some(&row.run));
        if lives && row.outcome == Outcome::Killed {
            row.outcome = Outcome::GoingOn;
        }
    }
    let text = if args.json {
        let list = List {
            version: VERSION,
            runs: &runs,
        };
        let json =
            serde_json::to_string_pretty(&list).map_err(|error| CliError::from_error(&error))?;
        format!("{json}\n")
    } else {
        table(&runs)
    };
    report::data(&text);
    Ok(ExitCode::from(SUCCESS))
}

#[derive(Serialize)]
struct List<'a> {
    version: u32,
    runs: &'a [Row],
}

/// What the list says of a run.
#[derive(Debug, Serialize)]
struct Row {
    run: RunId,
    outcome: Outcome,
    /// From its beginning to the last thing that happened, in milliseconds.
    duration_ms: Option<u64>,
    /// How many stories there were of each outcome, and how many have none.
    stories: BTreeMap<&'static str, usize>,
    tokens: u64,
    cost_micros_usd: u64,
    /// Why nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Succeeded,
    SomeDidNot,
    Exhausted,
    Interrupted,
    DeadlineHit,
    Killed,
    GoingOn,
    Unknown,
}

impl Outcome {
    fn of(verdict: Option<Verdict>) -> Self {
        match verdict {
            Some(Verdict::AllSucceeded) => Self::Succeeded,
            Some(Verdict::SomeDidNot) => Self::SomeDidNot,
            Some(Verdict::Exhausted) => Self::Exhausted,
            Some(Verdict::Interrupted(
                StopSignal::Interrupt | StopSignal::Terminate | StopSignal::Hangup,
            )) => Self::Interrupted,
            Some(Verdict::DeadlineHit) => Self::DeadlineHit,
            None => Self::Killed,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::SomeDidNot => "some did not succeed",
            Self::Exhausted => "out of budget or quota",
            Self::Interrupted => "stopped",
            Self::DeadlineHit => "cut off",
            Self::Killed => "killed",
            Self::GoingOn => "going on",
            Self::Unknown => "unknown",
        }
    }
}

/// All runs that have a journal, the one that was last at work first: the names of two may be from the same second.
fn all(runs: &Path) -> Vec<Row> {
    let folders = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let mut found: Vec<(SystemTime, RunId)> = folders
        .filter_map(|folder| {
            let run = folder.file_name().to_str()?.parse().ok()?;
            Some((last_change(&folder.path().join(JOURNAL))?, run))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    found
        .into_iter()
        .map(|(_, run)| {
            let journal = runs.join(run.as_str()).join(JOURNAL);
            row(run, &journal)
        })
        .collect()
}

fn row(run: RunId, journal: &Path) -> Row {
    if let Ok(Some(entry)) = last_record::<JournalRecord>(journal)
        && let Record::Closed(view) = entry.record
    {
        return known(run, &view, Moment::from_millis(entry.at_ms));
    }
    // One that does not say how it ended has to be played again.
    match Past::read(&run, journal) {
        Ok(past) => known(run, &past.engine.view(), past.last),
        Err(error) => Row {
            run,
            outcome: Outcome::Unknown,
            duration_ms: None,
            stories: BTreeMap::new(),
            tokens: 0,
            cost_micros_usd: 0,
            error: Some(chain(&error)),
        },
    }
}

fn known(run: RunId, view: &RunView, last: Moment) -> Row {
    let mut stories = BTreeMap::new();
    for story in &view.stories {
        let name = match &story.standing {
            Standing::Ended(outcome) => outcome.name(),
            _ => "open",
        };
        *stories.entry(name).or_default() += 1;
    }
    Row {
        run,
        outcome: Outcome::of(view.verdict),
        duration_ms: Some(last.as_millis()),
        stories,
        tokens: view.usage.tokens,
        cost_micros_usd: view.usage.cost_micros_usd,
        error: None,
    }
}

fn table(runs: &[Row]) -> String {
    if runs.is_empty() {
        return "There was no run yet. `ai-sdlc run` works on the stories that are ready.\n"
            .to_owned();
    }
    let cells: Vec<[String; 4]> = runs
        .iter()
        .map(|row| {
            [
                row.run.to_string(),
                row.outcome.words().to_owned(),
                row.duration_ms.map_or_else(|| "-".to_owned(), duration),
                counts(row),
            ]
        })
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    let lines = cells.iter().map(|[run, outcome, duration, counts]| {
        let line = format!("{run:<first$}  {outcome:<second$}  {duration:>third$}  {counts}");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn counts(row: &Row) -> String {
    if let Some(error) = &row.error {
        return error.clone();
    }
    let all = row.stories.values().sum();
    let mut words = vec![plural(all, "story", "stories")];
    let names = OutcomeKind::ALL
        .iter()
        .map(|kind| kind.name())
        .chain(["open"]);
    for name in names {
        if let Some(count) = row.stories.get(name) {
            words.push(format!("{count} {}", name.replace('_', " ")));
        }
    }
    words.extend(amount(row.tokens));
    words.extend(cost(row.cost_micros_usd));
    words.join(", ")
}
