//! What the engine wants the board to say, as edits of story files.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use thiserror::Error;

use crate::engine::{BoardEntry, Fingerprint};
use crate::report::chain;
use crate::story::{
    Document, Edit, EditError, FileEdit, FrontMatterError, Key, Status, Store, Story,
};

/// The longest reason that goes into a story file, in characters (the predecessor's limit).
const REASON_LENGTH: usize = 200;

/// When something happens, in the forms in which story files hold it.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    /// `YYYY-MM-DD`
    pub(super) day: String,
    /// RFC 3339.
    pub(super) instant: String,
}

impl Stamp {
    pub(super) fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self {
            day: now.strftime("%Y-%m-%d").to_string(),
            instant: now.to_string(),
        }
    }
}

/// What is to be written of a story.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it was read; none when the run does not know it.
    pub(super) story: Option<Arc<Story>>,
    /// Where its work is.
    pub(super) branch: Option<String>,
    pub(super) says: BoardEntry,
}

/// Writes entries and says of each what came of it. Blocks.
pub(super) fn write(store: &Store, entries: &[Entry]) -> Vec<Result<(), String>> {
    let stamp = Stamp::now();
    let wanted: Vec<FileEdit> = entries
        .iter()
        .filter_map(|entry| {
            let story = entry.story.as_ref()?;
            Some(FileEdit {
                path: story.path.clone(),
                edits: edits(story.status, entry.branch.as_deref(), &entry.says, &stamp),
            })
        })
        .collect();
    let mut results = match store.edit_files(&wanted) {
        Ok(results) => results
            .into_iter()
            .map(|result| result.map(drop).map_err(|error| chain(&error)))
            .collect(),
        Err(error) => vec![Err(chain(&error)); wanted.len()],
    }
    .into_iter();
    let written = entries.iter().map(|entry| match entry.story {
        Some(_) => results.next().unwrap_or(Ok(())),
        None => Ok(()),
    });
    written.collect()
}

/// The keys that a run writes.
const WRITTEN: [Key; 6] = [
    Key::STATUS,
    Key::BLOCKED_REASON,
    Key::BLOCKED_AT,
    Key::LAST_ERROR,
    Key::BRANCH,
    Key::UPDATED,
];

/// What a story's file says apart from what runs write into it, as a text.
pub(super) fn said_by_people(story: &Story) -> String {
    let without = WRITTEN.map(|key| Edit::Remove { key });
    let document = Document::parse(&story.text).ok();
    let said = document.and_then(|document| document.with(&without).ok());
    said.unwrap_or_else(|| story.text.clone())
}

/// The same as a number.
pub fn fingerprint(story: &Story) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    hasher.write(said_by_people(story).as_bytes());
    Fingerprint::from(hasher.finish())
}

/// Whether a story's file can be edited to say everything that a run may have to say of it.
///
/// # Errors
/// Why not.
pub fn check_writable(story: &Story) -> Result<(), CheckError> {
    let document = Document::parse(&story.text)?;
    let reason = "any: reason".to_owned();
    let entries = [
        BoardEntry::Started,
        BoardEntry::Done,
        BoardEntry::NeedsPerson {
            reason: reason.clone(),
        },
        BoardEntry::Returned {
            error: Some(reason),
        },
    ];
    for entry in entries {
        document.with(&edits(story.status, Some("any"), &entry, &Stamp::now()))?;
    }
    Ok(())
}

/// Why a story's file cannot be kept up to date.
#[derive(Debug, Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error(transparent)]
    FrontMatter(#[from] FrontMatterError),
    /// It cannot be edited line by line.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// The edits that make a story's file say what `entry` says. `before` is the status from before the run.
fn edits(before: Status, branch: Option<&str>, entry: &BoardEntry, stamp: &Stamp) -> Vec<Edit> {
    let status = |status: Status| Edit::set(Key::STATUS, status.as_str());
    let short = |text: &str| text.chars().take(REASON_LENGTH).collect::<String>();
    let mut edits = match entry {
        BoardEntry::Started => vec![status(Status::InProgress)],
        BoardEntry::Done => {
            let mut edits = vec![
                status(Status::Done),
                Edit::Remove {
                    key: Key::BLOCKED_REASON,
                },
                Edit::Remove {
                    key: Key::BLOCKED_AT,
                },
                Edit::Remove {
                    key: Key::LAST_ERROR,
                },
            ];
            edits.extend(branch.map(|branch| Edit::set(Key::BRANCH, branch)));
            edits
        }
        BoardEntry::NeedsPerson { reason } => vec![
            status(Status::Blocked),
            Edit::set(Key::BLOCKED_REASON, short(reason)),
            Edit::set(Key::BLOCKED_AT, stamp.instant.clone()),
        ],
        BoardEntry::Returned { error } => {
            // One that an earlier run had left in progress is in nobody's hands now.
            let back = if before == Status::InProgress {
                Status::Ready
            } else {
                before
            };
            let mut edits = vec![status(back)];
            edits.extend(
                error
                    .as_deref()
                    .map(|error| Edit::set(Key::LAST_ERROR, short(error))),
            );
            edits
        }
    };
    edits.push(Edit::set(Key::UPDATED, stamp.day.clone()));
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "---\nid: S-0001 # mine\nstatus: ready\nlast_error: 'old'\nextra: {a: 1}\n---\nbody\n";

    fn after(entry: &BoardEntry) -> String {
        let stamp = Stamp {
            day: "2026-11-22".to_owned(),
            instant: "2026-11-22T20:00:00Z".to_owned(),
        };
        let edits = edits(Status::Ready, Some("ai-sdlc/S-0001-x"), entry, &stamp);
        Document::parse(BEFORE).unwrap().with(&edits).unwrap()
    }

    #[test]
    fn a_story_that_is_done_says_where_its_work_is_and_nothing_of_old_troubles() {
        assert_eq!(
            after(&BoardEntry::Done),
            "---\nid: S-0001 # mine\nstatus: done\nextra: {a: 1}\nbranch: ai-sdlc/S-0001-x\nupdated: '2026-11-22'\n---\nbody\n"
        );
    }

    #[test]
    fn what_a_run_writes_is_no_change_of_what_a_story_says() {
        let read = |text: &str| {
            let story = Story::from_text("story.md".as_ref(), "S-0001", text);
            fingerprint(&story.unwrap())
        };
        let before = read(BEFORE);
        for entry in [
            BoardEntry::Started,
            BoardEntry::Done,
            BoardEntry::NeedsPerson {
                reason: "no".to_owned(),
            },
            BoardEntry::Returned {
                error: Some("it: crashed".to_owned()),
            },
        ] {
            assert_eq!(read(&after(&entry)), before, "{entry:?}");
        }
        assert_ne!(read(&BEFORE.replace("body", "other")), before);
        assert_ne!(read(&BEFORE.replace("a: 1", "a: 2")), before);
    }

    #[test]
    fn a_story_that_failed_waits_for_a_person() {
        let entry = BoardEntry::NeedsPerson {
            reason: "exit code 3: no".to_owned(),
        };
        let text = after(&entry);
        assert!(text.contains("\nstatus: blocked\n"));
        assert!(text.contains("\nblocked_reason: 'exit code 3: no'\n"));
        assert!(text.contains("\nblocked_at: '2026-11-22T20:00:00Z'\n"));
    }

    #[test]
    fn a_story_that_was_stopped_is_what_it_was_before() {
        let text = after(&BoardEntry::Returned { error: None });
        assert!(text.contains("\nstatus: ready\n"));
        assert!(text.contains("\nlast_error: 'old'\n"));
    }
}
