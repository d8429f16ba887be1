//! What terminals and pipelines do to a run: Ctrl-Z, Ctrl-C, a window that is closed, a reader that goes away.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;

use crate::bounds::{SLACK, STOP};
use crate::cell::{SIBLING, STORY, Verdict};
use crate::mode::Mode;
use crate::processes::{Process, await_state};
use crate::program::Program;
use crate::scratch::{DEADLINE, Scratch};

/// How long the run is held by Ctrl-Z; more than twice the time after which an agent counts as stalled.
const HELD: Duration = Duration::from_secs(5);

/// Ctrl-Z and on. Gives what is wrong.
pub(crate) fn pause() -> Vec<String> {
    let mut verdict = Verdict::default();
    let health = json!({"quietMinutes": 1.0 / 60.0, "stalledMinutes": 2.0 / 60.0});
    let mut scratch = Scratch::new(&json!({"health": health}));
    scratch.story(STORY, Mode::Slow);
    scratch.story(SIBLING, Mode::Busy);
    let mut command = scratch.command(&["run", "--concurrent", "2", "--json"]);
    // As a shell with job control starts it: a group of its own whose parent is in another one of the same session.
    command.process_group(0);
    let mut run = Program::start(command, &scratch.base().join("errors"));
    for id in [STORY, SIBLING] {
        if let Err(fault) = scratch.await_ready(id, 1) {
            return vec![fault];
        }
    }
    run.signal(Signal::TSTP);
    verdict.check(await_state(run.pid(), 'T', SLACK), || {
        "Ctrl-Z does not stop it".to_owned()
    });
    // Nothing is waited for: this is the time that it is held.
    std::thread::sleep(HELD);
    run.signal(Signal::CONT);
    // What it did not hear in the meantime must not be held against anybody, now or at the next look.
    let settled = run.event("story_settled", "", Duration::from_secs(3));
    verdict.check(settled.is_none(), || {
        format!("after the pause: {settled:?}")
    });
    scratch.let_go(STORY);
    scratch.let_go(SIBLING);
    let end = run.end(DEADLINE);
    for id in [STORY, SIBLING] {
        verdict.check(end.outcome(id) == "succeeded", || {
            format!("{:?}", end.settled(id))
        });
    }
    verdict.check(end.code == Some(0), || format!("exit code {:?}", end.code));
    verdict.faults
}

/// A reader that takes one line and goes. Gives what is wrong.
pub(crate) fn head() -> Vec<String> {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({}));
    scratch.story(STORY, Mode::Setsid);
    scratch.story(SIBLING, Mode::Ok);
    let mut run = scratch.start(&["run", "--concurrent", "2", "--json"]);
    let first = run.event("run_started", "", DEADLINE);
    verdict.check(first.is_some(), || "nothing is said".to_owned());
    run.stop_reading();
    for (id, voices) in [(STORY, 2), (SIBLING, 1)] {
        // It may have ended at once, which is as good.
        if run.process().is_alive() && scratch.await_ready(id, voices).is_ok() {
            scratch.let_go(id);
        }
    }
    verdict.check(run.ends_within(DEADLINE), || "it does not end".to_owned());
    let gone = scratch.await_none(Instant::now(), STOP + SLACK);
    verdict.gone(&gone, STOP + SLACK);
    let code = run.end(DEADLINE).code;
    let errors = run.errors();
    let quietly = !errors.contains("panicked") && !errors.to_lowercase().contains("broken pipe");
    verdict.check(quietly && code != Some(101), || {
        format!("exit code {code:?}\n{errors}")
    });
    verdict.faults
}

/// Ctrl-C at a terminal, and a terminal that is closed. Gives what is wrong.
pub(crate) fn hang_up() -> Vec<String> {
    let ctrl_c = |terminal: OwnedFd| {
        let mut keyboard = std::fs::File::from(terminal);
        keyboard
            .write_all(b"\x03")
            .expect("somebody reads the terminal");
        Some(keyboard)
    };
    let close = |terminal: OwnedFd| {
        drop(terminal);
        None::<std::fs::File>
    };
    let mut faults = at_terminal("Ctrl-C", ctrl_c, 130);
    faults.extend(at_terminal("a closed terminal", close, 129));
    faults
}

/// Does something to the terminal of a run. What that gives is kept until the run has ended.
fn at_terminal<T>(name: &str, act: impl FnOnce(OwnedFd) -> T, code: i32) -> Vec<String> {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({}));
    scratch.story(STORY, Mode::Hostile);
    scratch.story(SIBLING, Mode::Ok);
    let (terminal, mut run) = start_at_terminal(&scratch);
    let process = Process::hold(run.id()).expect("it is not reaped");
    for (id, mode) in [(STORY, Mode::Hostile), (SIBLING, Mode::Ok)] {
        if let Err(fault) = scratch.await_ready(id, mode.voices()) {
            verdict.faults.push(fault);
        }
    }
    let since = Instant::now();
    let kept = act(terminal);
    let gone = scratch.await_none(since, STOP + SLACK);
    verdict.gone(&gone, STOP + SLACK);
    let in_time = process.ends_within(DEADLINE);
    verdict.check(in_time, || "it does not end".to_owned());
    process.kill();
    let ended = run.wait().ok().and_then(|status| status.code());
    verdict.check(ended == Some(code), || {
        format!("exit code {ended:?}, not {code}")
    });
    verdict.check(scratch.worktree(STORY).join("half.txt").is_file(), || {
        "its work is lost".to_owned()
    });
    verdict.check(scratch.worktree(SIBLING).join("half.txt").is_file(), || {
        "the work of the other one is lost".to_owned()
    });
    drop(kept);
    let faults = verdict.faults.into_iter();
    faults.map(|fault| format!("{name}: {fault}")).collect()
}

/// Starts a run at a terminal of its own.
fn start_at_terminal(scratch: &Scratch) -> (OwnedFd, Child) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("there are terminals");
    grantpt(&terminal).expect("it is ours");
    unlockpt(&terminal).expect("it is ours");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let open = || {
        let flags = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).expect("is a flag");
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path);
        opened.expect("it is unlocked")
    };
    let mut command = Command::new(std::env::current_exe().expect("there is a program"));
    command.args([
        "terminal",
        env!("CARGO_BIN_EXE_ai-sdlc"),
        "run",
        "--concurrent",
        "2",
    ]);
    scratch.make_hermetic(&mut command);
    command.stdin(open()).stdout(open()).stderr(open());
    let child = command.spawn().expect("this program is there");
    (terminal, child)
}

/// Becomes another program, which has what is its standard input as the terminal of a session of its own.
pub(crate) fn become_leader(arguments: &[String]) -> ExitCode {
    let Some((program, arguments)) = arguments.split_first() else {
        return ExitCode::from(64);
    };
    rustix::process::setsid().expect("is no leader of a group");
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).expect("is a terminal");
    panic!(
        "{program}: {}",
        Command::new(program).args(arguments).exec()
    );
}
