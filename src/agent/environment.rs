//! Which variables of the user's environment an agent gets to see. Pure, but for reading the environment itself.
//!
//! An agent is untrusted: it gets what programs need to work at all, what the user allows by name, and the variables
//! that say which story it works on; never our socket, and no key that nobody allowed.

use std::ffi::{OsStr, OsString};

/// What every agent gets, when it is set. A name that ends in `*` stands for all that start so.
const ALWAYS: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TERM",
    "TMPDIR",
    "XDG_*",
    "SSH_AUTH_SOCK",
    "NO_COLOR",
    "AI_SDLC_*",
];

/// What no agent gets, whatever is allowed: the way to the orchestrator, and what would make an `ai-sdlc` that the
/// agent calls work on the user's own board.
const NEVER: &[&str] = &["AI_SDLC_SOCKET", "AI_SDLC_ROOT"];

/// The rule for one agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    allowed: Vec<String>,
}

impl Environment {
    /// The rule that also lets these names through; a name that ends in `*` stands for all that start so.
    pub fn allowing(names: &[String]) -> Self {
        Self {
            allowed: names.to_vec(),
        }
    }

    /// The variables of this process that pass.
    pub fn current(&self) -> Vec<(OsString, OsString)> {
        self.filter(std::env::vars_os())
    }

    fn filter(
        &self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        variables.filter(|(name, _)| self.passes(name)).collect()
    }

    fn passes(&self, name: &OsStr) -> bool {
        let Some(name) = name.to_str() else {
            return false;
        };
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        !NEVER.contains(&name)
            && (ALWAYS.iter().any(|pattern| matches(pattern))
                || self.allowed.iter().any(|pattern| matches(pattern)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(allowed: &[&str], names: &[&str]) -> Vec<String> {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let variables = names.iter().map(|name| (name.into(), "x".into()));
        Environment::allowing(&allowed)
            .filter(variables)
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn keys_and_git_variables_do_not_pass() {
        let names = [
            "PATH",
            "LC_ALL",
            "ANTHROPIC_API_KEY",
            "GIT_DIR",
            "AI_SDLC_STORY_ID",
        ];
        assert_eq!(passed(&[], &names), ["PATH", "LC_ALL", "AI_SDLC_STORY_ID"]);
    }

    #[test]
    fn what_the_user_allows_passes_and_our_socket_never_does() {
        let names = ["JAVA_HOME", "NPM_TOKEN", "AI_SDLC_SOCKET", "AI_SDLC_ROOT"];
        let allowed = ["JAVA_HOME", "NPM_*", "AI_SDLC_SOCKET", "*"];
        assert_eq!(passed(&allowed, &names), ["JAVA_HOME", "NPM_TOKEN"]);
    }
}
