//! The last deadline of a process: a thread that ends it whatever else it does.
//!
//! A runtime that is stuck cannot keep a deadline of its own. So the thread is started at the decision to stop, sleeps,
//! and leaves by `_exit`, which runs nothing and waits for nobody.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How much later than asked a sleep may end before it says something about the machine (it slept, this process was
/// stopped) and nothing about this process.
const OVERSLEPT: Duration = Duration::from_secs(1);
/// What this process gets then to do what it could not do meanwhile.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

/// When a process has ended, whatever it hangs at.
#[derive(Debug, Clone, Copy)]
pub struct LastDeadline {
    /// How long it still has.
    pub patience: Duration,
    /// Its exit code when it has to be ended.
    pub code: u8,
    /// How long its descendants are killed for then, if they are to be.
    pub killing: Option<Duration>,
}

impl LastDeadline {
    /// Ends this process with another thread's help, unless it has ended by then. When no thread is to be had, there is no
    /// such deadline.
    pub fn arm(self) {
        let spawned = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || self.keep());
        if let Err(error) = spawned {
            tracing::error!(%error, "nobody ends this process if it hangs");
        }
    }

    /// Ends this process from this thread.
    pub(super) fn keep(self) -> ! {
        sleep_fairly(self.patience);
        if let Some(within) = self.killing {
            kill_descendants(within);
        }
        exit_now(self.code)
    }
}

/// Kills, and returns in time although the killing may hang at what this process hangs at (a log that cannot be written).
fn kill_descendants(within: Duration) {
    let (done, is_done) = mpsc::channel::<()>();
    let killing = std::thread::Builder::new().spawn(move || {
        super::kill_descendants(within);
        drop(done);
    });
    match killing {
        // Either it is done or it is not: both are the end.
        Ok(_) => drop(is_done.recv_timeout(within)),
        Err(_) => super::kill_descendants(within),
    }
}

fn sleep_fairly(patience: Duration) {
    let began = Instant::now();
    std::thread::sleep(patience);
    if began.elapsed() > patience + OVERSLEPT {
        std::thread::sleep(SECOND_CHANCE);
    }
}

#[expect(
    unsafe_code,
    reason = "the standard library runs handlers on the way out, which may be what hangs"
)]
fn exit_now(code: u8) -> ! {
    // SAFETY: `_exit` takes any number, touches no memory of this process and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
