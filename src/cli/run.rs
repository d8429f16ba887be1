//! `ai-sdlc run`: has agents work on stories.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::process::ExitCode;
use std::time::Duration;

use super::args::RunArgs;
use super::error::{CliError, SUCCESS, exit_code};
use super::last_run::nothing_to_continue;
use super::run_fence::fence;
use super::run_idle::tell_nothing;
use super::run_intent::{Intent, check_slots};
use super::run_request::request;
use super::run_start::{Start, take_board};
use super::{find_project, working_directory};
use crate::config::Project;
use crate::diagnostics;
use crate::engine::{RunId, Verdict};
use crate::git::Repository;
use crate::orchestrator::{self, Base};
use crate::process::FileLimit;
use crate::report::event::Counts;
use crate::report::{self, Human, Json, Reporter, Verbosity};

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
    let files = FileLimit::raise();
    // With much less than one story needs, not even the runtime works.
    check_slots(1, &files)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no runtime: {error}")))?;
    let done = runtime.block_on(run_project(project, repository, files, args, reporters));
    runtime.shutdown_timeout(WIND_UP);
    crate::git::wait_for_ending(GIT_ENDING);
    diagnostics::finish(WIND_UP);
    done
}

async fn run_project(
    project: Project,
    repository: Repository,
    files: FileLimit,
    args: &RunArgs,
    reporters: Vec<Box<dyn Reporter>>,
) -> Result<(u8, Option<Counts>), CliError> {
    let (run, seed) = new_run_id()?;
    // From here on the board is this run's alone: what is planned is what is there.
    let mut lock = if args.dry_run {
        None
    } else {
        Some(take_board(&project, &run)?)
    };
    let start = Start::new(run, &project, &repository, args)?;
    if let Some(lock) = &mut lock {
        lock.describe(&start.run);
    }
    // The plan of nothing is a plan for programs, too.
    if start.has_no_sequel() && !(args.dry_run && args.json) {
        if args.json {
            let base = base(&project, &repository)?;
            tell_nothing(&start.run, &project, &base, SUCCESS, reporters);
        } else if !args.quiet {
            nothing_to_continue();
        }
        return Ok((SUCCESS, None));
    }
    let intent = Intent::new(start, seed, files, args, &project, &repository)?;
    let completeness = intent.plan.completeness;
    let code_of = move |verdict| exit_code(completeness.judge(verdict));
    if args.dry_run {
        let code = code_of(Verdict::AllSucceeded);
        intent.show(&project, args.json, code)?;
        return Ok((code, None));
    }
    if intent.stories.is_empty() && !intent.watches() {
        let code = code_of(Verdict::AllSucceeded);
        if args.json {
            tell_nothing(&intent.run, &project, &intent.base, code, reporters);
        } else if let Some(epic) = args.epic.as_ref().filter(|_| !args.quiet) {
            report::note(
                "Finished",
                &format!("no story of the epic {epic} can be worked on"),
            );
        } else if !args.quiet && !args.names_stories() {
            intent.waiting.explain();
        }
        return Ok((code, None));
    }
    let fence = fence(&project, &repository, !args.no_fence)?;
    // They hold the whole run, and need not lie in the futures around them.
    let (request, launcher) = Box::pin(request(project, repository, intent, fence)).await?;
    let running = Box::pin(orchestrator::run(request, launcher, reporters, code_of));
    let (verdict, counts) = running
        .await
        .map_err(|error| CliError::new(format!("the run cannot begin: {error}")))?;
    Ok((code_of(verdict), Some(counts)))
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

/// A name for a new run, and a random number of its own.
pub(super) fn new_run_id() -> Result<(RunId, u64), CliError> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    // Every hasher state of the standard library has fresh random keys.
    let random = RandomState::new().build_hasher().finish();
    // With the highest bit set, all ids have the same length.
    let nonce = u32::try_from(random & 0xffff_ffff).unwrap_or_default() | 1 << 31;
    let run = RunId::new(&stamp, nonce).map_err(|error| CliError::from_error(&error))?;
    // Below 2^53, so that every reader of the journal reads it exactly.
    Ok((run, random >> 11))
}
