//! What an executor still has to say, so that saying it never slows the work down and never floods the parent.
//!
//! Owns the rule of what is dropped and what is not: a status, a health response and a log line have one place each,
//! where a newer one replaces an older one, and are sent at most 10 times a second each; everything else waits in a
//! short queue, and whoever wants to add to a full one waits. `complete` comes last. [`Outbox`] is the rule, pure;
//! [`run_outbox`] puts it to work on a link. It does not write a log file and does not notice a parent that has gone,
//! except by a write that fails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::{LinkError, LinkWriter};
use super::message::{FromExecutor, HealthResponse, Log, StatusUpdate};

/// The longest queue of messages that are never dropped.
pub const RELIABLE_CAPACITY: usize = 64;

/// The shortest time between two messages of one coalesced kind, in milliseconds: 10 a second.
pub const MIN_INTERVAL_MS: u64 = 100;

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Send this; it is no longer in the outbox.
    Send(FromExecutor),
    /// Nothing before that time, unless something is pushed.
    WaitUntil(u64),
    /// Nothing, until something is pushed.
    Idle,
    /// Nothing ever again.
    Finished,
}

/// A message that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Refused {
    /// The queue is full; try again after something was sent.
    Full(FromExecutor),
    /// `complete` was pushed, or the outbox was closed.
    Closed(FromExecutor),
}

/// The messages that wait, and which goes next. Times are milliseconds of any clock that does not go back.
#[derive(Debug, Default)]
pub struct Outbox {
    reliable: VecDeque<FromExecutor>,
    status: Slot,
    log: Slot,
    health: Slot,
    complete: Option<FromExecutor>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    latest: Option<FromExecutor>,
    /// The earliest time for the next one.
    due_ms: u64,
}

impl Slot {
    fn take_due(&mut self, now_ms: u64) -> Option<FromExecutor> {
        if now_ms < self.due_ms {
            return None;
        }
        let message = self.latest.take()?;
        self.due_ms = now_ms.saturating_add(MIN_INTERVAL_MS);
        Some(message)
    }
}

impl Outbox {
    /// Takes a message: into its place if it is of a coalesced kind, else into the queue. `complete` is always taken
    /// and closes the outbox.
    ///
    /// # Errors
    /// Gives the message back when the queue is full or the outbox closed.
    pub fn push(&mut self, message: FromExecutor) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed(message));
        }
        match message {
            FromExecutor::StatusUpdate(_) => self.status.latest = Some(message),
            FromExecutor::HealthResponse(_) => self.health.latest = Some(message),
            FromExecutor::Log(_) => self.log.latest = Some(message),
            FromExecutor::Complete(_) => {
                self.complete = Some(message);
                self.close();
            }
            FromExecutor::Hello(_) | FromExecutor::Error(_) | FromExecutor::PermitRequest => {
                if self.reliable.len() >= RELIABLE_CAPACITY {
                    return Err(Refused::Full(message));
                }
                self.reliable.push_back(message);
            }
        }
        Ok(())
    }

    /// Takes nothing more; what waits is still to be sent, without regard to the rate, so that the last state is not
    /// lost. A health response is not: nobody needs it any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.health.latest = None;
    }

    /// Takes nothing more and forgets what waits.
    pub fn abandon(&mut self) {
        *self = Self {
            closed: true,
            ..Self::default()
        };
    }

    /// What to do at `now_ms`.
    pub fn poll(&mut self, now_ms: u64) -> Next {
        if let Some(message) = self.reliable.pop_front() {
            return Next::Send(message);
        }
        if self.closed {
            let last = self.status.latest.take();
            let last = last.or_else(|| self.log.latest.take());
            let last = last.or_else(|| self.complete.take());
            return last.map_or(Next::Finished, Next::Send);
        }
        let mut earliest: Option<u64> = None;
        for slot in [&mut self.status, &mut self.health, &mut self.log] {
            if let Some(message) = slot.take_due(now_ms) {
                return Next::Send(message);
            }
            if slot.latest.is_some() {
                earliest = Some(earliest.map_or(slot.due_ms, |due| due.min(slot.due_ms)));
            }
        }
        earliest.map_or(Next::Idle, Next::WaitUntil)
    }
}

/// The link is broken or `complete` was said; nothing more can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the link to the orchestrator is closed")]
pub struct LinkClosed;

#[derive(Default)]
struct Shared {
    outbox: Mutex<Outbox>,
    /// Something was pushed, or the outbox was closed.
    pushed: Notify,
    /// There may be room in the queue, or the outbox was closed.
    room: Notify,
}

impl Shared {
    /// The outbox stays sound whatever panics while it is locked: no method of it leaves it half changed.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the parts of an executor leave what they have to say. When the last handle is dropped without `complete`,
/// the outbox sends what waits and ends.
#[derive(Clone)]
pub struct OutboxHandle(Arc<LastHandle>);

struct LastHandle(Arc<Shared>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.outbox().close();
        self.0.pushed.notify_one();
    }
}

impl OutboxHandle {
    /// Says where the attempt is. Never waits and never fails.
    pub fn status(&self, status: StatusUpdate) {
        self.coalesced(FromExecutor::StatusUpdate(Box::new(status)));
    }

    /// Shows a line to the person. Never waits and never fails.
    pub fn log(&self, log: Log) {
        self.coalesced(FromExecutor::Log(log));
    }

    /// Answers a health check. Never waits and never fails.
    pub fn health(&self, health: HealthResponse) {
        self.coalesced(FromExecutor::HealthResponse(health));
    }

    fn coalesced(&self, message: FromExecutor) {
        // Refused only when the link is closed, and then there is nobody to tell.
        let taken = self.0.0.outbox().push(message).is_ok();
        if taken {
            self.0.0.pushed.notify_one();
        }
    }

    /// Leaves a message that is never dropped; waits while the queue is full. Returns when it is in the queue; that
    /// it was sent shows when [`run_outbox`] ends. Cancel-safe: given up, the message is not in the queue.
    ///
    /// # Errors
    /// When the link is broken or `complete` was said before.
    pub async fn reliable(&self, message: FromExecutor) -> Result<(), LinkClosed> {
        let shared = &self.0.0;
        let mut message = message;
        loop {
            // Made before the attempt, so that room which appears between the two is not missed.
            let room = shared.room.notified();
            let pushed = shared.outbox().push(message);
            match pushed {
                Ok(()) => {
                    shared.pushed.notify_one();
                    return Ok(());
                }
                Err(Refused::Closed(_)) => return Err(LinkClosed),
                Err(Refused::Full(back)) => message = back,
            }
            room.await;
        }
    }
}

/// The other end of an [`OutboxHandle`], for [`run_outbox`]. When it is dropped, the handles are closed.
pub struct OutboxReceiver(Arc<Shared>);

impl Drop for OutboxReceiver {
    fn drop(&mut self) {
        self.0.outbox().abandon();
        self.0.room.notify_waiters();
    }
}

/// An empty outbox: the end to leave messages at, and the end for [`run_outbox`].
pub fn outbox() -> (OutboxHandle, OutboxReceiver) {
    let shared = Arc::new(Shared::default());
    let handle = OutboxHandle(Arc::new(LastHandle(Arc::clone(&shared))));
    (handle, OutboxReceiver(shared))
}

/// Sends what is left at the handles until `complete` is sent, or the last handle is dropped and nothing waits.
///
/// # Errors
/// When the link breaks. The handles are closed by then: nothing waits for ever, nothing panics.
pub async fn run_outbox(
    mut writer: LinkWriter<FromExecutor>,
    receiver: OutboxReceiver,
) -> Result<(), LinkError> {
    let shared = &receiver.0;
    let start = Instant::now();
    loop {
        let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = shared.outbox().poll(now_ms);
        match next {
            Next::Send(message) => {
                shared.room.notify_waiters();
                writer.send(message).await?;
            }
            Next::WaitUntil(time_ms) => {
                // Both arms only wait, so either may be given up; a push leaves a permit behind.
                tokio::select! {
                    () = tokio::time::sleep_until(start + Duration::from_millis(time_ms)) => {}
                    () = shared.pushed.notified() => {}
                }
            }
            Next::Idle => shared.pushed.notified().await,
            Next::Finished => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use proptest::prelude::*;

    use super::super::link::{ExecutorLink, LinkReader, OrchestratorLink};
    use super::super::samples;
    use super::*;

    fn is_coalesced(message: &FromExecutor) -> bool {
        matches!(
            message,
            FromExecutor::StatusUpdate(_) | FromExecutor::HealthResponse(_) | FromExecutor::Log(_)
        )
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Of one of the four kinds that are not `complete`.
        Push(u8),
        Wait(u64),
        Poll,
    }

    fn message(kind: u8, number: usize) -> FromExecutor {
        match kind {
            0 => samples::status(&number.to_string()),
            1 => samples::health(number as u64),
            2 => samples::log(&number.to_string()),
            _ => samples::error(&number.to_string()),
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_u8..4).prop_map(Step::Push),
            2 => (0_u64..60).prop_map(Step::Wait),
            4 => Just(Step::Poll),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn nothing_reliable_is_lost_newest_wins_the_rate_holds_and_complete_is_last(steps in steps()) {
            let mut outbox = Outbox::default();
            let mut now = 0;
            let mut reliable = Vec::new();
            let mut newest: Vec<FromExecutor> = Vec::new();
            let mut sent: Vec<(u64, FromExecutor)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Wait(time) => now += time,
                    Step::Push(kind) => {
                        let message = message(kind, number);
                        match outbox.push(message.clone()) {
                            Ok(()) if is_coalesced(&message) => {
                                newest.retain(|old| discriminant(old) != discriminant(&message));
                                newest.push(message);
                            }
                            Ok(()) => reliable.push(message),
                            Err(refused) => {
                                prop_assert_eq!(refused, Refused::Full(message));
                                prop_assert_eq!(outbox.reliable.len(), RELIABLE_CAPACITY);
                            }
                        }
                    }
                    Step::Poll => match outbox.poll(now) {
                        Next::Send(message) => {
                            if is_coalesced(&message) {
                                prop_assert!(newest.contains(&message), "an old one was sent");
                                newest.retain(|old| old != &message);
                            }
                            sent.push((now, message));
                        }
                        Next::WaitUntil(time) => {
                            prop_assert!(time > now && time <= now + MIN_INTERVAL_MS);
                            prop_assert!(!newest.is_empty());
                        }
                        Next::Idle => prop_assert!(newest.is_empty()),
                        Next::Finished => prop_assert!(false, "finished while open"),
                    },
                }
            }
            for kind in 0..3 {
                let kind = discriminant(&message(kind, 0));
                let times: Vec<u64> =
                    sent.iter().filter(|(_, m)| discriminant(m) == kind).map(|(t, _)| *t).collect();
                prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= MIN_INTERVAL_MS));
            }

            let last = samples::complete();
            prop_assert_eq!(outbox.push(last.clone()), Ok(()));
            let late = samples::log("late");
            prop_assert_eq!(outbox.push(late.clone()), Err(Refused::Closed(late)));
            newest.retain(|message| !matches!(message, FromExecutor::HealthResponse(_)));
            loop {
                match outbox.poll(now) {
                    Next::Send(message) => {
                        newest.retain(|old| old != &message);
                        sent.push((now, message));
                    }
                    next => {
                        prop_assert_eq!(next, Next::Finished);
                        break;
                    }
                }
            }
            prop_assert!(newest.is_empty(), "the last state was lost");
            let mut all: Vec<FromExecutor> = sent.into_iter().map(|(_, message)| message).collect();
            prop_assert_eq!(all.pop(), Some(last));
            all.retain(|message| !is_coalesced(message));
            prop_assert_eq!(all, reliable);
        }
    }

    fn linked() -> (
        LinkReader<FromExecutor>,
        LinkWriter<FromExecutor>,
        impl Sized,
    ) {
        let (near, far) = tokio::io::duplex(256);
        let (reader, parent_writer) = OrchestratorLink::new(near, samples::fence()).split();
        let (child_reader, writer) = ExecutorLink::new(far, samples::fence()).split();
        (reader, writer, (parent_writer, child_reader))
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_becomes_ten_messages_a_second_and_the_last_is_not_lost() {
        let (mut reader, writer, keep) = linked();
        let (handle, receiver) = outbox();
        let sender = tokio::spawn(run_outbox(writer, receiver));
        let flood = tokio::spawn(async move {
            for number in 0..10_000_u32 {
                handle.log(Log::new(super::super::LogLevel::Info, &number.to_string()));
                if number % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            handle.reliable(samples::complete()).await.unwrap();
            assert_eq!(handle.reliable(samples::error("x")).await, Err(LinkClosed));
        });
        let mut messages = Vec::new();
        while let Some(message) = reader.next().await.unwrap() {
            messages.push(message);
            if messages.last() == Some(&samples::complete()) {
                break;
            }
        }
        sender.await.unwrap().unwrap();
        flood.await.unwrap();
        drop(keep);
        assert!(
            (10..=13).contains(&messages.len()),
            "{} messages in a second",
            messages.len()
        );
        assert_eq!(messages[messages.len() - 2], samples::log("9999"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_does_not_read_makes_only_reliable_senders_wait_and_loses_nothing() {
        let (mut reader, writer, keep) = linked();
        let (handle, receiver) = outbox();
        let sender = tokio::spawn(run_outbox(writer, receiver));
        let talk = handle.clone();
        let talker = tokio::spawn(async move {
            for number in 0..500 {
                talk.reliable(samples::error(&number.to_string()))
                    .await
                    .unwrap();
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!talker.is_finished());
        for number in 0..1000 {
            handle.health(HealthResponse {
                sequence: number,
                rss_kib: 0,
                cpu_ms: 0,
                output_idle_ms: 0,
                processes: 0,
                idle_ms: 0,
                sign: None,
                waits: None,
            });
        }
        let mut expected = 0;
        while expected < 500 {
            let message = reader.next().await.unwrap().unwrap();
            if !is_coalesced(&message) {
                assert_eq!(message, samples::error(&expected.to_string()));
                expected += 1;
            }
        }
        talker.await.unwrap();
        drop(handle);
        sender.await.unwrap().unwrap();
        drop(keep);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_link_ends_the_task_and_frees_everyone_who_waits() {
        let (reader, writer, keep) = linked();
        let (handle, receiver) = outbox();
        let sender = tokio::spawn(run_outbox(writer, receiver));
        let talk = handle.clone();
        let talker = tokio::spawn(async move {
            loop {
                talk.reliable(samples::error("again")).await?;
            }
            #[expect(unreachable_code, reason = "names the type of the block")]
            Ok::<(), LinkClosed>(())
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop((reader, keep));
        assert!(sender.await.unwrap().is_err());
        assert_eq!(talker.await.unwrap(), Err(LinkClosed));
        handle.log(Log::new(super::super::LogLevel::Info, "to nobody"));
        assert_eq!(handle.reliable(samples::complete()).await, Err(LinkClosed));
    }

    #[tokio::test(start_paused = true)]
    async fn aborting_the_task_closes_the_handles() {
        let (_reader, writer, _keep) = linked();
        let (handle, receiver) = outbox();
        let sender = tokio::spawn(run_outbox(writer, receiver));
        tokio::task::yield_now().await;
        sender.abort();
        assert!(sender.await.unwrap_err().is_cancelled());
        assert_eq!(handle.reliable(samples::error("x")).await, Err(LinkClosed));
    }
}
