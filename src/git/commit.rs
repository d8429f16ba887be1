//! Commits what an agent has left in its worktree, with the user's hooks and signing.
//!
//! The branch's difference from where it began never touches the board's folder: what the agent changed there stays
//! in the work tree, and what it committed there itself is taken back. Nothing else may be using the worktree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{FileMode, RepositoryState};
use thiserror::Error;

use super::blocking;
use super::changes::{self, Changes};
use super::commit_id::CommitId;
use super::repository::{DiffStat, RepositoryError, diff_stat, open};
use super::runner::{Git, GitError};
use crate::process::Allowed;

/// How long a commit may take unless the request says otherwise: hooks run linters and tests.
pub const DEFAULT_COMMIT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// The most of a hook's output that an error carries, in bytes.
const MAX_HOOK_OUTPUT: usize = 8 * 1024;

/// What to commit, and where.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The commit message; the hooks may change it.
    pub message: String,
    /// The branch that must be checked out.
    pub branch: String,
    /// The commit that the branch was to begin at. Of a branch that began earlier, the common ancestor counts.
    pub base: CommitId,
    /// The folder that is never committed, relative to the worktree, with `/` (`.ai-sdlc`).
    pub board_folder: Option<String>,
    /// How long the commit with its hooks may take.
    pub deadline: Duration,
    /// Where may be written while files are added, by git and by filters; none for everywhere.
    pub held_to: Option<Vec<Allowed>>,
}

/// What the branch holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CommitOutcome {
    /// Nothing beyond the base, and nothing to commit.
    Nothing {
        /// The tip of the branch.
        head: CommitId,
    },
    /// Commits beyond the base, made now or by the agent.
    Committed {
        /// The tip of the branch.
        head: CommitId,
        /// How much it differs from where the branch began.
        stat: DiffStat,
    },
}

/// Why the work is not committed. It is still in the worktree.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The agent has left the branch.
    #[error("the worktree {} is on {found} and not on the branch `{expected}`", path.display())]
    OtherBranch {
        /// The worktree.
        path: PathBuf,
        /// The branch of the story.
        expected: String,
        /// What is checked out.
        found: String,
    },
    /// A merge is not resolved.
    #[error("{} has an unresolved merge conflict in {}", path.display(), file.display())]
    Unmerged {
        /// The worktree.
        path: PathBuf,
        /// The first file in conflict.
        file: PathBuf,
    },
    /// The agent has made or cloned a repository inside the worktree, whose content no commit of ours would hold.
    #[error(
        "{} is a git repository of its own inside the worktree: its content would be lost (remove its `.git`, \
         ignore it or make it a submodule)",
        path.display()
    )]
    EmbeddedRepository {
        /// The inner repository.
        path: PathBuf,
    },
    /// A commit hook said no.
    #[error("a commit hook refused the commit: {output}")]
    HookFailed {
        /// The last lines of what it printed, at most 8 KiB.
        output: String,
    },
    /// The worktree cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What has to be done, as read in this process.
struct Plan {
    head: CommitId,
    /// Where the branch began.
    start: CommitId,
    /// Something outside the board's folder is not committed.
    dirty: bool,
    /// The index differs from the start in the board's folder.
    touches_board: bool,
    /// The index differs from the last commit, or a merge waits to be concluded.
    staged: bool,
}

/// Commits everything in `worktree` that is new, changed or deleted and not ignored, on the branch that is checked
/// out. No process when there is nothing to do, else two (three when the board's folder has to be put back).
///
/// # Errors
/// When the worktree is not on its branch, holds a merge conflict or a repository of its own, a hook refuses, or
/// git fails. Nothing is lost then: the work is in the worktree, partly staged.
pub async fn commit_all(
    git: &Git,
    worktree: &Path,
    request: &CommitRequest,
) -> Result<CommitOutcome, CommitError> {
    let mut plan = look(worktree, request, Scope::WorkTree).await?;
    if plan.dirty {
        let mut add = git.call(worktree).args(["add", "--all"]);
        if let Some(places) = &request.held_to {
            add = add.held_to(places.clone());
        }
        add.run().await?;
        plan = look(worktree, request, Scope::Index).await?;
    }
    if plan.touches_board
        && let Some(folder) = &request.board_folder
    {
        let source = format!("--source={}", plan.start);
        let restore = [
            "--literal-pathspecs",
            "restore",
            "--staged",
            &source,
            "--",
            folder,
        ];
        git.run(worktree, restore).await?;
        plan = look(worktree, request, Scope::Index).await?;
    }
    if plan.staged {
        // Automatic maintenance would leave a process behind that packs the repository under 50 running stories.
        let commit = [
            "-c",
            "maintenance.auto=false",
            "commit",
            "--quiet",
            "--file=-",
        ];
        let call = git.call(worktree).args(commit).accept(&[0, 1]);
        let call = call
            .input(request.message.as_str())
            .deadline(request.deadline);
        let output = call.run().await?;
        if output.code != 0 {
            return Err(CommitError::HookFailed {
                output: output.stderr_tail(MAX_HOOK_OUTPUT),
            });
        }
        plan = look(worktree, request, Scope::Index).await?;
    }
    if plan.head == plan.start {
        return Ok(CommitOutcome::Nothing { head: plan.head });
    }
    let (path, base, head) = (worktree.to_owned(), plan.start, plan.head);
    let stat = blocking(move || {
        let opened = open(&path)?;
        diff_stat(&opened, base, head).map_err(|source| read_error(&path, source))
    });
    let stat = stat.await?;
    Ok(CommitOutcome::Committed { head, stat })
}

/// How far to look: reading the whole work tree once is enough.
#[derive(Clone, Copy)]
enum Scope {
    WorkTree,
    Index,
}

async fn look(worktree: &Path, request: &CommitRequest, scope: Scope) -> Result<Plan, CommitError> {
    let (path, request) = (worktree.to_owned(), request.clone());
    blocking(move || {
        let opened = open(&path)?;
        let read = |source| CommitError::Repository(read_error(&path, source));
        let head = opened.head().map_err(read)?;
        let head_id = head.peel_to_commit().map_err(read)?.id();
        let name = String::from_utf8_lossy(head.shorthand_bytes());
        if !head.is_branch() || name != request.branch {
            return Err(CommitError::OtherBranch {
                path: path.clone(),
                expected: request.branch.clone(),
                found: if head.is_branch() {
                    format!("the branch `{name}`")
                } else {
                    "a commit without a branch".to_owned()
                },
            });
        }
        let board = request.board_folder.as_deref();
        let changes = match scope {
            Scope::WorkTree => changes::read(&opened, board).map_err(read)?,
            Scope::Index => Changes::default(),
        };
        if let Some(file) = changes.unmerged.into_iter().next() {
            return Err(CommitError::Unmerged { path, file });
        }
        if let Some(inner) = changes.embedded.first() {
            let path = path.join(inner);
            return Err(CommitError::EmbeddedRepository { path });
        }
        let base = request.base.oid();
        let start = opened.merge_base(base, head_id).unwrap_or(base);
        let index = Index::read(&opened, start, head_id, board).map_err(read)?;
        if let Some(inner) = index.embedded {
            let path = path.join(inner);
            return Err(CommitError::EmbeddedRepository { path });
        }
        Ok(Plan {
            head: head_id.into(),
            start: start.into(),
            dirty: changes.total > 0,
            touches_board: index.touches_board,
            staged: index.staged || opened.state() == RepositoryState::Merge,
        })
    })
    .await
}

/// What the index holds beyond the commit that the branch began at.
struct Index {
    embedded: Option<PathBuf>,
    touches_board: bool,
    staged: bool,
}

impl Index {
    fn read(
        opened: &git2::Repository,
        start: git2::Oid,
        head: git2::Oid,
        board: Option<&str>,
    ) -> Result<Self, git2::Error> {
        let tree = |commit| opened.find_commit(commit).and_then(|commit| commit.tree());
        let diff = |commit| opened.diff_tree_to_index(Some(&tree(commit)?), None, None);
        let since_start = diff(start)?;
        let mut found = Self {
            embedded: None,
            touches_board: false,
            staged: diff(head)?.deltas().len() > 0,
        };
        for delta in since_start.deltas() {
            let (old, new) = (delta.old_file(), delta.new_file());
            let path = new.path().or(old.path()).unwrap_or(Path::new(""));
            if board.is_some_and(|folder| path.starts_with(folder)) {
                found.touches_board = true;
            } else if new.mode() == FileMode::Commit
                && old.mode() != FileMode::Commit
                && !is_submodule(opened, path)
            {
                found.embedded.get_or_insert_with(|| path.to_owned());
            }
        }
        Ok(found)
    }
}

/// Whether `.gitmodules` says where the content of the repository at `path` comes from.
pub(super) fn is_submodule(opened: &git2::Repository, path: &Path) -> bool {
    let name = path.to_string_lossy();
    let found = opened.find_submodule(&name);
    found.is_ok_and(|submodule| submodule.url().is_ok_and(|url| url.is_some()))
}

fn read_error(path: &Path, source: git2::Error) -> RepositoryError {
    RepositoryError::Read {
        what: "the state",
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::test_support::{Fixture, sh, write};
    use crate::git::worktree::Prepared;

    /// A fixture with a worktree of a story, whose board is partly committed in the repository.
    async fn story() -> (Fixture, Prepared) {
        let fixture = Fixture::new().await;
        fixture.write(".ai-sdlc/stories/S-0001/story.md", "status: ready\n");
        fixture.write(".ai-sdlc/.gitignore", "worktrees\n");
        fixture.sh("git add -A && git commit -qm board");
        let prepared = fixture
            .worktrees()
            .prepare(&fixture.request("S-0001"))
            .await
            .unwrap();
        (fixture, prepared)
    }

    fn request(prepared: &Prepared) -> CommitRequest {
        CommitRequest {
            message: "feat(S-0001): a title\n\n# not a comment\n".to_owned(),
            branch: prepared.branch.clone(),
            base: prepared.base,
            board_folder: Some(".ai-sdlc".to_owned()),
            deadline: DEFAULT_COMMIT_DEADLINE,
            held_to: None,
        }
    }

    async fn commit(story: &(Fixture, Prepared)) -> Result<CommitOutcome, CommitError> {
        commit_all(&story.0.git, &story.1.path, &request(&story.1)).await
    }

    fn changed(prepared: &Prepared) -> String {
        let base = prepared.base;
        sh(
            &prepared.path,
            &format!("git diff --no-renames --name-status {base} HEAD"),
        )
    }

    #[tokio::test]
    async fn every_kind_of_change_is_committed() {
        let story = story().await;
        let path = &story.1.path;
        write(path, "new dir/ü.txt", "new\n");
        write(path, "run.sh", "#!/bin/sh\n");
        write(path, ".gitignore", "*.log\n");
        write(path, "a.log", "ignored");
        sh(
            path,
            "chmod +x run.sh; ln -s run.sh link; rm dir/other.txt; echo two >> file.txt",
        );
        let outcome = commit(&story).await.unwrap();
        let CommitOutcome::Committed { head, stat } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(head.to_string(), sh(path, "git rev-parse HEAD").trim());
        let expected = DiffStat {
            commits: 1,
            files: 6,
            insertions: 5,
            deletions: 1,
        };
        assert_eq!(stat, expected);
        let modes = sh(path, "git ls-tree HEAD link run.sh | cut -c1-6");
        assert_eq!(modes, "120000\n100755\n");
        let message = sh(path, "git log -1 --format=%B");
        assert_eq!(message.trim(), "feat(S-0001): a title\n\n# not a comment");
        assert_eq!(sh(path, "git status --porcelain"), "");
        assert_eq!(commit(&story).await.unwrap(), outcome);
    }

    #[tokio::test]
    async fn nothing_changed_is_nothing_and_commits_of_the_agent_count() {
        let story = story().await;
        assert!(matches!(
            commit(&story).await.unwrap(),
            CommitOutcome::Nothing { .. }
        ));
        write(&story.1.path, ".ai-sdlc/notes.md", "stays");
        assert!(matches!(
            commit(&story).await.unwrap(),
            CommitOutcome::Nothing { .. }
        ));
        write(&story.1.path, "by-agent.txt", "");
        sh(
            &story.1.path,
            "git add by-agent.txt && git commit -qm 'own commit'",
        );
        let outcome = commit(&story).await.unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed { stat, .. } if stat.commits == 1));
        assert_eq!(sh(&story.1.path, "git log -1 --format=%s"), "own commit\n");
        assert_eq!(
            sh(&story.1.path, "git status --porcelain"),
            "?? .ai-sdlc/notes.md\n"
        );
    }

    #[tokio::test]
    async fn the_board_is_never_committed_and_what_the_agent_committed_of_it_is_taken_back() {
        let story = story().await;
        let path = &story.1.path;
        write(path, ".ai-sdlc/stories/S-0001/story.md", "status: done\n");
        write(path, ".ai-sdlc/new.md", "new\n");
        sh(
            path,
            "git add -A && git commit -qm 'agent commits the board'",
        );
        write(
            path,
            ".ai-sdlc/stories/S-0001/story.md",
            "status: very done\n",
        );
        write(path, ".ai-sdlc/untracked.md", "x\n");
        sh(path, "echo x > code.txt");
        let outcome = commit(&story).await.unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed { stat, .. } if stat.files == 1));
        assert_eq!(changed(&story.1), "A\tcode.txt\n");
        let text = sh(
            path,
            "cat .ai-sdlc/stories/S-0001/story.md .ai-sdlc/new.md .ai-sdlc/untracked.md",
        );
        assert_eq!(text, "status: very done\nnew\nx\n");
    }

    #[tokio::test]
    async fn a_board_that_only_the_agent_committed_or_deleted_is_put_back() {
        let story = story().await;
        let path = &story.1.path;
        sh(
            path,
            "git rm -rqf .ai-sdlc && git commit -qm 'agent deletes the board'",
        );
        assert!(matches!(
            commit(&story).await.unwrap(),
            CommitOutcome::Committed { .. }
        ));
        assert_eq!(changed(&story.1), "");
    }

    #[tokio::test]
    async fn a_board_that_the_base_does_not_have_is_taken_out_again() {
        let fixture = Fixture::new().await;
        fixture.sh("echo .ai-sdlc/worktrees > .git/info/exclude");
        let prepared = fixture
            .worktrees()
            .prepare(&fixture.request("S-0001"))
            .await
            .unwrap();
        let story = (fixture, prepared);
        write(&story.1.path, ".ai-sdlc/a.md", "a");
        write(&story.1.path, "code.txt", "x");
        sh(
            &story.1.path,
            "git add -A && git commit -qm all && echo y > more.txt && git add -A",
        );
        write(&story.1.path, ".ai-sdlc/b.md", "b");
        assert!(matches!(
            commit(&story).await.unwrap(),
            CommitOutcome::Committed { .. }
        ));
        assert_eq!(changed(&story.1), "A\tcode.txt\nA\tmore.txt\n");
        assert!(story.1.path.join(".ai-sdlc/a.md").exists());
        sh(&story.1.path, "echo .ai-sdlc > .gitignore; echo z > z.txt");
        assert!(matches!(
            commit(&story).await.unwrap(),
            CommitOutcome::Committed { .. }
        ));
    }

    #[tokio::test]
    async fn another_branch_or_none_is_refused_by_name() {
        let story = story().await;
        sh(&story.1.path, "git checkout -q -b elsewhere");
        let error = commit(&story).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is on the branch `elsewhere` and not on"),
            "{error}"
        );
        sh(&story.1.path, "git checkout -q --detach");
        let error = commit(&story).await.unwrap_err();
        assert!(matches!(error, CommitError::OtherBranch { .. }));
    }

    #[tokio::test]
    async fn a_failing_hook_is_reported_with_its_output_and_signals_nothing_else() {
        let story = story().await;
        let hook = story.0.root.join(".git/hooks/pre-commit");
        write(
            &story.0.root,
            ".git/hooks/pre-commit",
            "#!/bin/sh\necho 'lint: bad'\nexit 3\n",
        );
        sh(&story.0.root, &format!("chmod +x '{}'", hook.display()));
        write(&story.1.path, "code.txt", "x");
        let error = commit(&story).await.unwrap_err();
        assert!(
            matches!(&error, CommitError::HookFailed { output } if output == "lint: bad"),
            "{error}"
        );
        assert_eq!(changed(&story.1), "");
        std::fs::remove_file(hook).unwrap();
        assert!(matches!(
            commit(&story).await.unwrap(),
            CommitOutcome::Committed { .. }
        ));
    }

    #[tokio::test]
    async fn a_repository_inside_is_never_swallowed() {
        for script in [
            "git init -q inner && touch inner/file",
            "git init -q a/inner && cd a/inner && git -c user.name=a -c user.email=b commit -q --allow-empty -m x",
            "git init -q inner && cd inner && git -c user.name=a -c user.email=b commit -q --allow-empty -m x \
             && cd .. && git add -A 2>/dev/null && git commit -qm 'agent swallows it'",
        ] {
            let story = story().await;
            sh(&story.1.path, script);
            let error = commit(&story).await.unwrap_err();
            assert!(
                matches!(&error, CommitError::EmbeddedRepository { path } if path.ends_with("inner")),
                "{script}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_merge_that_is_not_resolved_is_not_committed() {
        let story = story().await;
        let path = &story.1.path;
        sh(path, "echo ours > file.txt && git commit -qam ours");
        story
            .0
            .sh("echo theirs > file.txt && git commit -qam theirs");
        sh(path, "git merge -q trunk >/dev/null 2>&1 || true");
        let error = commit(&story).await.unwrap_err();
        assert!(matches!(error, CommitError::Unmerged { .. }), "{error}");
        sh(path, "echo both > file.txt && git add file.txt");
        assert!(matches!(
            commit(&story).await.unwrap(),
            CommitOutcome::Committed { .. }
        ));
        assert!(
            !story
                .0
                .root
                .join(".git/worktrees/S-0001-a-title/MERGE_HEAD")
                .exists()
        );
    }
}
