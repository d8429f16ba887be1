//! From the command line, the configuration and the board to what a run will do. Nothing is started or changed here.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::args::RunArgs;
use super::error::CliError;
use crate::agent;
use crate::config::Project;
use crate::engine::{Candidate, Plan, Selection, plan};
use crate::orchestrator::{PastAttempts, check_writable};
use crate::report::{self, chain};
use crate::story::{Board, Problem, Story, StoryId};

/// The variable that names the agent of stories that name none, as in the predecessor.
const PROVIDER_VARIABLE: &str = "AI_SDLC_PROVIDER";

/// What a run will do.
pub(super) struct RunPlan {
    /// The engine's plan.
    pub(super) plan: Plan,
    /// Every story of the board.
    pub(super) stories: HashMap<StoryId, Arc<Story>>,
    /// The agent of each story of the plan.
    pub(super) agents: HashMap<StoryId, String>,
    /// How many executors may be alive at once.
    pub(super) slots: NonZeroUsize,
}

/// Plans a run over a board.
pub(super) fn plan_run(
    args: &RunArgs,
    project: &Project,
    board: Board,
) -> Result<RunPlan, CliError> {
    if let Some(name) = args
        .agent
        .as_ref()
        .filter(|name| agent::find(name).is_none())
    {
        return Err(unknown_agent(&format!(
            "there is no agent `{name}` in this version"
        )));
    }
    let selection = selection(args, &board)?;
    let past = PastAttempts::read(&project.runs());
    let candidates: Vec<Candidate> = board
        .stories
        .iter()
        .map(|story| Candidate {
            id: story.id.clone(),
            // Spelled as on the board, where it is there: users write `s-0001` as well.
            dependencies: story
                .dependencies
                .iter()
                .map(|id| {
                    board
                        .find(id.as_str())
                        .map_or(id, |found| &found.id)
                        .clone()
                })
                .collect(),
            status: story.status,
            next_attempt: past.next(&story.id),
            writable: check_writable(story).map_err(|error| chain(&error)),
        })
        .collect();
    let plan = plan(&candidates, &unreadable(&board), &selection);
    let default = default_agent(args, project);
    let agents: HashMap<StoryId, String> = plan
        .stories
        .iter()
        .filter_map(|planned| board.find(planned.id.as_str()))
        .map(|story| {
            let agent = story.agent.as_ref().unwrap_or(&default);
            (story.id.clone(), agent.clone())
        })
        .collect();
    let mut stories = HashMap::new();
    for (mut story, candidate) in board.stories.into_iter().zip(candidates) {
        story.dependencies = candidate.dependencies;
        stories.insert(story.id.clone(), Arc::new(story));
    }
    Ok(RunPlan {
        plan,
        stories,
        agents,
        slots: slots(args.concurrent.as_deref()),
    })
}

impl RunPlan {
    /// Whether every agent can be driven, asked before anything is started.
    pub(super) fn check_agents(&self) -> Result<(), CliError> {
        let missing = self.plan.stories.iter().find_map(|planned| {
            let agent = self.agents.get(&planned.id)?;
            agent::find(agent).is_none().then_some((&planned.id, agent))
        });
        let Some((story, name)) = missing else {
            return Ok(());
        };
        Err(unknown_agent(&format!(
            "{story} is for the agent `{name}`, which this version cannot drive"
        )))
    }
}

fn unknown_agent(message: &str) -> CliError {
    let known = agent::NAMES.join(", ");
    CliError::new(format!("{message} (it can drive: {known})")).hint(format!(
        "choose another one with --agent, with {PROVIDER_VARIABLE}, with `ai.provider` in .ai-sdlc.json, or with \
         `agent:` in the story"
    ))
}

/// The ids of the stories whose files cannot be read, by the names of their folders.
fn unreadable(board: &Board) -> BTreeSet<StoryId> {
    let folder = |problem: &Problem| {
        let path = &problem.path;
        let folder = if path.extension().is_some() {
            path.parent()?
        } else {
            path
        };
        folder.file_name()?.to_str()?.parse().ok()
    };
    board.problems.iter().filter_map(folder).collect()
}

fn selection(args: &RunArgs, board: &Board) -> Result<Selection, CliError> {
    match &args.story {
        Some(wanted) => {
            let story = board.find(wanted).ok_or_else(|| {
                CliError::new(format!("there is no story {wanted} on the board"))
                    .hint("`ai-sdlc status` shows the stories")
            })?;
            Ok(Selection::One(story.id.clone()))
        }
        None if args.concurrent.is_some() => Ok(Selection::AllReady),
        None => Ok(Selection::Next),
    }
}

/// The agent of stories that name none.
fn default_agent(args: &RunArgs, project: &Project) -> String {
    let variable = std::env::var(PROVIDER_VARIABLE)
        .ok()
        .filter(|name| !name.is_empty());
    args.agent
        .clone()
        .or(variable)
        .or_else(|| project.config.agent.clone())
        .unwrap_or_else(|| agent::DEFAULT.to_owned())
}

/// What `--concurrent` asks for. What is not a positive whole number counts as 1, as users of the predecessor expect.
fn slots(concurrent: Option<&str>) -> NonZeroUsize {
    let Some(text) = concurrent else {
        return NonZeroUsize::MIN;
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let slots = digits.then(|| text.parse().ok()).flatten();
    // A number beyond all bounds is more than there are stories, like any large one.
    let beyond = (digits && text.trim_start_matches('0').len() > 18).then_some(NonZeroUsize::MAX);
    slots.or(beyond).unwrap_or_else(|| {
        report::warning(&format!(
            "--concurrent {text} is not a positive whole number; 1 story at a time"
        ));
        NonZeroUsize::MIN
    })
}
