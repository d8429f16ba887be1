//! What a run works on: epics, batches, whatever becomes ready; and what it does when something goes wrong.

use rustix::process::Signal;

use super::support::{DEADLINE, Gates, HOLD, TestEnv, await_none};

/// A script that ends its executor the first time, and works the second time.
const CRASH_ONCE: &str =
    "if [ ! -e mark ]; then echo 1 > mark; kill -9 $PPID; sleep 60; fi\necho 2 >> mark";

#[test]
fn an_epic_starts_each_story_when_its_own_dependencies_are_through() {
    let env = TestEnv::new();
    let ids: Vec<String> = (1..=9).map(|number| format!("S-000{number}")).collect();
    for (index, id) in ids.iter().enumerate() {
        let story = env.story(id).script(HOLD).field("epic", "login");
        match index {
            0..=2 => story.write(),
            _ => story.depends_on(&[&ids[index - 3]]).write(),
        }
    }
    env.story("S-0010").script("exit 1").write();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let gates = Gates::new(&env, &names);
    let run = env
        .ai_sdlc(&["run", "--epic", "epic-login", "--json"])
        .start();
    assert_eq!(gates.next_in_any_order(3), ["S-0001", "S-0002", "S-0003"]);
    // One chain goes through all its layers while two stories of the first layer still run.
    for (done, next) in [("S-0001", "S-0004"), ("S-0004", "S-0007")] {
        gates.release(done);
        assert_eq!(gates.next(), next);
    }
    for id in ["S-0007", "S-0002", "S-0003"] {
        gates.release(id);
    }
    assert_eq!(gates.next_in_any_order(2), ["S-0005", "S-0006"]);
    gates.release("S-0005");
    gates.release("S-0006");
    assert_eq!(gates.next_in_any_order(2), ["S-0008", "S-0009"]);
    gates.release("S-0008");
    gates.release("S-0009");
    let output = run.wait();
    output.assert_code(0);
    assert_eq!(output.events("story_settled").len(), 9);
    assert_eq!(env.status("S-0010"), "ready");
}

#[test]
fn a_batch_is_worked_on_as_given_and_stops_when_a_story_does_not_succeed() {
    let env = TestEnv::new();
    env.story("S-0001").priority(1).script("true").write();
    env.story("S-0002").priority(2).script("exit 3").write();
    env.story("S-0003")
        .priority(3)
        .status("backlog")
        .script("true")
        .write();
    let output = env
        .ai_sdlc(&["run", "--batch", "S-0003,s-0002, S-0003,S-0001"])
        .run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 3 stories, 1 at a time, from branch trunk (<commit>)
        Starting S-0003 Do S-0003
           Phase S-0003 implement: sh -eu, 1 line
       Succeeded S-0003 Do S-0003 in <time>: nothing to change on ai-sdlc/S-0003-work
        Starting S-0002 Do S-0002
           Phase S-0002 implement: sh -eu, 1 line
          Failed S-0002 Do S-0002 in <time>: the script ended with exit code 3
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0002-1/log
         Skipped S-0001 Do S-0001: nothing more was started after S-0002
        Finished 1 succeeded, 1 failed, 1 skipped in <time>
        Branches ai-sdlc/S-0003-work: nothing to change
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0002-work (S-0002: failed)
             Why S-0002 failed: the script ended with exit code 3
                 S-0001 skipped: nothing more was started after S-0002
    ");
    assert_eq!(env.status("S-0001"), "ready");
    assert_eq!(env.status("S-0003"), "done");
}

#[test]
fn a_batch_that_cannot_be_worked_on_is_refused_before_anything_starts() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .script("true")
        .write();
    for batch in ["S-0002,S-0001", "S-0002", "S-0009", " , "] {
        env.ai_sdlc(&["run", "--batch", batch]).run().assert_code(2);
    }
    assert_eq!(env.status("S-0001"), "ready");
    assert!(env.branches().is_empty());
}

#[test]
fn selections_do_not_go_together() {
    let env = TestEnv::new();
    let selections: [&[&str]; 5] = [
        &["--concurrent", "2"],
        &["--story", "S-0001"],
        &["--batch", "S-0001"],
        &["--epic", "login"],
        &["--watch"],
    ];
    for (index, one) in selections.iter().enumerate() {
        for other in &selections[index + 1..] {
            let arguments = [&["run"][..], one, other].concat();
            env.ai_sdlc(&arguments)
                .run()
                .assert_code(2)
                .assert_stderr("cannot be used with");
        }
    }
}

#[test]
fn a_dry_run_of_an_epic_shows_waves_likely_conflicts_and_what_is_left_out() {
    let env = TestEnv::new();
    let member = |id| env.story(id).field("epic", "login");
    member("S-0001").field("files", "[src/a.rs]").write();
    member("S-0002").field("files", "['src/*.rs']").write();
    member("S-0003")
        .depends_on(&["S-0001"])
        .field("files", "[src/a.rs]")
        .write();
    member("S-0004").status("blocked").write();
    member("S-0005").depends_on(&["S-0004"]).write();
    env.commit_all();
    let output = env.ai_sdlc(&["run", "--epic", "login", "--dry-run"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stdout
    3 stories, 3 at a time, from trunk (<commit>)
    S-0001   Do S-0001 [script] -> ai-sdlc/S-0001-work
    S-0002   Do S-0002 [script] -> ai-sdlc/S-0002-work
    S-0003   Do S-0003 [script] -> ai-sdlc/S-0003-work, after S-0001
    wave 1: S-0001, S-0002
    wave 2: S-0003
    may conflict: S-0001 and S-0002 in src/*.rs
    may conflict: S-0002 and S-0003 in src/a.rs
    left out: S-0004: it is blocked
    left out: S-0005: it depends on S-0004, which is left out
    ");
    assert_eq!(env.git(&["status", "--porcelain", "--ignored"]), "");
}

#[test]
fn a_crashed_attempt_is_followed_by_another_one_in_its_worktree() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"attempts\": {\"backOffMs\": 10}}");
    env.story("S-0001").script(CRASH_ONCE).write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(0);
    let retrying = output.events("story_retrying");
    assert_eq!(retrying.len(), 1);
    assert_eq!(retrying[0]["outcome"], "crashed");
    assert_eq!(output.settled("S-0001")["attempt"], 2);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["mark"]);
    assert_eq!(env.status("S-0001"), "done");
}

#[test]
fn attempts_are_bounded_and_what_went_wrong_stays_on_the_board() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\"attempts\": {\"most\": 2, \"backOffMs\": 10}}",
    );
    env.story("S-0001")
        .script("kill -9 $PPID; sleep 60")
        .write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    assert_eq!(output.events("story_retrying").len(), 1);
    assert_eq!(output.outcome("S-0001"), "crashed");
    assert_eq!(env.status("S-0001"), "ready");
    assert!(
        env.field("S-0001", "last_error")
            .unwrap()
            .contains("signal 9")
    );
}

#[test]
fn many_abnormal_ends_pause_the_starts() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\"attempts\": {\"most\": 1, \"pauseAfter\": 1, \"pauseWindowSeconds\": 1}}",
    );
    env.story("S-0001")
        .priority(1)
        .script("kill -9 $PPID; sleep 60")
        .write();
    env.story("S-0002").priority(2).script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).run();
    output.assert_code(1);
    assert_eq!(output.events("starts_paused").len(), 1);
    assert_eq!(output.outcome("S-0002"), "succeeded");
}

#[test]
fn a_stop_while_a_story_waits_for_its_next_attempt_ends_the_run_at_once() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"attempts\": {\"backOffMs\": 3600000}}");
    env.story("S-0001")
        .script("kill -9 $PPID; sleep 60")
        .write();
    let run = env.ai_sdlc(&["run", "--json"]).start();
    run.event("story_retrying", "S-0001");
    run.signal(Signal::INT);
    let output = run.wait();
    output.assert_code(130);
    assert_eq!(output.outcome("S-0001"), "cancelled");
    assert_eq!(env.status("S-0001"), "ready");
    assert!(
        env.field("S-0001", "last_error")
            .unwrap()
            .contains("signal 9")
    );
}

#[test]
fn the_time_of_a_story_and_of_a_run_is_bounded() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\"limits\": {\"story\": {\"minutes\": 0.005}}}",
    );
    env.story("S-0001").script("sleep 60").write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    assert_eq!(output.outcome("S-0001"), "timed_out");
    assert_eq!(env.status("S-0001"), "blocked");

    env.write(
        ".ai-sdlc.json",
        "{\"limits\": {\"run\": {\"minutes\": 0.005}}}",
    );
    env.story("S-0002").script("sleep 60").write();
    env.story("S-0003").script("sleep 60").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).run();
    output.assert_code(4);
    assert_eq!(output.outcome("S-0002"), "timed_out");
    assert_eq!(output.outcome("S-0003"), "skipped");
    // Neither of them did anything wrong.
    assert_eq!(env.status("S-0002"), "ready");
    assert_eq!(env.status("S-0003"), "ready");
}

#[test]
fn where_time_outs_are_retried_the_next_attempt_has_as_much_time_again() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\"limits\": {\"story\": {\"minutes\": 0.05}}, \"attempts\": {\"retry\": [\"timed_out\"], \"backOffMs\": 10}}",
    );
    env.story("S-0001")
        .script("if [ ! -e mark ]; then echo 1 > mark; sleep 60; fi")
        .write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(0);
    let retrying = output.events("story_retrying");
    assert_eq!(retrying[0]["outcome"], "timed_out");
}

#[test]
fn branches_that_cannot_be_merged_are_told_as_soon_as_both_are_finished() {
    let env = TestEnv::new();
    let change = |id: &str| {
        env.story(id)
            .script(&format!("echo {id} > shared.txt"))
            .write();
    };
    change("S-0001");
    change("S-0002");
    env.story("S-0003")
        .script(&format!("echo x > other.txt\n{HOLD}"))
        .write();
    let gates = Gates::new(&env, &["S-0003"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "3"]).start();
    assert_eq!(gates.next(), "S-0003");
    // While the third one still runs.
    run.line("cannot be merged in shared.txt");
    gates.release("S-0003");
    let output = run.wait();
    output.assert_code(0).assert_stderr("Conflicts S-000");
    assert_eq!(output.stderr.matches("cannot be merged").count(), 2);
}

#[test]
fn a_story_that_would_change_the_same_files_lets_another_one_pass() {
    let env = TestEnv::new();
    let story = |id, priority, files| {
        env.story(id)
            .priority(priority)
            .field("files", files)
            .script(HOLD)
            .write();
    };
    story("S-0001", 1, "['src/**']");
    story("S-0002", 2, "[src/a.rs]");
    story("S-0003", 3, "[docs/a.md]");
    let gates = Gates::new(&env, &["S-0001", "S-0002", "S-0003"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).start();
    assert_eq!(gates.next_in_any_order(2), ["S-0001", "S-0003"]);
    // Nothing else can start now, so that it does.
    gates.release("S-0003");
    assert_eq!(gates.next(), "S-0002");
    gates.release("S-0001");
    gates.release("S-0002");
    run.wait().assert_code(0);
}

#[test]
fn stories_that_become_ready_join_a_run_that_waits_for_them() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\"daemon\": {\"processDelay\": 50}, \"attempts\": {\"most\": 1}}",
    );
    env.story("S-0001").script("true").write();
    let run = env.ai_sdlc(&["run", "--watch", "--json"]).start();
    run.event("story_settled", "S-0001");
    // One that crashes is ready again on the board, and not taken for a new one.
    env.story("S-0002")
        .script("kill -9 $PPID; sleep 60")
        .write();
    run.event("story_settled", "S-0002");
    env.story("S-0003")
        .depends_on(&["S-0001"])
        .script("true")
        .write();
    run.event("story_settled", "S-0003");
    run.signal(Signal::INT);
    let output = run.wait();
    output.assert_code(130);
    assert_eq!(output.events("story_settled").len(), 3);
    assert_eq!(env.status("S-0003"), "done");
}

#[test]
fn a_run_can_be_played_again_up_to_any_record() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let output = env.ai_sdlc(&["replay"]).run();
    output.assert_code(0);
    assert!(
        output.stdout.contains("S-0001   succeeded"),
        "{}",
        output.stdout
    );
    let runs = super::support::names_in(&env.path(".ai-sdlc/runs"));
    let journal = format!(".ai-sdlc/runs/{}/journal.jsonl", runs[0]);
    let text = env.read(&journal);
    for number in 1..=text.lines().count() {
        env.ai_sdlc(&["replay", "--at", &number.to_string()])
            .run()
            .assert_code(0);
    }
    env.ai_sdlc(&["replay", "--at", "99999"])
        .run()
        .assert_code(2);
    env.ai_sdlc(&["replay", "nowhere"]).run().assert_code(2);
    for no_journal in ["./nowhere", "./README.md"] {
        let output = env.ai_sdlc(&["replay", no_journal]).run();
        output
            .assert_code(2)
            .assert_stderr("the journal of a run is");
        assert!(!output.stderr.contains("--at"), "{output:?}");
    }
    let output = env.ai_sdlc(&["replay", "--json"]).run();
    let view: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(view["stories"][0]["standing"]["ended"], "succeeded");
    assert_eq!(view["verdict"], "all_succeeded");
    // What is damaged in its middle is not taken for true; what is cut off at its end is.
    let copy = format!("{}/copy.jsonl", env.base().display());
    std::fs::write(&copy, text.replacen("began", "begun", 1)).unwrap();
    env.ai_sdlc(&["replay", &copy])
        .run()
        .assert_code(2)
        .assert_stderr("line 3")
        .assert_stderr("--at 2 shows");
    std::fs::write(&copy, &text[..text.len() - 20]).unwrap();
    let output = env.ai_sdlc(&["replay", &copy]).run();
    output.assert_code(0);
    assert!(
        output.stdout.contains("ends within a record"),
        "{}",
        output.stdout
    );
}

#[test]
fn a_run_that_goes_on_is_told_from_one_that_was_killed() {
    let env = TestEnv::new();
    env.kills_runs();
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let replay = || env.ai_sdlc(&["replay"]).run().stdout;
    assert!(replay().contains("\nit goes on\n"), "{}", replay());
    run.signal(Signal::KILL);
    drop(run);
    assert!(
        replay().contains("\nnot over: it was killed\n"),
        "{}",
        replay()
    );
    // The next run clears away what the killed one has left.
    assert!(await_none(env.mark(), DEADLINE).is_empty());
    gates.release("S-0001");
    let next = env.ai_sdlc(&["run", "--story", "S-0001"]).run();
    next.assert_code(0);
}

#[test]
fn a_cycle_is_told_once_while_a_run_waits_for_stories() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"daemon\": {\"processDelay\": 50}}");
    let run = env.ai_sdlc(&["run", "--watch"]).start();
    run.line("Running 0 stories");
    env.story("S-0001").depends_on(&["S-0002"]).write();
    run.line("S-0001 is left out: it depends on S-0002, which is not on the board");
    env.story("S-0002").depends_on(&["S-0001"]).write();
    run.line("they wait for each other");
    run.signal(Signal::INT);
    let output = run.wait();
    output
        .assert_code(130)
        .assert_stderr("Stopping no attempt is under way");
    assert_eq!(output.stderr.matches("each other").count(), 1);
    assert!(!output.stderr.contains("form a cycle"), "{}", output.stderr);
}
