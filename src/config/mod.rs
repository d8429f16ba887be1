//! The configuration, `.ai-sdlc.json`: typed, with defaults, read without side effects.
//!
//! Keys that this version does not use are accepted, so that a file of the predecessor or of a later version loads.
//! A file that cannot be read as intended is an error, never a silent fall-back to defaults.

pub mod project;
pub mod rules;

pub use rules::{EpicFailure, EpicWorktrees, MOST_SLOTS, Rules};

pub use project::{Project, ProjectError};

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// The file's name, in the root of the project.
pub const FILE_NAME: &str = ".ai-sdlc.json";

/// The longest grace that may be configured, in milliseconds: one hour.
const LONGEST_GRACE_MS: u64 = 3_600_000;

/// The configuration of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder of the board, relative to the root of the project.
    pub sdlc_folder: PathBuf,
    /// The agent of stories that name none.
    pub agent: Option<String>,
    /// Where worktrees are made, relative to the root of the project or absolute.
    pub worktree_base: PathBuf,
    /// What stories start from; none for what the main checkout has checked out.
    pub base_branch: Option<String>,
    /// How long an agent may take to end when it is asked to.
    pub grace: Duration,
    /// Names of variables that agents get besides the usual ones.
    pub allowed_environment: Vec<String>,
    /// How runs behave.
    pub rules: Rules,
}

/// A key whose value cannot be used, and why not.
#[derive(Debug)]
struct Invalid(&'static str, &'static str);

impl Default for Config {
    fn default() -> Self {
        Self {
            sdlc_folder: PathBuf::from(".ai-sdlc"),
            agent: None,
            worktree_base: PathBuf::from(".ai-sdlc/worktrees"),
            base_branch: None,
            grace: Duration::from_secs(10),
            allowed_environment: Vec::new(),
            rules: Rules::default(),
        }
    }
}

/// What is wrong with the configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not JSON, or a value has the wrong type.
    #[error("{path}:{line}:{column}: {reason}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What.
        reason: String,
    },
    /// A value cannot be used.
    #[error("{path}: `{key}` {reason}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which one.
        key: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    sdlc_folder: Option<PathBuf>,
    ai: AiSection,
    worktree: WorktreeSection,
    process: ProcessSection,
    environment: EnvironmentSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AiSection {
    provider: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorktreeSection {
    base_path: Option<PathBuf>,
    base_branch: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProcessSection {
    grace_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EnvironmentSection {
    allow: Vec<String>,
}

impl Config {
    /// The configuration in the root of a project; the defaults when there is no file.
    ///
    /// # Errors
    /// When there is a file and it cannot be used as a whole.
    pub fn load(root: &Path) -> Result<Self, ConfigError> {
        let path = root.join(FILE_NAME);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        // Editors on Windows put a byte order mark in front, which JSON does not know.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let read = serde_json::from_str(text).and_then(|value: serde_json::Map<_, _>| {
            // Further readings, of the text, so that errors name its lines.
            drop(value);
            Ok((serde_json::from_str(text)?, serde_json::from_str(text)?))
        });
        let (file, sections): (File, rules::Sections) = read.map_err(|error| {
            // The message ends with the place, which is named in front already.
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or(&message);
            ConfigError::Syntax {
                path: path.to_owned(),
                line: error.line(),
                column: error.column(),
                reason: reason.to_owned(),
            }
        })?;
        let wrong = |key, reason| ConfigError::Value {
            path: path.to_owned(),
            key,
            reason,
        };
        let defaults = Self::default();
        let sdlc_folder = file.sdlc_folder.unwrap_or(defaults.sdlc_folder);
        if !stays_inside(&sdlc_folder) {
            return Err(wrong("sdlcFolder", "must be a folder inside the project"));
        }
        let grace_ms = file.process.grace_ms;
        if grace_ms.is_some_and(|grace| grace > LONGEST_GRACE_MS) {
            return Err(wrong("process.graceMs", "must be at most 3600000"));
        }
        let worktree_base = file.worktree.base_path;
        if worktree_base
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            return Err(wrong("worktree.basePath", "must not be empty"));
        }
        if file
            .worktree
            .base_branch
            .as_deref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Err(wrong("worktree.baseBranch", "must not be empty"));
        }
        Ok(Self {
            worktree_base: worktree_base.unwrap_or_else(|| sdlc_folder.join("worktrees")),
            sdlc_folder,
            agent: file.ai.provider,
            base_branch: file.worktree.base_branch,
            grace: grace_ms.map_or(defaults.grace, Duration::from_millis),
            allowed_environment: file.environment.allow,
            rules: sections
                .rules()
                .map_err(|Invalid(key, reason)| wrong(key, reason))?,
        })
    }
}

/// Whether a relative path names something below the folder it is joined to.
fn stays_inside(path: &Path) -> bool {
    use std::path::Component;
    path.components().next().is_some()
        && path
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("c.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_object_gives_the_defaults() {
        assert_eq!(parse("{}"), Ok(Config::default()));
        assert_eq!(parse("\u{feff}{}"), Ok(Config::default()));
    }

    #[test]
    fn a_file_of_the_predecessor_loads() {
        let text = r#"{"sdlcFolder":".ai-sdlc","ai":{"provider":"mock","model":"x"},"stageGates":{"autoMergeOnApproval":false},
            "refinement":{"maxIterations":3},"worktree":{"enabled":true,"basePath":"../trees"},"timeouts":{"agentTimeout":600000},
            "daemon":{"watchPatterns":["stories/*/story.md"]},"costLimits":null}"#;
        let config = parse(text).unwrap();
        assert_eq!(config.agent.as_deref(), Some("mock"));
        assert_eq!(config.worktree_base, Path::new("../trees"));
    }

    #[test]
    fn worktrees_follow_a_board_in_another_folder() {
        let config = parse(r#"{"sdlcFolder": "board"}"#).unwrap();
        assert_eq!(config.worktree_base, Path::new("board/worktrees"));
    }

    #[test]
    fn errors_name_the_place() {
        let wrong = |text| parse(text).unwrap_err();
        assert_eq!(wrong("{\n  nope"), "c.json:2:3: key must be a string");
        assert!(wrong("[]").contains("invalid type: sequence, expected a map"));
        assert_eq!(
            wrong(r#"{"process": {"graceMs": "10"}}"#),
            "c.json:1:28: invalid type: string \"10\", expected u64"
        );
        assert_eq!(
            wrong(r#"{"sdlcFolder": "../elsewhere"}"#),
            "c.json: `sdlcFolder` must be a folder inside the project"
        );
        assert_eq!(
            wrong(r#"{"process": {"graceMs": 3600001}}"#),
            "c.json: `process.graceMs` must be at most 3600000"
        );
    }
}
