//! Runs whose journals lie in several files.

use std::fs;
use std::path::{Path, PathBuf};

use ai_sdlc::journal::{Reader, Tail};
use ai_sdlc::orchestrator::JournalRecord;
use rustix::process::Signal;
use serde_json::Value;

use super::support::{DEADLINE, HOLD, TestEnv};

/// The smallest segments that there may be. On a disk that others keep busy they make a run wait for its journal, which
/// then tries its attempts once more.
const SMALL: &str = r#"{"runs": {"journalSegment": "4KiB"}, "attempts": {"most": 100, "backOffMs": 1,
    "longestBackOffMs": 1, "pauseAfter": 1000}}"#;

/// A board of stories that can be done.
fn board(stories: usize) -> TestEnv {
    let env = TestEnv::new();
    env.write(".ai-sdlc.json", SMALL);
    for number in 1..=stories {
        let script = format!("echo {number} > f{number}");
        env.story(&format!("S-{number:04}")).script(&script).write();
    }
    env
}

/// The folder of the only run.
fn folder(env: &TestEnv) -> PathBuf {
    let runs = env.path(".ai-sdlc/runs");
    let latest = fs::read_to_string(runs.join("latest")).unwrap();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().unwrap().is_dir();
    let folders = fs::read_dir(&runs).unwrap().map(Result::unwrap);
    assert_eq!(folders.filter(is_folder).count(), 1);
    runs.join(latest)
}

/// The names of the closed segments, in order.
fn closed(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_closed = |name: &String| name.starts_with("journal.0") && !name.contains(".part");
    let mut names: Vec<String> = names.filter(is_closed).collect();
    names.sort();
    names
}

/// The only run as `ai-sdlc runs` lists it.
fn listed(env: &TestEnv) -> Value {
    let listed = env.ai_sdlc(&["runs", "--json"]).run();
    let mut list: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(list["runs"].as_array().map(Vec::len), Some(1), "{list}");
    list["runs"][0].take()
}

#[test]
fn a_run_that_is_killed_between_many_segments_goes_on_to_its_end() {
    const STORIES: usize = 30;
    let env = board(STORIES);
    env.kills_runs();
    let mut arguments = vec!["run", "--concurrent", "4", "--json"];
    for _ in 0..2 {
        let mut run = env.ai_sdlc(&arguments).start();
        for _ in 0..8 {
            run.event("story_settled", "");
        }
        run.signal(Signal::KILL);
        assert!(run.ends_within(DEADLINE));
        drop(run);
        assert_eq!(listed(&env)["outcome"], "killed");
        assert!(!closed(&folder(&env)).is_empty());
        arguments = vec!["run", "--continue", "--json"];
    }
    env.ai_sdlc(&arguments).run().assert_code(0);

    for number in 1..=STORIES {
        let id = format!("S-{number:04}");
        assert_eq!(env.status(&id), "done", "{id}");
        assert_eq!(env.commits(&format!("ai-sdlc/{id}-work")).len(), 1, "{id}");
    }
    let row = listed(&env);
    assert_eq!(row["outcome"], "succeeded");
    assert_eq!(row["stories"]["succeeded"], STORIES);
    let folder = folder(&env);
    let closed = closed(&folder);
    assert!(closed.len() > 5, "{closed:?}");
    let compressed = closed.iter().filter(|name| name.contains(".gz"));
    assert!(compressed.count() > 0, "{closed:?}");
    let mut reader = Reader::<JournalRecord>::open(&folder.join("journal.jsonl")).unwrap();
    let records = reader.by_ref().map(Result::unwrap).count();
    assert_eq!(reader.tail(), Tail::Complete);
    let played = env.ai_sdlc(&["replay"]).run();
    played.assert_code(0);
    let expected = format!(", {records} records, ");
    assert!(played.stdout.contains(&expected), "{}", played.stdout);
}

#[test]
fn a_run_that_was_killed_between_two_segments_is_listed_and_goes_on() {
    let env = board(8);
    env.story("S-0009").script(HOLD).write();
    let gates = super::continuing::killed(&env, &["run", "--concurrent", "2"], &["S-0009"]);
    let folder = folder(&env);
    let open = folder.join("journal.jsonl");
    // Whatever the kill has cut off of a line, a segment that is closed has none.
    let bytes = fs::read(&open).unwrap();
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&open, &bytes[..whole]).unwrap();
    let last = closed(&folder)
        .iter()
        .map(|name| name[8..12].parse().unwrap())
        .max();
    let next: u32 = last.unwrap_or(0) + 1;
    fs::rename(&open, folder.join(format!("journal.{next:04}.jsonl"))).unwrap();

    let row = listed(&env);
    assert_eq!(row["outcome"], "killed", "{row}");
    env.ai_sdlc(&["replay"]).run().assert_code(0);
    gates.release("S-0009");
    env.ai_sdlc(&["run", "--continue"]).run().assert_code(0);
    let row = listed(&env);
    assert_eq!(row["outcome"], "succeeded", "{row}");
    assert_eq!(row["stories"]["succeeded"], 9, "{row}");
}

#[test]
fn a_segment_that_is_missing_is_told_of() {
    let env = board(12);
    env.ai_sdlc(&["run", "--concurrent", "2"])
        .run()
        .assert_code(0);
    let folder = folder(&env);
    let mut lost = closed(&folder);
    assert!(lost.len() > 2, "{lost:?}");
    lost.retain(|name| name.starts_with("journal.0002."));
    for name in lost {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let replay = env.ai_sdlc(&["replay"]).run();
    let open = folder.join("journal.jsonl");
    // A run that says how it ended is still listed, since that alone is read.
    assert_eq!(listed(&env)["outcome"], "succeeded");
    let text = fs::read_to_string(&open).unwrap();
    let (before_end, _) = text.trim_end().rsplit_once('\n').unwrap_or_default();
    fs::write(&open, format!("{before_end}\n")).unwrap();
    let row = listed(&env);
    fs::remove_file(&open).unwrap();
    assert_eq!(row["outcome"], "unknown");
    let error = row["error"].as_str().unwrap();
    assert!(error.ends_with("a later segment is there"), "{error}");
    let shown = replay.shown(&env);
    // How many records a segment has depends on what comes together.
    let (before, rest) = shown.split_once("--at ").unwrap();
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    insta::assert_snapshot!(format!("{before}--at N{after}"), @"
    exit: 2
    --- stderr
    error: <dir>/my répo/.ai-sdlc/runs/<run>/journal.0002.jsonl is missing, also in compressed form, and a later segment is there
    hint: --at N shows the run as it stood before the damage
    ");
}
