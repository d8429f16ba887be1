//! What went wrong, as agents tell it in the protocol. Pure.
//!
//! They have little in common: a code of the protocol, the status of an HTTP answer in its place, a kind of their own in
//! `data`, or nothing but words.

use serde_json::Value;

use crate::agent::json::{number, text};
use crate::agent::{Trouble, TroubleKind};

/// The code for what needs a person to sign in.
const AUTHENTICATION_REQUIRED: i64 = -32000;

/// The longest message that is kept, in characters.
const LONGEST_MESSAGE: usize = 500;

/// By the error that a request is answered with.
pub(super) fn of_error(error: &Value) -> Trouble {
    let message = message_of(error);
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
    let by_status = u16::try_from(code)
        .ok()
        .filter(|status| (400..600).contains(status))
        .and_then(|status| TroubleKind::of_status(status, None));
    let by_name = text(error, "/data/errorKind").and_then(named);
    let kind = match (code, by_status.or(by_name)) {
        // A quota that is used up has the status of too many requests.
        (_, Some(TroubleKind::RateLimited { .. } | TroubleKind::BadRequest))
            if TroubleKind::of_message(&message) == TroubleKind::NoCredit =>
        {
            TroubleKind::NoCredit
        }
        (_, Some(kind)) => kind,
        (AUTHENTICATION_REQUIRED, None) => TroubleKind::Unauthorized,
        (_, None) => TroubleKind::of_message(&message),
    };
    Trouble::new(kind, message)
}

/// The kinds that are told by name.
fn named(name: &str) -> Option<TroubleKind> {
    Some(match name {
        "rate_limit" => TroubleKind::RateLimited { reset: None },
        "overloaded" | "server_error" => TroubleKind::Overloaded,
        "authentication_failed" | "oauth_org_not_allowed" => TroubleKind::Unauthorized,
        "billing_error" => TroubleKind::NoCredit,
        "invalid_request" => TroubleKind::BadRequest,
        "worker_shutdown" | "transport_lost" => TroubleKind::Connection,
        _ => return None,
    })
}

/// What there is to read in an error. "Internal error" alone would tell nobody anything.
fn message_of(error: &Value) -> String {
    let general = text(error, "/message").unwrap_or_default();
    let general = general.strip_prefix("Internal error: ").unwrap_or(general);
    let details = ["/data/details", "/data/message", "/data/error/message"];
    let details = details.into_iter().find_map(|place| text(error, place));
    let details = details.or_else(|| text(error, "/data"));
    let message = match details.map(str::trim).filter(|details| !details.is_empty()) {
        Some(details) if general.contains(details) => general.to_owned(),
        Some(details) if general.is_empty() || general == "Internal error" => details.to_owned(),
        Some(details) => format!("{general}: {details}"),
        None if general.is_empty() => "it gave no reason".to_owned(),
        None => general.to_owned(),
    };
    shown(&message)
}

/// What Codex tells of a request that failed; and whether it tries that again.
pub(super) fn of_codex(error: &Value) -> (Trouble, bool) {
    let details = text(error, "/additionalDetails");
    let message = details.or_else(|| text(error, "/message"));
    let message = message.unwrap_or("it gave no reason");
    let kinds = error.get("codexErrorInfo").and_then(Value::as_object);
    let mut kinds = kinds.into_iter().flat_map(serde_json::Map::values);
    let status = kinds.find_map(|kind| u16::try_from(number(kind, "/httpStatusCode")).ok());
    let by_status = status
        .filter(|status| *status >= 400)
        .and_then(|status| TroubleKind::of_status(status, None));
    let kind = by_status.unwrap_or_else(|| TroubleKind::of_message(message));
    let again = error.get("willRetry").and_then(Value::as_bool);
    (
        Trouble::new(kind, shown(message)),
        again.unwrap_or_default(),
    )
}

/// By words alone.
pub(super) fn of_words(words: &str) -> Trouble {
    Trouble::new(TroubleKind::of_message(words), shown(words))
}

fn shown(message: &str) -> String {
    message.trim().chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_is_known_by_its_code_its_name_or_its_words() {
        let limited = TroubleKind::RateLimited { reset: None };
        let rows = [
            (
                json!({"code": -32000, "message": "Authentication required"}),
                TroubleKind::Unauthorized,
            ),
            (
                json!({"code": 401, "message": "fake 401"}),
                TroubleKind::Unauthorized,
            ),
            (json!({"code": 429, "message": "slow down"}), limited),
            (
                json!({"code": 529, "message": "x"}),
                TroubleKind::Overloaded,
            ),
            (
                json!({"code": 429, "message": "insufficient_quota"}),
                TroubleKind::NoCredit,
            ),
            (
                json!({"code": -32603, "message": "Internal error", "data": {"errorKind": "overloaded"}}),
                TroubleKind::Overloaded,
            ),
            (
                json!({"code": -32603, "message": "Internal error", "data": {"errorKind": "new", "details": "[API Error: 429 x]"}}),
                limited,
            ),
            (
                json!({"code": -32603, "message": "Internal error", "data": {"details": "terminal went away"}}),
                TroubleKind::Other,
            ),
            (json!({"code": 200}), TroubleKind::Other),
            (json!("odd"), TroubleKind::Other),
        ];
        for (error, kind) in rows {
            assert_eq!(of_error(&error).kind, kind, "{error}");
        }
    }

    #[test]
    fn what_is_read_in_an_error_is_what_tells_something() {
        let rows = [
            (
                json!({"message": "Internal error", "data": {"details": "why"}}),
                "why",
            ),
            (
                json!({"message": "Invalid params", "data": "why"}),
                "Invalid params: why",
            ),
            (
                json!({"message": "Internal error: why", "data": {"message": "why"}}),
                "why",
            ),
            (json!({"message": "Internal error"}), "Internal error"),
            (json!({}), "it gave no reason"),
        ];
        for (error, message) in rows {
            assert_eq!(of_error(&error).message, message, "{error}");
        }
        let long = json!({"message": "é".repeat(5000)});
        assert_eq!(of_error(&long).message.chars().count(), LONGEST_MESSAGE);
    }

    #[test]
    fn codex_tells_the_status_of_what_it_tries_again() {
        let error = json!({"message": "Reconnecting... 1/5", "willRetry": true,
            "codexErrorInfo": {"responseStreamDisconnected": {"httpStatusCode": 529}},
            "additionalDetails": "unexpected status 529"});
        let told = Trouble::new(TroubleKind::Overloaded, "unexpected status 529");
        assert_eq!(of_codex(&error), (told, true));
        let error = json!({"message": "stream disconnected", "codexErrorInfo": "other"});
        let told = Trouble::new(TroubleKind::Connection, "stream disconnected");
        assert_eq!(of_codex(&error), (told, false));
    }
}
