//! `ai-sdlc demo`: the whole machine on a throw-away repository, with no key and no network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::RunArgs;
use super::error::{CliError, SOME_DID_NOT, SUCCESS};
use super::init::make_board;
use super::run::run_in;
use crate::agent;
use crate::config::Project;
use crate::git::{Git, GitError};
use crate::report::event::Counts;
use crate::report::{self, Human, Verbosity};
use crate::story::{Content, NewStory, Store, TakenNames};

/// Its files take no space worth mentioning.
const CONFIGURATION: &str = "{\n  \"worktree\": {\n    \"minFree\": 0\n  }\n}\n";

/// How many stories run at a time.
const CONCURRENT: &str = "3";

/// How the stories below end when everything works: one fails on purpose, and what depends on it is skipped.
const EXPECTED: Counts = Counts {
    succeeded: 6,
    failed: 1,
    blocked: 0,
    timed_out: 0,
    stalled: 0,
    crashed: 0,
    protocol_error: 0,
    prepare_failed: 0,
    budget_exceeded: 0,
    quota_exhausted: 0,
    provider_refused: 0,
    cancelled: 0,
    skipped: 1,
};

/// The stories: title, what they depend on, and what they do.
const STORIES: &[(&str, &str, &str)] = &[
    (
        "Write a greeting",
        "",
        "sleep 1\nprintf 'Hello from %s.\\n' \"$AI_SDLC_STORY_ID\" > greeting.txt",
    ),
    (
        "Count the lines of the readme",
        "",
        "sleep 2\nwc -l < README.md > lines.txt",
    ),
    (
        "Translate the greeting",
        "S-0001",
        "sleep 1\nsed 's/Hello/Bonjour/' greeting.txt > salutation.txt",
    ),
    (
        "Fail on purpose",
        "",
        "sleep 0.5\necho 'This story fails on purpose, to show what that looks like.' >&2\nexit 3",
    ),
    ("Need the one that fails", "S-0004", "echo 'never reached'"),
    (
        "Find nothing to change",
        "",
        "echo 'Everything is as it should be.'",
    ),
    (
        "Make a table of squares",
        "",
        "for n in 1 2 3 4 5; do echo \"$n $((n * n))\"; sleep 0.3; done > squares.txt",
    ),
    (
        "Write a licence",
        "",
        "sleep 0.2\necho 'Do what you like.' > LICENSE",
    ),
];

pub(super) fn demo() -> Result<ExitCode, CliError> {
    let cannot =
        |error: std::io::Error| CliError::new(format!("cannot make a repository: {error}"));
    let folder = tempfile::Builder::new()
        .prefix("ai-sdlc-demo-")
        .tempdir()
        .map_err(cannot)?;
    // It stays, so that one can look at it; the last lines say where it is.
    let root = folder.keep();
    build(&root)?;
    let args = RunArgs {
        concurrent: Some(CONCURRENT.to_owned()),
        agent: Some(agent::EMBEDDED.to_owned()),
        ..RunArgs::default()
    };
    let human = Human::new(Verbosity::Normal);
    let (code, counts) = run_in(Project::at(&root)?, &args, vec![Box::new(human)])?;
    let shown = report::shell_quoted(&root);
    match counts {
        Some(EXPECTED) => {
            report::note(
                "As planned",
                "one story failed on purpose, and what needs it was skipped",
            );
            report::note(
                "Look at",
                &format!("git -C {shown} log --oneline --graph --all"),
            );
            report::note("", &format!("cd {shown} && ai-sdlc status"));
            report::note("Clean up", &format!("rm -rf {shown}"));
            Ok(ExitCode::from(SUCCESS))
        }
        Some(_) if code == SOME_DID_NOT || code == SUCCESS => Err(CliError::new(format!(
            "the demonstration did not go as planned; everything is in {shown}"
        ))
        .exit(SOME_DID_NOT)),
        _ => {
            report::note("Clean up", &format!("rm -rf {shown}"));
            Ok(ExitCode::from(code))
        }
    }
}

/// Makes the repository, its board and its stories.
fn build(root: &Path) -> Result<(), CliError> {
    let readme = root.join("README.md");
    std::fs::write(&readme, "# A demonstration\n\nMade by `ai-sdlc demo`.\n")
        .map_err(|error| CliError::new(format!("cannot write {}: {error}", readme.display())))?;
    make_repository(root)?;
    make_board(root, CONFIGURATION)?;
    let store = Store::new(root.join(".ai-sdlc"));
    for (place, (title, needs, script)) in STORIES.iter().enumerate() {
        let priority = (place + 1) * 10;
        let text = format!(
            "---\ntitle: {title}\npriority: {priority}\nstatus: ready\nagent: {}\ndependencies: [{needs}]\n---\n\n\
             # {title}\n\n```sh\n{script}\n```\n",
            agent::EMBEDDED,
        );
        store.create(&NewStory {
            content: Content::File {
                name: "story.md".to_owned(),
                text,
            },
            created: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            edits: Vec::new(),
            taken: TakenNames::default(),
        })?;
    }
    Ok(())
}

fn make_repository(root: &Path) -> Result<(), CliError> {
    let root = PathBuf::from(root);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no runtime: {error}")))?;
    let made: Result<(), GitError> = runtime.block_on(async {
        let git = Git::new().await?;
        let steps: [&[&str]; 5] = [
            &["init", "--quiet", "--initial-branch=main"],
            // The commits of the demonstration are nobody's, and must not fail for want of a name or a key.
            &["config", "user.name", "ai-sdlc demo"],
            &["config", "user.email", "demo@localhost"],
            &["config", "commit.gpgSign", "false"],
            &["add", "README.md"],
        ];
        for step in steps {
            git.run(&root, step).await?;
        }
        git.run(&root, ["commit", "--quiet", "--message", "Begin"])
            .await?;
        Ok(())
    });
    made.map_err(CliError::from)
}
