//! `ai-sdlc worktrees prune`: removes all worktrees with which nothing is lost, and says what stays and why.

use std::process::ExitCode;

use super::clear::{HOOK_STOPPED, RECOVER, Taboo, Uncommitted, Verdict};
use super::holder::{Claim, Purpose};
use super::interruption::Interruption;
use super::scene::{Item, Scene, sizes};
use crate::cli::args::WorktreesPruneArgs;
use crate::cli::error::{CliError, SUCCESS, signal_code};
use crate::disk::Bytes;
use crate::git::Condition;
use crate::report::{self, chain, plural};
use crate::story::Status;

/// What came of pruning.
#[derive(Debug, Default)]
struct Summary {
    removed: usize,
    freed: Bytes,
    stay: usize,
}

pub(super) async fn prune(args: &WorktreesPruneArgs) -> Result<ExitCode, CliError> {
    let scene = Scene::find().await?;
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Change
    };
    let mut claim = Claim::take(&scene, "worktrees prune", purpose)?;
    let interruption = Interruption::listen(claim.hook.clone())?;
    let items = scene.items().await?;
    let sizes = sizes(&items);
    let mut summary = Summary::default();
    let (mut saved_some, mut left) = (false, items.len());
    for (item, size) in items.iter().zip(sizes) {
        if interruption.asked().await.is_some() {
            break;
        }
        left -= 1;
        claim.refresh(&scene.project);
        let taboo = Taboo::of(item, claim.holder.as_ref());
        let uncommitted = match (args.salvage, item.status) {
            (true, _) => Uncommitted::IsSaved,
            // Nobody goes on with it.
            (false, Some(Status::Done) | None) => Uncommitted::GoesWhenSaved,
            (false, Some(_)) => Uncommitted::Stays,
        };
        let verdict = match (taboo, interrupted(item)) {
            (Some(taboo), _) => Verdict::Untouched(taboo),
            (None, Some(why)) => Verdict::Stays(why),
            (None, None) if args.dry_run => scene.judge(item, uncommitted).await,
            (None, None) => scene.dismiss(item, uncommitted, &mut claim).await,
        };
        let (title, shown) = (item.title(), scene.shown(&item.place.path));
        match verdict {
            Verdict::Clear(saved) => {
                if let Some(saved) = &saved {
                    saved.tell(&title);
                    saved_some = true;
                }
                summary.removed += 1;
                summary.freed = [summary.freed, size.bytes].into_iter().sum();
                let verb = if args.dry_run { "Would go" } else { "Removed" };
                let (what, bytes) = (what_it_was(item), size.bytes);
                report::note(verb, &format!("{title} {shown} ({bytes}){what}"));
            }
            Verdict::Untouched(taboo) => summary.tell_of_stay(&title, &shown, taboo.why()),
            Verdict::Stopped => summary.tell_of_stay(&title, &shown, HOOK_STOPPED),
            Verdict::Stays(why) => summary.tell_of_stay(&title, &shown, &why),
        }
    }
    let stopped = interruption.asked().await;
    if stopped.is_some() {
        let count = plural(left, "worktree was", "worktrees were");
        report::note("Stopped", &format!("{count} not looked at"));
        summary.stay += left;
    } else if !args.dry_run {
        sweep(&scene).await;
    }
    report::note("Pruned", &summary.text(args.dry_run));
    if saved_some {
        report::hint(RECOVER);
    }
    Ok(ExitCode::from(stopped.map_or(SUCCESS, signal_code)))
}

impl Summary {
    fn tell_of_stay(&mut self, title: &str, shown: &str, why: &str) {
        self.stay += 1;
        report::note("Stays", &format!("{title} {shown}: {why}"));
    }

    fn text(&self, dry_run: bool) -> String {
        let removed = plural(self.removed, "worktree", "worktrees");
        let (freed, stay) = (self.freed, self.stay);
        if dry_run {
            format!("nothing: {removed} would go ({freed}), {stay} would stay")
        } else {
            format!("{removed} ({freed}); {}", plural(stay, "stays", "stay"))
        }
    }
}

/// Why the worktree of a story in progress stays, when no run works on the story.
fn interrupted(item: &Item) -> Option<String> {
    let story = item.story.as_ref()?;
    let in_work =
        item.status == Some(Status::InProgress) && item.place.condition == Condition::Ready;
    in_work
        .then(|| format!("{story} is in progress, and `ai-sdlc run --story {story}` goes on in it"))
}

fn what_it_was(item: &Item) -> &'static str {
    match item.place.condition {
        Condition::HalfMade => ", half-made",
        Condition::Gone => ", whose folder was gone",
        Condition::Ready | Condition::Broken | Condition::Foreign(_) => "",
    }
}

/// Deletes what interrupted removals have left.
async fn sweep(scene: &Scene) {
    for home in &scene.homes {
        if let Err(error) = home.sweep_trash().await {
            report::warning(&format!(
                "removed worktrees are not deleted: {}",
                chain(&error)
            ));
        }
    }
}
