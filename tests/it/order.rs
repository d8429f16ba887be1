//! Which story starts when.

use super::support::{Gates, HOLD, Output, TestEnv};

fn started(output: &Output) -> Vec<String> {
    let started = output.events("story_started").into_iter();
    started
        .map(|event| event["story"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn stories_start_by_priority_then_day_then_number() {
    let env = TestEnv::new();
    let story = |id| env.story(id).script("true");
    story("S-10").priority(5).write();
    story("S-9").priority(5).write();
    story("S-8").priority(5).created("2026-01-03").write();
    story("S-7").priority(5).created("2026-01-04").write();
    story("S-6").write();
    story("S-11").priority(1).created("2026-12-31").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1", "--json"]).run();
    output.assert_code(0);
    assert_eq!(
        started(&output),
        ["S-11", "S-8", "S-7", "S-9", "S-10", "S-6"]
    );
}

#[test]
fn a_dependent_starts_after_its_dependency_and_sees_its_files() {
    let env = TestEnv::new();
    env.story("S-0001")
        .priority(9)
        .script(&format!("{HOLD}\necho base > base.txt"))
        .write();
    env.story("S-0002")
        .priority(8)
        .script("echo other > other.txt")
        .write();
    env.story("S-0003")
        .priority(1)
        .depends_on(&["S-0001", "s-0002"])
        .script("cat base.txt other.txt > both.txt")
        .write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "3", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    run.event("story_settled", "S-0002");
    gates.release("S-0001");
    let output = run.wait();
    output.assert_code(0);
    assert_eq!(started(&output).last().unwrap(), "S-0003");
    let both = env.git(&["show", "ai-sdlc/S-0003-work:both.txt"]);
    assert_eq!(both, "base\nother\n");
}

#[test]
fn what_needs_a_story_that_fails_is_skipped_all_the_way_down() {
    let env = TestEnv::new();
    env.story("S-0001").script("exit 1").write();
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .script("true")
        .write();
    env.story("S-0003")
        .depends_on(&["S-0002"])
        .script("true")
        .write();
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 4 stories, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 1 line
        Starting S-0004 Do S-0004
          Failed S-0001 Do S-0001 in <time>: the script ended with exit code 1
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0001-1/log
         Skipped S-0002 Do S-0002: S-0001 did not succeed
         Skipped S-0003 Do S-0003: S-0002 did not succeed
           Phase S-0004 implement: sh -eu, 1 line
       Succeeded S-0004 Do S-0004 in <time>: nothing to change on ai-sdlc/S-0004-work
        Finished 1 succeeded, 1 failed, 2 skipped in <time>
        Branches ai-sdlc/S-0004-work: nothing to change
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0001-work (S-0001: failed)
             Why S-0001 failed: the script ended with exit code 1
                 S-0002 skipped: S-0001 did not succeed
                 S-0003 skipped: S-0002 did not succeed
    ");
    for id in ["S-0002", "S-0003"] {
        assert_eq!(env.status(id), "ready");
    }
    assert_eq!(
        env.branches(),
        ["ai-sdlc/S-0001-work", "ai-sdlc/S-0004-work"]
    );
}

#[test]
fn a_cycle_is_shown_with_its_path_and_the_others_go_on() {
    let env = TestEnv::new();
    env.story("S-0001").depends_on(&["S-0002"]).write();
    env.story("S-0002").depends_on(&["S-0003"]).write();
    env.story("S-0003").depends_on(&["S-0001"]).write();
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
    warning: 3 stories are left out: they wait for each other: S-0001 -> S-0002 -> S-0003 -> S-0001
         Running 1 story, 2 at a time, from branch trunk (<commit>)
        Starting S-0004 Do S-0004
           Phase S-0004 implement: sh -eu, 1 line
       Succeeded S-0004 Do S-0004 in <time>: nothing to change on ai-sdlc/S-0004-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0004-work: nothing to change
    ");
    assert_eq!(env.status("S-0004"), "done");
}

#[test]
fn a_dependency_that_is_not_on_the_board_leaves_out_only_what_needs_it() {
    let env = TestEnv::new();
    env.story("S-0001").depends_on(&["S-0404"]).write();
    env.story("S-0002").depends_on(&["S-0001"]).write();
    env.story("S-0003").script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
    warning: S-0001 is left out: it depends on S-0404, which is not on the board
    warning: S-0002 is left out: it depends on S-0001, which is left out
         Running 1 story, 2 at a time, from branch trunk (<commit>)
        Starting S-0003 Do S-0003
           Phase S-0003 implement: sh -eu, 1 line
       Succeeded S-0003 Do S-0003 in <time>: nothing to change on ai-sdlc/S-0003-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0003-work: nothing to change
    ");
    assert_eq!(env.status("S-0003"), "done");
}

#[test]
fn run_alone_does_the_next_story_and_no_other() {
    let env = TestEnv::new();
    for (id, priority) in [("S-0001", 20), ("S-0002", 10), ("S-0003", 30)] {
        env.story(id).priority(priority).script("true").write();
    }
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let statuses = ["S-0001", "S-0002", "S-0003"].map(|id| env.status(id));
    assert_eq!(statuses, ["ready", "done", "ready"]);
}

#[test]
fn dependencies_whose_branches_conflict_keep_only_their_dependent_from_starting() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo one > same.txt").write();
    env.story("S-0002").script("echo two > same.txt").write();
    env.story("S-0003")
        .depends_on(&["S-0001", "S-0002"])
        .script("true")
        .write();
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).run();
    output.assert_code(1);
    let settled = output.settled("S-0003");
    assert_eq!(settled["outcome"], "blocked");
    assert_eq!(
        settled["reason"],
        "the branch `ai-sdlc/S-0002-work` of S-0002 conflicts with `ai-sdlc/S-0001-work` of S-0001 in same.txt: merge \
         one into the other, then set the story to ready"
    );
    // A person has to do something: another attempt would come to the same.
    assert_eq!(settled["attempt"], 1);
    assert!(output.events("story_retrying").is_empty());
    assert_eq!(env.status("S-0003"), "blocked");
    assert_eq!(output.outcome("S-0004"), "succeeded");
    assert_eq!(env.branches().len(), 3);
    assert!(env.worktrees().is_empty());
}

#[test]
fn the_work_of_a_dependency_from_an_earlier_run_is_in_the_base_though_nobody_merged_it() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo one > one.txt").write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .script("cp one.txt two.txt")
        .write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.git(&["show", "ai-sdlc/S-0002-work:two.txt"]), "one\n");
}

#[test]
fn a_story_asked_for_by_name_does_not_start_before_what_it_needs_is_done() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .script("true")
        .write();
    let output = env.ai_sdlc(&["run", "--story", "S-0002"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
    warning: S-0002 is left out: it depends on S-0001, which is ready
    ");
    assert_eq!(env.status("S-0002"), "ready");
}
