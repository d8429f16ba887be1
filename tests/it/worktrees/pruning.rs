//! `worktrees prune`: what goes, what stays, and what is never touched.

use super::{by_hand, contents, make_half, shown};
use crate::support::{Gates, HOLD, TestEnv, names_in};

/// A board with a worktree of every kind.
fn every_kind() -> TestEnv {
    let env = TestEnv::new();
    let committed = "echo x > x.txt; git add x.txt; git commit -qm x; exit 1";
    env.story("S-0001").script("echo a > a.txt; exit 1").write();
    env.story("S-0002").script(committed).write();
    env.story("S-0003").script("echo c > c.txt").write();
    let run = env
        .ai_sdlc(&["run", "--concurrent", "3", "--keep-worktrees"])
        .run();
    run.assert_code(1);
    for id in ["S-0004", "S-0005", "S-0006"] {
        env.story(id).status("backlog").write();
        env.ai_sdlc(&["worktrees", "add", id]).run().assert_code(0);
    }
    make_half(&env, "S-0004-work");
    std::fs::remove_dir_all(env.path(".ai-sdlc/worktrees/S-0005-work")).unwrap();
    env.story("S-0006").status("in-progress").write();
    // A git that was killed in its first moments.
    env.write(
        ".git/worktrees/S-0007-work/locked",
        "ai-sdlc 20260101-000000-0000 S-0007",
    );
    by_hand(
        &env,
        &[
            "-b",
            "ai-sdlc/old",
            ".ai-sdlc/.ai-sdlc/worktrees/S-0009-old",
        ],
    );
    env
}

/// Puts there what is not ours, and gives the places.
fn what_others_made(env: &TestEnv) -> Vec<std::path::PathBuf> {
    by_hand(env, &["-b", "feature", ".ai-sdlc/worktrees/by-hand"]);
    by_hand(env, &["-b", "feature-2", ".ai-sdlc/worktrees/S-0002-mine"]);
    by_hand(
        env,
        &["-b", "ai-sdlc/S-0008-a", ".ai-sdlc/worktrees/S-0008-a"],
    );
    env.git(&[
        "worktree",
        "lock",
        "--reason",
        "on a stick",
        ".ai-sdlc/worktrees/S-0008-a",
    ]);
    by_hand(env, &["-b", "ai-sdlc/S-0010-a", "../S-0010-a"]);
    by_hand(env, &["-b", "gone", ".ai-sdlc/worktrees/gone"]);
    std::fs::remove_dir_all(env.path(".ai-sdlc/worktrees/gone")).unwrap();
    env.write(".ai-sdlc/worktrees/S-0011-folder/file", "text");
    std::fs::create_dir(env.path(".ai-sdlc/worktrees/S-0012-empty")).unwrap();
    env.git(&["init", "--quiet", ".ai-sdlc/worktrees/S-0013-repository"]);
    let names = [
        "by-hand",
        "S-0002-mine",
        "S-0008-a",
        "S-0011-folder",
        "S-0012-empty",
        "S-0013-repository",
    ];
    let inside = names.map(|name| env.path(".ai-sdlc/worktrees").join(name));
    inside
        .into_iter()
        .chain([env.base().join("S-0010-a")])
        .collect()
}

#[test]
fn what_is_saved_goes_and_everything_else_stays() {
    let env = every_kind();
    let listed = || env.git(&["worktree", "list", "--porcelain"]);
    let before = (listed(), contents(&env.path(".ai-sdlc/worktrees")));
    let dry = env.ai_sdlc(&["worktrees", "prune", "--dry-run"]).run();
    insta::assert_snapshot!(shown(&dry, &env), @r"
    exit: 0
    --- stderr
           Stays S-0001 .ai-sdlc/worktrees/S-0001-work: not committed: a.txt
        Would go S-0002 .ai-sdlc/worktrees/S-0002-work (<size>)
        Would go S-0003 .ai-sdlc/worktrees/S-0003-work (<size>)
        Would go S-0004 .ai-sdlc/worktrees/S-0004-work (<size>), half-made
        Would go S-0005 .ai-sdlc/worktrees/S-0005-work (<size>), whose folder was gone
           Stays S-0006 .ai-sdlc/worktrees/S-0006-work: S-0006 is in progress, and `ai-sdlc run --story S-0006` goes on in it
        Would go S-0007 .ai-sdlc/worktrees/S-0007-work (<size>), half-made
        Would go S-0009 .ai-sdlc/.ai-sdlc/worktrees/S-0009-old (<size>)
          Pruned nothing: 6 worktrees would go (<size>), 2 would stay
    ");
    assert_eq!(
        (listed(), contents(&env.path(".ai-sdlc/worktrees"))),
        before
    );
    let output = env.ai_sdlc(&["worktrees", "prune"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
           Stays S-0001 .ai-sdlc/worktrees/S-0001-work: not committed: a.txt
         Removed S-0002 .ai-sdlc/worktrees/S-0002-work (<size>)
         Removed S-0003 .ai-sdlc/worktrees/S-0003-work (<size>)
         Removed S-0004 .ai-sdlc/worktrees/S-0004-work (<size>), half-made
         Removed S-0005 .ai-sdlc/worktrees/S-0005-work (<size>), whose folder was gone
           Stays S-0006 .ai-sdlc/worktrees/S-0006-work: S-0006 is in progress, and `ai-sdlc run --story S-0006` goes on in it
         Removed S-0007 .ai-sdlc/worktrees/S-0007-work (<size>), half-made
         Removed S-0009 .ai-sdlc/.ai-sdlc/worktrees/S-0009-old (<size>)
          Pruned 6 worktrees (<size>); 2 stay
    ");
    assert_eq!(env.worktrees(), ["S-0001-work", "S-0006-work"]);
    assert_eq!(env.worktree_directories(), ["S-0001-work", "S-0006-work"]);
    assert_eq!(
        names_in(&env.path(".git/worktrees")),
        ["S-0001-work", "S-0006-work"]
    );
    assert_eq!(env.read(".ai-sdlc/worktrees/S-0001-work/a.txt"), "a\n");
    // Every branch is where it was.
    assert_eq!(env.commits("ai-sdlc/S-0002-work"), ["x"]);
    assert_eq!(
        env.commits("ai-sdlc/S-0003-work"),
        ["feat(S-0003): Do S-0003"]
    );
    assert_eq!(env.branches().len(), 7);
    // And there is nothing more to do.
    let again = env.ai_sdlc(&["worktrees:prune"]).run();
    again
        .assert_code(0)
        .assert_stderr("Pruned 0 worktrees (0 B); 2 stay");
}

#[test]
fn what_others_made_is_never_touched() {
    let env = TestEnv::new();
    env.story("S-0002").script("true").write();
    env.ai_sdlc(&["run", "--keep-worktrees"])
        .run()
        .assert_code(0);
    let places = what_others_made(&env);
    let look = || {
        let files: Vec<_> = places.iter().map(|place| contents(place)).collect();
        let gone = env.path(".git/worktrees/gone").exists();
        (files, gone, env.git(&["branch", "--list"]))
    };
    let before = look();
    let output = env.ai_sdlc(&["worktrees", "prune"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
           Stays S-0002-mine .ai-sdlc/worktrees/S-0002-mine: it was not made for a story
         Removed S-0002 .ai-sdlc/worktrees/S-0002-work (<size>)
           Stays S-0008-a .ai-sdlc/worktrees/S-0008-a: somebody else has locked it: on a stick
           Stays S-0011-folder .ai-sdlc/worktrees/S-0011-folder: it is not a worktree of this repository
           Stays S-0012-empty .ai-sdlc/worktrees/S-0012-empty: it is not a worktree of this repository
           Stays S-0013-repository .ai-sdlc/worktrees/S-0013-repository: it is not a worktree of this repository
           Stays by-hand .ai-sdlc/worktrees/by-hand: it was not made for a story
           Stays gone .ai-sdlc/worktrees/gone: it was not made for a story
          Pruned 1 worktree (<size>); 7 stay
    ");
    for name in [
        "S-0002-mine",
        "S-0008-a",
        "S-0011-folder",
        "S-0012-empty",
        "gone",
    ] {
        let refused = env.ai_sdlc(&["worktrees", "remove", name]).run();
        refused.assert_code(1);
    }
    let (files, gone, branches) = look();
    assert_eq!(files, before.0);
    assert!(gone && before.1);
    assert_eq!(branches.replace('+', " "), before.2.replace('+', " "));
}

#[test]
fn beside_a_run_what_it_works_on_stays() {
    let env = TestEnv::new();
    env.story("S-0001").script(HOLD).write();
    env.story("S-0002")
        .depends_on(&["S-0001"])
        .script("true")
        .write();
    env.story("S-0003").status("backlog").write();
    for id in ["S-0002", "S-0003"] {
        env.ai_sdlc(&["worktrees", "add", id]).run().assert_code(0);
    }
    let gates = Gates::new(&env, &["S-0001"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).start();
    assert_eq!(gates.next(), "S-0001");
    env.await_status("S-0001", "in-progress");
    let output = env.ai_sdlc(&["worktrees", "prune"]).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
           Stays S-0001 .ai-sdlc/worktrees/S-0001-work: run <run>, process <pid> works in it
           Stays S-0002 .ai-sdlc/worktrees/S-0002-work: run <run>, process <pid> may work in it at any moment
         Removed S-0003 .ai-sdlc/worktrees/S-0003-work (<size>)
          Pruned 1 worktree (<size>); 2 stay
    ");
    gates.release("S-0001");
    run.wait().assert_code(0);
}
