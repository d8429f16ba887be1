//! Chaos: everything that can die does, and nothing may be left. The real program, real processes, real signals.
//!
//! - `cargo test --test chaos`: all of it
//! - `cargo test --test chaos -- matrix`: one part; `--list` names them
//! - `cargo test --test chaos -- cell=parent/hostile/running`: one cell of the matrix; `*` stands for any part
//! - `AI_SDLC_CHAOS_KILLS=10000 cargo test --release --test chaos`: a soak of random kills alone, whose result goes as a
//!   table into the file that `AI_SDLC_CHAOS_REPORT` names
//! - `AI_SDLC_CHAOS_SEED=123 cargo test --test chaos -- kills`: one scene of those
//! - `AI_SDLC_CHAOS_LANES=1`: how many things are done at once
//! - `AI_SDLC_CHAOS_FOLDER=/dev/shm`: where the scratch repositories are made, instead of `/tmp`
//!
//! This program is also the agent of its stories (`fake_agent.rs`). Its scripts only start it, so that nothing is
//! written and then executed.

mod bounds;
mod cell;
mod crowd;
mod fake_agent;
mod flood;
mod healthy;
mod innocents;
mod kills;
mod lanes;
mod leftovers;
mod lines;
mod matrix;
mod mode;
mod processes;
mod program;
mod quiet;
mod recovery;
#[path = "../sim/rng.rs"]
mod rng;
mod scratch;
mod stuck;
mod terminal;
mod windows;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Instant;

use rustix::process::Signal;

use processes::Scope;

/// A part of the tests: gives what is wrong.
type Part = fn() -> Vec<String>;

/// The parts that are played one after the other.
const PARTS: &[(&str, Part)] = &[
    ("matrix", || matrix::play("")),
    ("stuck", stuck::play),
    ("windows", windows::play),
    (KILLS, kills::play),
    ("quiet", quiet::play),
    ("flood", flood::play),
];

/// The parts that mostly wait, and are played at once.
const WAITING_PARTS: &[(&str, Part)] = &[
    ("crowd", crowd::play),
    ("leftovers", leftovers::play),
    ("keep", leftovers::keep),
    ("pause", terminal::pause),
    ("head", terminal::head),
    ("hang-up", terminal::hang_up),
];

/// The part that a soak consists of.
const KILLS: &str = "kills";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("agent") => return fake_agent::main(&arguments[1..]),
        Some("terminal") => return terminal::become_leader(&arguments[1..]),
        Some("--list") => {
            for (name, _) in PARTS.iter().chain(WAITING_PARTS) {
                say(&format!("{name}: test"));
            }
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    with_usual_signals(&arguments);
    // What the test harness of the language understands means nothing here.
    let mut filters: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-') && word.parse::<u64>().is_err())
        .collect();
    if kills::asked_for().is_some() {
        filters = vec![KILLS];
    }
    let began = Instant::now();
    let mut faults = play(&filters);
    faults.extend(left_behind());
    scratch::remove_all();
    say(&format!(
        "chaos: {} at fault, {:.1} s",
        faults.len(),
        began.elapsed().as_secs_f64()
    ));
    for fault in &faults {
        say(&format!("FAILED: {fault}"));
    }
    ExitCode::from(u8::from(!faults.is_empty()))
}

fn play(filters: &[&str]) -> Vec<String> {
    let is_meant =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let mut faults = Vec::new();
    for wanted in filters
        .iter()
        .filter_map(|filter| filter.strip_prefix("cell="))
    {
        faults.extend(play_part("matrix", &|| matrix::play(wanted)));
    }
    for (name, part) in PARTS.iter().filter(|(name, _)| is_meant(name)) {
        faults.extend(play_part(name, part));
    }
    let waiting: Vec<&(&str, Part)> = WAITING_PARTS
        .iter()
        .filter(|(name, _)| is_meant(name))
        .collect();
    let found = lanes::each(&waiting, |(name, part)| play_part(name, part));
    faults.extend(
        found
            .into_iter()
            .flat_map(|found| found.unwrap_or_else(|panic| vec![panic])),
    );
    faults
}

fn play_part(name: &str, part: &dyn Fn() -> Vec<String>) -> Vec<String> {
    let began = Instant::now();
    let found = lanes::guarded(part).unwrap_or_else(|panic| vec![panic]);
    let result = if found.is_empty() { "ok" } else { "FAILED" };
    say(&format!(
        "{name}: {result}, {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    found
        .into_iter()
        .map(|fault| format!("{name}: {fault}"))
        .collect()
}

/// Starts this program once more where it was started with signals ignored, as a shell does in the background: what it
/// starts would not hear a Ctrl-C that comes before it has learned to listen.
fn with_usual_signals(arguments: &[String]) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = |signal: Signal| 1_u64 << (signal.as_raw() - 1);
    let stops = bit(Signal::INT) | bit(Signal::TERM) | bit(Signal::HUP);
    if ignored.is_some_and(|mask| mask & stops != 0) {
        let own = std::env::current_exe().expect("it runs");
        let error = Command::new("env")
            .arg("--default-signal=INT,TERM,HUP")
            .arg(own)
            .args(arguments)
            .exec();
        say(&format!("signals stay ignored: {error}"));
    }
}

/// What this program itself has left: processes with one of its marks, and children.
fn left_behind() -> Vec<String> {
    let family = scratch::family();
    let gone = Scope::Marked(&family).await_none(Instant::now(), bounds::SLACK);
    let marked = gone
        .left
        .iter()
        .map(|process| format!("left behind: {process}"));
    let children = processes::children(std::process::id());
    marked
        .chain(
            children
                .into_iter()
                .map(|child| format!("not reaped: {child}")),
        )
        .collect()
}

fn say(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stdout(), "{text}"));
}
