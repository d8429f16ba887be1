//! How the agent is: answers health checks with the evidence that there is of progress and of waiting.
//!
//! Three sources: the agent's output, the tree of processes below this one, and, when these two show nothing, the files
//! of the worktree. Everything that may take long runs on another thread, and an answer never waits for it: what is not
//! known yet counts in the next answer.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::changes::{Changed, Changes};
use super::output::Seen;
use super::pulse::Beat;
use crate::engine::{Sign, Wait};
use crate::process::{self, Evidence, TreeUsage, TreeWatch, Work};
use crate::protocol::{HealthResponse, OutboxHandle};

/// How long an answer waits for a look at the processes, which takes less than a millisecond when all is well.
const LOOK_DEADLINE: Duration = Duration::from_millis(500);
/// How long it waits for a look at the files. Large worktrees take longer.
const FILES_DEADLINE: Duration = Duration::from_millis(100);

/// Answers health checks that are sent by their numbers, until no more can be.
pub(super) fn attend(
    look_every: Duration,
    output: watch::Receiver<Seen>,
    pulse: watch::Receiver<Beat>,
    outbox: OutboxHandle,
) -> mpsc::Sender<u64> {
    let (checks, mut asked) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut vitals = Vitals::new(look_every, output, pulse);
        while let Some(sequence) = asked.recv().await {
            vitals.look().await;
            outbox.health(vitals.response(sequence));
        }
    });
    checks
}

/// A look that may take long, and who looks.
enum Look<T, S> {
    Ready(T),
    UnderWay(JoinHandle<(T, S)>),
    /// The one who looked is gone with a panic.
    Lost,
}

impl<T: Send + 'static, S: Send + 'static> Look<T, S> {
    fn begin(&mut self, look: impl FnOnce(&mut T) -> S + Send + 'static) {
        // One who is still looking, or lost, stays so.
        *self = match std::mem::replace(self, Self::Lost) {
            Self::Ready(mut who) => Self::UnderWay(tokio::task::spawn_blocking(move || {
                let seen = look(&mut who);
                (who, seen)
            })),
            other => other,
        };
    }

    fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// What was seen, if that is known within this time. It is not lost when it is not.
    async fn within(&mut self, patience: Duration) -> Option<S> {
        let Self::UnderWay(looking) = self else {
            return None;
        };
        let (state, seen) = match tokio::time::timeout(patience, looking).await {
            Err(_) => return None,
            Ok(Ok((who, seen))) => (Self::Ready(who), Some(seen)),
            Ok(Err(error)) => {
                tracing::error!(%error, "nobody looks for evidence any more");
                (Self::Lost, None)
            }
        };
        *self = state;
        seen
    }
}

/// What is known of the agent.
struct Vitals {
    began: Instant,
    progress: Option<(Instant, Sign)>,
    waits: Option<Wait>,
    usage: TreeUsage,
    /// The fewest processes that there were of an agent that tells by its stream: it and its own servers. More are tools,
    /// told or not.
    fewest: u32,
    output: watch::Receiver<Seen>,
    pulse: watch::Receiver<Beat>,
    tree: Look<TreeWatch, (Evidence, TreeUsage)>,
    files: Look<Changes, Changed>,
    look_every: Duration,
    looked_at_files: Instant,
}

impl Vitals {
    fn new(
        look_every: Duration,
        output: watch::Receiver<Seen>,
        pulse: watch::Receiver<Beat>,
    ) -> Self {
        let now = Instant::now();
        let files = match std::env::current_dir() {
            Ok(worktree) => Look::Ready(Changes::since_now(worktree)),
            Err(error) => {
                tracing::warn!(%error, "changed files will be no evidence");
                Look::Lost
            }
        };
        Self {
            began: now,
            progress: None,
            waits: None,
            usage: TreeUsage::default(),
            fewest: u32::MAX,
            output,
            pulse,
            tree: Look::Ready(TreeWatch::new(std::process::id())),
            files,
            look_every,
            looked_at_files: now,
        }
    }

    async fn look(&mut self) {
        let last = self.progress;
        let now = Instant::now();
        if let Some(at) = self.output_grew() {
            self.note(at, Sign::Output);
        }
        self.tree.begin(TreeWatch::look);
        self.waits = None;
        if let Some((evidence, usage)) = self.tree.within(LOOK_DEADLINE).await {
            self.usage = usage;
            self.note_evidence(evidence);
        }
        self.look_for_changes(Duration::ZERO).await;
        let is_due = now.saturating_duration_since(self.looked_at_files) >= self.look_every;
        if self.progress == last && is_due && self.files.is_ready() {
            self.looked_at_files = now;
            self.files.begin(Changes::look);
            self.look_for_changes(FILES_DEADLINE).await;
        }
    }

    async fn look_for_changes(&mut self, patience: Duration) {
        if self.files.within(patience).await == Some(Changed::Yes) {
            self.note(Instant::now(), Sign::Files);
        }
    }

    fn note_evidence(&mut self, evidence: Evidence) {
        if self.usage.processes > 0 && *self.pulse.borrow() != Beat::Writing {
            self.fewest = self.fewest.min(self.usage.processes);
        }
        let thinks = match *self.pulse.borrow() {
            Beat::Thinking(_) => self.usage.processes <= self.fewest,
            Beat::BesideTools(_) => self.usage.processes <= 1,
            Beat::Writing | Beat::Telling(_) => false,
        };
        let sign = match evidence {
            // An agent that looks whether it could reach somebody else, or that draws what nobody sees.
            Evidence::Works(_) if thinks => {
                self.waits = Some(Wait::Network);
                return;
            }
            Evidence::Works(Work::Processes) => Sign::Processes,
            Evidence::Works(Work::Cpu) => Sign::Cpu,
            Evidence::Works(Work::Io) => Sign::Io,
            Evidence::Waits(wait) => {
                self.waits = Some(match wait {
                    process::Wait::Sleep => Wait::Sleep,
                    process::Wait::Disk => Wait::Disk,
                    process::Wait::Network => Wait::Network,
                });
                return;
            }
            Evidence::Nothing => return,
        };
        self.note(Instant::now(), sign);
    }

    /// When the agent's output last told of something; none when it has not.
    fn output_grew(&self) -> Option<Instant> {
        if let Beat::Telling(at) | Beat::Thinking(at) | Beat::BesideTools(at) = *self.pulse.borrow()
        {
            return Some(at);
        }
        let counts = self.output.borrow().counts;
        (counts.written > 0).then_some(counts.grew)
    }

    fn note(&mut self, at: Instant, sign: Sign) {
        if self.progress.is_none_or(|(last, _)| last < at) {
            self.progress = Some((at, sign));
        }
    }

    fn response(&self, sequence: u64) -> HealthResponse {
        let since = self.progress.map_or(self.began, |(at, _)| at);
        HealthResponse {
            sequence,
            rss_kib: self.usage.rss_kib,
            cpu_ms: self.usage.cpu_ms,
            output_idle_ms: self.output_grew().map_or(0, |at| millis(at.elapsed())),
            processes: self.usage.processes,
            idle_ms: millis(since.elapsed()),
            sign: self.progress.map(|(_, sign)| sign),
            waits: self.waits,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::output::Output;
    use crate::executor::pulse::Pulse;

    #[tokio::test]
    async fn a_look_that_takes_long_is_not_waited_for_and_not_lost() {
        let (release, released) = std::sync::mpsc::channel();
        let mut look = Look::Ready(7);
        look.begin(move |who: &mut i32| {
            released.recv().unwrap();
            *who + 1
        });
        let moment = Duration::from_millis(10);
        assert_eq!(look.within(moment).await, None);
        // Nobody else looks meanwhile.
        look.begin(|_| panic!("twice"));
        assert!(!look.is_ready());
        release.send(()).unwrap();
        assert_eq!(look.within(Duration::from_secs(30)).await, Some(8));
        assert!(look.is_ready());
        assert_eq!(look.within(moment).await, None);
    }

    #[tokio::test]
    async fn the_newest_evidence_counts() {
        let output = Output::of_nothing();
        let mut vitals = Vitals::new(Duration::ZERO, output.seen(), Pulse::new().1);
        assert_eq!(vitals.response(1).sign, None);
        let now = Instant::now();
        vitals.note(now, Sign::Cpu);
        vitals.note(vitals.began, Sign::Output);
        assert_eq!(vitals.response(2).sign, Some(Sign::Cpu));
        vitals.note_evidence(Evidence::Waits(process::Wait::Disk));
        assert_eq!(vitals.response(3).waits, Some(Wait::Disk));
        assert_eq!(vitals.response(3).sign, Some(Sign::Cpu));
        vitals.note_evidence(Evidence::Works(Work::Io));
        assert_eq!(vitals.response(4).sign, Some(Sign::Io));
    }

    #[tokio::test]
    async fn whatever_the_processes_do_of_an_agent_that_thinks_it_waits() {
        let (pulse, beat) = Pulse::new();
        let output = Output::of_nothing();
        let mut vitals = Vitals::new(Duration::ZERO, output.seen(), beat);
        pulse.set(Beat::Thinking(Instant::now()));
        vitals.usage.processes = 2;
        vitals.note_evidence(Evidence::Works(Work::Cpu));
        let response = vitals.response(1);
        assert_eq!((response.sign, response.waits), (None, Some(Wait::Network)));
        // Something that it has left in the background works on.
        vitals.usage.processes = 3;
        vitals.note_evidence(Evidence::Works(Work::Io));
        assert_eq!(vitals.response(1).sign, Some(Sign::Io));
        vitals.progress = None;
        pulse.set(Beat::BesideTools(Instant::now()));
        vitals.usage.processes = 1;
        vitals.note_evidence(Evidence::Works(Work::Cpu));
        assert_eq!(vitals.response(2).sign, None);
        vitals.usage.processes = 2;
        vitals.note_evidence(Evidence::Works(Work::Cpu));
        assert_eq!(vitals.response(3).sign, Some(Sign::Cpu));
        pulse.set(Beat::Telling(Instant::now()));
        vitals.note_evidence(Evidence::Works(Work::Processes));
        assert_eq!(vitals.response(4).sign, Some(Sign::Processes));
    }
}
