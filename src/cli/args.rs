//! The command line as types. Parsing decides nothing and does nothing.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::parse_tokens;

/// Works through a repository's backlog with many coding agents at once.
#[derive(Debug, Parser)]
#[command(name = "ai-sdlc", version, about, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a board in this repository
    Init,
    /// Add a story to the board
    Add(AddArgs),
    /// Show the board
    Status(StatusArgs),
    /// Have agents work on stories
    Run(RunArgs),
    /// List the runs of this board
    Runs(RunsArgs),
    /// Play a run again from its journal and show how it stood
    Replay(ReplayArgs),
    /// End what runs that were killed have left running
    Reap(ReapArgs),
    /// Show the worktrees of stories, make one, or remove those that nobody needs
    #[command(args_conflicts_with_subcommands = true)]
    Worktrees(WorktreesArgs),
    /// As in the predecessor: `worktrees add`
    #[command(hide = true, name = "worktrees:add")]
    WorktreesAdd(WorktreesAddArgs),
    /// As in the predecessor: `worktrees remove`
    #[command(hide = true, name = "worktrees:remove")]
    WorktreesRemove(WorktreesRemoveArgs),
    /// `worktrees prune`
    #[command(hide = true, name = "worktrees:prune")]
    WorktreesPrune(WorktreesPruneArgs),
    /// List, show and give back uncommitted work that was saved
    Recover(RecoverArgs),
    /// Make a throw-away repository with stories and run them: no key, no network
    Demo,
    /// Work on one story; started by `run`
    #[command(hide = true, name = "agent-exec")]
    AgentExec {
        /// The story
        story: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct ReapArgs {
    /// Only show what would be ended
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RecoverArgs {
    #[command(subcommand)]
    pub(super) command: Option<RecoverCommand>,
    #[command(flatten)]
    pub(super) list: RecoverListArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum RecoverCommand {
    /// List what was saved
    List(RecoverListArgs),
    /// Show what a story has saved
    Show(RecoverShowArgs),
    /// Give back what a story has saved, as a new branch or in a new folder
    Restore(RecoverRestoreArgs),
}

#[derive(Debug, Default, Args)]
pub(super) struct RecoverListArgs {
    /// Write the list as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Also list what was committed since
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct RecoverShowArgs {
    /// The story
    pub(super) id: String,
    /// The attempt; without it the last one that was saved
    #[arg(long, value_name = "N")]
    pub(super) attempt: Option<NonZeroU32>,
}

#[derive(Debug, Args)]
pub(super) struct RecoverRestoreArgs {
    /// The story
    pub(super) id: String,
    /// The attempt; without it the last one that was saved
    #[arg(long, value_name = "N")]
    pub(super) attempt: Option<NonZeroU32>,
    /// Write the files into this folder, which must not exist
    #[arg(long, value_name = "DIR", conflicts_with = "branch")]
    pub(super) to: Option<PathBuf>,
    /// Make a branch of this name (without it `ai-sdlc/salvage/<ID>-<N>`)
    #[arg(long, value_name = "NAME")]
    pub(super) branch: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The title
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(super) title: Option<String>,
    /// Take the story from a file (.md, .markdown or .txt)
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Let the next run work on it: status `ready` instead of `backlog`
    #[arg(long)]
    pub(super) ready: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Write the board as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Leave out what is done
    #[arg(long)]
    pub(super) active: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    /// Write the list as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct WorktreesArgs {
    #[command(flatten)]
    pub(super) list: WorktreesListArgs,
    #[command(subcommand)]
    pub(super) command: Option<WorktreesCommand>,
}

#[derive(Debug, Subcommand)]
pub(super) enum WorktreesCommand {
    /// Show them: story, status, state, commits ahead of the base, unsaved files, size, age, branch and path
    List(WorktreesListArgs),
    /// Make the worktree of a story as a run would, and print its path
    Add(WorktreesAddArgs),
    /// Remove worktrees; never one with unsaved work, and never a branch unless asked to
    Remove(WorktreesRemoveArgs),
    /// Remove all worktrees with which nothing is lost
    #[command(long_about = PRUNE)]
    Prune(WorktreesPruneArgs),
}

/// What pruning does, for whoever wonders what becomes of their work.
const PRUNE: &str = "Remove all worktrees with which nothing is lost

A worktree goes when everything in it that git does not ignore is committed on its branch, whatever
the status of its story: the branch stays, and the next run of the story makes the worktree again
from it. What git ignores (build output, installed packages, local settings) is not kept. So the
worktree of a story that failed stays as long as it holds anything that is not committed.

When a story is done or not on the board any more, work that is not committed counts as saved as
well, if its last salvage has all of it. With --salvage, everything that is not committed is saved
first, whatever the story; `ai-sdlc recover` brings it back. Half-made worktrees and entries of git about worktrees that are gone are removed, too.

What stays: worktrees with anything else that is not committed, so that whoever goes on with the
story goes on there; those that a run works in or is about to; those of
stories in progress, in which a run goes on; those in which any process works, an open shell
included; and everything that was not made for a story: folders, worktrees that were made by hand
or locked by somebody else.";

#[derive(Debug, Args)]
pub(super) struct WorktreesListArgs {
    /// Write them as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct WorktreesAddArgs {
    /// The story, by its id or slug
    #[arg(value_name = "ID")]
    pub(super) story: String,
}

#[derive(Debug, Args)]
pub(super) struct WorktreesRemoveArgs {
    /// The stories, or the names or paths of worktrees
    #[arg(value_name = "ID", required = true)]
    pub(super) names: Vec<String>,
    /// Store what is not committed under `refs/ai-sdlc/salvage` first
    #[arg(long)]
    pub(super) salvage: bool,
    /// Keep the branch, as without this option
    #[arg(long, conflicts_with = "delete_branch")]
    pub(super) keep_branch: bool,
    /// Delete the branch as well, if it is merged into the base
    #[arg(long)]
    pub(super) delete_branch: bool,
    /// Of the predecessor, where it answered a question that is not asked any more
    #[arg(long, hide = true)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct WorktreesPruneArgs {
    /// Only show what would be removed
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Remove those with unsaved work as well, after storing it under `refs/ai-sdlc/salvage`
    #[arg(long)]
    pub(super) salvage: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The run, by the name of its folder in `.ai-sdlc/runs`, or the path of a folder or a journal; without it the
    /// last run
    pub(super) run: Option<String>,
    /// Show how it stood after this record of the journal
    #[arg(long, value_name = "SEQ")]
    pub(super) at: Option<NonZeroU64>,
    /// Write the state as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Default, Args)]
pub(super) struct RunArgs {
    /// Work on all ready stories, N at a time; without any selection, on the next one alone
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        group = "selection"
    )]
    pub(super) concurrent: Option<String>,
    /// Work on this story alone, whatever its status, unless it is done
    #[arg(long, value_name = "ID", group = "selection")]
    pub(super) story: Option<String>,
    /// Work on these stories, one after the other in this order; stop when one does not succeed
    #[arg(long, value_name = "ID,ID,…", group = "selection")]
    pub(super) batch: Option<String>,
    /// Work on the stories of an epic that are not done or blocked
    #[arg(long, value_name = "NAME", groups = ["selection", "paced"])]
    pub(super) epic: Option<String>,
    /// Work on all ready stories, and wait for further ones until interrupted
    #[arg(long, groups = ["selection", "paced"])]
    pub(super) watch: bool,
    /// With --epic or --watch: at most N stories at a time [default: `epic.maxConcurrent`, else 3; with --watch 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true, requires = "paced", conflicts_with_all = ["concurrent", "story", "batch"])]
    pub(super) max_concurrent: Option<String>,
    /// Go on with the last run: after it was killed as that run, else with the stories that it was stopped before or in
    #[arg(long = "continue", conflicts_with_all = ["story", "batch", "epic", "watch", "max_concurrent"])]
    pub(super) continues: bool,
    /// The agent for stories that name none [default: `AI_SDLC_PROVIDER`, else `ai.provider`, else claude]
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
    /// Stop when the agents of this run have cost so much, in US dollars [default: `limits.run.costUsd`]
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub(super) max_cost: Option<f64>,
    /// Stop when they have used so many tokens, such as 250k or 1.5M [default: `limits.run.tokens`]
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub(super) max_tokens: Option<u64>,
    /// Stop when they have made so many turns [default: `limits.run.turns`]
    #[arg(long, value_name = "N")]
    pub(super) max_turns: Option<u64>,
    /// Stop when this run has taken so long [default: `limits.run.minutes`]
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true)]
    pub(super) max_minutes: Option<f64>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Keep the worktrees of stories that succeed
    #[arg(long)]
    pub(super) keep_worktrees: bool,
    /// Let agents write wherever you can, not only in their worktree and its surroundings
    #[arg(long)]
    pub(super) no_fence: bool,
    /// Write one JSON event per line to standard output, and no lines for people; with --dry-run the plan as one object
    #[arg(long)]
    pub(super) json: bool,
    /// Say only what did not go well
    #[arg(short, long, conflicts_with = "json")]
    pub(super) quiet: bool,
}

impl RunArgs {
    /// Whether people are told what goes well, too.
    pub(super) fn speaks(&self) -> bool {
        !self.quiet && !self.json
    }

    pub(super) fn names_stories(&self) -> bool {
        self.story.is_some() || self.batch.is_some()
    }

    /// Whether it asks for no stories in particular.
    pub(super) fn asks_for_all(&self) -> bool {
        !self.names_stories() && self.epic.is_none() && !self.continues
    }
}
