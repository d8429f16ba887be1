//! Which files that git ignores belong into a worktree, of those that were found. Pure.

use std::path::{Component, Path, PathBuf};

use crate::git::IgnoredFiles;

/// The file, in the root of the main checkout, that says what is copied into worktrees, in the syntax of `.gitignore`.
pub(super) const INCLUDE_FILE: &str = ".worktreeinclude";

/// What is copied when there is no such file.
pub(super) const DEFAULT_PATTERN: &str = ".env*";

/// The most files that are copied. More than that is no configuration, but what an install command makes.
pub(super) const MOST_FILES: usize = 10_000;

/// The most that they hold together, in bytes.
pub(super) const MOST_BYTES: u64 = 1024 * 1024 * 1024;

/// The folder whose files are only copied when the include file names it: thousands of packages bring files that a pattern
/// happens to match.
const PACKAGES: &str = "node_modules";

/// What a user can do about too much.
pub(super) const HINT: &str =
    "name less in .worktreeinclude: what a command can make is made by `worktree.install`";

/// The files to copy, of those that were found.
///
/// # Errors
/// When there are too many.
pub(super) fn select(
    found: IgnoredFiles,
    never_below: &[PathBuf],
    include: Option<&str>,
) -> Result<Vec<PathBuf>, String> {
    let with_packages = include.is_some_and(names_packages);
    let is_meant = |path: &PathBuf| {
        let within = path
            .components()
            .all(|part| matches!(part, Component::Normal(name) if name != ".git"));
        // A repository within the checkout is one path that ends so.
        let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let in_packages = path.iter().any(|part| part == PACKAGES);
        within
            && !is_folder
            && (with_packages || !in_packages)
            && !never_below.iter().any(|folder| path.starts_with(folder))
    };
    let files: Vec<PathBuf> = found.paths.into_iter().filter(is_meant).collect();
    if files.len() > MOST_FILES || found.is_cut {
        return Err(format!(
            "more than {MOST_FILES} ignored files would be copied into it ({HINT})"
        ));
    }
    Ok(files)
}

fn names_packages(include: &str) -> bool {
    let lines = include.lines().map(str::trim_start);
    lines
        .filter(|line| !line.starts_with(['#', '!']))
        .any(|line| line.contains(PACKAGES))
}

/// Where a copy of a symbolic link leads, so that it leads to the same place: as it is, unless it is a relative one that
/// leads out of the checkout.
pub(super) fn link_target(checkout: &Path, link: &Path, target: &Path) -> PathBuf {
    if target.is_absolute() {
        return target.to_owned();
    }
    let folder = link.parent().unwrap_or(Path::new(""));
    let mut depth = folder.components().count();
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => return checkout.join(folder).join(target),
            Component::ParentDir => depth -= 1,
            _ => {}
        }
    }
    target.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selected(paths: &[&str], include: Option<&str>) -> Vec<String> {
        let found = IgnoredFiles {
            paths: paths.iter().map(PathBuf::from).collect(),
            is_cut: false,
        };
        let never = [PathBuf::from(".ai-sdlc"), PathBuf::from("trees")];
        let files = select(found, &never, include).unwrap();
        let names = files.iter().map(|path| path.to_str().unwrap().to_owned());
        names.collect()
    }

    #[test]
    fn the_board_the_worktrees_and_other_repositories_are_left_out() {
        let found = [
            ".env",
            ".ai-sdlc/.env",
            "trees/S-0001-x/.env",
            "other/",
            "other/.git/config",
            "trees-of-mine/.env",
        ];
        assert_eq!(selected(&found, None), [".env", "trees-of-mine/.env"]);
    }

    #[test]
    fn packages_are_left_out_unless_they_are_named() {
        let found = [".env", "a/node_modules/x/.env"];
        assert_eq!(selected(&found, None), [".env"]);
        let include = "# node_modules\n!node_modules\n.env*\n";
        assert_eq!(selected(&found, Some(include)), [".env"]);
        assert_eq!(selected(&found, Some("/a/node_modules/\n.env")), found);
    }

    #[test]
    fn too_many_are_none() {
        let path = PathBuf::from("x");
        let found = |count, is_cut| IgnoredFiles {
            paths: vec![path.clone(); count],
            is_cut,
        };
        assert!(select(found(MOST_FILES, false), &[], None).is_ok());
        let error = select(found(MOST_FILES + 1, false), &[], None).unwrap_err();
        assert!(
            error.starts_with("more than 10000 ignored files"),
            "{error}"
        );
        assert!(select(found(1, true), &[], None).is_err());
    }

    #[test]
    fn links_lead_where_they_led() {
        let target = |link: &str, target: &str| {
            let target = link_target(Path::new("/repo"), Path::new(link), Path::new(target));
            target.to_str().unwrap().to_owned()
        };
        assert_eq!(target(".env", ".env.dev"), ".env.dev");
        assert_eq!(target("a/b/.env", "../../.env"), "../../.env");
        assert_eq!(target(".env", "/etc/env"), "/etc/env");
        assert_eq!(target(".env", "../shared/.env"), "/repo/../shared/.env");
        assert_eq!(
            target("a/.env", "x/../../../.env"),
            "/repo/a/x/../../../.env"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_copied_leaves_the_checkout(paths in prop::collection::vec("[a./]{0,12}", 0..20)) {
            let found = IgnoredFiles {
                paths: paths.iter().map(PathBuf::from).collect(),
                is_cut: false,
            };
            for path in select(found, &[], None).unwrap() {
                prop_assert!(path.is_relative());
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
