//! Which calendar day it is, and what the runs of a board have used on it, by their journals. Days begin at midnight where
//! the orchestrator is.

use std::path::Path;
use std::time::SystemTime;

use jiff::Zoned;

use super::note::JournalRecord;
use super::past::{Past, PastError};
use super::retention::run_ids;
use super::run_folder::JOURNAL;
use crate::engine::{CalendarDay, DayUsage, Record, RunId, Usage};
use crate::journal::{last_change, last_record};
use crate::report::chain;

/// The calendar day that it is now.
pub(super) fn today() -> CalendarDay {
    day_of(&Zoned::now())
}

fn day_of(time: &Zoned) -> CalendarDay {
    let part = |number: i8| u32::from(number.unsigned_abs());
    let year = u32::from(time.year().unsigned_abs());
    CalendarDay::new(year, part(time.month()), part(time.day()))
}

/// When the calendar day began; none where the clock is of no use.
pub fn midnight() -> Option<SystemTime> {
    let midnight = Zoned::now().start_of_day().ok()?;
    Some(midnight.timestamp().into())
}

/// What all runs below `runs` but the `current` one have used today, and what is to be told of those of which that is not known: they
/// count as having used nothing. Blocks.
pub fn used_today(runs: &Path, current: Option<&RunId>) -> (Usage, Vec<String>) {
    let (day, midnight) = (today(), midnight());
    let mut used = Usage::default();
    let mut unknown = Vec::new();
    for run in run_ids(runs).into_iter().filter(|run| Some(run) != current) {
        let journal = runs.join(run.as_str()).join(JOURNAL);
        // What was not written to today has used nothing today.
        let changed = last_change(&journal)
            .is_some_and(|changed| midnight.is_none_or(|midnight| changed >= midnight));
        if !changed {
            continue;
        }
        match used_last(&run, &journal) {
            Ok(Some(of_run)) if of_run.day == day => used = used + of_run.usage,
            Ok(_) | Err(PastError::Empty(_)) => {}
            Err(error) => unknown.push(format!(
                "what the run {run} has used today is not known, and counts for nothing: {}",
                chain(&error)
            )),
        }
    }
    (used, unknown)
}

/// What a run has used on the last day on which it worked.
fn used_last(run: &RunId, journal: &Path) -> Result<Option<DayUsage>, PastError> {
    if let Ok(Some(entry)) = last_record::<JournalRecord>(journal)
        && let Record::Closed(view) = entry.record
    {
        return Ok(view.day);
    }
    // One that was killed has to be played again.
    Past::read(run, journal).map(|past| past.engine.view().day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_place() {
        let late: Zoned = "2026-11-26T23:59:59+09:00[Asia/Tokyo]".parse().unwrap();
        assert_eq!(day_of(&late), CalendarDay::new(2026, 11, 26));
    }
}
