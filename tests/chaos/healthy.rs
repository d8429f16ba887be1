//! What the fake agent does where it is to be told apart whether it still gets anywhere: it waits for something that
//! comes, or for something that never comes.

use std::fs::File;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::fake_agent::Agent;

/// The behaviours that stand here.
pub(crate) const MODES: &[&str] = &[
    "slow-socket",
    "idle-connection",
    "listening",
    "serve-and-poll",
    "hang-pipe",
    "hang-lock",
    "hang-channel",
    "keepsake",
];

/// The name of a process that may stay.
pub(crate) const KEEPSAKE: &str = "chaos-keepsake";

/// How long a server is polled, in half seconds.
const POLLS: u32 = 12;

/// Behaves in one of the ways of [`MODES`].
pub(crate) fn act(agent: &Agent, mode: &str) -> u8 {
    match mode {
        "slow-socket" => {
            agent.say("root");
            receive(&mut connect(agent));
        }
        "idle-connection" => {
            let mut connection = connect(agent);
            agent.say("root");
            let mut watched = [PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN)];
            poll(&mut watched, None).expect("may wait");
            receive(&mut connection);
        }
        "listening" => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("may listen");
            let port = listener.local_addr().expect("has an address").port();
            // The test calls there.
            agent.say(&format!("port-{port}"));
            drop(listener.accept());
        }
        "serve-and-poll" => serve_and_poll(agent),
        "hang-pipe" => {
            let (mut reader, writer) = std::io::pipe().expect("may have a pipe");
            agent.say("root");
            let read = reader.read(&mut [0]);
            drop((read, writer));
        }
        "hang-lock" => {
            // Two descriptions of one file: the second lock waits for the first one, for ever.
            let open = || File::create("lock").expect("may have a file");
            let (first, second) = (open(), open());
            first.lock().expect("may lock");
            agent.say("root");
            drop(second.lock());
        }
        "hang-channel" => {
            let (sender, receiver) = channel::<()>();
            agent.say("root");
            let received = receiver.recv();
            assert!(received.is_ok(), "{sender:?} is still there");
        }
        "keepsake" => {
            for part in ["keepsake", "setsid"] {
                agent.let_loose(&mut agent.child(part));
            }
            agent.say("root");
            agent.gate();
        }
        _ => return 64,
    }
    0
}

fn connect(agent: &Agent) -> TcpStream {
    let port = u16::try_from(agent.amount()).expect("is a port");
    TcpStream::connect(("127.0.0.1", port)).expect("somebody listens there")
}

/// Waits for what the test sends.
fn receive(connection: &mut TcpStream) {
    let mut word = [0; 2];
    connection
        .read_exact(&mut word)
        .expect("the test sends something");
}

fn serve_and_poll(agent: &Agent) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("may listen");
    let address = listener.local_addr().expect("has an address");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
        }
    });
    agent.say("root");
    for _ in 0..POLLS {
        drop(TcpStream::connect(address));
        std::thread::sleep(Duration::from_millis(500));
    }
}
