//! Who is next: the stories that could start if a slot were free, in the order of the plan.
//!
//! A story whose files overlap with those of a running one is put off while another one can start, but neither for
//! ever nor when nothing else could: it is a preference, and no story is overtaken more often than [`MOST_OVERTAKEN`]
//! times.

use std::collections::{BTreeSet, VecDeque};

use super::providers::Service;
use super::{Engine, Gate, Key, Stage};
use crate::engine::event::Provider;
use crate::engine::fault::{self, Fault};
use crate::engine::settings::Order;

/// How many stories may start in front of one that is put off. Twice the usual number of slots: long enough that the
/// story that is in the way has mostly ended, short enough that nobody wonders where a story stays.
pub const MOST_OVERTAKEN: u64 = 16;

/// The place of a story in the order of the run; smaller is earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place(pub(super) u64);

/// A provider, by its place among those that the run knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProviderKey(pub(super) usize);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Queue {
    /// One for each provider, of which there are few.
    pub(super) lines: Vec<Line>,
    /// Every story that is not through, when they are worked on as given.
    unsettled: BTreeSet<(Place, Key)>,
    starts: u64,
    /// Who came to the queue after how many starts.
    arrivals: VecDeque<(u64, Key)>,
}

/// Whether a story may be put off since its files overlap with those of a running one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    MayBePutOff,
    /// It has waited long enough.
    HasCome,
}

/// The stories of one provider that could start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// None for stories without a provider, which have nothing to do with each other.
    pub(super) provider: Option<Provider>,
    pub(super) service: Service,
    clear: BTreeSet<(Place, Key)>,
    /// Those whose files overlap with those of a running story, with the number of starts when they came.
    put_off: BTreeSet<(Place, Key)>,
}

impl Line {
    /// Whether stories of it could start, or attempts at them wait for a turn.
    pub(super) fn has_waiting(&self) -> bool {
        !self.clear.is_empty() || !self.put_off.is_empty() || !self.service.asking.is_empty()
    }
}

impl Queue {
    /// The line of a provider, which serves by these limits when it is new.
    pub(super) fn provider(
        &mut self,
        provider: Option<&Provider>,
        service: impl FnOnce() -> Service,
    ) -> ProviderKey {
        let known = self
            .lines
            .iter()
            .position(|line| line.provider.as_ref() == provider);
        ProviderKey(known.unwrap_or_else(|| {
            self.lines.push(Line {
                provider: provider.cloned(),
                service: service(),
                clear: BTreeSet::new(),
                put_off: BTreeSet::new(),
            });
            self.lines.len() - 1
        }))
    }

    pub(super) fn contains(&self, provider: ProviderKey, entry: (Place, Key)) -> bool {
        let line = &self.lines[provider.0];
        line.clear.contains(&entry) || line.put_off.contains(&entry)
    }

    pub(super) fn is_put_off(&self, provider: ProviderKey, entry: (Place, Key)) -> bool {
        self.lines[provider.0].put_off.contains(&entry)
    }

    fn first(&self, which: impl Fn(&Line) -> &BTreeSet<(Place, Key)>) -> Option<(Place, Key)> {
        let open = self.lines.iter().filter(|line| line.service.is_open());
        open.filter_map(|line| which(line).first().copied()).min()
    }
}

impl Engine {
    /// Puts a story that could start into the queue.
    pub(super) fn enqueue(&mut self, key: Key) {
        let starts = self.queue.starts;
        let tracked = self.story_mut(key);
        // Who had to leave the queue without a start, since its plan was changed, has waited all the same.
        let came_now = tracked.queued_at.is_none();
        if came_now {
            tracked.queued_at = Some(starts);
            tracked.turn = Turn::MayBePutOff;
        }
        let may_be_put_off = tracked.turn == Turn::MayBePutOff;
        let (entry, provider) = ((tracked.place, key), tracked.provider);
        let line = &mut self.queue.lines[provider.0];
        if may_be_put_off && self.contention.is_hot(key) {
            line.put_off.insert(entry);
        } else {
            line.clear.insert(entry);
        }
        if came_now {
            self.queue.arrivals.push_back((starts, key));
        }
    }

    /// Another story has started. Those that have waited for long enough are put off no more.
    pub(super) fn count_start(&mut self) {
        self.queue.starts += 1;
        while let Some((arrival, key)) = self.queue.arrivals.front().copied()
            && arrival + MOST_OVERTAKEN <= self.queue.starts
        {
            self.queue.arrivals.pop_front();
            if self.story(key).queued_at == Some(arrival) && !fault::is(Fault::ConflictStarves) {
                self.story_mut(key).turn = Turn::HasCome;
                self.requeue(key);
            }
        }
    }

    pub(super) fn dequeue(&mut self, key: Key) {
        let tracked = self.story(key);
        let (entry, provider) = ((tracked.place, key), tracked.provider);
        let line = &mut self.queue.lines[provider.0];
        line.clear.remove(&entry);
        line.put_off.remove(&entry);
    }

    pub(super) fn is_queued(&self, key: Key) -> bool {
        let tracked = self.story(key);
        self.queue.contains(tracked.provider, (tracked.place, key))
    }

    /// Moves a story between those that are put off and the others, when it waits for its turn.
    pub(super) fn requeue(&mut self, key: Key) {
        let tracked = self.story(key);
        let (entry, provider) = ((tracked.place, key), tracked.provider);
        let hot = tracked.turn == Turn::MayBePutOff && self.contention.is_hot(key);
        let line = &mut self.queue.lines[provider.0];
        if hot && line.clear.remove(&entry) {
            line.put_off.insert(entry);
        } else if !hot && line.put_off.remove(&entry) {
            line.clear.insert(entry);
        }
    }

    /// Notes whether a story is through, for runs that go through their stories one after the other.
    pub(super) fn track_order(&mut self, key: Key) {
        if self.settings.order == Order::AsGiven {
            let entry = (self.story(key).place, key);
            if matches!(self.story(key).stage, Stage::Done(_)) {
                self.queue.unsettled.remove(&entry);
            } else {
                self.queue.unsettled.insert(entry);
            }
        }
    }

    pub(super) fn forget_order(&mut self, key: Key) {
        let entry = (self.story(key).place, key);
        self.queue.unsettled.remove(&entry);
    }

    /// Gives a story another place in the order.
    pub(super) fn move_to(&mut self, key: Key, place: Place) {
        let old = (self.story(key).place, key);
        let queued = self.is_queued(key);
        self.dequeue(key);
        if self.queue.unsettled.remove(&old) {
            self.queue.unsettled.insert((place, key));
        }
        self.story_mut(key).place = place;
        if queued {
            self.enqueue(key);
        }
    }

    /// The story that starts next if a slot is free.
    pub(super) fn next_story(&self) -> Option<Key> {
        let clear = self.queue.first(|line| &line.clear);
        let put_off = self.queue.first(|line| &line.put_off);
        let chosen = match (clear, put_off) {
            (Some(clear), _) => clear,
            (None, Some(_)) if fault::is(Fault::ConflictRefused) && self.occupied > 0 => {
                return None;
            }
            (None, Some(put_off)) => put_off,
            (None, None) => return None,
        };
        match self.settings.order {
            Order::AnyReady => Some(chosen.1),
            Order::AsGiven => {
                let first = self.queue.unsettled.first()?.1;
                let provider = self.story(first).provider;
                let open = self.queue.lines[provider.0].service.is_open();
                (self.is_queued(first) && open).then_some(first)
            }
        }
    }

    /// The stories that wait or are between two attempts, in their order.
    pub(super) fn waiting(&self) -> Vec<Key> {
        let mut waiting: Vec<(Place, Key)> = (0_u32..)
            .map(Key)
            .zip(&self.stories)
            .filter(|(_, tracked)| matches!(tracked.stage, Stage::Waiting | Stage::Delayed { .. }))
            .map(|(key, tracked)| (tracked.place, key))
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, key)| key).collect()
    }

    pub(super) fn gate_is_closed(&self) -> bool {
        matches!(self.gate, Gate::Closed(_))
    }
}
