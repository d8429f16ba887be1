//! SIGKILL for the parent in every window of ten milliseconds of the first half second of a run.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::bounds::{PARENT_DEAD, SLACK};
use crate::cell::Verdict;
use crate::innocents::Innocents;
use crate::lanes;
use crate::mode::Mode;
use crate::recovery::{Recovery, recover};
use crate::say;
use crate::scratch::Scratch;

const WINDOWS: u64 = 50;
/// How many runs there are at once: few, so that they get far in their time.
const LANES: usize = 3;
const WINDOW: Duration = Duration::from_millis(10);

/// Kills in every window. Gives what is wrong.
pub(crate) fn play() -> Vec<String> {
    let windows: Vec<u64> = (0..WINDOWS).collect();
    let verdicts = lanes::each_on(LANES, &windows, |window| kill_in(*window));
    let mut faults = Vec::new();
    let (mut longest, mut survivors) = (Duration::ZERO, 0);
    for (window, verdict) in windows.iter().zip(verdicts) {
        let found = match verdict {
            Ok(verdict) => {
                longest = longest.max(verdict.took);
                survivors += verdict.survivors;
                verdict.faults
            }
            Err(panic) => vec![panic],
        };
        faults.extend(
            found
                .into_iter()
                .map(|fault| format!("killed after {} ms: {fault}", window * 10)),
        );
    }
    say(&format!(
        "{WINDOWS} windows, {survivors} survivors, all gone after {} ms at most",
        longest.as_millis()
    ));
    faults
}

fn kill_in(window: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({}));
    scratch.story("S-0001", Mode::Daemon);
    scratch.story("S-0002", Mode::Setsid);
    // These come to their commits and to the removal of their worktrees.
    for id in ["S-0003", "S-0004", "S-0005"] {
        scratch.script_story(id, "echo x > x.txt");
    }
    let mut innocents = Innocents::start(&scratch, "S-0001");
    let run = scratch.start(&["run", "--concurrent", "3", "--json"]);
    // The moment is what is tried here, so this is no way to wait for something.
    std::thread::sleep(WINDOW * u32::try_from(window).expect("is small"));
    let since = Instant::now();
    run.process().kill();
    let gone = scratch.await_none(since, PARENT_DEAD + SLACK);
    verdict.gone(&gone, PARENT_DEAD + SLACK);
    // Nothing is half made: the next run of a story that was interrupted, or never begun, is a success.
    if let Err(fault) = recover(&scratch, Recovery::Run, "S-0001") {
        verdict.faults.push(fault);
    }
    verdict.faults.extend(innocents.victims());
    verdict
}
