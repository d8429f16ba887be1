//! The watcher on real folders.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::time::timeout;

use notify::ErrorKind;
use notify::event::EventKind;
use tokio::sync::watch;

use super::ear::{Heard, news_of};
use super::*;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

const SETTLE: Duration = Duration::from_millis(20);

/// So seldom that a test that ends has heard of its changes in another way.
const SELDOM: WatchSettings = WatchSettings {
    settle: SETTLE,
    poll: LONGEST,
};

const OFTEN: WatchSettings = WatchSettings {
    settle: SETTLE,
    poll: SHORTEST_POLL,
};

#[derive(Debug, Clone, Copy)]
enum Mode {
    Notified,
    Polled,
}

fn watching(stories: &Path, mode: Mode) -> BoardWatcher {
    match mode {
        Mode::Notified => {
            let watcher = BoardWatcher::new(stories, SELDOM);
            assert_eq!(watcher.source, Source::Notifications);
            watcher
        }
        Mode::Polled => {
            let why = "a test wants it".to_owned();
            let ask_again = None;
            BoardWatcher::hearing(stories, OFTEN, Err(Deaf { why, ask_again }))
        }
    }
}

/// A watcher that hears what the test says; and the folder is really there.
fn told_by_test(stories: &Path) -> (watch::Sender<Heard>, BoardWatcher) {
    let (sender, heard) = watch::channel(Heard::default());
    let folder = FolderId::of(stories);
    let ear = Ear {
        watcher: None,
        heard,
        folder,
    };
    (sender, BoardWatcher::hearing(stories, OFTEN, Ok(ear)))
}

struct Stories(tempfile::TempDir);

impl Stories {
    fn new() -> Self {
        let project = tempfile::tempdir().unwrap();
        let stories = Self(project);
        stories.add("S-1");
        stories
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("board/stories")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn add(&self, id: &str) {
        fs::create_dir_all(self.file(id)).unwrap();
        self.write(&format!("{id}/story.md"), id);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// As the program and many editors do.
    fn replace(&self, text: &str) {
        self.write("S-1/.story.x1.tmp", text);
        fs::rename(self.file("S-1/.story.x1.tmp"), self.file("S-1/story.md")).unwrap();
    }
}

async fn told(watcher: &mut BoardWatcher) {
    let told = timeout(PATIENCE, watcher.changed()).await;
    told.expect("no change was told");
}

/// Makes noise for many times the settling time, then a change; fails when something is told before the change.
fn tells_nothing_of(watcher: &mut BoardWatcher, stories: &Stories, noise: impl Fn() + Sync) {
    let changed = AtomicBool::new(false);
    let noise_time = watcher.settings.settle * 5;
    let told = thread::scope(|scope| {
        scope.spawn(|| {
            let began = std::time::Instant::now();
            while began.elapsed() < noise_time {
                noise();
            }
            changed.store(true, Ordering::SeqCst);
            stories.replace("the change");
        });
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(told(watcher)));
        changed.load(Ordering::SeqCst)
    });
    assert!(told, "noise was told as a change");
}

async fn every_change_is_told(mode: Mode) {
    type Change = fn(&Stories);
    let changes: [(&str, Change); 7] = [
        ("add", |stories| stories.add("S-2")),
        ("plan", |stories| stories.write("S-1/plan.md", "")),
        ("edit", |stories| stories.write("S-1/story.md", "e-1")),
        ("append", |stories| {
            use std::io::Write as _;
            let path = stories.file("S-1/story.md");
            let mut file = fs::File::options().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        }),
        ("replace", |stories| stories.replace("r-1")),
        ("move", |stories| {
            fs::rename(stories.file("S-1"), stories.file("S-3")).unwrap();
        }),
        ("delete", |stories| {
            fs::remove_dir_all(stories.file("S-1")).unwrap();
        }),
    ];
    for (name, change) in changes {
        let stories = Stories::new();
        let mut watcher = watching(&stories.path(), mode);
        change(&stories);
        let told = timeout(PATIENCE, watcher.changed()).await;
        assert!(told.is_ok(), "{mode:?}: {name} is not told");
    }
}

#[tokio::test]
async fn every_change_is_heard() {
    every_change_is_told(Mode::Notified).await;
}

#[tokio::test]
async fn every_change_is_seen() {
    every_change_is_told(Mode::Polled).await;
}

#[tokio::test]
async fn a_change_between_two_calls_is_not_lost() {
    for mode in [Mode::Notified, Mode::Polled] {
        let stories = Stories::new();
        let mut watcher = watching(&stories.path(), mode);
        stories.replace("one");
        told(&mut watcher).await;
        stories.replace("two");
        told(&mut watcher).await;
        // Also in a story that is new.
        stories.add("S-2");
        told(&mut watcher).await;
        stories.write("S-2/story.md", "longer than before");
        told(&mut watcher).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_told_once() {
    for mode in [Mode::Notified, Mode::Polled] {
        let stories = Stories::new();
        let mut watcher = watching(&stories.path(), mode);
        // Long, so that a thread that has to wait for a processor does not make two bursts of one.
        watcher.settings.settle = Duration::from_millis(600);
        for number in 0..200 {
            stories.add(&format!("S-{}", number % 50));
            stories.replace(&number.to_string());
        }
        told(&mut watcher).await;
        tells_nothing_of(&mut watcher, &stories, thread::yield_now);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_is_no_change() {
    for mode in [Mode::Notified, Mode::Polled] {
        let stories = Stories::new();
        let mut watcher = watching(&stories.path(), mode);
        let read = || {
            fs::read(stories.file("S-1/story.md")).unwrap();
            assert_eq!(fs::read_dir(stories.path()).unwrap().count(), 1);
        };
        tells_nothing_of(&mut watcher, &stories, read);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_files_are_no_change() {
    for mode in [Mode::Notified, Mode::Polled] {
        let stories = Stories::new();
        fs::create_dir(stories.file(".trash")).unwrap();
        let mut watcher = watching(&stories.path(), mode);
        let write = || {
            stories.write("../board.lock", "");
            stories.write(".trash/story.md", "");
            for name in [".story.x2.tmp", ".story.md.swp", "story.md~", "4913"] {
                stories.write(&format!("S-1/{name}"), "");
                fs::remove_file(stories.file(&format!("S-1/{name}"))).unwrap();
            }
            fs::create_dir_all(stories.file("S-1/story.md.lock")).unwrap();
            fs::create_dir_all(stories.file("S-1/more")).unwrap();
            stories.write("S-1/more/story.md", "");
        };
        tells_nothing_of(&mut watcher, &stories, write);
    }
}

#[tokio::test]
async fn a_caller_who_stops_waiting_misses_nothing() {
    for mode in [Mode::Notified, Mode::Polled] {
        let stories = Stories::new();
        let mut watcher = watching(&stories.path(), mode);
        stories.replace("one");
        let told = async {
            // Much shorter than the settling time: no call lives long enough for the whole way.
            let moment = Duration::from_millis(1);
            while timeout(moment, watcher.changed()).await.is_err() {}
        };
        timeout(PATIENCE, told).await.expect("the change was lost");
    }
}

#[tokio::test]
async fn a_folder_that_never_becomes_quiet_is_told_of() {
    for mode in [Mode::Notified, Mode::Polled] {
        let stories = Stories::new();
        let mut watcher = watching(&stories.path(), mode);
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let writer = thread::spawn(move || {
            let mut text = String::new();
            while !seen.load(Ordering::SeqCst) {
                text.push('x');
                text.truncate(1000);
                stories.replace(&text);
            }
        });
        told(&mut watcher).await;
        is_over.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    }
}

#[test]
fn a_burst_ends_when_it_is_quiet_or_has_lasted_too_long() {
    let first = Instant::now();
    let after = |last: u32| Burst {
        first,
        last: first + SETTLE * last,
    };
    assert_eq!(after(0).due(SETTLE), first + SETTLE);
    assert_eq!(after(3).due(SETTLE), first + SETTLE * 4);
    assert_eq!(after(50).due(SETTLE), first + SETTLE * MOST_SETTLING);
}

#[tokio::test]
async fn a_folder_that_is_removed_and_made_again_is_watched_again() {
    let stories = Stories::new();
    let mut watcher = BoardWatcher::new(&stories.path(), OFTEN);
    fs::remove_dir_all(stories.path()).unwrap();
    while watcher.source == Source::Notifications {
        told(&mut watcher).await;
    }
    let expected = format!("polling (there is no folder {})", stories.path().display());
    assert_eq!(watcher.source().to_string(), expected);
    stories.add("S-1");
    while watcher.source != Source::Notifications {
        told(&mut watcher).await;
    }
    told_again_by_notification(&stories, &mut watcher).await;
}

/// A change is told although nothing is looked at for a long time.
async fn told_again_by_notification(stories: &Stories, watcher: &mut BoardWatcher) {
    assert_eq!(watcher.source.to_string(), "notifications");
    watcher.settings.poll = LONGEST;
    // What may be left of the change before.
    while timeout(SETTLE * 5, watcher.changed()).await.is_ok() {}
    assert!(watcher.next_look > Instant::now() + SAFETY_PERIOD / 2);
    stories.replace("by notification");
    let waiting = timeout(SAFETY_PERIOD / 2, watcher.changed()).await;
    waiting.expect("it is not watched");
}

#[tokio::test]
async fn another_folder_in_its_place_is_watched() {
    let stories = Stories::new();
    let mut watcher = watching(&stories.path(), Mode::Notified);
    fs::rename(stories.path(), stories.file("../old")).unwrap();
    stories.add("S-1");
    told(&mut watcher).await;
    watcher.settings.poll = SHORTEST_POLL;
    while watcher.source != Source::Notifications {
        told(&mut watcher).await;
    }
    told_again_by_notification(&stories, &mut watcher).await;
}

#[tokio::test]
async fn a_parent_folder_that_is_replaced_is_found_by_the_safety_look() {
    let stories = Stories::new();
    let mut watcher = watching(&stories.path(), Mode::Notified);
    let board = stories.file("..");
    fs::rename(stories.0.path().join("board"), stories.0.path().join("old")).unwrap();
    fs::create_dir_all(board.parent().unwrap()).unwrap();
    stories.add("S-1");
    watcher.next_look = Instant::now();
    told(&mut watcher).await;
    told_again_by_notification(&stories, &mut watcher).await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_yet_is_waited_for() {
    let stories = Stories::new();
    let later = stories.0.path().join("later/stories");
    let mut watcher = BoardWatcher::new(&later, OFTEN);
    assert!(matches!(watcher.source, Source::Polling { .. }));
    fs::create_dir_all(&later).unwrap();
    while watcher.source != Source::Notifications {
        told(&mut watcher).await;
    }
}

#[tokio::test]
async fn what_is_behind_a_link_is_looked_at() {
    let stories = Stories::new();
    let shared = stories.0.path().join("shared.md");
    fs::write(&shared, "").unwrap();
    std::os::unix::fs::symlink(&shared, stories.file("S-1/plan.md")).unwrap();
    let mut watcher = BoardWatcher::new(&stories.path(), OFTEN);
    assert_eq!(watcher.source, Source::Notifications);
    fs::write(&shared, "more").unwrap();
    told(&mut watcher).await;
}

#[tokio::test]
async fn lost_events_are_told_and_a_new_ear_is_made() {
    let stories = Stories::new();
    let (sender, mut watcher) = told_by_test(&stories.path());
    let overflow = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    let news = news_of(&stories.path(), Ok(overflow)).unwrap();
    sender.send_modify(|heard| heard.add(news));
    told(&mut watcher).await;
    assert!(sender.is_closed());
    told_again_by_notification(&stories, &mut watcher).await;
}

#[tokio::test]
async fn without_notifications_it_goes_on_by_looking_and_asks_again_later() {
    let stories = Stories::new();
    let (sender, mut watcher) = told_by_test(&stories.path());
    let error = notify::Error::new(ErrorKind::MaxFilesWatch);
    let news = news_of(&stories.path(), Err(error)).unwrap();
    sender.send_modify(|heard| heard.add(news));
    told(&mut watcher).await;
    let limit = "the user's limit of watched folders is reached, fs.inotify.max_user_watches";
    assert_eq!(watcher.source().to_string(), format!("polling ({limit})"));
    stories.replace("seen");
    told(&mut watcher).await;
    assert!(matches!(watcher.source, Source::Polling { .. }));
    watcher.ask_again = Some(Instant::now());
    stories.replace("and heard");
    told(&mut watcher).await;
    told_again_by_notification(&stories, &mut watcher).await;
    // When the thread that tells is gone.
    let (sender, mut watcher) = told_by_test(&stories.path());
    drop(sender);
    told(&mut watcher).await;
    let gone = "polling (the system stopped telling of changes)";
    assert_eq!(watcher.source().to_string(), gone);
}
