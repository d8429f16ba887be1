//! A run once more, from its journal: the same events give the same state. Pure.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::event::Event;
use crate::engine::id::RunId;
use crate::engine::plan::PlannedStory;
use crate::engine::scheduler::{Engine, RunView};
use crate::engine::settings::Settings;
use crate::engine::time::Moment;

/// One record of a run's journal. The first one opens it, and no other. `N` is what the driver notes besides, which means
/// nothing to the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record<N> {
    /// What the run starts from.
    Opened(Box<Opening>),
    /// What happened.
    Event(Event),
    /// What the driver has to know after a restart.
    Noted(N),
    /// How the run stood when it was over, to compare a replay with.
    Closed(Box<RunView>),
}

/// What a run starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Its name.
    pub run: RunId,
    /// The version of the program.
    pub program: String,
    /// Its rules.
    pub settings: Settings,
    /// Its stories, in order.
    pub plan: Vec<PlannedStory>,
    /// The agent of stories that name none; means nothing to the engine.
    pub default_agent: String,
}

/// A run that is played again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    run: RunId,
    engine: Engine,
    closed: Option<Box<RunView>>,
}

/// Why records are not the journal of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// The first one does not open it.
    #[error("the first record does not open a run")]
    NotOpened,
    /// Another one opens it as well.
    #[error("a run is opened twice")]
    OpenedTwice,
    /// There are records behind the one that closes it.
    #[error("there is more behind the end of the run")]
    AfterTheEnd,
}

impl Replay {
    /// Begins with the first record.
    ///
    /// # Errors
    /// When it does not open a run.
    pub fn open<N>(record: Record<N>) -> Result<Self, ReplayError> {
        match record {
            Record::Opened(opening) => Ok(Self {
                run: opening.run,
                engine: Engine::new(opening.settings, opening.plan),
                closed: None,
            }),
            Record::Event(_) | Record::Noted(_) | Record::Closed(_) => Err(ReplayError::NotOpened),
        }
    }

    /// Takes the next record, with its moment.
    ///
    /// # Errors
    /// When it cannot follow those before it.
    pub fn take<N>(&mut self, record: Record<N>, at: Moment) -> Result<(), ReplayError> {
        if self.closed.is_some() {
            return Err(ReplayError::AfterTheEnd);
        }
        match record {
            Record::Opened(_) => return Err(ReplayError::OpenedTwice),
            // What the effects came to is told by the events that follow.
            Record::Event(event) => drop(self.engine.step(event, at)),
            Record::Noted(_) => {}
            Record::Closed(view) => self.closed = Some(view),
        }
        Ok(())
    }

    /// The name of the run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The run as it stands after the records so far.
    pub fn view(&self) -> RunView {
        self.engine.view()
    }

    /// The state, to go on with it.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// How the run ended, as its journal says: none when it was killed.
    pub fn closed(&self) -> Option<&RunView> {
        self.closed.as_deref()
    }

    /// Whether the run ended as its journal says: none when the journal does not say.
    pub fn agrees(&self) -> Option<Agreement> {
        let closed = self.closed.as_ref()?;
        Some(if **closed == self.engine.view() {
            Agreement::Same
        } else {
            Agreement::Differs
        })
    }
}

/// What comparing a replay with the end that was recorded found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// The same state.
    Same,
    /// Another state: this version of the program decides differently.
    Differs,
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn opening() -> Record<()> {
        Record::Opened(Box::new(Opening {
            run: RunId::new("20261122-120000", 1).unwrap(),
            program: "0".to_owned(),
            settings: Settings::new(NonZeroUsize::MIN),
            plan: Vec::new(),
            default_agent: String::new(),
        }))
    }

    #[test]
    fn a_journal_is_opened_once_and_ends_with_its_end() {
        let at = Moment::default();
        assert_eq!(
            Replay::open(Record::<()>::Event(Event::Began)),
            Err(ReplayError::NotOpened)
        );
        let mut replay = Replay::open(opening()).unwrap();
        assert_eq!(replay.take(opening(), at), Err(ReplayError::OpenedTwice));
        replay.take(Record::<()>::Event(Event::Began), at).unwrap();
        assert_eq!(replay.agrees(), None);
        let view = replay.view();
        assert!(view.verdict.is_some());
        replay
            .take(Record::<()>::Closed(Box::new(view)), at)
            .unwrap();
        assert_eq!(replay.agrees(), Some(Agreement::Same));
        assert_eq!(
            replay.take(Record::<()>::Event(Event::TimePassed), at),
            Err(ReplayError::AfterTheEnd)
        );
    }

    #[test]
    fn another_end_than_the_recorded_one_is_seen() {
        let mut replay = Replay::open(opening()).unwrap();
        let view = replay.view();
        let at = Moment::default();
        replay.take(Record::<()>::Event(Event::Began), at).unwrap();
        replay
            .take(Record::<()>::Closed(Box::new(view)), at)
            .unwrap();
        assert_eq!(replay.agrees(), Some(Agreement::Differs));
    }
}
