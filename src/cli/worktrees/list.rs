//! `ai-sdlc worktrees`: one line for each worktree.

use std::process::ExitCode;
use std::time::SystemTime;

use serde::Serialize;

use super::holder::Holder;
use super::scene::{Item, REPAIR, Scene, foreign, sizes};
use crate::cli::args::WorktreesListArgs;
use crate::cli::error::{CliError, SUCCESS};
use crate::disk::{Bytes, Measured};
use crate::git::{Condition, LOST_LINK, Work};
use crate::report::{self, plural};
use crate::story::Status;

/// The version of the JSON form.
const VERSION: u32 = 1;

/// How a worktree stands, for whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It can be worked in.
    Ready,
    /// A run works in it.
    InUse,
    /// Its story is done, and all of it is in the base.
    Merged,
    /// It was never made to its end.
    HalfMade,
    /// Its directory is gone.
    Gone,
    /// It has its files, and its `.git` is gone.
    Broken,
    /// It is not ours.
    Foreign,
}

impl State {
    fn of(item: &Item, work: Option<&Work>, holder: Option<&Holder>) -> Self {
        match item.place.condition {
            Condition::Foreign(_) => Self::Foreign,
            _ if holder.is_some_and(|holder| holder.who().is_a_run())
                && item.status == Some(Status::InProgress) =>
            {
                Self::InUse
            }
            Condition::HalfMade => Self::HalfMade,
            Condition::Gone => Self::Gone,
            Condition::Broken => Self::Broken,
            Condition::Ready => {
                let merged =
                    work.is_some_and(|work| work.ahead == Some(0) && work.uncommitted == 0);
                if merged && item.status == Some(Status::Done) {
                    Self::Merged
                } else {
                    Self::Ready
                }
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::InUse => "in use",
            Self::Merged => "merged",
            Self::HalfMade => "half-made",
            Self::Gone => "gone",
            Self::Broken => "broken",
            Self::Foreign => "foreign",
        }
    }
}

/// A worktree with all that is shown of it.
struct Row {
    item: Item,
    work: Option<Work>,
    size: Measured,
    state: State,
}

pub(super) async fn list(args: &WorktreesListArgs) -> Result<ExitCode, CliError> {
    let scene = Scene::find().await?;
    let holder = Holder::look(&scene.project);
    let items = scene.items().await?;
    let (sizes, works) = std::thread::scope(|scope| {
        let sizes = scope.spawn(|| sizes(&items));
        let works = scene.work_in(&items);
        (sizes.join().unwrap_or_default(), works)
    });
    let rows: Vec<Row> = items
        .into_iter()
        .zip(works)
        .zip(sizes)
        .map(|((item, work), size)| Row {
            state: State::of(&item, work.as_ref(), holder.as_ref()),
            item,
            work,
            size,
        })
        .collect();
    let text = if args.json {
        json(&rows)?
    } else {
        table(&scene, &rows)
    };
    report::data(&text);
    if !args.json {
        tell_of_broken(&rows);
    }
    Ok(ExitCode::from(SUCCESS))
}

fn tell_of_broken(rows: &[Row]) {
    let broken = rows.iter().filter(|row| row.state == State::Broken);
    let titles: Vec<String> = broken.map(|row| row.item.title()).collect();
    if !titles.is_empty() {
        report::warning(&format!("{}: {LOST_LINK}", titles.join(", ")));
        report::hint(REPAIR);
    }
}

#[derive(Debug, Serialize)]
struct ListView {
    version: u32,
    worktrees: Vec<WorktreeView>,
    /// Of ours.
    total_bytes: u64,
    /// Whether all could be measured in time.
    sizes_complete: bool,
}

#[derive(Debug, Serialize)]
struct WorktreeView {
    path: String,
    story: Option<String>,
    status: Option<Status>,
    branch: Option<String>,
    state: State,
    /// Why it is foreign or broken.
    reason: Option<String>,
    ahead: Option<usize>,
    uncommitted: Option<usize>,
    size_bytes: u64,
    size_complete: bool,
    last_used: Option<String>,
}

fn json(rows: &[Row]) -> Result<String, CliError> {
    let (total, complete) = total(rows, |row| row.state != State::Foreign);
    let view = ListView {
        version: VERSION,
        worktrees: rows.iter().map(view).collect(),
        total_bytes: total.0,
        sizes_complete: complete,
    };
    let text = serde_json::to_string_pretty(&view).map_err(|error| CliError::from_error(&error))?;
    Ok(format!("{text}\n"))
}

fn view(row: &Row) -> WorktreeView {
    let place = &row.item.place;
    let used = place
        .used
        .and_then(|used| jiff::Timestamp::try_from(used).ok());
    WorktreeView {
        path: place.path.display().to_string(),
        story: row.item.story.as_ref().map(ToString::to_string),
        status: row.item.status,
        branch: place.branch.clone(),
        state: row.state,
        reason: match &place.condition {
            Condition::Foreign(why) => Some(foreign(why)),
            Condition::Broken => Some(LOST_LINK.to_owned()),
            Condition::Ready | Condition::HalfMade | Condition::Gone => None,
        },
        ahead: row.work.as_ref().and_then(|work| work.ahead),
        uncommitted: row.work.as_ref().map(|work| work.uncommitted),
        size_bytes: row.size.bytes.0,
        size_complete: !row.size.incomplete,
        last_used: used.map(|used| used.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    }
}

/// What some of the rows take together, and whether that is all.
fn total(rows: &[Row], counts: impl Fn(&Row) -> bool) -> (Bytes, bool) {
    let counted = || rows.iter().filter(|row| counts(row)).map(|row| row.size);
    let bytes = counted().map(|size| size.bytes).sum();
    (bytes, counted().all(|size| !size.incomplete))
}

/// The columns: what is in their first row, and on which side they are filled up.
const COLUMNS: [(&str, Side); 9] = [
    ("STORY", Side::Right),
    ("STATUS", Side::Right),
    ("STATE", Side::Right),
    ("AHEAD", Side::Left),
    ("UNSAVED", Side::Left),
    ("SIZE", Side::Left),
    ("AGE", Side::Left),
    ("BRANCH", Side::Right),
    ("PATH", Side::Right),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

fn table(scene: &Scene, rows: &[Row]) -> String {
    if rows.is_empty() {
        return "There are no worktrees.\n".to_owned();
    }
    let now = SystemTime::now();
    let mut lines = vec![COLUMNS.map(|(heading, _)| heading.to_owned())];
    lines.extend(rows.iter().map(|row| cells(scene, row, now)));
    let text = aligned(&lines);
    format!("{text}{}\n", last_line(scene, rows))
}

fn cells(scene: &Scene, row: &Row, now: SystemTime) -> [String; 9] {
    let nothing = || "-".to_owned();
    let place = &row.item.place;
    let work = row.work.as_ref();
    let age = place.used.and_then(|used| now.duration_since(used).ok());
    [
        row.item
            .story
            .as_ref()
            .map_or_else(nothing, ToString::to_string),
        row.item
            .status
            .map_or_else(nothing, |status| status.as_str().to_owned()),
        row.state.words().to_owned(),
        work.and_then(|work| work.ahead)
            .map_or_else(nothing, |ahead| ahead.to_string()),
        work.map_or_else(nothing, |work| work.uncommitted.to_string()),
        amount(row.size.bytes, !row.size.incomplete),
        age.map_or_else(nothing, |age| short(age.as_secs())),
        place.branch.clone().unwrap_or_else(nothing),
        scene.shown(&place.path),
    ]
}

/// An amount; with a sign in front when there may be more.
fn amount(bytes: Bytes, complete: bool) -> String {
    let sign = if complete { "" } else { ">" };
    format!("{sign}{bytes}")
}

/// An age in its largest unit.
fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn aligned(lines: &[[String; 9]]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for ((cell, width), (_, side)) in line.iter().zip(&widths).zip(COLUMNS) {
            let cell = match side {
                Side::Left => format!("{cell:>width$}  "),
                Side::Right => format!("{cell:<width$}  "),
            };
            shown.push_str(&cell);
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

fn last_line(scene: &Scene, rows: &[Row]) -> String {
    let (ours, complete) = total(rows, |row| row.state != State::Foreign);
    let count = rows
        .iter()
        .filter(|row| row.state != State::Foreign)
        .count();
    let mut text = format!(
        "{}, {}",
        plural(count, "worktree", "worktrees"),
        amount(ours, complete)
    );
    if let Some(most) = scene.project.config.max_disk {
        text = format!("{text} of {most}");
    }
    let others = rows.len() - count;
    if others > 0 {
        let (theirs, complete) = total(rows, |row| row.state == State::Foreign);
        let theirs = amount(theirs, complete);
        text = format!("{text}; not of stories: {others}, {theirs}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        assert_eq!(
            [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 400 * 86_400].map(short),
            ["0s", "59s", "1m", "59m", "1h", "23h", "1d", "400d"]
        );
    }

    #[test]
    fn amounts_that_are_cut_say_so() {
        assert_eq!(amount(Bytes(5), true), "5 B");
        assert_eq!(amount(Bytes(5), false), ">5 B");
    }
}
