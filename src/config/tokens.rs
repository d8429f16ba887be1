//! Values that are a number of tokens: a number, or a text with a unit of thousands.

use std::fmt;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use thiserror::Error;

/// What such a value is called in the messages of serde.
pub(super) const TOKENS: &str = "a number of tokens";

/// Why a text is no number of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("it must be a whole number such as 250000, 250k or 1.5M")]
pub struct TokensError;

/// A number of tokens as people write it: `250000`, `250k`, `1.5M` or `1G`, in whatever case, in steps of thousand.
///
/// # Errors
/// When it is none, or not a whole one.
pub fn parse_tokens(text: &str) -> Result<u64, TokensError> {
    parse(text.trim()).ok_or(TokensError)
}

fn parse(text: &str) -> Option<u64> {
    let (number, decimals) = match text.chars().last()?.to_ascii_lowercase() {
        'k' => (&text[..text.len() - 1], 3),
        'm' => (&text[..text.len() - 1], 6),
        'g' => (&text[..text.len() - 1], 9),
        _ => (text, 0),
    };
    let (whole, part) = match number.split_once('.') {
        Some((whole, part)) if !part.is_empty() => (whole, part),
        Some(_) => return None,
        None => (number, ""),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(part) || part.len() > decimals {
        return None;
    }
    format!("{whole}{part:0<decimals$}").parse().ok()
}

/// Reads a number of tokens; null is none.
pub(super) fn tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Tokens)
}

struct Tokens;

impl Visitor<'_> for Tokens {
    type Value = Option<u64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(TOKENS)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, tokens: u64) -> Result<Self::Value, E> {
        Ok(Some(tokens))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let unusable = |_| E::invalid_value(Unexpected::Str(text), &self);
        parse_tokens(text).map(Some).map_err(unusable)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, tokens) in [
            ("0", 0),
            ("250000", 250_000),
            (" 1k ", 1000),
            ("1.5M", 1_500_000),
            ("0.25m", 250_000),
            ("2G", 2_000_000_000),
            ("007", 7),
        ] {
            assert_eq!(parse_tokens(text), Ok(tokens), "{text}");
        }
        for text in [
            "",
            "k",
            ".5k",
            "1.k",
            "1.5",
            "1.0001k",
            "-1",
            "+1",
            "1e6",
            "1 k",
            "1kk",
            "1_000",
            "é",
            "99999999999G",
        ] {
            assert_eq!(parse_tokens(text), Err(TokensError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_an_error(text in "\\PC{0,30}") {
            drop(parse_tokens(&text));
        }

        #[test]
        fn any_number_is_itself(tokens: u64) {
            prop_assert_eq!(parse_tokens(&tokens.to_string()), Ok(tokens));
        }
    }
}
