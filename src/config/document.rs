//! Reading a file of JSON so that whatever is wrong with it is said with the key, what it must be, what it is, and the
//! place.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::ConfigError;
use super::size::SIZE;
use super::tokens::TOKENS;

/// The longest text that is repeated to say what a value is, in characters.
const LONGEST_SHOWN: usize = 40;

/// A text that is JSON.
pub(super) struct Document<'a> {
    text: &'a str,
    path: &'a Path,
    value: Value,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, path: &'a Path) -> Result<Self, ConfigError> {
        // Editors on Windows put a byte order mark in front, which JSON does not know.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value = serde_json::from_str(text)
            .map_err(|error| syntax(path, &error, without_place(&error)))?;
        Ok(Self { text, path, value })
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        if !self.value.is_object() {
            let what = describe(Some(&self.value));
            return Err(ConfigError::Syntax {
                path: self.path.to_owned(),
                line: 1,
                column: 1,
                reason: format!("the file must hold an object, not {what}"),
            });
        }
        let mut reader = serde_json::Deserializer::from_str(self.text);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let key = error.path().to_string();
            let error = error.inner();
            let message = without_place(error);
            let Some(rule) = rule(&message) else {
                let place = Some(key).filter(|key| key != ".");
                let place = place.map_or_else(String::new, |key| format!("`{key}`: "));
                return syntax(self.path, error, format!("{place}{message}"));
            };
            ConfigError::Value {
                path: self.path.to_owned(),
                line: error.line(),
                column: error.column(),
                reason: format!("{rule}, not {}", describe(self.at(&key))),
                key,
            }
        })
    }

    /// The error that the value of a key is not what it must be; about the place of a section above it when the key is
    /// not there.
    pub(super) fn error(&self, key: &str, rule: &str) -> ConfigError {
        let (line, column) = self.place(key);
        let reason = match self.at(key) {
            Some(value) => format!("{rule}, not {}", describe(Some(value))),
            None => rule.to_owned(),
        };
        ConfigError::Value {
            path: self.path.to_owned(),
            line,
            column,
            key: key.to_owned(),
            reason,
        }
    }

    /// The value of a key such as `limits.story` or `attempts.retry[1]`.
    fn at(&self, key: &str) -> Option<&Value> {
        at(&self.value, key)
    }

    /// Where the value of a key ends.
    fn place(&self, key: &str) -> (usize, usize) {
        let mut reader = serde_json::Deserializer::from_str(self.text);
        match Locate(key).deserialize(&mut reader) {
            Err(error) => (error.line(), error.column()),
            Ok(()) => (1, 1),
        }
    }
}

fn at<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    if key.is_empty() {
        return Some(value);
    }
    match value {
        Value::Object(entries) => entries
            .iter()
            .find_map(|(name, value)| at(value, below(key, name)?)),
        Value::Array(items) => {
            let (place, rest) = key.strip_prefix('[')?.split_once(']')?;
            at(items.get(place.parse::<usize>().ok()?)?, rest)
        }
        _ => None,
    }
}

/// What is left of a key below the entry of that name. Names of models have points in them.
fn below<'k>(key: &'k str, name: &str) -> Option<&'k str> {
    let rest = key.strip_prefix(name)?;
    let ends = rest.is_empty() || rest.starts_with('[');
    rest.strip_prefix('.').or_else(|| ends.then_some(rest))
}

fn syntax(path: &Path, error: &serde_json::Error, reason: String) -> ConfigError {
    ConfigError::Syntax {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        reason,
    }
}

/// The message, which ends with the place, without it.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let text = message.rsplit_once(" at line ").map(|(text, _)| text);
    text.unwrap_or(&message).to_owned()
}

/// What a value must be that serde does not take; none when it complains of something else.
fn rule(message: &str) -> Option<&'static str> {
    let of_type = message.starts_with("invalid type: ");
    let expected = message.rsplit_once(", expected ")?.1;
    Some(match expected {
        "f64" => "must be a number",
        "u16" | "u32" | "u64" | "usize" if of_type => "must be a whole number",
        "u16" | "u32" | "u64" | "usize" => "must be a whole number from 0",
        "a string" | "path string" => "must be a text",
        "a boolean" => "must be true or false",
        "a sequence" => "must be a list",
        OBJECT => "must be an object",
        super::setup::COMMAND => "must be a command, true or false",
        super::agents::WORDS => "must be a program, or a list of a program and its arguments",
        TOKENS => "must be a whole number, or a text such as \"250k\" or \"1.5M\"",
        SIZE => "must be a number of bytes or a text such as \"20GB\"",
        _ => return None,
    })
}

/// A value in the words of people.
fn describe(value: Option<&Value>) -> String {
    match value {
        None => "what it is".to_owned(),
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
        Some(value) => {
            let text = value.to_string();
            if text.chars().count() <= LONGEST_SHOWN {
                text
            } else {
                let text: String = text.chars().take(LONGEST_SHOWN).collect();
                format!("{text}…")
            }
        }
    }
}

const OBJECT: &str = "an object";

/// Reads a section: an object, or null for none. Left to itself, serde takes lists for structs as well.
pub(super) fn section<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Section(PhantomData))
}

/// A section in a map of sections.
#[derive(Debug, Deserialize)]
#[serde(transparent, bound = "T: Deserialize<'de> + Default")]
pub(super) struct Entry<T>(#[serde(deserialize_with = "section")] pub(super) T);

struct Section<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Section<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(OBJECT)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Goes to the value of a key, and fails there: the error names the place.
struct Locate<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            // Nothing is taken, so that whatever is there is an error.
            deserializer.deserialize_any(Nothing)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

struct Nothing;

impl Visitor<'_> for Nothing {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing")
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(OBJECT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match below(self.0, &key) {
                Some(rest) => map.next_value_seed(Locate(rest))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // The key itself is not there: its section is the place.
        Err(serde::de::Error::custom("here"))
    }
}
