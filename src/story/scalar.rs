//! What an edit puts into a front matter: keys that need no quotes, and scalars with exactly the quotes they need.
//!
//! Promises that what is emitted stands on one line and means the same to YAML 1.1 and 1.2 readers. Pure.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use thiserror::Error;

use super::tree::Node;

/// The longest key that an edit writes, in bytes.
const MAX_KEY_LEN: usize = 64;

/// A plain top-level key of a front matter: a lower-case letter, then lower-case letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Cow<'static, str>);

/// A text that cannot be written as a key without quotes, or would be read as something else than text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a front matter key: a lower-case letter, then lower-case letters, digits, `_` and `-`"
)]
pub struct KeyError(String);

impl Key {
    /// The id of the story.
    pub const ID: Self = Self(Cow::Borrowed("id"));
    /// The title of the story.
    pub const TITLE: Self = Self(Cow::Borrowed("title"));
    /// The slug of the story.
    pub const SLUG: Self = Self(Cow::Borrowed("slug"));
    /// The priority of the story.
    pub const PRIORITY: Self = Self(Cow::Borrowed("priority"));
    /// The status of the story.
    pub const STATUS: Self = Self(Cow::Borrowed("status"));
    /// The kind of the story.
    pub const TYPE: Self = Self(Cow::Borrowed("type"));
    /// The day on which the story was added.
    pub const CREATED: Self = Self(Cow::Borrowed("created"));
    /// The day of the last change.
    pub const UPDATED: Self = Self(Cow::Borrowed("updated"));
    /// The branch of the story.
    pub const BRANCH: Self = Self(Cow::Borrowed("branch"));
    /// The agent that works on the story.
    pub const AGENT: Self = Self(Cow::Borrowed("agent"));
    /// The epic of the story.
    pub const EPIC: Self = Self(Cow::Borrowed("epic"));
    /// Since when the story is blocked.
    pub const BLOCKED_AT: Self = Self(Cow::Borrowed("blocked_at"));
    /// Why the story is blocked.
    pub const BLOCKED_REASON: Self = Self(Cow::Borrowed("blocked_reason"));
    /// What went wrong last.
    pub const LAST_ERROR: Self = Self(Cow::Borrowed("last_error"));

    /// The key with that name.
    ///
    /// # Errors
    /// When the name would need quotes, or is a word that YAML 1.1 reads as a boolean or as nothing.
    pub fn new(name: impl Into<String>) -> Result<Self, KeyError> {
        let name = name.into();
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let fits = name.len() <= MAX_KEY_LEN
            && name
                .bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_lowercase())
            && name.bytes().all(allowed)
            && !is_reserved_word(&name);
        if fits {
            Ok(Self(Cow::Owned(name)))
        } else {
            Err(KeyError(
                name.chars()
                    .take(MAX_KEY_LEN)
                    .flat_map(char::escape_debug)
                    .collect(),
            ))
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A scalar that an edit writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any text, several lines included.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A boolean.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Value {
    /// The scalar as YAML on one line.
    pub fn to_yaml(&self) -> String {
        match self {
            Self::Text(text) => text_to_yaml(text),
            Self::Integer(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
        }
    }

    /// Whether a reader of `node` sees this value.
    pub(crate) fn is(&self, node: &Node) -> bool {
        match (self, node) {
            (Self::Text(mine), Node::Text(theirs)) => mine == theirs,
            (Self::Integer(mine), Node::Integer(theirs)) => i128::from(*mine) == *theirs,
            (Self::Bool(mine), Node::Bool(theirs)) => mine == theirs,
            _ => false,
        }
    }
}

fn text_to_yaml(text: &str) -> String {
    if text.chars().any(needs_escape) {
        double_quoted(text)
    } else if is_plain(text) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Characters that some reader refuses, folds away or takes for a line break when they stand unescaped.
fn needs_escape(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other if needs_escape(other) => {
                write!(quoted, "\\u{:04x}", u32::from(other)).expect("a string can always grow");
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text without control characters means itself when it stands without quotes in a block mapping.
fn is_plain(text: &str) -> bool {
    let starts_well = text.chars().next().is_some_and(|first| {
        first.is_ascii_alphanumeric()
            || "_/($^;\\+.".contains(first)
            || (!first.is_ascii() && !first.is_whitespace())
    });
    starts_well
        && !text.ends_with(char::is_whitespace)
        && !text.ends_with(':')
        && !text.contains(": ")
        && !text.contains(" #")
        && !is_reserved_word(text)
        && !could_be_number_or_date(text)
}

/// The words that YAML 1.1 or 1.2 reads as a boolean or as nothing.
fn is_reserved_word(text: &str) -> bool {
    const WORDS: [&str; 11] = [
        "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf",
    ];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether some reader may see a number, a sexagesimal number, a date or a time: wider than any of their grammars,
/// because quotes that were not needed cost nothing.
fn could_be_number_or_date(text: &str) -> bool {
    let starts_so = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    let may_occur = |character: char| {
        character.is_ascii_hexdigit() || "xXoO_+-.:, tTzZnNiI".contains(character)
    };
    starts_so && text.chars().all(may_occur)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::story::tree;

    fn yaml(text: &str) -> String {
        Value::from(text).to_yaml()
    }

    #[test]
    fn quotes_stand_where_they_are_needed_and_nowhere_else() {
        for plain in [
            "ready",
            "S-0001",
            "Add a login page",
            "2-factor-auth",
            "a:b",
            "a#b",
            "it's",
            "/etc",
            "naïve",
            "日本",
        ] {
            assert_eq!(yaml(plain), plain);
        }
        for quoted in [
            "",
            " a",
            "a ",
            "yes",
            "No",
            "null",
            "~",
            "007",
            "1e3",
            "0x1F",
            "1_000",
            "12:30:45",
            "2026-01-15",
            "2026-01-15T00:00:00.000Z",
            ".inf",
            ".NaN",
            "- a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "[a]",
            "{a}",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "? a",
            "=",
            "<<",
            "-",
            "---",
            "\"a\"",
            ",a",
        ] {
            assert_eq!(yaml(quoted), format!("'{quoted}'"));
        }
        assert_eq!(yaml("'a' b"), "'''a'' b'");
        assert_eq!(yaml("a\nb\t\"\u{1b}\\"), r#""a\nb\t\"\u001b\\""#);
    }

    #[test]
    fn keys_need_no_quotes() {
        for key in ["status", "last_error", "x-1"] {
            assert_eq!(Key::new(key).unwrap().as_str(), key);
        }
        for key in [
            "", "Status", "1a", "a b", "a:", "yes", "n", "null", "é", "a\n",
        ] {
            assert!(Key::new(key).is_err(), "{key:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text in prop_oneof![any::<String>(), "[-+.:,#'\"\\\\ a-f0-9\n~|>]{0,8}"]) {
            let line = format!("key: {}\n", yaml(&text));
            prop_assert_eq!(line.lines().count(), 1);
            let tree::Node::Map(entries) = tree::parse(&line).unwrap().node else { panic!("not a map") };
            prop_assert!(Value::Text(text).is(&entries[0].1.node));
        }
    }
}
