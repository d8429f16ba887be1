//! Messages for the tests of this module: fixed ones, and strategies for arbitrary ones.

use proptest::prelude::*;

use super::link::Fence;
use super::message::*;
use super::text::OneLine;
use crate::engine::{Allowance, AttemptNumber, Phase, RunId, Sign, Wait};
use crate::story::StoryId;

pub(super) fn fence() -> Fence {
    Fence {
        run: RunId::new("20261122-211306", 0xab12).unwrap(),
        story: StoryId::from_number(42),
        attempt: AttemptNumber::new(3).unwrap(),
    }
}

pub(super) fn envelope<B>(body: B) -> Envelope<B> {
    let Fence {
        run,
        story,
        attempt,
    } = fence();
    Envelope {
        version: PROTOCOL_VERSION,
        run,
        story,
        attempt,
        sequence: 7,
        sent_at_ms: 1_795_381_986_000,
        body,
    }
}

pub(super) fn log(text: &str) -> FromExecutor {
    FromExecutor::Log(Log::new(LogLevel::Info, text))
}

pub(super) fn status(activity: &str) -> FromExecutor {
    FromExecutor::StatusUpdate(Box::new(StatusUpdate {
        phase: Phase::Implement,
        progress: None,
        activity: Some(Activity::new(activity)),
        usage: Usage::default(),
        agent_session: None,
        model: None,
        tool: None,
        retrying: None,
    }))
}

pub(super) fn health(sequence: u64) -> FromExecutor {
    FromExecutor::HealthResponse(HealthResponse {
        sequence,
        rss_kib: 1,
        cpu_ms: 2,
        output_idle_ms: 3,
        processes: 4,
        idle_ms: 5,
        sign: Some(Sign::Cpu),
        waits: None,
    })
}

pub(super) fn error(code: &str) -> FromExecutor {
    FromExecutor::Error(ErrorReport {
        code: Label::new(code),
        message: Reason::new("no"),
        recovery: Recovery::Recoverable,
    })
}

pub(super) fn complete() -> FromExecutor {
    FromExecutor::Complete(Claim::Failed {
        reason: Reason::new("checks fail"),
    })
}

pub(super) fn start(story_text: &str) -> ToExecutor {
    ToExecutor::Start(Box::new(Start {
        title: "Title".to_owned(),
        story_text: story_text.to_owned(),
        agent: AgentSetup {
            name: "fast".to_owned(),
            adapter: "claude".to_owned(),
            command: vec!["cl".to_owned()],
            arguments: vec!["-x".to_owned()],
            model: Some("m".to_owned()),
            own_permissions: true,
            most_requests: Some(40),
            environment: vec!["A=1".to_owned()],
        },
        attempt_folder: "/r/S-0042-3".to_owned(),
        base: "ab".repeat(20),
        branch: "ai-sdlc/S-0042-title".to_owned(),
        phases: vec![Phase::Implement, Phase::Verify],
        board_folder: Some(".ai-sdlc".to_owned()),
        work_folder: String::new(),
        commit_message: "feat(S-0042): Title".to_owned(),
        previous_attempt: None,
        environment: vec!["JAVA_HOME".to_owned()],
        keep: vec!["gpg-agent".to_owned()],
        look_every_ms: 60_000,
        checkpoint_every_ms: 120_000,
        port: Some(20_010),
        fence: Some(FenceSetup {
            common_dir: "/p/.git".to_owned(),
            closed: vec!["/p".to_owned()],
            open: vec!["/c".to_owned()],
        }),
    }))
}

fn fence_setup() -> impl Strategy<Value = FenceSetup> {
    let places = || prop::collection::vec(".{0,20}", 0..3);
    (".{0,20}", places(), places()).prop_map(|(common_dir, closed, open)| FenceSetup {
        common_dir,
        closed,
        open,
    })
}

fn line<const MAX: usize>() -> impl Strategy<Value = OneLine<MAX>> {
    ".{0,40}".prop_map(|text| OneLine::new(&text))
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(vec![
        Phase::Refine,
        Phase::Research,
        Phase::Plan,
        Phase::PlanReview,
        Phase::Implement,
        Phase::Verify,
        Phase::Review,
    ])
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<(u64, u64, u64, Option<u64>, u32)>().prop_map(|(input, output, cached, cost, turns)| {
        Usage {
            input_tokens: input,
            output_tokens: output,
            cached_tokens: cached,
            cost_micros_usd: cost,
            turns,
        }
    })
}

fn sign() -> impl Strategy<Value = Option<Sign>> {
    prop::option::of(prop::sample::select(vec![
        Sign::Output,
        Sign::Cpu,
        Sign::Io,
        Sign::Processes,
        Sign::Files,
    ]))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Nothing),
        any::<(u32, u32, u32, u32)>().prop_map(|(commits, files, insertions, deletions)| {
            Change::Committed {
                commits,
                files,
                insertions,
                deletions,
            }
        }),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    let command =
        (line(), any::<i32>(), any::<u64>()).prop_map(|(command, exit_code, duration_ms)| {
            CommandRecord {
                command,
                exit_code,
                duration_ms,
            }
        });
    let commands = prop::collection::vec(command, 0..6);
    prop_oneof![
        (".*", ".*", change(), commands).prop_map(|(head, base, change, commands)| {
            Claim::Succeeded(Evidence {
                head,
                base,
                change,
                commands,
            })
        }),
        line().prop_map(|reason| Claim::Failed { reason }),
        line().prop_map(|reason| Claim::Blocked { reason }),
        line().prop_map(|reason| Claim::Crashed { reason }),
        line().prop_map(|reason| Claim::Cancelled { reason }),
        (any::<Option<u64>>(), line())
            .prop_map(|(until_ms, reason)| Claim::Limited { until_ms, reason }),
        line().prop_map(|reason| Claim::Refused { reason }),
        line().prop_map(|reason| Claim::Exceeded { reason }),
    ]
}

pub(super) fn any_from_executor() -> impl Strategy<Value = FromExecutor> {
    let level = prop::sample::select(vec![
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Warning,
        LogLevel::Error,
    ]);
    let recovery = prop::sample::select(vec![Recovery::Recoverable, Recovery::Fatal]);
    prop_oneof![
        (any::<u32>(), any::<u16>(), line()).prop_map(|(pid, protocol_version, binary_version)| {
            FromExecutor::Hello(Hello {
                pid,
                protocol_version,
                binary_version,
            })
        }),
        (
            phase(),
            prop::option::of((0_u8..=100).prop_map(Percent::new)),
            prop::option::of(line()),
            usage(),
            prop::option::of(line()),
            (
                prop::option::of(line()),
                prop::option::of(line()),
                prop::option::of((line(), any::<Option<u64>>(), any::<bool>())),
            ),
        )
            .prop_map(
                |(phase, progress, activity, usage, agent_session, (model, tool, retrying))| {
                    FromExecutor::StatusUpdate(Box::new(StatusUpdate {
                        phase,
                        progress,
                        activity,
                        usage,
                        agent_session,
                        model,
                        tool,
                        retrying: retrying.map(|(reason, delay_ms, limited)| Retrying {
                            reason,
                            delay_ms,
                            limited,
                        }),
                    }))
                }
            ),
        (
            any::<(u64, u64, u64, u64, u32, u64)>(),
            sign(),
            prop::option::of(prop::sample::select(vec![
                Wait::Sleep,
                Wait::Disk,
                Wait::Network,
            ])),
        )
            .prop_map(
                |((sequence, rss_kib, cpu_ms, output_idle_ms, processes, idle_ms), sign, waits)| {
                    FromExecutor::HealthResponse(HealthResponse {
                        sequence,
                        rss_kib,
                        cpu_ms,
                        output_idle_ms,
                        processes,
                        idle_ms,
                        sign,
                        waits,
                    })
                }
            ),
        (level, "(.|\n){0,60}").prop_map(|(level, text)| FromExecutor::Log(Log::new(level, &text))),
        (line(), line(), recovery).prop_map(|(code, message, recovery)| {
            FromExecutor::Error(ErrorReport {
                code,
                message,
                recovery,
            })
        }),
        claim().prop_map(FromExecutor::Complete),
        Just(FromExecutor::PermitRequest),
    ]
}

fn agent_setup() -> impl Strategy<Value = AgentSetup> {
    let texts = || prop::collection::vec(".{0,20}", 0..3);
    let words = (".{0,20}", ".{0,20}", texts(), texts(), texts());
    let options = (
        prop::option::of(".{0,20}"),
        any::<bool>(),
        any::<Option<u32>>(),
    );
    (words, options).prop_map(
        |((name, adapter, command, arguments, environment), (model, own_permissions, most))| {
            AgentSetup {
                name,
                adapter,
                command,
                arguments,
                model,
                own_permissions,
                most_requests: most,
                environment,
            }
        },
    )
}

pub(super) fn any_to_executor() -> impl Strategy<Value = ToExecutor> {
    let text = || "(.|\n){0,60}";
    let reason = prop_oneof![
        Just(ShutdownReason::RunStopping),
        line().prop_map(|why| ShutdownReason::AttemptStopped { why }),
    ];
    let work = (text(), text(), text(), text(), text(), text(), text());
    let options = (
        prop::collection::vec(phase(), 0..9),
        prop::option::of(text()),
        prop::option::of(line()),
        prop::collection::vec(text(), 0..3),
        prop::collection::vec(text(), 0..3),
        (any::<u64>(), any::<u64>()),
        any::<Option<u16>>(),
        prop::option::of(fence_setup()),
    );
    prop_oneof![
        (work, agent_setup(), options).prop_map(
            |(
                work,
                agent,
                (phases, board_folder, previous_attempt, environment, keep, times, port, fence),
            )| {
                ToExecutor::Start(Box::new(Start {
                    title: work.0,
                    story_text: work.1,
                    agent,
                    attempt_folder: work.2,
                    base: work.3,
                    branch: work.4,
                    phases,
                    board_folder,
                    work_folder: work.5,
                    commit_message: work.6,
                    previous_attempt,
                    environment,
                    keep,
                    look_every_ms: times.0,
                    checkpoint_every_ms: times.1,
                    port,
                    fence,
                }))
            }
        ),
        any::<u64>().prop_map(|sequence| ToExecutor::HealthCheck { sequence }),
        (reason, any::<u64>())
            .prop_map(|(reason, grace_ms)| ToExecutor::Shutdown { reason, grace_ms }),
        (any::<Option<u64>>(), any::<Option<u64>>()).prop_map(|(cost_micros_usd, turns)| {
            ToExecutor::PermitGrant(Allowance {
                cost_micros_usd,
                turns,
            })
        }),
    ]
}

pub(super) fn any_envelope<B>(body: impl Strategy<Value = B>) -> impl Strategy<Value = Envelope<B>>
where
    B: std::fmt::Debug,
{
    let ids = (any::<u16>(), "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", 1_u32..);
    (ids, any::<u64>(), any::<u64>(), body).prop_map(
        |((nonce, story, attempt), sequence, sent_at_ms, body)| Envelope {
            version: PROTOCOL_VERSION,
            run: RunId::new("20261122-211306", nonce.into()).unwrap(),
            story: story.parse().unwrap(),
            attempt: AttemptNumber::new(attempt).unwrap(),
            sequence,
            sent_at_ms,
            body,
        },
    )
}
