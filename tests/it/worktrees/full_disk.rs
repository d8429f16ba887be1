//! A disk that fills up while a run goes on: files are whole, and once there is space again the next run goes on.
//!
//! The disk is a small file system in memory that a shell mounts in a namespace of its own, where no other process sees
//! it.

use std::fs;

use crate::support::{Output, TestEnv, can_mount};

/// How large the file is that every worktree has to hold, in KiB. Nothing can make it smaller.
const LARGE: usize = 400;

/// A board with a large file. Its configuration is for the small disk at `small`.
fn with_large_file(base_path: &str) -> TestEnv {
    let env = TestEnv::new();
    fs::create_dir(env.base().join("small")).unwrap();
    let mut state = 1_u32;
    let noise = (0..LARGE * 1024).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    fs::write(env.path("large.bin"), noise.collect::<Vec<u8>>()).unwrap();
    let config = format!(
        r#"{{"attempts": {{"most": 2, "backOffMs": 50}}, "worktree": {{"minFree": 0, "basePath": "{base_path}"}}}}"#
    );
    env.write(".ai-sdlc.json", &config);
    env.commit_all();
    env
}

/// Runs a script with a small disk of so many KiB at `$SMALL`. `$1` in it is the program; `grow` makes the disk large.
fn on_small_disk(env: &TestEnv, size: usize, script: &str) -> Output {
    let script = format!(
        "SMALL=$AI_SDLC_TEST_DIR/small\n\
         mount -t tmpfs -o size={size}k tmpfs \"$SMALL\" || exit 99\n\
         grow() {{ mount -o remount,size=100m \"$SMALL\"; }}\n{script}"
    );
    env.write("../script", &script);
    let call = "exec unshare -rm sh \"$AI_SDLC_TEST_DIR/script\" \"$0\"";
    env.ai_sdlc(&[]).shell(call).run()
}

/// How the story ended, in the order of the runs.
fn outcomes(output: &Output, story: &str) -> Vec<String> {
    let settled = output.events("story_settled").into_iter();
    settled
        .filter(|event| event["story"] == story)
        .map(|event| event["outcome"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_worktree_that_does_not_fit_is_not_prepared_and_fits_later() {
    if !can_mount("a worktree that does not fit on the disk") {
        return;
    }
    let env = with_large_file("../small/trees");
    env.story("S-0001").script("echo a > a.txt").write();
    let before = env.story_text("S-0001");
    let script = "\"$1\" run --json; echo $? > \"$AI_SDLC_TEST_DIR/code\"
        cp .ai-sdlc/stories/S-0001/story.md \"$AI_SDLC_TEST_DIR/between\"
        { ls -A \"$SMALL/trees\"; ls .git/worktrees; git branch --list 'ai-sdlc/*'; } > \"$AI_SDLC_TEST_DIR/left\" 2> /dev/null
        grow
        \"$1\" run --json";
    let output = on_small_disk(&env, LARGE - 100, script);
    output.assert_code(0);
    assert_eq!(outcomes(&output, "S-0001"), ["prepare_failed", "succeeded"]);
    let reason = &output.events("story_settled")[0]["reason"];
    assert!(
        reason
            .as_str()
            .unwrap()
            .contains("unable to write file large.bin"),
        "{reason}"
    );
    let said = |name: &str| fs::read_to_string(env.base().join(name)).unwrap();
    assert_eq!(said("code"), "1\n");
    // Nothing is left that the next run could take for a worktree, and the board says that the story is ready.
    assert_eq!(said("left"), "");
    let between = said("between");
    assert!(
        between.contains("\nstatus: ready\n") && between.contains("\nlast_error: "),
        "{between}"
    );
    let body = before.rsplit("---\n").next().unwrap();
    assert!(between.ends_with(body), "{between}");
    assert_eq!(env.status("S-0001"), "done");
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["a.txt"]);
}

#[test]
fn an_agent_that_fills_the_disk_keeps_what_it_has_and_goes_on_later() {
    if !can_mount("an agent that fills the disk") {
        return;
    }
    let env = with_large_file("../small/trees");
    let script = "echo a > a.txt; test -e \"$AI_SDLC_TEST_DIR/again\" || head -c 2000000 /dev/zero > fill.bin\nrm -f fill.bin";
    env.story("S-0001").script(script).write();
    let script = "\"$1\" run --json
        \"$1\" worktrees --json > \"$AI_SDLC_TEST_DIR/list\"
        \"$1\" worktrees prune 2> \"$AI_SDLC_TEST_DIR/pruned\"
        grow; touch \"$AI_SDLC_TEST_DIR/again\"
        \"$1\" run --story S-0001 --json";
    let output = on_small_disk(&env, LARGE + 400, script);
    output.assert_code(0);
    assert_eq!(outcomes(&output, "S-0001"), ["failed", "succeeded"]);
    let list = fs::read_to_string(env.base().join("list")).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["worktrees"][0]["state"], "ready");
    assert_eq!(list["worktrees"][0]["uncommitted"], 2);
    let pruned = fs::read_to_string(env.base().join("pruned")).unwrap();
    assert!(
        pruned.contains("not committed: a.txt, fill.bin"),
        "{pruned}"
    );
    assert_eq!(env.changed_files("ai-sdlc/S-0001-work"), ["a.txt"]);
}

#[test]
fn a_repository_on_a_full_disk_stays_whole() {
    if !can_mount("a repository on a full disk") {
        return;
    }
    let env = with_large_file(".ai-sdlc/worktrees");
    let ids = ["S-0001", "S-0002", "S-0003", "S-0004"];
    for id in ids {
        let noise = format!("head -c 300000 /dev/urandom > {id}.bin");
        env.story(id).script(&noise).write();
    }
    // Enough for the repository, a worktree and what its agent writes, and not for its commit or for the others.
    let script = "cp -a . \"$SMALL/repository\"; cd \"$SMALL/repository\"
        \"$1\" run --concurrent 3 --json > \"$AI_SDLC_TEST_DIR/first\"
        df -k \"$SMALL\" | tail -1 > \"$AI_SDLC_TEST_DIR/space\"
        cp -a .ai-sdlc/stories \"$AI_SDLC_TEST_DIR/between\"
        git fsck --no-dangling > \"$AI_SDLC_TEST_DIR/fsck\" 2>&1
        grow
        for id in S-0001 S-0002 S-0003 S-0004; do
            grep -q '^status: done' .ai-sdlc/stories/$id/story.md || \"$1\" run --story $id --json || exit
        done
        git fsck --no-dangling >> \"$AI_SDLC_TEST_DIR/fsck\" 2>&1
        cp -a .ai-sdlc/stories \"$AI_SDLC_TEST_DIR/after\"
        \"$1\" worktrees prune 2> \"$AI_SDLC_TEST_DIR/pruned\"
        git branch --list --format='%(refname:short)' 'ai-sdlc/*' > \"$AI_SDLC_TEST_DIR/branches\"";
    let output = on_small_disk(&env, 2_400, script);
    output.assert_code(0);
    let said = |name: &str| fs::read_to_string(env.base().join(name)).unwrap();
    for id in ids {
        let text = said(&format!("between/{id}/story.md"));
        assert!(
            text.starts_with("---\nid: ") && text.ends_with(&format!("> {id}.bin\n```\n")),
            "{text}"
        );
        assert!(said(&format!("after/{id}/story.md")).contains("\nstatus: done\n"));
        let files = crate::support::names_in(&env.base().join("between").join(id));
        assert_eq!(files, ["story.md"]);
    }
    assert_eq!(said("fsck"), "", "space: {}", said("space"));
    assert!(said("pruned").contains("; 0 stay"), "{}", said("pruned"));
    assert_eq!(said("branches").lines().count(), ids.len());
    let first = said("first");
    assert!(
        first.contains("No space left on device"),
        "space: {}: {first}",
        said("space")
    );
}
