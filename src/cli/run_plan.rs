//! From the command line, the configuration and the board to what a run will do. Nothing is started or changed here.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::agents::{Agents, Undrivable, did_you_mean};
use super::args::RunArgs;
use super::error::CliError;
use crate::agent;
use crate::config::Project;
use crate::engine::{
    Candidate, Candidates, Completeness, EpicName, FilePattern, Plan, Remark, Selection, plan,
};
use crate::orchestrator::{PastAttempts, Replan, check_writable, fingerprint};
use crate::report::chain;
use crate::story::{Board, Problem, Store, Story, StoryId};

/// The variable that names the agent of stories that name none, as in the predecessor.
const PROVIDER_VARIABLE: &str = "AI_SDLC_PROVIDER";

/// The most epics that are named when another one is asked for.
const MOST_EPICS: usize = 20;

/// Plans runs over a board, at the beginning of a run and, when it waits for further stories, later on.
#[derive(Debug, Clone)]
pub(super) struct Planner {
    /// Which stories are asked for.
    pub(super) selection: Selection,
    /// The agent of stories that name none.
    pub(super) default_agent: String,
    /// The agents that stories may name.
    pub(super) agents: Agents,
    store: Store,
    runs: PathBuf,
}

/// What a run will do.
pub(super) struct RunPlan {
    /// The engine's plan.
    pub(super) plan: Plan,
    /// Every story of the board.
    pub(super) stories: HashMap<StoryId, Arc<Story>>,
    /// The agent of each story of the plan.
    pub(super) agents: HashMap<StoryId, String>,
    /// What is wrong with what stories say, without keeping them from being worked on.
    pub(super) remarks: Vec<String>,
    /// What is wrong with the stories that cannot be read.
    pub(super) unreadable: Vec<Problem>,
    /// Whether it holds all that was asked for.
    pub(super) completeness: Completeness,
}

/// What becomes of a story whose agent cannot be driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnknownAgent {
    /// It is planned; whoever asked for the run is told before anything starts.
    Planned,
    /// It is left out of a run that goes on.
    LeftOut,
}

impl Planner {
    /// A planner for what the command line asks for, or for stories that have been chosen already.
    pub(super) fn new(
        args: &RunArgs,
        project: &Project,
        store: Store,
        board: &Board,
        chosen: Option<Selection>,
    ) -> Result<Self, CliError> {
        let agents = Agents::of(&project.config)?;
        if let Some(name) = &args.agent {
            agents.check(name).map_err(|problem| {
                undrivable(&agents, &format!("--agent {name}"), name, problem)
            })?;
        }
        Ok(Self {
            agents,
            selection: match chosen {
                Some(chosen) => chosen,
                None => selection(args, board)?,
            },
            default_agent: default_agent(args, project),
            store,
            runs: project.runs(),
        })
    }

    /// Plans a run over a board.
    pub(super) fn plan(&self, board: Board) -> RunPlan {
        self.plan_with(board, BTreeSet::new(), UnknownAgent::Planned)
    }

    /// Plans anew over the board as it is now, for a run that works on these stories.
    pub(super) fn replan(&self, under_way: BTreeSet<StoryId>) -> Result<Replan, String> {
        let board = self.store.load().map_err(|error| chain(&error))?;
        let plan = self.plan_with(board, under_way, UnknownAgent::LeftOut);
        let mut remarks = plan.of_left_out();
        remarks.extend(plan.remarks);
        Ok(Replan {
            plan: plan.plan.stories,
            stories: plan.stories,
            agents: plan.agents,
            remarks,
        })
    }

    fn plan_with(
        &self,
        board: Board,
        under_way: BTreeSet<StoryId>,
        unknown_agent: UnknownAgent,
    ) -> RunPlan {
        let past = PastAttempts::read(&self.runs);
        let unreadable = unreadable(&board);
        let mut remarks = Vec::new();
        let mut agents = HashMap::new();
        let mut stories = HashMap::new();
        let mut candidates = Vec::new();
        // Spelled as on the board, where it is there: users write `s-0001` as well.
        let by_name: HashMap<String, StoryId> = board
            .stories
            .iter()
            .map(|story| (story.id.as_str().to_ascii_lowercase(), story.id.clone()))
            .collect();
        let spelled: Vec<Vec<StoryId>> = board
            .stories
            .iter()
            .map(|story| {
                let found = |id: &StoryId| by_name.get(&id.as_str().to_ascii_lowercase());
                let dependencies = story.dependencies.iter();
                dependencies
                    .map(|id| found(id).unwrap_or(id).clone())
                    .collect()
            })
            .collect();
        for (mut story, dependencies) in board.stories.into_iter().zip(spelled) {
            story.dependencies = dependencies;
            let agent = story.agent.as_ref().unwrap_or(&self.default_agent).clone();
            let drivable =
                unknown_agent == UnknownAgent::Planned || self.agents.check(&agent).is_ok();
            let usable = if drivable {
                check_writable(&story)
                    .map_err(|error| format!("its file cannot be edited: {}", chain(&error)))
            } else {
                Err(format!("its agent `{agent}` cannot be driven"))
            };
            candidates.push(Candidate {
                id: story.id.clone(),
                dependencies: story.dependencies.clone(),
                status: story.status,
                epic: story.epic.clone(),
                labels: story.labels.clone(),
                provider: Some(self.agents.provider(&agent)),
                files: files(&story, &mut remarks),
                next_attempt: past.next(&story.id),
                fingerprint: fingerprint(&story),
                resources: self.agents.resources(&agent),
                usable,
            });
            agents.insert(story.id.clone(), agent);
            stories.insert(story.id.clone(), Arc::new(story));
        }
        let candidates = Candidates {
            stories: candidates,
            unreadable,
            under_way,
        };
        let plan = plan(&candidates, &self.selection);
        RunPlan {
            completeness: plan.completeness(&self.selection, board.problems.len()),
            plan,
            stories,
            agents,
            remarks,
            unreadable: board.problems,
        }
    }
}

impl RunPlan {
    /// What is left out, and why, in lines for people.
    pub(super) fn of_left_out(&self) -> Vec<String> {
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.map(|problem| format!("left out: {problem}"));
        let remarks = Remark::on(&self.plan.left_out);
        unreadable
            .chain(remarks.iter().map(ToString::to_string))
            .collect()
    }

    /// Whether every agent can be driven, asked before anything is started.
    pub(super) fn check_agents(&self, agents: &Agents) -> Result<(), CliError> {
        for planned in &self.plan.stories {
            let name = self.agents.get(&planned.id).map_or("", String::as_str);
            agents
                .check(name)
                .map_err(|problem| undrivable(agents, planned.id.as_str(), name, problem))?;
        }
        Ok(())
    }
}

/// The files that a story says it will change, in its front matter and in its plan.
fn files(story: &Story, remarks: &mut Vec<String>) -> Vec<FilePattern> {
    let mut patterns = BTreeSet::new();
    for text in &story.files {
        match FilePattern::parse(text) {
            Ok(pattern) => {
                patterns.insert(pattern);
            }
            Err(error) => remarks.push(format!("{}: `files: {text}` {error}", story.id)),
        }
    }
    // What a plan names are paths, with whatever characters.
    patterns.extend(
        story
            .planned_files
            .iter()
            .map(|path| FilePattern::literal(path)),
    );
    patterns.into_iter().collect()
}

/// Why what was asked for needs an agent that cannot be driven.
fn undrivable(agents: &Agents, who: &str, name: &str, problem: Undrivable) -> CliError {
    let another = format!(
        "choose another one with --agent, with {PROVIDER_VARIABLE}, with `ai.provider` in .ai-sdlc.json, or with \
         `agent:` in the story"
    );
    match problem {
        Undrivable::Unknown(closest) => {
            let known: Vec<&str> = agents.names().collect();
            CliError::new(format!(
                "{who}: there is no agent `{name}`{} (there are: {})",
                did_you_mean(closest.as_deref()),
                known.join(", ")
            ))
            .hint(another)
        }
        Undrivable::NoCommand => CliError::new(format!(
            "{who}: nothing says which program the agent `{name}` is"
        ))
        .hint(format!("`agents.{name}.command` in .ai-sdlc.json says it")),
        Undrivable::NotInstalled { program, install } => {
            let error = CliError::new(format!(
                "{who}: the agent `{name}` needs the program `{program}`, which is not there"
            ));
            match install {
                Some(install) => error.hint(format!("`{install}` installs it")).hint(another),
                None => error.hint(another),
            }
        }
    }
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
    let find = |wanted: &str| {
        let story = board.find(wanted).ok_or_else(|| {
            CliError::new(format!("there is no story {wanted} on the board"))
                .hint("`ai-sdlc status` shows the stories")
        })?;
        Ok(story.id.clone())
    };
    if let Some(wanted) = &args.story {
        return find(wanted).map(Selection::One);
    }
    if let Some(wanted) = &args.batch {
        let mut ids: Vec<StoryId> = Vec::new();
        for wanted in wanted.split(',').map(str::trim).filter(|id| !id.is_empty()) {
            let id = find(wanted)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Err(CliError::new("--batch names no story")
                .hint("`ai-sdlc run --batch S-0001,S-0002` works on these two, in this order"));
        }
        return Ok(Selection::Batch(ids));
    }
    Ok(match &args.epic {
        Some(epic) => Selection::Epic(find_epic(epic, board)?),
        None if args.watch => Selection::Watch,
        None if args.concurrent.is_some() => Selection::AllReady,
        None => Selection::Next,
    })
}

/// The epic of that name, which some story has to belong to, done or not.
fn find_epic(wanted: &str, board: &Board) -> Result<EpicName, CliError> {
    let epic: EpicName = wanted
        .parse()
        .map_err(|error| CliError::new(format!("--epic: {error}")))?;
    let mut stories = board.stories.iter();
    if stories.any(|story| epic.has(story.epic.as_deref(), &story.labels)) {
        return Ok(epic);
    }
    let known: BTreeSet<EpicName> = board
        .stories
        .iter()
        .flat_map(|story| EpicName::named(story.epic.as_deref(), &story.labels))
        .collect();
    let error = CliError::new(format!("no story on the board belongs to the epic {epic}"));
    if known.is_empty() {
        return Err(error.hint(
            "a story belongs to an epic by its key `epic`, or by a label that begins with `epic-`",
        ));
    }
    let mut named: Vec<String> = known.iter().map(ToString::to_string).collect();
    let more = named.len().saturating_sub(MOST_EPICS);
    named.truncate(MOST_EPICS);
    let mut named = named.join(", ");
    if more > 0 {
        named = format!("{named} and {more} more");
    }
    Err(error.hint(format!("the epics of the board are: {named}")))
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
