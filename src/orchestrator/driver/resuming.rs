//! How the driver goes on with a run whose orchestrator was killed: it gets back what the journal has noted, and tells
//! what it found.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::{Attempt, Driver, SettledBranch};
use crate::engine::{Event, OnBoard, Order, Restart, Standing, StoryView};
use crate::git::{BRANCH_PREFIX, Prepared};
use crate::launcher::Launcher;
use crate::orchestrator::Continued;
use crate::orchestrator::clock::RunClock;
use crate::orchestrator::narrator::change_of;
use crate::orchestrator::past::Notes;
use crate::report::event::{KeptWorktree, RunEvent, StorySettled, Usage};
use crate::story::{Status, StoryId};

impl<L: Launcher> Driver<L> {
    /// Goes on with a run.
    pub(in crate::orchestrator) fn go_on(&mut self, continued: Continued) {
        let Continued { past, restart } = continued;
        self.clock = RunClock::go_on(
            past.last,
            tokio::time::Instant::now(),
            &self.request.settings.housekeeping,
        );
        self.engine = past.engine;
        let event = RunEvent::RunContinued {
            through: self.earlier_ends(&past.notes),
            interrupted: self.being_worked_on(),
        };
        self.narrator.tell(&event);
        self.restore(past.notes);
        let under_way = self.engine.under_way().into_iter();
        self.stood = under_way
            .filter_map(|story| Some((story.clone(), self.engine.stood(&story)?)))
            .collect();
        let found = self.found_on_board();
        // A clock that was set back says nothing.
        let away = SystemTime::now().duration_since(past.last_written);
        let away = away.unwrap_or_default();
        self.tell_day(self.request.used_today);
        self.feed(Event::Resumed(Restart {
            found,
            away,
            ..restart
        }));
    }

    /// What the board says of stories that are not through, where that is not what the run has left there.
    fn found_on_board(&self) -> Vec<(StoryId, OnBoard)> {
        let owed: HashSet<StoryId> = self
            .engine
            .owed_entries()
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        let (begun, open) = (self.engine.in_hand(), self.engine.under_way());
        // Who names stories means them whatever they are.
        let takes_ready =
            self.request.settings.order == Order::AnyReady && self.request.plan.len() > 1;
        let found = open.into_iter().filter_map(|id| {
            let status = self.request.stories.get(&id)?.status;
            // What was to be written when the kill came may not be there yet.
            let ours = begun.contains(&id) && !owed.contains(&id);
            let on_board = match status {
                Status::Done => OnBoard::Done,
                Status::Blocked if ours || takes_ready => OnBoard::NotWanted,
                Status::Backlog if ours => OnBoard::NotWanted,
                _ => return None,
            };
            Some((id, on_board))
        });
        found.collect()
    }

    /// What a story had used, as far as the journal has it: what was sent is not told apart from what was written, and
    /// what came from a cache is not in it.
    fn used_before(&self, story: &StoryView) -> Usage {
        let used = story.usage;
        Usage {
            input_tokens: used.tokens,
            cost_micros_usd: used.cost_micros_usd,
            // Whose word it was is not in the journal.
            cost_is_computed: used.cost_micros_usd > 0 && !self.request.prices.is_empty(),
            turns: u32::try_from(used.turns).unwrap_or(u32::MAX),
            ..Usage::default()
        }
    }

    /// How the stories ended that were through before, as they are told and counted once more, and what all have used.
    fn earlier_ends(&mut self, notes: &Notes) -> Vec<StorySettled> {
        let mut ends = Vec::new();
        for story in self.engine.view().stories {
            let usage = self.used_before(&story);
            self.narrator.had_used(&story.id, usage);
            let Standing::Ended(outcome) = &story.standing else {
                continue;
            };
            self.narrator.count(outcome.kind());
            let units = notes.worktrees.keys();
            let last = units.filter(|unit| unit.story == story.id).max();
            let branch = last.and_then(|unit| notes.worktrees.get(unit));
            let branch = branch.map(|noted| noted.branch.clone());
            let known = self.request.stories.get(&story.id);
            let path = branch.as_deref().map(|branch| self.path_of(branch));
            let log = last.map(|unit| self.request.folder.log(unit));
            ends.push(StorySettled {
                title: known.map_or_else(String::new, |story| story.title.clone()),
                attempt: last.map(|unit| unit.attempt),
                outcome: outcome.name(),
                reason: outcome.reason(),
                duration_ms: None,
                change: last
                    .and_then(|unit| notes.evidence.get(unit))
                    .and_then(|evidence| change_of(evidence.change)),
                kept_worktree: path.filter(|path| path.exists()).map(|path| KeptWorktree {
                    path,
                    reason: None,
                    salvage: None,
                }),
                log: log.filter(|log| log.exists()),
                log_tail: Vec::new(),
                usage,
                branch,
                story: story.id,
            });
        }
        ends
    }

    /// Where the worktree with a branch of ours lies.
    fn path_of(&self, branch: &str) -> PathBuf {
        let name = branch.strip_prefix(BRANCH_PREFIX).unwrap_or(branch);
        let worktrees = &self.request.workspaces.ground.worktrees;
        worktrees.base().join(name)
    }

    fn being_worked_on(&self) -> Vec<StoryId> {
        let attempts = self.engine.attempts();
        attempts.into_iter().map(|unit| unit.story).collect()
    }

    fn restore(&mut self, mut notes: Notes) {
        // Those that were being settled are settled once more. Of those that are lost it is told where they worked when
        // no other one follows.
        for unit in self.engine.attempts() {
            let Some(noted) = notes.worktrees.remove(&unit) else {
                continue;
            };
            let prepared = Prepared {
                path: self.path_of(&noted.branch),
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
        let repository = self.request.workspaces.ground.repository.clone();
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
