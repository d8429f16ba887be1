//! What must hold after every step, from a bookkeeping of its own: nothing here asks the engine how it is.

mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ai_sdlc::engine::scheduler::MOST_OVERTAKEN;
use ai_sdlc::engine::{
    BoardEntry, BoardWrite, Budget, Claim, Decision, Delay, Effect, Event, Exit, FilePattern,
    Fingerprint, Limits, Moment, Notice, OnFailure, Order, Outcome, OutcomeKind, PlannedStory,
    Provider, RunView, Scope, Settings, Settlement, Share, Standing, StopReason, StoryView, Unit,
    Usage, Verdict, WhenIdle,
};
use ai_sdlc::story::StoryId;
use turns::Turns;

#[derive(Debug, Default)]
struct Known {
    place: usize,
    dependencies: Vec<StoryId>,
    provider: Option<Provider>,
    attempting: Option<Unit>,
    delayed_until: Option<u64>,
    /// Whether it waits for its provider until then.
    delayed_by: Option<Delay>,
    ended: Option<Outcome>,
    back_offs: u32,
    quota_waits: u32,
    overtaken: u64,
    /// Something of an earlier attempt could not be ended.
    haunted: Option<Unit>,
    board: Option<BoardEntry>,
    /// How many of its board entries are not written yet.
    unwritten: usize,
    comparing: bool,
    begun: Begun,
    /// When the current attempt began, and when its process had ended.
    began_at: u64,
    ended_at: Option<u64>,
    /// How many attempts had been started when one failed whose end is being taken care of.
    failed_after: Option<u64>,
    /// What its earlier attempts count for against its limits: milliseconds, and what was used.
    time: u64,
    account: Usage,
    /// What all its attempts have used.
    used: Usage,
    asked_for: AskedFor,
    files: Vec<FilePattern>,
    fingerprint: Fingerprint,
    /// Since it first could have started: how many others have.
    waits: Option<u64>,
}

/// Whether a story has begun since it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Begun {
    #[default]
    No,
    Yes,
}

/// Whether a story that is through was taken from the stories that are ready, so that it is asked for again when it is
/// among them once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum AskedFor {
    #[default]
    Once,
    WhenReadyAgain,
}

impl Known {
    /// A story joins, or comes back.
    fn join(&mut self) {
        *self = Self {
            place: self.place,
            dependencies: std::mem::take(&mut self.dependencies),
            provider: self.provider.take(),
            board: self.board.take(),
            ..Self::default()
        };
    }

    /// Whether it is through, and everything of that is written down and compared.
    fn is_written_down(&self) -> bool {
        self.ended.is_some() && self.unwritten == 0 && !self.comparing
    }

    /// An attempt is over.
    fn charge(&mut self, until: u64, usage: Usage) {
        self.time += self.ended_at.unwrap_or(until) - self.began_at;
        self.account = self.account + usage;
    }

    /// Whether it has nothing left of something that it may use.
    fn is_used_up(&self, limits: &Limits) -> bool {
        let time = limits.time.map(|time| time.as_millis());
        time.is_some_and(|time| u128::from(self.time) >= time)
            || limits
                .tokens
                .is_some_and(|most| self.account.tokens >= most)
            || limits
                .cost_micros_usd
                .is_some_and(|most| self.account.cost_micros_usd >= most)
            || limits.turns.is_some_and(|most| self.account.turns >= most)
    }
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
    /// All that was used.
    total: Usage,
    began_at: Option<u64>,
    /// The run has said that a budget of it is used up.
    exceeded: bool,
    /// Of which budgets was told that little is left of them.
    near: Vec<(Option<StoryId>, Scope, Budget)>,
    turns: Turns,
    /// Attempts of whose worktree nobody has said anything yet.
    preparing: BTreeSet<Unit>,
    /// Attempts whose end is being taken care of.
    settling: BTreeSet<Unit>,
    /// Attempts that were asked to end.
    asked: BTreeSet<Unit>,
    /// Attempts that a restart has cost.
    lost: BTreeSet<Unit>,
    /// The files that running attempts have changed.
    touched: BTreeMap<Unit, BTreeSet<FilePattern>>,
    /// Pairs of attempts of which was told that they change the same files.
    overlapping: BTreeSet<(Unit, Unit)>,
    /// Overlaps that are to be told in this step.
    overlaps: BTreeSet<(StoryId, StoryId)>,
    /// Stories that are to join in this step.
    joining: BTreeSet<StoryId>,
    /// A provider has met a limit in this step: until when at least it is to be paused.
    limited: Option<(Provider, u64)>,
    /// The providers that refuse, and whether that was told.
    refused: BTreeMap<Provider, bool>,
    /// The board is to be looked at in this step.
    look: bool,
    /// Attempts that said that they are through, or closed their connection.
    leaving: BTreeSet<Unit>,
    places: usize,
    starts: u64,
    board_failed: bool,
    lives: BTreeMap<Unit, Life>,
    paused_until: u64,
    providers: BTreeMap<Provider, u64>,
    /// Pauses that were over when the run went on, which is to be told.
    over: BTreeMap<Provider, u64>,
    closed: Option<&'static str>,
    asking: bool,
    asking_until: u64,
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
            total: Usage::default(),
            began_at: None,
            exceeded: false,
            near: Vec::new(),
            turns: Turns::default(),
            preparing: BTreeSet::new(),
            settling: BTreeSet::new(),
            asked: BTreeSet::new(),
            lost: BTreeSet::new(),
            touched: BTreeMap::new(),
            overlapping: BTreeSet::new(),
            overlaps: BTreeSet::new(),
            joining: BTreeSet::new(),
            limited: None,
            refused: BTreeMap::new(),
            look: false,
            leaving: BTreeSet::new(),
            places: 0,
            starts: 0,
            board_failed: false,
            lives: BTreeMap::new(),
            paused_until: 0,
            providers: BTreeMap::new(),
            over: BTreeMap::new(),
            closed: None,
            asking: false,
            asking_until: 0,
            stopped_at: None,
            left: false,
            finished: false,
            stubborn: false,
            violation: None,
            seen: BTreeMap::new(),
        };
        ledger.admit(plan);
        ledger.joining.clear();
        ledger
    }

    /// These stories are ready: those that are new join, and those that are asked for again.
    fn admit(&mut self, plan: &[PlannedStory]) {
        let ready: BTreeSet<&StoryId> = plan.iter().map(|planned| &planned.id).collect();
        for (id, known) in &mut self.stories {
            if known.is_written_down() && !ready.contains(id) {
                known.asked_for = AskedFor::WhenReadyAgain;
            }
        }
        let again = self.asked_for_again(plan, &ready);
        for planned in plan {
            self.places += 1;
            let fresh = !self.stories.contains_key(&planned.id);
            let known = self.stories.entry(planned.id.clone()).or_default();
            let again = again.contains(&planned.id);
            if fresh || again {
                known.join();
                known.dependencies.clone_from(&planned.dependencies);
                known.provider.clone_from(&planned.provider);
                known.files.clone_from(&planned.files);
                self.joining.insert(planned.id.clone());
            }
            if again {
                self.near
                    .retain(|(of, ..)| of.as_ref() != Some(&planned.id));
                *self.seen.entry("comebacks").or_default() += 1;
            }
            if known.begun == Begun::No {
                known.fingerprint = planned.fingerprint;
            }
            if known.attempting.is_none() && known.ended.is_none() {
                known.place = self.places;
            }
        }
    }

    /// The stories that are through and come back. What was never started only needs what it depends on; anything else
    /// has to be made ready by somebody, or to say something else than before.
    fn asked_for_again(
        &self,
        plan: &[PlannedStory],
        ready: &BTreeSet<&StoryId>,
    ) -> BTreeSet<StoryId> {
        let mut again = BTreeSet::new();
        let mut never_started = Vec::new();
        for planned in plan {
            let Some(known) = self.stories.get(&planned.id) else {
                continue;
            };
            let refused = |name| self.refused.contains_key(name);
            if !known.is_written_down()
                || known.haunted.is_some()
                || planned.provider.as_ref().is_some_and(refused)
            {
                continue;
            }
            let by_us = matches!(known.board, Some(BoardEntry::Returned { .. }));
            if matches!(known.ended, Some(Outcome::Skipped(_))) {
                never_started.push(planned);
            } else if known.asked_for == AskedFor::WhenReadyAgain
                || !by_us
                || known.fingerprint != planned.fingerprint
            {
                again.insert(planned.id.clone());
            }
        }
        let in_vain = |id: &StoryId| {
            self.stories
                .get(id)
                .is_some_and(|known| match &known.ended {
                    Some(outcome) => !outcome.is_success(),
                    // It is withdrawn in this step.
                    None => known.begun == Begun::No && !ready.contains(id),
                })
        };
        while let Some(place) = never_started.iter().position(|planned| {
            let mut needs = planned.dependencies.iter();
            needs.all(|id| again.contains(id) || !in_vain(id))
        }) {
            again.insert(never_started.swap_remove(place).id.clone());
        }
        again
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
        let last = std::mem::replace(&mut self.now, now);
        let current = |ledger: &Self, unit: &Unit| {
            let known = ledger.stories.get(&unit.story);
            known.is_some_and(|known| known.attempting.as_ref() == Some(unit))
        };
        match event {
            Event::Began => self.began_at = Some(now),
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
            Event::TimePassed => {
                self.clock = now;
                if self.asking && self.asking_until <= now {
                    self.asking = false;
                    self.closed = Some("the person has not answered");
                }
            }
            Event::Prepared(unit)
            | Event::PrepareFailed(unit, _)
            | Event::PrepareBlocked(unit, _)
                if current(self, unit) =>
            {
                self.preparing.remove(unit);
            }
            Event::TurnAsked(unit) if current(self, unit) => self.ask_for_turn(unit),
            Event::Touched(unit, files) if self.holders.contains(unit) => self.touch(unit, files),
            Event::BoardWritten(story, write) => {
                self.board_failed |= *write == BoardWrite::Failed;
                let known = self.stories.get_mut(story).unwrap();
                known.unwritten = known.unwritten.saturating_sub(1);
                self.expect_look(story);
            }
            Event::Compared(story, _) => {
                self.stories.get_mut(story).unwrap().comparing = false;
                self.expect_look(story);
            }
            Event::Disconnected(unit) if current(self, unit) => {
                self.leaving.insert(unit.clone());
            }
            Event::Claimed(unit, claim) if current(self, unit) => {
                let counts = self.leaving.insert(unit.clone()) && self.alive.contains(unit);
                if counts {
                    self.expect_brake(unit, claim);
                }
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
                self.settling.remove(unit);
                if *settlement == Settlement::Confirmed {
                    self.confirmed.insert(unit.clone());
                }
            }
            Event::Used(unit, usage) if current(self, unit) => {
                let so_far = self.usage.entry(unit.clone()).or_default();
                let more = so_far.max(*usage) - *so_far;
                *so_far = *so_far + more;
                self.total = self.total + more;
                let known = self.stories.get_mut(&unit.story).unwrap();
                known.used = known.used + more;
                if more != Usage::default() {
                    self.progress(unit, now);
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
            Event::Resumed(restart) => self.resume(last, millis(restart.away)),
            _ => {}
        }
    }

    /// What there was to write of a story may be written: whoever waits for stories looks at the board then.
    fn expect_look(&mut self, story: &StoryId) {
        let watched = self.settings.when_idle == WhenIdle::WaitForStories;
        let open = self.stopped_at.is_none() && self.closed.is_none() && !self.finished;
        self.look |= watched && open && self.stories[story].is_written_down();
    }

    /// Whoever says that a provider serves no more pauses it at once.
    fn expect_brake(&mut self, unit: &Unit, claim: &Claim) {
        let provider = self.stories[&unit.story].provider.clone();
        match (claim, provider) {
            (Claim::QuotaExhausted { until, .. }, Some(provider)) => {
                let told = until.map_or(0, Moment::as_millis);
                self.limited = Some((provider, told.max(self.now + 1)));
            }
            (Claim::ProviderRefused { .. }, Some(provider)) => {
                // What would have been tried again fails from now on.
                let starts = self.starts;
                for known in self.stories.values_mut() {
                    if known.provider.as_ref() == Some(&provider) {
                        known.failed_after = known.failed_after.map(|_| starts);
                    }
                }
                self.refused.entry(provider).or_default();
            }
            _ => {}
        }
    }

    /// The attempts that were under way are lost, those whose end was being taken care of are not. Nothing lives, and
    /// nothing of what was asked for will be answered.
    fn resume(&mut self, last: u64, on_the_wall: u64) {
        self.turns.resume(on_the_wall);
        self.wait_less(on_the_wall);
        let away = self.now - last;
        for unit in std::mem::take(&mut self.holders) {
            let usage = self.usage.get(&unit).copied().unwrap_or_default();
            let known = self.stories.get_mut(&unit.story).unwrap();
            known.attempting = None;
            known.charge(last, usage);
            self.lost.insert(unit);
        }
        for known in self.stories.values_mut() {
            if known.ended_at.is_none() {
                known.began_at += away;
            }
            known.haunted = None;
            known.unwritten = 0;
            known.comparing = false;
        }
        self.alive.clear();
        self.refused.clear();
        self.preparing.clear();
        self.touched.clear();
        self.asking = false;
    }

    /// Providers have gone on while nobody was there. Whoever waited for one long enough by that waits no more.
    fn wait_less(&mut self, by: u64) {
        let now = self.now;
        for until in self.providers.values_mut() {
            *until = until.saturating_sub(by);
        }
        self.over = self.providers.clone();
        self.over.retain(|_, until| *until <= now);
        self.providers.retain(|_, until| *until > now);
        for known in self.stories.values_mut() {
            if known.delayed_by == Some(Delay::Quota) {
                let until = known.delayed_until.map(|until| until.saturating_sub(by));
                known.delayed_until = until.filter(|until| *until > now);
            }
        }
    }

    fn touch(&mut self, unit: &Unit, files: &[FilePattern]) {
        let mut mine = self.touched.remove(unit).unwrap_or_default();
        mine.extend(files.iter().cloned());
        for (other, theirs) in &self.touched {
            let pair = (unit.min(other).clone(), unit.max(other).clone());
            if !mine.is_disjoint(theirs) && self.overlapping.insert(pair) {
                self.overlaps
                    .insert((other.story.clone(), unit.story.clone()));
            }
        }
        self.touched.insert(unit.clone(), mine);
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
                self.must(!self.exceeded, || {
                    format!("{unit:?} launched although the budget of the run is used up")
                });
                self.alive.insert(unit.clone());
            }
            Effect::AskToStop { .. } | Effect::Kill(_) => {
                let (Effect::AskToStop { unit, .. } | Effect::Kill(unit)) = effect else {
                    return;
                };
                if let Effect::AskToStop {
                    reason: StopReason::Stalled(..),
                    ..
                } = effect
                {
                    self.stall(unit);
                }
                self.asked.insert(unit.clone());
                self.must(self.alive.contains(unit), || {
                    format!("{unit:?} is not alive: {effect:?}")
                });
            }
            Effect::Settle { unit, outcome, .. } => {
                let (now, starts) = (self.now, self.starts);
                let known = self.stories.get_mut(&unit.story).unwrap();
                known.ended_at.get_or_insert(now);
                if is_failure(outcome) && self.settings.on_failure != OnFailure::GoOn {
                    known.failed_after.get_or_insert(starts);
                }
                self.holders.remove(unit);
                self.touched.remove(unit);
                self.settling.insert(unit.clone());
                if self.alive.remove(unit) | self.preparing.remove(unit) {
                    self.must(self.stubborn, || {
                        format!("{unit:?} is settled while it is alive")
                    });
                    self.stories.get_mut(&unit.story).unwrap().haunted = Some(unit.clone());
                }
            }
            Effect::WriteBoard(story, entry) => {
                let known = self.stories.get_mut(story).unwrap();
                known.board = Some(entry.clone());
                known.unwritten += 1;
            }
            Effect::AskToGoOn(_) => {
                self.must(!self.asking, || "the person is asked twice".to_owned());
                self.asking = true;
                let decide = self.settings.deadlines.decide.as_millis();
                self.asking_until = self.now + u64::try_from(decide).unwrap();
            }
            Effect::Compare(story) => {
                let known = self.stories.get_mut(story).unwrap();
                let twice = std::mem::replace(&mut known.comparing, true);
                self.must(!twice, || {
                    format!("{story} is compared while it is being compared")
                });
            }
            Effect::Tell(notice) => self.notice(notice),
            Effect::Finish => self.finished = true,
            Effect::AbandonPreparation(unit) => {
                self.asked.insert(unit.clone());
            }
            Effect::LookAtBoard => self.look = false,
            Effect::LookAtFiles(_) => {}
            Effect::GrantTurn(unit) => self.grant_turn(unit),
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
        } else if known
            .provider
            .as_ref()
            .is_some_and(|provider| self.refused.contains_key(provider))
        {
            Some("its provider refuses")
        } else if !self.has_turn(known) {
            Some("its provider has had its turns")
        } else if known.attempting.is_some() {
            Some("another attempt is under way")
        } else if known.haunted.is_some() {
            Some("an earlier attempt could not be ended")
        } else if known.ended.is_some() {
            Some("it is through")
        } else if known.delayed_until.is_some_and(|until| until > self.now) {
            Some("its wait is not over")
        } else if known.begun == Begun::Yes && known.is_used_up(&self.settings.story_limits) {
            Some("it has used up what it may use")
        } else if !self.may_begin(known) {
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
        if self.settings.order == Order::AnyReady
            && known.waits.unwrap_or_default() < MOST_OVERTAKEN
            && self.is_in_the_way(&unit.story, known)
        {
            let mut others = self.stories.iter();
            let better = others.find(|(id, other)| {
                **id != unit.story && self.startable(id, other) && !self.is_in_the_way(id, other)
            });
            let better = better.map(|(id, _)| id.clone());
            self.must(better.is_none(), || {
                format!("{unit:?} starts beside the same files, and {better:?} does not")
            });
        }
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
        let came: BTreeSet<StoryId> = self
            .stories
            .iter()
            .filter(|(_, known)| known.waits.is_some() || self.is_eligible(known))
            .map(|(id, _)| id.clone())
            .collect();
        for id in came {
            *self.stories.get_mut(&id).unwrap().waits.get_or_insert(0) += 1;
        }
        let known = self.stories.get_mut(&unit.story).unwrap();
        known.waits = None;
        known.attempting = Some(unit.clone());
        known.delayed_until = None;
        known.overtaken = 0;
        known.begun = Begun::Yes;
        known.began_at = self.now;
        known.ended_at = None;
        known.failed_after = None;
        self.starts += 1;
        self.preparing.insert(unit.clone());
        self.holders.insert(unit.clone());
    }

    fn succeeded(&self, id: &StoryId) -> bool {
        // What is not part of the run counts as met: leaving it out is the plan's business.
        self.stories
            .get(id)
            .is_none_or(|known| known.ended == Some(Outcome::Succeeded))
    }

    /// What a story depends on counts for its first attempt: a dependency that comes back later on has succeeded.
    fn may_begin(&self, known: &Known) -> bool {
        known.begun == Begun::Yes || known.dependencies.iter().all(|id| self.succeeded(id))
    }

    /// Whether another attempt at a story of its provider may be alive.
    fn has_room(&self, known: &Known) -> bool {
        let provider = known.provider.as_ref();
        let most = provider.and_then(|name| self.settings.most_of_provider.get(name));
        most.is_none_or(|most| self.holders_of(provider) < most.get())
    }

    /// How many attempts at stories of a provider hold a slot.
    fn holders_of(&self, provider: Option<&Provider>) -> usize {
        let holders = self.holders.iter();
        let of = |unit: &&Unit| self.stories[&unit.story].provider.as_ref() == provider;
        holders.filter(of).count()
    }

    fn startable(&self, _id: &StoryId, known: &Known) -> bool {
        let provider = known
            .provider
            .as_ref()
            .and_then(|provider| self.providers.get(provider));
        provider.is_none_or(|until| *until <= self.clock)
            && self.has_room(known)
            && self.has_turn(known)
            && self.is_eligible(known)
    }

    /// Whether it could start if its provider served it.
    fn is_eligible(&self, known: &Known) -> bool {
        known.ended.is_none()
            && known.attempting.is_none()
            && known.haunted.is_none()
            && known.delayed_until.is_none_or(|until| until <= self.clock)
            && self.may_begin(known)
    }

    /// Whether its files overlap with those that a running story names or has changed.
    fn is_in_the_way(&self, id: &StoryId, known: &Known) -> bool {
        let others = self.holders.iter().filter(|unit| unit.story != *id);
        let mut touched = others.flat_map(|unit| {
            let changed = self.touched.get(unit).into_iter().flatten();
            self.stories[&unit.story].files.iter().chain(changed)
        });
        touched.any(|file| known.files.iter().any(|own| own.overlaps(file)))
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
                let lost = self.lost.contains(unit);
                self.must(self.settled.contains(unit) || lost, || {
                    format!("{unit:?} is retried unsettled")
                });
                let usage = self.usage.get(unit).copied().unwrap_or_default();
                let known = self.stories.get_mut(&unit.story).unwrap();
                if !lost {
                    known.charge(self.now, usage);
                }
                if matches!(
                    outcome.kind(),
                    OutcomeKind::TimedOut | OutcomeKind::BudgetExceeded
                ) {
                    (known.time, known.account) = (0, Usage::default());
                    let renewed = &unit.story;
                    self.near.retain(|(of, ..)| of.as_ref() != Some(renewed));
                    *self.seen.entry("allowances").or_default() += 1;
                }
                known.attempting = None;
                known.failed_after = None;
                known.delayed_until = Some(self.now + millis(*wait));
                known.delayed_by = Some(*reason);
                match reason {
                    Delay::BackOff => known.back_offs += 1,
                    Delay::Quota => known.quota_waits += 1,
                }
                let doublings = known.back_offs.saturating_sub(1).min(20);
                let longest = retry.longest_wait.min(retry.first_wait * (1 << doublings));
                let fits = *wait <= longest && *wait + Duration::from_millis(1) >= longest * 3 / 4;
                let fits = fits || *reason == Delay::Quota;
                let bounded = known.back_offs < retry.most_attempts.get()
                    && known.quota_waits <= retry.most_quota_waits;
                self.must(bounded, || format!("{unit:?} is retried too often"));
                self.must(fits, || format!("{unit:?} is retried after {wait:?}"));
            }
            Notice::StartsPaused { pause, .. } => {
                self.count("pauses");
                self.paused_until = self.now + millis(*pause);
            }
            Notice::ProviderPaused {
                provider, pause, ..
            } => {
                self.count("provider pauses");
                let until = self.now + millis(*pause);
                self.providers.insert(provider.clone(), until);
            }
            Notice::ProviderResumed(provider) => {
                let until = self.over.remove(provider);
                let until = until.or_else(|| self.providers.remove(provider));
                let clock = self.now;
                self.must(until.is_some_and(|until| until <= clock), || {
                    format!("{provider:?} serves again, and is paused until {until:?}")
                });
            }
            Notice::ProviderRefused { provider, .. } => {
                self.count("provider refusals");
                let told = self.refused.insert(provider.clone(), true);
                self.must(told == Some(false), || {
                    format!("that {provider:?} refuses is told: {told:?}")
                });
            }
            Notice::RunExceeded(_) => {
                self.count("run budgets");
                self.must(!self.exceeded, || "a budget is used up twice".to_owned());
                self.exceeded = true;
                self.closed = Some("the budget of the run is used up");
            }
            Notice::BudgetNear {
                story,
                scope,
                share,
            } => self.budget_near(story.as_ref(), *scope, *share),
            Notice::Leaving { .. } => {
                self.count("runs left");
                self.left = true;
            }
            Notice::Quiet { .. } => self.count("quiet"),
            Notice::Joined(stories) => {
                self.count("joins");
                for story in stories {
                    let expected = self.joining.remove(story);
                    self.must(expected, || format!("{story} joins"));
                }
            }
            Notice::Overlap { one, other, .. } => {
                self.count("overlaps");
                let expected = self.overlaps.remove(&(one.clone(), other.clone()));
                self.must(expected, || {
                    format!("{one} and {other} are told to overlap")
                });
            }
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
        let failed_after = known.failed_after.take();
        known.attempting = None;
        self.must(twice.is_none(), || format!("{story} is reported twice"));
        if let Some(unit) = unit
            && self.settling.remove(unit)
            && !self.left
        {
            self.stories.get_mut(story).unwrap().haunted = Some(unit.clone());
        }
        if let Some(unit) = unit
            && !delayed
            && !self.left
            && *outcome != Outcome::Cancelled
        {
            let settled = self.settled.contains(unit) || self.lost.contains(unit) || self.stubborn;
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
        let fails = is_failure(outcome);
        let settled = unit.is_some_and(|unit| self.settled.contains(unit));
        if let Some(before) = failed_after
            && fails
            && settled
            && self.closed.is_none()
            && self.stopped_at.is_none()
        {
            let none = self.starts == before;
            self.must(none, || {
                format!("something starts between the failure of {story} and its end")
            });
        }
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
            self.must(idle.is_none(), || {
                format!("a slot is free and {idle:?} could start")
            });
        }
    }

    /// Little is left of a budget: that is so, and was not told before.
    fn budget_near(&mut self, story: Option<&StoryId>, scope: Scope, share: Share) {
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

/// What of a budget is used that agents report.
fn used_of(usage: Usage, budget: Budget) -> u64 {
    match budget {
        Budget::Time => 0,
        Budget::Tokens => usage.tokens,
        Budget::Cost => usage.cost_micros_usd,
        Budget::Turns => usage.turns,
    }
}

fn is_failure(outcome: &Outcome) -> bool {
    !matches!(
        outcome.kind(),
        OutcomeKind::Succeeded | OutcomeKind::Cancelled | OutcomeKind::Skipped
    )
}
