//! The real agents against a scripted model: what each of them does with every case, as a table.
//!
//! - `AI_SDLC_REAL_AGENTS=FOLDER cargo test --test real_agents`: the programs in that folder (else those on the `PATH`;
//!   nothing is tried when there are none)
//! - `… -- claude`, `… -- claude/kill`: one program, one case of it
//! - `AI_SDLC_AGENTS_REPORT=FILE`: where the table goes besides
//! - `AI_SDLC_AGENTS_SUMMARY=FILE`: where the line goes besides that says which were tried, or why none was; `.ci/run`
//!   shows it at its end
//!
//! No program reaches anything but this machine: everything happens in a network namespace that has only the loopback
//! device. `fake_llm.py` is the model; a story's text has its script, the address of the model has the fault.

#![expect(clippy::print_stdout, reason = "it has no harness that would do so")]

mod case;
mod gate;
mod namespace;
mod programs;
mod scene;
mod server;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use case::CASES;
use programs::Program;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let programs = programs::present();
    if programs.is_empty() {
        say("none is there, nothing was tried (AI_SDLC_REAL_AGENTS names their folder)");
        return ExitCode::SUCCESS;
    }
    match namespace::enter() {
        namespace::Entered::Inside => {}
        namespace::Entered::Outside(code) => return code,
        namespace::Entered::Refused(why) => {
            say(&format!(
                "no namespace without a network could be made, nothing was tried: {why}"
            ));
            return ExitCode::SUCCESS;
        }
    }
    let began = Instant::now();
    let mut table = head(&programs);
    let (mut passed, mut failed) = (0, 0);
    for case in CASES {
        let mut row = format!("| {} |", case.name);
        for program in &programs {
            let name = format!("{}/{}", program.name, case.name);
            let is_wanted = wanted.is_empty()
                || wanted
                    .iter()
                    .any(|wanted| **wanted == program.name || **wanted == name);
            if !is_wanted {
                row.push_str(" |");
                continue;
            }
            let cell = match (case.play)(program) {
                Ok(cell) => {
                    passed += 1;
                    println!("{name}: {cell}");
                    cell
                }
                Err(fault) => {
                    failed += 1;
                    println!("{name}: FAILED: {fault}");
                    "**failed**".to_owned()
                }
            };
            write!(row, " {cell} |").expect("writing to a string cannot fail");
        }
        table.push_str(&row);
        table.push('\n');
    }
    println!("\n{table}");
    if let Ok(path) = std::env::var("AI_SDLC_AGENTS_REPORT") {
        std::fs::write(&path, &table).expect("the report can be written");
    }
    say(&format!(
        "{}: {passed} passed, {failed} failed, {:.0} s",
        names(&programs).join(", "),
        began.elapsed().as_secs_f64()
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Says in a line what was tried.
fn say(what: &str) {
    println!("real agents: {what}");
    if let Ok(path) = std::env::var("AI_SDLC_AGENTS_SUMMARY") {
        std::fs::write(&path, format!("real agents: {what}\n"))
            .expect("the summary can be written");
    }
}

fn names(programs: &[Program]) -> Vec<String> {
    let names = programs.iter();
    names
        .map(|program| format!("{} {}", program.name, program.version()))
        .collect()
}

fn head(programs: &[Program]) -> String {
    let names = names(programs);
    let lines = "---|".repeat(names.len());
    format!("| | {} |\n|---|{lines}\n", names.join(" | "))
}
