//! The hands of the engine: performs its effects, and turns what comes of them into events.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::narrator::Narrator;
use super::tasks::{Finished, Tasks, Work};
use super::unit::{Command, Message, News};
use super::workspace::Settled;
use super::{RunRequest, board, unit};
use crate::engine::{
    BoardEntry, BoardWrite, Claim, Disposal, Effect, Engine, Event, Exit, Moment, Outcome, Phase,
    Settlement, StopReason, Unit,
};
use crate::git::{Origin, Prepared};
use crate::launcher::{AttemptSpec, Launcher};
use crate::protocol::{self, Evidence, FromExecutor, Reason, ShutdownReason, Start};
use crate::report::event::{KeptWorktree, RunEvent, StoryName};
use crate::report::{Background, chain, plural};
use crate::story::{Story, StoryId};

/// How long the last board entries may take to be written when the run is over.
const LAST_ENTRIES: Duration = Duration::from_secs(2);

/// Commands to one executor that may wait: there are never more than a stop, a quicker stop and a kill.
const WAITING_COMMANDS: usize = 8;

pub(super) struct Driver<L> {
    pub(super) engine: Engine,
    pub(super) began: Instant,
    request: RunRequest,
    launcher: Arc<L>,
    pub(super) narrator: Narrator,
    pub(super) tasks: Tasks,
    inbox: mpsc::Sender<Message>,
    attempts: HashMap<Unit, Attempt>,
    /// Board entries that wait for the one being written: one at a time, so that those of a story stay in order.
    entries: VecDeque<(StoryId, BoardEntry)>,
    /// The worktrees of attempts that are through, for the branch that a story's file names.
    branches: HashMap<StoryId, String>,
}

/// What the world has of an attempt.
#[derive(Default)]
struct Attempt {
    prepared: Option<Prepared>,
    commands: Option<mpsc::Sender<Command>>,
    evidence: Option<Evidence>,
    settled: Settling,
}

/// Whether the end of an attempt has been taken care of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Settling {
    #[default]
    Ahead,
    Done,
}

impl<L: Launcher> Driver<L> {
    pub(super) fn new(
        request: RunRequest,
        launcher: Arc<L>,
        inbox: mpsc::Sender<Message>,
        surfaces: Background,
    ) -> Self {
        Self {
            narrator: Narrator::new(request.run.clone(), request.folder.clone(), surfaces),
            engine: Engine::new(request.settings, request.plan.clone()),
            began: Instant::now(),
            request,
            launcher,
            tasks: Tasks::default(),
            inbox,
            attempts: HashMap::new(),
            entries: VecDeque::new(),
            branches: HashMap::new(),
        }
    }

    pub(super) fn feed(&mut self, event: Event) {
        tracing::debug!(?event, "event");
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for effect in self.engine.step(event, Moment::from_millis(millis)) {
            tracing::debug!(?effect, "effect");
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare(unit) => self.prepare(unit),
            Effect::AbandonPreparation(unit) => self.tasks.abort(&Work::Prepare(unit)),
            Effect::Launch(unit) => self.launch(unit),
            Effect::AskToStop {
                unit,
                reason,
                grace,
            } => {
                let reason = shutdown_reason(&reason);
                self.command(&unit, Command::Stop { reason, grace });
            }
            Effect::Kill(unit) => self.command(&unit, Command::Kill),
            Effect::Settle {
                unit,
                outcome,
                disposal,
            } => self.settle(unit, outcome, disposal),
            Effect::WriteBoard(story, entry) => {
                self.entries.push_back((story, entry));
                self.write_next_entry();
            }
            Effect::Report {
                story,
                unit,
                outcome,
            } => {
                if let Some(unit) = &unit {
                    self.tell_of_abandoned_worktree(unit);
                }
                if let Some(story) = self.request.stories.get(&story) {
                    self.narrator.settled(story, unit.as_ref(), &outcome);
                }
                if let Some(unit) = unit {
                    self.attempts.remove(&unit);
                }
            }
            Effect::ReportStopping { running, grace } => {
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                self.narrator
                    .tell(&RunEvent::RunStopping { running, grace_ms });
            }
            Effect::ReportLeaving { running } => {
                let count = plural(running, "attempt", "attempts");
                let message = format!("cut off: {count} left to end within seconds");
                self.narrator.warn(message);
            }
            Effect::Finish => {}
        }
    }

    /// An attempt that is reported before it was settled has been cut off: its worktree is where it was.
    fn tell_of_abandoned_worktree(&mut self, unit: &Unit) {
        let Some(Attempt {
            prepared: Some(prepared),
            settled: Settling::Ahead,
            ..
        }) = self.attempts.get(unit)
        else {
            return;
        };
        let kept = KeptWorktree {
            path: prepared.path.clone(),
            reason: None,
        };
        self.narrator.kept(unit, Some(kept));
    }

    /// Writes the entries that are still to be written when the run is over.
    pub(super) async fn write_last_entries(&mut self) {
        let writing = async {
            while self.tasks.is_writing() {
                let Some(finished) = self.tasks.next().await else {
                    return;
                };
                self.finish(finished);
            }
        };
        if tokio::time::timeout(LAST_ENTRIES, writing).await.is_err() {
            self.narrator
                .warn("the board does not say how some stories are".to_owned());
        }
    }

    fn prepare(&mut self, unit: Unit) {
        let Some(story) = self.request.stories.get(&unit.story).cloned() else {
            return;
        };
        let agent = self
            .request
            .agents
            .get(&unit.story)
            .map_or("", String::as_str);
        self.narrator.started(&unit, &story, agent);
        self.attempts.insert(unit.clone(), Attempt::default());
        let workspaces = self.request.workspaces.clone();
        let dependencies = self.dependencies(&story);
        self.tasks.spawn(Work::Prepare(unit), async move {
            Finished::Prepared(workspaces.prepare(&story, &dependencies).await)
        });
    }

    fn dependencies(&self, story: &Story) -> Vec<Arc<Story>> {
        let known = |id| self.request.stories.get(id).cloned();
        story.dependencies.iter().filter_map(known).collect()
    }

    fn launch(&mut self, unit: Unit) {
        let Some((spec, start)) = self.assignment(&unit) else {
            let reason = "its worktree is not known".to_owned();
            self.tasks.spawn(Work::Attend(unit.clone()), async move {
                Finished::NotLaunched(reason)
            });
            return;
        };
        let (sender, commands) = mpsc::channel(WAITING_COMMANDS);
        if let Some(attempt) = self.attempts.get_mut(&unit) {
            attempt.commands = Some(sender);
        }
        let launcher = Arc::clone(&self.launcher);
        let inbox = self.inbox.clone();
        self.tasks.spawn(Work::Attend(unit), async move {
            unit::run(launcher, spec, start, commands, inbox).await;
            Finished::Attended
        });
    }

    /// What an executor is started with, and what it is told.
    fn assignment(&self, unit: &Unit) -> Option<(AttemptSpec, Start)> {
        let request = &self.request;
        let story = request.stories.get(&unit.story)?;
        let prepared = self.attempts.get(unit)?.prepared.as_ref()?;
        let previous = match prepared.origin {
            Origin::Fresh => None,
            Origin::ContinuedBranch => Some("the branch holds the work of an earlier attempt"),
            Origin::KeptWorktree => Some("the worktree holds the work of an earlier attempt"),
        };
        let spec = AttemptSpec {
            run: request.run.clone(),
            unit: unit.clone(),
            worktree: prepared.path.clone(),
            log: request.folder.log(unit),
        };
        let start = Start {
            title: story.title.clone(),
            story_text: story.text.clone(),
            agent: request.agents.get(&unit.story)?.clone(),
            base: prepared.base.to_string(),
            branch: prepared.branch.clone(),
            phases: vec![Phase::Implement],
            board_folder: request.board_folder.clone(),
            work_folder: request.work_folder.clone(),
            commit_message: format!("feat({}): {}", story.id, story.title),
            previous_attempt: previous.map(Reason::new),
            environment: request.environment.clone(),
        };
        Some((spec, start))
    }

    fn command(&mut self, unit: &Unit, command: Command) {
        let commands = self
            .attempts
            .get(unit)
            .and_then(|attempt| attempt.commands.as_ref());
        // An executor that has ended takes no commands; its exit is on its way.
        if let Some(Err(error)) = commands.map(|commands| commands.try_send(command)) {
            tracing::debug!(%error, ?unit, "a command came too late");
        }
    }

    fn settle(&mut self, unit: Unit, outcome: Outcome, disposal: Disposal) {
        let attempt = self.attempts.get_mut(&unit);
        let (prepared, evidence) = match attempt {
            Some(attempt) => (attempt.prepared.clone(), attempt.evidence.take()),
            None => (None, None),
        };
        if let Some(prepared) = &prepared {
            self.branches
                .insert(unit.story.clone(), prepared.branch.clone());
        }
        if let Some(evidence) = &evidence {
            self.narrator.proved(&unit, evidence);
        }
        let workspaces = self.request.workspaces.clone();
        let story = self.request.stories.get(&unit.story).cloned();
        let story = story.map(|story| {
            let dependencies = self.dependencies(&story);
            (story, dependencies)
        });
        self.tasks.spawn(Work::Settle(unit), async move {
            if let Some(prepared) = prepared {
                let evidence = evidence.as_ref();
                let settling = workspaces.settle(&prepared, &outcome, evidence, disposal);
                return Finished::Settled(settling.await);
            }
            if let Some((story, dependencies)) = story {
                workspaces.undo_unfinished(&story, &dependencies).await;
            }
            Finished::Settled(Settled {
                settlement: Settlement::Confirmed,
                kept: None,
            })
        });
    }

    fn write_next_entry(&mut self) {
        if self.tasks.is_writing() {
            return;
        }
        let Some((id, entry)) = self.entries.pop_front() else {
            return;
        };
        let story = self.request.stories.get(&id).cloned();
        let branch = self.branches.get(&id).cloned();
        let store = self.request.store.clone();
        self.tasks.spawn(Work::Write(id), async move {
            let written = tokio::task::spawn_blocking(move || match story {
                Some(story) => board::write(&store, &story, branch.as_deref(), &entry)
                    .map_err(|error| chain(&error)),
                None => Ok(()),
            });
            Finished::Written(written.await.unwrap_or_else(|error| Err(error.to_string())))
        });
    }

    /// An executor did something.
    pub(super) fn receive(&mut self, message: Message) {
        let Message { unit, news } = message;
        let event = match news {
            News::NotLaunched(reason) => Event::LaunchFailed(unit, reason),
            News::Connected => Event::Connected(unit),
            News::Disconnected => Event::Disconnected(unit),
            News::Violated(violation) => Event::ProtocolViolated(unit, violation),
            News::Exited(exit) => Event::Exited(unit, exit),
            News::Said(FromExecutor::Complete(claim)) => {
                let claim = self.note_claim(&unit, claim);
                Event::Claimed(unit, claim)
            }
            News::Said(message) => return self.narrator.said(&unit, message),
        };
        self.feed(event);
    }

    fn note_claim(&mut self, unit: &Unit, claim: protocol::Claim) -> Claim {
        match claim {
            protocol::Claim::Succeeded(evidence) => {
                if let Some(attempt) = self.attempts.get_mut(unit) {
                    attempt.evidence = Some(evidence);
                }
                Claim::Succeeded
            }
            protocol::Claim::Failed { reason } => Claim::Failed {
                reason: reason.to_string(),
            },
            protocol::Claim::Blocked { reason } => Claim::Blocked {
                reason: reason.to_string(),
            },
            protocol::Claim::Crashed { reason } => Claim::Crashed {
                reason: reason.to_string(),
            },
            protocol::Claim::Cancelled { .. } => Claim::Cancelled,
        }
    }

    /// A task has ended.
    pub(super) fn finish(&mut self, (work, finished): (Work, Finished)) {
        match (work, finished) {
            (Work::Prepare(unit), Finished::Prepared(Ok(prepared))) => {
                self.narrator.prepared(&unit, &prepared);
                if let Some(attempt) = self.attempts.get_mut(&unit) {
                    attempt.prepared = Some(prepared);
                }
                self.feed(Event::Prepared(unit));
            }
            (Work::Prepare(unit), Finished::Prepared(Err(reason)) | Finished::Broke(reason)) => {
                self.feed(Event::PrepareFailed(unit, reason));
            }
            (Work::Attend(unit), Finished::NotLaunched(reason)) => {
                self.feed(Event::LaunchFailed(unit, reason));
            }
            // Its executor has lost its connection by that, and ends.
            (Work::Attend(unit), Finished::Broke(_)) => {
                self.feed(Event::Exited(unit, Exit::Unknown));
            }
            (Work::Settle(unit), Finished::Settled(settled)) => {
                if let Some(attempt) = self.attempts.get_mut(&unit) {
                    attempt.settled = Settling::Done;
                }
                self.narrator.kept(&unit, settled.kept);
                self.feed(Event::Settled(unit, settled.settlement));
            }
            (Work::Settle(unit), Finished::Broke(reason)) => {
                self.feed(Event::Settled(unit, Settlement::Refuted(reason)));
            }
            (Work::Write(story), Finished::Written(Err(reason)) | Finished::Broke(reason)) => {
                self.narrator
                    .warn(format!("the board does not say how {story} is: {reason}"));
                self.written(story, BoardWrite::Failed);
            }
            (Work::Write(story), _) => self.written(story, BoardWrite::Written),
            (work, finished) => tracing::debug!(?work, ?finished, "nothing to do"),
        }
    }

    fn written(&mut self, story: StoryId, write: BoardWrite) {
        self.write_next_entry();
        self.feed(Event::BoardWritten(story, write));
    }

    pub(super) fn tell_beginning(&mut self) {
        let planned = self.request.plan.iter();
        let stories = planned.filter_map(|planned| self.request.stories.get(&planned.id));
        let names = stories.map(|story| StoryName {
            id: story.id.clone(),
            title: story.title.clone(),
        });
        let event = RunEvent::RunStarted {
            stories: names.collect(),
            concurrent: self.request.settings.slots.get(),
            base_branch: self.request.base_branch.clone(),
            base_commit: self.request.workspaces.base.to_string(),
            folder: PathBuf::from(self.request.folder.path()),
        };
        self.narrator.tell(&event);
    }
}

fn shutdown_reason(reason: &StopReason) -> ShutdownReason {
    let why = |why: &str| ShutdownReason::AttemptStopped {
        why: Reason::new(why),
    };
    match reason {
        StopReason::RunStopping => ShutdownReason::RunStopping,
        StopReason::ProtocolViolated(violation) => why(violation),
        StopReason::NotConnected => why("it did not connect in time"),
        StopReason::Lingering => why("it did not exit in time"),
    }
}
