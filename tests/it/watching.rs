//! A run that waits for stories: what joins it, leaves it for a moment, is edited, and is asked for again.

use std::time::Duration;

use rustix::process::Signal;

use super::support::{Gates, HOLD, Running, TestEnv};

/// Longer than it takes until a change of the board has been looked at.
const SETTLED: Duration = Duration::from_millis(600);

fn watched() -> TestEnv {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\"daemon\": {\"processDelay\": 50}, \"attempts\": {\"most\": 1}}",
    );
    env
}

fn watch(env: &TestEnv) -> Running {
    env.ai_sdlc(&["run", "--watch", "--json"]).start()
}

#[test]
fn a_story_that_took_long_is_run_again_when_it_is_made_ready_again() {
    let env = watched();
    let write = || {
        let script = format!("{HOLD}\ndate +%N >> again.txt");
        env.story("S-0001").script(&script).write();
    };
    let gates = Gates::new(&env, &["S-0001"]);
    write();
    let run = env.ai_sdlc(&["run", "--watch"]).start();
    for time in 1..=2 {
        assert_eq!(gates.next(), "S-0001");
        std::thread::sleep(SETTLED);
        gates.release("S-0001");
        run.line("Succeeded S-0001");
        env.await_status("S-0001", "done");
        if time == 1 {
            write();
        }
    }
    run.signal(Signal::INT);
    let output = run.wait();
    output.assert_code(130);
    // It does not conflict with itself, and is listed once, as it is now.
    assert!(!output.stderr.contains("cannot be merged"), "{output:#?}");
    let listed = output.stderr.matches("ai-sdlc/S-0001-work: ").count();
    assert_eq!(listed, 1, "{output:#?}");
}

#[test]
fn a_story_that_cannot_be_read_for_a_moment_is_worked_on_as_it_is_then() {
    let env = watched();
    env.story("S-0001").priority(1).script(HOLD).write();
    env.story("S-0002")
        .priority(2)
        .script("echo old > text.txt")
        .write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = watch(&env);
    assert_eq!(gates.next(), "S-0001");
    env.write(
        ".ai-sdlc/stories/S-0002/story.md",
        "---\nid: S-0002\nstatus: [ready\n---\n",
    );
    let away = run.event("story_settled", "S-0002");
    assert_eq!(away["outcome"], "skipped");
    env.story("S-0002")
        .priority(2)
        .script("echo new > text.txt")
        .write();
    run.event("stories_joined", "");
    gates.release("S-0001");
    run.event("story_settled", "S-0002");
    run.signal(Signal::INT);
    run.wait().assert_code(130);
    assert_eq!(env.git(&["show", "ai-sdlc/S-0002-work:text.txt"]), "new\n");
}

#[test]
fn a_story_that_crashed_for_good_is_asked_for_again_by_mending_it() {
    let env = watched();
    env.story("S-0001")
        .script("kill -9 $PPID; sleep 60")
        .write();
    let run = watch(&env);
    let crashed = run.event("story_settled", "S-0001");
    assert_eq!(crashed["outcome"], "crashed");
    std::thread::sleep(SETTLED);
    assert_eq!(run.started_so_far().len(), 1);
    env.story("S-0001").script("true").write();
    let mended = run.event("story_settled", "S-0001");
    assert_eq!(mended["outcome"], "succeeded");
    run.signal(Signal::INT);
    run.wait().assert_code(130);
}

#[test]
fn a_story_is_done_from_what_its_file_says_when_it_starts() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").priority(1).script(HOLD).write();
    env.story("S-0002")
        .priority(2)
        .script("echo old > text.txt")
        .write();
    env.story("S-0003").priority(3).script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    env.story("S-0002")
        .priority(2)
        .script("echo new > text.txt")
        .write();
    env.write(
        ".ai-sdlc/stories/S-0003/story.md",
        "---\nid: S-0003\nstatus: [ready\n---\n",
    );
    gates.release("S-0001");
    let output = run.wait();
    output.assert_code(1);
    assert_eq!(env.git(&["show", "ai-sdlc/S-0002-work:text.txt"]), "new\n");
    let unreadable = output.settled("S-0003");
    assert_eq!(unreadable["outcome"], "prepare_failed");
    let reason = unreadable["reason"].as_str().unwrap();
    assert!(reason.contains("its file cannot be used"), "{reason}");
}
