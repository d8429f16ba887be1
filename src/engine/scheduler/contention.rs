//! Whose files overlap: with what stories say that they will change, and with what running ones have really changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Engine, Key, Stage};
use crate::engine::effect::{Effects, Notice};
use crate::engine::event::Unit;
use crate::engine::fault::{self, Fault};
use crate::engine::files::{FileIndex, FilePattern};
use crate::engine::lifecycle::Input;

/// The most files of an overlap that are told.
const MOST_TOLD: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Contention {
    /// What the stories that are not through say they will change.
    index: FileIndex,
    /// For each story, how many running ones are in its way.
    heat: Vec<u32>,
    running: BTreeMap<Key, Footprint>,
    /// Which running stories have changed a file.
    changed: BTreeMap<FilePattern, BTreeSet<Key>>,
}

/// What a running story touches, and in whose way it is by that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Footprint {
    files: BTreeSet<FilePattern>,
    changed: BTreeSet<FilePattern>,
    in_the_way_of: BTreeSet<Key>,
    told: BTreeSet<Key>,
}

impl Contention {
    pub(super) fn is_hot(&self, key: Key) -> bool {
        let heat = self.heat.get(key.index()).copied().unwrap_or_default();
        heat > 0 && !fault::is(Fault::ConflictNotAvoided)
    }

    /// A story joins, or says something else about its files than before.
    pub(super) fn register(&mut self, key: Key, files: &[FilePattern]) {
        if self.heat.len() <= key.index() {
            self.heat.resize(key.index() + 1, 0);
        }
        for pattern in files {
            self.index.insert(key.0, pattern);
        }
        for (runner, footprint) in &mut self.running {
            let overlaps = footprint
                .files
                .iter()
                .any(|running| files.iter().any(|pattern| pattern.overlaps(running)));
            if *runner != key && overlaps && footprint.in_the_way_of.insert(key) {
                self.heat[key.index()] += 1;
            }
        }
    }

    /// A story is through, or its files are to be said anew.
    pub(super) fn forget(&mut self, key: Key, files: &[FilePattern]) {
        for pattern in files {
            self.index.remove(key.0, pattern);
        }
        for footprint in self.running.values_mut() {
            if footprint.in_the_way_of.remove(&key) {
                self.heat[key.index()] -= 1;
            }
        }
    }

    /// A running story touches these files. Gives the stories in whose way it comes by that.
    fn touch(&mut self, key: Key, files: &[FilePattern]) -> Vec<Key> {
        let mut newly = Vec::new();
        let footprint = self.running.entry(key).or_default();
        for pattern in files {
            if !footprint.files.insert(pattern.clone()) {
                continue;
            }
            let heat = &mut self.heat;
            self.index.overlapping(pattern, |owner| {
                let other = Key(owner);
                if other != key && footprint.in_the_way_of.insert(other) {
                    heat[other.index()] += 1;
                    newly.push(other);
                }
            });
        }
        newly
    }

    /// A running story has ended. Gives the stories in whose way it was.
    fn leave(&mut self, key: Key) -> BTreeSet<Key> {
        let Some(footprint) = self.running.remove(&key) else {
            return BTreeSet::new();
        };
        for file in &footprint.changed {
            if let Some(keys) = self.changed.get_mut(file) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.changed.remove(file);
                }
            }
        }
        for other in &footprint.in_the_way_of {
            self.heat[other.index()] -= 1;
        }
        // What was told of this attempt says nothing of a later one.
        for other in footprint.told {
            if let Some(other) = self.running.get_mut(&other)
                && !fault::is(Fault::OverlapToldForEver)
            {
                other.told.remove(&key);
            }
        }
        footprint.in_the_way_of
    }

    /// A running story has changed these files. Gives the running stories that have changed some of them as well, each
    /// once for as long as both run.
    fn change(&mut self, key: Key, files: &[FilePattern]) -> BTreeMap<Key, Vec<FilePattern>> {
        let mut overlaps: BTreeMap<Key, Vec<FilePattern>> = BTreeMap::new();
        let Some(footprint) = self.running.get_mut(&key) else {
            return overlaps;
        };
        for file in files {
            if !footprint.changed.insert(file.clone()) {
                continue;
            }
            let keys = self.changed.entry(file.clone()).or_default();
            for other in keys.iter().filter(|other| !footprint.told.contains(*other)) {
                overlaps.entry(*other).or_default().push(file.clone());
            }
            keys.insert(key);
        }
        footprint.told.extend(overlaps.keys());
        for other in overlaps.keys() {
            if let Some(footprint) = self.running.get_mut(other) {
                footprint.told.insert(key);
            }
        }
        overlaps
    }
}

impl Engine {
    pub(super) fn heat_up(&mut self, key: Key) {
        let files = std::mem::take(&mut self.story_mut(key).files);
        let newly = self.contention.touch(key, &files);
        self.story_mut(key).files = files;
        for other in newly {
            self.requeue(other);
        }
    }

    pub(super) fn cool_down(&mut self, key: Key) {
        for other in self.contention.leave(key) {
            self.requeue(other);
        }
    }

    /// What a running attempt has changed in its worktree.
    pub(super) fn note_files(&mut self, unit: &Unit, files: &[FilePattern], effects: &mut Effects) {
        let Some((key, attempt)) = self.current(unit) else {
            return;
        };
        if attempt.state.holds_slot() {
            for other in self.contention.touch(key, files) {
                self.requeue(other);
            }
            for (other, mut files) in self.contention.change(key, files) {
                files.truncate(MOST_TOLD);
                effects.tell(Notice::Overlap {
                    one: self.story(other).id.clone(),
                    other: unit.story.clone(),
                    files,
                });
            }
        }
        self.feed(unit, Input::Touched, effects);
    }

    /// The running stories that are in the way of one that waits.
    pub(super) fn in_the_way_of(&self, key: Key) -> Vec<Key> {
        let running = self.contention.running.iter();
        running
            .filter(|(_, footprint)| footprint.in_the_way_of.contains(&key))
            .map(|(runner, _)| *runner)
            .filter(|runner| matches!(self.story(*runner).stage, Stage::Attempting(_)))
            .collect()
    }
}
