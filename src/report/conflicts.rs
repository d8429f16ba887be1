//! Branches that cannot be merged, in few enough lines for people.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::style::plural;
use crate::engine::Conflict;
use crate::story::StoryId;

/// The most files of a conflict that a line names.
const MOST_FILES: usize = 3;
/// The most pairs that a summary names; when there are more it groups them by file.
const MOST_PAIRS: usize = 5;
/// The most files by which a summary groups them.
const MOST_GROUPS: usize = 10;
/// The most stories of a group that are named.
const MOST_STORIES: usize = 8;

/// One pair.
pub(super) fn pair(conflict: &Conflict) -> String {
    let Conflict { one, other, files } = conflict;
    format!("{one} and {other} cannot be merged in {}", shortened(files))
}

/// All pairs of a run.
pub(super) fn summary(conflicts: &[Conflict]) -> Vec<String> {
    if conflicts.len() <= MOST_PAIRS {
        return conflicts.iter().map(pair).collect();
    }
    let mut by_file: BTreeMap<&str, (usize, BTreeSet<&StoryId>)> = BTreeMap::new();
    for conflict in conflicts {
        for file in &conflict.files {
            let (pairs, stories) = by_file.entry(file).or_default();
            *pairs += 1;
            stories.extend([&conflict.one, &conflict.other]);
        }
    }
    let mut groups: Vec<_> = by_file.into_iter().collect();
    groups.sort_by_key(|(_, (pairs, _))| Reverse(*pairs));
    let pairs = plural(conflicts.len(), "pair", "pairs");
    let mut lines = vec![format!("{pairs} of branches cannot be merged:")];
    lines.extend(
        groups
            .iter()
            .take(MOST_GROUPS)
            .map(|(file, (pairs, stories))| {
                let named = stories.iter().take(MOST_STORIES).map(|id| id.as_str());
                let named = named.collect::<Vec<_>>().join(", ");
                let more = match stories.len().saturating_sub(MOST_STORIES) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!(
                    "{file}: {named}{more} ({})",
                    plural(*pairs, "pair", "pairs")
                )
            }),
    );
    let more = groups.len().saturating_sub(MOST_GROUPS);
    if more > 0 {
        lines.push(format!(
            "and in {}",
            plural(more, "other file", "other files")
        ));
    }
    lines
}

/// A list of files that fits a line.
pub(super) fn shortened(files: &[String]) -> String {
    let shown = files.iter().take(MOST_FILES).map(String::as_str);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(MOST_FILES) {
        0 => shown,
        more => format!("{shown} and {}", plural(more, "other file", "other files")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(one: usize, other: usize, files: &[String]) -> Conflict {
        let id = |number| format!("S-{number:02}").parse().unwrap();
        Conflict {
            one: id(one),
            other: id(other),
            files: files.to_vec(),
        }
    }

    #[test]
    fn few_pairs_are_named_one_by_one() {
        let file = ["a".to_owned()];
        let few: Vec<Conflict> = (1..=5).map(|other| conflict(0, other, &file)).collect();
        assert_eq!(summary(&few).len(), 5);
        assert_eq!(summary(&few)[0], "S-00 and S-01 cannot be merged in a");
    }

    #[test]
    fn many_pairs_are_grouped_by_file_and_bounded() {
        let shared = ["shared".to_owned()];
        let mut many = Vec::new();
        for one in 0..31 {
            many.extend((one + 1..31).map(|other| conflict(one, other, &shared)));
        }
        assert_eq!(
            summary(&many),
            [
                "465 pairs of branches cannot be merged:",
                "shared: S-00, S-01, S-02, S-03, S-04, S-05, S-06, S-07 and 23 more (465 pairs)",
            ]
        );
        let files: Vec<String> = (0..20).map(|number| format!("f{number:02}")).collect();
        many.push(conflict(40, 41, &files));
        let lines = summary(&many);
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[2], "f00: S-40, S-41 (1 pair)");
        assert_eq!(lines[11], "and in 11 other files");
    }
}
