//! What a signal does to a command that removes worktrees: a hook that runs is ended and waited for, no other begins, and
//! the command says what it has done. It keeps the lock of the board until then, so that no run finds the hook at work.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;

use crate::cli::error::CliError;
use crate::engine::StopSignal;
use crate::orchestrator::Signals;
use crate::setup::RemovalHook;

/// How long this process may live after the first, the second and the third signal: a keeper that hangs is killed after
/// six seconds, and has left nothing three seconds later; the rest is for a removal that has begun.
const LIVES: [Duration; 3] = [
    Duration::from_secs(15),
    Duration::from_secs(1),
    Duration::ZERO,
];

/// Whether the command was asked to stop.
pub(super) struct Interruption {
    asked: watch::Receiver<Option<StopSignal>>,
}

impl Interruption {
    /// Listens from now on. The first signal ends the hook.
    pub(super) fn listen(hook: RemovalHook) -> Result<Self, CliError> {
        let mut signals = Signals::listen(LIVES)
            .map_err(|error| CliError::new(format!("signals cannot be heard: {error}")))?;
        let (tell, asked) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let signal = signals.next().await;
                hook.stop();
                tell.send_modify(|first| *first = first.or(Some(signal)));
            }
        });
        Ok(Self { asked })
    }

    /// The first signal that came by now.
    pub(super) async fn asked(&self) -> Option<StopSignal> {
        // There is one thread: whoever listens has its turn first.
        yield_now().await;
        *self.asked.borrow()
    }
}
