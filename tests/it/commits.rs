//! What comes onto a story's branch.

use super::support::TestEnv;

const BRANCH: &str = "ai-sdlc/S-0001-work";

#[test]
fn nothing_to_change_is_a_success_without_a_commit() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    let output = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 1 line
       Succeeded S-0001 Do S-0001 in <time>: nothing to change on ai-sdlc/S-0001-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0001-work: nothing to change
    ");
    assert_eq!(env.status("S-0001"), "done");
    assert_eq!(env.branches(), [BRANCH]);
    assert!(env.commits(BRANCH).is_empty());
    assert!(env.worktrees().is_empty());
    assert!(env.worktree_directories().is_empty());
}

#[test]
fn commits_that_the_agent_made_itself_stay_as_they_are() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("echo a > a.txt\ngit add a.txt\ngit commit --quiet -m 'my own'\necho b > b.txt")
        .write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.commits(BRANCH), ["feat(S-0001): Do S-0001", "my own"]);
    assert_eq!(env.changed_files(BRANCH), ["a.txt", "b.txt"]);
    assert!(env.worktrees().is_empty());
}

#[test]
fn an_agent_that_commits_everything_itself_needs_no_further_commit() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("echo a > a.txt\ngit add a.txt\ngit commit --quiet -m 'my own'")
        .write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.commits(BRANCH), ["my own"]);
    assert!(env.worktrees().is_empty());
}

#[test]
fn what_the_agent_does_to_the_board_never_reaches_the_branch_and_is_kept() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("echo x > x.txt\necho note > .ai-sdlc/stories/S-0001/note.md\necho more >> .ai-sdlc/stories/S-0001/story.md")
        .write();
    env.commit_all();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(0);
    assert_eq!(env.changed_files(BRANCH), ["x.txt"]);
    let kept = &output.settled("S-0001")["kept_worktree"];
    let path = kept["path"].as_str().unwrap();
    assert!(path.ends_with("/.ai-sdlc/worktrees/S-0001-work"), "{path}");
    let reason = kept["reason"].as_str().unwrap();
    assert!(reason.contains(".ai-sdlc/stories/S-0001"), "{reason}");
    let note = ".ai-sdlc/worktrees/S-0001-work/.ai-sdlc/stories/S-0001/note.md";
    assert_eq!(env.read(note), "note\n");
    assert!(!env.path(".ai-sdlc/stories/S-0001/note.md").exists());
    assert_eq!(env.status("S-0001"), "done");
}

#[test]
fn board_changes_that_the_agent_committed_are_taken_back_from_the_branch() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("echo x > x.txt\necho note > .ai-sdlc/stories/S-0001/note.md\ngit add --all\ngit commit --quiet -m 'my own'")
        .write();
    env.commit_all();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.changed_files(BRANCH), ["x.txt"]);
}

#[test]
fn a_commit_hook_that_refuses_fails_the_story_and_keeps_the_work() {
    let env = TestEnv::new();
    env.write(
        "hooks/pre-commit",
        "#!/bin/sh\necho 'tabs are not allowed' >&2\nexit 1\n",
    );
    env.make_executable("hooks/pre-commit");
    env.story("S-0001").script("echo x > x.txt").write();
    env.commit_all();
    let hooks = env.path("hooks");
    env.git(&["config", "core.hooksPath", hooks.to_str().unwrap()]);
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    let settled = output.settled("S-0001");
    assert_eq!(settled["outcome"], "failed");
    let reason = settled["reason"].as_str().unwrap();
    assert!(reason.contains("tabs are not allowed"), "{reason}");
    assert!(env.commits(BRANCH).is_empty());
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0001-work/x.txt"), "x\n");
}

#[test]
fn an_agent_that_leaves_its_branch_fails_and_its_work_stays() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("git checkout --quiet -b elsewhere\necho x > x.txt")
        .write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    assert_eq!(output.outcome("S-0001"), "failed");
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0001-work/x.txt"), "x\n");
}

#[test]
fn a_background_process_in_the_group_of_an_agent_ends_with_the_story() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("sleep 1000 &\necho $! > pid.txt")
        .write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.status("S-0001"), "done");
    // That it is gone is checked when the environment is dropped; this is that it was there.
    let pid = env.git(&["show", &format!("{BRANCH}:pid.txt")]);
    assert!(pid.trim().parse::<u32>().is_ok(), "{pid}");
}

#[test]
fn worktrees_of_successes_stay_when_that_is_asked_for() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo x > x.txt").write();
    let output = env.ai_sdlc(&["run", "--keep-worktrees"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 1 line
       Succeeded S-0001 Do S-0001 in <time>: 1 commit, 1 file (+1 -0) on ai-sdlc/S-0001-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0001-work: 1 commit, 1 file (+1 -0)
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0001-work (S-0001: succeeded)
    ");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
    assert_eq!(env.commits(BRANCH).len(), 1);
}

#[test]
fn agents_see_which_story_they_are_for_and_no_secret_or_socket() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        "{\"environment\": {\"allow\": [\"ALLOWED\"]}}",
    );
    env.story("S-0001").script("env | sort > env.txt").write();
    let run = env.ai_sdlc(&["run"]).variable("ALLOWED", "1");
    run.variable("SECRET_TOKEN", "1").run().assert_code(0);
    let seen = env.git(&["show", &format!("{BRANCH}:env.txt")]);
    let has = |name: &str| {
        seen.lines()
            .any(|line| line.starts_with(&format!("{name}=")))
    };
    assert!(has("ALLOWED") && has("PATH") && has("HOME"));
    assert!(seen.contains("AI_SDLC_STORY_ID=S-0001\n"));
    assert!(!has("SECRET_TOKEN") && !has("AI_SDLC_SOCKET"));
}
