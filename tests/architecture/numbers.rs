//! The orchestrator has no rules of its own: numbers are the engine's.

use super::{is_part_of_name, sources, words};

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
