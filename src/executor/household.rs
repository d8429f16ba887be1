//! What an agent leaves running when it ends: found, ended, told.

use std::time::Duration;

use crate::process::{self, Sweep, Whose};
use crate::protocol::{Log, LogLevel, OutboxHandle, identity};

/// How long processes that an agent has left may take to end when they are asked to. A server of an agent's tools ends
/// within that; nobody waits for longer, since every story would.
const POLITE: Duration = Duration::from_secs(1);
/// How long a sweep may take to kill what does not end.
const WITHIN: Duration = Duration::from_secs(5);

/// The keeper of everything below this executor.
#[derive(Debug)]
pub(super) struct Household {
    keep: Vec<String>,
}

impl Household {
    /// `keep` are names of processes that may outlive their agent.
    pub(super) fn new(keep: Vec<String>) -> Self {
        Self { keep }
    }

    /// Ends what is left running and says what it was. When everything was asked to stop, it has the time that is left of
    /// that, and `asked` is the process group that knows of it already.
    ///
    /// # Errors
    /// When something cannot be ended; the text says what.
    pub(super) async fn sweep(
        &self,
        time_left: Option<Duration>,
        asked: Option<u32>,
        outbox: &OutboxHandle,
    ) -> Result<(), String> {
        let polite = time_left.unwrap_or(POLITE);
        let asked = asked.filter(|_| time_left.is_some());
        let keep = self.keep.clone();
        let sweeping = tokio::task::spawn_blocking(move || {
            process::sweep_orphans(&Sweep {
                whose: Whose::All {
                    mark: identity::RUN,
                },
                worktrees: None,
                keep: &keep,
                asked,
                polite,
                within: WITHIN,
            })
        });
        let swept = sweeping
            .await
            .map_err(|error| format!("what the agent left running is not known: {error}"))?;
        if swept.count > 0 {
            let text = format!("ended what was left running: {swept}");
            tracing::warn!("{text}");
            outbox.log(Log::new(LogLevel::Warning, &text));
        }
        if swept.stayed.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = swept.stayed.iter().map(ToString::to_string).collect();
        Err(format!(
            "the agent left running what cannot be ended: {}",
            names.join(", ")
        ))
    }
}
