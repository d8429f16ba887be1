//! What is heard of an agent during a turn, from whichever side: its stream, and what it writes to its standard error.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::pulse::{Beat, Pulse};
use crate::agent::{Heard, StreamEvent, StreamReader, Tools, Trouble, TroubleKind, Turn};

/// How long an agent may go on trying again by itself. Short disturbances are over by then; a longer one is waited for
/// by the orchestrator, which holds the other stories back as well.
const LONGEST_RETRY: Duration = Duration::from_secs(45);

/// What is heard. Clones hear the same.
#[derive(Clone)]
pub(super) struct Hearing {
    state: Arc<Mutex<State>>,
    told: watch::Sender<()>,
    pulse: Option<Pulse>,
}

struct State {
    reader: Option<Box<dyn StreamReader>>,
    turn: Turn,
    /// When the patience with an agent that tries again ends.
    patience_ends: Option<Instant>,
    /// What is to be said to the agent.
    saying: Vec<u8>,
}

impl Hearing {
    /// Of an agent that is understood by `reader`.
    pub(super) fn new(mut reader: Box<dyn StreamReader>, turn: Turn, pulse: Pulse) -> Self {
        pulse.set(beat(reader.as_ref(), &turn));
        Self {
            state: Arc::new(Mutex::new(State {
                saying: reader.say(),
                reader: Some(reader),
                turn,
                patience_ends: None,
            })),
            told: watch::channel(()).0,
            pulse: Some(pulse),
        }
    }

    /// Of an agent that tells nothing.
    pub(super) fn of_nothing() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                reader: None,
                turn: Turn::default(),
                patience_ends: None,
                saying: Vec::new(),
            })),
            told: watch::channel(()).0,
            pulse: None,
        }
    }

    /// Changes whenever something was heard, or is to be said.
    pub(super) fn heard(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// A line of the stream.
    pub(super) fn event(&self, line: &[u8]) {
        self.take_line(|reader| reader.read(line));
    }

    /// A line on the standard error.
    pub(super) fn error_line(&self, line: &[u8]) {
        self.take_line(|reader| reader.read_error_line(line));
    }

    /// Something that follows from what the agent does, and not from what it says.
    pub(super) fn tell(&self, event: StreamEvent) {
        self.take_line(|_| vec![event]);
    }

    /// Takes what is to be said to the agent.
    pub(super) fn say(&self) -> Vec<u8> {
        std::mem::take(&mut self.state().saying)
    }

    /// Whether there is nothing more to say.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.saying.is_empty() && state.reader.as_ref().is_none_or(|reader| reader.is_over())
    }

    /// What the agent has to answer before it can be told what to do.
    pub(super) fn prepares(&self) -> Option<&'static str> {
        self.state().reader.as_ref()?.prepares()
    }

    /// The turn is to end: what there is to say for that is to be said.
    pub(super) fn interrupt(&self) {
        self.take_line(|reader| {
            reader.interrupt();
            Vec::new()
        });
    }

    /// Shows what is known of the turn.
    pub(super) fn with_turn<T>(&self, look: impl FnOnce(&Turn) -> T) -> T {
        look(&self.state().turn)
    }

    /// When the agent is to be ended, because it has only tried again for so long.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        self.state().patience_ends
    }

    /// Gives what was heard, when nothing more can be.
    pub(super) fn take(&self) -> Turn {
        std::mem::take(&mut self.state().turn)
    }

    fn take_line(&self, read: impl FnOnce(&mut dyn StreamReader) -> Vec<StreamEvent>) {
        let mut state = self.state();
        let Some(reader) = state.reader.as_mut() else {
            return;
        };
        let was_over = reader.is_over();
        let events = read(reader.as_mut());
        let said = reader.say();
        if events.is_empty() && said.is_empty() && was_over == reader.is_over() {
            return;
        }
        state.saying.extend(said);
        for event in events {
            let retry = patience_with(&event);
            let heard = state.turn.hear(event);
            state.patience_ends = match (retry, heard) {
                (Some(patience), _) => {
                    let now = Instant::now();
                    let ends = now + patience;
                    Some(state.patience_ends.map_or(ends, |before| before.min(ends)))
                }
                (None, Heard::Nothing) => state.patience_ends,
                (None, Heard::Progress) => None,
            };
            let beat = state
                .reader
                .as_deref()
                .map(|reader| beat(reader, &state.turn));
            if heard == Heard::Progress
                && let Some(beat) = beat
                && let Some(pulse) = &self.pulse
            {
                pulse.set(beat);
            }
        }
        drop(state);
        self.told.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is a sign that an agent does something that has just told of something.
fn beat(reader: &dyn StreamReader, turn: &Turn) -> Beat {
    let now = std::time::Instant::now();
    match reader.tools() {
        Tools::Told if !turn.runs_tools() => Beat::Thinking(now),
        Tools::Processes => Beat::BesideTools(now),
        Tools::Told | Tools::Unseen => Beat::Telling(now),
    }
}

/// How long one may go on that tells this: none at all when it has to do with what only a person can mend, or when it
/// waits for longer than anybody would.
fn patience_with(event: &StreamEvent) -> Option<Duration> {
    let StreamEvent::Retrying {
        trouble: Trouble { kind, .. },
        delay,
    } = event
    else {
        return None;
    };
    let hopeless = matches!(
        kind,
        TroubleKind::Unauthorized | TroubleKind::NoCredit | TroubleKind::BadRequest
    );
    let long = delay.is_some_and(|delay| delay > LONGEST_RETRY);
    Some(if hopeless || long {
        Duration::ZERO
    } else {
        LONGEST_RETRY
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Script(Vec<StreamEvent>);

    impl StreamReader for Script {
        fn read(&mut self, _line: &[u8]) -> Vec<StreamEvent> {
            vec![self.0.remove(0)]
        }
    }

    fn retry(kind: TroubleKind, delay: Option<u64>) -> StreamEvent {
        StreamEvent::Retrying {
            trouble: Trouble::new(kind, "no"),
            delay: delay.map(Duration::from_secs),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_patience_runs_from_the_first_time_and_ends_with_the_next_word() {
        let events = vec![
            retry(TroubleKind::Overloaded, Some(1)),
            retry(TroubleKind::Overloaded, Some(30)),
            StreamEvent::ToolEnded,
            retry(TroubleKind::Overloaded, Some(60)),
            StreamEvent::ToolEnded,
            retry(TroubleKind::Unauthorized, None),
        ];
        let (pulse, beat) = Pulse::new();
        let hearing = Hearing::new(Box::new(Script(events)), Turn::default(), pulse);
        assert!(matches!(*beat.borrow(), Beat::Telling(_)));
        let began = Instant::now();
        hearing.event(b"");
        tokio::time::advance(Duration::from_secs(10)).await;
        hearing.event(b"");
        assert_eq!(hearing.patience_ends(), Some(began + LONGEST_RETRY));
        hearing.event(b"");
        assert_eq!(hearing.patience_ends(), None);
        hearing.event(b"");
        assert_eq!(hearing.patience_ends(), Some(Instant::now()));
        hearing.event(b"");
        hearing.event(b"");
        assert_eq!(hearing.patience_ends(), Some(Instant::now()));
        assert!(hearing.with_turn(|turn| turn.retrying().is_some()));
    }
}
