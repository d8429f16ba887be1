//! `ai-sdlc worktrees remove`: removes the worktrees of stories that are named, and nothing that would be lost.

use std::process::ExitCode;

use super::clear::{HOOK_STOPPED, RECOVER, Taboo, Uncommitted, Verdict};
use super::holder::{Claim, Purpose};
use super::interruption::Interruption;
use super::scene::{Item, Scene, sizes};
use crate::cli::args::WorktreesRemoveArgs;
use crate::cli::error::{CliError, SOME_DID_NOT, SUCCESS, signal_code};
use crate::cli::working_directory;
use crate::report::{self, chain, plural};

pub(super) async fn remove(args: &WorktreesRemoveArgs) -> Result<ExitCode, CliError> {
    let scene = Scene::find().await?;
    let mut claim = Claim::take(&scene, "worktrees remove", Purpose::Change)?;
    let interruption = Interruption::listen(claim.hook.clone())?;
    let items = named(&args.names, scene.items().await?)?;
    let sizes = sizes(&items);
    let uncommitted = if args.salvage {
        Uncommitted::IsSaved
    } else {
        Uncommitted::Stays
    };
    let (mut code, mut saved_some, mut removed) = (SUCCESS, false, 0);
    for (item, size) in items.iter().zip(sizes) {
        if interruption.asked().await.is_some() {
            break;
        }
        claim.refresh(&scene.project);
        let (title, shown) = (item.title(), scene.shown(&item.place.path));
        let stays = |why: &str, hint: Option<String>| {
            let hints: Vec<String> = hint.into_iter().collect();
            report::error(
                &format!("{title} keeps its worktree {shown}: {why}"),
                &hints,
            );
        };
        if let Some(taboo) = Taboo::of(item, claim.holder.as_ref()) {
            stays(taboo.why(), Some(taboo.hint().to_owned()));
            code = SOME_DID_NOT;
            continue;
        }
        match scene.dismiss(item, uncommitted, &mut claim).await {
            Verdict::Clear(saved) => {
                if let Some(saved) = &saved {
                    saved.tell(&title);
                    saved_some = true;
                }
                removed += 1;
                let took = format!("{title} {shown} ({})", size.bytes);
                report::note("Removed", &took);
                tell_of_branch(&scene, item, args).await?;
            }
            Verdict::Untouched(taboo) => {
                stays(taboo.why(), Some(taboo.hint().to_owned()));
                code = SOME_DID_NOT;
            }
            Verdict::Stopped => stays(HOOK_STOPPED, None),
            Verdict::Stays(why) => {
                stays(&why, scene.way_out(item, uncommitted).await);
                code = SOME_DID_NOT;
            }
        }
    }
    if let Some(signal) = interruption.asked().await {
        let stay = plural(items.len() - removed, "stays", "stay");
        let removed = plural(removed, "worktree", "worktrees");
        report::note("Stopped", &format!("{removed} removed; {stay}"));
        code = signal_code(signal);
    }
    if saved_some {
        report::hint(RECOVER);
    }
    Ok(ExitCode::from(code))
}

/// The worktrees that are meant, each once. All names are looked up before anything is removed.
fn named(names: &[String], items: Vec<Item>) -> Result<Vec<Item>, CliError> {
    let here = working_directory()?;
    let mut wanted = vec![false; items.len()];
    for name in names {
        let path = here.join(name).canonicalize().ok();
        let is_it = |item: &Item| {
            let of_story = item.story.as_ref();
            of_story.is_some_and(|story| story.same_as(name))
                || item.place.name() == name
                || path.as_ref() == Some(&item.place.path)
        };
        let mut meant: Vec<usize> = places_of(&items, is_it);
        let short: String = name.chars().take(80).collect();
        if meant.is_empty() {
            meant = places_of(&items, |item| item.slug() == Some(name));
            if let [one, other, ..] = meant.as_slice()
                && items[*one].story != items[*other].story
            {
                let (one, other) = (items[*one].title(), items[*other].title());
                return Err(CliError::new(format!(
                    "`{short}` is the slug of {one} and of {other}; nothing was removed"
                ))
                .hint("name the story by its id"));
            }
        }
        if meant.is_empty() {
            return Err(
                CliError::new(format!("`{short}` has no worktree; nothing was removed"))
                    .hint("`ai-sdlc worktrees` lists them"),
            );
        }
        for place in meant {
            wanted[place] = true;
        }
    }
    let chosen = items.into_iter().zip(wanted);
    Ok(chosen
        .filter_map(|(item, wanted)| wanted.then_some(item))
        .collect())
}

fn places_of(items: &[Item], is_it: impl Fn(&Item) -> bool) -> Vec<usize> {
    let numbered = items.iter().enumerate();
    numbered
        .filter(|(_, item)| is_it(item))
        .map(|(place, _)| place)
        .collect()
}

async fn tell_of_branch(
    scene: &Scene,
    item: &Item,
    args: &WorktreesRemoveArgs,
) -> Result<(), CliError> {
    let (Some(branch), Some(home)) = (&item.place.branch, scene.homes.get(item.home)) else {
        return Ok(());
    };
    // Also one that has been made and never begun is there in most cases.
    if scene.repository.branch_tip(branch)?.is_none() {
        return Ok(());
    }
    if !args.delete_branch {
        report::note("Kept", &format!("the branch {branch}"));
        return Ok(());
    }
    match home.delete_merged_branch(branch, scene.base.start()).await {
        Ok(true) => report::note("Deleted", &format!("the branch {branch}, which is merged")),
        Ok(false) => {
            let base = scene.base.name().unwrap_or("what is checked out");
            report::warning(&format!(
                "the branch {branch} stays: it is not merged into {base}"
            ));
        }
        Err(error) => report::warning(&format!("the branch {branch} stays: {}", chain(&error))),
    }
    Ok(())
}
