//! Agents that write without end: neither memory nor disk may fill up.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cell::Verdict;
use crate::processes::{Scope, allocated, kib};
use crate::say;
use crate::scratch::{DEADLINE, Scratch};

const MIB: u64 = 1024 * 1024;
/// What may be kept of one stream.
const CAP: u64 = 64 * MIB;
/// What the agent may be ahead of whoever looks after its log.
const AHEAD: u64 = 32 * MIB;
/// How much memory parent and executor may need for it, in KiB.
const GROWTH: u64 = 8 * 1024;

/// Pours. Gives what is wrong.
pub(crate) fn play() -> Vec<String> {
    let floods = [("flood", 1024), ("endless-line", 256)];
    floods
        .iter()
        .flat_map(|(mode, amount)| pour(mode, *amount))
        .collect()
}

fn pour(mode: &str, amount: u64) -> Vec<String> {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({}));
    scratch.gated_story("S-0001", mode, amount);
    let mut run = scratch.start(&["run", "--json"]);
    if let Err(fault) = scratch.await_ready("S-0001", 1) {
        return vec![fault];
    }
    let Some(executor) = Scope::Marked(scratch.mark()).executor("S-0001") else {
        return vec!["the executor is not found".to_owned()];
    };
    let memory =
        || [run.pid(), executor.pid()].map(|pid| kib(pid, "status", "VmHWM").unwrap_or_default());
    let before = memory();
    let runs = scratch.path(".ai-sdlc/runs");
    let mut most = 0;
    let began = Instant::now();
    let poured = loop {
        let said = scratch.hear(Instant::now() + Duration::from_millis(10));
        most = most.max(allocated(&runs));
        if said.is_some_and(|line| line.contains(" poured ")) {
            break true;
        }
        if began.elapsed() > DEADLINE * 2 {
            break false;
        }
    };
    verdict.check(poured, || "it did not get rid of it all".to_owned());
    let after = memory();
    let took = began.elapsed();
    scratch.let_go("S-0001");
    let end = run.end(DEADLINE);
    most = most.max(allocated(&runs));
    let growth = [0, 1].map(|place| after[place].saturating_sub(before[place]));
    say(&format!(
        "{mode}: {amount} MiB in {took:.1?}; memory of parent and executor grew by {} and {} KiB, at most {} MiB on the disk, {} at the end",
        growth[0],
        growth[1],
        most / MIB,
        allocated(&runs) / MIB
    ));
    verdict.check(growth.iter().all(|grown| *grown < GROWTH), || {
        format!("memory grew by {growth:?} KiB")
    });
    verdict.check(most <= CAP + AHEAD, || {
        format!("{} MiB on the disk", most / MIB)
    });
    let last = allocated(&runs);
    verdict.check(last <= CAP + CAP / 8, || {
        format!("{} MiB on the disk at the end", last / MIB)
    });
    verdict.check(end.code == Some(0), || {
        format!("exit code {:?}: {:?}", end.code, end.settled("S-0001"))
    });
    let faults = verdict.faults.into_iter();
    faults.map(|fault| format!("{mode}: {fault}")).collect()
}
