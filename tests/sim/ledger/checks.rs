//! What must hold between two steps, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use ai_sdlc::engine::{
    BoardEntry, Budget, Order, Outcome, RunView, Scope, Share, Standing, StoryView, Usage, Verdict,
};
use ai_sdlc::story::StoryId;

use super::{Known, Ledger};

impl Ledger {
    /// What must hold between two steps.
    pub(crate) fn check(&mut self) {
        let slots = self.settings.slots.get();
        let holders = self.holders.len();
        self.must(holders <= slots, || {
            format!("{holders} attempts hold {slots} slots")
        });
        let alive = self.alive.len();
        self.must(alive <= slots, || {
            format!("{alive} executors are alive, of {slots}")
        });
        let most = self.settings.most_of_provider.iter();
        let crowded = most
            .map(|(name, most)| (name.clone(), self.holders_of(Some(name)), most.get()))
            .find(|(_, holders, most)| holders > most);
        self.must(crowded.is_none(), || {
            format!("too many attempts of a provider: {crowded:?}")
        });
        self.check_budgets();
        self.check_turns();
        let came: Vec<StoryId> = self
            .stories
            .iter()
            .filter(|(_, known)| !known.files.is_empty() && known.waits.is_none())
            .filter(|(_, known)| self.is_eligible(known))
            .map(|(id, _)| id.clone())
            .collect();
        for id in came {
            self.stories.get_mut(&id).unwrap().waits = Some(0);
        }
        if let Some((provider, least)) = self.limited.take() {
            let until = self.providers.get(&provider).copied();
            self.must(until.is_some_and(|until| until >= least), || {
                format!("{provider:?} has met a limit, and is paused until {until:?}")
            });
        }
        let waits = |known: &Known| {
            let provider = known.provider.as_ref();
            provider.is_some_and(|provider| self.refused.contains_key(provider))
                && known.ended.is_none()
                && known.attempting.is_none()
        };
        let waits = self.stories.iter().find(|(_, known)| waits(known));
        let waits = waits.map(|(id, _)| id.clone());
        self.must(waits.is_none(), || {
            format!("{waits:?} waits for a provider that refuses")
        });
        let untold = self.refused.values().any(|told| !told);
        self.must(!untold, || "that a provider refuses is not told".to_owned());
        let look = !self.look;
        self.must(look, || {
            "a story is through, and nobody looks at the board".to_owned()
        });
        let missing = self.joining.first().cloned();
        self.must(missing.is_none(), || format!("{missing:?} does not join"));
        let untold = self.overlaps.first().cloned();
        self.must(untold.is_none(), || {
            format!("{untold:?} overlap, and nobody is told")
        });
        let open = self.stopped_at.is_none()
            && self.closed.is_none()
            && !self.asking
            && !self.finished
            && self.paused_until <= self.clock
            // Whether a failure ends its story is known when its end is taken care of.
            && self.stories.values().all(|known| known.failed_after.is_none());
        if holders < slots && open {
            let idle = match self.settings.order {
                Order::AnyReady => self
                    .stories
                    .iter()
                    .find(|(id, known)| self.startable(id, known)),
                Order::AsGiven => {
                    let first = self
                        .stories
                        .iter()
                        .filter(|(_, known)| known.ended.is_none());
                    first
                        .min_by_key(|(_, known)| known.place)
                        .filter(|(id, known)| self.startable(id, known))
                }
            };
            let idle = idle.map(|(id, _)| id.clone());
            // Who could start but for the machine has its turn: nobody overtakes it.
            let waits =
                |(id, known): (&StoryId, &Known)| self.startable(id, known) && !self.fits(known);
            let idle = idle.filter(|_| !self.stories.iter().any(waits));
            self.must(idle.is_none(), || {
                format!("a slot is free and {idle:?} could start")
            });
        }
    }

    /// Little is left of a budget: that is so, and was not told before.
    pub(super) fn budget_near(&mut self, story: Option<&StoryId>, scope: Scope, share: Share) {
        self.count("budgets nearly used up");
        let used = match (story.and_then(|id| self.stories.get(id)), share.budget) {
            (None, Budget::Time) => self.clock - self.began_at.unwrap_or_default(),
            (Some(known), Budget::Time) => known.time + self.clock.saturating_sub(known.began_at),
            (None, budget) => used_of(self.total, budget),
            (Some(known), budget) => {
                let holder = self.holders.iter().find(|unit| Some(&unit.story) == story);
                let used = holder.and_then(|unit| self.usage.get(unit));
                used_of(known.account + used.copied().unwrap_or_default(), budget)
            }
        };
        let is_so = share.used == used && used <= share.limit && used * 5 >= share.limit * 4;
        self.must(is_so, || {
            format!("{used} are used of the budget of {scope:?} {story:?} that is told: {share:?}")
        });
        let budget = (story.cloned(), scope, share.budget);
        let told = self.near.contains(&budget);
        self.must(!told, || format!("{budget:?} is told twice"));
        self.near.push(budget);
    }

    /// Whoever is beyond a limit is asked to end.
    fn check_budgets(&mut self) {
        let limits = self.settings.run_limits;
        let time_up = limits
            .time
            .zip(self.began_at)
            .is_some_and(|(limit, began)| {
                u128::from(self.clock.saturating_sub(began)) >= limit.as_millis()
            });
        let beyond = time_up || limits.exceeded_by(self.total).is_some();
        let told = self.exceeded || self.stopped_at.is_some() || self.finished;
        self.must(!beyond || told, || {
            "a budget of the run is used up, and it goes on".to_owned()
        });
        let limits = self.settings.story_limits;
        let late = self.holders.iter().find(|unit| {
            let known = &self.stories[&unit.story];
            let took = known.time + self.clock.saturating_sub(known.began_at);
            let excused = self.asked.contains(unit) || self.leaving.contains(unit);
            let limit = limits.time.map(|limit| limit.as_millis());
            !excused && limit.is_some_and(|limit| u128::from(took) >= limit)
        });
        let late = late.filter(|_| self.stopped_at.is_none()).cloned();
        self.must(late.is_none(), || {
            format!("{late:?} goes on although its time is up")
        });
        let goes_on = self.holders.iter().find(|unit| {
            let used = self.usage.get(unit).copied().unwrap_or_default();
            let used = self.stories[&unit.story].account + used;
            limits.exceeded_by(used).is_some() && !self.asked.contains(unit)
        });
        let goes_on = goes_on.cloned();
        self.must(goes_on.is_none(), || {
            format!("{goes_on:?} goes on although its budget is used up")
        });
    }

    /// What can be seen of the run is what has happened.
    pub(crate) fn check_view(&mut self, view: &RunView) {
        let (shown, total) = (view.usage, self.total);
        self.must(shown == total, || {
            format!("the run shows {shown:?}, not {total:?}")
        });
        let wrong = view.stories.iter().find(|story| !self.agrees(story));
        let wrong =
            wrong.map(|story| format!("{story:?} is shown of {:?}", self.stories[&story.id]));
        self.must(wrong.is_none(), || wrong.unwrap_or_default());
        let (shown, known) = (view.stories.len(), self.stories.len());
        self.must(shown == known, || {
            format!("{shown} stories are shown, of {known}")
        });
    }

    fn agrees(&self, story: &StoryView) -> bool {
        let Some(known) = self.stories.get(&story.id) else {
            return false;
        };
        let waits = known.ended.is_none() && known.attempting.is_none();
        let in_time = known.delayed_until.is_none_or(|until| until <= self.clock);
        let holds = known
            .attempting
            .as_ref()
            .is_some_and(|unit| self.holders.contains(unit));
        let standing = match &story.standing {
            Standing::Ended(outcome) => known.ended.as_ref() == Some(outcome),
            Standing::Preparing | Standing::Starting | Standing::Running(_) | Standing::Ending => {
                holds
            }
            Standing::Settling => known.attempting.is_some() && !holds,
            Standing::WaitsUntil(until, _) => {
                waits && known.delayed_until == Some(until.as_millis())
            }
            Standing::WaitsForDependencies(ids) => {
                let shown: BTreeSet<&StoryId> = ids.iter().collect();
                let missing = known.dependencies.iter().filter(|id| !self.succeeded(id));
                waits && in_time && shown == missing.collect()
            }
            Standing::WaitsForProvider(until) => {
                let provider = known.provider.as_ref();
                let known_until = provider.and_then(|provider| self.providers.get(provider));
                waits && in_time && known_until == Some(&until.as_millis())
            }
            Standing::WaitsForConflict(_) | Standing::Ready => {
                waits && in_time && self.may_begin(known)
            }
        };
        standing && story.usage == known.used
    }

    /// What must hold at the end.
    pub(crate) fn check_end(&mut self, verdict: Verdict) {
        let open = self
            .stories
            .iter()
            .find(|(_, known)| known.ended.is_none())
            .map(|(id, _)| id.clone());
        self.must(open.is_none(), || format!("{open:?} was not reported"));
        let alive = self.alive.clone();
        self.must(alive.is_empty() || self.left, || {
            format!("{alive:?} outlive the run")
        });
        if let Some(stopped) = self.stopped_at {
            let grace = self.settings.deadlines.grace;
            let longest =
                u64::try_from(self.settings.deadlines.longest_stop(grace).as_millis()).unwrap();
            let took = self.now - stopped;
            self.must(took <= longest, || format!("the stop took {took} ms"));
        }
        let all = self
            .stories
            .values()
            .all(|known| known.ended == Some(Outcome::Succeeded));
        let fits = match verdict {
            Verdict::AllSucceeded => all && self.stopped_at.is_none(),
            Verdict::SomeDidNot => {
                let board = self.board_failed || self.stubborn;
                self.stopped_at.is_none() && (!all || board)
            }
            Verdict::Exhausted => self.stopped_at.is_none() && !all,
            Verdict::Interrupted(_) => self.stopped_at.is_some(),
            Verdict::DeadlineHit => self.stubborn,
        };
        self.must(fits, || format!("the verdict is {verdict:?}"));
        self.count(match verdict {
            Verdict::AllSucceeded => "verdict: all succeeded",
            Verdict::SomeDidNot => "verdict: some did not",
            Verdict::Exhausted => "verdict: exhausted",
            Verdict::Interrupted(_) => "verdict: interrupted",
            Verdict::DeadlineHit => "verdict: deadline hit",
        });
    }

    /// What the board must say of stories that were worked on, once everything is written.
    pub(crate) fn check_board(&mut self, written: &BTreeMap<StoryId, BoardEntry>) {
        let wrong = self
            .stories
            .iter()
            .find(|(id, known)| known.board.as_ref() != written.get(*id));
        let wrong = wrong.map(|(id, known)| {
            format!(
                "the board says {:?} of {id}, not {:?}",
                written.get(id),
                known.board
            )
        });
        self.must(wrong.is_none(), || wrong.unwrap_or_default());
        let started = self
            .stories
            .iter()
            .find(|(_, known)| known.board == Some(BoardEntry::Started));
        let started = started.map(|(id, _)| id.clone());
        self.must(started.is_none(), || {
            format!("the board says that {started:?} is being worked on")
        });
    }
}

/// What of a budget is used that agents report.
fn used_of(usage: Usage, budget: Budget) -> u64 {
    match budget {
        Budget::Time => 0,
        Budget::Tokens => usage.tokens,
        Budget::Cost => usage.cost_micros_usd,
        Budget::Turns => usage.turns,
    }
}
