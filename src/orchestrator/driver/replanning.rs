//! Stories that join a run which waits for them: the board is planned anew whenever it may have changed.

use std::collections::HashSet;
use std::sync::Arc;

use super::Driver;
use crate::engine::Event;
use crate::launcher::Launcher;
use crate::orchestrator::Replan;
use crate::orchestrator::tasks::{Finished, Work};
use crate::watch::{BoardWatcher, Source, WatchSettings};

/// How far the current planning is.
#[derive(Default)]
pub(super) struct Replanning {
    stage: Stage,
    /// Rises with every board entry of ours that is written: a plan over a board that was read before says nothing.
    writes: u64,
    /// Remarks that were made already.
    remarked: HashSet<String>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// The board is being read; this many entries had been written when that began.
    UnderWay(u64),
    /// It is to be read again when that is through.
    Again,
}

impl<L: Launcher> Driver<L> {
    /// What tells of changes of the board, when further stories may join.
    pub(in crate::orchestrator) fn watcher(&mut self) -> Option<BoardWatcher> {
        let watch = self.request.watch.as_ref()?;
        let settings = WatchSettings {
            settle: watch.settle,
            poll: watch.poll,
        };
        let watcher = BoardWatcher::new(&watch.stories, settings);
        if let Source::Polling { .. } = watcher.source() {
            let source = watcher.source().to_string();
            self.narrator
                .warn(format!("changes of the board are found by {source}"));
        }
        Some(watcher)
    }

    /// The board may have changed.
    pub(in crate::orchestrator) fn replan(&mut self) {
        let Some(watch) = &self.request.watch else {
            return;
        };
        if self.replanning.stage != Stage::Idle {
            self.replanning.stage = Stage::Again;
            return;
        }
        self.replanning.stage = Stage::UnderWay(self.replanning.writes);
        let plan = Arc::clone(&watch.replan);
        let under_way = self.engine.under_way();
        self.tasks.spawn(Work::Replan, async move {
            let planning = tokio::task::spawn_blocking(move || plan(under_way));
            Finished::Replanned(
                planning
                    .await
                    .unwrap_or_else(|error| Err(error.to_string())),
            )
        });
    }

    /// An entry of ours was written.
    pub(super) fn note_write(&mut self) {
        self.replanning.writes += 1;
    }

    pub(super) fn replanned(&mut self, planned: Result<Replan, String>) {
        let current = Stage::UnderWay(self.replanning.writes);
        let outdated = self.tasks.is_writing() || self.replanning.stage != current;
        self.replanning.stage = Stage::Idle;
        if outdated {
            return self.replan();
        }
        let planned = match planned {
            Ok(planned) => planned,
            Err(reason) => return self.remark(format!("the board cannot be read: {reason}")),
        };
        for remark in planned.remarks {
            self.remark(remark);
        }
        // What is being worked on is known as it was before. What is not on the board any more may still be told of.
        let in_hand = self.engine.in_hand();
        let mut stories = planned.stories;
        stories.retain(|id, _| !in_hand.contains(id));
        self.request.stories.extend(stories);
        self.request.agents.extend(planned.agents);
        // Also when it says the same as before: what that means depends on what has ended since.
        self.feed(Event::Replanned(planned.plan));
    }

    /// Says something once.
    fn remark(&mut self, remark: String) {
        if self.replanning.remarked.insert(remark.clone()) {
            self.narrator.warn(remark);
        }
    }
}
