//! Worktrees whose work is in no branch, and in a salvage.

use super::shown;
use crate::support::TestEnv;

const SALVAGE: &str = "refs/ai-sdlc/salvage/S-0001/1";

/// A story that failed with a commit, a changed file and a new one.
fn with_unsaved_work() -> TestEnv {
    let env = TestEnv::new();
    let script = "echo a > a.txt; git add a.txt; git commit -qm a; echo more >> README.md; echo b > b.txt; exit 1";
    env.story("S-0001").script(script).write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    env
}

#[test]
fn unsaved_work_is_saved_before_its_worktree_is_removed() {
    let env = with_unsaved_work();
    let remove = ["worktrees", "remove", "S-0001", "--salvage"];
    let output = env.ai_sdlc(&remove).run();
    insta::assert_snapshot!(shown(&output, &env), @r"
    exit: 0
    --- stderr
           Saved S-0001 in refs/ai-sdlc/salvage/S-0001/1 (<commit>)
         Removed S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
            Kept the branch ai-sdlc/S-0001-work
    hint: `ai-sdlc recover` lists what is saved and brings it back
    ");
    assert!(env.worktrees().is_empty());
    assert_eq!(env.git(&["show", &format!("{SALVAGE}:b.txt")]), "b\n");
    assert_eq!(
        env.git(&["show", &format!("{SALVAGE}:README.md")]),
        "# Scratch\nmore\n"
    );
    assert_eq!(env.commits("ai-sdlc/S-0001-work"), ["a"]);
    // Without anything unsaved there is nothing to save.
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    let again = env.ai_sdlc(&remove).run();
    again.assert_code(0);
    assert!(!again.stderr.contains("Saved"), "{}", again.stderr);
}

#[test]
fn what_is_saved_already_can_be_pruned_until_it_changes() {
    let env = with_unsaved_work();
    let copy = env.base().join("copy");
    let path = env.path(".ai-sdlc/worktrees/S-0001-work");
    let saved = env
        .ai_sdlc(&["worktrees", "prune", "--salvage", "--dry-run"])
        .run();
    insta::assert_snapshot!(shown(&saved, &env), @r"
    exit: 0
    --- stderr
        Would go S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
          Pruned nothing: 1 worktree would go (<size>), 0 would stay
    ");
    std::fs::create_dir(&copy).unwrap();
    for name in ["README.md", "b.txt"] {
        std::fs::copy(path.join(name), copy.join(name)).unwrap();
    }
    env.ai_sdlc(&["worktrees", "prune", "--salvage"])
        .run()
        .assert_code(0);
    assert!(env.worktrees().is_empty());
    // The same work as it was saved, in a worktree that was made again.
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    for name in ["README.md", "b.txt"] {
        std::fs::copy(copy.join(name), path.join(name)).unwrap();
    }
    env.write(".ai-sdlc/worktrees/S-0001-work/c.txt", "c\n");
    let changed = env.ai_sdlc(&["worktrees", "prune"]).run();
    insta::assert_snapshot!(shown(&changed, &env), @r"
    exit: 0
    --- stderr
           Stays S-0001 .ai-sdlc/worktrees/S-0001-work: not committed: README.md, b.txt, c.txt
          Pruned 0 worktrees (<size>); 1 stays
    ");
    std::fs::remove_file(path.join("c.txt")).unwrap();
    // Whoever goes on with the story goes on there.
    let same = env.ai_sdlc(&["worktrees", "prune"]).run();
    same.assert_code(0)
        .assert_stderr("not committed: README.md");
    env.write(".ai-sdlc/worktrees/S-0001-work/c.txt", "c\n");
    env.story("S-0001").status("done").write();
    let more = env.ai_sdlc(&["worktrees", "prune"]).run();
    more.assert_code(0)
        .assert_stderr("not committed: README.md, b.txt, c.txt");
    std::fs::remove_file(path.join("c.txt")).unwrap();
    let same = env.ai_sdlc(&["worktrees", "prune"]).run();
    insta::assert_snapshot!(shown(&same, &env), @r"
    exit: 0
    --- stderr
           Saved S-0001 in refs/ai-sdlc/salvage/S-0001/1 (<commit>)
         Removed S-0001 .ai-sdlc/worktrees/S-0001-work (<size>)
          Pruned 1 worktree (<size>); 0 stay
    hint: `ai-sdlc recover` lists what is saved and brings it back
    ");
    assert_eq!(env.git(&["show", &format!("{SALVAGE}:b.txt")]), "b\n");
}

#[test]
fn what_git_does_not_look_at_is_not_lost() {
    let env = TestEnv::new();
    let script = "git update-index --assume-unchanged README.md; echo more >> README.md; exit 1";
    env.story("S-0001").script(script).write();
    env.ai_sdlc(&["run"]).run().assert_code(1);
    let pruned = env.ai_sdlc(&["worktrees", "prune"]).run();
    pruned
        .assert_code(0)
        .assert_stderr("not committed, and git is told not to look at it: README.md");
    env.ai_sdlc(&["worktrees", "prune", "--salvage"])
        .run()
        .assert_code(0);
    assert!(env.worktrees().is_empty());
    let saved = env.git(&["show", &format!("{SALVAGE}:README.md")]);
    assert_eq!(saved, "# Scratch\nmore\n");
}

#[test]
fn a_repository_inside_is_saved_with_its_files() {
    let env = with_unsaved_work();
    let inside = env.path(".ai-sdlc/worktrees/S-0001-work");
    env.git_in(&inside, &["init", "--quiet", "module"]);
    env.write(".ai-sdlc/worktrees/S-0001-work/module/file", "text\n");
    env.ai_sdlc(&["worktrees", "remove", "S-0001"])
        .run()
        .assert_code(1);
    env.ai_sdlc(&["worktrees", "remove", "S-0001", "--salvage"])
        .run()
        .assert_code(0);
    let saved = env.git(&["show", &format!("{SALVAGE}:module/file")]);
    assert_eq!(saved, "text\n");
}

#[test]
fn a_worktree_whose_link_to_git_is_broken_stays() {
    let env = with_unsaved_work();
    let link = env.path(".ai-sdlc/worktrees/S-0001-work/.git");
    std::fs::write(link, "gitdir: /nowhere\n").unwrap();
    let removed = env
        .ai_sdlc(&["worktrees", "remove", "S-0001-work", "--salvage"])
        .run();
    removed
        .assert_code(1)
        .assert_stderr("it is not a worktree of this repository");
    let kept = env.read(".ai-sdlc/worktrees/S-0001-work/b.txt");
    assert_eq!(kept, "b\n");
}

#[test]
fn submodules_are_beyond_saving_and_nothing_else_is_promised() {
    let env = TestEnv::new();
    let module = env.base().join("module");
    env.git(&["clone", "--quiet", "--bare", ".", "../module"]);
    let from_files = ["-c", "protocol.file.allow=always"];
    let path = module.to_str().unwrap();
    env.git(
        &[
            &from_files[..],
            &["submodule", "--quiet", "add", path, "mod"],
        ]
        .concat(),
    );
    env.commit_all();
    env.story("S-0001").status("backlog").write();
    env.ai_sdlc(&["worktrees", "add", "S-0001"])
        .run()
        .assert_code(0);
    let inside = env.path(".ai-sdlc/worktrees/S-0001-work");
    let update = ["submodule", "--quiet", "update", "--init"];
    env.git_in(&inside, &[&from_files[..], &update].concat());
    env.write(".ai-sdlc/worktrees/S-0001-work/mod/mine.txt", "mine\n");
    for salvage in [&[][..], &["--salvage"][..]] {
        let remove = [&["worktrees", "remove", "S-0001"], salvage].concat();
        let output = env.ai_sdlc(&remove).run();
        insta::allow_duplicates! {
            insta::assert_snapshot!(shown(&output, &env), @r"
            exit: 1
            --- stderr
            error: S-0001 keeps its worktree .ai-sdlc/worktrees/S-0001-work: it has submodules of its own
            hint: no salvage holds submodules: push what is in them, commit the rest, and `git worktree remove -f -f .ai-sdlc/worktrees/S-0001-work` removes it with all that is in it then
            ");
        }
    }
    let prune = ["worktrees", "prune", "--salvage", "--dry-run"];
    let pruned = env.ai_sdlc(&prune).run();
    pruned.assert_stderr("0 worktrees would go");
    let mine = env.read(".ai-sdlc/worktrees/S-0001-work/mod/mine.txt");
    assert_eq!(mine, "mine\n");
    // What is hinted at is true.
    let place = ".ai-sdlc/worktrees/S-0001-work";
    env.git(&["worktree", "remove", "-f", "-f", place]);
    assert!(env.worktrees().is_empty());
}
