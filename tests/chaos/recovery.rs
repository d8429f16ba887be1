//! The next command after a death of the parent: it ends what is left, and the board can be worked with.

use std::sync::OnceLock;

use crate::scratch::Scratch;

/// Which command that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// `ai-sdlc reap`.
    Reap,
    /// A run of a story, any of the board.
    Run,
}

/// Whether this version has `reap`.
pub(crate) fn has_reap(scratch: &Scratch) -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let output = scratch
            .command(&["--help"])
            .output()
            .expect("the program is there");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|line| line.trim_start().starts_with("reap"))
    })
}

/// Calls the command. In a run, agents that are started end at once with success.
pub(crate) fn recover(scratch: &Scratch, how: Recovery, story: &str) -> Result<(), String> {
    scratch.calm();
    let arguments: &[&str] = match how {
        Recovery::Reap if has_reap(scratch) => &["reap"],
        _ => &["run", "--story", story, "--json"],
    };
    let (end, errors) = scratch.run(arguments);
    if end.code == Some(0) {
        return Ok(());
    }
    Err(format!(
        "`ai-sdlc {}`: {:?}\n{errors}",
        arguments.join(" "),
        end.code
    ))
}
