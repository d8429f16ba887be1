//! What comes of the tasks of a run, as events.

use std::sync::Arc;

use super::{Driver, Settling};
use crate::engine::{BoardWrite, Comparison, Event, Exit, FilePattern, Settlement};
use crate::git::CommitId;
use crate::launcher::Launcher;
use crate::orchestrator::ground::Unprepared;
use crate::orchestrator::note::Note;
use crate::orchestrator::tasks::{Finished, Work};
use crate::report::{Answer, RunEvent};
use crate::story::StoryId;

impl<L: Launcher> Driver<L> {
    /// A task has ended.
    pub(in crate::orchestrator) fn finish(&mut self, (work, finished): (Work, Finished)) {
        for remark in self.request.workspaces.ground.room.ledger.take_remarks() {
            self.narrator.warn(remark);
        }
        match (work, finished) {
            (Work::Prepare(unit), Finished::Prepared(Ok(ready))) => {
                let (prepared, assigned) = *ready;
                self.narrator.prepared(&unit, &prepared);
                self.note(Note::Worktree {
                    unit: unit.clone(),
                    branch: prepared.branch.clone(),
                    base: prepared.base.to_string(),
                    origin: prepared.origin,
                });
                let stories = &mut self.request.stories;
                stories.insert(unit.story.clone(), Arc::clone(&assigned.story));
                if let Some(attempt) = self.attempts.get_mut(&unit) {
                    attempt.prepared = Some(prepared);
                    attempt.assigned = Some(assigned);
                }
                self.feed(Event::Prepared(unit));
            }
            (
                Work::Prepare(unit),
                Finished::Prepared(Err(Unprepared::Failed(reason))) | Finished::Broke(reason),
            ) => {
                self.feed(Event::PrepareFailed(unit, reason));
            }
            (Work::Prepare(unit), Finished::Prepared(Err(Unprepared::NeedsPerson(reason)))) => {
                self.feed(Event::PrepareBlocked(unit, reason));
            }
            (Work::Attend(unit), Finished::NotLaunched(reason)) => {
                self.feed(Event::LaunchFailed(unit, reason));
            }
            // Its executor has lost its connection by that, and ends.
            (Work::Attend(unit), Finished::Broke(_)) => {
                self.feed(Event::Exited(unit, Exit::Unknown));
            }
            (Work::Settle(unit), Finished::Settled(settled)) => {
                if let Some(attempt) = self.attempts.get_mut(&unit) {
                    attempt.settled = Settling::Done;
                }
                self.note_tip(&unit.story, settled.head);
                self.narrator.kept(&unit, settled.kept);
                for remark in settled.remarks {
                    self.narrator.warn(format!("{}: {remark}", unit.story));
                }
                self.feed(Event::Settled(unit, settled.settlement));
            }
            (Work::Settle(unit), Finished::Broke(reason)) => {
                self.feed(Event::Settled(unit, Settlement::Refuted(reason)));
            }
            (Work::Write(stories), Finished::Written(results)) => {
                self.written(stories.into_iter().zip(results));
            }
            (Work::Write(stories), Finished::Broke(reason)) => {
                let broke = stories
                    .into_iter()
                    .map(|story| (story, Err(reason.clone())));
                self.written(broke);
            }
            (Work::LookAtFiles(unit), Finished::LookedAt(Ok(files))) => {
                let files = files.iter().map(|file| FilePattern::literal(file));
                self.feed(Event::Touched(unit, files.collect()));
            }
            (
                Work::LookAtFiles(unit),
                Finished::LookedAt(Err(reason)) | Finished::Broke(reason),
            ) => {
                tracing::debug!(reason, ?unit, "its files cannot be looked at");
                self.feed(Event::Touched(unit, Vec::new()));
            }
            (Work::Compare(story), Finished::Compared(Ok(comparison))) => {
                let goes_with_all = comparison == Comparison::Compared(Vec::new());
                self.feed(Event::Compared(story.clone(), comparison));
                if !goes_with_all {
                    self.tell_in_turn(RunEvent::BranchCompared { story });
                }
            }
            (Work::Compare(story), Finished::Compared(Err(reason)) | Finished::Broke(reason)) => {
                self.narrator.warn(format!(
                    "whether {story} goes with the other branches is not known: {reason}"
                ));
                self.feed(Event::Compared(story, Comparison::Failed));
            }
            (Work::Replan, Finished::Replanned(planned)) => self.replanned(planned),
            (Work::Replan, Finished::Broke(reason)) => self.replanned(Err(reason)),
            (Work::Ask, Finished::Answered(answer)) => self.answered(answer),
            (Work::Ask, _) => self.answered(Answer::Nothing),
            (work, finished) => tracing::debug!(?work, ?finished, "nothing to do"),
        }
    }

    /// A success is proved by the commit at which its work ends.
    pub(super) fn note_tip(&mut self, story: &StoryId, head: Option<CommitId>) {
        let base = self.branches.get(story).map(|branch| branch.base);
        match head {
            Some(head) if base == Some(head) => drop(self.tips.remove(story)),
            Some(head) => drop(self.tips.insert(story.clone(), head)),
            None => {}
        }
    }

    fn written(&mut self, entries: impl Iterator<Item = (StoryId, Result<(), String>)>) {
        self.note_write();
        self.write_next_entries();
        for (story, written) in entries {
            let write = match written {
                Ok(()) => BoardWrite::Written,
                Err(reason) => {
                    self.narrator
                        .warn(format!("the board does not say how {story} is: {reason}"));
                    BoardWrite::Failed
                }
            };
            self.feed(Event::BoardWritten(story, write));
        }
    }
}
