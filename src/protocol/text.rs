//! Text from outside made safe to show: one line, no control characters, no terminal escapes, of limited length.
//! Pure.
//!
//! Owns the rule by which a text of an agent, a command or another process becomes something that a terminal, a log
//! or a message may carry. It does not translate, quote or redact. Every function here is idempotent, so a text can
//! be cleaned at both ends of the wire without harm.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use serde::{Deserialize, Serialize};

/// The longest text of one log message, in bytes (DESIGN section 4).
pub const MAX_LOG_BYTES: usize = 4096;

const CUT_MARK: char = '…';

/// A text as one line of at most `max_chars` characters: terminal escapes, control characters and invisible
/// direction marks are removed, every run of white space (line ends included) becomes one space, both ends are
/// trimmed, and a longer text ends in `…` (which counts).
pub fn one_line(text: &str, max_chars: usize) -> String {
    cut(text, max_chars, |_| 1)
}

/// The same as [`one_line`], with the limit in bytes of UTF-8.
pub fn one_line_bytes(text: &str, max_bytes: usize) -> String {
    cut(text, max_bytes, char::len_utf8)
}

fn cut(text: &str, limit: usize, cost: impl Fn(char) -> usize) -> String {
    let mark = cost(CUT_MARK);
    let mut line = String::new();
    let mut used = 0;
    let mut room_for_mark = 0;
    for character in Visible::new(text) {
        used += cost(character);
        if used > limit {
            line.truncate(room_for_mark);
            line.truncate(line.trim_end().len());
            if mark <= limit {
                line.push(CUT_MARK);
            }
            break;
        }
        line.push(character);
        if used + mark <= limit {
            room_for_mark = line.len();
        }
    }
    line
}

/// A text that is one clean line of at most `MAX` characters, whoever made it: the constructor applies [`one_line`],
/// and so does reading it from the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct OneLine<const MAX: usize>(String);

impl<const MAX: usize> OneLine<MAX> {
    /// The text, cleaned and cut.
    pub fn new(text: &str) -> Self {
        Self(one_line(text, MAX))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> From<String> for OneLine<MAX> {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl<const MAX: usize> From<&str> for OneLine<MAX> {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl<const MAX: usize> fmt::Display for OneLine<MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// The text of a log message: one clean line of at most [`MAX_LOG_BYTES`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct LogText(String);

impl LogText {
    /// The text, cleaned and cut.
    pub fn new(text: &str) -> Self {
        Self(one_line_bytes(text, MAX_LOG_BYTES))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for LogText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl fmt::Display for LogText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// The characters of a text that a person should see, white space folded.
struct Visible<'text> {
    rest: Peekable<Chars<'text>>,
    held: Option<char>,
    started: bool,
    space: bool,
}

impl<'text> Visible<'text> {
    fn new(text: &'text str) -> Self {
        Self {
            rest: text.chars().peekable(),
            held: None,
            started: false,
            space: false,
        }
    }

    fn skip_escape(&mut self) {
        match self.rest.peek() {
            Some('[') => {
                self.rest.next();
                self.skip_control_sequence();
            }
            Some(']' | 'P' | 'X' | '^' | '_') => {
                self.rest.next();
                self.skip_control_string();
            }
            _ => {
                while self.rest.next_if(|c| matches!(c, ' '..='/')).is_some() {}
                self.rest.next_if(|c| matches!(c, '0'..='~'));
            }
        }
    }

    /// Parameters and the final character (ECMA-48, 5.4).
    fn skip_control_sequence(&mut self) {
        while self.rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
        self.rest.next_if(|c| matches!(c, '@'..='~'));
    }

    /// A title, a link and the like, up to its terminator. A line end ends it too: one that was never terminated must
    /// not swallow the lines after it.
    fn skip_control_string(&mut self) {
        for character in self.rest.by_ref() {
            match character {
                '\u{7}' | '\u{9c}' | '\n' => return,
                '\u{1b}' => break,
                _ => {}
            }
        }
        self.rest.next_if_eq(&'\\');
    }
}

impl Iterator for Visible<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        loop {
            let character = self.rest.next()?;
            match character {
                '\u{1b}' => self.skip_escape(),
                '\u{9b}' => self.skip_control_sequence(),
                '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => self.skip_control_string(),
                _ if character.is_whitespace() => self.space = self.started,
                _ if character.is_control() || is_mark(character) => {}
                _ => {
                    self.started = true;
                    if std::mem::take(&mut self.space) {
                        self.held = Some(character);
                        return Some(' ');
                    }
                    return Some(character);
                }
            }
        }
    }
}

/// Marks that show nothing but change how a terminal shows the text around them (right-to-left overrides hide what a
/// line really says), and invisible spaces.
fn is_mark(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_and_control_characters_disappear() {
        let cases = [
            ("\u{1b}[1;31merror\u{1b}[0m: no", "error: no"),
            ("\u{1b}]0;title\u{7}text", "text"),
            (
                "\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\ end",
                "link end",
            ),
            ("\u{1b}]0;never ended\nnext line", "next line"),
            ("\u{9b}31mred \u{9d}title\u{9c}x", "red x"),
            ("a\u{8}b\u{7}c\0d", "abcd"),
            ("  one\r\n\ttwo \u{2028} three\n", "one two three"),
            ("\u{1b}(Bplain\u{1b}7", "plain"),
            ("user\u{202e}txt.exe", "usertxt.exe"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
        ];
        for (text, clean) in cases {
            assert_eq!(one_line(text, 200), clean, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
        assert_eq!(one_line("ééééé", 3), "éé…");
        assert_eq!(one_line("ab cdefg", 4), "ab…");
        assert_eq!(one_line_bytes("ééééé", 8), "éé…");
        assert_eq!(one_line("ab", 1), "…");
        assert_eq!(one_line("ab", 0), "");
        assert_eq!(one_line_bytes("abc", 2), "");
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_clean_line(
            text in "([\\x00-\\x20\\x1b\\]\\[;m\u{80}-\u{9f}]|.){0,60}",
            max in 0_usize..40,
        ) {
            let line = one_line(&text, max);
            prop_assert!(line.chars().count() <= max);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_mark(c)));
            prop_assert_eq!(line.trim(), &line);
            prop_assert_eq!(one_line(&line, max), line);
            let bytes = one_line_bytes(&text, max);
            prop_assert!(bytes.len() <= max);
            prop_assert_eq!(one_line_bytes(&bytes, max), bytes);
        }
    }
}
