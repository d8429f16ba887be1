//! Until when providers are paused, for people: each pause is told once, in the time of day of the person. Pure but for
//! the zone, which the caller names.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// By how much a pause has to become longer before that is told.
const NEWS: SignedDuration = SignedDuration::from_secs(60);

/// Pauses of this length and more are told without seconds.
const BY_MINUTES_MS: u64 = 60_000;

/// The pauses that were told and are not over.
#[derive(Debug, Default)]
pub(super) struct PausesTold(HashMap<String, Option<Timestamp>>);

impl PausesTold {
    /// Whether that says anything new: every story that runs into a limit pauses its provider once more.
    pub(super) fn is_news(&mut self, provider: &str, until: &str) -> bool {
        let until = until.parse::<Timestamp>().ok();
        let told = self.0.get(provider).copied().flatten();
        let known = told
            .zip(until)
            .is_some_and(|(told, until)| until.duration_since(told) < NEWS);
        if !known {
            self.0.insert(provider.to_owned(), until);
        }
        !known
    }

    /// A pause is over. Gives whether it was told.
    pub(super) fn forget(&mut self, provider: &str) -> bool {
        self.0.remove(provider).is_some()
    }
}

/// The end of a pause of that many milliseconds in a zone: with its day when that is another one than that of its
/// beginning.
pub(super) fn local_time(until: &str, pause_ms: u64, zone: &TimeZone) -> String {
    let Ok(until) = until.parse::<Timestamp>() else {
        return until.to_owned();
    };
    let pause = i64::try_from(pause_ms).unwrap_or(i64::MAX);
    let begins = until.saturating_sub(SignedDuration::from_millis(pause));
    let until = until.to_zoned(zone.clone());
    let same_day = begins.is_ok_and(|begins| begins.to_zoned(zone.clone()).date() == until.date());
    let format = match (same_day, pause_ms < BY_MINUTES_MS) {
        (false, _) => "%Y-%m-%d %H:%M",
        (true, true) => "%H:%M:%S",
        (true, false) => "%H:%M",
    };
    until.strftime(format).to_string()
}
