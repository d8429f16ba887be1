//! The bytes of one message of every variant. A difference here is a change of the wire format, which users of two
//! versions of the program would meet as damage: append a variant or raise the version instead.

use super::codec::{decode, encode};
use super::message::{
    Activity, Change, Claim, CommandRecord, ErrorReport, Evidence, FromExecutor, HealthResponse,
    Hello, Label, Log, LogLevel, Percent, Reason, Recovery, Retrying, ShutdownReason, StatusUpdate,
    ToExecutor, Usage,
};
use super::samples;
use crate::engine::{Allowance, Phase, Sign, Wait};

/// What comes before the body: version 5, run, story, attempt 3, sequence 7, time.
const ENVELOPE: &str =
    "051432303236313132322d3231313330362d6162313206532d303034320307fdd0021b05a2010000";

fn check<B>(body: B, golden: &str)
where
    B: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let envelope = samples::envelope(body);
    let frame = encode(&envelope).unwrap();
    let hex = format!("{frame:x}");
    assert_eq!(
        hex,
        format!("{ENVELOPE}{golden}"),
        "the wire format changed"
    );
    assert_eq!(decode::<B>(&frame).unwrap(), envelope);
}

fn usage() -> Usage {
    Usage {
        input_tokens: 1,
        output_tokens: 251,
        cached_tokens: 65_536,
        cost_micros_usd: Some(1 << 40),
        turns: 5,
    }
}

fn reason() -> Reason {
    Reason::new("why")
}

#[test]
fn hello_keeps_its_bytes() {
    let hello = Hello {
        pid: 4_242,
        protocol_version: 5,
        binary_version: Label::new("0.1.0"),
    };
    check(FromExecutor::Hello(hello), "00fb92100505302e312e30");
}

#[test]
fn status_update_keeps_its_bytes_in_every_phase() {
    let status = |phase, progress, activity: Option<&str>, agent_session: Option<&str>| {
        FromExecutor::StatusUpdate(Box::new(StatusUpdate {
            phase,
            progress,
            activity: activity.map(Activity::new),
            usage: usage(),
            agent_session: agent_session.map(Label::new),
            model: agent_session.map(|_| Label::new("m")),
            tool: agent_session.map(|_| Label::new("Bash")),
            retrying: agent_session.map(|_| Retrying {
                reason: reason(),
                delay_ms: Some(1_000),
                limited: true,
            }),
        }))
    };
    let full = status(
        Phase::Implement,
        Some(Percent::new(42)),
        Some("edits"),
        Some("s1"),
    );
    check(
        full,
        "0104012a0105656469747301fbfb00fc0000010001fd0000000000010000050102733101016d010442617368010377687901fbe80301",
    );
    check(
        status(Phase::Refine, None, None, None),
        "0100000001fbfb00fc0000010001fd00000000000100000500000000",
    );
    check(
        status(Phase::Research, None, None, None),
        "0101000001fbfb00fc0000010001fd00000000000100000500000000",
    );
    check(
        status(Phase::Plan, None, None, None),
        "0102000001fbfb00fc0000010001fd00000000000100000500000000",
    );
    check(
        status(Phase::PlanReview, None, None, None),
        "0103000001fbfb00fc0000010001fd00000000000100000500000000",
    );
    check(
        status(Phase::Verify, None, None, None),
        "0105000001fbfb00fc0000010001fd00000000000100000500000000",
    );
    check(
        status(Phase::Review, None, None, None),
        "0106000001fbfb00fc0000010001fd00000000000100000500000000",
    );
}

#[test]
fn health_response_keeps_its_bytes_with_every_sign_and_wait() {
    let health = |sign, waits| {
        FromExecutor::HealthResponse(HealthResponse {
            sequence: 1,
            rss_kib: 2_000,
            cpu_ms: 3,
            output_idle_ms: 4,
            processes: 5,
            idle_ms: 6,
            sign,
            waits,
        })
    };
    check(health(None, None), "0201fbd007030405060000");
    let sign = |sign| health(Some(sign), None);
    check(sign(Sign::Output), "0201fbd00703040506010000");
    check(sign(Sign::Cpu), "0201fbd00703040506010100");
    check(sign(Sign::Io), "0201fbd00703040506010200");
    check(sign(Sign::Processes), "0201fbd00703040506010300");
    check(sign(Sign::Files), "0201fbd00703040506010400");
    let waits = |wait| health(None, Some(wait));
    check(waits(Wait::Sleep), "0201fbd00703040506000100");
    check(waits(Wait::Disk), "0201fbd00703040506000101");
    check(waits(Wait::Network), "0201fbd00703040506000102");
}

#[test]
fn log_keeps_its_bytes_in_every_level() {
    let log = |level| FromExecutor::Log(Log::new(level, "text"));
    check(log(LogLevel::Debug), "03000474657874");
    check(log(LogLevel::Info), "03010474657874");
    check(log(LogLevel::Warning), "03020474657874");
    check(log(LogLevel::Error), "03030474657874");
}

#[test]
fn error_keeps_its_bytes() {
    let error = |recovery| {
        FromExecutor::Error(ErrorReport {
            code: Label::new("code"),
            message: reason(),
            recovery,
        })
    };
    check(error(Recovery::Recoverable), "0404636f64650377687900");
    check(error(Recovery::Fatal), "0404636f64650377687901");
}

#[test]
fn permits_keep_their_bytes() {
    check(FromExecutor::PermitRequest, "06");
    let allowance = Allowance {
        cost_micros_usd: Some(250),
        turns: Some(0),
    };
    check(ToExecutor::PermitGrant(allowance), "0301fa0100");
    check(ToExecutor::PermitGrant(Allowance::default()), "030000");
}

#[test]
fn complete_keeps_its_bytes_with_every_claim() {
    let succeeded = |change, commands| {
        FromExecutor::Complete(Claim::Succeeded(Evidence {
            head: "0a".to_owned(),
            base: "0b".to_owned(),
            change,
            commands,
        }))
    };
    let committed = Change::Committed {
        commits: 1,
        files: 2,
        insertions: 300,
        deletions: 4,
    };
    let command = CommandRecord {
        command: Reason::new("make"),
        exit_code: -9,
        duration_ms: 1_500,
    };
    check(
        succeeded(committed, vec![command]),
        "0500023061023062000102fb2c010401046d616b6511fbdc05",
    );
    check(
        succeeded(Change::Nothing, Vec::new()),
        "05000230610230620100",
    );
    let complete = FromExecutor::Complete;
    check(complete(Claim::Failed { reason: reason() }), "050103776879");
    check(
        complete(Claim::Blocked { reason: reason() }),
        "050203776879",
    );
    check(
        complete(Claim::Crashed { reason: reason() }),
        "050303776879",
    );
    check(
        complete(Claim::Cancelled { reason: reason() }),
        "050403776879",
    );
    let limited = Claim::Limited {
        until_ms: Some(1_000),
        reason: reason(),
    };
    check(complete(limited), "050501fbe80303776879");
    check(
        complete(Claim::Refused { reason: reason() }),
        "050603776879",
    );
    check(
        complete(Claim::Exceeded { reason: reason() }),
        "050703776879",
    );
}

#[test]
fn start_keeps_its_bytes() {
    check(
        samples::start("story"),
        "00055469746c650573746f7279046661737406636c617564650102636c01022d7801016d0101280103413d310b2f722f532d303034322d3328616261626162616261626162616261626162616261626162616261626162616261626162616261621461692d73646c632f532d303034322d7469746c6502040501082e61692d73646c6300136665617428532d30303432293a205469746c650001094a4156415f484f4d4501096770672d6167656e74fb60eafcc0d4010001fb2a4e01072f702f2e67697401022f7001022f63",
    );
}

#[test]
fn health_check_keeps_its_bytes() {
    check(ToExecutor::HealthCheck { sequence: 250 }, "01fa");
}

#[test]
fn shutdown_keeps_its_bytes_for_every_reason() {
    let shutdown = |reason| ToExecutor::Shutdown {
        reason,
        grace_ms: 5_000,
    };
    check(shutdown(ShutdownReason::RunStopping), "0200fb8813");
    check(
        shutdown(ShutdownReason::AttemptStopped { why: reason() }),
        "020103776879fb8813",
    );
}
