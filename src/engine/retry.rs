//! Which ends of an attempt are followed by another one, and after how long. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::event::Unit;
use crate::engine::fault::{self, Fault};
use crate::engine::outcome::{Outcome, OutcomeKind};
use crate::engine::quota::QuotaWaits;
use crate::engine::time::Moment;

/// When to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The most attempts at one story in one run.
    pub most_attempts: NonZeroU32,
    /// The outcomes that are followed by another attempt.
    pub retried: Vec<OutcomeKind>,
    /// How often a story waits for a quota. Waiting costs nothing, so that these are not counted as attempts.
    pub most_quota_waits: u32,
    /// How long a provider is left alone that serves no more.
    #[serde(default)]
    pub quota: QuotaWaits,
    /// The wait before the second attempt; it doubles with each further one.
    #[serde(with = "crate::engine::time::millis")]
    pub first_wait: Duration,
    /// The longest wait.
    #[serde(with = "crate::engine::time::millis")]
    pub longest_wait: Duration,
    /// What the jitter is derived from: the same seed gives the same waits.
    pub seed: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            most_attempts: NonZeroU32::MIN.saturating_add(2),
            retried: vec![
                OutcomeKind::Crashed,
                OutcomeKind::Stalled,
                OutcomeKind::ProtocolError,
                OutcomeKind::PrepareFailed,
            ],
            most_quota_waits: 12,
            quota: QuotaWaits::default(),
            first_wait: Duration::from_secs(5),
            longest_wait: Duration::from_secs(5 * 60),
            seed: 0,
        }
    }
}

/// What a story has been tried so far in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tries {
    /// Attempts that ended by themselves or were stopped for a fault of their own.
    pub attempts: u32,
    /// Attempts that ended because a quota was exhausted.
    pub quota_waits: u32,
}

impl Tries {
    /// With another attempt that ended so.
    #[must_use]
    pub fn counting(self, kind: OutcomeKind) -> Self {
        let mut tries = self;
        match kind {
            OutcomeKind::QuotaExhausted => tries.quota_waits += 1,
            OutcomeKind::Cancelled => {}
            _ if fault::is(Fault::RetriesUnbounded) => {}
            _ => tries.attempts += 1,
        }
        tries
    }
}

/// What follows the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// The story is through.
    Through,
    /// Another attempt, not before this moment.
    Again {
        /// When.
        at: Moment,
        /// What for.
        reason: Delay,
    },
}

/// Why a story that could run waits for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delay {
    /// What went wrong shall have gone away.
    BackOff,
    /// The provider says that it will serve again then.
    Quota,
}

impl RetryPolicy {
    /// What follows an attempt that ended now with `outcome`, after `tries` with it counted.
    pub fn after(&self, unit: &Unit, outcome: &Outcome, tries: Tries, now: Moment) -> Next {
        if let Outcome::QuotaExhausted { until, .. } = outcome {
            if tries.quota_waits > self.most_quota_waits {
                return Next::Through;
            }
            let at = until.map_or(now + self.quota.first, |until| until.max(now));
            return Next::Again {
                at,
                reason: Delay::Quota,
            };
        }
        let retried = self.retried.contains(&outcome.kind());
        if !retried || tries.attempts >= self.most_attempts.get() {
            return Next::Through;
        }
        Next::Again {
            at: now + self.wait(unit, tries.attempts),
            reason: Delay::BackOff,
        }
    }

    /// The wait after that many attempts: exponential, with a jitter of up to a quarter less, so that stories that
    /// failed together do not come back together.
    fn wait(&self, unit: &Unit, attempts: u32) -> Duration {
        if fault::is(Fault::BackOffZero) {
            return Duration::ZERO;
        }
        let doublings = attempts.saturating_sub(1).min(20);
        let full = self
            .first_wait
            .saturating_mul(1 << doublings)
            .min(self.longest_wait);
        less_a_jitter(
            full,
            scatter(self.seed, unit.story.as_str(), unit.attempt.get()),
        )
    }
}

/// The wait without up to a quarter of it.
pub(super) fn less_a_jitter(full: Duration, random: u64) -> Duration {
    let thousandths = u32::try_from(random % 250).unwrap_or(0);
    full.saturating_sub(full * thousandths / 1000)
}

/// A number that looks random and is the same for the same seed, name and count (FNV-1a over the name, then the
/// finaliser of splitmix64).
pub(super) fn scatter(seed: u64, name: &str, count: u32) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut mixed = hash ^ u64::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::id::AttemptNumber;
    use crate::engine::limits::{Budget, Overrun, Scope};

    fn unit(attempt: u32) -> Unit {
        Unit {
            story: "S-0001".parse().unwrap(),
            attempt: AttemptNumber::new(attempt).unwrap(),
        }
    }

    fn tries(attempts: u32) -> Tries {
        Tries {
            attempts,
            quota_waits: 0,
        }
    }

    fn reason() -> String {
        "because".to_owned()
    }

    #[test]
    fn every_outcome_has_its_own_rule() {
        let policy = RetryPolicy::default();
        let again = |outcome| {
            let next = policy.after(&unit(1), &outcome, tries(1), Moment::default());
            next != Next::Through
        };
        assert!(again(Outcome::Crashed { reason: reason() }));
        assert!(again(Outcome::Stalled { reason: reason() }));
        assert!(again(Outcome::ProtocolError { reason: reason() }));
        assert!(again(Outcome::PrepareFailed { reason: reason() }));
        assert!(again(Outcome::QuotaExhausted {
            until: None,
            reason: reason()
        }));
        assert!(!again(Outcome::Succeeded));
        assert!(!again(Outcome::Failed { reason: reason() }));
        assert!(!again(Outcome::Blocked { reason: reason() }));
        for budget in [Budget::Time, Budget::Tokens, Budget::Cost, Budget::Turns] {
            let scope = Scope::Story;
            assert!(!again(Outcome::of_overrun(Overrun { scope, budget })));
        }
        assert!(!again(Outcome::Cancelled));
    }

    #[test]
    fn other_outcomes_are_retried_when_configured() {
        let policy = RetryPolicy {
            retried: vec![OutcomeKind::Failed],
            ..RetryPolicy::default()
        };
        let after = |outcome| policy.after(&unit(1), &outcome, tries(1), Moment::default());
        assert_ne!(after(Outcome::Failed { reason: reason() }), Next::Through);
        assert_eq!(after(Outcome::Crashed { reason: reason() }), Next::Through);
    }

    #[test]
    fn attempts_and_waits_are_bounded() {
        let policy = RetryPolicy::default();
        let crashed = Outcome::Crashed { reason: reason() };
        let after = |count| policy.after(&unit(count), &crashed, tries(count), Moment::default());
        assert_ne!(after(2), Next::Through);
        assert_eq!(after(3), Next::Through);
        for attempts in 1..100 {
            let wait = policy.wait(&unit(attempts), attempts);
            let full = Duration::from_secs(5 << attempts.min(10).saturating_sub(1))
                .min(policy.longest_wait);
            assert!(wait <= full && wait * 4 >= full * 3, "{attempts}: {wait:?}");
        }
    }

    #[test]
    fn waits_are_scattered_and_repeatable() {
        let policy = RetryPolicy::default();
        let waits: std::collections::BTreeSet<Duration> = (1..50)
            .map(|attempt| policy.wait(&unit(attempt), 1))
            .collect();
        assert!(waits.len() > 30, "{}", waits.len());
        assert_eq!(policy.wait(&unit(7), 1), policy.wait(&unit(7), 1));
    }

    #[test]
    fn a_quota_is_waited_for_until_its_reset() {
        let policy = RetryPolicy::default();
        let until = Moment::from_millis(99_000);
        let outcome = Outcome::QuotaExhausted {
            until: Some(until),
            reason: reason(),
        };
        let after = |quota_waits, now| {
            let tries = Tries {
                attempts: 50,
                quota_waits,
            };
            policy.after(&unit(1), &outcome, tries, Moment::from_millis(now))
        };
        let again = |at| Next::Again {
            at: Moment::from_millis(at),
            reason: Delay::Quota,
        };
        assert_eq!(after(1, 5), again(99_000));
        assert_eq!(after(1, 100_000), again(100_000));
        assert_eq!(after(13, 5), Next::Through);
    }
}
