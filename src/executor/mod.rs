//! The executor: `ai-sdlc agent-exec <id>`, the small trusted owner of one agent's process tree.
//!
//! It connects to its orchestrator, proves who it is, gets its work, has the agent do it, commits, says how it went
//! and exits. It writes nothing but the worktree and its log. When the connection ends, the orchestrator is gone, and
//! the executor ends its agent and itself. It decides nothing about other stories and never touches the board.

mod attempt;
mod caches;
mod changes;
mod checkpoints;
mod conversation;
mod dialogue;
mod ear;
mod fence;
mod hearing;
#[cfg(feature = "faults")]
mod hold;
mod household;
mod identity;
mod lines;
mod orders;
mod output;
mod pulse;
mod turn;
mod vitals;
mod words;

pub use identity::{Identity, IdentityError};

use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::process;
use crate::protocol::{
    self, Claim, ExecutorLink, FromExecutor, OutboxHandle, Reason, Start, outbox, run_outbox,
};
use attempt::{Attempt, Hands};
use ear::LogEar;
use household::Household;
use orders::{Order, Orders};
use output::Output;
use pulse::{Beat, Pulse};

/// The story is done and `complete` says so.
const SUCCEEDED: u8 = 0;
/// The story is not done, and `complete` says why.
const NOT_SUCCEEDED: u8 = 1;
/// The program was started in a way in which it cannot work.
const USAGE: u8 = 2;
/// There is no orchestrator to talk to (`EX_UNAVAILABLE` of sysexits.h).
const NO_ORCHESTRATOR: u8 = 69;

/// How long the work may take to arrive. An orchestrator that is stopped is not dead: its end would be the end of the
/// connection, and it keeps a much shorter deadline itself.
const START_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// How long the last messages may take to be handed over. The orchestrator reads them at once unless it is stopped.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
/// Orders that may wait. The orchestrator sends one `start`, a shutdown or two, and then nothing.
const WAITING_ORDERS: usize = 8;
/// How long a git that was interrupted may take to end; then it has been killed.
const GIT_ENDING: Duration = Duration::from_secs(3);
/// How long the runtime may take to drop what is left when all is said.
const WIND_UP: Duration = Duration::from_millis(200);

/// Runs the executor of a story and returns its exit code.
pub fn main(story: &str) -> ExitCode {
    // First of all: a signal from the terminal is for the orchestrator, which then ends this process in its own way.
    process::enter_own_session();
    process::keep_inherited_files();
    process::take_executor_name();
    process::wake_at_death_of_parent();
    crate::diagnostics::to_stderr();
    if let Err(error) = process::adopt_orphans() {
        tracing::warn!(%error, "what leaves the agent's tree will not be found");
    }
    let identity = match Identity::from_environment(story) {
        Ok(identity) => identity,
        Err(error) => {
            crate::report::error(
                &error.to_string(),
                &["agent-exec is started by `ai-sdlc run`, not by hand".to_owned()],
            );
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::from(NO_ORCHESTRATOR);
        }
    };
    let code = runtime.block_on(run(identity));
    runtime.shutdown_timeout(WIND_UP);
    // A commit that was interrupted removes its lock files before it ends.
    crate::git::wait_for_ending(GIT_ENDING);
    ExitCode::from(code)
}

async fn run(identity: Identity) -> u8 {
    let ear = LogEar::default();
    let output = Output::of_this_process({
        let ear = ear.clone();
        move |line| ear.hear(line.bytes)
    });
    let (pulse, beat) = Pulse::new();
    let (link, orders) = match connect(&identity, &output, beat).await {
        Ok(connected) => connected,
        Err(reason) => {
            tracing::error!(reason, "no orchestrator");
            return NO_ORCHESTRATOR;
        }
    };
    let (outbox, sender) = link;
    tokio::spawn(process::reap_orphans());
    let claim = match orders {
        (mut orders, Some(start)) => {
            let household = Household::new(start.keep.clone());
            let hands = Hands {
                outbox: &outbox,
                household: &household,
                pulse: &pulse,
                log: output.seen(),
                ear: &ear,
            };
            let attempt = Attempt::new(&identity, *start, hands);
            let claim = attempt.work(&mut orders).await;
            // A hook of the commit may have left something running as well.
            match household.sweep(orders.time_left(), None, &outbox).await {
                Ok(()) => claim,
                Err(reason) => Claim::Crashed {
                    reason: Reason::new(&reason),
                },
            }
        }
        (_, None) => Claim::Cancelled {
            reason: Reason::new("stopped before it had any work"),
        },
    };
    // Nothing writes any more, or nobody can end it: no end of the file is waited for.
    output.end().await;
    let code = match &claim {
        Claim::Succeeded(_) => SUCCEEDED,
        _ => NOT_SUCCEEDED,
    };
    tracing::info!(?claim, "the attempt ends");
    if outbox
        .reliable(FromExecutor::Complete(claim))
        .await
        .is_err()
    {
        tracing::warn!("nobody is there to hear how it ended");
    }
    // It exits without waiting for an answer or for the end of the connection: an orchestrator that waits for the
    // exit would never give one.
    if tokio::time::timeout(FLUSH_DEADLINE, sender).await.is_err() {
        tracing::warn!("the orchestrator does not read");
    }
    code
}

type Outlet = (OutboxHandle, tokio::task::JoinHandle<()>);

/// Connects, introduces itself and waits for the work; no work when it is told to stop instead.
async fn connect(
    identity: &Identity,
    output: &Output,
    beat: watch::Receiver<Beat>,
) -> Result<(Outlet, (Orders, Option<Box<Start>>)), String> {
    #[cfg(feature = "faults")]
    hold::at(hold::Point::Connecting);
    let (stream, lifeline) =
        protocol::connect(&identity.socket).map_err(|error| error.to_string())?;
    process::end_process_without(lifeline, orders::ORPHANED)
        .map_err(|error| format!("nobody would see its end: {error}"))?;
    let (reader, mut writer) = ExecutorLink::new(stream, identity.fence()).split();
    let version = env!("CARGO_PKG_VERSION");
    protocol::send_hello(&mut writer, std::process::id(), version)
        .await
        .map_err(|error| error.to_string())?;
    let (handle, receiver) = outbox();
    let sender = tokio::spawn(async move {
        if let Err(error) = run_outbox(writer, receiver).await {
            tracing::warn!(%error, "messages could not be sent");
        }
    });
    let (forward, received) = mpsc::channel(WAITING_ORDERS);
    let listening = orders::listen(reader, output.seen(), beat, handle.clone(), forward);
    tokio::spawn(listening);
    let mut orders = Orders::new(received).map_err(|error| error.to_string())?;
    let first = tokio::time::timeout(START_DEADLINE, orders.first())
        .await
        .map_err(|_| "it gave no work".to_owned())?;
    match first {
        Order::Start(start) => Ok(((handle, sender), (orders, Some(start)))),
        Order::Stop { .. } => Ok(((handle, sender), (orders, None))),
        Order::Turn(_) => Err("it granted a turn before it gave any work".to_owned()),
        Order::Gone => Err("it went away before it gave any work".to_owned()),
    }
}
