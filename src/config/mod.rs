//! The configuration, `.ai-sdlc.json`: typed, with defaults, read without side effects.
//!
//! Keys that this version does not use are accepted, so that a file of the predecessor or of a later version loads.
//! A file that cannot be read as intended is an error, never a silent fall-back to defaults.

mod agents;
mod document;
mod fence;
mod limits;
pub mod project;
mod resources;
pub mod rules;
mod setup;
mod size;
mod tokens;

pub use agents::AgentRules;
pub use fence::FenceRules;
pub use limits::{LimitNames, UsageRules, WantedLimits};
pub use setup::{Hooks, Install, Ports, SetupRules};
pub use tokens::{TokensError, parse_tokens};

pub use rules::{EpicFailure, EpicWorktrees, MOST_SLOTS, Rules};

pub use project::{Project, ProjectError};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::disk::Bytes;
use crate::engine::Prices;
use agents::{AgentSections, PriceSections};
use document::{Document, section};
use size::size;

/// The file's name, in the root of the project.
pub const FILE_NAME: &str = ".ai-sdlc.json";

/// The longest grace that may be configured, in milliseconds: one hour.
const LONGEST_GRACE_MS: u64 = 3_600_000;

/// What must be free for an attempt to begin when nothing is configured: enough for a checkout of most repositories and
/// for what a build of theirs leaves, so that a run ends before the disk of everybody else is full.
const MIN_FREE: Bytes = Bytes::GIBI;

/// The most that may be configured for an amount of disk space, 1 EiB: what is more was not meant.
const MOST_SPACE: Bytes = Bytes(1 << 60);
/// The time between two checkpoints when nothing is configured: what a machine that dies costs at most.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(120);
/// The shortest and the longest time that can be configured.
const SHORTEST_CHECKPOINT: Duration = Duration::from_secs(1);
const LONGEST_CHECKPOINT: Duration = Duration::from_secs(86_400);

/// The configuration of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder of the board, relative to the root of the project.
    pub sdlc_folder: PathBuf,
    /// The agent of stories that name none.
    pub agent: Option<String>,
    /// The model of that agent, unless `agents` says otherwise.
    pub model: Option<String>,
    /// What tokens cost, for agents that do not say what they have cost.
    pub prices: Prices,
    /// How agents are set up, by their names.
    pub agents: BTreeMap<String, AgentRules>,
    /// Where worktrees are made, relative to the root of the project or absolute.
    pub worktree_base: PathBuf,
    /// What stories start from; none for what the main checkout has checked out.
    pub base_branch: Option<String>,
    /// How much the worktrees may take together before those that nobody needs are removed; none for no limit.
    pub max_disk: Option<Bytes>,
    /// How much must be free for an attempt to begin; nothing for whatever there is.
    pub min_free: Bytes,
    /// The time between two checkpoints of the worktree of a running attempt; none for no checkpoints.
    pub checkpoint_every: Option<Duration>,
    /// How long an agent may take to end when it is asked to.
    pub grace: Duration,
    /// Names of processes that may go on when their agent has ended.
    pub kept_processes: Vec<String>,
    /// Names of variables that agents get besides the usual ones.
    pub allowed_environment: Vec<String>,
    /// How runs behave.
    pub rules: Rules,
    /// How worktrees are set up.
    pub setup: SetupRules,
    /// Where agents may write.
    pub fence: FenceRules,
}

/// A key whose value cannot be used, and what it must be.
#[derive(Debug)]
struct Invalid(Cow<'static, str>, Cow<'static, str>);

impl Invalid {
    fn new(key: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self(key.into(), rule.into())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sdlc_folder: PathBuf::from(".ai-sdlc"),
            agent: None,
            model: None,
            prices: Prices::default(),
            agents: BTreeMap::new(),
            worktree_base: PathBuf::from(".ai-sdlc/worktrees"),
            base_branch: None,
            max_disk: None,
            min_free: MIN_FREE,
            checkpoint_every: Some(CHECKPOINT_EVERY),
            grace: Duration::from_secs(10),
            kept_processes: Vec::new(),
            allowed_environment: Vec::new(),
            rules: Rules::default(),
            setup: SetupRules::default(),
            fence: FenceRules::default(),
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
    /// It is not JSON.
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
    #[error("{path}:{line}:{column}: `{key}` {reason}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Where the value ends, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// Which one.
        key: String,
        /// What it must be, and what it is.
        reason: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    sdlc_folder: Option<PathBuf>,
    /// The predecessor's key.
    install_command: Option<String>,
    #[serde(deserialize_with = "section")]
    ai: AiSection,
    #[serde(deserialize_with = "section")]
    agents: AgentSections,
    #[serde(deserialize_with = "section")]
    prices: PriceSections,
    #[serde(deserialize_with = "section")]
    worktree: WorktreeSection,
    #[serde(deserialize_with = "section")]
    process: ProcessSection,
    #[serde(deserialize_with = "section")]
    environment: EnvironmentSection,
    #[serde(deserialize_with = "section")]
    hooks: setup::HookSection,
    #[serde(deserialize_with = "section")]
    ports: setup::PortSection,
    #[serde(deserialize_with = "section")]
    fence: fence::FenceSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AiSection {
    provider: Option<String>,
    model: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorktreeSection {
    base_path: Option<PathBuf>,
    base_branch: Option<String>,
    #[serde(deserialize_with = "setup::install")]
    install: Option<Install>,
    install_timeout: Option<u64>,
    #[serde(deserialize_with = "size")]
    max_disk: Option<Bytes>,
    #[serde(deserialize_with = "size")]
    min_free: Option<Bytes>,
    checkpoint_every: Checkpoints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProcessSection {
    grace_ms: Option<u64>,
    keep: Vec<String>,
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
        let document = Document::new(text, path)?;
        // Two readings of the same text, so that errors name its lines.
        let (file, sections): (File, rules::Sections) = (document.read()?, document.read()?);
        Self::of(file, sections).map_err(|Invalid(key, rule)| document.error(&key, &rule))
    }

    fn of(file: File, sections: rules::Sections) -> Result<Self, Invalid> {
        let defaults = Self::default();
        let sdlc_folder = file.sdlc_folder.unwrap_or(defaults.sdlc_folder);
        if !stays_inside(&sdlc_folder) {
            return Err(Invalid::new(
                "sdlcFolder",
                "must be a folder inside the project",
            ));
        }
        let grace_ms = file.process.grace_ms;
        if grace_ms.is_some_and(|grace| grace > LONGEST_GRACE_MS) {
            return Err(Invalid::new("process.graceMs", "must be at most 3600000"));
        }
        if file.process.keep.iter().any(|name| name.trim().is_empty()) {
            return Err(Invalid::new(
                "process.keep",
                "must not contain an empty name",
            ));
        }
        let worktree_base = file.worktree.base_path;
        let base_branch = file.worktree.base_branch;
        let checkpoint_every = match file.worktree.checkpoint_every {
            Checkpoints::NotSet => defaults.checkpoint_every,
            Checkpoints::Off => None,
            Checkpoints::Every(seconds) => checkpoint_every(seconds)?,
        };
        let no_path = |path: &PathBuf| path.as_os_str().is_empty();
        if worktree_base.as_ref().is_some_and(no_path) {
            return Err(Invalid::new("worktree.basePath", "must not be empty"));
        }
        if base_branch
            .as_deref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Err(Invalid::new("worktree.baseBranch", "must not be empty"));
        }
        let (max_disk, min_free) = (file.worktree.max_disk, file.worktree.min_free);
        if max_disk.is_some_and(|most| most == Bytes(0) || most > MOST_SPACE) {
            return Err(Invalid::new(
                "worktree.maxDisk",
                "must be from 1 byte to 1 EiB (leave it out for no limit)",
            ));
        }
        if min_free.is_some_and(|least| least > MOST_SPACE) {
            return Err(Invalid::new(
                "worktree.minFree",
                "must be at most 1 EiB (0 for no minimum)",
            ));
        }
        Ok(Self {
            worktree_base: worktree_base.unwrap_or_else(|| sdlc_folder.join("worktrees")),
            sdlc_folder,
            agent: file.ai.provider,
            model: file.ai.model.filter(|model| !model.trim().is_empty()),
            prices: file.prices.prices()?,
            agents: file.agents.rules()?,
            base_branch,
            max_disk,
            min_free: min_free.unwrap_or(defaults.min_free),
            checkpoint_every,
            grace: grace_ms.map_or(defaults.grace, Duration::from_millis),
            kept_processes: file.process.keep,
            allowed_environment: file.environment.allow,
            rules: sections.rules()?,
            setup: SetupRules {
                install_timeout: setup::timeout(
                    file.worktree.install_timeout,
                    defaults.setup.install_timeout,
                    "worktree.installTimeout",
                )?,
                install: setup::choose(file.worktree.install, file.install_command)?,
                hooks: file.hooks.hooks()?,
                ports: file.ports.ports()?,
            },
            fence: file.fence.rules()?,
        })
    }
}

/// A number of seconds, or null, which is here not the same as nothing.
#[derive(Debug, Default, Clone, Copy)]
enum Checkpoints {
    #[default]
    NotSet,
    Off,
    Every(f64),
}

impl<'de> Deserialize<'de> for Checkpoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = Option::deserialize(deserializer)?;
        Ok(seconds.map_or(Self::Off, Self::Every))
    }
}

/// The time between two checkpoints: none for 0.
fn checkpoint_every(seconds: f64) -> Result<Option<Duration>, Invalid> {
    let span = Duration::try_from_secs_f64(seconds).ok();
    let span = span
        .filter(|span| span.is_zero() || (SHORTEST_CHECKPOINT..=LONGEST_CHECKPOINT).contains(span));
    match span {
        Some(span) if !span.is_zero() => Ok(Some(span)),
        Some(_) if seconds <= 0.0 => Ok(None),
        _ => Err(Invalid::new(
            "worktree.checkpointEvery",
            "must be 0, for never, or from 1 to 86400 seconds",
        )),
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
    fn agents_and_prices_are_read_and_what_is_wrong_with_them_is_said() {
        let config = parse(
            r#"{"agents": {"claude": {"command": "c", "env": ["A", "B=1"], "model": "m"}, "mine": {"adapter": "command", "command": ["x", "y"]}},
                "prices": {"gpt-5": {"input": 1.25, "output": 10}}}"#,
        );
        let config = config.unwrap();
        assert_eq!(config.agents["claude"].command, ["c"]);
        assert_eq!(config.agents["mine"].command, ["x", "y"]);
        let tokens = crate::engine::Tokens {
            input: 1_000_000,
            ..crate::engine::Tokens::default()
        };
        assert_eq!(config.prices.cost("gpt-5", tokens), Some(1_250_000));
        let wrong = |text| parse(text).unwrap_err();
        for (text, expected) in [
            (
                r#"{"agents": {"a": 5}}"#,
                "`agents.a` must be an object, not 5",
            ),
            (
                r#"{"agents": {"a": {"command": 5}}}"#,
                "`agents.a.command` must be a program, or a list of a program and its arguments, not 5",
            ),
            (
                r#"{"agents": {"a b": {}}}"#,
                "`agents.a b` must have a name of letters, digits, `-`, `_` and `:`",
            ),
            (
                r#"{"agents": {"a": {"env": ["=x"]}}}"#,
                "`agents.a.env` must hold names of variables",
            ),
            (
                r#"{"agents": {"a": {"model": " "}}}"#,
                "`agents.a.model` must not be empty",
            ),
            (
                r#"{"agents": {"a": {"mostRequests": 0}}}"#,
                "`agents.a.mostRequests` must be from 1 to 100000",
            ),
            (
                r#"{"agents": {"a": {"args": ["\u0000"]}}}"#,
                "`agents.a.args` must not contain a NUL character",
            ),
            (
                r#"{"agents": {"a.b": 5}}"#,
                "`agents.a.b` must be an object, not 5",
            ),
            (
                r#"{"prices": {"m": 5}}"#,
                "`prices.m` must be an object, not 5",
            ),
            (
                r#"{"prices": {"m": [1, 2, 3]}}"#,
                "`prices.m` must be an object, not a list",
            ),
            (
                r#"{"prices": {"m-4.1": {"inptu": 1}}}"#,
                "`prices.m-4.1.inptu`: unknown field `inptu`, expected one of `input`, `output`, `cached`",
            ),
            (
                r#"{"prices": {"m-4.1": {"output": -1}}}"#,
                "c.json:1:34: `prices.m-4.1.output` must be from 0 to 1000000 US dollars for a million tokens, not -1",
            ),
            (
                r#"{"prices": {"m": {"input": -1}}}"#,
                "`prices.m.input` must be from 0 to 1000000 US dollars",
            ),
        ] {
            let error = wrong(text);
            assert!(error.contains(expected), "{error}");
        }
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
        for (text, expected) in [
            ("[]", "c.json:1:1: the file must hold an object, not a list"),
            (
                r#"{"process": {"graceMs": "10"}}"#,
                "c.json:1:28: `process.graceMs` must be a whole number, not \"10\"",
            ),
            (
                r#"{"process": {"graceMs": -1}}"#,
                "c.json:1:26: `process.graceMs` must be a whole number from 0, not -1",
            ),
            (
                r#"{"process": {"graceMs": 1.5}}"#,
                "c.json:1:27: `process.graceMs` must be a whole number, not 1.5",
            ),
            (
                "{\n\"limits\": {\"story\": {\"costUsd\": \"5\"}}}",
                "c.json:2:35: `limits.story.costUsd` must be a number, not \"5\"",
            ),
            (
                r#"{"limits": []}"#,
                "c.json:1:13: `limits` must be an object, not a list",
            ),
            (
                r#"{"limits": {"story": 5}}"#,
                "c.json:1:22: `limits.story` must be an object, not 5",
            ),
            (
                r#"{"attempts": {"retry": ["failed", 3]}}"#,
                "c.json:1:35: `attempts.retry[1]` must be a text, not 3",
            ),
            (
                r#"{"epic": {"keepWorktrees": "yes"}}"#,
                "c.json:1:32: `epic.keepWorktrees` must be true or false, not \"yes\"",
            ),
            (
                r#"{"environment": {"allow": "PATH"}}"#,
                "c.json:1:32: `environment.allow` must be a list, not \"PATH\"",
            ),
            (
                r#"{"sdlcFolder": "../elsewhere"}"#,
                "c.json:1:29: `sdlcFolder` must be a folder inside the project, not \"../elsewhere\"",
            ),
            (
                r#"{"worktree": {"install": 3}}"#,
                "c.json:1:26: `worktree.install` must be a command, true or false, not 3",
            ),
            (
                r#"{"worktree": {"install": " "}}"#,
                "c.json:1:28: `worktree.install` must be a command, true or false, not \" \"",
            ),
            (
                r#"{"hooks": {"beforeRun": ""}}"#,
                "c.json:1:26: `hooks.beforeRun` must not be empty, not \"\"",
            ),
            (
                r#"{"hooks": {"timeout": 0}}"#,
                "c.json:1:23: `hooks.timeout` must be from 1 to 86400000, a day, not 0",
            ),
            (
                r#"{"fence": {"write": ["a", ""]}}"#,
                "c.json:1:21: `fence.write` must not contain an empty path, not a list",
            ),
            (
                r#"{"fence": {"enabled": "no"}}"#,
                "c.json:1:26: `fence.enabled` must be true or false, not \"no\"",
            ),
            (
                r#"{"ports": {"first": 80}}"#,
                "c.json:1:22: `ports.first` must be from 1024 to 65000, not 80",
            ),
            (
                r#"{"ports": {"perStory": 1001}}"#,
                "c.json:1:27: `ports.perStory` must be from 0, for none, to 1000, not 1001",
            ),
            (
                r#"{"limits": {"run": {}, "run": {}}}"#,
                "c.json:1:28: `limits`: duplicate field `run`",
            ),
            (
                "{\"ai\": {},\n \"process\": {\"graceMs\": 3600001\n}}",
                "c.json:2:31: `process.graceMs` must be at most 3600000, not 3600001",
            ),
            (
                r#"{"conflicts": {"lookEverySeconds": 0.0004}}"#,
                "c.json:1:41: `conflicts.lookEverySeconds` must be 0, for never, or from 1 second to 30 days, not 0.0004",
            ),
        ] {
            assert_eq!(wrong(text), expected);
        }
    }

    #[test]
    fn disk_space_is_a_number_of_bytes_or_a_text_with_a_unit() {
        let config = parse(r#"{"worktree": {"maxDisk": "20 GB", "minFree": 0}}"#).unwrap();
        assert_eq!(config.max_disk, Some(Bytes(20_000_000_000)));
        assert_eq!(config.min_free, Bytes(0));
        let config = parse(r#"{"worktree": {"maxDisk": 4096, "minFree": null}}"#).unwrap();
        assert_eq!(config.max_disk, Some(Bytes(4096)));
        assert_eq!(config.min_free, Bytes::GIBI);
        for (value, expected) in [
            (
                r#""maxDisk": "20XB""#,
                "c.json:1:31: `worktree.maxDisk` must be a number of bytes or a text such as \"20GB\", not \"20XB\"",
            ),
            (
                r#""minFree": -1"#,
                "c.json:1:27: `worktree.minFree` must be a number of bytes or a text such as \"20GB\", not -1",
            ),
            (
                r#""minFree": 0.5"#,
                "c.json:1:28: `worktree.minFree` must be a number of bytes or a text such as \"20GB\", not 0.5",
            ),
            (
                r#""maxDisk": ["1G"]"#,
                "c.json:1:26: `worktree.maxDisk` must be a number of bytes or a text such as \"20GB\", not a list",
            ),
            (
                r#""maxDisk": 0"#,
                "c.json:1:26: `worktree.maxDisk` must be from 1 byte to 1 EiB (leave it out for no limit), not 0",
            ),
            (
                r#""minFree": "2000000TB""#,
                "c.json:1:36: `worktree.minFree` must be at most 1 EiB (0 for no minimum), not \"2000000TB\"",
            ),
        ] {
            let text = format!("{{\"worktree\": {{{value}}}}}");
            assert_eq!(parse(&text).unwrap_err(), expected);
        }
    }

    #[test]
    fn tokens_are_a_whole_number_or_a_text_with_a_unit() {
        let text = r#"{"limits": {"story": {"tokens": "250k"}, "run": {"tokens": 7}, "day": {"tokens": null}},
            "costLimits": {"perRunMaxTokens": "1M"}}"#;
        let limits = parse(text).unwrap().rules.limits;
        let tokens = [limits.story, limits.run, limits.day].map(|limits| limits.tokens);
        assert_eq!(tokens, [Some(250_000), Some(7), None]);
        for (value, shown) in [
            (r#""1x""#, r#""1x""#),
            ("-1", "-1"),
            ("1.5", "1.5"),
            ("true", "true"),
        ] {
            let error = parse(&format!(
                r#"{{"limits": {{"run": {{"tokens": {value}}}}}}}"#
            ));
            let rule =
                r#"`limits.run.tokens` must be a whole number, or a text such as "250k" or "1.5M""#;
            let expected = format!("{rule}, not {shown}");
            let error = error.unwrap_err();
            assert!(error.ends_with(&expected), "{error}");
        }
    }

    #[test]
    fn checkpoints_can_be_switched_off() {
        let every = |value: &str| {
            let text = format!(r#"{{"worktree": {{"checkpointEvery": {value}}}}}"#);
            parse(&text).map(|config| config.checkpoint_every)
        };
        assert_eq!(
            Config::default().checkpoint_every,
            Some(Duration::from_secs(120))
        );
        assert_eq!(every("30"), Ok(Some(Duration::from_secs(30))));
        assert_eq!(every("0"), Ok(None));
        assert_eq!(every("null"), Ok(None));
        for wrong in ["-1", "0.5", "1e-12", "86401", "1e300", "\"2m\""] {
            let error = every(wrong).unwrap_err();
            assert!(
                error.contains("`worktree.checkpointEvery` must be"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_null_is_not_set() {
        assert_eq!(
            parse(r#"{"limits": null, "ai": {"provider": null}}"#),
            Ok(Config::default())
        );
    }
}
