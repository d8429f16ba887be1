//! The last run of a board: what it has left, and how it is gone on with (`run --continue`).

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::config::Project;
use crate::engine::{OutcomeKind, RunId, RunView, Selection, Standing};
use crate::git::Repository;
use crate::orchestrator::{self, JOURNAL, Past, PastError};
use crate::report::{self, chain, plural};
use crate::story::{Board, Status, Store, StoryId};

/// What a run that is to be continued comes to.
pub(super) enum Continuation {
    /// The last run goes on.
    SameRun(Box<Past>),
    /// A new run works on what earlier ones have not brought to an end.
    NewRun(Selection, Usual),
    /// There is nothing to go on with.
    Nothing,
}

/// What a new run has from the last one, where nothing else is asked for.
pub(super) struct Usual {
    /// How many stories it works on at once.
    pub(super) slots: NonZeroUsize,
    /// The agent of stories that name none, if that is known.
    pub(super) agent: Option<String>,
}

/// The last run of a board, if there was one.
pub(super) enum LastRun {
    None,
    /// Its orchestrator was killed.
    Killed(Box<Past>),
    /// It ended by itself, or was stopped.
    Ended(Box<Past>),
    /// Its journal does not tell.
    Unknown(RunId, PastError),
}

impl LastRun {
    /// Reads its journal. Blocks.
    pub(super) fn of(project: &Project) -> Self {
        let runs = project.runs();
        let Some(run) = orchestrator::latest_run(&runs) else {
            return Self::None;
        };
        match Past::read(&run, &runs.join(run.as_str()).join(JOURNAL)) {
            Ok(past) if past.closed.is_some() => Self::Ended(Box::new(past)),
            Ok(past) => Self::Killed(Box::new(past)),
            // It was killed before it had begun anything.
            Err(PastError::Empty(_)) => Self::None,
            Err(error) => Self::Unknown(run, error),
        }
    }

    /// Whether it is the same run that goes on: it was killed, and nobody had asked it to stop.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self, Self::Killed(past) if !past.engine.is_stopping())
    }

    /// How it is gone on with.
    pub(super) fn into_continuation(self, board: &Board) -> Continuation {
        let goes_on = self.goes_on();
        let usual = Usual {
            slots: NonZeroUsize::MIN,
            agent: None,
        };
        let (unfinished, usual) = match self {
            Self::Killed(past) if goes_on => return Continuation::SameRun(past),
            // What was not through when it was stopped has been given back, or is in progress still.
            Self::Killed(past) | Self::Ended(past) => {
                let usual = Usual {
                    slots: past.engine.slots(),
                    agent: Some(past.opening.default_agent),
                };
                (unfinished(&past.engine.view()), usual)
            }
            Self::Unknown(run, error) => {
                tell_unknown(&run, &error);
                (BTreeSet::new(), usual)
            }
            Self::None => (BTreeSet::new(), usual),
        };
        let wanted: BTreeSet<StoryId> = board
            .stories
            .iter()
            .filter(|story| match story.status {
                // No other run has the board: it is so since a run was killed.
                Status::InProgress => true,
                Status::Ready => unfinished.contains(&story.id),
                _ => false,
            })
            .map(|story| story.id.clone())
            .collect();
        if wanted.is_empty() {
            Continuation::Nothing
        } else {
            Continuation::NewRun(Selection::Unfinished(wanted), usual)
        }
    }

    /// Brings the board to what the journal says, where a kill came between the two, or the end of the time that a stop
    /// may take.
    pub(super) fn repair(&self, store: &Store, board: &Board, repository: &Repository) {
        let (Self::Killed(past) | Self::Ended(past)) = self else {
            return;
        };
        for (story, result) in orchestrator::repair_board(store, board, past, repository) {
            match result {
                Ok(()) => report::warning(&format!(
                    "the board did not say how {story} ended in the last run; it does now"
                )),
                Err(reason) => {
                    report::warning(&format!("the board does not say how {story} is: {reason}"));
                }
            }
        }
    }

    /// Tells of a run that was killed, and how it is gone on with. Whether there was something to tell.
    pub(super) fn tell(&self) -> bool {
        match self {
            Self::Killed(past) => {
                let run = &past.opening.run;
                report::warning(&format!("run {run} was killed: {}", standing_of(past)));
                report::hint("`ai-sdlc run --continue` goes on with it");
                true
            }
            Self::Unknown(run, error) => {
                tell_unknown(run, error);
                false
            }
            Self::None | Self::Ended(_) => false,
        }
    }
}

/// The stories of a run that are not through, and that a person did not ask to be left.
fn unfinished(view: &RunView) -> BTreeSet<StoryId> {
    let open = |standing: &Standing| match standing {
        Standing::Ended(outcome) => !matches!(
            outcome.kind(),
            OutcomeKind::Succeeded | OutcomeKind::Failed | OutcomeKind::Blocked
        ),
        _ => true,
    };
    let open = view.stories.iter().filter(|story| open(&story.standing));
    open.map(|story| story.id.clone()).collect()
}

/// How a run that was killed stood, in one line.
fn standing_of(past: &Past) -> String {
    let view = past.engine.view();
    let all = view.stories.len();
    let through = view.stories.iter();
    let through = through.filter(|story| matches!(story.standing, Standing::Ended(_)));
    let interrupted: Vec<String> = past
        .engine
        .attempts()
        .iter()
        .map(|unit| unit.story.to_string())
        .collect();
    let mut text = format!(
        "{} of {} through",
        through.count(),
        plural(all, "story", "stories")
    );
    if !interrupted.is_empty() {
        text = format!("{text}; interrupted: {}", interrupted.join(", "));
    }
    text
}

fn tell_unknown(run: &RunId, error: &PastError) {
    report::warning(&format!(
        "what run {run} did is not known: {}",
        chain(error)
    ));
    report::hint("the board and the branches say how its stories are");
}

/// That there is nothing to go on with.
pub(super) fn nothing_to_continue() {
    report::note("Finished", "there is no interrupted run to continue");
    report::hint("`ai-sdlc run` works on the stories that are ready");
}
