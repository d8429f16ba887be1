//! The repository that most tests begin with, made once for all of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::TestEnv;

/// A repository with one commit on the branch `trunk` and an empty board.
pub(super) fn repository() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let builds = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_abandoned(builds);
        let template = builds.join(format!("{PREFIX}{}", std::process::id()));
        // One of a process that had the same number.
        drop(fs::remove_dir_all(&template));
        let env = TestEnv::on_branch("trunk");
        copy(&env.repository, &template).unwrap();
        template
    })
}

/// What templates are called, with the number of the process that made them behind it. Nothing tells a process of tests
/// that all of them are over, so that the next one removes what is there of those that are gone.
const PREFIX: &str = "it-template-";

fn remove_abandoned(builds: &Path) {
    for entry in fs::read_dir(builds).unwrap().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another process may do the same.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Copies a folder with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
