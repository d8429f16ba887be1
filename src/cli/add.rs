//! `ai-sdlc add`: adds a story to the board.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use super::args::AddArgs;
use super::error::{CliError, SUCCESS};
use super::worktrees::ACCIDENTAL;
use super::{find_project, working_directory};
use crate::git::{BRANCH_PREFIX, Repository};
use crate::report;
use crate::story::{Content, Edit, Key, NewStory, Status, Store, TakenNames};

/// The largest file that is taken, in bytes: what a story may have.
const LARGEST: u64 = 512 * 1024;

/// The endings of files that hold a story, as in the predecessor.
const ENDINGS: &[&str] = &["md", "markdown", "txt"];

pub(super) fn add(args: &AddArgs) -> Result<ExitCode, CliError> {
    let here = working_directory()?;
    let project = find_project(&here)?;
    let content = match (&args.title, &args.file) {
        (Some(title), _) => Content::Title(title.clone()),
        (None, Some(file)) => read(&here.join(file))?,
        (None, None) => return Err(CliError::new("a title or a file is needed")),
    };
    let ready = args
        .ready
        .then(|| Edit::set(Key::STATUS, Status::Ready.as_str()));
    let story = Store::new(&project.board).create(&NewStory {
        content,
        created: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        edits: ready.into_iter().collect(),
        taken: TakenNames {
            worktree_directories: vec![project.worktree_base(), project.board.join(ACCIDENTAL)],
            branches: branches(&project.root),
        },
    })?;
    report::note(
        "Added",
        &format!("{} {} ({})", story.id, story.title, story.status),
    );
    report::data(&format!("{}\n", story.path.display()));
    Ok(ExitCode::from(SUCCESS))
}

/// The branches of stories, whose ids are not given again. A board outside of any repository has none.
fn branches(root: &Path) -> Vec<String> {
    Repository::discover(root)
        .and_then(|repository| repository.branches_with_prefix(BRANCH_PREFIX))
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Content, CliError> {
    let refuse = |why: String| CliError::new(format!("{} {why}", path.display()));
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    if !ENDINGS.contains(&ending.to_ascii_lowercase().as_str()) {
        return Err(refuse("is not a .md, .markdown or .txt file".to_owned()));
    }
    let file = fs::File::open(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let mut text = String::new();
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if text.len() as u64 > LARGEST {
        return Err(refuse(format!("has more than {LARGEST} bytes")));
    }
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(Content::File { name, text })
}
