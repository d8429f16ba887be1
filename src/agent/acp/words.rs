//! What messages of the protocol say of tools and tokens, whoever wrote them. Pure.
//!
//! The use of tokens is an extension that agents write in three ways; see [`usage`].

use serde_json::Value;

use crate::agent::Usage;
use crate::agent::json::{detail, text, tokens};

/// The longest that is shown of a tool, in characters.
const LONGEST: usize = 160;

/// The name of a tool that is called, by whatever says most.
pub(super) fn tool_name(call: &Value) -> Option<&str> {
    let named = [
        "/name",
        "/_meta/claudeCode/toolName",
        "/_meta/toolName",
        "/kind",
    ];
    named.into_iter().find_map(|place| text(call, place))
}

/// What a tool is called with, in a line; none when it is not told.
pub(super) fn tool_detail(call: &Value) -> Option<String> {
    let told = call.get("rawInput").and_then(detail);
    told.or_else(|| {
        let title = text(call, "/title").filter(|title| !title.trim().is_empty())?;
        let line: Vec<&str> = title.split_whitespace().collect();
        Some(line.join(" ").chars().take(LONGEST).collect())
    })
}

/// A tool in a line, with what it is called with.
pub(super) fn tool(call: &Value) -> Option<String> {
    match (tool_name(call), tool_detail(call)) {
        (Some(name), Some(detail)) => Some(format!("{name}: {detail}")),
        (name, detail) => name.map(str::to_owned).or(detail),
    }
}

/// What a turn has used, as the answer to its prompt tells it: `usage`, which is in the protocol as a draft, or else
/// `_meta.quota`, which has fewer numbers.
pub(super) fn usage(answer: &Value) -> Option<Usage> {
    if let Some(told) = answer.get("usage").filter(|usage| usage.is_object()) {
        return Some(of_draft(told));
    }
    let quota = answer.pointer("/_meta/quota/token_count")?;
    quota.is_object().then(|| Usage {
        input_tokens: tokens(quota, "/input_tokens"),
        output_tokens: tokens(quota, "/output_tokens"),
        ..Usage::default()
    })
}

/// What one request has used, as a part of what the model says may have it.
pub(super) fn usage_of_request(update: &Value) -> Option<Usage> {
    let told = update.pointer("/_meta/usage")?;
    told.is_object().then(|| of_draft(told))
}

/// What is read from the cache is told beside the input, not in it.
fn of_draft(usage: &Value) -> Usage {
    Usage {
        input_tokens: tokens(usage, "/inputTokens")
            .saturating_add(tokens(usage, "/cachedWriteTokens")),
        output_tokens: tokens(usage, "/outputTokens"),
        cached_tokens: tokens(usage, "/cachedReadTokens"),
        cost_micros_usd: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tool_is_told_by_what_says_most() {
        let rows = [
            (
                json!({"name": "Bash", "title": "Terminal", "rawInput": {"command": "make\n test"}}),
                Some("Bash: make test"),
            ),
            (
                json!({"kind": "execute", "title": "make  test"}),
                Some("execute: make test"),
            ),
            (json!({"kind": "edit", "title": " "}), Some("edit")),
            (json!({"title": "Write a.txt"}), Some("Write a.txt")),
            (json!({}), None),
        ];
        for (call, expected) in rows {
            assert_eq!(tool(&call).as_deref(), expected, "{call}");
        }
    }

    #[test]
    fn use_is_read_in_every_way_in_which_it_is_written() {
        let used = |input_tokens, output_tokens, cached_tokens| {
            Some(Usage {
                input_tokens,
                output_tokens,
                cached_tokens,
                cost_micros_usd: None,
            })
        };
        let draft = json!({"usage": {"totalTokens": 36, "inputTokens": 1, "outputTokens": 2,
            "cachedReadTokens": 30, "cachedWriteTokens": 3}});
        assert_eq!(usage(&draft), used(4, 2, 30));
        let quota =
            json!({"_meta": {"quota": {"token_count": {"input_tokens": 5, "output_tokens": 6}}}});
        assert_eq!(usage(&quota), used(5, 6, 0));
        let failed = json!({"usage": null, "_meta": {"quota": {"token_count": null}}});
        assert_eq!(usage(&failed), None);
        let chunk = json!({"_meta": {"usage": {"inputTokens": 7, "outputTokens": 8}}});
        assert_eq!(usage_of_request(&chunk), used(7, 8, 0));
    }
}
