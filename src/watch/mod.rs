//! Tells that the board on disk may have changed.
//!
//! The system says so where it can, and then nothing is looked at until something happens; where it cannot, the files
//! are looked at every so often. Promises that no change is missed for ever, that a burst of changes is told once,
//! when it is over, and that reading the board is no change. What is told is only *that* something changed: nothing is
//! queued, however much happens and however long nobody asks. A change may be told twice.
//!
//! The order in which things are done is what keeps changes from being lost: first the folder is watched, then it is
//! looked at, then the change is told, and only then the board is read.

mod ear;
mod fingerprint;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use ear::{ASK_AGAIN, Deaf, Ear, Trouble};
use fingerprint::{Difference, Fingerprint, FolderId};

/// How often the files are looked at although the system tells of changes: it tells nothing of what other machines do
/// on a network file system, of a parent folder that is replaced, or of what lies below a mount that comes later.
const SAFETY_PERIOD: Duration = Duration::from_secs(60);

/// A folder that never becomes quiet is told of after this many times the settling time.
const MOST_SETTLING: u32 = 10;

/// Looking more often than this would be nothing but looking.
const SHORTEST_POLL: Duration = Duration::from_millis(10);

/// Longer times in a configuration are mistakes, and sums of them overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the news comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The system tells.
    Notifications,
    /// The files are looked at every so often.
    Polling {
        /// Why the system does not tell, as a fragment of a sentence.
        why: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notifications => formatter.write_str("notifications"),
            Self::Polling { why } => write!(formatter, "polling ({why})"),
        }
    }
}

/// How patient a [`BoardWatcher`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchSettings {
    /// How long the folder must be quiet before a change is told. One that never is, is told of after ten times that.
    pub settle: Duration,
    /// How often the files are looked at while the system does not tell.
    pub poll: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(500),
            poll: Duration::from_secs(5),
        }
    }
}

/// Watches the folder of stories.
pub struct BoardWatcher {
    stories: PathBuf,
    settings: WatchSettings,
    source: Source,
    ear: Option<Ear>,
    /// When to ask the system again to tell of changes, while it does not; none is never.
    ask_again: Option<Instant>,
    /// What the files looked like last.
    seen: Arc<Fingerprint>,
    /// What is to be told once it is over.
    burst: Option<Burst>,
    next_look: Instant,
    /// A look that is under way. It is kept here so that a caller who stops waiting loses nothing.
    looking: Option<JoinHandle<Look>>,
}

/// Changes that follow each other closely.
#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

/// What a look at the disk is to do about the ear.
#[derive(Debug, Clone, Copy)]
enum Wish {
    /// A new one if the path leads to another folder by now.
    Keep(Option<FolderId>),
    /// A new one.
    Renew,
    /// None is asked for.
    DoWithout,
}

struct Look {
    /// When there was to be a new one.
    ear: Option<Result<Ear, Deaf>>,
    fingerprint: Fingerprint,
    difference: Difference,
}

impl BoardWatcher {
    /// Watches a folder of stories from now on, be it there yet or not. When the system cannot tell of changes,
    /// the files are looked at; [`source`](Self::source) says why.
    pub fn new(stories: &Path, settings: WatchSettings) -> Self {
        Self::hearing(stories, settings, ear::listen(stories))
    }

    fn hearing(stories: &Path, settings: WatchSettings, ear: Result<Ear, Deaf>) -> Self {
        let mut watcher = Self {
            stories: stories.to_owned(),
            settings: WatchSettings {
                settle: settings.settle.min(LONGEST),
                poll: settings.poll.clamp(SHORTEST_POLL, LONGEST),
            },
            source: Source::Notifications,
            ear: None,
            ask_again: None,
            // After the ear is there: what changes in between is heard.
            seen: Arc::new(Fingerprint::take(stories)),
            burst: None,
            next_look: Instant::now(),
            looking: None,
        };
        watcher.take(ear);
        watcher.next_look = Instant::now() + watcher.period();
        watcher
    }

    /// Where the news comes from at present. It may be another source after each change that is told.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Waits until something may have changed since the last call, or since the making of this. Cancel-safe: who stops
    /// waiting and waits again misses nothing.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its clock enabled.
    pub async fn changed(&mut self) {
        // Whatever is learned is in `self` before the next `await`.
        loop {
            let Some(burst) = self.burst else {
                self.notice().await;
                continue;
            };
            sleep_until(burst.due(self.settings.settle)).await;
            // Only now, so that a flood of events does not wake anybody a million times.
            if self.ear.as_ref().is_some_and(Ear::has_news) {
                self.attend();
            }
            let Some(burst) = self.burst else { continue };
            if burst.due(self.settings.settle) > Instant::now() {
                continue;
            }
            let difference = self.look().await;
            let now = Instant::now();
            if difference == Difference::Different && now < burst.limit(self.settings.settle) {
                self.burst = Some(Burst { last: now, ..burst });
                continue;
            }
            self.burst = None;
            return;
        }
    }

    /// Waits for the beginning of a burst.
    async fn notice(&mut self) {
        let heard = async {
            match &mut self.ear {
                // An error is the end of the ear, which is news too.
                Some(ear) => drop(ear.heard.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = heard => {
                self.attend();
                // What has changed so far is part of the burst; only what differs from this look prolongs it.
                let _: Difference = self.look().await;
            }
            () = sleep_until(self.next_look) => {
                if self.look().await == Difference::Different {
                    let now = Instant::now();
                    self.burst = Some(Burst { first: now, last: now });
                }
            }
        }
    }

    /// Takes in what was heard.
    fn attend(&mut self) {
        let Some(ear) = &mut self.ear else { return };
        let is_over = ear.heard.has_changed().is_err();
        let heard = ear.heard.borrow_and_update();
        let now = Instant::now();
        let last = heard.last.unwrap_or(now);
        let ended =
            is_over.then(|| Trouble::Broken("the system stopped telling of changes".to_owned()));
        let trouble = heard.trouble.clone().or(ended);
        drop(heard);
        self.burst.get_or_insert(Burst { first: now, last }).last = last;
        match trouble {
            None => {}
            Some(Trouble::Stale) => {
                self.ear = None;
                self.ask_again = Some(Instant::now());
            }
            Some(Trouble::Broken(why)) => self.take(Err(Deaf {
                why,
                ask_again: Some(ASK_AGAIN),
            })),
        }
    }

    /// Looks at the disk: at the files, and for an ear if there is none. Says whether the files are still what they
    /// were at the last look.
    async fn look(&mut self) -> Difference {
        let wish = self.wish();
        let looking = self.looking.get_or_insert_with(|| {
            let (stories, seen) = (self.stories.clone(), Arc::clone(&self.seen));
            tokio::task::spawn_blocking(move || Look::take(&stories, &seen, wish))
        });
        let look = looking.await;
        self.looking = None;
        let difference = match look {
            Ok(look) => {
                if let Some(ear) = look.ear {
                    self.take(ear);
                }
                self.seen = Arc::new(look.fingerprint);
                look.difference
            }
            Err(error) => {
                tracing::warn!(%error, "the board could not be looked at");
                Difference::Same
            }
        };
        self.next_look = Instant::now() + self.period();
        difference
    }

    fn wish(&self) -> Wish {
        match (&self.ear, self.ask_again) {
            (Some(ear), _) => Wish::Keep(ear.folder),
            (None, Some(at)) if at <= Instant::now() => Wish::Renew,
            (None, _) => Wish::DoWithout,
        }
    }

    fn take(&mut self, ear: Result<Ear, Deaf>) {
        match ear {
            Ok(ear) => {
                self.ear = Some(ear);
                self.ask_again = None;
                self.source = Source::Notifications;
            }
            Err(Deaf { why, ask_again }) => {
                self.ear = None;
                self.ask_again = ask_again.map(|wait| Instant::now() + wait);
                self.source = Source::Polling { why };
            }
        }
    }

    /// How long until the next look when nothing is heard.
    fn period(&self) -> Duration {
        if self.ear.is_some() && !self.seen.has_links() {
            SAFETY_PERIOD
        } else {
            self.settings.poll
        }
    }
}

impl Burst {
    /// When it is over, unless something happens before.
    fn due(self, settle: Duration) -> Instant {
        (self.last + settle).min(self.limit(settle))
    }

    /// When it is told although it goes on.
    fn limit(self, settle: Duration) -> Instant {
        self.first + settle * MOST_SETTLING
    }
}

impl Look {
    /// Blocks.
    fn take(stories: &Path, seen: &Fingerprint, wish: Wish) -> Self {
        let is_needed = match wish {
            Wish::Keep(folder) => FolderId::of(stories) != folder,
            Wish::Renew => true,
            Wish::DoWithout => false,
        };
        // Before the files are looked at: what changes after the look is heard.
        let ear = is_needed.then(|| ear::listen(stories));
        let (fingerprint, difference) = seen.renew(stories);
        Self {
            ear,
            fingerprint,
            difference,
        }
    }
}

#[cfg(test)]
mod tests;
