//! What an agent asks of us while its turn goes on, and what is answered: nobody is there who could think about it. Pure.
//!
//! A permission is given or refused by what the agent may do. What only a person can answer is declined, and ends the
//! story as blocked.

use agent_client_protocol_schema::v1::{
    CLIENT_METHOD_NAMES, CreateElicitationResponse, ElicitationAction, Error, PermissionOption,
    PermissionOptionKind, RequestPermissionOutcome, RequestPermissionResponse,
    SelectedPermissionOutcome,
};
use serde::Deserialize as _;
use serde_json::Value;

use super::{wire, words};
use crate::agent::json::text;
use crate::agent::{Permissions, StreamEvent};

/// The longest question that is told, in characters.
const LONGEST_QUESTION: usize = 500;

/// What is written to the agent, and what its question means for the turn, if it means something.
pub(super) struct Reply {
    pub(super) line: Vec<u8>,
    pub(super) event: Option<StreamEvent>,
}

/// The reply to the request `id`. `permissions` is nothing when the turn is to end, so that nothing is allowed any more.
pub(super) fn reply(
    id: &Value,
    method: &str,
    params: &Value,
    permissions: Option<Permissions>,
) -> Reply {
    if method == CLIENT_METHOD_NAMES.session_request_permission {
        let (outcome, event) = match permissions {
            Some(permissions) => permission(params, permissions),
            None => (RequestPermissionOutcome::Cancelled, None),
        };
        let line = wire::answer(id, &RequestPermissionResponse::new(outcome));
        return Reply { line, event };
    }
    if method == CLIENT_METHOD_NAMES.elicitation_create {
        let declined = CreateElicitationResponse::new(ElicitationAction::Decline);
        let asked = permissions.map(|_| StreamEvent::Asked {
            question: question(params),
        });
        return Reply {
            line: wire::answer(id, &declined),
            event: asked,
        };
    }
    // Nothing else was offered to it.
    Reply {
        line: wire::refusal(id, &Error::method_not_found()),
        event: None,
    }
}

fn permission(
    params: &Value,
    permissions: Permissions,
) -> (RequestPermissionOutcome, Option<StreamEvent>) {
    let offered = params.get("options").and_then(Value::as_array);
    let offered = offered.into_iter().flatten();
    // One of a kind that is not known is not chosen.
    let offered: Vec<PermissionOption> = offered
        .filter_map(|option| PermissionOption::deserialize(option).ok())
        .collect();
    let wanted = match permissions {
        Permissions::Bypass => [
            PermissionOptionKind::AllowAlways,
            PermissionOptionKind::AllowOnce,
        ],
        Permissions::Configured => [
            PermissionOptionKind::RejectOnce,
            PermissionOptionKind::RejectAlways,
        ],
    };
    let chosen = wanted
        .iter()
        .find_map(|kind| offered.iter().find(|option| option.kind == *kind));
    let outcome = match chosen {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(
            option.option_id.clone(),
        )),
        None => RequestPermissionOutcome::Cancelled,
    };
    if chosen.is_some() && permissions == Permissions::Bypass {
        return (outcome, None);
    }
    let what = params.get("toolCall").and_then(words::tool);
    let what = what.unwrap_or_else(|| "something that it did not name".to_owned());
    (outcome, Some(StreamEvent::Denied { what }))
}

/// What a person would be asked, in a line.
fn question(params: &Value) -> String {
    let place = text(params, "/url");
    let words = text(params, "/message").into_iter().chain(place);
    let words: Vec<&str> = words.flat_map(str::split_whitespace).collect();
    if words.is_empty() {
        return "something that it did not say".to_owned();
    }
    words.join(" ").chars().take(LONGEST_QUESTION).collect()
}
