//! The last deadline of a process: a thread that ends it whatever else it does.
//!
//! A runtime that is stuck cannot keep a deadline of its own. So the thread is started at the decision to stop, sleeps,
//! and leaves by `_exit`, which runs nothing and waits for nobody.

use std::time::{Duration, Instant};

/// How much later than asked a sleep may end before it says something about the machine (it slept, this process was
/// stopped) and nothing about this process.
const OVERSLEPT: Duration = Duration::from_secs(1);
/// What this process gets then to do what it could not do meanwhile.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

/// Ends this process with that exit code after `patience`, unless it has ended by then. `last` is called before: it has
/// to return. When no thread is to be had, there is no such deadline.
pub fn end_process_after(patience: Duration, code: u8, last: impl FnOnce() + Send + 'static) {
    let watch = move || {
        sleep_fairly(patience);
        last();
        exit_now(code);
    };
    let spawned = std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(watch);
    if let Err(error) = spawned {
        tracing::error!(%error, "nobody ends this process if it hangs");
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
