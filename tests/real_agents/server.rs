//! The scripted model.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

/// How long it may take to be there.
const START: Duration = Duration::from_secs(20);

/// It ends by itself after this, in seconds.
const LONGEST_LIFE: &str = "900";

/// A running model. It ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_agents/fake_llm.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg("--log")
            .arg(folder.join("model.jsonl"))
            .args(["--max-seconds", LONGEST_LIFE, "--max-requests", "100000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a Python");
        let stdout = child.stdout.take().expect("is piped");
        // What fails from here on ends it.
        let mut server = Self { child, port: 0 };
        let (sender, ready) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            drop(sender.send(read.map(|_| line)));
        });
        let said = ready.recv_timeout(START).expect("the model starts");
        let port = said.expect("it says where it listens");
        server.port = port.trim().parse().expect("it says a number");
        server
    }

    /// The address of the model in a scenario such as `fail=429,n=2`.
    pub(crate) fn address(&self, scenario: &str) -> String {
        let more = if scenario.is_empty() { "" } else { "," };
        format!("http://127.0.0.1:{}/x/id=case{more}{scenario}", self.port)
    }

    /// What it has counted.
    pub(crate) fn count(&self, what: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a time above zero");
        let request = "GET /__stats HTTP/1.0\r\nHost: x\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let counts: Value = serde_json::from_str(body).unwrap_or_default();
        counts["case"][what].as_u64().unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
