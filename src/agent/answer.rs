//! What an agent's last words say about the story, by the marks that its prompt asks it for. Pure.

/// The mark of an answer that needs a person.
pub(super) const BLOCKED: &str = "BLOCKED:";
/// The mark of an answer that there is nothing to do.
pub(super) const NOTHING_TO_CHANGE: &str = "NOTHING TO CHANGE:";

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The work is done.
    Done,
    /// Nothing has to be changed, for this reason.
    NothingToChange(String),
    /// A person has to answer this first.
    Blocked(String),
}

impl Answer {
    /// Reads an answer. A mark counts at the beginning of a line of the last paragraph, with whatever Markdown puts
    /// around it; what follows it up to the end of the paragraph is the reason.
    pub(super) fn of(text: &str) -> Self {
        let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let lines: Vec<&str> = last.lines().map(plain).collect();
        for (place, line) in lines.iter().enumerate() {
            let reason = |mark: &str| {
                let first = strip_mark(line, mark)?;
                let rest = lines[place + 1..].iter().copied();
                let words: Vec<&str> = std::iter::once(first).chain(rest).collect();
                Some(words.join(" ").trim().to_owned())
            };
            if let Some(question) = reason(BLOCKED) {
                return Self::Blocked(question);
            }
            if let Some(reason) = reason(NOTHING_TO_CHANGE) {
                return Self::NothingToChange(reason);
            }
        }
        Self::Done
    }
}

/// A line without what Markdown puts around it.
fn plain(line: &str) -> &str {
    line.trim_matches(|character: char| character.is_whitespace() || "*_`>#-".contains(character))
}

fn strip_mark<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let (head, rest) = line.split_at_checked(mark.len())?;
    head.eq_ignore_ascii_case(mark)
        .then(|| rest.trim_matches(|character: char| " *_`".contains(character)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_count_at_the_beginning_of_a_line_of_the_last_paragraph() {
        let blocked = |reason: &str| Answer::Blocked(reason.to_owned());
        let nothing = |reason: &str| Answer::NothingToChange(reason.to_owned());
        for (text, answer) in [
            ("", Answer::Done),
            ("All done.", Answer::Done),
            ("I was BLOCKED: no", Answer::Done),
            ("BLOCKED: earlier\n\nBut now it is done.", Answer::Done),
            ("BLOCKED: which\ndatabase?\n", blocked("which database?")),
            ("**Blocked:** which one?", blocked("which one?")),
            ("> BLOCKED: `why`", blocked("why")),
            (
                "Looked.\n\nNothing to change: it is there",
                nothing("it is there"),
            ),
            ("NOTHING TO CHANGE:", nothing("")),
        ] {
            assert_eq!(Answer::of(text), answer, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(BLOCKED:|[*_`>é\n ]|\\PC)*") {
            drop(Answer::of(&text));
        }
    }
}
