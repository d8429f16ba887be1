//! The clock of a run: time that passes while this process can see what happens. Pure, but for its callers' clocks.
//!
//! A process that was stopped (Ctrl-Z, SIGSTOP, a frozen machine) has heard nothing meanwhile, and says nothing about
//! how long others were silent. It cannot be told of that: it only finds that it wakes up later than it wanted. So
//! when a deadline is told of much too late, the time from just before that deadline is left out, and what has
//! happened meanwhile is heard before the deadline counts.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::{Housekeeping, Moment};

/// What time it is in a run. It never goes back.
#[derive(Debug)]
pub(super) struct RunClock {
    began: Instant,
    /// How long it had been going on then.
    ahead: Duration,
    /// Time that does not count.
    away: Duration,
    last: Moment,
    /// How late a deadline may be told of.
    late: Duration,
    /// How long before its deadline a process is put back that was away.
    catch_up: Duration,
}

/// What a deadline that is told of means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Waking {
    /// It is reached.
    InTime,
    /// This process was away: the deadline lies ahead again.
    WasAway(Duration),
}

impl RunClock {
    pub(super) fn start(began: Instant, housekeeping: &Housekeeping) -> Self {
        Self {
            began,
            ahead: Duration::ZERO,
            away: Duration::ZERO,
            last: Moment::default(),
            late: housekeeping.late,
            catch_up: housekeeping.catch_up,
        }
    }

    /// Goes on from `last`, which was when the last thing happened before a restart: the time since then does not count.
    pub(super) fn go_on(last: Moment, now: Instant, housekeeping: &Housekeeping) -> Self {
        Self {
            ahead: last.since(Moment::default()),
            last,
            ..Self::start(now, housekeeping)
        }
    }

    /// What time it is when the system's clock says `now`.
    pub(super) fn read(&mut self, now: Instant) -> Moment {
        let counted =
            (now.saturating_duration_since(self.began) + self.ahead).saturating_sub(self.away);
        let moment = Moment::from_millis(u64::try_from(counted.as_millis()).unwrap_or(u64::MAX));
        self.last = self.last.max(moment);
        self.last
    }

    /// When the system's clock will show that moment.
    pub(super) fn instant(&self, moment: Moment) -> Instant {
        let elapsed = moment.since(Moment::default()).saturating_sub(self.ahead);
        self.began + self.away + elapsed
    }

    /// The wait for `deadline` is over at `now`.
    pub(super) fn wake(&mut self, deadline: Moment, now: Instant) -> Waking {
        let late = now.saturating_duration_since(self.instant(deadline));
        if late <= self.late {
            return Waking::InTime;
        }
        // Not before what has been told already.
        let ahead = deadline.since(self.last).min(self.catch_up);
        if ahead.is_zero() {
            return Waking::InTime;
        }
        self.away += late + ahead;
        Waking::WasAway(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn a_deadline_that_is_told_of_in_time_counts() {
        let began = Instant::now();
        let mut clock = RunClock::start(began, &Housekeeping::default());
        assert_eq!(clock.read(began + seconds(5)), at(5));
        assert_eq!(clock.wake(at(30), began + seconds(30)), Waking::InTime);
        let late = began + seconds(30) + Duration::from_millis(900);
        assert_eq!(clock.wake(at(30), late), Waking::InTime);
        assert_eq!(clock.read(began + seconds(31)), at(31));
    }

    #[test]
    fn a_process_that_was_stopped_hears_what_happened_before_its_deadline_counts() {
        let began = Instant::now();
        let mut clock = RunClock::start(began, &Housekeeping::default());
        assert_eq!(clock.read(began + seconds(5)), at(5));
        let woke = began + seconds(130);
        assert_eq!(clock.wake(at(30), woke), Waking::WasAway(seconds(100)));
        assert_eq!(clock.read(woke), at(28));
        assert_eq!(clock.instant(at(30)), woke + seconds(2));
        assert_eq!(clock.wake(at(30), woke + seconds(2)), Waking::InTime);
    }

    #[test]
    fn a_run_that_goes_on_does_so_at_the_time_at_which_it_was_interrupted() {
        let began = Instant::now();
        let mut clock = RunClock::go_on(at(500), began, &Housekeeping::default());
        assert_eq!(clock.read(began), at(500));
        assert_eq!(clock.instant(at(530)), began + seconds(30));
        assert_eq!(clock.instant(at(400)), began);
        assert_eq!(clock.read(began + seconds(30)), at(530));
        assert_eq!(clock.wake(at(530), began + seconds(130)), Waking::InTime);
        assert_eq!(
            clock.wake(at(630), began + seconds(230)),
            Waking::WasAway(seconds(100))
        );
    }

    #[test]
    fn time_never_goes_back_and_a_deadline_is_put_off_only_into_the_future() {
        let began = Instant::now();
        let mut clock = RunClock::start(began, &Housekeeping::default());
        assert_eq!(clock.read(began + seconds(29)), at(29));
        let woke = began + seconds(60);
        assert_eq!(clock.wake(at(30), woke), Waking::WasAway(seconds(30)));
        assert_eq!(clock.read(woke), at(29));
        // Something was told at the deadline itself: it counts, however late it is.
        assert_eq!(clock.read(woke + seconds(1)), at(30));
        assert_eq!(clock.wake(at(30), woke + seconds(9)), Waking::InTime);
    }
}
