//! One attempt: the agent's work in the worktree, then the commit that keeps it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::watch;

use super::Identity;
use super::checkpoints::Checkpoints;
use super::household::Household;
use super::orders::{Orders, StopStep};
use super::output::Seen;
use crate::agent::{self, Agent, Approach, Conclusion, Environment, Invocation, Task};
use crate::engine::Phase;
use crate::git::{self, CommitId, CommitOutcome, CommitRequest, Git};
use crate::process::{Ending, Session, SessionExit};
use crate::protocol::{
    Activity, Change, Claim, Evidence, Log, LogLevel, OutboxHandle, Reason, Start, StatusUpdate,
    Usage,
};

/// The attempt that this executor is for.
pub(super) struct Attempt<'a> {
    identity: &'a Identity,
    start: Start,
    outbox: &'a OutboxHandle,
    household: &'a Household,
    output: watch::Receiver<Seen>,
}

/// Why an attempt is not a success.
enum Setback {
    Failed(String),
    Crashed(String),
    Stopped,
}

impl Setback {
    fn claim(self) -> Claim {
        match self {
            Self::Failed(reason) => Claim::Failed {
                reason: Reason::new(&reason),
            },
            Self::Crashed(reason) => Claim::Crashed {
                reason: Reason::new(&reason),
            },
            Self::Stopped => Claim::Cancelled {
                reason: Reason::new("told to stop"),
            },
        }
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        identity: &'a Identity,
        start: Start,
        outbox: &'a OutboxHandle,
        household: &'a Household,
        output: watch::Receiver<Seen>,
    ) -> Self {
        Self {
            identity,
            start,
            outbox,
            household,
            output,
        }
    }

    /// Does all of it. Whatever happens, what the agent wrote stays in the worktree or on the branch.
    pub(super) async fn work(self, orders: &mut Orders) -> Claim {
        match self.try_work(orders).await {
            Ok(evidence) => Claim::Succeeded(evidence),
            Err(setback) => setback.claim(),
        }
    }

    async fn try_work(&self, orders: &mut Orders) -> Result<Evidence, Setback> {
        let worktree = std::env::current_dir()
            .map_err(|error| Setback::Crashed(format!("no working directory: {error}")))?;
        let agent = agent::find(&self.start.agent)
            .ok_or_else(|| Setback::Failed(format!("there is no agent `{}`", self.start.agent)))?;
        self.run_agent(agent, &worktree, orders).await?;
        // A commit that has begun may end within the grace of a stop: it is the work that is to be kept. After that git
        // is ended with the dropped future, and the work is still in the worktree.
        let mut commit = std::pin::pin!(self.commit(&worktree));
        loop {
            tokio::select! {
                evidence = &mut commit => return evidence,
                step = orders.next_step() => if step == StopStep::Kill {
                    return Err(Setback::Stopped);
                },
            }
        }
    }

    async fn run_agent(
        &self,
        agent: &dyn Agent,
        worktree: &Path,
        orders: &mut Orders,
    ) -> Result<(), Setback> {
        let task = Task {
            story_text: self.start.story_text.clone(),
        };
        match agent.approach(&task) {
            Err(error) => Err(Setback::Failed(error.to_string())),
            Ok(Approach::Answer(text)) => {
                self.status(Phase::Implement, Activity::new(&text));
                self.outbox.log(Log::new(LogLevel::Info, &text));
                Ok(())
            }
            Ok(Approach::Run(invocation)) => {
                self.status(Phase::Implement, Activity::new(&invocation.activity));
                let mut session = self.spawn(&invocation, worktree)?;
                let checkpoints = self.checkpoints(worktree);
                let exit = self.drive(&mut session, orders).await;
                drop(checkpoints);
                let group = Some(session.group());
                drop(session);
                // Whatever the agent has left running could still write while its work is committed.
                self.household
                    .sweep(orders.time_left(), group, self.outbox)
                    .await
                    .map_err(Setback::Crashed)?;
                let exit = exit?;
                match agent.conclude(exit) {
                    Conclusion::Finished => Ok(()),
                    Conclusion::Failed(reason) => Err(Setback::Failed(reason)),
                    Conclusion::Crashed(reason) => Err(Setback::Crashed(reason)),
                }
            }
        }
    }

    /// The agent's output goes where the executor's own goes: into the attempt's log, never into a pipe that could
    /// fill up or be held open.
    fn spawn(&self, invocation: &Invocation, worktree: &Path) -> Result<Session, Setback> {
        let folder = work_folder(worktree, &self.start.work_folder);
        let mut command = Command::new(&invocation.program);
        command
            .args(&invocation.arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .env_clear()
            .envs(Environment::allowing(&self.start.environment).current());
        if let Some(base) = worktree.parent() {
            // Worktrees lie inside the main checkout. An agent that loses its `.git` must not find that one instead.
            command.env("GIT_CEILING_DIRECTORIES", base);
        }
        Session::spawn(&mut command).map_err(|error| {
            let program = invocation.program.to_string_lossy();
            Setback::Failed(format!("cannot start `{program}`: {error}"))
        })
    }

    fn checkpoints(&self, worktree: &Path) -> Option<Checkpoints> {
        let every = Duration::from_millis(self.start.checkpoint_every_ms);
        let wanted = !every.is_zero();
        wanted.then(|| Checkpoints::begin(self.identity, worktree, every))
    }

    /// Waits for the agent, tells what it says, and ends it when the executor is told to stop.
    async fn drive(
        &self,
        session: &mut Session,
        orders: &mut Orders,
    ) -> Result<SessionExit, Setback> {
        let mut output = self.output.clone();
        loop {
            // All of them can be dropped and taken up again.
            tokio::select! {
                exit = session.wait() => {
                    let exit = exit.map_err(|error| Setback::Crashed(format!("the agent was lost: {error}")))?;
                    if orders.is_stopping() {
                        return Err(Setback::Stopped);
                    }
                    return Ok(exit);
                }
                step = orders.next_step() => session.signal(match step {
                    StopStep::Ask => Ending::Terminate,
                    StopStep::Kill => Ending::Kill,
                }),
                Ok(()) = output.changed() => {
                    let activity = output.borrow_and_update().activity.clone();
                    if let Some(activity) = activity {
                        self.status(Phase::Implement, activity);
                    }
                }
            }
        }
    }

    async fn commit(&self, worktree: &Path) -> Result<Evidence, Setback> {
        let failed = |error: &dyn std::fmt::Display| {
            Setback::Failed(format!("the work could not be committed: {error}"))
        };
        let base: CommitId = self.start.base.parse().map_err(|error| failed(&error))?;
        let git = Git::find().map_err(|error| failed(&error))?;
        let request = CommitRequest {
            branch: self.start.branch.clone(),
            message: self.start.commit_message.clone(),
            base,
            board_folder: self.start.board_folder.clone(),
            deadline: git::DEFAULT_COMMIT_DEADLINE,
        };
        tracing::info!(story = %self.identity.story, "committing");
        let outcome = git::commit_all(&git, worktree, &request)
            .await
            .map_err(|error| {
                // Whole in the log; in the reason, lines become one.
                crate::report::error(&error.to_string(), &[]);
                failed(&error)
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

    fn status(&self, phase: Phase, activity: Activity) {
        self.outbox.status(StatusUpdate {
            phase,
            progress: None,
            activity: Some(activity),
            usage: Usage::default(),
            agent_session: None,
        });
    }
}

/// The project's folder in the worktree; the worktree itself where the commit does not have that folder.
fn work_folder(worktree: &Path, relative: &str) -> PathBuf {
    let folder = worktree.join(relative);
    if folder.is_dir() {
        folder
    } else {
        worktree.to_owned()
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
