//! What a double death has left is ended, whatever it is; what only looks like it lives. And what may stay stays.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bounds::{RECOVERY, SLACK, STOP};
use crate::cell::{STORY, Verdict};
use crate::healthy::KEEPSAKE;
use crate::innocents::{Innocents, person};
use crate::mode::Mode;
use crate::processes::{Process, Scope};
use crate::recovery::has_reap;
use crate::scratch::{DEADLINE, Scratch};

/// What a double death leaves. Gives what is wrong.
pub(crate) fn play() -> Vec<String> {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({}));
    if !has_reap(&scratch) {
        return vec!["there is no `ai-sdlc reap`".to_owned()];
    }
    scratch.story(STORY, Mode::Hostile);
    let mut run = scratch.start(&["run", "--json"]);
    let agent = match scratch.await_ready(STORY, Mode::Hostile.voices()) {
        Ok(agent) => agent,
        Err(fault) => return vec![fault],
    };
    let mut innocents = Innocents::start(&scratch, STORY);
    let worktree = scratch.worktree(STORY);
    let mut without_home = person("cat", &worktree);
    innocents.add(
        "a program in the worktree without HOME whose parent lives",
        without_home.env_remove("HOME"),
    );
    let mut of_another_board = person("cat", scratch.base());
    let name = "20200101-000000-dead";
    innocents.add(
        "an agent of another board",
        of_another_board.env("AI_SDLC_RUN_ID", name),
    );
    let orphan = orphan(&scratch);

    let executor = Scope::Marked(scratch.mark()).executor(STORY);
    for process in executor.iter().chain([run.process()]) {
        process.signal(rustix::process::Signal::STOP);
    }
    for process in executor.iter().chain([run.process()]) {
        process.kill();
    }
    run.end(DEADLINE);
    // The agent itself ends with its executor, a moment later.
    verdict.check(agent.ends_within(DEADLINE), || {
        "the agent has outlived its executor".to_owned()
    });
    let scope = Scope::Marked(scratch.mark());
    let left = |scope: Scope<'_>| scope.living().len();
    let before = left(scope);
    verdict.check(before + 1 >= Mode::Hostile.voices(), || {
        format!("only {before} processes are left to reap")
    });

    let (end, told) = scratch.run(&["reap", "--dry-run"]);
    verdict.check(end.code == Some(0), || {
        format!("reap --dry-run: {:?}\n{told}", end.code)
    });
    let shown: Vec<u32> = end
        .said
        .iter()
        .filter_map(|line| line.split('\t').next()?.parse().ok())
        .collect();
    let living: Vec<u32> = scope.living().iter().map(Process::pid).collect();
    verdict.check(!shown.is_empty(), || format!("nothing is shown:\n{told}"));
    verdict.check(shown.iter().all(|pid| living.contains(pid)), || {
        format!("reap --dry-run has ended something: of {shown:?} there are {living:?}")
    });
    let began = Instant::now();
    let (end, told) = scratch.run(&["reap"]);
    verdict.check(end.code == Some(0), || {
        format!("reap: {:?}\n{told}", end.code)
    });
    let gone = scratch.await_none(began, RECOVERY + SLACK);
    verdict.gone(&gone, RECOVERY + SLACK);
    verdict.check(orphan.is_alive(), || {
        "an orphan of a person in the worktree was ended".to_owned()
    });
    verdict.check(worktree.is_dir(), || "the worktree is gone".to_owned());
    verdict.faults.extend(innocents.victims());
    orphan.kill();
    verdict.faults
}

/// What a person has left running in the worktree, whose parent is gone.
fn orphan(scratch: &Scratch) -> Process {
    let mut shell = person("sh", &scratch.worktree(STORY));
    shell.args(["-c", "sleep 300 > /dev/null & echo $!"]);
    let mut shell = shell
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut line = String::new();
    let stdout = shell.stdout.take().expect("is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("it says a line");
    drop(shell.wait());
    let pid = line.trim().parse().expect("it says a number");
    Process::hold(pid).expect("it sleeps")
}

/// What may stay stays. Gives what is wrong.
pub(crate) fn keep() -> Vec<String> {
    let mut verdict = Verdict::default();
    let mut scratch = Scratch::new(&json!({"process": {"keep": [KEEPSAKE]}}));
    scratch.gated_story(STORY, "keepsake", 0);
    let mut run = scratch.start(&["run", "--json"]);
    if let Err(fault) = scratch.await_ready(STORY, 3) {
        return vec![fault];
    }
    scratch.let_go(STORY);
    let end = run.end(DEADLINE);
    verdict.check(end.code == Some(0), || {
        format!("exit code {:?}: {:?}", end.code, end.settled(STORY))
    });
    let names = || {
        let living = Scope::Marked(scratch.mark()).living();
        let named = |process: &Process| {
            fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap_or_default()
        };
        living
            .iter()
            .map(|process| named(process).trim().to_owned())
            .collect::<Vec<String>>()
    };
    let began = Instant::now();
    while names() != [KEEPSAKE] && began.elapsed() < STOP + SLACK {
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = names();
    verdict.check(left == [KEEPSAKE], || {
        format!("left after the end of the agent: {left:?}")
    });
    if has_reap(&scratch) {
        let (end, told) = scratch.run(&["reap"]);
        verdict.check(end.code == Some(0), || {
            format!("reap: {:?}\n{told}", end.code)
        });
        let left = names();
        verdict.check(left == [KEEPSAKE], || format!("left after reap: {left:?}"));
    }
    verdict.faults
}
