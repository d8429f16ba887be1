//! Which stories a run works on, and what is left out and why. The order is that of the board. Pure.

mod epic;
mod left_out;
mod waves;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::event::Provider;
use crate::engine::files::FilePattern;
use crate::engine::id::AttemptNumber;
use crate::engine::resources::Resources;
use crate::engine::settings::{Order, WhenIdle};
use crate::story::{Status, StoryId, graph};

pub use epic::EpicName;
pub use left_out::{Completeness, LeftOut, Obstacle, Remark};
pub use waves::{PredictedConflict, PredictedConflicts};

/// What the plan needs to know of a story on the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: StoryId,
    /// What it says it depends on, spelled as on the board.
    pub dependencies: Vec<StoryId>,
    /// Its place on the board.
    pub status: Status,
    /// The epic that it names.
    pub epic: Option<String>,
    /// Its labels.
    pub labels: Vec<String>,
    /// Who serves its agent, where a quota may be exhausted.
    pub provider: Option<Provider>,
    /// The files that it says it will change.
    pub files: Vec<FilePattern>,
    /// The number of its next attempt.
    pub next_attempt: AttemptNumber,
    /// What its file says.
    pub fingerprint: Fingerprint,
    /// What its agent wants of the machine.
    pub resources: Resources,
    /// Whether it can be worked on, as far as its file and its agent are concerned.
    pub usable: Result<(), String>,
}

/// Everything that a plan is made of.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// The stories of the board that can be read, in the order in which they should start.
    pub stories: Vec<Candidate>,
    /// Stories that are on the board and cannot be read.
    pub unreadable: BTreeSet<StoryId>,
    /// Stories that a run which goes on is working on: others may wait for them.
    pub under_way: BTreeSet<StoryId>,
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
    /// These, in this order and one after the other, whatever their status, unless they are done.
    Batch(Vec<StoryId>),
    /// Every story of this epic, unless it is done or waits for a person.
    Epic(EpicName),
    /// Every story that is ready, and those that become ready while the run lasts.
    Watch,
    /// Those of these that are ready, or in progress since a run was killed.
    Unfinished(BTreeSet<StoryId>),
}

impl Selection {
    /// Which story of it is next.
    pub fn order(&self) -> Order {
        match self {
            Self::Batch(_) => Order::AsGiven,
            _ => Order::AnyReady,
        }
    }

    /// What a run does when no story of it is left.
    pub fn when_idle(&self) -> WhenIdle {
        match self {
            Self::Watch => WhenIdle::WaitForStories,
            _ => WhenIdle::Finish,
        }
    }

    /// Those of the candidates that it means, in the order in which they should start, and what it names in vain.
    fn choose<'a>(
        &self,
        candidates: &'a [Candidate],
        by_id: &BTreeMap<&StoryId, &'a Candidate>,
    ) -> (Vec<&'a Candidate>, Vec<LeftOut>) {
        let named: &[StoryId] = match self {
            Self::AllReady | Self::Next | Self::Watch => {
                let ready = candidates
                    .iter()
                    .filter(|story| story.status == Status::Ready);
                return (ready.collect(), Vec::new());
            }
            Self::Epic(epic) => {
                let members = candidates
                    .iter()
                    .filter(|story| epic.has(story.epic.as_deref(), &story.labels))
                    .filter(|story| story.status != Status::Done);
                return (members.collect(), Vec::new());
            }
            Self::Unfinished(ids) => {
                let open = |status| matches!(status, Status::Ready | Status::InProgress);
                let unfinished = candidates
                    .iter()
                    .filter(|story| ids.contains(&story.id) && open(story.status));
                return (unfinished.collect(), Vec::new());
            }
            Self::One(id) => std::slice::from_ref(id),
            Self::Batch(ids) => ids,
        };
        let mut wanted = Vec::new();
        let mut in_vain = Vec::new();
        let mut leave_out = |id: &StoryId, reason| {
            in_vain.push(LeftOut {
                id: id.clone(),
                reason,
            });
        };
        for id in named {
            match by_id.get(id) {
                None => leave_out(id, Obstacle::UnknownStory),
                Some(story) if story.status == Status::Done => {
                    leave_out(id, Obstacle::AlreadyDone);
                }
                Some(story) => wanted.push(*story),
            }
        }
        (wanted, in_vain)
    }
}

/// What the file of a story says apart from what runs write into it, as a number: another number is another text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fingerprint(u64);

impl From<u64> for Fingerprint {
    fn from(hash: u64) -> Self {
        // Below 2^53, so that every reader of a journal reads it exactly.
        Self(hash >> 11)
    }
}

/// A story that the run will work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStory {
    /// Its id.
    pub id: StoryId,
    /// Those of its dependencies that the same run works on.
    pub dependencies: Vec<StoryId>,
    /// The number of its first attempt in this run.
    pub next_attempt: AttemptNumber,
    /// Who serves its agent, where a quota may be exhausted.
    pub provider: Option<Provider>,
    /// The files that it says it will change.
    pub files: Vec<FilePattern>,
    /// What its file says.
    #[serde(default)]
    pub fingerprint: Fingerprint,
    /// What its agent wants of the machine.
    #[serde(default)]
    pub resources: Resources,
}

/// What a run will do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The stories in the order in which they are to start.
    pub stories: Vec<PlannedStory>,
    /// Stories that belong to the selection and cannot be worked on.
    pub left_out: Vec<LeftOut>,
}

/// Plans a run.
pub fn plan(candidates: &Candidates, selection: &Selection) -> Plan {
    let by_id: BTreeMap<&StoryId, &Candidate> = candidates
        .stories
        .iter()
        .map(|story| (&story.id, story))
        .collect();
    let (wanted, left_out) = selection.choose(&candidates.stories, &by_id);
    let obstacles = obstacles(&wanted, &by_id, candidates, selection);
    let mut plan = Plan {
        stories: Vec::new(),
        left_out,
    };
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
                provider: story.provider.clone(),
                files: story.files.clone(),
                fingerprint: story.fingerprint,
                resources: story.resources,
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
    candidates: &Candidates,
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
        let obstacle = if candidates.unreadable.contains(&unknown.dependency) {
            Obstacle::UnreadableDependency(unknown.dependency)
        } else {
            Obstacle::UnknownDependency(unknown.dependency)
        };
        found.entry(unknown.story).or_insert(obstacle);
    }
    let mut included: BTreeSet<&StoryId> = match selection {
        Selection::AllReady
        | Selection::Batch(_)
        | Selection::Epic(_)
        | Selection::Watch
        | Selection::Unfinished(_) => wanted.iter().map(|story| &story.id).collect(),
        // One story alone: nothing else that it needs will be worked on.
        Selection::Next | Selection::One(_) => BTreeSet::new(),
    };
    included.extend(&candidates.under_way);
    let place: BTreeMap<&StoryId, usize> = wanted
        .iter()
        .enumerate()
        .map(|(place, story)| (&story.id, place))
        .collect();
    let as_given = selection.order() == Order::AsGiven;
    // Obstacles travel from a dependency to its dependents; each round reaches one step further, and each story is
    // marked once, so there are at most as many rounds as stories.
    let mut dependents: BTreeMap<&StoryId, Vec<&Candidate>> = BTreeMap::new();
    let mut open: Vec<&StoryId> = Vec::new();
    for story in wanted {
        if let Err(reason) = &story.usable {
            found
                .entry(story.id.clone())
                .or_insert_with(|| Obstacle::NotUsable(reason.clone()));
        }
        // Who names a blocked story means it; who names its epic does not.
        if matches!(selection, Selection::Epic(_)) && story.status == Status::Blocked {
            found
                .entry(story.id.clone())
                .or_insert(Obstacle::WaitsForPerson);
        }
        for (id, status) in unmet(story, by_id) {
            dependents.entry(id).or_default().push(story);
            if as_given && place.get(id) > place.get(&story.id) {
                found
                    .entry(story.id.clone())
                    .or_insert_with(|| Obstacle::LaterInBatch(id.clone()));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, status: Status, dependencies: &[&str]) -> Candidate {
        Candidate {
            id: id.parse().unwrap(),
            dependencies: dependencies.iter().map(|id| id.parse().unwrap()).collect(),
            status,
            epic: None,
            labels: Vec::new(),
            provider: None,
            files: Vec::new(),
            next_attempt: AttemptNumber::FIRST,
            fingerprint: Fingerprint::default(),
            resources: Resources::default(),
            usable: Ok(()),
        }
    }

    fn ready(id: &str, dependencies: &[&str]) -> Candidate {
        candidate(id, Status::Ready, dependencies)
    }

    /// The plan as text: what is worked on, with dependencies, and what is left out.
    fn planned(candidates: &[Candidate], selection: &Selection) -> (Vec<String>, Vec<String>) {
        let candidates = Candidates {
            stories: candidates.to_vec(),
            unreadable: BTreeSet::from(["broken".parse().unwrap()]),
            under_way: BTreeSet::from(["going".parse().unwrap()]),
        };
        let plan = plan(&candidates, selection);
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
                usable: Err("its file cannot be edited: a flow map".to_owned()),
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

    #[test]
    fn a_batch_is_worked_on_as_given() {
        let board = [
            ready("A", &[]),
            candidate("B", Status::Backlog, &["A"]),
            candidate("C", Status::Done, &[]),
            ready("D", &["E"]),
            ready("E", &[]),
            ready("F", &["A"]),
        ];
        let batch = |ids: &[&str]| {
            let ids = ids.iter().map(|id| id.parse().unwrap()).collect();
            planned(&board, &Selection::Batch(ids))
        };
        let (stories, left_out) = batch(&["E", "A", "B", "C", "Z"]);
        assert_eq!(stories, ["E()", "A()", "B(A)"]);
        assert_eq!(left_out, ["C: it is done", "Z: it is not on the board"]);
        let (stories, left_out) = batch(&["D", "E", "F"]);
        assert_eq!(stories, ["E()"]);
        assert_eq!(
            left_out,
            [
                "D: it depends on E, which comes after it",
                "F: it depends on A, which is ready",
            ]
        );
    }

    #[test]
    fn an_epic_is_all_that_belongs_to_it_and_is_not_done_or_blocked() {
        let epic = |id: &str, status, dependencies: &[&str], epic: &str| Candidate {
            epic: Some(epic.to_owned()),
            ..candidate(id, status, dependencies)
        };
        let board = [
            epic("A", Status::Done, &[], "auth"),
            epic("B", Status::Ready, &["A"], "epic-auth"),
            Candidate {
                labels: vec!["epic-auth".to_owned()],
                ..candidate("C", Status::Backlog, &["B"])
            },
            epic("D", Status::Blocked, &[], "auth"),
            epic("E", Status::Ready, &["D"], "auth"),
            epic("F", Status::Ready, &["X"], "auth"),
            Candidate {
                labels: vec!["auth".to_owned()],
                ..ready("G", &[])
            },
            epic("H", Status::Ready, &[], "authors"),
            ready("X", &[]),
        ];
        for name in ["auth", "epic-auth"] {
            let (stories, left_out) = planned(&board, &Selection::Epic(name.parse().unwrap()));
            assert_eq!(stories, ["B()", "C(B)"]);
            assert_eq!(
                left_out,
                [
                    "D: it is blocked",
                    "E: it depends on D, which is left out",
                    "F: it depends on X, which is ready",
                ]
            );
        }
    }

    #[test]
    fn who_joins_later_may_wait_for_what_is_under_way() {
        let board = [
            candidate("going", Status::InProgress, &[]),
            ready("B", &["going"]),
        ];
        assert_eq!(planned(&board, &Selection::Watch).0, ["B(going)"]);
    }
}
