//! What orchestrator and executor say to each other.
//!
//! The orchestrator binds one local socket per executor ([`SocketDir`], [`Listener`]), starts the executor with the
//! path in its environment, accepts exactly one connection and unlinks the path. On the stream lie frames: 4 bytes of
//! length, big endian, then at most 1 MiB, which is one [`Envelope`] in bincode. The envelope names the version, run,
//! story and attempt; a frame of another one, of an unknown kind, with a wrong length, or whose sequence number does
//! not rise ends that executor with a protocol error and touches nothing else.
//!
//! | from executor | when | under pressure |
//! |---|---|---|
//! | `hello` | first frame, once | never dropped |
//! | `status_update`, `health_response`, `log` | any time after `start` | newest wins, at most 10 a second each |
//! | `error` | any time | never dropped |
//! | `complete` | last frame | never dropped; the last status and log go before it |
//!
//! | to executor | when |
//! |---|---|
//! | `start` | after `hello`, once |
//! | `health_check` | any time after `start` |
//! | `shutdown` | any time; again with a shorter grace |
//!
//! Handshake: the executor connects and sends `hello`; the orchestrator checks uid and pid of the peer, then version
//! and pid of the `hello` ([`expect_hello`]), within the start deadline, which is the caller's; then it sends `start`.
//! End: the executor sends `complete` and exits without waiting for anything; the end of the stream is also how each
//! side learns that the other is gone. Success needs `complete` with success **and** exit status 0.
//!
//! The messages know no transport: a [`Link`] is a stream and a sink of frames, whatever carries them.

pub mod codec;
pub mod identity;
pub mod link;
pub mod message;
pub mod outbox;
pub mod socket;
pub mod text;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod samples;

pub use codec::{CodecError, MAX_FRAME, decode, encode, frame_codec};
pub use link::{
    ExecutorLink, Fence, Link, LinkError, LinkReader, LinkWriter, OrchestratorLink, expect_hello,
    send_hello,
};
pub use message::{
    Activity, AgentSetup, Change, Claim, CommandRecord, Envelope, ErrorReport, Evidence,
    FenceSetup, FromExecutor, HealthResponse, Hello, Label, Log, LogLevel, PROTOCOL_VERSION,
    Percent, PercentError, Reason, Recovery, Retrying, ShutdownReason, Start, StatusUpdate,
    ToExecutor, Usage,
};
pub use outbox::{
    LinkClosed, Next, Outbox, OutboxHandle, OutboxReceiver, Refused, outbox, run_outbox,
};
pub use socket::{Listener, SocketDir, SocketError, Stream, connect};
pub use text::{LogText, OneLine, one_line};
