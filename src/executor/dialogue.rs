//! What is said to an agent on its standard input while its turn goes on, where that is a dialogue.
//!
//! Owns the pipe to the agent, and writes without ever waiting for it: what the agent does not take yet is kept, up to a
//! limit. When there is nothing more to say the pipe is closed, and the agent is to end by itself. One that takes nothing
//! for too long, does not get ready, closes its end, or stays, is to be ended; all but the last are failures of the turn,
//! and are told as such. Signals are the business of the turn.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::hearing::Hearing;
use crate::agent::{StreamEvent, Trouble, TroubleKind};

/// The most that may wait for the agent, in bytes: a story has at most 512 KiB, which become up to six times as many.
const MOST_WAITING: usize = 8 * 1024 * 1024;

/// How long an agent may take nothing of what was said. One that starts on a busy machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an agent may take for one step on the way to its prompt: it may have to fetch and start servers of its own for
/// a conversation, or read a long one.
const PREPARATION: Duration = Duration::from_secs(120);

/// How much later than it should one may be woken on a busy machine. What is later was no time of the agent: the processes
/// were stopped, or the machine was.
const LATE: Duration = Duration::from_secs(5);

/// How long an agent may take to end when nothing more is said to it. Most take less than a second, Codex takes seven;
/// nobody waits for that, since every story would.
const LINGERING: Duration = Duration::from_secs(3);

/// What is wrong with an agent that takes nothing.
const DEAF: &str = "the agent does not read what is said to it";

/// A dialogue; or none, where everything is said before the agent starts.
pub(super) struct Dialogue(Option<Talk>);

struct Talk {
    hearing: Hearing,
    heard: watch::Receiver<()>,
    /// None when it is closed, from whichever side.
    pipe: Option<pipe::Sender>,
    waiting: BytesMut,
    /// How many bytes were written into the pipe, and how many of them the agent had taken at the last look.
    written: u64,
    taken: u64,
    next_look: Instant,
    /// What the agent prepares, and until when it may.
    prepares: Option<(&'static str, Instant)>,
    /// When the agent is to be ended that does not end by itself; and why that is a failure, if it is one.
    ends: Option<(Instant, Option<String>)>,
    is_done: bool,
}

impl Dialogue {
    /// None.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// A dialogue with the agent of that command, which is about to be started.
    ///
    /// # Errors
    /// When the system gives no pipe.
    pub(super) fn with(command: &mut Command, hearing: &Hearing) -> io::Result<Self> {
        let (theirs, ours) = io::pipe()?;
        let pipe = pipe::Sender::from_owned_fd(ours.into())?;
        command.stdin(Stdio::from(theirs));
        Ok(Self(Some(Talk::new(pipe, hearing))))
    }

    /// Works until the agent is to be ended, which it is only once. Cancel-safe: what is said and what was written is
    /// kept in `self`.
    pub(super) async fn until_to_be_ended(&mut self) {
        match &mut self.0 {
            Some(talk) if !talk.is_done => {
                let failure = talk.work().await;
                talk.is_done = true;
                if let Some(why) = failure {
                    // It is the agent that is out of order, and not the story.
                    let trouble = Trouble::new(TroubleKind::Connection, why);
                    talk.hearing.tell(StreamEvent::Failed(trouble));
                }
            }
            _ => std::future::pending().await,
        }
    }
}

impl Talk {
    fn new(pipe: pipe::Sender, hearing: &Hearing) -> Self {
        let mut heard = hearing.heard();
        // What is to be said first is there already.
        heard.mark_changed();
        Self {
            hearing: hearing.clone(),
            heard,
            pipe: Some(pipe),
            waiting: BytesMut::new(),
            written: 0,
            taken: 0,
            next_look: Instant::now() + PATIENCE,
            prepares: None,
            ends: None,
            is_done: false,
        }
    }

    /// Works until the agent is to be ended, and says why that is a failure, if it is one.
    async fn work(&mut self) -> Option<String> {
        loop {
            let ends = self.ends.as_ref().map(|(moment, _)| *moment);
            let prepared = self.prepares.map(|(_, moment)| moment);
            let can_write = !self.waiting.is_empty();
            // All of them can be dropped and taken up again.
            tokio::select! {
                biased;
                () = until(ends) => return self.ends.take().and_then(|(_, why)| why),
                heard = self.heard.changed() => {
                    if heard.is_err() || self.listen().is_err() {
                        return Some(DEAF.to_owned());
                    }
                }
                () = until(prepared) => if let Some(what) = self.is_unprepared() {
                    let seconds = PREPARATION.as_secs();
                    return Some(format!("the agent has not answered to `{what}` for {seconds} s"));
                },
                () = writable(self.pipe.as_ref()), if can_write => self.write(),
                () = sleep_until(self.next_look) => if self.is_deaf() {
                    return Some(DEAF.to_owned());
                },
            }
            self.close_when_over();
        }
    }

    /// Takes what is to be said.
    fn listen(&mut self) -> Result<(), ()> {
        let said = self.hearing.say();
        let prepares = self.hearing.prepares();
        if prepares != self.prepares.map(|(what, _)| what) {
            self.prepares = prepares.map(|what| (what, Instant::now() + PREPARATION));
        }
        if self.waiting.is_empty() && self.unread() == 0 {
            self.next_look = Instant::now() + PATIENCE;
        }
        if self.waiting.len() + said.len() > MOST_WAITING {
            return Err(());
        }
        self.waiting.extend_from_slice(&said);
        Ok(())
    }

    fn write(&mut self) {
        let Some(pipe) = &self.pipe else {
            return;
        };
        match pipe.try_write(&self.waiting) {
            Ok(length) => {
                self.waiting.advance(length);
                self.written += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                // It may just be about to end, and then that tells more.
                let why = "the agent has closed its standard input".to_owned();
                self.pipe = None;
                self.waiting.clear();
                self.ends = Some((Instant::now() + LINGERING, Some(why)));
            }
        }
    }

    fn close_when_over(&mut self) {
        if self.pipe.is_some() && self.waiting.is_empty() && self.hearing.is_over() {
            self.pipe = None;
            self.ends = Some((Instant::now() + LINGERING, None));
        }
    }

    /// What the agent has had all its time to prepare, and has not.
    fn is_unprepared(&mut self) -> Option<&'static str> {
        let (what, until) = self.prepares?;
        let now = Instant::now();
        if now > until + LATE {
            self.prepares = Some((what, now + PREPARATION));
            return None;
        }
        Some(what)
    }

    /// Whether the agent has taken nothing since the last look, although there was something.
    fn is_deaf(&mut self) -> bool {
        let is_late = Instant::now() > self.next_look + LATE;
        let unread = self.unread();
        let taken = self.written - unread;
        let took = std::mem::replace(&mut self.taken, taken) < taken;
        self.next_look = Instant::now() + PATIENCE;
        !is_late && !took && (unread > 0 || !self.waiting.is_empty())
    }

    /// How many bytes of those that were written the agent has not read, as far as the system tells.
    fn unread(&self) -> u64 {
        let pipe = self.pipe.as_ref();
        let unread = pipe.and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok());
        unread.unwrap_or(0).min(self.written)
    }
}

async fn writable(pipe: Option<&pipe::Sender>) {
    match pipe {
        // An error is seen once more when it is written.
        Some(pipe) => drop(pipe.writable().await),
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read as _};

    use super::super::pulse::Pulse;
    use super::*;
    use crate::agent::{StreamReader, Turn};

    /// Says what it hears, and nothing more after `bye`.
    #[derive(Default)]
    struct Echo {
        said: Vec<u8>,
        is_over: bool,
        prepares: Option<&'static str>,
    }

    impl StreamReader for Echo {
        fn read(&mut self, line: &[u8]) -> Vec<StreamEvent> {
            self.said.extend_from_slice(line);
            self.is_over = line == b"bye";
            self.prepares = match line {
                b"one" => Some("one"),
                b"two" => Some("two"),
                _ => None,
            };
            Vec::new()
        }

        fn say(&mut self) -> Vec<u8> {
            std::mem::take(&mut self.said)
        }

        fn prepares(&self) -> Option<&'static str> {
            self.prepares
        }

        fn is_over(&self) -> bool {
            self.is_over
        }
    }

    fn talk() -> (PipeReader, Hearing, Dialogue) {
        let (theirs, ours) = io::pipe().unwrap();
        let (pulse, _) = Pulse::new();
        let hearing = Hearing::new(Box::<Echo>::default(), Turn::default(), pulse);
        let pipe = pipe::Sender::from_owned_fd(ours.into()).unwrap();
        let dialogue = Dialogue(Some(Talk::new(pipe, &hearing)));
        (theirs, hearing, dialogue)
    }

    fn failure(hearing: &Hearing) -> String {
        hearing.with_turn(|turn| {
            format!(
                "{:?}",
                turn.conclude_by_exit(crate::process::SessionExit::Code(0), "")
            )
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_hears_everything_may_stay_for_a_moment() {
        let (mut theirs, hearing, mut dialogue) = talk();
        hearing.event(b"hello");
        hearing.event(b"bye");
        let began = Instant::now();
        dialogue.until_to_be_ended().await;
        assert_eq!(began.elapsed(), LINGERING);
        let mut read = String::new();
        theirs.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hellobye");
        assert_eq!(failure(&hearing), "Finished(None)");
        let again = tokio::time::timeout(PATIENCE * 9, dialogue.until_to_be_ended());
        assert!(again.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_reads_nothing_is_deaf() {
        for length in [1, 1 << 20] {
            let (_theirs, hearing, mut dialogue) = talk();
            hearing.event(&vec![b'x'; length]);
            let began = Instant::now();
            dialogue.until_to_be_ended().await;
            assert!(began.elapsed() <= PATIENCE * 2, "{:?}", began.elapsed());
            assert!(failure(&hearing).contains("does not read"), "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_has_its_time_for_every_step_on_the_way_to_its_prompt() {
        let (mut theirs, hearing, mut dialogue) = talk();
        let mut passes = async |line: &[u8], time| {
            hearing.event(line);
            let early = tokio::time::timeout(Duration::from_secs(1), dialogue.until_to_be_ended());
            assert!(early.await.is_err());
            theirs.read_exact(&mut [0; 3]).unwrap();
            let ended = tokio::time::timeout(time, dialogue.until_to_be_ended());
            ended.await.is_err()
        };
        let almost = PREPARATION / 2;
        assert!(passes(b"one", almost).await);
        assert!(passes(b"two", almost).await);
        assert!(!passes(b"two", PREPARATION).await);
        assert!(failure(&hearing).contains("has not answered to `two` for 120 s"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_everything_stood_still_does_not_count() {
        let (mut theirs, hearing, mut dialogue) = talk();
        hearing.event(b"one");
        let early = tokio::time::timeout(Duration::from_secs(1), dialogue.until_to_be_ended());
        assert!(early.await.is_err());
        theirs.read_exact(&mut [0; 3]).unwrap();
        tokio::time::advance(PREPARATION * 2).await;
        let late = tokio::time::timeout(PREPARATION / 2, dialogue.until_to_be_ended());
        assert!(late.await.is_err());
        hearing.event(b"three");
        let prompted = tokio::time::timeout(PATIENCE / 2, dialogue.until_to_be_ended());
        assert!(prompted.await.is_err());
        theirs.read_exact(&mut [0; 5]).unwrap();
        let thinks = tokio::time::timeout(PREPARATION * 9, dialogue.until_to_be_ended());
        assert!(thinks.await.is_err());
        assert_eq!(failure(&hearing), "Finished(None)");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_has_read_everything_may_think_for_as_long_as_it_likes() {
        let (mut theirs, hearing, mut dialogue) = talk();
        hearing.event(b"hello");
        let early = tokio::time::timeout(Duration::from_secs(1), dialogue.until_to_be_ended());
        assert!(early.await.is_err());
        theirs.read_exact(&mut [0; 5]).unwrap();
        let late = tokio::time::timeout(PATIENCE * 100, dialogue.until_to_be_ended());
        assert!(late.await.is_err());
        assert_eq!(failure(&hearing), "Finished(None)");
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_can_wait_is_not_kept() {
        let (_theirs, hearing, mut dialogue) = talk();
        hearing.event(&vec![b'x'; MOST_WAITING + 1]);
        let began = Instant::now();
        dialogue.until_to_be_ended().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(failure(&hearing).contains("does not read"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_hangs_up_is_to_end_by_itself() {
        let (theirs, hearing, mut dialogue) = talk();
        drop(theirs);
        hearing.event(b"hello");
        let began = Instant::now();
        dialogue.until_to_be_ended().await;
        assert_eq!(began.elapsed(), LINGERING);
        assert!(failure(&hearing).contains("closed its standard input"));
    }
}
