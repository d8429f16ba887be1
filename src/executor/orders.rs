//! What the executor is told: messages of its orchestrator, the end of the connection, and SIGTERM.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::output::Seen;
use super::pulse::Beat;
use super::vitals;
use crate::engine::Allowance;
use crate::process::LastDeadline;
use crate::protocol::{LinkReader, OutboxHandle, Start, ToExecutor};

/// How long an agent may take to end when SIGTERM came from somebody who names no time.
const USUAL_GRACE: Duration = Duration::from_secs(10);
/// How long an agent may take to end when the orchestrator is gone. Nobody waits for its result any more, and the
/// next run may want to start soon.
const ORPHAN_GRACE: Duration = Duration::from_millis(1500);
/// When an executor whose orchestrator is gone has ended, with everything below it, whatever it hangs at. It is promised
/// to be gone within three seconds.
pub(super) const ORPHANED: LastDeadline = LastDeadline {
    patience: Duration::from_millis(2700),
    code: CUT_OFF,
    killing: Some(LAST_KILLS),
};
/// How long the descendants of such an executor are killed for.
const LAST_KILLS: Duration = Duration::from_millis(250);
/// The exit code of an executor that had to be cut off.
const CUT_OFF: u8 = 75;

/// One order.
#[derive(Debug)]
pub(super) enum Order {
    /// Here is your work.
    Start(Box<Start>),
    /// End, within this time.
    Stop { grace: Duration },
    /// The agent may begin its turn.
    Turn(Allowance),
    /// The orchestrator is gone.
    Gone,
}

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Turn(Allowance),
    Step(StopStep),
}

/// What to do about the agent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopStep {
    /// Ask it to end.
    Ask,
    /// Its time is up.
    Kill,
}

/// The orders of one executor, as a clock that runs down once it was told to stop.
#[derive(Debug)]
pub(super) struct Orders {
    received: mpsc::Receiver<Order>,
    terminate: Signal,
    orchestrator: Orchestrator,
    stopping: Stopping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orchestrator {
    There,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Until(Instant),
    TimeIsUp,
}

impl Orders {
    pub(super) fn new(received: mpsc::Receiver<Order>) -> io::Result<Self> {
        Ok(Self {
            received,
            terminate: signal(SignalKind::terminate())?,
            orchestrator: Orchestrator::There,
            stopping: Stopping::No,
        })
    }

    /// The first order.
    pub(super) async fn first(&mut self) -> Order {
        // Both arms wait for one value, which stays where it is when the other arm wins.
        tokio::select! {
            order = self.received.recv() => order.unwrap_or(Order::Gone),
            _ = self.terminate.recv() => Order::Stop { grace: USUAL_GRACE },
        }
    }

    /// Waits until something has to be done about the agent. Cancel-safe: what was received is kept in `self`.
    pub(super) async fn next_step(&mut self) -> StopStep {
        loop {
            if let Told::Step(step) = self.told().await {
                return step;
            }
        }
    }

    /// Waits until the agent may begin a turn. Gives what it may use in it; nothing when it was told to stop.
    pub(super) async fn may_begin_turn(&mut self) -> Option<Allowance> {
        if self.is_stopping() {
            return None;
        }
        match self.told().await {
            Told::Turn(allowance) => Some(allowance),
            Told::Step(_) => None,
        }
    }

    async fn told(&mut self) -> Told {
        loop {
            let deadline = match self.stopping {
                Stopping::Until(deadline) => Some(deadline),
                Stopping::No | Stopping::TimeIsUp => None,
            };
            let grace = tokio::select! {
                order = self.received.recv(), if self.orchestrator == Orchestrator::There => match order {
                    Some(Order::Stop { grace }) => grace,
                    Some(Order::Turn(allowance)) => return Told::Turn(allowance),
                    Some(Order::Start(_)) => continue,
                    Some(Order::Gone) | None => {
                        self.orchestrator = Orchestrator::Gone;
                        ORPHAN_GRACE
                    }
                },
                _ = self.terminate.recv() => match self.stopping {
                    // The orchestrator sends SIGTERM along with its message; the time that the message names counts.
                    Stopping::No => USUAL_GRACE,
                    Stopping::Until(_) | Stopping::TimeIsUp => continue,
                },
                () = sleep_until(deadline) => {
                    self.stopping = Stopping::TimeIsUp;
                    return Told::Step(StopStep::Kill);
                }
            };
            self.stopping = Stopping::Until(Instant::now() + grace);
            return Told::Step(StopStep::Ask);
        }
    }

    /// How long the agent still has, when it was told to stop.
    pub(super) fn time_left(&self) -> Option<Duration> {
        match self.stopping {
            Stopping::No => None,
            Stopping::Until(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            Stopping::TimeIsUp => Some(Duration::ZERO),
        }
    }

    /// Whether it was told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping != Stopping::No
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Passes messages on as orders and has health checks answered, until the connection ends.
pub(super) async fn listen(
    mut reader: LinkReader<ToExecutor>,
    output: watch::Receiver<Seen>,
    pulse: watch::Receiver<Beat>,
    outbox: OutboxHandle,
    forward: mpsc::Sender<Order>,
) {
    // Nothing is asked before there is work.
    let mut checks = None;
    loop {
        let order = match reader.next().await {
            Ok(Some(ToExecutor::Start(start))) => {
                let look_every = Duration::from_millis(start.look_every_ms);
                let (output, pulse) = (output.clone(), pulse.clone());
                checks = Some(vitals::attend(look_every, output, pulse, outbox.clone()));
                Order::Start(start)
            }
            Ok(Some(ToExecutor::HealthCheck { sequence })) => {
                if let Some(checks) = &checks {
                    // The last one is not even answered: that answer will do for both.
                    let _: Result<(), mpsc::error::TrySendError<u64>> = checks.try_send(sequence);
                }
                continue;
            }
            Ok(Some(ToExecutor::PermitGrant(allowance))) => Order::Turn(allowance),
            Ok(Some(ToExecutor::Shutdown { reason, grace_ms })) => {
                tracing::info!(?reason, grace_ms, "told to stop");
                Order::Stop {
                    grace: Duration::from_millis(grace_ms),
                }
            }
            Ok(None) => Order::Gone,
            Err(error) => {
                tracing::error!(%error, "the orchestrator cannot be understood");
                Order::Gone
            }
        };
        let last = matches!(order, Order::Gone);
        if last {
            // From here on this process lives on borrowed time, whatever it is doing. A connection that has ended is seen
            // without the runtime as well, where that can be; one that cannot be understood is not.
            ORPHANED.arm();
        }
        if forward.send(order).await.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn orders() -> (mpsc::Sender<Order>, Orders) {
        let (sender, received) = mpsc::channel(8);
        (sender, Orders::new(received).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_connection_is_seen_even_if_it_came_before_anybody_looked() {
        let (sender, mut orders) = orders();
        sender.send(Order::Gone).await.unwrap();
        drop(sender);
        assert_eq!(timeout(LONG, orders.next_step()).await, Ok(StopStep::Ask));
        assert_eq!(timeout(LONG, orders.next_step()).await, Ok(StopStep::Kill));
        assert!(timeout(LONG, orders.next_step()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_begins_when_it_is_granted_and_not_after_a_stop() {
        let (sender, mut orders) = orders();
        assert!(timeout(LONG, orders.may_begin_turn()).await.is_err());
        let allowance = Allowance {
            turns: Some(3),
            ..Allowance::default()
        };
        sender.send(Order::Turn(allowance)).await.unwrap();
        assert_eq!(orders.may_begin_turn().await, Some(allowance));
        let grace = Duration::from_secs(1);
        sender.send(Order::Stop { grace }).await.unwrap();
        sender.send(Order::Turn(allowance)).await.unwrap();
        assert_eq!(orders.may_begin_turn().await, None);
        assert!(orders.is_stopping());
        assert_eq!(orders.may_begin_turn().await, None);
        // A turn that is granted too late is none.
        assert_eq!(orders.next_step().await, StopStep::Kill);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_order_changes_the_time_that_is_left() {
        let (sender, mut orders) = orders();
        let stop = |seconds| Order::Stop {
            grace: Duration::from_secs(seconds),
        };
        sender.send(stop(50)).await.unwrap();
        assert_eq!(orders.next_step().await, StopStep::Ask);
        sender.send(stop(0)).await.unwrap();
        let began = Instant::now();
        assert_eq!(orders.next_step().await, StopStep::Ask);
        assert_eq!(orders.next_step().await, StopStep::Kill);
        assert!(began.elapsed() < Duration::from_secs(1));
        assert!(orders.is_stopping());
    }
}
