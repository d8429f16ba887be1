//! `worktree.maxDisk` and `worktree.minFree`.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use super::shown;
use crate::support::TestEnv;

/// Gives a worktree the age of so many hours.
fn age(env: &TestEnv, name: &str, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3_600);
    let admin = env.path(".git/worktrees").join(name);
    let places = ["HEAD", "index", "logs/HEAD"].map(|file| admin.join(file));
    for place in places
        .into_iter()
        .chain([env.path(".ai-sdlc/worktrees").join(name)])
    {
        let times = FileTimes::new().set_modified(then).set_accessed(then);
        File::open(place).unwrap().set_times(times).unwrap();
    }
}

/// A board whose worktrees are of three stories: one with nothing unsaved, that was used four hours ago; one with, three
/// hours ago; one without, two hours ago. Each takes more than 100 KiB.
fn with_old_worktrees() -> TestEnv {
    let env = TestEnv::new();
    env.write("large.bin", &"x".repeat(100 * 1024));
    env.commit_all();
    for id in ["S-0001", "S-0002", "S-0003"] {
        env.story(id).status("backlog").write();
        env.ai_sdlc(&["worktrees", "add", id]).run().assert_code(0);
    }
    env.write(".ai-sdlc/worktrees/S-0002-work/mine.txt", "mine\n");
    age(&env, "S-0001-work", 4);
    age(&env, "S-0002-work", 3);
    age(&env, "S-0003-work", 2);
    env
}

#[test]
fn above_the_quota_the_oldest_that_are_saved_make_room() {
    let env = with_old_worktrees();
    env.write(".ai-sdlc.json", r#"{"worktree": {"maxDisk": "300 KiB"}}"#);
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0004 Do S-0004
    warning: removed the worktree <dir>/my répo/.ai-sdlc/worktrees/S-0001-work (<size>), all of which is saved: the worktrees take <size>, more than `worktree.maxDisk` (<size>)
           Phase S-0004 implement: sh -eu, 1 line
       Succeeded S-0004 Do S-0004 in <time>: nothing to change on ai-sdlc/S-0004-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0004-work: nothing to change
    ");
    assert_eq!(env.worktrees(), ["S-0002-work", "S-0003-work"]);
    let listed = env.ai_sdlc(&["worktrees"]).run();
    let last = listed.stdout.lines().last().unwrap();
    assert!(last.ends_with(" KiB of 300.0 KiB"), "{last}");
}

#[test]
fn what_a_salvage_has_makes_room_too() {
    let env = with_old_worktrees();
    env.ai_sdlc(&["worktrees", "remove", "S-0002", "--salvage"])
        .run()
        .assert_code(0);
    env.ai_sdlc(&["worktrees", "add", "S-0002"])
        .run()
        .assert_code(0);
    env.write(".ai-sdlc/worktrees/S-0002-work/mine.txt", "mine\n");
    age(&env, "S-0002-work", 5);
    env.write(".ai-sdlc.json", r#"{"worktree": {"maxDisk": "300 KiB"}}"#);
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run"]).run();
    output.assert_code(0).assert_stderr("S-0002-work (");
    assert_eq!(env.worktrees(), ["S-0001-work", "S-0003-work"]);
    let saved = env.git(&["show", "refs/ai-sdlc/salvage/S-0002/1:mine.txt"]);
    assert_eq!(saved, "mine\n");
}

#[test]
fn a_quota_that_cannot_be_kept_stops_no_work() {
    let env = with_old_worktrees();
    env.write(".ai-sdlc.json", r#"{"worktree": {"maxDisk": 4096}}"#);
    env.story("S-0003").script("true").write();
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    output.assert_code(0).assert_stderr(
        "more than `worktree.maxDisk` (4.0 KiB), and none of the others can be removed",
    );
    // That of a story which this run has to do was not taken from under it.
    assert!(
        !output.stderr.contains("removed the worktree") || !output.stderr.contains("S-0003-work (")
    );
    assert_eq!(env.worktrees(), ["S-0002-work"]);
    assert_eq!(
        env.read(".ai-sdlc/worktrees/S-0002-work/mine.txt"),
        "mine\n"
    );
}

#[test]
fn an_attempt_needs_some_free_space() {
    let env = TestEnv::new();
    let config = r#"{"attempts": {"most": 1}, "worktree": {"minFree": "900000 TiB"}}"#;
    env.write(".ai-sdlc.json", config);
    env.story("S-0001").script("true").write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    let settled = output.settled("S-0001");
    assert_eq!(settled["outcome"], "prepare_failed");
    let reason = settled["reason"].as_str().unwrap();
    assert!(reason.starts_with("too little disk space: "), "{reason}");
    let wanted = "/.ai-sdlc/worktrees, 878.9 PiB wanted (`ai-sdlc worktrees prune` frees some; `worktree.minFree` says how \
                  much is wanted)";
    assert!(reason.ends_with(wanted), "{reason}");
    assert_eq!(env.status("S-0001"), "ready");
    assert!(env.worktrees().is_empty() && env.branches().is_empty());
    let added = env.ai_sdlc(&["worktrees", "add", "S-0001"]).run();
    added.assert_code(2).assert_stderr("too little disk space");
    // Whoever wants none can have it.
    env.write(".ai-sdlc.json", r#"{"worktree": {"minFree": 0}}"#);
    env.ai_sdlc(&["run"]).run().assert_code(0);
}

#[test]
fn a_size_that_is_none_is_refused_with_its_line() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\n  \"worktree\": {\"maxDisk\": \"lots\"}\n}\n",
    );
    let output = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(output.shown(&env), @r#"
    exit: 2
    --- stderr
    error: <dir>/my répo/.ai-sdlc.json:2:32: `worktree.maxDisk` must be a number of bytes or a text such as "20GB", not "lots"
    hint: mend the file, or move it away to use the defaults
    "#);
}
