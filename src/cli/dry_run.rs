//! `ai-sdlc run --dry-run`: what would be done, in which order, and what would get in its way.

use std::num::NonZeroUsize;

use super::run_plan::RunPlan;
use crate::git::{CommitId, branch_name};
use crate::report::plural;
use crate::story::StoryId;

/// The most predicted conflicts that are shown.
const MOST_CONFLICTS: usize = 50;

/// The plan as text.
pub(super) fn show(
    plan: &RunPlan,
    slots: NonZeroUsize,
    base_branch: Option<&str>,
    base: CommitId,
) -> String {
    let base = match base_branch {
        Some(name) => format!("{name} ({})", base.short()),
        None => format!("commit {}", base.short()),
    };
    let count = plural(plan.plan.stories.len(), "story", "stories");
    let mut lines = vec![format!("{count}, {slots} at a time, from {base}")];
    lines.extend(plan.plan.stories.iter().filter_map(|planned| {
        let story = plan.stories.get(&planned.id)?;
        let agent = plan.agents.get(&planned.id).map_or("", String::as_str);
        let branch = branch_name(&story.id, &story.slug);
        let mut line = format!("{:<8} {} [{agent}] -> {branch}", story.id, story.title);
        if !planned.dependencies.is_empty() {
            line = format!("{line}, after {}", list(&planned.dependencies));
        }
        Some(line)
    }));
    let waves = plan.plan.waves();
    if waves.len() > 1 {
        let numbered = (1..).zip(&waves);
        lines.extend(numbered.map(|(number, wave)| format!("wave {number}: {}", list(wave))));
    }
    let conflicts = plan.plan.predicted_conflicts(MOST_CONFLICTS);
    lines.extend(conflicts.iter().map(|conflict| {
        let (one, other, files) = (&conflict.one, &conflict.other, conflict.files.as_str());
        format!("may conflict: {one} and {other} in {files}")
    }));
    if conflicts.len() == MOST_CONFLICTS {
        lines.push("may conflict: and more".to_owned());
    }
    let left_out = plan.plan.left_out.iter();
    lines.extend(left_out.map(|left| format!("left out: {}: {}", left.id, left.reason)));
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn list(ids: &[StoryId]) -> String {
    let ids: Vec<&str> = ids.iter().map(StoryId::as_str).collect();
    ids.join(", ")
}
