//! What a pattern without braces consists of, and whether two of them can match the same path. Pure.
//!
//! A path is a sequence of segments and a segment a sequence of characters; in both, a pattern has elements that stand
//! for one and elements that stand for any number. So one algorithm, [`meet`], serves both.

use std::sync::Arc;

/// A pattern without braces: its segments, at least one, never two [`Segment::AnyDepth`] in a row.
pub(super) type Alternative = Box<[Segment]>;

/// What stands between two slashes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This name.
    Name(Arc<str>),
    /// A name of this form; never two [`Token::Star`] in a row.
    Form(Box<[Token]>),
    /// `**`: any number of names.
    AnyDepth,
}

/// What stands for characters of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Char(char),
    /// `?`: any character.
    Any,
    /// One of these characters.
    Class(Class),
    /// `*`: any number of any characters.
    Star,
}

/// A set of characters, never empty and without the slash: its ranges in order, with gaps between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class(Box<[(char, char)]>);

impl Segment {
    /// The segment with these tokens, which have no slash.
    pub(super) fn new(tokens: &[Token]) -> Self {
        let character = |token: &Token| match token {
            Token::Char(character) => Some(*character),
            _ => None,
        };
        if let Some(name) = tokens.iter().map(character).collect::<Option<String>>() {
            return Self::Name(name.into());
        }
        if tokens.len() > 1 && tokens.iter().all(Element::is_repeated) {
            return Self::AnyDepth;
        }
        let mut form = tokens.to_vec();
        form.dedup_by(|next, token| next.is_repeated() && token.is_repeated());
        Self::Form(form.into())
    }
}

impl Token {
    /// How much it adds to the length of a pattern, and so to the time of comparing it.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Class(class) => 1 + class.0.len(),
            Self::Char(_) | Self::Any | Self::Star => 1,
        }
    }
}

impl Class {
    /// The characters of the ranges; none when there are none.
    pub(super) fn of(ranges: Vec<(char, char)>) -> Option<Self> {
        Self::all_but(complement(ranges))
    }

    /// All characters but those of the ranges; none when there are none.
    pub(super) fn all_but(mut ranges: Vec<(char, char)>) -> Option<Self> {
        ranges.push(('/', '/'));
        let ranges = complement(ranges);
        (!ranges.is_empty()).then(|| Self(ranges.into()))
    }

    fn contains(&self, character: char) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&character))
    }

    fn meets(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (&*self.0, &*other.0);
        while let ([our, ours_after @ ..], [their, theirs_after @ ..]) = (ours, theirs) {
            if our.1 < their.0 {
                ours = ours_after;
            } else if their.1 < our.0 {
                theirs = theirs_after;
            } else {
                return true;
            }
        }
        false
    }
}

/// The ranges of all characters that no given range holds, in order.
fn complement(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let mut gaps = Vec::new();
    let mut start = '\0';
    for (first, last) in ranges {
        if let Some(end) = (start..first).next_back() {
            gaps.push((start, end));
        }
        if last >= start {
            match (last..=char::MAX).nth(1) {
                Some(next) => start = next,
                None => return gaps,
            }
        }
    }
    gaps.push((start, char::MAX));
    gaps
}

/// An element of a pattern that is a sequence.
pub(super) trait Element {
    /// Whether it stands for any number of anything. If not, it stands for one, and something fits it.
    fn is_repeated(&self) -> bool;

    /// Whether something fits both; neither is repeated.
    fn meets(&self, other: &Self) -> bool;
}

impl Element for Token {
    fn is_repeated(&self) -> bool {
        *self == Self::Star
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Char(one), Self::Char(other)) => one == other,
            (Self::Char(character), Self::Class(class))
            | (Self::Class(class), Self::Char(character)) => class.contains(*character),
            (Self::Class(one), Self::Class(other)) => one.meets(other),
            (Self::Any | Self::Star, _) | (_, Self::Any | Self::Star) => true,
        }
    }
}

impl Element for Segment {
    fn is_repeated(&self) -> bool {
        *self == Self::AnyDepth
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one == other,
            (Self::Name(name), Self::Form(form)) | (Self::Form(form), Self::Name(name)) => {
                let name: Vec<Token> = name.chars().map(Token::Char).collect();
                meet(&name, form)
            }
            (Self::Form(one), Self::Form(other)) => meet(one, other),
            (Self::AnyDepth, _) | (_, Self::AnyDepth) => true,
        }
    }
}

/// Whether some sequence matches both patterns. Takes at most time in proportion to the product of their lengths.
pub(super) fn meet<E: Element>(one: &[E], other: &[E]) -> bool {
    let (mut one, mut other) = (one, other);
    // What stands at the same distance from the same end has to meet, until something is repeated.
    while let ([left, left_after @ ..], [right, right_after @ ..]) = (one, other)
        && !left.is_repeated()
        && !right.is_repeated()
    {
        if !left.meets(right) {
            return false;
        }
        (one, other) = (left_after, right_after);
    }
    while let ([left_before @ .., left], [right_before @ .., right]) = (one, other)
        && !left.is_repeated()
        && !right.is_repeated()
    {
        if !left.meets(right) {
            return false;
        }
        (one, other) = (left_before, right_before);
    }
    let has_repeated = |elements: &[E]| elements.iter().any(Element::is_repeated);
    match (has_repeated(one), has_repeated(other)) {
        (false, false) => one.is_empty() && other.is_empty(),
        (true, false) => fits(one, other),
        (false, true) => fits(other, one),
        // Now one of them starts with something repeated, and one of them ends so. If it is the same, what fits it fits
        // in the middle of the other, between what fits the parts of that. If not, what fits the one that ends so,
        // followed by what fits the one that starts so, fits both.
        (true, true) => true,
    }
}

/// [`meet`] for what has repeated elements (at both ends, unless the other is empty) and what has none. Each part
/// between repeated elements takes the first place where it can stand, which leaves the most for the parts after it.
fn fits<E: Element>(repeated: &[E], single: &[E]) -> bool {
    let mut rest = single;
    let parts = repeated.split(Element::is_repeated);
    parts.filter(|part| !part.is_empty()).all(|part| {
        let stands = |place: &[E]| part.iter().zip(place).all(|(one, other)| one.meets(other));
        let place = rest.windows(part.len()).position(stands);
        if let Some(place) = place {
            rest = &rest[place + part.len()..];
        }
        place.is_some()
    })
}
