//! The part of the configuration that says how agents are set up: `agents.<name>`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::Invalid;
use super::document::{Entry, section};
use super::resources::ResourceSection;
use crate::engine::{Price, Prices, Resources};

/// The longest name of an agent, in characters.
const LONGEST_NAME: usize = 64;

/// The most requests that may be allowed for one turn.
const MOST_REQUESTS: u32 = 100_000;

/// How one agent is set up. What is not set is as the agent has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentRules {
    /// The adapter that drives it, when its name is not that of one.
    pub adapter: Option<String>,
    /// Who serves it, when that is not the usual one: what a quota belongs to.
    pub provider: Option<String>,
    /// The program and its first arguments; empty for the usual one.
    pub command: Vec<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Names of variables that it gets besides the usual ones, and variables that are set, as `NAME=value`.
    pub environment: Vec<String>,
    /// The model.
    pub model: Option<String>,
    /// Whether it works by its own rules of what it may do, instead of being allowed everything.
    pub own_permissions: bool,
    /// The most requests to the model in one turn.
    pub most_requests: Option<u32>,
    /// What it wants of the machine, with all that it starts.
    pub resources: Resources,
}

/// The keys of one agent.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct AgentSection {
    adapter: Option<String>,
    provider: Option<String>,
    #[serde(deserialize_with = "words")]
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<String>,
    model: Option<String>,
    permissions: Option<String>,
    most_requests: Option<u32>,
    #[serde(deserialize_with = "section")]
    resources: ResourceSection,
}

/// All of them.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct AgentSections(BTreeMap<String, Entry<AgentSection>>);

impl AgentSections {
    pub(super) fn rules(self) -> Result<BTreeMap<String, AgentRules>, Invalid> {
        self.0
            .into_iter()
            .map(|(name, Entry(section))| Ok((name.clone(), section.rules(&name)?)))
            .collect()
    }
}

impl AgentSection {
    fn rules(self, name: &str) -> Result<AgentRules, Invalid> {
        let key = |key: &str| format!("agents.{name}.{key}");
        let fits = |character: char| character.is_ascii_alphanumeric() || "-_:".contains(character);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
            return Err(Invalid::new(
                format!("agents.{name}"),
                "must have a name of letters, digits, `-`, `_` and `:`",
            ));
        }
        let own_permissions = match self.permissions.as_deref() {
            None | Some("bypass") => false,
            Some("own") => true,
            Some(_) => {
                return Err(Invalid::new(
                    key("permissions"),
                    "must be \"bypass\" (it may do everything) or \"own\" (what its own configuration allows)",
                ));
            }
        };
        if self
            .most_requests
            .is_some_and(|most| most == 0 || most > MOST_REQUESTS)
        {
            return Err(Invalid::new(
                key("mostRequests"),
                format!("must be from 1 to {MOST_REQUESTS}"),
            ));
        }
        if self
            .command
            .first()
            .is_some_and(|word| word.trim().is_empty())
        {
            return Err(Invalid::new(
                key("command"),
                "must not begin with an empty word",
            ));
        }
        let texts = [
            ("command", &self.command),
            ("args", &self.args),
            ("env", &self.env),
        ];
        for (place, texts) in texts {
            if texts.iter().any(|text| text.contains('\0')) {
                return Err(Invalid::new(key(place), "must not contain a NUL character"));
            }
        }
        let no_name = |entry: &String| {
            entry
                .split('=')
                .next()
                .is_none_or(|name| name.trim().is_empty())
        };
        if self.env.iter().any(no_name) {
            return Err(Invalid::new(
                key("env"),
                "must hold names of variables, or variables as NAME=value",
            ));
        }
        for (place, text) in [
            ("adapter", &self.adapter),
            ("provider", &self.provider),
            ("model", &self.model),
        ] {
            if text
                .as_ref()
                .is_some_and(|text| text.trim().is_empty() || text.contains('\0'))
            {
                return Err(Invalid::new(key(place), "must not be empty"));
            }
        }
        Ok(AgentRules {
            adapter: self.adapter,
            provider: self.provider,
            command: self.command,
            arguments: self.args,
            environment: self.env,
            model: self.model,
            own_permissions,
            most_requests: self.most_requests,
            resources: self.resources.resources(&key("resources"))?,
        })
    }
}

/// The highest price that may be configured, in US dollars for a million tokens: what is more was not meant.
const HIGHEST_PRICE: f64 = 1e6;

/// The price of one model: `prices.<model>`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct PriceSection {
    input: Option<f64>,
    output: Option<f64>,
    cached: Option<f64>,
}

/// All of them.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct PriceSections(BTreeMap<String, Entry<PriceSection>>);

impl PriceSections {
    pub(super) fn prices(self) -> Result<Prices, Invalid> {
        let priced = |(model, Entry(section)): (String, Entry<PriceSection>)| {
            let micros = |name: &str, dollars: Option<f64>| match dollars {
                None => Ok(0),
                Some(dollars) if (0.0..=HIGHEST_PRICE).contains(&dollars) => Ok(micros(dollars)),
                Some(_) => Err(Invalid::new(
                    format!("prices.{model}.{name}"),
                    "must be from 0 to 1000000 US dollars for a million tokens",
                )),
            };
            let price = Price {
                input: micros("input", section.input)?,
                output: micros("output", section.output)?,
                cached: micros("cached", section.cached)?,
            };
            Ok((model, price))
        };
        let prices: Result<_, Invalid> = self.0.into_iter().map(priced).collect();
        prices.map(Prices::new)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is from 0 to the highest price"
)]
fn micros(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

/// What `agents.<name>.command` must be.
pub(super) const WORDS: &str = "a program, or a list of a program and its arguments";

/// Reads a program, or a list of it and its arguments.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Words;
    impl<'de> Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str(WORDS)
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
            Ok(vec![word.to_owned()])
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = list.next_element()? {
                words.push(word);
            }
            Ok(words)
        }
    }
    deserializer.deserialize_any(Words)
}
