//! The person at the terminal: whether somebody is there, and what they answer.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::{QueueSelector, tcflush, tcgetpgrp};

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: u64 = 1000;

/// How often it is looked whether the terminal is still ours while a question is open.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A line was typed, which says yes.
    Yes,
    /// A line was typed, which says anything else.
    No,
    /// The input ended, or the terminal is no longer ours.
    Nothing,
}

/// Whether a question would be seen and could be answered now: a process in the background of its terminal that reads
/// from it is stopped.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal() && is_in_foreground()
}

fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp())
}

/// Forgets what was typed before a question was asked: it is no answer to it. To be called in the foreground only.
pub fn forget_what_was_typed() {
    if let Err(error) = tcflush(io::stdin(), QueueSelector::IFlush) {
        tracing::debug!(%error, "what was typed is kept");
    }
}

/// Waits for a line from the terminal. Blocks, and never reads while the process is in the background.
pub fn read_answer() -> Answer {
    let stdin = io::stdin();
    loop {
        if !is_interactive() {
            return Answer::Nothing;
        }
        let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut waiting, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) if !is_interactive() => return Answer::Nothing,
            Ok(_) => break,
            Err(_) => return Answer::Nothing,
        }
    }
    let mut line = Vec::new();
    let mut input = stdin.lock().take(LONGEST_ANSWER);
    if input.read_until(b'\n', &mut line).is_err() || line.last() != Some(&b'\n') {
        return Answer::Nothing;
    }
    let line = String::from_utf8_lossy(&line).trim().to_ascii_lowercase();
    if line == "y" || line == "yes" {
        Answer::Yes
    } else {
        Answer::No
    }
}
