//! The lines of the Agent Client Protocol: JSON-RPC 2.0, a message a line. Pure.
//!
//! Whatever else stands in a message means nothing, and what is no message is none. Of a line that was cut, what is left
//! of its beginning still tells who asks, or what is answered: nobody is left waiting because an answer was too long.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::{Value, json};

use crate::agent::json::object;

/// The longest id of a request that is answered, in bytes: those of all agents are numbers, or UUIDs.
const LONGEST_ID: usize = 256;

/// What an agent wrote.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// The answer to one of our requests, which are numbered.
    Answer {
        /// The number.
        to: u64,
        /// What it says.
        says: Answer,
    },
    /// It wants an answer.
    Request {
        /// What the answer goes to.
        id: Value,
        /// What it wants.
        method: String,
        /// Of what; null when the line was cut.
        params: Value,
    },
    /// It tells something.
    Notice {
        /// What kind of thing.
        method: String,
        /// What.
        params: Value,
    },
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// What was asked for.
    Result(Value),
    /// An error.
    Error(Value),
    /// Something that was cut off.
    Cut,
}

/// The message on a line.
pub(super) fn message(line: &[u8]) -> Option<Message> {
    let Some(mut whole) = object(line) else {
        return Beginning::of(line).message();
    };
    let mut take = |name: &str| whole.get_mut(name).map(Value::take);
    let id = take("id").filter(|id| !id.is_null());
    if let Some(Value::String(method)) = take("method") {
        let params = take("params").unwrap_or_default();
        return Some(match id {
            None => Message::Notice { method, params },
            Some(id) => Message::Request {
                id: answerable(id)?,
                method,
                params,
            },
        });
    }
    let to = id?.as_u64()?;
    let says = match (
        take("error").filter(|error| !error.is_null()),
        take("result"),
    ) {
        (Some(error), _) => Answer::Error(error),
        (None, Some(result)) => Answer::Result(result),
        (None, None) => return None,
    };
    Some(Message::Answer { to, says })
}

fn answerable(id: Value) -> Option<Value> {
    match &id {
        Value::Number(_) => Some(id),
        Value::String(text) if text.len() <= LONGEST_ID => Some(id),
        _ => None,
    }
}

/// What is left of a message that was cut.
#[derive(Default)]
struct Beginning {
    id: Option<Value>,
    method: Option<String>,
}

impl Beginning {
    fn of(line: &[u8]) -> Self {
        let mut beginning = Self::default();
        let mut rest = serde_json::Deserializer::from_slice(line);
        // It ends in an error wherever the line was cut; what was read until then counts.
        drop(beginning.deserialize(&mut rest));
        beginning
    }

    fn message(self) -> Option<Message> {
        let id = self.id?;
        Some(match self.method {
            Some(method) => Message::Request {
                id: answerable(id)?,
                method,
                params: Value::Null,
            },
            None => Message::Answer {
                to: id.as_u64()?,
                says: Answer::Cut,
            },
        })
    }
}

impl<'de> DeserializeSeed<'de> for &mut Beginning {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Beginning {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "id" => self.id = Some(map.next_value()?),
                "method" => self.method = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A request of ours.
pub(super) fn request(number: u64, method: &str, params: &impl Serialize) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
}

/// Something that we tell.
pub(super) fn notice(method: &str, params: &impl Serialize) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

/// Our answer to a request.
pub(super) fn answer(id: &Value, result: &impl Serialize) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

/// Our answer to a request that we cannot do.
pub(super) fn refusal(id: &Value, error: &impl Serialize) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
}

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Message> {
        message(line.as_bytes())
    }

    #[test]
    fn messages_are_told_apart_by_what_they_have() {
        let answer = |says| Some(Message::Answer { to: 3, says });
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","id":3,"result":null}"#),
            answer(Answer::Result(Value::Null))
        );
        assert_eq!(
            read(r#"{"id":3,"result":1,"error":{"code":5}}"#),
            answer(Answer::Error(json!({"code": 5})))
        );
        assert_eq!(
            read(r#"{"id":3,"error":null,"result":1}"#),
            answer(Answer::Result(json!(1)))
        );
        let notice = |params| {
            Some(Message::Notice {
                method: "m".to_owned(),
                params,
            })
        };
        assert_eq!(read(r#"{"method":"m"}"#), notice(Value::Null));
        assert_eq!(
            read(r#"{"method":"m","id":null,"params":[]}"#),
            notice(json!([]))
        );
        let asked = Message::Request {
            id: json!("a-1"),
            method: "m".to_owned(),
            params: json!({}),
        };
        assert_eq!(
            read(r#"{"method":"m","id":"a-1","params":{},"x":1}"#),
            Some(asked)
        );
        for nothing in [
            "",
            "starting",
            "[]",
            "{}",
            r#"{"id":3}"#,
            r#"{"id":"3","result":1}"#,
            r#"{"id":{},"method":"m"}"#,
            r#"{"id":-1,"result":1}"#,
        ] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
        let long = format!(r#"{{"id":"{}","method":"m"}}"#, "x".repeat(LONGEST_ID + 1));
        assert_eq!(read(&long), None);
    }

    #[test]
    fn a_message_that_was_cut_tells_who_waits() {
        let cut =
            r#"{"jsonrpc":"2.0","id":7,"method":"session/request_permission","params":{"a":"bc"#;
        let asked = Message::Request {
            id: json!(7),
            method: "session/request_permission".to_owned(),
            params: Value::Null,
        };
        assert_eq!(read(cut), Some(asked));
        let cut = read(r#"{"jsonrpc":"2.0","id":7,"result":{"stop"#);
        assert_eq!(
            cut,
            Some(Message::Answer {
                to: 7,
                says: Answer::Cut
            })
        );
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","method":"session/update","params":{"#),
            None
        );
        assert_eq!(read(r#"{"jsonrpc":"2.0","i"#), None);
    }

    #[test]
    fn what_we_write_is_one_line() {
        let line = request(1, "m", &json!({"text": "two\nlines"}));
        let (last, rest) = line.split_last().unwrap();
        assert_eq!(*last, b'\n');
        assert!(!rest.contains(&b'\n'));
        assert!(matches!(message(&line), Some(Message::Request { .. })));
    }
}
