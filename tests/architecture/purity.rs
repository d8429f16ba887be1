//! Files that touch nothing outside: no clock, no disk, no process, no terminal.

use super::{is_part_of_name, sources, words};

/// Files without I/O, clocks, tokio or printing. A folder stands for all of its files.
const PURE: &[&str] = &[
    "agent/acp",
    "agent/answer.rs",
    "agent/claude.rs",
    "agent/codex.rs",
    "agent/command.rs",
    "agent/conclusion.rs",
    "agent/event.rs",
    "agent/gemini.rs",
    "agent/json.rs",
    "agent/messages.rs",
    "agent/mock.rs",
    "agent/opencode.rs",
    "agent/place.rs",
    "agent/prompt.rs",
    "agent/qwen.rs",
    "agent/script.rs",
    "agent/tally.rs",
    "agent/turn.rs",
    "cli/args.rs",
    "disk/amount.rs",
    "engine",
    "executor/lines.rs",
    "journal/record.rs",
    "protocol/codec.rs",
    "protocol/identity.rs",
    "protocol/message.rs",
    "protocol/text.rs",
    "report/event.rs",
    "setup/detect.rs",
    "setup/include.rs",
    "story/edit",
    "story/edit.rs",
    "story/fields.rs",
    "story/front_matter",
    "story/front_matter.rs",
    "story/graph.rs",
    "story/id.rs",
    "story/new_story.rs",
    "story/plan_files.rs",
    "story/scalar.rs",
    "story/title.rs",
    "story/tree.rs",
];

/// Paths that a pure file must not import or name. Each stands for all that is below it.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "git2",
    "jiff",
    "notify",
    "rustix",
    "tokio",
];

/// What a pure file must not call, however it was imported.
const IMPURE_CALLS: &[&str] = &[
    "env::",
    "fs::",
    "net::",
    "thread::",
    "Instant::",
    "SystemTime::",
    "io::stderr",
    "io::stdin",
    "io::stdout",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dbg!",
];

#[test]
fn pure_files_touch_nothing_outside() {
    let sources = sources();
    let mut broken = Vec::new();
    for pure in PURE {
        let is_meant = |name: &str| name == *pure || name.starts_with(&format!("{pure}/"));
        let mut found = sources
            .iter()
            .filter(|source| is_meant(&source.name))
            .peekable();
        assert!(found.peek().is_some(), "there is no {pure}");
        for source in found {
            let impurities = impurities(&source.code).into_iter();
            broken.extend(impurities.map(|found| format!("{} names {found}", source.name)));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What is impure in a piece of code.
fn impurities(code: &str) -> Vec<String> {
    let is_below = |path: &str, impure: &str| {
        path.strip_prefix(impure)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let mut found: Vec<String> = imports(code)
        .into_iter()
        .filter(|path| {
            // Whoever imports all of a module imports what is impure in it.
            let all = path.strip_suffix("*").unwrap_or("no glob");
            IMPURE
                .iter()
                .any(|impure| is_below(path, impure) || impure.starts_with(all))
        })
        .collect();
    let outside = [
        "std::", "tokio::", "rustix::", "git2::", "jiff::", "notify::",
    ];
    let is_outside = |path: &&str| outside.iter().any(|start| path.starts_with(start));
    let paths = words(code).into_iter().filter(is_outside);
    let named = paths.filter(|path| IMPURE.iter().any(|impure| is_below(path, impure)));
    found.extend(named.map(str::to_owned));
    let calls = IMPURE_CALLS.iter().filter(|call| {
        code.match_indices(**call)
            .any(|(place, _)| !code[..place].ends_with(is_part_of_name))
    });
    found.extend(calls.map(|call| (*call).to_owned()));
    found
}

/// Every path that is imported, one for each name: groups are taken apart, and new names do not count.
fn imports(code: &str) -> Vec<String> {
    let code = code.replace("pub(super) ", "").replace("pub(crate) ", "");
    let mut paths = Vec::new();
    for (place, _) in code.match_indices("use ") {
        let starts = code[..place].trim_end_matches(' ');
        if !(starts.is_empty()
            || starts.ends_with(['\n', ';', '{', '}'])
            || starts.ends_with("pub"))
        {
            continue;
        }
        let tree = code[place + 4..].split(';').next().unwrap();
        take_apart("", tree, &mut paths);
    }
    paths
}

fn take_apart(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap().trim();
        let path = format!("{prefix}{}", name.trim_start_matches("::"));
        paths.push(path.strip_suffix("::self").unwrap_or(&path).to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", before.trim().trim_start_matches("::"));
    let group = group.rsplit_once('}').map_or(group, |(inner, _)| inner);
    let (mut depth, mut start) = (0, 0);
    for (place, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                take_apart(&prefix, &group[start..place], paths);
                start = place + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        take_apart(&prefix, &group[start..], paths);
    }
}

#[test]
fn what_is_impure_is_found_in_every_form() {
    for code in [
        "use std::fs;",
        "use std::{env, fmt};",
        "use std::{\n    fmt,\n    io::{self, stdout},\n};",
        "pub(super) use std::fs as files;",
        "use std::fs::{self, File};",
        "use std::time::{Duration, Instant};",
        "use std::time::*;",
        "use std::*;",
        "use ::tokio::sync::mpsc;",
        "fn f() {\n    use std::thread;\n}",
        "let x = std::process::id();",
        "let text = fs::read(path);",
        "std::env::var(\"A\")",
        "print!(\"x\");",
        "eprint!(\"x\");",
        "let now = Instant::now();",
        "io::stdin().lock()",
    ] {
        assert!(!impurities(code).is_empty(), "{code}");
    }
    for code in [
        "use std::fmt;\nuse std::{collections::BTreeMap, time::Duration};",
        "use crate::process::GroupExit;",
        "let used = offs::x + my_fs::y;",
        "env!(\"CARGO_PKG_VERSION\")",
        "writeln!(text, \"because\")",
        "because tokio_like",
    ] {
        assert_eq!(impurities(code), Vec::<String>::new(), "{code}");
    }
}
