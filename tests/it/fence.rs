//! Where an agent can write, and what is told of what changed elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Output, TestEnv, can_fence};

/// What an agent tries that it should not. `$M` is the main checkout.
const ESCAPES: &[(&str, &str)] = &[
    ("a tracked file", r#"echo bad > "$M/README.md""#),
    ("a new file", r#"echo bad > "$M/new""#),
    (
        "through a link",
        r#"ln -s "$M" link; echo bad > link/README.md"#,
    ),
    ("a removed file", r#"rm -f "$M/README.md""#),
    ("a moved file", r#"mv "$M/README.md" mine"#),
    ("a cut file", r#"truncate -s 0 "$M/README.md""#),
    (
        "a commit",
        r#"git -C "$M" commit --quiet --allow-empty --message bad"#,
    ),
    ("another branch", r"git branch bad"),
    ("the stash", r"echo x > x; git add x; git stash --quiet"),
    ("a hook", r#"echo exit 1 > "$M/.git/hooks/pre-commit""#),
    ("the configuration", "git config core.editor bad"),
    ("the index", r#"echo bad > "$M/.git/index""#),
    (
        "a story file",
        r#"echo bad >> "$M/.ai-sdlc/stories/S-0001/story.md""#,
    ),
    ("another worktree", r#"mkdir "$M/.ai-sdlc/worktrees/other""#),
    ("the home folder", r#"echo bad > "$HOME/.profile""#),
];

/// Has the agent `sh` do that, with `$M` for the main checkout and `$B` for the folder that everything lies in.
fn agent(env: &TestEnv, more: &str, script: &str) {
    env.story("S-0001").agent("sh").write();
    let script = format!("M=$AI_SDLC_TEST_DIR/'my répo'; B=$AI_SDLC_TEST_DIR\n{script}");
    // The variable is set by the test, and its name passes to agents.
    let command = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    let agents = format!(r#""agents": {{"sh": {{"adapter": "command", "command": {command}}}}}"#);
    let text = format!(r#"{{{agents}, "attempts": {{"most": 1}}{more}}}"#);
    env.write(".ai-sdlc.json", &text);
    env.commit_all();
}

fn log(env: &TestEnv) -> String {
    let runs = env.path(".ai-sdlc/runs");
    let run = env.read(".ai-sdlc/runs/latest");
    let folder = runs.join(run.trim()).join("attempts/S-0001-1");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    read("log") + &read("transcript.jsonl")
}

fn warnings(output: &Output) -> Vec<String> {
    let lines = output.stderr.lines();
    let warnings = lines.filter_map(|line| line.strip_prefix("warning: "));
    warnings.map(str::to_owned).collect()
}

/// Everything that is in a folder, with what is in it; without worktrees, runs and what git and the run write there.
fn contents(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let ours = [
                ".ai-sdlc/worktrees",
                ".ai-sdlc/runs",
                ".ai-sdlc/run.lock",
                ".ai-sdlc/board.lock",
                ".git/objects",
                ".git/worktrees",
                ".git/refs/heads/ai-sdlc",
                ".git/logs",
                ".git/ai-sdlc",
                ".git/index",
                // The run says there how the story is.
                ".ai-sdlc/stories/S-0001/story.md",
            ];
            if ours.iter().any(|ours| name.starts_with(ours)) || name.contains("refs/ai-sdlc") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The names of the files that are not the same.
fn different(before: &[(String, Vec<u8>)], after: &[(String, Vec<u8>)]) -> Vec<String> {
    let changed = before.iter().filter(|file| !after.contains(file));
    let new = after.iter().filter(|file| !before.contains(file));
    changed.chain(new).map(|(name, _)| name.clone()).collect()
}

#[test]
fn nothing_outside_of_the_worktree_can_be_changed() {
    if !can_fence("what an agent can write to") {
        return;
    }
    let env = TestEnv::new();
    let mut script = String::from("echo done > done\n");
    for (what, escape) in ESCAPES {
        let line =
            format!("if ({escape}) 2>>said; then echo 'could write to {what}' >> escaped; fi\n");
        script.push_str(&line);
    }
    script +=
        "echo; cat said; rm -f said link x; git reset --quiet; test ! -e escaped || cat escaped";
    agent(&env, "", &script);
    let story = env.story_text("S-0001");
    let before = contents(&env.path(""));
    let output = env.ai_sdlc(&["run"]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(
        env.changed_files("ai-sdlc/S-0001-work"),
        ["done"],
        "{}",
        log(&env)
    );
    let denied = log(&env).matches("ermission denied").count();
    assert!(denied >= ESCAPES.len(), "{}", log(&env));
    assert_eq!(different(&before, &contents(&env.path(""))), [""; 0]);
    assert!(!env.base().join("home/.profile").exists());
    assert_eq!(env.status("S-0001"), "done");
    let body = |text: &str| text.split("# Words").nth(1).map(str::to_owned);
    assert_eq!(body(&env.story_text("S-0001")), body(&story));
    assert_eq!(env.git(&["log", "--format=%s", "-1"]), "stories\n");
    assert_eq!(warnings(&output), [""; 0]);
}

#[test]
fn work_needs_nothing_that_is_refused() {
    if !can_fence("what agents need") {
        return;
    }
    let env = TestEnv::new();
    let script = r#"
        exec 2>&1; set -eu
        echo one > one; git add one; git commit --quiet --message one
        echo two > two; git add --all; git commit --quiet --message two
        git commit --quiet --amend --message second; git rebase --quiet HEAD~1; git status
        git log --oneline > /dev/null; git diff HEAD~1 > /dev/null
        mkdir -p a/b; echo x > a/x; mv a/x a/b/x; ln -s x a/b/y; mv a/b moved; rm -r a moved
        f=$(mktemp); echo x > "$f"; rm "$f"; test "$(dirname "$f")" = "$TMPDIR"
        echo to the log > /dev/stderr; echo > /dev/null; dd if=/dev/zero of=/dev/null count=1 2> /dev/null
        mkdir -p "$HOME/.cache/pip/wheels"; echo x > "$HOME/.cache/pip/wheels/x"; echo x > "$B/extra/x"
        test ! -e "$HOME/.npm" || echo x > "$HOME/.npm/x"
        rm -r "$HOME/.cache/pip"
    "#;
    fs::create_dir(env.base().join("extra")).unwrap();
    agent(&env, r#", "fence": {"write": ["../extra"]}"#, script);
    let output = env.ai_sdlc(&["run"]).run();
    assert_eq!(output.code, Some(0), "{}{}", output.stderr, log(&env));
    assert_eq!(env.commits("ai-sdlc/S-0001-work"), ["second", "one"]);
    assert!(env.base().join("extra/x").exists());
    assert!(log(&env).contains("to the log"));
    assert_eq!(warnings(&output), [""; 0]);
}

#[test]
fn tools_that_build_and_install_work() {
    if !can_fence("build tools in a fence") {
        return;
    }
    let env = TestEnv::new();
    let mut script = String::from("exec 2>&1; set -eu; echo x > x\n");
    let is_there = |program: &str| {
        let tried = Command::new(program).arg("--version").output();
        tried.is_ok_and(|output| output.status.success())
    };
    if is_there("cargo") {
        script += "cargo init --quiet --vcs none --name tiny --bin built
            (cd built && cargo build --offline && ./target/debug/tiny); rm -r built\n";
    }
    if is_there("npm") {
        script += "mkdir m app; (cd m && echo '{\"name\":\"m\",\"version\":\"1.0.0\"}' > package.json && npm pack)
            (cd app && echo '{\"name\":\"a\",\"version\":\"1.0.0\"}' > package.json &&
            npm install --offline --no-audit --no-fund ../m/m-1.0.0.tgz && test -e node_modules/m); rm -r m app
            test -e \"$HOME/.npm/_cacache\"\n";
    }
    if is_there("python3") && is_there("pip3") {
        script += "python3 -m venv venv && venv/bin/pip --version && rm -r venv\n";
    }
    // Where the toolchain is, when it is below the home folder of whoever runs the test.
    let mut more = String::new();
    let named = ["RUSTUP_HOME", "CARGO_HOME"];
    let home = std::env::home_dir().unwrap();
    let rustup = std::env::var("RUSTUP_HOME").unwrap_or(format!("{}/.rustup", home.display()));
    let environment = format!(
        r#", "environment": {{"allow": ["{}", "{}"]}}"#,
        named[0], named[1]
    );
    more.push_str(&environment);
    agent(&env, &more, &script);
    let output = env.ai_sdlc(&["run"]).variable("RUSTUP_HOME", rustup).run();
    assert_eq!(output.code, Some(0), "{}{}", output.stderr, log(&env));
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x"]);
}

#[test]
fn without_a_fence_it_is_told_what_changed_and_how_to_take_it_back() {
    let env = TestEnv::new();
    env.write("other", "other\n");
    let hook = ".git/hooks/post-rewrite";
    env.write(hook, "#!/bin/sh\n");
    env.make_executable(hook);
    let script = r#"echo x > x; echo bad > "$M/README.md"; echo exit 1 > "$M/.git/hooks/pre-commit"
        git config core.editor bad; echo bad >> "$M/.git/hooks/post-rewrite"
        echo bad >> "$M/.ai-sdlc/stories/S-0001/story.md""#;
    agent(&env, "", script);
    let config = env.read(".git/config");
    let output = env.ai_sdlc(&["run", "--no-fence"]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let run = env.read(".ai-sdlc/runs/latest");
    let told: Vec<String> = warnings(&output)
        .iter()
        .map(|line| {
            line.replace(
                &env.base().canonicalize().unwrap().display().to_string(),
                "BASE",
            )
        })
        .map(|line| line.replace(run.trim(), "RUN"))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    S-0001: its story file changed while it was worked on; to compare: diff 'BASE/my répo/.ai-sdlc/runs/RUN/kept/1/story.md' 'BASE/my répo/.ai-sdlc/stories/S-0001/story.md'
    S-0001: BASE/my répo/.git/config changed while it was worked on; to take that back: cp -p 'BASE/my répo/.ai-sdlc/runs/RUN/kept/2/config' 'BASE/my répo/.git/config'
    S-0001: BASE/my répo/.git/hooks/post-rewrite changed while it was worked on; to take that back: cp -p 'BASE/my répo/.ai-sdlc/runs/RUN/kept/3/hooks/post-rewrite' 'BASE/my répo/.git/hooks/post-rewrite'
    S-0001: BASE/my répo/.git/hooks/pre-commit was made while it was worked on; to take that back: rm 'BASE/my répo/.git/hooks/pre-commit'
    S-0001: in the main checkout, README.md changed while it was worked on; to take that back: git -C 'BASE/my répo' checkout HEAD -- 'README.md'
    ");
    // What is said to help does.
    for line in warnings(&output) {
        if let Some((_, command)) = line.split_once("to take that back: ") {
            let done = Command::new("sh").args(["-c", command]).status().unwrap();
            assert!(done.success(), "{command}");
        }
    }
    assert_eq!(env.read("README.md"), "# Scratch\n");
    assert_eq!(env.read(".git/config"), config);
    assert_eq!(env.read(hook), "#!/bin/sh\n");
    let mode = fs::metadata(env.path(hook)).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    assert!(!env.path(".git/hooks/pre-commit").exists());
}

#[test]
fn a_commit_in_the_main_checkout_is_told_of() {
    let env = TestEnv::new();
    let script = r#"echo x > x; git -C "$M" commit --quiet --allow-empty --message bad"#;
    agent(&env, r#", "fence": {"enabled": false}"#, script);
    let before = env.git(&["rev-parse", "HEAD"]);
    let output = env.ai_sdlc(&["run"]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let told = warnings(&output);
    let [told] = &told[..] else {
        panic!("{told:?}");
    };
    let (_, command) = told.split_once("to go back: ").unwrap();
    assert!(told.contains("on trunk while it was worked on"), "{told}");
    let done = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success());
    assert_eq!(env.git(&["rev-parse", "HEAD"]), before);
}

#[test]
fn a_fence_that_would_hold_nothing_is_refused() {
    let env = TestEnv::new();
    for open in [".", "..", ".git", ".ai-sdlc", "~/.."] {
        agent(
            &env,
            &format!(r#", "fence": {{"write": ["{open}"]}}, "x": "{open}""#),
            "true",
        );
        let output = env.ai_sdlc(&["run"]).run();
        assert_eq!(output.code, Some(2), "{}", output.stderr);
        assert!(
            output.stderr.contains("`fence.write` names"),
            "{}",
            output.stderr
        );
    }
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn where_there_can_be_no_fence_the_run_says_what_follows() {
    let env = TestEnv::new();
    agent(&env, "", r#"echo x > x; echo bad > "$M/README.md""#);
    let run = env.ai_sdlc(&["run"]);
    let output = run.variable("AI_SDLC_TEST_NO_LANDLOCK", "1").run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let told = warnings(&output);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        "there is no fence around the agents of this run: this kernel has no Landlock that can be used. They can write \
         wherever you can, also to the main checkout and to the board; what they change there is told of afterwards"
    );
    assert!(told[1].contains("README.md changed"), "{told:?}");
}

#[test]
fn a_script_of_the_user_has_no_fence() {
    let env = TestEnv::new();
    env.story("S-0001")
        .script(r#"echo x > "$AI_SDLC_TEST_DIR/outside""#)
        .write();
    let output = env.ai_sdlc(&["run"]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(env.base().join("outside").exists());
}
