//! A hundred executors at once: what they cost while nothing happens, and that they all stop in time.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::bounds::SLACK;
use crate::cell::Verdict;
use crate::processes::{Process, Scope, children, kib, processor_time, stat};
use crate::program::Program;
use crate::say;
use crate::scratch::Scratch;

const CROWD: usize = 100;
const GRACE: Duration = Duration::from_secs(2);
/// How long they are watched while nothing happens.
const IDLE: Duration = Duration::from_secs(5);
/// How long the start of all of them may take.
const START: Duration = Duration::from_secs(60);
/// The most that the parent may use of a core while nothing happens.
const MOST_PER_MILLE: u128 = 10;

/// Starts agents that ignore SIGTERM, watches them, and stops the run. Gives what is wrong.
pub(crate) fn play() -> Vec<String> {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({"process": {"graceMs": 2000}}));
    let ids: Vec<String> = (1..=CROWD).map(|number| format!("S-{number:04}")).collect();
    for id in &ids {
        scratch.agent_story(id, "deaf", 0);
    }
    let mut run = scratch.start(&["run", "--concurrent", &CROWD.to_string(), "--json"]);
    let began = Instant::now();
    let heard = (0..CROWD)
        .map_while(|_| scratch.hear(began + START))
        .count();
    verdict.check(heard == CROWD, || format!("only {heard} agents came up"));
    say(&format!(
        "{heard} agents that ignore SIGTERM are up after {:.1} s",
        began.elapsed().as_secs_f64()
    ));

    watch(&scratch, &run, &mut verdict);

    let since = Instant::now();
    run.signal(Signal::INT);
    let end = run.end(GRACE + SLACK * 5);
    let bound = GRACE + Duration::from_secs(1) + SLACK;
    let gone = scratch.await_none(since, bound);
    verdict.gone(&gone, bound);
    verdict.check(end.code == Some(130), || {
        format!("exit code {:?}, not 130", end.code)
    });
    say(&format!(
        "asked to stop, all gone after {} ms",
        gone.after.as_millis()
    ));
    let cancelled = ids
        .iter()
        .filter(|id| end.outcome(id) == "cancelled")
        .count();
    verdict.check(cancelled == CROWD, || format!("{cancelled} were cancelled"));
    let kept = ids
        .iter()
        .filter(|id| scratch.worktree(id).join("half.txt").is_file())
        .count();
    verdict.check(kept == CROWD, || {
        format!("{kept} worktrees are there with their work")
    });
    verdict.faults
}

fn watch(scratch: &Scratch, run: &Program, verdict: &mut Verdict) {
    let parent = run.pid();
    // What the reaped children have used: changes when there was any.
    let of_children =
        || stat(parent).map(|fields| (fields[8].clone(), fields[13].clone(), fields[14].clone()));
    let living = || {
        let mut living = children(parent);
        living.sort_unstable();
        living
    };
    let before = (living(), of_children());
    let used = processor_time(parent).unwrap_or_default();
    let began = Instant::now();
    // Nothing is waited for: this is the time that is measured.
    std::thread::sleep(IDLE);
    let took = began.elapsed();
    let used = processor_time(parent)
        .unwrap_or_default()
        .saturating_sub(used);
    let per_mille = used.as_micros() * 1000 / took.as_micros();
    verdict.check(per_mille < MOST_PER_MILLE, || {
        format!("the parent uses {per_mille} ‰ of a core while nothing happens")
    });
    verdict.check(before == (living(), of_children()), || {
        "the parent has started processes".to_owned()
    });

    let executors = Scope::Marked(scratch.mark()).executors();
    let pss = |process: &Process| kib(process.pid(), "smaps_rollup", "Pss");
    let mut each: Vec<u64> = executors.iter().filter_map(pss).collect();
    each.sort_unstable();
    say(&format!(
        "idle: the parent uses {used:?} of a core in {took:.1?}; PSS of an executor {} KiB (median of {}, {} to {}), of the parent {} KiB",
        each.get(each.len() / 2).copied().unwrap_or_default(),
        each.len(),
        each.first().copied().unwrap_or_default(),
        each.last().copied().unwrap_or_default(),
        pss(run.process()).unwrap_or_default(),
    ));
}
