//! A board that was not written to its end: what the journal knows of a story and its file does not say yet, since the run
//! was killed, or had no time left when it was stopped.
//!
//! Only how stories ended is written, and only where the file still says what the run had found or written there: what a
//! person has changed since stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::board;
use super::past::Past;
use crate::engine::{BoardEntry, Outcome};
use crate::git::Repository;
use crate::story::{Board, Status, Store, StoryId};

/// Writes what the journal of a run that is over owes the board, and says of each story what came of it. Blocks.
pub fn repair_board(
    store: &Store,
    board: &Board,
    past: &Past,
    repository: &Repository,
) -> Vec<(StoryId, Result<(), String>)> {
    let (begun, ended): (Vec<_>, Vec<_>) = past
        .engine
        .owed_entries()
        .into_iter()
        .partition(|(_, entry)| *entry == BoardEntry::Started);
    // Whose beginning the board had not been told either.
    let unbegun: HashSet<StoryId> = begun.into_iter().map(|(story, _)| story).collect();
    let mut owed: HashMap<StoryId, BoardEntry> = ended.into_iter().collect();
    owed.extend(proved(past, repository));
    let mut stories = Vec::new();
    let mut entries = Vec::new();
    for story in &board.stories {
        let as_left = match story.status {
            Status::InProgress => true,
            // Otherwise a person wants it to be worked on once more.
            Status::Ready => unbegun.contains(&story.id),
            _ => false,
        };
        if !as_left {
            continue;
        }
        let Some(says) = owed.remove(&story.id) else {
            continue;
        };
        stories.push(story.id.clone());
        entries.push(board::Entry {
            story: Some(Arc::new(story.clone())),
            branch: past
                .branch_of(&story.id)
                .map(|(branch, _)| branch.to_owned()),
            says,
        });
    }
    stories
        .into_iter()
        .zip(board::write(store, &entries))
        .collect()
}

/// Stories whose success was claimed, whose executor had ended well, and whose branch proves it.
fn proved(past: &Past, repository: &Repository) -> Vec<(StoryId, BoardEntry)> {
    let settling = past.engine.settling();
    let proved = settling.into_iter().filter(|(unit, outcome)| {
        let evidence = past.notes.evidence.get(unit);
        let worktree = past.notes.worktrees.get(unit);
        *outcome == Outcome::Succeeded
            && evidence.zip(worktree).is_some_and(|(evidence, worktree)| {
                let tip = repository.branch_tip(&worktree.branch);
                let tip = tip.ok().flatten().map(|tip| tip.to_string());
                tip.as_deref() == Some(evidence.head.as_str())
            })
    });
    proved
        .map(|(unit, _)| (unit.story, BoardEntry::Done))
        .collect()
}
