//! Stories: what they are called, how their files are read and edited, and how they depend on each other.
//!
//! Reading never loses anything and editing changes single lines; see [`front_matter`] and [`edit`]. [`store`] is
//! the one place that writes story files; [`board`] is what it reads.

pub mod board;
pub mod edit;
pub mod error;
pub mod fields;
pub mod file;
pub mod front_matter;
pub mod graph;
pub mod id;
pub mod new_story;
pub mod plan_files;
pub mod scalar;
pub mod store;
pub mod title;
mod tree;

pub use board::{Board, Problem, Story};
pub use edit::{Edit, EditError};
pub use error::StoreError;
pub use fields::{Priority, PriorityError, Status, StatusError};
pub use front_matter::{Document, Fields, FrontMatterError};
pub use graph::{Cycle, Findings, UnknownDependency};
pub use id::{Slug, StoryId, StoryIdError};
pub use new_story::{Content, NewStory, TakenNames};
pub use plan_files::{MAX_PLANNED_FILES, planned_files};
pub use scalar::{Key, KeyError, Value};
pub use store::{FileEdit, Store, Written};
