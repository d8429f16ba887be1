//! `ai-sdlc run`: has agents work on stories.

use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::args::RunArgs;
use super::error::{CliError, SOME_DID_NOT, SUCCESS, exit_code, signal_code};
use super::run_plan::{RunPlan, plan_run};
use super::working_directory;
use crate::config::Project;
use crate::diagnostics;
use crate::engine::{Deadlines, Obstacle, Retention, RunId, Settings};
use crate::git::{CommitId, Git, Head, Repository, Worktrees, branch_name, check_identity};
use crate::launcher::LocalLauncher;
use crate::orchestrator::{self, RunEnd, RunFolder, RunLock, RunRequest, Workspaces};
use crate::report::event::Counts;
use crate::report::{self, Human, Json, Reporter, Verbosity, plural};
use crate::story::{Board, Status, Store, StoryId};

/// How long the runtime may take to drop what a run has left behind.
const WIND_UP: Duration = Duration::from_millis(500);

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
    let project = Project::find(&here)?;
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
    done
}

async fn run_project(
    project: Project,
    repository: Repository,
    args: &RunArgs,
    reporters: Vec<Box<dyn Reporter>>,
) -> Result<(u8, Option<Counts>), CliError> {
    refuse_own_worktree(&project, &repository)?;
    let run = new_run_id()?;
    // From here on the board is this run's alone: what is planned is what is there.
    let _lock = if args.dry_run {
        None
    } else {
        Some(RunLock::acquire(&project.board, &run)?)
    };
    let store = Store::new(&project.board);
    let board = store.load()?;
    for problem in &board.problems {
        report::warning(&format!("left out: {problem}"));
    }
    let statuses = StatusCounts::of(&board);
    let plan = plan_run(args, &project, board)?;
    for left in &plan.plan.left_out {
        report::warning(&format!("{} is left out: {}", left.id, left.reason));
    }
    plan.check_agents()?;
    let (base_branch, base) = base(&project, &repository)?;
    if args.dry_run {
        show(&plan, base_branch.as_deref(), base);
        return Ok((SUCCESS, None));
    }
    if plan.plan.stories.is_empty() {
        return Ok((nothing_to_do(args, &plan, &statuses), None));
    }
    let git = Git::new().await?;
    check_identity(&git, repository.root()).await?;
    let worktrees = Worktrees::new(repository.clone(), git.clone(), &project.worktree_base())
        .map_err(|error| CliError::from_error(&error))?;
    if let Err(error) = worktrees.sweep_trash().await {
        report::warning(&format!("old worktrees stay: {}", report::chain(&error)));
    }
    let folder = run_folder(&project, &run)?;
    let launcher = LocalLauncher::new()?;
    let inside = |path: &Path| inside(repository.root(), path);
    let request = RunRequest {
        settings: Settings {
            slots: plan.slots,
            deadlines: Deadlines {
                grace: project.config.grace,
                ..Deadlines::default()
            },
            retention: if args.keep_worktrees {
                Retention::KeepAll
            } else {
                Retention::RemoveSucceeded
            },
        },
        plan: plan.plan.stories,
        stories: plan.stories,
        agents: plan.agents,
        board_folder: inside(&project.board).filter(|folder| !folder.is_empty()),
        work_folder: inside(&project.root).unwrap_or_default(),
        workspaces: Workspaces {
            repository,
            git,
            worktrees,
            base,
            run: run.clone(),
        },
        base_branch,
        store,
        folder,
        environment: project.config.allowed_environment,
        run,
    };
    let end = orchestrator::run(request, launcher, reporters, exit_code)
        .await
        .map_err(|error| CliError::new(format!("signals cannot be listened to: {error}")))?;
    Ok(match end {
        RunEnd::Finished(verdict, counts) => (exit_code(verdict), Some(counts)),
        RunEnd::Abandoned(signal) => (signal_code(signal), None),
    })
}

/// Inside a worktree of a story the board is a copy that nobody keeps up to date.
fn refuse_own_worktree(project: &Project, repository: &Repository) -> Result<(), CliError> {
    let ours = match repository.head() {
        Ok(Head::Branch { name, .. }) => name.starts_with(crate::git::BRANCH_PREFIX),
        _ => false,
    };
    if repository.is_linked() && ours {
        return Err(CliError::new(format!(
            "{} is the worktree of a story, and its board only a copy",
            project.root.display()
        ))
        .hint("run it in the main checkout"));
    }
    Ok(())
}

/// What stories start from: the configured branch, else what the main checkout has checked out.
fn base(
    project: &Project,
    repository: &Repository,
) -> Result<(Option<String>, CommitId), CliError> {
    if let Some(name) = &project.config.base_branch {
        let commit = repository.resolve(name).map_err(|error| {
            CliError::from(error).hint("mend `worktree.baseBranch` in .ai-sdlc.json")
        })?;
        return Ok((Some(name.clone()), commit));
    }
    Ok(match repository.head()? {
        Head::Branch { name, commit } => (Some(name), commit),
        Head::Detached { commit } => (None, commit),
    })
}

fn run_folder(project: &Project, run: &RunId) -> Result<RunFolder, CliError> {
    let runs = project.runs();
    let cannot = |path: PathBuf| {
        move |error: std::io::Error| {
            CliError::new(format!("cannot write {}: {error}", path.display()))
                .hint("a run needs a writable board folder with some free space")
        }
    };
    let folder = RunFolder::create(&runs, run).map_err(cannot(runs.clone()))?;
    let diagnostics = folder.diagnostics();
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&diagnostics)
        .map_err(cannot(diagnostics))?;
    diagnostics::to_file(file);
    Ok(folder)
}

/// A path relative to the root of the repository, with `/`; none when it lies outside.
fn inside(root: &Path, path: &Path) -> Option<String> {
    // The repository's root is resolved; a project that was reached through a link must be as well.
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let relative = resolved.strip_prefix(root).ok()?;
    let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

fn new_run_id() -> Result<RunId, CliError> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    // Every hasher state of the standard library has fresh random keys.
    let random = RandomState::new().build_hasher().finish();
    let nonce = u16::try_from(random & 0xffff).unwrap_or_default();
    RunId::new(&stamp, nonce).map_err(|error| CliError::from_error(&error))
}

/// How many stories of which status a board has.
struct StatusCounts {
    backlog: usize,
    in_progress: usize,
    blocked: usize,
}

impl StatusCounts {
    fn of(board: &Board) -> Self {
        let count = |status| {
            board
                .stories
                .iter()
                .filter(|story| story.status == status)
                .count()
        };
        Self {
            backlog: count(Status::Backlog),
            in_progress: count(Status::InProgress),
            blocked: count(Status::Blocked),
        }
    }
}

/// Says why there is nothing to do, and how that can be changed.
fn nothing_to_do(args: &RunArgs, plan: &RunPlan, statuses: &StatusCounts) -> u8 {
    let only_done = plan
        .plan
        .left_out
        .iter()
        .all(|left| left.reason == Obstacle::AlreadyDone);
    if args.story.is_some() {
        // The user asked for that story: it has been said why it is not worked on.
        return if only_done { SUCCESS } else { SOME_DID_NOT };
    }
    report::note("Finished", "no story is ready");
    let stories = |count| plural(count, "story", "stories");
    if statuses.backlog > 0 {
        let count = stories(statuses.backlog);
        report::hint(&format!(
            "{count} in the backlog: set `status: ready` to have agents work on it"
        ));
    }
    if statuses.blocked > 0 {
        let count = stories(statuses.blocked);
        report::hint(&format!(
            "{count} blocked: `ai-sdlc run --story ID` tries one again"
        ));
    }
    if statuses.in_progress > 0 {
        let count = stories(statuses.in_progress);
        report::hint(&format!(
            "{count} in progress from an earlier run: `ai-sdlc run --story ID` goes on with one"
        ));
    }
    SUCCESS
}

/// `--dry-run`: what would be done, in order.
fn show(plan: &RunPlan, base_branch: Option<&str>, base: CommitId) {
    let base = match base_branch {
        Some(name) => format!("{name} ({})", base.short()),
        None => format!("commit {}", base.short()),
    };
    let count = plural(plan.plan.stories.len(), "story", "stories");
    let mut text = format!("{count}, {} at a time, from {base}\n", plan.slots);
    for planned in &plan.plan.stories {
        let Some(story) = plan.stories.get(&planned.id) else {
            continue;
        };
        let agent = plan.agents.get(&planned.id).map_or("", String::as_str);
        let branch = branch_name(&story.id, &story.slug);
        let mut line = format!("{:<8} {} [{agent}] -> {branch}", story.id, story.title);
        let needs: Vec<&str> = planned.dependencies.iter().map(StoryId::as_str).collect();
        if !needs.is_empty() {
            line = format!("{line}, after {}", needs.join(", "));
        }
        text = format!("{text}{line}\n");
    }
    report::data(&text);
}
