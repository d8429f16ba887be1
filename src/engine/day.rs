//! A calendar day, and what the runs of a board use on it. Pure.
//!
//! A run knows what the others have used when it is told so: at its beginning, when it goes on, and when another day has
//! begun. What it has used itself before that day does not count.

use serde::{Deserialize, Serialize};

use crate::engine::limits::Usage;

/// A calendar day where the orchestrator is, as the number that its digits make: 20261126.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CalendarDay(u32);

impl CalendarDay {
    /// That day.
    pub const fn new(year: u32, month: u32, day: u32) -> Self {
        Self(year * 10_000 + month * 100 + day)
    }
}

/// What one run has used on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayUsage {
    /// The day.
    pub day: CalendarDay,
    /// What the run has used on it.
    pub usage: Usage,
}

/// The day on which a run works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Today {
    day: Option<CalendarDay>,
    /// What other runs have used on it.
    elsewhere: Usage,
    /// What the run itself had used before it.
    before: Usage,
}

impl Today {
    /// It is that day, on which other runs have used so much. `used` is what the run has used in all.
    pub(super) fn is(&mut self, day: CalendarDay, elsewhere: Usage, used: Usage) {
        if self.day != Some(day) {
            self.day = Some(day);
            self.before = used;
        }
        self.elsewhere = elsewhere;
    }

    /// Which day it is, as it was last said.
    pub(super) fn day(&self) -> Option<CalendarDay> {
        self.day
    }

    /// What all runs have used on the day when this one has used so much in all.
    pub(super) fn usage(&self, used: Usage) -> Usage {
        self.elsewhere + (used - self.before)
    }

    /// What this run has used on the day.
    pub(super) fn own_usage(&self, used: Usage) -> Option<DayUsage> {
        self.day.map(|day| DayUsage {
            day,
            usage: used - self.before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cost_micros_usd: u64) -> Usage {
        Usage {
            cost_micros_usd,
            ..Usage::default()
        }
    }

    #[test]
    fn what_was_used_before_the_day_does_not_count() {
        let mut today = Today::default();
        assert_eq!(today.own_usage(cost(3)), None);
        today.is(CalendarDay::new(2026, 11, 26), cost(10), cost(0));
        assert_eq!(today.usage(cost(3)), cost(13));
        // Said once more after a restart.
        today.is(CalendarDay::new(2026, 11, 26), cost(20), cost(3));
        assert_eq!(today.usage(cost(4)), cost(24));
        today.is(CalendarDay::new(2026, 11, 27), cost(0), cost(4));
        assert_eq!(today.usage(cost(6)), cost(2));
        let own = today.own_usage(cost(6)).unwrap();
        assert_eq!((own.day, own.usage), (CalendarDay(20_261_127), cost(2)));
    }
}
