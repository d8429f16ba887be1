//! What a plan implies: which stories have to wait for which others, and which are likely to get into each other's way.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, PlannedStory};
use crate::engine::files::{FileIndex, FilePattern};
use crate::story::StoryId;

/// Two stories that may run at the same time and say that they will change the same files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictedConflict {
    /// The earlier one.
    pub one: StoryId,
    /// The later one.
    pub other: StoryId,
    /// The first pattern of the later one that overlaps.
    pub files: FilePattern,
}

impl Plan {
    /// The stories in waves: those of the first depend on nothing in the plan, those of every further one on something
    /// in the wave before. Waves are no barriers: a story starts when its own dependencies are through.
    pub fn waves(&self) -> Vec<Vec<StoryId>> {
        let by_id: BTreeMap<&StoryId, &PlannedStory> = self
            .stories
            .iter()
            .map(|story| (&story.id, story))
            .collect();
        let mut waiting: BTreeMap<&StoryId, usize> = BTreeMap::new();
        let mut dependents: BTreeMap<&StoryId, Vec<&StoryId>> = BTreeMap::new();
        for story in &self.stories {
            let needs: BTreeSet<&StoryId> = story
                .dependencies
                .iter()
                .filter(|id| by_id.contains_key(id))
                .collect();
            waiting.insert(&story.id, needs.len());
            for need in needs {
                dependents.entry(need).or_default().push(&story.id);
            }
        }
        let place: BTreeMap<&StoryId, usize> = (0..)
            .zip(&self.stories)
            .map(|(place, story)| (&story.id, place))
            .collect();
        let mut wave: Vec<&StoryId> = self
            .stories
            .iter()
            .map(|story| &story.id)
            .filter(|id| waiting.get(id) == Some(&0))
            .collect();
        let mut waves = Vec::new();
        while !wave.is_empty() {
            let mut next = Vec::new();
            for id in &wave {
                for dependent in dependents.get(id).into_iter().flatten() {
                    if let Some(missing) = waiting.get_mut(dependent) {
                        *missing -= 1;
                        if *missing == 0 {
                            next.push(*dependent);
                        }
                    }
                }
            }
            next.sort_by_key(|id| place.get(id));
            let ended = std::mem::replace(&mut wave, next);
            waves.push(ended.into_iter().cloned().collect());
        }
        waves
    }

    /// The pairs of stories that say they will change the same files, unless one has to wait for the other. At most
    /// `most` of them.
    pub fn predicted_conflicts(&self, most: usize) -> Vec<PredictedConflict> {
        let mut index = FileIndex::default();
        let mut found = Vec::new();
        for (owner, story) in (0_u32..).zip(&self.stories) {
            let mut overlaps: BTreeMap<u32, &FilePattern> = BTreeMap::new();
            for pattern in &story.files {
                index.overlapping(pattern, |earlier| {
                    overlaps.entry(earlier).or_insert(pattern);
                });
            }
            for (earlier, files) in overlaps {
                let Some(one) = self.stories.get(earlier as usize) else {
                    continue;
                };
                if self.waits_for(story, one) || self.waits_for(one, story) {
                    continue;
                }
                found.push(PredictedConflict {
                    one: one.id.clone(),
                    other: story.id.clone(),
                    files: files.clone(),
                });
                if found.len() >= most {
                    return found;
                }
            }
            for pattern in &story.files {
                index.insert(owner, pattern);
            }
        }
        found
    }

    /// Whether `story` depends on `other`, over whatever is between them.
    fn waits_for(&self, story: &PlannedStory, other: &PlannedStory) -> bool {
        let mut open: Vec<&StoryId> = story.dependencies.iter().collect();
        let mut seen: BTreeSet<&StoryId> = BTreeSet::new();
        while let Some(id) = open.pop() {
            if *id == other.id {
                return true;
            }
            if seen.insert(id)
                && let Some(next) = self.stories.iter().find(|story| story.id == *id)
            {
                open.extend(&next.dependencies);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::id::AttemptNumber;
    use crate::engine::plan::Fingerprint;

    fn story(id: &str, dependencies: &[&str], files: &[&str]) -> PlannedStory {
        PlannedStory {
            id: id.parse().unwrap(),
            dependencies: dependencies.iter().map(|id| id.parse().unwrap()).collect(),
            next_attempt: AttemptNumber::FIRST,
            provider: None,
            files: files
                .iter()
                .map(|file| FilePattern::parse(file).unwrap())
                .collect(),
            fingerprint: Fingerprint::default(),
        }
    }

    fn plan(stories: Vec<PlannedStory>) -> Plan {
        Plan {
            stories,
            left_out: Vec::new(),
        }
    }

    #[test]
    fn waves_follow_the_longest_way() {
        let plan = plan(vec![
            story("D", &["B", "C"], &[]),
            story("A", &[], &[]),
            story("B", &["A"], &[]),
            story("C", &[], &[]),
            story("E", &[], &[]),
        ]);
        let waves: Vec<String> = plan
            .waves()
            .iter()
            .map(|wave| {
                wave.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        assert_eq!(waves, ["A C E", "B", "D"]);
    }

    #[test]
    fn stories_that_cannot_run_together_do_not_conflict() {
        let plan = plan(vec![
            story("A", &[], &["src/a.rs"]),
            story("B", &["A"], &["src/b.rs"]),
            story("C", &["B"], &["src/**"]),
            story("D", &[], &["src/*.rs"]),
        ]);
        let found: Vec<String> = plan
            .predicted_conflicts(10)
            .iter()
            .map(|pair| format!("{} {} {}", pair.one, pair.other, pair.files.as_str()))
            .collect();
        assert_eq!(found, ["A D src/*.rs", "B D src/*.rs", "C D src/*.rs"]);
        assert_eq!(plan.predicted_conflicts(2).len(), 2);
    }
}
