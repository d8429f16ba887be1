//! The files that stories will touch, as far as they say so: patterns of paths, whether two of them can mean the same
//! file, and an index of who named what. Pure.
//!
//! - `grammar`: from the text of a pattern to its alternatives
//! - `shape`: what an alternative consists of, and whether two can match the same path
//! - `index`: whose patterns overlap with a given one

mod grammar;
mod index;
#[cfg(test)]
mod properties;
mod shape;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use index::FileIndex;
use shape::{Alternative, Segment, meet};

/// The most bytes of a pattern, and the most characters of all its alternatives together. The time to compare two
/// patterns grows with the product of their lengths.
const LONGEST: usize = 4096;

/// The most alternatives that the braces of a pattern may stand for.
const MOST_ALTERNATIVES: usize = 64;

/// A pattern of paths relative to the root of the repository, with `/`. Cheap to clone; two are equal when their texts
/// are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePattern(Arc<Parsed>);

struct Parsed {
    text: String,
    /// Never empty.
    alternatives: Vec<Alternative>,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FilePatternError {
    /// Nothing is left of it, or of one of its alternatives.
    #[error("a file pattern, and each of its alternatives, has to name something")]
    Empty,
    /// It leaves a folder upwards.
    #[error("a file pattern starts at the root of the repository and has no `..`")]
    Parent,
    /// It is longer than what is compared.
    #[error("a file pattern has at most {LONGEST} characters, its alternatives written out")]
    TooLong,
    /// Its braces stand for more than what is compared.
    #[error("a file pattern has at most {MOST_ALTERNATIVES} alternatives")]
    TooManyAlternatives,
    /// A bracket or brace is opened and not closed.
    #[error("`{0}` is not closed in a file pattern (`\\{0}` stands for the character)")]
    Unclosed(char),
    /// Brackets that no character fits, or a range that ends before it starts.
    #[error("no character fits a range in the brackets of a file pattern")]
    NoCharacter,
    /// A backslash with nothing after it.
    #[error("a file pattern ends with a backslash (`\\\\` stands for the character)")]
    Escape,
}

impl FilePattern {
    /// Reads a pattern as users write it.
    ///
    /// `*` stands for any characters of one segment, `?` for one, `[a-z]` and `[!a]` for one of some or of all others,
    /// `{a,b}` for either, and a segment `**` for any number of segments, none included. A backslash takes the meaning
    /// from the next character. Leading `./` and `/` are dropped, and so are segments that are empty or `.`; a trailing
    /// `/` means everything below. What has no wildcard (braces are none) stands for the file or for everything below
    /// the folder of that name, so `a.md` overlaps with `**/b.rs`: only the file system knows that `a.md` is no folder.
    ///
    /// # Errors
    /// When the text names nothing, has a segment `..`, is too long, stands for too many alternatives, or has brackets,
    /// braces or a backslash without their other part.
    pub fn parse(text: &str) -> Result<Self, FilePatternError> {
        let mut text = text;
        while let Some(rest) = text.strip_prefix("./").or_else(|| text.strip_prefix('/')) {
            text = rest;
        }
        Ok(Self(Arc::new(Parsed {
            alternatives: grammar::read(text)?,
            text: text.to_owned(),
        })))
    }

    /// A path taken literally: that file, or everything below that folder.
    ///
    /// A segment `..` takes back the one before it. Of a path that is too long for a pattern, the folders at its start
    /// that fit are kept; they stand for more than the path.
    pub fn literal(path: &str) -> Self {
        let mut names = Vec::new();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(name),
            }
        }
        let mut text = String::new();
        let mut segments = Vec::new();
        for name in names {
            let escaped = grammar::escape(name);
            if text.len() + 1 + escaped.len() > LONGEST {
                break;
            }
            if !text.is_empty() {
                text.push('/');
            }
            text.push_str(&escaped);
            segments.push(Segment::Name(name.into()));
        }
        if text.is_empty() {
            text.push_str("**");
        }
        segments.push(Segment::AnyDepth);
        Self(Arc::new(Parsed {
            text,
            alternatives: vec![segments.into()],
        }))
    }

    /// The pattern as text, from which [`Self::parse`] makes the same pattern.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether some path could match both.
    ///
    /// This is exact, but for two things that no path has and that are taken for names all the same when only wildcards
    /// make them: the segments `.` and `..` (`?` and `[.]` overlap). Upper and lower case are different, whatever the
    /// file system says.
    pub fn overlaps(&self, other: &Self) -> bool {
        let theirs = &other.0.alternatives;
        let mut ours = self.0.alternatives.iter();
        ours.any(|our| theirs.iter().any(|their| meet(our, their)))
    }

    fn alternatives(&self) -> &[Alternative] {
        &self.0.alternatives
    }
}

impl PartialEq for FilePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for FilePattern {}

impl PartialOrd for FilePattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FilePattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.text.cmp(&other.0.text)
    }
}

impl Hash for FilePattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Debug for FilePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("FilePattern")
            .field(&self.0.text)
            .finish()
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0.text)
    }
}

impl TryFrom<String> for FilePattern {
    type Error = FilePatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<FilePattern> for String {
    fn from(pattern: FilePattern) -> Self {
        pattern.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> FilePattern {
        FilePattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn patterns_overlap_when_a_path_could_match_both() {
        for (one, other) in [
            ("src/engine/**", "src/engine/plan.rs"),
            ("src/**/plan.rs", "src/plan.rs"),
            ("**/*.md", "README.md"),
            ("**/*.md", "docs/**"),
            ("docs", "docs/x.md"),
            ("docs", "docs"),
            ("docs", "*/x.md"),
            ("docs.md", "**/x.rs"),
            ("./docs", "/docs/"),
            ("docs//./x", "docs/x"),
            ("src/", "src/a/b.rs"),
            ("src/*/", "src/a/b.rs"),
            ("src/{a,b}.rs", "src/b.rs"),
            ("{src,tests}/**", "tests/it/main.rs"),
            ("{src/a,docs}/x", "src/a/x"),
            ("{a,{b,c}}d", "cd"),
            ("src/a*.rs", "src/*b.rs"),
            ("a/**/c", "a/b/**"),
            ("[a-f]x", "[!a-e]?"),
            ("[!a]", "[^b]"),
            ("[]-]", "\\]"),
            ("[\\]a-]", "-"),
            ("\\*.rs", "[*].rs"),
            ("a**b", "axb"),
            ("{*,a}*/x", "y/z/x"),
            ("*", ".github"),
            ("?", "[.]"),
            ("a}b,c", "a?b,c"),
            ("größe/?", "größe/é"),
        ] {
            assert!(pattern(one).overlaps(&pattern(other)), "{one} and {other}");
            assert!(pattern(other).overlaps(&pattern(one)), "{other} and {one}");
        }
    }

    #[test]
    fn patterns_do_not_overlap_when_no_path_matches_both() {
        for (one, other) in [
            ("src/*.rs", "src/a/b.rs"),
            ("src/{a,b}.rs", "src/c.rs"),
            ("src/engine/**", "src/engineering/x"),
            ("docs", "docs.md"),
            ("**/*.md", "src/*.rs"),
            ("src/*/mod.rs", "src/mod.r[s]"),
            ("src/?.rs", "src/ab.rs"),
            ("[a-c]", "[d-f]"),
            ("[!a-z]", "q"),
            ("\\*.rs", "a.rs"),
            ("a\\{b", "a"),
            ("a*", "b*"),
            ("a/**/b", "a/*/c"),
            ("src", "Src"),
        ] {
            assert!(!pattern(one).overlaps(&pattern(other)), "{one} and {other}");
            assert!(!pattern(other).overlaps(&pattern(one)), "{other} and {one}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        use FilePatternError::{
            Empty, Escape, NoCharacter, Parent, TooLong, TooManyAlternatives, Unclosed,
        };
        let long = "a".repeat(LONGEST + 1);
        let long_written_out = format!("{{a,b}}{}", "c".repeat(LONGEST / 2));
        let nested = "{".repeat(LONGEST);
        let classes = format!("{}x", "[a-bd-e]{x,y}".repeat(6)).repeat(8);
        for (text, error) in [
            ("", Empty),
            ("/", Empty),
            (".", Empty),
            ("././/", Empty),
            ("{a,}", Empty),
            ("..", Parent),
            ("src/../x", Parent),
            ("src/{.,a}./x", Parent),
            (&long, TooLong),
            (&long_written_out, TooLong),
            ("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", TooManyAlternatives),
            (&classes, TooManyAlternatives),
            ("{a", Unclosed('{')),
            (&nested, Unclosed('{')),
            ("[a", Unclosed('[')),
            ("[]", Unclosed('[')),
            ("[a-", Unclosed('[')),
            ("[a\\]", Unclosed('[')),
            ("[a\\", Unclosed('[')),
            ("[z-a]", NoCharacter),
            ("[/]", NoCharacter),
            ("a\\", Escape),
        ] {
            let found = FilePattern::parse(text).unwrap_err();
            assert_eq!(found, error, "{text}");
            assert_eq!(found.to_string().lines().count(), 1);
        }
        assert_eq!(
            Unclosed('{').to_string(),
            "`{` is not closed in a file pattern (`\\{` stands for the character)"
        );
        assert_eq!(
            Escape.to_string(),
            "a file pattern ends with a backslash (`\\\\` stands for the character)"
        );
    }

    #[test]
    fn the_largest_patterns_are_read() {
        pattern(&"a".repeat(LONGEST));
        pattern(&"a/".repeat(LONGEST / 2));
        let nested = format!("{}a{}", "{".repeat(2000), "}".repeat(2000));
        assert!(pattern(&nested).overlaps(&pattern("a")));
        let all = pattern("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}");
        assert_eq!(all.alternatives().len(), MOST_ALTERNATIVES);
    }

    #[test]
    fn a_literal_path_means_what_it_spells() {
        let odd = FilePattern::literal("./a*/{b}\\[c]//?");
        assert_eq!(odd.as_str(), "a\\*/\\{b}\\\\\\[c]/\\?");
        assert!(odd.overlaps(&pattern("a\\*/**")));
        assert!(!odd.overlaps(&pattern("ab/**")));
        assert_eq!(FilePattern::literal("a/../../b"), pattern("b"));
        assert_eq!(FilePattern::literal(""), pattern("**"));
        assert_eq!(FilePattern::literal(&"a".repeat(LONGEST)), pattern("**"));
        let deep = FilePattern::literal(&"a/".repeat(LONGEST));
        assert!(deep.as_str().len() <= LONGEST);
        assert_eq!(deep, pattern(deep.as_str()));
    }

    #[test]
    fn the_text_is_kept_without_its_leading_dots_and_slashes() {
        assert_eq!(pattern(".//./src/./{a,b}/").as_str(), "src/./{a,b}/");
        assert_eq!(pattern("./.github").to_string(), ".github");
        assert_eq!(format!("{:?}", pattern("a")), "FilePattern(\"a\")");
    }

    #[test]
    fn patterns_that_are_made_to_be_slow_are_compared_at_once() {
        let pattern = |parts: &[(&str, usize)]| {
            let text: Vec<String> = parts
                .iter()
                .map(|(part, times)| part.repeat(*times))
                .collect();
            pattern(&text.concat())
        };
        let stars = pattern(&[("a*", 2000), ("b", 1)]);
        assert!(!stars.overlaps(&pattern(&[("a*", 2000), ("c", 1)])));
        assert!(stars.overlaps(&pattern(&[("*a", 2000), ("*", 1)])));
        assert!(stars.overlaps(&pattern(&[("a", 4000), ("b", 1)])));
        assert!(!pattern(&[("*a", 2000), ("*", 1)]).overlaps(&pattern(&[("a", 1999), ("[b]", 1)])));
        assert!(!pattern(&[("*", 1), ("a", 2000), ("b*", 1)]).overlaps(&pattern(&[("a", 4000)])));
        let depths = pattern(&[("**/a*/", 600), ("b", 1)]);
        assert!(!depths.overlaps(&pattern(&[("**/a/", 600), ("c*", 1)])));
        assert!(depths.overlaps(&pattern(&[("*/**/", 600), ("b", 1)])));
        let depths = pattern(&[("**/", 1), ("?a*/", 500), ("b/**", 1)]);
        assert!(!depths.overlaps(&pattern(&[("*a/", 1300), ("a*", 1)])));
        let options = pattern(&[("{*a,*b}", 6), ("*c", 1)]);
        assert!(!options.overlaps(&pattern(&[("{*a,*b}", 6), ("*d", 1)])));
    }
}
