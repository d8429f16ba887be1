//! How lines for people look: a right-aligned verb and a text, in the manner of cargo.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

/// The width of the column that holds the verb.
const VERB_WIDTH: usize = 12;

/// What kind of news a line is. Colour is never the only sign: the verb says it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Plain,
    Faint,
    Warning,
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| colour.on_default().bold();
        match self {
            Self::Good => colour(AnsiColor::Green),
            Self::Plain => colour(AnsiColor::Cyan),
            Self::Faint => Style::new().dimmed(),
            Self::Warning => colour(AnsiColor::Yellow),
            Self::Bad => colour(AnsiColor::Red),
        }
    }
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Always,
    Never,
}

impl Colour {
    /// Colours on a terminal that knows them, unless the user said no (<https://no-color.org>).
    pub(super) fn of_stderr() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !refused && !dumb {
            Self::Always
        } else {
            Self::Never
        }
    }

    /// The text in the colour of the tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        match self {
            Self::Always => {
                let style = tone.style();
                format!("{style}{text}{style:#}")
            }
            Self::Never => text.to_owned(),
        }
    }

    /// A line: the verb in its column, then the text.
    pub(super) fn line(self, tone: Tone, verb: &str, text: &str) -> String {
        let padding = " ".repeat(VERB_WIDTH.saturating_sub(verb.len()));
        format!("{padding}{} {text}\n", self.paint(tone, verb))
    }

    /// A line that belongs to the one above.
    pub(super) fn detail(self, text: &str) -> String {
        format!(
            "{} {}\n",
            " ".repeat(VERB_WIDTH),
            self.paint(Tone::Faint, text)
        )
    }
}

/// A duration, in milliseconds, as people read it.
pub fn duration(millis: u64) -> String {
    let duration = Duration::from_millis(millis);
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A number and a noun: `1 story`, `2 stories`.
pub fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// An error with everything that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        // An error that only wraps another one says the same.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

/// A path as a shell takes it.
pub fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(0), "0.0s");
        assert_eq!(duration(1_240), "1.2s");
        assert_eq!(duration(61_000), "1m 01s");
        assert_eq!(duration(3_660_000), "1h 01m");
    }

    #[test]
    fn without_colour_a_line_has_no_escapes() {
        assert_eq!(
            Colour::Never.line(Tone::Bad, "Failed", "S-1"),
            "      Failed S-1\n"
        );
        assert!(
            Colour::Always
                .line(Tone::Bad, "Failed", "S-1")
                .contains('\u{1b}')
        );
    }
}
