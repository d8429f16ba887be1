//! The names of epics, and which stories belong to one. Pure.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What the names of epics may begin with, in front matter, labels and on the command line.
const PREFIX: &str = "epic-";

/// The name of an epic, without the prefix `epic-`; never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpicName(String);

/// A text that names no epic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the name of an epic must not be empty")]
pub struct EmptyEpicName;

impl FromStr for EpicName {
    type Err = EmptyEpicName;

    fn from_str(text: &str) -> Result<Self, EmptyEpicName> {
        let text = text.trim();
        let name = text.strip_prefix(PREFIX).unwrap_or(text);
        if name.is_empty() {
            return Err(EmptyEpicName);
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for EpicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl EpicName {
    /// Whether a story belongs to it, by its key `epic` or by its labels. As in the predecessor: the key is the name,
    /// with or without `epic-`; a label begins with `epic-`, and `*` in the name stands for any part of it.
    pub fn has(&self, key: Option<&str>, labels: &[String]) -> bool {
        let by_key = key.is_some_and(|key| key.strip_prefix(PREFIX).unwrap_or(key) == self.0);
        by_key
            || labels
                .iter()
                .filter_map(|label| label.strip_prefix(PREFIX))
                .any(|label| matches(&self.0, label))
    }

    /// The epics that a story names.
    pub fn named(key: Option<&str>, labels: &[String]) -> Vec<Self> {
        let labels = labels.iter().filter(|label| label.starts_with(PREFIX));
        let named = key.into_iter().chain(labels.map(String::as_str));
        named.filter_map(|name| name.parse().ok()).collect()
    }
}

/// Whether all of a text is what a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(place) = rest.find(part) else {
            return false;
        };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_belongs_by_its_key_or_by_a_label_with_the_prefix() {
        let has = |name: &str, key: Option<&str>, labels: &[&str]| {
            let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
            name.parse::<EpicName>().unwrap().has(key, &labels)
        };
        for name in ["auth", "epic-auth", " auth "] {
            assert!(has(name, Some("auth"), &[]));
            assert!(has(name, Some("epic-auth"), &[]));
            assert!(has(name, None, &["x", "epic-auth"]));
            assert!(!has(name, Some("Auth"), &["auth", "epic-authors"]));
        }
        assert!(has("a*h", None, &["epic-auth"]) && has("*", None, &["epic-auth"]));
        assert!(!has("a*h", Some("auth"), &["epic-authors", "auth"]));
        assert!(has("a*t*h*", None, &["epic-auth"]) && !has("a*h*t", None, &["epic-auth"]));
        assert!(!has("au*uth", None, &["epic-auth"]));
        assert_eq!("".parse::<EpicName>(), Err(EmptyEpicName));
        assert_eq!("epic-".parse::<EpicName>(), Err(EmptyEpicName));
    }

    #[test]
    fn the_epics_of_a_story_are_told_without_their_prefix() {
        let labels = ["epic-b".to_owned(), "c".to_owned()];
        let named: Vec<String> = EpicName::named(Some("epic-a"), &labels)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(named, ["a", "b"]);
    }
}
