//! The files that a story's plan names: the file lists of the tasks in `plan.md`, as the predecessor's planner writes
//! them. Pure.
//!
//! ````markdown
//! ## Implementation Tasks
//!
//! - [ ] **T1**: Add the page
//!   - Files: `src/page.rs`, `src/main.rs` (new route)
//!   - Dependencies: none
//! ````
//!
//! Only what the lists say is read, whatever task they belong to. People and models write plans, so that a plan which
//! follows no rule gives fewer files, never an error.

use std::collections::HashSet;

/// The most files that are taken from a plan. Plans of people and models name tens; the limit is for texts that are
/// no plans.
pub const MAX_PLANNED_FILES: usize = 1000;

/// What the section of the tasks is called.
const SECTION: &str = "Implementation Tasks";

/// What stands in a list that names no file.
const NO_FILES: [&str; 2] = ["none", "n/a"];

/// The files of the first section `## Implementation Tasks`, up to the next heading of that level: each once, as
/// written, in the order of the text, at most [`MAX_PLANNED_FILES`]. They may be patterns, and need not exist.
///
/// What cannot be a file of the repository is left out: absolute paths, and everything with `..` in it.
pub fn planned_files(text: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    section(prose(text))
        .filter_map(list)
        .flat_map(entries)
        .map(file)
        .filter(|file| is_possible(file) && seen.insert(*file))
        .take(MAX_PLANNED_FILES)
        .map(str::to_owned)
        .collect()
}

/// The lines outside of fenced code blocks. A block that is not closed goes on to the end.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut open: Option<&str> = None;
    text.lines().filter(move |line| {
        let is_outside = open.is_none();
        match (open, fence(line)) {
            (None, fence) => open = fence,
            (Some(opening), Some(mark)) if mark.starts_with(opening) && line.trim() == mark => {
                open = None;
            }
            (Some(_), _) => {}
        }
        is_outside && open.is_none()
    })
}

/// The marks of a line that opens or closes a code block. The indentation does not count: within a list it may be
/// any.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|mark| "`~".contains(*mark))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    line.get(..length).filter(|marks| marks.len() >= 3)
}

/// The lines below the heading of the tasks.
fn section<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let is_heading = |line: &str| {
        let name = line.strip_prefix("## ").map(str::trim);
        name.is_some_and(|name| name.eq_ignore_ascii_case(SECTION))
    };
    lines
        .skip_while(move |line| !is_heading(line))
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
}

/// What a line such as `- Files: a, b` or `* **File:** a` lists.
fn list(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let item = ["- ", "* ", "+ "]
        .iter()
        .find_map(|bullet| line.strip_prefix(bullet))?;
    let (label, listed) = item.split_once(':')?;
    let label = label.trim();
    let name = label.trim_start_matches(['*', '_']);
    let emphasis = label.get(..label.len() - name.len())?;
    // The emphasis ends before the colon or behind it. What is listed may itself begin with `*`.
    let (name, listed) = match name.strip_suffix(emphasis) {
        Some(name) => (name, listed),
        None => (name, listed.strip_prefix(emphasis)?),
    };
    let name = name.trim();
    let is_list = ["files", "file"]
        .iter()
        .any(|label| name.eq_ignore_ascii_case(label));
    is_list.then_some(listed)
}

/// The parts between commas, except those commas within parentheses (of a note) and braces (of a pattern).
fn entries(listed: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    listed.split(move |character| {
        match character {
            '(' | '{' => depth += 1,
            ')' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
}

/// The file of an entry: what is in backticks, else the entry without a note in parentheses behind it.
fn file(entry: &str) -> &str {
    let entry = entry.trim();
    let file = match entry.strip_prefix('`') {
        Some(quoted) => quoted.split('`').next().unwrap_or_default(),
        // Without a space before it, a parenthesis is part of the name: `app/(shop)/page.tsx`.
        None => entry.split(" (").next().unwrap_or_default(),
    };
    file.trim().trim_matches('`')
}

fn is_possible(file: &str) -> bool {
    let word = file.trim_end_matches('.');
    let means_nothing = NO_FILES.iter().any(|none| word.eq_ignore_ascii_case(none));
    !(file.is_empty() || means_nothing || file.starts_with('/') || file.contains(".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn below_the_heading(lines: &str) -> Vec<String> {
        planned_files(&format!(
            "---\n\n*Generated: 2026-01-15*\n\n# Plan\n\n## Implementation Tasks\n{lines}"
        ))
    }

    #[test]
    fn the_lists_of_all_tasks_are_taken_in_their_order() {
        let plan = "\n- [ ] **T1**: Add `x.rs`\n  - Files: `src/b.rs`, src/a.rs\n  - Dependencies: none\n\
                    - [x] **T2**: More\n  - Files: src/a.rs,src/{c,d}.rs , docs/*.md\n  - Dependencies: T1\n";
        let expected = ["src/b.rs", "src/a.rs", "src/{c,d}.rs", "docs/*.md"];
        assert_eq!(below_the_heading(plan), expected);
        assert_eq!(below_the_heading(&plan.replace('\n', "\r\n")), expected);
    }

    #[test]
    fn lists_outside_of_the_section_are_not_read() {
        let around = "## Files\n- Files: no.rs\n\n## implementation tasks \n### Part\n- Files: yes.rs\n\n\
                      ## Risks\n- Files: no.rs\n## Implementation Tasks\n- Files: no.rs\n";
        assert_eq!(planned_files(around), ["yes.rs"]);
        for without in [
            "",
            "- Files: a",
            "# Implementation Tasks\n- Files: a",
            "## Tasks\n- Files: a",
        ] {
            assert!(planned_files(without).is_empty(), "{without:?}");
        }
    }

    #[test]
    fn the_label_may_be_written_in_many_ways() {
        for label in [
            "  - Files:",
            "    * files:",
            "+ FILE:",
            "\t- **Files**:",
            "- **Files:**",
            "- _File_ :",
            "-   Files:",
        ] {
            let expected = ["*.md", "a.rs"];
            assert_eq!(
                below_the_heading(&format!("{label} *.md, a.rs")),
                expected,
                "{label}"
            );
        }
        for other in [
            "Files: a",
            "-Files: a",
            "- Profiles: a",
            "- Files a",
            "- **Files: a",
            "- [ ] Files: a",
        ] {
            assert!(below_the_heading(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn notes_are_cut_off_and_what_is_no_file_of_the_repository_is_left_out() {
        let cases: [(&str, &[&str]); 8] = [
            ("src/a.rs (new, with tests), b", &["src/a.rs", "b"]),
            (
                "`src/a.rs` (new), `b c.txt` - new",
                &["src/a.rs", "b c.txt"],
            ),
            ("app/(shop)/page.tsx (new)", &["app/(shop)/page.tsx"]),
            ("a (open, b.rs", &["a"]),
            ("`a, b`", &["a", "b"]),
            ("none, N/A, None., None (docs only), , ``, `", &[]),
            ("/etc/passwd, ../a, b/../../c, `/d`", &[]),
            (" ünï/côdé.rs ,", &["ünï/côdé.rs"]),
        ];
        for (listed, expected) in cases {
            assert_eq!(
                below_the_heading(&format!("  - Files: {listed}\n")),
                expected,
                "{listed}"
            );
        }
    }

    #[test]
    fn code_blocks_are_not_read() {
        let plan = "```md\n## Implementation Tasks\n- Files: no.rs\n```\n## Implementation Tasks\n  ~~~~\n- Files: no.rs\n\
                    ~~~\n## Next\n  ~~~~\n- Files: yes.rs\n```sh\n- Files: no.rs\n``` x\n- Files: no.rs\n";
        assert_eq!(planned_files(plan), ["yes.rs"]);
    }

    #[test]
    fn a_plan_of_very_many_files_is_cut() {
        let names: Vec<_> = (0..MAX_PLANNED_FILES + 5)
            .map(|n| format!("f{n}"))
            .collect();
        let files = below_the_heading(&format!("- Files: f0, {}", names.join(", ")));
        assert_eq!(files, names[..MAX_PLANNED_FILES]);
    }

    proptest! {
        #[test]
        fn any_text_gives_only_possible_files(text in any::<String>(), lines in "([-*+ `~(){},.:/#a\n]|Files:|## ){0,60}") {
            for files in [planned_files(&text), below_the_heading(&text), below_the_heading(&lines)] {
                prop_assert!(files.iter().all(|file| is_possible(file) && file.trim() == file));
            }
        }

        #[test]
        fn plain_names_come_back(names in prop::collection::hash_set("[a-m]{1,4}(/[a-m]{1,4}){0,2}\\.rs", 0..20)) {
            let names: Vec<String> = names.into_iter().collect();
            prop_assert_eq!(below_the_heading(&format!("  - Files: {}\n", names.join(", "))), names.clone());
            prop_assert_eq!(below_the_heading(&format!("  - Files: `{}`\n", names.join("`, `"))), names);
        }
    }
}
