//! Which stories a run works on, and what is left out and why. The order is that of the board. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::engine::id::AttemptNumber;
use crate::story::{Cycle, Status, StoryId, graph};

/// What the plan needs to know of a story on the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: StoryId,
    /// What it says it depends on, spelled as on the board.
    pub dependencies: Vec<StoryId>,
    /// Its place on the board.
    pub status: Status,
    /// The number of its next attempt.
    pub next_attempt: AttemptNumber,
    /// Whether what becomes of it can be written into its file.
    pub writable: Result<(), String>,
}

/// Which stories a run is asked to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every story that is ready.
    AllReady,
    /// The first story, in order, that is ready and whose dependencies are done.
    Next,
    /// This one, whatever its status, unless it is done.
    One(StoryId),
}

/// A story that the run will work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStory {
    /// Its id.
    pub id: StoryId,
    /// Those of its dependencies that the same run works on.
    pub dependencies: Vec<StoryId>,
    /// The number of its first attempt in this run.
    pub next_attempt: AttemptNumber,
}

/// What a run will do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The stories in the order in which they are to start.
    pub stories: Vec<PlannedStory>,
    /// Stories that belong to the selection and cannot be worked on.
    pub left_out: Vec<LeftOut>,
}

/// A story that cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its id.
    pub id: StoryId,
    /// Why.
    pub reason: Obstacle,
}

/// Why a story cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It needs itself, by this path.
    Cycle(Cycle),
    /// It needs a story that is not on the board.
    UnknownDependency(StoryId),
    /// It needs a story whose file cannot be read.
    UnreadableDependency(StoryId),
    /// It needs a story that is left out itself.
    LeftOutDependency(StoryId),
    /// Its file cannot be kept up to date.
    NotWritable(String),
    /// It needs a story that is not done, and that this run does not work on.
    UnmetDependency(StoryId, Status),
    /// It is done already.
    AlreadyDone,
    /// It is not on the board.
    UnknownStory,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle(cycle) => write!(formatter, "its dependencies form a cycle: {cycle}"),
            Self::UnknownDependency(id) => {
                write!(formatter, "it depends on {id}, which is not on the board")
            }
            Self::UnreadableDependency(id) => {
                write!(formatter, "it depends on {id}, which cannot be read")
            }
            Self::LeftOutDependency(id) => {
                write!(formatter, "it depends on {id}, which is left out")
            }
            Self::NotWritable(reason) => write!(formatter, "its file cannot be edited: {reason}"),
            Self::UnmetDependency(id, status) => {
                write!(formatter, "it depends on {id}, which is {status}")
            }
            Self::AlreadyDone => formatter.write_str("it is done"),
            Self::UnknownStory => formatter.write_str("it is not on the board"),
        }
    }
}

/// Plans a run over candidates that stand in the order in which they should start.
///
/// `unreadable` are stories that are on the board and cannot be read.
pub fn plan(
    candidates: &[Candidate],
    unreadable: &BTreeSet<StoryId>,
    selection: &Selection,
) -> Plan {
    let by_id: BTreeMap<&StoryId, &Candidate> =
        candidates.iter().map(|story| (&story.id, story)).collect();
    let wanted: Vec<&Candidate> = match selection {
        Selection::AllReady | Selection::Next => candidates
            .iter()
            .filter(|story| story.status == Status::Ready)
            .collect(),
        Selection::One(id) => match by_id.get(id) {
            None => return left_out_alone(id, Obstacle::UnknownStory),
            Some(story) if story.status == Status::Done => {
                return left_out_alone(id, Obstacle::AlreadyDone);
            }
            Some(story) => vec![story],
        },
    };
    let obstacles = obstacles(&wanted, &by_id, unreadable, selection);
    let mut plan = Plan::default();
    for story in wanted {
        match obstacles.get(&story.id) {
            Some(reason) => plan.left_out.push(LeftOut {
                id: story.id.clone(),
                reason: reason.clone(),
            }),
            None => plan.stories.push(PlannedStory {
                id: story.id.clone(),
                dependencies: unmet(story, &by_id).map(|(id, _)| id.clone()).collect(),
                next_attempt: story.next_attempt,
            }),
        }
    }
    if *selection == Selection::Next {
        // What comes after the next story is not left out, it is just not its turn.
        plan.stories.truncate(1);
        if !plan.stories.is_empty() {
            plan.left_out.clear();
        }
    }
    plan
}

/// The dependencies of a story that are not done, with the status of those that are on the board.
fn unmet<'a>(
    story: &'a Candidate,
    by_id: &'a BTreeMap<&StoryId, &Candidate>,
) -> impl Iterator<Item = (&'a StoryId, Option<Status>)> {
    story
        .dependencies
        .iter()
        .map(|id| (id, by_id.get(id).map(|dependency| dependency.status)))
        .filter(|(_, status)| *status != Some(Status::Done))
}

/// Why which of the wanted stories cannot be worked on. What needs such a story cannot be worked on either.
fn obstacles(
    wanted: &[&Candidate],
    by_id: &BTreeMap<&StoryId, &Candidate>,
    unreadable: &BTreeSet<StoryId>,
    selection: &Selection,
) -> BTreeMap<StoryId, Obstacle> {
    let mut found: BTreeMap<StoryId, Obstacle> = BTreeMap::new();
    let findings = graph::check(
        by_id
            .values()
            .map(|story| (&story.id, story.dependencies.as_slice())),
    );
    for cycle in &findings.cycles {
        for id in &cycle.members {
            found.insert(id.clone(), Obstacle::Cycle(cycle.clone()));
        }
    }
    for unknown in findings.unknown {
        let obstacle = if unreadable.contains(&unknown.dependency) {
            Obstacle::UnreadableDependency(unknown.dependency)
        } else {
            Obstacle::UnknownDependency(unknown.dependency)
        };
        found.entry(unknown.story).or_insert(obstacle);
    }
    let included: BTreeSet<&StoryId> = match selection {
        Selection::AllReady => wanted.iter().map(|story| &story.id).collect(),
        // One story alone: nothing else that it needs will be worked on.
        Selection::Next | Selection::One(_) => BTreeSet::new(),
    };
    // Obstacles travel from a dependency to its dependents; each round reaches one step further, and each story is
    // marked once, so there are at most as many rounds as stories.
    let mut dependents: BTreeMap<&StoryId, Vec<&Candidate>> = BTreeMap::new();
    let mut open: Vec<&StoryId> = Vec::new();
    for story in wanted {
        if let Err(reason) = &story.writable {
            found
                .entry(story.id.clone())
                .or_insert_with(|| Obstacle::NotWritable(reason.clone()));
        }
        for (id, status) in unmet(story, by_id) {
            dependents.entry(id).or_default().push(story);
            if let Some(status) = status
                && !included.contains(id)
            {
                found
                    .entry(story.id.clone())
                    .or_insert_with(|| Obstacle::UnmetDependency(id.clone(), status));
            }
        }
    }
    open.extend(
        wanted
            .iter()
            .map(|story| &story.id)
            .filter(|id| found.contains_key(*id)),
    );
    while let Some(id) = open.pop() {
        for dependent in dependents.get(id).into_iter().flatten() {
            if !found.contains_key(&dependent.id) {
                let obstacle = Obstacle::LeftOutDependency(id.clone());
                found.insert(dependent.id.clone(), obstacle);
                open.push(&dependent.id);
            }
        }
    }
    found
}

fn left_out_alone(id: &StoryId, reason: Obstacle) -> Plan {
    Plan {
        stories: Vec::new(),
        left_out: vec![LeftOut {
            id: id.clone(),
            reason,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, status: Status, dependencies: &[&str]) -> Candidate {
        Candidate {
            id: id.parse().unwrap(),
            dependencies: dependencies.iter().map(|id| id.parse().unwrap()).collect(),
            status,
            next_attempt: AttemptNumber::FIRST,
            writable: Ok(()),
        }
    }

    fn ready(id: &str, dependencies: &[&str]) -> Candidate {
        candidate(id, Status::Ready, dependencies)
    }

    /// The plan as text: what is worked on, with dependencies, and what is left out.
    fn planned(candidates: &[Candidate], selection: &Selection) -> (Vec<String>, Vec<String>) {
        let unreadable = BTreeSet::from(["broken".parse().unwrap()]);
        let plan = plan(candidates, &unreadable, selection);
        let story = |story: &PlannedStory| {
            let needs: Vec<String> = story.dependencies.iter().map(ToString::to_string).collect();
            format!("{}({})", story.id, needs.join(" "))
        };
        let left_out = |left: &LeftOut| format!("{}: {}", left.id, left.reason);
        (
            plan.stories.iter().map(story).collect(),
            plan.left_out.iter().map(left_out).collect(),
        )
    }

    #[test]
    fn ready_stories_are_taken_and_done_dependencies_are_met() {
        let board = [
            candidate("A", Status::Done, &[]),
            ready("B", &["A"]),
            ready("C", &["B", "A"]),
            candidate("D", Status::Backlog, &[]),
        ];
        let (stories, left_out) = planned(&board, &Selection::AllReady);
        assert_eq!(stories, ["B()", "C(B)"]);
        assert!(left_out.is_empty());
    }

    #[test]
    fn what_cannot_start_is_left_out_with_all_that_needs_it() {
        let board = [
            candidate("A", Status::Blocked, &[]),
            ready("B", &["A"]),
            ready("C", &["B"]),
            ready("D", &["nowhere"]),
            ready("E", &["F"]),
            ready("F", &["E"]),
            ready("G", &["E"]),
            ready("H", &[]),
            ready("I", &["broken"]),
            Candidate {
                writable: Err("a flow map".to_owned()),
                ..ready("J", &[])
            },
        ];
        let (stories, left_out) = planned(&board, &Selection::AllReady);
        assert_eq!(stories, ["H()"]);
        assert_eq!(
            left_out,
            [
                "B: it depends on A, which is blocked",
                "C: it depends on B, which is left out",
                "D: it depends on nowhere, which is not on the board",
                "E: its dependencies form a cycle: E -> F -> E",
                "F: its dependencies form a cycle: E -> F -> E",
                "G: it depends on E, which is left out",
                "I: it depends on broken, which cannot be read",
                "J: its file cannot be edited: a flow map",
            ]
        );
    }

    #[test]
    fn the_next_story_is_the_first_that_can_start_alone() {
        let board = [ready("A", &["B"]), ready("B", &[]), ready("C", &[])];
        let (stories, left_out) = planned(&board, &Selection::Next);
        assert_eq!((stories, left_out.len()), (vec!["B()".to_owned()], 0));
        let stuck = [ready("A", &["A"])];
        let (stories, left_out) = planned(&stuck, &Selection::Next);
        assert_eq!((stories.len(), left_out.len()), (0, 1));
    }

    #[test]
    fn one_story_is_taken_whatever_its_status_unless_it_is_done() {
        let board = [
            candidate("A", Status::Blocked, &[]),
            candidate("B", Status::Done, &[]),
            ready("C", &["A"]),
        ];
        let one = |id: &str| planned(&board, &Selection::One(id.parse().unwrap()));
        assert_eq!(one("A").0, ["A()"]);
        assert_eq!(one("B").1, ["B: it is done"]);
        assert_eq!(one("C").1, ["C: it depends on A, which is blocked"]);
        assert_eq!(one("Z").1, ["Z: it is not on the board"]);
    }
}
