//! `ai-sdlc run`: has agents work on stories.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::args::RunArgs;
use super::dry_run::DryRun;
use super::error::{CliError, LOCKED, SUCCESS, exit_code};
use super::init::ignore_what_is_local;
use super::last_run::{Continuation, LastRun, nothing_to_continue};
use super::reap::end_leftovers;
use super::run_plan::{Planner, RunPlan};
use super::run_settings::settings;
use super::worktrees::room;
use super::{find_project, old_checkpoints, working_directory};
use crate::config::Project;
use crate::diagnostics;
use crate::engine::{Housekeeping, LeftOut, Obstacle, RunId, Selection, Verdict, WhenIdle};
use crate::git::{Git, Repository, Worktrees, check_identity};
use crate::launcher::LocalLauncher;
use crate::orchestrator::{
    self, Base, Continued, Ground, RunFolder, RunLock, RunLockError, RunRequest, WatchRequest,
    Workspaces, prune_runs, unlocked_run,
};
use crate::process::FileLimit;
use crate::protocol::identity;
use crate::report::event::Counts;
use crate::report::{self, Human, Json, Reporter, RunEvent, Stamp, Verbosity, plural};
use crate::setup::{Place, Setup};
use crate::story::{Board, Status, Store, StoryId};

/// How long a git that was interrupted may take to end; then it has been killed.
pub(super) const GIT_ENDING: Duration = Duration::from_secs(3);
/// How long the runtime may take to drop what a run has left behind.
pub(super) const WIND_UP: Duration = Duration::from_millis(500);

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    let here = working_directory()?;
    let verbosity = if args.quiet {
        Verbosity::Quiet
    } else {
        Verbosity::Normal
    };
    let reporters: Vec<Box<dyn Reporter>> = if args.json {
        vec![Box::new(Json::default())]
    } else {
        vec![Box::new(Human::new(verbosity))]
    };
    let project = find_project(&here)?;
    run_in(project, args, reporters).map(|(code, _)| ExitCode::from(code))
}

/// Runs stories of a project. Gives the exit code and, when anything ran, how the stories ended.
pub(super) fn run_in(
    project: Project,
    args: &RunArgs,
    reporters: Vec<Box<dyn Reporter>>,
) -> Result<(u8, Option<Counts>), CliError> {
    let repository = Repository::discover(&project.root)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no runtime: {error}")))?;
    let done = runtime.block_on(run_project(project, repository, args, reporters));
    runtime.shutdown_timeout(WIND_UP);
    crate::git::wait_for_ending(GIT_ENDING);
    diagnostics::finish(WIND_UP);
    done
}

async fn run_project(
    project: Project,
    repository: Repository,
    args: &RunArgs,
    reporters: Vec<Box<dyn Reporter>>,
) -> Result<(u8, Option<Counts>), CliError> {
    let (run, seed) = new_run_id()?;
    let patience = Housekeeping::default().lock;
    // From here on the board is this run's alone: what is planned is what is there.
    let mut lock = if args.dry_run {
        None
    } else {
        let mut lock = RunLock::acquire(&project.board, &run, patience)?;
        if let Some(process) = unlocked_run(&project.runs(), &project.board, patience) {
            lock.hand_on();
            return Err(CliError::new(format!(
                "another run works on this board: process {process}, whose lock file was removed"
            ))
            .hint("wait for its end, or stop it with Ctrl-C")
            .exit(LOCKED));
        }
        if let Err(error) = end_leftovers(&project, &run, lock.predecessor()) {
            lock.hand_on();
            return Err(error);
        }
        Some(lock)
    };
    let store = Store::new(&project.board);
    let mut board = store.load()?;
    if !args.quiet && !args.json {
        old_checkpoints::tell(&project.board);
    }
    // Who only asks takes no lock, so that a run may be going on.
    let holder = args
        .dry_run
        .then(|| RunLock::holder(&project.board))
        .flatten();
    let last = match &holder {
        None => LastRun::of(&project),
        Some(holder) if args.continues => {
            let holder = holder.clone();
            return Err(RunLockError::Held { holder }.into());
        }
        Some(holder) => {
            if !args.quiet && !args.json {
                report::warning(&format!("another run works on this board: {holder}"));
            }
            LastRun::None
        }
    };
    // The same run writes by itself what it owes.
    let repairs_itself = args.continues && last.goes_on();
    if !args.dry_run && !repairs_itself {
        last.repair(&store, &board, &repository);
        board = store.load()?;
    }
    let mut told = false;
    let continuation = if args.continues {
        Some(last.into_continuation(&board))
    } else {
        told = !args.quiet && !args.json && last.tell();
        None
    };
    let (past, selection, usual) = match continuation {
        Some(Continuation::Nothing) if args.dry_run && args.json => {
            (None, Some(Selection::Unfinished(BTreeSet::new())), None)
        }
        Some(Continuation::Nothing) => {
            if args.json {
                let base = base(&project, &repository)?;
                tell_nothing(&run, &project, &base, SUCCESS, reporters);
            } else if !args.quiet {
                nothing_to_continue();
            }
            return Ok((SUCCESS, None));
        }
        Some(Continuation::SameRun(past)) => {
            let stories = past.engine.under_way();
            (Some(past), Some(Selection::Unfinished(stories)), None)
        }
        Some(Continuation::NewRun(selection, usual)) => (None, Some(selection), Some(usual)),
        None => (None, None, None),
    };
    let run = past.as_ref().map_or(run, |past| past.opening.run.clone());
    if let Some(lock) = &mut lock {
        lock.describe(&run);
    }
    let mut waiting = Waiting::of(&board);
    if holder.is_some() {
        waiting.interrupted.clear();
    }
    let mut planner =
        Planner::new(args, &project, store.clone(), &board, selection).inspect_err(|_| {
            // The story that is asked for may be there, and one of these.
            for problem in &board.problems {
                report::warning(&format!("left out: {problem}"));
            }
        })?;
    let agent_before = match (&past, &usual) {
        (Some(past), _) => Some(&past.opening.default_agent),
        (None, usual) => usual.as_ref().and_then(|usual| usual.agent.as_ref()),
    };
    if let Some(agent) = agent_before.filter(|_| args.agent.is_none()) {
        planner.default_agent.clone_from(agent);
    }
    let plan = planner.plan(board);
    for remark in &plan.remarks {
        report::warning(remark);
    }
    plan.check_agents()?;
    let mut settings = settings(args, &project.config, &planner.selection, seed);
    let slots = args.concurrent.is_some().then_some(settings.slots);
    if let Some(usual) = usual {
        settings.slots = slots.unwrap_or(usual.slots);
    }
    let mut stories = plan.plan.stories.clone();
    if let Some(past) = &past {
        // It goes on by the rules that it began with.
        settings = past.opening.settings.clone();
        settings.slots = slots.unwrap_or(past.engine.slots());
        stories.clone_from(&past.opening.plan);
    }
    let files = FileLimit::raise();
    let watches = settings.when_idle == WhenIdle::WaitForStories;
    let most = if watches { usize::MAX } else { stories.len() };
    check_slots(settings.slots.get().min(most), &files)?;
    let base = base(&project, &repository)?;
    let batch = check_batch(&planner.selection, &plan);
    // A dry run shows what is left out in its plan, when there is one.
    if !args.dry_run || batch.is_err() {
        for remark in plan.of_left_out() {
            report::warning(&remark);
        }
    }
    batch?;
    let names_stories = args.story.is_some() || args.batch.is_some();
    let asks_for_all = !names_stories && args.epic.is_none() && !args.continues;
    if !args.quiet && !args.json && asks_for_all && !told {
        waiting.hint_at_interrupted();
    }
    let completeness = plan.completeness;
    let code_of = move |verdict| exit_code(completeness.judge(verdict));
    if args.dry_run {
        let dry_run = DryRun {
            plan: &plan,
            slots: settings.slots,
            base_branch: base.name(),
            base: base.start(),
            interrupted: &waiting.interrupted,
            exit_code: code_of(Verdict::AllSucceeded),
        };
        let text = if args.json {
            dry_run.json()?
        } else {
            dry_run.text()
        };
        report::data(&text);
        return Ok((dry_run.exit_code, None));
    }
    if stories.is_empty() && settings.when_idle == WhenIdle::Finish {
        let code = code_of(Verdict::AllSucceeded);
        if args.json {
            tell_nothing(&run, &project, &base, code, reporters);
        } else if let Some(epic) = args.epic.as_ref().filter(|_| !args.quiet) {
            report::note(
                "Finished",
                &format!("no story of the epic {epic} can be worked on"),
            );
        } else if !args.quiet && !names_stories {
            waiting.explain();
        }
        return Ok((code, None));
    }
    // Its processes carry the mark of the run, like executors and agents: the next run waits for them.
    let git = Git::new().await?.with_variable(identity::RUN, run.as_str());
    check_identity(&git, repository.root()).await?;
    let worktrees = Worktrees::new(repository.clone(), git.clone(), &project.worktree_base())
        .map_err(|error| CliError::from_error(&error))?;
    sweep_in_the_background(worktrees.clone());
    let room = room(&project, &worktrees, &run)?;
    for story in &stories {
        let planned = plan.stories.get(&story.id);
        if let Some(story) = planned {
            room.ledger.need(worktrees.path_of(&story.id, &story.slug));
        }
    }
    let folder = run_folder(&project, &run)?;
    prune_in_the_background(&project, &run);
    let launcher = LocalLauncher::new(files, &project.config.kept_processes, folder.group())?;
    let place = place(&project, &repository);
    let board_folder = inside(repository.root(), &project.board);
    let board_folder = board_folder.filter(|folder| !folder.is_empty());
    let work_folder = place.work_folder.clone();
    let setup = Setup::new(
        project.config.setup,
        place,
        &worktrees,
        run.clone(),
        &project.config.kept_processes,
    );
    let workspaces = Workspaces {
        ground: Ground {
            repository,
            git,
            worktrees,
            base,
            run: run.clone(),
            room,
        },
        setup,
        folder: folder.clone(),
    };
    let default_agent = planner.default_agent.clone();
    if watches {
        // Whatever it began with, or goes on with: all that become ready join it.
        planner.selection = Selection::Watch;
    }
    let request = RunRequest {
        watch: watches.then(|| WatchRequest {
            stories: project.board.join("stories"),
            settle: project.config.rules.settle,
            poll: project.config.rules.poll,
            replan: Arc::new(move |under_way| planner.replan(under_way)),
        }),
        settings,
        past: past.map(|past| Continued { past: *past, slots }),
        plan: stories,
        stories: plan.stories,
        agents: plan.agents,
        default_agent,
        board_folder,
        checkpoint_every: project.config.checkpoint_every,
        work_folder,
        workspaces,
        store,
        folder,
        environment: project.config.allowed_environment,
        keep: project.config.kept_processes,
        run,
    };
    // It holds the whole run, and need not lie in the futures around it.
    let running = Box::pin(orchestrator::run(request, launcher, reporters, code_of));
    let (verdict, counts) = running
        .await
        .map_err(|error| CliError::new(format!("the run cannot begin: {error}")))?;
    Ok((code_of(verdict), Some(counts)))
}

/// Removes the folders of old runs. The run does not wait for it.
fn prune_in_the_background(project: &Project, run: &RunId) {
    let (runs, keep, run) = (project.runs(), project.config.rules.kept_runs, run.clone());
    tokio::task::spawn_blocking(move || prune_runs(&runs, keep, &run));
}

/// Deletes what interrupted removals of worktrees have left. The run does not wait for it.
fn sweep_in_the_background(worktrees: Worktrees) {
    tokio::spawn(async move {
        if let Err(error) = worktrees.sweep_trash().await {
            tracing::warn!(error = report::chain(&error), "old worktrees stay");
        }
    });
}

/// What stories start from: the configured branch, else what the main checkout has checked out.
pub(super) fn base(project: &Project, repository: &Repository) -> Result<Base, CliError> {
    if let Some(name) = &project.config.base_branch {
        let start = repository.resolve(name).map_err(|error| {
            CliError::from(error).hint("mend `worktree.baseBranch` in .ai-sdlc.json")
        })?;
        let name = name.clone();
        return Ok(Base::Configured { name, start });
    }
    Ok(repository.head()?.into())
}

/// More executors than there can be connections to would fail one by one, in the middle of the run.
fn check_slots(slots: usize, files: &FileLimit) -> Result<(), CliError> {
    let slots = u64::try_from(slots).unwrap_or(u64::MAX);
    match files.most_executors() {
        Some(most) if slots > most => Err(CliError::new(format!(
            "{slots} stories at a time need more open files than this process may have, which are enough for {most}"
        ))
        .hint("raise the hard limit (`ulimit -Hn`), or run fewer at a time")),
        _ => Ok(()),
    }
}

/// A batch is worked on as it is named, or not at all: what cannot be worked on would be missing in its middle.
fn check_batch(selection: &Selection, plan: &RunPlan) -> Result<(), CliError> {
    let is_done = |left: &&LeftOut| left.reason == Obstacle::AlreadyDone;
    let broken = plan.plan.left_out.iter().any(|left| !is_done(&left));
    if matches!(selection, Selection::Batch(_)) && broken {
        return Err(CliError::new("the batch cannot be worked on as it is")
            .hint("name only stories that can start when those in front of them are done"));
    }
    Ok(())
}

fn run_folder(project: &Project, run: &RunId) -> Result<RunFolder, CliError> {
    let runs = project.runs();
    let cannot = |path: PathBuf| {
        move |error: std::io::Error| {
            CliError::new(format!("cannot write {}: {error}", path.display()))
                .hint("a run needs a writable board folder with some free space")
        }
    };
    // A board of the predecessor has none, and then `git add` would take worktrees for parts of the repository.
    ignore_what_is_local(&project.board)?;
    let folder = RunFolder::create(&runs, run).map_err(cannot(runs.clone()))?;
    orchestrator::sign(folder.path(), &project.board).map_err(cannot(folder.path().to_owned()))?;
    let diagnostics = folder.diagnostics();
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&diagnostics)
        .map_err(cannot(diagnostics))?;
    diagnostics::to_file(file);
    Ok(folder)
}

/// Where things are, for whatever runs in the worktrees of a project.
pub(super) fn place(project: &Project, repository: &Repository) -> Place {
    let root = repository.root();
    let own = [&project.board, &project.worktree_base()].map(|path| inside(root, path));
    Place {
        board: absolute(&project.board),
        checkout: root.to_owned(),
        never_copied: own
            .into_iter()
            .flatten()
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
            .collect(),
        work_folder: inside(root, &project.root).unwrap_or_default(),
    }
}

/// A path relative to the root of the repository, with `/`; none when it lies outside.
fn inside(root: &Path, path: &Path) -> Option<String> {
    // The repository's root is resolved; a project that was reached through a link must be as well.
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let relative = resolved.strip_prefix(root).ok()?;
    let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

/// Where a path is, whatever folder a program works in.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A name for a new run, and a random number of its own.
pub(super) fn new_run_id() -> Result<(RunId, u64), CliError> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    // Every hasher state of the standard library has fresh random keys.
    let random = RandomState::new().build_hasher().finish();
    let nonce = u16::try_from(random & 0xffff).unwrap_or_default();
    let run = RunId::new(&stamp, nonce).map_err(|error| CliError::from_error(&error))?;
    // Below 2^53, so that every reader of the journal reads it exactly.
    Ok((run, random >> 11))
}

/// The stories of a board that a run does not take by itself.
struct Waiting {
    backlog: usize,
    blocked: usize,
    interrupted: Vec<StoryId>,
}

impl Waiting {
    fn of(board: &Board) -> Self {
        let with = |status| {
            board
                .stories
                .iter()
                .filter(move |story| story.status == status)
        };
        Self {
            backlog: with(Status::Backlog).count(),
            blocked: with(Status::Blocked).count(),
            interrupted: with(Status::InProgress)
                .map(|story| story.id.clone())
                .collect(),
        }
    }

    /// No other run has the board: what is in progress is so since a run was killed.
    fn hint_at_interrupted(&self) {
        if self.interrupted.is_empty() {
            return;
        }
        let ids: Vec<&str> = self.interrupted.iter().map(StoryId::as_str).collect();
        let count = plural(ids.len(), "story is", "stories are");
        let ids = ids.join(", ");
        report::warning(&format!(
            "{count} in progress from a run that was interrupted: {ids}"
        ));
        report::hint("`ai-sdlc run --continue` goes on with them, in their worktrees");
    }

    /// Why there is nothing to do, and how that can be changed.
    fn explain(&self) {
        report::note("Finished", "no story is ready");
        if self.backlog > 0 {
            let count = plural(self.backlog, "story", "stories");
            report::hint(&format!(
                "{count} in the backlog: `status: ready` lets agents work on one"
            ));
        }
        if self.blocked > 0 {
            let count = plural(self.blocked, "story", "stories");
            report::hint(&format!(
                "{count} blocked: `ai-sdlc run --story ID` tries one again"
            ));
        }
    }
}

/// For programs, a run that has nothing to do begins and ends as any other.
fn tell_nothing(
    run: &RunId,
    project: &Project,
    base: &Base,
    exit_code: u8,
    mut reporters: Vec<Box<dyn Reporter>>,
) {
    let events = [
        RunEvent::RunStarted {
            stories: Vec::new(),
            concurrent: 0,
            base_branch: base.name().map(str::to_owned),
            base_commit: base.start().to_string(),
            folder: project.runs(),
        },
        RunEvent::RunFinished {
            counts: Counts::default(),
            conflicts: Vec::new(),
            duration_ms: 0,
            exit_code,
        },
    ];
    for reporter in &mut reporters {
        for (sequence, event) in (1..).zip(&events) {
            reporter.show(run, &Stamp::now(sequence), event);
        }
    }
}
