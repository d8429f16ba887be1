//! What must not appear, where things live, and how much there may be of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{files, root, sources};

/// What may appear only below some paths (none: nowhere).
const CONFINED: &[(&str, &[&str])] = &[
    ("unsafe ", &["process/"]),
    (
        "bincode",
        &[
            "protocol/codec.rs",
            "protocol/mod.rs",
            "protocol/message.rs",
            "lib.rs",
        ],
    ),
    ("agent_client_protocol_schema", &["agent/acp/"]),
    ("git2::", &["git/"]),
    ("serde_saphyr", &["story/tree.rs"]),
    ("notify::", &["watch/ear.rs"]),
    (
        "io::stdout",
        &["report/", "process/follow.rs", "process/own_output.rs"],
    ),
    ("io::stderr", &["report/", "diagnostics.rs"]),
    ("println!", &[]),
    ("waitpid(-1", &[]),
    ("process::exit", &[]),
    ("unbounded_channel", &[]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("dbg!", &[]),
    ("FIXME", &[]),
    ("XXX", &[]),
];

/// The most packages that the lock file may hold. Every one is code that users have to trust; raise it only with the
/// reason in the commit.
const MOST_PACKAGES: usize = 230;

/// The most lines of one file, tests included.
const LONGEST_FILE: usize = 700;

#[test]
fn confined_things_stay_where_they_belong() {
    let mut broken = Vec::new();
    for source in sources() {
        for (text, homes) in CONFINED {
            let at_home = homes.iter().any(|home| source.name.starts_with(home));
            if source.code.contains(text) && !at_home {
                broken.push(format!("{} has `{text}`", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn agents_are_named_only_by_their_module() {
    let mut broken = Vec::new();
    for source in sources() {
        for agent in [
            "\"script\"",
            "\"mock\"",
            "\"claude\"",
            "\"codex\"",
            "\"gemini\"",
        ] {
            if source.code.contains(agent) && !source.name.starts_with("agent/") {
                broken.push(format!("{} names {agent}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_module_says_what_it_is_for() {
    for path in own_files() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//!"),
            "{} starts without its purpose",
            path.display()
        );
    }
}

#[test]
fn no_file_is_so_long_that_one_has_to_scroll_to_understand_it() {
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<String> = own_files()
        .map(|path| (lines(&path), path))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

fn own_files() -> impl Iterator<Item = PathBuf> {
    ["src", "tests"]
        .into_iter()
        .flat_map(|folder| files(&root().join(folder)))
}

#[test]
fn the_top_of_the_repository_holds_nothing_unexpected() {
    let expected = [
        ".ci",
        ".git",
        ".gitignore",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "docs",
        "proptest-regressions",
        "src",
        "target",
        "tests",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            expected.contains(&name.as_str()),
            "unexpected at the top: {name}"
        );
    }
}

#[test]
fn the_lock_file_stays_below_its_ceiling() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let packages = lock.matches("[[package]]").count();
    assert!(
        packages <= MOST_PACKAGES,
        "{packages} packages: is the new one needed?"
    );
}

#[test]
fn the_stated_rust_version_is_not_below_that_of_a_dependency() {
    // Those of other platforms need not be on this machine.
    let host = cargo(&["-vV"]);
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let metadata = cargo(&[
        "metadata",
        "--format-version=1",
        "--offline",
        "--locked",
        "--filter-platform",
        host,
    ]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let version =
        |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let packages = metadata["packages"].as_array().unwrap();
    let own = packages
        .iter()
        .find(|package| package["name"] == "ai-sdlc")
        .unwrap();
    let stated = version(own["rust_version"].as_str().unwrap());
    for package in packages {
        if let Some(needed) = package["rust_version"].as_str() {
            assert!(
                version(needed)[..2] <= stated[..2],
                "{} needs {needed}",
                package["name"]
            );
        }
    }
}

fn cargo(arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
