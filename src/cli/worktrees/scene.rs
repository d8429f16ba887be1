//! What there is: the worktrees in all their places, the stories that they belong to, and what they hold.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::homes;
use crate::cli::error::CliError;
use crate::cli::{find_project, run, working_directory};
use crate::config::Project;
use crate::disk::{self, Measured};
use crate::git::{CommitId, Condition, Foreign, Git, Place, Repository, Work, Worktrees};
use crate::orchestrator::Base;
use crate::report::{self, chain};
use crate::story::{Board, Status, Store, StoryId};

/// How many worktrees are looked into at a time.
const LOOKERS: usize = 4;

/// A project with its worktrees.
pub(super) struct Scene {
    pub(super) project: Project,
    pub(super) repository: Repository,
    pub(super) git: Git,
    pub(super) board: Board,
    /// What stories start from now.
    pub(super) base: Base,
    /// Where worktrees are.
    pub(super) homes: Vec<Worktrees>,
}

/// A worktree, or something where worktrees are.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// In which of the homes it is.
    pub(super) home: usize,
    pub(super) place: Place,
    /// The story that it belongs to, on the board or not.
    pub(super) story: Option<StoryId>,
    /// What the board says of that.
    pub(super) status: Option<Status>,
}

impl Scene {
    /// Finds the project of the current directory and its worktrees.
    pub(super) async fn find() -> Result<Self, CliError> {
        let project = find_project(&working_directory()?)?;
        let repository = Repository::discover(&project.root)?;
        let git = Git::new().await?;
        let board = Store::new(&project.board).load()?;
        for problem in &board.problems {
            report::warning(&problem.to_string());
        }
        Ok(Self {
            base: run::base(&project, &repository)?,
            homes: homes(&project, &repository, &git)?,
            project,
            repository,
            git,
            board,
        })
    }

    /// What is where worktrees are, ours and not ours.
    pub(super) async fn items(&self) -> Result<Vec<Item>, CliError> {
        let mut items = Vec::new();
        for (home, worktrees) in self.homes.iter().enumerate() {
            let places = worktrees.inventory().await?;
            // What git was killed over in its first moments says only its name: it is shown once, in the usual place.
            let only_a_name = |place: &Place| place.branch.is_none() && !place.path.exists();
            items.extend(
                places
                    .into_iter()
                    .filter(|place| home == 0 || !only_a_name(place))
                    .map(|place| self.item(home, place)),
            );
        }
        Ok(items)
    }

    /// The same with what the board says at this moment, as far as it can be read.
    pub(super) fn as_it_is_now(&self, item: &Item) -> Item {
        let board = Store::new(&self.project.board).load().ok();
        let id = item.story.as_ref();
        let found = board.as_ref().zip(id);
        let found = found.and_then(|(board, id)| board.find(id.as_str()));
        Item {
            status: found.map_or(item.status, |story| Some(story.status)),
            ..item.clone()
        }
    }

    fn item(&self, home: usize, place: Place) -> Item {
        let ours = !place.is_foreign();
        let of_story = self.board.stories.iter();
        let story = of_story
            .filter(|story| ours && place.is_of(&story.id))
            // An id may begin with another one.
            .max_by_key(|story| story.id.as_str().len());
        let of_board = story.map(|story| story.id.clone());
        Item {
            home,
            story: of_board.or_else(|| place.story.clone()),
            status: story.map(|story| story.status),
            place,
        }
    }

    /// What the worktrees with files hold, each as far as it can be read.
    pub(super) fn work_in(&self, items: &[Item]) -> Vec<Option<Work>> {
        let base = self.base.start();
        let next = AtomicUsize::new(0);
        let look = || {
            let mut found = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else {
                    return found;
                };
                if item.is_worktree() {
                    found.push((index, self.look_into(&item.place.path, base)));
                }
            }
        };
        let mut all: Vec<Option<Work>> = items.iter().map(|_| None).collect();
        thread::scope(|scope| {
            // Those that cannot be started are not needed: this thread looks as well.
            let others: Vec<_> = (1..LOOKERS.min(items.len()))
                .filter_map(|_| thread::Builder::new().spawn_scoped(scope, look).ok())
                .collect();
            let mut found = look();
            for other in others {
                match other.join() {
                    Ok(more) => found.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            for (index, work) in found {
                all[index] = work;
            }
        });
        all
    }

    fn look_into(&self, path: &Path, base: CommitId) -> Option<Work> {
        let work = self.repository.work_in(path, Some(base));
        work.inspect_err(|error| tracing::debug!(error = chain(error), "not looked into"))
            .ok()
    }

    /// A path as people in the project write it.
    pub(super) fn shown(&self, path: &Path) -> String {
        let root = self.project.root.canonicalize();
        let inside = root.ok().and_then(|root| path.strip_prefix(root).ok());
        // The name of a folder that is not ours can hold anything.
        let shown = inside.unwrap_or(path).display().to_string();
        shown.replace(char::is_control, "?")
    }
}

impl Item {
    /// Whether it has files that belong to a branch or a commit of the repository.
    fn is_worktree(&self) -> bool {
        match &self.place.condition {
            Condition::Ready => true,
            Condition::Foreign(why) => *why != Foreign::NotAWorktree,
            Condition::HalfMade | Condition::Gone | Condition::Broken => false,
        }
    }

    /// What its name says besides the id of its story.
    pub(super) fn slug(&self) -> Option<&str> {
        let id = self.story.as_ref()?.as_str();
        self.place.name().get(id.len() + 1..)
    }

    /// How it is called.
    pub(super) fn title(&self) -> String {
        match &self.story {
            Some(story) => story.to_string(),
            None => self.place.name().replace(char::is_control, "?"),
        }
    }
}

/// How much the places of items take. Blocks, for a bounded time.
pub(super) fn sizes(items: &[Item]) -> Vec<Measured> {
    let paths: Vec<PathBuf> = items.iter().map(|item| item.place.path.clone()).collect();
    disk::measure(&paths, disk::PATIENCE)
}

/// What to do with a worktree that has lost its `.git`.
pub(super) const REPAIR: &str =
    "`git worktree repair` in the main checkout makes it again, and loses nothing";

/// Why something is not ours, in words.
pub(super) fn foreign(why: &Foreign) -> String {
    match why {
        Foreign::NotAWorktree => "it is not a worktree of this repository".to_owned(),
        Foreign::MadeByHand => "it was not made for a story".to_owned(),
        Foreign::Locked(reason) if reason.is_empty() => "somebody else has locked it".to_owned(),
        Foreign::Locked(reason) => {
            let reason: String = reason.chars().take(80).collect();
            format!(
                "somebody else has locked it: {}",
                reason.replace(char::is_control, " ")
            )
        }
    }
}
