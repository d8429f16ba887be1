//! Holds an executor, with its runtime, so that a test can do to it there what it likes. Only in builds for tests.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use crate::protocol::identity;

/// The path of a named pipe from which a line is read. Before that, a line with the number of the process is written to
/// the pipe of the same name with `.ready` behind it.
const HOLD: &str = "AI_SDLC_TEST_HOLD";

/// The only story whose executor is held; without it, all are.
const STORY: &str = "AI_SDLC_TEST_HOLD_STORY";

/// Where; without it, before it connects.
const AT: &str = "AI_SDLC_TEST_HOLD_AT";

/// Where an executor can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// Before it connects.
    Connecting,
    /// When its agent has been started.
    Working,
}

/// Blocks until the test lets go, when one asks for that.
pub(super) fn at(point: Point) {
    let asked_for = match std::env::var(AT).as_deref() {
        Ok("working") => Point::Working,
        _ => Point::Connecting,
    };
    if point != asked_for {
        return;
    }
    let Some(pipe) = std::env::var_os(HOLD).map(PathBuf::from) else {
        return;
    };
    if std::env::var(STORY).is_ok_and(|held| std::env::var(identity::STORY).ok() != Some(held)) {
        return;
    }
    if let Err(error) = hold(&pipe) {
        tracing::error!(%error, pipe = %pipe.display(), "not held");
    }
}

fn hold(pipe: &Path) -> io::Result<()> {
    writeln!(
        open(&pipe.with_extension("ready"))?,
        "{}",
        std::process::id()
    )?;
    let mut line = String::new();
    BufReader::new(open(pipe)?).read_line(&mut line)?;
    Ok(())
}

/// For both directions, so that nobody has to be at the other end yet.
fn open(pipe: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(pipe)
}
