//! Runs that are killed and go on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::support::{DEADLINE, Gates, HOLD, TestEnv};

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
