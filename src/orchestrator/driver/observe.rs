//! Looks at what is outside of executors: the files that they change, the branches that are finished, and what the
//! person answers.

use std::io::{BufRead as _, Read as _};

use super::Driver;
use crate::engine::{Comparison, Decision, Event, Unit};
use crate::launcher::Launcher;
use crate::orchestrator::finished::Branch;
use crate::orchestrator::tasks::{Finished, Work};
use crate::report::chain;
use crate::report::event::RunEvent;
use crate::story::StoryId;

/// The longest answer of a person that is read, in bytes.
const LONGEST_ANSWER: u64 = 1000;

impl<L: Launcher> Driver<L> {
    /// Finds out which files an attempt has changed so far.
    pub(super) fn look_at_files(&mut self, unit: Unit) {
        let prepared = self
            .attempts
            .get(&unit)
            .and_then(|attempt| attempt.prepared.as_ref());
        let Some(prepared) = prepared else {
            return self.feed(Event::Touched(unit, Vec::new()));
        };
        let (path, base) = (prepared.path.clone(), prepared.base);
        let repository = self.request.workspaces.repository.clone();
        let board = self.request.board_folder.clone();
        self.tasks.spawn(Work::LookAtFiles(unit), async move {
            let looking = tokio::task::spawn_blocking(move || {
                repository
                    .changed_in_worktree(&path, base, board.as_deref())
                    .map_err(|error| chain(&error))
            });
            Finished::LookedAt(looking.await.unwrap_or_else(|error| Err(error.to_string())))
        });
    }

    /// Compares the branch of a story that succeeded with those that were finished before it.
    pub(super) fn compare(&mut self, story: StoryId) {
        let repository = self.request.workspaces.repository.clone();
        let Some(branch) = self.finished_branch(&story) else {
            let nothing = Comparison::Compared(Vec::new());
            return self.feed(Event::Compared(story, nothing));
        };
        let comparing = self.finished.add(repository, branch);
        self.tasks.spawn(Work::Compare(story), async move {
            let compared = tokio::task::spawn_blocking(comparing).await;
            Finished::Compared(compared.unwrap_or_else(|error| Err(error.to_string())))
        });
    }

    fn finished_branch(&self, story: &StoryId) -> Option<Branch> {
        let settled = self.branches.get(story)?;
        let repository = &self.request.workspaces.repository;
        let tip = repository.branch_tip(&settled.name).ok()??;
        Some(Branch {
            story: story.clone(),
            base: settled.base,
            tip,
        })
    }

    /// Asks the person at the terminal whether to go on. No answer, and any answer but yes, is no.
    pub(super) fn ask_to_go_on(&mut self, story: StoryId) {
        self.narrator.tell(&RunEvent::Asking { story });
        self.tasks.spawn(Work::Ask, async {
            let answer = tokio::task::spawn_blocking(|| {
                let mut line = Vec::new();
                let mut input = std::io::stdin().lock().take(LONGEST_ANSWER);
                let read = input.read_until(b'\n', &mut line);
                let line = String::from_utf8_lossy(&line).trim().to_ascii_lowercase();
                read.is_ok() && (line == "y" || line == "yes")
            });
            Finished::Decided(match answer.await {
                Ok(true) => Decision::GoOn,
                Ok(false) | Err(_) => Decision::StopHere,
            })
        });
    }
}
