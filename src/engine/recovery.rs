//! What becomes of a story of a run whose orchestrator was killed, by what is found of it: one table. Pure.
//!
//! What the journal says decides about the attempt (the scheduler's part, `scheduler/recovery.rs`, does as is said here);
//! what lies on the disk decides about the worktree.

/// What is found of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// How far the journal has it.
    pub stood: Stood,
    /// What its attempt has left running.
    pub processes: Processes,
    /// What lies where its worktree belongs.
    pub tree: Tree,
    /// What its branch has.
    pub branch: Branch,
    /// Whether its agent can be spoken to where it was interrupted.
    pub conversation: Conversation,
    /// What its limits leave for another attempt.
    pub left: Left,
}

/// How far the journal has a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// No attempt was begun.
    NotBegun,
    /// An attempt is over, and another one was to follow.
    Between,
    /// Its worktree was being made.
    Preparing,
    /// Its executor was being started, worked, or was being stopped.
    Working,
    /// Its executor had ended, and the end was being taken care of.
    Settling,
    /// It was through.
    Through,
}

/// What an attempt has left running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// Nothing, or nothing any more.
    Gone,
    /// Something that cannot be ended.
    Stay,
}

/// What lies where a worktree belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// Nothing.
    Missing,
    /// The worktree, whatever is in it.
    Stands,
    /// A worktree that was never made to its end.
    HalfMade,
    /// Something that a person has to see to: something else is there, or something else has its branch.
    Foreign,
}

/// What a branch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// There is none.
    Missing,
    /// Nothing of its own.
    Level,
    /// Commits of its own.
    Ahead,
}

/// Whether an agent can be spoken to where it was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversation {
    /// Its name is not known, or the agent cannot do that.
    Unknown,
    /// Its name is known.
    Known,
}

/// What limits leave for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Something, or there are none.
    Something,
    /// Nothing.
    Nothing,
}

/// What becomes of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Of its attempt.
    pub attempt: Attempt,
    /// Of its worktree.
    pub worktree: Worktree,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing: the story is through.
    Over,
    /// The run does not go on: nobody may work beside what cannot be ended.
    Refuse,
    /// Its end is taken care of once more.
    SettleAgain,
    /// None is lost: the story waits for its turn.
    Wait,
    /// It is lost, which is not held against its story, and the next one follows.
    Next(Talk),
    /// It is lost, and its story has nothing left for another one.
    End,
    /// It is lost or was none, and a person has to see to what is in the way.
    AskPerson,
}

/// How the next attempt begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// With a new conversation.
    Afresh,
    /// In the one that was interrupted.
    GoesOn,
}

/// What becomes of a worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worktree {
    /// It is left as it is.
    Leave,
    /// It is made, on a new branch or one that has nothing of its own.
    Make,
    /// It is made on the branch that has the work.
    MakeOnBranch,
    /// It is made to its end.
    Finish,
    /// What is only in it is saved, whoever has left it there; then the next attempt goes on in it.
    Keep,
}

/// What becomes of a story.
pub fn decide(found: Found) -> Recovery {
    let leave = |attempt| Recovery {
        attempt,
        worktree: Worktree::Leave,
    };
    if found.processes == Processes::Stay {
        return leave(Attempt::Refuse);
    }
    let lost = match found.stood {
        Stood::Through => return leave(Attempt::Over),
        Stood::Settling => return leave(Attempt::SettleAgain),
        Stood::NotBegun | Stood::Between => false,
        Stood::Preparing | Stood::Working => true,
    };
    if lost && found.left == Left::Nothing {
        return leave(Attempt::End);
    }
    let worktree = match (found.tree, found.branch) {
        (Tree::Foreign, _) => return leave(Attempt::AskPerson),
        (Tree::Stands, _) => Worktree::Keep,
        (Tree::HalfMade, _) => Worktree::Finish,
        (Tree::Missing, Branch::Ahead) => Worktree::MakeOnBranch,
        (Tree::Missing, Branch::Missing | Branch::Level) => Worktree::Make,
    };
    let goes_on = found.stood == Stood::Working
        && found.tree == Tree::Stands
        && found.conversation == Conversation::Known;
    let attempt = match (lost, goes_on) {
        (false, _) => Attempt::Wait,
        (true, false) => Attempt::Next(Talk::Afresh),
        (true, true) => Attempt::Next(Talk::GoesOn),
    };
    Recovery { attempt, worktree }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOOD: [Stood; 6] = [
        Stood::NotBegun,
        Stood::Between,
        Stood::Preparing,
        Stood::Working,
        Stood::Settling,
        Stood::Through,
    ];
    const TREES: [Tree; 4] = [Tree::Missing, Tree::Stands, Tree::HalfMade, Tree::Foreign];

    /// The same table by its answers: in which cases each of them is the right one. Written without [`decide`].
    fn is_right(found: Found, attempt: Attempt) -> bool {
        let Found {
            stood,
            processes,
            tree,
            left,
            conversation,
            ..
        } = found;
        let alone = processes == Processes::Gone;
        let free = tree != Tree::Foreign;
        let lost = [Stood::Preparing, Stood::Working].contains(&stood);
        let open = lost || [Stood::NotBegun, Stood::Between].contains(&stood);
        let talks =
            conversation == Conversation::Known && stood == Stood::Working && tree == Tree::Stands;
        match attempt {
            Attempt::Refuse => !alone,
            Attempt::Over => alone && stood == Stood::Through,
            Attempt::SettleAgain => alone && stood == Stood::Settling,
            Attempt::End => alone && lost && left == Left::Nothing,
            Attempt::AskPerson => alone && open && !free && !(lost && left == Left::Nothing),
            Attempt::Wait => alone && open && !lost && free,
            Attempt::Next(Talk::GoesOn) => alone && lost && left == Left::Something && talks,
            Attempt::Next(Talk::Afresh) => {
                alone && lost && left == Left::Something && free && !talks
            }
        }
    }

    fn is_fitting(found: Found, recovery: Recovery) -> bool {
        let begins = matches!(recovery.attempt, Attempt::Wait | Attempt::Next(_));
        match recovery.worktree {
            Worktree::Keep => begins && found.tree == Tree::Stands,
            Worktree::Finish => begins && found.tree == Tree::HalfMade,
            Worktree::MakeOnBranch => {
                begins && found.tree == Tree::Missing && found.branch == Branch::Ahead
            }
            Worktree::Make => {
                begins && found.tree == Tree::Missing && found.branch != Branch::Ahead
            }
            Worktree::Leave => !begins,
        }
    }

    #[test]
    fn every_case_has_the_one_right_answer() {
        let every = [
            Attempt::Over,
            Attempt::Refuse,
            Attempt::SettleAgain,
            Attempt::Wait,
            Attempt::Next(Talk::Afresh),
            Attempt::Next(Talk::GoesOn),
            Attempt::End,
            Attempt::AskPerson,
        ];
        let mut seen = Vec::new();
        let mut cases = 0;
        for stood in STOOD {
            for tree in TREES {
                for (processes, branch) in
                    [Processes::Gone, Processes::Stay]
                        .into_iter()
                        .flat_map(|processes| {
                            let branches = [Branch::Missing, Branch::Level, Branch::Ahead];
                            branches.map(|branch| (processes, branch))
                        })
                {
                    for (conversation, left) in [
                        (Conversation::Unknown, Left::Something),
                        (Conversation::Unknown, Left::Nothing),
                        (Conversation::Known, Left::Something),
                        (Conversation::Known, Left::Nothing),
                    ] {
                        let found = Found {
                            stood,
                            processes,
                            tree,
                            branch,
                            conversation,
                            left,
                        };
                        let recovery = decide(found);
                        let right = every.map(|attempt| is_right(found, attempt));
                        let number = right.iter().filter(|right| **right).count();
                        assert_eq!(number, 1, "{found:?}: {right:?}");
                        assert!(is_right(found, recovery.attempt), "{found:?}: {recovery:?}");
                        assert!(is_fitting(found, recovery), "{found:?}: {recovery:?}");
                        seen.push(recovery.attempt);
                        cases += 1;
                    }
                }
            }
        }
        assert_eq!(cases, 6 * 4 * 6 * 4);
        assert!(every.iter().all(|attempt| seen.contains(attempt)));
    }
}
