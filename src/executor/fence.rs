//! Where an agent may write: its worktree, what a commit there needs of the repository, temporary files, devices, what it
//! and its tools keep for themselves, and what the user allows. Everything else is held by a [`WriteFence`].
//!
//! What the orchestrator calls closed (the main checkout, the repository, the board, the other worktrees) is never
//! opened by a place that holds it: a folder for temporary files that does is replaced by one of the agent's own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
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

/// The most symbolic links that a path leads through, as in the kernel.
const MOST_LINKS: usize = 40;

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
        let (places, temporary) = places(held, variables)?;
        let fence = WriteFence::around(&places)?;
        Ok(fence.map(|fence| Self { fence, temporary }))
    }

    /// Has the program of a command begin inside of the fence. What is given back has to be kept until it has ended.
    pub(super) fn enclose(self, command: &mut Command) -> Option<TempDir> {
        self.fence.enclose(command);
        self.temporary
    }
}

/// Where an agent with these variables may write, and its own folder for temporary files, if it needs one: the variables
/// then say so. Makes folders that are missing, where there can be a fence.
///
/// # Errors
/// When there is no place for temporary files.
pub(super) fn places(
    held: &Held<'_>,
    variables: &mut Variables,
) -> io::Result<(Vec<Allowed>, Option<TempDir>)> {
    if can_fence().is_err() {
        return Ok((Vec::new(), None));
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
    Ok((yard.places(), temporary))
}

/// The places inside of a fence, as they are found.
struct Yard<'a> {
    closed: &'a [String],
    found: Vec<Found>,
}

/// A place, and what the path that it was asked for under leads through.
struct Found {
    place: Allowed,
    through: Vec<PathBuf>,
}

impl<'a> Yard<'a> {
    fn new(setup: &'a FenceSetup) -> Self {
        Self {
            closed: &setup.closed,
            found: Vec::new(),
        }
    }

    /// Opens a folder, or a file, with all that is in it.
    fn open(&mut self, path: &Path) {
        self.allow(path, Extent::Everything);
    }

    fn allow(&mut self, asked: &Path, extent: Extent) {
        let Some((path, through)) = resolve(asked) else {
            return;
        };
        if self.holds_closed(&path) {
            tracing::info!(path = %asked.display(), "stays closed: it holds the main checkout or the board");
            return;
        }
        let place = Allowed { path, extent };
        if self.found.iter().all(|found| found.place != place) {
            self.found.push(Found { place, through });
        }
    }

    /// All of them, but for those whose paths lead into an open folder and out of it again: what is in there may have been
    /// made by an agent, and so may the link that leads out.
    fn places(&self) -> Vec<Allowed> {
        let own = self.found.iter().filter(|found| {
            let mut others = self.found.iter().map(|other| &other.place);
            !others.any(|other| {
                other.extent == Extent::Everything
                    && !found.place.path.starts_with(&other.path)
                    && found.through.iter().any(|at| at.starts_with(&other.path))
            })
        });
        own.map(|found| found.place.clone()).collect()
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
        let computing = fs::read_dir("/dev").into_iter().flatten().flatten();
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

/// Where a path leads, and through which places; none when there is nothing.
fn resolve(path: &Path) -> Option<(PathBuf, Vec<PathBuf>)> {
    let parts = |path: &Path| -> Vec<OsString> {
        let parts = path.components().rev();
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut rest = parts(path);
    let (mut at, mut through) = (PathBuf::new(), Vec::new());
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        if !fs::symlink_metadata(&next).ok()?.is_symlink() {
            at = next;
            through.push(at.clone());
        } else if links < MOST_LINKS {
            links += 1;
            rest.extend(parts(&fs::read_link(&next).ok()?));
        } else {
            return None;
        }
    }
    at.is_absolute().then_some((at, through))
}

/// Whether a program is on the agent's `PATH`.
fn is_there(program: &str, variables: &Variables) -> bool {
    let mut set = variables.iter().rev();
    let path = set.find(|(name, _)| name == OsStr::new("PATH"));
    path.is_some_and(|(_, path)| {
        std::env::split_paths(path).any(|folder| folder.join(program).is_file())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The places that are open when these are asked for in this order, by their names below the folder.
    fn opened(root: &Path, asked: &[&str]) -> Vec<String> {
        let setup = FenceSetup {
            common_dir: String::new(),
            closed: vec![root.join("main").display().to_string()],
            open: Vec::new(),
        };
        let mut yard = Yard::new(&setup);
        for name in asked {
            yard.open(&root.join(name));
        }
        let name = |place: Allowed| place.path.strip_prefix(root).unwrap().display().to_string();
        yard.places().into_iter().map(name).collect()
    }

    #[test]
    fn a_link_that_an_agent_may_have_made_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().canonicalize().unwrap();
        for name in ["main", "home/.cache", "home/data", "home/own"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        // One of the user into an open folder, and one of an agent from there to elsewhere.
        symlink("../home/.cache/npm", root.join("home/.npm")).unwrap();
        symlink("..", root.join("home/.cache/npm")).unwrap();
        symlink("data", root.join("home/mine")).unwrap();
        symlink("loop", root.join("home/loop")).unwrap();
        for asked in [
            ["home/.cache", "home/.npm"],
            ["home/.cache", "home/.cache/npm"],
            ["home/.cache", "home/own/../.npm"],
            ["home/.cache", "home/loop"],
            ["home/.cache", "home/.cache/../../main/.."],
        ] {
            assert_eq!(opened(root, &asked), ["home/.cache"], "{asked:?}");
        }
        // Whichever is asked for first.
        assert_eq!(opened(root, &["home/.npm", "home/.cache"]), ["home/.cache"]);
        assert_eq!(
            opened(root, &["home/mine", "home/.cache", "home/data", "home/own"]),
            ["home/data", "home/.cache", "home/own"]
        );
    }
}
