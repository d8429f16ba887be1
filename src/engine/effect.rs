//! What the engine asks of the outside world. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::event::{Provider, Unit};
use crate::engine::files::FilePattern;
use crate::engine::health::Wait;
use crate::engine::limits::{Allowance, Overrun, Scope, Share};
use crate::engine::outcome::{Outcome, StopReason};
use crate::engine::resources::Lack;
use crate::engine::retry::Delay;
use crate::story::StoryId;

/// Something to do. The driver performs each at once and without waiting for the others; what comes of it returns as
/// an [`Event`](crate::engine::Event).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the attempt's worktree: answered by `Prepared`, `PrepareFailed` or `PrepareBlocked`.
    Prepare(Unit),
    /// Give up making it: answered by `PrepareFailed`, unless it was through already.
    AbandonPreparation(Unit),
    /// Start the executor: answered by `Connected`, `LaunchFailed` or `Exited`.
    Launch(Unit),
    /// Tell the executor that its agent may begin a turn, in which it may use so much.
    GrantTurn(Unit, Allowance),
    /// Send `shutdown` and SIGTERM. The executor has `grace` to end its agent.
    AskToStop {
        /// Whom.
        unit: Unit,
        /// Why.
        reason: StopReason,
        /// How long the agent may take to end by itself.
        grace: Duration,
    },
    /// SIGKILL.
    Kill(Unit),
    /// Take care of the end of an attempt: answered by `Settled`.
    Settle {
        /// Which attempt.
        unit: Unit,
        /// How it ended.
        outcome: Outcome,
        /// What becomes of its worktree.
        disposal: Disposal,
    },
    /// Find out which files the attempt has changed so far: answered by `Touched`.
    LookAtFiles(Unit),
    /// Merge, in memory, the branch of a story that succeeded with those that were finished before it: answered by
    /// `Compared`.
    Compare(StoryId),
    /// Plan anew over the board as it is: answered by `Replanned`, now or when the board can be read. What the run has
    /// written is on it.
    LookAtBoard,
    /// Ask the person whether to go on after this story: answered by `Decided`.
    AskToGoOn(StoryId),
    /// Write what the board should say of a story: answered by `BoardWritten`. Entries of one story are written in
    /// the order in which they are asked for.
    WriteBoard(StoryId, BoardEntry),
    /// Tell what the engine has decided to those who watch.
    Tell(Notice),
    /// The run is over; nothing is left to wait for.
    Finish,
}

/// Something that those who watch a run should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A story is through. Once for every selected story.
    StoryEnded {
        /// Which story.
        story: StoryId,
        /// Its last attempt, if there was one.
        unit: Option<Unit>,
        /// How it ended.
        outcome: Outcome,
    },
    /// An attempt is over, and another one follows.
    Retrying {
        /// The attempt.
        unit: Unit,
        /// How it ended.
        outcome: Outcome,
        /// How long its story waits.
        wait: Duration,
        /// What for.
        reason: Delay,
    },
    /// An attempt has made no progress for a while.
    Quiet {
        /// Which.
        unit: Unit,
        /// For how long.
        idle: Duration,
        /// What it waits for, if that can be seen.
        waits: Option<Wait>,
    },
    /// Nothing is started for a while: too many attempts ended abnormally.
    StartsPaused {
        /// How many.
        ends: usize,
        /// In how long.
        window: Duration,
        /// For how long nothing is started.
        pause: Duration,
    },
    /// Nothing is started for this provider for a while.
    ProviderPaused {
        /// Which.
        provider: Provider,
        /// For how long.
        pause: Duration,
        /// Why, in one line.
        reason: String,
    },
    /// It is over: stories of this provider start again.
    ProviderResumed(Provider),
    /// There is too little of the machine for the agents of stories that could start, of which this is the first.
    WaitsForRoom {
        /// Which.
        story: StoryId,
        /// What there is too little of. Told once of each.
        lack: Lack,
    },
    /// A provider has had the turns that it has in a minute, and stories wait for the next one.
    TurnsUsedUp {
        /// Which.
        provider: Provider,
        /// For how long.
        wait: Duration,
    },
    /// This provider serves nothing before a person has seen to that: none of its stories is started any more.
    ProviderRefused {
        /// Which.
        provider: Provider,
        /// Why, in one line.
        reason: String,
    },
    /// The budget of the run, or of the day, is used up: what runs is stopped, nothing more is started.
    RunExceeded(Overrun),
    /// Little is left of a budget.
    BudgetNear {
        /// The story whose budget it is, if it is that of one.
        story: Option<StoryId>,
        /// Whose budget it is.
        scope: Scope,
        /// What is used of it.
        share: Share,
    },
    /// Stories have joined the run.
    Joined(Vec<StoryId>),
    /// Two stories that run at the moment have changed the same files.
    Overlap {
        /// The one.
        one: StoryId,
        /// The other.
        other: StoryId,
        /// The files that were found first.
        files: Vec<FilePattern>,
    },
    /// The branches of two stories that succeeded cannot be merged with each other.
    Conflict {
        /// The one that finished first.
        one: StoryId,
        /// The other.
        other: StoryId,
        /// The files in which they conflict.
        files: Vec<String>,
    },
    /// The run is stopping.
    Stopping {
        /// How many attempts are under way.
        running: usize,
        /// How long they have.
        grace: Duration,
    },
    /// The run is left at once, with executors and commands of the user that end by themselves.
    Leaving {
        /// How many attempts are under way, those included that are being prepared or settled.
        running: usize,
    },
}

/// What the engine answers to an event. Every effect in it is to be performed, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "effects are to be performed"]
pub struct Effects(Vec<Effect>);

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        self.0.push(Effect::Tell(notice));
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What becomes of a worktree when its attempt is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposal {
    /// The work is on the branch: the worktree goes once it is proved that nothing in it would be lost.
    Remove,
    /// No executor ever ran in it: what this attempt made of it goes, what an earlier one left stays.
    Undo,
    /// It stays for the next attempt and for the person.
    Keep,
}

/// What the board says about a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoardEntry {
    /// It is being worked on: `in-progress`.
    Started,
    /// It is `done`.
    Done,
    /// It waits for a person: `blocked`, with the reason.
    NeedsPerson {
        /// One line.
        reason: String,
    },
    /// It is what it was before it started, so that it can be picked again.
    Returned {
        /// What went wrong, where something did.
        error: Option<String>,
    },
}

impl BoardEntry {
    /// What the board says of a story whose last attempt ended so. A skipped story never left its place.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Succeeded => Some(Self::Done),
            // To try these again unchanged would only cost as much again.
            Outcome::Failed { reason }
            | Outcome::Blocked { reason }
            | Outcome::TimedOut {
                reason,
                scope: Scope::Story,
            }
            | Outcome::BudgetExceeded {
                reason,
                scope: Scope::Story,
            } => Some(Self::NeedsPerson {
                reason: reason.clone(),
            }),
            Outcome::Crashed { reason }
            | Outcome::Stalled { reason }
            | Outcome::ProtocolError { reason }
            | Outcome::PrepareFailed { reason }
            | Outcome::QuotaExhausted { reason, .. }
            | Outcome::ProviderRefused { reason } => Some(Self::Returned {
                error: Some(reason.clone()),
            }),
            // The run ended before the story did, and that says nothing of the story.
            Outcome::Cancelled
            | Outcome::TimedOut {
                scope: Scope::Run | Scope::Day,
                ..
            }
            | Outcome::BudgetExceeded {
                scope: Scope::Run | Scope::Day,
                ..
            } => Some(Self::Returned { error: None }),
            Outcome::Skipped(_) => None,
        }
    }
}
