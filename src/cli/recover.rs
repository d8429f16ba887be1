//! `ai-sdlc recover`: lists, shows and gives back work that was saved before it was committed. It needs no board, and
//! writes to nothing that exists.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::args::{RecoverArgs, RecoverCommand, RecoverListArgs, RecoverRestoreArgs};
use super::error::{CliError, SUCCESS};
use super::working_directory;
use crate::git::{
    Git, Repository, RestoreError, Salvage, SavedFile, Standing, restore_branch, restore_files,
};
use crate::report::{self, plural};

/// The version of the JSON form.
const VERSION: u32 = 1;

/// The most files that are shown; the whole list is git's to show.
const MOST_FILES: usize = 50;

/// The most stories that an error names.
const MOST_NAMED: usize = 10;

pub(super) fn recover(args: &RecoverArgs) -> Result<ExitCode, CliError> {
    let repository = Repository::discover(&working_directory()?)?;
    match &args.command {
        None => list(&repository, &args.list),
        Some(RecoverCommand::List(args)) => list(&repository, args),
        Some(RecoverCommand::Show(args)) => {
            let number = args.attempt.map(std::num::NonZeroU32::get);
            show(&repository, &find(&repository, &args.id, number)?)
        }
        Some(RecoverCommand::Restore(args)) => {
            let number = args.attempt.map(std::num::NonZeroU32::get);
            restore(&repository, &find(&repository, &args.id, number)?, args)
        }
    }
}

/// The salvage of a story: that of the attempt, or the last one.
fn find(repository: &Repository, id: &str, attempt: Option<u32>) -> Result<Salvage, CliError> {
    let all = repository.salvages()?;
    let of_story: Vec<&Salvage> = all.iter().filter(|one| is_meant(one, id)).collect();
    if of_story.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|one| one.story.as_str()).collect();
        names.dedup();
        let hint = match names.len() {
            0 => "nothing was saved in this repository".to_owned(),
            1..=MOST_NAMED => format!("there is something of {}", names.join(", ")),
            _ => "`ai-sdlc recover` lists what was saved".to_owned(),
        };
        return Err(CliError::new(format!("nothing was saved of a story {id}")).hint(hint));
    }
    let is_wanted = |one: &&&Salvage| attempt.is_none_or(|wanted| one.attempt.get() == wanted);
    if let Some(found) = of_story.iter().rfind(is_wanted) {
        return Ok((*found).clone());
    }
    let known: Vec<String> = of_story
        .iter()
        .map(|one| one.attempt.get().to_string())
        .collect();
    let (story, wanted) = (&of_story[0].story, attempt.unwrap_or_default());
    let message = format!("nothing was saved of attempt {wanted} at {story}");
    Err(CliError::new(message).hint(format!("attempts with something: {}", known.join(", "))))
}

/// Whether a person means that story: case does not count, nor do zeros in front of a number.
fn is_meant(salvage: &Salvage, id: &str) -> bool {
    let number = |text: &str| {
        let digits = text.strip_prefix("S-").or(text.strip_prefix("s-"));
        digits.unwrap_or(text).parse::<u64>().ok()
    };
    let named = number(id).filter(|_| salvage.story.number().is_some());
    salvage.story.same_as(id) || (named.is_some() && named == salvage.story.number())
}

#[derive(Debug, Serialize)]
struct ListView {
    version: u32,
    salvages: Vec<SalvageView>,
}

#[derive(Debug, Serialize)]
struct SalvageView {
    story: String,
    attempt: u32,
    r#ref: String,
    commit: String,
    /// RFC 3339, in UTC.
    saved_at: String,
    why: String,
    /// None when the story has no branch any more.
    branch: Option<String>,
    /// How many files it changes.
    files: usize,
    /// How many of them the branch does not have like that.
    differing: usize,
    /// Whether it has what was staged and otherwise in the files: no branch is compared with that.
    staged: bool,
    /// Whether it has repositories inside, with their history.
    repositories: bool,
    /// Whether the branch has all of it.
    contained: bool,
    superseded: bool,
}

impl SalvageView {
    fn new(salvage: &Salvage, standing: Standing) -> Self {
        Self {
            story: salvage.story.to_string(),
            attempt: salvage.attempt.get(),
            r#ref: salvage.reference(),
            commit: salvage.commit.to_string(),
            saved_at: instant(salvage),
            why: salvage.why.clone(),
            staged: salvage.index.is_some(),
            repositories: salvage.has_repositories,
            contained: !has_more(salvage, &standing),
            branch: standing.branch,
            files: standing.files,
            differing: standing.differing,
            superseded: standing.is_superseded,
        }
    }
}

fn instant(salvage: &Salvage) -> String {
    let stamp = jiff::Timestamp::from_second(salvage.saved_at);
    stamp.map_or_else(|_| "-".to_owned(), |stamp| stamp.to_string())
}

fn list(repository: &Repository, args: &RecoverListArgs) -> Result<ExitCode, CliError> {
    let mut views = Vec::new();
    let mut hidden = 0;
    for salvage in repository.salvages()? {
        let standing = repository.standing_of(&salvage)?;
        if args.all || is_needed(&salvage, &standing) {
            views.push(SalvageView::new(&salvage, standing));
        } else {
            hidden += 1;
        }
    }
    if args.json {
        let view = ListView {
            version: VERSION,
            salvages: views,
        };
        let text =
            serde_json::to_string_pretty(&view).map_err(|error| CliError::from_error(&error))?;
        report::data(&format!("{text}\n"));
        return Ok(ExitCode::from(SUCCESS));
    }
    if views.is_empty() {
        report::data("Nothing to recover.\n");
    } else {
        report::data(&table(&views));
        report::hint(
            "`ai-sdlc recover show ID` shows one, `ai-sdlc recover restore ID` gives it back",
        );
    }
    if hidden > 0 {
        report::hint(&format!(
            "--all lists {hidden} more, whose work was committed since"
        ));
    }
    Ok(ExitCode::from(SUCCESS))
}

/// Whether a salvage has something that was not committed since.
fn is_needed(salvage: &Salvage, standing: &Standing) -> bool {
    has_more(salvage, standing) && !standing.is_superseded
}

/// Whether a salvage has something that its branch does not have. The index and repositories inside are in none of the
/// files that are compared.
fn has_more(salvage: &Salvage, standing: &Standing) -> bool {
    standing.differing > 0 || salvage.index.is_some() || salvage.has_repositories
}

fn table(views: &[SalvageView]) -> String {
    let width = views.iter().map(|view| view.story.len()).max().unwrap_or(0);
    let rows = views.iter().map(|view| {
        let stands = stands(view);
        // An instant without its seconds is enough for people.
        let when = view.saved_at.get(..16).unwrap_or("-").replace('T', " ");
        format!(
            "{:<width$}  attempt {:<2}  {when}  {stands}: {}\n",
            view.story, view.attempt, view.why
        )
    });
    rows.collect()
}

/// What of a salvage its branch does not have, in words.
fn stands(view: &SalvageView) -> String {
    let mut only_here = Vec::new();
    if view.differing > 0 {
        let files = plural(view.differing, "file", "files");
        let place = match view.branch {
            Some(_) => "on its branch",
            None => "in what is checked out",
        };
        only_here.push(format!("{files} not {place}"));
    }
    if view.staged {
        only_here.push("staged changes".to_owned());
    }
    if view.repositories {
        only_here.push("a repository inside".to_owned());
    }
    match (only_here.is_empty(), &view.branch) {
        (false, _) => only_here.join(", "),
        (true, Some(_)) => "its branch has it".to_owned(),
        (true, None) => "what is checked out has it".to_owned(),
    }
}

fn show(repository: &Repository, salvage: &Salvage) -> Result<ExitCode, CliError> {
    let origin = repository.origin_of(salvage)?;
    let files = repository.saved_files(salvage, origin)?;
    report::data(&described(salvage, &files));
    let commit = salvage.commit.short();
    match origin {
        Some(origin) => report::hint(&format!("git diff {} {commit}", origin.short())),
        None => report::hint(&format!("git show {commit}")),
    }
    report::hint(&format!(
        "ai-sdlc recover restore {} --attempt {}",
        salvage.story,
        salvage.attempt.get()
    ));
    Ok(ExitCode::from(SUCCESS))
}

fn described(salvage: &Salvage, files: &[SavedFile]) -> String {
    let mut lines = vec![
        format!(
            "{}, attempt {}: {}",
            salvage.story,
            salvage.attempt.get(),
            salvage.why
        ),
        format!(
            "saved {} as {} ({})",
            instant(salvage),
            salvage.commit.short(),
            salvage.reference()
        ),
        String::new(),
    ];
    lines.extend(files.iter().take(MOST_FILES).map(row));
    if files.len() > MOST_FILES {
        lines.push(format!("  and {} more", files.len() - MOST_FILES));
    }
    let sum = |count: fn(&SavedFile) -> usize| files.iter().map(count).sum::<usize>();
    lines.push(format!(
        "{} (+{} -{})",
        plural(files.len(), "file", "files"),
        sum(|file| file.insertions),
        sum(|file| file.deletions)
    ));
    if let Some(index) = salvage.index {
        let index = index.short();
        lines.push(format!(
            "what was staged and is otherwise in the files: {index}"
        ));
    }
    if salvage.has_repositories {
        lines.push(
            "repositories inside: `restore --to` gives them back with their history".to_owned(),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

fn row(file: &SavedFile) -> String {
    // A file name can hold a line break.
    let path = file.path.to_string_lossy().replace(char::is_control, "?");
    format!(
        "  {} {path} (+{} -{})",
        file.letter, file.insertions, file.deletions
    )
}

fn restore(
    repository: &Repository,
    salvage: &Salvage,
    args: &RecoverRestoreArgs,
) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("there is no runtime: {error}")))?;
    runtime.block_on(async {
        let git = Git::new().await?;
        match (&args.to, &args.branch) {
            (Some(to), _) => restore_to(&git, repository, salvage, to).await,
            (None, Some(branch)) => restore_at(&git, repository, salvage, branch).await,
            (None, None) => {
                let number = salvage.attempt.get();
                let branch = format!("ai-sdlc/salvage/{}-{number}", salvage.story);
                restore_at(&git, repository, salvage, &branch).await
            }
        }
    })
}

async fn restore_at(
    git: &Git,
    repository: &Repository,
    salvage: &Salvage,
    branch: &str,
) -> Result<ExitCode, CliError> {
    restore_branch(git, repository, salvage.commit, branch).await?;
    let commit = salvage.commit.short();
    report::note("Restored", &format!("branch {branch} at {commit}"));
    if salvage.has_repositories {
        report::hint("its repositories inside come back with their history only by --to");
    }
    report::hint(&format!("git worktree add ../{} {branch}", salvage.story));
    Ok(ExitCode::from(SUCCESS))
}

async fn restore_to(
    git: &Git,
    repository: &Repository,
    salvage: &Salvage,
    to: &Path,
) -> Result<ExitCode, CliError> {
    restore_files(git, repository, salvage.commit, to).await?;
    report::note(
        "Restored",
        &format!("{} into {}", salvage.commit.short(), to.display()),
    );
    Ok(ExitCode::from(SUCCESS))
}

impl From<RestoreError> for CliError {
    fn from(error: RestoreError) -> Self {
        let hint = match &error {
            RestoreError::Exists { .. } => Some("--to takes a folder that does not exist"),
            RestoreError::BranchExists { .. } | RestoreError::BranchBeside { .. } => {
                Some("--branch takes another name")
            }
            RestoreError::BranchName { .. } => Some("a name such as `recovered/S-0001` will do"),
            _ => None,
        };
        let converted = Self::from_error(&error);
        match hint {
            Some(hint) => converted.hint(hint),
            None => converted,
        }
    }
}
