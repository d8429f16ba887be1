//! Runs that are killed and go on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ai_sdlc::orchestrator::{Past, PastError};
use rustix::process::Signal;

use super::support::{DEADLINE, Gates, HOLD, TestEnv, await_none, can_mount};

/// A board whose run has a failure, a retry, and dependencies, one of which is not met.
fn scripted() -> TestEnv {
    let env = TestEnv::new();
    env.kills_runs();
    env.write(
        ".ai-sdlc.json",
        "{\"attempts\": {\"backOffMs\": 1, \"longestBackOffMs\": 1}}",
    );
    let story = |id: &str, script: &str| env.story(id).script(script);
    story("S-0001", "echo one > one").write();
    // Its first attempt crashes.
    story(
        "S-0002",
        "[ -e tried ] || { : > tried; kill -9 $$; }; echo two > two",
    )
    .write();
    story("S-0003", "exit 3").write();
    story("S-0004", "echo four > four")
        .depends_on(&["S-0001"])
        .write();
    story("S-0005", "echo five > five")
        .depends_on(&["S-0003"])
        .write();
    // Nothing to change.
    story("S-0006", ":")
        .depends_on(&["S-0002", "S-0004"])
        .write();
    env
}

const IDS: [&str; 6] = ["S-0001", "S-0002", "S-0003", "S-0004", "S-0005", "S-0006"];

/// Everything by which one end of the run can be told from another.
#[derive(Debug, PartialEq, Eq)]
struct End {
    code: Option<i32>,
    board: BTreeMap<String, String>,
    /// The commits of each branch, and the tree that they come to.
    branches: BTreeMap<String, (Vec<String>, String)>,
    worktrees: Vec<String>,
}

impl End {
    fn of(env: &TestEnv, code: Option<i32>) -> Self {
        let board = IDS.map(|id| (id.to_owned(), env.status(id)));
        let branches = env.branches().into_iter().map(|branch| {
            let tree = env.git(&["rev-parse", &format!("{branch}^{{tree}}")]);
            let commits = env.commits(&branch);
            (branch, (commits, tree))
        });
        let mut worktrees = env.worktrees();
        worktrees.sort();
        Self {
            code,
            board: board.into(),
            branches: branches.collect(),
            worktrees,
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the list of points is what it shows")]
fn wherever_a_run_is_killed_it_comes_to_the_same_end() {
    let undisturbed = scripted();
    let points = undisturbed.base().join("points");
    let run = undisturbed
        .ai_sdlc(&["run", "--concurrent", "2"])
        .variable("AI_SDLC_TEST_POINTS", &points)
        .run();
    let expected = End::of(&undisturbed, run.code);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let points = std::fs::read_to_string(points).unwrap();
    let count = points.lines().count();
    assert!(count > 60, "{points}");

    let next = AtomicUsize::new(1);
    let ends = || {
        let mut wrong = Vec::new();
        loop {
            let point = next.fetch_add(1, Ordering::Relaxed);
            if point > count {
                return wrong;
            }
            let env = scripted();
            let killed = env
                .ai_sdlc(&["run", "--concurrent", "2"])
                .variable("AI_SDLC_TEST_KILL_AT", point.to_string())
                .run();
            // Which points there are depends a little on what comes first; the last ones may not be reached.
            let end = if killed.code.is_none() {
                let again = env.ai_sdlc(&["run", "--continue"]).run();
                let end = End::of(&env, again.code);
                if end != expected {
                    wrong.push(format!("{point}: {end:#?}\n{}", again.stderr));
                }
                end
            } else {
                End::of(&env, killed.code)
            };
            if end != expected {
                wrong.push(format!("point {point}: {end:#?}"));
            }
        }
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ends)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    // With `--nocapture`, every point.
    println!("{count} points:\n{points}");
    assert!(
        wrong.is_empty(),
        "{} of {count} points: {}\nexpected {expected:#?}\n{points}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn runs_are_listed_with_how_they_ended() {
    let env = TestEnv::new();
    env.kills_runs();
    let nothing = env.ai_sdlc(&["runs"]).run();
    insta::assert_snapshot!(nothing.shown(&env), @"
    exit: 0
    --- stdout
    There was no run yet. `ai-sdlc run` works on the stories that are ready.
    ");

    env.story("S-0001").script("echo one > one").write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    env.story("S-0002").script("exit 3").write();
    env.story("S-0003")
        .script("echo three > three")
        .depends_on(&["S-0002"])
        .write();
    env.ai_sdlc(&["run", "--concurrent", "2"])
        .run()
        .assert_code(1);
    env.story("S-0004").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0004"]);
    let mut run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0004");
    let going_on = env.ai_sdlc(&["runs"]).run();
    run.signal(Signal::KILL);
    assert!(run.ends_within(DEADLINE));
    drop(run);
    let killed = env.ai_sdlc(&["runs"]).run();
    insta::assert_snapshot!(going_on.shown(&env), @"
    exit: 0
    --- stdout
    <run>  going on              <time>  1 story, 1 open
    <run>  some did not succeed  <time>  2 stories, 1 failed, 1 skipped
    <run>  succeeded             <time>  1 story, 1 succeeded
    ");
    insta::assert_snapshot!(killed.shown(&env), @"
    exit: 0
    --- stdout
    <run>  killed                <time>  1 story, 1 open
    <run>  some did not succeed  <time>  2 stories, 1 failed, 1 skipped
    <run>  succeeded             <time>  1 story, 1 succeeded
    ");
    let listed = env.ai_sdlc(&["runs", "--json"]).run();
    let list: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(list["runs"][0]["outcome"], "killed");
    assert_eq!(list["runs"][1]["stories"]["failed"], 1);
    gates.release("S-0004");
    env.ai_sdlc(&["run", "--continue"]).run().assert_code(0);
    let continued = env.ai_sdlc(&["runs"]).run();
    insta::assert_snapshot!(continued.shown(&env), @"
    exit: 0
    --- stdout
    <run>  succeeded             <time>  1 story, 1 succeeded
    <run>  some did not succeed  <time>  2 stories, 1 failed, 1 skipped
    <run>  succeeded             <time>  1 story, 1 succeeded
    ");
}

/// A run that was killed while it worked on these stories.
pub(super) fn killed(env: &TestEnv, arguments: &[&str], held: &[&str]) -> Gates {
    env.kills_runs();
    let gates = Gates::new(env, held);
    let mut run = env.ai_sdlc(arguments).start();
    gates.next_in_any_order(held.len());
    run.signal(Signal::KILL);
    assert!(run.ends_within(DEADLINE));
    drop(run);
    let left = await_none(env.mark(), DEADLINE);
    assert!(left.is_empty(), "{left:#?}");
    gates
}

#[test]
fn what_an_interrupted_agent_has_written_is_saved_and_gone_on_with() {
    let env = TestEnv::new();
    let script = format!("echo half >> half.txt\n{HOLD}\necho rest > rest.txt");
    env.story("S-0001").script(&script).write();
    env.story("S-0002")
        .script("echo two > two")
        .depends_on(&["S-0001"])
        .write();
    let gates = killed(&env, &["run", "--concurrent", "2"], &["S-0001"]);
    gates.release("S-0001");
    let continued = env.ai_sdlc(&["run", "--continue"]).run();
    insta::assert_snapshot!(continued.shown(&env), @"
    exit: 0
    --- stderr
         Running 2 stories, 2 at a time, from branch trunk (<commit>)
      Continuing 0 stories are through; interrupted: S-0001
        Starting S-0001 Do S-0001 (attempt 2)
        Resuming S-0001 goes on in its kept worktree
           Phase S-0001 implement: sh -eu, 4 lines
       Succeeded S-0001 Do S-0001 in <time>: 1 commit, 2 files (+3 -0) on ai-sdlc/S-0001-work
        Starting S-0002 Do S-0002
           Phase S-0002 implement: sh -eu, 1 line
       Succeeded S-0002 Do S-0002 in <time>: 1 commit, 1 file (+1 -0) on ai-sdlc/S-0002-work
        Finished 2 succeeded in <time>
        Branches ai-sdlc/S-0001-work: 1 commit, 2 files (+3 -0)
                 ai-sdlc/S-0002-work: 1 commit, 1 file (+1 -0)
    ");
    let salvage = "refs/ai-sdlc/salvage/S-0001/1";
    assert_eq!(env.git(&["show", &format!("{salvage}:half.txt")]), "half\n");
    let branch = "ai-sdlc/S-0001-work";
    // Once more in the same place: nothing was thrown away.
    assert_eq!(
        env.git(&["show", &format!("{branch}:half.txt")]),
        "half\nhalf\n"
    );
    assert_eq!(env.worktrees(), [""; 0]);
    let nothing = env.ai_sdlc(&["run", "--continue"]).run();
    insta::assert_snapshot!(nothing.shown(&env), @"
    exit: 0
    --- stderr
        Finished there is no interrupted run to continue
    hint: `ai-sdlc run` works on the stories that are ready
    ");
}

#[test]
fn a_story_that_was_finished_or_put_off_by_hand_meanwhile_is_left_alone() {
    let env = TestEnv::new();
    for id in ["S-0001", "S-0002", "S-0003"] {
        env.story(id).script(HOLD).write();
    }
    env.story("S-0004")
        .script("echo four > four")
        .depends_on(&["S-0001"])
        .write();
    let gates = killed(
        &env,
        &["run", "--concurrent", "3"],
        &["S-0001", "S-0002", "S-0003"],
    );
    for (id, status) in [("S-0001", "done"), ("S-0002", "blocked")] {
        let text = env
            .story_text(id)
            .replace("status: in-progress", &format!("status: {status}"));
        env.write(&format!(".ai-sdlc/stories/{id}/story.md"), &text);
    }
    gates.release("S-0003");
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(1);
    assert_eq!(continued.outcome("S-0001"), "succeeded");
    assert_eq!(continued.outcome("S-0002"), "skipped");
    assert_eq!(continued.outcome("S-0003"), "succeeded");
    assert_eq!(continued.outcome("S-0004"), "succeeded");
    let statuses = ["S-0001", "S-0002", "S-0003", "S-0004"].map(|id| env.status(id));
    assert_eq!(statuses, ["done", "blocked", "done", "done"]);
}

#[test]
fn the_last_run_is_the_one_that_began_last_whatever_the_clock_says() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo one > one").write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let runs = env.path(".ai-sdlc/runs");
    let first = std::fs::read_to_string(runs.join("latest")).unwrap();
    // As if the clock had been set back by centuries since.
    std::fs::rename(runs.join(&first), runs.join("29991231-235959-0001")).unwrap();
    env.story("S-0002").script(HOLD).write();
    let gates = killed(&env, &["run"], &["S-0002"]);
    gates.release("S-0002");
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(0);
    assert_eq!(continued.outcome("S-0002"), "succeeded");
}

#[test]
fn what_was_left_at_a_stop_is_gone_on_with_as_a_new_run() {
    let env = TestEnv::new();
    for id in ["S-0001", "S-0002"] {
        env.story(id).script(HOLD).write();
    }
    env.kills_runs();
    let gates = Gates::new(&env, &["S-0001", "S-0002"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "1"]).start();
    assert_eq!(gates.next(), "S-0001");
    run.signal(Signal::INT);
    run.wait().assert_code(130);
    // A story that is ready and was never part of it is not meant.
    env.story("S-0003").script("echo three > three").write();
    for id in ["S-0001", "S-0002"] {
        gates.release(id);
    }
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(0);
    assert_eq!(continued.events("story_settled").len(), 2);
    assert_eq!(env.status("S-0003"), "ready");
}

#[test]
fn what_a_run_has_left_before_another_one_is_gone_on_with_as_a_new_run() {
    let env = TestEnv::new();
    env.story("S-0003").script("echo three > three").write();
    env.story("S-0004").script(HOLD).write();
    let gates = killed(&env, &["run", "--story", "S-0004"], &["S-0004"]);
    env.ai_sdlc(&["run", "--story", "S-0003"])
        .run()
        .assert_code(0);
    gates.release("S-0004");
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(0);
    assert_eq!(continued.outcome("S-0004"), "succeeded");
}

#[test]
fn a_journal_that_cannot_be_read_is_told_of_and_the_board_says_what_is_left() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    let gates = killed(&env, &["run"], &["S-0001"]);
    let runs = env.path(".ai-sdlc/runs");
    let run = std::fs::read_to_string(runs.join("latest")).unwrap();
    let journal = runs.join(run).join("journal.jsonl");
    let damaged = std::fs::read_to_string(&journal)
        .unwrap()
        .replacen("began", "bagan", 1);
    std::fs::write(&journal, damaged).unwrap();
    gates.release("S-0001");
    let continued = env.ai_sdlc(&["run", "--continue"]).run();
    std::fs::remove_file(&journal).unwrap();
    let shown = continued.shown(&env);
    // The opening is longer where paths are.
    let (before, after) = shown.split_once(", at byte ").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    insta::assert_snapshot!(format!("{before}{after}"), @"
    exit: 0
    --- stderr
    warning: what run <run> did is not known: <dir>/my répo/.ai-sdlc/runs/<run>/journal.jsonl: line 3: the checksum is <commit>, and the line says <commit>
    hint: the board and the branches say how its stories are
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001 (attempt 2)
        Resuming S-0001 goes on in its kept worktree
           Phase S-0001 implement: sh -eu, 2 lines
       Succeeded S-0001 Do S-0001 in <time>: nothing to change on ai-sdlc/S-0001-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0001-work: nothing to change
    ");
}

#[test]
fn a_hundred_stories_survive_three_kills() {
    let env = TestEnv::new();
    env.kills_runs();
    for number in 1..=100 {
        let id = format!("S-{number:04}");
        let script = format!("echo {number} > f{number}; sleep 0.0{}", number % 10);
        let story = env.story(&id).script(&script);
        // Every tenth one waits for the one before it.
        let before = format!("S-{:04}", number - 1);
        if number % 10 == 0 {
            story.depends_on(&[&before]).write();
        } else {
            story.write();
        }
    }
    // Wherever the kill comes, it has to come while something is going on.
    let seed = std::process::id();
    let mut arguments = vec!["run", "--concurrent", "16", "--json"];
    for round in 1..=3 {
        let mut run = env.ai_sdlc(&arguments).start();
        let after = 1 + (seed as usize * 7 * round) % 20;
        for _ in 0..after {
            run.event("story_settled", "");
        }
        run.signal(Signal::KILL);
        assert!(run.ends_within(DEADLINE));
        drop(run);
        arguments = vec!["run", "--continue", "--json"];
    }
    let last = env.ai_sdlc(&arguments).run();
    last.assert_code(0);
    let numbers = 1..=100;
    for number in numbers {
        let id = format!("S-{number:04}");
        assert_eq!(env.status(&id), "done", "{id}, seed {seed}");
        let branch = format!("ai-sdlc/{id}-work");
        let range = format!("HEAD..{branch}");
        let subjects = env.git(&[
            "log",
            "--format=%s",
            "--first-parent",
            "--no-merges",
            &range,
        ]);
        let own: Vec<&str> = subjects
            .lines()
            .filter(|subject| subject.contains(&id))
            .collect();
        assert_eq!(own.len(), 1, "{id}, seed {seed}: {own:?}");
        assert_eq!(
            env.git(&["show", &format!("{branch}:f{number}")]),
            format!("{number}\n")
        );
    }
    assert_eq!(env.worktrees(), [""; 0]);
    let left = await_none(env.mark(), DEADLINE);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_journal_that_cannot_be_written_ends_no_work_and_lets_nothing_more_start() {
    let env = TestEnv::new();
    env.kills_runs();
    for number in 1..=40 {
        let id = format!("S-{number:04}");
        env.story(&id)
            .script(&format!("echo {number} > f{number}"))
            .write();
    }
    // No file may become larger than that, as on a disk that is full; the signal that comes with it is ignored.
    let limited = "trap '' XFSZ; ulimit -f 32; exec \"$0\" run --concurrent 4";
    let full = env.ai_sdlc(&[]).shell(limited).run();
    full.assert_code(1);
    full.assert_stderr(
        "warning: the journal of this run cannot be written, so that nothing more is started",
    );
    let done = |env: &TestEnv| {
        let ids = (1..=40).map(|number| format!("S-{number:04}"));
        ids.filter(|id| env.status(id) == "done").count()
    };
    let before = done(&env);
    assert!((1..40).contains(&before), "{before}: {}", full.stderr);
    let ids = (1..=40).map(|number| format!("S-{number:04}"));
    assert!(!ids.into_iter().any(|id| env.status(&id) == "in-progress"));

    let continued = env
        .ai_sdlc(&["run", "--continue", "--concurrent", "4"])
        .run();
    continued.assert_code(0);
    assert_eq!(done(&env), 40, "{}", continued.stderr);
    for number in 1..=40 {
        let branch = format!("ai-sdlc/S-{number:04}-work");
        assert_eq!(env.commits(&branch).len(), 1, "{branch}");
    }
}

#[test]
fn a_journal_that_ends_anywhere_tells_what_is_whole_of_it() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo one > one").write();
    env.story("S-0002").script("exit 3").write();
    env.ai_sdlc(&["run", "--concurrent", "2"])
        .run()
        .assert_code(1);
    let runs = env.path(".ai-sdlc/runs");
    let run = std::fs::read_to_string(runs.join("latest")).unwrap();
    let journal = std::fs::read(runs.join(&run).join("journal.jsonl")).unwrap();
    let run = run.parse().unwrap();
    let cut = env.base().join("cut.jsonl");
    let whole = |length: usize| journal[..length].split(|byte| *byte == b'\n').count() - 1;
    let mut known = Vec::new();
    for length in 0..=journal.len() {
        std::fs::write(&cut, &journal[..length]).unwrap();
        let lines = whole(length);
        match Past::read(&run, &cut) {
            Ok(past) => {
                let view = past.engine.view();
                // The same lines, the same state.
                known.truncate(lines + 1);
                if known.len() == lines + 1 {
                    assert_eq!(known[lines], Some(view), "{length}");
                } else {
                    known.resize(lines, None);
                    known.push(Some(view));
                }
            }
            Err(PastError::Empty(_)) => assert_eq!(lines, 0, "{length}"),
            Err(error) => panic!("{length}: {error}"),
        }
    }
    assert!(whole(journal.len()) > 15);
}

#[test]
fn a_board_that_cannot_be_written_is_refused_and_left_as_it_is() {
    if !can_mount("a board that cannot be written") {
        return;
    }
    let env = TestEnv::new();
    env.story("S-0001").script("echo one > one").write();
    let call = |arguments: &str| {
        let script = format!(
            "mount --bind .ai-sdlc .ai-sdlc && mount -o remount,ro,bind .ai-sdlc || exit 99; exec \"$1\" {arguments}"
        );
        env.write("../script", &script);
        let call = "exec unshare -rm sh \"$AI_SDLC_TEST_DIR/script\" \"$0\"";
        env.ai_sdlc(&[]).shell(call).run()
    };
    insta::assert_snapshot!(call("run").shown(&env), @"
    exit: 2
    --- stderr
    error: cannot lock <dir>/my répo/.ai-sdlc/run.lock: Read-only file system (os error 30)
    hint: a run needs a writable board folder
    ");
    assert_eq!(call("run --continue").code, Some(2));
    assert_eq!(call("runs").code, Some(0));
    assert_eq!(env.status("S-0001"), "ready");
    assert_eq!(env.branches(), [""; 0]);
}

#[test]
fn the_summary_of_a_run_that_went_on_is_that_of_the_whole_run() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo one > one").write();
    env.story("S-0002")
        .script("echo half > half; exit 3")
        .write();
    env.story("S-0003").script(HOLD).write();
    let gates = killed(&env, &["run", "--concurrent", "1"], &["S-0003"]);
    gates.release("S-0003");
    let continued = env.ai_sdlc(&["run", "--continue"]).run();
    insta::assert_snapshot!(continued.shown(&env), @"
    exit: 1
    --- stderr
         Running 3 stories, 1 at a time, from branch trunk (<commit>)
      Continuing 2 stories are through; interrupted: S-0003
        Starting S-0003 Do S-0003 (attempt 2)
        Resuming S-0003 goes on in its kept worktree
           Phase S-0003 implement: sh -eu, 2 lines
       Succeeded S-0003 Do S-0003 in <time>: nothing to change on ai-sdlc/S-0003-work
        Finished 2 succeeded, 1 failed in <time>
        Branches ai-sdlc/S-0001-work: 1 commit, 1 file (+1 -0)
                 ai-sdlc/S-0003-work: nothing to change
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0002-work (S-0002: failed)
             Why S-0002 failed: the script ended with exit code 3
    ");
}
