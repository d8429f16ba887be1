//! What the engine costs: events per second for runs of 10 to 10,000 stories, and the time that a plan takes.
//!
//! `cargo bench --bench engine`; the throughput is in events, so that sizes can be compared.

use std::collections::VecDeque;
use std::hint::black_box;
use std::num::NonZeroUsize;

use ai_sdlc::engine::{
    AttemptNumber, BoardWrite, Candidate, Candidates, Claim, Comparison, Effect, Engine, Event,
    Exit, FilePattern, Fingerprint, Moment, Phase, PlannedStory, Resources, Selection, Settings,
    Settlement, Vitals, plan,
};
use ai_sdlc::story::{Status, StoryId};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// How many stories run at once.
const SLOTS: usize = 16;

fn story(index: u64) -> StoryId {
    StoryId::from_number(index + 1)
}

/// A number below `end` that looks random and depends on `index` alone.
fn scattered(index: u64, end: u64) -> u64 {
    let mixed = (index ^ (index >> 3)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) % end.max(1)
}

fn stories(count: u64) -> Vec<PlannedStory> {
    let planned = |index| PlannedStory {
        id: story(index),
        dependencies: if index % 3 == 2 {
            vec![story(scattered(index, index))]
        } else {
            Vec::new()
        },
        next_attempt: AttemptNumber::FIRST,
        provider: None,
        files: vec![FilePattern::literal(&format!(
            "src/module_{}/file_{index}.rs",
            index % 20
        ))],
        fingerprint: Fingerprint::default(),
        resources: Resources::default(),
    };
    (0..count).map(planned).collect()
}

fn engine(count: u64) -> Engine {
    let settings = Settings::new(NonZeroUsize::new(SLOTS).expect("there are slots"));
    Engine::new(settings, stories(count))
}

/// Plays a run in which all goes well. Gives the number of events.
fn play(mut engine: Engine) -> u64 {
    let mut now = 0;
    let mut events = 0;
    let mut due = VecDeque::from([Event::Began]);
    while let Some(event) = due.pop_front() {
        now += 1;
        events += 1;
        for effect in engine.step(event, Moment::from_millis(now)) {
            match effect {
                Effect::Prepare(unit) => due.push_back(Event::Prepared(unit)),
                Effect::Launch(unit) => {
                    due.push_back(Event::Connected(unit.clone()));
                    due.push_back(Event::PhaseEntered(unit.clone(), Phase::Implement));
                    for _ in 0..4 {
                        let vitals = Vitals::new(0, None);
                        due.push_back(Event::Answered(unit.clone(), vitals));
                    }
                    due.push_back(Event::Claimed(unit.clone(), Claim::Succeeded));
                    due.push_back(Event::Exited(unit, Exit::Code(0)));
                }
                Effect::Settle { unit, .. } => {
                    due.push_back(Event::Settled(unit, Settlement::Confirmed));
                }
                Effect::WriteBoard(story, _) => {
                    due.push_back(Event::BoardWritten(story, BoardWrite::Written));
                }
                Effect::Compare(story) => {
                    due.push_back(Event::Compared(story, Comparison::Compared(Vec::new())));
                }
                _ => {}
            }
        }
    }
    assert!(engine.is_finished());
    events
}

fn runs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("run");
    group.sample_size(10);
    for count in [10, 100, 1_000, 10_000] {
        group.throughput(Throughput::Elements(play(engine(count))));
        group.bench_with_input(
            BenchmarkId::from_parameter(count),
            &count,
            |bencher, count| {
                bencher.iter_batched(|| engine(*count), play, BatchSize::LargeInput);
            },
        );
    }
    group.finish();
}

/// Stories of which each needs the one before it, and which all change the same files.
fn chain(count: u64) -> Vec<PlannedStory> {
    let mut chain = stories(count);
    let mut before = None;
    for planned in &mut chain {
        planned.dependencies = before.replace(planned.id.clone()).into_iter().collect();
        planned.files = FilePattern::parse("src/**").into_iter().collect();
    }
    chain
}

fn candidates(stories: Vec<PlannedStory>) -> Candidates {
    Candidates {
        stories: stories
            .into_iter()
            .map(|planned| Candidate {
                id: planned.id,
                dependencies: planned.dependencies,
                status: Status::Ready,
                epic: None,
                labels: Vec::new(),
                provider: None,
                files: planned.files,
                next_attempt: AttemptNumber::FIRST,
                fingerprint: planned.fingerprint,
                resources: Resources::default(),
                usable: Ok(()),
            })
            .collect(),
        ..Candidates::default()
    }
}

fn plans(criterion: &mut Criterion) {
    let board = candidates(stories(1_000));
    criterion.bench_function("plan of 1000 stories", |bencher| {
        bencher.iter(|| plan(black_box(&board), &Selection::AllReady));
    });
    let in_a_chain = candidates(chain(1_000));
    for (name, board) in [
        ("plan, waves and conflicts of 1000 stories", board),
        ("plan, waves and conflicts of a chain of 1000", in_a_chain),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let plan = plan(black_box(&board), &Selection::AllReady);
                (plan.waves(), plan.predicted_conflicts(50))
            });
        });
    }
}

criterion_group!(benches, runs, plans);
criterion_main!(benches);
