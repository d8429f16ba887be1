//! The matrix: who is killed × what the agent is like × when.

use std::time::Instant;

use crate::cell::{Cell, Verdict, When, Who};
use crate::lanes;
use crate::mode::Mode;
use crate::recovery::Recovery;
use crate::say;

/// Plays all cells whose name fits; `*` in it stands for any part. Gives what is wrong.
pub(crate) fn play(wanted: &str) -> Vec<String> {
    let cells = cells(wanted);
    let began = Instant::now();
    let verdicts = lanes::each(&cells, Cell::play);
    let verdicts: Vec<Verdict> = verdicts
        .into_iter()
        .map(|verdict| {
            verdict.unwrap_or_else(|panic| Verdict {
                faults: vec![panic],
                ..Verdict::default()
            })
        })
        .collect();
    let played: Vec<(Cell, Verdict)> = cells.into_iter().zip(verdicts).collect();
    say(&table(&played));
    let sum = |count: fn(&Verdict) -> usize| {
        played
            .iter()
            .map(|(_, verdict)| count(verdict))
            .sum::<usize>()
    };
    say(&format!(
        "{} cells, {} survivors, {} zombies, {} foreign victims, {} at fault, {:.1} s",
        played.len(),
        sum(|verdict| verdict.survivors),
        sum(|verdict| verdict.zombies),
        sum(|verdict| verdict.victims),
        sum(|verdict| usize::from(!verdict.faults.is_empty())),
        began.elapsed().as_secs_f64()
    ));
    let faulty = played
        .iter()
        .filter(|(_, verdict)| !verdict.faults.is_empty());
    faulty
        .map(|(cell, verdict)| {
            let faults = verdict.faults.join("\n  ");
            format!("{cell}: {faults}\n  again: cargo test --test chaos -- cell={cell}")
        })
        .collect()
}

fn cells(wanted: &str) -> Vec<Cell> {
    let parts: Vec<&str> = wanted.split('/').collect();
    let fits = |place: usize, name: &str| {
        parts
            .get(place)
            .is_none_or(|part| ["", "*", name].contains(part))
    };
    let mut cells = Vec::new();
    for (number, mode) in Mode::all().into_iter().enumerate() {
        for who in Who::ALL {
            for when in When::ALL {
                // Every mode meets both commands.
                let recovery = if (number + when as usize).is_multiple_of(2) {
                    Recovery::Reap
                } else {
                    Recovery::Run
                };
                let cell = Cell {
                    who,
                    mode,
                    when,
                    recovery,
                };
                if cell.exists()
                    && fits(0, who.name())
                    && fits(1, &mode.name())
                    && fits(2, when.name())
                {
                    cells.push(cell);
                }
            }
        }
    }
    cells
}

/// A row for each mode: survivors/zombies/milliseconds until all was gone.
fn table(played: &[(Cell, Verdict)]) -> String {
    let columns = || {
        Who::ALL
            .into_iter()
            .flat_map(|who| When::ALL.map(|when| (who, when)))
    };
    let mut text = String::from(
        "survivors/zombies/ms until all is gone; `!` where something is not as it should be\n",
    );
    let mut line = |first: &str, rest: Vec<String>| {
        let row: Vec<String> = rest.iter().map(|word| format!("{word:>11}")).collect();
        text.extend([format!("{first:<13}"), row.concat(), "\n".to_owned()]);
    };
    line(
        "",
        columns()
            .map(|(who, _)| who.name().chars().take(10).collect())
            .collect(),
    );
    line(
        "",
        columns().map(|(_, when)| when.name().to_owned()).collect(),
    );
    for mode in Mode::all() {
        let of = |(who, when)| {
            let found = played
                .iter()
                .find(|(cell, _)| (cell.who, cell.mode, cell.when) == (who, mode, when));
            found.map_or_else(String::new, |(_, verdict)| {
                let mark = if verdict.faults.is_empty() { "" } else { "!" };
                format!(
                    "{}/{}/{}{mark}",
                    verdict.survivors,
                    verdict.zombies,
                    verdict.took.as_millis()
                )
            })
        };
        let row: Vec<String> = columns().map(of).collect();
        if row.iter().any(|word| !word.is_empty()) {
            line(&mode.name(), row);
        }
    }
    text
}
