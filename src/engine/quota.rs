//! For how long a provider is left alone that has said that it serves no more. Pure.
//!
//! A provider that says until when is asked again then. One that does not say is asked again after a wait that doubles
//! with each time that it says so once more, and begins anew after a success or a quiet time. What attempts say that
//! were begun before the provider was known to serve no more is the same news, and doubles nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::retry::{less_a_jitter, scatter};
use crate::engine::time::Moment;

/// How long a provider is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaWaits {
    /// The first wait for a provider that does not say how long. Limits are mostly counted per minute: half of one is
    /// gone on average when the limit is hit.
    #[serde(with = "crate::engine::time::millis")]
    pub first: Duration,
    /// The longest wait of that kind: what a limit of some hours costs at most when it is lifted unnoticed.
    #[serde(with = "crate::engine::time::millis")]
    pub longest: Duration,
    /// After so long without a further limit the waits begin anew. Twice the longest wait, so that one that lasts is
    /// never taken for two.
    #[serde(with = "crate::engine::time::millis")]
    pub quiet: Duration,
    /// The least for which nothing is started while an agent waits for a limit by itself. Agents begin with fractions of
    /// a second, and whether that was enough shows with the answer to the next request.
    #[serde(with = "crate::engine::time::millis")]
    pub least: Duration,
}

impl Default for QuotaWaits {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(30),
            longest: Duration::from_secs(15 * 60),
            quiet: Duration::from_secs(30 * 60),
            least: Duration::from_secs(5),
        }
    }
}

/// The furthest that a provider is believed about when it will serve again: limits are by the minute, by some hours, and by
/// the week. Whoever says more is asked again then.
const FURTHEST: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// The moment that a provider has named, as far as it is believed.
pub(super) fn believed(told: Moment, now: Moment) -> Moment {
    told.min(now + FURTHEST)
}

impl QuotaWaits {
    /// The wait after a provider has said that often in a row that it serves no more, with a jitter of up to a quarter
    /// less, so that the runs of several people do not come back together.
    pub fn wait(&self, seed: u64, provider: &str, times: u32) -> Duration {
        let doublings = times.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        less_a_jitter(full, scatter(seed, provider, times))
    }
}

/// What a provider has said of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brake {
    /// How often in a row it has said that it serves no more, without saying how long.
    times: u32,
    /// When it said so in a request of an attempt that was begun in the belief that it serves.
    since: Option<Moment>,
    /// Until when it was left alone for that at the longest.
    until: Option<Moment>,
}

impl Brake {
    /// An attempt that began then has met a limit of the provider. Gives when the provider is asked again: at the moment
    /// that it has said, if that lies ahead.
    pub fn limited(
        &mut self,
        began: Moment,
        told: Option<Moment>,
        now: Moment,
        wait: impl FnOnce(u32) -> Duration,
        quiet: Duration,
    ) -> Moment {
        let is_news = self.since.is_none_or(|since| since < began);
        let was_quiet = self.until.is_some_and(|until| now.since(until) >= quiet);
        if is_news {
            self.since = Some(now);
        }
        let until = if let Some(told) = told.filter(|told| *told > now) {
            told
        } else {
            if was_quiet {
                self.times = 0;
            }
            let known = self.until.filter(|until| !is_news && *until > now);
            known.unwrap_or_else(|| {
                if is_news || self.times == 0 {
                    self.times = self.times.saturating_add(1);
                }
                now + wait(self.times)
            })
        };
        self.until = self.until.max(Some(until));
        until
    }

    /// Nobody was there for a while, which the clock of the run leaves out.
    pub fn bring_forward(&mut self, away: Duration) {
        for moment in [&mut self.since, &mut self.until] {
            *moment = moment.map(|moment| moment.before(away));
        }
    }

    /// An attempt that began then has succeeded: if that was after the last limit, there is none any more.
    pub fn served(&mut self, began: Moment) {
        if self.since.is_none_or(|since| since < began) {
            self.times = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    /// Waits without a jitter.
    fn limited(brake: &mut Brake, began: u64, told: Option<u64>, now: u64) -> u64 {
        let wait = |times: u32| Duration::from_secs(30 << (times - 1));
        let quiet = Duration::from_secs(1800);
        let until = brake.limited(at(began), told.map(at), at(now), wait, quiet);
        until.as_millis() / 1000
    }

    #[test]
    fn a_provider_is_asked_again_when_it_says_and_else_after_a_wait_that_doubles() {
        let mut brake = Brake::default();
        assert_eq!(limited(&mut brake, 0, Some(500), 10), 500);
        assert_eq!(limited(&mut brake, 500, None, 510), 540);
        assert_eq!(limited(&mut brake, 540, None, 550), 610);
        // A moment that has passed says nothing.
        assert_eq!(limited(&mut brake, 610, Some(600), 620), 740);
    }

    #[test]
    fn attempts_that_were_begun_before_it_was_known_say_the_same() {
        let mut brake = Brake::default();
        assert_eq!(limited(&mut brake, 0, None, 10), 40);
        assert_eq!(limited(&mut brake, 1, None, 11), 40);
        assert_eq!(limited(&mut brake, 2, None, 50), 80);
        assert_eq!(limited(&mut brake, 81, None, 90), 150);
    }

    #[test]
    fn a_success_or_a_quiet_time_lets_the_waits_begin_anew() {
        let mut brake = Brake::default();
        limited(&mut brake, 0, None, 10);
        brake.served(at(5));
        assert_eq!(limited(&mut brake, 40, None, 50), 110);
        brake.served(at(111));
        assert_eq!(limited(&mut brake, 120, None, 130), 160);
        assert_eq!(limited(&mut brake, 170, None, 180), 240);
        assert_eq!(limited(&mut brake, 2100, None, 2040), 2070);
    }

    #[test]
    fn waits_are_bounded_and_scattered() {
        let waits = QuotaWaits::default();
        for times in 1..100 {
            let full = Duration::from_secs(30 << (times - 1).min(10)).min(waits.longest);
            let wait = waits.wait(0, "p", times);
            assert!(wait <= full && wait * 4 >= full * 3, "{times}: {wait:?}");
        }
        assert_ne!(waits.wait(0, "p", 1), waits.wait(1, "p", 1));
        assert_ne!(waits.wait(0, "p", 1), waits.wait(0, "q", 1));
    }
}
