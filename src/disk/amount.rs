//! An amount of disk space, as people write and read it.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use thiserror::Error;

/// The units in which amounts are shown, each 1024 times the one before.
const SHOWN: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// The most digits behind the point that are read.
const MOST_DECIMALS: usize = 9;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no amount of bytes such as 500MB or 20GiB")]
pub struct BytesError(String);

impl Bytes {
    /// One gibibyte.
    pub const GIBI: Self = Self(1 << 30);

    /// The difference, or nothing when the other is larger.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.fold(0, |sum, amount| sum.saturating_add(amount.0)))
    }
}

/// With one digit behind the point, in the largest unit that leaves something in front of it.
impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = None;
        let mut size = 1_u64;
        for name in SHOWN {
            // What would be shown as 1024.0 of a unit is 1.0 of the next one.
            if tenths(self.0, size) < 10_240 && (unit.is_some() || self.0 < 1024) {
                break;
            }
            unit = Some(name);
            size = size.saturating_mul(1024);
        }
        let text = match unit {
            None => format!("{} B", self.0),
            Some(unit) => {
                let tenths = tenths(self.0, size);
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            }
        };
        formatter.pad(&text)
    }
}

/// How many tenths of a unit an amount is, rounded.
fn tenths(bytes: u64, unit: u64) -> u128 {
    let (bytes, unit) = (u128::from(bytes), u128::from(unit));
    (bytes * 10 + unit / 2) / unit
}

/// Units as coreutils has them: `K` and `KiB` are 1024, `KB` is 1000, and so on; in whatever case.
impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim()).ok_or_else(|| BytesError(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<Bytes> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let length = text.bytes().take_while(|byte| is_digit(byte)).count();
    let (number, unit) = text.split_at_checked(length)?;
    let unit = u128::from(multiplier(unit.trim_start())?);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if decimals.is_empty() || decimals.len() > MOST_DECIMALS {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = decimals.parse().ok()?;
    let scale = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let bytes = u128::from(whole) * unit + u128::from(part) * unit / scale;
    u64::try_from(bytes).ok().map(Bytes)
}

fn multiplier(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (power, base) = match unit.as_str() {
        "" | "b" => return Some(1),
        "k" | "kib" => (1, 1024),
        "kb" => (1, 1000),
        "m" | "mib" => (2, 1024),
        "mb" => (2, 1000),
        "g" | "gib" => (3, 1024),
        "gb" => (3, 1000),
        "t" | "tib" => (4, 1024_u64),
        "tb" => (4, 1000),
        _ => return None,
    };
    Some(base.pow(power))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_shown_short() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1024), "1.0 KiB");
        assert_eq!(shown(1536), "1.5 KiB");
        assert_eq!(shown(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(shown(20 << 30), "20.0 GiB");
        assert_eq!(shown(u64::MAX), "16.0 EiB");
        assert_eq!(format!("{:>8}|", Bytes(5)), "     5 B|");
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("20GB", 20_000_000_000),
            ("20 gb", 20_000_000_000),
            ("1.5GiB", 3 << 29),
            ("1G", 1 << 30),
            ("0.5k", 512),
            (" 7 B ", 7),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "GB",
            "-1",
            "1.",
            ".5",
            "1e3",
            "20XB",
            "1.2.3",
            "20 G B",
            "99999999T",
            "∞",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_amount_or_an_error(text in "\\PC{0,30}") {
            drop(text.parse::<Bytes>());
        }

        #[test]
        fn any_number_is_an_amount_and_can_be_shown(bytes: u64) {
            prop_assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), Bytes(bytes));
            prop_assert!(Bytes(bytes).to_string().len() <= 11);
        }
    }
}
