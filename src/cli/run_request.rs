//! From what a run is going to do to what the orchestrator works with: its git, its worktrees, its folder, its launcher.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CliError;
use super::init::ignore_what_is_local;
use super::run_fence::obstacle;
use super::run_intent::Intent;
use super::worktrees::room;
use crate::agent;
use crate::config::Project;
use crate::diagnostics;
use crate::engine::{RunId, Selection};
use crate::git::{Git, Repository, Worktrees, check_identity};
use crate::launcher::LocalLauncher;
use crate::orchestrator::{
    self, Ground, RunFolder, RunRequest, Sentry, WatchRequest, Workspaces, compress_runs,
    prune_runs,
};
use crate::protocol::{AgentSetup, FenceSetup, identity};
use crate::report;
use crate::setup::{Place, Setup};

/// What the orchestrator works with, and what starts its executors. The folder of the run is there then.
pub(super) async fn request(
    project: Project,
    repository: Repository,
    intent: Intent,
    fence: Option<FenceSetup>,
) -> Result<(RunRequest, LocalLauncher), CliError> {
    let watches = intent.watches();
    let shortfalls = intent.shortfalls(&project.config.prices);
    let Intent {
        run,
        store,
        mut planner,
        plan,
        stories,
        settings,
        past,
        base,
        files,
        waiting: _,
    } = intent;
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
    let launcher = LocalLauncher::new(
        files,
        &project.worktree_base(),
        &project.config.kept_processes,
        folder.group(),
    )?;
    let (used_today, unknown) = orchestrator::used_today(&project.runs(), Some(&run));
    let limits_days = project.config.rules.limits.has_day_limits();
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
    let sentry = Sentry::new(
        git.clone(),
        repository.clone(),
        board_folder.clone(),
        folder.clone(),
    );
    let workspaces = Workspaces {
        sentry,
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
    let agent_setups = planner.agents.setups();
    let needs_fence = plan
        .agents
        .values()
        .any(|name| is_fenced(name, &agent_setups));
    let no_fence = obstacle(fence.as_ref()).filter(|_| needs_fence);
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
        past,
        plan: stories,
        stories: plan.stories,
        agents: plan.agents,
        default_agent,
        agent_setups,
        used_today,
        prices: project.config.prices,
        board_folder,
        checkpoint_every: project.config.checkpoint_every,
        work_folder,
        workspaces,
        store,
        folder,
        journal_segment: project.config.rules.journal_segment,
        environment: project.config.allowed_environment,
        keep: project.config.kept_processes,
        fence,
        remarks: no_fence
            .into_iter()
            .chain(unknown.into_iter().filter(|_| limits_days))
            .chain(shortfalls)
            .collect(),
        run,
    };
    Ok((request, launcher))
}

/// Whether an agent works inside of the fence.
fn is_fenced(name: &str, setups: &BTreeMap<String, AgentSetup>) -> bool {
    let adapter = setups.get(name).map_or(name, |setup| &setup.adapter);
    agent::find(adapter).is_some_and(|agent| agent.capabilities().fenced)
}

/// Removes the folders of old runs, and compresses the journals of the others. The run does not wait for it.
fn prune_in_the_background(project: &Project, run: &RunId) {
    let rules = &project.config.rules;
    let (runs, keep, run) = (project.runs(), rules.kept_runs, run.clone());
    let limits_days = rules.limits.has_day_limits();
    let since = limits_days.then(orchestrator::midnight).flatten();
    tokio::task::spawn_blocking(move || {
        prune_runs(&runs, keep, &run, since);
        compress_runs(&runs, &run);
    });
}

/// Deletes what interrupted removals of worktrees have left. The run does not wait for it.
fn sweep_in_the_background(worktrees: Worktrees) {
    tokio::spawn(async move {
        if let Err(error) = worktrees.sweep_trash().await {
            tracing::warn!(error = report::chain(&error), "old worktrees stay");
        }
    });
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
