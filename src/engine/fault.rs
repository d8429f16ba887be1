//! Deliberate faults of the engine, by which the simulation shows that it would find them.
//!
//! In the program there are none: without the feature `faults`, which only the tests of this package switch on, asking
//! for one is the constant `false`. Pure.

/// A fault that the engine can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A story that starts counts as two.
    SlotCountedTwice,
    /// A story that starts does not count.
    SlotNotCounted,
    /// A slot is given back when an executor is asked to stop, not when it has.
    SlotFreedByAsking,
    /// A dependency counts as met once it has started.
    DependencyMetByStart,
    /// Stories whose dependency did not succeed are forgotten.
    DependentsForgotten,
    /// A stop forgets the stories that wait.
    StopForgetsWaiting,
    /// A stop forgets the stories that wait for their next attempt.
    StopForgetsDelayed,
    /// Stories start although the run is stopping.
    StartsAfterStop,
    /// What does not stop by itself is not killed.
    KillForgotten,
    /// The number of an attempt is used again.
    AttemptReused,
    /// What an earlier attempt says counts for the current one.
    StaleAttemptHeard,
    /// A claim of success is believed whatever the exit code.
    ExitCodeIgnored,
    /// Attempts are not counted.
    RetriesUnbounded,
    /// A story that waits for its next attempt is forgotten.
    BackOffForgotten,
    /// Every attempt is reported as the end of its story.
    RetryReportedAsEnd,
    /// Too many abnormal ends do not pause starts.
    IntensityIgnored,
    /// A story waits for a quota, and the others of its provider do not.
    QuotaIgnored,
    /// That a provider serves no more counts only for the story that has found it out.
    LimitHeardLate,
    /// Stories of a provider that refuses are started all the same.
    RefusalIgnored,
    /// More attempts are alive at once than a provider may have.
    ProviderRoomIgnored,
    /// Attempts that have ended count as alive for their provider.
    ProviderRoomKept,
    /// A story starts although there is too little of the machine left for its agent.
    CapacityIgnored,
    /// What agents that have ended had of the machine is not given back.
    CapacityKept,
    /// The budget of the run stops nothing.
    RunBudgetIgnored,
    /// A story with a predicted conflict does not start even when nothing else can.
    ConflictRefused,
    /// A story with a predicted conflict can be overtaken for ever.
    ConflictStarves,
    /// An agent that waits counts as one that stands still.
    WaitingIgnored,
    /// After a restart, slots of lost attempts stay taken.
    RestartKeepsSlots,
    /// After a restart, board entries that were under way are taken for written.
    RestartForgetsBoard,
    /// After a restart, nobody takes care of the ends of attempts.
    RestartForgetsSettling,
    /// After a restart, providers are waited for as if the time without the run had not passed.
    RestartForgetsAway,
    /// The time of the run counts no more once nothing is started.
    RunTimeEndsWithStarts,
    /// A used-up budget of the run makes a success of all stories something else.
    ExhaustedBeatsSuccess,
    /// A story is selected once more beside what is left of it.
    UnendableComesBack,
    /// A story is selected once more while its branch is being compared.
    ComesBackUncompared,
    /// A story is tried again although it has used up what it may use.
    UsedUpTriedAgain,
    /// What lost attempts have used does not count, and none of them has used up its budget.
    RestartForgetsLimits,
    /// What was told of an attempt counts as told of the next one.
    OverlapToldForEver,
    /// A failure stops the starts only when it is taken care of.
    FailureCountsLate,
    /// A story that is asked for again is not run again.
    NothingComesBack,
    /// A story whose text was changed counts as the one that it was.
    EditIgnored,
    /// What the attempts at a story have used stops none of them.
    StoryBudgetIgnored,
    /// The time of a story stops none of its attempts.
    StoryTimeIgnored,
    /// The next attempt follows at once.
    BackOffZero,
    /// The end of a story is no reason to look at the board.
    BoardNotLookedAt,
    /// Whose files overlap makes no difference.
    ConflictNotAvoided,
    /// How many turns a provider has in a minute makes no difference.
    PaceIgnored,
    /// An executor that asks for a turn is not answered.
    TurnForgotten,
    /// An attempt keeps its slot however long it would wait for its turn.
    NobodyPutOff,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 49] = [
        Self::SlotCountedTwice,
        Self::SlotNotCounted,
        Self::SlotFreedByAsking,
        Self::DependencyMetByStart,
        Self::DependentsForgotten,
        Self::StopForgetsWaiting,
        Self::StopForgetsDelayed,
        Self::StartsAfterStop,
        Self::KillForgotten,
        Self::AttemptReused,
        Self::StaleAttemptHeard,
        Self::ExitCodeIgnored,
        Self::RetriesUnbounded,
        Self::BackOffForgotten,
        Self::RetryReportedAsEnd,
        Self::IntensityIgnored,
        Self::QuotaIgnored,
        Self::LimitHeardLate,
        Self::RefusalIgnored,
        Self::ProviderRoomIgnored,
        Self::ProviderRoomKept,
        Self::CapacityIgnored,
        Self::CapacityKept,
        Self::PaceIgnored,
        Self::TurnForgotten,
        Self::NobodyPutOff,
        Self::RunBudgetIgnored,
        Self::ConflictRefused,
        Self::ConflictStarves,
        Self::WaitingIgnored,
        Self::RestartKeepsSlots,
        Self::RestartForgetsBoard,
        Self::RestartForgetsSettling,
        Self::RestartForgetsAway,
        Self::RunTimeEndsWithStarts,
        Self::ExhaustedBeatsSuccess,
        Self::UnendableComesBack,
        Self::ComesBackUncompared,
        Self::UsedUpTriedAgain,
        Self::RestartForgetsLimits,
        Self::OverlapToldForEver,
        Self::FailureCountsLate,
        Self::NothingComesBack,
        Self::EditIgnored,
        Self::StoryBudgetIgnored,
        Self::StoryTimeIgnored,
        Self::BackOffZero,
        Self::BoardNotLookedAt,
        Self::ConflictNotAvoided,
    ];
}

/// Whether the engine has this fault.
#[cfg(not(feature = "faults"))]
#[inline]
pub(super) const fn is(_fault: Fault) -> bool {
    false
}

#[cfg(feature = "faults")]
pub use injected::inject;
#[cfg(feature = "faults")]
pub(super) use injected::is;

#[cfg(feature = "faults")]
mod injected {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static INJECTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Gives the engines of this thread a fault, or none.
    pub fn inject(fault: Option<Fault>) {
        INJECTED.set(fault);
    }

    pub(in crate::engine) fn is(fault: Fault) -> bool {
        INJECTED.get() == Some(fault)
    }
}
