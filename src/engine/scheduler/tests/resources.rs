//! Who starts when agents want more of the machine than it has.

use super::*;

/// A story whose agent wants so much memory.
fn wants(number: Number, memory_bytes: u64) -> PlannedStory {
    PlannedStory {
        resources: Resources {
            memory_bytes,
            millicpus: 0,
        },
        ..planned(number)
    }
}

fn run(slots: usize, memory_bytes: u64, stories: &[(Number, u64)]) -> Run {
    let settings = Settings {
        capacity: Capacity {
            memory_bytes: Some(memory_bytes),
            millicpus: Some(1),
        },
        ..rules(slots)
    };
    let stories = stories
        .iter()
        .map(|(number, wanted)| wants(*number, *wanted));
    Run::begin_with(settings, stories)
}

impl Run {
    fn begun(&self) -> Vec<StoryId> {
        let begun = self.asked.iter().filter_map(|effect| match effect {
            Effect::Prepare(unit) => Some(unit.story.clone()),
            _ => None,
        });
        begun.collect()
    }

    fn waits_told(&self) -> usize {
        self.count(|effect| matches!(effect, Effect::Tell(Notice::WaitsForRoom { .. })))
    }
}

#[test]
fn stories_wait_until_the_machine_has_enough_and_nobody_overtakes_them() {
    let mut run = run(4, 10, &[(1, 6), (2, 5), (3, 1), (4, 4)]);
    assert_eq!(run.begun(), [id(1)]);
    assert_eq!(run.waits_told(), 1);
    run.work(1);
    run.fail(1);
    assert_eq!(run.begun(), [1, 2, 3, 4].map(id));
    assert_eq!(run.waits_told(), 1);
}

#[test]
fn who_wants_nothing_is_not_in_the_way_and_who_wants_too_much_runs_alone() {
    let mut run = run(4, 10, &[(1, 0), (2, 0), (3, 99), (4, 0)]);
    assert_eq!(run.begun(), [1, 2].map(id));
    run.work(1);
    run.fail(1);
    assert_eq!(run.begun().len(), 2);
    run.work(2);
    run.fail(2);
    assert_eq!(run.begun(), [1, 2, 3, 4].map(id));
}
