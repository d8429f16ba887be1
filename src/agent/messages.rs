//! Events in the shape of Anthropic's messages, as several agents write them. Pure.

use serde_json::Value;

use super::event::{StreamEvent, Usage};
use super::json::{detail, text};

/// The first event of a stream: which conversation, and which model.
pub(super) fn opening(event: &Value) -> Vec<StreamEvent> {
    let name = text(event, "/session_id").map(str::to_owned);
    let model = text(event, "/model").map(str::to_owned);
    let name = name.map(StreamEvent::Conversation);
    let model = model.map(StreamEvent::Model);
    name.into_iter().chain(model).collect()
}

/// An answer of the model, which has used that.
pub(super) fn answer(event: &Value, usage: Usage) -> Vec<StreamEvent> {
    let mut events = Vec::new();
    if let Some(request) = text(event, "/message/id") {
        events.push(StreamEvent::RequestUsed {
            request: request.to_owned(),
            usage,
        });
    }
    // What a subagent says is said to its caller.
    let is_own = event.get("parent_tool_use_id").is_none_or(Value::is_null);
    for part in parts(event) {
        match text(part, "/type") {
            Some("text") if is_own => {
                events.extend(text(part, "/text").map(|said| StreamEvent::Said(said.to_owned())));
            }
            Some("tool_use") => events.push(StreamEvent::ToolStarted {
                name: text(part, "/name").unwrap_or("tool").to_owned(),
                detail: part.get("input").and_then(detail),
            }),
            _ => {}
        }
    }
    events
}

/// What the model is told of its tools.
pub(super) fn results(event: &Value) -> Vec<StreamEvent> {
    let results = parts(event).filter(|part| text(part, "/type") == Some("tool_result"));
    results.map(|_| StreamEvent::ToolEnded).collect()
}

/// What was denied, as the last event has it.
pub(super) fn denials(event: &Value) -> impl Iterator<Item = StreamEvent> {
    let denials = event.get("permission_denials").and_then(Value::as_array);
    denials.into_iter().flatten().map(|denial| {
        let tool = text(denial, "/tool_name").unwrap_or("a tool");
        let what = match denial.get("tool_input").and_then(detail) {
            Some(detail) => format!("{tool}: {detail}"),
            None => tool.to_owned(),
        };
        StreamEvent::Denied { what }
    })
}

/// Whether the last event tells of a success: one that is an error may say so as well.
pub(super) fn is_success(event: &Value) -> bool {
    let is_error = event.get("is_error").and_then(Value::as_bool) == Some(true);
    !is_error && text(event, "/subtype") == Some("success")
}

fn parts(event: &Value) -> impl Iterator<Item = &Value> {
    let parts = event.pointer("/message/content").and_then(Value::as_array);
    parts.into_iter().flatten()
}
