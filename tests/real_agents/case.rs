//! The cases: what is tried with every program, and what has to come of it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::programs::Program;
use crate::scene::{DEADLINE, Over, Run, Scene};

/// Something to try.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Plays it; gives what is said of it in the table.
    pub(crate) play: fn(&Program) -> Result<String, String>,
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "edit",
        play: edit,
    },
    Case {
        name: "8 at once",
        play: eight,
    },
    Case {
        name: "429 twice",
        play: |program| recovers(program, "fail=429,n=2,ra=1"),
    },
    Case {
        name: "503 twice",
        play: |program| recovers(program, "fail=503,n=2,ra=1"),
    },
    Case {
        name: "500 twice",
        play: |program| recovers(program, "fail=500,n=2,ra=1"),
    },
    Case {
        name: "stream cut once",
        play: |program| recovers(program, "cut=1"),
    },
    Case {
        name: "429 for ever",
        play: |program| ends(program, "fail=429,ra=1", &["quota_exhausted", "stalled"]),
    },
    Case {
        name: "429, reset in an hour, and others go on",
        play: limited_for_an_hour,
    },
    Case {
        name: "529 for ever",
        play: |program| ends(program, "fail=529", &["quota_exhausted", "stalled"]),
    },
    Case {
        name: "401",
        play: |program| ends(program, "fail=401", &["blocked", "provider_refused"]),
    },
    Case {
        name: "never an answer",
        play: |program| ends(program, "hang=-1", &["stalled"]),
    },
    Case {
        name: "silent in the middle of an answer",
        play: |program| ends(program, "midhang=-1", &["stalled"]),
    },
    Case {
        name: "budget used up in the middle",
        play: exceeds,
    },
    Case {
        name: "kill -9, then on",
        play: killed,
    },
    Case {
        name: "stopped in a tool",
        play: stopped,
    },
];

fn one_edit() -> Value {
    json!([{"sh": "echo made > made-{N}.txt"}, {"say": "All done."}])
}

/// A story in whose middle a tool says that it is there, and waits to be let go.
fn held() -> Value {
    let hold = "echo here > \"$AI_SDLC_TEST_DIR/held\"; read -r _ < \"$AI_SDLC_TEST_DIR/go\"";
    json!([{"sh": "echo one > one.txt"}, {"sh": hold}, {"sh": "echo two > two.txt"}, {"say": "All done."}])
}

fn check(condition: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(fault()) }
}

fn succeeded(over: &Over, stories: u32) -> Result<(), String> {
    for number in 1..=stories {
        let settled = over.settled(&format!("S-{number:04}"));
        check(settled["outcome"] == "succeeded", || settled.to_string())?;
    }
    check(over.status.code() == Some(0), || format!("{}", over.status))
}

fn seconds(over: &Over) -> String {
    let took = over.settled("S-0001")["duration_ms"].as_u64().unwrap_or(0);
    format!("{:.1} s", Duration::from_millis(took).as_secs_f64())
}

fn edit(program: &Program) -> Result<String, String> {
    let scene = Scene::new(program, "", 1, &one_edit());
    let over = scene.run(&["--concurrent", "1"]).wait()?;
    succeeded(&over, 1)?;
    let files = scene.git(&["diff", "--name-only", "main...ai-sdlc/S-0001-work"]);
    check(files == "made-1.txt\n", || format!("changed: {files}"))?;
    let usage = &over.settled("S-0001")["usage"];
    let of = |name: &str| usage[name].as_u64().unwrap_or(0);
    let told = of("input_tokens") + of("output_tokens") + of("cached_tokens");
    let sent = scene.server.count("input_tokens") + scene.server.count("output_tokens");
    // Two answers of 1,050 tokens; a program may ask for more besides, and need not tell of that.
    let least = if program.tells_last_answer_alone() {
        1050
    } else {
        2100
    };
    check((least..=sent).contains(&told), || {
        format!("it tells of {told} tokens, the model of {sent}")
    })?;
    let cost = match of("cost_micros_usd") {
        0 => String::new(),
        cost => format!(", ${}.{:04}", cost / 1_000_000, cost % 1_000_000 / 100),
    };
    no_survivors(&scene)?;
    Ok(format!("{}, {told} tokens{cost}", seconds(&over)))
}

fn eight(program: &Program) -> Result<String, String> {
    let scene = Scene::new(program, "", 8, &one_edit());
    let run = scene.run(&["--concurrent", "8"]);
    let over = run.wait()?;
    succeeded(&over, 8)?;
    for number in 1..=8 {
        let range = format!("main..ai-sdlc/S-{number:04}-work");
        let commits = scene.git(&["rev-list", "--count", &range]);
        check(commits == "1\n", || {
            format!("S-{number:04}: {commits} commits")
        })?;
    }
    no_survivors(&scene)?;
    let took = over
        .events
        .last()
        .map(|event| event["duration_ms"].as_u64().unwrap_or(0));
    let took = Duration::from_millis(took.unwrap_or(0));
    Ok(format!("{:.1} s", took.as_secs_f64()))
}

/// A fault that is over soon: the story is done in the end, by the program itself or by another attempt.
fn recovers(program: &Program, scenario: &str) -> Result<String, String> {
    let scene = Scene::new(program, scenario, 1, &one_edit());
    let over = scene.run(&["--concurrent", "1"]).wait()?;
    succeeded(&over, 1)?;
    check(scene.server.count("faults") > 0, || {
        "no fault came".to_owned()
    })?;
    no_survivors(&scene)?;
    let attempt = over.settled("S-0001")["attempt"].as_u64().unwrap_or(0);
    let how = match attempt {
        1 => "by itself".to_owned(),
        attempt => format!("attempt {attempt}"),
    };
    Ok(format!("{how}, {}", seconds(&over)))
}

/// A fault that stays: the attempt ends in time with one of these outcomes.
fn ends(program: &Program, scenario: &str, outcomes: &[&str]) -> Result<String, String> {
    let scene = Scene::new(program, scenario, 1, &one_edit());
    let mut run = scene.run(&["--concurrent", "1"]);
    let (event, after) = first_end(&mut run)?;
    run.signal(Signal::INT);
    run.wait()?;
    let outcome = event["outcome"].as_str().unwrap_or_default().to_owned();
    check(outcomes.contains(&outcome.as_str()), || event.to_string())?;
    no_survivors(&scene)?;
    Ok(format!("{outcome} after {:.0} s", after.as_secs_f64()))
}

/// One slot, two stories: the provider of the first one serves no more for an hour, and the second one is done meanwhile.
fn limited_for_an_hour(program: &Program) -> Result<String, String> {
    let scene = Scene::new(program, "fail=429,ra=3600", 1, &one_edit());
    scene.add_script("S-0002");
    let mut run = scene.run(&["--concurrent", "1"]);
    let (event, after) = first_end(&mut run)?;
    let (other, _) = run.await_event("the end of the other story", |event| {
        event["type"] == "story_settled" && event["story"] == "S-0002"
    })?;
    run.signal(Signal::INT);
    run.wait()?;
    let outcome = event["outcome"].as_str().unwrap_or_default().to_owned();
    let known = ["quota_exhausted", "stalled"].contains(&outcome.as_str());
    check(known && event["story"] == "S-0001", || event.to_string())?;
    check(other["outcome"] == "succeeded", || other.to_string())?;
    no_survivors(&scene)?;
    Ok(format!("{outcome} after {:.0} s", after.as_secs_f64()))
}

fn first_end(run: &mut Run) -> Result<(Value, Duration), String> {
    run.await_event("the end of an attempt", |event| {
        event["type"] == "story_retrying" || event["type"] == "story_settled"
    })
}

/// Nine requests, and budgets that the second one (of cost) and the third one (of tokens) go beyond. Who tells what it uses while it works, or can be told what
/// is left, is ended; of the others it is known when they are done, and then the work is too.
fn exceeds(program: &Program) -> Result<String, String> {
    let edit = |step: u32| json!({"sh": format!("echo {step} > made-{step}.txt")});
    let mut steps: Vec<Value> = (1..=8).map(edit).collect();
    steps.push(json!({"say": "All done."}));
    let scene = Scene::new(program, "", 1, &json!(steps));
    let over = scene
        .run(&["--max-tokens", "2500", "--max-cost", "0.006"])
        .wait()?;
    let settled = over.settled("S-0001");
    let (requests, code) = (scene.server.count("requests"), over.status.code());
    no_survivors(&scene)?;
    if !program.is_held_to_its_budget() {
        check(settled["outcome"] == "succeeded", || settled.to_string())?;
        return Ok(format!("known at its end, after {requests} requests"));
    }
    let ended = settled["outcome"] == "budget_exceeded" && code == Some(4);
    check(ended, || format!("{code:?}: {settled}"))?;
    check((2..9).contains(&requests), || {
        format!("{requests} requests")
    })?;
    let file = scene.path("repository/.ai-sdlc/worktrees/S-0001-work/made-1.txt");
    check(file.is_file(), || "its work is gone".to_owned())?;
    Ok(format!("ended after {requests} requests"))
}

fn killed(program: &Program) -> Result<String, String> {
    let scene = Scene::new(program, "", 1, &held());
    let run = scene.run(&["--concurrent", "1"]);
    scene.held.await_somebody(DEADLINE)?;
    run.signal(Signal::KILL);
    drop(run.wait());
    no_survivors(&scene)?;
    scene.go.open()?;
    let over = scene.run(&["--continue"]).wait()?;
    succeeded(&over, 1)?;
    let files = scene.git(&["diff", "--name-only", "main...ai-sdlc/S-0001-work"]);
    check(files == "one.txt\ntwo.txt\n", || {
        format!("changed: {files}")
    })?;
    let usage = &over.settled("S-0001")["usage"];
    let of = |name: &str| usage[name].as_u64().unwrap_or(0);
    let told = of("input_tokens") + of("output_tokens") + of("cached_tokens");
    let sent = scene.server.count("input_tokens") + scene.server.count("output_tokens");
    check(told <= sent, || {
        format!("it counts {told} tokens, and the model {sent}")
    })?;
    let conversations = scene.conversations();
    let tried = conversations.len() > 1 && conversations[0] == conversations[1];
    let is_same = tried && conversations.len() == 2;
    let is_new = tried && conversations.len() == 3 && program.may_lose_its_last_minute();
    check(is_same || is_new, || {
        let logs = over
            .events
            .iter()
            .filter(|event| event["type"] == "story_log");
        let logs: Vec<&Value> = logs.map(|event| &event["text"]).collect();
        format!("conversations: {conversations:?}; {logs:?}")
    })?;
    let whose = if is_same { "same" } else { "new" };
    Ok(format!("{whose} conversation"))
}

fn stopped(program: &Program) -> Result<String, String> {
    let scene = Scene::new(program, "", 1, &held());
    let run = scene.run(&["--concurrent", "1"]);
    scene.held.await_somebody(DEADLINE)?;
    run.signal(Signal::INT);
    let began = std::time::Instant::now();
    let over = run.wait()?;
    let took = began.elapsed();
    check(over.status.code() == Some(130), || {
        format!("{}", over.status)
    })?;
    no_survivors(&scene)?;
    let file = scene.path("repository/.ai-sdlc/worktrees/S-0001-work/one.txt");
    check(file.is_file(), || "its work is gone".to_owned())?;
    Ok(format!("gone after {:.1} s", took.as_secs_f64()))
}

fn no_survivors(scene: &Scene<'_>) -> Result<(), String> {
    let left = scene.survivors();
    check(left.is_empty(), || format!("left running: {left:?}"))
}
