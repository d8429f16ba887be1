//! The tasks of a run: whatever takes time, each with a name, so that one that breaks is not lost.

use std::collections::HashMap;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::Replan;
use super::assigned::Assigned;
use super::ground::Unprepared;
use super::workspace::Settled;
use crate::engine::{Comparison, Unit};
use crate::git::Prepared;
use crate::report::Answer;
use crate::story::StoryId;

/// What a task is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Prepare(Unit),
    Attend(Unit),
    Settle(Unit),
    /// Board entries of these stories, one each.
    Write(Vec<StoryId>),
    LookAtFiles(Unit),
    Compare(StoryId),
    Ask,
    Replan,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Finished {
    Prepared(Result<Box<(Prepared, Assigned)>, Unprepared>),
    /// The executor has been attended to its end; it told of it itself.
    Attended,
    NotLaunched(String),
    Settled(Settled),
    /// What came of each board entry, in the order of the stories.
    Written(Vec<Result<(), String>>),
    LookedAt(Result<Vec<String>, String>),
    Compared(Result<Comparison, String>),
    Answered(Answer),
    Replanned(Result<Replan, String>),
    /// The task was aborted, or a fault of ours ended it.
    Broke(String),
}

/// The tasks that are under way. Dropping them aborts them.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: JoinSet<Finished>,
    names: HashMap<Id, Work>,
    handles: HashMap<Work, AbortHandle>,
}

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        work: Work,
        task: impl Future<Output = Finished> + Send + 'static,
    ) {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), work.clone());
        self.handles.insert(work, handle);
    }

    /// Aborts a task if it is still under way; it then ends as [`Finished::Broke`].
    pub(super) fn abort(&self, work: &Work) {
        if let Some(handle) = self.handles.get(work) {
            handle.abort();
        }
    }

    /// Whether board entries are being written.
    pub(super) fn is_writing(&self) -> bool {
        self.handles
            .keys()
            .any(|work| matches!(work, Work::Write(_)))
    }

    /// The next task that ends; none when there are none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(Work, Finished)> {
        loop {
            let (id, finished) = match self.set.join_next_with_id().await? {
                Ok((id, finished)) => (id, finished),
                Err(error) if error.is_cancelled() => {
                    (error.id(), Finished::Broke("given up".to_owned()))
                }
                Err(error) => {
                    tracing::error!(%error, "a task broke");
                    (
                        error.id(),
                        Finished::Broke(format!("internal error: {error}")),
                    )
                }
            };
            if let Some(work) = self.names.remove(&id) {
                self.handles.remove(&work);
                return Some((work, finished));
            }
        }
    }
}
