//! Groups of processes: what hides from everything else is found in them, and none is left behind.

use std::fs;

use rustix::process::Signal;

use super::support::{Gates, HOLD, TestEnv, executor_of, groups, runs};

#[test]
fn what_hides_from_every_look_is_found_after_orchestrator_and_executor_were_killed_at_once() {
    if !groups::can_be_made() {
        return;
    }
    let env = TestEnv::new();
    let script = format!(
        "env -i setsid sh -c 'cd /; exec sleep 1000' </dev/null >/dev/null 2>&1 &\n\
         echo $! > hidden\n\
         until test \"$(cat /proc/$!/comm)\" = sleep; do sleep 0.01; done\n{HOLD}"
    );
    env.story("S-0001").script(&script).write();
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");
    let hidden = env.read(".ai-sdlc/worktrees/S-0001-work/hidden");
    let hidden = hidden.trim();
    let noted = groups::noted(&env.path(".ai-sdlc/runs"));
    let [group] = &noted[..] else {
        panic!("not one group: {noted:?}")
    };
    let executor = executor_of(env.mark(), "S-0001").unwrap();
    env.kills_runs();
    // At once means that neither gets to see the death of the other.
    run.signal(Signal::STOP);
    executor.kill();
    run.signal(Signal::KILL);
    assert_eq!(run.wait().code, None);
    assert!(runs(hidden));

    let shown = env.ai_sdlc(&["reap", "--dry-run"]).run();
    shown.assert_code(0);
    let line = format!("{hidden}\tsleep\tS-0001\t");
    assert!(shown.stdout.contains(&line), "{}", shown.stdout);
    assert!(runs(hidden) && group.exists());

    let reaped = env.ai_sdlc(&["reap"]).run();
    reaped.assert_code(0);
    assert!(reaped.stdout.contains(&line), "{}", reaped.stdout);
    assert!(!runs(hidden));
    assert!(!group.exists());
    assert!(groups::noted(&env.path(".ai-sdlc/runs")).is_empty());

    // The next run clears away the sockets of the one that was killed, and its own agent's hidden process is swept.
    gates.release("S-0001");
    let again = env.ai_sdlc(&["run", "--story", "S-0001"]).run();
    again.assert_code(0);
    let hidden = env.git(&["show", "ai-sdlc/S-0001-work:hidden"]);
    assert!(!runs(hidden.trim()));
}

#[test]
fn every_attempt_has_a_group_while_it_runs_and_the_run_leaves_none() {
    if !groups::can_be_made() {
        return;
    }
    let env = TestEnv::new();
    let ids = ["S-0001", "S-0002"];
    for id in ids {
        env.story(id).script(HOLD).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).start();
    assert_eq!(gates.next_in_any_order(2), ids);
    let noted = groups::noted(&env.path(".ai-sdlc/runs"));
    let [group] = &noted[..] else {
        panic!("not one group: {noted:?}")
    };
    for id in ids {
        let members = fs::read_to_string(group.join(format!("{id}-1/cgroup.procs"))).unwrap();
        // The executor, and its agent at least.
        assert!(members.lines().count() >= 2, "{id}: {members}");
    }
    gates.release("S-0001");
    run.event("story_settled", "S-0001");
    gates.release("S-0002");
    run.wait().assert_code(0);
    assert!(!group.exists());
    assert!(groups::noted(&env.path(".ai-sdlc/runs")).is_empty());
}
