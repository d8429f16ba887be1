//! The restart intensity of a run: when many attempts end abnormally in a short time, the fault is not in the stories
//! (a full disk, a broken agent, a dead network), and starting more only burns them. Pure.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::time::Moment;

/// How many abnormal ends in how long pause the starts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    /// This many.
    pub ends: NonZeroUsize,
    /// Within this time. The pause is as long.
    #[serde(with = "crate::engine::time::millis")]
    pub window: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self {
            ends: NonZeroUsize::MIN.saturating_add(4),
            window: Duration::from_secs(60),
        }
    }
}

/// The abnormal ends of the last while; never more than [`Intensity::ends`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecentEnds(VecDeque<Moment>);

impl RecentEnds {
    /// Notes an abnormal end. Gives the end of the pause when there have been too many; the count starts again then.
    #[must_use = "starts are to be paused"]
    pub fn note(&mut self, now: Moment, intensity: &Intensity) -> Option<Moment> {
        while let Some(first) = self.0.front()
            && now.since(*first) >= intensity.window
        {
            self.0.pop_front();
        }
        self.0.push_back(now);
        if self.0.len() < intensity.ends.get() {
            return None;
        }
        self.0.clear();
        Some(now + intensity.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(ends: &[u64]) -> Vec<u64> {
        let mut recent = RecentEnds::default();
        ends.iter()
            .filter_map(|second| {
                recent.note(Moment::from_millis(second * 1000), &Intensity::default())
            })
            .map(|until| until.as_millis() / 1000)
            .collect()
    }

    #[test]
    fn five_ends_in_a_minute_pause_for_a_minute() {
        assert_eq!(pauses(&[0, 10, 20, 30, 59]), [119]);
        assert_eq!(pauses(&[0, 10, 20, 30, 60, 61]), [121]);
        assert_eq!(pauses(&[0, 20, 40, 60, 80, 100, 120]), [0_u64; 0]);
        assert_eq!(pauses(&[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]), [60, 61]);
    }
}
