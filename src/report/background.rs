//! Surfaces on a thread of their own, so that a terminal or a reader that takes nothing (a stopped pager, a full pipe)
//! never holds up the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Reporter, RunEvent, Stamp};
use crate::engine::RunId;

/// How many events may wait to be shown. What is only of the moment (status, health, log lines) takes at most half of
/// that, so that there is room for what happens once.
const WAITING: usize = 8192;

/// Shows events on another thread, in order.
pub struct Background {
    queue: Option<SyncSender<Shown>>,
    acknowledged: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    waiting: Arc<AtomicUsize>,
    sequence: u64,
    /// Events that found no room. Nobody is told while nothing is taken.
    lost: usize,
}

/// An event, made when its turn to be shown has come.
type Making = Box<dyn FnOnce() -> RunEvent + Send>;

type Shown = (RunId, Stamp, Making);

impl Background {
    /// Moves surfaces to a thread of their own.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn new(mut reporters: Vec<Box<dyn Reporter>>) -> std::io::Result<Self> {
        let (queue, events) = sync_channel::<Shown>(WAITING);
        let (done, acknowledged) = sync_channel(1);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("report".to_owned())
            .spawn(move || {
                for (run, stamp, make) in events {
                    let event = make();
                    for reporter in &mut reporters {
                        reporter.show(&run, &stamp, &event);
                    }
                    counted.fetch_sub(1, Ordering::Relaxed);
                }
                // Nobody waits when the run was given up.
                let _: Result<(), TrySendError<()>> = done.try_send(());
            })?;
        Ok(Self {
            queue: Some(queue),
            acknowledged,
            thread: Some(thread),
            waiting,
            sequence: 0,
            lost: 0,
        })
    }

    /// Waits until everything has been shown, at most that long. Gives the number of events that nobody took.
    pub fn finish(&mut self, patience: Duration) -> usize {
        drop(self.queue.take());
        match self.acknowledged.recv_timeout(patience) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
                    tracing::error!("the surfaces broke");
                }
                self.lost
            }
            // It is stuck in a write; it ends with the process.
            Err(RecvTimeoutError::Timeout) => self.lost + self.waiting.load(Ordering::Relaxed),
        }
    }
}

impl Background {
    /// Queues an event to be shown.
    pub fn show(&mut self, run: &RunId, event: &RunEvent) {
        self.sequence += 1;
        let waiting = self.waiting.load(Ordering::Relaxed);
        if event.is_of_the_moment() && waiting > WAITING / 2 {
            return;
        }
        let event = event.clone();
        self.enqueue(run, Box::new(move || event));
    }

    /// Queues an event that is made on the thread of the surfaces, when its turn has come: for what has to be read first
    /// from a disk that may hang. What comes later waits for it, so `make` must have a deadline.
    pub fn show_made(&mut self, run: &RunId, make: impl FnOnce() -> RunEvent + Send + 'static) {
        self.sequence += 1;
        self.enqueue(run, Box::new(make));
    }

    fn enqueue(&mut self, run: &RunId, make: Making) {
        let Some(queue) = &self.queue else { return };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let shown = (run.clone(), Stamp::now(self.sequence), make);
        if queue.try_send(shown).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Slow(Arc<Mutex<Vec<RunEvent>>>);

    impl Reporter for Slow {
        fn show(&mut self, _run: &RunId, _stamp: &Stamp, event: &RunEvent) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    fn warning(number: usize) -> RunEvent {
        RunEvent::Warning {
            message: number.to_string(),
        }
    }

    #[test]
    fn everything_is_shown_in_order() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let run = RunId::new("20261122-120000", 1).unwrap();
        let mut background = Background::new(vec![Box::new(Slow(Arc::clone(&seen)))]).unwrap();
        let events: Vec<RunEvent> = (0..1000).map(warning).collect();
        for event in &events {
            background.show(&run, event);
        }
        assert_eq!(background.finish(Duration::from_secs(20)), 0);
        assert_eq!(*seen.lock().unwrap(), events);
    }

    #[test]
    fn a_surface_that_is_stuck_holds_up_nothing() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let run = RunId::new("20261122-120000", 1).unwrap();
        let stuck = seen.lock().unwrap();
        let mut background = Background::new(vec![Box::new(Slow(Arc::clone(&seen)))]).unwrap();
        for number in 0..3 * WAITING {
            background.show(&run, &warning(number));
        }
        assert!(background.finish(Duration::from_millis(10)) > WAITING);
        drop(stuck);
    }
}
