//! The front matter of a story file: where it begins and ends, and what its fields say.
//!
//! Promises that the text is kept as it is, that nothing in it is evaluated, and that every error names the line of
//! the file. Unknown keys of any shape are accepted. Does not touch the disk; changes are made in [`super::edit`].
//! Merge keys (`<<`) are kept and not followed: a field has to stand at the top level. Pure.

use std::ops::Range;

use thiserror::Error;

use super::tree::{self, Node, Placed};

mod typed;

pub use typed::Fields;

/// The byte order mark that some editors write.
const BOM: char = '\u{feff}';

/// A story file, split into front matter and body.
#[derive(Debug, Clone)]
pub struct Document {
    text: String,
    /// Where the text begins behind a byte order mark. The places below and in the tree count from there.
    start: usize,
    /// The block between the fences, without them; none when the file has no front matter.
    block: Option<Range<usize>>,
    body: usize,
    root: Placed,
}

/// Why a text is not a story file, or a field of it does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrontMatterError {
    /// `---js` and the like: the predecessor evaluated them.
    #[error("front matter in another language than YAML is not read: `---{language}`")]
    Language {
        /// The 1-based line.
        line: usize,
        /// What stands behind the fence.
        language: String,
    },
    /// No second fence.
    #[error("the front matter that begins here has no closing `---`")]
    Unterminated {
        /// The 1-based line of the opening fence.
        line: usize,
    },
    /// The block is not YAML that we accept.
    #[error("{reason}")]
    Yaml {
        /// The 1-based line.
        line: usize,
        /// What the parser says, in one line.
        reason: String,
    },
    /// The block is a list or a single value.
    #[error("the front matter is not a list of `key: value` lines")]
    NotAMap {
        /// The 1-based line.
        line: usize,
    },
    /// A field that we read has a value that it cannot have.
    #[error("{key}: {reason}")]
    Field {
        /// The 1-based line of the value.
        line: usize,
        /// The key.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
}

impl FrontMatterError {
    /// The 1-based line of the file that the error is about.
    pub fn line(&self) -> usize {
        match self {
            Self::Language { line, .. }
            | Self::Unterminated { line }
            | Self::Yaml { line, .. }
            | Self::NotAMap { line }
            | Self::Field { line, .. } => *line,
        }
    }
}

impl Document {
    /// Splits a text into front matter and body and reads the block.
    ///
    /// A text whose first line is not a `---` line has no front matter and is all body.
    ///
    /// # Errors
    /// When the front matter is in another language, not terminated, not YAML or not a map. The fields are not
    /// looked at: see [`Document::fields`].
    pub fn parse(text: &str) -> Result<Self, FrontMatterError> {
        let start = if text.starts_with(BOM) {
            BOM.len_utf8()
        } else {
            0
        };
        let source = &text[start..];
        let (block, body) = match block_of(source)? {
            Some((block, body)) => (Some(block), body),
            None => (None, 0),
        };
        // The opening fence is a document start to the YAML parser, so its lines and bytes are those of the file.
        let yaml = block.as_ref().map_or("", |block| &source[..block.end]);
        let root = tree::parse(yaml).map_err(|fault| FrontMatterError::Yaml {
            line: fault.line.max(1),
            reason: fault.reason,
        })?;
        if !matches!(root.node, Node::Map(_) | Node::Null) {
            return Err(FrontMatterError::NotAMap {
                line: root.line.max(1),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            start,
            block,
            body,
            root,
        })
    }

    /// The whole text, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands behind the front matter.
    pub fn body(&self) -> &str {
        &self.source()[self.body..]
    }

    /// Whether there is a front matter, be it empty.
    pub fn has_front_matter(&self) -> bool {
        self.block.is_some()
    }

    /// Whether the front matter has a value other than `null` for a key.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The text behind a byte order mark, from which all places count.
    pub(crate) fn source(&self) -> &str {
        &self.text[self.start..]
    }

    pub(crate) fn block(&self) -> Option<Range<usize>> {
        self.block.clone()
    }

    /// The top level of the block.
    pub(crate) fn root(&self) -> &Placed {
        &self.root
    }

    /// The top-level entries, in order.
    pub(crate) fn entries(&self) -> &[(Placed, Placed)] {
        match &self.root.node {
            Node::Map(entries) => entries,
            _ => &[],
        }
    }

    fn entry(&self, key: &str) -> Option<&Placed> {
        self.entries()
            .iter()
            .find(|(name, value)| {
                matches!(&name.node, Node::Text(text) if text == key) && value.node != Node::Null
            })
            .map(|(_, value)| value)
    }
}

/// The block between the fences and the start of the body.
fn block_of(source: &str) -> Result<Option<(Range<usize>, usize)>, FrontMatterError> {
    let mut lines = source.split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    // Four dashes are a rule in markdown, and not a fence.
    let Some(behind) = first
        .strip_prefix("---")
        .filter(|rest| !rest.starts_with('-'))
    else {
        return Ok(None);
    };
    let language = behind.trim();
    if !language.is_empty() {
        let language = language
            .chars()
            .take(40)
            .flat_map(char::escape_debug)
            .collect();
        return Err(FrontMatterError::Language { line: 1, language });
    }
    let mut end = first.len();
    for line in lines {
        if is_fence(line) {
            return Ok(Some((first.len()..end, end + line.len())));
        }
        end += line.len();
    }
    Err(FrontMatterError::Unterminated { line: 1 })
}

fn is_fence(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_split_at_its_fences() {
        for (text, block, body) in [
            ("---\nid: S-1\n---\nbody\n", Some("id: S-1\n"), "body\n"),
            (
                "---  \r\nid: S-1\r\n--- \r\nbody",
                Some("id: S-1\r\n"),
                "body",
            ),
            ("\u{feff}---\nid: S-1\n---", Some("id: S-1\n"), ""),
            ("---\n---\nbody", Some(""), "body"),
            (
                "---\n# only a comment\n---\n",
                Some("# only a comment\n"),
                "",
            ),
            ("# Title\n---\n", None, "# Title\n---\n"),
            ("----\nrule\n---\n", None, "----\nrule\n---\n"),
            ("", None, ""),
        ] {
            let document = Document::parse(text).unwrap();
            assert_eq!(
                document.block().map(|block| &document.source()[block]),
                block,
                "{text:?}"
            );
            assert_eq!(document.body(), body, "{text:?}");
            assert_eq!(document.text(), text);
        }
    }

    #[test]
    fn code_in_another_language_is_refused() {
        for text in ["---js\n{}\n---\n", "---json\n{}\n---\n", "--- js\n---\n"] {
            assert!(matches!(
                Document::parse(text),
                Err(FrontMatterError::Language { line: 1, .. })
            ));
        }
        let open = Document::parse("---\nid: S-1\n");
        assert_eq!(
            open.unwrap_err(),
            FrontMatterError::Unterminated { line: 1 }
        );
        let list = Document::parse("---\n# c\n- a\n---\n");
        assert_eq!(list.unwrap_err(), FrontMatterError::NotAMap { line: 3 });
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in any::<String>(), block in "[-a:'\"|>#&*!{}\\[\\], \r\n\t?%0]{0,60}") {
            for text in [text.clone(), format!("---\n{block}\n---\n{text}"), format!("\u{feff}---\r\n{block}")] {
                if let Ok(document) = Document::parse(&text) {
                    prop_assert!(document.text() == text && text.ends_with(document.body()));
                    prop_assert!(document.fields().map_or_else(|error| error.line() > 0, |_| true));
                }
            }
        }
    }
}
