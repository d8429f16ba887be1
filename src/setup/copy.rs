//! Copies files from the main checkout into a worktree: with their modes, and shared with the original until one of them
//! changes where the file system can do that.
//!
//! Nothing that is there is overwritten, nothing is written through a symbolic link, and a file is there as a whole or not
//! at all: it is made next to the worktree, where no commit finds it, and moved. Blocks.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::include::{HINT, MOST_BYTES, link_target};

/// What is to be copied.
pub(super) struct Copying {
    /// The main checkout.
    pub(super) checkout: PathBuf,
    /// The worktree.
    pub(super) worktree: PathBuf,
    /// The files, relative to both.
    pub(super) files: Vec<PathBuf>,
}

/// What has been copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) files: usize,
    /// Those that are not there for a reason that a person may want to know.
    pub(super) left_out: Vec<String>,
}

impl Copying {
    /// Copies until everything is there or nobody wants it any more.
    ///
    /// # Errors
    /// When a file cannot be copied or all of them together are too large; the text says which and why.
    pub(super) fn run(&self, given_up: &AtomicBool) -> Result<Copied, String> {
        let sources = self.sources()?;
        let mut copied = Copied::default();
        if sources.is_empty() {
            return Ok(copied);
        }
        let scratch = Scratch::beside(&self.worktree)
            .map_err(|error| format!("no place for copies beside it: {error}"))?;
        for (file, metadata) in sources {
            if given_up.load(Ordering::Relaxed) {
                break;
            }
            match self.copy(file, &metadata, &scratch) {
                Ok(Step::Copied) => copied.files += 1,
                Ok(Step::WasThere) => {}
                Ok(Step::LeftOut(why)) => {
                    copied.left_out.push(format!("{}: {why}", file.display()));
                }
                // It was removed meanwhile, by whoever works in the main checkout.
                Err(error) if is_gone(&error, &self.checkout.join(file)) => {}
                Err(error) => {
                    let file = file.display();
                    return Err(format!("{file} cannot be copied into it: {error}"));
                }
            }
        }
        Ok(copied)
    }

    /// The files that are there, with what they are.
    fn sources(&self) -> Result<Vec<(&Path, Metadata)>, String> {
        let mut sources = Vec::new();
        let mut bytes: u64 = 0;
        for file in &self.files {
            let metadata = match fs::symlink_metadata(self.checkout.join(file)) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let file = file.display();
                    return Err(format!("{file} cannot be copied into it: {error}"));
                }
            };
            bytes = bytes.saturating_add(metadata.len());
            if bytes > MOST_BYTES {
                return Err(format!(
                    "the ignored files that would be copied into it hold more than 1 GiB ({HINT})"
                ));
            }
            sources.push((file.as_path(), metadata));
        }
        Ok(sources)
    }

    fn copy(&self, file: &Path, metadata: &Metadata, scratch: &Scratch) -> io::Result<Step> {
        let (from, to) = (self.checkout.join(file), self.worktree.join(file));
        if let Some(why) = self.make_folders(file)? {
            return Ok(Step::LeftOut(why));
        }
        if fs::symlink_metadata(&to).is_ok() {
            return Ok(Step::WasThere);
        }
        let made = scratch.file();
        if metadata.is_symlink() {
            let target = link_target(&self.checkout, file, &fs::read_link(&from)?);
            std::os::unix::fs::symlink(target, &made)?;
        } else if metadata.is_file() {
            copy_file(&from, &made)?;
        } else {
            return Ok(Step::LeftOut("neither a file nor a link".to_owned()));
        }
        fs::rename(&made, &to)?;
        Ok(Step::Copied)
    }

    /// Makes the folders that lead to a file, with the modes of their originals. Why the file has to be left out, if one
    /// of them is something else.
    fn make_folders(&self, file: &Path) -> io::Result<Option<String>> {
        let mut folder = PathBuf::new();
        for part in file.parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            let (from, to) = (self.checkout.join(&folder), self.worktree.join(&folder));
            match fs::symlink_metadata(&to) {
                Ok(there) if there.is_dir() => {}
                Ok(_) => {
                    let folder = folder.display();
                    return Ok(Some(format!("{folder} is no folder in the worktree")));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mut permissions = fs::symlink_metadata(&from)?.permissions();
                    // Its files have to get in, and out again with the worktree.
                    permissions.set_mode(permissions.mode() | 0o700);
                    fs::create_dir(&to)?;
                    fs::set_permissions(&to, permissions)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

enum Step {
    Copied,
    WasThere,
    LeftOut(String),
}

fn is_gone(error: &io::Error, path: &Path) -> bool {
    error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err()
}

/// A folder on the file system of the worktree for files that are being made.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Its name is that of the worktree, so that what a killed run has left is removed by the next one at the same story.
    fn beside(worktree: &Path) -> io::Result<Self> {
        let (Some(base), Some(name)) = (worktree.parent(), worktree.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut own = std::ffi::OsString::from(".ai-sdlc-copies-");
        own.push(name);
        let folder = base.join(own);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir(&folder)?;
        // Nobody else reads half a secret.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        Ok(Self { folder })
    }

    /// Where the next file is made.
    fn file(&self) -> PathBuf {
        self.folder.join("file")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::debug!(%error, folder = %self.folder.display(), "stays until the next attempt");
        }
    }
}

/// Copies content and mode to a path where nothing is, or what an earlier try has left.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let source = File::open(from)?;
    let permissions = source.metadata()?.permissions();
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    if !share(&source, &target) {
        drop(target);
        fs::copy(from, to)?;
        return fs::set_permissions(to, permissions);
    }
    target.set_permissions(permissions)
}

/// Has the two files share their content until one of them changes. Whether the file system can do that.
#[cfg(all(
    target_os = "linux",
    not(any(target_arch = "sparc", target_arch = "sparc64"))
))]
fn share(source: &File, target: &File) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

/// Copying does it where it can be done.
#[cfg(not(all(
    target_os = "linux",
    not(any(target_arch = "sparc", target_arch = "sparc64"))
)))]
fn share(_source: &File, _target: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Places {
        _dir: tempfile::TempDir,
        checkout: PathBuf,
        worktree: PathBuf,
    }

    fn places() -> Places {
        let dir = tempfile::tempdir().unwrap();
        let (checkout, worktree) = (dir.path().join("main"), dir.path().join("trees/S-0001-x"));
        fs::create_dir_all(&checkout).unwrap();
        fs::create_dir_all(&worktree).unwrap();
        Places {
            _dir: dir,
            checkout,
            worktree,
        }
    }

    impl Places {
        fn write(&self, name: &str, text: &str, mode: u32) {
            let path = self.checkout.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn copy(&self, files: &[&str]) -> Result<Copied, String> {
            let copying = Copying {
                checkout: self.checkout.clone(),
                worktree: self.worktree.clone(),
                files: files.iter().map(PathBuf::from).collect(),
            };
            let copied = copying.run(&AtomicBool::new(false));
            let beside = fs::read_dir(self.worktree.parent().unwrap()).unwrap();
            assert_eq!(beside.count(), 1, "only the worktree is left");
            copied
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.worktree.join(name)).unwrap()
        }
    }

    #[test]
    fn content_and_modes_arrive() {
        let places = places();
        places.write(".env", "A=1\n", 0o600);
        places.write("tools/.env.sh", "#!/bin/sh\n", 0o755);
        let tools = places.checkout.join("tools");
        fs::set_permissions(&tools, fs::Permissions::from_mode(0o550)).unwrap();
        let copied = places.copy(&[".env", "tools/.env.sh", "gone"]).unwrap();
        assert_eq!(copied.files, 2);
        assert_eq!(places.read(".env"), "A=1\n");
        let mode = |name: &str| {
            let metadata = fs::metadata(places.worktree.join(name)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        assert_eq!(mode(".env"), 0o600);
        assert_eq!(mode("tools/.env.sh"), 0o755);
        assert_eq!(mode("tools"), 0o750);
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let places = places();
        places.write(".env", "new\n", 0o644);
        fs::write(places.worktree.join(".env"), "the agent's\n").unwrap();
        assert_eq!(places.copy(&[".env"]).unwrap(), Copied::default());
        assert_eq!(places.read(".env"), "the agent's\n");
    }

    #[test]
    fn links_are_copied_as_links() {
        let places = places();
        std::os::unix::fs::symlink(".env.dev", places.checkout.join(".env")).unwrap();
        std::os::unix::fs::symlink("../secret", places.checkout.join(".env.out")).unwrap();
        assert_eq!(places.copy(&[".env", ".env.out"]).unwrap().files, 2);
        let target = |name| fs::read_link(places.worktree.join(name)).unwrap();
        assert_eq!(target(".env"), Path::new(".env.dev"));
        assert_eq!(target(".env.out"), places.checkout.join("../secret"));
    }

    #[test]
    fn nothing_is_written_through_a_link_of_the_worktree() {
        let places = places();
        places.write("config/.env", "A=1\n", 0o644);
        let outside = places.worktree.parent().unwrap().parent().unwrap();
        let outside = outside.join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, places.worktree.join("config")).unwrap();
        let copied = places.copy(&["config/.env"]).unwrap();
        assert_eq!(copied.files, 0);
        assert_eq!(
            copied.left_out,
            ["config/.env: config is no folder in the worktree"]
        );
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    }

    #[test]
    fn what_is_too_large_is_not_copied_at_all() {
        let places = places();
        places.write(".env", "A=1\n", 0o644);
        places.write("image", "", 0o644);
        let image = places.checkout.join("image");
        let image = File::options().write(true).open(image).unwrap();
        // It has holes, and takes no space.
        image.set_len(MOST_BYTES).unwrap();
        let error = places.copy(&[".env", "image"]).unwrap_err();
        assert!(error.contains("more than 1 GiB"), "{error}");
        assert!(!places.worktree.join(".env").exists());
    }

    #[test]
    fn it_ends_when_nobody_wants_it_any_more() {
        let places = places();
        places.write(".env", "A=1\n", 0o644);
        let copying = Copying {
            checkout: places.checkout.clone(),
            worktree: places.worktree.clone(),
            files: vec![".env".into()],
        };
        assert_eq!(copying.run(&AtomicBool::new(true)).unwrap().files, 0);
        assert!(!places.worktree.join(".env").exists());
    }
}
