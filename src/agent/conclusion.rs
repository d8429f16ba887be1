//! What the end of a turn means for the story, and what follows from what went wrong. Pure.

use super::event::{Reset, Trouble, TroubleKind};

/// What the end of a turn means for the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// The agent is done, and the worktree holds its work; or nothing has to be changed, for this reason.
    Finished(Option<String>),
    /// The agent says no.
    Failed(String),
    /// A person has to decide something.
    Blocked(String),
    /// The agent ended by a fault.
    Crashed(String),
    /// The provider serves no more for now.
    Limited {
        /// When it will serve again, where it says so.
        reset: Option<Reset>,
        /// Why, in one line.
        reason: String,
    },
    /// The provider does not serve before a person has mended something.
    Refused(String),
    /// What the agent was given is used up.
    Exceeded(String),
    /// The conversation that was to go on is not there any more.
    ConversationLost(String),
}

impl Conclusion {
    pub(super) fn of(trouble: &Trouble) -> Self {
        let reason = trouble.message.clone();
        match trouble.kind {
            TroubleKind::RateLimited { reset } => Self::Limited { reset, reason },
            TroubleKind::Overloaded => Self::Limited {
                reset: None,
                reason,
            },
            TroubleKind::Unauthorized | TroubleKind::NoCredit => Self::Refused(reason),
            // Its provider serves others.
            TroubleKind::Misconfigured => Self::Blocked(reason),
            TroubleKind::OwnLimit => Self::Exceeded(reason),
            TroubleKind::UnknownConversation => Self::ConversationLost(reason),
            TroubleKind::Connection | TroubleKind::Interrupted => Self::Crashed(reason),
            TroubleKind::BadRequest | TroubleKind::Other => Self::Failed(reason),
        }
    }
}
