//! The group of processes of a run, with one below it for each attempt, where the system lets it have any.
//!
//! Made with the first attempt and noted in a file then, so that a later run finds what this one leaves if nobody gets to
//! end it. Removed with the launcher. Where there are no groups everything else goes on as if there were no such thing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::engine::{RunId, Unit};
use crate::process::{Leaf, LeafEnd, RunGroup};

/// The groups of a run.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    note: PathBuf,
    group: OnceLock<Option<RunGroup>>,
    /// A process could not be moved, so that none is tried any more.
    useless: AtomicBool,
    closed: AtomicBool,
}

impl Groups {
    /// None yet; the group of the run will be noted in that file.
    pub(super) fn noted_in(note: PathBuf) -> Self {
        let shared = Shared {
            note,
            group: OnceLock::new(),
            useless: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A group for an attempt. Blocks.
    pub(super) fn leaf(&self, run: &RunId, unit: &Unit) -> Option<Leaf> {
        if self.shared.useless.load(Ordering::Relaxed) {
            return None;
        }
        let group = self.shared.group.get_or_init(|| self.make(run)).as_ref()?;
        group.leaf(unit.story.as_str(), unit.attempt.get())
    }

    fn make(&self, run: &RunId) -> Option<RunGroup> {
        let group = RunGroup::make(run.as_str())?;
        let path = group.path().to_str().map(|path| format!("{path}\n"));
        let noted = path.map(|path| std::fs::write(&self.shared.note, path));
        if matches!(noted, Some(Ok(()))) {
            return Some(group);
        }
        // What nobody could find later would only be left behind.
        tracing::debug!(?noted, "the group of the run cannot be noted");
        group.remove();
        None
    }

    /// Puts an executor that has just been started into its group. The caller holds it unreaped. Blocks.
    pub(super) fn join(&self, leaf: Leaf, pid: u32) -> Option<Leaf> {
        if leaf.join(pid) {
            return Some(leaf);
        }
        self.shared.useless.store(true, Ordering::Relaxed);
        leaf.remove();
        None
    }

    /// Ends what is left in the group of an attempt whose executor has ended.
    pub(super) async fn end(
        &self,
        leaf: Arc<Leaf>,
        keep: &Arc<[String]>,
        within: Duration,
    ) -> LeafEnd {
        // Told without a lock of the system; most have nobody left.
        if !leaf.is_populated() {
            return LeafEnd::default();
        }
        let keep = Arc::clone(keep);
        let ending = tokio::task::spawn_blocking(move || leaf.end(&keep, within));
        ending.await.unwrap_or_else(|error| {
            tracing::error!(%error, "nobody ended what was left in a group");
            LeafEnd::default()
        })
    }

    /// Removes the group of an attempt, when nobody is in it. Not waited for: it may wait for others that are moved.
    pub(super) fn remove(&self, leaf: Arc<Leaf>) {
        let groups = self.clone();
        tokio::task::spawn_blocking(move || {
            leaf.remove();
            if groups.shared.closed.load(Ordering::SeqCst) {
                groups.remove_all();
            }
        });
    }

    /// Removes everything that nobody is in; from here on, also what becomes empty later. Blocks.
    pub(super) fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.remove_all();
    }

    fn remove_all(&self) {
        let Some(Some(group)) = self.shared.group.get() else {
            return;
        };
        if group.remove()
            && let Err(error) = std::fs::remove_file(&self.shared.note)
        {
            tracing::debug!(%error, "the note of the group stays");
        }
    }
}
