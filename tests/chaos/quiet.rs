//! Healthy agents that say nothing are left alone; agents that really hang are found.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::program::End;
use crate::say;
use crate::scratch::Scratch;

/// How long a behaviour lasts; three times the time after which an agent without progress is stopped.
const LASTS: Duration = Duration::from_secs(6);

/// How long the runs may take altogether.
const PATIENCE: Duration = Duration::from_secs(60);

/// Healthy behaviours, and scripts that show them. `@` instead of a script stands for a mode of the fake agent.
const HEALTHY: &[(&str, &str)] = &[
    (
        "computing in a child",
        "timeout 6 sh -c 'while :; do :; done' || test $? = 124",
    ),
    (
        "a build in a grandchild",
        "sh -c 'sh -c \"timeout 6 sh -c \\\"while :; do :; done\\\"; true\"; true'",
    ),
    (
        "computing with low priority",
        "nice -n 19 timeout 6 sh -c 'while :; do :; done' || test $? = 124",
    ),
    (
        "a program that computes",
        "perl -e '$end = time + 6; while (time < $end) { $x += sqrt($_) for 1..1000 }'",
    ),
    ("sleep under a timeout wrapper", "timeout 60 sleep 6"),
    ("plain sleep", "sleep 6"),
    (
        "sleeping in a loop",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.5; done",
    ),
    (
        "a child that sleeps",
        "sh -c 'sh -c \"sleep 6; true\"; true'",
    ),
    (
        "select with a time limit",
        "perl -e 'select undef, undef, undef, 6'",
    ),
    (
        "writing a file slowly",
        "for i in 1 2 3 4 5 6; do echo $i >> slow.txt; sleep 1; done",
    ),
    (
        "nothing but writes to the disk",
        "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=\"$AI_SDLC_TEST_DIR/tmp/x\" bs=1M count=2 conv=fsync 2>/dev/null; sleep 0.7; done",
    ),
    (
        "waiting for a lock",
        "flock -w 60 \"$AI_SDLC_TEST_DIR/lock\" true",
    ),
    (
        "reading slowly",
        "seq 12 | while read -r line; do sleep 0.5; done",
    ),
    ("waiting for background jobs", "sleep 6 & sleep 5 & wait"),
    (
        "a pipeline whose first part sleeps",
        "{ sleep 6; echo x; } | cat > /dev/null",
    ),
    (
        "waiting for the end of another process",
        "sleep 6 & tail --pid=$! -f /dev/null",
    ),
    (
        "following a file for a while",
        "timeout 6 tail -f /dev/null || test $? = 124",
    ),
    (
        "polling for a file",
        "until test -e \"$AI_SDLC_TEST_DIR/appears\"; do sleep 0.3; done",
    ),
    (
        "a big sort",
        "end=$(($(date +%s) + 6)); while test $(date +%s) -lt $end; do seq 100000 | sort -R > /dev/null; done",
    ),
    (
        "compression",
        "timeout 6 gzip -9 < /dev/zero > /dev/null || test $? = 124",
    ),
    (
        "git",
        "end=$(($(date +%s) + 6)); while test $(date +%s) -lt $end; do git status > /dev/null; git log > /dev/null; sleep 0.2; done",
    ),
    (
        "many short processes",
        "end=$(($(date +%s) + 6)); while test $(date +%s) -lt $end; do /bin/true; done",
    ),
    ("waiting for a slow server", "@slow-socket"),
    ("a connection on which nothing happens", "@idle-connection"),
    ("a server to which nobody comes for a while", "@listening"),
    ("polling a server", "@serve-and-poll"),
];

/// Behaviours that never get anywhere.
const HANGING: &[(&str, &str)] = &[
    ("reading a pipe to which nobody writes", "hang-pipe"),
    ("waiting for its own lock", "hang-lock"),
    ("threads that wait for each other", "hang-channel"),
    ("stopped", "stopped"),
];

/// Small times for health. How often an executor is asked follows from them.
fn health() -> serde_json::Value {
    json!({"quietMinutes": 1.0 / 60.0, "stalledMinutes": 2.0 / 60.0})
}

/// Plays both. Gives what is wrong.
pub(crate) fn play() -> Vec<String> {
    std::thread::scope(|scope| {
        let healthy = scope.spawn(healthy);
        let hanging = scope.spawn(hanging);
        let faults = [healthy.join(), hanging.join()].into_iter();
        faults
            .flat_map(|faults| faults.unwrap_or_else(|_| vec!["it panicked".to_owned()]))
            .collect()
    })
}

fn healthy() -> Vec<String> {
    let mut scratch = Scratch::new(&json!({"health": health()}));
    let listener = TcpListener::bind("127.0.0.1:0").expect("may listen");
    let port = listener.local_addr().expect("has an address").port();
    for (number, (_, script)) in HEALTHY.iter().enumerate() {
        match script.strip_prefix('@') {
            Some(mode) => scratch.agent_story(&id(number), mode, u64::from(port)),
            None => scratch.script_story(&id(number), script),
        }
    }
    let lock = File::create(scratch.base().join("lock")).expect("files can be written");
    lock.lock().expect("nobody has it");
    let began = Instant::now();
    let mut run = scratch.start(&["run", "--concurrent", &HEALTHY.len().to_string(), "--json"]);
    let clients = HEALTHY
        .iter()
        .filter(|(_, script)| ["@slow-socket", "@idle-connection"].contains(script))
        .count();
    std::thread::spawn(move || serve(&listener, clients));
    // Of those that say something, one says where it listens.
    while let Some(line) = scratch.hear(began + LASTS) {
        if let Some(port) = port_in(&line) {
            std::thread::spawn(move || {
                std::thread::sleep(LASTS);
                drop(TcpStream::connect(("127.0.0.1", port)));
            });
        }
    }
    let_wait_end(scratch.base(), &lock);
    let end = run.end(PATIENCE);
    let mut faults = Vec::new();
    for (number, (name, _)) in HEALTHY.iter().enumerate() {
        faults.extend(fault(&end, number, name, "succeeded"));
    }
    let stopped = faults.len();
    say(&format!(
        "{} healthy behaviours, {stopped} stopped",
        HEALTHY.len()
    ));
    if end.code != Some(0) {
        faults.push(format!("exit code {:?}\n{}", end.code, run.errors()));
    }
    faults
}

fn id(number: usize) -> String {
    format!("S-{:04}", number + 1)
}

/// Answers that many connections, each after a while.
fn serve(listener: &TcpListener, clients: usize) {
    let connections: Vec<TcpStream> = listener.incoming().take(clients).flatten().collect();
    std::thread::sleep(LASTS);
    for mut connection in connections {
        drop(connection.write_all(b"ok"));
    }
}

fn port_in(line: &str) -> Option<u16> {
    line.split_once(" port-")?.1.split(' ').next()?.parse().ok()
}

/// What some wait for comes now.
fn let_wait_end(base: &Path, lock: &File) {
    fs::write(base.join("appears"), "").expect("files can be written");
    lock.unlock().expect("it is ours");
}

fn hanging() -> Vec<String> {
    // Those that are not found come to the end of their time instead.
    let scratch =
        Scratch::new(&json!({"health": health(), "limits": {"story": {"minutes": 0.25}}}));
    for (number, (_, mode)) in HANGING.iter().enumerate() {
        scratch.agent_story(&id(number), mode, 0);
    }
    let mut run = scratch.start(&["run", "--concurrent", &HANGING.len().to_string(), "--json"]);
    let end = run.end(PATIENCE);
    let named = HANGING.iter().enumerate();
    let faults: Vec<String> = named
        .filter_map(|(number, (name, _))| fault(&end, number, name, "stalled"))
        .collect();
    say(&format!(
        "{} hanging behaviours, {} not found",
        HANGING.len(),
        faults.len()
    ));
    faults
}

fn fault(end: &End, number: usize, name: &str, expected: &str) -> Option<String> {
    let id = id(number);
    let reason = end.settled(&id).map(|event| event["reason"].clone());
    (end.outcome(&id) != expected)
        .then(|| format!("{name}: {}, not {expected}: {reason:?}", end.outcome(&id)))
}
