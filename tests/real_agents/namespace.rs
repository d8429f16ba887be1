//! A network that ends at this machine.

use std::process::{Command, ExitCode};

/// Says to the program that it is inside.
const INSIDE: &str = "AI_SDLC_REAL_AGENTS_INSIDE";

/// Where this process is.
pub(crate) enum Entered {
    /// In the namespace.
    Inside,
    /// Outside: another one was in it, and ended with this code.
    Outside(ExitCode),
    /// There can be none.
    Refused(String),
}

/// Plays everything in a namespace that has only the loopback device.
pub(crate) fn enter() -> Entered {
    if std::env::var_os(INSIDE).is_some() {
        return Entered::Inside;
    }
    let probe = Command::new("unshare")
        .args(["--map-root-user", "--net", "true"])
        .output();
    match probe {
        Ok(probe) if probe.status.success() => {}
        Ok(probe) => return Entered::Refused(String::from_utf8_lossy(&probe.stderr).into_owned()),
        Err(error) => return Entered::Refused(error.to_string()),
    }
    let own = std::env::current_exe().expect("a test knows its program");
    // `SIOCSIFFLAGS` with `IFF_UP | IFF_RUNNING`: not every machine has `ip`, and the model needs Python anyway.
    let up = "import fcntl,socket,struct; s=socket.socket(); \
              fcntl.ioctl(s,0x8914,struct.pack('16sh',b'lo',0x41))";
    let script = format!("python3 -c \"{up}\" && exec \"$@\"");
    let status = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script, "sh"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status();
    match status {
        Ok(status) if status.success() => Entered::Outside(ExitCode::SUCCESS),
        Ok(_) => Entered::Outside(ExitCode::FAILURE),
        Err(error) => Entered::Refused(error.to_string()),
    }
}
