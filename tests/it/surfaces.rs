//! What a run says: to people, to programs, and to those who want to hear little.

use super::support::TestEnv;

fn mixed(env: &TestEnv) {
    env.story("S-0001").script("echo x > x.txt").write();
    // Each after the one before, so that the order of all lines is certain.
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .script("echo no >&2\nexit 3")
        .write();
    env.story("S-0003").depends_on(&["S-0002"]).write();
}

#[test]
fn people_read_a_line_for_every_start_phase_and_end_and_a_summary() {
    let env = TestEnv::new();
    mixed(&env);
    let output = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 3 stories, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 1 line
       Succeeded S-0001 Do S-0001 in <time>: 1 commit, 1 file (+1 -0) on ai-sdlc/S-0001-work
        Starting S-0002 Do S-0002
           Phase S-0002 implement: sh -eu, 2 lines
          Failed S-0002 Do S-0002 in <time>: the script ended with exit code 3
                 | no
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0002-1/log
         Skipped S-0003 Do S-0003: S-0002 did not succeed
        Finished 1 succeeded, 1 failed, 1 skipped in <time>
        Branches ai-sdlc/S-0001-work: 1 commit, 1 file (+1 -0)
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0002-work (S-0002: failed)
             Why S-0002 failed: the script ended with exit code 3
                 S-0003 skipped: S-0002 did not succeed
    ");
}

#[test]
fn quiet_says_only_what_did_not_go_well() {
    let env = TestEnv::new();
    mixed(&env);
    let output = env.ai_sdlc(&["run", "--concurrent", "1", "--quiet"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
          Failed S-0002 Do S-0002 in <time>: the script ended with exit code 3
                 | no
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0002-1/log
         Skipped S-0003 Do S-0003: S-0002 did not succeed
    ");
    env.story("S-0004").script("true").write();
    let well = env.ai_sdlc(&["run", "--story", "S-0004", "--quiet"]).run();
    assert_eq!(
        (well.code, well.stdout.as_str(), well.stderr.as_str()),
        (Some(0), "", "")
    );
}

#[test]
fn quiet_says_nothing_when_there_is_nothing_to_do() {
    let env = TestEnv::new();
    env.story("S-0001").status("backlog").write();
    let output = env.ai_sdlc(&["run", "--quiet"]).run();
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

#[test]
fn json_begins_and_ends_a_run_that_has_nothing_to_do() {
    let env = TestEnv::new();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(0);
    let records = output.records();
    let last = records.last().map(|record| &record["event"]["type"]);
    assert_eq!(last, Some(&"run_finished".into()));
}

#[test]
fn quiet_and_json_do_not_go_together() {
    let env = TestEnv::new();
    env.ai_sdlc(&["run", "--quiet", "--json"])
        .run()
        .assert_code(2);
}

#[test]
fn json_is_one_event_on_every_line_and_nothing_else() {
    let env = TestEnv::new();
    mixed(&env);
    let output = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).run();
    output.assert_code(1);
    let records = output.records();
    for (place, record) in records.iter().enumerate() {
        assert_eq!(record["version"], 1);
        assert_eq!(record["sequence"], place + 1);
        assert_eq!(record["run"], records[0]["run"]);
        assert!(record["time"].as_str().unwrap().ends_with('Z'));
    }
    let kinds: Vec<String> = records
        .iter()
        .map(|record| {
            let event = &record["event"];
            let story = event["story"].as_str().unwrap_or_default();
            format!("{} {story}", event["type"].as_str().unwrap())
        })
        .collect();
    insta::assert_snapshot!(kinds.join("\n"), @"
    run_started 
    story_started S-0001
    story_prepared S-0001
    story_phase S-0001
    story_status S-0001
    story_settled S-0001
    story_started S-0002
    story_prepared S-0002
    story_phase S-0002
    story_status S-0002
    story_settled S-0002
    story_settled S-0003
    run_finished
    ");
    let last = &records.last().unwrap()["event"];
    assert_eq!(last["exit_code"], 1);
    assert_eq!(last["counts"]["succeeded"], 1);
    assert_eq!(last["counts"]["failed"], 1);
    assert_eq!(last["counts"]["skipped"], 1);
    assert_eq!(output.stderr, "");
}

#[test]
fn the_run_goes_on_when_nobody_reads_its_json_any_more() {
    let env = TestEnv::new();
    mixed(&env);
    let script = "\"$0\" run --concurrent 1 --json | head -n 1 > /dev/null";
    env.ai_sdlc(&[]).shell(script).run();
    assert_eq!(env.status("S-0001"), "done");
    assert_eq!(env.status("S-0002"), "blocked");
}

#[test]
fn what_agents_print_cannot_reach_the_terminal() {
    let env = TestEnv::new();
    env.story("S-0001")
        .field("title", "\"Red \\e[31malert\"")
        .script("printf '\\033[31mred\\033[0m \\007\\n' >&2\nexit 1")
        .write();
    let output = env.ai_sdlc(&["run"]).run();
    output.assert_code(1);
    assert!(!output.stderr.contains(['\u{1b}', '\u{7}']), "{output:#?}");
}

#[test]
fn a_flood_of_output_harms_nobody() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("head -c 20000000 /dev/zero | tr '\\0' 'x'\necho\necho the end\nexit 1")
        .write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    let settled = output.settled("S-0001");
    let tail = settled["log_tail"].as_array().unwrap();
    assert!(tail.iter().any(|line| line == "the end"), "{tail:#?}");
    let last = tail.last().unwrap().as_str().unwrap();
    assert!(last.contains("bytes of output"), "{last}");
    assert!(settled.to_string().len() < 10_000);
}
