//! What is said of a run that has nothing to do, and of the stories that no run takes by itself.

use crate::config::Project;
use crate::engine::RunId;
use crate::orchestrator::Base;
use crate::report::event::{Counts, Usage};
use crate::report::{self, Reporter, RunEvent, Stamp, plural};
use crate::story::{Board, Status, StoryId};

/// The stories of a board that a run does not take by itself.
pub(super) struct Waiting {
    backlog: usize,
    blocked: usize,
    /// Those in progress that nobody works on.
    pub(super) interrupted: Vec<StoryId>,
}

impl Waiting {
    /// No other run has the board: what is in progress is so since a run was killed.
    pub(super) fn of(board: &Board) -> Self {
        let with = |status| {
            board
                .stories
                .iter()
                .filter(move |story| story.status == status)
        };
        Self {
            backlog: with(Status::Backlog).count(),
            blocked: with(Status::Blocked).count(),
            interrupted: with(Status::InProgress)
                .map(|story| story.id.clone())
                .collect(),
        }
    }

    /// Tells of stories in progress, and how they are gone on with.
    pub(super) fn hint_at_interrupted(&self) {
        if self.interrupted.is_empty() {
            return;
        }
        let ids: Vec<&str> = self.interrupted.iter().map(StoryId::as_str).collect();
        let count = plural(ids.len(), "story is", "stories are");
        let ids = ids.join(", ");
        report::warning(&format!(
            "{count} in progress from a run that was interrupted: {ids}"
        ));
        report::hint("`ai-sdlc run --continue` goes on with them, in their worktrees");
    }

    /// Why there is nothing to do, and how that can be changed.
    pub(super) fn explain(&self) {
        report::note("Finished", "no story is ready");
        if self.backlog > 0 {
            let count = plural(self.backlog, "story", "stories");
            report::hint(&format!(
                "{count} in the backlog: `status: ready` lets agents work on one"
            ));
        }
        if self.blocked > 0 {
            let count = plural(self.blocked, "story", "stories");
            report::hint(&format!(
                "{count} blocked: `ai-sdlc run --story ID` tries one again"
            ));
        }
    }
}

/// For programs, a run that has nothing to do begins and ends as any other.
pub(super) fn tell_nothing(
    run: &RunId,
    project: &Project,
    base: &Base,
    exit_code: u8,
    mut reporters: Vec<Box<dyn Reporter>>,
) {
    let events = [
        RunEvent::RunStarted {
            stories: Vec::new(),
            concurrent: 0,
            base_branch: base.name().map(str::to_owned),
            base_commit: base.start().to_string(),
            folder: project.runs(),
        },
        RunEvent::RunFinished {
            usage: Usage::default(),
            counts: Counts::default(),
            conflicts: Vec::new(),
            duration_ms: 0,
            exit_code,
        },
    ];
    for reporter in &mut reporters {
        for (sequence, event) in (1..).zip(&events) {
            reporter.show(run, &Stamp::now(sequence), event);
        }
    }
}
