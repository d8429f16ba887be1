//! What holds for all patterns, checked against a second, simple reading of the grammar over all short paths.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{FileIndex, FilePattern};

/// The characters of the small world. The star has to be escaped, and is the one that most classes do not name.
const CHARACTERS: [char; 3] = ['a', 'b', '*'];

/// Segments with at most one element that is not a star, or at most two characters and no star. So what two of them
/// have in common includes a name of at most two characters.
const SMALL_SEGMENTS: &[&str] = &[
    "a", "b", "ab", "\\*", "\\a", "*", "?", "a*", "*b", "*a*", "**", "[ab]", "[!a]", "[^b]*",
    "*[a-b]", "[*]", "{a,b}", "{a,*}b", "{*,a}*", "b\\*", "??", "[!b]a", ".",
];

/// Longer segments, for which the small world does not hold every name.
const LARGE_SEGMENTS: &[&str] = &[
    "a*b*a", "*a*b*", "?*?", "**", "**", "[ab][!a]", "a*{b,*a}", "a{,b}a", "*", "ba*", "[!ab]*?",
    "{a/b,b}*", "{**/a,b}", "a", "b",
];

/// Patterns of at most two segments. So what two of them have in common includes a path of at most three segments.
fn small() -> impl Strategy<Value = String> {
    let one = (
        vec(select(SMALL_SEGMENTS), 1..=2),
        select(vec!["", "", "", "/"]),
    )
        .prop_map(|(segments, end)| segments.join("/") + end);
    prop_oneof![
        3 => one.clone(),
        1 => (one.clone(), one).prop_map(|(one, other)| format!("{{{one},{other}}}")),
    ]
}

fn large() -> impl Strategy<Value = String> {
    let end = select(vec!["", "", "/"]);
    (vec(select(LARGE_SEGMENTS), 1..=5), end).prop_map(|(segments, end)| segments.join("/") + end)
}

/// Texts made of what the grammar gives a meaning, rarely patterns.
fn noise() -> impl Strategy<Value = String> {
    let marks: Vec<char> = "ab*?[]{}!^-,\\/.é\u{d7ff}\u{10ffff}\n".chars().collect();
    prop_oneof![
        vec(select(marks), 0..24).prop_map(|marks| marks.into_iter().collect()),
        any::<String>(),
    ]
}

/// Every path of at most three segments of at most two characters.
fn world() -> Vec<Vec<String>> {
    let mut names: Vec<String> = CHARACTERS.iter().map(ToString::to_string).collect();
    for first in CHARACTERS {
        names.extend(CHARACTERS.map(|second| format!("{first}{second}")));
    }
    let mut paths = vec![Vec::new()];
    let mut longest = paths.clone();
    for _ in 0..3 {
        longest = longest
            .iter()
            .flat_map(|path| {
                names
                    .iter()
                    .map(|name| [path.as_slice(), std::slice::from_ref(name)].concat())
            })
            .collect();
        paths.extend(longest.iter().cloned());
    }
    paths.split_off(1)
}

/// The pattern as the texts without braces that it stands for.
fn without_braces(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut cuts = Vec::new();
    let mut is_escaped = false;
    for (place, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '{' => {
                depth += 1;
                if depth == 1 {
                    cuts.push(place);
                }
            }
            ',' if depth == 1 => cuts.push(place),
            '}' => {
                depth -= 1;
                if depth == 0 {
                    cuts.push(place);
                    break;
                }
            }
            _ => {}
        }
    }
    let (Some(first), Some(last)) = (cuts.first(), cuts.last()) else {
        return vec![text.to_owned()];
    };
    let (before, after) = (&text[..*first], &text[*last + 1..]);
    cuts.windows(2)
        .map(|cut| format!("{before}{}{after}", &text[cut[0] + 1..cut[1]]))
        .flat_map(|text| without_braces(&text))
        .collect()
}

/// Whether the pattern matches the path, by trying everything.
fn matches(text: &str, path: &[String]) -> bool {
    without_braces(text).iter().any(|text| {
        let mut segments: Vec<&str> = text.split('/').collect();
        segments.retain(|segment| !segment.is_empty() && *segment != ".");
        let is_wild = text.replace("\\*", "").contains(['*', '?', '[']);
        if !is_wild || text.ends_with('/') {
            segments.push("**");
        }
        path_matches(&segments, path)
    })
}

fn path_matches(segments: &[&str], path: &[String]) -> bool {
    match segments {
        [] => path.is_empty(),
        ["**", rest @ ..] => (0..=path.len()).any(|taken| path_matches(rest, &path[taken..])),
        [segment, rest @ ..] => path.split_first().is_some_and(|(name, path)| {
            let (segment, name) = (
                segment.chars().collect::<Vec<_>>(),
                name.chars().collect::<Vec<_>>(),
            );
            name_matches(&segment, &name) && path_matches(rest, path)
        }),
    }
}

fn name_matches(segment: &[char], name: &[char]) -> bool {
    if let ['*', rest @ ..] = segment {
        return (0..=name.len()).any(|taken| name_matches(rest, &name[taken..]));
    }
    let Some((character, name)) = name.split_first() else {
        return segment.is_empty();
    };
    match segment {
        [] => false,
        ['?', rest @ ..] => name_matches(rest, name),
        ['\\', escaped, rest @ ..] => escaped == character && name_matches(rest, name),
        ['[', rest @ ..] => {
            let end = rest.iter().position(|member| *member == ']').unwrap();
            let fits = match &rest[..end] {
                ['!' | '^', members @ ..] => !members.contains(character),
                // The only range is one without anything between its ends.
                [first, '-', last] => [first, last].contains(&character),
                members => members.contains(character),
            };
            fits && name_matches(&rest[end + 1..], name)
        }
        [own, rest @ ..] => own == character && name_matches(rest, name),
    }
}

/// A pattern, or none for the few texts that name nothing.
fn parsed(text: &str) -> Option<FilePattern> {
    FilePattern::parse(text).ok()
}

proptest! {
    #[test]
    fn patterns_overlap_exactly_when_a_path_matches_both((one, other) in (small(), small())) {
        let (Some(one_pattern), Some(other_pattern)) = (parsed(&one), parsed(&other)) else {
            return Ok(());
        };
        let common = world().into_iter().find(|path| matches(&one, path) && matches(&other, path));
        prop_assert_eq!(one_pattern.overlaps(&other_pattern), common.is_some(), "{:?}", common);
    }

    #[test]
    fn patterns_that_a_path_matches_overlap((one, other) in (large(), large())) {
        let (Some(one_pattern), Some(other_pattern)) = (parsed(&one), parsed(&other)) else {
            return Ok(());
        };
        if !one_pattern.overlaps(&other_pattern) {
            let common = world().into_iter().find(|path| matches(&one, path) && matches(&other, path));
            prop_assert_eq!(common, None);
        }
    }

    #[test]
    fn a_path_overlaps_with_what_matches_it(text in large(), path in select(world())) {
        let Some(pattern) = parsed(&text) else {
            return Ok(());
        };
        // A literal path stands for what is below it, too.
        if matches(&text, &path) {
            prop_assert!(pattern.overlaps(&FilePattern::literal(&path.join("/"))));
        }
    }

    #[test]
    fn overlapping_is_symmetric_and_reflexive((one, other) in (noise(), noise())) {
        if let Some(one) = parsed(&one) {
            prop_assert!(one.overlaps(&one));
            if let Some(other) = parsed(&other) {
                prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
            }
        }
    }

    #[test]
    fn patterns_and_paths_survive_being_written((text, path) in (noise(), noise())) {
        for pattern in parsed(&text).into_iter().chain([FilePattern::literal(&path)]) {
            let written = serde_json::to_string(&pattern).unwrap();
            let read: FilePattern = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read.alternatives(), pattern.alternatives());
            prop_assert_eq!(read, pattern);
        }
    }

    #[test]
    fn the_index_finds_whom_comparing_with_all_finds(
        changes in vec((any::<bool>(), 0_u32..4, prop_oneof![small(), large()]), 0..24),
        wanted in prop_oneof![small(), large()],
    ) {
        let mut index = FileIndex::default();
        let mut kept: BTreeSet<(u32, FilePattern)> = BTreeSet::new();
        for (is_removed, owner, text) in &changes {
            let Some(pattern) = parsed(text) else { continue };
            index.insert(*owner, &pattern);
            kept.insert((*owner, pattern.clone()));
            if let Some((owner, pattern)) = kept.first().cloned()
                && *is_removed
            {
                index.remove(owner, &pattern);
                kept.remove(&(owner, pattern));
            }
        }
        let mut rebuilt = FileIndex::default();
        for (owner, pattern) in kept.iter().rev() {
            rebuilt.insert(*owner, pattern);
        }
        prop_assert_eq!(&rebuilt, &index);
        if let Some(wanted) = parsed(&wanted) {
            let mut found = BTreeSet::new();
            index.overlapping(&wanted, |owner| {
                found.insert(owner);
            });
            let expected: BTreeSet<u32> = kept
                .iter()
                .filter(|(_, pattern)| pattern.overlaps(&wanted))
                .map(|(owner, _)| *owner)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
