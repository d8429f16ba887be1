//! The two streams. The only file that writes to them.

use std::io::{self, Write as _};

use super::style::{Colour, Tone};

/// Writes data to standard output. A reader that has gone away is no error: it has seen what it wanted.
pub fn data(text: &str) {
    // Whoever read this is gone or cannot be written to; there is nobody else to tell.
    drop(try_data(text));
}

/// Writes data to standard output, and says when that cannot be done.
///
/// # Errors
/// When it cannot be written, a closed pipe included.
pub fn try_data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a text for people to standard error.
pub fn people(text: &str) {
    // There is nobody else to tell.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// A line with a verb for people.
pub fn note(verb: &str, text: &str) {
    people(&Colour::of_stderr().line(Tone::Good, verb, text));
}

/// What is not as it should be.
pub fn warning(message: &str) {
    let label = Colour::of_stderr().paint(Tone::Warning, "warning");
    people(&format!("{label}: {message}\n"));
}

/// What went wrong, and what to do about it.
pub fn error(message: &str, hints: &[String]) {
    let label = Colour::of_stderr().paint(Tone::Bad, "error");
    people(&format!("{label}: {message}\n"));
    for text in hints {
        hint(text);
    }
}

/// What to do.
pub fn hint(text: &str) {
    let label = Colour::of_stderr().paint(Tone::Plain, "hint");
    people(&format!("{label}: {text}\n"));
}
