//! The fake agent: what this program is when its first argument is `agent`.
//!
//! `agent <mode> <mark> <folder> <amount>`. Every process of it carries the mark in its arguments, so that it is found
//! whatever becomes of its environment; children are the same program again. In the folder are the named pipes at which
//! agent and test wait for each other: `ready`, into which each process writes its mark, its role and its number, and
//! `go-<mark>`, from which the agent reads a line before it ends.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::healthy;

/// How long any process of the fake agent lives at most, should nobody be left to end it.
const LIFETIME: Duration = Duration::from_secs(150);

/// A file that lets every agent that is started end at once, with success.
pub(crate) const CALM: &str = "calm";

/// A file that ends every runner.
pub(crate) const END: &str = "end";

/// One process of the fake agent.
pub(crate) struct Agent {
    mark: String,
    folder: PathBuf,
    amount: u64,
}

/// Acts as `arguments` say.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [mode, mark, folder, amount] = arguments else {
        return ExitCode::from(64);
    };
    // Healthy and hanging behaviours are told apart by what their threads wait for: no further thread there.
    if !healthy::MODES.contains(&mode.as_str()) {
        std::thread::spawn(|| {
            std::thread::sleep(LIFETIME);
            leave(99);
        });
    }
    let agent = Agent {
        mark: mark.clone(),
        folder: PathBuf::from(folder),
        amount: amount.parse().unwrap_or_default(),
    };
    ExitCode::from(agent.act(mode))
}

impl Agent {
    fn act(&self, mode: &str) -> u8 {
        if let Some(part) = mode.strip_prefix("part-") {
            return self.part(part);
        }
        if self.folder.join(CALM).exists() {
            return 0;
        }
        self.keep_something();
        match mode {
            "ok" => {
                self.say("root");
                self.gate();
                write_or_leave(Path::new("work.txt"), &self.mark);
            }
            "fail" => {
                self.say("root");
                self.gate();
                return 3;
            }
            "hang" => {
                self.say("root");
                sleep_on();
            }
            "deaf" => self.become_deaf("root"),
            "stopped" => {
                self.say("root");
                signal_oneself(Signal::STOP);
                sleep_on();
            }
            "endless-line" => {
                self.say("root");
                self.pour(&vec![b'x'; 64 * 1024]);
                self.gate();
            }
            "flood" => {
                self.say("root");
                self.pour(
                    "all work and no play makes a long log\n"
                        .repeat(1700)
                        .as_bytes(),
                );
                self.gate();
            }
            "slow" => self.chat(),
            "busy" => self.compute(),
            "hostile" => self.surround(),
            "setsid" | "leaker" | "pipe-holder" | "daemon" | "subreaper" | "comet"
            | "comet-setsid" => {
                self.start(mode);
                self.say("root");
                self.gate();
            }
            mode => match mode.strip_prefix("crash-") {
                Some(signal) => {
                    self.say("root");
                    self.gate();
                    self.crash(signal);
                }
                None => return healthy::act(self, mode),
            },
        }
        0
    }

    /// What the children do.
    fn part(&self, part: &str) -> u8 {
        match part {
            "innocent" => {}
            "sleeper" | "group" | "grandchild" => self.say(part),
            "deaf" => self.become_deaf(part),
            "deafened-root" => self.say("root"),
            "deafened-deaf" => self.say("deaf"),
            "setsid" | "pipe-holder" => {
                own_session();
                self.say(part);
            }
            "keepsake" => {
                own_session();
                let name = CString::new(healthy::KEEPSAKE).expect("has no zero in it");
                rustix::thread::set_name(&name).expect("may have a name");
                self.say(part);
            }
            "leaker" => {
                own_session();
                self.say(part);
                loop {
                    // It may be that nobody takes it any more; that does not stop it.
                    drop(writeln!(std::io::stdout(), "still here"));
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            "daemon" => {
                own_session();
                self.let_loose(&mut self.silent("daemon-itself"));
                return 0;
            }
            "bare-daemon" => {
                own_session();
                self.let_loose(self.silent("bare-daemon-itself").env_clear());
                return 0;
            }
            "bare-daemon-itself" => {
                rustix::thread::set_name(c"\xff\xfe no text").expect("may have a name");
                self.say("daemon");
            }
            "daemon-itself" => self.say("daemon"),
            "subreaper" => {
                let own = rustix::process::getpid();
                rustix::process::set_child_subreaper(Some(own)).expect("may be a subreaper");
                self.wait_for(&mut self.child("forker"));
                self.say(part);
            }
            "forker" => {
                self.let_loose(&mut self.child("far-grandchild"));
                return 0;
            }
            "far-grandchild" => {
                own_session();
                self.say("grandchild");
            }
            "comet" | "comet-setsid" => {
                if part == "comet-setsid" {
                    own_session();
                }
                if self.amount == 0 {
                    self.say("comet");
                }
                if self.folder.is_dir() && !self.folder.join(END).exists() {
                    let next = Self {
                        amount: self.amount + 1,
                        mark: self.mark.clone(),
                        folder: self.folder.clone(),
                    };
                    // The descriptor that tells the test that there still is one of them is passed on.
                    next.let_loose(next.child(part).stdin(Stdio::inherit()));
                }
                return 0;
            }
            _ => return 64,
        }
        sleep_on();
        0
    }

    fn start(&self, mode: &str) {
        match mode {
            "daemon" => self.wait_for(&mut self.child("bare-daemon")),
            "comet" | "comet-setsid" => {
                let alive = open(&self.folder.join(format!("alive-{}", self.mark)));
                let mut runner = self.child(mode);
                runner.stdin(alive);
                let first = Self {
                    amount: 0,
                    mark: self.mark.clone(),
                    folder: self.folder.clone(),
                };
                first.let_loose(&mut runner);
            }
            "pipe-holder" => {
                let (reader, writer) = std::io::pipe().expect("may have a pipe");
                self.let_loose(self.child(mode).stdin(reader));
                // Held open for as long as this process lives, as a shell holds its end of a pipeline.
                std::mem::forget(writer);
            }
            mode => self.let_loose(&mut self.child(mode)),
        }
    }

    /// Nine processes, this one among them.
    fn surround(&self) {
        for part in ["sleeper", "setsid", "deaf", "subreaper"] {
            self.let_loose(&mut self.child(part));
        }
        self.let_loose(self.child("group").process_group(0));
        self.wait_for(&mut self.child("daemon"));
        self.wait_for(&mut self.child("bare-daemon"));
        self.say("root");
        self.gate();
    }

    /// This program again, as a part of the same agent.
    pub(crate) fn child(&self, part: &str) -> Command {
        let own = std::env::current_exe().expect("there is a program");
        let mut command = Command::new(own);
        command
            .args(["agent", &format!("part-{part}"), &self.mark])
            .arg(&self.folder)
            .arg(self.amount.to_string())
            .stdin(Stdio::null());
        command
    }

    fn silent(&self, part: &str) -> Command {
        let mut command = self.child(part);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts a process that is left to itself: its parent may end before it, and that is the point.
    pub(crate) fn let_loose(&self, command: &mut Command) {
        let started = command.spawn();
        drop(started.unwrap_or_else(|error| panic!("{}: {error}", self.mark)));
    }

    fn wait_for(&self, command: &mut Command) {
        let ended = command.status();
        ended.unwrap_or_else(|error| panic!("{}: {error}", self.mark));
    }

    /// What the test has handed over besides: an amount in MiB, a port.
    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// Tells the test that a process is there.
    pub(crate) fn say(&self, role: &str) {
        let line = format!("{} {role} {}\n", self.mark, std::process::id());
        let said = open(&self.folder.join("ready")).write_all(line.as_bytes());
        said.unwrap_or_else(|error| panic!("{}: {error}", self.mark));
    }

    /// Waits until the test lets it go; for ever where there is no gate.
    pub(crate) fn gate(&self) {
        let gate = self.folder.join(format!("go-{}", self.mark));
        if !gate.exists() {
            sleep_on();
        }
        let mut line = String::new();
        drop(BufReader::new(open(&gate)).read_line(&mut line));
    }

    /// Something that must not get lost.
    fn keep_something(&self) {
        write_or_leave(Path::new("half.txt"), &self.mark);
    }

    /// Signals that are ignored stay so in the next program. Nothing but a shell can do that here without `unsafe`.
    fn become_deaf(&self, role: &str) {
        let child = self.child(&format!("deafened-{role}"));
        let script = "trap '' TERM HUP INT; exec \"$0\" \"$@\"";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .arg(child.get_program())
            .args(child.get_args());
        panic!("{}: {}", self.mark, shell.exec());
    }

    /// The shell of an agent may have got some signals ignored, and this program ignores SIGPIPE.
    fn crash(&self, signal: &str) {
        let script = format!("ulimit -c 0; kill -{signal} $$; sleep 100");
        let mut shell = Command::new("env");
        shell.args(["--default-signal", "sh", "-c", &script, &self.mark]);
        panic!("{}: {}", self.mark, shell.exec());
    }

    fn pour(&self, chunk: &[u8]) {
        let chunks = self.amount * 1024 * 1024 / chunk.len() as u64;
        let mut stdout = std::io::stdout().lock();
        for _ in 0..chunks {
            if stdout.write_all(chunk).is_err() {
                return;
            }
        }
        // No line end follows; what the buffer keeps of an endless line does not matter.
        drop(stdout.flush());
        self.say("poured");
    }

    /// Says something five times a second until it is let go.
    fn chat(&self) {
        self.say("root");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.gate();
                leave(0);
            });
            loop {
                drop(writeln!(std::io::stdout(), "thinking"));
                std::thread::sleep(Duration::from_millis(200));
            }
        });
    }

    /// Computes until it is let go.
    fn compute(&self) {
        self.say("root");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.gate();
                leave(0);
            });
            let mut number: u64 = 1;
            loop {
                number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005) + 1);
            }
        });
    }
}

/// A named pipe, for both directions: nobody has to be at the other end yet.
fn open(pipe: &Path) -> File {
    let opened = OpenOptions::new().read(true).write(true).open(pipe);
    opened.unwrap_or_else(|error| panic!("{}: {error}", pipe.display()))
}

fn own_session() {
    // Fails only for the leader of a group, which no part of the agent is.
    rustix::process::setsid().expect("may have a session");
}

fn signal_oneself(signal: Signal) {
    rustix::process::kill_process(rustix::process::getpid(), signal).expect("may signal itself");
}

pub(crate) fn sleep_on() {
    std::thread::sleep(LIFETIME * 2);
}

pub(crate) fn write_or_leave(path: &Path, text: &str) {
    if std::fs::write(path, text).is_err() {
        // The worktree is gone, or the disk is full: the test sees that something is missing.
        leave(98);
    }
}

#[expect(
    clippy::exit,
    reason = "another thread of this process decides that it ends"
)]
fn leave(code: i32) -> ! {
    std::process::exit(code);
}
