//! Diagnostic messages (`tracing`): where they go and how many there are. They are for whoever looks into what the
//! program did; what a user is meant to see goes through [`crate::report`].

use std::fs::File;
use std::io;
use std::sync::Mutex;

use tracing::Level;

/// The variable that sets how much is written, as in the predecessor.
const LEVEL_VARIABLE: &str = "AI_SDLC_LOG_LEVEL";

/// Writes diagnostics to standard error: that of an executor is the log of its attempt.
pub fn to_stderr() {
    // The log belongs to the agent: unless asked, the executor adds only what went wrong.
    install(io::stderr, level(Level::WARN));
}

/// Writes diagnostics to a file.
pub fn to_file(file: File) {
    install(Mutex::new(file), level(Level::INFO));
}

fn install<W>(writer: W, level: Level)
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let installed = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        // A full disk must not write to the user's terminal.
        .log_internal_errors(false)
        .with_writer(writer)
        .try_init();
    // A second call in one process (a demonstration that runs a run) keeps the first writer.
    if let Err(error) = installed {
        tracing::debug!(error, "diagnostics stay where they are");
    }
}

fn level(usual: Level) -> Level {
    let wanted = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
    wanted.parse().unwrap_or(usual)
}
