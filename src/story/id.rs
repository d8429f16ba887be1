//! The names of stories: ids and slugs as types that cannot hold a path, an option or a broken git ref. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest id, in bytes: an id is part of a directory name, a branch name and a log file name.
pub const MAX_ID_LEN: usize = 64;

/// The longest slug, in characters (the predecessor's rule, so that existing worktrees and branches are found).
pub const MAX_SLUG_LEN: usize = 50;

/// The slug of a story whose title gives none (a title without a Latin letter or digit).
pub const FALLBACK_SLUG: &str = "story";

/// The id of a story, such as `S-0001`.
///
/// Holds 1 to [`MAX_ID_LEN`] characters of `[A-Za-z0-9._-]`, starts with a letter or digit, and is always usable
/// as one path component and as one component of a git ref: no slash, no `..`, no `.lock` or `.` at the end.
/// Cheap to clone: the engine names stories by it in every event and effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoryId(Arc<str>);

/// Why a text is not a story id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoryIdError {
    /// Nothing there.
    #[error("a story id is empty")]
    Empty,
    /// Longer than [`MAX_ID_LEN`].
    #[error("a story id has more than {MAX_ID_LEN} characters")]
    TooLong,
    /// A character or an arrangement that a path or a git ref cannot hold.
    #[error(
        "`{0}` is not a story id: letters, digits, `-`, `_` and single dots, starting with a letter or digit"
    )]
    Malformed(String),
}

impl StoryId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two ids name the same story to a person: they are told apart without regard to case, because the
    /// file systems of many users are.
    pub fn same_as(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }

    /// The number of an id of the form `S-<digits>`, by which new ids are allocated.
    pub fn number(&self) -> Option<u64> {
        let digits = self.0.strip_prefix("S-")?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse().ok()).flatten()
    }

    /// The id with a number: `S-0001`, and `S-10000` after `S-9999`.
    pub fn from_number(number: u64) -> Self {
        Self(format!("S-{number:04}").into())
    }
}

impl FromStr for StoryId {
    type Err = StoryIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(StoryIdError::Empty);
        }
        if text.len() > MAX_ID_LEN {
            return Err(StoryIdError::TooLong);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts_well = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        let ref_safe = !text.contains("..")
            && !text.ends_with('.')
            && !text.to_ascii_lowercase().ends_with(".lock");
        if starts_well && ref_safe && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(StoryIdError::Malformed(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for StoryId {
    type Error = StoryIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StoryId> for String {
    fn from(id: StoryId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for StoryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// The part of a worktree's and a branch's name that says what the story is about: `[a-z0-9-]`, at most
/// [`MAX_SLUG_LEN`] characters, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Slug(String);

impl Slug {
    /// The predecessor's rule, applied to a title or to a slug that a person wrote: lower case, every run of other
    /// characters becomes one dash, dashes at both ends are dropped, and then it is cut (so it may end in a dash).
    pub fn from_text(text: &str) -> Self {
        let mut slug = String::with_capacity(text.len().min(MAX_SLUG_LEN));
        for character in text.chars().flat_map(char::to_lowercase) {
            if character.is_ascii_lowercase() || character.is_ascii_digit() {
                slug.push(character);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let trimmed = slug.strip_suffix('-').unwrap_or(&slug);
        let cut: String = trimmed.chars().take(MAX_SLUG_LEN).collect();
        if cut.is_empty() {
            Self(FALLBACK_SLUG.to_owned())
        } else {
            Self(cut)
        }
    }

    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_ids_are_accepted() {
        for id in [
            "S-0001",
            "S-10000",
            "story-m1x2-ab12",
            "EPIC_7",
            "v1.2",
            "7",
        ] {
            assert_eq!(id.parse::<StoryId>().unwrap().as_str(), id);
        }
    }

    #[test]
    fn ids_that_would_leave_their_place_are_refused() {
        for id in [
            "", "..", ".", "a/b", "a\\b", "/etc", "-rf", "a..b", "a.", "a.lock", "A.LOCK", "a b",
            "a\0", "a\n", "é", "@{",
        ] {
            assert!(id.parse::<StoryId>().is_err(), "{id:?} was accepted");
        }
        assert_eq!(
            "x".repeat(65).parse::<StoryId>(),
            Err(StoryIdError::TooLong)
        );
    }

    #[test]
    fn numbers_are_read_and_written_as_the_predecessor_did() {
        assert_eq!(StoryId::from_number(7).as_str(), "S-0007");
        assert_eq!(StoryId::from_number(10_000).as_str(), "S-10000");
        assert_eq!(StoryId::from_number(42).number(), Some(42));
        assert_eq!("S-x1".parse::<StoryId>().unwrap().number(), None);
        assert_eq!("story-1".parse::<StoryId>().unwrap().number(), None);
    }

    #[test]
    fn slugs_follow_the_predecessors_rule() {
        let slug = |text| Slug::from_text(text).as_str().to_owned();
        assert_eq!(slug("Add a Login page!"), "add-a-login-page");
        assert_eq!(slug("  --x--  "), "x");
        assert_eq!(slug("日本語"), "story");
        assert_eq!(slug(""), "story");
        assert_eq!(slug(&"ab ".repeat(40)).len(), MAX_SLUG_LEN);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_slug_that_is_safe_in_a_path_and_a_ref(text in ".*") {
            let slug = Slug::from_text(&text);
            let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            prop_assert!(!slug.as_str().is_empty() && slug.as_str().len() <= MAX_SLUG_LEN);
            prop_assert!(slug.as_str().chars().all(safe) && !slug.as_str().starts_with('-'));
        }

        #[test]
        fn parsing_any_text_never_panics_and_accepts_only_one_path_component(text in ".{0,80}") {
            if let Ok(id) = text.parse::<StoryId>() {
                let path = std::path::Path::new("base").join(id.as_str());
                prop_assert_eq!(path.components().count(), 2);
                prop_assert!(path.starts_with("base"));
            }
        }
    }
}
