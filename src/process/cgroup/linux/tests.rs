//! Groups that are made, filled, killed and removed, where the system lets this test make any.

use std::process::{Child, Command, Stdio};

use super::*;

const LONG: Duration = Duration::from_secs(10);

/// The group of a run that only this test has; none where none can be made.
fn group(number: u16) -> Option<RunGroup> {
    let run = format!("test-{}-{number}", std::process::id());
    let group = RunGroup::make(&run)?;
    let leaf = group.leaf("probe", 1)?;
    let mut child = sleeper(1);
    let joined = leaf.join(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(leaf.kill(LONG) && leaf.remove());
    if !joined {
        group.remove();
    }
    joined.then_some(group)
}

/// Gives the group of a test, or says that there is none and leaves the test.
macro_rules! group_or_skip {
    ($number:expr) => {
        match group($number) {
            Some(group) => group,
            None => {
                io::Write::write_all(
                    &mut io::stderr(),
                    b"skipped: no cgroup v2 that can be written\n",
                )
                .unwrap();
                return;
            }
        }
    };
}

fn sleeper(number: u32) -> Child {
    let mut command = Command::new("sleep");
    command.arg((1000 + number).to_string());
    command.stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn what_left_its_session_and_its_environment_is_killed_with_its_group() {
    let group = group_or_skip!(1);
    let leaf = group.leaf("S-0001", 2).unwrap();
    assert!(!leaf.is_populated());
    // It waits for a line, so that everything it starts is in the group.
    let mut child = Command::new("sh")
        .args([
            "-c",
            "read line; cd /; env -i setsid sleep 1000 >/dev/null 2>&1 & echo $!; wait",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(leaf.join(child.id()));
    io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let mut line = String::new();
    let mut stdout = io::BufReader::new(child.stdout.take().unwrap());
    io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let hidden: u32 = line.trim().parse().unwrap();
    assert!(leaf.pids().contains(&hidden));
    let members = group.members();
    assert!(members.contains(&(hidden, Some("S-0001".to_owned()))));
    assert!(!leaf.remove() && !group.remove());
    let end = leaf.end(&[], LONG);
    assert!(end.ended.iter().any(|found| found.pid == hidden));
    assert_eq!(end.stayed, []);
    assert_eq!(Entry::read(hidden), None);
    child.wait().unwrap();
    assert!(leaf.remove() && group.remove());
    assert!(!group.path().exists());
}

#[test]
fn nothing_is_killed_where_something_may_stay() {
    let group = group_or_skip!(2);
    let leaf = group.leaf("S-0001", 1).unwrap();
    let mut child = sleeper(2);
    assert!(leaf.join(child.id()));
    let end = leaf.end(&["other".to_owned(), "sleep".to_owned()], LONG);
    assert_eq!(end.ended, []);
    assert_eq!(end.stayed.len(), 1);
    assert_eq!(child.try_wait().unwrap(), None);
    assert!(!leaf.remove());
    let end = leaf.end(&["other".to_owned()], LONG);
    assert_eq!((end.ended.len(), end.stayed.len()), (1, 0));
    child.wait().unwrap();
    assert!(group.remove());
}

#[test]
fn groups_that_were_made_below_are_killed_and_removed_with_it() {
    let group = group_or_skip!(3);
    let leaf = group.leaf("S-0001", 1).unwrap();
    let inner = leaf.path.join("of-the-agent");
    fs::create_dir_all(inner.join("deeper")).unwrap();
    let mut child = sleeper(3);
    write(&inner.join(PROCESSES), &child.id().to_string()).unwrap();
    assert_eq!(leaf.pids(), [child.id()]);
    assert!(leaf.kill(LONG));
    child.wait().unwrap();
    assert!(group.remove());
    assert!(!group.path().exists());
}

#[test]
fn the_group_of_a_run_is_made_once_and_only_that_one_is_taken_for_it() {
    let group = group_or_skip!(4);
    let run = group.run().to_owned();
    assert!(RunGroup::make(&run).is_none());
    assert!(RunGroup::noted(&run, group.path()).is_some());
    assert!(RunGroup::noted("another", group.path()).is_none());
    assert!(RunGroup::noted(&run, &group.path().join("..")).is_none());
    let parent = group.path().parent().unwrap();
    let roundabout = parent.join("x/..").join(group.path().file_name().unwrap());
    assert!(RunGroup::noted(&run, &roundabout).is_none());
    let elsewhere = Path::new("/tmp").join(group.path().file_name().unwrap());
    assert!(RunGroup::noted(&run, &elsewhere).is_none());
    assert!(group.remove());
    // Of one that is gone there is nothing, and it is gone.
    let noted = RunGroup::noted(&run, group.path()).unwrap();
    assert_eq!(noted.members(), []);
    assert!(!noted.is_populated() && noted.kill(LONG) && noted.remove());
    assert!(group.leaf("S-0001", 1).is_none());
}

#[test]
fn names_that_are_paths_or_options_are_refused() {
    for name in ["", ".", "..", "a/b", "/a", "-a", "a b", "é", "a\n"] {
        assert!(!is_fit(name), "{name:?}");
        assert!(RunGroup::make(name).is_none(), "{name:?}");
    }
    assert!(is_fit("20261122-120000-00ab") && is_fit("S-0001"));
}

#[test]
fn places_are_found_in_pure_hybrid_and_bound_hierarchies() {
    let pure = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
    let hybrid = "38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    let bound = "9 1 0:38 /a/b /mnt/my\\040groups rw - cgroup2 none rw";
    let old = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
    assert_eq!(mount(old), None);
    let of = |line, group: &str| place(&mount(line).unwrap(), Path::new(group));
    let found = |path: &str| Some(PathBuf::from(path));
    assert_eq!(of(pure, "/"), found("/sys/fs/cgroup/"));
    assert_eq!(of(pure, "/user/x"), found("/sys/fs/cgroup/user/x"));
    assert_eq!(of(hybrid, "/x"), found("/sys/fs/cgroup/unified/x"));
    assert_eq!(of(bound, "/a/b/c"), found("/mnt/my groups/c"));
    assert_eq!(of(bound, "/a"), None);
    // A process outside of the namespace of groups.
    assert_eq!(of(pure, "/../x"), None);
}

#[test]
#[ignore = "measures; shows the cost of an attempt's group"]
fn what_a_group_costs() {
    let group = group_or_skip!(5);
    let mut costs: Vec<[Duration; 3]> = (1..=200)
        .map(|attempt| {
            let began = Instant::now();
            let leaf = group.leaf("S-0001", attempt).unwrap();
            let made = began.elapsed();
            let mut child = sleeper(5);
            let began = Instant::now();
            assert!(leaf.join(child.id()));
            let joined = began.elapsed();
            child.kill().unwrap();
            child.wait().unwrap();
            let began = Instant::now();
            assert!(!leaf.is_populated() && leaf.remove());
            [made, joined, began.elapsed()]
        })
        .collect();
    assert!(group.remove());
    for (place, what) in ["made", "joined", "removed"].into_iter().enumerate() {
        costs.sort_by_key(|cost| cost[place]);
        let (median, late) = (costs[100][place], costs[190][place]);
        let text = format!("{what}: median {median:?}, 95 % {late:?}\n");
        io::Write::write_all(&mut io::stderr(), text.as_bytes()).unwrap();
    }
}
