//! `ai-sdlc run --dry-run`: what would be done, in which order, and what would get in its way; for people as lines, for
//! programs as one object.

use std::num::NonZeroUsize;

use serde::Serialize;

use super::error::{CliError, EXHAUSTED};
use super::run_plan::RunPlan;
use crate::engine::{Overrun, PredictedConflicts, Remark};
use crate::git::{CommitId, branch_name};
use crate::report::plural;
use crate::story::StoryId;

/// The version of the JSON form. Fields may be added without a new one.
const VERSION: u32 = 1;

/// The most predicted conflicts that people are shown.
const MOST_SHOWN: usize = 20;

/// The most predicted conflicts that programs are told.
const MOST_TOLD: usize = 10_000;

/// A run that is not begun.
pub(super) struct DryRun<'a> {
    /// What it would do.
    pub(super) plan: &'a RunPlan,
    /// How many stories it would work on at once.
    pub(super) slots: NonZeroUsize,
    /// What they would start from.
    pub(super) base_branch: Option<&'a str>,
    /// The same, as a commit.
    pub(super) base: CommitId,
    /// The stories in progress that nobody works on.
    pub(super) interrupted: &'a [StoryId],
    /// The budget of which nothing is left, so that no story would be started.
    pub(super) used_up: Option<Overrun>,
    /// The exit code of the run if all of its stories succeeded.
    pub(super) exit_code: u8,
}

#[derive(Debug, Serialize)]
struct View<'a> {
    version: u32,
    base_branch: Option<&'a str>,
    base_commit: String,
    concurrent: NonZeroUsize,
    stories: Vec<StoryView<'a>>,
    waves: Vec<Vec<StoryId>>,
    predicted_conflicts: Vec<ConflictView<'a>>,
    more_predicted_conflicts: usize,
    left_out: Vec<LeftOutView>,
    interrupted: &'a [StoryId],
    used_up: Option<String>,
    exit_code: u8,
}

#[derive(Debug, Serialize)]
struct StoryView<'a> {
    id: &'a StoryId,
    title: &'a str,
    agent: &'a str,
    branch: String,
    dependencies: &'a [StoryId],
}

#[derive(Debug, Serialize)]
struct ConflictView<'a> {
    one: &'a StoryId,
    other: &'a StoryId,
    files: &'a str,
}

/// A story that is left out; without an id when it cannot be read.
#[derive(Debug, Serialize)]
struct LeftOutView {
    story: Option<StoryId>,
    reason: String,
}

impl DryRun<'_> {
    /// The plan for programs.
    pub(super) fn json(&self) -> Result<String, CliError> {
        let conflicts = self.plan.plan.predicted_conflicts(MOST_TOLD);
        let unreadable = self.plan.unreadable.iter().map(|problem| LeftOutView {
            story: None,
            reason: problem.to_string(),
        });
        let left_out = self.plan.plan.left_out.iter().map(|left| LeftOutView {
            story: Some(left.id.clone()),
            reason: left.reason.to_string(),
        });
        let view = View {
            version: VERSION,
            base_branch: self.base_branch,
            base_commit: self.base.to_string(),
            concurrent: self.slots,
            stories: self.stories(),
            waves: self.plan.plan.waves(),
            predicted_conflicts: conflicts
                .pairs
                .iter()
                .map(|pair| ConflictView {
                    one: &pair.one,
                    other: &pair.other,
                    files: pair.files.as_str(),
                })
                .collect(),
            more_predicted_conflicts: conflicts.more,
            left_out: unreadable.chain(left_out).collect(),
            interrupted: self.interrupted,
            used_up: self.used_up.map(|overrun| overrun.to_string()),
            exit_code: self.exit_code,
        };
        let text =
            serde_json::to_string_pretty(&view).map_err(|error| CliError::from_error(&error))?;
        Ok(format!("{text}\n"))
    }

    fn stories(&self) -> Vec<StoryView<'_>> {
        let planned = self.plan.plan.stories.iter();
        let view = planned.filter_map(|planned| {
            let story = self.plan.stories.get(&planned.id)?;
            Some(StoryView {
                id: &story.id,
                title: &story.title,
                agent: self.plan.agents.get(&planned.id).map_or("", String::as_str),
                branch: branch_name(&story.id, &story.slug),
                dependencies: &planned.dependencies,
            })
        });
        view.collect()
    }

    /// The plan for people.
    pub(super) fn text(&self) -> String {
        let plan = &self.plan.plan;
        let base = match self.base_branch {
            Some(name) => format!("{name} ({})", self.base.short()),
            None => format!("commit {}", self.base.short()),
        };
        let count = plural(plan.stories.len(), "story", "stories");
        let mut lines = vec![format!("{count}, {} at a time, from {base}", self.slots)];
        lines.extend(self.stories().iter().map(|story| {
            let (agent, branch) = (story.agent, &story.branch);
            let mut line = format!("{:<8} {} [{agent}] -> {branch}", story.id, story.title);
            if !story.dependencies.is_empty() {
                line = format!("{line}, after {}", list(story.dependencies));
            }
            line
        }));
        let waves = plan.waves();
        if waves.len() > 1 {
            let numbered = (1..).zip(&waves);
            lines.extend(numbered.map(|(number, wave)| format!("wave {number}: {}", list(wave))));
        }
        lines.extend(conflicts(&plan.predicted_conflicts(MOST_SHOWN)));
        let unreadable = self.plan.unreadable.iter();
        lines.extend(unreadable.map(|problem| format!("left out: {problem}")));
        let left_out = Remark::on(&plan.left_out).into_iter();
        lines.extend(left_out.map(|Remark { who, why, .. }| format!("left out: {who}: {why}")));
        if let Some(overrun) = self.used_up.filter(|_| !plan.stories.is_empty()) {
            lines.push(format!(
                "{overrun}: no story would be started, and the run would end with exit code {EXHAUSTED}"
            ));
        }
        let mut text = lines.join("\n");
        text.push('\n');
        text
    }
}

fn conflicts(conflicts: &PredictedConflicts) -> Vec<String> {
    let pairs = conflicts.pairs.iter().map(|pair| {
        let (one, other, files) = (&pair.one, &pair.other, pair.files.as_str());
        format!("may conflict: {one} and {other} in {files}")
    });
    let mut lines: Vec<String> = pairs.collect();
    if conflicts.more > 0 {
        let more = plural(conflicts.more, "more pair", "more pairs");
        lines.push(format!("may conflict: and {more}"));
    }
    if conflicts.not_compared > 0 {
        let not = plural(conflicts.not_compared, "story", "stories");
        lines.push(format!("may conflict: not known of the last {not}"));
    }
    lines
}

fn list(ids: &[StoryId]) -> String {
    let ids: Vec<&str> = ids.iter().map(StoryId::as_str).collect();
    ids.join(", ")
}
