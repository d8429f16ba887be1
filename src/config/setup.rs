//! The part of the configuration that says how worktrees are set up: install command, hooks, ports.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::Invalid;

/// The longest time that may be configured for a command: a day.
const LONGEST_TIMEOUT_MS: u64 = 86_400_000;

/// The first port of the first story. Above those of common services, and far enough below those that Linux gives to
/// connections (from 32768) and Kubernetes to services (from 30000).
const FIRST_PORT: u16 = 20_000;
/// How many ports a story gets.
const PORTS_PER_STORY: u16 = 10;
/// The lowest port that needs no privilege.
const LOWEST_PORT: u16 = 1024;
/// The highest port to begin with, so that some follow.
const HIGHEST_PORT: u16 = 65_000;
/// The most ports of one story.
const MOST_PORTS_PER_STORY: u16 = 1000;

/// How worktrees are set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupRules {
    /// What installs the dependencies.
    pub install: Install,
    /// How long that may take.
    pub install_timeout: Duration,
    /// The user's own commands.
    pub hooks: Hooks,
    /// Which ports stories get; none when they get none.
    pub ports: Option<Ports>,
}

/// What installs the dependencies of a worktree: `worktree.install`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Install {
    /// What fits the lock file, where there is one.
    #[default]
    Detected,
    /// This command, for `sh`.
    Command(String),
    /// Nothing.
    Off,
}

/// Commands for `sh` that run in the worktree of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// When the worktree is new.
    pub after_create: Option<String>,
    /// Before every attempt.
    pub before_run: Option<String>,
    /// After every attempt.
    pub after_run: Option<String>,
    /// Before the worktree is removed.
    pub before_remove: Option<String>,
    /// How long each of them may take.
    pub timeout: Duration,
}

/// The ports that stories get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The first one of all.
    pub first: u16,
    /// How many each story gets, at least 1.
    pub per_story: u16,
}

impl Default for SetupRules {
    fn default() -> Self {
        Self {
            install: Install::default(),
            install_timeout: Duration::from_secs(15 * 60),
            hooks: Hooks::default(),
            ports: Some(Ports {
                first: FIRST_PORT,
                per_story: PORTS_PER_STORY,
            }),
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            after_create: None,
            before_run: None,
            after_run: None,
            before_remove: None,
            timeout: Duration::from_secs(5 * 60),
        }
    }
}

impl SetupRules {
    /// The longest that the commands take that run before an attempt.
    pub fn longest_before(&self) -> Duration {
        let install = match self.install {
            Install::Off => Duration::ZERO,
            Install::Detected | Install::Command(_) => self.install_timeout,
        };
        let hooks = [&self.hooks.after_create, &self.hooks.before_run];
        install + self.hooks.longest(hooks)
    }

    /// The longest that the commands take that run before other worktrees are removed for a new one: none begins once one
    /// time limit of a hook has passed, and the last of them may take another one.
    pub fn longest_making_room(&self) -> Duration {
        self.hooks.longest([&self.hooks.before_remove]) * 2
    }

    /// The longest that the commands take that run after an attempt.
    pub fn longest_after(&self) -> Duration {
        let hooks = [&self.hooks.after_run, &self.hooks.before_remove];
        self.hooks.longest(hooks)
    }
}

impl Hooks {
    fn longest<'a>(&self, hooks: impl IntoIterator<Item = &'a Option<String>>) -> Duration {
        let set = hooks.into_iter().flatten();
        set.map(|_| self.timeout).sum()
    }
}

/// What `worktree.install` must be.
pub(super) const COMMAND: &str = "a command";

/// Reads `worktree.install`, which is no command when it is null or false.
pub(super) fn install<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Install>, D::Error> {
    deserializer.deserialize_any(InstallVisitor).map(Some)
}

/// What installs: `worktree.install`, else the predecessor's `installCommand`, else what is detected.
pub(super) fn choose(
    install: Option<Install>,
    predecessors: Option<String>,
) -> Result<Install, Invalid> {
    match (install, predecessors) {
        (Some(Install::Command(text)), _) => {
            command(text, "worktree.install").map(Install::Command)
        }
        (Some(install), _) => Ok(install),
        (None, Some(text)) => command(text, "installCommand").map(Install::Command),
        (None, None) => Ok(Install::Detected),
    }
}

/// A command that `sh` can be given.
fn command(text: String, key: &'static str) -> Result<String, Invalid> {
    if text.trim().is_empty() {
        Err(Invalid::new(key, "must not be empty"))
    } else if text.contains('\0') {
        // Arguments of programs end there.
        Err(Invalid::new(
            key,
            "must not contain a NUL character (\\u0000)",
        ))
    } else {
        Ok(text)
    }
}

struct InstallVisitor;

impl Visitor<'_> for InstallVisitor {
    type Value = Install;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(COMMAND)
    }

    fn visit_unit<E>(self) -> Result<Install, E> {
        Ok(Install::Off)
    }

    fn visit_bool<E>(self, detected: bool) -> Result<Install, E> {
        Ok(if detected {
            Install::Detected
        } else {
            Install::Off
        })
    }

    fn visit_str<E: Error>(self, command: &str) -> Result<Install, E> {
        if command.trim().is_empty() {
            return Err(E::invalid_value(serde::de::Unexpected::Str(command), &self));
        }
        Ok(Install::Command(command.to_owned()))
    }
}

/// The hooks, also under the names that other orchestrators have for them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HookSection {
    #[serde(alias = "after_create")]
    after_create: Option<String>,
    #[serde(alias = "before_run")]
    before_run: Option<String>,
    #[serde(alias = "after_run")]
    after_run: Option<String>,
    #[serde(alias = "before_remove")]
    before_remove: Option<String>,
    timeout: Option<u64>,
}

impl HookSection {
    pub(super) fn hooks(self) -> Result<Hooks, Invalid> {
        let hook = |text: Option<String>, key| text.map(|text| command(text, key)).transpose();
        Ok(Hooks {
            after_create: hook(self.after_create, "hooks.afterCreate")?,
            before_run: hook(self.before_run, "hooks.beforeRun")?,
            after_run: hook(self.after_run, "hooks.afterRun")?,
            before_remove: hook(self.before_remove, "hooks.beforeRemove")?,
            timeout: timeout(self.timeout, Hooks::default().timeout, "hooks.timeout")?,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortSection {
    first: Option<u64>,
    per_story: Option<u64>,
}

impl PortSection {
    pub(super) fn ports(self) -> Result<Option<Ports>, Invalid> {
        let within = |value: Option<u64>, default: u16, lowest, highest| match value {
            None => Some(default),
            Some(value) => u16::try_from(value)
                .ok()
                .filter(|value| (lowest..=highest).contains(value)),
        };
        let first = within(self.first, FIRST_PORT, LOWEST_PORT, HIGHEST_PORT)
            .ok_or(Invalid::new("ports.first", "must be from 1024 to 65000"))?;
        let per_story = within(self.per_story, PORTS_PER_STORY, 0, MOST_PORTS_PER_STORY).ok_or(
            Invalid::new("ports.perStory", "must be from 0, for none, to 1000"),
        )?;
        Ok((per_story > 0).then_some(Ports { first, per_story }))
    }
}

/// A time limit in milliseconds.
pub(super) fn timeout(
    given: Option<u64>,
    default: Duration,
    key: &'static str,
) -> Result<Duration, Invalid> {
    match given {
        None => Ok(default),
        Some(given @ 1..=LONGEST_TIMEOUT_MS) => Ok(Duration::from_millis(given)),
        Some(_) => Err(Invalid::new(key, "must be from 1 to 86400000, a day")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Worktree {
        #[serde(default, deserialize_with = "install")]
        install: Option<Install>,
    }

    fn install_of(text: &str) -> Install {
        let read: Worktree = serde_json::from_str(text).unwrap();
        choose(read.install, None).unwrap()
    }

    #[test]
    fn an_install_command_is_detected_unless_it_is_named_or_switched_off() {
        assert_eq!(install_of("{}"), Install::Detected);
        assert_eq!(install_of(r#"{"install": true}"#), Install::Detected);
        for off in ["false", "null"] {
            assert_eq!(install_of(&format!("{{\"install\": {off}}}")), Install::Off);
        }
        let command = Install::Command("make deps".to_owned());
        assert_eq!(install_of(r#"{"install": "make deps"}"#), command);
    }

    #[test]
    fn the_key_of_the_predecessor_counts_when_there_is_no_other() {
        let old = || Some("make old".to_owned());
        let command = Install::Command("make old".to_owned());
        assert_eq!(choose(None, old()).unwrap(), command);
        assert_eq!(choose(Some(Install::Off), old()).unwrap(), Install::Off);
        assert!(choose(None, Some(String::new())).is_err());
        assert!(choose(None, Some("a\0b".to_owned())).is_err());
    }

    #[test]
    fn hooks_are_read_in_both_spellings() {
        let hooks = |text| {
            let section: HookSection = serde_json::from_str(text).unwrap();
            section.hooks().unwrap()
        };
        assert_eq!(hooks("{}"), Hooks::default());
        let one = hooks(r#"{"afterCreate": "a", "before_run": "b", "timeout": 5}"#);
        assert_eq!(one.after_create.as_deref(), Some("a"));
        assert_eq!(one.before_run.as_deref(), Some("b"));
        assert_eq!(one.timeout, Duration::from_millis(5));
    }

    #[test]
    fn the_commands_that_are_set_count_for_the_deadlines() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let mut rules = SetupRules::default();
        assert_eq!(rules.longest_before(), minutes(15));
        assert_eq!(rules.longest_after(), Duration::ZERO);
        assert_eq!(rules.longest_making_room(), Duration::ZERO);
        rules.install = Install::Off;
        rules.hooks.before_run = Some("true".to_owned());
        rules.hooks.after_run = Some("true".to_owned());
        rules.hooks.before_remove = Some("true".to_owned());
        assert_eq!(rules.longest_before(), minutes(5));
        assert_eq!(rules.longest_after(), minutes(10));
        assert_eq!(rules.longest_making_room(), minutes(10));
    }

    #[test]
    fn no_port_for_a_story_is_none_at_all() {
        let section: PortSection = serde_json::from_str(r#"{"perStory": 0}"#).unwrap();
        assert_eq!(section.ports().unwrap(), None);
        let section: PortSection = serde_json::from_str(r#"{"first": 40000}"#).unwrap();
        let expected = Ports {
            first: 40_000,
            per_story: 10,
        };
        assert_eq!(section.ports().unwrap(), Some(expected));
    }
}
