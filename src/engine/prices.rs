//! What tokens cost, for agents that do not say what they have cost. Pure.

use std::collections::BTreeMap;

/// The prices of one model, in millionths of a US dollar for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// Of what is sent.
    pub input: u64,
    /// Of what the model writes.
    pub output: u64,
    /// Of what comes from the provider's cache.
    pub cached: u64,
}

/// The tokens of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Sent, without those from the cache.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
    /// From the provider's cache.
    pub cached: u64,
}

/// The prices of models, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices(BTreeMap<String, Price>);

/// Prices are for so many tokens.
const MILLION: u128 = 1_000_000;

impl Prices {
    /// Those of these models. A name stands for all models whose names begin with it, the longest for the most.
    pub fn new(prices: BTreeMap<String, Price>) -> Self {
        Self(prices)
    }

    /// Whether nobody has said any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What these tokens of a model cost, in millionths of a US dollar, rounded up; none when nobody has said.
    pub fn cost(&self, model: &str, tokens: Tokens) -> Option<u64> {
        let known = self
            .0
            .iter()
            .filter(|(name, _)| model.starts_with(name.as_str()));
        let (_, price) = known.max_by_key(|(name, _)| name.len())?;
        let parts = [
            (tokens.input, price.input),
            (tokens.output, price.output),
            (tokens.cached, price.cached),
        ];
        let sum: u128 = parts
            .iter()
            .map(|(tokens, price)| u128::from(*tokens) * u128::from(*price))
            .sum();
        Some(u64::try_from(sum.div_ceil(MILLION)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_that_a_model_begins_with_has_its_price() {
        let price = |input, output, cached| Price {
            input,
            output,
            cached,
        };
        let prices = Prices::new(BTreeMap::from([
            ("gpt-5".to_owned(), price(1_250_000, 10_000_000, 125_000)),
            ("gpt-5-mini".to_owned(), price(250_000, 2_000_000, 0)),
        ]));
        let tokens = Tokens {
            input: 1000,
            output: 100,
            cached: 8000,
        };
        assert_eq!(prices.cost("gpt-5", tokens), Some(1250 + 1000 + 1000));
        assert_eq!(prices.cost("gpt-5-mini-2026", tokens), Some(250 + 200));
        assert_eq!(prices.cost("other", tokens), None);
        let one = Tokens {
            cached: 1,
            ..Tokens::default()
        };
        assert_eq!(prices.cost("gpt-5", one), Some(1));
        let most = Tokens {
            input: u64::MAX,
            ..tokens
        };
        assert_eq!(prices.cost("gpt-5", most), Some(u64::MAX));
    }
}
