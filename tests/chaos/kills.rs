//! Random kills: whoever, whenever, several in one run. A soak when more are asked for.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::bounds::{PARENT_DEAD, RECOVERY, SLACK, STOP};
use crate::cell::{Verdict, Who};
use crate::innocents::Innocents;
use crate::lanes;
use crate::mode::Mode;
use crate::processes::{Process, Scope, zombies};
use crate::program::Program;
use crate::recovery::{Recovery, recover};
use crate::rng::Rng;
use crate::say;
use crate::scratch::{DEADLINE, Scratch};

/// Kills when nothing else is asked for.
const KILLS: usize = 200;

/// Scenes that are planned at once.
const BATCH: u64 = 64;

/// A story that is not ready, for the command that follows on a death of the parent.
const LATER: &str = "S-0009";

/// What is going to happen. Follows from the seed; what the processes are at in that moment does not.
#[derive(Debug)]
struct Plan {
    seed: u64,
    modes: Vec<Mode>,
    /// When each kill comes, after the one before, and whom it is for. The numbers pick among those that there are.
    kills: Vec<(Duration, Who, usize)>,
    /// Whether the first one waits for an agent.
    begins: Begins,
    /// The run is asked to stop before the kill of that number.
    stopped_before: Option<usize>,
    recovery: Recovery,
}

/// What the time until the first kill is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    WithTheRun,
    WithAnAgent,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut modes = Mode::all();
        // Their bytes would be most of the work.
        modes.retain(|mode| {
            !matches!(mode, Mode::Flood | Mode::EndlessLine) && !mode.is_one_of_many()
        });
        let stories = rng.between(2, 4);
        let modes: Vec<Mode> = (0..stories).map(|_| *rng.pick(&modes)).collect();
        let mut kills = Vec::new();
        let (begins, longest) = if rng.percent(20) {
            (Begins::WithTheRun, 400)
        } else {
            (Begins::WithAnAgent, 150)
        };
        let mut wait = Duration::from_millis(rng.below(longest));
        for _ in 0..rng.between(1, 4) {
            let who = match rng.below(100) {
                0..30 => Who::Parent,
                30..55 => Who::Executor,
                55..85 => Who::Agent,
                _ => Who::ParentAndExecutor,
            };
            kills.push((wait, who, rng.index(1000)));
            wait = Duration::from_millis(rng.below(100));
            if matches!(who, Who::Parent | Who::ParentAndExecutor) {
                break;
            }
        }
        Self {
            stopped_before: rng.percent(25).then(|| rng.index(kills.len())),
            recovery: if rng.percent(50) {
                Recovery::Reap
            } else {
                Recovery::Run
            },
            seed,
            modes,
            kills,
            begins,
        }
    }
}

/// What a scene came to.
#[derive(Default)]
struct Played {
    killed: Vec<Who>,
    verdict: Verdict,
    victims: usize,
    /// How long it took until all was gone, by what it followed on.
    parent_dead: Option<Duration>,
    stopped: Option<Duration>,
    recovered: Option<Duration>,
}

/// Sums over scenes.
#[derive(Default)]
struct Total {
    scenes: usize,
    killed: [usize; Who::ALL.len()],
    survivors: usize,
    zombies: usize,
    victims: usize,
    parent_dead: Duration,
    stopped: Duration,
    recovered: Duration,
    faults: Vec<String>,
}

impl Total {
    fn kills(&self) -> usize {
        self.killed.iter().sum()
    }

    fn add(&mut self, seed: u64, played: Played) {
        self.scenes += 1;
        for who in played.killed {
            self.killed[who as usize] += 1;
        }
        self.survivors += played.verdict.survivors;
        self.zombies += played.verdict.zombies;
        self.victims += played.victims;
        self.parent_dead = self.parent_dead.max(played.parent_dead.unwrap_or_default());
        self.stopped = self.stopped.max(played.stopped.unwrap_or_default());
        self.recovered = self.recovered.max(played.recovered.unwrap_or_default());
        if !played.verdict.faults.is_empty() {
            let faults = played.verdict.faults.join("\n  ");
            self.faults.push(format!(
                "seed {seed}: {faults}\n  again: AI_SDLC_CHAOS_SEED={seed} cargo test --test chaos -- kills"
            ));
        }
    }

    /// As a table in markdown.
    fn report(&self, began: Instant) -> String {
        let mut rows = vec![
            ("runs".to_owned(), self.scenes.to_string()),
            ("kills".to_owned(), self.kills().to_string()),
        ];
        for who in Who::ALL.into_iter().filter(|who| *who != Who::Nobody) {
            rows.push((
                format!("of {}", who.name()),
                self.killed[who as usize].to_string(),
            ));
        }
        let millis = |duration: Duration| format!("{} ms", duration.as_millis());
        rows.extend([
            ("survivors".to_owned(), self.survivors.to_string()),
            ("zombies".to_owned(), self.zombies.to_string()),
            ("foreign victims".to_owned(), self.victims.to_string()),
            ("runs at fault".to_owned(), self.faults.len().to_string()),
            (
                "longest until all was gone, parent dead".to_owned(),
                millis(self.parent_dead),
            ),
            (
                "longest until all was gone, asked to stop".to_owned(),
                millis(self.stopped),
            ),
            (
                "longest recovery, parent and executor dead".to_owned(),
                millis(self.recovered),
            ),
            (
                "time".to_owned(),
                format!("{:.0} s", began.elapsed().as_secs_f64()),
            ),
        ]);
        let rows: Vec<String> = rows
            .into_iter()
            .map(|(what, value)| format!("| {what} | {value} |\n"))
            .collect();
        format!("| what | value |\n|---|---|\n{}", rows.concat())
    }
}

/// How many kills are asked for, when it is another number than usual.
pub(crate) fn asked_for() -> Option<usize> {
    number("AI_SDLC_CHAOS_KILLS")
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Kills. Gives what is wrong.
pub(crate) fn play() -> Vec<String> {
    let began = Instant::now();
    let mut total = Total::default();
    if let Some(seed) = number("AI_SDLC_CHAOS_SEED") {
        let plan = Plan::new(seed);
        say(&format!("{plan:#?}"));
        total.add(seed, plan.play());
    } else {
        let wanted = asked_for().unwrap_or(KILLS);
        let mut first = 1;
        while total.kills() < wanted {
            let left = u64::try_from(wanted - total.kills()).unwrap_or(u64::MAX);
            // About two kills in a scene.
            let plans: Vec<Plan> = (first..first + (left / 2 + 1).min(BATCH))
                .map(Plan::new)
                .collect();
            first += plans.len() as u64;
            let played = lanes::each(&plans, Plan::play);
            for (plan, played) in plans.iter().zip(played) {
                let played = played.unwrap_or_else(|panic| {
                    let mut played = Played::default();
                    played.verdict.faults.push(panic);
                    played
                });
                total.add(plan.seed, played);
            }
            if wanted > KILLS {
                say(&format!(
                    "  … {} kills, {} at fault",
                    total.kills(),
                    total.faults.len()
                ));
            }
        }
        say(&format!("seeds 1 to {}", first - 1));
    }
    let report = total.report(began);
    say(&report);
    if let Some(path) = std::env::var_os("AI_SDLC_CHAOS_REPORT") {
        fs::write(path, report).expect("the report can be written");
    }
    total.faults
}

impl Plan {
    fn play(&self) -> Played {
        let mut played = Played::default();
        let mut scratch = Scratch::new(&json!({}));
        let ids: Vec<String> = (1..=self.modes.len())
            .map(|number| format!("S-{number:04}"))
            .collect();
        for (id, mode) in ids.iter().zip(&self.modes) {
            scratch.story(id, *mode);
        }
        scratch.any_story(LATER, "backlog", "true");
        let mut innocents = Innocents::start(&scratch, &ids[0]);
        let mut run = scratch.start(&["run", "--concurrent", "4", "--json"]);
        let mut stopped = None;
        if self.begins == Begins::WithAnAgent {
            let first = scratch.hear(Instant::now() + DEADLINE);
            played
                .verdict
                .check(first.is_some(), || "no agent came up".to_owned());
        }
        for (number, (wait, who, which)) in self.kills.iter().enumerate() {
            // The moment is what is tried here, so this is no way to wait for something.
            std::thread::sleep(*wait);
            if self.stopped_before == Some(number) {
                run.signal(Signal::INT);
                stopped = Some(Instant::now());
            }
            if number == 1 {
                // Some come to their ends by themselves.
                scratch.let_go(&ids[0]);
            }
            if kill(&scratch, &run, *who, *which) {
                played.killed.push(*who);
            }
        }
        let parent = played
            .killed
            .iter()
            .any(|who| matches!(who, Who::Parent | Who::ParentAndExecutor));
        if parent {
            self.after_death_of_the_parent(&scratch, &mut played);
        } else {
            after_stop(&scratch, &mut run, stopped, &mut played);
        }
        let victims = innocents.victims();
        played.victims = victims.len();
        played.verdict.faults.extend(victims);
        let errors = run.errors();
        played
            .verdict
            .check(!errors.contains("panicked"), || errors.clone());
        played
    }

    fn after_death_of_the_parent(&self, scratch: &Scratch, played: &mut Played) {
        let mut since = Instant::now();
        let executors_lived = !played
            .killed
            .iter()
            .any(|who| matches!(who, Who::Executor | Who::ParentAndExecutor));
        if executors_lived {
            let gone = scratch.await_none(since, PARENT_DEAD + SLACK);
            played.parent_dead = Some(gone.after);
            played.verdict.gone(&gone, PARENT_DEAD + SLACK);
        }
        since = Instant::now();
        if let Err(fault) = recover(scratch, self.recovery, LATER) {
            played.verdict.faults.push(fault);
        }
        if !executors_lived {
            let gone = scratch.await_none(since, RECOVERY + SLACK);
            played.recovered = Some(gone.after);
            played.verdict.gone(&gone, RECOVERY + SLACK);
        }
    }
}

fn after_stop(scratch: &Scratch, run: &mut Program, stopped: Option<Instant>, played: &mut Played) {
    if stopped.is_none() && run.process().is_alive() {
        let mut parents: Vec<u32> = Scope::Marked(scratch.mark())
            .executors()
            .iter()
            .map(Process::pid)
            .collect();
        parents.push(run.pid());
        let lingering = zombies(&parents);
        played.verdict.zombies += lingering.len();
        played.verdict.check(lingering.is_empty(), || {
            format!("nobody reaps {lingering:?}")
        });
    }
    // A kill in between does not make it longer.
    let since = stopped.unwrap_or_else(|| {
        run.signal(Signal::INT);
        Instant::now()
    });
    let between = since.elapsed();
    let gone = scratch.await_none(since, between + STOP + SLACK);
    played.stopped = Some(gone.after);
    played.verdict.gone(&gone, between + STOP + SLACK);
    let end = run.end(DEADLINE);
    // It may have been through before it was asked, or before it had learned to listen.
    played
        .verdict
        .check(matches!(end.code, Some(0 | 1 | 130) | None), || {
            format!(
                "exit code {:?}
{}",
                end.code,
                run.errors()
            )
        });
}

/// Kills one of those that are meant. False when there is none.
fn kill(scratch: &Scratch, run: &Program, who: Who, which: usize) -> bool {
    let scope = Scope::Marked(scratch.mark());
    let pick = |mut of: Vec<Process>| {
        let count = of.len();
        (count > 0).then(|| of.swap_remove(which % count))
    };
    match who {
        Who::Parent => run.process().kill(),
        Who::ParentAndExecutor => {
            let executor = pick(scope.executors());
            let both: Vec<&Process> = executor.iter().chain([run.process()]).collect();
            for process in &both {
                process.signal(Signal::STOP);
            }
            for process in &both {
                process.kill();
            }
        }
        Who::Executor | Who::Agent => {
            let mut living = scope.living();
            let word = if who == Who::Agent {
                "agent"
            } else {
                "agent-exec"
            };
            living.retain(|process| process.has_argument(word));
            match pick(living) {
                Some(process) => process.kill(),
                None => return false,
            }
        }
        Who::Nobody => {}
    }
    true
}
