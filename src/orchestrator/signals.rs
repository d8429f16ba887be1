//! The signals that ask a run, or a command that must not just end, to stop, and the last deadline of the stop that they
//! ask for.
//!
//! They are taken by a thread of the operating system, so that they are heard even if the runtime is stuck: the thread
//! passes them on to whoever decides (the engine of a run), and sees to it that the process is gone some time after every stop
//! that was asked for, whatever hangs.

use std::io;
use std::time::Duration;

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Incoming};
use tokio::sync::mpsc;

use crate::engine::StopSignal;
use crate::process::{LastDeadline, is_ignored};

/// Signals that may wait. A third one already ends the run at once.
const WAITING: usize = 8;
/// The exit code when a stop took too long (`EX_TEMPFAIL` of sysexits.h).
const CUT_OFF: u8 = 75;

/// Listens from its making on: from then, these signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    received: mpsc::Receiver<StopSignal>,
    listening: Handle,
}

impl Signals {
    /// `lives` are how long this process may live after the first, the second and the third signal, whatever it hangs at.
    ///
    /// # Errors
    /// When they cannot be listened to.
    pub fn listen(lives: [Duration; 3]) -> io::Result<Self> {
        // Who started this process with `nohup` wants it to outlive its terminal.
        let heard = [SIGINT, SIGTERM, SIGHUP].into_iter();
        let mut incoming =
            Incoming::new(heard.filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP)))?;
        let listening = incoming.handle();
        let (sender, received) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let [first, second, third] = lives;
                for (number, signal) in (1_u32..).zip(incoming.forever()) {
                    let (patience, code) = match number {
                        1 => (first, CUT_OFF),
                        2 => (second, CUT_OFF),
                        _ => (third, code_of(signal)),
                    };
                    LastDeadline {
                        patience,
                        code,
                        killing: None,
                    }
                    .arm();
                    if let Some(signal) = stop_signal(signal)
                        && let Err(error) = sender.try_send(signal)
                    {
                        tracing::debug!(%error, "a signal is not passed on");
                    }
                }
            })?;
        Ok(Self {
            received,
            listening,
        })
    }

    /// The next one. Cancel-safe.
    pub async fn next(&mut self) -> StopSignal {
        match self.received.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.listening.close();
    }
}

fn stop_signal(signal: i32) -> Option<StopSignal> {
    match signal {
        SIGINT => Some(StopSignal::Interrupt),
        SIGTERM => Some(StopSignal::Terminate),
        SIGHUP => Some(StopSignal::Hangup),
        _ => None,
    }
}

/// What a shell says of a program that such a signal has ended.
fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(CUT_OFF)
}
