//! A hermetic place for one test: a scratch repository, a cleared environment, and the proof at the end that no
//! process and no file was left behind.

mod fifo;
pub(crate) mod groups;
mod output;
mod processes;
mod replays;
mod running;
mod story;
mod template;

pub(crate) use fifo::{Gates, HOLD, pipe};
pub(crate) use output::Output;
pub(crate) use processes::{await_none, executor_of, executors, living, runs};
pub(crate) use running::Running;
pub(crate) use story::StoryFile;

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take that a test waits for. Generous, because it is only reached when something is wrong.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long processes that are just ending may still be seen after a test.
const LEAVING: Duration = Duration::from_secs(10);

/// The variable by which the processes of a test are recognised. Agents get it as well: its name begins as ours do.
const MARK: &str = "AI_SDLC_TEST_MARK";

/// A scratch repository with everything around it. Dropping it checks that nothing is left behind.
pub(crate) struct TestEnv {
    base: TempDir,
    repository: PathBuf,
    mark: String,
    ends: Cell<replays::Ends>,
}

impl TestEnv {
    /// A repository with one commit on the branch `trunk` and an empty board.
    pub(crate) fn new() -> Self {
        let env = Self::without_repository();
        template::copy(template::repository(), &env.repository).unwrap();
        env
    }

    /// A repository with one commit on that branch and an empty board.
    pub(crate) fn on_branch(branch: &str) -> Self {
        let env = Self::without_board(branch);
        let initialised = env.ai_sdlc(&["init"]).run();
        assert_eq!(initialised.code, Some(0), "{}", initialised.stderr);
        env.git(&["add", "--all"]);
        env.git(&["commit", "--quiet", "--message", "board"]);
        env
    }

    /// A repository with one commit on that branch and no board.
    pub(crate) fn without_board(branch: &str) -> Self {
        let env = Self::without_commit(branch);
        env.write("README.md", "# Scratch\n");
        env.git(&["add", "--all"]);
        env.git(&["commit", "--quiet", "--message", "first"]);
        env
    }

    /// A repository without a commit.
    pub(crate) fn without_commit(branch: &str) -> Self {
        let env = Self::without_repository();
        env.git(&["init", "--quiet", "--initial-branch", branch]);
        env.git(&["config", "user.name", "Tester"]);
        env.git(&["config", "user.email", "tester@example.org"]);
        env
    }

    /// An empty directory.
    pub(crate) fn without_repository() -> Self {
        static TESTS: AtomicU32 = AtomicU32::new(0);
        // The name is short: the paths of sockets below it may have 103 bytes.
        let base = tempfile::Builder::new()
            .prefix("ai")
            .tempdir_in("/tmp")
            .unwrap();
        let repository = base.path().join("my répo");
        for folder in ["home", "tmp", "run", "config", "my répo"] {
            fs::create_dir(base.path().join(folder)).unwrap();
        }
        fs::set_permissions(base.path().join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        Self {
            base,
            repository,
            mark: format!("test-{}-{number}.", std::process::id()),
            ends: Cell::new(replays::Ends::ByThemselves),
        }
    }

    /// Some runs of this test are killed, so that their journals do not say how they ended.
    pub(crate) fn kills_runs(&self) {
        self.ends.set(replays::Ends::Killed);
    }

    /// The directory that holds everything of this test.
    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// A path in the repository.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.repository.join(name)
    }

    /// Writes a file of the repository.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Lets no attempt be followed by another one.
    pub(crate) fn without_retries(&self) {
        self.write(".ai-sdlc.json", "{\"attempts\": {\"most\": 1}}");
    }

    /// Makes a file of the repository a program.
    pub(crate) fn make_executable(&self, name: &str) {
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path(name), executable).unwrap();
    }

    /// Reads a file of the repository.
    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A new story, ready for the script agent. It is there once it is written.
    pub(crate) fn story(&self, id: &str) -> StoryFile<'_> {
        StoryFile::new(self, id)
    }

    /// Commits everything, so that later changes can be told from it.
    pub(crate) fn commit_all(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "stories"]);
    }

    /// A call of the program in the root of the repository.
    pub(crate) fn ai_sdlc(&self, arguments: &[&str]) -> Call {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ai-sdlc"));
        command.args(arguments).current_dir(&self.repository);
        self.hermetic(&mut command);
        Call { command }
    }

    /// Runs git in the root of the repository and gives its standard output.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.repository, arguments)
    }

    /// Runs git in a directory and gives its standard output.
    pub(crate) fn git_in(&self, directory: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(directory);
        self.hermetic(&mut command);
        let output = Call { command }.run();
        assert_eq!(output.code, Some(0), "git {arguments:?}: {}", output.stderr);
        output.stdout
    }

    fn hermetic(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| (OsString::from("PATH"), path)))
            .env("HOME", self.base().join("home"))
            .env("XDG_CONFIG_HOME", self.base().join("config"))
            .env("XDG_RUNTIME_DIR", self.base().join("run"))
            .env("TMPDIR", self.base().join("tmp"))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            // The commits of the test itself are the same every time.
            .env("GIT_AUTHOR_DATE", "2026-01-15T12:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-01-15T12:00:00Z")
            .env("AI_SDLC_TEST_DIR", self.base())
            .env(MARK, &self.mark)
            .stdin(Stdio::null());
    }

    /// The text of a story's file.
    pub(crate) fn story_text(&self, id: &str) -> String {
        self.read(&format!(".ai-sdlc/stories/{id}/story.md"))
    }

    /// A value of a story's front matter, as it is written.
    pub(crate) fn field(&self, id: &str, key: &str) -> Option<String> {
        let text = self.story_text(id);
        let prefix = format!("{key}: ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map(str::to_owned)
    }

    /// What the board says of a story.
    pub(crate) fn status(&self, id: &str) -> String {
        self.field(id, "status").unwrap_or_default()
    }

    /// Waits until the board says that of a story.
    pub(crate) fn await_status(&self, id: &str, status: &str) {
        let began = Instant::now();
        while self.status(id) != status {
            assert!(began.elapsed() < DEADLINE, "{id} does not become {status}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The branches of stories.
    pub(crate) fn branches(&self) -> Vec<String> {
        let listed = self.git(&[
            "for-each-ref",
            "--format=%(refname:short)",
            "refs/heads/ai-sdlc",
        ]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The subjects of the commits that a branch has beyond the one that is checked out, the newest first.
    pub(crate) fn commits(&self, branch: &str) -> Vec<String> {
        let range = format!("HEAD..{branch}");
        let listed = self.git(&["log", "--format=%s", &range]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The files that a branch changes.
    pub(crate) fn changed_files(&self, branch: &str) -> Vec<String> {
        let range = format!("HEAD...{branch}");
        let listed = self.git(&["diff", "--name-only", &range]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The names of the worktrees that git knows besides the main checkout.
    pub(crate) fn worktrees(&self) -> Vec<String> {
        let listed = self.git(&["worktree", "list", "--porcelain"]);
        let paths = listed
            .lines()
            .filter_map(|line| line.strip_prefix("worktree "));
        paths
            .skip(1)
            .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned())
            .collect()
    }

    /// The names in the directory of worktrees.
    pub(crate) fn worktree_directories(&self) -> Vec<String> {
        names_in(&self.path(".ai-sdlc/worktrees"))
    }

    fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for run in names_in(&self.base().join("run/ai-sdlc")) {
            left.push(format!("the socket directory {run}"));
        }
        for name in names_in(&self.base().join("tmp")) {
            // A demonstration stays, and an empty place for sockets does no harm.
            let place = self.base().join("tmp").join(&name);
            if !name.starts_with("ai-sdlc-demo-") && !names_in(&place).is_empty() {
                left.push(format!("{name} in the temporary directory"));
            }
        }
        for name in self.worktree_directories() {
            if name.starts_with(".trash-") {
                left.push(format!("the removed worktree {name}"));
            }
        }
        let board = self.path(".ai-sdlc");
        let stories = names_in(&board.join("stories"));
        let folders = stories
            .iter()
            .map(|story| board.join("stories").join(story))
            .chain([board.clone(), board.join("stories")]);
        for folder in folders {
            for name in names_in(&folder) {
                let path = folder.join(&name);
                let ending = path.extension().and_then(OsStr::to_str);
                if ending == Some("tmp") || (ending == Some("lock") && path.is_dir()) {
                    left.push(format!("{} on the board", path.display()));
                }
            }
        }
        left
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        let alive = await_none(&self.mark, LEAVING);
        for process in &alive {
            process.kill();
        }
        let groups = groups::noted(&self.path(".ai-sdlc/runs"));
        for group in &groups {
            groups::clear(group);
        }
        if std::thread::panicking() {
            return;
        }
        let killed = self.ends.get() == replays::Ends::Killed;
        assert!(
            killed || groups.is_empty(),
            "groups were left behind: {groups:?}"
        );
        assert!(alive.is_empty(), "processes were left behind: {alive:#?}");
        let left = self.leftovers();
        assert!(left.is_empty(), "files were left behind: {left:#?}");
        let faults = replays::faults(self.base(), self.ends.get());
        assert!(
            faults.is_empty(),
            "runs cannot be played again: {faults:#?}"
        );
    }
}

/// A call of a program that is about to be made.
pub(crate) struct Call {
    command: Command,
}

impl Call {
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Has a shell call the program instead: `$0` in the script.
    pub(crate) fn shell(mut self, script: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(self.command.get_program());
        shell.env_clear().stdin(Stdio::null());
        for (name, value) in self.command.get_envs() {
            shell.envs(value.map(|value| (name, value)));
        }
        shell.current_dir(self.command.get_current_dir().unwrap_or(Path::new("/")));
        self.command = shell;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Output {
        self.start().wait()
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        Running::start(self.command)
    }
}

/// The names in a directory, in order; none when it does not exist.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Says what is not tried, and why, past the capture of the test's output.
pub(crate) fn not_tried(why: &str, what: &str) {
    let line = format!("not tried, since {why}: {what}\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Whether a shell in a namespace of its own may mount file systems (`unshare -rm`). Where it may not, that is said.
pub(crate) fn can_mount(what: &str) -> bool {
    let tried = Command::new("unshare").args(["-rm", "true"]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        not_tried("`unshare -rm` is refused here", what);
    }
    can
}

/// Whether agents can be held by a fence. Where they cannot, it is said what is not tried, past the capture of the test's
/// output.
pub(crate) fn can_fence(what: &str) -> bool {
    let can = ai_sdlc::process::can_fence();
    if let Err(reason) = can {
        not_tried(reason, what);
    }
    can.is_ok()
}
