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
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost_micros_usd: self.cost_micros_usd.saturating_add(other.cost_micros_usd),
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            cost_micros_usd: self.cost_micros_usd.saturating_sub(other.cost_micros_usd),
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
}

impl Limits {
    /// The budget that `usage` goes beyond; time has its own clock.
    pub fn exceeded_by(&self, usage: Usage) -> Option<Budget> {
        let beyond = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if beyond(self.cost_micros_usd, usage.cost_micros_usd) {
            Some(Budget::Cost)
        } else if beyond(self.tokens, usage.tokens) {
            Some(Budget::Tokens)
        } else {
            None
        }
    }

    /// The budget of which nothing is left: another attempt would have nothing to work with.
    pub fn used_up_by(&self, account: Account) -> Option<Budget> {
        let nothing_left = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used >= limit);
        if nothing_left(self.cost_micros_usd, account.usage.cost_micros_usd) {
            Some(Budget::Cost)
        } else if nothing_left(self.tokens, account.usage.tokens) {
            Some(Budget::Tokens)
        } else if self.time.is_some_and(|limit| account.time >= limit) {
            Some(Budget::Time)
        } else {
            None
        }
    }
}

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Time.
    Time,
    /// Tokens.
    Tokens,
    /// Money.
    Cost,
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// That of one story.
    Story,
    /// That of the run.
    Run,
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
        };
        let what = match self.budget {
            Budget::Time => "time",
            Budget::Tokens => "token budget",
            Budget::Cost => "cost budget",
        };
        write!(formatter, "{whose} {what} is used up")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_what_may_be_used_and_not_more() {
        let limits = Limits {
            time: None,
            tokens: Some(10),
            cost_micros_usd: Some(5),
        };
        let used = |tokens, cost_micros_usd| {
            limits.exceeded_by(Usage {
                tokens,
                cost_micros_usd,
            })
        };
        assert_eq!(used(10, 5), None);
        assert_eq!(used(11, 5), Some(Budget::Tokens));
        assert_eq!(used(11, 6), Some(Budget::Cost));
        assert_eq!(
            Limits::default().exceeded_by(Usage {
                tokens: u64::MAX,
                cost_micros_usd: u64::MAX
            }),
            None
        );
    }

    #[test]
    fn a_budget_of_which_nothing_is_left_is_used_up() {
        let limits = Limits {
            time: Some(Duration::from_secs(60)),
            tokens: Some(10),
            cost_micros_usd: Some(5),
        };
        let used_up = |seconds, tokens, cost_micros_usd| {
            limits.used_up_by(Account {
                time: Duration::from_secs(seconds),
                usage: Usage {
                    tokens,
                    cost_micros_usd,
                },
            })
        };
        assert_eq!(used_up(59, 9, 4), None);
        assert_eq!(used_up(60, 9, 4), Some(Budget::Time));
        assert_eq!(used_up(60, 10, 4), Some(Budget::Tokens));
        assert_eq!(used_up(60, 10, 5), Some(Budget::Cost));
    }
}
