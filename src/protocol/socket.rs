//! The local socket between the orchestrator and one executor: where it lies, who may connect, when it goes.
//!
//! Promises: the directory of a run is ours alone (mode 0700, owner checked, no symbolic link followed), is removed
//! when the run ends, and, if it was killed, by the next run; a socket accepts one connection, from our user and,
//! where the system tells, from the process that was started, and its path is gone afterwards. It sets no deadlines.
//!
//! Does not carry messages (`link` does), and does not outlast a cleaner of temporary files: one that removes the
//! directory under a run makes the next bind fail.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::tokio::Listener as SocketListener;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{ConnectOptions, GenericFilePath, ListenerOptions};
use interprocess::os::unix::uds_local_socket::tokio::Stream as UnixSocketStream;
use thiserror::Error;

/// A connected local socket, for [`Link::new`](super::Link::new).
pub use interprocess::local_socket::tokio::Stream;

/// The longest path of a socket, in bytes: 104 with the final NUL on macOS, 108 on Linux.
pub const MAX_PATH_LEN: usize = 103;

/// The longest name of a socket, in bytes. A directory is only used when every name has room in it.
pub const MAX_NAME_LEN: usize = 20;

/// A directory without a lock file is one that is just being made, or one whose maker was killed in that moment; after
/// this time it is the latter.
const UNLOCKED_GRACE: Duration = Duration::from_secs(60);

/// How many names are drawn for a directory before it is given up. Even with a million directories there, one try in
/// four thousand fails.
const MAX_TRIES: u32 = 16;

const LOCK: &str = "lock";
const SUFFIX: &str = ".sock";

/// What went wrong with a socket or its directory.
#[derive(Debug, Error)]
pub enum SocketError {
    /// No directory with a path that is short enough.
    #[error("no place for a socket: {} leaves no room for a name within {MAX_PATH_LEN} bytes", path.display())]
    PathTooLong {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that others could write to.
    #[error("{} is not a directory that only we can write to", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
    },
    /// A name that is no file name of at most [`MAX_NAME_LEN`] letters, digits, dashes and underscores.
    #[error("`{0}` is not a name for a socket")]
    Name(String),
    /// The process at the other end belongs to another user.
    #[error("{} belongs to another user", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { verb, path, source }
}

/// The directory for the sockets of one run. Removed, with all that is in it, when dropped.
#[derive(Debug)]
pub struct SocketDir {
    path: PathBuf,
    /// Locked as long as the run lives: what tells its directory from one that a killed run left behind.
    _lock: File,
}

/// Where the directory of a run can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In a directory of ours, which is made when it does not exist.
    Ours(PathBuf),
    /// Directly in a directory that everybody may write to, under names that begin so.
    Public(PathBuf, String),
}

/// The places to try, the best first.
fn places(runtime: Option<&Path>, temp: &Path, uid: u32) -> Vec<Place> {
    let mut places = Vec::new();
    if let Some(runtime) = runtime.filter(|runtime| runtime.is_absolute() && is_private(runtime)) {
        places.push(Place::Ours(runtime.join("ai-sdlc")));
    }
    let name = format!("ai-sdlc-{uid}");
    for temp in [temp, Path::new("/tmp")] {
        places.push(Place::Ours(temp.join(&name)));
        places.push(Place::Public(temp.to_owned(), format!("{name}-")));
    }
    places
}

impl SocketDir {
    /// A new directory: below `$XDG_RUNTIME_DIR/ai-sdlc` if that can be used, else below `ai-sdlc-<uid>` in the
    /// temporary directory, else (somebody else has taken that name) directly in the temporary directory, else the
    /// same in `/tmp`. Removes what killed runs have left at that place.
    ///
    /// # Errors
    /// When none of them can be used, why the last one could not.
    pub fn create() -> Result<Self, SocketError> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let temp = std::env::temp_dir();
        Self::create_in(&places(runtime.as_deref(), &temp, our_uid()))
    }

    fn create_in(places: &[Place]) -> Result<Self, SocketError> {
        let mut last = SocketError::NotPrivate {
            path: std::env::temp_dir(),
        };
        for place in places {
            match Self::create_at(place) {
                Ok(directory) => return Ok(directory),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn create_at(place: &Place) -> Result<Self, SocketError> {
        let (parent, prefix) = match place {
            Place::Ours(parent) => {
                match DirBuilder::new().mode(0o700).create(parent) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(failed("create", parent)(error));
                    }
                    _ if !is_private(parent) => {
                        return Err(SocketError::NotPrivate {
                            path: parent.clone(),
                        });
                    }
                    _ => {}
                }
                (parent, "")
            }
            Place::Public(parent, prefix) => (parent, prefix.as_str()),
        };
        sweep(parent, prefix);
        Self::create_below(parent, prefix)
    }

    fn create_below(parent: &Path, prefix: &str) -> Result<Self, SocketError> {
        let mut tries = 0;
        loop {
            // Keys that the system has drawn; what matters is only that nobody guesses the name beforehand, and
            // whoever does makes us draw again.
            let random = RandomState::new().hash_one(std::process::id());
            let path = parent.join(format!("{prefix}{:08x}", random >> 32));
            let longest = path.as_os_str().len() + 1 + MAX_NAME_LEN + SUFFIX.len();
            if longest > MAX_PATH_LEN {
                return Err(SocketError::PathTooLong { path });
            }
            tries += 1;
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < MAX_TRIES => {
                    continue;
                }
                Err(error) => return Err(failed("create", &path)(error)),
            }
            return match lock(&path) {
                Ok(lock) => Ok(Self { path, _lock: lock }),
                Err(error) => {
                    drop(fs::remove_dir_all(&path));
                    Err(failed("lock", &path)(error))
                }
            };
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        // Best effort: what is left is swept by the next run.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Locks a new directory. The lock file gets its name only when it is locked, so that nobody can find it free.
fn lock(directory: &Path) -> io::Result<File> {
    let new = directory.join("lock.new");
    let file = File::create_new(&new)?;
    file.try_lock()?;
    fs::rename(&new, directory.join(LOCK))?;
    Ok(file)
}

/// Removes the directories that killed runs have left. Whatever is not certainly one of those stays.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name
            .as_bytes()
            .strip_prefix(prefix.as_bytes())
            .is_some_and(|rest| rest.len() == 8 && rest.iter().all(u8::is_ascii_hexdigit));
        let path = entry.path();
        if ours && is_private(&path) {
            remove_if_abandoned(&path);
        }
    }
}

fn remove_if_abandoned(directory: &Path) {
    // Held until the directory is gone, so that two runs do not remove at once.
    let _lock = match File::open(directory.join(LOCK)) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = fs::symlink_metadata(directory)
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| modified.elapsed().ok());
            if age.is_none_or(|age| age < UNLOCKED_GRACE) {
                return;
            }
            None
        }
        Err(_) => return,
    };
    drop(fs::remove_dir_all(directory));
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether only we can write to a directory; the name itself must not be a symbolic link.
fn is_private(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == our_uid() && metadata.mode() & 0o022 == 0
    })
}

/// A socket that waits for one executor. Dropped, it closes and unlinks its path.
#[derive(Debug)]
pub struct Listener {
    socket: SocketListener,
    path: PathBuf,
}

impl Listener {
    /// Listens in a run's directory under a name of at most [`MAX_NAME_LEN`] letters, digits, dashes and underscores
    /// that is not in use. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When the name is not one, or the system refuses.
    pub fn bind(directory: &SocketDir, name: &str) -> Result<Self, SocketError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME_LEN || !name.bytes().all(allowed) {
            return Err(SocketError::Name(name.chars().take(40).collect()));
        }
        let path = directory.path.join(format!("{name}{SUFFIX}"));
        let socket = path
            .as_path()
            .to_fs_name::<GenericFilePath>()
            .and_then(|name| ListenerOptions::new().name(name).create_tokio())
            .map_err(failed("listen on", &path))?;
        // The directory is ours alone already; this is for a person who looks.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(failed("restrict", &path))?;
        Ok(Self { socket, path })
    }

    /// The path that the executor connects to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connection of the executor that runs as process `expected_pid`. Whoever else connects is dropped. Where the
    /// system does not tell the peer's process id (macOS), the user must do, and the `hello` tells the process.
    /// The listener is closed and its path unlinked when this returns, and when it is given up.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn accept(self, expected_pid: u32) -> Result<Stream, SocketError> {
        loop {
            let stream = match self.socket.accept().await {
                Ok(stream) => stream,
                // The peer went away before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(failed("accept on", &self.path)(error)),
            };
            // A peer about which nothing can be learnt (gone, or in a foreign pid namespace) is not the executor.
            let Ok(peer) = stream.peer_creds() else {
                continue;
            };
            let pid_fits = peer
                .pid()
                .is_none_or(|pid| u32::try_from(pid) == Ok(expected_pid));
            if peer.euid() == Some(our_uid()) && pid_fits {
                return Ok(stream);
            }
        }
    }
}

/// Connects to the orchestrator's socket. Needs a running tokio runtime. The second value is another descriptor of the
/// same connection, by which its end can be watched for without the runtime; the connection is closed when that is
/// closed as well.
///
/// The connection is made by a blocking call, which for a local socket takes microseconds: interprocess 2.4.7 takes
/// the `EAGAIN` of a full backlog in its asynchronous connect for a connection, and returns a socket that has none.
///
/// # Errors
/// When nobody listens there, or somebody else does.
pub fn connect(path: &Path) -> Result<(Stream, OwnedFd), SocketError> {
    use interprocess::local_socket::Stream as BlockingStream;

    let name = path
        .to_fs_name::<GenericFilePath>()
        .map_err(failed("connect to", path))?;
    let BlockingStream::UdSocket(blocking) = ConnectOptions::new()
        .name(name)
        .nonblocking_stream(true)
        .connect_sync()
        .map_err(failed("connect to", path))?;
    let connection = OwnedFd::from(blocking);
    let lifeline = connection
        .try_clone()
        .map_err(failed("watch the end of", path))?;
    let stream = UnixSocketStream::try_from(connection).map_err(failed("register", path))?;
    let peer = stream
        .peer_creds()
        .map_err(failed("identify the owner of", path))?;
    if peer.euid() != Some(our_uid()) {
        return Err(SocketError::Stranger {
            path: path.to_owned(),
        });
    }
    Ok((stream.into(), lifeline))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::link::{ExecutorLink, OrchestratorLink, expect_hello, send_hello};
    use super::super::samples;
    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::Ours(temp.path().join("ai-sdlc"));
        (temp, place)
    }

    /// What is not survives in every process that is started, and then the end of the link is never seen.
    fn is_closed_on_exec(stream: &Stream) -> bool {
        let Stream::UdSocket(stream) = stream;
        rustix::io::fcntl_getfd(stream)
            .unwrap()
            .contains(rustix::io::FdFlags::CLOEXEC)
    }

    #[tokio::test]
    async fn two_ends_exchange_messages_and_the_path_is_gone() {
        let (_temp, place) = place();
        let directory = SocketDir::create_at(&place).unwrap();
        let listener = Listener::bind(&directory, "1").unwrap();
        let path = listener.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let (near, _lifeline) = connect(&path).unwrap();
        assert!(is_closed_on_exec(&near), "an agent would hold it");
        let (mut reader, mut writer) = ExecutorLink::new(near, samples::fence()).split();
        send_hello(&mut writer, 1, "0.1.0").await.unwrap();
        let far = listener.accept(std::process::id()).await.unwrap();
        assert!(is_closed_on_exec(&far), "an executor would hold it");
        assert!(!path.exists());
        assert!(connect(&path).is_err());

        let (mut parent_reader, mut parent_writer) =
            OrchestratorLink::new(far, samples::fence()).split();
        expect_hello(&mut parent_reader, 1).await.unwrap();
        let start = samples::start(&"text ".repeat(100_000));
        let (sent, received) = tokio::join!(parent_writer.send(start.clone()), reader.next());
        sent.unwrap();
        assert_eq!(received.unwrap(), Some(start));
        drop((parent_reader, parent_writer));
        assert_eq!(reader.next().await.unwrap(), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_peer_with_another_pid_is_dropped() {
        let (_temp, place) = place();
        let directory = SocketDir::create_at(&place).unwrap();
        let listener = Listener::bind(&directory, "1").unwrap();
        let path = listener.path().to_owned();
        let (near, _lifeline) = connect(&path).unwrap();
        let deadline = Duration::from_millis(50);
        let accepted = tokio::time::timeout(deadline, listener.accept(1)).await;
        assert!(accepted.is_err());
        assert!(!path.exists(), "given up, the path is gone too");
        let (mut reader, _writer) = ExecutorLink::new(near, samples::fence()).split();
        assert_eq!(reader.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_name_is_a_short_file_name_and_used_once() {
        let (_temp, place) = place();
        let directory = SocketDir::create_at(&place).unwrap();
        for name in ["", "a/b", "..", "a.b", &"x".repeat(MAX_NAME_LEN + 1)] {
            let error = Listener::bind(&directory, name).unwrap_err();
            assert!(matches!(error, SocketError::Name(_)), "{name}");
        }
        let _first = Listener::bind(&directory, "S-0001-1").unwrap();
        assert!(Listener::bind(&directory, "S-0001-1").is_err());
    }

    #[test]
    fn a_directory_is_ours_alone_and_goes_with_the_run() {
        let (temp, place) = place();
        let directory = SocketDir::create_at(&place).unwrap();
        let path = directory.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(path.starts_with(temp.path().join("ai-sdlc")));
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_a_living_run_is_not() {
        let (temp, place) = place();
        let living = SocketDir::create_at(&place).unwrap();
        let parent = temp.path().join("ai-sdlc");
        let directory = |name: &str| {
            let path = parent.join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let killed = directory("0000dead");
        fs::write(killed.join(LOCK), "").unwrap();
        fs::write(killed.join("1.sock"), "").unwrap();
        let half_made = directory("00000001");
        let half_made_long_ago = directory("00000002");
        File::open(&half_made_long_ago)
            .unwrap()
            .set_modified(SystemTime::now() - Duration::from_secs(61))
            .unwrap();
        let foreign = directory("not-ours");
        fs::write(foreign.join(LOCK), "").unwrap();
        let link = parent.join("0000beef");
        std::os::unix::fs::symlink(&foreign, &link).unwrap();

        let _second = SocketDir::create_at(&place).unwrap();
        assert!(living.path().join(LOCK).exists());
        assert!(!killed.exists() && !half_made_long_ago.exists());
        assert!(half_made.exists() && foreign.join(LOCK).exists() && link.is_symlink());
    }

    #[test]
    fn many_runs_that_start_at_once_do_not_sweep_each_other() {
        let (_temp, place) = place();
        let directories: Vec<SocketDir> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..8).map(|_| SocketDir::create_at(&place).unwrap())))
                .collect();
            makers
                .into_iter()
                .flat_map(|maker| maker.join().unwrap())
                .collect()
        });
        assert_eq!(directories.len(), 64);
        for directory in &directories {
            assert!(directory.path().join(LOCK).exists());
        }
    }

    #[test]
    fn a_place_that_others_can_write_to_is_not_used() {
        let (temp, place) = place();
        let taken = temp.path().join("ai-sdlc");
        fs::create_dir(&taken).unwrap();
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o777)).unwrap();
        let error = SocketDir::create_at(&place).unwrap_err();
        assert!(matches!(error, SocketError::NotPrivate { .. }));
        fs::remove_dir(&taken).unwrap();
        std::os::unix::fs::symlink(temp.path(), &taken).unwrap();
        let error = SocketDir::create_at(&place).unwrap_err();
        assert!(matches!(error, SocketError::NotPrivate { .. }));

        let public = Place::Public(temp.path().to_owned(), "ai-sdlc-0-".to_owned());
        let directory = SocketDir::create_in(&[place, public]).unwrap();
        let name = directory.path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("ai-sdlc-0-"));
    }

    #[test]
    fn a_path_that_is_too_long_is_passed_over_and_none_left_is_an_error() {
        let (temp, place) = place();
        let long = temp.path().join("x".repeat(80));
        fs::create_dir(&long).unwrap();
        let long = Place::Ours(long);
        let error = SocketDir::create_in(std::slice::from_ref(&long)).unwrap_err();
        assert!(matches!(error, SocketError::PathTooLong { .. }));
        assert!(SocketDir::create_in(&[long, place]).is_ok());
    }

    #[test]
    fn the_runtime_directory_comes_first_and_the_temporary_one_of_macos_is_short_enough() {
        let (temp, _) = place();
        let mac = Path::new("/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T/");
        let all = places(Some(temp.path()), mac, 501);
        assert_eq!(all[0], Place::Ours(temp.path().join("ai-sdlc")));
        let Place::Ours(second) = &all[1] else {
            panic!("{all:?}");
        };
        let longest = second.as_os_str().len() + 1 + 8 + 1 + MAX_NAME_LEN + SUFFIX.len();
        assert!(longest <= MAX_PATH_LEN);
        assert_eq!(places(Some(Path::new("relative")), mac, 501).len(), 4);
    }
}
