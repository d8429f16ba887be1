//! Who works in a folder: the processes whose working directory it is, or is below it.
//!
//! An answer is of the moment, and of processes that this user may look at. Where the system does not tell, there are
//! none.

use std::path::Path;

use super::Found;

/// A process that works in each of the folders, which are resolved; none for those in which nobody does.
#[cfg(target_os = "linux")]
pub fn at_work_in(folders: &[&Path]) -> Vec<Option<Found>> {
    use super::table;
    let mut found = vec![None; folders.len()];
    for pid in table::all() {
        let Some(directory) = table::working_directory(pid) else {
            continue;
        };
        for (folder, found) in folders.iter().zip(&mut found) {
            if found.is_none() && directory.starts_with(folder) {
                // One that has ended meanwhile works nowhere.
                *found = table::Entry::read(pid).map(|entry| Found {
                    pid,
                    name: entry.name,
                });
            }
        }
    }
    found
}

/// A process that works in each of the folders; the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn at_work_in(folders: &[&Path]) -> Vec<Option<Found>> {
    vec![None; folders.len()]
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_in_its_folder_and_above_and_not_beside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (inside, beside) = (root.join("a/b"), root.join("ab"));
        std::fs::create_dir_all(&inside).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .current_dir(&inside)
            .spawn()
            .unwrap();
        let found = at_work_in(&[&inside, &root.join("a"), &beside]);
        child.kill().unwrap();
        child.wait().unwrap();
        let pids: Vec<_> = found
            .iter()
            .map(|found| found.as_ref().map(|found| found.pid))
            .collect();
        assert_eq!(pids, [Some(child.id()), Some(child.id()), None]);
    }
}
