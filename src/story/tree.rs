//! The block between the fences as a tree of values that know where in the file they stand.
//!
//! Owns the one call into the YAML parser. Promises that nothing is evaluated or included, that nesting and size
//! are bounded, that duplicate keys are an error, and that the text of a plain scalar is available as written
//! (`007` stays `007`). Does not interpret keys. Pure.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{
    Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess as _, Visitor,
};
use serde_saphyr::{Location, Spanned};

/// How deep values may be nested. The parser recurses, and a thread of the test runner has only 2 MiB of stack.
const MAX_DEPTH: usize = 24;

/// How many values a front matter may hold, those behind aliases included.
const MAX_NODES: usize = 20_000;

/// One value. Equality is equality of what a reader of the YAML sees; places do not count.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Placed>),
    Map(Vec<(Placed, Placed)>),
}

/// A value and where it stands: `at` is where it is used (an alias, say), `source` is where it is written.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) node: Node,
    /// 1-based line.
    pub(crate) line: usize,
    /// Bytes of the parsed text, where the value is used.
    pub(crate) at: Range<usize>,
    /// Bytes of the parsed text, where the value is written.
    pub(crate) source: Range<usize>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(mine), Self::Bool(theirs)) => mine == theirs,
            (Self::Integer(mine), Self::Integer(theirs)) => mine == theirs,
            (Self::Float(mine), Self::Float(theirs)) => mine.to_bits() == theirs.to_bits(),
            (Self::Text(mine), Self::Text(theirs)) => mine == theirs,
            (Self::List(mine), Self::List(theirs)) => mine == theirs,
            (Self::Map(mine), Self::Map(theirs)) => mine == theirs,
            _ => false,
        }
    }
}

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

/// Why the text is not YAML that we accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// 1-based line, 0 when the parser did not say.
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// Reads a text that holds at most one YAML document.
pub(crate) fn parse(text: &str) -> Result<Placed, Fault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_NODES },
        with_snippet: false,
        emit_comments: false,
        merge_keys: serde_saphyr::MergeKeyPolicy::AsOrdinary,
        ignore_binary_tag_for_string: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options)
        .map(Placed::from)
        .map_err(|error| fault(&error))
}

fn fault(error: &serde_saphyr::Error) -> Fault {
    let line = error
        .location()
        .map_or(0, |place| usize::try_from(place.line()).unwrap_or(0));
    let reason = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` stands there twice")
        }
        other => {
            let message = other.to_string();
            let first_line = message.lines().next().unwrap_or_default();
            // The place is told by `line`; the message's own ending would say it again.
            first_line
                .rsplit_once(" at line ")
                .map_or(first_line, |(reason, _)| reason)
                .to_owned()
        }
    };
    Fault { line, reason }
}

impl From<Spanned<Node>> for Placed {
    fn from(spanned: Spanned<Node>) -> Self {
        Self {
            node: spanned.value,
            line: usize::try_from(spanned.referenced.line()).unwrap_or(0),
            at: bytes_of(spanned.referenced),
            source: bytes_of(spanned.defined),
        }
    }
}

fn bytes_of(place: Location) -> Range<usize> {
    let number = |value: Option<u64>| {
        value
            .and_then(|value| usize::try_from(value).ok())
            .unwrap_or(0)
    };
    let start = number(place.span().byte_offset());
    start..start.saturating_add(number(place.span().byte_len()))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(i128::try_from(value).map_or_else(|_| Node::Text(value.to_string()), Node::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Node>>()? {
            list.push(item.into());
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<Node>>()? {
            map.push((key.into(), entries.next_value::<Spanned<Node>>()?.into()));
        }
        Ok(Node::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
        let (name, variant) = access.variant::<String>()?;
        variant
            .unit_variant()
            .map_err(|_| A::Error::custom("an unexpected tag"))?;
        Ok(Node::Text(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(Placed, Placed)> {
        let Node::Map(entries) = parse(text).unwrap().node else {
            panic!("not a map")
        };
        entries
    }

    #[test]
    fn every_value_says_where_it_stands() {
        let text =
            "---\r\nid: 007 # c\r\nf: >-\r\n  folded\r\n  more\r\n\r\na: &x foo\r\nb: *x\r\n";
        let entries = entries(text);
        let places: Vec<_> = entries
            .iter()
            .map(|(key, value)| (key.line, &text[value.at.clone()]))
            .collect();
        assert_eq!(
            places,
            [
                (2, "007"),
                (3, "folded\r\n  more\r\n\r\n"),
                (7, "foo"),
                (8, "*x")
            ]
        );
        assert_eq!(&text[entries[3].1.source.clone()], "foo");
        assert_eq!(entries[3].1.node, Node::Text("foo".to_owned()));
    }

    #[test]
    fn values_of_any_shape_are_read() {
        let text = "a: !!binary gICA\nb: .nan\nc: !x {y: [1, ~]}\n? [k]\n: 340282366920938463463374607431768211455\n<<: {z: 1}\n1: 1e999\n";
        assert_eq!(entries(text).len(), 6);
    }

    #[test]
    fn faults_have_a_line_and_one_line_of_reason() {
        for (text, line, reason) in [
            ("a: 1\nb: 2\na: 3\n", 3, "the key `a` stands there twice"),
            ("a: *x\n", 1, "alias references unknown anchor"),
            ("a: 1\nb: 'x\n", 2, "unclosed quote"),
        ] {
            assert_eq!(
                parse(text),
                Err(Fault {
                    line,
                    reason: reason.to_owned()
                })
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        assert!(parse(&format!("a: {}", "[".repeat(100_000))).is_err());
        assert!(parse(&format!("a: {}{}", "[".repeat(40), "]".repeat(40))).is_err());
        assert!(parse(&format!("a: {}{}", "[".repeat(20), "]".repeat(20))).is_ok());
        assert!(parse(&"- ".repeat(100_000)).is_err());
    }

    #[test]
    fn multiplying_aliases_are_refused() {
        let level = |level: usize| {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            format!("a{level}: &a{level} [{inner}]\n")
        };
        let bomb: String = (1..12).map(level).collect();
        assert!(parse(&format!("a0: &a0 [x, x]\n{bomb}")).is_err());
    }
}
