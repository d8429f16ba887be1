//! The board: all stories of a repository as they are on disk, and what is wrong with those that cannot be used.
//!
//! Promises that one bad story never hides another, and that every problem names its file. Reads only; see
//! [`super::store`] for writing.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::fields::{Priority, Status};
use super::file;
use super::front_matter::Document;
use super::id::{Slug, StoryId};
use super::plan_files;
use super::title;

/// The name of the file that is a story, in the directory of the story.
pub const STORY_FILE: &str = "story.md";

/// The name of the file with the plan of a story, beside [`STORY_FILE`].
pub const PLAN_FILE: &str = "plan.md";

/// The largest plan that is read, in bytes: twice [`file::MAX_STORY_LEN`], because the predecessor appends to a plan
/// with every iteration.
pub const MAX_PLAN_LEN: u64 = 1024 * 1024;

/// The kind of a story that does not say.
pub const DEFAULT_KIND: &str = "feature";

/// A story as its file says.
#[derive(Debug, Clone)]
pub struct Story {
    /// The id: that of the front matter, else the name of the directory.
    pub id: StoryId,
    /// One clean line: the front matter's title, else the first heading, else the id.
    pub title: String,
    /// What the story's branch and worktree are named after.
    pub slug: Slug,
    /// How urgent it is; none sorts last.
    pub priority: Option<Priority>,
    /// Where it stands; `backlog` when the file does not say.
    pub status: Status,
    /// The key `type`, `feature` when the file does not say.
    pub kind: String,
    /// When it was added, as written; usually `YYYY-MM-DD`.
    pub created: Option<String>,
    /// The labels.
    pub labels: Vec<String>,
    /// The stories that have to be done first, each once.
    pub dependencies: Vec<StoryId>,
    /// The agent that is to work on it.
    pub agent: Option<String>,
    /// Patterns of the files that it will change.
    pub files: Vec<String>,
    /// The files that the tasks of its plan name, see [`plan_files::planned_files`]. [`Board::load`] reads them; they
    /// are empty when there is no plan that can be read.
    pub planned_files: Vec<String>,
    /// The epic that it belongs to.
    pub epic: Option<String>,
    /// The branch that the front matter names.
    pub branch: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Why it is blocked.
    pub blocked_reason: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// The whole text of the file.
    pub text: String,
    body: usize,
}

/// Something that keeps a story from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the directory of the story.
    pub path: PathBuf,
    /// The 1-based line, where one can be named.
    pub line: Option<usize>,
    /// What is wrong, in one line.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.line {
            Some(line) => write!(formatter, "{path}:{line}: {}", self.reason),
            None => write!(formatter, "{path}: {}", self.reason),
        }
    }
}

/// All stories of a repository.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// The stories that can be used, in the order in which they would be started.
    pub stories: Vec<Story>,
    /// What is wrong with the others, in the order of their paths.
    pub problems: Vec<Problem>,
    /// The highest number of an id, that of a story with a namesake included.
    highest_number: u64,
}

impl Story {
    /// Reads a story from the text of its file. `directory` names it when the front matter does not.
    ///
    /// # Errors
    /// When the front matter cannot be read, or there is no usable id.
    pub fn from_text(path: &Path, directory: &str, text: &str) -> Result<Self, Problem> {
        let problem = |line, reason: String| Problem {
            path: path.to_owned(),
            line,
            reason,
        };
        let read = Document::parse(text).and_then(|document| Ok((document.fields()?, document)));
        let (fields, document) =
            read.map_err(|error| problem(Some(error.line()), error.to_string()))?;
        let id = match fields.id {
            Some(id) => id,
            None => directory.parse().map_err(|error| {
                problem(None, format!("the directory's name is no id: {error}"))
            })?,
        };
        let written = fields
            .title
            .as_deref()
            .or_else(|| title::first_heading(document.body()));
        let title = written.map(title::clean).filter(|title| !title.is_empty());
        Ok(Self {
            title: title.unwrap_or_else(|| id.to_string()),
            id,
            slug: Slug::from_text(&fields.slug.unwrap_or_default()),
            priority: fields.priority,
            status: fields.status.unwrap_or(Status::Backlog),
            kind: fields.kind.unwrap_or_else(|| DEFAULT_KIND.to_owned()),
            created: fields.created,
            labels: fields.labels,
            dependencies: fields.dependencies,
            agent: fields.agent,
            files: fields.files,
            planned_files: Vec::new(),
            epic: fields.epic,
            branch: fields.branch,
            last_error: fields.last_error,
            blocked_reason: fields.blocked_reason,
            path: path.to_owned(),
            body: text.len() - document.body().len(),
            text: text.to_owned(),
        })
    }

    /// What stands behind the front matter.
    pub fn body(&self) -> &str {
        self.text.get(self.body..).unwrap_or_default()
    }

    /// The order in which stories are started: by priority, then by day of creation, then by id; what has none comes
    /// last.
    pub fn compare(&self, other: &Self) -> Ordering {
        let created = |story: &Self| (story.created.is_none(), story.created.clone());
        Priority::compare(self.priority, other.priority)
            .then_with(|| created(self).cmp(&created(other)))
            .then_with(|| compare_ids(&self.id, &other.id))
    }
}

/// The order of ids: by number when both have one, else as text.
pub fn compare_ids(left: &StoryId, right: &StoryId) -> Ordering {
    match (left.number(), right.number()) {
        (Some(mine), Some(theirs)) => mine.cmp(&theirs).then_with(|| left.cmp(right)),
        _ => left.cmp(right),
    }
}

impl Board {
    /// Reads `<root>/stories/*/story.md`. Directories without that file are ignored.
    ///
    /// # Errors
    /// When there is no `stories` directory, or it cannot be read. What is wrong with a single story is in
    /// [`Board::problems`].
    pub fn load(root: &Path) -> Result<Self, StoreError> {
        let mut stories = Vec::new();
        let mut problems = Vec::new();
        let places = Places::of(root);
        for directory in story_directories(root)? {
            match places.read_story(&directory) {
                Ok(Some(story)) => stories.push(story),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        let numbers = stories.iter().filter_map(|story: &Story| story.id.number());
        let highest_number = numbers.max().unwrap_or(0);
        let mut board = Self {
            stories,
            problems,
            highest_number,
        };
        board.remove_namesakes();
        board
            .problems
            .sort_by(|left, right| left.path.cmp(&right.path));
        board.stories.sort_by(Story::compare);
        Ok(board)
    }

    /// The story with that id, without regard to case.
    pub fn find(&self, id: &str) -> Option<&Story> {
        self.stories.iter().find(|story| story.id.same_as(id))
    }

    /// The highest number of an id in a front matter or of a directory without one; 0 when there is none.
    pub(crate) fn highest_number(&self) -> u64 {
        self.highest_number
    }

    /// Stories with the same id are all problems: nobody can say which is meant.
    fn remove_namesakes(&mut self) {
        let mut by_id: HashMap<String, Vec<PathBuf>> = HashMap::new();
        for story in &self.stories {
            by_id
                .entry(story.id.as_str().to_ascii_lowercase())
                .or_default()
                .push(story.path.clone());
        }
        let problems = &mut self.problems;
        self.stories.retain(|story| {
            let namesakes = &by_id[&story.id.as_str().to_ascii_lowercase()];
            let other = namesakes.iter().find(|path| **path != story.path);
            if let Some(other) = other {
                let reason = format!("the id {} is also that of {}", story.id, other.display());
                problems.push(Problem {
                    path: story.path.clone(),
                    line: None,
                    reason,
                });
            }
            other.is_none()
        });
    }
}

/// Reads the story in a file of the board below `root`.
pub(super) fn read_story(root: &Path, path: &Path) -> Result<Story, Problem> {
    let directory = path.parent().unwrap_or(root);
    let read = Places::of(root).read_story(directory)?;
    read.ok_or_else(|| Problem {
        path: path.to_owned(),
        line: None,
        reason: "it is not there any more".to_owned(),
    })
}

/// The directories below `<root>/stories`, by name. Hidden ones are not stories.
pub(crate) fn story_directories(root: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let path = root.join("stories");
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::NotInitialised {
                path: root.to_owned(),
            });
        }
        other => other.map_err(StoreError::io("read", &path))?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("read", &path))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            directories.push(entry.path());
        }
    }
    directories.sort();
    Ok(directories)
}

/// Where the files of stories may be: a link in a cloned repository must not make a private file of the user a
/// story, whose text is sent to an agent, or a plan. The `stories` directory itself may be a link to anywhere.
struct Places(Vec<PathBuf>);

impl Places {
    fn of(root: &Path) -> Self {
        let root = fs::canonicalize(root).ok();
        let project = root.as_deref().and_then(Path::parent).map(Path::to_owned);
        let stories = root.and_then(|root| fs::canonicalize(root.join("stories")).ok());
        Self(project.into_iter().chain(stories).collect())
    }

    fn read_story(&self, directory: &Path) -> Result<Option<Story>, Problem> {
        let path = directory.join(STORY_FILE);
        let problem = |reason: String| Problem {
            path: path.clone(),
            line: None,
            reason,
        };
        let text = match file::read(&path) {
            Ok(None) => return Ok(None),
            Ok(Some(text)) => text,
            Err(StoreError::Io { verb, source, .. }) => {
                return Err(problem(format!("cannot {verb} it: {source}")));
            }
            Err(StoreError::TooLarge { .. }) => {
                return Err(problem(format!(
                    "it is larger than {} KiB",
                    file::MAX_STORY_LEN / 1024
                )));
            }
            Err(StoreError::NotText { .. }) => {
                return Err(problem("it is not UTF-8 text".to_owned()));
            }
            Err(_) => return Err(problem("it is not a file".to_owned())),
        };
        let target =
            fs::canonicalize(&path).map_err(|error| problem(format!("cannot read it: {error}")))?;
        if !self.contain(&target) {
            return Err(problem(format!(
                "it is a link out of the project, to {}",
                target.display()
            )));
        }
        let name = directory
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let mut story = Story::from_text(&path, name, &text)?;
        story.planned_files = self.read_planned_files(directory);
        Ok(Some(story))
    }

    /// A plan only helps to choose an order, so that nothing that is wrong with it is a problem of the story.
    fn read_planned_files(&self, directory: &Path) -> Vec<String> {
        let path = directory.join(PLAN_FILE);
        let is_ours = fs::canonicalize(&path).is_ok_and(|target| self.contain(&target));
        if !is_ours {
            return Vec::new();
        }
        match file::read_at_most(&path, MAX_PLAN_LEN) {
            Ok(text) => plan_files::planned_files(&text.unwrap_or_default()),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "a plan is not read");
                Vec::new()
            }
        }
    }

    fn contain(&self, target: &Path) -> bool {
        self.0.iter().any(|place| target.starts_with(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(files: &[(&str, &str)]) -> (tempfile::TempDir, Board) {
        let project = tempfile::tempdir().unwrap();
        let root = project.path().join("ünder score/.ai-sdlc");
        for (name, text) in files {
            let directory = root.join("stories").join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(STORY_FILE), text).unwrap();
        }
        let board = Board::load(&root).unwrap();
        (project, board)
    }

    fn problems(board: &Board, project: &Path) -> Vec<String> {
        let prefix = format!("{}/ünder score/.ai-sdlc/stories/", project.display());
        board
            .problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }

    #[test]
    fn a_story_says_what_it_is() {
        let text = "---\nid: S-0001\ntitle: \"A\\tb\"\nslug: A B\npriority: 10\nstatus: ready\ncreated: 2026-01-15\n---\n\nbody\n";
        let (_project, board) = board(&[
            ("S-0001", text),
            ("notes", "# The notes\n\nx\n"),
            ("S-3", "---\nstatus:\n---\nx"),
        ]);
        assert_eq!(board.problems, []);
        let story = board.find("s-0001").unwrap();
        assert_eq!(
            (story.title.as_str(), story.slug.as_str(), story.body()),
            ("A b", "a-b", "\nbody\n")
        );
        assert_eq!(
            (story.status, story.kind.as_str()),
            (Status::Ready, "feature")
        );
        assert_eq!(story.created.as_deref(), Some("2026-01-15"));
        let notes = board.find("notes").unwrap();
        assert_eq!(
            (notes.title.as_str(), notes.slug.as_str()),
            ("The notes", "story")
        );
        assert_eq!(
            (notes.status, notes.body()),
            (Status::Backlog, "# The notes\n\nx\n")
        );
        assert_eq!(board.find("S-3").unwrap().title, "S-3");
    }

    #[test]
    fn one_bad_story_hides_no_other() {
        let (project, board) = board(&[
            ("S-1", "---\nstatus: ready\n---\n"),
            ("S-2", "---\nid: S-2\nstatus: nearly\n---\n"),
            ("S-4", "---\nid: s-5\n---\n"),
            ("S-5", "x"),
            ("S-6", "---\n\ndependencies:\n- S-1\n- ../x\n---\n"),
            ("S-7", "---js\nprocess.exit()\n---\n"),
            ("a b", "x"),
        ]);
        assert_eq!(board.stories.len(), 1);
        let places: Vec<_> = problems(&board, project.path());
        assert_eq!(
            places,
            [
                "S-2/story.md:3: status: `nearly` is not a status: backlog, ready, in-progress, done or blocked",
                &format!("S-4/story.md: the id s-5 is also that of {}/ünder score/.ai-sdlc/stories/S-5/story.md", project.path().display()).replace(&format!("{}/ünder score/.ai-sdlc/stories/", project.path().display()), ""),
                "S-5/story.md: the id S-5 is also that of S-4/story.md",
                "S-6/story.md:5: dependencies: `../x` is not a story id: letters, digits, `-`, `_` and single dots, starting with a letter or digit",
                "S-7/story.md:1: front matter in another language than YAML is not read: `---js`",
                "a b/story.md: the directory's name is no id: `a b` is not a story id: letters, digits, `-`, `_` and single dots, starting with a letter or digit",
            ]
        );
    }

    #[test]
    fn what_is_no_story_is_ignored_and_a_link_out_of_the_project_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("secret"), "key").unwrap();
        let project = tempfile::tempdir().unwrap();
        let stories = project.path().join("root/stories");
        for name in ["empty", ".hidden", "S-1", "S-2", "S-3"] {
            fs::create_dir_all(stories.join(name)).unwrap();
        }
        fs::write(stories.join(".hidden/story.md"), "x").unwrap();
        fs::write(stories.join("README.md"), "x").unwrap();
        fs::write(project.path().join("shared.md"), "x").unwrap();
        let link = std::os::unix::fs::symlink::<PathBuf, PathBuf>;
        link(home.path().join("secret"), stories.join("S-1/story.md")).unwrap();
        link(
            project.path().join("shared.md"),
            stories.join("S-2/story.md"),
        )
        .unwrap();
        fs::create_dir(stories.join("S-3/story.md")).unwrap();
        let board = Board::load(&project.path().join("root")).unwrap();
        assert_eq!(
            board
                .stories
                .iter()
                .map(|story| story.id.as_str())
                .collect::<Vec<_>>(),
            ["S-2"]
        );
        assert!(
            board.problems[0]
                .reason
                .starts_with("it is a link out of the project")
        );
        assert_eq!(board.problems[1].reason, "it is not a file");
        let error = Board::load(home.path()).unwrap_err();
        assert!(matches!(error, StoreError::NotInitialised { .. }));
    }

    #[test]
    fn a_plan_beside_the_story_names_files_and_a_plan_that_cannot_be_read_none() {
        let plan = "## Implementation Tasks\n- [ ] **T1**: x\n  - Files: `a.rs`, b.rs (new)\n";
        let names = ["S-1", "S-2", "S-3", "S-4", "S-5", "S-6"];
        let (project, board) = board(&names.map(|name| (name, "x")));
        assert!(
            board
                .stories
                .iter()
                .all(|story| story.planned_files.is_empty())
        );
        let root = project.path().join("ünder score/.ai-sdlc");
        let place = |name: &str| root.join("stories").join(name).join(PLAN_FILE);
        fs::write(place("S-1"), plan).unwrap();
        let large = plan.len() as u64 + MAX_PLAN_LEN;
        fs::write(place("S-2"), format!("{plan}{}", "x".repeat(1024 * 1024))).unwrap();
        assert_eq!(fs::metadata(place("S-2")).unwrap().len(), large);
        fs::write(place("S-3"), [plan.as_bytes(), &[0xff]].concat()).unwrap();
        fs::create_dir(place("S-4")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("plan"), plan).unwrap();
        std::os::unix::fs::symlink(outside.path().join("plan"), place("S-5")).unwrap();
        std::os::unix::fs::symlink("nowhere", place("S-6")).unwrap();
        let board = Board::load(&root).unwrap();
        assert_eq!(board.problems, []);
        for story in &board.stories {
            let expected: &[&str] = match story.id.as_str() {
                "S-1" => &["a.rs", "b.rs"],
                _ => &[],
            };
            assert_eq!(story.planned_files, expected, "{}", story.id);
        }
    }

    #[test]
    fn stories_are_ordered_by_priority_then_age_then_number() {
        let (_project, board) = board(&[
            ("S-10", "---\npriority: 10\n---\n"),
            ("S-9", "---\npriority: 10\n---\n"),
            ("S-8", "---\npriority: 10\ncreated: '2026-01-02'\n---\n"),
            ("S-7", "---\npriority: 10\ncreated: 2026-01-01\n---\n"),
            ("S-6", "---\npriority: 9.5\n---\n"),
            ("S-1", "x"),
        ]);
        let ids: Vec<_> = board
            .stories
            .iter()
            .map(|story| story.id.as_str())
            .collect();
        assert_eq!(ids, ["S-6", "S-7", "S-8", "S-9", "S-10", "S-1"]);
    }
}
