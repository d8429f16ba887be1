//! Checkpoints that the predecessor has left: `.workflow-state.json` on the board and beside stories. They are told of, and
//! never changed: they say which phases were through, and a story is worked on from its beginning here.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::report;

/// The name of such a file.
const NAME: &str = ".workflow-state.json";

/// How large such a file may be, in bytes: it names some actions.
const LARGEST: u64 = 1024 * 1024;

/// How many are told of one by one.
const MOST_TOLD: usize = 5;

/// How many actions of one are named: the predecessor had seven.
const MOST_ACTIONS: usize = 10;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Checkpoint {
    timestamp: String,
    completed_actions: Vec<Action>,
    context: Context,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Action {
    r#type: String,
    story_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    options: Options,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    story: Option<String>,
}

/// Tells of the checkpoints on a board.
pub(super) fn tell(board: &Path) {
    let found = find(board);
    for path in found.iter().take(MOST_TOLD) {
        report::warning(&describe(path));
    }
    if let more @ 1.. = found.len().saturating_sub(MOST_TOLD) {
        report::warning(&format!("and {more} more such checkpoints"));
    }
    if !found.is_empty() {
        report::hint(
            "such a story is worked on from its beginning, in its worktree; remove the file when it is not needed",
        );
    }
}

fn find(board: &Path) -> Vec<PathBuf> {
    let stories = std::fs::read_dir(board.join("stories"));
    let stories = stories.into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = stories
        .map(|story| story.path())
        .chain([board.to_owned()])
        .map(|folder| folder.join(NAME))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

/// One line about a checkpoint.
fn describe(path: &Path) -> String {
    let shown = path.display();
    let read = std::fs::metadata(path).and_then(|data| {
        if data.len() > LARGEST {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read(path)
    });
    let parsed = match read {
        Ok(text) => serde_json::from_slice::<Checkpoint>(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let checkpoint = match parsed {
        Ok(checkpoint) => checkpoint,
        Err(error) => return format!("{shown} is a checkpoint that cannot be read: {error}"),
    };
    let mut actions = checkpoint.completed_actions.iter();
    let story = checkpoint.context.options.story.as_deref();
    let story = story
        .or_else(|| {
            actions
                .clone()
                .map(|action| action.story_id.as_str())
                .next()
        })
        .unwrap_or("a story");
    let done: Vec<String> = actions
        .by_ref()
        .map(|action| plain(&action.r#type))
        .filter(|action| !action.is_empty())
        .take(MOST_ACTIONS)
        .collect();
    let done = if done.is_empty() {
        "nothing completed".to_owned()
    } else {
        format!("completed: {}", done.join(", "))
    };
    let when = match plain(&checkpoint.timestamp) {
        when if when.is_empty() => String::new(),
        when => format!(" of {when}"),
    };
    format!(
        "{shown} is a checkpoint of the predecessor{when}: {}, {done}",
        plain(story)
    )
}

/// What a file says, fit for a line.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_says_what_was_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let shown = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let line = describe(&path);
            line.replace(&path.display().to_string(), "FILE")
        };
        let whole = r#"{"version":"1.0","workflowId":"workflow-1-ab","timestamp":"2025-12-24T10:00:00Z",
            "currentAction":null,"completedActions":[
            {"type":"refine","storyId":"S-0001","storyPath":"/x","completedAt":"t"},
            {"type":"research\u001b[0m","storyId":"S-0001","storyPath":"/x","completedAt":"t"}],
            "context":{"sdlcRoot":"/x","options":{"auto":true}}}"#;
        assert_eq!(
            shown(whole),
            "FILE is a checkpoint of the predecessor of 2025-12-24T10:00:00Z: S-0001, completed: refine, research[0m"
        );
        assert_eq!(
            shown("{}"),
            "FILE is a checkpoint of the predecessor: a story, nothing completed"
        );
        assert!(shown("{").starts_with("FILE is a checkpoint that cannot be read: "));
        assert_eq!(find(folder.path()), std::slice::from_ref(&path));
        assert_eq!(find(&folder.path().join("none")), Vec::<PathBuf>::new());
    }
}
