//! Where in the text a key and its value stand, by what the YAML parser saw. Pure.

use std::ops::Range;

use super::EditError;
use crate::story::front_matter::Document;
use crate::story::scalar::Key;
use crate::story::tree::{Node, Placed};

/// Where a key and its value stand, in bytes of the source.
pub(super) struct Lines {
    /// Whole lines, with the last line ending.
    pub(super) all: Range<usize>,
    /// Behind the colon.
    pub(super) colon_end: usize,
    /// Behind the last byte of the value.
    pub(super) value_end: usize,
}

impl Document {
    /// The lines that hold a key and its value.
    pub(super) fn lines_of(
        &self,
        position: usize,
        key: &Key,
        block: &Range<usize>,
    ) -> Result<Lines, EditError> {
        let source = self.source();
        let (name, value) = &self.entries()[position];
        let refused = || EditError::NotOnItsOwnLines {
            line: name.line,
            key: key.to_string(),
        };
        let start = line_start(source, name.at.start);
        let next = match self.entries().get(position + 1) {
            Some((next, _)) => line_start(source, next.at.start),
            None => block.end,
        };
        let behind_key = &source[name.at.end..];
        let spaces = behind_key.len() - behind_key.trim_start_matches([' ', '\t']).len();
        let alone = next > start
            && source[start..name.at.start]
                .bytes()
                .all(|byte| byte == b' ');
        if !alone || start < block.start || !behind_key[spaces..].starts_with(':') {
            return Err(refused());
        }
        let colon_end = name.at.end + spaces + 1;
        let value_end = self.value_end(value, colon_end..next);
        let all = start..line_end(source, value_end.max(colon_end) - 1).min(next);
        Ok(Lines {
            all,
            colon_end,
            value_end,
        })
    }

    /// Where a value ends: not with the blank and comment lines behind it, which are not part of it.
    fn value_end(&self, value: &Placed, region: Range<usize>) -> usize {
        let source = self.source();
        let inside = last_scalar_end(source, value)
            .min(region.end)
            .max(region.start);
        let collection =
            matches!(value.node, Node::List(_) | Node::Map(_)) && !is_alias(source, value);
        if !collection {
            return inside;
        }
        // The closing bracket of a flow collection is not in its span: it ends with its last line that is no comment.
        let mut end = inside;
        let mut position = line_end(source, inside.saturating_sub(1).max(region.start));
        if region.start < position {
            end = end.max(
                region.start
                    + source[region.start..position.min(region.end)]
                        .trim_end()
                        .len(),
            );
        }
        while position < region.end {
            let stop = line_end(source, position);
            let line = source[position..stop].trim();
            if !line.is_empty() && !line.starts_with('#') {
                end = position + source[position..stop].trim_end().len();
            }
            position = stop;
        }
        end
    }

    /// The spaces before a key.
    pub(super) fn indent_of(&self, key: &Placed) -> &str {
        let line = &self.source()[line_start(self.source(), key.at.start)..];
        &line[..line.len() - line.trim_start_matches(' ').len()]
    }
}

/// Whether a value is written as `*name`.
pub(super) fn is_alias(source: &str, value: &Placed) -> bool {
    source
        .get(value.at.clone())
        .is_some_and(|text| text.starts_with('*'))
        && value.at != value.source
}

/// Behind the last scalar of a value as it is written here; 0 when it has none.
fn last_scalar_end(source: &str, value: &Placed) -> usize {
    let own = source
        .get(value.at.clone())
        .map_or(0, |text| value.at.start + text.trim_end().len());
    if is_alias(source, value) {
        return own;
    }
    match &value.node {
        Node::List(items) => items
            .iter()
            .map(|item| last_scalar_end(source, item))
            .max()
            .unwrap_or(own),
        Node::Map(entries) => entries
            .iter()
            .map(|(name, value)| last_scalar_end(source, name).max(last_scalar_end(source, value)))
            .max()
            .unwrap_or(own),
        _ if value.at.is_empty() => 0,
        _ => own,
    }
}

/// Where the line begins that holds a byte. Bytes, because the byte may be inside of a character.
fn line_start(source: &str, position: usize) -> usize {
    let before = &source.as_bytes()[..position];
    before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1)
}

/// Behind the line ending of the line that holds a byte.
pub(super) fn line_end(source: &str, position: usize) -> usize {
    let behind = &source.as_bytes()[position..];
    behind
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(source.len(), |newline| position + newline + 1)
}
