//! Which command installs the dependencies of a project, told by the files in its folder. Pure.
//!
//! What is installed has to stay in the worktree or in a cache of its tool, and no file that git tracks may change: every
//! branch would carry that change. So lock files are taken as they are, and what would install into the machine itself
//! (`pip`) is left to the user's own `worktree.install`, as are Maven, Gradle and .NET, whose builds fetch what they need.

use std::collections::BTreeSet;

/// A command that installs dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Installer {
    /// The file that tells of it, and changes when there is something else to install. It comes first.
    pub(super) lock: &'static str,
    /// What has to be there besides.
    with: Option<&'static str>,
    /// The program, to be found on the `PATH`.
    pub(super) tool: &'static str,
    /// The command, for `sh`.
    pub(super) command: &'static str,
    /// The folder that it fills, when that is one of the worktree: git has to ignore it, or it would be committed.
    pub(super) fills: Option<&'static str>,
    /// What its failure means.
    pub(super) need: Need,
}

/// What the failure of an installation means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing works without it.
    Needed,
    /// A build does it by itself, later.
    Helpful,
}

/// The folder of installed packages that node's package managers share.
const NODE_MODULES: &str = "node_modules/";

/// All that are known, in order: the first that fits counts.
const LOCKED: &[Installer] = &[
    node("bun.lock", "bun", "bun install --frozen-lockfile"),
    node("bun.lockb", "bun", "bun install --frozen-lockfile"),
    node("pnpm-lock.yaml", "pnpm", "pnpm install --frozen-lockfile"),
    node("yarn.lock", "yarn", "yarn install --frozen-lockfile"),
    node("package-lock.json", "npm", "npm ci"),
    Installer {
        lock: "poetry.lock",
        with: Some("pyproject.toml"),
        tool: "poetry",
        command: "poetry install --no-interaction",
        fills: None,
        need: Need::Needed,
    },
    Installer {
        lock: "uv.lock",
        with: Some("pyproject.toml"),
        tool: "uv",
        command: "uv sync --locked",
        // It has git ignore it.
        fills: None,
        need: Need::Needed,
    },
    Installer {
        lock: "Cargo.lock",
        with: Some("Cargo.toml"),
        tool: "cargo",
        command: "cargo fetch --locked",
        fills: None,
        need: Need::Helpful,
    },
    Installer {
        lock: "go.sum",
        with: Some("go.mod"),
        tool: "go",
        command: "go mod download",
        fills: None,
        need: Need::Helpful,
    },
    Installer {
        lock: "Gemfile.lock",
        with: Some("Gemfile"),
        tool: "bundle",
        command: "BUNDLE_FROZEN=true bundle install",
        fills: None,
        need: Need::Needed,
    },
];

/// Those of projects without a lock file.
const UNLOCKED: &[Installer] = &[Installer {
    lock: "package.json",
    with: None,
    tool: "npm",
    command: "npm install --no-package-lock",
    fills: Some(NODE_MODULES),
    need: Need::Needed,
}];

const fn node(lock: &'static str, tool: &'static str, command: &'static str) -> Installer {
    Installer {
        lock,
        with: Some("package.json"),
        tool,
        command,
        fills: Some(NODE_MODULES),
        need: Need::Needed,
    }
}

/// The installer for a project, and in which of these folders it works. Each folder is the set of the names in it, the
/// one that counts more before the others. A lock file anywhere counts more than none.
pub(super) fn detect(folders: &[BTreeSet<String>]) -> Option<(usize, Installer)> {
    let fits = |names: &BTreeSet<String>, installer: &Installer| {
        names.contains(installer.lock) && installer.with.is_none_or(|name| names.contains(name))
    };
    [LOCKED, UNLOCKED].into_iter().find_map(|installers| {
        folders.iter().enumerate().find_map(|(place, names)| {
            let installer = installers.iter().find(|one| fits(names, one))?;
            Some((place, *installer))
        })
    })
}

/// The names of all files that say what is to be installed.
pub(super) fn lock_files() -> impl Iterator<Item = &'static str> {
    LOCKED.iter().chain(UNLOCKED).map(|one| one.lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn command(names: &[&str]) -> Option<&'static str> {
        detect(&[folder(names)]).map(|(_, installer)| installer.command)
    }

    #[test]
    fn every_lock_file_has_its_command() {
        for (names, expected) in [
            (
                ["bun.lock", "package.json"],
                "bun install --frozen-lockfile",
            ),
            (
                ["bun.lockb", "package.json"],
                "bun install --frozen-lockfile",
            ),
            (
                ["pnpm-lock.yaml", "package.json"],
                "pnpm install --frozen-lockfile",
            ),
            (
                ["yarn.lock", "package.json"],
                "yarn install --frozen-lockfile",
            ),
            (["package-lock.json", "package.json"], "npm ci"),
            (
                ["poetry.lock", "pyproject.toml"],
                "poetry install --no-interaction",
            ),
            (["uv.lock", "pyproject.toml"], "uv sync --locked"),
            (["Cargo.lock", "Cargo.toml"], "cargo fetch --locked"),
            (["go.sum", "go.mod"], "go mod download"),
            (
                ["Gemfile.lock", "Gemfile"],
                "BUNDLE_FROZEN=true bundle install",
            ),
        ] {
            assert_eq!(command(&names), Some(expected));
            assert_eq!(command(&names[..1]), None, "{} alone", names[0]);
        }
        assert_eq!(
            command(&["package.json"]),
            Some("npm install --no-package-lock")
        );
    }

    #[test]
    fn nothing_is_installed_without_a_sign_of_it() {
        for names in [
            &[][..],
            &["README.md"],
            &["requirements.txt", "pyproject.toml"],
            &["Cargo.toml"],
            &["go.mod"],
            &["pom.xml"],
        ] {
            assert_eq!(command(names), None, "{names:?}");
        }
    }

    #[test]
    fn the_nearest_lock_file_counts_and_none_counts_least() {
        let workspace = folder(&["pnpm-lock.yaml", "package.json"]);
        let package = folder(&["package.json"]);
        let (place, installer) = detect(&[package.clone(), workspace.clone()]).unwrap();
        assert_eq!((place, installer.tool), (1, "pnpm"));
        let own = folder(&["uv.lock", "pyproject.toml"]);
        let (place, installer) = detect(&[own, workspace]).unwrap();
        assert_eq!((place, installer.tool), (0, "uv"));
        let (place, installer) = detect(&[package.clone(), package]).unwrap();
        assert_eq!((place, installer.tool), (0, "npm"));
    }
}
