//! What a run does not work on although it was asked for, why, and what that means for how the run went. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::{Plan, Selection};
use crate::engine::scheduler::Verdict;
use crate::story::{Cycle, Status, StoryId};

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
    /// Its file cannot be kept up to date, or its agent cannot be driven.
    NotUsable(String),
    /// It needs a story that is not done, and that this run does not work on.
    UnmetDependency(StoryId, Status),
    /// It needs a story that the same batch names behind it.
    LaterInBatch(StoryId),
    /// A person has to decide something first.
    WaitsForPerson,
    /// It is done already.
    AlreadyDone,
    /// It is not on the board.
    UnknownStory,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle(cycle) if is_alone(cycle) => formatter.write_str("it depends on itself"),
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
            Self::NotUsable(reason) => formatter.write_str(reason),
            Self::UnmetDependency(id, status) => {
                write!(formatter, "it depends on {id}, which is {status}")
            }
            Self::LaterInBatch(id) => {
                write!(formatter, "it depends on {id}, which comes after it")
            }
            Self::WaitsForPerson => formatter.write_str("it is blocked"),
            Self::AlreadyDone => formatter.write_str("it is done"),
            Self::UnknownStory => formatter.write_str("it is not on the board"),
        }
    }
}

/// Whether a story waits for itself directly.
fn is_alone(cycle: &Cycle) -> bool {
    cycle.members.len() == 1
}

impl Obstacle {
    /// Whether something is wrong with what the board says, and not only not yet the story's turn.
    fn is_fault(&self) -> bool {
        match self {
            Self::Cycle(_)
            | Self::UnknownDependency(_)
            | Self::UnreadableDependency(_)
            | Self::NotUsable(_)
            | Self::UnknownStory => true,
            Self::LeftOutDependency(_)
            | Self::UnmetDependency(..)
            | Self::LaterInBatch(_)
            | Self::WaitsForPerson
            | Self::AlreadyDone => false,
        }
    }
}

/// Why stories are left out, for people: of each story once, and of a cycle once for all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The story, or how many.
    pub who: String,
    /// Why.
    pub why: String,
    verb: &'static str,
}

impl Remark {
    /// What there is to say.
    pub fn on(left_out: &[LeftOut]) -> Vec<Self> {
        let mut cycles: Vec<&Cycle> = Vec::new();
        let mut remarks = Vec::new();
        for left in left_out {
            match &left.reason {
                Obstacle::Cycle(cycle) if !is_alone(cycle) => {
                    if !cycles.contains(&cycle) {
                        cycles.push(cycle);
                        remarks.push(Self {
                            who: format!("{} stories", cycle.members.len()),
                            why: format!("they wait for each other: {cycle}"),
                            verb: "are",
                        });
                    }
                }
                reason => remarks.push(Self {
                    who: left.id.to_string(),
                    why: reason.to_string(),
                    verb: "is",
                }),
            }
        }
        remarks
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} left out: {}",
            self.who, self.verb, self.why
        )
    }
}

/// Whether a plan holds all that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// It does.
    Complete,
    /// Some story will not be done, however the run goes.
    Incomplete,
}

impl Plan {
    /// Whether all that was asked for is in the plan, or done already. `unreadable` is the number of stories that cannot
    /// be read, so that nobody knows whether they are meant.
    ///
    /// Whoever names stories, or an epic, wants all of them done. Whoever asks for what is ready wants what can be done
    /// now: a story that waits for another one is not missed, one with a fault is. Whoever waits for further stories
    /// has the time to mend the faults.
    pub fn completeness(&self, selection: &Selection, unreadable: usize) -> Completeness {
        let reasons: BTreeMap<&StoryId, &Obstacle> = self
            .left_out
            .iter()
            .map(|left| (&left.id, &left.reason))
            .collect();
        let faulty = || {
            let is_fault = |left: &LeftOut| root(&left.reason, &reasons).is_fault();
            unreadable > 0 || self.left_out.iter().any(is_fault)
        };
        let missed = match selection {
            Selection::One(_) | Selection::Batch(_) | Selection::Epic(_) => {
                let is_missed = |left: &LeftOut| left.reason != Obstacle::AlreadyDone;
                self.left_out.iter().any(is_missed)
            }
            Selection::AllReady | Selection::Unfinished(_) => faulty(),
            Selection::Next => self.stories.is_empty() && faulty(),
            Selection::Watch => false,
        };
        if missed {
            Completeness::Incomplete
        } else {
            Completeness::Complete
        }
    }
}

/// Why a story is left out in the end: that of the story that it needs, when it is left out for that.
fn root<'a>(reason: &'a Obstacle, reasons: &BTreeMap<&StoryId, &'a Obstacle>) -> &'a Obstacle {
    let mut reason = reason;
    // Each step leads to another story; what waits for itself is a cycle and ends the way.
    for _ in 0..reasons.len() {
        match reason {
            Obstacle::LeftOutDependency(id) => match reasons.get(id) {
                Some(next) => reason = next,
                None => break,
            },
            _ => break,
        }
    }
    reason
}

impl Completeness {
    /// How a run over such a plan went, when what is in the plan went so.
    #[must_use]
    pub fn judge(self, verdict: Verdict) -> Verdict {
        match (self, verdict) {
            (Self::Incomplete, Verdict::AllSucceeded) => Verdict::SomeDidNot,
            (_, verdict) => verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::id::AttemptNumber;
    use crate::engine::plan::{Candidate, Candidates, Fingerprint, plan};
    use crate::engine::resources::Resources;

    fn board(rows: &[(&str, &str, &[&str])]) -> Candidates {
        let stories = rows.iter().map(|(id, status, dependencies)| Candidate {
            id: id.parse().unwrap(),
            dependencies: dependencies.iter().map(|id| id.parse().unwrap()).collect(),
            status: status.parse().unwrap(),
            epic: Some("all".to_owned()),
            labels: Vec::new(),
            provider: None,
            files: Vec::new(),
            next_attempt: AttemptNumber::FIRST,
            usable: Ok(()),
            fingerprint: Fingerprint::default(),
            resources: Resources::default(),
        });
        Candidates {
            stories: stories.collect(),
            ..Candidates::default()
        }
    }

    #[test]
    fn what_was_asked_for_and_is_left_out_is_no_success() {
        use Selection::{AllReady, Epic, Next, Watch};
        let epic = || Epic("all".parse().unwrap());
        let one = |id: &str| Selection::One(id.parse().unwrap());
        let batch =
            |ids: &[&str]| Selection::Batch(ids.iter().map(|id| id.parse().unwrap()).collect());
        let fine = board(&[("A", "ready", &[])]);
        let done = board(&[("A", "done", &[])]);
        let blocked = board(&[
            ("A", "ready", &[]),
            ("B", "blocked", &[]),
            ("C", "ready", &["B"]),
        ]);
        let left_over = board(&[
            ("A", "done", &[]),
            ("B", "blocked", &[]),
            ("C", "ready", &["B"]),
        ]);
        let unknown = board(&[
            ("A", "ready", &[]),
            ("B", "ready", &["X"]),
            ("C", "ready", &["B"]),
        ]);
        let cycle = board(&[("A", "ready", &["B"]), ("B", "ready", &["A"])]);
        let backlog = board(&[("A", "backlog", &[])]);
        let cases = [
            ("all ready, fine", &fine, AllReady, 0, true),
            ("all ready, nothing to do", &backlog, AllReady, 0, true),
            (
                "all ready, one waits for a blocked one",
                &blocked,
                AllReady,
                0,
                true,
            ),
            (
                "all ready, one needs what is not there",
                &unknown,
                AllReady,
                0,
                false,
            ),
            ("all ready, in a cycle", &cycle, AllReady, 0, false),
            ("all ready, one unreadable", &fine, AllReady, 1, false),
            ("next, fine", &fine, Next, 0, true),
            ("next, another has a fault", &unknown, Next, 1, true),
            ("next, all have a fault", &cycle, Next, 0, false),
            ("next, nothing to do", &backlog, Next, 0, true),
            ("watch", &cycle, Watch, 1, true),
            ("epic, fine", &fine, epic(), 1, true),
            ("epic, done", &done, epic(), 0, true),
            ("epic, blocked, at first", &blocked, epic(), 0, false),
            ("epic, blocked, later", &left_over, epic(), 0, false),
            ("story, done", &done, one("A"), 0, true),
            ("story, in a cycle", &cycle, one("A"), 0, false),
            ("story, waits", &blocked, one("C"), 0, false),
            ("story, blocked", &blocked, one("B"), 0, true),
            (
                "batch, one done",
                &left_over,
                batch(&["A", "B", "C"]),
                0,
                true,
            ),
            ("batch, one waits", &blocked, batch(&["A", "C"]), 0, false),
        ];
        for (name, candidates, selection, unreadable, complete) in cases {
            let planned = plan(candidates, &selection);
            let verdict = planned
                .completeness(&selection, unreadable)
                .judge(Verdict::AllSucceeded);
            assert_eq!(
                verdict == Verdict::AllSucceeded,
                complete,
                "{name}: {planned:?}"
            );
        }
        let exhausted = Completeness::Incomplete.judge(Verdict::Exhausted);
        assert_eq!(exhausted, Verdict::Exhausted);
    }

    #[test]
    fn a_cycle_is_told_once_and_a_story_alone_by_its_name() {
        let candidates = board(&[
            ("A", "ready", &["B"]),
            ("B", "ready", &["A"]),
            ("C", "ready", &["C"]),
        ]);
        let planned = plan(&candidates, &Selection::AllReady);
        let remarks: Vec<String> = Remark::on(&planned.left_out)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            remarks,
            [
                "2 stories are left out: they wait for each other: A -> B -> A",
                "C is left out: it depends on itself",
            ]
        );
    }
}
