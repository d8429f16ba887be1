//! `ai-sdlc worktrees`: what is shown, made and removed, and what is never touched.

mod adding;
mod full_disk;
mod hook;
mod listing;
mod pruning;
mod quota;
mod removing;
mod salvaging;

use std::fs;
use std::path::Path;

use super::support::{Output, TestEnv};

/// All that a program has said, without what differs from run to run: sizes and ages as well. Columns are not aligned
/// any more.
fn shown(output: &Output, env: &TestEnv) -> String {
    let text = output.shown(env);
    let lines = text.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            let core = word.trim_end_matches([')', ';', ',', ':']);
            let is_unit = matches!(core, "B" | "KiB" | "MiB" | "GiB");
            let end = &word[core.len()..];
            match words.last_mut() {
                Some(number) if is_unit && number.ends_with(|c: char| c.is_ascii_digit()) => {
                    let start = if number.starts_with('(') { "(" } else { "" };
                    *number = format!("{start}<size>{end}");
                }
                _ if is_age(word) => words.push("<age>".to_owned()),
                _ => words.push(word.to_owned()),
            }
        }
        format!("{}{}\n", " ".repeat(indent), words.join(" "))
    });
    lines.collect()
}

fn is_age(word: &str) -> bool {
    let number = word.strip_suffix(['s', 'm', 'h', 'd']);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Makes a worktree by hand, with these arguments of `git worktree add`.
fn by_hand(env: &TestEnv, arguments: &[&str]) {
    let mut all = vec!["worktree", "add", "--quiet"];
    all.extend(arguments);
    env.git(&all);
}

/// Marks a worktree as one that was never made to its end.
fn make_half(env: &TestEnv, name: &str) {
    let marker = format!(".git/worktrees/{name}/ai-sdlc-preparing");
    env.write(&marker, "");
}

/// Every path below a directory with what is in it, to see that nothing of it changes.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let content = if path.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            found.push((path.display().to_string(), content));
        }
    }
    found.sort();
    found
}
