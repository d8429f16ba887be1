//! Where an agent can write, and what is told of what changed elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Output, TestEnv, can_fence, not_tried};

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

/// Builds a package with a build backend of its own, since the usual ones may not be there and have to be downloaded, and
/// installs it: pip runs the backend, makes a wheel, and unpacks that.
const PIP_BUILD: &str = r#"
    mkdir p; cat > p/pyproject.toml <<'END'
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
END
    cat > p/backend.py <<'END'
import os, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info/"
    files = {
        "tiny.py": "word = 'built'",
        info + "METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[info + "RECORD"] = "".join(f"{file},,\n" for file in [*files, info + "RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return name
END
    python3 -m venv venv; venv/bin/pip install --no-index --disable-pip-version-check ./p
    test "$(cd / && "$OLDPWD/venv/bin/python" -c 'import tiny; print(tiny.word)')" = built; rm -r p venv
"#;

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
    let venv = ["-c", "import ensurepip, venv"];
    let has_venv = Command::new("python3").args(venv).output();
    if has_venv.is_ok_and(|output| output.status.success()) {
        script += PIP_BUILD;
    } else {
        not_tried("there is no python3 with venv and pip", "pip in a fence");
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

/// What an agent can do to the files by which git finds the repository of its worktree, so that the git that commits its
/// work, which no fence holds, runs a program or writes elsewhere for it. `$A` is the administrative directory, `$L` the
/// log of the branch.
const SNARES: &[(&str, &str, &str)] = &[
    (
        "a repository of its own",
        r#"rm .git; git init -q; echo "$M/.git/objects" > .git/objects/info/alternates
           git update-ref refs/heads/ai-sdlc/S-0001-work "$T"
           git symbolic-ref HEAD refs/heads/ai-sdlc/S-0001-work; git reset -q
           git config core.fsmonitor "touch '$B/escaped'; false""#,
        ".git is not the file that git has made",
    ),
    (
        "another common directory",
        r#"cp -r "$M/.git" e; git config -f e/config core.fsmonitor "touch '$B/escaped'; false"
           echo "$PWD/e" > "$A/commondir""#,
        "commondir names another repository",
    ),
    (
        "a link instead of the message",
        r#"rm -f "$A/COMMIT_EDITMSG"; ln -s "$M/README.md" "$A/COMMIT_EDITMSG""#,
        "COMMIT_EDITMSG is neither a file nor a folder",
    ),
    (
        "a link instead of the index",
        r#"cp "$A/index" i; rm "$A/index"; ln -s "$B/escaped" "$A/index""#,
        "index is neither a file nor a folder",
    ),
    (
        "a link instead of the log",
        r#"rm -f "$L"; ln -s "$M/README.md" "$L""#,
        "logs/refs/heads/ai-sdlc/S-0001-work is no file",
    ),
    (
        "a pipe instead of what is checked out",
        r#"rm "$A/HEAD"; mkfifo "$A/HEAD""#,
        "HEAD is neither a file nor a folder",
    ),
];

#[test]
fn nothing_outside_can_be_changed_by_the_git_that_commits_the_work() {
    for (what, snare, words) in SNARES {
        let env = TestEnv::new();
        let script = format!(
            "A=$(git rev-parse --git-dir); T=$(git rev-parse HEAD)
            L=$M/.git/logs/refs/heads/ai-sdlc/S-0001-work; echo x > x; {snare}"
        );
        agent(&env, "", &script);
        let before = contents(&env.path(""));
        let output = env.ai_sdlc(&["run", "--json"]).run();
        output.assert_end(what, "S-0001", "failed", words);
        // Nor by whatever looks at the worktree afterwards.
        env.ai_sdlc(&["worktrees", "prune"]).run();
        env.ai_sdlc(&["run", "--story", "S-0001"])
            .run()
            .assert_code(1);
        assert_eq!(different(&before, &contents(&env.path(""))), [""; 0]);
        assert!(!env.base().join("escaped").exists(), "{what}");
    }
}

#[test]
fn what_an_agent_has_configured_in_a_repository_inside_runs_in_the_fence_alone() {
    if !can_fence("repositories inside of a worktree") {
        return;
    }
    for end in ["true", "false"] {
        let env = TestEnv::new();
        let script = format!(
            r#"git init -q sub; git -C sub -c user.name=a -c user.email=b commit -q --allow-empty -m s
            printf '[submodule "sub"]\n\tpath = sub\n\turl = ../x\n' > .gitmodules; git add .gitmodules sub
            git -C sub config core.fsmonitor "touch '$B/escaped'; false"; echo x > sub/f; echo x > x; {end}"#
        );
        agent(&env, "", &script);
        let output = env.ai_sdlc(&["run"]).run();
        let expected = i32::from(end == "false");
        assert_eq!(output.code, Some(expected), "{}", output.stderr);
        env.ai_sdlc(&["worktrees", "remove", "S-0001", "--salvage"])
            .run();
        assert!(!env.base().join("escaped").exists(), "{end}");
    }
}

#[test]
fn an_agent_inherits_no_file_of_whoever_has_started_the_run() {
    let env = TestEnv::new();
    let script = "echo x > x; if (echo bad >&9) 2> /dev/null; then echo bad > escaped; fi";
    agent(&env, "", script);
    let run = env.ai_sdlc(&[]);
    let output = run
        .shell("exec 9> \"$AI_SDLC_TEST_DIR/open\"; exec \"$0\" run")
        .directory(&env.path(""))
        .run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x"]);
    assert_eq!(fs::read_to_string(env.base().join("open")).unwrap(), "");
}

/// Whether Linux is as new as that.
fn linux_is_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (major, minor)
}

#[test]
fn an_agent_signals_only_what_it_has_started() {
    if !can_fence("whom an agent can signal") {
        return;
    }
    if !linux_is_at_least(6, 12) {
        not_tried("Linux is older than 6.12", "whom an agent can signal");
        return;
    }
    let env = TestEnv::new();
    let script = r#"sleep 1000 & kill $! || exit 1; wait
        echo x > x; if kill -0 "$PPID" 2> /dev/null; then echo bad > escaped; fi"#;
    agent(&env, "", script);
    let output = env.ai_sdlc(&["run"]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x"]);
}

#[test]
fn secrets_reach_only_agents_that_are_allowed_to_have_them() {
    let env = TestEnv::new();
    let script = r#"echo x > x
        env | grep -o '^[A-Z_]*=secret' | sort; echo
        tr '\0' '\n' < "/proc/$PPID/environ" | grep -q '=secret' && echo "of its parent"; true"#;
    agent(&env, r#", "environment": {"allow": ["ASKED_FOR"]}"#, script);
    let mut run = env.ai_sdlc(&["run"]);
    let names = [
        "FOO_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "ANTHROPIC_API_KEY",
        "SSH_AUTH_SOCK",
        "DATABASE_URL",
        "ASKED_FOR",
    ];
    for name in names {
        run = run.variable(name, "secret");
    }
    let output = run.run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let log = log(&env);
    let said: Vec<&str> = log.lines().filter(|line| line.contains("secret")).collect();
    assert_eq!(said, ["ASKED_FOR=secret"], "{log}");
    // Root can read what belongs to others, and without a fence everybody what is his own.
    if can_fence("what an agent sees of its parent") && !rustix::process::geteuid().is_root() {
        assert!(!log.contains("of its parent"), "{log}");
    }
}

#[test]
fn what_becomes_of_the_branches_of_others_is_told_with_how_to_take_it_back() {
    let env = TestEnv::new();
    let script = r#"echo x > x; new=$(git commit-tree -m bad 'HEAD^{tree}')
        git update-ref refs/heads/ai-sdlc/S-0008-done "$new"; rm "$M/.git/refs/heads/ai-sdlc/S-0009-done"
        git update-ref refs/heads/ai-sdlc/S-0010-new "$new""#;
    agent(&env, "", script);
    let others = ["ai-sdlc/S-0008-done", "ai-sdlc/S-0009-done"];
    for branch in others {
        env.git(&["branch", branch]);
    }
    let tips = || others.map(|branch| env.git(&["rev-parse", branch]));
    let before = tips();
    let output = env.ai_sdlc(&["run"]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let told = warnings(&output);
    let [told] = &told[..] else {
        panic!("{told:?}");
    };
    let expected = "S-0001: ai-sdlc/S-0008-done, ai-sdlc/S-0009-done are branches that were moved or deleted while it was \
                    worked on; to take that back: ";
    let command = told
        .strip_prefix(expected)
        .unwrap_or_else(|| panic!("{told}"));
    let done = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success());
    assert_eq!(tips(), before);
}

#[test]
fn a_link_that_an_agent_has_left_in_a_cache_opens_nothing() {
    if !can_fence("links in caches") {
        return;
    }
    let env = TestEnv::new();
    let home = env.base().join("home");
    fs::create_dir_all(home.join(".cache/npm")).unwrap();
    std::os::unix::fs::symlink(".cache/npm", home.join(".npm")).unwrap();
    let script = r#"date >> x; if (echo bad > "$HOME/bad") 2> /dev/null; then echo bad > escaped; fi
        rm -rf "$HOME/.cache/npm"; ln -s .. "$HOME/.cache/npm""#;
    agent(&env, "", script);
    for _ in 0..2 {
        let output = env.ai_sdlc(&["run", "--story", "S-0001"]).run();
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["x"]);
        env.write(
            ".ai-sdlc/stories/S-0001/story.md",
            &env.story_text("S-0001")
                .replace("status: done", "status: ready"),
        );
    }
    assert!(!home.join("bad").exists());
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
