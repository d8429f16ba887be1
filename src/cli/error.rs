//! What ends a command early: what happened, what to do about it, and the exit code. The only place that knows exit
//! codes.

use std::process::ExitCode;

use crate::config::{ConfigError, ProjectError};
use crate::engine::{StopSignal, Verdict};
use crate::git::{GitError, IdentityError, RepositoryError};
use crate::launcher::LaunchError;
use crate::orchestrator::RunLockError;
use crate::story::StoreError;

/// Everything went well, or there was nothing to do.
pub(super) const SUCCESS: u8 = 0;
/// Some story did not succeed.
pub(super) const SOME_DID_NOT: u8 = 1;
/// The command, the configuration or the repository cannot be worked with.
pub(super) const USAGE: u8 = 2;
/// Another run, or a command that changes worktrees, holds the lock.
pub(super) const LOCKED: u8 = 3;
/// A budget of the run or a quota kept stories from being worked on.
pub(super) const EXHAUSTED: u8 = 4;
/// The deadline of a stop was hit (`EX_TEMPFAIL` of sysexits.h).
pub(super) const DEADLINE_HIT: u8 = 75;
/// The terminal is gone (SIGHUP).
pub(super) const HUNG_UP: u8 = 129;
/// Interrupted by SIGINT, after a clean stop.
pub(super) const INTERRUPTED: u8 = 130;
/// Interrupted by SIGTERM, after a clean stop.
pub(super) const TERMINATED: u8 = 143;

/// What to do while a command other than a run has the board.
pub(super) const WAIT_FOR_COMMAND: &str = "wait for its end, which a slow `hooks.beforeRemove` puts off, or stop it with Ctrl-C where it runs";

/// A command that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CliError {
    message: String,
    hints: Vec<String>,
    code: u8,
}

impl CliError {
    /// An error of the user's making, or of the place the command was run in.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hints: Vec::new(),
            code: USAGE,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prints it and gives its exit code.
    pub(super) fn report(&self) -> ExitCode {
        crate::report::error(&self.message, &self.hints);
        ExitCode::from(self.code)
    }

    /// Ends the program with this exit code instead.
    #[must_use]
    pub(super) fn exit(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// From any error of the library, with all its causes.
    pub(super) fn from_error(error: &dyn std::error::Error) -> Self {
        Self::new(crate::report::chain(error))
    }
}

/// The exit code of a run.
pub(super) fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::AllSucceeded => SUCCESS,
        Verdict::SomeDidNot => SOME_DID_NOT,
        Verdict::Exhausted => EXHAUSTED,
        Verdict::Interrupted(signal) => signal_code(signal),
        Verdict::DeadlineHit => DEADLINE_HIT,
    }
}

/// How a run went, for people.
pub(super) fn in_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::AllSucceeded => "all stories succeeded",
        Verdict::SomeDidNot => "some stories did not succeed",
        Verdict::Exhausted => "a budget or a quota was used up",
        Verdict::Interrupted(_) => "it was stopped",
        Verdict::DeadlineHit => "something could not be ended in time",
    }
}

/// The exit code after a signal.
pub(super) fn signal_code(signal: StopSignal) -> u8 {
    match signal {
        StopSignal::Interrupt => INTERRUPTED,
        StopSignal::Terminate => TERMINATED,
        StopSignal::Hangup => HUNG_UP,
    }
}

impl From<ProjectError> for CliError {
    fn from(error: ProjectError) -> Self {
        let hint = match &error {
            ProjectError::NotInitialised { .. } | ProjectError::NoBoard { .. } => {
                "run `ai-sdlc init` in the root of the repository"
            }
            ProjectError::Config(ConfigError::Read { .. }) => "make the file readable",
            ProjectError::Config(_) => "mend the file, or move it away to use the defaults",
        };
        Self::from_error(&error).hint(hint)
    }
}

impl From<RepositoryError> for CliError {
    fn from(error: RepositoryError) -> Self {
        let hint = match &error {
            RepositoryError::NotARepository { .. } => {
                Some("run `git init` and make a first commit")
            }
            RepositoryError::Bare { .. } => Some("run it in a clone with a work tree"),
            RepositoryError::NoCommit { .. } => {
                Some("make a first commit: stories start from what is committed")
            }
            _ => None,
        };
        let mut converted = Self::from_error(&error);
        converted.hints.extend(hint.map(str::to_owned));
        converted
    }
}

impl From<GitError> for CliError {
    fn from(error: GitError) -> Self {
        let converted = Self::from_error(&error);
        match error {
            GitError::GitMissing => converted.hint("install git, or put it on the PATH"),
            GitError::TooOld { .. } => converted.hint("install a newer git"),
            _ => converted,
        }
    }
}

impl From<IdentityError> for CliError {
    fn from(error: IdentityError) -> Self {
        match error {
            // What git says about it is several lines of the same advice.
            IdentityError::Unknown { .. } => Self::new(error.to_string())
                .hint("git config --global user.name \"Your Name\"")
                .hint("git config --global user.email you@example.com"),
            IdentityError::Git(error) => error.into(),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::from_error(&error)
    }
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> Self {
        Self::from_error(&error)
    }
}

impl From<RunLockError> for CliError {
    fn from(error: RunLockError) -> Self {
        let converted = Self::from_error(&error);
        match error {
            RunLockError::Held { holder } if holder.is_a_run() => converted
                .hint("wait for it, or stop it with Ctrl-C where it runs")
                .exit(LOCKED),
            RunLockError::Held { .. } => converted.hint(WAIT_FOR_COMMAND).exit(LOCKED),
            RunLockError::Io { .. } => converted.hint("a run needs a writable board folder"),
        }
    }
}
