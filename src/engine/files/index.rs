//! Whose patterns overlap with a given one, without a look at all of them. Pure.
//!
//! A path that matches a pattern starts with the names before the first wildcard of the pattern. So two patterns can
//! overlap only when these names of one are the first of these names of the other: the index is a tree of folders, and
//! a question concerns what lies on the way to its place and below it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::FilePattern;
use super::shape::{Alternative, Segment, meet};

/// How deep the tree goes. Names below that are only compared, so that an absurdly deep path costs neither stack nor
/// memory.
const DEEPEST: usize = 24;

/// Which owners named which patterns, and whose overlap with a given one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileIndex {
    root: Folder,
}

/// Never empty, but for the root: so an index says nothing of what was removed from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Folder {
    /// What has its first wildcard, or its end, right below this folder; in order.
    entries: Vec<Entry>,
    children: BTreeMap<Arc<str>, Self>,
}

/// One alternative of a pattern of an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    owner: u32,
    pattern: FilePattern,
    alternative: u8,
}

impl FileIndex {
    /// Notes that the owner named the pattern. Once is enough.
    pub fn insert(&mut self, owner: u32, pattern: &FilePattern) {
        for (place, entry) in entries(owner, pattern) {
            let mut folder = &mut self.root;
            for name in names(place) {
                folder = folder.children.entry(Arc::clone(name)).or_default();
            }
            if let Err(position) = folder.entries.binary_search(&entry) {
                folder.entries.insert(position, entry);
            }
        }
    }

    /// Forgets that the owner named the pattern, if it did.
    pub fn remove(&mut self, owner: u32, pattern: &FilePattern) {
        for (place, entry) in entries(owner, pattern) {
            self.root.remove(names(place), &entry);
        }
    }

    /// Calls `found` for every owner of a pattern that overlaps with this one, possibly several times for the same.
    pub fn overlapping(&self, pattern: &FilePattern, mut found: impl FnMut(u32)) {
        for alternative in pattern.alternatives() {
            let mut place = Some(&self.root);
            let mut depth = 0;
            for name in names(alternative) {
                let Some(folder) = place else { break };
                folder.report(depth, alternative, &mut found);
                place = folder.children.get(name);
                depth += 1;
            }
            if let Some(folder) = place {
                folder.report_all(depth, alternative, &mut found);
            }
        }
    }
}

impl Folder {
    fn remove<'a>(&mut self, mut names: impl Iterator<Item = &'a Arc<str>>, entry: &Entry) {
        if let Some(name) = names.next() {
            if let Some(child) = self.children.get_mut(name) {
                child.remove(names, entry);
                if child.entries.is_empty() && child.children.is_empty() {
                    self.children.remove(name);
                }
            }
        } else if let Ok(position) = self.entries.binary_search(entry) {
            self.entries.remove(position);
        }
    }

    /// Reports whose entries of this folder meet the alternative; so many of their first names are the same.
    fn report(&self, same: usize, wanted: &Alternative, found: &mut impl FnMut(u32)) {
        let wanted = &wanted[same..];
        for entry in &self.entries {
            let alternative = &entry.pattern.alternatives()[usize::from(entry.alternative)];
            if meet(&alternative[same..], wanted) {
                found(entry.owner);
            }
        }
    }

    /// The same for this folder and all below it.
    fn report_all(&self, same: usize, wanted: &Alternative, found: &mut impl FnMut(u32)) {
        self.report(same, wanted, found);
        for child in self.children.values() {
            child.report_all(same, wanted, found);
        }
    }
}

/// What the index holds of a pattern, and by which alternative it is found.
fn entries(owner: u32, pattern: &FilePattern) -> impl Iterator<Item = (&Alternative, Entry)> {
    (0_u8..)
        .zip(pattern.alternatives())
        .map(move |(alternative, place)| {
            let pattern = pattern.clone();
            let entry = Entry {
                owner,
                pattern,
                alternative,
            };
            (place, entry)
        })
}

/// The names with which every path starts that matches the alternative, as far as the tree goes.
fn names(alternative: &Alternative) -> impl Iterator<Item = &Arc<str>> {
    let names = alternative.iter().map_while(|segment| match segment {
        Segment::Name(name) => Some(name),
        Segment::Form(_) | Segment::AnyDepth => None,
    });
    names.take(DEEPEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(patterns: &[&str]) -> FileIndex {
        let mut index = FileIndex::default();
        for (owner, text) in (0..).zip(patterns) {
            index.insert(owner, &FilePattern::parse(text).unwrap());
        }
        index
    }

    fn owners(index: &FileIndex, text: &str) -> Vec<u32> {
        let mut owners = Vec::new();
        index.overlapping(&FilePattern::parse(text).unwrap(), |owner| {
            owners.push(owner);
        });
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    #[test]
    fn owners_are_found_above_at_and_below_a_pattern() {
        let index = index(&[
            "src/engine/plan.rs",
            "src/engine/**",
            "src",
            "**/*.rs",
            "docs/{a,b}.md",
            "src/*.rs",
        ]);
        assert_eq!(owners(&index, "src/engine/plan.rs"), [0, 1, 2, 3]);
        assert_eq!(owners(&index, "src/engine"), [0, 1, 2, 3]);
        assert_eq!(owners(&index, "src/main.rs"), [2, 3, 5]);
        assert_eq!(owners(&index, "{docs/b.md,src/git}"), [2, 3, 4]);
        assert_eq!(owners(&index, "src/**/plan.r[s]"), [0, 1, 2, 3, 5]);
        assert_eq!(owners(&index, "tests/*.md"), Vec::<u32>::new());
    }

    #[test]
    fn a_pattern_is_forgotten_for_its_owner_alone() {
        let mut index = index(&["src/a.rs", "src/a.rs", "{src/a.rs,docs/x}"]);
        index.remove(0, &FilePattern::literal("src/a.rs"));
        index.remove(2, &FilePattern::literal("src/a.rs"));
        assert_eq!(owners(&index, "src"), [1, 2]);
        index.remove(1, &FilePattern::literal("src/a.rs"));
        index.remove(2, &FilePattern::parse("{src/a.rs,docs/x}").unwrap());
        assert_eq!(index, FileIndex::default());
    }

    #[test]
    fn paths_deeper_than_the_tree_are_told_apart() {
        let deep = "d/".repeat(1000);
        let index = index(&[
            &format!("{deep}a"),
            &format!("{deep}b"),
            &format!("{deep}*"),
        ]);
        assert_eq!(owners(&index, &format!("{deep}a")), [0, 2]);
        assert_eq!(owners(&index, &deep), [0, 1, 2]);
    }
}
