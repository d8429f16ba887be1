//! Which processes hold connections to somebody outside of their tree, and armed timers, by their descriptors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;

use super::linux::read;

/// More descriptors of one process than this are not looked at.
const MOST_DESCRIPTORS: usize = 4096;
/// More of the list of the machine's connections than this is not read: some hundred thousand connections.
const MOST_BYTES: u64 = 32 << 20;

/// What descriptors show.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) connected: bool,
    pub(super) timer: bool,
}

/// Looks at the descriptors of processes.
pub(super) fn look(pids: impl Iterator<Item = u32>) -> Found {
    let mut found = Found::default();
    // By the network that they belong to: processes in a container have one of their own.
    let mut networks: BTreeMap<String, (u32, BTreeSet<u64>)> = BTreeMap::new();
    for pid in pids {
        let mut sockets = BTreeSet::new();
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for descriptor in descriptors.filter_map(Result::ok).take(MOST_DESCRIPTORS) {
            let Ok(target) = fs::read_link(descriptor.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            if let Some(inode) = target.strip_prefix("socket:[") {
                sockets.extend(inode.trim_end_matches(']').parse::<u64>());
            } else if target == "anon_inode:[timerfd]" {
                let name = descriptor.file_name();
                let name = name.to_string_lossy();
                let info = read(format!("/proc/{pid}/fdinfo/{name}"));
                found.timer = found.timer || info.is_some_and(|info| is_armed(&info));
            }
        }
        if !sockets.is_empty() {
            let network = fs::read_link(format!("/proc/{pid}/ns/net"));
            let network = network.map_or_else(
                |_| String::new(),
                |name| name.to_string_lossy().into_owned(),
            );
            networks
                .entry(network)
                .or_insert_with(|| (pid, BTreeSet::new()))
                .1
                .extend(sockets);
        }
    }
    found.connected = networks
        .values()
        .any(|(pid, sockets)| is_connected(*pid, sockets));
    found
}

/// `proc_pid_fdinfo(5)`: the time until it fires is zero for one that is not armed.
fn is_armed(info: &str) -> bool {
    let left = info
        .lines()
        .find_map(|line| line.strip_prefix("it_value: "));
    left.is_some_and(|left| left.trim() != "(0, 0)")
}

fn is_connected(pid: u32, sockets: &BTreeSet<u64>) -> bool {
    let mut connections = BTreeSet::new();
    for (table, states) in [
        // Established, those that are being established from either side, and those on which a server waits for whoever
        // comes; of UDP those with a fixed other end.
        ("tcp", &["01", "02", "03", "0A"][..]),
        ("tcp6", &["01", "02", "03", "0A"]),
        ("udp", &["01"]),
        ("udp6", &["01"]),
    ] {
        let Ok(file) = fs::File::open(format!("/proc/{pid}/net/{table}")) else {
            continue;
        };
        let mut text = String::new();
        // What could be read before an error counts.
        drop(file.take(MOST_BYTES).read_to_string(&mut text));
        let kind = table.trim_end_matches('6');
        let own = text.lines().filter_map(parse).filter(|connection| {
            sockets.contains(&connection.inode) && states.contains(&connection.state)
        });
        connections.extend(own.map(|connection| {
            let (near, far) = (plain(connection.near), plain(connection.far));
            (kind, near.to_owned(), far.to_owned())
        }));
    }
    // One of which both ends are in the tree brings nothing from outside.
    connections
        .iter()
        .any(|(kind, near, far)| !connections.contains(&(*kind, far.clone(), near.clone())))
}

struct Connection<'a> {
    near: &'a str,
    far: &'a str,
    state: &'a str,
    inode: u64,
}

/// A line of `proc_pid_net(5)`: number, both ends, state, five more, inode.
fn parse(line: &str) -> Option<Connection<'_>> {
    let mut fields = line.split_whitespace();
    fields.next()?;
    let (near, far, state) = (fields.next()?, fields.next()?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Connection {
        near,
        far,
        state,
        inode,
    })
}

/// An address of IPv4 is the same one when it is written as one of IPv6.
fn plain(address: &str) -> &str {
    let mapped = "0000000000000000FFFF0000";
    address.strip_prefix(mapped).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_understood() {
        let line = "   1: 0100007F:1F90 0200007F:C350 01 00000000:00000000 02:000A 00000000  1000        0 4242 2 0 20";
        let connection = parse(line).unwrap();
        assert_eq!(connection.near, "0100007F:1F90");
        assert_eq!(connection.far, "0200007F:C350");
        assert_eq!((connection.state, connection.inode), ("01", 4242));
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert!(parse(head).is_none());
    }

    #[test]
    fn an_address_is_the_same_in_both_forms() {
        assert_eq!(
            plain("0000000000000000FFFF00000100007F:1F90"),
            plain("0100007F:1F90")
        );
    }

    #[test]
    fn a_timer_that_was_set_is_told_from_one_that_was_not() {
        let info = |value| format!("pos:\t0\nclockid: 1\nticks: 0\nit_value: {value}\n");
        assert!(is_armed(&info("(9, 999)")));
        assert!(!is_armed(&info("(0, 0)")));
    }
}
