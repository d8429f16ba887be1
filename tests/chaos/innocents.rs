//! Processes that have nothing to do with a run, and must live whatever happens to it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::scratch::Scratch;

/// Some innocent processes. Dropping ends them.
pub(crate) struct Innocents(Vec<(&'static str, Child)>);

impl Innocents {
    /// A program in the worktree of a story when that is there, a shell in the folder of the board, and a process of the same name and
    /// with the same arguments as the agent, but for the mark.
    pub(crate) fn start(scratch: &Scratch, story: &str) -> Self {
        let own = std::env::current_exe().expect("there is a program");
        let worktree = scratch.worktree(story);
        let mut namesake = person(own.to_str().expect("is Unicode"), scratch.base());
        // In the way of the agent, but not one of its marks.
        namesake.args(["agent", "part-innocent", "innocent.", "/", "0"]);
        let mut innocents = Self(Vec::new());
        innocents.add(
            "a shell in the folder of the board",
            &mut person("sh", &scratch.path(".ai-sdlc")),
        );
        innocents.add("a process with the name of an agent", &mut namesake);
        if worktree.is_dir() {
            innocents.add("a program in the worktree", &mut person("cat", &worktree));
        }
        innocents
    }

    /// One more.
    pub(crate) fn add(&mut self, name: &'static str, command: &mut Command) {
        self.0.push((name, spawn(command)));
    }

    /// Those that have ended, which none does by itself.
    pub(crate) fn victims(&mut self) -> Vec<String> {
        let ended = self.0.iter_mut().filter_map(|(name, child)| {
            let status = child.try_wait().ok()??;
            Some(format!("{name} was ended: {status}"))
        });
        ended.collect()
    }
}

impl Drop for Innocents {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A program as a person starts it there. It waits for its input, which does not come.
pub(crate) fn person(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("HOME", "/home/person")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("the program is there")
}
