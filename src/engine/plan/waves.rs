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

/// The most stories of a plan that are compared, since what waits for what takes a bit for each pair of them.
const MOST_COMPARED: usize = 10_000;

/// The pairs of stories that are likely to get into each other's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictedConflicts {
    /// The first of them.
    pub pairs: Vec<PredictedConflict>,
    /// How many there are besides.
    pub more: usize,
    /// How many stories at the end of the plan have not been compared, since there are too many.
    pub not_compared: usize,
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

    /// The pairs of stories that say they will change the same files, unless one has to wait for the other. Names at
    /// most `most` of them and counts the others. Takes time in proportion to stories and dependencies times a 64th of
    /// the stories, and to the overlaps.
    pub fn predicted_conflicts(&self, most: usize) -> PredictedConflicts {
        let compared = &self.stories[..self.stories.len().min(MOST_COMPARED)];
        let order = Order::of(compared);
        let mut index = FileIndex::default();
        // Stories mostly name the same few patterns: each is compared once, and stands for all who named it.
        let mut known: Vec<(&FilePattern, Vec<usize>)> = Vec::new();
        let mut places: BTreeMap<&FilePattern, usize> = BTreeMap::new();
        let mut found = PredictedConflicts {
            pairs: Vec::new(),
            more: 0,
            not_compared: self.stories.len() - compared.len(),
        };
        for (later, story) in compared.iter().enumerate() {
            let mut overlapping = Bits::of(compared.len());
            for pattern in &story.files {
                index.overlapping(pattern, |place| {
                    let owners = known.get(place as usize).map(|(_, owners)| owners);
                    for owner in owners.into_iter().flatten() {
                        overlapping.insert(*owner);
                    }
                });
            }
            overlapping.remove_all(&order.before[later]);
            overlapping.remove_all(&order.behind[later]);
            let room = most - found.pairs.len();
            let named: Vec<usize> = overlapping.iter().take(room).collect();
            for earlier in named {
                let one = &compared[earlier];
                let files = story
                    .files
                    .iter()
                    .find(|pattern| one.files.iter().any(|other| other.overlaps(pattern)));
                found.pairs.extend(files.map(|files| PredictedConflict {
                    one: one.id.clone(),
                    other: story.id.clone(),
                    files: files.clone(),
                }));
                overlapping.remove(earlier);
            }
            found.more += overlapping.count();
            for pattern in &story.files {
                let place = *places.entry(pattern).or_insert_with(|| {
                    index.insert(u32::try_from(known.len()).unwrap_or(u32::MAX), pattern);
                    known.push((pattern, Vec::new()));
                    known.len() - 1
                });
                known[place].1.push(later);
            }
        }
        found
    }
}

/// Which stories have to wait for which, over whatever is between them.
struct Order {
    /// For each story those that it waits for.
    before: Vec<Bits>,
    /// For each story those that wait for it.
    behind: Vec<Bits>,
}

impl Order {
    fn of(stories: &[PlannedStory]) -> Self {
        let place: BTreeMap<&StoryId, usize> = (0..)
            .zip(stories)
            .map(|(at, story)| (&story.id, at))
            .collect();
        let needs: Vec<BTreeSet<usize>> = stories
            .iter()
            .map(|story| {
                let places = story.dependencies.iter().filter_map(|id| place.get(id));
                places.copied().collect()
            })
            .collect();
        let mut needed_by = vec![Vec::new(); stories.len()];
        for (at, needs) in needs.iter().enumerate() {
            for need in needs {
                needed_by[*need].push(at);
            }
        }
        // Each after those that it needs. What waits for itself, which a plan leaves out, is never reached.
        let mut missing: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
        let mut sorted: Vec<usize> = (0..stories.len()).filter(|at| missing[*at] == 0).collect();
        let mut looked_at = 0;
        while let Some(at) = sorted.get(looked_at).copied() {
            looked_at += 1;
            for next in &needed_by[at] {
                missing[*next] -= 1;
                if missing[*next] == 0 {
                    sorted.push(*next);
                }
            }
        }
        let mut before = vec![Bits::of(stories.len()); stories.len()];
        for at in &sorted {
            let mut all = Bits::of(stories.len());
            for need in &needs[*at] {
                all.insert(*need);
                all.insert_all(&before[*need]);
            }
            before[*at] = all;
        }
        let mut behind = vec![Bits::of(stories.len()); stories.len()];
        for at in sorted.iter().rev() {
            let mut all = Bits::of(stories.len());
            for next in &needed_by[*at] {
                all.insert(*next);
                all.insert_all(&behind[*next]);
            }
            behind[*at] = all;
        }
        Self { before, behind }
    }
}

/// A set of small numbers.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    /// An empty set for numbers below `end`.
    fn of(end: usize) -> Self {
        Self(vec![0; end.div_ceil(64)])
    }

    fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }

    fn insert_all(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word |= other;
        }
    }

    fn remove_all(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word &= !other;
        }
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Its numbers, ascending.
    fn iter(&self) -> impl Iterator<Item = usize> {
        let of_word = |(place, word): (usize, &u64)| {
            let word = *word;
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| place * 64 + bit)
        };
        self.0.iter().enumerate().flat_map(of_word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::id::AttemptNumber;
    use crate::engine::plan::Fingerprint;
    use crate::engine::resources::Resources;

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
            resources: Resources::default(),
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
            .pairs
            .iter()
            .map(|pair| format!("{} {} {}", pair.one, pair.other, pair.files.as_str()))
            .collect();
        assert_eq!(found, ["A D src/*.rs", "B D src/*.rs", "C D src/*.rs"]);
        let cut = plan.predicted_conflicts(2);
        assert_eq!((cut.pairs.len(), cut.more), (2, 1));
    }

    #[test]
    fn what_waits_for_something_behind_it_does_not_conflict_with_it() {
        let plan = plan(vec![
            story("A", &["C"], &["src/**"]),
            story("B", &[], &["docs/**", "src/b.rs"]),
            story("C", &["D"], &["src/c.rs"]),
            story("D", &[], &["src/**", "docs/**"]),
        ]);
        let found = plan.predicted_conflicts(10);
        let pairs: Vec<String> = found
            .pairs
            .iter()
            .map(|pair| format!("{} {} {}", pair.one, pair.other, pair.files.as_str()))
            .collect();
        assert_eq!(pairs, ["A B src/b.rs", "B D src/**"]);
    }

    /// Each of the stories needs the one before it, and all change the same files.
    fn chain(length: usize) -> Plan {
        let ids: Vec<String> = (0..length).map(|number| format!("S-{number}")).collect();
        plan(
            ids.iter()
                .enumerate()
                .map(|(at, id)| {
                    let before: Vec<&str> = ids[at.saturating_sub(1)..at]
                        .iter()
                        .map(String::as_str)
                        .collect();
                    story(id, &before, &["src/**"])
                })
                .collect(),
        )
    }

    #[test]
    fn a_long_chain_with_common_files_takes_no_time_to_speak_of() {
        let plan = chain(5_000);
        let began = std::time::Instant::now();
        assert_eq!(plan.waves().len(), 5_000);
        let found = plan.predicted_conflicts(50);
        assert_eq!((found.pairs.len(), found.more), (0, 0));
        // Walking the chain for every pair would take hours; the bound leaves room for a slow machine.
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }

    #[test]
    fn many_stories_on_the_same_files_are_counted_and_not_all_named() {
        let mut all = chain(100);
        for story in &mut all.stories {
            story.dependencies.clear();
        }
        let found = all.predicted_conflicts(50);
        assert_eq!((found.pairs.len(), found.more), (50, 100 * 99 / 2 - 50));
        assert_eq!(found.not_compared, 0);
    }
}
