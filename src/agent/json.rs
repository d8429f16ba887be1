//! Reading what is wanted out of a line of JSON, whatever else it holds. Pure.

use std::time::Duration;

use serde_json::Value;

/// The longest text that is shown of a tool's arguments, in characters.
const LONGEST_DETAIL: usize = 160;

/// The object on a line; none when it is something else, or was cut.
pub(super) fn object(line: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(line).ok()?;
    value.is_object().then_some(value)
}

/// The text at a path such as `/message/id`.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The number at a path; 0 when there is none.
pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).map_or(0, |value| {
        value.as_u64().unwrap_or_else(|| {
            value
                .as_f64()
                .filter(|number| *number > 0.0)
                .map_or(0, rounded)
        })
    })
}

/// The number of tokens at a path; 0 when there is none. A negative one is the highest there is, which nobody believes.
pub(super) fn tokens(value: &Value, pointer: &str) -> u64 {
    let told = value.pointer(pointer).and_then(Value::as_f64);
    if told.is_some_and(|told| told < 0.0) {
        u64::MAX
    } else {
        number(value, pointer)
    }
}

/// The milliseconds at a path.
pub(super) fn millis(value: &Value, pointer: &str) -> Option<Duration> {
    value.pointer(pointer)?;
    Some(Duration::from_millis(number(value, pointer)))
}

/// The dollars at a path, in millionths.
pub(super) fn micros(value: &Value, pointer: &str) -> Option<u64> {
    let dollars = value.pointer(pointer)?.as_f64()?;
    (dollars >= 0.0).then(|| rounded(dollars * 1e6))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float saturates, and what is negative was left out"
)]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

/// What a tool is called with, in a line: the argument that tells most.
pub(super) fn detail(arguments: &Value) -> Option<String> {
    const TELLING: &[&str] = &[
        "command",
        "cmd",
        "file_path",
        "filePath",
        "absolute_path",
        "path",
        "pattern",
        "query",
        "url",
        "description",
    ];
    let told = TELLING.iter().find_map(|name| match arguments.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            Some(words.join(" "))
        }
        _ => None,
    })?;
    let line: String = told
        .split_whitespace()
        .flat_map(|word| [" ", word])
        .collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.chars().take(LONGEST_DETAIL).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_whatever_they_are() {
        let value = json!({"a": {"n": 5, "f": 1.6, "s": "x", "m": -3}, "usd": 0.0075});
        let numbers = ["/a/n", "/a/f", "/a/s", "/a/m", "/b"].map(|path| number(&value, path));
        assert_eq!(numbers, [5, 2, 0, 0, 0]);
        let tokens = ["/a/n", "/a/f", "/a/s", "/a/m", "/b"].map(|path| tokens(&value, path));
        assert_eq!(tokens, [5, 2, 0, u64::MAX, 0]);
        assert_eq!(micros(&value, "/usd"), Some(7500));
        assert_eq!(micros(&value, "/a/m"), None);
        assert_eq!(micros(&json!({"usd": 1e300}), "/usd"), Some(u64::MAX));
    }

    #[test]
    fn the_argument_that_tells_most_is_shown_in_one_line() {
        let detail = |arguments: Value| detail(&arguments);
        assert_eq!(
            detail(json!({"description": "d", "command": "a\n  b"})),
            Some("a b".to_owned())
        );
        assert_eq!(
            detail(json!({"command": ["bash", "-lc", "ls"]})),
            Some("bash -lc ls".to_owned())
        );
        assert_eq!(detail(json!({"path": " "})), None);
        assert_eq!(detail(json!([1])), None);
        let long = detail(json!({"path": "é".repeat(1000)})).unwrap();
        assert_eq!(long.chars().count(), LONGEST_DETAIL);
    }
}
