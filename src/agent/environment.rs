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
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
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
    set: Vec<(String, String)>,
}

impl Environment {
    /// The rule that also lets these names through; a name that ends in `*` stands for all that start so, and
    /// `NAME=value` sets a variable.
    pub fn allowing<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        let mut rule = Self::default();
        for entry in entries {
            match entry.split_once('=') {
                None => rule.allowed.push(entry.to_owned()),
                Some((name, value)) => rule.set.push((name.to_owned(), value.to_owned())),
            }
        }
        rule
    }

    /// The variables that an agent gets: those of this process that pass, and those that are set.
    pub fn current(&self) -> Vec<(OsString, OsString)> {
        self.applied_to(std::env::vars_os())
    }

    fn applied_to(
        &self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let set = self.set.iter();
        let set = set.filter(|(name, _)| !NEVER.contains(&name.as_str()));
        let set = set.map(|(name, value)| (name.into(), value.into()));
        variables
            .filter(|(name, _)| self.passes(name))
            .chain(set)
            .collect()
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
        let variables = names.iter().map(|name| (name.into(), "x".into()));
        Environment::allowing(allowed.iter().copied())
            .applied_to(variables)
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
            "SSH_AUTH_SOCK",
            "GIT_DIR",
            "AI_SDLC_STORY_ID",
        ];
        assert_eq!(passed(&[], &names), ["PATH", "LC_ALL", "AI_SDLC_STORY_ID"]);
    }

    #[test]
    fn what_the_user_sets_is_set_whatever_there_is() {
        let rule = Environment::allowing(["A=1", "AI_SDLC_SOCKET=/x", "B="]);
        let variables = [("A".into(), "0".into()), ("PATH".into(), "/bin".into())];
        let all = rule.applied_to(variables.into_iter());
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()))
            .collect();
        assert_eq!(all, [("PATH", "/bin"), ("A", "1"), ("B", "")]);
    }

    #[test]
    fn what_the_user_allows_passes_and_our_socket_never_does() {
        let names = ["JAVA_HOME", "NPM_TOKEN", "AI_SDLC_SOCKET", "AI_SDLC_ROOT"];
        let allowed = ["JAVA_HOME", "NPM_*", "AI_SDLC_SOCKET", "*"];
        assert_eq!(passed(&allowed, &names), ["JAVA_HOME", "NPM_TOKEN"]);
    }
}
