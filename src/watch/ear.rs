//! The system's word on what happens in a folder. The only user of notify.
//!
//! Promises that what is heard takes no more room for a million events than for one, that the thread that hears waits
//! for nothing, and that what has nothing to do with the board is not heard: reading above all.

use std::io;
use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::fingerprint::{FolderId, PLAN_FILE, is_hidden};
use crate::story::board::STORY_FILE;

/// How long to wait before the system is asked again to tell of changes, when it could not.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The system's word on one folder. Hears nothing more when dropped.
pub(super) struct Ear {
    pub(super) watcher: Option<RecommendedWatcher>,
    pub(super) heard: watch::Receiver<Heard>,
    /// The folder that is watched, whatever the path leads to by now.
    pub(super) folder: Option<FolderId>,
}

/// All that has been heard: as large for one event as for a million.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) last: Option<Instant>,
    pub(super) trouble: Option<Trouble>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Changed,
    Trouble(Trouble),
}

/// What keeps an ear from hearing everything from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A new ear will do: the folder is another one or none, or events were lost.
    Stale,
    /// The system tells no more.
    Broken(String),
}

/// Why there is no ear.
#[derive(Debug)]
pub(super) struct Deaf {
    pub(super) why: String,
    /// When it is worth asking again; none is never.
    pub(super) ask_again: Option<Duration>,
}

impl Ear {
    pub(super) fn has_news(&self) -> bool {
        !matches!(self.heard.has_changed(), Ok(false))
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // When the thread behind it is gone, so is the handler; the watcher would panic because it finds no thread to
        // end.
        if self.heard.has_changed().is_err() {
            std::mem::forget(self.watcher.take());
        }
    }
}

impl Heard {
    pub(super) fn add(&mut self, news: News) {
        self.last = Some(Instant::now());
        match (news, &self.trouble) {
            (News::Changed, _) | (News::Trouble(Trouble::Stale), Some(Trouble::Broken(_))) => {}
            (News::Trouble(trouble), _) => self.trouble = Some(trouble),
        }
    }
}

/// Asks the system to tell of changes. Blocks.
pub(super) fn listen(stories: &Path) -> Result<Ear, Deaf> {
    // The system tells of real paths. And a link anywhere below leads who knows where: none is followed.
    let folder = std::fs::canonicalize(stories).map_err(|error| Deaf::from_io(stories, &error))?;
    if !folder.is_dir() {
        return Err(Deaf::from_io(stories, &io::ErrorKind::NotADirectory.into()));
    }
    let (sender, heard) = watch::channel(Heard::default());
    let place = folder.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        if let Some(news) = news_of(&place, event) {
            sender.send_modify(|heard| heard.add(news));
        }
    };
    let failed = |error: notify::Error| Deaf::from_notify(stories, error);
    let config = notify::Config::default().with_follow_symlinks(false);
    let mut ear = Ear {
        watcher: Some(RecommendedWatcher::new(handler, config).map_err(failed)?),
        heard,
        folder: None,
    };
    // The handler is gone when there was no thread for it, and then watching would panic.
    if let (Some(watcher), Ok(_)) = (&mut ear.watcher, ear.heard.has_changed()) {
        watcher
            .watch(&folder, RecursiveMode::Recursive)
            .map_err(failed)?;
    }
    ear.folder = FolderId::of(&folder);
    Ok(ear)
}

impl Deaf {
    pub(super) fn from_io(stories: &Path, error: &io::Error) -> Self {
        let path = stories.display();
        let is_absent = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        );
        Self {
            why: if is_absent {
                format!("there is no folder {path}")
            } else {
                format!("{path} cannot be watched: {error}")
            },
            ask_again: Some(if is_absent { Duration::ZERO } else { ASK_AGAIN }),
        }
    }

    pub(super) fn from_notify(stories: &Path, error: notify::Error) -> Self {
        match error.kind {
            ErrorKind::PathNotFound => Self::from_io(stories, &io::ErrorKind::NotFound.into()),
            ErrorKind::Io(error) => Self::from_io(stories, &error),
            _ => Self {
                why: reason(error),
                ask_again: Some(ASK_AGAIN),
            },
        }
    }
}

/// Why the system does not tell.
pub(super) fn reason(error: notify::Error) -> String {
    match error.kind {
        ErrorKind::MaxFilesWatch => {
            "the user's limit of watched folders is reached, fs.inotify.max_user_watches".to_owned()
        }
        ErrorKind::Io(error) => error.to_string(),
        ErrorKind::Generic(text) => text,
        _ => error.to_string(),
    }
}

/// What an event means for the board. Runs on the thread that hears: must not wait for anything.
pub(super) fn news_of(stories: &Path, event: notify::Result<notify::Event>) -> Option<News> {
    let event = match event {
        Ok(event) => event,
        Err(error) => return Some(News::Trouble(Trouble::Broken(reason(error)))),
    };
    if event.need_rescan() {
        return Some(News::Trouble(Trouble::Stale));
    }
    // Reading is no change, else every look at the board would bring about the next one. The end of writing is one:
    // it is all that is told of a file that was written as memory.
    if let EventKind::Access(kind) = event.kind
        && kind != AccessKind::Close(AccessMode::Write)
    {
        return None;
    }
    let mut changed = event.paths.is_empty().then_some(News::Changed);
    for path in &event.paths {
        match news_of_path(stories, path, event.kind) {
            Some(News::Trouble(trouble)) => return Some(News::Trouble(trouble)),
            Some(News::Changed) => changed = Some(News::Changed),
            None => {}
        }
    }
    changed
}

pub(super) fn news_of_path(stories: &Path, path: &Path, kind: EventKind) -> Option<News> {
    let mut names = path.strip_prefix(stories).ok()?.iter();
    match (names.next(), names.next(), names.next()) {
        (None, ..) => match kind {
            EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => Some(News::Trouble(Trouble::Stale)),
            _ => None,
        },
        (Some(folder), ..) if is_hidden(folder) => None,
        (Some(_), None, _) => {
            let is_content = matches!(
                kind,
                EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_))
            );
            (!is_content).then_some(News::Changed)
        }
        // In any case: on many file systems `Story.md` is `story.md`.
        (Some(_), Some(file), None) => [STORY_FILE, PLAN_FILE]
            .iter()
            .any(|name| file.eq_ignore_ascii_case(name))
            .then_some(News::Changed),
        _ => None,
    }
}
