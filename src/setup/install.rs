//! Installs the dependencies of a worktree: with the user's command, or with the one that fits its lock file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{self, Failure};
use super::detect::{self, Installer, Need};
use super::note::Installed;
use super::{Desk, Setup, Turn, blocking};
use crate::config::Install;
use crate::git::are_ignored;
use crate::report::chain;

/// The most names of a folder that are looked at.
const MOST_NAMES: usize = 20_000;

/// The key of the configuration.
const INSTALL: &str = "worktree.install";

/// An installation that is to be done, unless it was.
struct Installation {
    command: String,
    /// Where.
    folder: PathBuf,
    /// The files that it goes by, in that folder.
    files: Vec<&'static str>,
    need: Need,
}

impl Installation {
    /// What it installs, as the files are now.
    async fn installed(&self) -> Result<Installed, String> {
        let (command, folder) = (self.command.clone(), self.folder.clone());
        let files = self.files.clone();
        blocking(move || Installed::by(&command, &folder, files.into_iter())).await
    }
}

impl Setup {
    /// Installs what is not installed yet, and gives what is. `noted` is what the worktree was set up with, if it was.
    pub(super) async fn install(
        &self,
        desk: &Desk,
        turn: &Turn,
        noted: Option<Installed>,
    ) -> Result<Installed, String> {
        let installation = match &self.shared.rules.install {
            Install::Off => None,
            Install::Command(command) => Some(Installation {
                command: command.clone(),
                folder: self.shared.place.work_folder_in(&desk.prepared.path),
                files: detect::lock_files().collect(),
                need: Need::Needed,
            }),
            Install::Detected => self.detected(desk, noted).await?,
        };
        let Some(installation) = installation else {
            return Ok(Installed::NOTHING);
        };
        if noted == Some(installation.installed().await?) {
            return Ok(noted.unwrap_or(Installed::NOTHING));
        }
        let done = self.run_installation(desk, turn, &installation).await;
        if let Err(failure) = done {
            if failure == Failure::Stopped {
                return Err(format!("`{}` {failure}", installation.command));
            }
            if installation.need == Need::Needed && noted.is_none() {
                return Err(format!(
                    "`{}` {failure} (`{INSTALL}` in .ai-sdlc.json sets another command, or false for none)",
                    installation.command
                ));
            }
            // Where an agent has been at work, it can mend what keeps its lock file from being installed.
            command::note(&desk.log, "it goes on without that");
        }
        // A command may bring its lock file up to date, which is no reason to run it again.
        installation.installed().await
    }

    async fn run_installation(
        &self,
        desk: &Desk,
        turn: &Turn,
        installation: &Installation,
    ) -> Result<(), Failure> {
        let timeout: Duration = self.shared.rules.install_timeout;
        let what = (INSTALL, installation.command.as_str());
        let run = self.run(desk, turn, what, &installation.folder, timeout, None);
        run.await
    }

    /// What fits the lock file of the worktree, if that can be run here.
    async fn detected(
        &self,
        desk: &Desk,
        noted: Option<Installed>,
    ) -> Result<Option<Installation>, String> {
        let worktree = desk.prepared.path.clone();
        let mut folders = vec![self.shared.place.work_folder_in(&worktree)];
        if folders[0] != worktree {
            folders.push(worktree);
        }
        let listed = folders.clone();
        let names = blocking(move || listed.iter().map(|folder| names_in(folder)).collect());
        let names: Vec<BTreeSet<String>> = names.await?;
        let Some((place, installer)) = detect::detect(&names) else {
            return Ok(None);
        };
        let folder = folders.swap_remove(place);
        if let Some(why) = self.hindrance(&folder, &installer).await? {
            if noted.is_none() {
                let command = installer.command;
                command::note(&desk.log, &format!("`{command}` is not run: {why}"));
            }
            return Ok(None);
        }
        Ok(Some(Installation {
            command: installer.command.to_owned(),
            folder,
            files: vec![installer.lock],
            need: installer.need,
        }))
    }

    /// Why a command that was detected is better not run.
    async fn hindrance(
        &self,
        folder: &Path,
        installer: &Installer,
    ) -> Result<Option<String>, String> {
        if !command::is_on_path(installer.tool) {
            return Ok(Some(format!("there is no {} on the PATH", installer.tool)));
        }
        let Some(fills) = installer.fills else {
            return Ok(None);
        };
        let ignored = are_ignored(&self.shared.git, folder, &[fills]).await;
        let ignored = ignored.map_err(|error| chain(&error))?;
        Ok((!ignored).then(|| {
            format!("git does not ignore {fills}, so that what it installs would be committed")
        }))
    }
}

/// The names in a folder; none when it cannot be read, which then nothing can be installed in.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(Result::ok)
        .take(MOST_NAMES)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
