//! What a run of the simulation starts from: its stories, its rules, and how unkind its world is.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use ai_sdlc::engine::{
    AttemptNumber, Capacity, FilePattern, Fingerprint, Limits, OnFailure, Order, OutcomeKind,
    PlannedStory, Provider, Resources, Settings, WhenIdle,
};
use ai_sdlc::story::StoryId;

use crate::rng::Rng;

/// The most stories of a run.
const MOST_STORIES: u64 = 200;

/// When everything that a small run does is over for long, in milliseconds.
const LATE: u64 = 10_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) settings: Settings,
    pub(crate) plan: Vec<PlannedStory>,
    /// Stories that join later, when the run waits for them.
    pub(crate) later: Vec<PlannedStory>,
    /// Every attempt at a story ends as its story is to end, and nobody stops the run.
    pub(crate) temper: Temper,
    /// In how many of a hundred cases something goes wrong.
    pub(crate) trouble: u64,
    /// In how many of a hundred cases something cannot be ended.
    pub(crate) ghosts: u64,
    /// When a person asks the run to stop, in milliseconds.
    pub(crate) stops: Vec<u64>,
    /// Before which events the orchestrator is killed.
    pub(crate) kills: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temper {
    Wild,
    Steady,
}

pub(crate) fn story(index: usize) -> StoryId {
    StoryId::from_number(index as u64 + 1)
}

impl Scenario {
    pub(crate) fn wild(rng: &mut Rng) -> Self {
        // Mostly small: what goes wrong goes wrong with few stories as well, and many small runs see more of it.
        let mut share = 1 << 20;
        for _ in 0..12 {
            share = (share * rng.below(1 << 10)) >> 10;
        }
        let count = 1
            + rng.below(6)
            + share * (MOST_STORIES - 7) / (1 << 20)
            + if rng.percent(1) {
                rng.below(MOST_STORIES - 6)
            } else {
                rng.below(8)
            };
        let count = usize::try_from(count.min(MOST_STORIES)).unwrap();
        let most_slots = if rng.percent(50) { 4 } else { 16 };
        let mut settings = Settings::new(NonZeroUsize::new(1 + rng.index(most_slots)).unwrap());
        settings.order = if rng.percent(10) {
            Order::AsGiven
        } else {
            Order::AnyReady
        };
        settings.on_failure = *rng.pick(&[
            OnFailure::GoOn,
            OnFailure::GoOn,
            OnFailure::GoOn,
            OnFailure::StopStarting,
            OnFailure::Ask,
        ]);
        settings.retry.most_attempts =
            NonZeroU32::new(1 + u32::try_from(rng.below(4)).unwrap()).unwrap();
        settings.retry.most_quota_waits = u32::try_from(rng.below(4)).unwrap();
        settings.retry.first_wait = Duration::from_millis(*rng.pick(&[100, 5_000]));
        settings.retry.seed = rng.next() >> 11;
        if rng.percent(20) {
            settings.retry.retried.push(OutcomeKind::Failed);
            settings.retry.retried.push(OutcomeKind::TimedOut);
        }
        if rng.percent(20) {
            settings.retry.retried.push(OutcomeKind::BudgetExceeded);
        }
        if rng.percent(30) {
            settings.story_limits = limits(rng, 30);
        }
        if rng.percent(20) {
            settings.run_limits = limits(rng, 120);
        }
        if rng.percent(50) {
            settings.intensity.ends = NonZeroUsize::new(1 + rng.index(6)).unwrap();
            settings.intensity.window = Duration::from_secs(1 + rng.below(60));
        }
        if rng.percent(40) {
            settings.look_at_files = Some(Duration::from_secs(*rng.pick(&[1, 2, 5, 20])));
        }
        if rng.percent(10) {
            settings.patience.quiet = Duration::from_secs(1 + rng.below(60));
            settings.patience.stalled = Duration::from_secs(1 + rng.below(120));
            settings.patience.waiting = Duration::from_secs(1 + rng.below(600));
        }
        if rng.percent(30) {
            settings.capacity = Capacity {
                memory_bytes: Some(rng.below(20)),
                millicpus: rng.percent(50).then(|| rng.below(6)),
            };
        }
        let providers = rng.below(3);
        for provider in 0..providers {
            if rng.percent(30) {
                let most = NonZeroUsize::new(1 + rng.index(3)).unwrap();
                let name = Provider::from(format!("provider-{provider}"));
                settings.most_of_provider.insert(name, most);
            }
            if rng.percent(20) {
                let turns = NonZeroU32::new(1 + u32::try_from(rng.below(12)).unwrap()).unwrap();
                let name = Provider::from(format!("provider-{provider}"));
                settings.turns_per_minute.insert(name, turns);
            }
        }
        let mut plan = stories(rng, count, providers);
        let mut later = Vec::new();
        let mut stops = Vec::new();
        if rng.percent(10) && settings.order == Order::AnyReady {
            settings.when_idle = WhenIdle::WaitForStories;
            let split = rng.index(count + 1);
            later = plan.split_off(split);
            let last = if rng.percent(70) { 400_000 } else { 2_000_000 };
            stops.push(rng.between(1_000, last));
        }
        if rng.percent(30) {
            let first = rng.below(60_000);
            stops.push(first);
            if rng.percent(30) {
                stops.push(first + rng.below(12_000));
            }
            if rng.percent(30) {
                stops.push(first + rng.below(12_000));
            }
        }
        let watched = settings.when_idle == WhenIdle::WaitForStories;
        let ghosts = if watched && rng.percent(20) { 50 } else { 0 };
        let kills = if rng.percent(35) {
            (0..=rng.below(3))
                .map(|_| rng.index(count * 12 + 2))
                .collect()
        } else {
            Vec::new()
        };
        Self {
            settings,
            plan,
            later,
            temper: Temper::Wild,
            trouble: *rng.pick(&[0, 5, 20, 60]),
            ghosts,
            stops,
            kills,
        }
    }

    /// A run in which every attempt at a story ends alike, killed before the event with that number.
    pub(crate) fn steady(rng: &mut Rng, kill: Option<usize>) -> Self {
        let count = 1 + rng.index(8);
        let slots = NonZeroUsize::new(1 + rng.index(4)).unwrap();
        let mut settings = Settings::new(slots);
        let mut plan = stories(rng, count, 0);
        let (mut later, mut stops) = (Vec::new(), Vec::new());
        match rng.below(6) {
            0 => settings.order = Order::AsGiven,
            // What is started before a failure does not depend on how long anything takes when it is one at a time.
            1 => {
                settings.order = Order::AsGiven;
                settings.on_failure = OnFailure::StopStarting;
            }
            // Before anything can be through.
            2 => stops.push(0),
            // When all is through, and never before.
            3 => {
                settings.when_idle = WhenIdle::WaitForStories;
                later = plan.split_off(rng.index(count + 1));
                stops.push(LATE);
            }
            _ => {}
        }
        Self {
            settings,
            plan,
            later,
            temper: Temper::Steady,
            trouble: 0,
            ghosts: 0,
            stops,
            kills: kill.into_iter().collect(),
        }
    }
}

fn limits(rng: &mut Rng, scale: u64) -> Limits {
    Limits {
        time: rng
            .percent(50)
            .then(|| Duration::from_secs(1 + rng.below(scale * 2))),
        tokens: rng.percent(50).then(|| rng.below(scale * 1000)),
        cost_micros_usd: rng.percent(30).then(|| rng.below(scale * 1000)),
        turns: rng.percent(30).then(|| rng.below(scale)),
    }
}

fn stories(rng: &mut Rng, count: usize, providers: u64) -> Vec<PlannedStory> {
    let shape = rng.below(5);
    let files = rng.percent(50);
    let greedy = rng.percent(30);
    (0..count)
        .map(|index| {
            let mut dependencies = Vec::new();
            match shape {
                0 => {}
                1 if index > 0 => dependencies.push(story(index - 1)),
                2 if index >= 3 => dependencies.push(story(index - 3)),
                3 if index > 0 => dependencies.push(story(0)),
                _ => {
                    for _ in 0..rng.below(3) {
                        if index > 0 {
                            dependencies.push(story(rng.index(index)));
                        }
                    }
                }
            }
            let pool = ["src/a.rs", "src/b.rs", "src/*.rs", "docs/**", "README.md"];
            let named = if files { rng.below(3) } else { 0 };
            PlannedStory {
                id: story(index),
                dependencies,
                next_attempt: AttemptNumber::FIRST,
                provider: (providers > 0)
                    .then(|| Provider::from(format!("provider-{}", rng.below(providers)))),
                files: (0..named)
                    .map(|_| FilePattern::parse(pool[rng.index(pool.len())]).unwrap())
                    .collect(),
                fingerprint: Fingerprint::default(),
                resources: Resources {
                    memory_bytes: if greedy { rng.below(9) } else { 0 },
                    millicpus: if greedy { rng.below(3) } else { 0 },
                },
            }
        })
        .collect()
}
