//! What agents want of the machine, and what they may have of it together: `agents.<name>.resources`, `limits.machine`.

use serde::Deserialize;

use super::Invalid;
use super::size::size;
use crate::disk::Bytes;
use crate::engine::{Capacity, Resources};

/// The most processors that can be meant.
const MOST_CPUS: f64 = 10_000.0;

/// The keys of either.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ResourceSection {
    #[serde(deserialize_with = "size")]
    memory: Option<Bytes>,
    cpus: Option<f64>,
}

impl ResourceSection {
    /// What is wanted; `key` is that of the section.
    pub(super) fn resources(&self, key: &str) -> Result<Resources, Invalid> {
        let Capacity {
            memory_bytes,
            millicpus,
        } = self.capacity(key)?;
        Ok(Resources {
            memory_bytes: memory_bytes.unwrap_or_default(),
            millicpus: millicpus.unwrap_or_default(),
        })
    }

    /// What there is.
    pub(super) fn capacity(&self, key: &str) -> Result<Capacity, Invalid> {
        if self.memory == Some(Bytes(0)) {
            return Err(Invalid::new(format!("{key}.memory"), "must be at least 1"));
        }
        let cpus = self.cpus.map(|cpus| {
            let millis = millis(cpus);
            millis.ok_or_else(|| {
                let rule = format!("must be from 0.001 to {MOST_CPUS}");
                Invalid::new(format!("{key}.cpus"), rule)
            })
        });
        Ok(Capacity {
            memory_bytes: self.memory.map(|memory| memory.0),
            millicpus: cpus.transpose()?,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is within the range"
)]
fn millis(cpus: f64) -> Option<u64> {
    let millis = cpus * 1000.0;
    (1.0..=MOST_CPUS * 1000.0)
        .contains(&millis)
        .then(|| millis.round() as u64)
}
