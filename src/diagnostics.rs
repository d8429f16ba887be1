//! Diagnostic messages (`tracing`): where they go and how many there are. They are for whoever looks into what the
//! program did; what a user is meant to see goes through [`crate::report`].
//!
//! Those for a file are written by a thread of their own: a disk that hangs must not hold up who has something to say.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// The variable that sets how much is written, as in the predecessor.
const LEVEL_VARIABLE: &str = "AI_SDLC_LOG_LEVEL";

/// Writes diagnostics to standard error: that of an executor is the log of its attempt.
pub fn to_stderr() {
    // The log belongs to the agent: unless asked, the executor adds only what went wrong.
    install(io::stderr, level(Level::WARN));
}

/// How many messages may wait for the disk. More are left out: it takes none then.
const MOST_WAITING: usize = 4096;

/// Writes diagnostics to a file, as far as its disk takes them.
pub fn to_file(file: File) {
    let (messages, waiting) = sync_channel(MOST_WAITING);
    let thread = std::thread::Builder::new().name("diagnostics".to_owned());
    // Without a thread there are no diagnostics, and the run is what matters.
    if thread.spawn(move || write(file, &waiting)).is_ok() && TO_FILE.set(messages.clone()).is_ok()
    {
        install(Handed { messages }, level(Level::INFO));
    }
}

/// Waits until the file has what was said, but not for longer than `patience`.
pub fn finish(patience: Duration) {
    let (written, waiting) = sync_channel(1);
    let asked = TO_FILE
        .get()
        .is_some_and(|messages| messages.try_send(Message::Tell(written)).is_ok());
    // What could not be written in that time is not.
    if asked && waiting.recv_timeout(patience).is_err() {
        tracing::debug!("the disk does not take the last diagnostics");
    }
}

/// The way to the thread that writes to the file.
static TO_FILE: OnceLock<SyncSender<Message>> = OnceLock::new();

#[derive(Debug)]
enum Message {
    /// Is to be written.
    Line(Vec<u8>),
    /// Wants to know when what came before it is written.
    Tell(SyncSender<()>),
}

fn write(mut file: File, waiting: &Receiver<Message>) {
    for message in waiting {
        match message {
            // A full disk takes none; the next one may have room again.
            Message::Line(line) => drop(file.write_all(&line)),
            Message::Tell(written) => drop(written.try_send(())),
        }
    }
}

/// Hands what is said to the thread.
#[derive(Debug, Clone)]
struct Handed {
    messages: SyncSender<Message>,
}

impl Write for Handed {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // One that finds no room is left out.
        drop(self.messages.try_send(Message::Line(line.to_owned())));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Handed {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn install<W>(writer: W, level: Level)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn who_has_something_to_say_does_not_wait_for_the_disk() {
        // A pipe that nobody reads, as a disk that hangs.
        let (mut end, begin) = io::pipe().unwrap();
        let (messages, waiting) = sync_channel(MOST_WAITING);
        let file = File::from(OwnedFd::from(begin));
        let thread = std::thread::spawn(move || write(file, &waiting));
        let mut handed = Handed { messages };
        let line = [b'x'; 1024];
        for _ in 0..2 * MOST_WAITING {
            handed.write_all(&line).unwrap();
        }
        drop(handed);
        let mut written = Vec::new();
        end.read_to_end(&mut written).unwrap();
        thread.join().unwrap();
        // What was taken is whole, and the rest is left out.
        assert_eq!(written.len() % line.len(), 0);
        assert!((MOST_WAITING..2 * MOST_WAITING).contains(&(written.len() / line.len())));
    }
}
