//! From the text of a pattern to its alternatives: braces are written out, the rest is cut into segments. Pure.

use std::str::Chars;

use super::shape::{Alternative, Class, Segment, Token};
use super::{FilePatternError, LONGEST, MOST_ALTERNATIVES};

/// The alternatives that a text stands for; at least one.
pub(super) fn read(text: &str) -> Result<Vec<Alternative>, FilePatternError> {
    if text.len() > LONGEST {
        return Err(FilePatternError::TooLong);
    }
    let mut written = Written::default();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let token = match character {
            '\\' => Token::Char(rest.next().ok_or(FilePatternError::Escape)?),
            '?' => Token::Any,
            '*' => Token::Star,
            '[' => Token::Class(class(&mut rest)?),
            '{' => {
                written.open();
                continue;
            }
            ',' if written.is_inside() => {
                written.next_option()?;
                continue;
            }
            '}' if written.is_inside() => {
                written.close()?;
                continue;
            }
            other => Token::Char(other),
        };
        written.push(&token);
    }
    let texts = written.finish()?;
    texts.iter().map(|tokens| segments(tokens)).collect()
}

/// A name as a pattern that means that name alone.
pub(super) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '*' | '?' | '[' | '{' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// What has been read so far, with its braces written out. Braces may be nested without a limit of their own, so they
/// are kept on a stack of ours.
struct Written {
    /// The braces around the place that is read.
    around: Vec<Braces>,
    /// The texts of the option that is read, from its opening brace or comma.
    texts: Vec<Vec<Token>>,
}

struct Braces {
    before: Vec<Vec<Token>>,
    options: Vec<Vec<Token>>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            around: Vec::new(),
            texts: vec![Vec::new()],
        }
    }
}

impl Written {
    fn is_inside(&self) -> bool {
        !self.around.is_empty()
    }

    fn push(&mut self, token: &Token) {
        for text in &mut self.texts {
            text.push(token.clone());
        }
    }

    fn open(&mut self) {
        self.around.push(Braces {
            before: std::mem::replace(&mut self.texts, vec![Vec::new()]),
            options: Vec::new(),
        });
    }

    fn next_option(&mut self) -> Result<(), FilePatternError> {
        if let Some(braces) = self.around.last_mut() {
            braces.options.append(&mut self.texts);
            limit_alternatives(braces.options.len())?;
        }
        self.texts.push(Vec::new());
        Ok(())
    }

    fn close(&mut self) -> Result<(), FilePatternError> {
        let Some(mut braces) = self.around.pop() else {
            return Ok(());
        };
        braces.options.append(&mut self.texts);
        limit_alternatives(braces.before.len() * braces.options.len())?;
        for before in &braces.before {
            let option = |option: &Vec<Token>| [before.as_slice(), option].concat();
            self.texts.extend(braces.options.iter().map(option));
        }
        limit_length(&self.texts)
    }

    fn finish(self) -> Result<Vec<Vec<Token>>, FilePatternError> {
        if self.is_inside() {
            return Err(FilePatternError::Unclosed('{'));
        }
        limit_length(&self.texts)?;
        Ok(self.texts)
    }
}

fn limit_alternatives(alternatives: usize) -> Result<(), FilePatternError> {
    if alternatives > MOST_ALTERNATIVES {
        return Err(FilePatternError::TooManyAlternatives);
    }
    Ok(())
}

fn limit_length(texts: &[Vec<Token>]) -> Result<(), FilePatternError> {
    let length: usize = texts.iter().flatten().map(Token::length).sum();
    if length > LONGEST {
        return Err(FilePatternError::TooLong);
    }
    Ok(())
}

/// Reads brackets up to their end; the opening one is read already.
fn class(rest: &mut Chars<'_>) -> Result<Class, FilePatternError> {
    let negation = ['!', '^'];
    let is_negated = rest.as_str().starts_with(negation);
    if is_negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        // A bracket that closes nothing is a member: `[]a]`.
        if rest.as_str().starts_with(']') && !ranges.is_empty() {
            rest.next();
            break;
        }
        let first = member(rest)?;
        let after = rest.as_str();
        let last = if after.starts_with('-') && !after.starts_with("-]") {
            rest.next();
            member(rest)?
        } else {
            first
        };
        if last < first {
            return Err(FilePatternError::NoCharacter);
        }
        ranges.push((first, last));
    }
    let class = if is_negated {
        Class::all_but(ranges)
    } else {
        Class::of(ranges)
    };
    class.ok_or(FilePatternError::NoCharacter)
}

/// Reads one character between brackets.
fn member(rest: &mut Chars<'_>) -> Result<char, FilePatternError> {
    match rest.next() {
        Some('\\') => rest.next(),
        other => other,
    }
    .ok_or(FilePatternError::Unclosed('['))
}

/// Cuts an alternative into its segments.
fn segments(tokens: &[Token]) -> Result<Alternative, FilePatternError> {
    let slash = Token::Char('/');
    let mut segments = Vec::new();
    for part in tokens.split(|token| *token == slash) {
        let segment = Segment::new(part);
        match &segment {
            Segment::Name(name) if name.is_empty() || &**name == "." => {}
            Segment::Name(name) if &**name == ".." => return Err(FilePatternError::Parent),
            _ => segments.push(segment),
        }
    }
    if segments.is_empty() {
        return Err(FilePatternError::Empty);
    }
    let is_name = |segment: &Segment| matches!(segment, Segment::Name(_));
    if segments.iter().all(is_name) || tokens.last() == Some(&slash) {
        segments.push(Segment::AnyDepth);
    }
    segments.dedup_by(|next, segment| *next == Segment::AnyDepth && *segment == Segment::AnyDepth);
    Ok(segments.into())
}
