//! The real program in hermetic repositories. Each module holds the promises of one part of it.
//!
//! Linux only: that a test has left no process behind is read from `/proc`.
#![cfg(target_os = "linux")]

mod agents;
mod bases;
mod board;
mod budgets;
mod commits;
mod continuing;
mod crash;
mod demo;
mod dialogues;
mod failure;
mod fence;
mod going_on;
mod groups;
mod hangs;
mod options;
mod order;
mod ownership;
mod providers;
mod recover;
mod refusals;
mod segments;
mod selections;
mod setup;
mod slots;
mod stopping;
mod support;
mod surfaces;
mod terminal;
mod watching;
mod worktrees;
