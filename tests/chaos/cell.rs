//! One cell of the matrix: who is killed, what its agent is like, and when.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::bounds::{EXECUTOR_DEAD, PARENT_DEAD, RECOVERY, SLACK, STOP, STORY_MINUTES, STORY_TIME};
use crate::innocents::Innocents;
use crate::lines::{Gate, Lines};
use crate::mode::{Mode, NaturalEnd};
use crate::processes::{Gone, Process, Scope, await_state, zombies};
use crate::program::{End, Program};
use crate::recovery::{Recovery, recover};
use crate::scratch::{DEADLINE, Scratch};

/// The story whose agent or executor is killed.
pub(crate) const STORY: &str = "S-0001";

/// The story that runs beside it. Its agent and its executor are innocent as well, as long as the parent lives.
pub(crate) const SIBLING: &str = "S-0002";

/// Who is killed, with SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Parent,
    Executor,
    Agent,
    ParentAndExecutor,
    Nobody,
}

impl Who {
    pub(crate) const ALL: [Self; 5] = [
        Self::Parent,
        Self::Executor,
        Self::Agent,
        Self::ParentAndExecutor,
        Self::Nobody,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Executor => "executor",
            Self::Agent => "agent",
            Self::ParentAndExecutor => "parent+executor",
            Self::Nobody => "nobody",
        }
    }
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The executor is there and has not connected.
    BeforeHandshake,
    /// The agent is there.
    Running,
    /// The run was asked to stop.
    Stopping,
}

impl When {
    pub(crate) const ALL: [Self; 3] = [Self::BeforeHandshake, Self::Running, Self::Stopping];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BeforeHandshake => "before",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) who: Who,
    pub(crate) mode: Mode,
    pub(crate) when: When,
    pub(crate) recovery: Recovery,
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{}/{}",
            self.who.name(),
            self.mode.name(),
            self.when.name()
        )
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Processes that were left.
    pub(crate) survivors: usize,
    /// Children of living processes of ours that nobody reaped.
    pub(crate) zombies: usize,
    /// Processes that had nothing to do with it and were ended.
    pub(crate) victims: usize,
    /// How long it took until all was gone.
    pub(crate) took: Duration,
    /// What is not as it should be.
    pub(crate) faults: Vec<String>,
}

impl Verdict {
    pub(crate) fn check(&mut self, good: bool, fault: impl FnOnce() -> String) {
        if !good {
            self.faults.push(fault());
        }
    }

    /// Notes when all was gone, and what was not.
    pub(crate) fn gone(&mut self, gone: &Gone, bound: Duration) {
        self.took = gone.after;
        self.survivors += gone.left.len();
        self.check(gone.left.is_empty(), || {
            format!("left after {:?}: {:#?}", gone.after, gone.left)
        });
        self.check(gone.after <= bound, || {
            format!("it took {:?}, more than {bound:?}", gone.after)
        });
    }

    pub(crate) fn no_zombies(&mut self, parents: &[u32]) {
        let lingering = zombies(parents);
        self.zombies += lingering.len();
        self.check(lingering.is_empty(), || {
            format!("nobody reaps {lingering:?}")
        });
    }
}

/// A run that has come to the moment that is meant.
struct Scene {
    scratch: Scratch,
    run: Program,
    executor: Process,
    agent: Option<Process>,
    hold: Option<Gate>,
    innocents: Innocents,
}

impl Cell {
    /// Whether there is such a case: before the handshake there is no agent, and by which signal an agent crashes
    /// matters only where it does, but for a few.
    pub(crate) fn exists(&self) -> bool {
        (self.who, self.when) != (Who::Agent, When::BeforeHandshake)
            && (self.who == Who::Nobody || !self.mode.is_one_of_many())
    }

    /// Plays it.
    pub(crate) fn play(&self) -> Verdict {
        let mut verdict = Verdict::default();
        match self.set_up(&mut verdict) {
            Ok(scene) => self.perform(scene, &mut verdict),
            Err(fault) => verdict.faults.push(fault),
        }
        verdict
    }

    fn set_up(&self, verdict: &mut Verdict) -> Result<Scene, String> {
        let never = self.who == Who::Nobody && self.mode.natural_end() == NaturalEnd::Never;
        let configuration = if never && self.when != When::Stopping {
            json!({"limits": {"story": {"minutes": STORY_MINUTES}}})
        } else {
            json!({})
        };
        let mut scratch = Scratch::new(&configuration);
        scratch.story(STORY, self.mode);
        scratch.story(SIBLING, Mode::Ok);
        let mut command = scratch.command(&["run", "--concurrent", "2", "--json"]);
        let held = (self.when == When::BeforeHandshake).then(|| {
            let pipe = scratch.base().join("hold");
            command
                .env("AI_SDLC_TEST_HOLD", &pipe)
                .env("AI_SDLC_TEST_HOLD_STORY", STORY);
            (
                Gate::at(&pipe),
                Lines::at(&scratch.base().join("hold.ready")),
            )
        });
        let run = Program::start(command, &scratch.base().join("errors"));
        scratch.await_ready(SIBLING, 1)?;
        let (agent, hold) = match held {
            Some((hold, mut ready)) => {
                let line = ready.next(Instant::now() + DEADLINE);
                line.ok_or("no executor was held before its handshake")?;
                (None, Some(hold))
            }
            None => (Some(scratch.await_ready(STORY, self.mode.voices())?), None),
        };
        let executors = Scope::Marked(scratch.mark()).executors();
        let mut parents: Vec<u32> = executors.iter().map(Process::pid).collect();
        parents.push(run.pid());
        verdict.no_zombies(&parents);
        let executor = executors
            .into_iter()
            .find(|process| process.has_argument(STORY));
        Ok(Scene {
            executor: executor.ok_or("the executor is not found")?,
            agent,
            hold,
            innocents: Innocents::start(&scratch, STORY),
            scratch,
            run,
        })
    }

    fn perform(&self, mut scene: Scene, verdict: &mut Verdict) {
        let mut since = Instant::now();
        if self.when == When::Stopping {
            scene.run.signal(Signal::INT);
            let told = scene.run.event("run_stopping", "", DEADLINE);
            verdict.check(told.is_some(), || {
                "it does not say that it stops".to_owned()
            });
        }
        if self.is_let_go() {
            scene.scratch.let_go(STORY);
        }
        if self.who != Who::Nobody {
            since = Instant::now();
        }
        self.kill(&scene);
        if let Some(hold) = &scene.hold {
            hold.open();
        }
        match (self.who, self.when) {
            (Who::Parent, _) => {
                let gone = scene.scratch.await_none(since, PARENT_DEAD + SLACK);
                verdict.gone(&gone, PARENT_DEAD + SLACK);
            }
            (Who::ParentAndExecutor, _) => self.after_double_death(&scene, verdict),
            (_, When::Stopping) => {
                let end = after_stop(&mut scene, since, verdict);
                let expected: &[&str] = match self.who {
                    Who::Nobody => &["cancelled"],
                    // It may be told of that death before or after the order.
                    _ => &["cancelled", "crashed"],
                };
                verdict.check(expected.contains(&end.outcome(STORY)), || {
                    format!("{expected:?} expected: {:?}", end.settled(STORY))
                });
            }
            (who, _) => self.beside_the_sibling(who, &mut scene, since, verdict),
        }
        verdict.check(self.kept_what_the_agent_wrote(&scene.scratch), || {
            "its work is lost".to_owned()
        });
        let victims = scene.innocents.victims();
        verdict.victims = victims.len();
        verdict.faults.extend(victims);
        let errors = scene.run.errors();
        verdict.check(!errors.contains("panicked"), || errors.clone());
    }

    /// Whether the agent comes to its end while, or before, somebody is killed.
    fn is_let_go(&self) -> bool {
        match (self.who, self.when) {
            (_, When::Stopping) | (Who::Agent, _) => false,
            (Who::Nobody, _) => true,
            (_, When::Running) => self.mode.ends_at_once(),
            (_, When::BeforeHandshake) => false,
        }
    }

    fn kill(&self, scene: &Scene) {
        match self.who {
            Who::Nobody => {}
            Who::Parent => scene.run.process().kill(),
            Who::Executor => scene.executor.kill(),
            Who::Agent => scene.agent.iter().for_each(Process::kill),
            Who::ParentAndExecutor => {
                // Stopped first: neither has the time to do anything about the death of the other one.
                let both = [scene.run.process(), &scene.executor];
                for process in both {
                    process.signal(Signal::STOP);
                }
                for process in both {
                    if process.is_alive() {
                        await_state(process.pid(), 'T', Duration::from_millis(200));
                    }
                }
                for process in both {
                    process.kill();
                }
            }
        }
    }

    fn after_double_death(&self, scene: &Scene, verdict: &mut Verdict) {
        scene.run.ends_within(DEADLINE);
        let began = Instant::now();
        if let Err(fault) = recover(&scene.scratch, self.recovery, SIBLING) {
            verdict.faults.push(fault);
        }
        let gone = scene.scratch.await_none(began, RECOVERY + SLACK);
        verdict.gone(&gone, RECOVERY + SLACK);
    }

    /// The parent lives, the sibling works on, and the story of this cell comes to an end.
    fn beside_the_sibling(
        &self,
        who: Who,
        scene: &mut Scene,
        since: Instant,
        verdict: &mut Verdict,
    ) {
        let bound = match (who, self.mode.natural_end()) {
            (Who::Executor, _) => EXECUTOR_DEAD,
            (Who::Nobody, NaturalEnd::Never) => STORY_TIME + STOP,
            _ => STOP,
        };
        let gone = scene.scratch.await_story(STORY, since, bound + SLACK);
        verdict.gone(&gone, bound + SLACK);
        let settled = scene.run.event("story_settled", STORY, DEADLINE);
        let outcome = settled
            .as_ref()
            .and_then(|event| event["outcome"].as_str())
            .unwrap_or_default();
        let expected: &[&str] = match (who, self.mode.natural_end()) {
            (Who::Nobody, NaturalEnd::Outcome("succeeded")) => &["succeeded"],
            (Who::Nobody, NaturalEnd::Outcome("failed")) => &["failed"],
            (Who::Nobody, NaturalEnd::Never) => &["timed_out"],
            // It ends while its executor is killed: either may come first.
            (Who::Executor, NaturalEnd::Outcome(natural)) if self.is_let_go() => {
                &[natural, "crashed"]
            }
            _ => &["crashed"],
        };
        verdict.check(expected.contains(&outcome), || {
            format!("{expected:?} expected: {settled:?}")
        });
        let sibling = Scope::Marked(scene.scratch.mark()).executor(SIBLING);
        let is_timed = expected == ["timed_out"];
        verdict.check(sibling.is_some() || is_timed, || {
            "the executor of the sibling is gone".to_owned()
        });
        let mut parents: Vec<u32> = sibling.iter().map(Process::pid).collect();
        parents.push(scene.run.pid());
        verdict.no_zombies(&parents);
        scene.scratch.let_go(SIBLING);
        let end = scene.run.end(DEADLINE);
        // Its time runs out as well.
        verdict.check(is_timed || end.outcome(SIBLING) == "succeeded", || {
            format!("the sibling: {:?}", end.settled(SIBLING))
        });
        let code = i32::from(outcome != "succeeded");
        verdict.check(end.code == Some(code), || {
            format!("exit code {:?}, not {code}", end.code)
        });
        verdict.gone_as_well(scene);
    }

    /// The worktree of a story that did not succeed is still there, with what its agent wrote; or it is on the branch.
    fn kept_what_the_agent_wrote(&self, scratch: &Scratch) -> bool {
        let worktree = scratch.worktree(STORY);
        if self.when == When::BeforeHandshake && self.who != Who::Nobody {
            return worktree.is_dir();
        }
        let mark = format!("{}{STORY}.", scratch.mark());
        let in_worktree = std::fs::read_to_string(worktree.join("half.txt")).ok();
        in_worktree
            .or_else(|| scratch.git(&["show", &format!("ai-sdlc/{STORY}-work:half.txt")]))
            .is_some_and(|kept| kept == mark)
    }
}

impl Verdict {
    /// Nothing of the whole test is left once the run is over.
    fn gone_as_well(&mut self, scene: &Scene) {
        let left = scene.scratch.await_none(Instant::now(), SLACK).left;
        self.survivors += left.len();
        self.check(left.is_empty(), || format!("left after the run: {left:#?}"));
    }
}

fn after_stop(scene: &mut Scene, since: Instant, verdict: &mut Verdict) -> End {
    let gone = scene.scratch.await_none(since, STOP + SLACK);
    verdict.gone(&gone, STOP + SLACK);
    let end = scene.run.end(DEADLINE);
    verdict.check(end.code == Some(130), || {
        format!("exit code {:?}, not 130", end.code)
    });
    verdict.check(end.outcome(SIBLING) == "cancelled", || {
        format!("the sibling: {:?}", end.settled(SIBLING))
    });
    end
}
