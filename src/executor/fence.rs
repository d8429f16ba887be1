//! Where an agent may write: its worktree, what a commit there needs of the repository, temporary files, devices, what it
//! and its tools keep for themselves, and what the user allows. Everything else is held by a [`WriteFence`].
//!
//! What the orchestrator calls closed (the main checkout, the repository, the board, the other worktrees) is never
//! opened by a place that holds it: a folder for temporary files that does is replaced by one of the agent's own.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::caches::CACHES;
use crate::agent::Place;
use crate::git;
use crate::process::{Allowed, Extent, WriteFence, can_fence};
use crate::protocol::FenceSetup;

/// Where temporary files are put, whatever `TMPDIR` says.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Devices that everybody may write to, terminals, and those that compute.
const DEVICES: [&str; 11] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/dri",
    "/dev/kfd",
    "/dev/kvm",
];

/// What the names of devices begin with that compute.
const COMPUTING: &str = "nvidia";

/// The variables of an agent.
type Variables = Vec<(OsString, OsString)>;

/// An agent that is to be held by the fence.
pub(super) struct Held<'a> {
    /// What the orchestrator says of the fence.
    pub(super) setup: &'a FenceSetup,
    /// Where it works.
    pub(super) worktree: &'a Path,
    /// Where its output goes.
    pub(super) attempt_folder: &'a Path,
    /// What it keeps for itself.
    pub(super) state: &'a [Place],
}

/// The fence for one turn of an agent.
#[derive(Debug)]
pub(super) struct Enclosure {
    fence: WriteFence,
    /// The agent's own folder for temporary files; gone with this.
    temporary: Option<TempDir>,
}

impl Enclosure {
    /// The fence for an agent with these variables, which then also say where its temporary files go. None where there
    /// can be no fence. Makes folders that are missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn around(held: &Held<'_>, variables: &mut Variables) -> io::Result<Option<Self>> {
        if can_fence().is_err() {
            return Ok(None);
        }
        let mut yard = Yard::new(held.setup);
        let temporary = yard.temporary_files(variables)?;
        yard.open(held.worktree);
        let common_dir = Path::new(&held.setup.common_dir);
        for place in git::written_by_commits(common_dir, held.worktree) {
            yard.open(&place);
        }
        for place in &held.setup.open {
            yard.open(Path::new(place));
        }
        for place in held.state {
            yard.keep(place, true, variables);
        }
        for cache in CACHES {
            let in_use = cache.tool.is_none_or(|tool| is_there(tool, variables));
            for place in cache.places {
                yard.keep(place, in_use, variables);
            }
        }
        yard.devices();
        // `/dev/stdout` is a file in there, when it is opened once more.
        yard.allow(held.attempt_folder, Extent::Existing);
        let fence = WriteFence::around(&yard.allowed)?;
        Ok(fence.map(|fence| Self { fence, temporary }))
    }

    /// Has the program of a command begin inside of the fence. What is given back has to be kept until it has ended.
    pub(super) fn enclose(self, command: &mut Command) -> Option<TempDir> {
        self.fence.enclose(command);
        self.temporary
    }
}

/// The places inside of a fence, as they are found.
struct Yard<'a> {
    closed: &'a [String],
    allowed: Vec<Allowed>,
    /// The folders of them by the names under which they were asked for.
    named: Vec<PathBuf>,
}

impl<'a> Yard<'a> {
    fn new(setup: &'a FenceSetup) -> Self {
        Self {
            closed: &setup.closed,
            allowed: Vec::new(),
            named: Vec::new(),
        }
    }

    /// Opens a folder, or a file, with all that is in it.
    fn open(&mut self, path: &Path) {
        self.allow(path, Extent::Everything);
    }

    fn allow(&mut self, path: &Path, extent: Extent) {
        // What is below an open folder may have been made by an agent: a link there must not open another place.
        if self.named.iter().any(|open| path.starts_with(open)) {
            return;
        }
        let Ok(resolved) = path.canonicalize() else {
            return;
        };
        if self.holds_closed(&resolved) {
            tracing::info!(path = %path.display(), "stays closed: it holds the main checkout or the board");
            return;
        }
        if extent == Extent::Everything {
            self.named.extend([path.to_owned(), resolved.clone()]);
        }
        self.allowed.push(Allowed {
            path: resolved,
            extent,
        });
    }

    /// Whether a folder holds anything that is closed, or is that.
    fn holds_closed(&self, resolved: &Path) -> bool {
        let mut closed = self.closed.iter();
        closed.any(|closed| Path::new(closed).starts_with(resolved))
    }

    /// Opens a place of a program. A folder is made where it is missing, for a program that is there.
    fn keep(&mut self, place: &Place, in_use: bool, variables: &Variables) {
        let Some(path) = place.path(variables) else {
            return;
        };
        if !place.is_folder() {
            return self.allow(&path, Extent::Existing);
        }
        if in_use && !path.exists() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            if let Err(error) = made {
                tracing::debug!(%error, path = %path.display(), "not made");
            }
        }
        self.open(&path);
    }

    /// Opens the folders for temporary files. When the one that the agent would use has to stay closed, it gets one of
    /// its own.
    fn temporary_files(&mut self, variables: &mut Variables) -> io::Result<Option<TempDir>> {
        const TMPDIR: &str = "TMPDIR";
        for path in TEMPORARY {
            self.open(Path::new(path));
        }
        let mut set = variables.iter().rev();
        let usual = set.find(|(name, value)| name == TMPDIR && !value.is_empty());
        let usual = usual.map_or(Path::new(TEMPORARY[0]), |(_, value)| Path::new(value));
        self.open(usual);
        if !usual
            .canonicalize()
            .is_ok_and(|usual| self.holds_closed(&usual))
        {
            return Ok(None);
        }
        let own = tempfile::Builder::new().prefix("ai-sdlc-").tempdir()?;
        self.open(own.path());
        variables.push((TMPDIR.into(), own.path().into()));
        Ok(Some(own))
    }

    fn devices(&mut self) {
        let computing = std::fs::read_dir("/dev").into_iter().flatten().flatten();
        let computing = computing.filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().starts_with(COMPUTING.as_bytes())
        });
        let devices = DEVICES.iter().map(PathBuf::from);
        for device in devices.chain(computing.map(|entry| entry.path())) {
            self.allow(&device, Extent::Existing);
        }
        // A browser that makes a sandbox of its own writes there. The kernel itself sees to it that nobody changes the
        // system or other people's processes there, but for root.
        if !rustix::process::geteuid().is_root() {
            self.allow(Path::new("/proc"), Extent::Existing);
        }
    }
}

/// Whether a program is on the agent's `PATH`.
fn is_there(program: &str, variables: &Variables) -> bool {
    let mut set = variables.iter().rev();
    let path = set.find(|(name, _)| name == OsStr::new("PATH"));
    path.is_some_and(|(_, path)| {
        std::env::split_paths(path).any(|folder| folder.join(program).is_file())
    })
}
