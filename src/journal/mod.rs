//! The journal of a run: records, one JSON object per line, that are only ever appended to.
//!
//! [`record`] is the format of a line, [`writer`] appends, [`reader`] reads back, [`last`] reads the end alone, and
//! [`committer`] appends on a thread of its own. All are generic over what a record holds. Promises that a killed
//! process loses at most the records that it was writing, that a damaged record is never
//! taken for a whole one, and that a journal of any size is read in the memory of one line.
//!
//! A power cut takes away no more than what was written after the last [`Writer::sync`].
//!
//! # Segments
//!
//! A journal is named by the file that is written, `journal.jsonl`. When that is large enough, it is closed as
//! `journal.0001.jsonl` and a new one begins ([`segments`]); a closed segment becomes `journal.0001.jsonl.gz` after a while
//! ([`compress`]). Sequence numbers and times go on over segments. There is no header, since every line has the version of
//! its format: a journal of one file is one that was not closed yet. Wherever the process is killed, the records are the
//! same:
//!
//! | last step | what there is | how it is read | who mends it |
//! |---|---|---|---|
//! | some of a line is written | `journal.jsonl`, torn | to the last whole line | going on cuts it |
//! | the segment is on the disk | `journal.jsonl`, larger than a segment | as it is | the next write closes it |
//! | it has its number | `journal.N.jsonl` alone | the open segment is empty | going on makes it |
//! | the next one is there | `journal.N.jsonl`, empty `journal.jsonl` | as it is | nobody has to |
//! | some of it is compressed | `journal.N.jsonl`, half a `journal.N.jsonl.gz.part` | that is no segment | the next try replaces it |
//! | all of that is on the disk | `journal.N.jsonl`, `journal.N.jsonl.gz.part` | that is no segment | the next try replaces it |
//! | that has its name | `journal.N.jsonl`, `journal.N.jsonl.gz` | the plain one | the next try compresses it once more |
//! | the plain one is gone | `journal.N.jsonl.gz` | as it is | nobody has to |
//!
//! A power cut leaves one of these, too: a segment is on the disk before it has its number, its compressed form before
//! that has its name, that name before the plain one goes, and the names of a file before what is said to be durable in
//! it. That a segment has its number before the next one has the journal's name is left to the file system,
//! which keeps the order of names if it has a log. Only the open segment may end within a line. A closed one that is missing is an error when there is a later segment with a record.

pub mod committer;
pub mod compress;
pub mod error;
pub mod last;
pub mod reader;
pub mod record;
pub mod segments;
pub mod writer;

pub use committer::{Committer, Durability, Progress};
pub use compress::compress_closed;
pub use error::{Fault, JournalError, Line};
pub use last::last_record;
pub use reader::{End, Reader, Tail};
pub use record::{EncodeError, Entry, FORMAT_VERSION, LineError, MAX_LINE};
pub use segments::{exists, last_change};
pub use writer::Writer;
