//! Stories: what they are called, how their files are read and edited, and how they depend on each other.
//!
//! Reading never loses anything and editing changes single lines; see [`front_matter`]. [`store`] is the one place
//! that writes story files.

pub mod id;

pub use id::{Slug, StoryId, StoryIdError};
