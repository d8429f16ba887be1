//! Notices what changes in the main checkout, in the repository's configuration, hooks and branches, and in the files of
//! the stories, while agents work that should change none of it.
//!
//! It is a report and no accusation: people may work there meanwhile, and what nobody worked beside is not told. What was
//! in a file that git has not, it keeps in the folder of the run. The branch of a story that is in hand may change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::board;
use super::run_folder::RunFolder;
use crate::engine::Fingerprint;
use crate::git::{
    BRANCH_PREFIX, CheckoutChange, CheckoutState, Git, HURRIED_LOOK, PrivateFile, Repository,
    is_name_of,
};
use crate::report::{chain, shell_quoted};
use crate::story::{Story, StoryId};

/// The most files that are named; there may be very many.
const MOST_NAMED: usize = 5;

/// Whoever looks after the main checkout of a run.
#[derive(Debug, Clone)]
pub struct Sentry {
    git: Git,
    repository: Repository,
    /// The folder of the board, relative to the root of the main checkout: the run writes there itself.
    board: Option<String>,
    folder: RunFolder,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The stories that are worked on, as their files were.
    at_work: BTreeMap<StoryId, Arc<Story>>,
    /// The stories of which something is being prepared, worked on or put away.
    in_hand: BTreeSet<StoryId>,
    /// Those that were in hand at some time since the last look.
    touched: BTreeSet<StoryId>,
    /// What the checkout was like when it was looked at last; none when that is not known.
    checkout: Option<CheckoutState>,
    /// When that look at it began.
    looked_at: Option<Instant>,
    /// How often something was kept.
    kept: usize,
}

impl Sentry {
    /// One who has seen nothing yet.
    pub fn new(git: Git, repository: Repository, board: Option<String>, folder: RunFolder) -> Self {
        Self {
            git,
            repository,
            board,
            folder,
            seen: Arc::default(),
        }
    }

    /// A story is taken in hand: from here on its branch may be made, moved and deleted.
    pub(super) async fn take(&self, story: &StoryId) {
        let mut seen = self.seen.lock().await;
        seen.in_hand.insert(story.clone());
        seen.touched.insert(story.clone());
    }

    /// Nothing is done for a story any more.
    pub(super) async fn leave(&self, story: &StoryId) {
        self.seen.lock().await.in_hand.remove(story);
    }

    /// Somebody begins to work on a story. What has changed while nobody worked is nobody's.
    pub(super) async fn begin(&self, story: &Story) {
        let mut seen = self.seen.lock().await;
        if seen.at_work.is_empty() || seen.checkout.is_none() {
            seen.checkout = self.look(&mut seen.looked_at).await;
        }
        seen.at_work
            .insert(story.id.clone(), Arc::new(story.clone()));
    }

    /// The work on a story was given up before it began.
    pub(super) async fn forget(&self, story: &StoryId) {
        self.seen.lock().await.at_work.remove(story);
    }

    /// The work on a story has ended: says what has changed, with how to take it back. When the run is being stopped,
    /// there is little time for that.
    pub(super) async fn end(&self, story: &StoryId, hurried: bool) -> Vec<String> {
        let ended = Instant::now();
        let looking = async {
            let mut seen = Arc::clone(&self.seen).lock_owned().await;
            let Some(before) = seen.at_work.remove(story) else {
                return Vec::new();
            };
            // Where many end at once, one look is for all that had ended before it.
            let now = if seen.looked_at.is_some_and(|looked_at| looked_at > ended) {
                None
            } else {
                self.look(&mut seen.looked_at).await
            };
            let this = self.clone();
            let comparing = move || this.compare(&before, now, &mut seen);
            let compared = tokio::task::spawn_blocking(comparing).await;
            compared.unwrap_or_else(|error| vec![error.to_string()])
        };
        if !hurried {
            return looking.await;
        }
        let looked = tokio::time::timeout(HURRIED_LOOK, looking).await;
        looked.unwrap_or_default()
    }

    /// Blocks: reads the story's file, and writes what is kept.
    fn compare(&self, story: &Story, now: Option<CheckoutState>, seen: &mut Seen) -> Vec<String> {
        let mut remarks: Vec<String> = self.story_file(story, seen).into_iter().collect();
        if let Some(now) = now {
            if let Some(before) = seen.checkout.take() {
                remarks.extend(self.remarks(&before, &now, seen));
            }
            seen.checkout = Some(now);
            seen.touched = seen.in_hand.clone();
        }
        remarks
    }

    /// Looks at the checkout, and notes when, once that is done.
    async fn look(&self, looked_at: &mut Option<Instant>) -> Option<CheckoutState> {
        let began = Instant::now();
        let (root, common_dir) = (self.repository.root(), self.repository.common_dir());
        let looking = CheckoutState::look(&self.git, root, common_dir, self.board.as_deref());
        let looked = looking.await;
        *looked_at = Some(began);
        match looked {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the main checkout is not looked at");
                None
            }
        }
    }

    fn remarks(&self, before: &CheckoutState, now: &CheckoutState, seen: &mut Seen) -> Vec<String> {
        let others: Vec<&str> = seen.at_work.keys().map(StoryId::as_str).collect();
        let beside = match &others[..] {
            [] => String::new(),
            others => format!(" ({} as well)", others.join(", ")),
        };
        let root = shell_quoted(self.repository.root());
        let mut remarks = Vec::new();
        let changes = now.changes_since(before);
        let (mut files, mut branches) = (Vec::new(), Vec::new());
        for change in &changes {
            match change {
                CheckoutChange::Head => {
                    let back = if now.branch == before.branch {
                        format!("reset --keep {}", before.commit)
                    } else if before.branch == "(detached)" {
                        format!("switch --detach {}", before.commit)
                    } else {
                        format!("switch {}", before.branch)
                    };
                    remarks.push(format!(
                        "the main checkout went from {} on {} to {} on {} while it was worked on{beside}; \
                         to go back: git -C {root} {back}",
                        short(&before.commit),
                        before.branch,
                        short(&now.commit),
                        now.branch,
                    ));
                }
                CheckoutChange::File { path, was_clean } => files.push((path, *was_clean)),
                CheckoutChange::Branch { name, before } => {
                    if !seen.touched.iter().any(|story| is_branch_of(name, story)) {
                        branches.push((&**name, &**before));
                    }
                }
                CheckoutChange::Private { path, before } => {
                    let undo = self.undo(path, before.as_ref(), &mut seen.kept);
                    let path = self.repository.common_dir().join(path);
                    remarks.push(format!(
                        "{} {} while it was worked on{beside}; {undo}",
                        path.display(),
                        if before.is_some() {
                            "changed"
                        } else {
                            "was made"
                        },
                    ));
                }
            }
        }
        remarks.extend(files_changed(&files, &root, &beside));
        if !branches.is_empty() {
            let list = self.place_for(Path::new("branches"), &mut seen.kept);
            remarks.push(branches_changed(&branches, &list, &root, &beside));
        }
        remarks
    }

    /// How to take back a change of a file that git does not have. What was in it is kept.
    fn undo(&self, path: &Path, before: Option<&PrivateFile>, kept: &mut usize) -> String {
        let place = shell_quoted(&self.repository.common_dir().join(path));
        let Some(before) = before else {
            return format!("to take that back: rm {place}");
        };
        let copy = self.place_for(path, kept);
        match before.write_to(&copy) {
            Ok(()) => format!("to take that back: cp -p {} {place}", shell_quoted(&copy)),
            Err(error) => format!("what was in it is not kept: {error}"),
        }
    }

    /// Whether a story's file says something else than when its work began, but for what the run writes.
    fn story_file(&self, before: &Story, seen: &mut Seen) -> Option<String> {
        let now = std::fs::read_to_string(&before.path).ok();
        let same = now.is_some_and(|text| {
            let now = Story::from_text(&before.path, before.id.as_str(), &text);
            now.is_ok_and(|now| says(&now) == says(before))
        });
        if same {
            return None;
        }
        let copy = self.place_for(Path::new("story.md"), &mut seen.kept);
        let written = copy.parent().map_or(Ok(()), std::fs::create_dir_all);
        let kept = match written.and_then(|()| std::fs::write(&copy, &before.text)) {
            Ok(()) => format!("to compare: diff {}", shell_quoted(&copy)),
            Err(error) => format!("what it said is not kept: {error};"),
        };
        Some(format!(
            "its story file changed while it was worked on; {kept} {}",
            shell_quoted(&before.path)
        ))
    }

    fn place_for(&self, path: &Path, kept: &mut usize) -> PathBuf {
        *kept += 1;
        self.folder.kept(*kept).join(path)
    }
}

fn says(story: &Story) -> Fingerprint {
    board::fingerprint(story)
}

fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

/// Whether a branch is one that we give to a story.
fn is_branch_of(branch: &str, story: &StoryId) -> bool {
    let name = branch.strip_prefix(BRANCH_PREFIX);
    name.is_some_and(|name| is_name_of(name, story))
}

/// What there is to say of branches, with the commits that they ended at. Writes these to a file that git can read.
fn branches_changed(branches: &[(&str, &str)], list: &Path, root: &str, beside: &str) -> String {
    let named = branches.iter().take(MOST_NAMED).map(|(name, _)| *name);
    let named: Vec<&str> = named.collect();
    let more = match branches.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let mut lines = String::new();
    for (name, commit) in branches {
        lines.extend(["update refs/heads/", name, " ", commit, "\n"]);
    }
    let written = list.parent().map_or(Ok(()), std::fs::create_dir_all);
    let undo = match written.and_then(|()| std::fs::write(list, lines)) {
        Ok(()) => format!(
            "to take that back: git -C {root} update-ref --stdin < {}",
            shell_quoted(list)
        ),
        Err(error) => format!("where they ended is not kept: {error}"),
    };
    format!(
        "{}{more} {} moved or deleted while it was worked on{beside}; {undo}",
        named.join(", "),
        if branches.len() == 1 {
            "is a branch that was"
        } else {
            "are branches that were"
        }
    )
}

fn files_changed(files: &[(&PathBuf, bool)], root: &str, beside: &str) -> Option<String> {
    if files.is_empty() {
        return None;
    }
    let named = files.iter().take(MOST_NAMED);
    let named: Vec<String> = named.map(|(path, _)| path.display().to_string()).collect();
    let more = match files.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let clean = files.iter().filter(|(_, was_clean)| *was_clean);
    let clean: Vec<String> = clean
        .take(MOST_NAMED)
        .map(|(path, _)| shell_quoted(path))
        .collect();
    let undo = if clean.is_empty() {
        "they had uncommitted changes before, so git does not have what was in them".to_owned()
    } else {
        format!(
            "to take that back: git -C {root} checkout HEAD -- {}",
            clean.join(" ")
        )
    };
    Some(format!(
        "in the main checkout, {}{more} changed while it was worked on{beside}; {undo}",
        named.join(", ")
    ))
}
