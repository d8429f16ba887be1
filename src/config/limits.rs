//! The part of the configuration that says what may be used: `limits`, and `costLimits` of the predecessor.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use serde::Deserialize;

use super::Invalid;
use super::document::{Entry, section};
use super::resources::ResourceSection;
use super::rules::{MOST_SLOTS, some_time};
use super::tokens::tokens;
use crate::engine::{Capacity, Limits, Provider};

/// The most turns a minute that a provider can be configured to have. What serves more needs no such limit.
const MOST_TURNS: u32 = 10_000;

/// What may be used, as somebody wants it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WantedLimits {
    /// Time in minutes.
    pub minutes: Option<f64>,
    /// Tokens.
    #[serde(deserialize_with = "tokens")]
    pub tokens: Option<u64>,
    /// Cost in US dollars.
    #[serde(alias = "cost")]
    pub cost_usd: Option<f64>,
    /// Turns.
    pub turns: Option<u64>,
}

/// What the person calls the limits that they have set.
#[derive(Debug, Clone, Copy)]
pub struct LimitNames {
    /// That of the time.
    pub minutes: &'static str,
    /// That of the tokens.
    pub tokens: &'static str,
    /// That of the cost.
    pub cost: &'static str,
    /// That of the turns.
    pub turns: &'static str,
}

const OF_STORY: LimitNames = LimitNames {
    minutes: "limits.story.minutes",
    tokens: "limits.story.tokens",
    cost: "limits.story.costUsd",
    turns: "limits.story.turns",
};

const OF_RUN: LimitNames = LimitNames {
    minutes: "limits.run.minutes",
    tokens: "limits.run.tokens",
    cost: "limits.run.costUsd",
    turns: "limits.run.turns",
};

const OF_DAY: LimitNames = LimitNames {
    minutes: "limits.day.minutes",
    tokens: "limits.day.tokens",
    cost: "limits.day.costUsd",
    turns: "limits.day.turns",
};

/// The keys of `limits`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitSections {
    #[serde(deserialize_with = "section")]
    story: WantedLimits,
    #[serde(deserialize_with = "section")]
    run: WantedLimits,
    #[serde(deserialize_with = "section")]
    day: WantedLimits,
    /// By their names, which may be anything: below a key of their own, so that none is `story` or `run`.
    #[serde(deserialize_with = "section")]
    providers: Providers,
    #[serde(deserialize_with = "section")]
    machine: ResourceSection,
}

/// The keys of `costLimits`. The predecessor read these and did nothing with them; zero is none there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CostLimits {
    #[serde(deserialize_with = "tokens")]
    per_story_max_tokens: Option<u64>,
    #[serde(deserialize_with = "tokens")]
    per_run_max_tokens: Option<u64>,
}

/// What may be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageRules {
    /// By one story.
    pub story: Limits,
    /// By a run.
    pub run: Limits,
    /// By all runs of a calendar day.
    pub day: Limits,
    /// How many attempts at stories of a provider may be alive at once.
    pub most_of_provider: BTreeMap<Provider, NonZeroUsize>,
    /// How many turns a minute a provider has.
    pub turns_per_minute: BTreeMap<Provider, NonZeroU32>,
    /// What agents may have of the machine together, where that is not all of it.
    pub machine: Capacity,
}

impl UsageRules {
    /// Whether anything is limited by the day, so that what other runs have used counts.
    pub fn has_day_limits(&self) -> bool {
        self.day != Limits::default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Providers(BTreeMap<String, Entry<ProviderSection>>);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ProviderSection {
    max_concurrent: Option<usize>,
    requests_per_minute: Option<u32>,
}

impl LimitSections {
    /// What may be used: what is not said of a story is as `of_story` says.
    pub(super) fn rules(self, of_story: Limits, old: &CostLimits) -> Result<UsageRules, Invalid> {
        if self.day.minutes.is_some() {
            return Err(Invalid::new(OF_DAY.minutes, "must be left out"));
        }
        let mut story = of_story.overridden_by(self.story.limits(&OF_STORY)?);
        let mut run = self.run.limits(&OF_RUN)?;
        let of = |value: Option<u64>| value.filter(|tokens| *tokens > 0);
        story.tokens = story.tokens.or(of(old.per_story_max_tokens));
        run.tokens = run.tokens.or(of(old.per_run_max_tokens));
        let mut rules = UsageRules {
            story,
            run,
            day: self.day.limits(&OF_DAY)?,
            machine: self.machine.capacity("limits.machine")?,
            ..UsageRules::default()
        };
        self.providers.apply(&mut rules)?;
        Ok(rules)
    }
}

impl Providers {
    fn apply(self, rules: &mut UsageRules) -> Result<(), Invalid> {
        for (name, Entry(section)) in self.0 {
            let invalid = |key: &str, rule: &'static str| {
                Invalid::new(format!("limits.providers.{name}.{key}"), rule)
            };
            let provider = Provider::from(name.clone());
            if let Some(most) = section.max_concurrent {
                let most = NonZeroUsize::new(most)
                    .filter(|most| *most <= MOST_SLOTS)
                    .ok_or_else(|| invalid("maxConcurrent", "must be from 1 to 1000"))?;
                rules.most_of_provider.insert(provider.clone(), most);
            }
            if let Some(most) = section.requests_per_minute {
                let most = NonZeroU32::new(most)
                    .filter(|most| most.get() <= MOST_TURNS)
                    .ok_or_else(|| invalid("requestsPerMinute", "must be from 1 to 10000"))?;
                rules.turns_per_minute.insert(provider, most);
            }
        }
        Ok(())
    }
}

impl WantedLimits {
    /// The limits, or the name of the one that cannot be meant, and what it has to be.
    ///
    /// # Errors
    /// When one of them is out of its range.
    pub fn check(self, names: &LimitNames) -> Result<Limits, String> {
        self.limits(names)
            .map_err(|Invalid(name, rule)| format!("{name} {rule}"))
    }

    fn limits(self, names: &LimitNames) -> Result<Limits, Invalid> {
        let time = self
            .minutes
            .map(|minutes| some_time(minutes, names.minutes));
        let counted = |number: Option<u64>, name| match number {
            Some(0) => Err(Invalid::new(name, "must be at least 1")),
            number => Ok(number),
        };
        let cost = self.cost_usd.map(|cost| micros(cost, names.cost));
        Ok(Limits {
            time: time.transpose()?,
            tokens: counted(self.tokens, names.tokens)?,
            cost_micros_usd: cost.transpose()?,
            turns: counted(self.turns, names.turns)?,
        })
    }
}

/// A sum in US dollars as millionths of one.
fn micros(dollars: f64, name: &'static str) -> Result<u64, Invalid> {
    let micros = dollars * 1e6;
    if !(1.0..1e15).contains(&micros) {
        return Err(Invalid::new(name, "must be from 0.000001 to 1000000000"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "its range has just been checked"
    )]
    Ok(micros.round() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rules(text: &str) -> Result<UsageRules, String> {
        let sections: LimitSections = serde_json::from_str(text).unwrap();
        let of_story = Limits {
            time: Some(Duration::from_secs(60)),
            ..Limits::default()
        };
        sections
            .rules(of_story, &CostLimits::default())
            .map_err(|Invalid(key, reason)| format!("{key} {reason}"))
    }

    #[test]
    fn everything_can_be_set() {
        let text = r#"{"story":{"minutes":1.5,"tokens":7,"costUsd":0.5,"turns":40},"run":{"cost":8.1},
            "day":{"costUsd":20,"tokens":3,"turns":2},
            "providers":{"anthropic":{"maxConcurrent":2,"requestsPerMinute":30},"story":{}}}"#;
        let rules = rules(text).unwrap();
        let of_story = Limits {
            time: Some(Duration::from_secs(90)),
            tokens: Some(7),
            cost_micros_usd: Some(500_000),
            turns: Some(40),
        };
        assert_eq!(rules.story, of_story);
        assert_eq!(rules.run.cost_micros_usd, Some(8_100_000));
        assert_eq!(rules.day.cost_micros_usd, Some(20_000_000));
        assert_eq!((rules.day.tokens, rules.day.turns), (Some(3), Some(2)));
        let anthropic = || Provider::from("anthropic".to_owned());
        let two = NonZeroUsize::MIN.saturating_add(1);
        assert_eq!(rules.most_of_provider, BTreeMap::from([(anthropic(), two)]));
        let thirty = NonZeroU32::MIN.saturating_add(29);
        assert_eq!(
            rules.turns_per_minute,
            BTreeMap::from([(anthropic(), thirty)])
        );
    }

    #[test]
    fn what_is_not_said_is_as_before() {
        let rules = rules("{}").unwrap();
        assert_eq!(rules.story.time, Some(Duration::from_secs(60)));
        assert_eq!(rules.run, Limits::default());
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (text, expected) in [
            (
                r#"{"providers":{"x":{"maxConcurrent":0}}}"#,
                "limits.providers.x.maxConcurrent must be from 1 to 1000",
            ),
            (
                r#"{"providers":{"x":{"requestsPerMinute":0}}}"#,
                "limits.providers.x.requestsPerMinute must be from 1 to 10000",
            ),
            (
                r#"{"story":{"minutes":0}}"#,
                "limits.story.minutes must be more than 0 and at most 43200, 30 days",
            ),
            (
                r#"{"run":{"costUsd":-1}}"#,
                "limits.run.costUsd must be from 0.000001 to 1000000000",
            ),
            (
                r#"{"run":{"minutes":1e300}}"#,
                "limits.run.minutes must be more than 0 and at most 43200, 30 days",
            ),
            (
                r#"{"run":{"costUsd":1e-9}}"#,
                "limits.run.costUsd must be from 0.000001 to 1000000000",
            ),
            (
                r#"{"story":{"tokens":0}}"#,
                "limits.story.tokens must be at least 1",
            ),
            (
                r#"{"story":{"turns":0}}"#,
                "limits.story.turns must be at least 1",
            ),
            (
                r#"{"day":{"minutes":5}}"#,
                "limits.day.minutes must be left out",
            ),
        ] {
            assert_eq!(rules(text), Err(expected.to_owned()));
        }
    }
}
