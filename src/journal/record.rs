//! One line of a journal: its format, version 1, to bytes and back. Pure.
//!
//! ```json
//! {"version":1,"sequence":7,"at_ms":1234,"record":{"any":"JSON"},"crc32":"0123abcd"}
//! ```
//!
//! The fields stand in this order and without white space between them, and the line ends with `\n`. `crc32` is the
//! CRC-32 (IEEE) of the bytes of the line before `,"crc32"`, in 8 lower-case hexadecimal digits, so it can be checked
//! without understanding the record. Any line that can be read by its version starts with `{"version":N,`.
//!
//! Promises that a line with one changed byte is an error, whichever byte it is, and that whatever [`encode`] accepts
//! is one line. [`decode`] gives back what JSON can hold: a floating point number may differ in its last bit, infinity
//! and not-a-number become `null`, and a record that is nested more than 127 deep can be written but not read.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u64 = 1;

/// The longest line, its newline included, in bytes. It bounds the memory of a reader whatever lies in the file; the
/// largest thing that a record has a reason to hold is a story file, which is 512 KiB and at most six times that in
/// JSON.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// What the last field of a line starts with.
const CHECKSUM_STARTS: &str = ",\"crc32\":\"";

/// The end of a line, after the digits of the checksum.
const LINE_ENDS: &str = "\"}\n";

/// How many bytes of a line the checksum does not cover: from [`CHECKSUM_STARTS`] to [`LINE_ENDS`].
const SUFFIX_LEN: usize = CHECKSUM_STARTS.len() + 8 + LINE_ENDS.len();

/// One record and its place in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// From 1, without gaps.
    pub sequence: u64,
    /// When it was written, in milliseconds since the start of the run.
    pub at_ms: u64,
    /// What is recorded.
    pub record: T,
}

/// Why a record could not become a line.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// Its type cannot be written as JSON: a map whose keys are not text, a path that is not Unicode.
    #[error("the record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than [`MAX_LINE`].
    #[error("a line of {length} bytes, and the longest has {MAX_LINE}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// Why bytes are not a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE`].
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    /// Not of the shape of a line.
    #[error("not a line of a journal: {missing} is missing")]
    Malformed {
        /// The first part that is not there.
        missing: &'static str,
    },
    /// Written in another version of the format.
    #[error("format version {found}, and this program reads version {known}")]
    Version {
        /// The version of the line.
        found: u64,
        /// [`FORMAT_VERSION`].
        known: u64,
    },
    /// Not the bytes that were written.
    #[error("the checksum is {computed:08x}, and the line says {stored:08x}")]
    Checksum {
        /// That of the bytes.
        computed: u32,
        /// What the line says.
        stored: u32,
    },
    /// The bytes are those that were written, but this program does not understand the record.
    #[error("the record is not understood: {0}")]
    Body(String),
}

impl LineError {
    /// Whether a line that was not written to its end can look like this. A line of another version, or with a record
    /// that is not understood, was written on purpose.
    pub fn may_be_torn(&self) -> bool {
        match self {
            Self::TooLong | Self::Malformed { .. } | Self::Checksum { .. } => true,
            Self::Version { .. } | Self::Body(_) => false,
        }
    }
}

/// The line of a record, with its newline.
///
/// # Errors
/// When the record cannot be written as JSON, or the line is longer than [`MAX_LINE`].
pub fn encode<T: Serialize>(sequence: u64, at_ms: u64, record: &T) -> Result<String, EncodeError> {
    let record = serde_json::to_string(record)?;
    let mut line = format!(
        "{{\"version\":{FORMAT_VERSION},\"sequence\":{sequence},\"at_ms\":{at_ms},\"record\":{record}"
    );
    let suffix = suffix(crc32fast::hash(line.as_bytes()));
    line.push_str(&suffix);
    if line.len() > MAX_LINE {
        return Err(EncodeError::TooLong { length: line.len() });
    }
    Ok(line)
}

/// The record of a line, which is given with its newline.
///
/// The version is looked at first, because it says how to read the rest; then the checksum, and only then the record.
///
/// # Errors
/// When these are not the bytes of a line of version [`FORMAT_VERSION`], or the record is not a `T`.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<Entry<T>, LineError> {
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong);
    }
    let (version, rest) = number(line, "{\"version\":", "its version")?;
    if version != FORMAT_VERSION {
        return Err(LineError::Version {
            found: version,
            known: FORMAT_VERSION,
        });
    }
    let Some(covered) = rest.len().checked_sub(SUFFIX_LEN) else {
        return Err(LineError::Malformed { missing: CHECKSUM });
    };
    let (rest, end) = rest.split_at(covered);
    let computed = crc32fast::hash(&line[..line.len() - SUFFIX_LEN]);
    if end != suffix(computed).as_bytes() {
        let stored = stored_checksum(end).ok_or(LineError::Malformed { missing: CHECKSUM })?;
        return Err(LineError::Checksum { computed, stored });
    }
    let (sequence, rest) = number(rest, ",\"sequence\":", "its sequence number")?;
    let (at_ms, rest) = number(rest, ",\"at_ms\":", "its time")?;
    let record = rest
        .strip_prefix(b",\"record\":")
        .ok_or(LineError::Malformed {
            missing: "its record",
        })?;
    let record =
        serde_json::from_slice(record).map_err(|error| LineError::Body(error.to_string()))?;
    Ok(Entry {
        sequence,
        at_ms,
        record,
    })
}

/// What an error calls the last field.
const CHECKSUM: &str = "its checksum and newline";

/// Everything after the bytes that the checksum covers.
fn suffix(checksum: u32) -> String {
    format!("{CHECKSUM_STARTS}{checksum:08x}{LINE_ENDS}")
}

/// The checksum of a suffix, if that is one.
fn stored_checksum(end: &[u8]) -> Option<u32> {
    let digits = end
        .strip_prefix(CHECKSUM_STARTS.as_bytes())?
        .strip_suffix(LINE_ENDS.as_bytes())?;
    let digits = std::str::from_utf8(digits).ok()?;
    let stored = u32::from_str_radix(digits, 16).ok()?;
    // Only as it is written: not in upper case, not with a sign.
    (suffix(stored).as_bytes() == end).then_some(stored)
}

/// The number after `name`, which ends at a comma, and what is left from there, or that `missing` is. Only as it is
/// written: without a sign, without leading zeros.
fn number<'a>(
    bytes: &'a [u8],
    name: &str,
    missing: &'static str,
) -> Result<(u64, &'a [u8]), LineError> {
    let find = || {
        let rest = bytes.strip_prefix(name.as_bytes())?;
        let comma = rest.iter().position(|byte| *byte == b',')?;
        let (digits, rest) = rest.split_at(comma);
        let digits = std::str::from_utf8(digits).ok()?;
        let number: u64 = digits.parse().ok()?;
        (number.to_string() == digits).then_some((number, rest))
    };
    find().ok_or(LineError::Malformed { missing })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    const GOLDEN: &str = concat!(
        r#"{"version":1,"sequence":7,"at_ms":1234,"#,
        r#""record":{"story":"S-42","note":"a\nb \"c\" é"},"#,
        r#""crc32":"c8fc549c"}"#,
        "\n"
    );

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        story: String,
        note: String,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    enum Body {
        Nothing,
        Text(String),
        Fields {
            number: u64,
            signed: i64,
            flag: bool,
            texts: Vec<String>,
            by_name: BTreeMap<String, Option<String>>,
        },
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[\n\r\t\"\\\\{},:\u{0}\u{7f}\u{2028}é😀a]{0,20}",
            Just("\",\"crc32\":\"00000000\"}\n".to_owned()),
            Just(GOLDEN.to_owned()),
        ]
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)]
    }

    fn body() -> impl Strategy<Value = Body> {
        let fields = (
            number(),
            any::<i64>(),
            any::<bool>(),
            prop::collection::vec(text(), 0..4),
            prop::collection::btree_map(text(), prop::option::of(text()), 0..4),
        );
        prop_oneof![
            Just(Body::Nothing),
            text().prop_map(Body::Text),
            fields.prop_map(|(number, signed, flag, texts, by_name)| Body::Fields {
                number,
                signed,
                flag,
                texts,
                by_name,
            }),
        ]
    }

    fn note() -> Note {
        Note {
            story: "S-42".to_owned(),
            note: "a\nb \"c\" é".to_owned(),
        }
    }

    /// A line with a right checksum.
    fn signed(covered: &str) -> String {
        format!("{covered}{}", suffix(crc32fast::hash(covered.as_bytes())))
    }

    fn fault(line: &str) -> LineError {
        decode::<Value>(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_line_has_exactly_these_bytes() {
        assert_eq!(encode(7, 1234, &note()).unwrap(), GOLDEN);
        let entry = Entry {
            sequence: 7,
            at_ms: 1234,
            record: note(),
        };
        assert_eq!(decode(GOLDEN.as_bytes()), Ok(entry));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_one_line_and_is_decoded(sequence in number(), at_ms in number(), record in body()) {
            let line = encode(sequence, at_ms, &record).unwrap();
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert_eq!(decode(line.as_bytes()), Ok(Entry { sequence, at_ms, record }));
            // It is JSON, for whoever reads it with other tools.
            let json: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(json["sequence"].as_u64(), Some(sequence));
        }

        #[test]
        fn every_changed_byte_is_found(
            sequence in number(),
            record in body(),
            at in any::<prop::sample::Index>(),
            change in 1..=u8::MAX,
        ) {
            let mut line = encode(sequence, 9, &record).unwrap().into_bytes();
            let at = at.index(line.len());
            line[at] ^= change;
            prop_assert!(decode::<Value>(&line).is_err(), "byte {}", at);
        }

        #[test]
        fn no_bytes_are_read_that_would_not_be_written(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<Value>(&bytes).is_err());
        }
    }

    #[test]
    fn every_change_of_every_byte_of_a_line_is_found() {
        for at in 0..GOLDEN.len() {
            for change in 1..=u8::MAX {
                let mut line = GOLDEN.as_bytes().to_vec();
                line[at] ^= change;
                assert!(decode::<Value>(&line).is_err(), "byte {at} with {change}");
            }
        }
    }

    #[test]
    fn no_part_of_a_line_is_a_line() {
        for end in 0..GOLDEN.len() {
            let error = decode::<Value>(&GOLDEN.as_bytes()[..end]).unwrap_err();
            assert!(error.may_be_torn(), "{end}: {error}");
        }
        assert!(fault(&format!("{GOLDEN}\n")).may_be_torn());
        assert!(fault(&format!(" {GOLDEN}")).may_be_torn());
    }

    #[test]
    fn another_version_is_named_even_when_nothing_else_is_as_it_is_here() {
        let line = "{\"version\":2,\"more\":\"that this version does not know\"}\n";
        let error = fault(line);
        assert_eq!(error, LineError::Version { found: 2, known: 1 });
        assert!(!error.may_be_torn());
        assert_eq!(
            error.to_string(),
            "format version 2, and this program reads version 1"
        );
    }

    #[test]
    fn a_wrong_checksum_is_named_with_the_right_one() {
        let error = fault(&GOLDEN.replace("c8fc549c", "c8fc549d"));
        assert_eq!(
            error.to_string(),
            "the checksum is c8fc549c, and the line says c8fc549d"
        );
        assert!(error.may_be_torn());
    }

    #[test]
    fn a_checksum_is_read_only_as_it_is_written() {
        for suffix in ["C8FC549C", "+8fc549c", " 8fc549c"] {
            let error = fault(&GOLDEN.replace("c8fc549c", suffix));
            assert_eq!(error, LineError::Malformed { missing: CHECKSUM });
        }
    }

    #[test]
    fn a_whole_line_of_another_shape_is_refused() {
        for (covered, missing) in [
            ("[1", "its version"),
            ("{\"version\":01,\"sequence\":1", "its version"),
            ("{\"version\":1", "its sequence number"),
            ("{\"version\":1,\"at_ms\":1", "its sequence number"),
            ("{\"version\":1,\"sequence\":+1,", "its sequence number"),
            (
                "{\"version\":1,\"sequence\":18446744073709551616,",
                "its sequence number",
            ),
            ("{\"version\":1,\"sequence\":1,\"record\":1", "its time"),
            (
                "{\"version\":1,\"sequence\":1,\"at_ms\":1,\"note\":1",
                "its record",
            ),
        ] {
            let error = fault(&signed(covered));
            assert_eq!(error, LineError::Malformed { missing }, "{covered}");
        }
    }

    #[test]
    fn a_field_after_the_record_is_not_read_over() {
        let covered = "{\"version\":1,\"sequence\":1,\"at_ms\":1,\"record\":{},\"more\":1";
        let error = fault(&signed(covered));
        assert!(matches!(&error, LineError::Body(_)), "{error}");
    }

    #[test]
    fn a_record_that_is_not_understood_is_no_damage() {
        let line = encode(1, 1, &Value::from("Unheard")).unwrap();
        let error = decode::<Body>(line.as_bytes()).unwrap_err();
        assert!(!error.may_be_torn());
        let message = error.to_string();
        assert!(
            message.starts_with("the record is not understood: unknown variant `Unheard`"),
            "{message}"
        );
        // Damage is found before anybody tries to understand the record.
        let damaged = line.replace("Unheard", "Unseen!");
        let error = decode::<Body>(damaged.as_bytes()).unwrap_err();
        assert!(matches!(error, LineError::Checksum { .. }), "{error}");
    }

    #[test]
    fn a_record_may_be_nested_127_deep() {
        let nested = |depth| (1..depth).fold(Value::Array(vec![]), |inner, _| vec![inner].into());
        let line = encode(1, 1, &nested(127)).unwrap();
        assert_eq!(
            decode::<Value>(line.as_bytes()).unwrap().record,
            nested(127)
        );
        let line = encode(1, 1, &nested(128)).unwrap();
        assert!(matches!(fault(&line), LineError::Body(_)));
    }

    #[test]
    fn what_cannot_be_json_is_not_encoded() {
        let keys_that_are_no_text = BTreeMap::from([((1, 2), 3)]);
        let error = encode(1, 1, &keys_that_are_no_text).unwrap_err();
        assert!(matches!(error, EncodeError::Json(_)), "{error}");
    }

    #[test]
    fn the_longest_line_is_read_and_a_longer_one_not_written() {
        let shortest = encode(1, 1, &"").unwrap().len();
        let longest = "x".repeat(MAX_LINE - shortest);
        let line = encode(1, 1, &longest).unwrap();
        assert_eq!(line.len(), MAX_LINE);
        assert_eq!(decode::<String>(line.as_bytes()).unwrap().record, longest);

        let longer = format!("{longest}x");
        let error = encode(1, 1, &longer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a line of 16777217 bytes, and the longest has 16777216"
        );
        let line = line.replace("\"x", "\"xx");
        assert_eq!(decode::<String>(line.as_bytes()), Err(LineError::TooLong));
    }
}
