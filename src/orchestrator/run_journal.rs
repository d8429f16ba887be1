//! The journal of a run: every event is in it before its effects are performed.
//!
//! A journal that cannot be written any more (a full disk) does not stop the run: that is said once, and the board and
//! the branches go on to say how the stories are.

use std::path::Path;

use crate::engine::{Event, Moment, Opening, Record, RunView};
use crate::journal::{JournalError, Writer};

#[derive(Debug)]
pub(super) struct RunJournal {
    writer: Option<Writer<Record>>,
}

impl RunJournal {
    /// Opens the journal of a new run.
    pub(super) fn open(path: &Path, opening: Opening) -> Result<Self, JournalError> {
        let mut writer = Writer::create(path)?;
        writer.append(0, &Record::Opened(Box::new(opening)))?;
        Ok(Self {
            writer: Some(writer),
        })
    }

    /// Notes an event. The error comes once; from then on nothing is noted.
    pub(super) fn note(&mut self, event: &Event, now: Moment) -> Result<(), JournalError> {
        self.append(now, &Record::Event(event.clone()))
    }

    /// Notes how the run ended.
    pub(super) fn close(&mut self, view: RunView, now: Moment) -> Result<(), JournalError> {
        self.append(now, &Record::Closed(Box::new(view)))
    }

    fn append(&mut self, now: Moment, record: &Record) -> Result<(), JournalError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        match writer.append(now.as_millis(), record) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.writer = None;
                Err(error)
            }
        }
    }
}
