//! What can be seen of a run: the one stream of events that every surface renders. Pure.
//!
//! The JSON form is versioned by [`SCHEMA_VERSION`]; readers ignore fields and types that they do not know, so new
//! ones may be added without a new version.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::engine::{
    AttemptNumber, Conflict, Delay, Lack, OutcomeKind, Overrun, Phase, RunId, Scope, Share, Sign,
    Wait,
};
use crate::story::StoryId;

/// The version of the JSON form.
pub const SCHEMA_VERSION: u32 = 1;

/// One event with its place in the stream.
#[derive(Debug, Clone, Serialize)]
pub struct Record<'a> {
    /// [`SCHEMA_VERSION`].
    pub version: u32,
    /// Rises by one with every event of a run, from 1.
    pub sequence: u64,
    /// When it happened, RFC 3339 in UTC.
    pub time: &'a str,
    /// The run.
    pub run: &'a RunId,
    /// What happened.
    pub event: &'a RunEvent,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run begins.
    RunStarted {
        /// The stories that it works on, in the order in which they may start.
        stories: Vec<StoryName>,
        /// How many executors may be alive at once.
        concurrent: usize,
        /// The branch that the stories start from; none when a commit is checked out and not a branch.
        base_branch: Option<String>,
        /// The commit that they start from.
        base_commit: String,
        /// Where the run keeps its logs; where runs do, when there is nothing to do.
        #[serde(serialize_with = "lossy")]
        folder: PathBuf,
    },
    /// The run is one whose orchestrator was killed, and goes on.
    RunContinued {
        /// Those of its stories that were through, without times.
        through: Vec<StorySettled>,
        /// Those that were being worked on.
        interrupted: Vec<StoryId>,
    },
    /// An attempt begins.
    StoryStarted {
        /// The story.
        story: StoryId,
        /// Its title.
        title: String,
        /// The attempt.
        attempt: AttemptNumber,
        /// The agent.
        agent: String,
    },
    /// The worktree of an attempt stands.
    StoryPrepared {
        /// The story.
        story: StoryId,
        /// The attempt.
        attempt: AttemptNumber,
        /// The worktree.
        #[serde(serialize_with = "lossy")]
        worktree: PathBuf,
        /// The branch.
        branch: String,
        /// Whether it goes on from something that was there.
        origin: WorktreeOrigin,
    },
    /// An attempt enters a phase.
    StoryPhase {
        /// The story.
        story: StoryId,
        /// The attempt.
        attempt: AttemptNumber,
        /// The phase.
        phase: Phase,
        /// What is being done, when the executor said so.
        activity: Option<String>,
    },
    /// An executor says where it is.
    StoryStatus {
        /// The story.
        story: StoryId,
        /// The attempt.
        attempt: AttemptNumber,
        /// The phase.
        phase: Phase,
        /// How much of it is done, in percent.
        progress: Option<u8>,
        /// What is being done.
        activity: Option<String>,
        /// What the attempt has used so far.
        usage: Usage,
        /// The agent's name for its conversation.
        agent_session: Option<String>,
        /// The model that answers, as the agent calls it.
        model: Option<String>,
        /// The tool that the agent has running.
        tool: Option<String>,
    },
    /// An agent tries a request to its provider again by itself. Once for every time that it begins to.
    StoryRetriesRequest {
        /// The story.
        story: StoryId,
        /// The attempt.
        attempt: AttemptNumber,
        /// What went wrong.
        reason: String,
        /// How long the agent waits before, in milliseconds, where it says so.
        delay_ms: Option<u64>,
    },
    /// An executor says how it is.
    StoryHealth {
        /// The story.
        story: StoryId,
        /// The attempt.
        attempt: AttemptNumber,
        /// Resident memory of its tree of processes, in KiB.
        rss_kib: u64,
        /// Processor time of the tree, in milliseconds.
        cpu_ms: u64,
        /// Time since its agent last wrote anything, in milliseconds.
        output_idle_ms: u64,
        /// Processes in the tree.
        processes: u32,
        /// Time since its agent last gave evidence of progress, in milliseconds.
        idle_ms: u64,
        /// The kind of that evidence.
        sign: Option<Sign>,
        /// What its agent waits for, if that can be seen.
        waits: Option<Wait>,
    },
    /// An executor has something to say.
    StoryLog {
        /// The story.
        story: StoryId,
        /// The attempt.
        attempt: AttemptNumber,
        /// How important it is.
        level: Level,
        /// The line.
        text: String,
    },
    /// Stories have joined a run that waits for them.
    StoriesJoined {
        /// Which.
        stories: Vec<StoryName>,
    },
    /// An attempt has made no progress for a while.
    StoryQuiet {
        /// The story.
        story: StoryId,
        /// The attempt.
        attempt: AttemptNumber,
        /// For how long, in milliseconds.
        idle_ms: u64,
        /// What it waits for, if that can be seen.
        waits: Option<Wait>,
    },
    /// An attempt is over, and another one follows.
    StoryRetrying {
        /// The story.
        story: StoryId,
        /// The attempt that is over.
        attempt: AttemptNumber,
        /// How it ended.
        outcome: OutcomeKind,
        /// Why, in one line.
        reason: Option<String>,
        /// How long the story waits, in milliseconds.
        wait_ms: u64,
        /// What it waits for.
        delay: Delay,
        /// The log of the attempt that is over.
        #[serde(serialize_with = "lossy_option")]
        log: Option<PathBuf>,
    },
    /// Two stories that run at the moment have changed the same files.
    StoriesOverlap {
        /// The one.
        one: StoryId,
        /// The other.
        other: StoryId,
        /// Some of the files.
        files: Vec<String>,
    },
    /// The branches of two stories that succeeded cannot be merged with each other.
    BranchesConflict(Conflict),
    /// The branch of a story that succeeded has been compared with those that were finished before it: all that
    /// conflicts with it has been told. Nothing is said of one that goes with all of them.
    BranchCompared {
        /// The story.
        story: StoryId,
    },
    /// Nothing is started for a while: too many attempts ended abnormally.
    StartsPaused {
        /// How many.
        ends: usize,
        /// In how long, in milliseconds.
        window_ms: u64,
        /// For how long nothing is started, in milliseconds.
        pause_ms: u64,
    },
    /// Nothing is started for a provider for a while.
    ProviderPaused {
        /// Which.
        provider: String,
        /// For how long, in milliseconds.
        pause_ms: u64,
        /// Until when, RFC 3339 in UTC.
        until: String,
        /// Why, in one line.
        reason: String,
    },
    /// It is over: stories of this provider start again.
    ProviderResumed {
        /// Which.
        provider: String,
    },
    /// There is too little of the machine for the agents of stories that could start, of which this is the first. Told
    /// once of each resource.
    WaitsForRoom {
        /// Which.
        story: StoryId,
        /// What there is too little of.
        #[serde(flatten)]
        lack: Lack,
    },
    /// A provider has had the turns that it has in a minute, and stories wait for the next one.
    TurnsUsedUp {
        /// Which.
        provider: String,
        /// For how long, in milliseconds.
        wait_ms: u64,
    },
    /// A provider serves nothing before a person has seen to that: none of its stories is started any more.
    ProviderRefused {
        /// Which.
        provider: String,
        /// Why, in one line.
        reason: String,
    },
    /// A budget of the run is used up: nothing more is started, what runs is stopped.
    RunExceeded(Overrun),
    /// Little is left of a budget.
    BudgetNear {
        /// The story, if it is the budget of one.
        #[serde(skip_serializing_if = "Option::is_none")]
        story: Option<StoryId>,
        /// Whose budget it is.
        scope: Scope,
        /// What is used of it.
        #[serde(flatten)]
        share: Share,
    },
    /// A person is asked whether to go on after a story that did not succeed.
    Asking {
        /// The story.
        story: StoryId,
    },
    /// The person has answered, or nobody does.
    Answered {
        /// Whether the run goes on with the next story.
        go_on: bool,
        /// Whether a line was typed.
        typed: bool,
    },
    /// A story is through, for this run.
    StorySettled(Box<StorySettled>),
    /// The run was asked to stop.
    RunStopping {
        /// How many executors are being ended.
        running: usize,
        /// How many attempts have ended and are still being taken care of: hooks run, work is saved.
        settling: usize,
        /// How long they have, in milliseconds.
        grace_ms: u64,
    },
    /// Something is not as it should be.
    Warning {
        /// What.
        message: String,
    },
    /// The run is over.
    RunFinished {
        /// How many stories ended how.
        counts: Counts,
        /// The pairs of stories that succeeded and whose branches cannot be merged.
        conflicts: Vec<Conflict>,
        /// What all stories have used since the run began, or was gone on with.
        usage: Usage,
        /// How long it took, in milliseconds.
        duration_ms: u64,
        /// The exit code of the program.
        exit_code: u8,
    },
}

impl RunEvent {
    /// Whether only the newest of its kind matters.
    pub fn is_of_the_moment(&self) -> bool {
        matches!(
            self,
            Self::StoryStatus { .. } | Self::StoryHealth { .. } | Self::StoryLog { .. }
        )
    }
}

/// A story that is through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorySettled {
    /// The story.
    pub story: StoryId,
    /// Its title.
    pub title: String,
    /// Its last attempt; none when it never started.
    pub attempt: Option<AttemptNumber>,
    /// The name of its outcome.
    pub outcome: &'static str,
    /// Why, in one line.
    pub reason: Option<String>,
    /// How long the attempt took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Its branch, once there is one.
    pub branch: Option<String>,
    /// What its branch holds over its base.
    pub change: Option<Change>,
    /// Its worktree, when that was kept.
    pub kept_worktree: Option<KeptWorktree>,
    /// The log of its attempt.
    #[serde(serialize_with = "lossy_option")]
    pub log: Option<PathBuf>,
    /// The end of that log, after an end that needs an explanation.
    pub log_tail: Vec<String>,
    /// What all of its attempts have used since the run began, or was gone on with.
    pub usage: Usage,
}

/// A worktree that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptWorktree {
    /// Where.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Why, when that does not follow from the outcome.
    pub reason: Option<String>,
    /// The ref under which what is in it and not committed was saved.
    pub salvage: Option<String>,
}

/// A story by its id and title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoryName {
    /// The id.
    pub id: StoryId,
    /// The title.
    pub title: String,
}

/// What an attempt goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorktreeOrigin {
    /// From the base: a new branch in a new worktree.
    Fresh,
    /// From the story's branch, in a new worktree.
    ContinuedBranch,
    /// From the worktree of an earlier attempt, as that left it.
    KeptWorktree,
}

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the developer of this program.
    Debug,
    /// What happens.
    Info,
    /// What may matter.
    Warning,
    /// What went wrong.
    Error,
}

/// What a branch holds over its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Commits.
    pub commits: u32,
    /// Files that differ.
    pub files: u32,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
}

/// What an attempt has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Tokens sent to the model, without cached ones.
    pub input_tokens: u64,
    /// Tokens that the model wrote.
    pub output_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Cost in millionths of a US dollar.
    pub cost_micros_usd: u64,
    /// Whether the cost is computed, in whole or in part, from the prices in the configuration, and not the agent's
    /// own word.
    pub cost_is_computed: bool,
    /// Requests to the model.
    pub turns: u32,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cost_micros_usd: self.cost_micros_usd.saturating_add(other.cost_micros_usd),
            cost_is_computed: self.cost_is_computed || other.cost_is_computed,
            turns: self.turns.saturating_add(other.turns),
        }
    }

    /// In words such as `12.3k tokens, about $0.05`; nothing when nothing was used.
    pub fn in_words(&self) -> Option<String> {
        let tokens = self
            .input_tokens
            .saturating_add(self.output_tokens)
            .saturating_add(self.cached_tokens);
        let about = if self.cost_is_computed { "about " } else { "" };
        let cost = cost(self.cost_micros_usd).map(|cost| format!("{about}{cost}"));
        let words: Vec<String> = amount(tokens).into_iter().chain(cost).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// So many tokens in words; nothing for none.
pub fn amount(tokens: u64) -> Option<String> {
    (tokens > 0).then(|| format!("{} tokens", short(tokens)))
}

/// So many millionths of a US dollar in words; nothing for none. Rounded up, so that what has cost something never reads
/// as nothing.
pub fn cost(micros_usd: u64) -> Option<String> {
    let cents = micros_usd.div_ceil(10_000);
    (cents > 0).then(|| format!("${}.{:02}", cents / 100, cents % 100))
}

/// A number in at most four digits, such as `950`, `12.3k` or `4.5M`.
fn short(number: u64) -> String {
    let tenths = |unit: u64, name: &str| {
        let tenths = number / (unit / 10);
        match tenths {
            0..1000 => format!("{}.{}{name}", tenths / 10, tenths % 10),
            _ => format!("{}{name}", tenths / 10),
        }
    };
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => tenths(1_000, "k"),
        1_000_000..1_000_000_000 => tenths(1_000_000, "M"),
        _ => tenths(1_000_000_000, "G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_told_in_few_words() {
        let words = |tokens, cost| {
            let usage = Usage {
                input_tokens: tokens,
                cost_micros_usd: cost,
                ..Usage::default()
            };
            usage.in_words().unwrap_or_default()
        };
        assert_eq!(words(0, 0), "");
        assert_eq!(words(999, 1), "999 tokens, $0.01");
        assert_eq!(words(12_345, 52_300), "12.3k tokens, $0.06");
        assert_eq!(words(123_456, 12_000_000), "123k tokens, $12.00");
        assert_eq!(words(4_500_000, 0), "4.5M tokens");
        assert_eq!(words(u64::MAX, 0), "18446744073G tokens");
    }
}

/// How many stories ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// `succeeded`
    pub succeeded: usize,
    /// `failed`
    pub failed: usize,
    /// `blocked`
    pub blocked: usize,
    /// `timed_out`
    pub timed_out: usize,
    /// `stalled`
    pub stalled: usize,
    /// `crashed`
    pub crashed: usize,
    /// `protocol_error`
    pub protocol_error: usize,
    /// `prepare_failed`
    pub prepare_failed: usize,
    /// `budget_exceeded`
    pub budget_exceeded: usize,
    /// `quota_exhausted`
    pub quota_exhausted: usize,
    /// `provider_refused`
    pub provider_refused: usize,
    /// `cancelled`, whether they had started or not.
    pub cancelled: usize,
    /// `skipped`
    pub skipped: usize,
}

impl Counts {
    /// Every outcome's name and number, in the order in which they are shown.
    pub fn each(&self) -> [(&'static str, usize); 13] {
        [
            ("succeeded", self.succeeded),
            ("failed", self.failed),
            ("blocked", self.blocked),
            ("timed out", self.timed_out),
            ("stalled", self.stalled),
            ("crashed", self.crashed),
            ("protocol error", self.protocol_error),
            ("not prepared", self.prepare_failed),
            ("over budget", self.budget_exceeded),
            ("out of quota", self.quota_exhausted),
            ("refused by a provider", self.provider_refused),
            ("cancelled", self.cancelled),
            ("skipped", self.skipped),
        ]
    }

    /// Counts one more.
    pub fn count(&mut self, kind: OutcomeKind) {
        *match kind {
            OutcomeKind::Succeeded => &mut self.succeeded,
            OutcomeKind::Failed => &mut self.failed,
            OutcomeKind::Blocked => &mut self.blocked,
            OutcomeKind::TimedOut => &mut self.timed_out,
            OutcomeKind::Stalled => &mut self.stalled,
            OutcomeKind::Crashed => &mut self.crashed,
            OutcomeKind::ProtocolError => &mut self.protocol_error,
            OutcomeKind::PrepareFailed => &mut self.prepare_failed,
            OutcomeKind::BudgetExceeded => &mut self.budget_exceeded,
            OutcomeKind::QuotaExhausted => &mut self.quota_exhausted,
            OutcomeKind::ProviderRefused => &mut self.provider_refused,
            OutcomeKind::Cancelled => &mut self.cancelled,
            OutcomeKind::Skipped => &mut self.skipped,
        } += 1;
    }
}

/// JSON holds Unicode only: what of a path is not becomes the replacement character.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref()
        .map(|path| path.to_string_lossy())
        .serialize(serializer)
}
