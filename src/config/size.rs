//! Values that are an amount of disk space: a number of bytes, or a text with a unit.

use std::fmt;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

use crate::disk::Bytes;

/// What such a value is called in the messages of serde.
pub(super) const SIZE: &str = "an amount of disk space";

/// Reads an amount; null is none.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    deserializer.deserialize_any(Size)
}

struct Size;

impl Visitor<'_> for Size {
    type Value = Option<Bytes>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(SIZE)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, bytes: u64) -> Result<Self::Value, E> {
        Ok(Some(Bytes(bytes)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let unusable = || E::invalid_value(Unexpected::Str(text), &self);
        text.parse().map(Some).map_err(|_| unusable())
    }
}
