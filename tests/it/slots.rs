//! Slots: never more executors than asked for, and never a slot that is free while a story could start.

use std::collections::BTreeSet;

use super::support::{Gates, HOLD, TestEnv, executors};

#[test]
fn twelve_stories_at_four_a_time_never_exceed_four_and_never_idle_a_slot() {
    let env = TestEnv::new();
    let ids: Vec<String> = (1..=12).map(|number| format!("S-{number:04}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    for id in &ids {
        let script = format!("{HOLD}\necho done > \"$AI_SDLC_STORY_ID.txt\"");
        env.story(id).script(&script).write();
    }
    env.commit_all();
    let gates = Gates::new(&env, &names);
    let run = env.ai_sdlc(&["run", "--concurrent", "4", "--json"]).start();

    let mut at_work: BTreeSet<String> = gates.next_in_any_order(4).into_iter().collect();
    assert_eq!(at_work, ids[..4].iter().cloned().collect());
    // All starts are told of before the first worktree stands.
    run.event("story_prepared", "");
    assert_eq!(run.started_so_far(), ids[..4]);
    for (place, next) in ids.iter().enumerate().skip(4) {
        let alive: BTreeSet<String> = executors(env.mark()).into_iter().collect();
        assert_eq!(
            alive, at_work,
            "the four that are at work are all that lives"
        );
        // Now the oldest, now the newest: a slot that becomes free is any of the four.
        let released = if place % 2 == 0 {
            at_work.pop_first().unwrap()
        } else {
            at_work.pop_last().unwrap()
        };
        gates.release(&released);
        assert_eq!(
            &gates.next(),
            next,
            "the next story starts while the others are at work"
        );
        at_work.insert(next.clone());
        // A slot is filled in the moment in which it becomes free, so this is all that its end has started.
        run.event("story_settled", &released);
        assert_eq!(run.started_so_far(), ids[..=place]);
        gates.assert_nobody_else();
    }
    for id in &at_work {
        gates.release(id);
    }
    let output = run.wait();

    output.assert_code(0);
    let branches: Vec<String> = ids.iter().map(|id| format!("ai-sdlc/{id}-work")).collect();
    assert_eq!(env.branches(), branches);
    for (id, branch) in ids.iter().zip(&branches) {
        assert_eq!(env.commits(branch), [format!("feat({id}): Do {id}")]);
        assert_eq!(env.changed_files(branch), [format!("{id}.txt")]);
        assert_eq!(env.status(id), "done");
        assert_eq!(env.field(id, "branch").as_ref(), Some(branch));
    }
    assert!(env.worktrees().is_empty());
    assert!(env.worktree_directories().is_empty());
    let changed: Vec<String> = ids
        .iter()
        .map(|id| format!(" M .ai-sdlc/stories/{id}/story.md"))
        .collect();
    let status = env.git(&["status", "--porcelain"]);
    assert_eq!(status.lines().collect::<Vec<_>>(), changed);
}

#[test]
fn more_slots_than_stories_start_only_the_stories() {
    let env = TestEnv::new();
    let ids = ["S-0001", "S-0002", "S-0003"];
    for id in ids {
        env.story(id).script(HOLD).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "50"]).start();
    assert_eq!(gates.next_in_any_order(3), ids);
    assert_eq!(executors(env.mark()), ids);
    for id in ids {
        gates.release(id);
    }
    run.wait().assert_code(0);
    assert!(env.worktrees().is_empty());
}

#[test]
fn stories_start_when_the_machine_has_enough_for_their_agents() {
    let env = TestEnv::new();
    env.write(
        ".ai-sdlc.json",
        r#"{"limits": {"machine": {"memory": "10MB"}}, "agents": {
            "big": {"adapter": "script", "resources": {"memory": "6MB"}},
            "small": {"adapter": "script", "resources": {"memory": "4MB"}},
            "huge": {"adapter": "script", "resources": {"memory": "11MB"}}}}"#,
    );
    let agents = ["big", "small", "big", "huge", "small"];
    let ids = ["S-0001", "S-0002", "S-0003", "S-0004", "S-0005"];
    for (id, agent) in ids.iter().zip(agents) {
        env.story(id).agent(agent).script(HOLD).write();
    }
    let gates = Gates::new(&env, &ids);
    let run = env.ai_sdlc(&["run", "--concurrent", "5", "--json"]).start();
    assert_eq!(gates.next_in_any_order(2), ids[..2]);
    let waits = run.event("waits_for_room", "S-0003");
    assert_eq!(waits["resource"], "memory");
    assert_eq!(waits["wanted"], 6_000_000);
    assert_eq!(waits["taken"], 10_000_000);
    gates.release("S-0001");
    assert_eq!(gates.next(), "S-0003");
    for id in ["S-0002", "S-0003"] {
        gates.assert_nobody_else();
        gates.release(id);
    }
    assert_eq!(gates.next(), "S-0004");
    gates.assert_nobody_else();
    gates.release("S-0004");
    assert_eq!(gates.next(), "S-0005");
    gates.release("S-0005");
    let output = run.wait();
    output.assert_code(0);
    let warnings = output.events("warning");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(
        warnings[0]["message"],
        "the agent `huge` wants memory: 10.5 MiB, and agents have 9.5 MiB together: no other runs beside it"
    );
    assert_eq!(output.events("waits_for_room").len(), 1);
}

#[test]
fn sixteen_stories_at_once_all_get_their_worktree() {
    let env = TestEnv::new();
    for number in 1..=16 {
        env.story(&format!("S-{number:04}")).script("true").write();
    }
    let output = env.ai_sdlc(&["run", "--concurrent", "16", "--json"]).run();
    output.assert_code(0);
    assert_eq!(output.events("story_settled").len(), 16);
    assert_eq!(env.branches().len(), 16);
    assert!(env.worktrees().is_empty());
}

#[test]
fn a_second_run_on_the_same_board_is_told_who_holds_it() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    env.story("S-0002").script("true").write();
    let gates = Gates::new(&env, &["S-0001"]);
    let first = env.ai_sdlc(&["run"]).start();
    assert_eq!(gates.next(), "S-0001");

    let second = env.ai_sdlc(&["run", "--concurrent", "2"]).run();
    second.assert_stderr(&format!("process {}", first.pid()));
    insta::assert_snapshot!(second.shown(&env), @"
    exit: 3
    --- stderr
    error: another run works on this board: run <run>, process <pid>
    hint: wait for it, or stop it with Ctrl-C where it runs
    ");
    assert_eq!(env.status("S-0002"), "ready");

    gates.release("S-0001");
    first.wait().assert_code(0);
    env.ai_sdlc(&["run"]).run().assert_code(0);
    assert_eq!(env.status("S-0002"), "done");
}
