//! Disk space for worktrees: what must be free before an attempt begins, and a quota, above which worktrees that nobody
//! needs make room.
//!
//! Nothing is removed by it that is not in a commit. A quota that cannot be kept is said and stops no work. The user's
//! hook is run before a worktree goes, and may not hold up attempts for long.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::disk::{self, Bytes, Measured};
use crate::git::{Condition, LOST_LINK, Place, Removal, RemovalCheck, Worktrees};
use crate::process;
use crate::report::chain;
use crate::setup::{HookEnd, Leaving, RemovalHook};

/// What the worktrees of a run may take and must leave.
#[derive(Debug, Clone)]
pub struct Room {
    /// How much must be free.
    pub min_free: Bytes,
    /// How much all worktrees may take together; none for no limit.
    pub max_disk: Option<Bytes>,
    /// Where worktrees are: that of the run first, then that of the predecessor.
    pub homes: Vec<Worktrees>,
    /// What the user wants to run before one of them goes.
    pub hook: RemovalHook,
    /// What was found and done so far.
    pub ledger: Ledger,
}

/// What is known of the worktrees while a run goes on. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// One look at a time: whoever comes next finds what the one before has left.
    last_look: Arc<tokio::sync::Mutex<Option<Look>>>,
    needed: Arc<Mutex<BTreeSet<PathBuf>>>,
    remarks: Arc<Mutex<Vec<String>>>,
}

/// A look at the worktrees.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// How long it lasts; nothing when there was no time to do all that there is to do.
    fresh_until: Option<Instant>,
    result: Sum,
}

/// What making room has come to.
#[derive(Debug, Default)]
struct Made {
    /// What the worktrees take together now.
    sum: Measured,
    /// Why it is not less.
    limit: Limit,
    /// How long hooks and removals took.
    removing: Duration,
}

/// Why worktrees take more than they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Limit {
    /// The others would not go without a loss.
    #[default]
    Needed,
    /// There was no time to remove the others.
    Time,
}

impl Limit {
    fn why(self) -> &'static str {
        match self {
            Self::Needed => "none of the others can be removed without losing something",
            Self::Time => {
                "`hooks.beforeRemove` takes too long to remove more of the others at once"
            }
        }
    }
}

/// What the worktrees take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    Within,
    Beyond,
}

impl Look {
    /// Whether another one would come too soon: looking takes no more than a tenth of the time. How long the hook and the
    /// removals took says nothing about that.
    fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|end| Instant::now() < end)
    }
}

impl Ledger {
    /// What there is to say since the last time.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remark(&self, text: String) {
        let remarks = self.remarks.lock();
        remarks.unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Says that the run needs what is there.
    pub fn need(&self, worktree: PathBuf) {
        let needed = self.needed.lock();
        needed
            .unwrap_or_else(PoisonError::into_inner)
            .insert(worktree);
    }

    fn is_needed(&self, worktree: &Path) -> bool {
        let needed = self.needed.lock();
        needed
            .unwrap_or_else(PoisonError::into_inner)
            .contains(worktree)
    }
}

impl Room {
    /// Makes room for a worktree that is to be made at `path`, and looks whether there is enough of it.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(super) async fn make_for(&self, path: &Path, git_directory: &Path) -> Result<(), String> {
        self.ledger.need(path.to_owned());
        if let Some(most) = self.max_disk {
            // Whoever looks at this moment may not know yet that this one is needed, and is waited for.
            let mut last = self.ledger.last_look.lock().await;
            let is_fresh = last.is_some_and(|look| look.is_fresh());
            if !path.exists() && !is_fresh {
                *last = Some(self.keep_to(most, *last).await);
            }
        }
        let base = self.homes.first().map(Worktrees::base);
        // Commits are written there, and one that finds no place is lost.
        base.into_iter()
            .chain([git_directory])
            .try_for_each(|place| check_free(place, self.min_free))
    }

    async fn keep_to(&self, most: Bytes, last: Option<Look>) -> Look {
        let began = Instant::now();
        let made = match self.look().await {
            Ok(found) => self.evict_beyond(most, found).await,
            Err(reason) => {
                tracing::warn!(reason, "what the worktrees take is not known");
                Made::default()
            }
        };
        let Made {
            sum,
            limit,
            removing,
        } = made;
        let looking = began.elapsed().saturating_sub(removing);
        let result = if sum.bytes <= most {
            Sum::Within
        } else {
            Sum::Beyond
        };
        if result == Sum::Beyond && last.is_none_or(|look| look.result == Sum::Within) {
            self.ledger.remark(format!(
                "the worktrees take {}{}, more than `worktree.maxDisk` ({most}), and {}",
                if sum.incomplete { "at least " } else { "" },
                sum.bytes,
                limit.why()
            ));
        }
        Look {
            fresh_until: (limit != Limit::Time).then(|| Instant::now() + looking * 9),
            result,
        }
    }

    /// The worktrees of ours, and what each of them takes.
    async fn look(&self) -> Result<Vec<(&Worktrees, Place, Measured)>, String> {
        let mut places = Vec::new();
        for home in &self.homes {
            let found = home.inventory().await.map_err(|error| chain(&error))?;
            let ours = found.into_iter().filter(|place| !place.is_foreign());
            places.extend(ours.map(|place| (home, place)));
        }
        let paths: Vec<PathBuf> = places.iter().map(|(_, place)| place.path.clone()).collect();
        let measuring = tokio::task::spawn_blocking(move || disk::measure(&paths, disk::PATIENCE));
        let sizes = measuring.await.map_err(|error| error.to_string())?;
        let sized = places.into_iter().zip(sizes);
        Ok(sized
            .map(|((home, place), size)| (home, place, size))
            .collect())
    }

    /// Removes worktrees, those first that were not used for the longest time, until all take no more than `most`
    /// together or none is left that may go.
    async fn evict_beyond(
        &self,
        most: Bytes,
        mut found: Vec<(&Worktrees, Place, Measured)>,
    ) -> Made {
        let mut sum = Measured {
            bytes: found.iter().map(|(.., size)| size.bytes).sum(),
            incomplete: found.iter().any(|(.., size)| size.incomplete),
        };
        found.sort_by_key(|(_, place, _)| place.used);
        let Made {
            mut limit,
            mut removing,
            ..
        } = Made::default();
        let (began, patience) = (Instant::now(), self.hook.timeout());
        for (home, place, size) in &found {
            if sum.bytes <= most {
                break;
            }
            // An attempt waits for it, and others behind that.
            if patience.is_some_and(|patience| began.elapsed() >= patience) {
                limit = Limit::Time;
                break;
            }
            let path = &place.path;
            if !self.is_free(path) {
                continue;
            }
            // What stays is not told that it goes.
            match check_eviction(home, place).await {
                Ok(Removal::Removed) => {}
                Ok(Removal::Kept { why }) => {
                    tracing::debug!(why, path = %path.display(), "stays");
                    continue;
                }
                Err(reason) => {
                    tracing::warn!(reason, path = %path.display(), "stays");
                    continue;
                }
            }
            let goes = Instant::now();
            let evicted = self.evict(home, place).await;
            removing += goes.elapsed();
            match evicted {
                Ok(Removal::Removed) => {
                    self.ledger.remark(format!(
                        "removed the worktree {} ({}), all of which is saved: the worktrees take {}, more than \
                         `worktree.maxDisk` ({most})",
                        path.display(),
                        size.bytes,
                        sum.bytes
                    ));
                    sum.bytes = sum.bytes.saturating_sub(size.bytes);
                }
                Ok(Removal::Kept { why }) => tracing::debug!(why, path = %path.display(), "stays"),
                Err(reason) => tracing::warn!(reason, path = %path.display(), "stays"),
            }
        }
        Made {
            sum,
            limit,
            removing,
        }
    }

    /// Whether nobody needs a worktree or works in it.
    fn is_free(&self, path: &Path) -> bool {
        !self.ledger.is_needed(path) && process::at_work_in(&[path]) == [None]
    }

    /// Removes a worktree if nothing of it is lost with it, once the hook has run.
    async fn evict(&self, home: &Worktrees, place: &Place) -> Result<Removal, String> {
        if self.hook.timeout().is_none() || place.condition != Condition::Ready {
            return evict(home, place).await;
        }
        let leaving = Leaving {
            path: &place.path,
            story: place.story.as_ref(),
            branch: place.branch.as_deref(),
        };
        match self.hook.run(leaving).await {
            HookEnd::Well => {}
            HookEnd::Failed(failure) => {
                let path = place.path.display();
                self.ledger.remark(format!("{path}: {failure}"));
            }
            HookEnd::Stopped => return Ok(kept("the run stops")),
        }
        // It may have taken minutes.
        if !self.is_free(&place.path) {
            return Ok(kept("it is needed by now, or something works in it"));
        }
        evict(home, place).await
    }

    /// The run stops: nothing more is removed that the hook would have to run for.
    pub(super) fn stop(&self) {
        self.hook.stop();
    }

    /// Resolves when nothing is left of an eviction that was given up.
    pub(super) async fn is_quiet(&self) {
        // Whoever has the look makes room at this moment, and was not given up.
        if let Ok(_look) = self.ledger.last_look.try_lock() {
            self.hook.ended().await;
        }
    }
}

fn kept(why: &str) -> Removal {
    Removal::Kept {
        why: why.to_owned(),
    }
}

/// Whether nothing of a worktree would be lost with it. Changes nothing.
async fn check_eviction(home: &Worktrees, place: &Place) -> Result<Removal, String> {
    if place.condition != Condition::Ready {
        return Ok(check_condition(&place.condition));
    }
    let Some(branch) = &place.branch else {
        return Ok(kept(ON_NO_BRANCH));
    };
    let checking = home.check_removal(&place.path, branch, RemovalCheck::Committed);
    let checked = checking.await.map_err(|error| chain(&error))?;
    if checked == Removal::Removed {
        return Ok(checked);
    }
    let saved = home.saved_as(place).await;
    let saved = saved.map_err(|error| chain(&error))?;
    Ok(saved.map_or(checked, |_| Removal::Removed))
}

/// Why a worktree stays that has commits which may be on no branch.
const ON_NO_BRANCH: &str = "it is on no branch";

/// Removes a worktree if nothing of it is lost with it.
async fn evict(home: &Worktrees, place: &Place) -> Result<Removal, String> {
    let Place { path, branch, .. } = place;
    match place.condition {
        Condition::Ready => {
            let removal = match branch {
                Some(branch) => home.remove(path, branch, RemovalCheck::Committed).await,
                None => Ok(kept(ON_NO_BRANCH)),
            };
            let removal = removal.map_err(|error| chain(&error))?;
            if removal == Removal::Removed {
                return Ok(removal);
            }
            let saved = home.remove_saved(place).await;
            let saved = saved.map_err(|error| chain(&error))?;
            Ok(saved.map_or(removal, |_| Removal::Removed))
        }
        Condition::HalfMade => {
            let taken = home.take_back_half_made(path).await;
            taken.map_err(|error| chain(&error))
        }
        Condition::Gone | Condition::Broken | Condition::Foreign(_) => {
            Ok(check_condition(&place.condition))
        }
    }
}

/// Whether a worktree may go as far as its condition says.
fn check_condition(condition: &Condition) -> Removal {
    match condition {
        Condition::Ready | Condition::HalfMade => Removal::Removed,
        Condition::Gone => kept("it takes no space"),
        Condition::Broken => kept(LOST_LINK),
        Condition::Foreign(_) => kept("it is not ours"),
    }
}

fn check_free(place: &Path, wanted: Bytes) -> Result<(), String> {
    match disk::free(place) {
        Ok(free) if free < wanted => Err(format!(
            "too little disk space: {free} free in {}, {wanted} wanted (`ai-sdlc worktrees prune` frees some; \
             `worktree.minFree` says how much is wanted)",
            place.display()
        )),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, place = %place.display(), "what is free is not known");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_said_with_the_place_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_free(dir.path(), Bytes(0)), Ok(()));
        assert_eq!(
            check_free(&dir.path().join("none"), Bytes(u64::MAX)),
            Ok(())
        );
        let reason = check_free(dir.path(), Bytes(u64::MAX)).unwrap_err();
        assert!(reason.starts_with("too little disk space: "), "{reason}");
        let place = format!("free in {}, 16.0 EiB wanted", dir.path().display());
        assert!(reason.contains(&place), "{reason}");
    }
}
