//! Saves what an agent has in its worktree every so often while it works, so that a machine that dies, or an agent that
//! deletes its own work, costs little.
//!
//! Looking is done in this process, and git runs only when something has changed since the last time: the processes
//! below this one are evidence of progress. A look or a salvage that fails is tried again the next time, and ends no
//! attempt.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Identity;
use crate::git::{self, Git, Link, SalvageError, SalvageRequest};

/// At most one part in so many of the time goes into saving, however large the worktree is.
const SHARE: u32 = 10;

/// The checkpoints of an attempt. When it is dropped, there are no more, and one that is under way is given up.
#[derive(Debug)]
pub(super) struct Checkpoints(JoinHandle<()>);

impl Checkpoints {
    /// Begins to save the worktree of an attempt every so often.
    pub(super) fn begin(identity: &Identity, link: &Link, every: Duration) -> Self {
        let request = SalvageRequest {
            story: identity.story.clone(),
            attempt: identity.attempt,
            why: git::CHECKPOINT.to_owned(),
        };
        Self(tokio::spawn(save(link.clone(), request, every)))
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn save(link: Link, request: SalvageRequest, every: Duration) {
    let mut saved = None;
    let mut pause = every;
    let mut complained = false;
    loop {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        if let Err(error) = save_once(&link, &request, &mut saved).await {
            let error = crate::report::chain(&error);
            // What is logged looks like output of the agent, which is evidence of progress: it is said once.
            if complained {
                tracing::debug!(error, "no checkpoint");
            } else {
                tracing::warn!(error, "no checkpoint was made");
            }
            complained = true;
        }
        pause = every.max(began.elapsed().saturating_mul(SHARE));
    }
}

/// Saves what is there, if it is something else than the last time.
async fn save_once(
    link: &Link,
    request: &SalvageRequest,
    saved: &mut Option<u64>,
) -> Result<(), SalvageError> {
    let found = git::unsaved(link).await?;
    if found.is_none() || found == *saved {
        return Ok(());
    }
    let git = Git::find().map_err(|source| SalvageError::Git {
        path: link.worktree().to_owned(),
        source,
    })?;
    // The same that cannot be saved now cannot be saved the next time.
    *saved = found;
    git::checkpoint(&git, link, request).await.map(drop)
}
