//! Clears one worktree away, or says why it stays.

use super::holder::{Claim, Holder};
use super::scene::{Item, REPAIR, Scene, foreign};
use crate::engine::AttemptNumber;
use crate::git::{
    CommitId, Condition, LOST_LINK, Place, Removal, RemovalCheck, RepositoryError, Salvage,
    Worktrees,
};
use crate::orchestrator::PastAttempts;
use crate::process::{self, Found};
use crate::report::{self, chain};
use crate::setup::{HookEnd, Leaving};
use crate::story::StoryId;

/// Why a worktree stays that has commits which may be on no branch.
const ON_NO_BRANCH: &str = "it is on no branch";

/// Why a worktree stays whose hook was ended by a signal.
pub(super) const HOOK_STOPPED: &str = "`hooks.beforeRemove` was stopped";

/// What there is against touching a worktree at all, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taboo {
    /// It is not ours.
    Foreign(String),
    /// A run has its story, or another command the board: how, and what to do about it.
    InUse(String, &'static str),
    /// A process works in it.
    Occupied(String),
}

impl Taboo {
    /// In words.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Foreign(why) | Self::InUse(why, _) | Self::Occupied(why) => why,
        }
    }

    /// What a person can do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Foreign(_) => {
                "`git worktree remove` removes what other people and programs have made"
            }
            Self::InUse(_, hint) => hint,
            Self::Occupied(_) => "end that process, or have it leave the folder",
        }
    }

    /// What there is against touching a worktree at this moment.
    pub(super) fn of(item: &Item, holder: Option<&Holder>) -> Option<Self> {
        let occupants = process::at_work_in(&[&item.place.path]);
        Self::of_one(
            item,
            holder,
            occupants.into_iter().flatten().next().as_ref(),
        )
    }

    fn of_one(item: &Item, holder: Option<&Holder>, occupant: Option<&Found>) -> Option<Self> {
        if let Condition::Foreign(why) = &item.place.condition {
            return Some(Self::Foreign(foreign(why)));
        }
        let holder = holder.filter(|holder| holder.may_work_on(item.place.name(), item.status));
        match (holder, occupant) {
            (Some(holder), _) => Some(Self::InUse(holder.at_work(item.status), holder.hint())),
            (None, Some(process)) => Some(Self::Occupied(format!("process {process} works in it"))),
            (None, None) => None,
        }
    }
}

/// What becomes of a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes, or is gone, and nothing is lost with it. Says where its work is saved, if that is not on its branch.
    Clear(Option<Saved>),
    /// It stays: something would be lost, or that is not known.
    Stays(String),
    /// It stays: since it was looked at, something has come up against touching it.
    Untouched(Taboo),
    /// It stays: this command was asked to stop while the user's own command ran in it.
    Stopped,
}

/// Where the work of a worktree is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saved {
    reference: String,
    commit: CommitId,
}

impl Saved {
    /// Says where it is, and how to get it back.
    pub(super) fn tell(&self, title: &str) {
        let Self { reference, commit } = self;
        let short = commit.short();
        report::note("Saved", &format!("{title} in {reference} ({short})"));
    }
}

/// How to get back what is saved.
pub(super) const RECOVER: &str = "`ai-sdlc recover` lists what is saved and brings it back";

/// What to do with work that is not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uncommitted {
    /// Its worktree stays: whoever goes on with the story goes on there.
    Stays,
    /// Its worktree goes if a salvage has all of it.
    GoesWhenSaved,
    /// It is saved, and its worktree goes.
    IsSaved,
}

impl Scene {
    /// What would become of a worktree of ours. Changes nothing.
    pub(super) async fn judge(&self, item: &Item, uncommitted: Uncommitted) -> Verdict {
        let Some(home) = self.homes.get(item.home) else {
            return Verdict::Stays("its place is not known".to_owned());
        };
        let place = &item.place;
        let why = match (&place.condition, &place.branch) {
            (Condition::Ready, Some(branch)) => {
                let check = RemovalCheck::Committed;
                match home.check_removal(&place.path, branch, check).await {
                    Ok(Removal::Removed) => return Verdict::Clear(None),
                    Ok(Removal::Kept { why }) => why,
                    Err(error) => chain(&error),
                }
            }
            (Condition::Ready, None) => ON_NO_BRANCH.to_owned(),
            (Condition::HalfMade | Condition::Gone, _) => return Verdict::Clear(None),
            (Condition::Broken, _) => return Verdict::Stays(LOST_LINK.to_owned()),
            (Condition::Foreign(why), _) => return Verdict::Stays(foreign(why)),
        };
        match uncommitted {
            // It is saved when it goes. What is found only then, such as a file that cannot be read, keeps it.
            Uncommitted::IsSaved if item.story.is_some() => {
                match home.beyond_saving(&place.path).await {
                    Ok(None) => Verdict::Clear(None),
                    Ok(Some(why)) => Verdict::Stays(why.to_owned()),
                    Err(error) => Verdict::Stays(chain(&error)),
                }
            }
            Uncommitted::Stays | Uncommitted::IsSaved => Verdict::Stays(why),
            Uncommitted::GoesWhenSaved => match home.saved_as(place).await {
                Ok(Some(salvage)) => Verdict::Clear(Some(Saved::of(&salvage))),
                Ok(None) => Verdict::Stays(why),
                Err(error) => Verdict::Stays(chain(&error)),
            },
        }
    }

    /// What a person can do about a worktree of ours that stays since something would be lost with it.
    pub(super) async fn way_out(&self, item: &Item, uncommitted: Uncommitted) -> Option<String> {
        match item.place.condition {
            Condition::Broken => return Some(REPAIR.to_owned()),
            Condition::HalfMade | Condition::Gone | Condition::Foreign(_) => return None,
            Condition::Ready => {}
        }
        let home = self.homes.get(item.home)?;
        // Of one with its files, only its submodules are beyond saving.
        if home.beyond_saving(&item.place.path).await.ok()?.is_some() {
            let shown = self.shown(&item.place.path);
            return Some(format!(
                "no salvage holds submodules: push what is in them, commit the rest, and `git worktree remove -f -f \
                 {shown}` removes it with all that is in it then"
            ));
        }
        match (uncommitted, &item.story) {
            (Uncommitted::Stays, Some(_)) => Some(
                "commit it in the worktree, or give `--salvage` to have it stored before the worktree is removed"
                    .to_owned(),
            ),
            (Uncommitted::Stays, None) => Some("commit it in the worktree".to_owned()),
            (Uncommitted::GoesWhenSaved | Uncommitted::IsSaved, _) => None,
        }
    }

    /// Removes a worktree of ours, if nothing is lost with it, once the user's own command has run in it.
    pub(super) async fn dismiss(
        &self,
        item: &Item,
        uncommitted: Uncommitted,
        claim: &mut Claim,
    ) -> Verdict {
        if claim.hook.timeout().is_none() || item.place.condition != Condition::Ready {
            return self.clear(item, uncommitted).await;
        }
        // What stays is not told that it goes.
        if let stays @ Verdict::Stays(_) = self.judge(item, uncommitted).await {
            return stays;
        }
        let leaving = Leaving {
            path: &item.place.path,
            story: item.story.as_ref(),
            branch: item.place.branch.as_deref(),
        };
        match claim.hook.run(leaving).await {
            HookEnd::Well => {}
            HookEnd::Failed(failure) => report::warning(&format!("{}: {failure}", item.title())),
            HookEnd::Stopped => return Verdict::Stopped,
        }
        // It may have taken minutes, in which a run may have begun with the story.
        claim.refresh(&self.project);
        match Taboo::of(&self.as_it_is_now(item), claim.holder.as_ref()) {
            Some(taboo) => Verdict::Untouched(taboo),
            None => self.clear(item, uncommitted).await,
        }
    }

    /// Removes a worktree of ours, if nothing is lost with it.
    async fn clear(&self, item: &Item, uncommitted: Uncommitted) -> Verdict {
        let Some(home) = self.homes.get(item.home) else {
            return Verdict::Stays("its place is not known".to_owned());
        };
        let place = &item.place;
        let removal = match (&place.condition, &place.branch) {
            (Condition::Ready, Some(branch)) => {
                let removing = home.remove(&place.path, branch, RemovalCheck::Committed);
                removing.await.map_err(|error| chain(&error))
            }
            (Condition::Ready, None) => Err(ON_NO_BRANCH.to_owned()),
            (Condition::Gone, Some(branch)) => {
                let dropping = home.drop_entry(&place.path, branch);
                dropping.await.map_err(|error| chain(&error))
            }
            (Condition::HalfMade | Condition::Gone, _) => {
                let taking = home.take_back_half_made(&place.path);
                taking.await.map_err(|error| chain(&error))
            }
            (Condition::Broken, _) => Err(LOST_LINK.to_owned()),
            (Condition::Foreign(why), _) => Err(foreign(why)),
        };
        match removal {
            Ok(Removal::Removed) => Verdict::Clear(None),
            Ok(Removal::Kept { why }) | Err(why) if place.condition == Condition::Ready => {
                self.save(home, item, uncommitted, why).await
            }
            Ok(Removal::Kept { why }) | Err(why) => Verdict::Stays(why),
        }
    }

    /// Removes a worktree with work that is on no branch, if that is saved or is to be. `why` is why it would stay.
    async fn save(
        &self,
        home: &Worktrees,
        item: &Item,
        uncommitted: Uncommitted,
        why: String,
    ) -> Verdict {
        let place = &item.place;
        match (uncommitted, &item.story) {
            (Uncommitted::Stays, _) | (Uncommitted::IsSaved, None) => Verdict::Stays(why),
            (Uncommitted::GoesWhenSaved, _) => match home.remove_saved(place).await {
                Ok(Some(salvage)) => Verdict::Clear(Some(Saved::of(&salvage))),
                Ok(None) => Verdict::Stays(why),
                Err(error) => Verdict::Stays(chain(&error)),
            },
            (Uncommitted::IsSaved, Some(story)) => {
                let saved = self.save_and_remove(home, place, story, item.home).await;
                saved.map_or_else(Verdict::Stays, Verdict::Clear)
            }
        }
    }

    /// Saves what a worktree holds and removes it. Gives where it is saved, or why the worktree stays.
    async fn save_and_remove(
        &self,
        home: &Worktrees,
        place: &Place,
        story: &StoryId,
        number: usize,
    ) -> Result<Option<Saved>, String> {
        let attempt = self.attempt(number, story);
        let attempt = attempt.map_err(|error| chain(&error))?;
        let branch = place.branch.as_deref().unwrap_or_default();
        let removal = home.salvage_and_remove(&place.path, branch, story, attempt);
        match removal.await.map_err(|error| chain(&error))? {
            Removal::Kept { why } => Err(why),
            Removal::Removed => {
                let salvages = self.repository.salvages();
                let mut salvages = salvages.map_err(|error| chain(&error))?.into_iter();
                let made = salvages.find(|one| one.story == *story && one.attempt == attempt);
                Ok(made.as_ref().map(Saved::of))
            }
        }
    }

    /// The attempt under which the work of a worktree is saved: the last one of its story. What is in the other place
    /// of the predecessor is other work, and gets a number that nothing has.
    fn attempt(&self, home: usize, story: &StoryId) -> Result<AttemptNumber, RepositoryError> {
        let past = PastAttempts::read(&self.project.runs());
        let last = past.last(story);
        if home == 0 {
            return Ok(last.unwrap_or(AttemptNumber::FIRST));
        }
        let salvages = self.repository.salvages()?.into_iter();
        let of_story = salvages.filter(|salvage| salvage.story == *story);
        let highest = of_story.map(|salvage| salvage.attempt).chain(last).max();
        Ok(highest.map_or(AttemptNumber::FIRST, AttemptNumber::next))
    }
}

impl Saved {
    fn of(salvage: &Salvage) -> Self {
        Self {
            reference: salvage.reference(),
            commit: salvage.commit,
        }
    }
}
