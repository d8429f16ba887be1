//! How the driver goes on with a run whose orchestrator was killed: it gets back what the journal has noted, and tells
//! what it found.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use super::{Attempt, Driver, SettledBranch};
use crate::engine::{Event, Standing};
use crate::git::{BRANCH_PREFIX, Prepared};
use crate::launcher::Launcher;
use crate::orchestrator::clock::RunClock;
use crate::orchestrator::past::{Notes, Past};
use crate::report::event::RunEvent;
use crate::story::StoryId;

impl<L: Launcher> Driver<L> {
    /// Takes over the state of a run. Nothing is done before [`Self::resume`].
    pub(in crate::orchestrator) fn take_over(&mut self, past: Past) {
        self.clock = RunClock::go_on(
            past.last,
            tokio::time::Instant::now(),
            &self.request.settings.housekeeping,
        );
        self.engine = past.engine;
        self.restore(past.notes);
    }

    /// Goes on with the run that was taken over, with that many slots if they are not to be as before.
    pub(in crate::orchestrator) fn resume(&mut self, slots: Option<NonZeroUsize>) {
        let view = self.engine.view();
        let ended = |standing: &Standing| matches!(standing, Standing::Ended(_));
        let through = view.stories.iter().filter(|story| ended(&story.standing));
        let event = RunEvent::RunContinued {
            through: through.count(),
            interrupted: self.interrupted(),
        };
        self.narrator.tell(&event);
        for story in &view.stories {
            if let Standing::Ended(outcome) = &story.standing {
                self.narrator.count(outcome.kind());
            }
        }
        if let Some(slots) = slots {
            self.feed(Event::SlotsSet(slots));
        }
        // The kill may have come before the first event.
        let event = if self.engine.has_begun() {
            Event::Resumed
        } else {
            Event::Began
        };
        self.feed(event);
    }

    fn interrupted(&self) -> Vec<StoryId> {
        let attempts = self.engine.attempts();
        attempts.into_iter().map(|unit| unit.story).collect()
    }

    fn restore(&mut self, mut notes: Notes) {
        // Only the ends of attempts are taken care of once more; those that ran are lost, and others follow.
        for unit in self.engine.attempts() {
            let Some(noted) = notes.worktrees.remove(&unit) else {
                continue;
            };
            let name = noted.branch.strip_prefix(BRANCH_PREFIX);
            let prepared = Prepared {
                path: self
                    .request
                    .workspaces
                    .worktrees
                    .base()
                    .join(name.unwrap_or(&noted.branch)),
                branch: noted.branch,
                base: noted.base,
                origin: noted.origin,
            };
            let attempt = Attempt {
                starts_from: Arc::new(OnceLock::from(prepared.base)),
                prepared: Some(prepared),
                evidence: notes.evidence.remove(&unit),
                ..Attempt::default()
            };
            self.attempts.insert(unit, attempt);
        }
        for (story, noted) in notes.branches {
            let branch = SettledBranch {
                name: noted.branch,
                base: noted.base,
            };
            self.branches.insert(story, branch);
        }
        let repository = self.request.workspaces.repository.clone();
        for story in self.engine.view().stories {
            let succeeded = |standing: &Standing| matches!(standing, Standing::Ended(outcome) if outcome.is_success());
            if succeeded(&story.standing)
                && let Some(branch) = self.finished_branch(&story.id)
            {
                self.note_tip(&story.id, Some(branch.tip));
                // Those that come later are compared with it; what it was compared with itself is known.
                drop(self.finished.add(repository.clone(), branch));
            }
        }
    }
}
