//! What the stream of an agent tells, in words that are the same for all agents. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a turn has used, by the agent's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent to the model, without those that came from the provider's cache.
    pub input_tokens: u64,
    /// Tokens that the model wrote, with those of its reasoning.
    pub output_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Cost in millionths of a US dollar, where the agent states it.
    pub cost_micros_usd: Option<u64>,
}

impl Usage {
    /// Of an agent that tells the tokens from the cache among those that were sent.
    pub(super) fn with_cached_among(sent: u64, output_tokens: u64, cached_tokens: u64) -> Self {
        Self {
            // More from the cache than were sent is no count.
            input_tokens: sent.checked_sub(cached_tokens).unwrap_or(sent),
            output_tokens,
            cached_tokens,
            cost_micros_usd: None,
        }
    }

    /// What there is beyond `earlier`.
    #[must_use]
    pub fn beyond(self, earlier: Self) -> Self {
        let cost = self.cost_micros_usd;
        Self {
            input_tokens: self.input_tokens.saturating_sub(earlier.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(earlier.output_tokens),
            cached_tokens: self.cached_tokens.saturating_sub(earlier.cached_tokens),
            cost_micros_usd: cost
                .map(|cost| cost.saturating_sub(earlier.cost_micros_usd.unwrap_or(0))),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let cost = match (self.cost_micros_usd, other.cost_micros_usd) {
            (None, None) => None,
            (one, two) => Some(one.unwrap_or(0).saturating_add(two.unwrap_or(0))),
        };
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cost_micros_usd: cost,
        }
    }
}

/// Something that an agent told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// Its own name for the conversation, by which it can be resumed.
    Conversation(String),
    /// The model that answers.
    Model(String),
    /// The model said this.
    Said(String),
    /// A part of what the model says, which goes on where the last part ended.
    SaidPart(String),
    /// The model thinks, or does something else of which there is nothing to tell.
    Thinking,
    /// The model has a tool run. Once more for the same tool when more is known of it.
    ToolStarted {
        /// The tool's name.
        name: String,
        /// What it does, in one line, where that can be seen.
        detail: Option<String>,
    },
    /// The tool has ended, in whatever way: its failure is the model's business.
    ToolEnded,
    /// What one request to the model has used; once more for the same request when more is known.
    RequestUsed {
        /// The agent's name for the request.
        request: String,
        /// What it has used.
        usage: Usage,
    },
    /// What the whole turn has used so far. Takes the place of what its requests have.
    TurnUsed {
        /// What.
        usage: Usage,
        /// How many requests there were, where that is told.
        requests: Option<u32>,
    },
    /// What the whole conversation has used so far, with the turns before this one.
    ConversationUsed(Usage),
    /// What it has cost so far, in millionths of a US dollar; where an agent that goes on with one may begin anew.
    ConversationCost(u64),
    /// A request failed, and the agent tries it again by itself.
    Retrying {
        /// What went wrong.
        trouble: Trouble,
        /// How long it waits, where that is told.
        delay: Option<Duration>,
    },
    /// The agent wanted to do something that it may not do.
    Denied {
        /// What, in one line.
        what: String,
    },
    /// The agent has a question and nobody to answer it.
    Asked {
        /// The question.
        question: String,
    },
    /// The provider says when a limit that is reached will be lifted.
    LimitReached(Reset),
    /// The turn is over, and all is well. The answer is what was said last, unless it is given here.
    Finished {
        /// The answer.
        answer: Option<String>,
    },
    /// The turn is over, and failed.
    Failed(Trouble),
}

/// What went wrong in a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The kind, which decides what is done about it.
    pub kind: TroubleKind,
    /// One line for a person, in the agent's words.
    pub message: String,
}

impl Trouble {
    /// Something that went wrong.
    pub fn new(kind: TroubleKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// When a limit is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// So long after it was told.
    After(Duration),
    /// At this time, in seconds since the epoch.
    At(u64),
}

/// The kinds of what can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// The provider serves no more for now: too many requests, or what was paid for is used up until a certain time.
    RateLimited {
        /// When it will serve again, where it says so.
        reset: Option<Reset>,
    },
    /// The provider is overloaded or out of order; this has nothing to do with who asks.
    Overloaded,
    /// The provider cannot be reached, or a stream was cut.
    Connection,
    /// The provider does not know who asks, or does not let them: a person has to mend it.
    Unauthorized,
    /// Nothing is left to pay with: a person has to mend it.
    NoCredit,
    /// The agent is not set up as it must be: a person has to mend it.
    Misconfigured,
    /// The provider does not take the request, however often it is sent.
    BadRequest,
    /// A limit of the agent's own, on turns, time or money.
    OwnLimit,
    /// There is no conversation of that name any more.
    UnknownConversation,
    /// The agent was told to stop.
    Interrupted,
    /// Anything else.
    Other,
}

impl TroubleKind {
    /// The kind by the status of an HTTP answer; none for a success.
    pub fn of_status(status: u16, reset: Option<Reset>) -> Option<Self> {
        Some(match status {
            100..=399 => return None,
            401 | 403 => Self::Unauthorized,
            402 => Self::NoCredit,
            429 => Self::RateLimited { reset },
            408 | 409 | 425 | 500..=599 => Self::Overloaded,
            400..=499 => Self::BadRequest,
            _ => Self::Other,
        })
    }

    /// The kind by what a message says, for agents that give nothing but words. Only what is the same in the messages
    /// of several providers counts; the first that fits.
    pub fn of_message(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let by_status = status_in(&message).and_then(|status| Self::of_status(status, None));
        if let Some(kind) = by_status
            // What was paid for can be used up with either of these.
            && !matches!(kind, Self::BadRequest | Self::RateLimited { .. })
        {
            return kind;
        }
        if has(&[
            "insufficient_quota",
            "insufficient quota",
            "credit balance",
            "billing",
            "payment required",
            "out of credits",
        ]) {
            Self::NoCredit
        } else if has(&[
            "rate limit",
            "rate_limit",
            "too many requests",
            "usage limit",
            "quota",
            "resource_exhausted",
        ]) {
            Self::RateLimited { reset: None }
        } else if has(&[
            "overloaded",
            "at capacity",
            "service unavailable",
            "internal server error",
            "bad gateway",
            "high demand",
        ]) {
            Self::Overloaded
        } else if has(&[
            "unauthorized",
            "not logged in",
            "invalid api key",
            "invalid x-api-key",
            "authentication",
            "api key not valid",
            "permission_denied",
            "forbidden",
            "missing environment variable",
        ]) {
            Self::Unauthorized
        } else if has(&[
            "connection",
            "network",
            "timed out",
            "timeout",
            "socket",
            "econnrefused",
            "econnreset",
            "stream disconnected",
            "stream closed",
            "fetch failed",
            "dns",
        ]) {
            Self::Connection
        } else if has(&["bad request", "invalid_request"]) {
            Self::BadRequest
        } else {
            by_status.unwrap_or(Self::Other)
        }
    }

    /// Whether it lies with the provider and not with the story.
    pub fn is_of_provider(self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Overloaded
                | Self::Connection
                | Self::Unauthorized
                | Self::NoCredit
        )
    }
}

/// A status of an HTTP answer that stands by itself in a message, such as `unexpected status 401 Unauthorized`.
fn status_in(message: &str) -> Option<u16> {
    let words = message.split(|character: char| !character.is_ascii_alphanumeric());
    words
        .filter(|word| word.len() == 3)
        .filter_map(|word| word.parse().ok())
        .find(|status| (400..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_to_be_done() {
        let kinds = [200, 400, 401, 402, 403, 404, 429, 500, 529].map(|status| {
            let kind = TroubleKind::of_status(status, None);
            kind.map_or("none".to_owned(), |kind| format!("{kind:?}"))
        });
        assert_eq!(
            kinds,
            [
                "none",
                "BadRequest",
                "Unauthorized",
                "NoCredit",
                "Unauthorized",
                "BadRequest",
                "RateLimited { reset: None }",
                "Overloaded",
                "Overloaded",
            ]
        );
    }

    #[test]
    fn words_are_understood_where_there_is_nothing_else() {
        let limited = TroubleKind::RateLimited { reset: None };
        for (message, kind) in [
            (
                "exceeded retry limit, last status: 429 Too Many Requests",
                limited,
            ),
            ("You've hit your usage limit. Try again at 5 PM.", limited),
            (
                "unexpected status 401 Unauthorized: wrong key",
                TroubleKind::Unauthorized,
            ),
            (
                "Selected model is at capacity. Please try another model.",
                TroubleKind::Overloaded,
            ),
            (
                "Your credit balance is too low to access the API",
                TroubleKind::NoCredit,
            ),
            (
                "429 You exceeded your current quota: insufficient_quota",
                TroubleKind::NoCredit,
            ),
            ("fetch failed", TroubleKind::Connection),
            (
                "stream disconnected before completion",
                TroubleKind::Connection,
            ),
            ("[API Error: 503 x]", TroubleKind::Overloaded),
            ("status 429", limited),
            ("status 400", TroubleKind::BadRequest),
            ("it has 1429 lines, on 429th street", TroubleKind::Other),
            ("something else", TroubleKind::Other),
        ] {
            assert_eq!(TroubleKind::of_message(message), kind, "{message}");
        }
    }

    #[test]
    fn use_is_added_without_overflow() {
        let most = Usage {
            input_tokens: u64::MAX,
            cost_micros_usd: Some(1),
            ..Usage::default()
        };
        assert_eq!(most.plus(most).input_tokens, u64::MAX);
        assert_eq!(most.plus(Usage::default()).cost_micros_usd, Some(1));
        assert_eq!(
            Usage::default().plus(Usage::default()).cost_micros_usd,
            None
        );
    }
}
