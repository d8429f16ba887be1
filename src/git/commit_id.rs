//! The name of a commit as a type. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The digits that [`CommitId::short`] shows.
const SHORT_LEN: usize = 8;

/// The full SHA-1 name of a commit; written and stored as 40 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(git2::Oid);

/// A text that is not the full name of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a commit id (40 hexadecimal digits)")]
pub struct CommitIdError(String);

impl CommitId {
    /// The first 8 digits, for people.
    pub fn short(self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT_LEN);
        text
    }

    pub(super) fn oid(self) -> git2::Oid {
        self.0
    }
}

impl From<git2::Oid> for CommitId {
    fn from(oid: git2::Oid) -> Self {
        Self(oid)
    }
}

impl FromStr for CommitId {
    type Err = CommitIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || CommitIdError(text.chars().take(80).collect());
        // libgit2 would take a shorter text and fill it up with zeros.
        if text.len() != 40 {
            return Err(malformed());
        }
        git2::Oid::from_str(text).map(Self).map_err(|_| malformed())
    }
}

impl TryFrom<String> for CommitId {
    type Error = CommitIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forty_digits_are_a_commit_id() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        let id: CommitId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "01234567");
        for wrong in ["", "01234567", "HEAD", &text.replace('0', "x")] {
            assert!(wrong.parse::<CommitId>().is_err(), "{wrong:?} was accepted");
        }
    }
}
