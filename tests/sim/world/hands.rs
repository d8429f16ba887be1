//! What comes of the effects: preparations, executors with their agents, entries on the board.

use ai_sdlc::engine::{
    BoardWrite, Claim, Clash, Comparison, Decision, Effect, Event, Exit, FilePattern, Moment,
    OutcomeKind, Phase, Provider, Settlement, Unit, Usage, Vitals, Wait,
};
use ai_sdlc::story::StoryId;

use super::{Happening, World};
use crate::scenario::Temper;

impl World<'_> {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare(unit) => self.prepare(unit),
            Effect::AbandonPreparation(unit) => {
                if self.preparing.remove(&unit) && !self.outlives() {
                    self.generation_ends(&unit);
                    self.soon(
                        1_000,
                        Happening::Tell(Event::PrepareFailed(unit, "given up".to_owned())),
                    );
                }
            }
            Effect::Launch(unit) => self.launch(unit),
            Effect::GrantTurn(unit, _) => self.turn(unit),
            Effect::AskToStop { unit, grace, .. } => {
                let deaf = self.slow.contains(&unit) || self.wrong();
                if deaf {
                    // It goes on with what it does, or ends by force only.
                    if self.rng.percent(50) {
                        self.generation_ends(&unit);
                    }
                    return;
                }
                self.generation_ends(&unit);
                let at = self.soon(
                    u64::try_from(grace.as_millis()).unwrap() + 1,
                    Happening::Tell(Event::Claimed(unit.clone(), Claim::Cancelled)),
                );
                let generation = self.generations.get(&unit).copied().unwrap_or_default();
                self.schedule(at, Happening::Exit(unit, Exit::Code(0)), generation);
            }
            Effect::Kill(unit) => {
                self.generation_ends(&unit);
                if !self.outlives() {
                    self.soon(200, Happening::Exit(unit, Exit::Signal(9)));
                }
            }
            Effect::Settle { unit, .. } => {
                self.generation_ends(&unit);
                if !self.never() {
                    let refuted = self.wrong() && self.rng.percent(20);
                    let settlement = if refuted {
                        Settlement::Refuted("because".to_owned())
                    } else {
                        Settlement::Confirmed
                    };
                    self.soon(2_000, Happening::Tell(Event::Settled(unit, settlement)));
                }
            }
            Effect::WriteBoard(story, entry) => {
                if !self.never() {
                    let failed = self.wrong() && self.rng.percent(10);
                    let write = if failed {
                        BoardWrite::Failed
                    } else {
                        BoardWrite::Written
                    };
                    // One after the other, as they were asked for.
                    let at = self.now + 5;
                    self.schedule(at, Happening::BoardWritten(story, entry, write), 0);
                }
            }
            Effect::LookAtFiles(unit) => {
                let pool = [
                    "src/a.rs",
                    "src/b.rs",
                    "src/c.rs",
                    "src/d.rs",
                    "src/e.rs",
                    "src/f.rs",
                    "docs/x.md",
                    "docs/y.md",
                    "docs/z.md",
                    "Cargo.toml",
                    "README.md",
                    "LICENSE",
                ];
                let files = (0..self.rng.below(2))
                    .map(|_| FilePattern::literal(pool[self.rng.index(pool.len())]))
                    .collect();
                self.soon(500, Happening::Tell(Event::Touched(unit, files)));
            }
            Effect::Compare(story) => {
                let others: Vec<StoryId> = self
                    .ledger
                    .outcomes()
                    .into_iter()
                    .filter(|(id, kind)| *id != story && *kind == OutcomeKind::Succeeded)
                    .map(|(id, _)| id)
                    .collect();
                let comparison = if self.wrong() && self.rng.percent(20) {
                    Comparison::Failed
                } else if !others.is_empty() && self.rng.percent(10) {
                    let with = self.rng.pick(&others).clone();
                    Comparison::Compared(vec![Clash {
                        with,
                        files: vec!["src/a.rs".to_owned()],
                    }])
                } else {
                    Comparison::Compared(Vec::new())
                };
                self.soon(300, Happening::Tell(Event::Compared(story, comparison)));
            }
            Effect::LookAtBoard => drop(self.soon(1_000, Happening::Look)),
            Effect::AskToGoOn(_) => {
                let decision = *self.rng.pick(&[Decision::GoOn, Decision::StopHere]);
                if self.rng.percent(5) {
                    // Nobody is there: after an hour the answer is no, which the clock tells.
                    self.ledger.stubborn = true;
                } else {
                    self.soon(20_000, Happening::Tell(Event::Decided(decision)));
                }
            }
            Effect::Tell(_) | Effect::Finish => {}
        }
    }

    fn prepare(&mut self, unit: Unit) {
        self.preparing.insert(unit.clone());
        let failed = Event::PrepareFailed(unit.clone(), "because".to_owned());
        let blocked = Event::PrepareBlocked(unit.clone(), "because".to_owned());
        let prepared = Event::Prepared(unit);
        match if self.wrong() { self.rng.below(5) } else { 5 } {
            // It hangs until it is given up.
            0 => {}
            1 => drop(self.soon(5_000, Happening::Tell(failed))),
            2 => drop(self.soon(60_000, Happening::Tell(prepared))),
            3 => drop(self.soon(5_000, Happening::Tell(blocked))),
            _ => drop(self.soon(2_000, Happening::Tell(prepared))),
        }
    }

    fn launch(&mut self, unit: Unit) {
        self.preparing.remove(&unit);
        if self.wrong() {
            self.launch_badly(unit);
        } else {
            let claim = if self.scenario.temper == Temper::Steady
                && unit.story.as_str().ends_with(['3', '7'])
            {
                Claim::Failed {
                    reason: "no".to_owned(),
                }
            } else {
                Claim::Succeeded
            };
            self.work(unit, Some(claim), Exit::Code(0));
        }
    }

    /// Connects, and asks for a turn of its agent; at its end it claims and exits.
    fn work(&mut self, unit: Unit, claim: Option<Claim>, exit: Exit) {
        let generation = self.generations.get(&unit).copied().unwrap_or_default();
        let at = self.soon(500, Happening::Tell(Event::Connected(unit.clone())));
        let asked = Event::TurnAsked(unit.clone());
        self.schedule(at + 1, Happening::Tell(asked), generation);
        self.plans.insert(unit, (claim, exit));
    }

    /// A turn: says where it is, and at its end asks for another one, or claims and exits.
    fn turn(&mut self, unit: Unit) {
        let Some((claim, exit)) = self.plans.remove(&unit) else {
            return;
        };
        let generation = self.generations.get(&unit).copied().unwrap_or_default();
        let mut at = self.now + self.rng.below(500);
        self.schedule(
            at,
            Happening::Tell(Event::PhaseEntered(unit.clone(), Phase::Implement)),
            generation,
        );
        let mut usage = Usage::default();
        for _ in 0..self.rng.below(3) {
            at += self.rng.below(15_000);
            usage = usage
                + Usage {
                    tokens: self.rng.below(9_000),
                    cost_micros_usd: self.rng.below(9_000),
                    turns: self.rng.below(9),
                };
            let event = if self.rng.percent(50) {
                Event::Used(unit.clone(), usage)
            } else {
                let vitals = Vitals::new(self.rng.below(20_000), None);
                Event::Answered(unit.clone(), vitals)
            };
            self.schedule(at, Happening::Tell(event), generation);
        }
        at += self.rng.below(10_000);
        if self.rng.percent(15) {
            let asked = Event::TurnAsked(unit.clone());
            self.schedule(at, Happening::Tell(asked), generation);
            self.plans.insert(unit, (claim, exit));
            return;
        }
        if let Some(claim) = claim {
            self.schedule(
                at,
                Happening::Tell(Event::Claimed(unit.clone(), claim)),
                generation,
            );
        }
        at += self.rng.below(100);
        self.schedule(at, Happening::Exit(unit, exit), generation);
    }

    /// Answers every ten seconds, without any progress since `progress`. Gives the time of the last answer.
    fn stand_still(
        &mut self,
        unit: &Unit,
        progress: u64,
        from: u64,
        answers: u64,
        waits: Option<Wait>,
    ) -> u64 {
        let generation = self.generations.get(unit).copied().unwrap_or_default();
        for answer in 1..=answers {
            let at = from + answer * 10_000;
            let event = Event::Answered(unit.clone(), Vitals::new(at - progress, waits));
            self.schedule(at, Happening::Tell(event), generation);
        }
        from + answers * 10_000
    }

    fn launch_badly(&mut self, unit: Unit) {
        let reason = || "because".to_owned();
        let generation = self.generations.get(&unit).copied().unwrap_or_default();
        match self.rng.below(17) {
            0 => {
                self.soon(100, Happening::Tell(Event::LaunchFailed(unit, reason())));
            }
            1 => {
                self.soon(500, Happening::Exit(unit, Exit::Signal(11)));
            }
            2 => self.work(unit, None, Exit::Signal(9)),
            3 => self.work(unit, Some(Claim::Succeeded), Exit::Code(1)),
            4 => self.work(
                unit,
                Some(Claim::Failed { reason: reason() }),
                Exit::Code(1),
            ),
            5 => self.work(
                unit,
                Some(Claim::Blocked { reason: reason() }),
                Exit::Code(0),
            ),
            6 => self.work(
                unit,
                Some(Claim::Crashed { reason: reason() }),
                Exit::Code(0),
            ),
            7 => {
                let until = self
                    .rng
                    .percent(70)
                    .then(|| Moment::from_millis(self.now + self.rng.below(90_000)));
                self.work(
                    unit,
                    Some(Claim::QuotaExhausted {
                        until,
                        reason: reason(),
                    }),
                    Exit::Code(0),
                );
            }
            8 => {
                let at = self.soon(500, Happening::Tell(Event::Connected(unit.clone())));
                self.schedule(
                    at + 500,
                    Happening::Tell(Event::ProtocolViolated(unit, reason())),
                    generation,
                );
            }
            // It never connects, or connects and never says anything any more.
            9 => {
                self.slow.insert(unit);
            }
            10 => {
                self.soon(500, Happening::Tell(Event::Connected(unit)));
            }
            14 => self.work(
                unit,
                Some(Claim::ProviderRefused { reason: reason() }),
                Exit::Code(0),
            ),
            15 => self.work(
                unit,
                Some(Claim::Exceeded { reason: reason() }),
                Exit::Code(0),
            ),
            // It answers, and its agent stands still.
            11 => {
                let at = self.soon(500, Happening::Tell(Event::Connected(unit.clone())));
                self.stand_still(&unit, at, at, 140, None);
            }
            // It waits for long, and then stands still for good, or is through after all.
            13 => {
                let began = self.soon(500, Happening::Tell(Event::Connected(unit.clone())));
                let wait = *self.rng.pick(&[Wait::Sleep, Wait::Disk, Wait::Network]);
                let answers = self.rng.between(30, 400);
                let at = self.stand_still(&unit, began, began, answers, Some(wait));
                if self.rng.percent(50) {
                    self.stand_still(&unit, began, at, 140, None);
                } else {
                    let claimed = Event::Claimed(unit.clone(), Claim::Succeeded);
                    self.schedule(at, Happening::Tell(claimed), generation);
                    self.schedule(at + 50, Happening::Exit(unit, Exit::Code(0)), generation);
                }
            }
            // It says that it is through, or hangs up, and stays.
            12 => {
                let at = self.soon(500, Happening::Tell(Event::Connected(unit.clone())));
                let event = if self.rng.percent(50) {
                    Event::Claimed(unit.clone(), Claim::Succeeded)
                } else {
                    Event::Disconnected(unit.clone())
                };
                self.schedule(at + 500, Happening::Tell(event), generation);
                self.slow.insert(unit);
            }
            _ => {
                let provider = Provider::from(format!("provider-{}", self.rng.below(3)));
                let until = Moment::from_millis(self.now + self.rng.below(60_000));
                self.soon(
                    5_000,
                    Happening::Tell(Event::ProviderPaused(provider, until, reason())),
                );
                self.work(unit, Some(Claim::Succeeded), Exit::Code(0));
            }
        }
    }
}
