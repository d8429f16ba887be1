//! When the agent last told of something that it did, for those who judge whether it is well.

use std::time::Instant;

use tokio::sync::watch;

/// What counts as a sign that the agent does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Whatever it writes.
    Writing,
    /// What it tells in its stream: the last time that this was progress. An agent that writes that it tries again
    /// makes none.
    Telling(Instant),
    /// The same, of an agent that tells of every tool that it has running, and has none: it waits for its model, whatever
    /// its processes do meanwhile.
    Thinking(Instant),
    /// The same, of an agent whose tools are processes, so that it waits for its model when it is the only one.
    BesideTools(Instant),
}

/// The one who hears the agent.
#[derive(Debug, Clone)]
pub(super) struct Pulse(watch::Sender<Beat>);

impl Pulse {
    /// Of an agent whose writing counts, until it is said otherwise.
    pub(super) fn new() -> (Self, watch::Receiver<Beat>) {
        let (sender, receiver) = watch::channel(Beat::Writing);
        (Self(sender), receiver)
    }

    /// Says what counts now.
    pub(super) fn set(&self, beat: Beat) {
        self.0.send_replace(beat);
    }
}
