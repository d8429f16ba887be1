//! `ai-sdlc status`: shows the board.

use std::process::ExitCode;

use serde::Serialize;

use super::args::StatusArgs;
use super::error::{CliError, SUCCESS};
use super::{find_project, working_directory};
use crate::report;
use crate::story::{Board, Priority, Status, Store, Story};

/// The version of the JSON form: that of the predecessor, whose users read it.
const VERSION: u32 = 1;

pub(super) fn status(args: &StatusArgs) -> Result<ExitCode, CliError> {
    let project = find_project(&working_directory()?)?;
    let board = Store::new(&project.board).load()?;
    for problem in &board.problems {
        report::warning(&problem.to_string());
    }
    let text = if args.json {
        json(&board, args.active)?
    } else {
        table(&board, args.active)
    };
    report::data(&text);
    Ok(ExitCode::from(SUCCESS))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BoardView<'a> {
    version: u32,
    generated_at: String,
    backlog: Vec<StoryView<'a>>,
    ready: Vec<StoryView<'a>>,
    in_progress: Vec<StoryView<'a>>,
    done: Vec<StoryView<'a>>,
    blocked: Vec<StoryView<'a>>,
    total: usize,
}

#[derive(Debug, Serialize)]
struct StoryView<'a> {
    id: &'a str,
    slug: &'a str,
    title: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a str>,
    labels: &'a [String],
}

fn json(board: &Board, active: bool) -> Result<String, CliError> {
    let column = |status: Status| -> Vec<StoryView<'_>> {
        stories(board, status, active).map(view).collect()
    };
    let mut view = BoardView {
        version: VERSION,
        generated_at: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
            .to_string(),
        backlog: column(Status::Backlog),
        ready: column(Status::Ready),
        in_progress: column(Status::InProgress),
        done: column(Status::Done),
        blocked: column(Status::Blocked),
        total: 0,
    };
    view.total = view.backlog.len()
        + view.ready.len()
        + view.in_progress.len()
        + view.done.len()
        + view.blocked.len();
    let text = serde_json::to_string_pretty(&view).map_err(|error| CliError::from_error(&error))?;
    Ok(format!("{text}\n"))
}

fn view(story: &Story) -> StoryView<'_> {
    StoryView {
        id: story.id.as_str(),
        slug: story.slug.as_str(),
        title: &story.title,
        status: story.status,
        priority: story.priority,
        r#type: &story.kind,
        created: story.created.as_deref(),
        labels: &story.labels,
    }
}

/// The stories of one column, in the order in which they would be worked on.
fn stories(board: &Board, status: Status, active: bool) -> impl Iterator<Item = &Story> {
    let shown = !(active && status == Status::Done);
    board
        .stories
        .iter()
        .filter(move |story| shown && story.status == status)
}

fn table(board: &Board, active: bool) -> String {
    let ids = board.stories.iter().map(|story| story.id.as_str().len());
    let width = ids.max().unwrap_or(0);
    let columns: Vec<String> = Status::ALL
        .into_iter()
        .filter_map(|status| {
            let rows: Vec<String> = stories(board, status, active)
                .map(|story| row(story, width))
                .collect();
            let heading = status.as_str().to_uppercase();
            (!rows.is_empty()).then(|| format!("{heading} ({})\n{}", rows.len(), rows.concat()))
        })
        .collect();
    match (columns.is_empty(), board.stories.is_empty()) {
        (false, _) => columns.join("\n"),
        (true, true) => {
            "The board is empty. Add a story with `ai-sdlc add \"Title\"`.\n".to_owned()
        }
        (true, false) => "Everything is done.\n".to_owned(),
    }
}

/// A story, and below it what went wrong with it.
fn row(story: &Story, width: usize) -> String {
    let priority = story
        .priority
        .map_or_else(|| "-".to_owned(), |p| p.to_string());
    let trouble = match story.status {
        Status::Blocked => story.blocked_reason.as_ref(),
        Status::Done => None,
        _ => story.last_error.as_ref(),
    };
    let detail = trouble.map(|reason| format!("  {:<width$}        {reason}\n", ""));
    format!(
        "  {:<width$}  {priority:>4}  {}\n{}",
        story.id,
        story.title,
        detail.unwrap_or_default()
    )
}
