//! From the command line and the configuration to the rules of a run.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::args::RunArgs;
use super::error::CliError;
use crate::config::{Config, EpicFailure, EpicWorktrees, LimitNames, MOST_SLOTS, WantedLimits};
use crate::engine::{
    Capacity, Deadlines, Housekeeping, Limits, OnFailure, Retention, RetryPolicy, Selection,
    Settings,
};
use crate::process::Machine;
use crate::report;

/// The rules of a run, which may use what `limits` say. `seed` makes its random waits its own.
pub(super) fn settings(
    args: &RunArgs,
    limits: Limits,
    config: &Config,
    selection: &Selection,
    seed: u64,
) -> Settings {
    let rules = &config.rules;
    let is_epic = matches!(selection, Selection::Epic(_));
    let keep = args.keep_worktrees || (is_epic && rules.epic_worktrees == EpicWorktrees::Keep);
    Settings {
        slots: slots(args, config, selection),
        most_of_provider: rules.limits.most_of_provider.clone(),
        turns_per_minute: rules.limits.turns_per_minute.clone(),
        order: selection.order(),
        on_failure: match selection {
            Selection::Batch(_) if somebody_can_answer(args) => OnFailure::Ask,
            Selection::Batch(_) => OnFailure::StopStarting,
            Selection::Epic(_) if rules.epic_failure == EpicFailure::StopStarting => {
                OnFailure::StopStarting
            }
            _ => OnFailure::GoOn,
        },
        when_idle: selection.when_idle(),
        deadlines: deadlines(config),
        patience: rules.patience,
        retention: if keep {
            Retention::KeepAll
        } else {
            Retention::RemoveSucceeded
        },
        retry: RetryPolicy {
            seed,
            ..rules.retry.clone()
        },
        intensity: rules.intensity,
        story_limits: rules.limits.story,
        run_limits: rules.limits.run.overridden_by(limits),
        day_limits: rules.limits.day,
        capacity: capacity(rules.limits.machine, Machine::this()),
        look_at_files: rules.look_at_files,
        housekeeping: Housekeeping {
            health_check: rules.patience.period(),
            ..Housekeeping::default()
        },
    }
}

/// What the agents of a run may have of the machine together: all of it, where nothing else is said.
fn capacity(said: Capacity, machine: Machine) -> Capacity {
    let all = machine.processors.map(|processors| {
        let processors = u64::try_from(processors.get()).unwrap_or(u64::MAX);
        processors.saturating_mul(1000)
    });
    Capacity {
        memory_bytes: said.memory_bytes.or(machine.memory_bytes),
        millicpus: said.millicpus.or(all),
    }
}

/// The options that say what a run may use.
const OPTIONS: LimitNames = LimitNames {
    minutes: "--max-minutes",
    tokens: "--max-tokens",
    cost: "--max-cost",
    turns: "--max-turns",
};

/// What the run may use, where the command line says so.
pub(super) fn limits(args: &RunArgs) -> Result<Limits, CliError> {
    let wanted = WantedLimits {
        minutes: args.max_minutes,
        tokens: args.max_tokens,
        cost_usd: args.max_cost,
        turns: args.max_turns,
    };
    wanted.check(&OPTIONS).map_err(CliError::new)
}

/// The usual deadlines, with the time besides that the user's own commands may take.
fn deadlines(config: &Config) -> Deadlines {
    let usual = Deadlines::default();
    let making_room = match config.max_disk {
        Some(_) => config.setup.longest_making_room(),
        None => Duration::ZERO,
    };
    Deadlines {
        grace: config.grace,
        prepare: usual.prepare + making_room + config.setup.longest_before(),
        settle: usual.settle + config.setup.longest_after(),
        ..usual
    }
}

/// How many stories are worked on at once.
fn slots(args: &RunArgs, config: &Config, selection: &Selection) -> NonZeroUsize {
    let one = NonZeroUsize::MIN;
    match selection {
        Selection::AllReady | Selection::Unfinished(_) => {
            parse("--concurrent", args.concurrent.as_deref(), one)
        }
        Selection::Epic(_) => {
            let default = config.rules.epic_slots;
            parse("--max-concurrent", args.max_concurrent.as_deref(), default)
        }
        Selection::Watch => parse("--max-concurrent", args.max_concurrent.as_deref(), one),
        Selection::Next | Selection::One(_) | Selection::Batch(_) => one,
    }
}

/// What is not a positive whole number counts as 1, as users of the predecessor expect; what is more than may be
/// configured counts as that.
fn parse(option: &str, text: Option<&str>, default: NonZeroUsize) -> NonZeroUsize {
    let Some(text) = text else {
        return default;
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.trim_start_matches('0');
    let wanted = match number.parse::<usize>() {
        Ok(wanted) if digits => NonZeroUsize::new(wanted),
        // A number that is too long to be read is a large one.
        Err(_) if digits && !number.is_empty() => Some(NonZeroUsize::MAX),
        _ => None,
    };
    let Some(wanted) = wanted else {
        report::warning(&format!(
            "{option} {text} is not a positive whole number; 1 story at a time"
        ));
        return NonZeroUsize::MIN;
    };
    if wanted > MOST_SLOTS {
        report::warning(&format!(
            "{option} {text} is more than {MOST_SLOTS}; {MOST_SLOTS} stories at a time"
        ));
    }
    wanted.min(MOST_SLOTS)
}

/// Whether a question would be seen, and its answer could be typed.
fn somebody_can_answer(args: &RunArgs) -> bool {
    report::is_interactive() && !args.json && !args.quiet
}
