//! Clears one worktree away, or says why it stays.

use super::holder::Holder;
use super::scene::{Item, Scene, foreign};
use crate::git::{Condition, Removal, RemovalCheck};
use crate::process::{self, Found};
use crate::report::chain;
use crate::story::Status;

/// What there is against touching a worktree at all, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taboo {
    /// It is not ours.
    Foreign(String),
    /// A run has its story.
    InUse(String),
    /// A process works in it.
    Occupied(String),
}

impl Taboo {
    /// In words.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Foreign(why) | Self::InUse(why) | Self::Occupied(why) => why,
        }
    }

    /// What a person can do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Foreign(_) => {
                "`git worktree remove` removes what other people and programs have made"
            }
            Self::InUse(_) => "wait for the run, or stop it with Ctrl-C where it runs",
            Self::Occupied(_) => "end that process, or have it leave the folder",
        }
    }

    /// What there is against touching each of the worktrees.
    pub(super) fn of(items: &[Item], holder: Option<&Holder>) -> Vec<Option<Self>> {
        let folders: Vec<_> = items.iter().map(|item| item.place.path.as_path()).collect();
        let occupants = process::at_work_in(&folders);
        let with_occupants = items.iter().zip(occupants);
        with_occupants
            .map(|(item, occupant)| Self::of_one(item, holder, occupant.as_ref()))
            .collect()
    }

    fn of_one(item: &Item, holder: Option<&Holder>, occupant: Option<&Found>) -> Option<Self> {
        if let Condition::Foreign(why) = &item.place.condition {
            return Some(Self::Foreign(foreign(why)));
        }
        let holder = holder.filter(|holder| holder.may_work_on(item.place.name(), item.status));
        match (holder, item.status, occupant) {
            (Some(holder), Some(Status::InProgress), _) => {
                Some(Self::InUse(format!("{} works in it", holder.name())))
            }
            (Some(holder), ..) => Some(Self::InUse(format!(
                "{} may work in it at any moment",
                holder.name()
            ))),
            (None, _, Some(process)) => {
                Some(Self::Occupied(format!("process {process} works in it")))
            }
            (None, _, None) => None,
        }
    }
}

/// What would be lost with a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Clear,
    /// Something, or that is not known.
    Stays(String),
}

impl Scene {
    /// Whether a worktree of ours can be removed without losing anything. Changes nothing.
    pub(super) async fn judge(&self, item: &Item) -> Verdict {
        let Some(home) = self.homes.get(item.home) else {
            return Verdict::Stays("its place is not known".to_owned());
        };
        let place = &item.place;
        match (&place.condition, &place.branch) {
            (Condition::Ready, Some(branch)) => {
                let check = RemovalCheck::Committed;
                match home.check_removal(&place.path, branch, check).await {
                    Ok(Removal::Removed) => Verdict::Clear,
                    Ok(Removal::Kept { why }) => Verdict::Stays(why),
                    Err(error) => Verdict::Stays(chain(&error)),
                }
            }
            (Condition::Ready, None) => Verdict::Stays("it is on no branch".to_owned()),
            (Condition::HalfMade | Condition::Gone, _) => Verdict::Clear,
            (Condition::Foreign(why), _) => Verdict::Stays(foreign(why)),
        }
    }

    /// Removes a worktree of ours, if nothing is lost with it.
    pub(super) async fn clear(&self, item: &Item) -> Verdict {
        let Some(home) = self.homes.get(item.home) else {
            return Verdict::Stays("its place is not known".to_owned());
        };
        let place = &item.place;
        let removal = match (&place.condition, &place.branch) {
            (Condition::Ready, Some(branch)) => {
                let removing = home.remove(&place.path, branch, RemovalCheck::Committed);
                removing.await.map_err(|error| chain(&error))
            }
            (Condition::Gone, Some(branch)) => {
                let dropping = home.drop_entry(&place.path, branch);
                dropping.await.map_err(|error| chain(&error))
            }
            (Condition::HalfMade | Condition::Gone, _) => {
                let taking = home.take_back_half_made(&place.path);
                taking.await.map_err(|error| chain(&error))
            }
            (Condition::Ready | Condition::Foreign(_), _) => return self.judge(item).await,
        };
        match removal {
            Ok(Removal::Removed) => Verdict::Clear,
            Ok(Removal::Kept { why }) | Err(why) => Verdict::Stays(why),
        }
    }
}
