//! An executor whose runtime is stuck: it hears nothing, answers nothing and keeps no deadline. Its tree ends with its
//! parent all the same, and in the time of a stop.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use crate::bounds::{PARENT_DEAD, SLACK, STOP};
use crate::cell::{STORY, Verdict};
use crate::innocents::Innocents;
use crate::lanes;
use crate::lines::{Gate, Lines};
use crate::mode::Mode;
use crate::program::Program;
use crate::say;
use crate::scratch::{DEADLINE, Scratch};

/// What becomes of the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    /// It is killed.
    Killed,
    /// It is asked to stop.
    Asked,
}

/// Plays all cases. Gives what is wrong.
pub(crate) fn play() -> Vec<String> {
    let modes = [Mode::Hang, Mode::Deaf, Mode::Stopped, Mode::Hostile];
    let cases: Vec<(Parent, Mode)> = [Parent::Killed, Parent::Asked]
        .into_iter()
        .flat_map(|parent| modes.map(|mode| (parent, mode)))
        .collect();
    let verdicts = lanes::each(&cases, |(parent, mode)| case(*parent, *mode));
    let mut faults = Vec::new();
    for ((parent, mode), verdict) in cases.iter().zip(verdicts) {
        let name = format!("parent {parent:?}, agent {}", mode.name());
        let found = match verdict {
            Ok(verdict) => {
                say(&format!(
                    "{name}: all gone after {} ms",
                    verdict.took.as_millis()
                ));
                verdict.faults
            }
            Err(panic) => vec![panic],
        };
        faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    faults
}

fn case(parent: Parent, mode: Mode) -> Verdict {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({}));
    scratch.story(STORY, mode);
    // Held with its agent at work, on the thread of its runtime, for ever: nothing is ever written to that pipe.
    let pipe = scratch.base().join("hold");
    let mut held = Lines::at(&scratch.base().join("hold.ready"));
    let _hold = Gate::at(&pipe);
    let mut command = scratch.command(&["run", "--json"]);
    command
        .env("AI_SDLC_TEST_HOLD", &pipe)
        .env("AI_SDLC_TEST_HOLD_AT", "working");
    let mut run = Program::start(command, &scratch.base().join("errors"));
    if let Err(fault) = scratch.await_ready(STORY, mode.voices()) {
        verdict.faults.push(fault);
        return verdict;
    }
    let is_held = held.next(Instant::now() + DEADLINE).is_some();
    verdict.check(is_held, || "no executor was held".to_owned());
    let mut innocents = Innocents::start(&scratch, STORY);
    let since = Instant::now();
    let bound = match parent {
        Parent::Killed => {
            run.process().kill();
            PARENT_DEAD
        }
        Parent::Asked => {
            run.signal(Signal::INT);
            STOP
        }
    };
    let gone = scratch.await_none(since, bound + SLACK);
    verdict.gone(&gone, bound + SLACK);
    if parent == Parent::Asked {
        let end = run.end(DEADLINE);
        verdict.check(end.code == Some(130), || {
            format!("exit code {:?}, not 130", end.code)
        });
    }
    let kept = scratch.worktree(STORY).join("half.txt").is_file();
    verdict.check(kept, || "its work is lost".to_owned());
    verdict.faults.extend(innocents.victims());
    verdict
}
