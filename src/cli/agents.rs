//! The agents that stories may name: those that this version knows, and those that the configuration describes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::agent::{self, Agent, Program};
use crate::config::{AgentRules, Config};
use crate::engine::{Provider, Resources};
use crate::protocol::AgentSetup;

/// The variable that names the model of every agent that has none, as in the predecessor.
const MODEL_VARIABLE: &str = "AI_SDLC_MODEL";

/// The agents that can be named.
#[derive(Debug, Clone)]
pub(super) struct Agents {
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    setup: AgentSetup,
    provider: Provider,
    resources: Resources,
}

/// Why an agent cannot be driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Undrivable {
    /// There is none of that name; this one may have been meant.
    Unknown(Option<String>),
    /// The configuration does not say which program it is.
    NoCommand,
    /// Its program is not there; this is how people get it.
    NotInstalled {
        /// The program.
        program: String,
        /// How people get it, where that is known.
        install: Option<&'static str>,
    },
}

impl Agents {
    /// Those of a project.
    ///
    /// # Errors
    /// When the configuration describes one by an adapter that there is not, or without a name for it.
    pub(super) fn of(config: &Config) -> Result<Self, CliError> {
        Self::with_variables(config, |name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    fn with_variables(
        config: &Config,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CliError> {
        let unset = AgentRules::default();
        let described = config.agents.keys().map(String::as_str);
        let names = agent::NAMES.iter().copied().chain(described);
        let mut known = BTreeMap::new();
        for name in names {
            let rules = config.agents.get(name).unwrap_or(&unset);
            let adapter = rules.adapter.as_deref().unwrap_or(name);
            let found = agent::find(adapter).filter(|_| !is_misspelt(adapter, rules));
            let Some(found) = found else {
                let adapters = agent::NAMES.join(", ");
                return Err(CliError::new(format!(
                    "the configuration describes an agent `{name}`, and there is no adapter `{adapter}`{}",
                    did_you_mean(agent::closest(adapter, agent::NAMES.iter().copied())),
                ))
                .hint(format!("`agents.{name}.adapter` says how it is driven: {adapters}")));
            };
            // The model of `ai` is for the agent of `ai`.
            let of_ai = config.agent.as_deref().unwrap_or(agent::DEFAULT) == name;
            let upper = name.to_uppercase().replace(['-', ':'], "_");
            let model = rules
                .model
                .clone()
                .or_else(|| config.model.clone().filter(|_| of_ai))
                .or_else(|| variable(&format!("AI_SDLC_{upper}_MODEL")))
                .or_else(|| variable(MODEL_VARIABLE));
            let provider = rules.provider.clone();
            let provider = provider.unwrap_or_else(|| match found.capabilities().provider {
                Some(provider) => provider.to_owned(),
                None => name.to_owned(),
            });
            let setup = AgentSetup {
                name: name.to_owned(),
                adapter: adapter.to_owned(),
                command: rules.command.clone(),
                arguments: rules.arguments.clone(),
                model,
                own_permissions: rules.own_permissions,
                most_requests: rules.most_requests,
                environment: rules.environment.clone(),
            };
            let provider = Provider::from(provider);
            let resources = rules.resources;
            let described = Known {
                setup,
                provider,
                resources,
            };
            known.insert(name.to_owned(), described);
        }
        let limits = &config.rules.limits;
        let paced = limits.turns_per_minute.keys();
        for limited in limits.most_of_provider.keys().chain(paced) {
            let serves = |known: &Known| known.provider == *limited;
            if !known.values().any(serves) {
                let limited = limited.as_str();
                let providers = known.values().map(|known| known.provider.as_str());
                let providers: BTreeSet<&str> = providers.collect();
                return Err(CliError::new(format!(
                    "`limits.providers` limits `{limited}`, and no agent has that provider{} (there are: {})",
                    did_you_mean(agent::closest(limited, providers.iter().copied())),
                    providers.into_iter().collect::<Vec<_>>().join(", "),
                ))
                .hint("`agents.<name>.provider` says who serves an agent"));
            }
        }
        Ok(Self { known })
    }

    /// Their names, in the order of the alphabet.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// How one is set up.
    pub(super) fn setup(&self, name: &str) -> Option<&AgentSetup> {
        self.known.get(name).map(|known| &known.setup)
    }

    /// How they are set up, by their names.
    pub(super) fn setups(&self) -> BTreeMap<String, AgentSetup> {
        let all = self.known.iter();
        all.map(|(name, known)| (name.clone(), known.setup.clone()))
            .collect()
    }

    /// Who serves an agent; one that is not known serves itself.
    pub(super) fn provider(&self, name: &str) -> Provider {
        match self.known.get(name) {
            Some(known) => known.provider.clone(),
            None => Provider::from(name.to_owned()),
        }
    }

    /// What an agent wants of the machine.
    pub(super) fn resources(&self, name: &str) -> Resources {
        let known = self.known.get(name);
        known.map(|known| known.resources).unwrap_or_default()
    }

    /// Whether an agent can be driven on this machine.
    ///
    /// # Errors
    /// When there is none of that name, or its program is not there.
    pub(super) fn check(&self, name: &str) -> Result<(), Undrivable> {
        let Some(known) = self.known.get(name) else {
            let closest = agent::closest(name, self.names()).map(str::to_owned);
            // One that only needs to be described, unless something else was meant.
            let describable = closest.is_none() && agent::find(name).is_some();
            return Err(if describable {
                Undrivable::NoCommand
            } else {
                Undrivable::Unknown(closest)
            });
        };
        let adapter = agent::find(&known.setup.adapter);
        let usual = adapter.map_or(Program::None, Agent::program);
        let (program, install) = match (known.setup.command.first(), usual) {
            (Some(program), _) => (program.as_str(), None),
            (None, Program::Named { name, install }) => (name, Some(install)),
            (None, Program::Configured) => return Err(Undrivable::NoCommand),
            (None, Program::None) => return Ok(()),
        };
        if is_there(program) {
            return Ok(());
        }
        Err(Undrivable::NotInstalled {
            program: program.to_owned(),
            install,
        })
    }
}

/// Whether an adapter that needs a command, and has none, is near one that needs none: that one was meant.
fn is_misspelt(adapter: &str, rules: &AgentRules) -> bool {
    rules.command.is_empty()
        && !agent::NAMES.contains(&adapter)
        && agent::closest(adapter, agent::NAMES.iter().copied()).is_some()
}

/// Whether there is such a program: at its path, or on the `PATH`. One whose path is relative to a worktree is not
/// looked for, since there is no worktree yet.
fn is_there(program: &str) -> bool {
    let path = Path::new(program);
    if path.is_absolute() {
        return is_program(path);
    }
    if program.contains('/') {
        return true;
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder: PathBuf| folder.join(program))
        .any(|path| is_program(&path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// ` (did you mean …?)`, or nothing.
pub(super) fn did_you_mean(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}
