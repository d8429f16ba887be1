//! One turn of a conversation in the Agent Client Protocol, as a machine that takes the agent's lines and says what to
//! write to it. Pure.
//!
//! `initialize`, `session/new` or `session/load`, then the mode and the model where the agent lists them, then
//! `session/prompt`, whose answer is the end of the turn. What comes before the prompt is not of this turn: the history
//! of a conversation that goes on is neither progress nor use. Every request of the agent is answered at once.

use std::path::PathBuf;

use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES, CLIENT_METHOD_NAMES, CancelNotification, ContentBlock, Implementation,
    InitializeRequest, InitializeResponse, LoadSessionRequest, NewSessionRequest, PromptRequest,
    SessionId, SetSessionConfigOptionRequest, SetSessionModeRequest, TextContent,
};
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use super::offer::Offer;
use super::questions;
use super::trouble;
use super::updates::Updates;
use super::wire::{self, Answer, Message};
use super::words;
use crate::agent::json::text;
use crate::agent::{Conversation, Permissions, StreamEvent, Task, Trouble, TroubleKind};

/// What a turn is to be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where the agent works.
    pub(super) folder: PathBuf,
    /// What it is told.
    pub(super) prompt: String,
    /// In which conversation.
    pub(super) conversation: Conversation,
    /// What it may do.
    pub(super) permissions: Permissions,
    /// The model, when it is to be chosen in the conversation.
    pub(super) model: Option<String>,
    /// What can be believed of what the agent tells.
    pub(super) habits: Habits,
}

/// What is known of one agent beyond the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Habits {
    /// A turn that went well ends with what it has used, so that one without has failed.
    pub(super) always_tells_use: bool,
}

impl Wanted {
    pub(super) fn of(task: &Task, model: Option<String>, habits: Habits) -> Self {
        Self {
            folder: task.folder.clone(),
            prompt: task.prompt.clone(),
            conversation: task.conversation.clone(),
            permissions: task.setup.permissions,
            model,
            habits,
        }
    }
}

/// What the next answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Initialize,
    New,
    Load,
    Mode,
    Model,
    Prompt,
}

/// A turn.
pub(super) struct Session {
    wanted: Wanted,
    /// What was asked last, with its number; nothing when the turn is over.
    asked: Option<(u64, Asked)>,
    /// What is to be written to the agent.
    waiting: Vec<u8>,
    id: Option<SessionId>,
    offer: Offer,
    updates: Updates,
    interrupted: bool,
    denied: bool,
}

impl Session {
    pub(super) fn new(wanted: Wanted) -> Self {
        let mut session = Self {
            wanted,
            asked: None,
            waiting: Vec::new(),
            id: None,
            offer: Offer::default(),
            updates: Updates::default(),
            interrupted: false,
            denied: false,
        };
        // Neither files nor terminals are offered: the agent has its own, in its worktree.
        let client = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let hello = InitializeRequest::new(ProtocolVersion::V1).client_info(client);
        session.number(1, Asked::Initialize, AGENT_METHOD_NAMES.initialize, &hello);
        session
    }

    /// Takes what is to be written to the agent.
    pub(super) fn say(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.waiting)
    }

    /// Asks the agent to end the turn.
    pub(super) fn interrupt(&mut self) {
        if std::mem::replace(&mut self.interrupted, true) {
            return;
        }
        match (&self.id, self.asked) {
            (Some(id), Some((_, Asked::Prompt))) => {
                let cancel = CancelNotification::new(id.clone());
                let line = wire::notice(AGENT_METHOD_NAMES.session_cancel, &cancel);
                self.waiting.extend(line);
            }
            // There is no turn yet.
            _ => self.asked = None,
        }
    }

    /// Whether the turn is over.
    pub(super) fn is_over(&self) -> bool {
        self.asked.is_none()
    }

    /// What the agent has to answer before it can be told what to do.
    pub(super) fn prepares(&self) -> Option<&'static str> {
        match self.asked?.1 {
            Asked::Initialize => Some(AGENT_METHOD_NAMES.initialize),
            Asked::New => Some(AGENT_METHOD_NAMES.session_new),
            Asked::Load => Some(AGENT_METHOD_NAMES.session_load),
            Asked::Mode => Some(AGENT_METHOD_NAMES.session_set_mode),
            Asked::Model => Some(AGENT_METHOD_NAMES.session_set_config_option),
            Asked::Prompt => None,
        }
    }

    /// What a line of the agent tells.
    pub(super) fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
        let Some((number, asked)) = self.asked else {
            return Vec::new();
        };
        match wire::message(line) {
            Some(Message::Answer { to, says }) if to == number => self.answered(asked, says),
            Some(Message::Request { id, method, params }) => self.requested(&id, &method, &params),
            Some(Message::Notice { method, params })
                if method == CLIENT_METHOD_NAMES.session_update =>
            {
                let is_own = text(&params, "/sessionId") == self.id.as_ref().map(|id| &*id.0);
                match params.get("update") {
                    Some(update) if asked == Asked::Prompt => self.updates.take(update, is_own),
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn ask(&mut self, asked: Asked, method: &str, params: &impl Serialize) {
        let number = self.asked.map_or(0, |(number, _)| number) + 1;
        self.number(number, asked, method, params);
    }

    fn number(&mut self, number: u64, asked: Asked, method: &str, params: &impl Serialize) {
        self.asked = Some((number, asked));
        self.waiting.extend(wire::request(number, method, params));
    }

    fn fail(&mut self, trouble: Trouble) -> Vec<StreamEvent> {
        self.asked = None;
        vec![StreamEvent::Failed(trouble)]
    }

    fn not_understood(&mut self, what: &str) -> Vec<StreamEvent> {
        let message = format!("what the agent answers to `{what}` is not understood");
        self.fail(Trouble::new(TroubleKind::Other, message))
    }

    fn answered(&mut self, asked: Asked, says: Answer) -> Vec<StreamEvent> {
        let result = match says {
            Answer::Result(result) => result,
            Answer::Error(error) => return self.refused(asked, &error),
            Answer::Cut => {
                let message = "the agent's answer is longer than what is read of one";
                return self.fail(Trouble::new(TroubleKind::Other, message));
            }
        };
        match asked {
            Asked::Initialize => self.initialized(&result),
            Asked::New => {
                let Some(id) = text(&result, "/sessionId") else {
                    return self.not_understood(AGENT_METHOD_NAMES.session_new);
                };
                self.opened(SessionId::new(id), &result)
            }
            Asked::Load => match &self.wanted.conversation {
                Conversation::Resumed(name) => self.opened(SessionId::new(name.as_str()), &result),
                Conversation::New(_) => Vec::new(),
            },
            Asked::Mode => self.choose_model(),
            Asked::Model => {
                self.prompt();
                self.wanted
                    .model
                    .take()
                    .map(StreamEvent::Model)
                    .into_iter()
                    .collect()
            }
            Asked::Prompt => self.ended(&result),
        }
    }

    /// An error instead of an answer.
    fn refused(&mut self, asked: Asked, error: &Value) -> Vec<StreamEvent> {
        let told = trouble::of_error(error);
        match asked {
            // It asks before it does what it could do without asking in that mode, and is allowed to.
            Asked::Mode => self.choose_model(),
            Asked::Model => {
                let model = self.wanted.model.as_deref().unwrap_or_default();
                let models = self.offer.models().join(", ");
                let message = format!(
                    "the agent does not take the model `{model}` (it has: {models}): {}",
                    told.message
                );
                self.fail(Trouble::new(TroubleKind::Misconfigured, message))
            }
            Asked::Load if !told.kind.is_of_provider() => {
                self.fail(Trouble::new(TroubleKind::UnknownConversation, told.message))
            }
            Asked::Prompt if self.interrupted => {
                self.fail(Trouble::new(TroubleKind::Interrupted, told.message))
            }
            // Nothing of the story has begun: another attempt may find the agent in order.
            Asked::Initialize | Asked::New if told.kind == TroubleKind::Other => {
                self.fail(Trouble::new(TroubleKind::Connection, told.message))
            }
            _ => self.fail(told),
        }
    }

    fn initialized(&mut self, result: &Value) -> Vec<StreamEvent> {
        let Ok(agent) = InitializeResponse::deserialize(result) else {
            return self.not_understood(AGENT_METHOD_NAMES.initialize);
        };
        if agent.protocol_version != ProtocolVersion::V1 {
            let message = format!(
                "the agent speaks version {} of the Agent Client Protocol, and not version 1",
                agent.protocol_version
            );
            return self.fail(Trouble::new(TroubleKind::Misconfigured, message));
        }
        let folder = self.wanted.folder.clone();
        match self.wanted.conversation.clone() {
            Conversation::New(_) => {
                let new = NewSessionRequest::new(folder);
                self.ask(Asked::New, AGENT_METHOD_NAMES.session_new, &new);
            }
            Conversation::Resumed(name) if agent.agent_capabilities.load_session => {
                let load = LoadSessionRequest::new(name, folder);
                self.ask(Asked::Load, AGENT_METHOD_NAMES.session_load, &load);
            }
            Conversation::Resumed(_) => {
                let message = "the agent cannot go on with a conversation";
                return self.fail(Trouble::new(TroubleKind::UnknownConversation, message));
            }
        }
        Vec::new()
    }

    /// There is a conversation, with what the agent offers for it.
    fn opened(&mut self, id: SessionId, result: &Value) -> Vec<StreamEvent> {
        let mut events = vec![StreamEvent::Conversation(id.0.to_string())];
        self.offer = Offer::of(result);
        if self.wanted.model.is_none() {
            events.extend(
                self.offer
                    .model()
                    .map(|name| StreamEvent::Model(name.to_owned())),
            );
        }
        let bypass = self.wanted.permissions == Permissions::Bypass;
        let mode = self.offer.bypass_mode().filter(|_| bypass);
        let mode = mode.map(|mode| SetSessionModeRequest::new(id.clone(), mode.to_owned()));
        self.id = Some(id);
        match mode {
            Some(mode) => self.ask(Asked::Mode, AGENT_METHOD_NAMES.session_set_mode, &mode),
            None => events.extend(self.choose_model()),
        }
        events
    }

    /// Has the model set where one is wanted, else goes on to the prompt.
    fn choose_model(&mut self) -> Vec<StreamEvent> {
        let (Some(model), Some(id)) = (&self.wanted.model, self.id.clone()) else {
            self.prompt();
            return Vec::new();
        };
        let Some(option) = self.offer.model_option() else {
            let message = format!(
                "the agent offers no choice of models, so that it cannot be told to use `{model}`: its own settings, or \
                 its `args` or `env` in the configuration, may choose one"
            );
            return self.fail(Trouble::new(TroubleKind::Misconfigured, message));
        };
        let choice = SetSessionConfigOptionRequest::new(id, option.to_owned(), model.as_str());
        let method = AGENT_METHOD_NAMES.session_set_config_option;
        self.ask(Asked::Model, method, &choice);
        Vec::new()
    }

    fn prompt(&mut self) {
        let Some(id) = self.id.clone() else {
            return;
        };
        let prompt = std::mem::take(&mut self.wanted.prompt);
        let content = vec![ContentBlock::Text(TextContent::new(prompt))];
        let prompt = PromptRequest::new(id, content);
        self.ask(Asked::Prompt, AGENT_METHOD_NAMES.session_prompt, &prompt);
    }

    /// The turn is over.
    fn ended(&mut self, result: &Value) -> Vec<StreamEvent> {
        self.asked = None;
        let used = words::usage(result).map(|usage| StreamEvent::TurnUsed {
            usage,
            requests: None,
        });
        let end = match self.fault(result) {
            Some(trouble) => StreamEvent::Failed(trouble),
            None => StreamEvent::Finished { answer: None },
        };
        used.into_iter().chain([end]).collect()
    }

    /// What is wrong with an end; nothing when all is well.
    fn fault(&self, result: &Value) -> Option<Trouble> {
        let trouble = |kind, message: &str| Some(Trouble::new(kind, message));
        match text(result, "/stopReason") {
            Some("end_turn") => {
                let no_use = self.wanted.habits.always_tells_use && words::usage(result).is_none();
                self.updates.failure(no_use)
            }
            Some("max_tokens") => trouble(
                TroubleKind::OwnLimit,
                "the answer has more tokens than the agent allows",
            ),
            Some("max_turn_requests") => trouble(
                TroubleKind::OwnLimit,
                "the turn has more requests than the agent allows",
            ),
            Some("refusal") => trouble(TroubleKind::Other, "the model refuses to go on"),
            // Some end a turn like that when they may not do what they want to.
            Some("cancelled") if self.denied && !self.interrupted => None,
            Some("cancelled") => trouble(TroubleKind::Interrupted, "the turn was cancelled"),
            other => {
                let message = match other {
                    Some(reason) => format!("the turn ended for an unknown reason: {reason}"),
                    None => "the turn ended for no reason".to_owned(),
                };
                trouble(TroubleKind::Other, &message)
            }
        }
    }

    fn requested(&mut self, id: &Value, method: &str, params: &Value) -> Vec<StreamEvent> {
        let permissions = self.wanted.permissions;
        let permissions = (!self.interrupted).then_some(permissions);
        let reply = questions::reply(id, method, params, permissions);
        self.waiting.extend(reply.line);
        self.denied |= reply.event.is_some();
        reply.event.into_iter().collect()
    }
}
