//! Edits of a front matter, line by line: what is not edited stays as it is, byte for byte.
//!
//! An edit finds the lines that hold the value of a key by where the YAML parser saw it, replaces those, and then
//! reads the result again: unless the edited keys have the intended values and everything else has the value it had,
//! there is an error and no text. Shapes in which a key does not have lines of its own (a flow map, `? key`) are
//! refused, never guessed at. Pure.

use std::ops::Range;

use thiserror::Error;

use super::front_matter::{Document, FrontMatterError};
use super::scalar::{Key, Value};
use super::tree::{Node, Placed};

mod lines;

use lines::{Lines, is_alias, line_end};

/// One change of a front matter.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// The key gets the value; a key that is not there is added at the end of the block.
    Set {
        /// The key.
        key: Key,
        /// The new value.
        value: Value,
    },
    /// The key and its value go; nothing happens when it is not there.
    Remove {
        /// The key.
        key: Key,
    },
}

/// Why a front matter was not edited.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// The front matter is a flow map, as in `{id: S-1}`.
    #[error("the front matter is written as `{{..}}` and cannot be edited line by line")]
    FlowMap {
        /// The 1-based line.
        line: usize,
    },
    /// The key shares its line with something else, or is written in an unusual form.
    #[error("`{key}` does not stand on lines of its own and cannot be edited line by line")]
    NotOnItsOwnLines {
        /// The 1-based line.
        line: usize,
        /// The key.
        key: String,
    },
    /// The edited text would say something else than intended.
    #[error("the edit would change `{key}`, which it must not")]
    WouldChange {
        /// The key whose value would not be what it should.
        key: String,
    },
    /// The edited text would not be a front matter any more.
    #[error("the edit would break the front matter in line {}", .source.line())]
    WouldBreak {
        /// What a reader would say.
        source: FrontMatterError,
    },
}

impl Edit {
    /// An edit that gives a value to a key.
    pub fn set(key: Key, value: impl Into<Value>) -> Self {
        Self::Set {
            key,
            value: value.into(),
        }
    }

    /// The key that is edited.
    pub fn key(&self) -> &Key {
        match self {
            Self::Set { key, .. } | Self::Remove { key } => key,
        }
    }
}

impl Document {
    /// The text with the edits applied, one after the other. A value that a key has already is not written again.
    ///
    /// # Errors
    /// When a key cannot be edited without touching something else; see [`EditError`].
    pub fn with(&self, edits: &[Edit]) -> Result<String, EditError> {
        let mut edited = self.clone();
        for edit in edits {
            if let Some((place, replacement)) = edited.change(edit)? {
                let start = edited.text().len() - edited.source().len();
                let mut text = edited.text().to_owned();
                text.replace_range(start + place.start..start + place.end, &replacement);
                edited = Self::parse(&text).map_err(|source| EditError::WouldBreak { source })?;
            }
        }
        self.check(&edited, edits)?;
        Ok(edited.text().to_owned())
    }

    /// The bytes to replace and what with; none when nothing is to be done.
    fn change(&self, edit: &Edit) -> Result<Option<(Range<usize>, String)>, EditError> {
        let Some(block) = self.block() else {
            return Ok(self.new_block(edit));
        };
        if self.source().get(self.root().at.clone()) == Some("{") {
            return Err(EditError::FlowMap {
                line: self.root().line,
            });
        }
        let key = edit.key();
        let position = self
            .entries()
            .iter()
            .position(|(name, _)| is_key(&name.node, key));
        match (edit, position) {
            (Edit::Remove { .. }, None) => Ok(None),
            (Edit::Remove { .. }, Some(position)) => {
                let lines = self.lines_of(position, key, &block)?;
                Ok(Some((lines.all, String::new())))
            }
            (Edit::Set { value, .. }, None) => {
                let indent = self
                    .entries()
                    .first()
                    .map_or("", |(first, _)| self.indent_of(first));
                let line = format!("{indent}{key}: {}{}", value.to_yaml(), self.line_ending());
                Ok(Some((block.end..block.end, line)))
            }
            (Edit::Set { value, .. }, Some(position)) => {
                let old = &self.entries()[position].1;
                if value.is(&old.node) {
                    return Ok(None);
                }
                let lines = self.lines_of(position, key, &block)?;
                Ok(Some(self.replacement(&lines, old, value)))
            }
        }
    }

    /// The front matter that a file without one gets.
    fn new_block(&self, edit: &Edit) -> Option<(Range<usize>, String)> {
        let Edit::Set { key, value } = edit else {
            return None;
        };
        let ending = self.line_ending();
        let block = format!("---{ending}{key}: {}{ending}---{ending}", value.to_yaml());
        Some((0..0, block))
    }

    fn replacement(&self, lines: &Lines, old: &Placed, value: &Value) -> (Range<usize>, String) {
        let source = self.source();
        let value = value.to_yaml();
        let line_end = line_end(source, lines.colon_end);
        let behind = &source[lines.colon_end..line_end];
        let gap = behind.len() - behind.trim_start_matches([' ', '\t']).len();
        match &old.node {
            // Nothing there yet: what follows on the line, a comment perhaps, stays behind the value.
            Node::Null if old.at.is_empty() => {
                (lines.colon_end..lines.colon_end, format!(" {value}"))
            }
            Node::List(_) | Node::Map(_) if !is_alias(source, old) => {
                self.whole_lines(lines, &value)
            }
            _ if lines.value_end <= line_end
                && old.at.start >= lines.colon_end
                && !old.at.is_empty() =>
            {
                let space = if gap == 0 { " " } else { "" };
                (
                    lines.colon_end + gap..lines.value_end,
                    format!("{space}{value}"),
                )
            }
            _ => self.whole_lines(lines, &value),
        }
    }

    fn whole_lines(&self, lines: &Lines, value: &str) -> (Range<usize>, String) {
        let removed = &self.source()[lines.all.clone()];
        let ending = if removed.ends_with("\r\n") {
            "\r\n"
        } else {
            "\n"
        };
        let head = &self.source()[lines.all.start..lines.colon_end];
        (lines.all.clone(), format!("{head} {value}{ending}"))
    }

    /// The document's own line ending: that of its first line.
    fn line_ending(&self) -> &'static str {
        let first = self
            .source()
            .split_inclusive('\n')
            .next()
            .unwrap_or_default();
        if first.ends_with("\r\n") {
            "\r\n"
        } else {
            "\n"
        }
    }

    /// Compares what a reader of the edited text sees with what was intended.
    fn check(&self, edited: &Self, edits: &[Edit]) -> Result<(), EditError> {
        let touched = |name: &Placed| edits.iter().any(|edit| is_key(&name.node, edit.key()));
        let untouched = |document: &Self| -> Vec<(Placed, Placed)> {
            document
                .entries()
                .iter()
                .filter(|(name, _)| !touched(name))
                .cloned()
                .collect()
        };
        let (before, after) = (untouched(self), untouched(edited));
        let would_change = |key: String| EditError::WouldChange { key };
        if let Some((name, _)) = before
            .iter()
            .zip(&after)
            .find_map(|(old, new)| (old != new).then_some(old))
        {
            let line = self.source().get(name.at.clone()).unwrap_or("a key");
            return Err(would_change(line.to_owned()));
        }
        if before.len() != after.len() {
            return Err(would_change("another key".to_owned()));
        }
        if self.body() != edited.body() {
            return Err(would_change("the body".to_owned()));
        }
        for (index, edit) in edits.iter().enumerate() {
            let overridden = edits[index + 1..]
                .iter()
                .any(|later| later.key() == edit.key());
            let now = edited
                .entries()
                .iter()
                .find(|(name, _)| is_key(&name.node, edit.key()));
            let as_intended = match edit {
                Edit::Set { value, .. } => now.is_some_and(|(_, node)| value.is(&node.node)),
                Edit::Remove { .. } => now.is_none(),
            };
            if !overridden && !as_intended {
                return Err(would_change(edit.key().to_string()));
            }
        }
        Ok(())
    }
}

fn is_key(node: &Node, key: &Key) -> bool {
    matches!(node, Node::Text(text) if text == key.as_str())
}

#[cfg(test)]
mod tests;
