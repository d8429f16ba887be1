//! Effects wait until the journal has the event that they come from, so that nothing is done of which a restart would
//! not know; and what the board is told waits until the disk has it.
//!
//! They are performed in their order. A disk that hangs holds them up for a moment and no longer: a run that cannot write
//! is still a run that can be stopped.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::Driver;
use crate::engine::{Effect, Event};
use crate::journal::Durability;
use crate::launcher::Launcher;
use crate::report::RunEvent;

/// What waits for the journal.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// In their order, with the number of their record.
    steps: VecDeque<(u64, Step)>,
    /// Since when the journal has not moved while something waited for it.
    since: Option<Instant>,
    waiting: Waiting,
    turn: Turn,
}

/// Something to do in its turn.
#[derive(Debug)]
enum Step {
    Perform(Effect),
    Tell(RunEvent),
}

/// Whether the journal is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Waiting {
    #[default]
    ForJournal,
    /// It hangs: not until it has caught up.
    ForNothing,
}

/// Whether effects are being performed: one that leads to an event at once is finished first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    #[default]
    Free,
    Taken,
}

impl<L: Launcher> Driver<L> {
    /// Takes effects, which are performed once the journal has their record.
    pub(super) fn hold(&mut self, record: u64, effects: Vec<Effect>) {
        let steps = effects.into_iter().map(Step::Perform);
        self.held.steps.extend(steps.map(|step| (record, step)));
        self.release();
    }

    /// Tells something once everything is done that was decided so far.
    pub(super) fn tell_in_turn(&mut self, event: RunEvent) {
        let last = self.journal.last();
        self.held.steps.push_back((last, Step::Tell(event)));
        self.release();
    }

    /// The journal has moved.
    pub(in crate::orchestrator) fn journal_moved(&mut self) {
        self.held.since = None;
        if self.journal.has_all() {
            self.held.waiting = Waiting::ForJournal;
        }
        let lost = self.journal.lost();
        if let Some(reason) = lost {
            self.narrator.warn(format!(
                "the journal of this run cannot be written, so that nothing more is started: {reason} (make room, then \
                 `ai-sdlc run --continue` goes on)"
            ));
            self.feed(Event::JournalLost);
        }
        self.release();
        self.write_next_entries();
    }

    /// When the journal has been waited for long enough.
    pub(in crate::orchestrator) fn patience_ends(&self) -> Option<Instant> {
        let since = self.held.since?;
        let housekeeping = &self.request.settings.housekeeping;
        let patience = if self.engine.is_stopping() {
            housekeeping.journal
        } else {
            housekeeping.busy_disk
        };
        Some(since + patience)
    }

    /// The journal has been waited for long enough.
    pub(in crate::orchestrator) fn lose_patience(&mut self) {
        self.held.since = None;
        self.held.waiting = Waiting::ForNothing;
        self.narrator.warn(
            "the disk of the journal hangs; the run goes on without waiting for it".to_owned(),
        );
        self.release();
        self.write_next_entries();
    }

    /// Whether nothing is left to be done.
    pub(in crate::orchestrator) fn is_through(&self) -> bool {
        self.engine.is_finished() && self.held.steps.is_empty()
    }

    /// Whether a record is as safe as it has to be.
    pub(super) fn is_safe(&self, record: u64, durability: Durability) -> bool {
        self.held.waiting == Waiting::ForNothing || self.journal.has(record, durability)
    }

    fn release(&mut self) {
        if self.held.turn == Turn::Taken {
            return;
        }
        self.held.turn = Turn::Taken;
        while let Some((record, _)) = self.held.steps.front()
            && self.is_safe(*record, Durability::Written)
            && let Some((record, step)) = self.held.steps.pop_front()
        {
            match step {
                Step::Perform(effect) => {
                    tracing::debug!(?effect, "effect");
                    #[cfg(feature = "faults")]
                    crate::orchestrator::faults::point("effect", &effect);
                    self.perform(effect, record);
                }
                Step::Tell(event) => self.narrator.tell(&event),
            }
        }
        self.held.turn = Turn::Free;
        let waits = !self.held.steps.is_empty() || !self.entries.is_empty();
        if !waits {
            self.held.since = None;
        } else if self.held.waiting == Waiting::ForJournal {
            self.held.since.get_or_insert_with(Instant::now);
        }
    }
}
