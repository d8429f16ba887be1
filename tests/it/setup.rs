//! What a worktree needs besides its files: copies of ignored files, dependencies, hooks, ports.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::support::{Gates, HOLD, TestEnv, await_none};

/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(3);

/// A file in the directory of the test, without its last newline.
fn told(env: &TestEnv, name: &str) -> String {
    let path = env.base().join(name);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().to_owned()
}

/// The log of the setup for an attempt of the only run.
fn setup_log(env: &TestEnv, attempt: &str) -> String {
    let runs = fs::read_dir(env.path(".ai-sdlc/runs")).unwrap();
    let mut logs = runs.map(|run| run.unwrap().path().join("attempts").join(attempt));
    let log = logs.find(|folder| folder.exists()).unwrap();
    fs::read_to_string(log.join("setup.log")).unwrap()
}

/// A package manager that notes how it is called, in front of all others on the `PATH`.
fn with_npm(env: &TestEnv, script: &str) -> String {
    let bin = env.base().join("bin");
    fs::create_dir(&bin).unwrap();
    let npm = bin.join("npm");
    let script = format!("#!/bin/sh\necho \"npm $*\" >> \"$AI_SDLC_TEST_DIR/npm\"\n{script}\n");
    fs::write(&npm, script).unwrap();
    fs::set_permissions(&npm, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", bin.display())
}

/// A project whose dependencies are installed by npm.
fn npm_project(env: &TestEnv) {
    env.write("package.json", "{}\n");
    env.write("package-lock.json", "{}\n");
    env.write(".gitignore", "node_modules/\n");
}

#[test]
fn environment_files_arrive_with_their_modes_and_are_not_committed() {
    let env = TestEnv::new();
    env.write(".gitignore", ".env*\n");
    env.write(".env", "KEY=1\n");
    env.write("deep/er/.env.local", "KEY=2\n");
    env.write("node_modules/x/.env", "KEY=3\n");
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(env.path(".env"), private).unwrap();
    env.story("S-0001")
        .script("stat -c %a .env > modes.txt\ncat .env deep/er/.env.local > keys.txt\ntest ! -e node_modules")
        .write();
    env.git(&["add", ".gitignore"]);
    env.git(&["commit", "--quiet", "--message", "ignore"]);
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let branch = "ai-sdlc/S-0001-work";
    assert_eq!(env.changed_files(branch), ["keys.txt", "modes.txt"]);
    let content = |file| env.git(&["show", &format!("{branch}:{file}")]);
    assert_eq!(content("keys.txt"), "KEY=1\nKEY=2\n");
    assert_eq!(content("modes.txt"), "600\n");
    assert!(env.worktrees().is_empty());
    let log = setup_log(&env, "S-0001-1");
    assert!(log.contains("copied 2 ignored files"), "{log}");
}

#[test]
fn the_include_file_says_what_is_copied() {
    let env = TestEnv::new();
    env.write(".gitignore", ".env*\nsecrets/\n");
    env.write(
        ".worktreeinclude",
        "# ours\nsecrets/*\n!secrets/old\nnotes\n",
    );
    env.write(".env", "KEY=1\n");
    env.write("secrets/new", "new\n");
    env.write("secrets/old", "old\n");
    env.git(&["add", ".gitignore", ".worktreeinclude"]);
    env.git(&["commit", "--quiet", "--message", "ignore"]);
    // Not ignored: it is somebody's work, and would be committed.
    env.write("notes", "mine\n");
    env.story("S-0001")
        .script("find . -path ./.git -prune -o -type f -print | sort > found.txt\ngrep -q new secrets/new")
        .write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let found = env.git(&["show", "ai-sdlc/S-0001-work:found.txt"]);
    assert!(found.contains("./secrets/new\n"), "{found}");
    for not in [".env", "secrets/old", "notes"] {
        assert!(!found.contains(not), "{found}");
    }
}

#[test]
fn files_of_a_kept_worktree_are_not_overwritten() {
    let env = TestEnv::new();
    env.write(".gitignore", ".env*\n");
    env.write(".env", "KEY=1\n");
    env.commit_all();
    let story = || env.story("S-0001");
    story().script("echo KEY=agent > .env\nexit 1").write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    env.write(".env", "KEY=2\n");
    env.write(".env.more", "KEY=3\n");
    let script = "cat .env .env.more > keys.txt";
    story().status("blocked").script(script).write();
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
    let keys = env.git(&["show", "ai-sdlc/S-0001-work:keys.txt"]);
    assert_eq!(keys, "KEY=agent\nKEY=3\n");
}

#[test]
fn a_hook_before_an_attempt_that_fails_is_the_end_of_it_and_its_output_is_shown() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        r#"{"attempts": {"most": 1}, "hooks": {"beforeRun": "echo 'no database' >&2; exit 3"}}"#,
    );
    env.story("S-0001").script("true").write();
    let output = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Error S-0001 Do S-0001 in <time>: `hooks.beforeRun` ended with exit code 3
                 | ai-sdlc: hooks.beforeRun: echo 'no database' >&2; exit 3
                 | no database
                 | ai-sdlc: hooks.beforeRun ended with exit code 3
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0001-1/setup.log
        Finished 1 not prepared in <time>
             Why S-0001 prepare_failed: `hooks.beforeRun` ended with exit code 3
    ");
    assert_eq!(env.status("S-0001"), "ready");
    assert!(env.worktrees().is_empty());
    assert!(env.branches().is_empty());
}

#[test]
fn a_command_that_no_shell_can_be_given_is_refused_before_anything_starts() {
    let env = TestEnv::new();
    env.story("S-0001").script("true").write();
    for (config, key) in [
        (
            r#"{"hooks": {"beforeRun": "true\u0000x"}}"#,
            "hooks.beforeRun",
        ),
        (
            r#"{"worktree": {"install": "true\u0000x"}}"#,
            "worktree.install",
        ),
        (r#"{"installCommand": "true\u0000x"}"#, "installCommand"),
    ] {
        env.write(".ai-sdlc.json", config);
        let output = env.ai_sdlc(&["run"]).run();
        let column = format!(":1:{}:", config.trim_end_matches('}').len());
        let said = output.shown(&env).replace(key, "<key>");
        let said = said.replace(&column, ":<place>:");
        insta::allow_duplicates! {
            insta::assert_snapshot!(said, @r#"
            exit: 2
            --- stderr
            error: <dir>/my répo/.ai-sdlc.json:<place>: `<key>` must not contain a NUL character (\u0000), not "true\u0000x"
            hint: mend the file, or move it away to use the defaults
            "#);
        }
    }
    assert_eq!(env.status("S-0001"), "ready");
}

#[test]
fn what_a_setup_that_failed_has_put_into_a_new_worktree_is_saved_and_goes_with_it() {
    let env = TestEnv::new();
    let hook = "ls half.txt >> $AI_SDLC_TEST_DIR/found; echo half > half.txt; echo more >> README.md; exit 3";
    let config = serde_json::json!({
        "attempts": {"most": 2, "backOffMs": 50},
        "hooks": {"afterCreate": hook},
    });
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("echo a > a.txt").write();
    let output = env.ai_sdlc(&["run"]).run();
    let log = "/attempts/S-0001-2/setup.log\n";
    output.assert_code(1).assert_stderr(log);
    assert!(!output.stderr.contains("Kept"), "{}", output.stderr);
    assert_eq!(told(&env, "found"), "");
    assert!(env.worktrees().is_empty() && env.branches().is_empty());
    let saved = "S-0001: what was in its worktree is saved as refs/ai-sdlc/salvage/S-0001/1 (`ai-sdlc recover`)";
    output.assert_stderr(saved);
    let listed = env.ai_sdlc(&["recover"]).run();
    let rows: Vec<&str> = listed.stdout.lines().collect();
    assert!(rows.len() == 2, "{rows:#?}");
    for (row, attempt) in rows.iter().zip(1..) {
        let begins = format!("S-0001  attempt {attempt} ");
        let says = "2 files not in what is checked out: prepare_failed: ";
        assert!(row.starts_with(&begins) && row.contains(says), "{row}");
        let saved = format!("refs/ai-sdlc/salvage/S-0001/{attempt}:half.txt");
        assert_eq!(env.git(&["show", &saved]), "half\n");
    }
    // A branch with work of an earlier attempt stays, and what is there before in a worktree as well.
    let branch = "ai-sdlc/S-0001-work";
    let work = env.git(&["commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "work"]);
    env.git(&["branch", branch, work.trim()]);
    env.ai_sdlc(&["run"]).run().assert_code(1);
    assert!(env.worktrees().is_empty());
    assert_eq!(env.branches(), [branch]);
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    env.write(".ai-sdlc/worktrees/S-0001-work/mine.txt", "mine\n");
    env.ai_sdlc(&["run"]).run().assert_code(1);
    assert_eq!(
        env.read(".ai-sdlc/worktrees/S-0001-work/mine.txt"),
        "mine\n"
    );
}

#[test]
fn a_new_worktree_in_which_somebody_works_stays_when_its_setup_fails() {
    let env = TestEnv::new();
    let hook = format!("{}; exit 3", HOLD.replace('\n', "; "));
    let config = serde_json::json!({"attempts": {"most": 1}, "hooks": {"afterCreate": hook}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    gates.next();
    let worktree = env.path(".ai-sdlc/worktrees/S-0001-work");
    let mut person = std::process::Command::new("sleep")
        .arg("1000")
        .current_dir(&worktree)
        .spawn()
        .unwrap();
    gates.release("S-0001");
    let output = run.wait();
    person.kill().unwrap();
    person.wait().unwrap();
    output.assert_code(1).assert_stderr("sleep works in it");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
}

#[test]
fn a_hook_that_hangs_is_killed_at_its_deadline_with_everything_below_it() {
    let env = TestEnv::new();
    let hook = "trap '' TERM; setsid sleep 1000 & (trap '' TERM; sleep 1000) & sleep 1000";
    env.write(
        ".ai-sdlc.json",
        &format!(
            r#"{{"attempts": {{"most": 1}}, "hooks": {{"timeout": 300, "after_create": "{hook}"}}}}"#
        ),
    );
    env.story("S-0001").script("true").write();
    let began = Instant::now();
    let output = env.ai_sdlc(&["run", "--json"]).run();
    output.assert_code(1);
    assert!(began.elapsed() < Duration::from_secs(3) + SLACK);
    assert_eq!(output.outcome("S-0001"), "prepare_failed");
    let settled = &output.events("story_settled")[0];
    assert_eq!(
        settled["reason"],
        "`hooks.afterCreate` did not end within 300 ms and was killed"
    );
    assert_eq!(await_none(env.mark(), Duration::ZERO).len(), 0);
    assert!(env.worktrees().is_empty());
}

#[test]
fn what_a_hook_leaves_running_is_ended() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        r#"{"hooks": {"beforeRun": "setsid sleep 1000 & sleep 1000 & echo started"}}"#,
    );
    env.story("S-0001").script(HOLD).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    gates.next();
    let log = setup_log(&env, "S-0001-1");
    assert!(log.contains("the command left processes running"), "{log}");
    gates.release("S-0001");
    run.wait().assert_code(0);
}

#[test]
fn what_a_killed_keeper_leaves_is_ended() {
    let env = TestEnv::new();
    let hook = format!(
        "setsid sleep 1000 & echo $PPID > $AI_SDLC_TEST_DIR/keeper; {}",
        HOLD.replace('\n', "; ")
    );
    let config = serde_json::json!({"attempts": {"most": 1}, "hooks": {"afterCreate": hook}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    gates.next();
    let keeper = Pid::from_raw(told(&env, "keeper").parse().unwrap()).unwrap();
    rustix::process::kill_process(keeper, Signal::KILL).unwrap();
    let output = run.wait();
    output.assert_code(1);
    let settled = &output.events("story_settled")[0];
    assert_eq!(settled["reason"], "`hooks.afterCreate` was killed");
    assert!(env.worktrees().is_empty());
}

#[test]
fn a_flood_of_output_does_not_fill_the_disk() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        r#"{"hooks": {"beforeRun": "yes | head -c 200000000; echo the end"}}"#,
    );
    env.story("S-0001").script("true").write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let runs = fs::read_dir(env.path(".ai-sdlc/runs")).unwrap();
    let run = runs
        .map(|run| run.unwrap().path())
        .find(|run| run.is_dir())
        .unwrap();
    let log = fs::metadata(run.join("attempts/S-0001-1/setup.log")).unwrap();
    assert!(log.blocks() * 512 < 64 * 1024 * 1024, "{log:?}");
}

#[test]
fn a_stop_during_a_hook_leaves_no_process_and_no_worktree() {
    let env = TestEnv::new();
    let hook = format!(
        "trap '' TERM; setsid sleep 1000 & {}",
        HOLD.replace('\n', "; ")
    );
    let config = serde_json::json!({
        "process": {"graceMs": 60000},
        "hooks": {"afterCreate": hook, "beforeRemove": "echo $AI_SDLC_OUTCOME > $AI_SDLC_TEST_DIR/removed"},
    });
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--json"]).start();
    gates.next();
    let asked = Instant::now();
    run.signal(Signal::INT);
    let output = run.wait();
    assert!(asked.elapsed() < Duration::from_secs(3) + SLACK);
    output.assert_code(130);
    assert_eq!(output.outcome("S-0001"), "cancelled");
    assert_eq!(env.status("S-0001"), "ready");
    assert!(env.worktrees().is_empty());
    assert_eq!(told(&env, "removed"), "cancelled");
}

#[test]
fn nothing_of_a_hook_outlives_an_orchestrator_that_is_killed() {
    let env = TestEnv::new();
    env.kills_runs();
    let hook = format!(
        "trap '' TERM; setsid sleep 1000 & {}",
        HOLD.replace('\n', "; ")
    );
    let config = serde_json::json!({"hooks": {"beforeRun": hook}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    gates.next();
    run.signal(Signal::KILL);
    run.wait();
    let left = await_none(env.mark(), Duration::from_secs(2) + SLACK);
    assert!(left.is_empty(), "{left:#?}");
    // The next run clears away what the dead one cannot.
    gates.release("S-0001");
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
}

#[test]
fn a_setup_that_was_cut_off_is_done_again() {
    let env = TestEnv::new();
    env.kills_runs();
    let hook = format!("echo made >> made.txt; {}", HOLD.replace('\n', "; "));
    let config = serde_json::json!({"hooks": {"afterCreate": hook}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("test -s made.txt").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    gates.next();
    run.signal(Signal::KILL);
    run.wait();
    await_none(env.mark(), Duration::from_secs(2) + SLACK);
    gates.release("S-0001");
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
    let made = env.git(&["show", "ai-sdlc/S-0001-work:made.txt"]);
    assert_eq!(made, "made\nmade\n");
}

#[test]
fn hooks_run_in_order_and_know_what_they_are_for() {
    let env = TestEnv::new();
    let note = |what: &str| {
        format!(
            "echo \"{what} $AI_SDLC_STORY_ID $AI_SDLC_ATTEMPT $AI_SDLC_BRANCH ${{AI_SDLC_OUTCOME-none}}\" >> \"$AI_SDLC_TEST_DIR/hooks\""
        )
    };
    let places = "test \"$PWD\" = \"$AI_SDLC_WORKTREE\" && test -d \"$AI_SDLC_CHECKOUT/.git\" && test -d \"$AI_SDLC_ROOT/stories\" && test -n \"$AI_SDLC_RUN_ID\" && test -n \"$AI_SDLC_PORT\"";
    let config = serde_json::json!({"hooks": {
        "afterCreate": note("made"),
        "beforeRun": format!("{places} && {}", note("before")),
        "afterRun": note("after"),
        "beforeRemove": note("goes"),
    }});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0001").script("exit 1").write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    let story = env.story("S-0001").status("blocked");
    story.script("echo x > x.txt").write();
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(0);
    let branch = "ai-sdlc/S-0001-work";
    let expected = [
        format!("made S-0001 1 {branch} none"),
        format!("before S-0001 1 {branch} none"),
        format!("after S-0001 1 {branch} failed"),
        format!("before S-0001 2 {branch} none"),
        format!("after S-0001 2 {branch} succeeded"),
        format!("goes S-0001 2 {branch} succeeded"),
    ];
    assert_eq!(told(&env, "hooks"), expected.join("\n"));
}

#[test]
fn a_hook_after_an_attempt_that_fails_is_told_and_changes_nothing() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        r#"{"hooks": {"afterRun": "exit 7", "beforeRemove": "exit 8"}}"#,
    );
    env.story("S-0001").script("echo x > x.txt").write();
    let output = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 0
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Phase S-0001 implement: sh -eu, 1 line
    warning: S-0001: `hooks.afterRun` ended with exit code 7 (log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0001-1/setup.log)
    warning: S-0001: `hooks.beforeRemove` ended with exit code 8 (log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0001-1/setup.log)
       Succeeded S-0001 Do S-0001 in <time>: 1 commit, 1 file (+1 -0) on ai-sdlc/S-0001-work
        Finished 1 succeeded in <time>
        Branches ai-sdlc/S-0001-work: 1 commit, 1 file (+1 -0)
    ");
    assert_eq!(env.status("S-0001"), "done");
}

#[test]
fn a_hook_that_makes_what_would_be_lost_keeps_the_worktree() {
    let env = TestEnv::new();
    let config = r#"{"hooks": {"afterRun": "echo precious > left.txt", "beforeRemove": "touch $AI_SDLC_TEST_DIR/removed"}}"#;
    env.write(".ai-sdlc.json", config);
    env.story("S-0001").script("echo x > x.txt").write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.worktrees(), ["S-0001-work"]);
    assert!(!env.base().join("removed").exists());
}

#[test]
fn what_is_in_a_kept_worktree_is_saved_before_a_hook_can_spoil_it() {
    let env = TestEnv::new();
    env.without_retries();
    env.story("S-0001").script("exit 1").write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    env.write(".ai-sdlc/worktrees/S-0001-work/mended", "by hand");
    let config = r#"{"attempts": {"most": 1}, "hooks": {"beforeRun": "git clean -fdq; exit 1"}}"#;
    env.write(".ai-sdlc.json", config);
    env.ai_sdlc(&["run", "--story", "S-0001"])
        .run()
        .assert_code(1)
        .assert_stderr("`hooks.beforeRun` ended with exit code 1");
    let saved = env.git(&["show", "refs/ai-sdlc/salvage/S-0001/1:mended"]);
    assert_eq!(saved, "by hand");
}

#[test]
fn running_stories_have_ports_of_their_own_and_a_killed_run_gives_them_back() {
    let env = TestEnv::new();
    env.kills_runs();
    let tell = "echo $AI_SDLC_PORT > \"$AI_SDLC_TEST_DIR/$AI_SDLC_STORY_ID-";
    let config = serde_json::json!({"hooks": {"beforeRun": format!("{tell}hook\"")}});
    env.write(".ai-sdlc.json", &config.to_string());
    let ids = ["S-0001", "S-0002"];
    for id in ids {
        let script = format!("{tell}agent\"\n{HOLD}");
        env.story(id).script(&script).write();
    }
    let gates = Gates::new(&env, &ids);
    let ports = || -> BTreeSet<u16> {
        gates.next_in_any_order(2);
        let ports = ids.map(|id| {
            let port = told(&env, &format!("{id}-agent"));
            assert_eq!(port, told(&env, &format!("{id}-hook")));
            port.parse().unwrap()
        });
        ports.into()
    };
    let run = env.ai_sdlc(&["run", "--concurrent", "2"]).start();
    let first = ports();
    assert_eq!(first.len(), 2);
    assert!(first.last().unwrap() - first.first().unwrap() >= 10);
    run.signal(Signal::KILL);
    run.wait();
    await_none(env.mark(), Duration::from_secs(2) + SLACK);
    for id in ids {
        let script = format!("{tell}agent\"\n{HOLD}");
        env.story(id).script(&script).write();
    }
    let run = env.ai_sdlc(&["run", "--concurrent", "2"]).start();
    assert_eq!(ports(), first);
    for id in ids {
        gates.release(id);
    }
    run.wait().assert_code(0);
}

#[test]
fn dependencies_are_installed_once_and_again_when_the_lock_file_changes() {
    let env = TestEnv::new();
    let path = with_npm(&env, "mkdir -p node_modules/x");
    npm_project(&env);
    env.commit_all();
    let run = |script: &str, status: &str, code: i32| {
        env.story("S-0001").status(status).script(script).write();
        let run = env.ai_sdlc(&["run", "--story", "S-0001"]);
        run.variable("PATH", &path).run().assert_code(code);
        told(&env, "npm")
    };
    assert_eq!(run("test -d node_modules/x\nexit 1", "ready", 1), "npm ci");
    assert_eq!(run("exit 1", "blocked", 1), "npm ci");
    let change = "echo '{ }' > package-lock.json\nexit 1";
    assert_eq!(run(change, "blocked", 1), "npm ci");
    assert_eq!(run("true", "blocked", 0), "npm ci\nnpm ci");
    let changed = env.changed_files("ai-sdlc/S-0001-work");
    assert_eq!(changed, ["package-lock.json"]);
}

#[test]
fn an_installation_that_fails_is_shown_and_the_worktree_taken_back() {
    let env = TestEnv::new();
    let path = with_npm(&env, "echo 'npm error: out of sync' >&2; exit 1");
    npm_project(&env);
    env.without_retries();
    env.story("S-0001").script("true").write();
    env.commit_all();
    let output = env.ai_sdlc(&["run"]).variable("PATH", &path).run();
    insta::assert_snapshot!(output.shown(&env), @"
    exit: 1
    --- stderr
         Running 1 story, 1 at a time, from branch trunk (<commit>)
        Starting S-0001 Do S-0001
           Error S-0001 Do S-0001 in <time>: `npm ci` ended with exit code 1 (`worktree.install` in .ai-sdlc.json sets another command, or false for none)
                 | ai-sdlc: worktree.install: npm ci
                 | npm error: out of sync
                 | ai-sdlc: worktree.install ended with exit code 1
                 log: <dir>/my répo/.ai-sdlc/runs/<run>/attempts/S-0001-1/setup.log
        Finished 1 not prepared in <time>
             Why S-0001 prepare_failed: `npm ci` ended with exit code 1 (`worktree.install` in .ai-sdlc.json sets another command, or false for none)
    ");
    assert!(env.worktrees().is_empty());
    assert!(env.branches().is_empty());
}

#[test]
fn nothing_is_installed_that_would_be_committed_or_that_is_switched_off() {
    let env = TestEnv::new();
    let path = with_npm(&env, "mkdir -p node_modules/x");
    env.write("package.json", "{}\n");
    env.write("package-lock.json", "{}\n");
    env.story("S-0001").script("test ! -e node_modules").write();
    env.commit_all();
    let run = || env.ai_sdlc(&["run"]).variable("PATH", &path).run();
    run().assert_code(0);
    let log = setup_log(&env, "S-0001-1");
    assert!(log.contains("git does not ignore node_modules/"), "{log}");
    npm_project(&env);
    env.write(".ai-sdlc.json", r#"{"worktree": {"install": false}}"#);
    env.story("S-0002").script("test ! -e node_modules").write();
    env.commit_all();
    run().assert_code(0);
    assert!(!env.base().join("npm").exists());
}

#[test]
fn a_configured_command_installs() {
    let env = TestEnv::new();
    let config = r#"{"worktree": {"install": "echo $AI_SDLC_STORY_ID > deps && echo /deps >> $AI_SDLC_CHECKOUT/.git/info/exclude"}}"#;
    env.write(".ai-sdlc.json", config);
    let script = "test \"$(cat deps)\" = S-0001";
    env.story("S-0001").script(script).write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert!(env.worktrees().is_empty());
}
