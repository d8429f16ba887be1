//! A run at a terminal: the question after a story of a batch that did not succeed, and who can answer it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::support::{DEADLINE, Gates, HOLD, Running, TestEnv, pipe};

const QUESTION: &str = "Go on with the next story? [y/N] ";

/// A terminal in which a shell with job control runs a script.
struct Terminal {
    keyboard: File,
    screen: PathBuf,
    session: Running,
}

impl Terminal {
    /// `$RUN` in the script is the program.
    fn open(env: &TestEnv, script: &str) -> Self {
        let place = |name: &str| env.base().join(name);
        let keyboard = pipe(&place("keyboard"));
        fs::write(place("session"), script).unwrap();
        let session = env
            .ai_sdlc(&[])
            .variable("RUN", env!("CARGO_BIN_EXE_ai-sdlc"))
            .variable("NO_COLOR", "1")
            .shell(
                "exec script -qefc \"sh -m '$AI_SDLC_TEST_DIR/session'\" \
                 \"$AI_SDLC_TEST_DIR/screen\" < \"$AI_SDLC_TEST_DIR/keyboard\" > /dev/null",
            )
            .start();
        Self {
            keyboard,
            screen: place("screen"),
            session,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        let bytes = fs::read(&self.screen).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn shows(&self, words: &str) {
        let began = Instant::now();
        while !self.text().contains(words) {
            assert!(
                began.elapsed() < DEADLINE,
                "no `{words}` on:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of the script and gives what was shown.
    fn close(self) -> String {
        self.session.wait();
        fs::read_to_string(self.screen).unwrap()
    }
}

fn batch(env: &TestEnv) -> Gates {
    env.story("S-0001")
        .script(&format!("{HOLD}\nexit 1"))
        .write();
    env.story("S-0002").script("true").write();
    Gates::new(env, &["S-0001"])
}

#[test]
fn a_run_in_the_background_asks_nobody_and_is_not_stopped_by_the_terminal() {
    let env = TestEnv::new();
    let gates = batch(&env);
    let run = "\"$RUN\" run --batch S-0001,S-0002 &\nwait $!\necho \"ended with $?\"\n";
    let terminal = Terminal::open(&env, run);
    assert_eq!(gates.next(), "S-0001");
    gates.release("S-0001");
    terminal.shows("ended with 1");
    assert!(!terminal.close().contains(QUESTION));
    assert_eq!(env.status("S-0002"), "ready");
}

#[test]
fn a_run_that_is_put_into_the_background_asks_nobody_either() {
    let env = TestEnv::new();
    let gates = batch(&env);
    let run = "\"$RUN\" run --batch S-0001,S-0002\necho stopped\nbg\nwait\necho over\n";
    let mut terminal = Terminal::open(&env, run);
    assert_eq!(gates.next(), "S-0001");
    terminal.press("\u{1a}");
    terminal.shows("stopped\r\n");
    gates.release("S-0001");
    terminal.shows("nobody can be asked whether to go on: the run is in the background");
    terminal.shows("over\r\n");
    assert!(!terminal.close().contains(QUESTION));
    assert_eq!(env.status("S-0002"), "ready");
}

#[test]
fn what_was_typed_before_the_question_is_no_answer_to_it() {
    let env = TestEnv::new();
    let gates = batch(&env);
    let mut terminal = Terminal::open(&env, "\"$RUN\" run --batch S-0001,S-0002\necho over\n");
    assert_eq!(gates.next(), "S-0001");
    terminal.press("y\n");
    terminal.shows("\ny\r\n");
    gates.release("S-0001");
    terminal.shows(QUESTION);
    // The end of the input, which leaves the line as it is.
    terminal.press("\u{4}");
    terminal.shows("over\r\n");
    let text = terminal.close();
    assert!(
        text.contains(&format!("{QUESTION}\r\n     Skipped S-0002")),
        "{text}"
    );
    assert_eq!(env.status("S-0002"), "ready");
}

#[test]
fn a_person_who_says_yes_lets_a_batch_go_on() {
    let env = TestEnv::new();
    let gates = batch(&env);
    let mut terminal = Terminal::open(&env, "\"$RUN\" run --batch S-0001,S-0002\necho over\n");
    assert_eq!(gates.next(), "S-0001");
    gates.release("S-0001");
    terminal.shows(QUESTION);
    terminal.press("y\n");
    terminal.shows("over\r\n");
    let text = terminal.close();
    assert!(
        text.contains(&format!("{QUESTION}y\r\n    Starting S-0002")),
        "{text}"
    );
    assert_eq!(env.status("S-0002"), "done");
}
