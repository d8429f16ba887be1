//! What must hold after every step, from a bookkeeping of its own: nothing here asks the engine how it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ai_sdlc::engine::scheduler::MOST_OVERTAKEN;
use ai_sdlc::engine::{
    BoardEntry, Claim, Decision, Delay, Effect, Event, Exit, Notice, OnFailure, Order, Outcome,
    OutcomeKind, PlannedStory, Provider, Settings, Settlement, StopReason, Unit, Usage, Verdict,
};
use ai_sdlc::story::StoryId;

#[derive(Debug, Default)]
struct Known {
    place: usize,
    dependencies: Vec<StoryId>,
    provider: Option<Provider>,
    attempting: Option<Unit>,
    delayed_until: Option<u64>,
    ended: Option<Outcome>,
    back_offs: u32,
    quota_waits: u32,
    overtaken: u64,
    /// Something of an earlier attempt could not be ended.
    haunted: Option<Unit>,
    board: Option<BoardEntry>,
}

/// When an agent last made progress, and when it last did that or waited.
#[derive(Debug, Clone, Copy)]
struct Life {
    progressed: u64,
    stirred: u64,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    settings: Settings,
    now: u64,
    /// When time was last told to have passed.
    clock: u64,
    stories: BTreeMap<StoryId, Known>,
    holders: BTreeSet<Unit>,
    pub(crate) alive: BTreeSet<Unit>,
    used: BTreeSet<Unit>,
    claims: BTreeMap<Unit, Claim>,
    exits: BTreeMap<Unit, Exit>,
    confirmed: BTreeSet<Unit>,
    settled: BTreeSet<Unit>,
    usage: BTreeMap<Unit, Usage>,
    lives: BTreeMap<Unit, Life>,
    paused_until: u64,
    providers: BTreeMap<Provider, u64>,
    closed: Option<&'static str>,
    asking: bool,
    stopped_at: Option<u64>,
    left: bool,
    finished: bool,
    /// Things that the world never answers excuse what would be wrong otherwise.
    pub(crate) stubborn: bool,
    pub(crate) violation: Option<String>,
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

impl Ledger {
    pub(crate) fn new(settings: Settings, plan: &[PlannedStory]) -> Self {
        let mut ledger = Self {
            settings,
            now: 0,
            clock: 0,
            stories: BTreeMap::new(),
            holders: BTreeSet::new(),
            alive: BTreeSet::new(),
            used: BTreeSet::new(),
            claims: BTreeMap::new(),
            exits: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            settled: BTreeSet::new(),
            usage: BTreeMap::new(),
            lives: BTreeMap::new(),
            paused_until: 0,
            providers: BTreeMap::new(),
            closed: None,
            asking: false,
            stopped_at: None,
            left: false,
            finished: false,
            stubborn: false,
            violation: None,
            seen: BTreeMap::new(),
        };
        ledger.admit(plan);
        ledger
    }

    fn admit(&mut self, plan: &[PlannedStory]) {
        let base = self.stories.len();
        for (index, planned) in plan.iter().enumerate() {
            self.stories
                .entry(planned.id.clone())
                .or_insert_with(|| Known {
                    place: base + index,
                    dependencies: planned.dependencies.clone(),
                    provider: planned.provider.clone(),
                    ..Known::default()
                });
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(otherwise());
        }
    }

    /// The engine is told.
    pub(crate) fn told(&mut self, event: &Event, now: u64) {
        self.now = now;
        let current = |ledger: &Self, unit: &Unit| {
            let known = ledger.stories.get(&unit.story);
            known.is_some_and(|known| known.attempting.as_ref() == Some(unit))
        };
        match event {
            Event::TimePassed => self.clock = now,
            Event::Connected(unit) if current(self, unit) => {
                let life = Life {
                    progressed: now,
                    stirred: now,
                };
                self.lives.entry(unit.clone()).or_insert(life);
            }
            Event::PhaseEntered(unit, _) => self.progress(unit, now),
            Event::Answered(unit, vitals) => {
                self.progress(unit, now.saturating_sub(millis(vitals.idle)));
                if vitals.waits.is_some() {
                    self.wait(unit);
                }
            }
            Event::Claimed(unit, claim) if current(self, unit) => {
                self.claims
                    .entry(unit.clone())
                    .or_insert_with(|| claim.clone());
            }
            Event::Exited(unit, exit) if current(self, unit) => {
                self.exits.entry(unit.clone()).or_insert(*exit);
            }
            Event::LaunchFailed(unit, _) if current(self, unit) => {
                self.alive.remove(unit);
            }
            Event::Settled(unit, settlement) if current(self, unit) => {
                self.settled.insert(unit.clone());
                if *settlement == Settlement::Confirmed {
                    self.confirmed.insert(unit.clone());
                }
            }
            Event::Used(unit, usage) if current(self, unit) => {
                let known = self.usage.entry(unit.clone()).or_default();
                let before = *known;
                *known = known.max(*usage);
                if *known != before {
                    self.progress(unit, now);
                }
                let total = self
                    .usage
                    .values()
                    .fold(Usage::default(), |sum, usage| sum + *usage);
                if self.settings.run_limits.exceeded_by(total).is_some()
                    && self.stopped_at.is_none()
                {
                    self.closed = Some("the budget of the run is used up");
                }
            }
            Event::Decided(decision) if self.asking => {
                self.asking = false;
                if *decision == Decision::StopHere {
                    self.closed = Some("the person said no");
                }
            }
            Event::StopRequested(_) if !self.finished => {
                self.stopped_at.get_or_insert(now);
            }
            Event::Replanned(plan) if self.stopped_at.is_none() && self.closed.is_none() => {
                self.admit(plan);
            }
            Event::Resumed => {
                // The attempts that were under way are lost, those whose end was being taken care of are not.
                let lost: Vec<Unit> = std::mem::take(&mut self.holders).into_iter().collect();
                for unit in lost {
                    self.stories.get_mut(&unit.story).unwrap().attempting = None;
                }
                self.alive.clear();
            }
            _ => {}
        }
    }

    pub(crate) fn perform(&mut self, effect: &Effect) {
        self.must(!self.finished, || format!("{effect:?} after the end"));
        match effect {
            Effect::Prepare(unit) => self.start(unit),
            Effect::Launch(unit) => {
                self.must(self.holders.contains(unit), || {
                    format!("{unit:?} launched without a slot")
                });
                self.must(self.stopped_at.is_none(), || {
                    format!("{unit:?} launched after a stop")
                });
                self.alive.insert(unit.clone());
            }
            Effect::AskToStop { unit, reason, .. } => {
                self.must(self.alive.contains(unit), || {
                    format!("{unit:?} is not alive: {effect:?}")
                });
                if matches!(reason, StopReason::Stalled(..)) {
                    self.stall(unit);
                }
            }
            Effect::Kill(unit) => {
                self.must(self.alive.contains(unit), || {
                    format!("{unit:?} is not alive: {effect:?}")
                });
            }
            Effect::Settle { unit, .. } => {
                self.holders.remove(unit);
                if self.alive.remove(unit) {
                    self.must(self.stubborn, || {
                        format!("{unit:?} is settled while it is alive")
                    });
                    self.stories.get_mut(&unit.story).unwrap().haunted = Some(unit.clone());
                }
            }
            Effect::WriteBoard(story, entry) => {
                self.stories.get_mut(story).unwrap().board = Some(entry.clone());
            }
            Effect::AskToGoOn(_) => self.asking = true,
            Effect::Tell(notice) => self.notice(notice),
            Effect::Finish => self.finished = true,
            Effect::AbandonPreparation(_) | Effect::LookAtFiles(_) | Effect::Compare(_) => {}
        }
    }

    fn progress(&mut self, unit: &Unit, at: u64) {
        if let Some(life) = self.lives.get_mut(unit) {
            life.progressed = life.progressed.max(at);
            life.stirred = life.stirred.max(at);
        }
    }

    fn wait(&mut self, unit: &Unit) {
        let now = self.now;
        let Some(life) = self.lives.get_mut(unit) else {
            return;
        };
        life.stirred = now;
        if now - life.progressed > millis(self.settings.patience.stalled) {
            self.count("long waits");
        }
    }

    /// An agent that made progress or waited within the limits is never stopped as stalled.
    fn stall(&mut self, unit: &Unit) {
        let patience = self.settings.patience;
        let longest = millis(patience.waiting.max(patience.stalled));
        let Some(life) = self.lives.get(unit).copied() else {
            return self.must(false, || format!("{unit:?} is stalled and never connected"));
        };
        let stands = self.now - life.stirred >= millis(patience.stalled);
        let waits = self.now - life.progressed >= longest;
        if waits && !stands {
            self.count("waits too long");
        }
        self.must(stands || waits, || {
            format!("{unit:?} is stopped as stalled: {life:?}")
        });
    }

    fn start(&mut self, unit: &Unit) {
        self.count("attempts");
        let fresh = self.used.insert(unit.clone());
        self.must(fresh, || format!("{unit:?} is used twice"));
        let Some(known) = self.stories.get(&unit.story) else {
            return self.must(false, || format!("{unit:?} was not selected"));
        };
        let problem = if self.stopped_at.is_some() {
            Some("the run is stopping")
        } else if self.closed.is_some() {
            self.closed
        } else if self.asking {
            Some("the person is being asked")
        } else if self.paused_until > self.clock {
            Some("starts are paused")
        } else if known
            .provider
            .as_ref()
            .and_then(|provider| self.providers.get(provider))
            .is_some_and(|until| *until > self.clock)
        {
            Some("its provider is paused")
        } else if known.attempting.is_some() {
            Some("another attempt is under way")
        } else if known.haunted.is_some() {
            Some("an earlier attempt could not be ended")
        } else if known.ended.is_some() {
            Some("it is through")
        } else if known.delayed_until.is_some_and(|until| until > self.now) {
            Some("its wait is not over")
        } else if !known.dependencies.iter().all(|id| self.succeeded(id)) {
            Some("a dependency has not succeeded")
        } else if self.settings.order == Order::AsGiven
            && self
                .stories
                .values()
                .any(|other| other.place < known.place && other.ended.is_none())
        {
            Some("it is not its turn")
        } else {
            None
        };
        let place = known.place;
        self.must(problem.is_none(), || {
            format!("{unit:?} starts although {}", problem.unwrap_or_default())
        });
        let passed: Vec<StoryId> = self
            .stories
            .iter()
            .filter(|(id, known)| known.place < place && self.startable(id, known))
            .map(|(id, _)| id.clone())
            .collect();
        for id in passed {
            let overtaken = &mut self.stories.get_mut(&id).unwrap().overtaken;
            *overtaken += 1;
            let most = MOST_OVERTAKEN + 16;
            let many = *overtaken > most;
            self.must(!many, || {
                format!("{id} is overtaken more than {most} times")
            });
        }
        let known = self.stories.get_mut(&unit.story).unwrap();
        known.attempting = Some(unit.clone());
        known.delayed_until = None;
        known.overtaken = 0;
        self.holders.insert(unit.clone());
    }

    fn succeeded(&self, id: &StoryId) -> bool {
        // What is not part of the run counts as met: leaving it out is the plan's business.
        self.stories
            .get(id)
            .is_none_or(|known| known.ended == Some(Outcome::Succeeded))
    }

    fn startable(&self, _id: &StoryId, known: &Known) -> bool {
        let provider = known
            .provider
            .as_ref()
            .and_then(|provider| self.providers.get(provider));
        known.ended.is_none()
            && known.attempting.is_none()
            && known.haunted.is_none()
            && known.delayed_until.is_none_or(|until| until <= self.clock)
            && provider.is_none_or(|until| *until <= self.clock)
            && known.dependencies.iter().all(|id| self.succeeded(id))
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::StoryEnded {
                story,
                unit,
                outcome,
            } => self.end(story, unit.as_ref(), outcome),
            Notice::Retrying {
                unit,
                wait,
                reason,
                outcome,
            } => {
                self.count("retries");
                self.count(outcome.name());
                let retry = self.settings.retry.clone();
                self.must(self.settled.contains(unit) || self.stubborn, || {
                    format!("{unit:?} is retried unsettled")
                });
                let known = self.stories.get_mut(&unit.story).unwrap();
                known.attempting = None;
                known.delayed_until = Some(self.now + millis(*wait));
                match reason {
                    Delay::BackOff => known.back_offs += 1,
                    Delay::Quota => known.quota_waits += 1,
                }
                let bounded = known.back_offs < retry.most_attempts.get()
                    && known.quota_waits <= retry.most_quota_waits;
                self.must(bounded, || format!("{unit:?} is retried too often"));
            }
            Notice::StartsPaused { pause, .. } => {
                self.count("pauses");
                self.paused_until = self.now + millis(*pause);
            }
            Notice::ProviderPaused { provider, pause } => {
                self.count("provider pauses");
                let until = self.now + millis(*pause);
                self.providers.insert(provider.clone(), until);
            }
            Notice::RunExceeded(_) => {
                self.count("run budgets");
                self.closed = Some("the budget of the run is used up");
            }
            Notice::Leaving { .. } => {
                self.count("runs left");
                self.left = true;
            }
            Notice::Quiet { .. } => self.count("quiet"),
            Notice::Joined(_) => self.count("joins"),
            Notice::Overlap { .. } => self.count("overlaps"),
            Notice::Conflict { .. } => self.count("conflicts"),
            Notice::Stopping { .. } => {
                self.count("stops");
                self.must(self.stopped_at.is_some(), || "it stops unasked".to_owned());
            }
        }
    }

    fn end(&mut self, story: &StoryId, unit: Option<&Unit>, outcome: &Outcome) {
        self.count(outcome.name());
        let Some(known) = self.stories.get_mut(story) else {
            return self.must(false, || format!("{story} was not selected"));
        };
        let twice = known.ended.replace(outcome.clone());
        let delayed = known.delayed_until.is_some();
        known.attempting = None;
        self.must(twice.is_none(), || format!("{story} is reported twice"));
        if let Some(unit) = unit
            && !delayed
            && !self.left
            && *outcome != Outcome::Cancelled
        {
            let settled = self.settled.contains(unit) || self.stubborn;
            self.must(settled, || {
                format!("{unit:?} has ended before it was taken care of")
            });
        }
        if outcome.is_success() {
            let unit = unit.expect("a success has an attempt");
            let proved = self.claims.get(unit) == Some(&Claim::Succeeded)
                && self.exits.get(unit) == Some(&Exit::Code(0))
                && self.confirmed.contains(unit);
            self.must(proved, || format!("{unit:?} has not succeeded"));
        }
        if unit.is_none() && outcome.kind() == OutcomeKind::Skipped {
            self.count("never started");
        }
        let fails = !matches!(
            outcome.kind(),
            OutcomeKind::Succeeded | OutcomeKind::Cancelled | OutcomeKind::Skipped
        );
        if fails && self.settings.on_failure == OnFailure::StopStarting && self.stopped_at.is_none()
        {
            self.closed.get_or_insert("a story did not succeed");
        }
    }

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
        let open = self.stopped_at.is_none()
            && self.closed.is_none()
            && !self.asking
            && !self.finished
            && self.paused_until <= self.clock;
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
            self.must(idle.is_none(), || {
                format!("a slot is free and {idle:?} could start")
            });
        }
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
            Verdict::SomeDidNot | Verdict::Exhausted => self.stopped_at.is_none(),
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

    pub(crate) fn was_left(&self) -> bool {
        self.left
    }

    pub(crate) fn outcomes(&self) -> BTreeMap<StoryId, OutcomeKind> {
        let ended = self
            .stories
            .iter()
            .filter_map(|(id, known)| Some((id.clone(), known.ended.as_ref()?.kind())));
        ended.collect()
    }

    /// Whether the world may still say something for this attempt.
    pub(crate) fn is_current(&self, unit: &Unit) -> bool {
        let known = self.stories.get(&unit.story);
        known.is_some_and(|known| known.attempting.as_ref() == Some(unit))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}
