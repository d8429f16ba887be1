//! What is said to an agent.

use std::path::Path;

use crate::agent::{Brief, Earlier};
use crate::git::{self, CommitId, Git, Progress};
use crate::process;
use crate::protocol::Start;
use crate::story::StoryId;

/// What can be said to the agent of a story.
pub(super) struct Words {
    brief: Brief,
    earlier: Option<Earlier>,
}

impl Words {
    /// Looks at what an earlier attempt has left, if there was one. What cannot be seen is not told.
    pub(super) async fn of(
        story: &StoryId,
        start: &Start,
        worktree: &Path,
        ended: Option<String>,
    ) -> Self {
        let earlier = if start.previous_attempt.is_some() {
            let seen = look(start, worktree).await.unwrap_or_default();
            Some(Earlier {
                ended,
                commits: seen.commits,
                state: seen.changes,
                diff: seen.diff,
            })
        } else {
            None
        };
        Self {
            brief: Brief {
                story: story.to_string(),
                title: start.title.clone(),
                text: start.story_text.clone(),
                branch: start.branch.clone(),
                fenced: start.fence.is_some() && process::can_fence().is_ok(),
            },
            earlier,
        }
    }

    /// What begins a conversation.
    pub(super) fn first(&self) -> String {
        self.brief.first(self.earlier.as_ref())
    }

    /// What goes on with the conversation of an earlier attempt.
    pub(super) fn resumed(&self) -> String {
        self.brief.resumed(self.earlier.as_ref())
    }

    /// What asks to mend a commit that was refused.
    pub(super) fn commit_refused(&self, reason: &str) -> String {
        self.brief.commit_refused(reason)
    }
}

async fn look(start: &Start, worktree: &Path) -> Option<Progress> {
    let base: CommitId = start.base.parse().ok()?;
    let git = Git::find().ok()?;
    match git::progress(&git, worktree, base).await {
        Ok(progress) => Some(progress),
        Err(error) => {
            tracing::warn!(%error, "the agent is not told what is there");
            None
        }
    }
}
