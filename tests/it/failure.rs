//! Stories that do not work out: the others go on, nothing is lost, and it is said why.

use std::fs;

use super::support::{Gates, HOLD, TestEnv};

#[test]
fn a_script_that_fails_blocks_its_story_and_keeps_its_worktree() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script("echo half > half.txt\necho 'this does not work' >&2\nexit 3")
        .write();
    env.story("S-0002").script("echo x > x.txt").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 2 stories, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 3 lines
        Starting S-0002 Do S-0002
          Failed S-0001 Do S-0001 in <time>: the script ended with exit code 3
                 | this does not work
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0001-1/log
           Phase S-0002 implement: sh -eu, 1 line
       Succeeded S-0002 Do S-0002 in <time>: 1 commit, 1 file (+1 -0) on ai-sdlc/S-0002-work
        Finished 1 succeeded, 1 failed in <time>
        Branches ai-sdlc/S-0002-work: 1 commit, 1 file (+1 -0)
            Kept <dir>/my répo/.ai-sdlc/worktrees/S-0001-work (S-0001: failed)
           Saved S-0001 (`ai-sdlc recover`)
             Why S-0001 failed: the script ended with exit code 3
    ");
    assert_eq!(env.status("S-0001"), "blocked");
    let reason = env.field("S-0001", "blocked_reason").unwrap();
    assert!(reason.contains("exit code 3"), "{reason}");
    assert!(env.field("S-0001", "blocked_at").is_some());
    assert_eq!(env.status("S-0002"), "done");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
    assert_eq!(
        env.read(".ai-sdlc/worktrees/S-0001-work/half.txt"),
        "half\n"
    );
}

#[test]
fn a_story_that_failed_goes_on_in_its_kept_worktree_when_it_is_run_again() {
    let env = TestEnv::new();
    let story = || env.story("S-0001");
    story().script("echo one > one.txt\nexit 3").write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    story()
        .status("blocked")
        .script("echo two > two.txt")
        .write();
    let output = env.ai_sdlc(&["run", "--story", "S-0001"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001 (attempt 2)
        Resuming S-0001 goes on in its kept worktree
           Phase S-0001 implement: sh -eu, 1 line
       Succeeded S-0001 Do S-0001 in <time>: 1 commit, 2 files (+2 -0) on ai-sdlc/S-0001-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0001-work: 1 commit, 2 files (+2 -0)
    ");
    assert_eq!(env.status("S-0001"), "done");
    assert_eq!(env.field("S-0001", "blocked_reason"), None);
    let branch = "ai-sdlc/S-0001-work";
    assert_eq!(env.changed_files(branch), ["one.txt", "two.txt"]);
    assert_eq!(env.commits(branch), ["feat(S-0001): Do S-0001"]);
    assert!(env.worktrees().is_empty());
}

#[test]
fn something_in_the_place_of_a_worktree_fails_that_story_alone_and_is_left_alone() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").script("true").write();
    env.story("S-0002").script("true").write();
    env.write(".ai-sdlc/worktrees/S-0001-work/precious.txt", "mine\n");
    let output = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 2 stories, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
        Starting S-0002 Do S-0002
           Error S-0001 Do S-0001 in <time>: <dir>/my répo/.ai-sdlc/worktrees/S-0001-work exists and is not a worktree of this repository (move it away, then try again)
           Phase S-0002 implement: sh -eu, 1 line
       Succeeded S-0002 Do S-0002 in <time>: nothing to change on ai-sdlc/S-0002-work
        Finished 1 succeeded, 1 not prepared in <time>
        Branches ai-sdlc/S-0002-work: nothing to change
             Why S-0001 prepare_failed: <dir>/my répo/.ai-sdlc/worktrees/S-0001-work exists and is not a worktree of this repository (move it away, then try again)
    ");
    let precious = ".ai-sdlc/worktrees/S-0001-work/precious.txt";
    assert_eq!(env.read(precious), "mine\n");
    assert_eq!(env.branches(), ["ai-sdlc/S-0002-work"]);
    assert!(env.worktrees().is_empty());
    assert_eq!(env.status("S-0001"), "ready");
    assert!(env.field("S-0001", "last_error").is_some());
}

#[test]
fn a_checkout_that_fails_leaves_nothing_behind() {
    let env = TestEnv::new();
    // A filter that is required and fails where the story's branch is checked out, and only there.
    env.write(".gitattributes", "*.bin filter=refuse\n");
    env.write("data.bin", "data\n");
    env.story("S-0001").script("true").write();
    env.commit_all();
    let smudge = "case \"$PWD\" in *S-0001*) echo 'no such large file' >&2; exit 1;; *) cat;; esac";
    env.git(&["config", "filter.refuse.smudge", smudge]);
    env.git(&["config", "filter.refuse.clean", "cat"]);
    env.git(&["config", "filter.refuse.required", "true"]);
    env.story("S-0002")
        .script("cat data.bin > copy.txt")
        .write();
    let output = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).run();
    output.assert_code(1);
    let settled = output.settled("S-0001");
    assert_eq!(settled["outcome"], "prepare_failed");
    assert_eq!(settled["kept_worktree"], serde_json::Value::Null);
    let reason = settled["reason"].as_str().unwrap();
    assert!(reason.contains("check out"), "{reason}");
    assert_eq!(output.outcome("S-0002"), "succeeded");
    assert_eq!(env.branches(), ["ai-sdlc/S-0002-work"]);
    assert!(env.worktree_directories().is_empty());
    let admin = fs::read_dir(env.path(".git/worktrees"));
    assert_eq!(admin.map_or(0, Iterator::count), 0);
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn a_story_without_a_script_is_told_what_is_missing() {
    let env = TestEnv::new();
    env.story("S-0001").write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    let settled = output.settled("S-0001");
    assert_eq!(settled["outcome"], "failed");
    assert_eq!(
        settled["reason"],
        "the story has no fenced block marked `sh` for the script agent to run"
    );
    assert_eq!(env.status("S-0001"), "blocked");
}

#[test]
fn broken_stories_are_named_with_file_and_line_and_the_others_run() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc/stories/S-0001/story.md",
        "---\nid: S-0001\nlabels: [open\nstatus: ready\n---\n",
    );
    env.write(
        ".ai-sdlc/stories/S-0002/story.md",
        "---\nid: S-0002\nstatus: nearly\n---\n",
    );
    env.write(
        ".ai-sdlc/stories/S-0003/story.md",
        "---\nid: ../S-0003\nstatus: ready\n---\n",
    );
    env.write(
        ".ai-sdlc/stories/not an id/story.md",
        "---\nstatus: ready\n---\n",
    );
    env.write(
        ".ai-sdlc/stories/S-0005/story.md",
        "---\nid: S-0005\nstatus: ready\n",
    );
    env.story("S-0006").script("true").write();
    let before = env.story_text("S-0001");
    let output = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
    warning: left out: <dir>/my répo/.ai-sdlc/stories/S-0001/story.md:4: illegal placement of ':' indicator
    warning: left out: <dir>/my répo/.ai-sdlc/stories/S-0002/story.md:3: status: `nearly` is not a status: backlog, ready, in-progress, done or blocked
    warning: left out: <dir>/my répo/.ai-sdlc/stories/S-0003/story.md:2: id: `../S-0003` is not a story id: letters, digits, `-`, `_` and single dots, starting with a letter or digit
    warning: left out: <dir>/my répo/.ai-sdlc/stories/S-0005/story.md:1: the front matter that begins here has no closing `---`
    warning: left out: <dir>/my répo/.ai-sdlc/stories/not an id/story.md: the directory's name is no id: `not an id` is not a story id: letters, digits, `-`, `_` and single dots, starting with a letter or digit
         Running 1 story, 2 at a time, from branch trunk (<commit>)
        Starting S-0006 Do S-0006
           Phase S-0006 implement: sh -eu, 1 line
       Succeeded S-0006 Do S-0006 in <time>: nothing to change on ai-sdlc/S-0006-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0006-work: nothing to change
    ");
    assert_eq!(env.status("S-0006"), "done");
    assert_eq!(env.story_text("S-0001"), before);
}

#[test]
fn a_board_that_cannot_be_written_is_not_called_a_success() {
    let env = TestEnv::new();
    // In the middle of its run the story's file becomes one that cannot be edited line by line.
    let file = env.path(".ai-sdlc/stories/S-0001/story.md");
    let script = format!(
        "echo x > x.txt\nprintf -- '---\\n{{id: S-0001}}\\n---\\n' > '{}'",
        file.display()
    );
    env.story("S-0001").script(&script).write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    assert!(!output.events("warning").is_empty());
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x.txt"]);
}

#[test]
fn a_story_whose_file_cannot_be_kept_up_to_date_is_left_out_before_it_costs_anything() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc/stories/S-0001/story.md",
        "---\n{id: S-0001, slug: work, status: ready, agent: script}\n---\n\n```sh\necho x > x.txt\n```\n",
    );
    let output = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    insta::assert_snapshot!(output.shown(&env), @r"
    exit: 1
    --- stderr
    warning: S-0001 is left out: its file cannot be edited: the front matter is written as `{..}` and cannot be edited line by line
        Finished no story is ready
    ");
    assert!(env.branches().is_empty());
}

#[test]
fn a_story_that_is_edited_during_its_run_keeps_the_edit() {
    let env = TestEnv::new();
    // A person edits between two entries of the program; this one comes after the first is on the board.
    let file = env.path(".ai-sdlc/stories/S-0001/story.md");
    let script = format!(
        "until grep -q '^status: in-progress' '{}'; do sleep 0.01; done\n{HOLD}",
        file.display()
    );
    env.story("S-0001").script(&script).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let text = env.story_text("S-0001");
    let edited = text.replace("---\n\n# Words", "mine: 'yes' # mine\n---\n\n# Words");
    assert_ne!(edited, text);
    env.write(".ai-sdlc/stories/S-0001/story.md", &edited);
    gates.release("S-0001");
    run.wait().assert_code(0);
    assert_eq!(env.status("S-0001"), "done");
    assert_eq!(env.field("S-0001", "mine").unwrap(), "'yes' # mine");
}
