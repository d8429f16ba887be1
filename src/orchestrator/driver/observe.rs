//! Looks at what is outside of executors: the files that they change, the branches that are finished, and what the
//! person answers.

use super::Driver;
use crate::engine::{Comparison, Decision, Event, Unit};
use crate::launcher::Launcher;
use crate::orchestrator::finished::Branch;
use crate::orchestrator::tasks::{Finished, Work};
use crate::report::event::RunEvent;
use crate::report::{self, Answer, chain};
use crate::story::StoryId;

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
        let repository = self.request.workspaces.ground.repository.clone();
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
        let repository = self.request.workspaces.ground.repository.clone();
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

    pub(super) fn finished_branch(&self, story: &StoryId) -> Option<Branch> {
        let settled = self.branches.get(story)?;
        let repository = &self.request.workspaces.ground.repository;
        let tip = repository.branch_tip(&settled.name).ok()??;
        Some(Branch {
            story: story.clone(),
            base: settled.base,
            tip,
        })
    }

    /// Asks the person at the terminal whether to go on. No answer, and any answer but yes, is no.
    pub(super) fn ask_to_go_on(&mut self, story: StoryId) {
        if !report::is_interactive() {
            // It was when the run began; by now it is in the background.
            self.narrator.warn(
                "nobody can be asked whether to go on: the run is in the background".to_owned(),
            );
            return self.feed(Event::Decided(Decision::StopHere));
        }
        report::forget_what_was_typed();
        self.narrator.tell(&RunEvent::Asking { story });
        self.tasks.spawn(Work::Ask, async {
            let answer = tokio::task::spawn_blocking(report::read_answer).await;
            Finished::Answered(answer.unwrap_or(Answer::Nothing))
        });
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        let (decision, go_on) = match answer {
            Answer::Yes => (Decision::GoOn, true),
            Answer::No | Answer::Nothing => (Decision::StopHere, false),
        };
        let typed = answer != Answer::Nothing;
        self.narrator.tell(&RunEvent::Answered { go_on, typed });
        self.feed(Event::Decided(decision));
    }
}
