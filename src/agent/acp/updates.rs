//! What an agent tells while a turn goes on: `session/update`. Pure.
//!
//! Keeps what later updates are understood by: the tools that run, one message, the cost. None of it grows with the turn.

use std::collections::BTreeSet;

use agent_client_protocol_schema::v1::{ContentBlock, SessionUpdate, ToolCallStatus};
use serde::Deserialize as _;
use serde_json::Value;

use super::{trouble, words};
use crate::agent::json::{micros, text};
use crate::agent::{StreamEvent, Trouble, TroubleKind, Usage};

/// What is kept of the last part of a message, in bytes: it may say why a turn failed.
const KEPT_OF_PART: usize = 1024;

/// What is kept of a name or an id, in bytes: what is longer is not told apart from what begins like it.
const KEPT_OF_NAME: usize = 160;

/// How many tools are known to run at once. Of further ones is told only that something is done.
const MOST_TOOLS: usize = 64;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// The message that may go on, by its id where it has one.
    speaks: Option<String>,
    last_part: String,
    tool: Option<Tool>,
    /// The tools that run, by their ids.
    running: BTreeSet<String>,
    /// How many requests told what they have used.
    requests: u32,
    /// Codex says that its thread has failed.
    has_failed: bool,
    last_retry: Option<Trouble>,
}

/// The tool that was called last.
#[derive(Debug)]
struct Tool {
    id: String,
    name: String,
    detail: Option<String>,
}

impl Updates {
    /// Takes an update of the turn. What is not of its own conversation is that of a helper, of whom is known only that
    /// it does something.
    pub(super) fn take(&mut self, update: &Value, is_own: bool) -> Vec<StreamEvent> {
        let Ok(known) = SessionUpdate::deserialize(update) else {
            return Vec::new();
        };
        if !is_own {
            return vec![StreamEvent::Thinking];
        }
        match known {
            SessionUpdate::AgentMessageChunk(chunk) => {
                let id = chunk.message_id.map(|id| shortened(&id.0));
                let said = match chunk.content {
                    ContentBlock::Text(said) => said.text,
                    _ => String::new(),
                };
                let used = words::usage_of_request(update);
                let used = used.map(|usage| self.request_used(usage));
                self.said(id.unwrap_or_default(), said)
                    .into_iter()
                    .chain(used)
                    .collect()
            }
            SessionUpdate::AgentThoughtChunk(_) | SessionUpdate::Plan(_) => {
                self.speaks = None;
                vec![StreamEvent::Thinking]
            }
            SessionUpdate::ToolCall(call) => {
                self.speaks = None;
                self.tool_called(&shortened(&call.tool_call_id.0), call.status, update)
            }
            SessionUpdate::ToolCallUpdate(call) => {
                let status = call.fields.status.unwrap_or_default();
                self.tool_called(&shortened(&call.tool_call_id.0), status, update)
            }
            SessionUpdate::UsageUpdate(_) => {
                let cost = cost(update).map(StreamEvent::ConversationCost);
                cost.into_iter().collect()
            }
            SessionUpdate::SessionInfoUpdate(_) => self.info(update),
            _ => Vec::new(),
        }
    }

    fn said(&mut self, id: String, said: String) -> Option<StreamEvent> {
        if said.is_empty() {
            return None;
        }
        let goes_on = self.speaks.as_ref() == Some(&id);
        self.speaks = Some(id);
        if !said.trim().is_empty() {
            beginning(said.trim(), KEPT_OF_PART).clone_into(&mut self.last_part);
        }
        Some(if goes_on {
            StreamEvent::SaidPart(said)
        } else {
            StreamEvent::Said(said)
        })
    }

    fn request_used(&mut self, usage: Usage) -> StreamEvent {
        self.requests = self.requests.saturating_add(1);
        StreamEvent::RequestUsed {
            request: self.requests.to_string(),
            usage,
        }
    }

    /// A tool is called, more is known of the call, or it is over. Each that begins ends once.
    fn tool_called(&mut self, id: &str, status: ToolCallStatus, call: &Value) -> Vec<StreamEvent> {
        let known = self.tool.as_ref().filter(|tool| tool.id == id);
        let name = match (words::tool_name(call), known) {
            (_, Some(tool)) => tool.name.clone(),
            (Some(name), None) => shortened(name),
            (None, None) => "tool".to_owned(),
        };
        let detail = words::tool_detail(call);
        let says_more = known.is_some_and(|tool| detail.is_some() && tool.detail != detail);
        let is_over = matches!(status, ToolCallStatus::Completed | ToolCallStatus::Failed);
        let is_call = text(call, "/sessionUpdate") == Some("tool_call");
        let started = StreamEvent::ToolStarted {
            name: name.clone(),
            detail: detail.clone(),
        };
        if is_over {
            self.tool = None;
            return match (self.running.remove(id), is_call) {
                (true, _) => vec![StreamEvent::ToolEnded],
                (false, true) => vec![started, StreamEvent::ToolEnded],
                (false, false) => vec![StreamEvent::Thinking],
            };
        }
        let events = if self.running.contains(id) {
            // What a tool writes meanwhile is progress.
            if !says_more {
                return vec![StreamEvent::Thinking];
            }
            vec![StreamEvent::ToolEnded, started]
        } else if self.running.len() < MOST_TOOLS {
            self.running.insert(id.to_owned());
            vec![started]
        } else {
            return vec![StreamEvent::Thinking];
        };
        let id = id.to_owned();
        self.tool = Some(Tool { id, name, detail });
        events
    }

    /// What Codex tells of its thread. Others tell the title here.
    fn info(&mut self, update: &Value) -> Vec<StreamEvent> {
        let codex = update.pointer("/_meta/codex");
        if let Some(status) = codex.and_then(|codex| text(codex, "/threadStatus/type")) {
            self.has_failed = status == "systemError";
        }
        let Some(error) = codex.and_then(|codex| codex.get("error")) else {
            return Vec::new();
        };
        let (trouble, again) = trouble::of_codex(error);
        self.last_retry = Some(trouble.clone());
        let retrying = StreamEvent::Retrying {
            trouble,
            delay: None,
        };
        again.then_some(retrying).into_iter().collect()
    }

    /// Why a turn that ended like a good one has failed; nothing when it has not. `no_use`: it says nothing of what it
    /// has used, and should have.
    pub(super) fn failure(&self, no_use: bool) -> Option<Trouble> {
        if !self.has_failed && !no_use {
            return None;
        }
        let by_words = trouble::of_words(&self.last_part);
        if by_words.kind.is_of_provider() {
            return Some(by_words);
        }
        Some(match &self.last_retry {
            Some(trouble) => trouble.clone(),
            None if by_words.message.is_empty() => {
                Trouble::new(TroubleKind::Connection, "the agent's turn failed")
            }
            None => Trouble::new(TroubleKind::Connection, by_words.message),
        })
    }
}

/// What a conversation has cost so far, where it is told in US dollars.
fn cost(update: &Value) -> Option<u64> {
    let is_usd = text(update, "/cost/currency") == Some("USD");
    micros(update, "/cost/amount").filter(|_| is_usd)
}

fn shortened(text: &str) -> String {
    beginning(text, KEPT_OF_NAME).to_owned()
}

/// The beginning of a text, of at most so many bytes.
fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::Turn;

    #[test]
    fn each_of_several_tools_begins_and_ends_once() {
        let (mut updates, mut turn) = (Updates::default(), Turn::default());
        let mut runs_on = |update: &str, id: &str, title: Option<&str>, status: Option<&str>| {
            let mut update = json!({"sessionUpdate": update, "toolCallId": id});
            for (name, value) in [("title", title), ("status", status)] {
                if let Some(value) = value {
                    update[name] = json!(value);
                }
            }
            for event in updates.take(&update, true) {
                turn.hear(event);
            }
            turn.runs_tools()
        };
        let (call, more) = ("tool_call", "tool_call_update");
        assert!(runs_on(call, "a", Some("one"), None));
        assert!(runs_on(call, "b", Some("two"), None));
        // More is known of one, another one writes, and one ends: the other runs on.
        assert!(runs_on(more, "b", Some("two of them"), None));
        assert!(runs_on(more, "a", None, Some("in_progress")));
        assert!(runs_on(more, "a", None, Some("completed")));
        assert!(runs_on(more, "a", None, Some("completed")));
        assert!(runs_on(call, "c", Some("at once"), Some("completed")));
        assert!(!runs_on(more, "b", None, Some("failed")));
    }
}
