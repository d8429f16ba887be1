//! What the fake agent can do to whoever runs it, and what has to come of that.

/// The signals by which an agent can crash. SIGSTOP and its like are not among them: they end nothing.
const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "XCPU", "XFSZ", "VTALRM", "PROF", "SYS",
];

/// One way to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Does its work and ends.
    Ok,
    /// Says no.
    Fail,
    /// Is ended by this signal.
    Crash(&'static str),
    /// Sleeps.
    Hang,
    /// Ignores SIGTERM, SIGHUP and SIGINT.
    Deaf,
    /// Stops itself.
    Stopped,
    /// Has a child in a session of its own.
    Setsid,
    /// Has a daemon, forked twice, with an empty environment, a name that is no text and nothing open.
    Daemon,
    /// Has a subreaper with a grandchild in a session of its own.
    Subreaper,
    /// Has a runner that starts itself again and ends, and so on.
    Comet,
    /// The same, with a new session for each.
    CometSetsid,
    /// Leaves a descendant that goes on writing to the log.
    Leaker,
    /// Leaves a descendant that holds its output and a pipe open.
    PipeHolder,
    /// Writes a line that does not end.
    EndlessLine,
    /// Writes more than any log may hold.
    Flood,
    /// Says something now and then.
    Slow,
    /// Computes and says nothing.
    Busy,
    /// Nine processes, each of which tries to get away in another manner.
    Hostile,
}

/// How an agent comes to its end when nobody does anything to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NaturalEnd {
    /// With this outcome.
    Outcome(&'static str),
    /// Never: its time runs out.
    Never,
}

impl Mode {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        let mut modes = vec![Self::Ok, Self::Fail];
        modes.extend([
            Self::Hang,
            Self::Deaf,
            Self::Stopped,
            Self::Setsid,
            Self::Daemon,
            Self::Subreaper,
            Self::Comet,
            Self::CometSetsid,
            Self::Leaker,
            Self::PipeHolder,
            Self::EndlessLine,
            Self::Flood,
            Self::Slow,
            Self::Busy,
            Self::Hostile,
        ]);
        modes.extend(SIGNALS.iter().map(|signal| Self::Crash(signal)));
        modes
    }

    /// Its name, which is also the first argument of the fake agent.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::Fail => "fail".to_owned(),
            Self::Crash(signal) => format!("crash-{signal}"),
            Self::Hang => "hang".to_owned(),
            Self::Deaf => "deaf".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::Setsid => "setsid".to_owned(),
            Self::Daemon => "daemon".to_owned(),
            Self::Subreaper => "subreaper".to_owned(),
            Self::Comet => "comet".to_owned(),
            Self::CometSetsid => "comet-setsid".to_owned(),
            Self::Leaker => "leaker".to_owned(),
            Self::PipeHolder => "pipe-holder".to_owned(),
            Self::EndlessLine => "endless-line".to_owned(),
            Self::Flood => "flood".to_owned(),
            Self::Slow => "slow".to_owned(),
            Self::Busy => "busy".to_owned(),
            Self::Hostile => "hostile".to_owned(),
        }
    }

    /// How many of its processes say that they are there.
    pub(crate) fn voices(self) -> usize {
        match self {
            Self::Setsid
            | Self::Daemon
            | Self::Comet
            | Self::CometSetsid
            | Self::Leaker
            | Self::PipeHolder => 2,
            Self::Subreaper => 3,
            Self::Hostile => 9,
            _ => 1,
        }
    }

    /// Whether it ends as soon as it is let go.
    pub(crate) fn ends_at_once(self) -> bool {
        matches!(self, Self::Ok | Self::Fail | Self::Crash(_))
    }

    /// What it comes to when it is let go.
    pub(crate) fn natural_end(self) -> NaturalEnd {
        match self {
            Self::Fail => NaturalEnd::Outcome("failed"),
            Self::Crash(_) => NaturalEnd::Outcome("crashed"),
            Self::Hang | Self::Deaf | Self::Stopped => NaturalEnd::Never,
            _ => NaturalEnd::Outcome("succeeded"),
        }
    }

    /// Whether it crashes by a signal for which another one can stand.
    pub(crate) fn is_one_of_many(self) -> bool {
        matches!(self, Self::Crash(signal) if !["SEGV", "ABRT", "KILL", "TERM"].contains(&signal))
    }

    /// How much it writes where the amount says nothing else, in MiB.
    pub(crate) fn amount(self) -> u64 {
        match self {
            Self::Flood => 96,
            Self::EndlessLine => 8,
            _ => 0,
        }
    }

    /// Whether it has processes that live too short a time for a look at `/proc` to be sure to see them.
    pub(crate) fn is_fleeting(self) -> bool {
        matches!(self, Self::Comet | Self::CometSetsid)
    }
}
