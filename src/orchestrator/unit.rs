//! One executor from its start to its end: what it says and does becomes messages, what is asked becomes signals.
//!
//! Decides nothing: deadlines and outcomes are the engine's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::engine::{Allowance, Exit, Housekeeping, Unit};
use crate::launcher::{AttemptSpec, Connection, Launched, Launcher};
use crate::process::Ending;
use crate::protocol::{
    Fence, FromExecutor, LinkError, LinkReader, LinkWriter, OrchestratorLink, ShutdownReason,
    Start, ToExecutor, expect_hello,
};

/// Messages to one executor that may wait. One that reads nothing is signalled; it needs no longer queue.
const WAITING_WORDS: usize = 8;

/// What an executor did.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) unit: Unit,
    pub(super) news: News,
}

#[derive(Debug)]
pub(super) enum News {
    NotLaunched(String),
    Connected,
    Said(FromExecutor),
    Disconnected,
    Violated(String),
    Exited(Exit),
}

/// What is asked of an executor.
#[derive(Debug)]
pub(super) enum Command {
    Stop {
        reason: ShutdownReason,
        grace: Duration,
    },
    Kill,
    GrantTurn(Allowance),
}

/// Starts an executor and stays with it until it is reaped; every ending sends [`News::NotLaunched`] or
/// [`News::Exited`] last.
pub(super) async fn run<L: Launcher>(
    launcher: Arc<L>,
    spec: AttemptSpec,
    start: Start,
    commands: mpsc::Receiver<Command>,
    inbox: mpsc::Sender<Message>,
    housekeeping: Housekeeping,
) {
    let desk = Desk {
        unit: spec.unit.clone(),
        inbox,
        housekeeping,
    };
    match launcher.launch(&spec).await {
        Ok(launched) => attend(launched, &spec, start, commands, &desk).await,
        Err(error) => desk.tell(News::NotLaunched(error.to_string())).await,
    }
}

struct Desk {
    unit: Unit,
    inbox: mpsc::Sender<Message>,
    housekeeping: Housekeeping,
}

impl Desk {
    async fn tell(&self, news: News) {
        let unit = self.unit.clone();
        if self.inbox.send(Message { unit, news }).await.is_err() {
            tracing::debug!("nobody reads the news of an executor any more");
        }
    }
}

/// The connection in its stages. Dropping it closes the orchestrator's end.
enum Line {
    Connecting,
    Open(LinkReader<FromExecutor>, mpsc::Sender<ToExecutor>),
    Closed,
}

async fn attend(
    launched: Launched,
    spec: &AttemptSpec,
    start: Start,
    mut commands: mpsc::Receiver<Command>,
    desk: &Desk,
) {
    let Launched {
        pid,
        connection,
        control,
        mut exit,
    } = launched;
    let fence = Fence {
        run: spec.run.clone(),
        story: spec.unit.story.clone(),
        attempt: spec.unit.attempt,
    };
    let mut handshake = Box::pin(shake_hands(connection, fence, pid, start));
    let mut writers = JoinSet::new();
    let mut line = Line::Connecting;
    // A stop that came before there was anybody to tell.
    let mut untold: Option<ToExecutor> = None;
    let mut health = interval(desk.housekeeping.health_check);
    health.set_missed_tick_behavior(MissedTickBehavior::Delay);
    health.reset();
    let mut sequence = 0;
    let exit = loop {
        // Every arm may lose the race and be waited for again: the reader and the channel keep what they have, and
        // the handshake and the exit are the same futures in every round.
        tokio::select! {
            shaken = &mut handshake, if matches!(line, Line::Connecting) => match shaken {
                Ok((reader, writer)) => {
                    let (words, waiting) = mpsc::channel(WAITING_WORDS);
                    writers.spawn(write(writer, waiting));
                    line = Line::Open(reader, words);
                    if let Some(word) = untold.take() {
                        say(&line, word);
                    }
                    desk.tell(News::Connected).await;
                }
                Err(error) => {
                    line = Line::Closed;
                    desk.tell(end_of_line(&error)).await;
                }
            },
            said = hear(&mut line) => {
                let news = match said {
                    Ok(Some(message)) => {
                        // The last frame. Our end is dropped before its exit is waited for, so that neither side
                        // can wait for the other.
                        if matches!(message, FromExecutor::Complete(_)) {
                            line = Line::Closed;
                        }
                        News::Said(message)
                    }
                    Ok(None) => {
                        line = Line::Closed;
                        News::Disconnected
                    }
                    Err(error) => {
                        line = Line::Closed;
                        end_of_line(&error)
                    }
                };
                desk.tell(news).await;
            }
            Some(command) = commands.recv() => match command {
                Command::Stop { reason, grace } => {
                    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                    let word = ToExecutor::Shutdown { reason, grace_ms };
                    if matches!(line, Line::Connecting) {
                        untold = Some(word);
                    } else {
                        say(&line, word);
                    }
                    control.end(Ending::Terminate);
                }
                Command::Kill => control.end(Ending::Kill),
                Command::GrantTurn(allowance) => say(&line, ToExecutor::PermitGrant(allowance)),
            },
            _ = health.tick() => {
                sequence += 1;
                say(&line, ToExecutor::HealthCheck { sequence });
            }
            exit = &mut exit => break exit,
        }
    };
    // What it sent before it ended counts: a failure to write to a process that has just ended is none.
    if let Line::Open(mut reader, _) = line {
        let drained = timeout(desk.housekeeping.drain, drain(&mut reader, desk)).await;
        if drained.is_err() {
            tracing::warn!(unit = ?desk.unit, "its connection is held open by another process");
        }
    }
    desk.tell(News::Exited(exit)).await;
}

type Ends = (LinkReader<FromExecutor>, LinkWriter<ToExecutor>);

async fn shake_hands(
    connection: impl Future<Output = std::io::Result<Connection>>,
    fence: Fence,
    pid: u32,
    start: Start,
) -> Result<Ends, LinkError> {
    let stream = connection.await.map_err(LinkError::Io)?;
    let (mut reader, mut writer) = OrchestratorLink::new(stream, fence).split();
    let hello = expect_hello(&mut reader, pid).await?;
    tracing::debug!(?hello, "an executor is connected");
    writer.send(ToExecutor::Start(Box::new(start))).await?;
    Ok((reader, writer))
}

async fn hear(line: &mut Line) -> Result<Option<FromExecutor>, LinkError> {
    match line {
        Line::Open(reader, _) => reader.next().await,
        Line::Connecting | Line::Closed => std::future::pending().await,
    }
}

/// Queues a message. One that finds no room is not needed: its executor reads nothing, and signals follow.
fn say(line: &Line, word: ToExecutor) {
    if let Line::Open(_, words) = line
        && let Err(error) = words.try_send(word)
    {
        tracing::debug!(%error, "not said");
    }
}

async fn write(mut writer: LinkWriter<ToExecutor>, mut waiting: mpsc::Receiver<ToExecutor>) {
    while let Some(word) = waiting.recv().await {
        if let Err(error) = writer.send(word).await {
            // It has ended or is ending; its exit tells the rest.
            tracing::debug!(%error, "an executor cannot be written to");
            return;
        }
    }
}

async fn drain(reader: &mut LinkReader<FromExecutor>, desk: &Desk) {
    loop {
        match reader.next().await {
            Ok(Some(message)) => desk.tell(News::Said(message)).await,
            Ok(None) => return,
            Err(error) => {
                if error.is_violation() {
                    desk.tell(News::Violated(error.to_string())).await;
                }
                return;
            }
        }
    }
}

fn end_of_line(error: &LinkError) -> News {
    if error.is_violation() {
        News::Violated(error.to_string())
    } else {
        tracing::debug!(%error, "a connection broke");
        News::Disconnected
    }
}
