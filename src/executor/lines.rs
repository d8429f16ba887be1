//! Bytes as lines, whatever is written. Pure.
//!
//! Owns the rule of what a line is: what stands before a line feed, without a carriage return directly before that. A
//! line above the limit is cut, and its rest is skipped up to the next line feed. Promises that the same bytes give the
//! same lines however they are divided into chunks, and that it never holds more than one line of the limit. It does
//! not decode and does not clean: what is in a line may be anything.

use std::io::BufRead as _;

/// The longest line of a log that is kept, in bytes.
pub(super) const LONGEST_LINE: usize = 64 * 1024;

/// The longest event of an agent that is kept, in bytes. They are lines of a few KiB; one that carried the output of a
/// tool had 1.1 MB, and what is cut cannot be understood any more.
pub(super) const LONGEST_EVENT: usize = 2 * 1024 * 1024;

/// A line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// What it holds.
    pub(super) bytes: &'a [u8],
    /// Whether it was longer.
    pub(super) cut: bool,
}

/// Makes lines of chunks.
#[derive(Debug)]
pub(super) struct LineSplitter {
    /// The beginning of a line whose end has not come yet.
    held: Vec<u8>,
    limit: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All that there is of the line is held.
    Whole,
    /// The line is held up to the limit, and a carriage return came that may be its end.
    Return,
    /// The rest of the line is not wanted.
    Skipping,
}

impl LineSplitter {
    /// A splitter whose lines have at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Self {
            held: Vec::with_capacity(limit),
            limit,
            state: State::Whole,
        }
    }

    /// Takes the next bytes, and gives every line that is complete with them. A line that is too long is given as soon
    /// as that is known.
    pub(super) fn feed(&mut self, chunk: &[u8], mut line: impl FnMut(Line<'_>)) {
        let mut rest = chunk;
        while let Some(length) = find_line_feed(rest) {
            self.end_line(&rest[..length], &mut line);
            rest = &rest[length + 1..];
        }
        if !rest.is_empty() {
            self.hold(rest, &mut line);
        }
    }

    /// Bytes are missing before those that come next: the line that was begun is forgotten, and that which comes next
    /// is skipped.
    pub(super) fn resync(&mut self) {
        self.held.clear();
        self.state = State::Skipping;
    }

    /// Gives the last line, if it has no end. What is fed after that begins a new line.
    pub(super) fn finish(&mut self, mut line: impl FnMut(Line<'_>)) {
        if self.state != State::Skipping && !self.held.is_empty() {
            line(Line {
                bytes: &self.held,
                cut: self.state == State::Return,
            });
        }
        self.held.clear();
        self.state = State::Whole;
    }

    /// Takes the end of a line: all that stands before its line feed.
    fn end_line(&mut self, end: &[u8], line: &mut impl FnMut(Line<'_>)) {
        if self.state == State::Whole && self.held.is_empty() {
            line(self.cut(without_return(end)));
            return;
        }
        if !end.is_empty() {
            self.hold(end, line);
        }
        if self.state != State::Skipping {
            line(Line {
                bytes: match self.state {
                    State::Return => &self.held,
                    _ => without_return(&self.held),
                },
                cut: false,
            });
        }
        self.held.clear();
        self.state = State::Whole;
    }

    /// Takes a part of a line that is not empty and has no end yet.
    fn hold(&mut self, part: &[u8], line: &mut impl FnMut(Line<'_>)) {
        if self.state == State::Skipping {
            return;
        }
        let room = self.limit - self.held.len();
        let taken = part.len().min(room);
        self.held.extend_from_slice(&part[..taken]);
        let beyond = &part[taken..];
        self.state = match (self.state, beyond) {
            (state, []) => state,
            (State::Whole, b"\r") => State::Return,
            _ => {
                line(Line {
                    bytes: &self.held,
                    cut: true,
                });
                self.held.clear();
                State::Skipping
            }
        };
    }

    fn cut<'a>(&self, whole: &'a [u8]) -> Line<'a> {
        Line {
            bytes: &whole[..whole.len().min(self.limit)],
            cut: whole.len() > self.limit,
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where the next line feed is. The standard library offers the fast search only in this form.
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // Reading from a slice does not fail.
    let passed = rest.skip_until(b'\n').ok()?;
    let last = passed.checked_sub(1)?;
    (bytes[last] == b'\n').then_some(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (Vec<u8>, bool);

    fn split(limit: usize, chunks: &[&[u8]]) -> Vec<Owned> {
        let mut splitter = LineSplitter::new(limit);
        let mut lines = Vec::new();
        let mut keep = |line: Line<'_>| lines.push((line.bytes.to_vec(), line.cut));
        for chunk in chunks {
            splitter.feed(chunk, &mut keep);
            assert!(splitter.held.len() <= limit && splitter.held.capacity() == limit);
        }
        splitter.finish(&mut keep);
        lines
    }

    /// What the splitter is to do, on the whole at once.
    fn expected(limit: usize, bytes: &[u8]) -> Vec<Owned> {
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let last = lines.pop().filter(|last| !last.is_empty());
        let ended = lines.into_iter().map(without_return);
        ended
            .chain(last)
            .map(|line| {
                let kept = line.len().min(limit);
                (line[..kept].to_vec(), line.len() > limit)
            })
            .collect()
    }

    fn whole(lines: &[&str]) -> Vec<Owned> {
        let owned = lines.iter().map(|line| (line.as_bytes().to_vec(), false));
        owned.collect()
    }

    #[test]
    fn lines_are_told_apart_and_the_last_needs_no_end() {
        let lines = split(64, &[b"one\ntwo\r\n\nfo", b"ur\r", b"\n\rfive\r"]);
        assert_eq!(lines, whole(&["one", "two", "", "four", "\rfive\r"]));
        assert_eq!(split(64, &[]), []);
        assert_eq!(split(64, &[b"end\n"]), whole(&["end"]));
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let lines = split(4, &[b"abcd\r\nabcde", b"fgh\nxy\n"]);
        let cut = (b"abcd".to_vec(), true);
        let xy = (b"xy".to_vec(), false);
        assert_eq!(lines, [(b"abcd".to_vec(), false), cut, xy]);
    }

    #[test]
    fn an_endless_line_is_given_once_and_takes_no_room() {
        let mut splitter = LineSplitter::new(LONGEST_LINE);
        let part = vec![b'x'; LONGEST_LINE];
        let mut cut = 0;
        for _ in 0..1024 {
            splitter.feed(&part, |line| {
                assert!(line.cut && line.bytes.len() == LONGEST_LINE);
                cut += 1;
            });
        }
        assert_eq!((cut, splitter.held.len()), (1, 0));
        let mut next = Vec::new();
        splitter.feed(b"\nback\n", |line| next.push(line.bytes.to_vec()));
        assert_eq!(next, [b"back"]);
    }

    #[test]
    fn after_a_gap_only_whole_lines_count() {
        let mut splitter = LineSplitter::new(64);
        let mut lines = Vec::new();
        let mut keep = |line: Line<'_>| lines.push(line.bytes.to_vec());
        splitter.feed(b"one\nbeg", &mut keep);
        splitter.resync();
        splitter.feed(b"un, and its end\ntwo\nthr", &mut keep);
        splitter.resync();
        splitter.finish(&mut keep);
        splitter.feed(b"four\n", &mut keep);
        assert_eq!(lines, [&b"one"[..], b"two", b"four"]);
    }

    /// Mostly what lines end with, so that short inputs meet every case.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![3 => Just(b'\n'), 3 => Just(b'\r'), 4 => Just(b'a'), 1 => any::<u8>()]
    }

    proptest! {
        #[test]
        fn the_same_bytes_give_the_same_lines_however_they_are_divided(
            chunks in prop::collection::vec(prop::collection::vec(byte(), 0..9), 0..12),
            limit in 1_usize..8,
        ) {
            let bytes = chunks.concat();
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let lines = split(limit, &chunks);
            prop_assert_eq!(&lines, &split(limit, &[&bytes]));
            prop_assert_eq!(lines, expected(limit, &bytes));
        }
    }
}
