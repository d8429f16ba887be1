//! How many turns a provider has in a minute. Pure.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::engine::fault::{self, Fault};
use crate::engine::time::Moment;

/// The span in which turns are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// The turns that were granted within the last minute, and how many may be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pace {
    most: Option<NonZeroU32>,
    /// Until when each of them counts, the first one first; at most `most`.
    counted: VecDeque<Moment>,
}

impl Pace {
    /// Of a provider that has so many turns a minute; none for as many as are asked for.
    pub(super) fn of_most(most: Option<NonZeroU32>) -> Self {
        Self {
            most,
            counted: VecDeque::new(),
        }
    }

    /// Forgets what was granted a minute ago or earlier.
    pub(super) fn look(&mut self, now: Moment) {
        while self.counted.front().is_some_and(|first| *first <= now) {
            self.counted.pop_front();
        }
    }

    /// Whether one more turn may be granted when so many others are promised.
    pub(super) fn has_room_beside(&self, promised: usize) -> bool {
        let taken = self.counted.len() + promised;
        let is_full = self.most.is_some_and(|most| taken >= most.get() as usize);
        !is_full || fault::is(Fault::PaceIgnored)
    }

    /// A turn is granted now.
    pub(super) fn grant(&mut self, now: Moment) {
        if self.most.is_some() {
            self.counted.push_back(now + WINDOW);
        }
    }

    /// When there is room again, if there is none.
    pub(super) fn next_room(&self) -> Option<Moment> {
        let first = self.counted.front()?;
        (!self.has_room_beside(0)).then_some(*first)
    }

    /// So much time has passed that the clock of the run leaves out.
    pub(super) fn bring_forward(&mut self, by: Duration) {
        for moment in &mut self.counted {
            *moment = moment.before(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn there_is_room_again_a_minute_after_the_first_turn() {
        let mut pace = Pace::of_most(NonZeroU32::new(2));
        pace.grant(at(10));
        assert!(pace.has_room_beside(0));
        assert!(!pace.has_room_beside(1));
        assert_eq!(pace.next_room(), None);
        pace.grant(at(30));
        assert!(!pace.has_room_beside(0));
        assert_eq!(pace.next_room(), Some(at(70)));
        pace.look(at(69));
        assert!(!pace.has_room_beside(0));
        pace.look(at(70));
        assert!(pace.has_room_beside(0));
    }

    #[test]
    fn nobody_counts_the_turns_of_a_provider_without_a_limit() {
        let mut pace = Pace::of_most(None);
        for _ in 0..1000 {
            pace.grant(at(1));
        }
        assert!(pace.has_room_beside(1000));
        assert_eq!(pace.next_room(), None);
    }

    #[test]
    fn time_in_which_nobody_was_there_counts() {
        let mut pace = Pace::of_most(NonZeroU32::new(1));
        pace.grant(at(50));
        pace.bring_forward(Duration::from_secs(40));
        assert_eq!(pace.next_room(), Some(at(70)));
        pace.bring_forward(Duration::from_secs(20));
        pace.look(at(50));
        assert!(pace.has_room_beside(0));
    }
}
