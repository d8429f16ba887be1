//! One attempt: the turns of the agent in the worktree, then the commit that keeps its work.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::Identity;
use super::checkpoints::Checkpoints;
use super::conversation::{self as noted, ConversationNote};
use super::ear::LogEar;
use super::fence::{self, Enclosure, Held};
use super::household::Household;
use super::orders::{Orders, StopStep};
use super::output::Seen;
use super::pulse::Pulse;
use super::turn::{self, Stage, Stream};
use super::words::Words;
use crate::agent::{
    self, Agent, Approach, Conclusion, Conversation, Environment, Output, Permissions, Reset,
    Setup, Task, TroubleKind, Turn, Usage,
};
use crate::engine::{Allowance, Phase};
use crate::git::{self, CommitError, CommitId, CommitOutcome, CommitRequest, Git, Link, LinkError};
use crate::process::SessionExit;
use crate::protocol::{
    self, Activity, AgentSetup, Change, Claim, Evidence, FromExecutor, Label, Log, LogLevel,
    OutboxHandle, Reason, Retrying, Start, StatusUpdate, identity,
};

/// How often a commit that is refused is given back to the agent: once, since one who cannot mend it will not the
/// second time.
const HAND_BACKS: u32 = 1;

/// An answer that takes no longer is no wait that anybody should be told of.
const ANSWERED_AT_ONCE: Duration = Duration::from_millis(500);

/// The attempt that this executor is for.
pub(super) struct Attempt<'a> {
    identity: &'a Identity,
    start: Start,
    hands: Hands<'a>,
}

/// What an attempt works with.
pub(super) struct Hands<'a> {
    pub(super) outbox: &'a OutboxHandle,
    pub(super) household: &'a Household,
    pub(super) pulse: &'a Pulse,
    /// What is written into the attempt's log.
    pub(super) log: watch::Receiver<Seen>,
    /// The same, line by line.
    pub(super) ear: &'a LogEar,
}

/// Why an attempt is not a success.
enum Setback {
    /// By the agent's end.
    Concluded(Conclusion),
    /// The commit was refused, for a reason that the agent may be able to mend.
    Refused(String),
    Stopped,
}

impl Setback {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Concluded(Conclusion::Failed(reason.into()))
    }

    /// The worktree leads elsewhere than git has made it.
    fn tampered(error: &LinkError) -> Self {
        Self::failed(format!(
            "{error}; hint: mend that, or move the worktree away, then set `status: ready`"
        ))
    }

    fn crashed(reason: impl Into<String>) -> Self {
        Self::Concluded(Conclusion::Crashed(reason.into()))
    }

    fn claim(self) -> Claim {
        let conclusion = match self {
            Self::Stopped => {
                return Claim::Cancelled {
                    reason: Reason::new("told to stop"),
                };
            }
            Self::Refused(reason) => Conclusion::Failed(reason),
            Self::Concluded(conclusion) => conclusion,
        };
        match conclusion {
            Conclusion::Limited { reset, reason } => Claim::Limited {
                until_ms: reset.map(|reset| at(reset, SystemTime::now())),
                reason: Reason::new(&reason),
            },
            Conclusion::Refused(reason) => Claim::Refused {
                reason: Reason::new(&reason),
            },
            Conclusion::Exceeded(reason) => Claim::Exceeded {
                reason: Reason::new(&reason),
            },
            Conclusion::Blocked(reason) => Claim::Blocked {
                reason: Reason::new(&reason),
            },
            Conclusion::Crashed(reason) | Conclusion::ConversationLost(reason) => Claim::Crashed {
                reason: Reason::new(&reason),
            },
            Conclusion::Failed(reason) => Claim::Failed {
                reason: Reason::new(&reason),
            },
            Conclusion::Finished(_) => Claim::Failed {
                reason: Reason::new("the agent is done, and its work was not committed"),
            },
        }
    }
}

/// When a limit is lifted, in milliseconds since the epoch.
fn at(reset: Reset, now: SystemTime) -> u64 {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = match reset {
        Reset::After(span) => now.saturating_add(span),
        Reset::At(seconds) => Duration::from_secs(seconds),
    };
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

/// The turns of an attempt so far, and the conversation that they are of.
struct Talk {
    /// How many turns were begun.
    turns: u32,
    /// What the turns that are over have used.
    used: Usage,
    /// How many requests they made.
    requests: u32,
    note: ConversationNote,
    earlier: Option<noted::Conversation>,
    now: noted::Conversation,
}

impl Talk {
    /// What an agent finds in a worktree. A conversation with another agent says only how that one ended.
    fn of(agent: &str, identity: &Identity, worktree: &Path) -> Self {
        let note = ConversationNote::of(worktree);
        let earlier = note.read();
        let goes_on = earlier.as_ref().filter(|earlier| earlier.agent == agent);
        Self {
            turns: 0,
            used: Usage::default(),
            requests: 0,
            now: noted::Conversation {
                agent: agent.to_owned(),
                name: goes_on.and_then(|earlier| earlier.name.clone()),
                attempt: identity.attempt,
                total: goes_on.map(|earlier| earlier.total).unwrap_or_default(),
                ended: None,
            },
            note,
            earlier,
        }
    }

    fn earlier_end(&self) -> Option<String> {
        self.earlier.as_ref()?.ended.clone()
    }

    fn name(&self) -> Option<&str> {
        self.now.name.as_deref()
    }

    /// Keeps the name of the conversation, and what it has used in all, as soon as they are known: an attempt that is
    /// killed must not have the next one count once more what was told.
    fn hear(&mut self, turn: &Turn) {
        let mut is_new = turn
            .conversation()
            .is_some_and(|name| self.now.take_name(name));
        if let Some(total) = turn.conversation_total() {
            is_new |= std::mem::replace(&mut self.now.total, total) != total;
        }
        if is_new {
            self.note.write(&self.now);
        }
    }

    fn count(&mut self, turn: &Turn) {
        self.used = self.used.plus(turn.usage());
        self.requests = self.requests.saturating_add(requests_of(turn));
        self.hear(turn);
    }

    fn end(&mut self, reason: Option<&Reason>) {
        self.now.ended = reason.map(ToString::to_string);
        self.note.write(&self.now);
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(identity: &'a Identity, start: Start, hands: Hands<'a>) -> Self {
        Self {
            identity,
            start,
            hands,
        }
    }

    /// Does all of it. Whatever happens, what the agent wrote stays in the worktree or on the branch.
    pub(super) async fn work(self, orders: &mut Orders) -> Claim {
        let worktree = match std::env::current_dir() {
            Ok(worktree) => worktree,
            Err(error) => {
                return Setback::crashed(format!("no working directory: {error}")).claim();
            }
        };
        // Nobody works in it yet. What an earlier attempt has done to it, the preparation would have seen.
        let link = match Link::read(&worktree) {
            Ok(link) => link,
            Err(error) => return Setback::tampered(&error).claim(),
        };
        let mut talk = Talk::of(&self.start.agent.name, self.identity, &worktree);
        match self.try_work(&link, &mut talk, orders).await {
            Ok(evidence) => Claim::Succeeded(evidence),
            Err(setback) => {
                let claim = setback.claim();
                talk.end(claim.reason());
                claim
            }
        }
    }

    async fn try_work(
        &self,
        link: &Link,
        talk: &mut Talk,
        orders: &mut Orders,
    ) -> Result<Evidence, Setback> {
        let adapter = &self.start.agent.adapter;
        let agent = agent::find(adapter)
            .ok_or_else(|| Setback::failed(format!("there is no agent `{adapter}`")))?;
        let ended = talk.earlier_end();
        let words = Words::of(&self.identity.story, &self.start, link.worktree(), ended).await;
        let mut answer = self.begin(agent, link, &words, talk, orders).await?;
        let mut handed_back = 0;
        loop {
            match self
                .commit_unless_killed(agent, link.worktree(), orders)
                .await
            {
                Ok(evidence) => {
                    let unchanged = evidence.change == Change::Nothing;
                    if unchanged && answer.is_none() && agent.capabilities().must_change_something {
                        return Err(Setback::failed(
                            "the agent changed nothing, and did not say that nothing has to be changed",
                        ));
                    }
                    return Ok(evidence);
                }
                Err(Setback::Refused(reason))
                    if handed_back < HAND_BACKS
                        && agent.capabilities().resumes
                        && !orders.is_stopping() =>
                {
                    let Some(conversation) = talk.name().map(str::to_owned) else {
                        return Err(Setback::Refused(reason));
                    };
                    handed_back += 1;
                    let text = "the commit was refused, and the agent is asked to mend that";
                    self.hands.outbox.log(Log::new(LogLevel::Warning, text));
                    let prompt = words.commit_refused(&reason);
                    let conversation = Conversation::Resumed(conversation);
                    let mended = self.turn(agent, link, prompt, conversation, talk, orders);
                    answer = match mended.await {
                        Err(Setback::Concluded(Conclusion::ConversationLost(_))) => {
                            return Err(Setback::Refused(reason));
                        }
                        mended => mended?,
                    };
                }
                Err(setback) => return Err(setback),
            }
        }
    }

    /// The first turn: in the conversation of the earlier attempt, if that can go on, else in a new one.
    async fn begin(
        &self,
        agent: &dyn Agent,
        link: &Link,
        words: &Words,
        talk: &mut Talk,
        orders: &mut Orders,
    ) -> Result<Option<String>, Setback> {
        let earlier = talk.name().map(str::to_owned);
        if let Some(earlier) = earlier.filter(|_| agent.capabilities().resumes) {
            let prompt = words.resumed();
            let conversation = Conversation::Resumed(earlier);
            match self
                .turn(agent, link, prompt, conversation, talk, orders)
                .await
            {
                Err(Setback::Concluded(Conclusion::ConversationLost(reason))) => {
                    let text = format!("the conversation cannot go on, a new one begins: {reason}");
                    self.hands.outbox.log(Log::new(LogLevel::Warning, &text));
                }
                other => return other,
            }
        }
        let name = noted::new_name(self.identity, link.worktree(), talk.turns);
        self.turn(
            agent,
            link,
            words.first(),
            Conversation::New(name),
            talk,
            orders,
        )
        .await
    }

    /// One turn. Gives the reason why nothing has to be changed, if the agent says so.
    async fn turn(
        &self,
        agent: &dyn Agent,
        link: &Link,
        prompt: String,
        conversation: Conversation,
        talk: &mut Talk,
        orders: &mut Orders,
    ) -> Result<Option<String>, Setback> {
        let worktree = link.worktree();
        let folder = work_folder(worktree, &self.start.work_folder);
        let allowance = self.await_turn(talk, orders).await?;
        let task = Task {
            story_text: self.start.story_text.clone(),
            prompt,
            conversation,
            folder: folder.clone(),
            setup: setup(&self.start.agent, allowance),
        };
        let invocation = match agent.approach(&task) {
            Err(error) => return Err(Setback::failed(error.to_string())),
            Ok(Approach::Answer(text)) => {
                self.status(&Turn::default(), talk, Some(Activity::new(&text)));
                self.hands.outbox.log(Log::new(LogLevel::Info, &text));
                return Ok(None);
            }
            Ok(Approach::Run(invocation)) => invocation,
        };
        talk.turns += 1;
        self.status(
            &Turn::default(),
            talk,
            Some(Activity::new(&invocation.activity)),
        );
        let stream = match agent.capabilities().output {
            Output::Log => None,
            Output::Stream => Some(Stream {
                file: self.transcript(talk.turns),
                reader: agent.reader(&task),
            }),
        };
        let mut environment = self.environment(agent, worktree);
        let enclosure = self.enclose(agent, worktree, &mut environment)?;
        let stage = Stage {
            folder: &folder,
            enclosure,
            environment,
            ask: agent.capabilities().ask,
            used_before: match &task.conversation {
                Conversation::New(_) => Usage::default(),
                Conversation::Resumed(_) => talk.now.total,
            },
            pulse: self.hands.pulse,
            log: self.hands.log.clone(),
            ear: self.hands.ear,
        };
        let checkpoints = self.checkpoints(link);
        let ended = turn::play(stage, &invocation, stream, orders, |turn, seen| {
            let activity = seen.and_then(|seen| seen.activity.clone());
            talk.hear(turn);
            self.status(turn, talk, activity);
        })
        .await;
        drop(checkpoints);
        let group = ended.as_ref().ok().map(|ended| ended.group);
        // Whatever the agent has left running could still write while its work is committed.
        self.hands
            .household
            .sweep(orders.time_left(), group, self.hands.outbox)
            .await
            .map_err(Setback::crashed)?;
        // From here on, git is called in the worktree by a process that no fence holds.
        let intact = link.check(Some(&self.start.branch));
        intact.map_err(|error| Setback::tampered(&error))?;
        let ended = ended.map_err(Setback::failed)?;
        talk.count(&ended.turn);
        if ended.turn.has_doubtful_use() {
            let text = "the agent told of a use that cannot be true; that does not count";
            self.hands.outbox.log(Log::new(LogLevel::Warning, text));
        }
        if orders.is_stopping() && !ended.was_through {
            return Err(Setback::Stopped);
        }
        let conclusion = match ended.exit {
            // How it ended after that was our doing.
            Some(_) if ended.was_through => {
                agent.conclude(&ended.turn, SessionExit::Code(0), &ended.stderr)
            }
            Some(exit) => agent.conclude(&ended.turn, exit, &ended.stderr),
            None => ended.turn.conclude_retrying(),
        };
        match conclusion {
            Conclusion::Finished(answer) => Ok(answer),
            _ if orders.is_stopping() => Err(Setback::Stopped),
            conclusion => Err(Setback::Concluded(conclusion)),
        }
    }

    /// Waits until the agent may begin a turn. The orchestrator answers, stops the attempt, or is gone.
    async fn await_turn(&self, talk: &Talk, orders: &mut Orders) -> Result<Allowance, Setback> {
        let asked = self.hands.outbox.reliable(FromExecutor::PermitRequest);
        asked.await.map_err(|_| Setback::Stopped)?;
        let mut answered = std::pin::pin!(orders.may_begin_turn());
        let at_once = tokio::time::timeout(ANSWERED_AT_ONCE, &mut answered).await;
        let granted = if let Ok(granted) = at_once {
            granted
        } else {
            let activity = Activity::new("waits for its turn");
            self.status(&Turn::default(), talk, Some(activity));
            answered.await
        };
        granted.ok_or(Setback::Stopped)
    }

    /// The file for what the agent tells in that turn.
    fn transcript(&self, turn: u32) -> PathBuf {
        let folder = Path::new(&self.start.attempt_folder);
        match turn {
            0 | 1 => folder.join("transcript.jsonl"),
            turn => folder.join(format!("transcript-{turn}.jsonl")),
        }
    }

    /// The variables that the agent gets.
    fn environment(&self, agent: &dyn Agent, worktree: &Path) -> Vec<(OsString, OsString)> {
        let everybody = self.start.environment.iter().map(String::as_str);
        let own = agent.capabilities().environment.iter().copied();
        let wanted = self.start.agent.environment.iter().map(String::as_str);
        let mut variables = Environment::allowing(everybody.chain(own).chain(wanted)).current();
        // A run may have been started from an agent of another one, whose ports are not this one's.
        variables.retain(|(name, _)| name != identity::PORT);
        if let Some(port) = self.start.port {
            variables.push((identity::PORT.into(), port.to_string().into()));
        }
        if let Some(base) = worktree.parent() {
            // Worktrees lie inside the main checkout. An agent that loses its `.git` must not find that one instead.
            variables.push(("GIT_CEILING_DIRECTORIES".into(), base.into()));
        }
        variables
    }

    /// The fence for a turn of the agent, when it is to have one. Without one that it should have, it does not begin.
    fn enclose(
        &self,
        agent: &dyn Agent,
        worktree: &Path,
        environment: &mut Vec<(OsString, OsString)>,
    ) -> Result<Option<Enclosure>, Setback> {
        let Some(held) = self.held(agent, worktree) else {
            return Ok(None);
        };
        Enclosure::around(&held, environment)
            .map_err(|error| Setback::crashed(format!("no fence around the agent: {error}")))
    }

    /// What is to be held of the agent, when it is to have a fence.
    fn held<'b>(&'b self, agent: &'b dyn Agent, worktree: &'b Path) -> Option<Held<'b>> {
        let capabilities = agent.capabilities();
        let setup = self.start.fence.as_ref().filter(|_| capabilities.fenced)?;
        Some(Held {
            setup,
            worktree,
            attempt_folder: Path::new(&self.start.attempt_folder),
            state: capabilities.state,
        })
    }

    fn checkpoints(&self, link: &Link) -> Option<Checkpoints> {
        let every = Duration::from_millis(self.start.checkpoint_every_ms);
        let wanted = !every.is_zero();
        wanted.then(|| Checkpoints::begin(self.identity, link, every))
    }

    /// A commit that has begun may end within the grace of a stop: it is the work that is to be kept. After that git
    /// is ended with the dropped future, and the work is still in the worktree.
    async fn commit_unless_killed(
        &self,
        agent: &dyn Agent,
        worktree: &Path,
        orders: &mut Orders,
    ) -> Result<Evidence, Setback> {
        let mut commit = std::pin::pin!(self.commit(agent, worktree));
        loop {
            tokio::select! {
                evidence = &mut commit => return evidence,
                step = orders.next_step() => if step == StopStep::Kill {
                    return Err(Setback::Stopped);
                },
            }
        }
    }

    async fn commit(&self, agent: &dyn Agent, worktree: &Path) -> Result<Evidence, Setback> {
        let failed = |error: &dyn std::fmt::Display| {
            Setback::failed(format!("the work could not be committed: {error}"))
        };
        let base: CommitId = self.start.base.parse().map_err(|error| failed(&error))?;
        let git = Git::find().map_err(|error| failed(&error))?;
        // A git of the agent's own would add files inside of its fence, too.
        let mut variables = self.environment(agent, worktree);
        let held = self.held(agent, worktree);
        let held = held.map(|held| fence::places(&held, &mut variables));
        let held = held.transpose().map_err(|error| failed(&error))?;
        let (held_to, _temporary) = held.unzip();
        let request = CommitRequest {
            branch: self.start.branch.clone(),
            message: self.start.commit_message.clone(),
            base,
            board_folder: self.start.board_folder.clone(),
            deadline: git::DEFAULT_COMMIT_DEADLINE,
            held_to,
        };
        tracing::info!(story = %self.identity.story, "committing");
        let outcome = git::commit_all(&git, worktree, &request)
            .await
            .map_err(|error| {
                // Whole in the log; in the reason, lines become one.
                crate::report::error(&error.to_string(), &[]);
                match &error {
                    CommitError::HookFailed { .. } | CommitError::Unmerged { .. } => {
                        Setback::Refused(format!("the work could not be committed: {error}"))
                    }
                    error => failed(error),
                }
            })?;
        let (head, change) = match outcome {
            CommitOutcome::Nothing { head } => (head, Change::Nothing),
            CommitOutcome::Committed { head, stat } => (
                head,
                Change::Committed {
                    commits: count(stat.commits),
                    files: count(stat.files),
                    insertions: count(stat.insertions),
                    deletions: count(stat.deletions),
                },
            ),
        };
        Ok(Evidence {
            head: head.to_string(),
            base: base.to_string(),
            change,
            commands: Vec::new(),
        })
    }

    /// Tells where the attempt is: what the turns before have used, and what this one has so far.
    fn status(&self, turn: &Turn, talk: &Talk, activity: Option<Activity>) {
        let used = talk.used.plus(turn.usage());
        let session = turn.conversation().or(talk.name());
        self.hands.outbox.status(StatusUpdate {
            phase: Phase::Implement,
            progress: None,
            activity: activity.or_else(|| turn.activity().map(Activity::new)),
            usage: protocol::Usage {
                input_tokens: used.input_tokens,
                output_tokens: used.output_tokens,
                cached_tokens: used.cached_tokens,
                cost_micros_usd: used.cost_micros_usd,
                turns: talk.requests.saturating_add(requests_of(turn)),
            },
            agent_session: session.map(Label::new),
            model: turn.model().map(Label::new),
            tool: turn.tool().map(Label::new),
            retrying: turn.retrying().map(|(trouble, delay)| Retrying {
                reason: Reason::new(&trouble.message),
                delay_ms: delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
                limited: matches!(trouble.kind, TroubleKind::RateLimited { .. }),
            }),
        });
    }
}

/// How the agent is set up, as the orchestrator says it, when it may use so much.
fn setup(agent: &AgentSetup, allowance: Allowance) -> Setup {
    let turns = allowance
        .turns
        .map(|turns| u32::try_from(turns).unwrap_or(u32::MAX));
    Setup {
        command: agent.command.clone(),
        arguments: agent.arguments.clone(),
        model: agent.model.clone(),
        permissions: if agent.own_permissions {
            Permissions::Configured
        } else {
            Permissions::Bypass
        },
        most_requests: agent.most_requests.into_iter().chain(turns).min(),
        most_cost_micros_usd: allowance.cost_micros_usd,
    }
}

/// The requests to the model of a turn: at least one when it is over, also of agents that do not tell how many.
fn requests_of(turn: &Turn) -> u32 {
    turn.requests().max(u32::from(turn.is_finished()))
}

/// The project's folder in the worktree; the worktree itself where the commit does not have that folder.
fn work_folder(worktree: &Path, relative: &str) -> PathBuf {
    // Joined with nothing, a path gets a slash at its end, and agents find a conversation by its folder.
    let folder = worktree.join(relative);
    if !relative.is_empty() && folder.is_dir() {
        folder
    } else {
        worktree.to_owned()
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
