//! What must hold after every step, from a bookkeeping of its own: nothing here asks the engine how it is.

mod checks;
mod notices;
mod starts;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ai_sdlc::engine::{
    BoardEntry, BoardWrite, Budget, Claim, Decision, Delay, Effect, Event, Exit, FilePattern,
    Fingerprint, Limits, Moment, OnFailure, Outcome, OutcomeKind, PlannedStory, Provider,
    Resources, Scope, Settings, Settlement, StopReason, Unit, Usage, WhenIdle,
};
use ai_sdlc::story::StoryId;
use turns::Turns;

#[derive(Debug, Default)]
struct Known {
    place: usize,
    dependencies: Vec<StoryId>,
    provider: Option<Provider>,
    resources: Resources,
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
                known.resources = planned.resources;
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
            Effect::GrantTurn(unit, _) => self.grant_turn(unit),
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

fn is_failure(outcome: &Outcome) -> bool {
    !matches!(
        outcome.kind(),
        OutcomeKind::Succeeded | OutcomeKind::Cancelled | OutcomeKind::Skipped
    )
}
