//! The options of `run`.

use super::support::TestEnv;

#[test]
fn a_number_of_slots_that_is_none_warns_and_counts_as_one() {
    let env = TestEnv::new();
    for number in ["0", "-1", "abc", "1.9"] {
        env.story("S-0001").script("true").write();
        let output = env
            .ai_sdlc(&["run", "--concurrent", number, "--json"])
            .run();
        output.assert_code(0);
        let warning = format!("warning: --concurrent {number} is not a positive whole number");
        output.assert_stderr(&warning);
        assert_eq!(output.events("run_started")[0]["concurrent"], 1);
    }
}

#[test]
fn concurrent_and_story_do_not_go_together() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    let output = env
        .ai_sdlc(&["run", "--concurrent", "2", "--story", "S-0001"])
        .run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 2
    --- stderr
    error: the argument '--concurrent <N>' cannot be used with '--story <ID>'

    Usage: ai-sdlc run --concurrent <N>

    For more information, try '--help'.
    ");
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn a_story_is_found_without_regard_to_case_and_whatever_its_status() {
    let env = TestEnv::new();
    env.story("S-0001").status("backlog").script("true").write();
    let run = env.ai_sdlc(&["run", "--story", "s-0001"]).run();
    run.assert_code(0);
    assert_eq!(env.status("S-0001"), "done");
}

#[test]
fn a_story_that_is_not_there_is_an_error() {
    let env = TestEnv::new();
    let output = env.ai_sdlc(&["run", "--story", "S-0404"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 2
    --- stderr
    error: there is no story S-0404 on the board
    hint: `ai-sdlc status` shows the stories
    ");
}

#[test]
fn a_story_that_is_done_is_not_done_again() {
    let env = TestEnv::new();
    env.story("S-0001").status("done").script("exit 1").write();
    let output = env.ai_sdlc(&["run", "--story", "S-0001"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stderr
    warning: S-0001 is left out: it is done
    ");
}

#[test]
fn nothing_that_is_ready_is_no_failure_and_says_what_could_be() {
    let env = TestEnv::new();
    env.story("S-0001").status("backlog").write();
    env.story("S-0002").status("blocked").write();
    env.story("S-0003").status("in-progress").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stderr
    warning: 1 story is in progress from a run that was interrupted: S-0003
    hint: `ai-sdlc run --story ID` goes on with one, in its worktree
        Finished no story is ready
    hint: 1 story in the backlog: `status: ready` lets agents work on one
    hint: 1 story blocked: `ai-sdlc run --story ID` tries one again
    ");
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let env = TestEnv::new();
    env.story("S-0001").priority(2).script("exit 1").write();
    env.story("S-0002").priority(1).agent("mock").write();
    env.story("S-0003")
        .depends_on(&["S-0001"])
        .script("exit 1")
        .write();
    env.story("S-0004").status("backlog").write();
    env.commit_all();
    let output = env
        .ai_sdlc(&["run", "--concurrent", "2", "--dry-run"])
        .run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stdout
    3 stories, 2 at a time, from trunk (<commit>)
    S-0002   Do S-0002 [mock] -> ai-sdlc/S-0002-work
    S-0001   Do S-0001 [script] -> ai-sdlc/S-0001-work
    S-0003   Do S-0003 [script] -> ai-sdlc/S-0003-work, after S-0001
    wave 1: S-0002, S-0001
    wave 2: S-0003
    ");
    assert_eq!(env.git(&["status", "--porcelain", "--ignored"]), "");
    assert!(env.branches().is_empty());
}

#[test]
fn the_mock_agent_succeeds_without_a_change() {
    let env = TestEnv::new();
    env.story("S-0001").without("agent").write();
    let output = env.ai_sdlc(&["run", "--agent", "mock"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: mock response
       Succeeded S-0001 Do S-0001 in <time>: nothing to change on ai-sdlc/S-0001-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0001-work: nothing to change
    ");
    assert_eq!(env.status("S-0001"), "done");
}

#[test]
fn the_agent_of_the_story_counts_before_all_others() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"ai\": {\"provider\": \"nobody\"}}");
    env.story("S-0001").script("echo x > x.txt").write();
    let run = env.ai_sdlc(&["run", "--agent", "mock", "--json"]).run();
    run.assert_code(0);
    assert_eq!(run.events("story_started")[0]["agent"], "script");
    env.story("S-0002").without("agent").write();
    let run = env.ai_sdlc(&["run", "--json"]);
    let run = run.variable("AI_SDLC_PROVIDER", "mock").run();
    assert_eq!(run.events("story_started")[0]["agent"], "mock");
}

#[test]
fn an_agent_that_is_not_known_is_an_error_before_anything_starts() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo x > x.txt").write();
    env.story("S-0002").agent("hal9000").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 2
    --- stderr
    error: S-0002 is for the agent `hal9000`, which this version cannot drive (it can drive: script, mock)
    hint: choose another one with --agent, with AI_SDLC_PROVIDER, with `ai.provider` in .ai-sdlc.json, or with `agent:` in the story
    ");
    assert!(env.branches().is_empty());
    assert_eq!(env.status("S-0001"), "ready");
}
