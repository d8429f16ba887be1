//! What stories start from when branches are merged and deleted while a run goes on.

use super::support::{Gates, HOLD, Output, TestEnv};

/// The third story needs the work of the first one, and starts when the second one is through. `meddle` comes between.
fn with_a_dependency(env: &TestEnv, meddle: impl Fn()) -> Output {
    env.without_retries();
    env.story("S-0001").script("echo 1 > one.txt").write();
    env.story("S-0002").script(HOLD).write();
    env.story("S-0003")
        .depends_on(&["S-0001", "S-0002"])
        .script("cat one.txt")
        .write();
    let gates = Gates::new(env, &["S-0002"]);
    let run = env.ai_sdlc(&["run", "--concurrent", "2", "--json"]).start();
    assert_eq!(gates.next(), "S-0002");
    run.event("story_settled", "S-0001");
    meddle();
    gates.release("S-0002");
    run.wait()
}

#[test]
fn the_work_of_a_dependency_that_was_merged_and_deleted_is_there() {
    let env = TestEnv::new();
    let output = with_a_dependency(&env, || {
        env.git(&["merge", "--quiet", "ai-sdlc/S-0001-work"]);
        env.git(&["branch", "--quiet", "-D", "ai-sdlc/S-0001-work"]);
    });
    output.assert_code(0);
    assert_eq!(output.outcome("S-0003"), "succeeded");
}

#[test]
fn without_the_work_of_a_dependency_a_story_does_not_start() {
    let env = TestEnv::new();
    let output = with_a_dependency(&env, || {
        env.git(&["branch", "--quiet", "-D", "ai-sdlc/S-0001-work"]);
    });
    output.assert_code(1);
    let settled = output.settled("S-0003");
    assert_eq!(settled["outcome"], "prepare_failed");
    let reason = settled["reason"].as_str().unwrap();
    assert!(
        reason.contains("`ai-sdlc/S-0001-work` of S-0001 is gone, and its work"),
        "{reason}"
    );
    assert_eq!(env.status("S-0003"), "ready");
}
