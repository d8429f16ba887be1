//! How much of a budget is used, or of the machine, in words.

use super::duration;
use super::event::{amount, cost};
use crate::disk::Bytes;
use crate::engine::{Budget, Lack, Resource, Scope, Share};
use crate::story::StoryId;

/// Little is left of a budget: that of a story, of the run, or of the day.
pub(super) fn little_left(story: Option<&StoryId>, scope: Scope, share: Share) -> String {
    let Share {
        budget,
        used,
        limit,
    } = share;
    let percent = u128::from(used) * 100 / u128::from(limit.max(1));
    let who = match (scope, story) {
        (Scope::Story, Some(story)) => format!("{story} has"),
        (Scope::Story, None) => "a story has".to_owned(),
        (Scope::Run, _) => "the run has".to_owned(),
        (Scope::Day, _) => "the runs of this day have".to_owned(),
    };
    let whose = match scope {
        Scope::Story | Scope::Run => "its",
        Scope::Day => "their",
    };
    let number = |number: u64| match budget {
        Budget::Time => duration(number),
        Budget::Tokens => amount(number).unwrap_or_default(),
        Budget::Cost => cost(number).unwrap_or_default(),
        Budget::Turns => number.to_string(),
    };
    let (used, limit) = (number(used), number(limit));
    format!("{who} used {percent} % of {whose} {budget}: {used} of {limit}")
}

/// There is too little of the machine for the agent of a story, and for those behind it.
pub(super) fn too_little(story: &StoryId, lack: Lack) -> String {
    let number = |number: u64| of_machine(lack.resource, number);
    let (wanted, taken) = (number(lack.wanted), number(lack.taken));
    let (resource, capacity) = (lack.resource, number(lack.capacity));
    format!(
        "{story} and those behind it, for {resource}: its agent wants {wanted}, those that run want {taken} of {capacity}"
    )
}

/// Memory or processors, without the word for it.
pub fn of_machine(resource: Resource, number: u64) -> String {
    match resource {
        Resource::Memory => Bytes(number).to_string(),
        Resource::Processors => thousandths(number),
    }
}

/// A number of thousandths, without zeros at its end.
fn thousandths(number: u64) -> String {
    let text = format!("{}.{:03}", number / 1000, number % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_what_the_machine_has_too_little_of() {
        let story: StoryId = "S-0001".parse().unwrap();
        let said = |resource, wanted, taken, capacity| {
            let lack = Lack {
                resource,
                wanted,
                taken,
                capacity,
            };
            too_little(&story, lack)
        };
        assert_eq!(
            [
                said(Resource::Memory, 1 << 30, 3 << 29, 1 << 31),
                said(Resource::Processors, 1500, 1000, 2000),
            ],
            [
                "S-0001 and those behind it, for memory: its agent wants 1.0 GiB, those that run want 1.5 GiB of 2.0 GiB",
                "S-0001 and those behind it, for processors: its agent wants 1.5, those that run want 1 of 2",
            ]
        );
    }

    #[test]
    fn it_is_told_whose_budget_it_is_and_what_is_left() {
        let story: StoryId = "S-0001".parse().unwrap();
        let said = |story, scope, budget, used, limit| {
            let share = Share {
                budget,
                used,
                limit,
            };
            little_left(story, scope, share)
        };
        assert_eq!(
            [
                said(Some(&story), Scope::Story, Budget::Cost, 400_000, 500_000),
                said(None, Scope::Run, Budget::Time, 48_000, 60_000),
                said(None, Scope::Run, Budget::Tokens, 9_500, 10_000),
                said(None, Scope::Day, Budget::Turns, 80, 99),
            ],
            [
                "S-0001 has used 80 % of its cost budget: $0.40 of $0.50",
                "the run has used 80 % of its time: 48.0s of 1m 00s",
                "the run has used 95 % of its token budget: 9.5k tokens of 10.0k tokens",
                "the runs of this day have used 80 % of their budget of turns: 80 of 99",
            ]
        );
    }
}
