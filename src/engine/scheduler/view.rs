//! What can be seen of a run: a copy of its state in the words of people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::{BoardEntry, Engine, Gate, Key, OnBoard, Stage, Stop, Unit, Verdict};
use crate::engine::day::{CalendarDay, DayUsage};
use crate::engine::event::Provider;
use crate::engine::id::Phase;
use crate::engine::lifecycle::State;
use crate::engine::limits::{Limits, Usage};
use crate::engine::outcome::{Outcome, OutcomeKind};
use crate::engine::recovery::Stood;
use crate::engine::retry::Delay;
use crate::engine::time::Moment;
use crate::story::StoryId;

/// A run as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    /// Its stories, in the order in which they joined.
    pub stories: Vec<StoryView>,
    /// Until when nothing is started since too many attempts ended abnormally.
    pub paused_until: Option<Moment>,
    /// Pairs of stories that succeeded and whose branches cannot be merged.
    pub conflicts: Vec<Conflict>,
    /// What all attempts have used together.
    pub usage: Usage,
    /// What they have used on the last day on which the run worked.
    #[serde(default)]
    pub day: Option<DayUsage>,
    /// How it went; none while it goes on.
    pub verdict: Option<Verdict>,
}

/// A story as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryView {
    /// Its id.
    pub id: StoryId,
    /// Where it is.
    pub standing: Standing,
    /// Attempts that were begun in this run and count.
    pub attempts: u32,
    /// What its attempts have used together.
    pub usage: Usage,
}

/// Where a story is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Waits for stories that it depends on.
    WaitsForDependencies(Vec<StoryId>),
    /// Waits since its files overlap with those of running stories.
    WaitsForConflict(Vec<StoryId>),
    /// Waits until its provider serves again.
    WaitsForProvider(Moment),
    /// Waits between two attempts.
    WaitsUntil(Moment, Delay),
    /// Could start.
    Ready,
    /// Its worktree is being made.
    Preparing,
    /// Its executor is being started.
    Starting,
    /// It is being worked on.
    Running(Option<Phase>),
    /// Its attempt is being stopped, or is just ending.
    Ending,
    /// The end of its attempt is being taken care of.
    Settling,
    /// It is through.
    Ended(Outcome),
}

/// Two stories that succeeded, and whose branches cannot be merged with each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The one that finished first.
    pub one: StoryId,
    /// The other.
    pub other: StoryId,
    /// The files in which they conflict.
    pub files: Vec<String>,
}

impl Conflict {
    /// The other one of the pair, if the story is one of it.
    pub fn other_than(&self, story: &StoryId) -> Option<&StoryId> {
        if self.one == *story {
            Some(&self.other)
        } else {
            (self.other == *story).then_some(&self.one)
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[StoryId]| {
            let ids: Vec<&str> = ids.iter().map(StoryId::as_str).collect();
            ids.join(", ")
        };
        match self {
            Self::WaitsForDependencies(ids) => write!(formatter, "waits for {}", list(ids)),
            Self::WaitsForConflict(ids) if ids.is_empty() => formatter.write_str("ready"),
            Self::WaitsForConflict(ids) => {
                write!(
                    formatter,
                    "put off while {} changes the same files",
                    list(ids)
                )
            }
            Self::WaitsForProvider(_) => formatter.write_str("waits for its provider"),
            Self::WaitsUntil(_, Delay::BackOff) => formatter.write_str("waits to be tried again"),
            Self::WaitsUntil(_, Delay::Quota) => formatter.write_str("waits for a quota"),
            Self::Ready => formatter.write_str("ready"),
            Self::Preparing => formatter.write_str("preparing"),
            Self::Starting => formatter.write_str("starting"),
            Self::Running(Some(phase)) => write!(formatter, "running ({phase})"),
            Self::Running(None) => formatter.write_str("running"),
            Self::Ending => formatter.write_str("ending"),
            Self::Settling => formatter.write_str("settling"),
            Self::Ended(outcome) => match outcome.reason() {
                Some(reason) => write!(formatter, "{}: {reason}", outcome.name()),
                None => formatter.write_str(outcome.name()),
            },
        }
    }
}

impl Engine {
    /// The run as it stands. Takes time in proportion to its stories.
    pub fn view(&self) -> RunView {
        let stories = (0_u32..).map(Key).zip(&self.stories);
        RunView {
            stories: stories
                .map(|(key, tracked)| StoryView {
                    id: tracked.id.clone(),
                    standing: self.standing(key),
                    attempts: tracked.tries.attempts,
                    usage: match &tracked.stage {
                        Stage::Attempting(attempt) => tracked.used_before + attempt.trial.usage,
                        _ => tracked.used_before,
                    },
                })
                .collect(),
            paused_until: self.paused_until,
            conflicts: self.conflicts.clone(),
            usage: self.usage,
            day: self.today.own_usage(self.usage),
            verdict: self.is_finished().then(|| self.verdict()),
        }
    }

    /// How many stories have ended how, so far.
    pub fn counts(&self) -> BTreeMap<OutcomeKind, usize> {
        let mut counts = BTreeMap::new();
        for tracked in &self.stories {
            if let Stage::Done(outcome) = &tracked.stage {
                *counts.entry(outcome.kind()).or_default() += 1;
            }
        }
        counts
    }

    /// The stories of the run that are not through.
    pub fn under_way(&self) -> BTreeSet<StoryId> {
        let open = |tracked: &&super::Tracked| !matches!(tracked.stage, Stage::Done(_));
        let open = self.stories.iter().filter(open);
        open.map(|tracked| tracked.id.clone()).collect()
    }

    /// The stories that the run has begun and that are not through: the board says so of them.
    pub fn in_hand(&self) -> BTreeSet<StoryId> {
        let begun = |tracked: &&super::Tracked| {
            tracked.board == OnBoard::Started && !matches!(tracked.stage, Stage::Done(_))
        };
        let begun = self.stories.iter().filter(begun);
        begun.map(|tracked| tracked.id.clone()).collect()
    }

    /// The attempts that are under way.
    pub fn attempts(&self) -> Vec<Unit> {
        let attempt = |tracked: &super::Tracked| match &tracked.stage {
            Stage::Attempting(attempt) => Some(Unit {
                story: tracked.id.clone(),
                attempt: attempt.trial.number,
            }),
            _ => None,
        };
        self.stories.iter().filter_map(attempt).collect()
    }

    /// The attempts whose end is being taken care of, and how they ended.
    pub fn settling(&self) -> Vec<(Unit, Outcome)> {
        let settling = |tracked: &super::Tracked| match &tracked.stage {
            Stage::Attempting(attempt) => match &attempt.state {
                State::Settling { outcome, .. } => Some((
                    Unit {
                        story: tracked.id.clone(),
                        attempt: attempt.trial.number,
                    },
                    outcome.clone(),
                )),
                _ => None,
            },
            _ => None,
        };
        self.stories.iter().filter_map(settling).collect()
    }

    /// How far a story is, for who goes on after a restart; none for a story of another run.
    pub fn stood(&self, story: &StoryId) -> Option<Stood> {
        let tracked = self.story(self.key(story)?);
        Some(match &tracked.stage {
            Stage::Done(_) => Stood::Through,
            Stage::Waiting if tracked.last_end.is_none() => Stood::NotBegun,
            Stage::Waiting | Stage::Delayed { .. } => Stood::Between,
            Stage::Attempting(attempt) => match &attempt.state {
                State::Preparing { .. } | State::Abandoning { .. } => Stood::Preparing,
                State::Settling { .. } => Stood::Settling,
                State::Starting { .. }
                | State::Running { .. }
                | State::Leaving { .. }
                | State::Stopping { .. } => Stood::Working,
            },
        })
    }

    /// Who serves the agent of a story; none for a story of another run.
    pub fn provider_of(&self, story: &StoryId) -> Option<&Provider> {
        let provider = self.story(self.key(story)?).provider;
        self.queue.lines[provider.0].provider.as_ref()
    }

    /// The board entries that were asked for and are not written yet, in their order.
    pub fn owed_entries(&self) -> Vec<(StoryId, BoardEntry)> {
        let owed = self.unwritten.iter();
        owed.map(|(key, entry)| (self.story(*key).id.clone(), entry.clone()))
            .collect()
    }

    /// Which day it is, as the run was last told.
    pub fn day(&self) -> Option<CalendarDay> {
        self.today.day()
    }

    /// Whether the run was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop != Stop::No
    }

    /// How many attempts may hold a slot at once, as it was last said.
    pub fn slots(&self) -> NonZeroUsize {
        self.settings.slots
    }

    /// What the run may use, as it was last said.
    pub fn run_limits(&self) -> Limits {
        self.settings.run_limits
    }

    /// Whether a person is being asked whether to go on.
    pub fn is_asking(&self) -> bool {
        matches!(self.gate, Gate::Asking { .. })
    }

    fn standing(&self, key: Key) -> Standing {
        let tracked = self.story(key);
        let ids = |keys: &mut dyn Iterator<Item = Key>| -> Vec<StoryId> {
            keys.map(|key| self.story(key).id.clone()).collect()
        };
        match &tracked.stage {
            Stage::Done(outcome) => Standing::Ended(outcome.clone()),
            Stage::Delayed { until, reason, .. } => Standing::WaitsUntil(*until, *reason),
            Stage::Attempting(attempt) => match &attempt.state {
                State::Preparing { .. } => Standing::Preparing,
                State::Starting { .. } => Standing::Starting,
                State::Running { phase, .. } => Standing::Running(*phase),
                State::Leaving { .. } | State::Stopping { .. } | State::Abandoning { .. } => {
                    Standing::Ending
                }
                State::Settling { .. } => Standing::Settling,
            },
            Stage::Waiting if !tracked.missing.is_empty() => {
                Standing::WaitsForDependencies(ids(&mut tracked.missing.iter().copied()))
            }
            Stage::Waiting => {
                if let Some(until) = self.queue.paused_until(tracked.provider) {
                    Standing::WaitsForProvider(until)
                } else if self
                    .queue
                    .is_put_off(tracked.provider, (tracked.place, key))
                {
                    Standing::WaitsForConflict(ids(&mut self.in_the_way_of(key).into_iter()))
                } else {
                    Standing::Ready
                }
            }
        }
    }
}
