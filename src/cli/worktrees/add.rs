//! `ai-sdlc worktrees add`: makes the worktree of a story as a run would.

use std::process::ExitCode;
use std::sync::Arc;

use super::holder::{Claim, Purpose};
use super::room;
use super::scene::Scene;
use crate::cli::args::WorktreesAddArgs;
use crate::cli::error::{CliError, LOCKED, SUCCESS};
use crate::cli::init::ignore_what_is_local;
use crate::git::{Condition, Origin, branch_name};
use crate::orchestrator::Ground;
use crate::report;
use crate::story::{Board, Status, Story};

pub(super) async fn add(args: &WorktreesAddArgs) -> Result<ExitCode, CliError> {
    let scene = Scene::find().await?;
    let story = find(&scene.board, &args.story)?;
    let path = scene
        .homes
        .first()
        .map(|home| home.path_of(&story.id, &story.slug));
    let name = path.as_ref().and_then(|path| path.file_name()?.to_str());
    let claim = Claim::take(&scene, "worktrees add", Purpose::Change)?;
    if let Some(holder) = &claim.holder
        && holder.may_work_on(name.unwrap_or_default(), Some(story.status))
    {
        let (id, who) = (&story.id, holder.who());
        let why = if who.is_a_run() {
            "is being worked on, or may be at any moment"
        } else {
            "gets no worktree at this moment"
        };
        return Err(CliError::new(format!("{id} {why}: {who} has the board"))
            .hint(holder.hint())
            .exit(LOCKED));
    }
    let items = scene.items().await?;
    for item in &items {
        let is_of_story = item.story.as_ref() == Some(&story.id);
        if Some(&item.place.path) != path.as_ref() {
            if is_of_story && item.place.condition == Condition::Ready {
                let (id, shown) = (&story.id, scene.shown(&item.place.path));
                report::warning(&format!("{id} has another worktree: {shown}"));
            }
        } else if item.place.condition == Condition::Ready {
            let (id, title) = (&story.id, &story.title);
            report::note("Unchanged", &format!("{id} {title} has its worktree"));
            report::note("Branch", item.place.branch.as_deref().unwrap_or("none"));
            report::data(&format!("{}\n", item.place.path.display()));
            return Ok(ExitCode::from(SUCCESS));
        }
    }
    make(&scene, &claim, story).await
}

async fn make(scene: &Scene, claim: &Claim, story: &Story) -> Result<ExitCode, CliError> {
    // As for a run: without it `git add` would take worktrees for parts of the repository.
    ignore_what_is_local(&scene.project.board)?;
    let Some(worktrees) = scene.homes.first().cloned() else {
        return Err(CliError::new("there is no place for worktrees"));
    };
    let room = room(&scene.project, &worktrees, &claim.run)?;
    let ledger = room.ledger.clone();
    let ground = Ground {
        repository: scene.repository.clone(),
        git: scene.git.clone(),
        worktrees,
        base: scene.base.clone(),
        run: claim.run.clone(),
        room,
    };
    let made = ground.make(story, dependencies(&scene.board, story)).await;
    for remark in ledger.take_remarks() {
        report::warning(&remark);
    }
    let made =
        made.map_err(|reason| CliError::new(format!("{} gets no worktree: {reason}", story.id)))?;
    let whence = match made.origin {
        Origin::Fresh | Origin::KeptWorktree => "",
        Origin::ContinuedBranch => ", which was there and has the work of an earlier attempt",
    };
    let base = match scene.base.name() {
        Some(name) => format!("{name} ({})", made.base.short()),
        None => made.base.short(),
    };
    report::note(
        "Made",
        &format!("the worktree of {} {}", story.id, story.title),
    );
    report::note("Branch", &format!("{}{whence}", made.branch));
    report::note("Base", &base);
    report::data(&format!("{}\n", made.path.display()));
    Ok(ExitCode::from(SUCCESS))
}

/// The story that is meant: by its id in whatever case, else by its slug, as in the predecessor.
fn find<'a>(board: &'a Board, name: &str) -> Result<&'a Story, CliError> {
    if let Some(story) = board.find(name) {
        return Ok(story);
    }
    let mut with_slug = board
        .stories
        .iter()
        .filter(|story| story.slug.as_str() == name);
    match (with_slug.next(), with_slug.next()) {
        (Some(story), None) => Ok(story),
        (Some(one), Some(other)) => Err(CliError::new(format!(
            "`{name}` is the slug of {} and of {}",
            one.id, other.id
        ))
        .hint("name the story by its id")),
        (None, _) => {
            let name: String = name.chars().take(80).collect();
            Err(CliError::new(format!("there is no story `{name}`"))
                .hint("`ai-sdlc status` lists the stories"))
        }
    }
}

/// The stories that a story depends on, and what is said of those that are not done.
fn dependencies(board: &Board, story: &Story) -> Vec<Arc<Story>> {
    let mut found = Vec::new();
    for id in &story.dependencies {
        let Some(dependency) = board.find(id.as_str()) else {
            report::warning(&format!(
                "{id}, which {} depends on, is not on the board",
                story.id
            ));
            continue;
        };
        if dependency.status != Status::Done {
            report::warning(&format!(
                "{id}, which {} depends on, is not done: what is on its branch `{}` so far is in the base",
                story.id,
                branch_name(&dependency.id, &dependency.slug)
            ));
        }
        found.push(Arc::new(dependency.clone()));
    }
    found
}
