//! Who an executor is, as its environment says.

use std::ffi::OsString;
use std::path::PathBuf;

use thiserror::Error;

use crate::engine::{AttemptNumber, RunId};
use crate::protocol::{Fence, identity};
use crate::story::StoryId;

/// The attempt that this process is the executor of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The run.
    pub run: RunId,
    /// The story.
    pub story: StoryId,
    /// The attempt.
    pub attempt: AttemptNumber,
    /// The socket of the orchestrator.
    pub socket: PathBuf,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// A variable is missing.
    #[error("the variable {0} is not set")]
    Missing(&'static str),
    /// A variable does not hold what it should.
    #[error("the variable {0} holds nothing usable")]
    Malformed(&'static str),
    /// Argument and environment name different stories.
    #[error("the argument names story {argument}, the environment {environment}")]
    Different {
        /// The argument.
        argument: String,
        /// The environment.
        environment: StoryId,
    },
}

impl Identity {
    /// The identity that the environment gives, when it is that of `story`.
    ///
    /// # Errors
    /// When something is missing or does not fit.
    pub fn from_environment(story: &str) -> Result<Self, IdentityError> {
        Self::read(story, |name| std::env::var_os(name))
    }

    fn read(
        argument: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, IdentityError> {
        let value = |name: &'static str| variable(name).ok_or(IdentityError::Missing(name));
        let text = |name: &'static str| {
            let text = value(name)?.into_string();
            text.map_err(|_| IdentityError::Malformed(name))
        };
        let malformed = |name: &'static str| IdentityError::Malformed(name);
        let story: StoryId = text(identity::STORY)?
            .parse()
            .map_err(|_| malformed(identity::STORY))?;
        if story.as_str() != argument {
            return Err(IdentityError::Different {
                argument: argument.to_owned(),
                environment: story,
            });
        }
        let attempt = text(identity::ATTEMPT)?.parse().ok();
        Ok(Self {
            run: text(identity::RUN)?
                .parse()
                .map_err(|_| malformed(identity::RUN))?,
            story,
            attempt: attempt
                .and_then(AttemptNumber::new)
                .ok_or(malformed(identity::ATTEMPT))?,
            socket: PathBuf::from(value(identity::SOCKET)?),
        })
    }

    /// The fence of the link to the orchestrator.
    pub fn fence(&self) -> Fence {
        Fence {
            run: self.run.clone(),
            story: self.story.clone(),
            attempt: self.attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(argument: &str, changed: &str, value: Option<&str>) -> Result<Identity, IdentityError> {
        Identity::read(argument, |name| match name {
            name if name == changed => value.map(OsString::from),
            identity::STORY => Some("S-0042".into()),
            identity::RUN => Some("20261122-120000-beef".into()),
            identity::ATTEMPT => Some("3".into()),
            identity::SOCKET => Some("/run/x.sock".into()),
            _ => None,
        })
    }

    #[test]
    fn everything_that_is_there_is_read() {
        let identity = read("S-0042", "", None).unwrap();
        assert_eq!(identity.attempt.get(), 3);
        assert_eq!(identity.socket, PathBuf::from("/run/x.sock"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for name in [
            identity::STORY,
            identity::RUN,
            identity::ATTEMPT,
            identity::SOCKET,
        ] {
            assert_eq!(
                read("S-0042", name, None),
                Err(IdentityError::Missing(name))
            );
        }
        for (name, value) in [
            (identity::RUN, "x"),
            (identity::ATTEMPT, "0"),
            (identity::STORY, "a/b"),
        ] {
            let error = read("S-0042", name, Some(value));
            assert_eq!(error, Err(IdentityError::Malformed(name)));
        }
        assert!(matches!(
            read("S-1", "", None),
            Err(IdentityError::Different { .. })
        ));
    }
}
