//! Work that was not committed is saved at the end of an attempt, and comes back.

use super::support::{TestEnv, names_in};

const WORK: &str = "echo changed >> README.md\nprintf 'a\\0b' > new.bin\nmkdir -p deep/er\necho x > 'deep/er/a b'\n\
                    chmod +x deep/er/*\nln -s nowhere dangling\nexit 3";

#[test]
fn what_a_failed_story_leaves_is_listed_shown_and_given_back() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").script(WORK).write();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    let kept = &output.settled("S-0001")["kept_worktree"];
    assert_eq!(kept["salvage"], "refs/ai-sdlc/salvage/S-0001/1");

    let listed = env.ai_sdlc(&["recover"]).run();
    listed.assert_code(0);
    let row = listed.stdout.lines().next().unwrap();
    assert!(row.starts_with("S-0001  attempt 1 "), "{row}");
    assert!(row.contains("4 files not on its branch: failed: "), "{row}");
    let json = env.ai_sdlc(&["recover", "list", "--json"]).run();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let salvage = &json["salvages"][0];
    assert_eq!(salvage["branch"], "ai-sdlc/S-0001-work");
    assert_eq!(
        (&salvage["files"], &salvage["contained"]),
        (&4.into(), &false.into())
    );

    let shown = env.ai_sdlc(&["recover", "show", "s-1"]).run();
    shown.assert_code(0).assert_stderr("hint: git diff ");
    for row in [
        "  M README.md (+1 -0)",
        "  A new.bin (+0 -0)",
        "  A deep/er/a b (+1 -0)",
        "4 files (+3 -0)",
    ] {
        assert!(
            shown.stdout.contains(row),
            "{row} is not in {}",
            shown.stdout
        );
    }

    let restored = env
        .ai_sdlc(&["recover", "restore", "S-0001", "--to", "../back"])
        .run();
    restored.assert_code(0);
    let back = env.base().join("back");
    assert_eq!(std::fs::read(back.join("new.bin")).unwrap(), b"a\0b");
    assert!(back.join("dangling").is_symlink());
    assert!(!back.join(".git").exists());
    let again = env
        .ai_sdlc(&["recover", "restore", "S-0001", "--to", "../back"])
        .run();
    again.assert_code(2).assert_stderr("back exists");

    env.ai_sdlc(&["recover", "restore", "S-0001"])
        .run()
        .assert_code(0);
    let text = env.git(&["show", "ai-sdlc/salvage/S-0001-1:README.md"]);
    assert_eq!(text, "# Scratch\nchanged\n");
    let again = env.ai_sdlc(&["recover", "restore", "S-0001"]).run();
    again
        .assert_code(2)
        .assert_stderr("there is a branch `ai-sdlc/salvage/S-0001-1` already");
    for name in ["ai-sdlc", "trunk/back"] {
        let beside = env.ai_sdlc(&["recover", "restore", "1", "--branch", name]);
        let beside = beside.run();
        let message = format!("there can be no branch `{name}` beside the branch `");
        beside.assert_code(2).assert_stderr(&message);
        beside.assert_stderr("hint: --branch takes another name");
    }
    let changed = env.git(&["status", "--porcelain", "--untracked-files=no"]);
    assert_eq!(changed, " M .ai-sdlc.json\n");
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let env = TestEnv::new();
    env.without_retries();
    let nothing = env.ai_sdlc(&["recover"]).run();
    assert_eq!(nothing.assert_code(0).stdout, "Nothing to recover.\n");
    let unknown = env.ai_sdlc(&["recover", "show", "S-0009"]).run();
    unknown
        .assert_code(2)
        .assert_stderr("nothing was saved in this repository");
    env.story("S-0001").script("echo x > x\nexit 1").write();
    env.ai_sdlc(&["run"])
        .run()
        .assert_code(1)
        .assert_stderr("Saved S-0001 (`ai-sdlc recover`)");
    let unknown = env.ai_sdlc(&["recover", "show", "S-0009"]).run();
    unknown
        .assert_code(2)
        .assert_stderr("hint: there is something of S-0001");
    let attempt = env
        .ai_sdlc(&["recover", "show", "S-0001", "--attempt", "7"])
        .run();
    attempt
        .assert_code(2)
        .assert_stderr("hint: attempts with something: 1");
}

#[test]
fn checkpoints_are_made_while_an_agent_works_and_are_no_news_once_its_work_is_committed() {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", "{\"worktree\": {\"checkpointEvery\": 1}}");
    // The agent itself sees that its work has been saved.
    let script = "echo x > x\ntries=0\n\
                  until git show refs/ai-sdlc/salvage/S-0001/1:x > seen 2>/dev/null; do\n\
                  tries=$((tries + 1)); test $tries -lt 600; sleep 0.1; done\nrm seen";
    env.story("S-0001").script(script).write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let admin = env.path(".git/worktrees");
    assert!(names_in(&admin).is_empty());
    let listed = env.ai_sdlc(&["recover"]).run();
    assert_eq!(listed.assert_code(0).stdout, "Nothing to recover.\n");
    listed.assert_stderr("--all lists 1 more, whose work was committed since");
    let all = env.ai_sdlc(&["recover", "--all"]).run();
    assert!(all.stdout.contains(": checkpoint\n"), "{}", all.stdout);
}

#[test]
fn what_a_branch_has_by_now_is_listed_only_on_demand() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").script("echo x > x\nexit 1").write();
    env.story("S-0002").script("echo y > y\nexit 1").write();
    env.ai_sdlc(&["run", "--concurrent", "2"])
        .run()
        .assert_code(1);
    let worktree = env.path(".ai-sdlc/worktrees/S-0001-work");
    let worktree = worktree.to_string_lossy();
    env.git(&["-C", &worktree, "add", "x"]);
    env.git(&["-C", &worktree, "commit", "-qm", "by hand"]);
    let listed = env.ai_sdlc(&["recover"]).run();
    let stories: Vec<&str> = listed.stdout.lines().map(|row| &row[..6]).collect();
    assert_eq!(stories, ["S-0002"]);
    listed.assert_stderr("hint: --all lists 1 more, whose work was committed since");
    let all = env.ai_sdlc(&["recover", "--all"]).run();
    assert!(all.stdout.contains("its branch has it"), "{}", all.stdout);
    assert!(!all.stderr.contains("--all"), "{}", all.stderr);
}

#[test]
fn what_only_the_index_and_repositories_have_is_not_said_to_be_on_the_branch() {
    let env = TestEnv::new();
    env.without_retries();
    let index = "echo staged > README.md\ngit add README.md\necho '# Scratch' > README.md\nexit 1";
    env.story("S-0001").script(index).write();
    let inside = "git init -q inside\ncd inside\ngit commit -q --allow-empty -m inside\nexit 1";
    env.story("S-0002").script(inside).write();
    env.ai_sdlc(&["run", "--concurrent", "2"])
        .run()
        .assert_code(1);
    let listed = env.ai_sdlc(&["recover"]).run();
    let rows: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert!(rows[0].contains("  staged changes: failed: "), "{rows:#?}");
    assert!(
        rows[1].contains("  a repository inside: failed: "),
        "{rows:#?}"
    );
    let json = env.ai_sdlc(&["recover", "--json"]).run();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    for (salvage, expected) in [(0, (true, false)), (1, (false, true))] {
        let salvage = &json["salvages"][salvage];
        assert_eq!(salvage["contained"], false);
        assert_eq!(salvage["staged"], expected.0);
        assert_eq!(salvage["repositories"], expected.1);
    }
}
