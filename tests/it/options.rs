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
    hint: `ai-sdlc run --continue` goes on with them, in their worktrees
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
fn the_dry_run_agent_says_what_it_would_have_asked() {
    let env = TestEnv::new();
    env.story("S-0001").without("agent").write();
    let output = env.ai_sdlc(&["run", "--agent", "dry-run"]).run();
    output.assert_code(0);
    output.assert_stderr("[DRY RUN] No actual AI query performed. Prompt: Work on story S-0001");
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
    error: S-0002: there is no agent `hal9000` (there are: acp, acp:claude, acp:codex, acp:gemini, acp:opencode, acp:qwen, claude, codex, command, dry-run, gemini, mock, opencode, qwen, script)
    hint: choose another one with --agent, with AI_SDLC_PROVIDER, with `ai.provider` in .ai-sdlc.json, or with `agent:` in the story
    ");
    assert!(env.branches().is_empty());
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn a_number_of_slots_beyond_all_bounds_is_bounded() {
    let env = TestEnv::new();
    for number in ["1001", "99999999999999999999999"] {
        let output = env
            .ai_sdlc(&["run", "--dry-run", "--concurrent", number])
            .run();
        output.assert_code(0);
        output.assert_stderr(&format!("--concurrent {number} is more than 1000"));
        assert!(output.stdout.contains(", 1000 at a time"), "{output:?}");
    }
}

#[test]
fn a_number_that_would_be_ignored_is_refused() {
    let env = TestEnv::new();
    let alone = env.ai_sdlc(&["run", "--max-concurrent", "2"]).run();
    alone.assert_code(2).assert_stderr("--epic");
    let both = ["run", "--max-concurrent", "2", "--concurrent", "2"];
    env.ai_sdlc(&both).run().assert_code(2);
}

#[test]
fn an_epic_that_is_not_there_is_an_error_that_names_those_that_are() {
    let env = TestEnv::new();
    let epic = |name: &str| env.ai_sdlc(&["run", "--epic", name]).run();
    insta::assert_snapshot!(epic("login").shown(&env), @"
    exit: 2
    --- stderr
    error: no story on the board belongs to the epic login
    hint: a story belongs to an epic by its key `epic`, or by a label that begins with `epic-`
    ");
    env.story("S-0001").field("epic", "epic-login").write();
    env.story("S-0002").field("labels", "[epic-search]").write();
    insta::assert_snapshot!(epic("epic-logni").shown(&env), @"
    exit: 2
    --- stderr
    error: no story on the board belongs to the epic logni
    hint: the epics of the board are: login, search
    ");
    insta::assert_snapshot!(epic("").shown(&env), @"
    exit: 2
    --- stderr
    error: --epic: the name of an epic must not be empty
    ");
}

#[test]
fn what_was_asked_for_and_is_left_out_makes_the_same_exit_code_every_time() {
    let env = TestEnv::new();
    let member = |id| env.story(id).field("epic", "login").script("true");
    member("S-0001").write();
    member("S-0002").status("blocked").write();
    member("S-0003").depends_on(&["S-0002"]).write();
    for _ in 0..2 {
        let output = env.ai_sdlc(&["run", "--epic", "login", "--json"]).run();
        output.assert_code(1);
        assert_eq!(output.events("run_finished")[0]["exit_code"], 1);
    }
    assert_eq!(env.status("S-0001"), "done");
}

#[test]
fn a_dry_run_ends_as_the_run_would_as_far_as_that_is_known() {
    let env = TestEnv::new();
    env.story("S-0001").depends_on(&["S-0001"]).write();
    env.story("S-0002").script("true").write();
    env.story("S-0003")
        .depends_on(&["S-0002"])
        .script("true")
        .write();
    env.story("S-0004").status("in-progress").write();
    env.write(
        ".ai-sdlc/stories/S-0005/story.md",
        "---\nstatus: nearly\n---\n",
    );
    let code = |arguments: &[&str], code| {
        let dry = [&["run", "--dry-run"], arguments].concat();
        let output = env.ai_sdlc(&dry).run();
        output.assert_code(code);
        output
    };
    code(&["--story", "S-0001"], 1);
    code(&["--story", "S-0005"], 2).assert_stderr("S-0005/story.md:2: status");
    code(&["--story", "S-0002"], 0);
    let refused = code(&["--batch", "S-0003,S-0002"], 2);
    assert_eq!(refused.stdout, "");
    insta::assert_snapshot!(code(&["--concurrent", "2"], 1).shown(&env), @"
    exit: 1
    --- stdout
    2 stories, 2 at a time, from trunk (<commit>)
    S-0002   Do S-0002 [script] -> ai-sdlc/S-0002-work
    S-0003   Do S-0003 [script] -> ai-sdlc/S-0003-work, after S-0002
    wave 1: S-0002
    wave 2: S-0003
    left out: <dir>/my répo/.ai-sdlc/stories/S-0005/story.md:2: status: `nearly` is not a status: backlog, ready, in-progress, done or blocked
    left out: S-0001: it depends on itself
    --- stderr
    warning: 1 story is in progress from a run that was interrupted: S-0004
    hint: `ai-sdlc run --continue` goes on with them, in their worktrees
    ");
    let output = code(&["--concurrent", "2", "--json"], 1);
    let plan: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(plan["version"], 1);
    assert_eq!(plan["exit_code"], 1);
    assert_eq!(plan["stories"][1]["dependencies"][0], "S-0002");
    assert_eq!(plan["waves"], serde_json::json!([["S-0002"], ["S-0003"]]));
    assert_eq!(plan["left_out"][1]["story"], "S-0001");
    assert_eq!(plan["interrupted"][0], "S-0004");
    assert!(env.branches().is_empty());
}
