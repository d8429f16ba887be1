//! What a turn has used, by what its agent has told of it so far. Pure.
//!
//! A number that cannot be true is as good as none: what was known before stands. Budgets must neither be used up by
//! what is no count at all, nor become of no use since a sum is at its end.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::event::Usage;

/// The most tokens of a kind that one report may tell of. It may be that of a whole conversation: a context of a million
/// tokens that was sent ten thousand times.
const MOST_TOKENS: u64 = 10_000_000_000;

/// The highest cost that one report may tell of, in millionths of a US dollar: a million dollars, for which so many tokens
/// can be had of any model.
const HIGHEST_COST: u64 = 1_000_000_000_000;

/// The most requests that one turn may tell of: one each second, for eleven days.
const MOST_REQUESTS: u32 = 1_000_000;

/// How many requests may be under way at once: those of an agent and its subagents, whose answers come in pieces and in any
/// order. Of an older one no more is told.
const MOST_OPEN: usize = 64;

/// What was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    settled_use: Usage,
    /// The last requests, by the hashes of their names, which may be long.
    open: VecDeque<(u64, Usage)>,
    requests: u32,
    totals: Option<Usage>,
    /// What the conversation had used before this turn, as its agent counts.
    before: Usage,
    conversation_total: Option<Usage>,
    conversation_cost: Option<u64>,
    doubted: bool,
}

impl Tally {
    /// Of a turn of a conversation that has used so much before.
    pub(super) fn after(before: Usage) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// What one request has used; once more for the same request when more is known.
    pub(super) fn request_used(&mut self, request: &str, told: Usage) {
        let mut hasher = DefaultHasher::new();
        request.hash(&mut hasher);
        let request = hasher.finish();
        let place = self.open.iter().position(|(open, _)| *open == request);
        let known = place.and_then(|place| self.open.get(place));
        let known = known.map_or_else(Usage::default, |(_, used)| *used);
        let usage = self.believed(told, known);
        if let Some((_, used)) = place.and_then(|place| self.open.get_mut(place)) {
            *used = usage;
            return;
        }
        if self.open.len() == MOST_OPEN
            && let Some((_, used)) = self.open.pop_front()
        {
            self.settled_use = self.settled_use.plus(used);
        }
        self.open.push_back((request, usage));
        self.requests = self.requests.saturating_add(1);
    }

    /// What the whole turn has used, and how many requests there were, where that is told.
    pub(super) fn turn_used(&mut self, told: Usage, requests: Option<u32>) {
        self.totals = Some(self.believed(told, self.so_far()));
        if let Some(requests) = requests {
            if requests <= MOST_REQUESTS {
                self.requests = requests;
            } else {
                self.doubted = true;
            }
        }
    }

    /// What the whole conversation has used.
    pub(super) fn conversation_used(&mut self, told: Usage) {
        let known = self.conversation_total.unwrap_or(self.before);
        let usage = self.believed(told, known);
        self.conversation_total = Some(usage);
        self.totals = Some(usage.beyond(self.before));
    }

    /// What the whole conversation has cost.
    pub(super) fn conversation_cost(&mut self, told: u64) {
        if told > HIGHEST_COST {
            self.doubted = true;
            return;
        }
        // A conversation that has cost less than before is counted anew, for the whole turn.
        if (self.before.cost_micros_usd).is_some_and(|before| told < before) {
            self.before.cost_micros_usd = None;
        }
        self.conversation_cost = Some(told);
    }

    /// What was told, with what is known instead of what cannot be true.
    fn believed(&mut self, told: Usage, known: Usage) -> Usage {
        let tokens = |told: u64, known: u64| if told <= MOST_TOKENS { told } else { known };
        let cost = told.cost_micros_usd;
        let believed = Usage {
            input_tokens: tokens(told.input_tokens, known.input_tokens),
            output_tokens: tokens(told.output_tokens, known.output_tokens),
            cached_tokens: tokens(told.cached_tokens, known.cached_tokens),
            cost_micros_usd: match cost {
                Some(cost) if cost > HIGHEST_COST => known.cost_micros_usd,
                cost => cost,
            },
        };
        self.doubted |= believed != told;
        believed
    }

    /// Whether something was told that cannot be true.
    pub(super) fn has_doubts(&self) -> bool {
        self.doubted
    }

    /// How many requests to the model there were.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// What the whole conversation has used: what its agent says of it, or else what is known of it, so that what a turn
    /// that is killed has told is not counted once more with the next one.
    pub(super) fn conversation_total(&self) -> Option<Usage> {
        let known = Usage {
            cost_micros_usd: self.conversation_cost.or(self.before.cost_micros_usd),
            ..self.before.plus(self.so_far())
        };
        let known = (known != Usage::default()).then_some(known);
        self.conversation_total.or(known)
    }

    /// What the turn has used: the agent's total, or the sum of its requests until there is one.
    pub(super) fn usage(&self) -> Usage {
        let used = self.so_far();
        let before = self.before.cost_micros_usd.unwrap_or(0);
        let cost = self
            .conversation_cost
            .map(|cost| cost.saturating_sub(before));
        Usage {
            cost_micros_usd: cost.or(used.cost_micros_usd),
            ..used
        }
    }

    fn so_far(&self) -> Usage {
        self.totals.unwrap_or_else(|| {
            let open = self.open.iter().map(|(_, used)| *used);
            open.fold(self.settled_use, Usage::plus)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(input_tokens: u64, cost_micros_usd: Option<u64>) -> Usage {
        Usage {
            input_tokens,
            cost_micros_usd,
            ..Usage::default()
        }
    }

    #[test]
    fn what_cannot_be_true_is_as_if_it_had_not_been_told() {
        let absurd = used(u64::MAX, Some(u64::MAX));
        let mut tally = Tally::default();
        tally.request_used("a", used(5, Some(7)));
        assert!(!tally.has_doubts());
        tally.request_used("a", absurd);
        tally.request_used("b", absurd);
        assert!(tally.has_doubts());
        assert_eq!((tally.usage(), tally.requests()), (used(5, Some(7)), 2));
        tally.turn_used(absurd, Some(u32::MAX));
        assert_eq!((tally.usage(), tally.requests()), (used(5, Some(7)), 2));
        // What is true beside it counts.
        tally.turn_used(used(9, Some(u64::MAX)), Some(3));
        assert_eq!((tally.usage(), tally.requests()), (used(9, Some(7)), 3));
        tally.conversation_cost(u64::MAX);
        assert_eq!(tally.usage().cost_micros_usd, Some(7));
        let mut tally = Tally::after(used(100, Some(10)));
        tally.conversation_used(absurd);
        assert_eq!(tally.usage(), used(0, Some(0)));
        assert_eq!(tally.conversation_total(), Some(used(100, Some(10))));
    }

    #[test]
    fn requests_whose_answers_come_in_turns_are_counted_once() {
        let mut tally = Tally::default();
        for (request, tokens) in [("a", 5), ("b", 7), ("a", 6), ("b", 7), ("a", 6)] {
            tally.request_used(request, used(tokens, None));
        }
        assert_eq!((tally.usage(), tally.requests()), (used(13, None), 2));
        for request in 0..2 * MOST_OPEN {
            tally.request_used(&request.to_string(), used(1, None));
        }
        assert_eq!(tally.open.len(), MOST_OPEN);
        let all = u64::try_from(2 * MOST_OPEN).unwrap();
        assert_eq!(tally.usage(), used(13 + all, None));
    }

    #[test]
    fn what_a_killed_turn_has_told_of_a_conversation_is_not_counted_with_the_next_one() {
        let mut killed = Tally::after(used(500, None));
        killed.request_used("a", used(1000, None));
        let so_far = killed.conversation_total().unwrap();
        assert_eq!(so_far, used(1500, None));
        let mut next = Tally::after(so_far);
        next.request_used("b", used(1000, None));
        assert_eq!(next.usage(), used(1000, None));
        // With a request of which no event told.
        next.conversation_used(used(2600, None));
        assert_eq!(next.usage(), used(1100, None));
        assert_eq!(next.conversation_total(), Some(used(2600, None)));
        assert_eq!(Tally::default().conversation_total(), None);
    }

    #[test]
    fn a_cost_that_is_counted_anew_stays_so_when_it_passes_what_there_was_before() {
        let mut tally = Tally::after(used(0, Some(1000)));
        for told in [500, 1500] {
            tally.conversation_cost(told);
            assert_eq!(tally.usage().cost_micros_usd, Some(told));
        }
    }

    #[test]
    fn the_highest_numbers_that_can_be_true_are_believed() {
        let most = used(MOST_TOKENS, Some(HIGHEST_COST));
        let mut tally = Tally::default();
        tally.turn_used(most, Some(MOST_REQUESTS));
        assert_eq!((tally.usage(), tally.requests()), (most, MOST_REQUESTS));
        assert!(!tally.has_doubts());
        tally.turn_used(used(MOST_TOKENS + 1, None), None);
        assert!(tally.has_doubts());
        assert_eq!(tally.usage(), used(MOST_TOKENS, None));
    }
}
