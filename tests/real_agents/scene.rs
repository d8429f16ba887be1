//! A repository with stories for one program, and runs of it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gate::Gate;
use crate::programs::Program;
use crate::server::Server;

/// How long anything may take that a case waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// The variable by which everything that a scene has started is known.
const MARK: &str = "AI_SDLC_TEST_MARK";

/// A repository, a home and a model.
pub(crate) struct Scene<'a> {
    folder: TempDir,
    program: &'a Program,
    pub(crate) server: Server,
    address: String,
    /// Where a tool says that it is there.
    pub(crate) held: Gate,
    /// Where it waits to be let go.
    pub(crate) go: Gate,
}

impl<'a> Scene<'a> {
    /// A board with so many stories, each with this script for the model; `{N}` in it is the number of the story.
    pub(crate) fn new(program: &'a Program, scenario: &str, stories: u32, script: &Value) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("air")
            .tempdir_in("/tmp")
            .expect("a folder can be made");
        let server = Server::start(folder.path());
        let address = server.address(scenario);
        let gates = folder.path().join("gates");
        fs::create_dir(&gates).expect("a folder can be made");
        let scene = Self {
            held: Gate::new(&gates.join("held")),
            go: Gate::new(&gates.join("go")),
            folder,
            program,
            server,
            address,
        };
        let home = scene.path("home");
        program.furnish(&scene.address, &home);
        fs::create_dir_all(scene.path("repository")).expect("a folder can be made");
        scene.git(&["init", "--quiet", "--initial-branch", "main"]);
        scene.git(&["commit", "--quiet", "--allow-empty", "--message", "first"]);
        // Quick to find what hangs, slow to call a healthy program hung.
        let config = json!({
            "agents": {program.name: program.setup()},
            "fence": {"write": [scene.path("gates")]},
            "attempts": {"most": 2, "backOffMs": 100},
            "health": {"quietMinutes": 0.3, "stalledMinutes": 0.6, "waitingMinutes": 0.9},
        });
        let file = scene.path("repository/.ai-sdlc.json");
        fs::write(file, config.to_string()).expect("a file can be written");
        for number in 1..=stories {
            let folder = scene.path(&format!("repository/.ai-sdlc/stories/S-{number:04}"));
            fs::create_dir_all(&folder).expect("a folder can be made");
            let script = script.to_string().replace("{N}", &number.to_string());
            let text = format!(
                "---\nid: S-{number:04}\ntitle: Story {number}\nslug: work\nstatus: ready\nagent: {}\n---\n\n\
                 Do what is written here. <FAKE>{script}</FAKE>\n",
                program.name
            );
            fs::write(folder.join("story.md"), text).expect("a file can be written");
        }
        scene
    }

    /// Adds a story of an agent without a model.
    pub(crate) fn add_script(&self, id: &str) {
        let folder = self.path(&format!("repository/.ai-sdlc/stories/{id}"));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let text = format!(
            "---\nid: {id}\ntitle: Other\nslug: work\nstatus: ready\nagent: script\n---\n\n```sh\necho other > other.txt\n```\n"
        );
        fs::write(folder.join("story.md"), text).expect("a file can be written");
    }

    /// A path below the scene's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mark(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let home = self.path("home");
        command
            .current_dir(self.path("repository"))
            .env_clear()
            .envs(self.program.variables(&self.address, &home))
            .envs(
                ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"]
                    .into_iter()
                    .map(|name| (name, "Tester")),
            )
            .envs(
                ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]
                    .into_iter()
                    .map(|name| (name, "tester@example.org")),
            )
            .env("AI_SDLC_TEST_DIR", self.path("gates"))
            .env(MARK, self.mark())
            .stdin(Stdio::null());
        command
    }

    /// Runs git in the repository.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git").args(arguments).output();
        let output = output.expect("there is a git");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a run.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.command(env!("CARGO_BIN_EXE_ai-sdlc"));
        let errors = fs::File::create(self.path("errors")).expect("a file can be made");
        let mut child = command
            .args(["run", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the program can be started");
        let stdout = child.stdout.take().expect("is piped");
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if sender.send(event["event"].clone()).is_err() {
                    return;
                }
            }
        });
        Run {
            child,
            events,
            seen: Vec::new(),
            began: Instant::now(),
        }
    }

    /// The names of the processes of this scene that are left after a moment.
    pub(crate) fn survivors(&self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let left = self.living();
            if left.is_empty() || began.elapsed() > Duration::from_secs(10) {
                return left.into_iter().map(|(_, name)| name).collect();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn living(&self) -> Vec<(i32, String)> {
        let mark = format!("{MARK}={}", self.mark());
        let entries = fs::read_dir("/proc").expect("there is a /proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid: i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let has_mark = environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes());
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            has_mark.then(|| (pid, name.trim().to_owned()))
        })
        .collect()
    }

    /// The names of the conversations, in the order in which they were noted.
    pub(crate) fn conversations(&self) -> Vec<String> {
        let runs = self.path("repository/.ai-sdlc/runs");
        let folders = fs::read_dir(runs).expect("there are runs");
        let mut journals: Vec<PathBuf> = folders
            .filter_map(|folder| Some(folder.ok()?.path().join("journal.jsonl")))
            .filter(|journal| journal.is_file())
            .collect();
        journals.sort();
        let lines = journals.iter().flat_map(|journal| {
            fs::read_to_string(journal)
                .expect("it can be read")
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        });
        lines
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .filter_map(|record| find(&record, "conversation").cloned())
            .filter_map(|note| Some(note["name"].as_str()?.to_owned()))
            .collect()
    }
}

fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map
            .get(key)
            .or_else(|| map.values().find_map(|value| find(value, key))),
        _ => None,
    }
}

fn kill(pid: rustix::process::Pid, signal: rustix::process::Signal) {
    // It may have ended by now, and then there is nothing to do.
    let _ended: Result<(), rustix::io::Errno> = rustix::process::kill_process(pid, signal);
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        for (pid, _) in self.living() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                kill(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// A run that goes on.
pub(crate) struct Run {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    began: Instant,
}

/// A run that is over.
pub(crate) struct Over {
    pub(crate) status: ExitStatus,
    pub(crate) events: Vec<Value>,
}

impl Run {
    /// Waits for an event, and says after how long it came.
    pub(crate) fn await_event(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<(Value, Duration), String> {
        loop {
            let left = DEADLINE.saturating_sub(self.began.elapsed());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return Ok((event, self.began.elapsed()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let health = |event: &&Value| event["type"] == "story_health";
                    let last = self.seen.iter().rev().find(health);
                    let last = last.map_or_else(String::new, |event| format!("; last {event}"));
                    return Err(format!("{what}: not in {DEADLINE:?}{last}"));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(format!("{what}: never came")),
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            kill(pid, signal);
        }
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Result<Over, String> {
        loop {
            let left = DEADLINE.saturating_sub(self.began.elapsed());
            match self.events.recv_timeout(left) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.signal(rustix::process::Signal::INT);
                    return Err(format!("the run does not end in {DEADLINE:?}"));
                }
            }
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        Ok(Over {
            status,
            events: std::mem::take(&mut self.seen),
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Over {
    /// The event that a story is through.
    pub(crate) fn settled(&self, story: &str) -> Value {
        let settled = self
            .events
            .iter()
            .rfind(|event| event["type"] == "story_settled" && event["story"] == story);
        settled.cloned().unwrap_or_default()
    }
}
