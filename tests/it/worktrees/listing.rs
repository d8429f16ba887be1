//! What is shown of worktrees.

use serde_json::Value;

use super::{by_hand, make_half, shown};
use crate::support::{Gates, HOLD, TestEnv};

#[test]
fn every_kind_of_worktree_has_its_line() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo a > a.txt; exit 1").write();
    env.story("S-0002").script("echo b > b.txt").write();
    env.story("S-0003").status("backlog").write();
    let run = env
        .ai_sdlc(&["run", "--concurrent", "2", "--keep-worktrees"])
        .run();
    run.assert_code(1);
    for id in ["S-0003", "S-0004", "S-0005"] {
        env.story(id).status("backlog").write();
        env.ai_sdlc(&["worktrees", "add", id]).run().assert_code(0);
    }
    make_half(&env, "S-0003-work");
    std::fs::remove_dir_all(env.path(".ai-sdlc/worktrees/S-0004-work")).unwrap();
    env.git(&["worktree", "unlock", ".ai-sdlc/worktrees/S-0005-work"]);
    env.git(&[
        "worktree",
        "lock",
        "--reason",
        "mine",
        ".ai-sdlc/worktrees/S-0005-work",
    ]);
    by_hand(&env, &["-b", "feature", ".ai-sdlc/worktrees/by-hand"]);
    by_hand(
        &env,
        &[
            "-b",
            "ai-sdlc/old",
            ".ai-sdlc/.ai-sdlc/worktrees/S-0009-old",
        ],
    );
    std::fs::create_dir(env.path(".ai-sdlc/worktrees/folder")).unwrap();
    env.git(&["merge", "--quiet", "ai-sdlc/S-0002-work"]);
    let output = env.ai_sdlc(&["worktrees"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stdout
    STORY STATUS STATE AHEAD UNSAVED SIZE AGE BRANCH PATH
    S-0001 blocked ready 0 1 <size> <age> ai-sdlc/S-0001-work .ai-sdlc/worktrees/S-0001-work
    S-0002 done merged 0 0 <size> <age> ai-sdlc/S-0002-work .ai-sdlc/worktrees/S-0002-work
    S-0003 backlog half-made - - <size> <age> ai-sdlc/S-0003-work .ai-sdlc/worktrees/S-0003-work
    S-0004 backlog gone - - <size> <age> ai-sdlc/S-0004-work .ai-sdlc/worktrees/S-0004-work
    - - foreign 0 0 <size> <age> ai-sdlc/S-0005-work .ai-sdlc/worktrees/S-0005-work
    - - foreign 0 0 <size> <age> feature .ai-sdlc/worktrees/by-hand
    - - foreign - - <size> <age> - .ai-sdlc/worktrees/folder
    S-0009 - ready 0 0 <size> <age> ai-sdlc/old .ai-sdlc/.ai-sdlc/worktrees/S-0009-old
    5 worktrees, <size>; not of stories: 3, <size>
    ");
    // The columns stand below their headings.
    let lines: Vec<&str> = output.stdout.lines().collect();
    let place = lines[0].find("BRANCH").unwrap();
    for line in &lines[1..lines.len() - 1] {
        assert_eq!(line.as_bytes()[place - 1], b' ', "{line}");
        assert_ne!(line.as_bytes()[place], b' ', "{line}");
    }
    // The predecessor's spelling, and the long one.
    let again = env.ai_sdlc(&["worktrees", "list"]).run();
    assert_eq!(shown(&again, &env), shown(&output, &env));
    // What is not committed is in no base.
    env.write(".ai-sdlc/worktrees/S-0002-work/new.txt", "");
    let changed = env.ai_sdlc(&["worktrees"]).run();
    let row = "S-0002 done ready 0 1 <size>";
    assert!(shown(&changed, &env).contains(row), "{changed:#?}");
}

#[test]
fn one_that_has_lost_its_git_file_is_known_and_kept_until_it_is_repaired() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo a > a.txt; exit 1").write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    std::fs::remove_file(env.path(".ai-sdlc/worktrees/S-0001-work/.git")).unwrap();
    let output = env.ai_sdlc(&["worktrees"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stdout
    STORY STATUS STATE AHEAD UNSAVED SIZE AGE BRANCH PATH
    S-0001 blocked broken - - <size> <age> ai-sdlc/S-0001-work .ai-sdlc/worktrees/S-0001-work
    1 worktree, <size>
    --- stderr
    warning: S-0001: its `.git` file is gone
    hint: `git worktree repair` in the main checkout makes it again, and loses nothing
    ");
    let output = env.ai_sdlc(&["worktrees", "--json"]).run();
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
    let worktree = &list["worktrees"][0];
    assert_eq!(worktree["state"], "broken");
    assert_eq!(worktree["reason"], "its `.git` file is gone");
    for salvage in [&[][..], &["--salvage"][..]] {
        let remove = [&["worktrees", "remove", "S-0001"], salvage].concat();
        let output = env.ai_sdlc(&remove).run();
        insta::allow_duplicates! {
            insta::assert_snapshot!(shown(&output, &env), @r"
            exit: 1
            --- stderr
            error: S-0001 keeps its worktree .ai-sdlc/worktrees/S-0001-work: its `.git` file is gone
            hint: `git worktree repair` in the main checkout makes it again, and loses nothing
            ");
        }
    }
    env.story("S-0001").status("done").write();
    let pruned = env.ai_sdlc(&["worktrees", "prune", "--salvage"]).run();
    pruned.assert_stderr("its `.git` file is gone");
    env.story("S-0001").script("test -e a.txt").write();
    let run = env.ai_sdlc(&["run"]).run();
    run.assert_code(1).assert_stderr("`git worktree repair`");
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0001-work/a.txt"), "a\n");
    env.git(&["worktree", "repair"]);
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["a.txt"]);
}

#[test]
fn programs_get_numbers() {
    let env = TestEnv::new();
    env.story("S-0001").script("echo a > a.txt; exit 1").write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    std::fs::create_dir(env.path(".ai-sdlc/worktrees/folder")).unwrap();
    let output = env.ai_sdlc(&["worktrees", "--json"]).run();
    output.assert_code(0);
    let mut list: Value = serde_json::from_str(&output.stdout).unwrap();
    let total = list["total_bytes"].take().as_u64().unwrap();
    for worktree in list["worktrees"].as_array_mut().unwrap() {
        let size = worktree["size_bytes"].take().as_u64().unwrap();
        assert!(worktree["path"] != "" && (size <= total || worktree["state"] == "foreign"));
        let path = worktree["path"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap();
        worktree["path"] = path.into();
        assert!(worktree["last_used"].take().is_string());
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&list).unwrap(), @r#"
    {
      "version": 1,
      "worktrees": [
        {
          "path": "S-0001-work",
          "story": "S-0001",
          "status": "blocked",
          "branch": "ai-sdlc/S-0001-work",
          "state": "ready",
          "reason": null,
          "ahead": 0,
          "uncommitted": 1,
          "size_bytes": null,
          "size_complete": true,
          "last_used": null
        },
        {
          "path": "folder",
          "story": null,
          "status": null,
          "branch": null,
          "state": "foreign",
          "reason": "it is not a worktree of this repository",
          "ahead": null,
          "uncommitted": null,
          "size_bytes": null,
          "size_complete": true,
          "last_used": null
        }
      ],
      "total_bytes": null,
      "sizes_complete": true
    }
    "#);
}

#[test]
fn without_worktrees_there_is_nothing_to_show() {
    let env = TestEnv::new();
    let output = env.ai_sdlc(&["worktrees"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stdout
    There are no worktrees.
    ");
    let nowhere = TestEnv::without_repository();
    nowhere.ai_sdlc(&["worktrees"]).run().assert_code(2);
}

#[test]
fn what_a_run_works_in_is_in_use() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    env.await_status("S-0001", "in-progress");
    let output = env.ai_sdlc(&["worktrees", "--json"]).run();
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(list["worktrees"][0]["state"], "in_use");
    gates.release("S-0001");
    run.wait().assert_code(0);
}
