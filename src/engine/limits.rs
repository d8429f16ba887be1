//! Budgets: what a story and a run may use, and whether they have used more. Pure.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What agents have used, as they report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent and received, without those that came from the provider's cache.
    pub tokens: u64,
    /// Cost in millionths of a US dollar.
    pub cost_micros_usd: u64,
    /// Turns: requests to the model that were answered.
    #[serde(default)]
    pub turns: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost_micros_usd: self.cost_micros_usd.saturating_add(other.cost_micros_usd),
            turns: self.turns.saturating_add(other.turns),
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            cost_micros_usd: self.cost_micros_usd.saturating_sub(other.cost_micros_usd),
            turns: self.turns.saturating_sub(other.turns),
        }
    }
}

impl Usage {
    /// The larger of both in each respect: totals never shrink, whatever an executor says.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            cost_micros_usd: self.cost_micros_usd.max(other.cost_micros_usd),
            turns: self.turns.max(other.turns),
        }
    }

    fn of(self, budget: Budget) -> Option<u64> {
        match budget {
            Budget::Cost => Some(self.cost_micros_usd),
            Budget::Tokens => Some(self.tokens),
            Budget::Turns => Some(self.turns),
            Budget::Time => None,
        }
    }
}

/// What the attempts at a story have used of what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// How long they took.
    pub time: Duration,
    /// What their agents used.
    pub usage: Usage,
}

impl Account {
    /// With another attempt.
    #[must_use]
    pub fn charged(self, time: Duration, usage: Usage) -> Self {
        Self {
            time: self.time + time,
            usage: self.usage + usage,
        }
    }
}

/// The most that a story, or a run as a whole, may use. What is not limited is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Time: of a story what its attempts take together, without the waits between them; of a run all of it.
    #[serde(with = "crate::engine::time::optional_millis")]
    pub time: Option<Duration>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Cost in millionths of a US dollar.
    pub cost_micros_usd: Option<u64>,
    /// Turns: requests to the model that were answered.
    #[serde(default)]
    pub turns: Option<u64>,
}

impl Limits {
    /// These, with what `others` limit limited as they do.
    #[must_use]
    pub fn overridden_by(self, others: Self) -> Self {
        Self {
            time: others.time.or(self.time),
            tokens: others.tokens.or(self.tokens),
            cost_micros_usd: others.cost_micros_usd.or(self.cost_micros_usd),
            turns: others.turns.or(self.turns),
        }
    }

    /// The budget that `usage` goes beyond; time has its own clock.
    pub fn exceeded_by(&self, usage: Usage) -> Option<Budget> {
        let beyond = |budget: &Budget| {
            let (used, limit) = (usage.of(*budget), self.of(*budget));
            used.zip(limit).is_some_and(|(used, limit)| used > limit)
        };
        Budget::COUNTED.into_iter().find(beyond)
    }

    /// The budget of which nothing is left: another attempt would have nothing to work with.
    pub fn used_up_by(&self, account: Account) -> Option<Budget> {
        let time_is_up = self.time.is_some_and(|limit| account.time >= limit);
        self.nothing_left_after(account.usage)
            .or(time_is_up.then_some(Budget::Time))
    }

    /// The budget of which nothing is left after `usage`; time has its own clock.
    pub fn nothing_left_after(&self, usage: Usage) -> Option<Budget> {
        let nothing_left = |budget: &Budget| {
            let (used, limit) = (usage.of(*budget), self.of(*budget));
            used.zip(limit).is_some_and(|(used, limit)| used >= limit)
        };
        Budget::COUNTED.into_iter().find(nothing_left)
    }

    /// The budgets of which little is left, with what is used of them and what they are; time has its own clock.
    pub fn nearly_used_up_by(&self, usage: Usage) -> impl Iterator<Item = Share> + use<> {
        let limits = *self;
        Budget::COUNTED.into_iter().filter_map(move |budget| {
            let (used, limit) = usage.of(budget).zip(limits.of(budget))?;
            let is_near = u128::from(used) * 100 >= u128::from(limit) * u128::from(NEAR_PERCENT);
            is_near.then_some(Share {
                budget,
                used,
                limit,
            })
        })
    }

    /// Whether there is such a budget.
    pub fn has(&self, budget: Budget) -> bool {
        match budget {
            Budget::Time => self.time.is_some(),
            counted => self.of(counted).is_some(),
        }
    }

    /// How much time may pass before little of it is left.
    pub fn time_until_near(&self) -> Option<Duration> {
        self.time.map(|time| time * NEAR_PERCENT / 100)
    }

    /// What may still be used after `usage`.
    pub fn left_after(&self, usage: Usage) -> Allowance {
        let left = |limit: Option<u64>, used| limit.map(|limit| limit.saturating_sub(used));
        Allowance {
            cost_micros_usd: left(self.cost_micros_usd, usage.cost_micros_usd),
            turns: left(self.turns, usage.turns),
        }
    }

    fn of(&self, budget: Budget) -> Option<u64> {
        match budget {
            Budget::Cost => self.cost_micros_usd,
            Budget::Tokens => self.tokens,
            Budget::Turns => self.turns,
            Budget::Time => None,
        }
    }
}

/// What an agent may use in one turn of its own, in as far as there are agents that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allowance {
    /// Cost in millionths of a US dollar; none when that is not limited.
    pub cost_micros_usd: Option<u64>,
    /// Requests to the model; none when they are not limited.
    pub turns: Option<u64>,
}

impl Allowance {
    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let less = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            cost_micros_usd: less(self.cost_micros_usd, other.cost_micros_usd),
            turns: less(self.turns, other.turns),
        }
    }
}

/// The share of a budget, in percent, from which on little of it is left: there is still time to raise it.
pub const NEAR_PERCENT: u32 = 80;

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Time.
    Time,
    /// Tokens.
    Tokens,
    /// Money.
    Cost,
    /// Turns.
    Turns,
}

impl Budget {
    /// Those of which agents say how much they have used, in the order in which they are named when several are used up.
    const COUNTED: [Self; 3] = [Self::Cost, Self::Tokens, Self::Turns];
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Time => "time",
            Self::Tokens => "token budget",
            Self::Cost => "cost budget",
            Self::Turns => "budget of turns",
        })
    }
}

/// What is used of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which budget.
    pub budget: Budget,
    /// What is used of it: milliseconds, tokens, millionths of a US dollar, or turns.
    pub used: u64,
    /// What may be used, in the same unit.
    pub limit: u64,
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// That of one story.
    Story,
    /// That of the run.
    Run,
    /// That of all runs of a calendar day.
    Day,
}

/// A budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrun {
    /// Whose.
    pub scope: Scope,
    /// Which.
    pub budget: Budget,
}

impl fmt::Display for Overrun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.scope {
            Scope::Story => "the story's",
            Scope::Run => "the run's",
            Scope::Day => "the day's",
        };
        write!(formatter, "{whose} {} is used up", self.budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        time: Some(Duration::from_secs(60)),
        tokens: Some(10),
        cost_micros_usd: Some(5),
        turns: Some(3),
    };

    fn used(tokens: u64, cost_micros_usd: u64, turns: u64) -> Usage {
        Usage {
            tokens,
            cost_micros_usd,
            turns,
        }
    }

    #[test]
    fn a_limit_is_what_may_be_used_and_not_more() {
        let exceeded = |tokens, cost, turns| LIMITS.exceeded_by(used(tokens, cost, turns));
        assert_eq!(exceeded(10, 5, 3), None);
        assert_eq!(exceeded(10, 5, 4), Some(Budget::Turns));
        assert_eq!(exceeded(11, 5, 4), Some(Budget::Tokens));
        assert_eq!(exceeded(11, 6, 4), Some(Budget::Cost));
        let most = used(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(Limits::default().exceeded_by(most), None);
    }

    #[test]
    fn a_budget_of_which_nothing_is_left_is_used_up() {
        let used_up = |seconds, tokens, cost, turns| {
            LIMITS.used_up_by(Account {
                time: Duration::from_secs(seconds),
                usage: used(tokens, cost, turns),
            })
        };
        assert_eq!(used_up(59, 9, 4, 2), None);
        assert_eq!(used_up(60, 9, 4, 2), Some(Budget::Time));
        assert_eq!(used_up(60, 9, 4, 3), Some(Budget::Turns));
        assert_eq!(used_up(60, 10, 4, 3), Some(Budget::Tokens));
        assert_eq!(used_up(60, 10, 5, 3), Some(Budget::Cost));
    }

    #[test]
    fn a_turn_may_use_what_the_narrowest_budget_has_left() {
        let left = LIMITS.left_after(used(9, 4, 5));
        assert_eq!((left.cost_micros_usd, left.turns), (Some(1), Some(0)));
        assert_eq!(left.and(Allowance::default()), left);
        let other = Allowance {
            cost_micros_usd: Some(7),
            turns: None,
        };
        assert_eq!(other.and(left), left);
        assert_eq!(
            Limits::default().left_after(used(1, 1, 1)),
            Allowance::default()
        );
    }

    #[test]
    fn little_is_left_from_four_fifths_on() {
        let near = |tokens, cost, turns| -> Vec<Budget> {
            let near = LIMITS.nearly_used_up_by(used(tokens, cost, turns));
            near.map(|share| share.budget).collect()
        };
        assert_eq!(near(7, 3, 2), []);
        assert_eq!(near(8, 3, 2), [Budget::Tokens]);
        assert_eq!(near(8, 4, 3), [Budget::Cost, Budget::Tokens, Budget::Turns]);
        assert_eq!(LIMITS.time_until_near(), Some(Duration::from_secs(48)));
    }
}
