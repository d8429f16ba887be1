//! What a run is going to do: its stories, its rules and what they start from, all checked before anything is started.

use std::collections::BTreeSet;

use super::args::RunArgs;
use super::dry_run::DryRun;
use super::error::CliError;
use super::last_run::{Continuation, Usual};
use super::run::base;
use super::run_idle::Waiting;
use super::run_plan::{Planner, RunPlan};
use super::run_settings::{limits, settings};
use super::run_shortfalls::shortfalls;
use super::run_start::Start;
use crate::config::Project;
use crate::engine::{
    LeftOut, Limits, Obstacle, Overrun, PlannedStory, Prices, Restart, RunId, Scope, Selection,
    Settings, WhenIdle,
};
use crate::git::Repository;
use crate::orchestrator::{self, Base, Continued, Past};
use crate::process::FileLimit;
use crate::report::{self, plural};
use crate::story::Store;

/// What a run is going to do.
pub(super) struct Intent {
    pub(super) run: RunId,
    pub(super) store: Store,
    pub(super) planner: Planner,
    /// What the planner makes of the board.
    pub(super) plan: RunPlan,
    /// The stories to work on, in order: those of the plan, or those that the run has which goes on.
    pub(super) stories: Vec<PlannedStory>,
    pub(super) settings: Settings,
    /// What there was of it, when it goes on.
    pub(super) past: Option<Continued>,
    pub(super) base: Base,
    pub(super) files: FileLimit,
    /// The stories that it does not take by itself.
    pub(super) waiting: Waiting,
}

/// What a run goes by besides what is asked for.
#[derive(Default)]
struct Given {
    past: Option<Box<Past>>,
    selection: Option<Selection>,
    usual: Option<Usual>,
}

impl Given {
    fn by(continuation: Option<Continuation>) -> Self {
        match continuation {
            None => Self::default(),
            Some(Continuation::Nothing) => Self {
                selection: Some(Selection::Unfinished(BTreeSet::new())),
                ..Self::default()
            },
            Some(Continuation::SameRun(past)) => Self {
                selection: Some(Selection::Unfinished(past.engine.under_way())),
                past: Some(past),
                ..Self::default()
            },
            Some(Continuation::NewRun(selection, usual)) => Self {
                selection: Some(selection),
                usual: Some(usual),
                ..Self::default()
            },
        }
    }

    /// The agent of stories that name none, as it was before.
    fn agent(&self) -> Option<&String> {
        match (&self.past, &self.usual) {
            (Some(past), _) => Some(&past.opening.default_agent),
            (None, usual) => usual.as_ref()?.agent.as_ref(),
        }
    }
}

impl Intent {
    /// Plans a run, and says what is wrong with the stories. `seed` makes its random waits its own.
    pub(super) fn new(
        start: Start,
        seed: u64,
        files: FileLimit,
        args: &RunArgs,
        project: &Project,
        repository: &Repository,
    ) -> Result<Self, CliError> {
        let Start {
            run,
            store,
            board,
            continuation,
            waiting,
            told_of_killed,
        } = start;
        let mut given = Given::by(continuation);
        let selection = given.selection.take();
        let mut planner = Planner::new(args, project, store.clone(), &board, selection)
            .inspect_err(|_| {
                // The story that is asked for may be there, and one of these.
                for problem in &board.problems {
                    report::warning(&format!("left out: {problem}"));
                }
            })?;
        if let Some(agent) = given.agent().filter(|_| args.agent.is_none()) {
            planner.default_agent.clone_from(agent);
        }
        let plan = planner.plan(board);
        for remark in &plan.remarks {
            report::warning(remark);
        }
        plan.check_agents(&planner.agents)?;
        let limits = limits(args)?;
        let mut settings = settings(args, limits, &project.config, &planner.selection, seed);
        let slots = args.concurrent.is_some().then_some(settings.slots);
        if let Some(usual) = given.usual {
            settings.slots = slots.unwrap_or(usual.slots);
        }
        let mut stories = plan.plan.stories.clone();
        if let Some(past) = &given.past {
            // It goes on by the rules that it began with.
            settings = past.opening.settings.clone();
            settings.slots = slots.unwrap_or(past.engine.slots());
            settings.run_limits = past.engine.run_limits().overridden_by(limits);
            stories.clone_from(&past.opening.plan);
        }
        let run_limits = settings.run_limits;
        let intent = Self {
            run,
            store,
            planner,
            plan,
            stories,
            settings,
            past: given.past.map(|past| Continued {
                past: *past,
                restart: Restart {
                    slots,
                    run_limits: (limits != Limits::default()).then_some(run_limits),
                    ..Restart::default()
                },
            }),
            base: base(project, repository)?,
            files,
            waiting,
        };
        intent.check(args)?;
        if args.speaks() && args.asks_for_all() && !told_of_killed {
            intent.waiting.hint_at_interrupted();
        }
        Ok(intent)
    }

    /// Whether it can be done as a whole. Says what is left out.
    fn check(&self, args: &RunArgs) -> Result<(), CliError> {
        let most = if self.watches() {
            usize::MAX
        } else {
            self.stories.len()
        };
        check_slots(self.settings.slots.get().min(most), &self.files)?;
        let batch = check_batch(&self.planner.selection, &self.plan);
        // A dry run shows what is left out in its plan, when there is one.
        if !args.dry_run || batch.is_err() {
            for remark in self.plan.of_left_out() {
                report::warning(&remark);
            }
        }
        batch
    }

    /// Whether it waits for further stories.
    pub(super) fn watches(&self) -> bool {
        self.settings.when_idle == WhenIdle::WaitForStories
    }

    /// What its agents cannot do of what its rules ask of them.
    pub(super) fn shortfalls(&self, prices: &Prices) -> Vec<String> {
        let agents = self.stories.iter();
        let agents = agents.filter_map(|story| self.plan.agents.get(&story.id));
        let agents = agents.map(String::as_str);
        shortfalls(agents, &self.planner.agents, &self.settings, prices)
    }

    /// The budget of this day of which nothing is left, by what all runs of the board have used on it. Blocks.
    fn used_up_today(&self, project: &Project) -> Option<Overrun> {
        let limits = self.settings.day_limits;
        if limits == Limits::default() {
            return None;
        }
        let (usage, unknown) = orchestrator::used_today(&project.runs(), None);
        for remark in unknown {
            report::warning(&remark);
        }
        let budget = limits.nothing_left_after(usage)?;
        Some(Overrun {
            scope: Scope::Day,
            budget,
        })
    }

    /// Shows what would be done, with the exit code if all of it succeeds. Blocks.
    pub(super) fn show(
        &self,
        project: &Project,
        json: bool,
        exit_code: u8,
    ) -> Result<(), CliError> {
        for remark in self.shortfalls(&project.config.prices) {
            report::warning(&remark);
        }
        let dry_run = DryRun {
            used_up: self.used_up_today(project),
            plan: &self.plan,
            slots: self.settings.slots,
            base_branch: self.base.name(),
            base: self.base.start(),
            interrupted: &self.waiting.interrupted,
            exit_code,
        };
        let text = if json {
            dry_run.json()?
        } else {
            dry_run.text()
        };
        report::data(&text);
        Ok(())
    }
}

/// More executors than there can be connections to would fail one by one, in the middle of the run.
pub(super) fn check_slots(slots: usize, files: &FileLimit) -> Result<(), CliError> {
    let wanted = u64::try_from(slots).unwrap_or(u64::MAX);
    match files.most_executors() {
        Some(most) if wanted > most => Err(CliError::new(format!(
            "{} at a time: that takes more open files than this process may have, which are enough for {most}",
            plural(slots, "story", "stories")
        ))
        .hint("raise the hard limit (`ulimit -Hn`), or run fewer at a time")),
        _ => Ok(()),
    }
}

/// A batch is worked on as it is named, or not at all: what cannot be worked on would be missing in its middle.
fn check_batch(selection: &Selection, plan: &RunPlan) -> Result<(), CliError> {
    let is_done = |left: &&LeftOut| left.reason == Obstacle::AlreadyDone;
    let broken = plan.plan.left_out.iter().any(|left| !is_done(&left));
    if matches!(selection, Selection::Batch(_)) && broken {
        return Err(CliError::new("the batch cannot be worked on as it is")
            .hint("name only stories that can start when those in front of them are done"));
    }
    Ok(())
}
