//! The journal of a run: a file of records, one JSON object per line, that is only ever appended to.
//!
//! [`record`] is the format of a line, [`writer`] appends, [`reader`] reads back, [`last`] reads the end alone, and
//! [`committer`] appends on a thread of its own. All are generic over what a record holds. Promises that a killed
//! process loses at most the records that it was writing, that a damaged record is never
//! taken for a whole one, and that a file of any size is read in the memory of one line.
//!
//! A power cut takes away no more than what was written after the last [`Writer::sync`].

pub mod committer;
pub mod error;
pub mod last;
pub mod reader;
pub mod record;
pub mod writer;

pub use committer::{Committer, Durability, Progress};
pub use error::{Fault, JournalError};
pub use last::last_record;
pub use reader::{End, Reader, Tail};
pub use record::{EncodeError, Entry, FORMAT_VERSION, LineError, MAX_LINE};
pub use writer::Writer;
