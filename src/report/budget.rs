//! How much of a budget is used, in words.

use super::duration;
use super::event::{amount, cost};
use crate::engine::{Budget, Scope, Share};
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

#[cfg(test)]
mod tests {
    use super::*;

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
