//! What is done for a story that was interrupted by the death of its orchestrator, before its next attempt is prepared.

use super::ground::{Ground, Unprepared};
use crate::engine::Unit;
use crate::engine::recovery::{
    Attempt, Conversation, Found, Left, Processes, Stood, Worktree, decide,
};
use crate::git::WorktreeRequest;
use crate::report::chain;

/// A story as a restart has found it.
#[derive(Debug, Clone)]
pub(super) struct Interrupted {
    pub(super) stood: Stood,
    /// The attempt that was lost.
    pub(super) lost: Option<Unit>,
}

impl Ground {
    /// Looks at what there is of a story and saves what is nowhere else. Whether it may be worked on.
    pub(super) async fn recover(
        &self,
        request: &WorktreeRequest,
        interrupted: &Interrupted,
    ) -> Result<(), Unprepared> {
        let (tree, branch) = match self.worktrees.look(request).await {
            Ok(found) => found,
            Err(error) if error.is_in_the_way() => {
                return Err(Unprepared::NeedsPerson(chain(&error)));
            }
            Err(error) => return Err(Unprepared::Failed(chain(&error))),
        };
        let recovery = decide(Found {
            stood: interrupted.stood,
            // A run does not begin while something is left that cannot be ended.
            processes: Processes::Gone,
            tree,
            branch,
            conversation: Conversation::Unknown,
            // What has nothing left is not prepared.
            left: Left::Something,
        });
        tracing::info!(story = %request.id, ?interrupted, ?tree, ?branch, ?recovery, "recovered");
        if recovery.attempt == Attempt::AskPerson {
            let reason = "something else is in the place of its worktree".to_owned();
            return Err(Unprepared::NeedsPerson(reason));
        }
        if recovery.worktree == Worktree::Save
            && let Some(lost) = &interrupted.lost
        {
            let path = self.worktrees.path_of(&request.id, &request.slug);
            let why = "the orchestrator was killed";
            let saved = self
                .worktrees
                .salvage(&path, &lost.story, lost.attempt, why);
            if let Err(error) = saved.await {
                // It is still where it was, and the next attempt goes on with it.
                tracing::warn!(error = chain(&error), story = %request.id, "not saved");
            }
        }
        Ok(())
    }
}
