//! Which module may use which.

use std::collections::BTreeMap;

use super::{module, sources};

/// What each module may use, itself aside. A name with a path means that part alone.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "agent",
            "config",
            "diagnostics",
            "disk",
            "engine",
            "executor",
            "git",
            "journal",
            "launcher",
            "orchestrator",
            "process",
            "protocol",
            "report",
            "setup",
            "story",
        ],
    ),
    (
        "orchestrator",
        &[
            "disk", "engine", "git", "journal", "launcher", "process", "protocol", "report",
            "setup", "story", "watch",
        ],
    ),
    (
        "setup",
        &[
            "config",
            "diagnostics",
            "engine",
            "git",
            "process",
            "protocol",
            "report",
            "story",
        ],
    ),
    (
        "executor",
        &[
            "agent",
            "diagnostics",
            "engine",
            "git",
            "process",
            "protocol",
            "report",
            "story",
        ],
    ),
    ("launcher", &["engine", "process", "protocol"]),
    ("protocol", &["engine", "story"]),
    ("agent", &["process"]),
    ("git", &["engine", "process", "story"]),
    ("report", &["disk", "engine", "story"]),
    ("config", &["disk", "engine"]),
    ("disk", &[]),
    ("diagnostics", &["report"]),
    ("journal", &["disk"]),
    ("watch", &["story"]),
    ("process", &[]),
    ("story", &[]),
    // Ids, statuses and the graph of dependencies are the vocabulary of decisions, and as pure as the engine.
    ("engine", &["story"]),
];

#[test]
fn modules_use_only_what_stands_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut broken = Vec::new();
    for source in sources() {
        let module = module(&source.name);
        if module == "lib" || module == "main" {
            continue;
        }
        let allowed = allowed
            .get(module)
            .unwrap_or_else(|| panic!("{module} has no rule: add it to MAY_USE"));
        for used in used_modules(&source.code) {
            if used != module && !allowed.contains(&used.as_str()) {
                broken.push(format!("{} uses {used}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Every `x` of `crate::x` and of `crate::{x, …}`.
fn used_modules(code: &str) -> Vec<String> {
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => first_names(group),
            None => vec![leading_name(rest)],
        })
        .collect()
}

/// The first name of every item of a group that has just been opened.
fn first_names(group: &str) -> Vec<String> {
    let mut names = vec![leading_name(group)];
    let mut depth = 1;
    for (place, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(leading_name(&group[place + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn leading_name(text: &str) -> String {
    let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    text.trim_start().chars().take_while(is_part).collect()
}

#[test]
fn uses_are_found_in_every_form() {
    let code =
        "use crate::{agent, cli::args::{A, B}};\nlet x = crate::git::open(crate::story_like);";
    assert_eq!(used_modules(code), ["agent", "cli", "git", "story_like"]);
}

#[test]
fn the_engine_uses_only_pure_parts_of_the_story_module() {
    let allowed = [
        "story::StoryId",
        "story::Status",
        "story::Cycle",
        "story::graph",
        "story::{",
        "story::id",
    ];
    for source in sources()
        .iter()
        .filter(|source| source.name.starts_with("engine/"))
    {
        for rest in source.code.split("crate::story").skip(1) {
            let used = format!("story{}", rest.lines().next().unwrap());
            assert!(
                allowed.iter().any(|name| used.starts_with(name)),
                "{} uses {used}",
                source.name
            );
            for impure in ["Store", "Board", "board", "store", "file"] {
                assert!(!used.contains(impure), "{} uses {used}", source.name);
            }
        }
    }
}
