//! Points at which scripts and the test wait for each other: named pipes, so that nobody has to guess how long
//! anything takes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use super::{DEADLINE, TestEnv};

/// A script that says which story it is for, and then waits to be released.
pub(crate) const HOLD: &str = "echo \"$AI_SDLC_STORY_ID\" > \"$AI_SDLC_TEST_DIR/started\"\nread -r _ < \"$AI_SDLC_TEST_DIR/gate-$AI_SDLC_STORY_ID\"";

/// What ends the thread that reads; no story has that id.
const END: &str = "end of test";

/// One gate for each story, and the pipe into which they say that they have come to it.
///
/// Every pipe is open for reading and writing in the test: opening never blocks, and nothing is lost when one side is
/// faster. When the gates are dropped, scripts that still wait read the end of the file.
pub(crate) struct Gates {
    pipes: HashMap<String, File>,
    started: Receiver<String>,
    stop: File,
}

impl Gates {
    pub(crate) fn new(env: &TestEnv, ids: &[&str]) -> Self {
        let pipes = ids
            .iter()
            .map(|id| {
                let gate = pipe(&env.base().join(format!("gate-{id}")));
                ((*id).to_owned(), gate)
            })
            .collect();
        let stop = pipe(&env.base().join("started"));
        let reader = stop.try_clone().unwrap();
        let (sender, started) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(reader).lines();
            for line in lines.map_while(Result::ok).take_while(|line| line != END) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            pipes,
            started,
            stop,
        }
    }

    /// The next story that comes to its gate.
    pub(crate) fn next(&self) -> String {
        self.started
            .recv_timeout(DEADLINE)
            .expect("no script came to its gate in time")
    }

    /// The next stories that come to their gates, in order of their ids.
    pub(crate) fn next_in_any_order(&self, count: usize) -> Vec<String> {
        let mut ids: Vec<String> = (0..count).map(|_| self.next()).collect();
        ids.sort();
        ids
    }

    /// Asserts that nobody has come to a gate who was not waited for.
    pub(crate) fn assert_nobody_else(&self) {
        assert_eq!(self.started.try_recv().ok(), None);
    }

    /// Lets a story go on.
    pub(crate) fn release(&self, id: &str) {
        (&self.pipes[id]).write_all(b"go\n").unwrap();
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        // Failing to end the reader costs the test program a thread; that is no reason to hide why a test failed.
        drop(writeln!(self.stop, "{END}"));
    }
}

/// A named pipe, open for reading and writing.
pub(crate) fn pipe(path: &Path) -> File {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success(), "mkfifo {}", path.display());
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.unwrap()
}
