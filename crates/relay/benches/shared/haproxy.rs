//! HAProxy in `mode tcp`, as the peer of a relay.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Ends when dropped.
pub(crate) struct Haproxy {
    pub(crate) process: Child,
    config: PathBuf,
}

impl Haproxy {
    /// `ways`: where it listens, and the server behind. `spawn` starts it where it is to run.
    pub(crate) fn start(
        ways: &[(SocketAddr, SocketAddr)],
        spawn: impl FnOnce(&mut Command) -> Child,
    ) -> Self {
        let mut text =
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"
                .to_owned();
        for (number, (at, server)) in ways.iter().enumerate() {
            writeln!(text, "listen l{number}\n bind {at}\n server s {server} check inter 1s")
                .unwrap();
        }
        let config = std::env::temp_dir().join(format!("podway-bench-{}.cfg", std::process::id()));
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Haproxy { process: spawn(&mut command), config }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_file(&self.config).unwrap();
    }
}
