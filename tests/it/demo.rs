//! `demo`: the whole machine, with no key and no network.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::support::TestEnv;

#[test]
fn the_demonstration_goes_as_planned_and_says_where_to_look() {
    // Not in a repository, and without anything configured.
    let env = TestEnv::without_repository();
    let began = Instant::now();
    let output = env.ai_sdlc(&["demo"]).run();
    assert!(began.elapsed() < Duration::from_secs(20));
    output.assert_code(0);
    for line in [
        "     Running 8 stories, 3 at a time, from branch main (",
        "    Starting S-0001 Write a greeting",
        "      Failed S-0004 Fail on purpose",
        "| This story fails on purpose, to show what that looks like.",
        "     Skipped S-0005 Need the one that fails",
        "6 succeeded, 1 failed, 1 skipped",
        "As planned",
    ] {
        output.assert_stderr(line);
    }
    let clean_up = output.stderr.lines().last().unwrap();
    let place = clean_up.split('\'').nth(1).unwrap();
    let root = PathBuf::from(place);
    assert!(root.starts_with(env.base().join("tmp")), "{place}");
    let branches = env.git_in(
        &root,
        &["for-each-ref", "--format=%(refname:short)", "refs/heads"],
    );
    assert_eq!(
        branches.lines().count(),
        8,
        "main and seven stories: {branches}"
    );
    let translated = "ai-sdlc/S-0003-translate-the-greeting:salutation.txt";
    let translated = env.git_in(&root, &["show", translated]);
    assert_eq!(translated, "Bonjour from S-0001.\n");
    let status = env.ai_sdlc(&["status"]).directory(&root).run();
    assert!(status.stdout.contains("DONE (6)"), "{status:#?}");
}
