//! The two fields that decide what happens to a story: its status and its priority. Pure.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Where a story stands on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not refined yet; a run does not touch it.
    Backlog,
    /// May be started.
    Ready,
    /// Being worked on, or interrupted.
    InProgress,
    /// Finished.
    Done,
    /// Needs a person.
    Blocked,
}

/// A text that is not a status.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a status: backlog, ready, in-progress, done or blocked")]
pub struct StatusError(String);

impl Status {
    /// All of them, in the order of the board.
    pub const ALL: [Self; 5] = [
        Self::Backlog,
        Self::Ready,
        Self::InProgress,
        Self::Done,
        Self::Blocked,
    ];

    /// The spelling in a story file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::Ready => "ready",
            Self::InProgress => "in-progress",
            Self::Done => "done",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                StatusError(text.chars().take(40).flat_map(char::escape_debug).collect())
            })
    }
}

/// How urgent a story is: a finite number, lower is more urgent.
///
/// The predecessor's users insert between two stories with a decimal, so it is not an integer. A story without one
/// sorts last, see [`Priority::compare`].
#[derive(Debug, Clone, Copy)]
pub struct Priority(f64);

/// A text or number that is not a priority.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a priority is a finite number")]
pub struct PriorityError;

impl Priority {
    /// The gap between two stories that are added one after the other, so that others fit in between.
    pub const STEP: i64 = 10;

    /// The priority with that number; an error for a number that is not finite.
    pub fn new(number: f64) -> Result<Self, PriorityError> {
        // Adding zero makes -0 to 0, which a reader would not tell apart and `total_cmp` would.
        number
            .is_finite()
            .then_some(Self(number + 0.0))
            .ok_or(PriorityError)
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The number when it is integral and exact.
    pub fn as_integer(self) -> Option<i64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let integral = self.0.fract() == 0.0 && self.0.abs() <= EXACT;
        // The text of an integral float is that of the integer.
        integral.then(|| self.0.to_string().parse().ok()).flatten()
    }

    /// The priority of a story that is added after one with this priority: a whole number at least
    /// [`Priority::STEP`] higher, less a fraction.
    pub fn next(self) -> i64 {
        let floor = Self(self.0.floor()).as_integer();
        floor.unwrap_or_default().saturating_add(Self::STEP)
    }

    /// The order of two stories by urgency: ascending, and a story without a priority after all others.
    pub fn compare(left: Option<Self>, right: Option<Self>) -> Ordering {
        match (left, right) {
            (Some(left), Some(right)) => left.cmp(&right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
    }
}

impl PartialEq for Priority {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Priority {}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Priority {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0.to_string())
    }
}

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `parse` alone would also take "inf" and "nan", which `new` refuses.
        Self::new(text.trim().parse().map_err(|_| PriorityError)?)
    }
}

impl Serialize for Priority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_integer() {
            Some(integer) => serializer.serialize_i64(integer),
            None => serializer.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statuses_are_spelled_as_the_predecessor_did() {
        for status in Status::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        for text in ["", "Ready", "in_progress", "done "] {
            assert!(text.parse::<Status>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_priority_is_written_as_an_integer_when_it_is_one() {
        let json = |number| serde_json::to_string(&Priority::new(number).unwrap()).unwrap();
        assert_eq!(json(10.0), "10");
        assert_eq!(json(-3.0), "-3");
        assert_eq!(json(10.5), "10.5");
        assert_eq!(json(-0.0), "0");
        assert_eq!(Priority::new(f64::NAN), Err(PriorityError));
        assert_eq!("inf".parse::<Priority>(), Err(PriorityError));
        assert_eq!("high".parse::<Priority>(), Err(PriorityError));
    }

    #[test]
    fn the_next_priority_leaves_a_gap() {
        assert_eq!(Priority::new(10.0).unwrap().next(), 20);
        assert_eq!(Priority::new(10.5).unwrap().next(), 20);
        assert_eq!(Priority::new(-7.0).unwrap().next(), 3);
    }

    proptest! {
        #[test]
        fn stories_without_a_priority_come_last(numbers in prop::collection::vec(prop::option::of(-1e6..1e6), 0..20)) {
            let mut sorted: Vec<_> = numbers.into_iter().map(|n| n.map(|n| Priority::new(n).unwrap())).collect();
            sorted.sort_by(|left, right| Priority::compare(*left, *right));
            let in_order = sorted.windows(2).all(|pair| match (pair[0], pair[1]) {
                (Some(left), Some(right)) => left.get() <= right.get(),
                (None, Some(_)) => false,
                _ => true,
            });
            prop_assert!(in_order);
        }

        #[test]
        fn a_priority_survives_json(thousandths in any::<i32>()) {
            let priority = Priority::new(f64::from(thousandths) / 1000.0).unwrap();
            let json = serde_json::to_string(&priority).unwrap();
            prop_assert_eq!(serde_json::from_str::<Priority>(&json).unwrap(), priority);
        }
    }
}
