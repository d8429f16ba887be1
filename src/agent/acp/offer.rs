//! What an agent offers for a conversation: modes and models. Pure.

use agent_client_protocol_schema::v1::{
    SessionConfigKind, SessionConfigOption, SessionConfigOptionCategory, SessionConfigSelect,
    SessionConfigSelectOptions, SessionModeState,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::agent::json::text;

/// The modes in which an agent does everything without asking, by the names that agents have for them.
const BYPASS_MODES: [&str; 3] = ["bypassPermissions", "agent-full-access", "yolo"];

/// How many models are told of.
const MOST_MODELS: usize = 12;

/// What an agent offers.
#[derive(Debug, Default)]
pub(super) struct Offer {
    bypass_mode: Option<String>,
    model: Option<String>,
    /// The name of the option that chooses it, and the models that it has.
    choice: Option<(String, Vec<String>)>,
}

impl Offer {
    /// By the answer to the request for a new conversation, or for one that goes on.
    pub(super) fn of(result: &Value) -> Self {
        let modes = result.get("modes");
        let modes = modes.and_then(|modes| SessionModeState::deserialize(modes).ok());
        let bypass_mode = modes.and_then(|modes| {
            let has = |mode: &&str| modes.available_modes.iter().any(|has| &*has.id.0 == *mode);
            BYPASS_MODES.into_iter().find(has).map(str::to_owned)
        });
        let options = result.get("configOptions").and_then(Value::as_array);
        let model = options
            .into_iter()
            .flatten()
            .filter_map(|option| SessionConfigOption::deserialize(option).ok())
            .find_map(|option| match option.kind {
                SessionConfigKind::Select(select)
                    if option.category == Some(SessionConfigOptionCategory::Model) =>
                {
                    Some((option.id.0.to_string(), select))
                }
                _ => None,
            });
        // Some have only this, which is not in the protocol any more.
        let earlier = text(result, "/models/currentModelId").map(str::to_owned);
        let current = |select: &SessionConfigSelect| select.current_value.0.to_string();
        Self {
            bypass_mode,
            model: model
                .as_ref()
                .map(|(_, select)| current(select))
                .or(earlier),
            choice: model.map(|(id, select)| (id, values(select.options))),
        }
    }

    /// The mode in which it does everything without asking.
    pub(super) fn bypass_mode(&self) -> Option<&str> {
        self.bypass_mode.as_deref()
    }

    /// The model that answers when nobody chooses another one.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The option that chooses the model.
    pub(super) fn model_option(&self) -> Option<&str> {
        self.choice.as_ref().map(|(id, _)| id.as_str())
    }

    /// The first models that it has.
    pub(super) fn models(&self) -> &[String] {
        self.choice.as_ref().map_or(&[], |(_, models)| models)
    }
}

fn values(options: SessionConfigSelectOptions) -> Vec<String> {
    let options = match options {
        SessionConfigSelectOptions::Ungrouped(options) => options,
        SessionConfigSelectOptions::Grouped(groups) => {
            groups.into_iter().flat_map(|group| group.options).collect()
        }
        _ => Vec::new(),
    };
    let values = options.into_iter().map(|option| option.value.0.to_string());
    values.take(MOST_MODELS).collect()
}
