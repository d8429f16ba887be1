//! Runs the `git` program: with a clean environment, a deadline and bounded output, in a process group of its own.
//!
//! Output goes to unlinked temporary files and not to pipes, because a process that a hook left in the background
//! would hold a pipe open and hang the reader. What git leaves running in the background after a normal end is not
//! touched here.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::process::Command;

use super::ending::{ENDING_DEADLINE, Running};
use super::lock::AdminGuard;
use crate::process::{self, Allowed, WriteFence};

/// How long one call may take unless it says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

/// The oldest git that can do what is asked of it (`git merge-tree --write-tree`).
pub const MINIMUM_VERSION: (u32, u32) = (2, 38);

/// The most that is read back of each output stream, in bytes: the start of stdout, unless a call wants more of it, and
/// the end of stderr.
const MAX_CAPTURE: u64 = 256 * 1024;

/// The most of stderr that an error carries, in bytes.
const MAX_TAIL: usize = 2 * 1024;

/// Where output is kept when the directory for temporary files cannot be used.
const FALLBACK_DIR: &str = "/tmp";

/// `GIT_*` variables that configure git as a whole. All others name one repository, index or call, and leak from a
/// hook or an alias that started us.
const KEPT_VARIABLES: &[&str] = &[
    "GIT_ASKPASS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_TEMPLATE_DIR",
];
const KEPT_PREFIXES: &[&str] = &["GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_SSL_"];

/// Why a call of git gave no result.
#[derive(Debug, Error)]
pub enum GitError {
    /// There is no git.
    #[error("git is not installed, or not on PATH")]
    GitMissing,
    /// The git on PATH is older than [`MINIMUM_VERSION`].
    #[error("git {found} is too old: {}.{} or newer is needed", MINIMUM_VERSION.0, MINIMUM_VERSION.1)]
    TooOld {
        /// What `git --version` says.
        found: String,
    },
    /// There is no place for what git prints or is given.
    #[error(
        "a temporary file for the output of git cannot be made in {} (set TMPDIR to a directory that can be written)",
        dir.display()
    )]
    NoTemporaryFile {
        /// The directory for temporary files.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process could not be started, or its output not be read.
    #[error("failed to run `{command}` in {}", dir.display())]
    Start {
        /// The command line.
        command: String,
        /// Where it was to run.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Git ended with a status that means failure.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// Git did not end in time and was ended with everything in its process group.
    #[error("`{command}` in {} did not end within {} s and was killed{}", dir.display(), after.as_secs(), detail(stderr))]
    TimedOut {
        /// The command line.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// The deadline.
        after: Duration,
        /// The last lines of its stderr, at most 2 KiB.
        stderr: String,
    },
}

/// A call of git that ended with a failure.
#[derive(Debug, Error)]
#[error("`{command}` in {} ended with {status}{}", dir.display(), detail(stderr))]
pub struct Failure {
    /// The command line.
    pub command: String,
    /// Where it ran.
    pub dir: PathBuf,
    /// How it ended.
    pub status: ExitStatus,
    /// The last lines of its stderr, at most 2 KiB.
    pub stderr: String,
}

fn detail(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(": {stderr}")
    }
}

/// What a call of git printed.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code: 0, or another one that the call accepts.
    pub code: i32,
    /// The first 256 KiB of stdout, or as much as the call wanted.
    pub stdout: Vec<u8>,
    /// Whether there was more of stdout.
    pub truncated: bool,
    /// The last 256 KiB of stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The last lines of stderr, at most `limit` bytes, without white space around them.
    pub fn stderr_tail(&self, limit: usize) -> String {
        tail(&self.stderr, limit)
    }
}

/// The git program. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git {
    program: Arc<Path>,
    variables: Arc<[(OsString, OsString)]>,
}

impl Git {
    /// Finds git on `PATH` and checks its version (one process).
    ///
    /// # Errors
    /// When there is none, it does not run, or it is older than [`MINIMUM_VERSION`].
    pub async fn new() -> Result<Self, GitError> {
        let git = Self::find()?;
        let output = git.call(Path::new("/")).arg("--version").run().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        check_version(&text)?;
        Ok(git)
    }

    /// Finds git on `PATH` and trusts its version: for a process whose parent has checked it.
    ///
    /// # Errors
    /// When there is none.
    pub fn find() -> Result<Self, GitError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find_program(&path).ok_or(GitError::GitMissing)?;
        Ok(Self {
            program: program.into(),
            variables: Arc::from([]),
        })
    }

    /// The same git with one more environment variable in every call, `GIT_*` included.
    #[must_use]
    pub fn with_variable(self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let mut variables = self.variables.to_vec();
        variables.push((name.into(), value.into()));
        Self {
            variables: variables.into(),
            ..self
        }
    }

    /// Runs git with these arguments in `dir`, with the default deadline.
    ///
    /// # Errors
    /// When it cannot be started, fails or takes too long.
    pub async fn run<I>(&self, dir: &Path, args: I) -> Result<Output, GitError>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.call(dir).args(args).run().await
    }

    /// A call in `dir`, to be given arguments and run.
    pub fn call(&self, dir: &Path) -> Call<'_> {
        Call {
            git: self,
            dir: dir.to_owned(),
            args: Vec::new(),
            deadline: DEFAULT_DEADLINE,
            read_only: false,
            input: None,
            accepted: &[0],
            capture: MAX_CAPTURE,
            guard: None,
            held_to: None,
        }
    }
}

/// One call of git that is being put together.
#[derive(Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct Call<'git> {
    git: &'git Git,
    dir: PathBuf,
    args: Vec<OsString>,
    deadline: Duration,
    read_only: bool,
    input: Option<Vec<u8>>,
    accepted: &'static [i32],
    capture: u64,
    guard: Option<Arc<AdminGuard>>,
    held_to: Option<Vec<Allowed>>,
}

impl Call<'_> {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the deadline, at which git and its process group are ended.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Says that the call only reads, so that it does not refresh the index under a lock that others wait for.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Gives git this text on stdin, from a file; without it stdin is empty.
    pub fn input(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// The exit codes that are results and not failures; only 0 unless this says otherwise.
    pub fn accept(mut self, codes: &'static [i32]) -> Self {
        self.accepted = codes;
        self
    }

    /// Reads back so many bytes of stdout; 256 KiB unless this says otherwise.
    pub fn capture(mut self, bytes: u64) -> Self {
        self.capture = bytes;
        self
    }

    /// Keeps the repository's lock until git has ended, also when the future is dropped.
    pub(super) fn under(mut self, guard: &Arc<AdminGuard>) -> Self {
        self.guard = Some(Arc::clone(guard));
        self
    }

    /// Lets git, and what it runs, write nowhere else, where there can be a fence. For a call that goes into repositories
    /// inside of a worktree: git runs there what an agent may have configured.
    pub(super) fn held_to(mut self, places: Vec<Allowed>) -> Self {
        self.held_to = Some(places);
        self
    }

    /// Runs the call. When the future is dropped, git and its process group are asked to terminate, so that git
    /// removes its lock files, and killed after 2 s; [`wait_for_ending`](super::wait_for_ending) waits for that.
    ///
    /// # Errors
    /// When git cannot be started, ends with a code that is not accepted, or takes too long.
    pub async fn run(self) -> Result<Output, GitError> {
        let started = Instant::now();
        let start_error = |source| GitError::Start {
            command: self.command_line(),
            dir: self.dir.clone(),
            source,
        };
        let mut stdout = temporary_file()?;
        let mut stderr = temporary_file()?;
        let stdin = match &self.input {
            None => Stdio::null(),
            Some(text) => {
                let mut file = temporary_file()?;
                file.write_all(text).map_err(start_error)?;
                file.seek(SeekFrom::Start(0)).map_err(start_error)?;
                file.into()
            }
        };
        let mut running = self.spawn(stdin, &stdout, &stderr).map_err(start_error)?;
        let waited = tokio::time::timeout(self.deadline, running.wait()).await;
        let Ok(status) = waited else {
            // The end is certain; only a process that hangs in the kernel takes longer.
            let _gone = tokio::time::timeout(ENDING_DEADLINE, running.end()).await;
            let printed = read_end(&mut stderr).unwrap_or_default();
            return Err(GitError::TimedOut {
                command: self.command_line(),
                dir: self.dir,
                after: self.deadline,
                stderr: tail(&printed, MAX_TAIL),
            });
        };
        let status = status.map_err(start_error)?;
        let stderr = read_end(&mut stderr).map_err(start_error)?;
        tracing::debug!(
            command = %self.command_line(), dir = %self.dir.display(), %status,
            ms = started.elapsed().as_millis(), "git"
        );
        match status.code() {
            Some(code) if self.accepted.contains(&code) => {
                let (stdout, truncated) =
                    read_start(&mut stdout, self.capture).map_err(start_error)?;
                Ok(Output {
                    code,
                    stdout,
                    truncated,
                    stderr,
                })
            }
            _ => Err(GitError::Failed(Box::new(Failure {
                command: self.command_line(),
                dir: self.dir,
                status,
                stderr: tail(&stderr, MAX_TAIL),
            }))),
        }
    }

    fn spawn(&self, stdin: Stdio, stdout: &File, stderr: &File) -> io::Result<Running> {
        let mut command = Command::new(&*self.git.program);
        command
            .args(&self.args)
            .current_dir(&self.dir)
            .env_clear()
            .envs(clean_environment(std::env::vars_os()))
            .envs(self.git.variables.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            // A Ctrl-C at the terminal must not interrupt git half-way, and a signal must reach its hooks.
            .process_group(0);
        if self.read_only {
            command.env("GIT_OPTIONAL_LOCKS", "0");
        }
        if let Some(places) = &self.held_to
            && let Some(fence) = WriteFence::around(places)?
        {
            fence.enclose(command.as_std_mut());
        }
        let child = process::spawn(&mut command)?;
        Ok(Running::new(child, &self.dir, self.guard.clone()))
    }

    fn command_line(&self) -> String {
        const MAX_SHOWN: usize = 500;
        let mut line = "git".to_owned();
        for arg in &self.args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line.chars().take(MAX_SHOWN).collect()
    }
}

/// An unlinked file for what git prints or is given.
fn temporary_file() -> Result<File, GitError> {
    temporary_file_in(&std::env::temp_dir(), Path::new(FALLBACK_DIR))
}

fn temporary_file_in(dir: &Path, fallback: &Path) -> Result<File, GitError> {
    // An empty TMPDIR is a relative directory, too: it would mean another one in every worktree.
    let tried = if dir.is_absolute() {
        tempfile::tempfile_in(dir)
    } else {
        Err(io::Error::other("it is not an absolute path"))
    };
    tried.or_else(|source| {
        tempfile::tempfile_in(fallback).map_err(|_| GitError::NoTemporaryFile {
            dir: dir.to_owned(),
            source,
        })
    })
}

/// The environment of every git: what we inherited, without the variables that tie git to one repository or call.
/// Messages are in English, so that those of a passing trouble are recognised; the character set stays the user's,
/// which hooks and filters may need.
fn clean_environment(
    inherited: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> = inherited.filter(|(name, _)| is_passed_on(name)).collect();
    for (name, value) in [("GIT_TERMINAL_PROMPT", "0"), ("LANGUAGE", "en")] {
        variables.push((name.into(), value.into()));
    }
    variables
}

/// Whether a variable of the environment may be passed on to a program that works in a worktree: all but those `GIT_*`
/// that name one repository, index or call.
pub fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with("GIT_")
        || KEPT_VARIABLES.contains(&&*name)
        || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(*prefix))
}

fn find_program(path: &OsStr) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        // A relative entry would mean another program in every worktree.
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("git"))
        .find(is_program)
}

/// Checks a line such as `git version 2.39.5 (Apple Git-154)`.
fn check_version(line: &str) -> Result<(), GitError> {
    let found = line.trim().trim_start_matches("git version ");
    let mut numbers = found.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= MINIMUM_VERSION => Ok(()),
        _ => Err(GitError::TooOld {
            found: found.chars().take(80).collect(),
        }),
    }
}

fn read_start(file: &mut File, most: u64) -> io::Result<(Vec<u8>, bool)> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((bytes, length > most))
}

fn read_end(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_CAPTURE)))?;
    let mut bytes = Vec::new();
    file.take(MAX_CAPTURE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last whole lines of `bytes` that fit into `limit` bytes; of a longer last line, its end.
fn tail(bytes: &[u8], limit: usize) -> String {
    let bytes = bytes.trim_ascii();
    let Some(cut) = bytes.len().checked_sub(limit).filter(|cut| *cut > 0) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let end = &bytes[cut..];
    let whole = end.iter().position(|byte| *byte == b'\n');
    let start = whole.map_or(0, |newline| newline + 1);
    String::from_utf8_lossy(&end[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal};

    use super::*;
    use crate::git::test_support::Fixture;
    use crate::git::wait_for_ending;

    #[test]
    fn variables_of_another_repository_do_not_reach_git() {
        let inherited = [
            ("PATH", "/bin"),
            ("GIT_DIR", "/elsewhere"),
            ("GIT_INDEX_FILE", "/elsewhere/index"),
            ("GIT_WORK_TREE", "/elsewhere"),
            ("GIT_CONFIG_PARAMETERS", "'x.y=z'"),
            ("GIT_OBJECT_DIRECTORY", "/elsewhere/objects"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_SSH_COMMAND", "ssh -v"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GITHUB_TOKEN", "kept: not git's"),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let kept = clean_environment(inherited.into_iter());
        let names: Vec<_> = kept
            .iter()
            .map(|(name, _)| name.to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "PATH",
                "GIT_AUTHOR_NAME",
                "GIT_SSH_COMMAND",
                "GIT_CONFIG_GLOBAL",
                "GITHUB_TOKEN",
                "GIT_TERMINAL_PROMPT",
                "LANGUAGE"
            ]
        );
    }

    #[test]
    fn an_old_git_is_refused_by_its_version() {
        for good in [
            "git version 2.38.0",
            "git version 2.39.5 (Apple Git-154)",
            "git version 3.0.rc1",
        ] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        let error = check_version("git version 2.37.9\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "git 2.37.9 is too old: 2.38 or newer is needed"
        );
        assert!(check_version("busybox").is_err());
    }

    #[test]
    fn git_is_found_only_in_absolute_entries_of_path() {
        assert!(find_program(OsStr::new("")).is_none());
        assert!(find_program(OsStr::new(".:relative:/nonexistent")).is_none());
    }

    #[test]
    fn the_tail_is_cut_at_a_line() {
        assert_eq!(tail(b"one\ntwo\nthree\n", 100), "one\ntwo\nthree");
        assert_eq!(tail(b"one\ntwo\nthree\n", 7), "three");
        assert_eq!(tail(b"abcdefgh", 3), "fgh");
    }

    #[tokio::test]
    async fn a_failure_names_the_command_the_place_and_the_reason() {
        let fixture = Fixture::new().await;
        let error = fixture
            .git
            .run(&fixture.root, ["cat-file", "-p", "nothing"])
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("git cat-file -p nothing"), "{text}");
        assert!(text.contains(fixture.root.to_str().unwrap()), "{text}");
        assert!(text.contains("exit status: 128"), "{text}");
        assert!(text.contains("Not a valid object name"), "{text}");
    }

    #[tokio::test]
    async fn output_is_bounded_and_input_comes_from_a_file() {
        let fixture = Fixture::new().await;
        let text = vec![b'x'; 300 * 1024];
        let object = fixture
            .git
            .call(&fixture.root)
            .args(["hash-object", "-w", "--stdin"])
            .input(text);
        let id = String::from_utf8(object.run().await.unwrap().stdout).unwrap();
        let shown = fixture
            .git
            .run(&fixture.root, ["cat-file", "blob", id.trim()])
            .await
            .unwrap();
        assert_eq!(shown.stdout.len(), 256 * 1024);
        assert!(shown.truncated);
    }

    #[tokio::test]
    async fn a_call_past_its_deadline_is_killed_with_its_children() {
        let fixture = Fixture::new().await;
        let call = fixture
            .git
            .call(&fixture.root)
            .args([
                "-c",
                "alias.wait=!echo waiting >&2; sleep 600; true",
                "wait",
            ])
            .deadline(Duration::from_millis(300));
        let started = Instant::now();
        let error = call.run().await.unwrap_err();
        assert!(
            matches!(&error, GitError::TimedOut { stderr, .. } if stderr == "waiting"),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(4));
    }

    #[tokio::test]
    async fn a_background_process_of_a_hook_does_not_hang_the_call() {
        let fixture = Fixture::new().await;
        let call =
            fixture
                .git
                .call(&fixture.root)
                .args(["-c", "alias.bg=!sleep 20 & echo $!", "bg"]);
        let started = Instant::now();
        let output = call.run().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(10));
        let pid: i32 = String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_dropped_call_leaves_no_lock_behind() {
        let fixture = Fixture::new().await;
        fixture.sh("echo '*.slow filter=x' > .gitattributes");
        fixture.sh("git config filter.x.clean 'touch .git/reached; sleep 600'");
        fixture.write("a.slow", "");
        let task = {
            let (git, root) = (fixture.git.clone(), fixture.root.clone());
            tokio::spawn(async move { git.run(&root, ["add", "a.slow"]).await })
        };
        while !fixture.root.join(".git/reached").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lock = fixture.root.join(".git/index.lock");
        assert!(lock.exists());
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(wait_for_ending(Duration::from_secs(20)));
        assert!(!lock.exists());
    }

    #[test]
    fn an_unusable_directory_for_temporary_files_is_replaced_or_named() {
        for dir in ["", "relative", "/nonexistent"] {
            assert!(temporary_file_in(Path::new(dir), Path::new(FALLBACK_DIR)).is_ok());
        }
        let missing = Path::new("/nonexistent");
        let error = temporary_file_in(missing, missing).unwrap_err();
        assert!(
            error.to_string().contains("cannot be made in /nonexistent"),
            "{error}"
        );
    }
}
