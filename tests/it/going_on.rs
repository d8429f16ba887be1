//! What a run that was killed or stopped goes on with, and what it says when the world has changed meanwhile.

use rustix::process::Signal;

use super::continuing::killed;
use super::support::{DEADLINE, Gates, HOLD, TestEnv, await_none};

/// Stories that name no agent.
fn without_agents(env: &TestEnv, ids: &[&str]) {
    for id in ids {
        env.story(id).script(HOLD).without("agent").write();
    }
}

#[test]
fn the_agent_and_the_number_at_once_are_those_that_it_had() {
    let env = TestEnv::new();
    without_agents(&env, &["S-0001", "S-0002", "S-0003"]);
    env.kills_runs();
    let three = ["S-0001", "S-0002", "S-0003"];
    let gates = Gates::new(&env, &three);
    let begins = ["run", "--concurrent", "2", "--agent", "script"];
    let goes_on = ["run", "--continue", "--concurrent", "3"];
    for (arguments, held) in [(&begins[..], 2), (&goes_on, 3)] {
        let mut run = env.ai_sdlc(arguments).start();
        gates.next_in_any_order(held);
        run.signal(Signal::KILL);
        assert!(run.ends_within(DEADLINE));
        drop(run);
        let left = await_none(env.mark(), DEADLINE);
        assert!(left.is_empty(), "{left:#?}");
    }

    // The same run, and a new one after it was stopped.
    let run = env.ai_sdlc(&["run", "--continue"]).start();
    run.line("Running 3 stories, 3 at a time");
    gates.next_in_any_order(3);
    run.signal(Signal::INT);
    run.wait().assert_code(130);
    for id in three {
        gates.release(id);
    }
    let last = env.ai_sdlc(&["run", "--continue"]).run();
    last.assert_code(0);
    last.assert_stderr("Running 3 stories, 3 at a time");
}

#[test]
fn stories_join_a_run_that_waits_for_them_after_it_was_killed_too() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"daemon\": {\"processDelay\": 50}}");
    env.story("S-0001").script(HOLD).write();
    let gates = killed(&env, &["run", "--watch"], &["S-0001"]);
    // One while nobody was there, and one while it goes on.
    env.story("S-0002").script("echo two > two").write();
    let run = env.ai_sdlc(&["run", "--continue"]).start();
    gates.release("S-0001");
    env.await_status("S-0001", "done");
    env.await_status("S-0002", "done");
    env.story("S-0003").script("echo three > three").write();
    env.await_status("S-0003", "done");
    run.signal(Signal::INT);
    run.wait().assert_code(130);
}

#[test]
fn nothing_to_go_on_with_is_a_run_for_programs_and_no_word_for_who_wants_none() {
    let env = TestEnv::new();
    let json = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    json.assert_code(0);
    assert_eq!(json.events("run_finished").len(), 1, "{json:#?}");
    let dry = env
        .ai_sdlc(&["run", "--continue", "--dry-run", "--json"])
        .run();
    let plan: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!(plan["stories"], serde_json::json!([]));
    let quiet = env.ai_sdlc(&["run", "--continue", "--quiet"]).run();
    quiet.assert_code(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn who_asks_what_would_be_done_is_not_told_that_a_living_run_was_killed() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let dry = env.ai_sdlc(&["run", "--dry-run"]).run();
    dry.assert_code(0);
    dry.assert_stderr("warning: another run works on this board: run ");
    assert!(!dry.stderr.contains("killed"), "{}", dry.stderr);
    let json = env.ai_sdlc(&["run", "--dry-run", "--json"]).run();
    let plan: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(plan["interrupted"], serde_json::json!([]));
    let going_on = env.ai_sdlc(&["run", "--continue", "--dry-run"]).run();
    going_on.assert_code(3);
    gates.release("S-0001");
    run.wait().assert_code(0);
}

#[test]
fn a_story_whose_file_is_gone_is_told_of_and_its_worktree_stays() {
    let env = TestEnv::new();
    for id in ["S-0001", "S-0002"] {
        env.story(id).script(HOLD).write();
    }
    let held = ["S-0001", "S-0002"];
    let gates = killed(&env, &["run", "--concurrent", "2"], &held);
    std::fs::remove_dir_all(env.path(".ai-sdlc/stories/S-0001")).unwrap();
    gates.release("S-0002");
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(1);
    assert_eq!(continued.outcome("S-0001"), "blocked");
    assert_eq!(
        continued.settled("S-0001")["reason"],
        "it is not on the board any more, or its file cannot be read"
    );
    assert_eq!(continued.outcome("S-0002"), "succeeded");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
}

#[test]
fn what_is_in_the_place_of_an_interrupted_worktree_is_for_a_person_to_see_to() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    let _gates = killed(&env, &["run"], &["S-0001"]);
    let path = env.path(".ai-sdlc/worktrees/S-0001-work");
    env.git(&["worktree", "remove", "-f", "-f", &path.to_string_lossy()]);
    env.write(".ai-sdlc/worktrees/S-0001-work/precious.txt", "mine\n");
    let continued = env.ai_sdlc(&["run", "--continue", "--json"]).run();
    continued.assert_code(1);
    assert_eq!(continued.outcome("S-0001"), "blocked");
    let reason = continued.settled("S-0001")["reason"].to_string();
    assert!(reason.contains("is not a worktree of this repository"));
    assert_eq!(env.status("S-0001"), "blocked");
    assert_eq!(
        env.read(".ai-sdlc/worktrees/S-0001-work/precious.txt"),
        "mine\n"
    );
}

#[test]
fn what_a_person_has_made_ready_again_is_not_taken_back() {
    let points_of = |env: &TestEnv, kill_at: &str| {
        let points = env.base().join("points");
        let run = env
            .ai_sdlc(&["run"])
            .variable("AI_SDLC_TEST_POINTS", &points)
            .variable("AI_SDLC_TEST_KILL_AT", kill_at)
            .run();
        (run, std::fs::read_to_string(points).unwrap())
    };
    let write = |env: &TestEnv, text: &str| {
        let script = format!("echo {text} > {text}");
        env.story("S-0001").script(&script).write();
    };
    let undisturbed = TestEnv::new();
    write(&undisturbed, "one");
    let (run, points) = points_of(&undisturbed, "");
    run.assert_code(0);
    let tells = |line: &str| line.starts_with("effect WriteBoard") && line.contains("Done");
    let point = 1 + points.lines().position(tells).unwrap();

    let env = TestEnv::new();
    env.kills_runs();
    write(&env, "one");
    let (killed, _) = points_of(&env, &point.to_string());
    assert_eq!(
        (killed.code, env.status("S-0001").as_str()),
        (None, "in-progress")
    );
    let repaired = env.ai_sdlc(&["run"]).run();
    repaired.assert_stderr("the board did not say how S-0001 ended");
    assert_eq!(env.status("S-0001"), "done");

    write(&env, "two");
    let again = env.ai_sdlc(&["run"]).run();
    again.assert_code(0);
    again.assert_stderr("Starting S-0001 Do S-0001 (attempt 2)");
    assert_eq!(env.git(&["show", "ai-sdlc/S-0001-work:two"]), "two\n");
}

#[test]
fn what_a_killed_run_has_left_is_saved_before_a_new_run_works_in_it() {
    let env = TestEnv::new();
    let script = format!("echo half >> half.txt\n{HOLD}");
    env.story("S-0001").script(&script).write();
    let gates = killed(&env, &["run"], &["S-0001"]);
    env.story("S-0002").script("echo two > two").write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    gates.release("S-0001");
    let continued = env.ai_sdlc(&["run", "--continue"]).run();
    continued.assert_code(0);
    let saved = env.git(&["show", "refs/ai-sdlc/salvage/S-0001/1:half.txt"]);
    assert_eq!(saved, "half\n");
}
