//! A scratch repository for one test, copied from a template, with a mark that all its processes carry.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::fake_agent::{CALM, END};
use crate::lines::{Gate, LastOne, Lines};
use crate::mode::Mode;
use crate::processes::{Gone, Process, Scope, allocated};
use crate::program::{End, Program};

/// How long anything may take that is waited for. Only reached when something is wrong.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long the agents of these runs get to end.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// What the marks of this program begin with; a number and a point follow.
pub(crate) fn family() -> String {
    format!("chaos-{}-", std::process::id())
}

/// A repository with a board. Dropping it ends what still carries its mark.
pub(crate) struct Scratch {
    base: PathBuf,
    mark: String,
    ready: Lines,
    gates: HashMap<String, Gate>,
    last_ones: Vec<LastOne>,
    /// What came from agents and was not asked for yet.
    heard: Vec<String>,
}

impl Scratch {
    /// A copy of the template. The configuration is merged over one in which a story is tried once and gets little
    /// grace.
    pub(crate) fn new(configuration: &serde_json::Value) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = root().join(number.to_string());
        fs::create_dir(&base).expect("folders can be made");
        copy(template(), &base).expect("the template can be copied");
        let ready = Lines::at(&base.join("ready"));
        let scratch = Self {
            base,
            mark: format!("{}{number}.", family()),
            ready,
            gates: HashMap::new(),
            last_ones: Vec::new(),
            heard: Vec::new(),
        };
        let mut merged = json!({
            "attempts": {"most": 1},
            "process": {"graceMs": u64::try_from(GRACE.as_millis()).expect("is short")},
            // Should this program be killed, its runs end soon.
            "limits": {"story": {"minutes": 2}},
        });
        merge(&mut merged, configuration);
        scratch.write(".ai-sdlc.json", &merged.to_string());
        scratch
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// A path in the repository.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base().join("r").join(name)
    }

    pub(crate) fn worktree(&self, story: &str) -> PathBuf {
        self.path(&format!(".ai-sdlc/worktrees/{story}-work"))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("is in the repository"))
            .expect("folders can be made");
        fs::write(path, text).expect("files can be written");
    }

    /// A story that is worked on by a fake agent.
    pub(crate) fn story(&mut self, id: &str, mode: Mode) {
        self.gated_story(id, &mode.name(), mode.amount());
        if mode.is_fleeting() {
            let pipe = self.base().join(format!("alive-{}{id}.", self.mark));
            self.last_ones.push(LastOne::at(&pipe));
        }
    }

    /// A story that is worked on by a fake agent that comes to a gate.
    pub(crate) fn gated_story(&mut self, id: &str, mode: &str, amount: u64) {
        self.agent_story(id, mode, amount);
        let gate = Gate::at(&self.base().join(format!("go-{}{id}.", self.mark)));
        self.gates.insert(id.to_owned(), gate);
    }

    /// A story that is worked on by a fake agent that no gate holds.
    pub(crate) fn agent_story(&self, id: &str, mode: &str, amount: u64) {
        let own = std::env::current_exe().expect("there is a program");
        let script = format!(
            "exec '{}' agent {mode} '{}{id}.' '{}' {amount}",
            own.display(),
            self.mark,
            self.base().display()
        );
        self.script_story(id, &script);
    }

    /// A story with a script.
    pub(crate) fn script_story(&self, id: &str, script: &str) {
        self.any_story(id, "ready", script);
    }

    /// A story with a script and a status.
    pub(crate) fn any_story(&self, id: &str, status: &str, script: &str) {
        let text = format!(
            "---\nid: {id}\ntitle: Do {id}\nslug: work\nstatus: {status}\nagent: script\n---\n\n```sh\n{script}\n```\n"
        );
        self.write(&format!(".ai-sdlc/stories/{id}/story.md"), &text);
    }

    /// Lets the agent of a story come to its end.
    pub(crate) fn let_go(&self, id: &str) {
        self.gates[id].open();
    }

    /// A call of the program.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ai-sdlc"));
        command.args(arguments);
        self.make_hermetic(&mut command);
        command
    }

    pub(crate) fn make_hermetic(&self, command: &mut Command) {
        hermetic(command, self.base());
        command
            .env("AI_SDLC_TEST_DIR", self.base())
            .env("AI_SDLC_TEST_MARK", &self.mark);
    }

    /// Starts the program.
    pub(crate) fn start(&self, arguments: &[&str]) -> Program {
        Program::start(self.command(arguments), &self.base().join("errors"))
    }

    /// Calls the program and waits for its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> (End, String) {
        let errors = self.base().join("errors-of-call");
        let end = Program::start(self.command(arguments), &errors).end(DEADLINE);
        (end, fs::read_to_string(errors).unwrap_or_default())
    }

    /// Waits until so many processes of a story's agent have said that they are there; gives the first one's root.
    pub(crate) fn await_ready(&mut self, id: &str, voices: usize) -> Result<Process, String> {
        let own = format!("{}{id}.", self.mark);
        let mut heard = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        while heard.len() < voices {
            let line = match self.heard.iter().position(|line| line.starts_with(&own)) {
                Some(place) => self.heard.remove(place),
                None => self.ready.next(deadline).ok_or_else(|| {
                    format!("of {voices} processes of {id} only these came: {heard:?}")
                })?,
            };
            if line.starts_with(&own) {
                heard.push(line);
            } else {
                self.heard.push(line);
            }
        }
        let root = heard
            .iter()
            .find_map(|line| line.split_once(" root ")?.1.parse().ok());
        root.and_then(Process::hold)
            .ok_or_else(|| format!("the agent of {id} is gone: {heard:?}"))
    }

    /// The next line that any agent says, if one comes in time.
    pub(crate) fn hear(&mut self, deadline: Instant) -> Option<String> {
        self.ready.next(deadline)
    }

    /// Whatever agent is started from now on ends at once, with success.
    pub(crate) fn calm(&self) {
        fs::write(self.base().join(CALM), "").expect("files can be written");
    }

    /// Waits until nothing of this test is left.
    pub(crate) fn await_none(&self, since: Instant, patience: Duration) -> Gone {
        self.await_scope(Scope::Marked(&self.mark), since, patience)
    }

    /// Waits until nothing of one story is left.
    pub(crate) fn await_story(&self, id: &str, since: Instant, patience: Duration) -> Gone {
        self.await_scope(Scope::Story(&self.mark, id), since, patience)
    }

    fn await_scope(&self, scope: Scope<'_>, since: Instant, patience: Duration) -> Gone {
        let deadline = since + patience;
        let mut gone = scope.await_none(since, patience);
        for last in &self.last_ones {
            if last.is_gone_by(Instant::now()) {
                continue;
            }
            if !last.is_gone_by(deadline) {
                gone.left
                    .push("a runner that is too fast to be seen".to_owned());
            }
            gone.after = since.elapsed();
        }
        gone
    }

    /// Runs git in the repository and gives what it says; none when it fails.
    pub(crate) fn git(&self, arguments: &[&str]) -> Option<String> {
        git(self.base(), arguments)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Runners see this.
        drop(fs::write(self.base.join(END), ""));
        Scope::Marked(&self.mark).kill_all();
        self.remove_groups();
        // Some filesystems make new files slowly for a while after others were deleted, so that is done later; but not
        // with a gibibyte of log.
        if allocated(&self.base) > LARGE {
            drop(fs::remove_dir_all(self.base.join("r/.ai-sdlc/runs")));
        }
        let mut used = USED.lock().expect("nobody panics with it");
        used.push_back(std::mem::take(&mut self.base));
        if used.len() > MOST_USED {
            drop(used.pop_front().map(fs::remove_dir_all));
        }
    }
}

impl Scratch {
    /// Removes the groups of processes of runs that were killed and that nobody came after.
    fn remove_groups(&self) {
        let Ok(runs) = fs::read_dir(self.base.join("r/.ai-sdlc/runs")) else {
            return;
        };
        let notes = runs.filter_map(Result::ok);
        for note in notes.filter_map(|run| fs::read_to_string(run.path().join("cgroup")).ok()) {
            let group = Path::new(note.trim());
            if !group.is_dir() || !group.is_absolute() {
                continue;
            }
            drop(fs::write(group.join("cgroup.kill"), "1"));
            let began = Instant::now();
            while group.exists() && began.elapsed() < DEADLINE {
                for leaf in fs::read_dir(group).into_iter().flatten().flatten() {
                    drop(fs::remove_dir(leaf.path()));
                }
                if fs::remove_dir(group).is_err() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

/// Folders of tests that are over.
static USED: Mutex<VecDeque<PathBuf>> = Mutex::new(VecDeque::new());

/// How many of them are kept until the end.
const MOST_USED: usize = 1000;

/// What a folder may hold that is kept, in bytes.
const LARGE: u64 = 16 << 20;

/// Lays one configuration over another one.
fn merge(under: &mut serde_json::Value, over: &serde_json::Value) {
    match (under, over) {
        (serde_json::Value::Object(under), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                merge(
                    under.entry(key.clone()).or_insert(serde_json::Value::Null),
                    value,
                );
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// What holds everything of this program. Its name is short: the paths of sockets below it may have 103 bytes.
fn root() -> &'static Path {
    static ROOT: OnceLock<TempDir> = OnceLock::new();
    let made = || {
        let asked_for = std::env::var_os("AI_SDLC_CHAOS_FOLDER").map(PathBuf::from);
        // Hundreds of repositories are made and removed: in memory where there is a place for that.
        let in_memory = Some(PathBuf::from("/dev/shm")).filter(|place| place.is_dir());
        let place = asked_for.or(in_memory).unwrap_or_else(|| "/tmp".into());
        let made = tempfile::Builder::new().prefix("ch").tempdir_in(place);
        made.expect("folders can be made")
    };
    ROOT.get_or_init(made).path()
}

/// Removes all that this program has made. Statics are not dropped.
pub(crate) fn remove_all() {
    drop(fs::remove_dir_all(root()));
}

fn hermetic(command: &mut Command, base: &Path) {
    command
        .current_dir(base.join("r"))
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| (OsString::from("PATH"), path)))
        .env("HOME", base.join("home"))
        .env("XDG_CONFIG_HOME", base.join("home"))
        .env("XDG_RUNTIME_DIR", base.join("run"))
        .env("TMPDIR", base.join("tmp"))
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null());
}

fn git(base: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.args(arguments);
    hermetic(&mut command, base);
    let output = command.output().expect("there is git");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// A repository with one commit and an empty board, made once.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let base = root().join("template");
        let base = base.as_path();
        fs::create_dir(base).expect("folders can be made");
        for name in ["home", "tmp", "run", "r"] {
            fs::create_dir(base.join(name)).expect("folders can be made");
        }
        fs::set_permissions(base.join("run"), fs::Permissions::from_mode(0o700)).expect("is ours");
        let git = |arguments: &[&str]| git(base, arguments).expect("git works");
        git(&[
            "init",
            "--quiet",
            "--template=",
            "--initial-branch",
            "trunk",
        ]);
        git(&["config", "user.name", "Tester"]);
        git(&["config", "user.email", "tester@example.org"]);
        // Nothing here has to survive the machine.
        git(&["config", "core.fsync", "none"]);
        fs::write(base.join("r/README.md"), "# Scratch\n").expect("files can be written");
        let mut init = Command::new(env!("CARGO_BIN_EXE_ai-sdlc"));
        hermetic(init.arg("init"), base);
        assert!(
            init.output()
                .expect("the program is there")
                .status
                .success(),
            "no board"
        );
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message", "first"]);
        base.to_owned()
    })
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
