//! The rules of the source tree, enforced: which module may use which, what pure files must not touch, and what must
//! not appear at all. `docs/architecture.md` has the reasons.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

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
    ("report", &["engine", "story"]),
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

/// Files without I/O, clocks, tokio or printing. A folder stands for all of its files.
const PURE: &[&str] = &[
    "agent/acp",
    "agent/answer.rs",
    "agent/claude.rs",
    "agent/codex.rs",
    "agent/command.rs",
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

struct Source {
    /// Relative to `src`, with `/`.
    name: String,
    /// Without the tests at its end, and without comments.
    code: String,
    lines: usize,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut sources = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources.push(read(&src, &path));
            }
        }
    }
    assert!(sources.len() > 50, "only {} files found", sources.len());
    sources
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
    Source {
        name,
        code,
        lines: text.lines().count(),
    }
}

/// The module of a file: `engine` for `engine/plan.rs`, `diagnostics` for `diagnostics.rs`.
fn module(name: &str) -> &str {
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

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

fn is_part_of_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The paths and names in a piece of code.
fn words(code: &str) -> Vec<&str> {
    code.split(|c: char| !is_part_of_name(c) && c != ':')
        .filter(|word| !word.is_empty())
        .collect()
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

/// What would be a rule of a run: the engine's settings hold those.
const POLICY: &[&str] = &[
    "Duration::",
    "RetryPolicy",
    "Intensity",
    "Patience",
    "Limits",
    "Deadlines",
];

/// The numbers of the orchestrator, each with the reason for which it is no rule of a run.
const NUMBERS: &[(&str, &str, &str)] = &[
    (
        "orchestrator/board.rs",
        "REASON_LENGTH",
        "how much of a text fits into a story file",
    ),
    (
        "orchestrator/driver/mod.rs",
        "WAITING_COMMANDS",
        "the bound of a queue that is never full",
    ),
    (
        "orchestrator/driver/mod.rs",
        "MOST_ENTRIES",
        "how much of the board is written at once",
    ),
    (
        "orchestrator/signals.rs",
        "WAITING",
        "the bound of a queue: a third signal ends the run",
    ),
    (
        "orchestrator/signals.rs",
        "CUT_OFF",
        "the exit code of a process that hangs",
    ),
    (
        "orchestrator/log_tail.rs",
        "BYTES",
        "how much of a log is shown",
    ),
    (
        "orchestrator/log_tail.rs",
        "LINES",
        "how much of a log is shown",
    ),
    (
        "orchestrator/log_tail.rs",
        "LINE_LENGTH",
        "how much of a log is shown",
    ),
    (
        "orchestrator/mod.rs",
        "WAITING_MESSAGES",
        "the bound of a queue: who writes waits, and nothing is lost",
    ),
    (
        "orchestrator/run_lock.rs",
        "LONGEST_DESCRIPTION",
        "the bound of what is read from a file",
    ),
    (
        "orchestrator/unit.rs",
        "WAITING_WORDS",
        "the bound of a queue: who does not read is signalled",
    ),
    (
        "orchestrator/sentry.rs",
        "MOST_NAMED",
        "how many files a remark names",
    ),
];

/// The names of the constants and statics of a piece of code that are numbers or times, or made of them.
fn numbers(code: &str) -> Vec<&str> {
    let is_number = |kind: &str| {
        let mut words = words(kind).into_iter();
        words.any(|word| {
            let word = word.rsplit("::").next().unwrap();
            let sized = word.strip_prefix(['u', 'i', 'f']).unwrap_or("no size");
            word == "Duration"
                || word == "Moment"
                || word.starts_with("NonZero")
                || sized == "size"
                || sized.parse::<u8>().is_ok()
        })
    };
    let constants = code.lines().filter_map(|line| {
        let item = line.trim_start();
        let item = match item.strip_prefix("pub") {
            Some(rest) => rest.split_once(' ')?.1,
            None => item,
        };
        let item = item
            .strip_prefix("const ")
            .or_else(|| item.strip_prefix("static "))?;
        let (name, rest) = item.split_once(':')?;
        let kind = rest.split('=').next()?;
        let is_name = name.chars().all(is_part_of_name);
        (is_name && is_number(kind)).then(|| name.trim())
    });
    constants.collect()
}

#[test]
fn the_orchestrator_has_no_rules_of_its_own() {
    let sources = sources();
    let of_orchestrator = sources
        .iter()
        .filter(|source| source.name.starts_with("orchestrator/"));
    let mut broken = Vec::new();
    let mut unused: Vec<_> = NUMBERS.to_vec();
    for source in of_orchestrator {
        for policy in POLICY {
            // No time is no rule.
            if source.code.replace("Duration::ZERO", "").contains(policy) {
                broken.push(format!("{} has `{policy}`", source.name));
            }
        }
        for name in numbers(&source.code) {
            let is_it =
                |(file, known, _): &(&str, &str, &str)| *file == source.name && *known == name;
            if !NUMBERS.iter().any(is_it) {
                broken.push(format!("{} has the number {name}", source.name));
            }
            unused.retain(|known| !is_it(known));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(unused.is_empty(), "not there any more: {unused:#?}");
}

#[test]
fn numbers_are_found_in_every_form() {
    let code = "const A: Duration = X;\npub(super) const B: std::time::Duration = X;\nstatic C: u64 = 3;\n    \
                const D: [u8; 2] = [1, 2];\npub const E: Option<NonZeroU32> = None;\nconst F: &str = \"5\";\n\
                const G: f64 = 0.5;\nconst fn h(x: u8) {}\nconst I: &[Key] = &[];\nconst J: usize =\n    5;";
    assert_eq!(numbers(code), ["A", "B", "C", "D", "E", "G", "J"]);
}

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
    for folder in [root().join("src"), root().join("tests")] {
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    assert!(
                        text.starts_with("//!"),
                        "{} starts without its purpose",
                        path.display()
                    );
                }
            }
        }
    }
}

#[test]
fn no_file_is_so_long_that_one_has_to_scroll_to_understand_it() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > LONGEST_FILE)
        .map(|source| format!("{} has {} lines", source.name, source.lines))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
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
