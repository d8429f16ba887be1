//! One turn of an agent, from its start to its end: what was heard so far, and what its end means. Pure.
//!
//! A turn is one run of the agent's program: it is given a prompt, works, and ends with an answer. What counts is the
//! agent's own last word together with how its program ended; an exit code alone proves nothing.

use std::time::Duration;

use super::answer::Answer;
use super::conclusion::Conclusion;
use super::event::{Reset, StreamEvent, Trouble, TroubleKind, Usage};
use super::tally::Tally;
use crate::process::SessionExit;

/// The most that is kept of what the model says, in bytes: its end. An answer is much shorter.
const MOST_SAID: usize = 16 * 1024;

/// How many denials are remembered for the reason of an end.
const MOST_DENIED: usize = 3;

/// Why a story is blocked whose agent did not say that, in no more than the characters that the board keeps of a reason.
const UNEXPLAINED: &str = "the agent says that it cannot go on, and not why; hint: its log tells how far it came: add \
    to the story what it may lack, then set `status: ready`";

/// What is known of a turn that goes on.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    conversation: Option<String>,
    model: Option<String>,
    said: String,
    activity: Option<String>,
    tool: Option<String>,
    tally: Tally,
    retrying: Option<(Trouble, Option<Duration>)>,
    /// What it tried again last, also when it does no more: an agent that is ended for that may say something else.
    last_retry: Option<(Trouble, Option<Duration>)>,
    denied: Vec<String>,
    asked: Option<String>,
    reset: Option<Reset>,
    /// How many tools run: agents have several run at once.
    open_tools: u32,
    finished: bool,
    failed: Option<Trouble>,
}

/// Whether something that was heard is progress. An agent that only tries again makes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Something was done.
    Progress,
    /// Nothing was.
    Nothing,
}

impl Turn {
    /// A turn of a conversation that has used so much before.
    pub fn after(before: Usage) -> Self {
        Self {
            tally: Tally::after(before),
            ..Self::default()
        }
    }

    /// What the whole conversation has used, where the agent tells that.
    pub fn conversation_total(&self) -> Option<Usage> {
        self.tally.conversation_total()
    }

    /// Whether the agent has told that all is well at the end of the turn.
    pub fn is_finished(&self) -> bool {
        self.finished && self.failed.is_none()
    }

    /// Takes what was heard.
    pub fn hear(&mut self, event: StreamEvent) -> Heard {
        match event {
            StreamEvent::Retrying { trouble, delay } => {
                self.activity = Some(format!("waits to try again: {}", trouble.message));
                self.last_retry = Some((trouble.clone(), delay));
                self.retrying = Some((trouble, delay));
                return Heard::Nothing;
            }
            StreamEvent::Conversation(name) => self.conversation = Some(name),
            StreamEvent::Model(name) => self.model = Some(name),
            StreamEvent::Said(text) => {
                self.said.clear();
                self.say(&text);
            }
            StreamEvent::SaidPart(text) => self.say(&text),
            StreamEvent::Thinking => {}
            StreamEvent::ToolStarted { name, detail } => {
                self.said.clear();
                self.activity = Some(match detail {
                    Some(detail) => format!("{name}: {detail}"),
                    None => name.clone(),
                });
                self.tool = Some(name);
                self.open_tools = self.open_tools.saturating_add(1);
            }
            StreamEvent::ToolEnded => {
                self.open_tools = self.open_tools.saturating_sub(1);
                // Which of several has ended is not known.
                if self.open_tools == 0 {
                    self.tool = None;
                }
            }
            StreamEvent::RequestUsed { request, usage } => self.tally.request_used(&request, usage),
            StreamEvent::TurnUsed { usage, requests } => self.tally.turn_used(usage, requests),
            StreamEvent::ConversationUsed(usage) => self.tally.conversation_used(usage),
            StreamEvent::ConversationCost(cost) => self.tally.conversation_cost(cost),
            StreamEvent::Denied { what } => {
                if self.denied.len() < MOST_DENIED {
                    self.denied.push(what);
                }
            }
            StreamEvent::LimitReached(reset) => {
                self.reset = Some(reset);
                return Heard::Nothing;
            }
            StreamEvent::Asked { question } => self.asked = Some(question),
            StreamEvent::Finished { answer } => {
                if let Some(answer) = answer {
                    self.said.clear();
                    self.say(&answer);
                }
                self.finished = true;
            }
            StreamEvent::Failed(trouble) => self.failed = Some(trouble),
        }
        self.retrying = None;
        Heard::Progress
    }

    fn say(&mut self, text: &str) {
        self.said.push_str(text);
        if self.said.len() > MOST_SAID {
            let mut from = self.said.len() - MOST_SAID;
            while !self.said.is_char_boundary(from) {
                from += 1;
            }
            self.said.drain(..from);
        }
        if let Some(line) = self.said.lines().rev().find(|line| !line.trim().is_empty()) {
            self.activity = Some(line.trim().to_owned());
        }
    }

    /// The agent's name for the conversation.
    pub fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }

    /// The model that answers.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The tool that runs.
    pub fn tool(&self) -> Option<&str> {
        self.tool.as_deref()
    }

    /// Whether a tool runs.
    pub fn runs_tools(&self) -> bool {
        self.open_tools > 0
    }

    /// What goes on, in a line.
    pub fn activity(&self) -> Option<&str> {
        self.activity.as_deref()
    }

    /// What it waits for before it tries again.
    pub fn retrying(&self) -> Option<(&Trouble, Option<Duration>)> {
        let (trouble, delay) = self.retrying.as_ref()?;
        Some((trouble, *delay))
    }

    /// What the turn has used so far: the agent's total, or the sum of its requests until there is one. What cannot be
    /// true of it does not count.
    pub fn usage(&self) -> Usage {
        self.tally.usage()
    }

    /// Whether the agent told of a use that cannot be true.
    pub fn has_doubtful_use(&self) -> bool {
        self.tally.has_doubts()
    }

    /// Whether the agent has said how it ended.
    pub fn is_over(&self) -> bool {
        self.finished || self.failed.is_some()
    }

    /// How many requests to the model it made so far.
    pub fn requests(&self) -> u32 {
        self.tally.requests()
    }

    /// What the end means of a program that need not say that it is done: exit code 0 does.
    pub fn conclude_by_exit(&self, exit: SessionExit, stderr: &str) -> Conclusion {
        let done = Self {
            finished: exit == SessionExit::Code(0),
            ..self.clone()
        };
        done.conclude(exit, stderr, |_| None)
    }

    /// What it means that the agent was ended because it only tried again.
    pub fn conclude_retrying(&self) -> Conclusion {
        let Some((trouble, delay)) = &self.last_retry else {
            return Conclusion::Crashed("the agent was ended while it tried again".to_owned());
        };
        match self.troubled(trouble) {
            Conclusion::Limited {
                reset: None,
                reason,
            } => Conclusion::Limited {
                reset: delay.map(Reset::After),
                reason,
            },
            conclusion => conclusion,
        }
    }

    fn troubled(&self, trouble: &Trouble) -> Conclusion {
        match Conclusion::of(trouble) {
            Conclusion::Limited {
                reset: None,
                reason,
            } => Conclusion::Limited {
                reset: self.reset,
                reason,
            },
            conclusion => conclusion,
        }
    }

    /// What the end of the agent's program means, when nobody has stopped it. The order is that of how much can be
    /// trusted: what the agent says it failed of, what its exit code stands for, how its program ended, what it was not
    /// allowed to do, and last that it says it is done.
    pub fn conclude(&self, exit: SessionExit, stderr: &str, codes: ExitCodes) -> Conclusion {
        if let Some(trouble) = &self.failed {
            return self.troubled(trouble);
        }
        if let SessionExit::Code(code) = exit
            && code != 0
        {
            if let Some(kind) = codes(code) {
                let message =
                    last_line(stderr).map_or_else(|| format!("exit code {code}"), str::to_owned);
                return self.troubled(&Trouble::new(kind, message));
            }
            if self.finished {
                return Conclusion::Failed(format!(
                    "the agent said that it is done, and ended with exit code {code}{}",
                    because(stderr)
                ));
            }
            let trouble = self.retrying.as_ref().map(|(trouble, _)| trouble);
            if let Some(trouble) = trouble.filter(|trouble| trouble.kind.is_of_provider()) {
                return self.troubled(trouble);
            }
            // What stands before may be anything, such as a page of help.
            let kind = TroubleKind::of_message(last_line(stderr).unwrap_or_default());
            if kind.is_of_provider() {
                let message =
                    last_line(stderr).map_or_else(|| format!("exit code {code}"), str::to_owned);
                return self.troubled(&Trouble::new(kind, message));
            }
            return Conclusion::Failed(format!(
                "the agent ended with exit code {code}{}",
                because(stderr)
            ));
        }
        if let SessionExit::Signal(signal) = exit {
            return Conclusion::Crashed(format!("the agent was ended by signal {signal}"));
        }
        if let Some(question) = &self.asked {
            return Conclusion::Blocked(match question.trim() {
                "" => UNEXPLAINED.to_owned(),
                question => format!("the agent asks: {question}"),
            });
        }
        if !self.denied.is_empty() {
            return Conclusion::Blocked(format!(
                "the agent was not allowed to: {}",
                self.denied.join("; ")
            ));
        }
        if !self.finished {
            return Conclusion::Crashed(format!(
                "the agent ended without a result{}",
                because(stderr)
            ));
        }
        match Answer::of(&self.said) {
            Answer::Blocked(question) if question.is_empty() => {
                Conclusion::Blocked(UNEXPLAINED.to_owned())
            }
            Answer::Blocked(question) => Conclusion::Blocked(question),
            Answer::NothingToChange(reason) => Conclusion::Finished(Some(reason)),
            Answer::Done => Conclusion::Finished(None),
        }
    }
}

/// What an exit code of an agent stands for, where it stands for something of its own. A code above 127 is no signal.
pub type ExitCodes = fn(i32) -> Option<TroubleKind>;

fn last_line(text: &str) -> Option<&str> {
    let lines = text.lines().rev().map(str::trim);
    lines.into_iter().find(|line| !line.is_empty())
}

fn because(stderr: &str) -> String {
    last_line(stderr).map_or_else(String::new, |line| format!(": {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_codes(_: i32) -> Option<TroubleKind> {
        None
    }

    fn turn(events: impl IntoIterator<Item = StreamEvent>) -> Turn {
        let mut turn = Turn::default();
        for event in events {
            turn.hear(event);
        }
        turn
    }

    fn done() -> StreamEvent {
        StreamEvent::Finished { answer: None }
    }

    fn said(text: &str) -> StreamEvent {
        StreamEvent::Said(text.to_owned())
    }

    fn failed(kind: TroubleKind) -> StreamEvent {
        StreamEvent::Failed(Trouble::new(kind, "so it is"))
    }

    fn end(events: impl IntoIterator<Item = StreamEvent>, exit: SessionExit) -> Conclusion {
        turn(events).conclude(exit, "first\nlast words\n\n", no_codes)
    }

    /// One row for each way to end, in the order in which they are looked for.
    #[test]
    fn every_end_has_its_meaning() {
        let so = || "so it is".to_owned();
        let (good, bad, killed) = (
            SessionExit::Code(0),
            SessionExit::Code(1),
            SessionExit::Signal(9),
        );
        let hour = Some(Reset::After(Duration::from_secs(3600)));
        let limited = TroubleKind::RateLimited { reset: hour };
        let denied = || StreamEvent::Denied {
            what: "Bash".to_owned(),
        };
        let retrying = |kind| StreamEvent::Retrying {
            trouble: Trouble::new(kind, "so it is"),
            delay: None,
        };
        let asked = StreamEvent::Asked {
            question: "which one?".to_owned(),
        };
        let rows = [
            // An error that was told counts with every exit, and after a success as well.
            (
                vec![done(), failed(TroubleKind::Other)],
                good,
                Conclusion::Failed(so()),
            ),
            (
                vec![failed(limited)],
                bad,
                Conclusion::Limited {
                    reset: hour,
                    reason: so(),
                },
            ),
            (
                vec![failed(TroubleKind::Overloaded)],
                good,
                Conclusion::Limited {
                    reset: None,
                    reason: so(),
                },
            ),
            (
                vec![failed(TroubleKind::Unauthorized)],
                bad,
                Conclusion::Refused(so()),
            ),
            (
                vec![failed(TroubleKind::NoCredit)],
                bad,
                Conclusion::Refused(so()),
            ),
            (
                vec![failed(TroubleKind::Misconfigured)],
                bad,
                Conclusion::Blocked(so()),
            ),
            (
                vec![failed(TroubleKind::OwnLimit)],
                bad,
                Conclusion::Exceeded(so()),
            ),
            (
                vec![failed(TroubleKind::UnknownConversation)],
                bad,
                Conclusion::ConversationLost(so()),
            ),
            (
                vec![failed(TroubleKind::Connection)],
                bad,
                Conclusion::Crashed(so()),
            ),
            (
                vec![failed(TroubleKind::Interrupted)],
                good,
                Conclusion::Crashed(so()),
            ),
            (
                vec![failed(TroubleKind::BadRequest)],
                killed,
                Conclusion::Failed(so()),
            ),
            // Exit codes.
            (
                vec![],
                bad,
                Conclusion::Failed("the agent ended with exit code 1: last words".to_owned()),
            ),
            (
                vec![done()],
                bad,
                Conclusion::Failed(
                    "the agent said that it is done, and ended with exit code 1: last words"
                        .to_owned(),
                ),
            ),
            (
                vec![retrying(limited)],
                bad,
                Conclusion::Limited {
                    reset: hour,
                    reason: so(),
                },
            ),
            (
                vec![retrying(TroubleKind::Other)],
                bad,
                Conclusion::Failed("the agent ended with exit code 1: last words".to_owned()),
            ),
            // Signals: codes above 127 are none.
            (
                vec![done()],
                killed,
                Conclusion::Crashed("the agent was ended by signal 9".to_owned()),
            ),
            (
                vec![],
                SessionExit::Code(137),
                Conclusion::Failed("the agent ended with exit code 137: last words".to_owned()),
            ),
            // Exit code 0 is no success by itself.
            (
                vec![asked, done()],
                good,
                Conclusion::Blocked("the agent asks: which one?".to_owned()),
            ),
            (
                vec![denied(), done()],
                good,
                Conclusion::Blocked("the agent was not allowed to: Bash".to_owned()),
            ),
            (
                vec![],
                good,
                Conclusion::Crashed("the agent ended without a result: last words".to_owned()),
            ),
            (
                vec![said("BLOCKED:"), done()],
                good,
                Conclusion::Blocked(UNEXPLAINED.to_owned()),
            ),
            (
                vec![said("BLOCKED: which one?"), done()],
                good,
                Conclusion::Blocked("which one?".to_owned()),
            ),
            (
                vec![said("NOTHING TO CHANGE: it is there"), done()],
                good,
                Conclusion::Finished(Some("it is there".to_owned())),
            ),
            (
                vec![said("Done."), done()],
                good,
                Conclusion::Finished(None),
            ),
        ];
        for (events, exit, conclusion) in rows {
            assert_eq!(end(events.clone(), exit), conclusion, "{events:?} {exit:?}");
        }
    }

    #[test]
    fn codes_of_its_own_and_last_words_tell_why() {
        let codes: ExitCodes = |code| (code == 41).then_some(TroubleKind::Unauthorized);
        let silent = Turn::default();
        let conclusion = silent.conclude(SessionExit::Code(41), "set a key", codes);
        assert_eq!(conclusion, Conclusion::Refused("set a key".to_owned()));
        let help = "--auth-type  Authentication type\n-h  Show help\n";
        let conclusion = silent.conclude(SessionExit::Code(1), help, codes);
        assert!(
            matches!(conclusion, Conclusion::Failed(_)),
            "{conclusion:?}"
        );
        let conclusion = silent.conclude(SessionExit::Code(1), "429 Too Many Requests", codes);
        let reason = "429 Too Many Requests".to_owned();
        assert_eq!(
            conclusion,
            Conclusion::Limited {
                reset: None,
                reason
            }
        );
    }

    #[test]
    fn requests_are_summed_until_there_is_a_total() {
        let used = |request: &str, input_tokens| StreamEvent::RequestUsed {
            request: request.to_owned(),
            usage: Usage {
                input_tokens,
                ..Usage::default()
            },
        };
        let mut turn = turn([used("a", 5), used("a", 7), used("b", 10)]);
        assert_eq!((turn.usage().input_tokens, turn.requests()), (17, 2));
        turn.hear(StreamEvent::TurnUsed {
            usage: Usage {
                input_tokens: 20,
                ..Usage::default()
            },
            requests: Some(3),
        });
        assert_eq!((turn.usage().input_tokens, turn.requests()), (20, 3));
    }

    #[test]
    fn what_the_conversation_has_used_before_is_not_counted_again() {
        let used = |input_tokens| Usage {
            input_tokens,
            ..Usage::default()
        };
        let mut turn = Turn::after(used(100));
        turn.hear(StreamEvent::ConversationUsed(used(130)));
        assert_eq!(turn.usage(), used(30));
        assert_eq!(turn.conversation_total(), Some(used(130)));
    }

    #[test]
    fn trying_again_is_no_progress_and_is_over_with_the_next_word() {
        let mut turn = Turn::default();
        let trouble = Trouble::new(TroubleKind::Overloaded, "529");
        let retry = StreamEvent::Retrying {
            trouble: trouble.clone(),
            delay: None,
        };
        assert_eq!(turn.hear(retry), Heard::Nothing);
        assert_eq!(turn.retrying(), Some((&trouble, None)));
        assert_eq!(turn.activity(), Some("waits to try again: 529"));
        assert_eq!(turn.hear(said("on")), Heard::Progress);
        assert_eq!(turn.retrying(), None);
    }

    #[test]
    fn a_tool_runs_until_all_have_ended() {
        let mut turn = Turn::default();
        let started = |name: &str| StreamEvent::ToolStarted {
            name: name.to_owned(),
            detail: None,
        };
        turn.hear(started("Bash"));
        turn.hear(started("Read"));
        turn.hear(StreamEvent::ToolEnded);
        assert!(turn.runs_tools());
        turn.hear(StreamEvent::ToolEnded);
        turn.hear(StreamEvent::ToolEnded);
        assert!(!turn.runs_tools());
        assert_eq!(turn.tool(), None);
    }

    #[test]
    fn one_that_only_tries_again_is_judged_by_what_it_tries() {
        let retry = |kind, delay| StreamEvent::Retrying {
            trouble: Trouble::new(kind, "so it is"),
            delay,
        };
        // Told to end, it says that it was interrupted.
        let interrupted = || failed(TroubleKind::Interrupted);
        let conclude = |event| turn([event, interrupted()]).conclude_retrying();
        let (reason, minute) = (|| "so it is".to_owned(), Some(Duration::from_secs(60)));
        assert_eq!(
            conclude(retry(TroubleKind::RateLimited { reset: None }, minute)),
            Conclusion::Limited {
                reset: minute.map(Reset::After),
                reason: reason()
            }
        );
        let refused = conclude(retry(TroubleKind::Unauthorized, None));
        assert_eq!(refused, Conclusion::Refused(reason()));
        let crashed = conclude(retry(TroubleKind::Connection, None));
        assert_eq!(crashed, Conclusion::Crashed(reason()));
    }

    #[test]
    fn what_a_conversation_has_cost_before_is_taken_off_where_it_is_counted_on() {
        for (told, cost) in [(500, 500), (1000, 0), (1500, 500)] {
            let mut turn = Turn::after(Usage {
                cost_micros_usd: Some(1000),
                ..Usage::default()
            });
            turn.hear(StreamEvent::ConversationCost(told));
            assert_eq!(turn.usage().cost_micros_usd, Some(cost));
            let total = turn.conversation_total().unwrap();
            assert_eq!(total.cost_micros_usd, Some(told));
        }
    }

    #[test]
    fn what_is_said_in_parts_is_one_answer_and_never_grows_without_bound() {
        let part = |text: &str| StreamEvent::SaidPart(text.to_owned());
        let turn = turn([part("All "), part("done.\nBLOCKED: "), part("why?"), done()]);
        assert_eq!(turn.activity(), Some("BLOCKED: why?"));
        let blocked = turn.conclude(SessionExit::Code(0), "", no_codes);
        assert_eq!(blocked, Conclusion::Blocked("why?".to_owned()));
        let mut endless = Turn::default();
        for _ in 0..100 {
            endless.hear(part(&"é".repeat(1000)));
        }
        assert!(endless.said.len() <= MOST_SAID);
    }
}
