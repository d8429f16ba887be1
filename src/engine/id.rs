//! The vocabulary of a run that the wire, the disk and the engine share: run, attempt, phase. Pure.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of one run: `YYYYMMDD-HHMMSS-xxxxxxxx` (UTC and eight hexadecimal digits), so that runs sort by their start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// A text that is not the name of a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a run id (YYYYMMDD-HHMMSS-xxxxxxxx)")]
pub struct RunIdError(String);

impl RunId {
    /// The id of a run that starts at `stamp` (`YYYYMMDD-HHMMSS`), told apart from others of the same second by
    /// `nonce`, on all boards of the machine: by its id what it has left running is found.
    ///
    /// # Errors
    /// When `stamp` does not have that form.
    pub fn new(stamp: &str, nonce: u32) -> Result<Self, RunIdError> {
        format!("{stamp}-{nonce:04x}").parse()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &[u8] = b"dddddddd-dddddd-xxxxxxxx";
        /// Earlier versions had ids with four digits at the end.
        const SHORTEST: usize = 20;
        let fits = (SHORTEST..=FORM.len()).contains(&text.len())
            && text.bytes().zip(FORM).all(|(byte, form)| match form {
                b'd' => byte.is_ascii_digit(),
                b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                _ => byte == *form,
            });
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(RunIdError(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Which try at a story this is: 1 for the first, and never used again for that story. It fences: whatever carries
/// a lower number than the current attempt is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptNumber(NonZeroU32);

impl AttemptNumber {
    /// The first attempt.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The attempt with that number; none for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The attempt after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What an executor is doing for its story. The order is that of the workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Turns a raw request into a story with criteria.
    Refine,
    /// Looks for what the change will touch.
    Research,
    /// Writes the plan.
    Plan,
    /// Reviews the plan.
    PlanReview,
    /// Writes the change.
    Implement,
    /// Builds and tests the change.
    Verify,
    /// Reviews the change.
    Review,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Refine => "refine",
            Self::Research => "research",
            Self::Plan => "plan",
            Self::PlanReview => "plan_review",
            Self::Implement => "implement",
            Self::Verify => "verify",
            Self::Review => "review",
        })
    }
}
