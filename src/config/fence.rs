//! The part of the configuration that says where agents may write: `fence`.

use std::path::PathBuf;

use serde::Deserialize;

use super::Invalid;

/// Where agents may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceRules {
    /// Whether they are held by a fence at all.
    pub enabled: bool,
    /// Places besides the usual ones: absolute, relative to the root of the project, or below the home folder (`~/…`).
    pub write: Vec<PathBuf>,
}

impl Default for FenceRules {
    fn default() -> Self {
        Self {
            enabled: true,
            write: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FenceSection {
    enabled: Option<bool>,
    write: Vec<PathBuf>,
}

impl FenceSection {
    pub(super) fn rules(self) -> Result<FenceRules, Invalid> {
        if self.write.iter().any(|path| path.as_os_str().is_empty()) {
            return Err(Invalid::new(
                "fence.write",
                "must not contain an empty path",
            ));
        }
        Ok(FenceRules {
            enabled: self.enabled.unwrap_or(true),
            write: self.write,
        })
    }
}
