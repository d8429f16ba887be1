//! The rules of the source tree, enforced: which module may use which, what pure files must not touch, and what must
//! not appear at all. `docs/architecture.md` has the reasons.

mod dependencies;
mod numbers;
mod purity;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

struct Source {
    /// Relative to `src`, with `/`.
    name: String,
    /// Without the tests at its end, and without comments.
    code: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let files = files(&src);
    let sources: Vec<_> = files.iter().map(|path| read(&src, path)).collect();
    assert!(sources.len() > 50, "only {} files found", sources.len());
    sources
}

/// The files of the language below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn read(src: &Path, path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(src).unwrap();
    let name = name
        .iter()
        .map(|part| part.to_str().unwrap())
        .collect::<Vec<_>>()
        .join("/");
    let is_test = [
        "agent/acp/tests.rs",
        "engine/files/properties.rs",
        "engine/properties.rs",
        "watch/tests.rs",
        "git/salvage/properties.rs",
        "git/salvage/tests.rs",
        "git/test_support.rs",
        "git/worktree_tests.rs",
        "process/cgroup/linux/tests.rs",
        "process/follow/tests.rs",
        "protocol/golden.rs",
        "protocol/samples.rs",
        "story/edit/tests.rs",
    ]
    .contains(&name.as_str());
    let kept = if is_test {
        ""
    } else {
        text.split("#[cfg(test)]\nmod tests").next().unwrap()
    };
    let code = kept
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect::<Vec<_>>()
        .concat();
    Source { name, code }
}

/// The module of a file: `engine` for `engine/plan.rs`, `diagnostics` for `diagnostics.rs`.
fn module(name: &str) -> &str {
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

fn is_part_of_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The paths and names in a piece of code.
fn words(code: &str) -> Vec<&str> {
    code.split(|c: char| !is_part_of_name(c) && c != ':')
        .filter(|word| !word.is_empty())
        .collect()
}
