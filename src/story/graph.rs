//! Dependencies between stories: which name a story that does not exist, and which wait for themselves.
//!
//! Ids are compared without regard to case. Takes time in proportion to stories and dependencies (apart from
//! looking names up), and no stack in proportion to anything. Pure.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use super::id::StoryId;

/// The most stories of a cycle that its text names.
const MOST_SHOWN: usize = 10;

/// A dependency on a story that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDependency {
    /// The story that names it.
    pub story: StoryId,
    /// What it names.
    pub dependency: StoryId,
}

/// Stories that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// One way around, without the first story at the end again: each depends on the next.
    pub path: Vec<StoryId>,
    /// Every story that is on some way around through these, in the order given.
    pub members: Vec<StoryId>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.path.iter().take(MOST_SHOWN) {
            write!(formatter, "{id} -> ")?;
        }
        if self.path.len() > MOST_SHOWN {
            write!(formatter, "… ({} more) -> ", self.path.len() - MOST_SHOWN)?;
        }
        self.path
            .first()
            .map_or(Ok(()), |first| first.fmt(formatter))
    }
}

/// What is wrong with the dependencies of a board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// In the order given.
    pub unknown: Vec<UnknownDependency>,
    /// One for each group of stories that wait for each other, by the first story of the group in the order given.
    pub cycles: Vec<Cycle>,
}

/// Checks the dependencies of all stories. The same input gives the same findings in the same order.
pub fn check<'a>(stories: impl IntoIterator<Item = (&'a StoryId, &'a [StoryId])>) -> Findings {
    let stories: Vec<_> = stories.into_iter().collect();
    let name = |id: &StoryId| id.as_str().to_ascii_lowercase();
    let index: HashMap<String, usize> = stories
        .iter()
        .enumerate()
        .map(|(index, (id, _))| (name(id), index))
        .collect();
    let mut unknown = Vec::new();
    let mut edges = vec![Vec::new(); stories.len()];
    for (from, (story, dependencies)) in stories.iter().enumerate() {
        for dependency in *dependencies {
            match index.get(&name(dependency)) {
                Some(to) => edges[from].push(*to),
                None => unknown.push(UnknownDependency {
                    story: (*story).clone(),
                    dependency: dependency.clone(),
                }),
            }
        }
    }
    let ids = |indices: &[usize]| {
        indices
            .iter()
            .map(|index| stories[*index].0.clone())
            .collect()
    };
    let cycles = components(&edges)
        .into_iter()
        .filter(|members| members.len() > 1 || edges[members[0]].contains(&members[0]))
        .map(|members| Cycle {
            path: ids(&way_around(&edges, &members)),
            members: ids(&members),
        })
        .collect();
    Findings { unknown, cycles }
}

/// The strongly connected components, each sorted, sorted by their first member (Tarjan's algorithm with its own
/// stack: a chain of dependencies may be as long as the board).
fn components(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut order = vec![UNSEEN; edges.len()];
    let mut lowest = vec![UNSEEN; edges.len()];
    let mut open = vec![false; edges.len()];
    let mut path = Vec::new();
    let mut components = Vec::new();
    let mut seen = 0;
    for root in 0..edges.len() {
        if order[root] != UNSEEN {
            continue;
        }
        // A node and how many of its edges have been followed.
        let mut calls = vec![(root, 0)];
        while let Some((node, followed)) = calls.last_mut() {
            let node = *node;
            if *followed == 0 && order[node] == UNSEEN {
                order[node] = seen;
                lowest[node] = seen;
                seen += 1;
                open[node] = true;
                path.push(node);
            }
            if let Some(next) = edges[node].get(*followed) {
                *followed += 1;
                if order[*next] == UNSEEN {
                    calls.push((*next, 0));
                } else if open[*next] {
                    lowest[node] = lowest[node].min(order[*next]);
                }
                continue;
            }
            calls.pop();
            if let Some((caller, _)) = calls.last() {
                lowest[*caller] = lowest[*caller].min(lowest[node]);
            }
            if lowest[node] == order[node] {
                let start = path
                    .iter()
                    .rposition(|member| *member == node)
                    .expect("an open node is on the path");
                let mut members = path.split_off(start);
                for member in &members {
                    open[*member] = false;
                }
                members.sort_unstable();
                components.push(members);
            }
        }
    }
    components.sort_unstable();
    components
}

/// A shortest way from the first member of a component back to it.
fn way_around(edges: &[Vec<usize>], members: &[usize]) -> Vec<usize> {
    let start = members[0];
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in &edges[node] {
            if *next == start {
                let mut path = vec![node];
                while let Some(before) =
                    came_from.get(path.last().expect("the path starts with one node"))
                {
                    path.push(*before);
                }
                path.reverse();
                return path;
            }
            if members.binary_search(next).is_ok() && !came_from.contains_key(next) {
                came_from.insert(*next, node);
                queue.push_back(*next);
            }
        }
    }
    vec![start]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn findings(edges: &[(u64, &[u64])]) -> Findings {
        let ids = |numbers: &[u64]| {
            numbers
                .iter()
                .map(|number| StoryId::from_number(*number))
                .collect::<Vec<_>>()
        };
        let stories: Vec<_> = edges
            .iter()
            .map(|(from, to)| (StoryId::from_number(*from), ids(to)))
            .collect();
        check(
            stories
                .iter()
                .map(|(id, dependencies)| (id, dependencies.as_slice())),
        )
    }

    #[test]
    fn every_group_is_reported_once_with_a_way_around() {
        let found = findings(&[
            (1, &[2, 9]),
            (2, &[3]),
            (3, &[2, 4]),
            (4, &[4]),
            (5, &[1]),
            (6, &[7]),
            (7, &[8]),
            (8, &[6, 7]),
        ]);
        let cycles: Vec<_> = found.cycles.iter().map(ToString::to_string).collect();
        assert_eq!(
            cycles,
            [
                "S-0002 -> S-0003 -> S-0002",
                "S-0004 -> S-0004",
                "S-0006 -> S-0007 -> S-0008 -> S-0006"
            ]
        );
        let unknown = UnknownDependency {
            story: StoryId::from_number(1),
            dependency: StoryId::from_number(9),
        };
        assert_eq!(found.unknown, [unknown]);
    }

    #[test]
    fn ids_are_matched_without_regard_to_case() {
        let (upper, lower): (StoryId, StoryId) = ("S-1".parse().unwrap(), "s-1".parse().unwrap());
        assert_eq!(check([(&upper, [lower].as_slice())]).cycles.len(), 1);
    }

    #[test]
    fn long_chains_and_rings_need_no_stack() {
        for closing in [0, 100_000] {
            let ids: Vec<_> = (0..=100_000).map(StoryId::from_number).collect();
            let mut stories: Vec<_> = ids.windows(2).map(|pair| (&pair[0], &pair[1..])).collect();
            stories.push((&ids[100_000], &ids[0..usize::from(closing > 0)]));
            let found = check(stories);
            assert_eq!(
                found
                    .cycles
                    .iter()
                    .map(|cycle| cycle.path.len())
                    .sum::<usize>(),
                closing + usize::from(closing > 0)
            );
            assert_eq!(found.unknown, []);
        }
    }

    proptest! {
        #[test]
        fn findings_agree_with_reachability(edges in prop::collection::vec(prop::collection::vec(0..12_usize, 0..4), 0..10)) {
            let stories: Vec<_> = edges.iter().enumerate().map(|(from, to)| {
                let id = |index: usize| StoryId::from_number(index as u64);
                (id(from), to.iter().map(|to| id(*to)).collect::<Vec<_>>())
            }).collect();
            let found = check(stories.iter().map(|(id, dependencies)| (id, dependencies.as_slice())));
            // The oracle: reach[a][b] when b can be reached from a by at least one edge.
            let count = edges.len();
            let mut reach = vec![vec![false; count]; count];
            for (from, to) in edges.iter().enumerate() {
                for to in to.iter().filter(|to| **to < count) {
                    reach[from][*to] = true;
                }
            }
            for middle in 0..count {
                for from in 0..count {
                    for to in 0..count {
                        reach[from][to] |= reach[from][middle] && reach[middle][to];
                    }
                }
            }
            let number = |id: &StoryId| usize::try_from(id.number().unwrap()).unwrap();
            let mut members: Vec<usize> = found.cycles.iter().flat_map(|cycle| &cycle.members).map(number).collect();
            members.sort_unstable();
            prop_assert_eq!(members, (0..count).filter(|node| reach[*node][*node]).collect::<Vec<_>>());
            for cycle in &found.cycles {
                let first = number(&cycle.members[0]);
                prop_assert!(cycle.members.iter().all(|member| reach[first][number(member)] && reach[number(member)][first]));
                let around: Vec<_> = cycle.path.iter().chain(cycle.path.first()).map(number).collect();
                prop_assert!(around.len() > 1 && around.windows(2).all(|pair| edges[pair[0]].contains(&pair[1])));
            }
            prop_assert_eq!(found.unknown.len(), edges.iter().flatten().filter(|to| **to >= count).count());
        }
    }
}
