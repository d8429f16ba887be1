//! What an attempt is to do: what the file of its story says when the attempt begins.

use std::sync::Arc;

use crate::story::{Store, Story};

/// What an attempt is to do.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    /// What the file says, but for what the run goes by: its name, its place, and what it was before the run.
    pub(super) story: Arc<Story>,
    /// The agent that does it.
    pub(super) agent: String,
}

impl Assigned {
    /// Reads the file of a story anew. Blocks.
    pub(super) fn read(
        store: &Store,
        planned: &Story,
        default_agent: &str,
    ) -> Result<Self, String> {
        let read = store.read(&planned.path);
        let mut story = read.map_err(|problem| format!("its file cannot be used: {problem}"))?;
        if !story.id.same_as(planned.id.as_str()) {
            let path = planned.path.display();
            return Err(format!("{path} is the file of {} now", story.id));
        }
        story.id.clone_from(&planned.id);
        // The worktree and the branch of an earlier attempt are found by it.
        story.slug.clone_from(&planned.slug);
        // Whether these are done was the reason to start.
        story.dependencies.clone_from(&planned.dependencies);
        story.branch.clone_from(&planned.branch);
        // The file says by now that it is in progress.
        story.status = planned.status;
        let agent = story.agent.as_deref().unwrap_or(default_agent).to_owned();
        Ok(Self {
            story: Arc::new(story),
            agent,
        })
    }
}
