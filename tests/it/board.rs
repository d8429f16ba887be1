//! `init`, `add` and `status`.

use serde_json::Value;

use super::support::{Output, TestEnv};

#[test]
fn init_makes_a_board_once() {
    let env = TestEnv::without_board("trunk");
    insta::assert_snapshot!(env.ai_sdlc(&["init"]).run().shown(&env), @r#"
    exit: 0
    --- stderr
     Initialised <dir>/my répo/.ai-sdlc
    hint: add a first story with `ai-sdlc add --ready "Title"`
    "#);
    insta::assert_snapshot!(env.read(".ai-sdlc.json"), @r#"
    {
      "ai": {
        "provider": "claude"
      },
      "worktree": {
        "basePath": ".ai-sdlc/worktrees"
      }
    }
    "#);
    insta::assert_snapshot!(env.read(".ai-sdlc/.gitignore"), @"
    /worktrees/
    /runs/
    /logs/
    *.lock
    ");
    env.write(".ai-sdlc.json", "{ }");
    env.write(".ai-sdlc/.gitignore", "mine\n");
    insta::assert_snapshot!(env.ai_sdlc(&["init"]).run().shown(&env), @"
    exit: 0
    --- stderr
       Unchanged <dir>/my répo/.ai-sdlc is a board already
    ");
    assert_eq!(env.read(".ai-sdlc.json"), "{ }");
    assert_eq!(env.read(".ai-sdlc/.gitignore"), "mine\n");
}

#[test]
fn init_in_a_subdirectory_makes_the_board_of_the_repository() {
    let env = TestEnv::without_board("trunk");
    env.write("deep/file.txt", "");
    let output = env.ai_sdlc(&["init"]).directory(&env.path("deep")).run();
    output.assert_code(0);
    assert!(env.path(".ai-sdlc/stories").is_dir());
}

#[test]
fn add_writes_a_story_that_can_be_run_later() {
    let env = TestEnv::new();
    let output = env.ai_sdlc(&["add", "Fix: the \"quotes\" & all"]).run();
    insta::assert_snapshot!(output.shown(&env), @r#"
    exit: 0
    --- stdout
    <dir>/my répo/.ai-sdlc/stories/S-0001/story.md
    --- stderr
           Added S-0001 Fix: the "quotes" & all (backlog)
    "#);
    let text = env.story_text("S-0001");
    let created = env.field("S-0001", "created").unwrap();
    insta::assert_snapshot!(text.replace(&created, "<day>"), @r#"
    ---
    id: S-0001
    title: 'Fix: the "quotes" & all'
    slug: fix-the-quotes-all
    priority: 10
    status: backlog
    type: feature
    created: <day>
    labels: []
    research_complete: false
    plan_complete: false
    implementation_complete: false
    reviews_complete: false
    content_type: code
    ---

    # Fix: the "quotes" & all

    ## Summary

    _What should change, and why._

    ## Acceptance Criteria

    - [ ] _What must be true when this is done._
    "#);
    let output = env.ai_sdlc(&["add", "--ready", "Second"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stdout
    <dir>/my répo/.ai-sdlc/stories/S-0002/story.md
    --- stderr
           Added S-0002 Second (ready)
    ");
    assert_eq!(env.status("S-0002"), "ready");
}

#[test]
fn add_takes_a_file_with_its_front_matter() {
    let env = TestEnv::new();
    env.write(
        "notes/idea.md",
        "---\n# mine\ntitle: An idea\nteam: [a, b]\n---\n\nText.\n",
    );
    let output = env
        .ai_sdlc(&["add", "-f", "idea.md"])
        .directory(&env.path("notes"))
        .run();
    output.assert_code(0);
    let text = env.story_text("S-0001");
    let created = env.field("S-0001", "created").unwrap();
    insta::assert_snapshot!(text.replace(&created, "<day>"), @"
    ---
    # mine
    title: An idea
    team: [a, b]
    id: S-0001
    slug: an-idea
    created: <day>
    priority: 10
    status: backlog
    ---

    Text.
    ");
}

#[test]
fn add_takes_a_file_without_front_matter() {
    let env = TestEnv::new();
    env.write(
        "plan.txt",
        "# Make it blue\n\n```sh\necho blue > colour.txt\n```\n",
    );
    env.ai_sdlc(&["add", "--ready", "-f", "plan.txt"])
        .run()
        .assert_code(0);
    assert_eq!(env.field("S-0001", "title").unwrap(), "Make it blue");
    let run = env.ai_sdlc(&["run", "--agent", "script"]).run();
    run.assert_code(0);
    assert_eq!(
        env.changed_files("ai-sdlc/S-0001-make-it-blue"),
        ["colour.txt"]
    );
}

#[test]
fn add_refuses_what_is_no_story() {
    let env = TestEnv::new();
    env.write("image.png", "x");
    env.write("broken.md", "---\nstatus: nearly\n---\n");
    let refused = |arguments: &[&str]| env.ai_sdlc(arguments).run().shown(&env);
    insta::assert_snapshot!(refused(&["add", "-f", "image.png"]), @"
    exit: 2
    --- stderr
    error: <dir>/my répo/image.png is not a .md, .markdown or .txt file
    ");
    insta::assert_snapshot!(refused(&["add", "-f", "missing.md"]), @"
    exit: 2
    --- stderr
    error: <dir>/my répo/missing.md cannot be read: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(refused(&["add", "-f", "broken.md"]), @"
    exit: 2
    --- stderr
    error: broken.md:2: cannot read the front matter: status: `nearly` is not a status: backlog, ready, in-progress, done or blocked
    ");
    insta::assert_snapshot!(refused(&["add", " "]), @"
    exit: 2
    --- stderr
    error: the title is empty
    ");
    env.ai_sdlc(&["add"]).run().assert_code(2);
    assert!(
        std::fs::read_dir(env.path(".ai-sdlc/stories"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn new_ids_are_above_those_of_stories_branches_and_worktrees() {
    let env = TestEnv::new();
    env.story("S-0003").write();
    let add = || {
        let output = env.ai_sdlc(&["add", "Next"]).run();
        output.assert_code(0);
        let path = output.stdout.trim_end().to_owned();
        path.rsplit('/').nth(1).unwrap().to_owned()
    };
    assert_eq!(add(), "S-0004");
    env.git(&["branch", "ai-sdlc/S-0007-gone"]);
    assert_eq!(add(), "S-0008");
    env.write(".ai-sdlc/worktrees/S-0011-kept/file.txt", "");
    assert_eq!(add(), "S-0012");
    // Where the predecessor made worktrees by accident.
    env.write(".ai-sdlc/.ai-sdlc/worktrees/S-0015-old/file.txt", "");
    assert_eq!(add(), "S-0016");
}

#[test]
fn add_at_the_same_time_gives_every_story_an_id_of_its_own() {
    let env = TestEnv::new();
    let adding: Vec<_> = (0..6)
        .map(|_| env.ai_sdlc(&["add", "Same"]).start())
        .collect();
    for add in adding {
        add.wait().assert_code(0);
    }
    let ids: Vec<String> = (1..=6).map(|number| format!("S-{number:04}")).collect();
    let stories = super::support::names_in(&env.path(".ai-sdlc/stories"));
    assert_eq!(stories, ids);
}

fn mixed(env: &TestEnv) {
    env.story("S-0001")
        .priority(20)
        .created("2026-01-15")
        .write();
    env.story("S-0002").priority(10).write();
    env.story("S-0003")
        .status("backlog")
        .field("labels", "[a, b]")
        .write();
    env.story("S-0004")
        .status("done")
        .field("type", "bug")
        .write();
    env.story("S-0005")
        .status("blocked")
        .field("blocked_reason", "the script ended with exit code 3")
        .write();
    env.story("S-0006").status("in-progress").write();
}

#[test]
fn status_shows_the_board_in_columns() {
    let env = TestEnv::new();
    insta::assert_snapshot!(env.ai_sdlc(&["status"]).run().shown(&env), @r#"
    exit: 0
    --- stdout
    The board is empty. Add a story with `ai-sdlc add "Title"`.
    "#);
    mixed(&env);
    insta::assert_snapshot!(env.ai_sdlc(&["status"]).run().shown(&env), @"
    exit: 0
    --- stdout
    BACKLOG (1)
      S-0003     -  Do S-0003

    READY (2)
      S-0002    10  Do S-0002
      S-0001    20  Do S-0001

    IN-PROGRESS (1)
      S-0006     -  Do S-0006

    DONE (1)
      S-0004     -  Do S-0004

    BLOCKED (1)
      S-0005     -  Do S-0005
                    the script ended with exit code 3
    ");
    let active = env.ai_sdlc(&["status", "--active"]).run();
    assert!(!active.stdout.contains("S-0004"), "{active:#?}");
}

fn board_json(output: &Output, env: &TestEnv) -> String {
    output.assert_code(0);
    let mut board: Value = serde_json::from_str(&output.stdout).unwrap();
    let generated = board["generatedAt"].take();
    assert!(generated.as_str().unwrap().ends_with('Z'));
    assert_eq!(output.stderr, "", "{}", env.base().display());
    output
        .stdout
        .replace(generated.as_str().unwrap(), "<instant>")
}

#[test]
fn status_as_json_has_the_shape_of_version_1() {
    let env = TestEnv::new();
    mixed(&env);
    let all = env.ai_sdlc(&["status", "--json"]).run();
    insta::assert_snapshot!(board_json(&all, &env), @r#"
    {
      "version": 1,
      "generatedAt": "<instant>",
      "backlog": [
        {
          "id": "S-0003",
          "slug": "work",
          "title": "Do S-0003",
          "status": "backlog",
          "type": "feature",
          "labels": [
            "a",
            "b"
          ]
        }
      ],
      "ready": [
        {
          "id": "S-0002",
          "slug": "work",
          "title": "Do S-0002",
          "status": "ready",
          "priority": 10,
          "type": "feature",
          "labels": []
        },
        {
          "id": "S-0001",
          "slug": "work",
          "title": "Do S-0001",
          "status": "ready",
          "priority": 20,
          "type": "feature",
          "created": "2026-01-15",
          "labels": []
        }
      ],
      "inProgress": [
        {
          "id": "S-0006",
          "slug": "work",
          "title": "Do S-0006",
          "status": "in-progress",
          "type": "feature",
          "labels": []
        }
      ],
      "done": [
        {
          "id": "S-0004",
          "slug": "work",
          "title": "Do S-0004",
          "status": "done",
          "type": "bug",
          "labels": []
        }
      ],
      "blocked": [
        {
          "id": "S-0005",
          "slug": "work",
          "title": "Do S-0005",
          "status": "blocked",
          "type": "feature",
          "labels": []
        }
      ],
      "total": 6
    }
    "#);
    let active = env.ai_sdlc(&["status", "--json", "--active"]).run();
    let active: Value = serde_json::from_str(&active.stdout).unwrap();
    assert_eq!(active["done"], Value::Array(Vec::new()));
    assert_eq!(active["total"], 5);
}

#[test]
fn status_works_while_a_run_holds_the_board() {
    use super::support::{Gates, HOLD};
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let output = env.ai_sdlc(&["status"]).run();
    output.assert_code(0);
    assert!(output.stdout.contains("IN-PROGRESS (1)"), "{output:#?}");
    env.ai_sdlc(&["add", "Another"]).run().assert_code(0);
    gates.release("S-0001");
    run.wait().assert_code(0);
}

#[test]
fn status_names_what_is_broken_and_shows_the_rest() {
    let env = TestEnv::new();
    env.story("S-0001").write();
    env.write(".ai-sdlc/stories/S-0002/story.md", "---\nstatus: [\n---\n");
    let output = env.ai_sdlc(&["status"]).run();
    output.assert_code(0).assert_stderr("S-0002/story.md:");
    assert!(output.stdout.contains("S-0001"), "{output:#?}");
}
