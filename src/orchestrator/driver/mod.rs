//! The hands of the engine: performs its effects, and turns what comes of them into events.
//!
//! Parts: [`held`] (what waits for the journal), [`resuming`] (how a run goes on), [`news`] (what executors say and do),
//! [`outcomes`] (what comes of tasks), [`observe`] (files, branches and the person), [`replanning`] (further stories).

mod held;
mod news;
mod observe;
mod outcomes;
mod replanning;
mod resuming;

use held::Held;
use replanning::Replanning;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::recovery::Stood;
use crate::engine::{
    BoardEntry, Disposal, Effect, Engine, Event, Moment, Notice, Outcome, Phase, StopReason, Unit,
    Usage,
};
use crate::git::{CommitId, Origin, Prepared};
use crate::journal::Durability;
use crate::launcher::{AttemptSpec, Launcher};
use crate::orchestrator::assigned::Assigned;
use crate::orchestrator::clock::{RunClock, Waking};
use crate::orchestrator::day;
use crate::orchestrator::finished::Finished as FinishedBranches;
use crate::orchestrator::ground::{Dependency, Site, Unprepared};
use crate::orchestrator::narrator::{Narrator, millis};
use crate::orchestrator::note::Note;
use crate::orchestrator::run_journal::RunJournal;
use crate::orchestrator::tasks::{Finished, Tasks, Work};
use crate::orchestrator::unit::{Command, Message};
use crate::orchestrator::workspace::Preparation;
use crate::orchestrator::{RunRequest, board, unit};
use crate::protocol::{
    AgentSetup, Evidence, FromExecutor, Label, Reason, Retrying, ShutdownReason, Start,
};
use crate::report::Background;
use crate::report::event::{KeptWorktree, RunEvent, StoryName};
use crate::story::{Story, StoryId};

/// Commands to one executor that may wait: there are never more than a turn, a stop, a quicker stop and a kill.
const WAITING_COMMANDS: usize = 8;

/// The most board entries that are written together, so that what a person reads on the board is seconds old at most.
const MOST_ENTRIES: usize = 64;

pub(in crate::orchestrator) struct Driver<L> {
    pub(in crate::orchestrator) engine: Engine,
    pub(in crate::orchestrator) clock: RunClock,
    pub(in crate::orchestrator) journal: RunJournal,
    held: Held,
    request: RunRequest,
    launcher: Arc<L>,
    pub(in crate::orchestrator) narrator: Narrator,
    pub(in crate::orchestrator) tasks: Tasks,
    inbox: mpsc::Sender<Message>,
    attempts: HashMap<Unit, Attempt>,
    /// Board entries that wait for those being written, and for their records: those of a story stay in order.
    entries: VecDeque<(u64, StoryId, BoardEntry)>,
    /// The branches of attempts that are through, for the story's file and for comparing them.
    branches: HashMap<StoryId, SettledBranch>,
    /// Where the work of stories ended that have changed something.
    tips: HashMap<StoryId, CommitId>,
    finished: FinishedBranches,
    replanning: Replanning,
    /// How far stories were that were not through when the run was taken over, until they are prepared once more.
    stood: HashMap<StoryId, Stood>,
}

/// The branch of an attempt that is through.
struct SettledBranch {
    name: String,
    base: CommitId,
}

/// What the world has of an attempt.
#[derive(Default)]
struct Attempt {
    /// What it is to do, once that was read.
    assigned: Option<Assigned>,
    /// The commit that its worktree starts from, once that is known.
    starts_from: Arc<OnceLock<CommitId>>,
    prepared: Option<Prepared>,
    phase: Option<Phase>,
    usage: Usage,
    /// What its agent tries again by itself.
    retrying: Option<Retrying>,
    conversation: Option<Label>,
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
    pub(in crate::orchestrator) fn new(
        request: RunRequest,
        journal: RunJournal,
        launcher: Arc<L>,
        inbox: mpsc::Sender<Message>,
        surfaces: Background,
    ) -> Self {
        Self {
            narrator: Narrator::new(
                request.run.clone(),
                request.folder.clone(),
                surfaces,
                &request.settings.housekeeping,
            ),
            engine: Engine::new(request.settings.clone(), request.plan.clone()),
            clock: RunClock::start(Instant::now(), &request.settings.housekeeping),
            journal,
            held: Held::default(),
            request,
            launcher,
            tasks: Tasks::default(),
            inbox,
            attempts: HashMap::new(),
            entries: VecDeque::new(),
            branches: HashMap::new(),
            tips: HashMap::new(),
            finished: FinishedBranches::default(),
            replanning: Replanning::default(),
            stood: HashMap::new(),
        }
    }

    pub(in crate::orchestrator) fn feed(&mut self, event: Event) {
        tracing::debug!(?event, "event");
        let now = self.now();
        let effects: Vec<Effect> = self.engine.step(event.clone(), now).into_iter().collect();
        #[cfg(feature = "faults")]
        crate::orchestrator::faults::point("record", &event);
        let record = self.journal.event(event, &effects, now);
        self.hold(record, effects);
    }

    /// Begins the run.
    pub(in crate::orchestrator) fn begin(&mut self) {
        self.tell_day(self.request.used_today);
        self.feed(Event::Began);
    }

    /// Tells which day it is, on which other runs have used so much.
    fn tell_day(&mut self, used_elsewhere: Usage) {
        self.feed(Event::DayIs(day::today(), used_elsewhere));
    }

    /// Notes what is to be known after a restart.
    fn note(&mut self, note: Note) {
        let now = self.now();
        self.journal.note(note, now);
    }

    fn now(&mut self) -> Moment {
        self.clock.read(Instant::now())
    }

    /// The wait for a deadline of the engine is over.
    pub(in crate::orchestrator) fn pass_time(&mut self, deadline: Option<Moment>) {
        let waking = deadline.map(|deadline| self.clock.wake(deadline, Instant::now()));
        if let Some(Waking::WasAway(away)) = waking {
            tracing::info!(?away, "this process was stopped; that time does not count");
            return;
        }
        self.feed(Event::TimePassed);
    }

    /// Notes in the journal how the run ended.
    pub(in crate::orchestrator) async fn close_journal(&mut self) {
        let now = self.now();
        self.journal.close(self.engine.view(), now);
        let patience = self.request.settings.housekeeping.last_entries;
        self.journal.finish(patience).await;
        if let Some(reason) = self.journal.lost() {
            self.narrator.warn(format!(
                "the journal of this run does not say how it ended: {reason}"
            ));
        }
    }

    fn perform(&mut self, effect: Effect, record: u64) {
        match effect {
            Effect::Prepare(unit) if self.journal.is_recorded(record) => self.prepare(unit),
            Effect::Prepare(unit) => self.refuse(unit),
            Effect::AbandonPreparation(unit) => self.tasks.abort(&Work::Prepare(unit)),
            Effect::Launch(unit) => self.launch(unit),
            Effect::GrantTurn(unit, allowance) => {
                self.command(&unit, Command::GrantTurn(allowance));
            }
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
                self.entries.push_back((record, story, entry));
                self.write_next_entries();
            }
            Effect::LookAtFiles(unit) => self.look_at_files(unit),
            Effect::Compare(story) => self.compare(story),
            Effect::LookAtBoard => self.replan(),
            Effect::AskToGoOn(story) => self.ask_to_go_on(story),
            Effect::Tell(notice) => self.tell(notice),
            Effect::Finish => {}
        }
    }

    fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::StoryEnded {
                story,
                unit,
                outcome,
            } => {
                if let Some(unit) = &unit {
                    self.tell_of_abandoned_worktree(unit);
                }
                let known = self.request.stories.get(&story);
                // One that is not on the board any more has ended all the same.
                let title = known.map_or_else(String::new, |story| story.title.clone());
                let name = StoryName { id: story, title };
                self.narrator.settled(name, unit.as_ref(), &outcome);
                if let Some(unit) = unit {
                    self.attempts.remove(&unit);
                }
            }
            Notice::Retrying {
                unit,
                outcome,
                wait,
                reason,
            } => {
                self.attempts.remove(&unit);
                self.narrator.retrying(&unit, &outcome, wait, reason);
            }
            Notice::Joined(stories) => {
                let stories = self.names(stories.iter());
                self.narrator.tell(&RunEvent::StoriesJoined { stories });
            }
            Notice::Stopping { running, grace } => {
                self.request.workspaces.setup.stop_within(grace);
                self.request.workspaces.ground.room.stop();
                let settling = self.engine.settling().len();
                self.narrator.stopping(running, settling, grace);
            }
            notice => self.narrator.notice(notice),
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
            salvage: None,
        };
        self.narrator.kept(unit, Some(kept));
    }

    /// Writes the entries that are still to be written when the run is over.
    pub(in crate::orchestrator) async fn write_last_entries(&mut self) {
        let patience = self.request.settings.housekeeping.last_entries;
        let writing = async {
            while self.tasks.is_writing() || !self.entries.is_empty() {
                let patience = self.patience_ends();
                tokio::select! {
                    Some(finished) = self.tasks.next() => self.finish(finished),
                    () = self.journal.moved() => self.journal_moved(),
                    () = super::until(patience) => self.lose_patience(),
                }
            }
        };
        if tokio::time::timeout(patience, writing).await.is_err() {
            let owed = self.engine.owed_entries().len();
            self.narrator.warn(format!(
                "the board does not say yet how stories ended, {owed} of them: there was no time to write that. \
                 The next run does it"
            ));
        }
    }

    /// Ends what the run has left running, a background process of a hook of git for example.
    pub(in crate::orchestrator) async fn close_launcher(&mut self) {
        let closed = self.launcher.close().await;
        if let Some(ended) = closed.ended {
            self.narrator
                .warn(format!("ended what this run had left running: {ended}"));
        }
        if let Some(stayed) = closed.stayed {
            self.narrator
                .warn(format!("what this run has left cannot be ended: {stayed}"));
        }
    }

    fn prepare(&mut self, unit: Unit) {
        let Some(story) = self.request.stories.get(&unit.story).cloned() else {
            // A run that goes on knows of it from its journal alone.
            let reason = "it is not on the board any more, or its file cannot be read".to_owned();
            self.tasks.spawn(Work::Prepare(unit), async move {
                Finished::Prepared(Err(Unprepared::NeedsPerson(reason)))
            });
            return;
        };
        let agent = self
            .request
            .agents
            .get(&unit.story)
            .map_or("", String::as_str);
        self.narrator.started(&unit, &story, agent);
        let attempt = Attempt::default();
        let starts_from = Arc::clone(&attempt.starts_from);
        self.attempts.insert(unit.clone(), attempt);
        let workspaces = self.request.workspaces.clone();
        let dependencies = self.dependencies(&story);
        let stood = self.stood.remove(&unit.story);
        let (store, agent) = (
            self.request.store.clone(),
            self.request.default_agent.clone(),
        );
        self.tasks.spawn(Work::Prepare(unit.clone()), async move {
            let prepared = async {
                let read = move || Assigned::read(&store, &story, &agent);
                let reading = tokio::task::spawn_blocking(read).await;
                let assigned = reading
                    .map_err(|error| error.to_string())
                    .flatten()
                    .map_err(Unprepared::Failed)?;
                let preparation = Preparation {
                    unit: &unit,
                    site: Site {
                        story: &assigned.story,
                        dependencies: &dependencies,
                        stood,
                        starts_from: &starts_from,
                    },
                };
                let worktree = workspaces.prepare(&preparation);
                Ok(Box::new((worktree.await?, assigned)))
            };
            Finished::Prepared(prepared.await)
        });
    }

    /// Begins no attempt of which a restart would not know: its number would be given once more.
    fn refuse(&mut self, unit: Unit) {
        let reason = "the journal cannot be written".to_owned();
        self.tasks.spawn(Work::Prepare(unit), async move {
            Finished::Prepared(Err(Unprepared::Failed(reason)))
        });
    }

    fn dependencies(&self, story: &Story) -> Vec<Dependency> {
        let known = |id: &StoryId| {
            Some(Dependency {
                story: self.request.stories.get(id)?.clone(),
                tip: self.tips.get(id).copied(),
            })
        };
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
        let housekeeping = self.request.settings.housekeeping;
        self.tasks.spawn(Work::Attend(unit), async move {
            unit::run(launcher, spec, start, commands, inbox, housekeeping).await;
            Finished::Attended
        });
    }

    /// What an executor is started with, and what it is told.
    fn assignment(&self, unit: &Unit) -> Option<(AttemptSpec, Start)> {
        let request = &self.request;
        let attempt = self.attempts.get(unit)?;
        let Assigned { story, agent } = attempt.assigned.as_ref()?;
        let prepared = attempt.prepared.as_ref()?;
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
            // Whether the board says already that it is in progress makes no difference to the agent.
            story_text: board::said_by_people(story),
            // One that nobody knows is refused by the executor, by its name.
            agent: request
                .agent_setups
                .get(agent)
                .cloned()
                .unwrap_or_else(|| AgentSetup {
                    name: agent.clone(),
                    adapter: agent.clone(),
                    ..AgentSetup::default()
                }),
            attempt_folder: request.folder.of_attempt(unit).display().to_string(),
            base: prepared.base.to_string(),
            branch: prepared.branch.clone(),
            phases: vec![Phase::Implement],
            board_folder: request.board_folder.clone(),
            work_folder: request.work_folder.clone(),
            commit_message: format!("feat({}): {}", story.id, story.title),
            previous_attempt: previous.map(Reason::new),
            environment: request.environment.clone(),
            keep: request.keep.clone(),
            look_every_ms: millis(request.settings.patience.look_every()),
            checkpoint_every_ms: request.checkpoint_every.map_or(0, millis),
            port: request.workspaces.setup.port(unit),
            fence: request.fence.clone(),
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
        let (prepared, evidence, starts_from) = match attempt {
            Some(attempt) => (
                attempt.prepared.clone(),
                attempt.evidence.take(),
                attempt.starts_from.get().copied(),
            ),
            None => (None, None, None),
        };
        if let Some(prepared) = &prepared {
            let branch = SettledBranch {
                name: prepared.branch.clone(),
                base: prepared.base,
            };
            self.branches.insert(unit.story.clone(), branch);
        }
        if let Some(evidence) = &evidence {
            self.narrator.proved(&unit, evidence);
        }
        let workspaces = self.request.workspaces.clone();
        let story = self.request.stories.get(&unit.story).cloned();
        self.tasks.spawn(Work::Settle(unit.clone()), async move {
            let Some(prepared) = prepared else {
                let begun = story.zip(starts_from);
                let settling = workspaces.settle_unprepared(&unit, begun, &outcome);
                return Finished::Settled(settling.await);
            };
            let evidence = evidence.as_ref();
            let settling = workspaces.settle(&unit, &prepared, &outcome, evidence, disposal);
            Finished::Settled(settling.await)
        });
    }

    fn write_next_entries(&mut self) {
        if self.tasks.is_writing() {
            return;
        }
        let mut stories = Vec::new();
        let mut entries = Vec::new();
        while let Some((record, id, _)) = self.entries.front()
            && self.is_safe(*record, Durability::Synced)
            && stories.len() < MOST_ENTRIES
            && !stories.contains(id)
            && let Some((_, id, entry)) = self.entries.pop_front()
        {
            entries.push(board::Entry {
                story: self.request.stories.get(&id).cloned(),
                branch: self.branches.get(&id).map(|branch| branch.name.clone()),
                says: entry,
            });
            stories.push(id);
        }
        if stories.is_empty() {
            return;
        }
        let store = self.request.store.clone();
        self.tasks.spawn(Work::Write(stories), async move {
            let count = entries.len();
            let written = tokio::task::spawn_blocking(move || board::write(&store, &entries)).await;
            Finished::Written(written.unwrap_or_else(|error| vec![Err(error.to_string()); count]))
        });
    }

    fn names<'a>(&self, ids: impl Iterator<Item = &'a StoryId>) -> Vec<StoryName> {
        ids.filter_map(|id| self.request.stories.get(id))
            .map(|story| StoryName {
                id: story.id.clone(),
                title: story.title.clone(),
            })
            .collect()
    }

    pub(in crate::orchestrator) fn tell_beginning(&mut self) {
        let event = RunEvent::RunStarted {
            stories: self.names(self.request.plan.iter().map(|planned| &planned.id)),
            concurrent: self.request.settings.slots.get(),
            base_branch: self
                .request
                .workspaces
                .ground
                .base
                .name()
                .map(str::to_owned),
            base_commit: self.request.workspaces.ground.base.start().to_string(),
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
        StopReason::Unresponsive(_) => why("it does not answer"),
        StopReason::Stalled(..) => why("its agent makes no progress"),
        StopReason::Exceeded(overrun) => why(&overrun.to_string()),
        StopReason::ProviderPaused { reason, .. } | StopReason::ProviderRefused(reason) => {
            why(reason)
        }
    }
}
