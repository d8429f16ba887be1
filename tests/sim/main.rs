//! A deterministic simulation of the core: the engine under a virtual clock, in a world that goes wrong in every way.
//!
//! - `cargo test --test sim`: 100,000 runs, kills at every event of small runs, and the list of mutations
//! - `AI_SDLC_SIM_RUNS=10000000 cargo test --release --test sim`: a soak
//! - `AI_SDLC_SIM_SEED=123 cargo test --test sim`: one run, with its whole trace
//! - `AI_SDLC_SIM_SEED=12 AI_SDLC_SIM_KILL_AT=34 cargo test --test sim`: a small run that is killed before that event

mod ledger;
mod rng;
mod scenario;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use ai_sdlc::engine::fault::{Fault, inject};

use rng::Rng;
use scenario::Scenario;
use world::{Done, Tracing, World};

/// Runs when nothing else is asked for.
const RUNS: u64 = 100_000;
/// Small runs that are killed at every event.
const KILLED_EVERYWHERE: u64 = 300;
/// In how many runs a mutation has to be found.
const RUNS_FOR_A_MUTATION: u64 = 20_000;
/// The last lines of a trace that are shown when a run goes wrong.
const SHOWN: usize = 120;

/// What every set of runs has to have seen, so that no part of the world is forgotten.
const EXPECTED: &[&str] = &[
    "attempts",
    "retries",
    "pauses",
    "provider pauses",
    "provider refusals",
    "provider_refused",
    "run budgets",
    "runs left",
    "quiet",
    "long waits",
    "waits too long",
    "joins",
    "comebacks",
    "told twice",
    "allowances",
    "overlaps",
    "conflicts",
    "stops",
    "kills",
    "never started",
    "succeeded",
    "failed",
    "blocked",
    "timed_out",
    "stalled",
    "crashed",
    "protocol_error",
    "prepare_failed",
    "budget_exceeded",
    "quota_exhausted",
    "cancelled",
    "skipped",
    "verdict: all succeeded",
    "verdict: some did not",
    "verdict: exhausted",
    "verdict: interrupted",
    "verdict: deadline hit",
];

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("AI_SDLC_SIM_SEED") {
        let done = match number("AI_SDLC_SIM_KILL_AT").map(usize::try_from) {
            Some(Ok(kill)) => play_small(seed, Some(kill), Tracing::On),
            _ => play(seed, Tracing::On),
        };
        say(&done.trace.join("\n"));
        say(&format!("seed {seed}: {:?}", done.violation));
        return ExitCode::from(u8::from(done.violation.is_some()));
    }
    let runs = number("AI_SDLC_SIM_RUNS").unwrap_or(RUNS);
    let good = simulate(runs) & kill_everywhere() & mutate();
    ExitCode::from(u8::from(!good))
}

fn say(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn play(seed: u64, tracing: Tracing) -> Done {
    let mut rng = Rng::new(seed);
    let scenario = Scenario::wild(&mut rng);
    let mut done = World::new(&scenario, rng, tracing).run();
    if tracing == Tracing::On {
        done.trace.insert(0, format!("{scenario:#?}"));
    }
    done
}

fn play_small(seed: u64, kill: Option<usize>, tracing: Tracing) -> Done {
    let mut rng = Rng::new(seed);
    let scenario = Scenario::steady(&mut rng, kill);
    let mut done = World::new(&scenario, rng, tracing).run();
    if tracing == Tracing::On {
        done.trace.insert(0, format!("{scenario:#?}"));
    }
    done
}

/// What a set of runs came to.
#[derive(Default)]
struct Total {
    runs: u64,
    steps: u64,
    seen: BTreeMap<&'static str, u64>,
    broken: Option<(u64, String)>,
}

fn simulate(runs: u64) -> bool {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let parts: Vec<Total> = std::thread::scope(|scope| {
        let start = |first: u64| scope.spawn(move || simulate_part(first, threads, runs));
        let handles: Vec<_> = (0..threads).map(start).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("a simulation panicked"))
            .collect()
    });
    let mut total = Total::default();
    for part in parts {
        total.runs += part.runs;
        total.steps += part.steps;
        for (what, times) in part.seen {
            *total.seen.entry(what).or_default() += times;
        }
        total.broken = total
            .broken
            .into_iter()
            .chain(part.broken)
            .min_by_key(|(seed, _)| *seed);
    }
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = total.runs as f64 / seconds;
    say(&format!(
        "{} runs, {} steps, {rate:.0} schedules per second, {seconds:.1} s on {threads} threads",
        total.runs, total.steps
    ));
    for (what, times) in &total.seen {
        say(&format!("  {times:>10}  {what}"));
    }
    if let Some((seed, violation)) = &total.broken {
        explain(*seed, violation);
        return false;
    }
    let missing: Vec<&&str> = EXPECTED
        .iter()
        .filter(|what| !total.seen.contains_key(**what))
        .collect();
    if runs >= RUNS && !missing.is_empty() {
        say(&format!("FAILED: never seen: {missing:?}"));
        return false;
    }
    true
}

fn simulate_part(first: u64, step: u64, end: u64) -> Total {
    let mut total = Total::default();
    let mut seed = first;
    while seed < end {
        let done = play(seed, Tracing::Off);
        total.runs += 1;
        total.steps += done.steps;
        for (what, times) in done.seen {
            *total.seen.entry(what).or_default() += times;
        }
        if let Some(violation) = done.violation {
            total.broken = Some((seed, violation));
            return total;
        }
        if total.runs.is_multiple_of(1_000_000) {
            say(&format!("  … {} runs on one thread", total.runs));
        }
        seed += step;
    }
    total
}

fn explain(seed: u64, violation: &str) {
    show_end(&play(seed, Tracing::On).trace);
    say(&format!("FAILED: seed {seed}: {violation}"));
    say(&format!(
        "all of it: AI_SDLC_SIM_SEED={seed} cargo test --test sim"
    ));
}

fn show_end(trace: &[String]) {
    let from = trace.len().saturating_sub(SHOWN);
    say(&trace[from..].join("\n"));
}

/// Small runs, killed before each of their events: they come to the same ends as without.
fn kill_everywhere() -> bool {
    let (mut kills, mut lost) = (0, None);
    for seed in 0..KILLED_EVERYWHERE {
        let undisturbed = play_small(seed, None, Tracing::Off);
        if undisturbed.violation.is_some() {
            lost.get_or_insert((seed, undisturbed.events, undisturbed.violation));
            continue;
        }
        for kill in 0..undisturbed.events {
            let done = play_small(seed, Some(kill), Tracing::Off);
            kills += 1;
            if done.violation.is_some() || done.outcomes != undisturbed.outcomes {
                let otherwise = format!("{:?}, not {:?}", done.outcomes, undisturbed.outcomes);
                let violation = done.violation.or(Some(otherwise));
                lost.get_or_insert((seed, kill, violation));
            }
        }
    }
    match lost {
        None => {
            say(&format!(
                "{KILLED_EVERYWHERE} runs killed at every event: {kills} kills, the same ends"
            ));
            true
        }
        Some((seed, kill, violation)) => {
            show_end(&play_small(seed, Some(kill), Tracing::On).trace);
            say(&format!(
                "FAILED: small run {seed}, killed before event {kill}: {}",
                violation.unwrap_or_default()
            ));
            say(&format!(
                "all of it: AI_SDLC_SIM_SEED={seed} AI_SDLC_SIM_KILL_AT={kill} cargo test --test sim"
            ));
            false
        }
    }
}

/// Every deliberate fault of the engine is found.
fn mutate() -> bool {
    let mut good = true;
    say("mutations:");
    for fault in Fault::ALL {
        inject(Some(fault));
        let found = (0..RUNS_FOR_A_MUTATION).find_map(|seed| {
            let violation = play(seed, Tracing::Off).violation?;
            Some((seed, violation))
        });
        inject(None);
        if let Some((seed, violation)) = found {
            let violation: String = violation.chars().take(90).collect();
            say(&format!(
                "  {:<24} found in run {:>5}: {violation}",
                format!("{fault:?}"),
                seed + 1
            ));
        } else {
            say(&format!(
                "  {fault:?} FAILED: not found in {RUNS_FOR_A_MUTATION} runs"
            ));
            good = false;
        }
    }
    good
}
