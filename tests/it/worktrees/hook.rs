//! `hooks.beforeRemove` for worktrees that are removed outside of an attempt.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::shown;
use crate::support::{DEADLINE, Gates, HOLD, TestEnv, await_none};

/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(3);

/// Notes what a hook is told, and that it runs in the worktree.
const NOTE: &str = "test \"$PWD\" = \"$AI_SDLC_WORKTREE\" && test -d \"$AI_SDLC_CHECKOUT/.git\" && test -d \"$AI_SDLC_ROOT/stories\" && test -n \"$AI_SDLC_RUN_ID\" && \
                    echo \"$AI_SDLC_STORY_ID $AI_SDLC_BRANCH ${AI_SDLC_ATTEMPT-none} ${AI_SDLC_OUTCOME-none}\" >> \"$AI_SDLC_TEST_DIR/goes\"";

/// A board with this hook and these worktrees.
fn with_hook(hook: &str, ids: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    let config = serde_json::json!({"hooks": {"beforeRemove": hook}});
    env.write(".ai-sdlc.json", &config.to_string());
    for id in ids {
        env.story(id).status("backlog").write();
        env.ai_sdlc(&["worktrees", "add", id]).run().assert_code(0);
    }
    env
}

/// What hooks have noted.
fn noted(env: &TestEnv) -> String {
    fs::read_to_string(env.base().join("goes")).unwrap_or_default()
}

#[test]
fn it_runs_for_what_is_removed_and_pruned_and_not_for_what_stays() {
    let env = with_hook(NOTE, &["S-0001", "S-0002", "S-0003"]);
    env.write(".ai-sdlc/worktrees/S-0002-work/mine.txt", "mine\n");
    let names = ["worktrees", "remove", "S-0001", "S-0002"];
    // An agent may call it.
    let remove = env.ai_sdlc(&names).variable("AI_SDLC_ATTEMPT", "7");
    remove.run().assert_code(1);
    assert_eq!(noted(&env), "S-0001 ai-sdlc/S-0001-work none none\n");
    let dry = env.ai_sdlc(&["worktrees", "prune", "--dry-run"]).run();
    dry.assert_code(0).assert_stderr("1 worktree would go");
    assert_eq!(noted(&env).lines().count(), 1);
    env.ai_sdlc(&["worktrees", "prune"]).run().assert_code(0);
    assert_eq!(env.worktrees(), ["S-0002-work"]);
    let told = noted(&env);
    assert_eq!(
        told.lines().last(),
        Some("S-0003 ai-sdlc/S-0003-work none none")
    );
    let log = env.read(".ai-sdlc/logs/before-remove-S-0003-work.log");
    assert!(log.starts_with("ai-sdlc: hooks.beforeRemove: "), "{log}");
    assert_eq!(env.git(&["status", "--porcelain", ".ai-sdlc/logs"]), "");
}

#[test]
fn what_it_writes_is_looked_at() {
    let env = with_hook("echo left > left.txt", &["S-0001"]);
    let output = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
    output
        .assert_code(1)
        .assert_stderr("not committed: left.txt");
    let remove = ["worktrees", "remove", "S-0001", "--salvage"];
    env.ai_sdlc(&remove).run().assert_code(0);
    assert!(env.worktrees().is_empty());
    let saved = env.git(&["show", "refs/ai-sdlc/salvage/S-0001/1:left.txt"]);
    assert_eq!(saved, "left\n");
}

#[test]
fn its_failure_is_told_and_stops_no_removal() {
    let env = with_hook("echo no database; exit 3", &["S-0001"]);
    let output = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
    warning: S-0001: `hooks.beforeRemove` ended with exit code 3 (log: <dir>/my répo/.ai-sdlc/logs/before-remove-S-0001-work.log)
         Removed S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
            Kept the branch ai-sdlc/S-0001-work
    ");
    let log = env.read(".ai-sdlc/logs/before-remove-S-0001-work.log");
    insta::assert_snapshot!(log, @r"
    ai-sdlc: hooks.beforeRemove: echo no database; exit 3
    no database
    ai-sdlc: hooks.beforeRemove ended with exit code 3
    ");
    let hook = "trap '' TERM; setsid sleep 1000 & sleep 1000";
    let config = serde_json::json!({"hooks": {"beforeRemove": hook, "timeout": 300}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    let began = Instant::now();
    let output = env.ai_sdlc(&["worktrees", "prune"]).run();
    output
        .assert_code(0)
        .assert_stderr("`hooks.beforeRemove` did not end within 300 ms and was killed (log: ");
    assert!(began.elapsed() < Duration::from_secs(3) + SLACK);
    assert!(await_none(env.mark(), Duration::ZERO).is_empty());
    assert!(env.worktrees().is_empty());
    // The log is that of the last one.
    let log = env.read(".ai-sdlc/logs/before-remove-S-0001-work.log");
    assert!(!log.contains("database"), "{log}");
}

#[test]
fn what_it_leaves_running_is_ended_even_when_its_keeper_is_killed() {
    let left = "setsid sleep 1000 & sleep 1000 & echo started > $AI_SDLC_TEST_DIR/goes";
    for end in ["true", "kill -9 $PPID; sleep 1000"] {
        let env = with_hook(&format!("{left}; {end}"), &["S-0001"]);
        let output = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).run();
        output.assert_code(0);
        assert_eq!(output.stderr.contains("was killed"), end != "true");
        assert_eq!(noted(&env), "started\n");
        assert!(await_none(env.mark(), Duration::ZERO).is_empty());
    }
}

#[test]
fn it_runs_for_what_makes_room_for_another_worktree() {
    let note = format!("{NOTE}; exit 3");
    let env = with_hook(&note, &["S-0001", "S-0002"]);
    env.write(".ai-sdlc/worktrees/S-0002-work/mine.txt", "mine\n");
    let config =
        serde_json::json!({"hooks": {"beforeRemove": note}, "worktree": {"maxDisk": 4096}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0003").script("exit 1").write();
    let output = env.ai_sdlc(&["run"]).run();
    output.assert_code(1).assert_stderr(
        "/.ai-sdlc/worktrees/S-0001-work: `hooks.beforeRemove` ended with exit code 3 (log: ",
    );
    assert_eq!(noted(&env), "S-0001 ai-sdlc/S-0001-work none none\n");
    assert_eq!(env.worktrees(), ["S-0002-work", "S-0003-work"]);
    let log = env.read(".ai-sdlc/logs/before-remove-S-0001-work.log");
    assert!(log.ends_with("ended with exit code 3\n"), "{log}");
}

#[test]
fn hooks_do_not_hold_up_an_attempt_for_long() {
    let hook = "sleep 1000";
    let env = with_hook(hook, &["S-0001", "S-0002"]);
    let config = serde_json::json!({
        "hooks": {"beforeRemove": hook, "timeout": 300},
        "worktree": {"maxDisk": 4096},
    });
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0003").script("exit 1").write();
    let output = env.ai_sdlc(&["run"]).run();
    output
        .assert_code(1)
        .assert_stderr("`hooks.beforeRemove` takes too long to remove more of the others at once");
    assert_eq!(env.worktrees().len(), 2);
}

#[test]
fn one_look_that_had_no_time_is_followed_by_another() {
    let hook = "sleep 1000";
    let env = with_hook(hook, &["S-0001", "S-0002"]);
    let config = serde_json::json!({
        "hooks": {"beforeRemove": hook, "timeout": 300},
        "worktree": {"maxDisk": 4096},
    });
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0003").script("true").write();
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    output.assert_code(0);
    assert!(env.worktrees().is_empty(), "{output:#?}");
}

#[test]
fn a_slow_hook_does_not_put_off_the_next_look() {
    let env = with_hook("sleep 2", &["S-0001", "S-0002"]);
    env.write(".ai-sdlc/worktrees/S-0002-work/mine.txt", "mine\n");
    let config = serde_json::json!({
        "hooks": {"beforeRemove": "sleep 2"},
        "worktree": {"maxDisk": 4096},
    });
    env.write(".ai-sdlc.json", &config.to_string());
    // An agent that takes its time: nobody looks for nine times as long as a look takes.
    let slow = "sleep 3\nrm ../S-0002-work/mine.txt";
    env.story("S-0003").script(slow).write();
    env.story("S-0004").script("true").write();
    let output = env.ai_sdlc(&["run", "--concurrent", "1"]).run();
    output.assert_code(0);
    assert!(env.worktrees().is_empty(), "{output:#?}");
}

#[test]
fn a_run_that_stops_ends_it_and_keeps_the_worktree() {
    let hook = deaf();
    let env = with_hook(&hook, &["S-0001"]);
    let config =
        serde_json::json!({"hooks": {"beforeRemove": hook}, "worktree": {"maxDisk": 4096}});
    env.write(".ai-sdlc.json", &config.to_string());
    env.story("S-0002").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let asked = Instant::now();
    run.signal(Signal::INT);
    let output = run.wait();
    output.assert_code(130);
    let took = asked.elapsed();
    assert!(
        took < Duration::from_secs(3) + SLACK,
        "{took:?}: {output:#?}"
    );
    assert!(await_none(env.mark(), Duration::ZERO).is_empty());
    assert_eq!(env.worktrees(), ["S-0001-work"]);
    assert_eq!(env.status("S-0002"), "ready");
}

/// A hook that holds and is deaf, as is what it starts.
fn deaf() -> String {
    let hold = HOLD.replace('\n', "; ");
    format!("trap '' TERM; setsid sleep 1000 & {hold}")
}

#[test]
fn a_signal_ends_it_and_keeps_the_worktree() {
    let remove: &[&str] = &["worktrees", "remove", "S-0001", "S-0002"];
    for (command, signal, code) in [
        (remove, Signal::INT, 130),
        (remove, Signal::TERM, 143),
        (&["worktrees", "prune"], Signal::INT, 130),
    ] {
        let env = with_hook(&deaf(), &["S-0001", "S-0002", "S-0003"]);
        let gates = Gates::new(&env, &["S-0001"]);
        let removing = env.ai_sdlc(command).start();
        assert_eq!(gates.next(), "S-0001");
        let asked = Instant::now();
        removing.signal(signal);
        let output = removing.wait();
        assert!(asked.elapsed() < Duration::from_secs(3) + SLACK);
        // The lock is free, so nothing is at work any more.
        assert!(await_none(env.mark(), Duration::ZERO).is_empty());
        assert_eq!(env.read(".ai-sdlc/run.lock"), "");
        output.assert_code(code);
        if command == remove {
            insta::allow_duplicates! {
                insta::assert_snapshot!(shown(&output, &env).split_once('\n').unwrap().1, @r"
                --- stderr
                error: S-0001 keeps its worktree .ai-sdlc/worktrees/S-0001-work: `hooks.beforeRemove` was stopped
                     Stopped 0 worktrees removed; 2 stay
                ");
            }
        } else {
            insta::assert_snapshot!(shown(&output, &env), @r"
            exit: 130
            --- stderr
                   Stays S-0001 .ai-sdlc/worktrees/S-0001-work: `hooks.beforeRemove` was stopped
                 Stopped 2 worktrees were not looked at
                  Pruned 0 worktrees (<size>); 3 stay
            ");
        }
        let all = ["S-0001-work", "S-0002-work", "S-0003-work"];
        assert_eq!(env.worktrees(), all);
    }
}

#[test]
fn it_ends_when_its_command_is_killed() {
    let env = with_hook(&deaf(), &["S-0001"]);
    let gates = Gates::new(&env, &["S-0001"]);
    let remove = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).start();
    assert_eq!(gates.next(), "S-0001");
    remove.signal(Signal::KILL);
    assert_eq!(remove.wait().code, None);
    let left = await_none(env.mark(), Duration::from_secs(2) + SLACK);
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(env.worktrees(), ["S-0001-work"]);
}

#[test]
fn a_run_ends_the_hook_of_a_command_that_was_killed_before_its_agents_begin() {
    let hook = format!("echo $$ > $AI_SDLC_TEST_DIR/hook; {}", deaf());
    let env = with_hook(&hook, &["S-0001"]);
    let gates = Gates::new(&env, &["S-0001"]);
    let prune = env.ai_sdlc(&["worktrees", "prune"]).start();
    assert_eq!(gates.next(), "S-0001");
    prune.signal(Signal::KILL);
    prune.wait();
    env.write(".ai-sdlc.json", "{}");
    // The agent sees whether it is still there. One that has ended may wait for somebody to reap it.
    let script = "state=$(cut -d ' ' -f 3 \"/proc/$(cat \"$AI_SDLC_TEST_DIR/hook\")/stat\" || echo gone)\n\
                  echo \"${state:-gone}\" > \"$AI_SDLC_TEST_DIR/state\"";
    env.story("S-0001").script(script).write();
    env.ai_sdlc(&["run"]).run().assert_code(0);
    let state = fs::read_to_string(env.base().join("state")).unwrap();
    assert!(matches!(state.trim(), "gone" | "Z"), "{state}");
}

#[test]
fn what_a_command_leaves_that_dies_with_its_keeper_is_found() {
    let hold = HOLD.replace('\n', "; ");
    let hook = format!(
        "setsid sleep 1000 & setsid sleep 1000 & echo $PPID > $AI_SDLC_TEST_DIR/keeper; {hold}"
    );
    for end in ["reap", "run"] {
        let env = with_hook(&hook, &["S-0001"]);
        let gates = Gates::new(&env, &["S-0001"]);
        let remove = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).start();
        assert_eq!(gates.next(), "S-0001");
        let keeper = fs::read_to_string(env.base().join("keeper")).unwrap();
        let keeper = Pid::from_raw(keeper.trim().parse().unwrap()).unwrap();
        // Neither can see to what the other leaves.
        remove.signal(Signal::STOP);
        rustix::process::kill_process(keeper, Signal::KILL).unwrap();
        remove.signal(Signal::KILL);
        remove.wait();
        // Who only looks leaves it to others. The shell is just ending.
        let began = Instant::now();
        loop {
            let dry = env.ai_sdlc(&["reap", "--dry-run"]).run();
            let names = dry.stdout.lines().map(|line| line.split('\t').nth(1));
            if names.eq([Some("sleep"); 2]) {
                break;
            }
            assert!(began.elapsed() < DEADLINE, "{dry:#?}");
        }
        let done = env.ai_sdlc(&[end]).run();
        done.assert_code(0)
            .assert_stderr("that an earlier run had left running");
        assert!(await_none(env.mark(), Duration::ZERO).is_empty());
        assert_eq!(env.read(".ai-sdlc/run.lock"), "");
    }
}

#[test]
fn who_has_the_board_meanwhile_is_said() {
    let env = with_hook(&deaf(), &["S-0001", "S-0002"]);
    let gates = Gates::new(&env, &["S-0001"]);
    let prune = env.ai_sdlc(&["worktrees", "prune"]).start();
    assert_eq!(gates.next(), "S-0001");
    env.story("S-0003").script("true").write();
    let run = env.ai_sdlc(&["run"]).run();
    insta::assert_snapshot!(shown(&run, &env), @r"
    exit: 3
    --- stderr
    error: another command works on this board: worktrees prune, process <pid>
    hint: wait for its end, which a slow `hooks.beforeRemove` puts off, or stop it with Ctrl-C where it runs
    ");
    // They wait for a while.
    let add = env.ai_sdlc(&["worktrees", "add", "S-0003"]).start();
    let remove = env.ai_sdlc(&["worktrees", "remove", "S-0002"]).start();
    insta::assert_snapshot!(shown(&add.wait(), &env), @r"
    exit: 3
    --- stderr
    error: S-0003 gets no worktree at this moment: worktrees prune, process <pid> has the board
    hint: wait for its end, which a slow `hooks.beforeRemove` puts off, or stop it with Ctrl-C where it runs
    ");
    insta::assert_snapshot!(shown(&remove.wait(), &env), @r"
    exit: 1
    --- stderr
    error: S-0002 keeps its worktree .ai-sdlc/worktrees/S-0002-work: worktrees prune, process <pid> may change it at any moment
    hint: wait for its end, which a slow `hooks.beforeRemove` puts off, or stop it with Ctrl-C where it runs
    ");
    prune.signal(Signal::TERM);
    prune.wait().assert_code(143);
}

#[test]
fn a_run_that_takes_the_story_meanwhile_keeps_the_worktree() {
    let hold = HOLD
        .replace('\n', "; ")
        .replace("$AI_SDLC_STORY_ID", "hook");
    let env = with_hook(&hold, &["S-0001"]);
    env.story("S-0002").script(HOLD).write();
    let gates = Gates::new(&env, &["hook", "S-0002"]);
    let run = env.ai_sdlc(&["run", "--watch"]).start();
    assert_eq!(gates.next(), "S-0002");
    let remove = env.ai_sdlc(&["worktrees", "remove", "S-0001"]).start();
    assert_eq!(gates.next(), "hook");
    env.story("S-0001").script(HOLD).write();
    gates.release("hook");
    let output = remove.wait();
    output
        .assert_code(1)
        .assert_stderr("may work in it at any moment");
    assert!(!output.stderr.contains("--salvage"), "{}", output.stderr);
    run.signal(Signal::INT);
    run.wait();
    assert_eq!(env.worktrees()[0], "S-0001-work");
}
