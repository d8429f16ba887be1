//! Inputs that come late, twice, or in a state that they do not fit.

use super::*;

fn every_input() -> Vec<Input> {
    vec![
        Prepared,
        PrepareFailed(because()),
        LaunchFailed(because()),
        Connected,
        PhaseEntered(Phase::Plan),
        Answered,
        Progressed,
        Touched,
        Claimed(failed()),
        Disconnected,
        ProtocolViolated(because()),
        Exited(KILLED),
        Settled(Settlement::Confirmed),
        Stop,
        StopNow,
        Exceeded(TOKENS),
        TimePassed,
    ]
}

/// The inputs that ask for something or change the state, of an attempt that was played so far.
fn heard(script: &[Scripted]) -> Vec<String> {
    let heard = |input: &Input| {
        let mut play = play(script.iter().cloned());
        let before = play.state().clone();
        let _told = play.tell(0, input.clone());
        play.step != Some(Step::In(before))
    };
    let inputs = every_input().into_iter().filter(heard);
    let names = inputs.map(|input| {
        let name = format!("{input:?}");
        name.split('(').next().unwrap_or_default().to_owned()
    });
    names.collect()
}

#[test]
fn each_state_hears_what_fits_it_and_nothing_else() {
    let prepared = (1, Prepared, "launch, starting");
    let connected = (1, Connected, "running");
    let stop = (1, Stop, "ask within 10, stopping");
    assert_eq!(
        heard(&[]),
        ["Prepared", "PrepareFailed", "Stop", "StopNow", "Exceeded"]
    );
    assert_eq!(
        heard(&[(1, Stop, "abandoning")]),
        ["Prepared", "PrepareFailed", "StopNow"]
    );
    assert_eq!(
        heard(&[(1, StopNow, "abandon, abandoned")]),
        ["Prepared", "PrepareFailed"]
    );
    assert_eq!(
        heard(std::slice::from_ref(&prepared)),
        [
            "LaunchFailed",
            "Connected",
            "Claimed",
            "Disconnected",
            "ProtocolViolated",
            "Exited",
            "Stop",
            "StopNow",
            "Exceeded"
        ]
    );
    let running = [
        prepared.clone(),
        connected.clone(),
        (1, Answered, "running"),
    ];
    assert_eq!(
        heard(&running),
        [
            "LaunchFailed",
            "PhaseEntered",
            "Progressed",
            "Claimed",
            "Disconnected",
            "ProtocolViolated",
            "Exited",
            "Stop",
            "StopNow",
            "Exceeded"
        ]
    );
    assert_eq!(
        heard(&[
            prepared.clone(),
            connected.clone(),
            (1, Disconnected, "leaving")
        ]),
        [
            "LaunchFailed",
            "ProtocolViolated",
            "Exited",
            "Stop",
            "StopNow",
            "Exceeded"
        ]
    );
    assert_eq!(
        heard(&[prepared.clone(), connected.clone(), stop.clone()]),
        ["LaunchFailed", "Claimed", "Exited", "StopNow"]
    );
    let killed = (11, TimePassed, "kill, killed");
    assert_eq!(
        heard(&[prepared, connected.clone(), stop, killed]),
        ["LaunchFailed", "Claimed", "Exited"]
    );
    let exited = (1, Exited(KILLED), "settle crashed and keep, settling");
    assert_eq!(
        heard(&[(1, Prepared, "launch, starting"), connected, exited]),
        ["Settled"]
    );
}

#[test]
fn a_second_request_hastens_a_stop_and_keeps_its_reason() {
    let play = play(running([
        (1, Exceeded(TOKENS), "ask within 10, stopping"),
        (1, Stop, "stopping"),
        (1, StopNow, "ask within 0, stopping"),
        (1, TimePassed, "kill, killed"),
    ]));
    let reason = match play.state() {
        State::Stopping { reason, .. } => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason, StopReason::Exceeded(TOKENS));
}

#[test]
fn the_first_claim_counts() {
    play(running([
        (1, Claimed(failed()), "leaving"),
        (1, Claimed(Claim::Succeeded), "leaving"),
        (1, Exited(Exit::Code(0)), "settle failed and keep, settling"),
    ]));
    play(running([
        (1, Stop, "ask within 10, stopping"),
        (1, Claimed(Claim::Succeeded), "stopping"),
        (1, Claimed(Claim::Cancelled), "stopping"),
        (
            1,
            Exited(Exit::Code(0)),
            "settle succeeded and remove, settling",
        ),
    ]));
}
