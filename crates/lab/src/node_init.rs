//! The first process of a node: keeps the node's programs running and inherits its orphans.
//!
//! ```text
//!            ┌── a child ended: reap it; one of ours? plan its restart ──┐
//!            ▼                                                           │
//!   start what is due ──► wait for a signal or the next restart ─────────┘
//! ```
//!
//! Told by SIGHUP, it ends the agent, which starts again with the arguments that stand in a file then.
//!
//! It ends only by being killed, and everything in the node with it.

use crate::supervisor::{own_program, world};
use crate::{Error, Result, layout};
use kernel::process::{self, Process, Signal, Signals};
use kernel::spawn::{Place, spawn};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden subcommand of `podway` that runs [`run`].
pub const SUBCOMMAND: &str = "lab-node";

/// The programs of a node, subcommands of `podway`.
const PROGRAMS: [&str; 3] = [AGENT, "edge", "kubelet"];
const AGENT: &str = "agent";

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub lab: String,
    pub name: String,
}

/// Runs a node's first process, in the namespaces that the supervisor made for it. Returns only with an error.
pub fn run(node: &Node) -> Result<std::convert::Infallible> {
    kernel::mount::proc(Path::new("/proc"))?;
    world::own_sysfs()?;
    kernel::namespace::set_hostname(&node.name)?;
    let signals = Signals::collect(&[Signal::SIGCHLD, Signal::SIGHUP])?;
    let mut services = PROGRAMS.map(|program| Service::new(program, node));
    loop {
        let now = Instant::now();
        for service in &mut services {
            service.start_if_due(node, now);
        }
        let next = services.iter().filter_map(|service| service.due).min();
        let patience = next.map(|due| due.saturating_duration_since(Instant::now()));
        if signals.next(patience)? == Some(Signal::SIGHUP) {
            services.iter().filter(|it| it.program == AGENT).try_for_each(Service::end)?;
        }
        while let Some((pid, status)) = process::reap_any()? {
            if let Some(service) = services.iter_mut().find(|it| it.pid() == Some(pid)) {
                tracing::warn!(program = service.program, %status, "ended, will be started again");
                service.ended(Instant::now());
            }
        }
    }
}

/// One program of the node.
struct Service {
    program: &'static str,
    log: PathBuf,
    running: Option<(Process, Instant)>,
    /// When to start it; none while it runs.
    due: Option<Instant>,
    patience: Patience,
}

impl Service {
    fn new(program: &'static str, node: &Node) -> Service {
        let log = layout::node_logs(&node.name).join(format!("{program}.log"));
        let due = Some(Instant::now());
        Service { program, log, running: None, due, patience: Patience::default() }
    }

    fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|(process, _)| process.pid())
    }

    fn start_if_due(&mut self, node: &Node, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        match self.start(node) {
            Ok(process) => self.running = Some((process, now)),
            Err(error) => {
                tracing::error!(
                    program = self.program,
                    error = crate::error::chain(&error),
                    "cannot start"
                );
                self.due = Some(now + self.patience.after(Duration::ZERO));
            }
        }
    }

    /// Gracefully; it will be started again. One that does not run is due anyway.
    fn end(&self) -> Result<()> {
        let Some((process, _)) = &self.running else { return Ok(()) };
        Ok(process.signal(Signal::SIGTERM)?)
    }

    fn ended(&mut self, now: Instant) {
        let Some((_, started)) = self.running.take() else { return };
        self.due = Some(now + self.patience.after(now - started));
    }

    fn start(&self, node: &Node) -> Result<Process> {
        let open = || {
            let opened = File::options().create(true).append(true).open(&self.log);
            opened.map_err(Error::file("open", &self.log))
        };
        let mut command = Command::new(own_program());
        command.arg0("podway");
        command.args([self.program, "--node", &node.name, "--kubeconfig", layout::KUBECONFIG]);
        match self.program {
            AGENT => {
                command.arg("--cni-conf-dir").arg(layout::cni_conf(&node.name));
                command.arg("--cni-data-dir").arg(layout::node_root(&node.name).join("ipam"));
                command.args(agent_arguments(&node.name)?);
            }
            "kubelet" => {
                command.arg("--root").arg(layout::node_root(&node.name));
                command.arg("--cni-conf").arg(layout::cni_conf(&node.name));
                command.arg("--images").arg(layout::IMAGES);
            }
            _ => {}
        }
        command.env("PODWAY_LAB", &node.lab).env("PODWAY_NODE", &node.name);
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        Ok(spawn(command, Place::default())?)
    }
}

/// What the supervisor has written last.
fn agent_arguments(node: &str) -> Result<Vec<String>> {
    let path = layout::agent_arguments(node);
    let octets = std::fs::read(&path).map_err(Error::file("read", &path))?;
    let invalid = |source: serde_json::Error| Error::file("read", &path)(source.into());
    serde_json::from_slice(&octets).map_err(invalid)
}

/// How long to wait before a program is started again: not at all, unless it ends again and again.
#[derive(Debug, Default)]
struct Patience {
    crashes: u32,
}

impl Patience {
    /// A program that lived this long did not fail at its start.
    const HEALTHY: Duration = Duration::from_secs(2);
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    fn after(&mut self, lifetime: Duration) -> Duration {
        self.crashes = if lifetime < Patience::HEALTHY { self.crashes + 1 } else { 0 };
        match self.crashes {
            0 | 1 => Duration::ZERO,
            crashes => (Patience::FIRST * 2u32.pow((crashes - 2).min(10))).min(Patience::LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crash_loops_are_slowed_down() {
        let mut patience = Patience::default();
        let mut waits = |lifetimes: &[u64]| -> Vec<u128> {
            let wait = |seconds: &u64| patience.after(Duration::from_secs(*seconds)).as_millis();
            lifetimes.iter().map(wait).collect()
        };
        assert_eq!(waits(&[10, 10, 10]), [0, 0, 0]);
        assert_eq!(waits(&[0, 0, 0, 0, 0, 0, 0, 0, 0]), [0, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(waits(&[10, 0, 0]), [0, 0, 20], "a good run makes up for it");
    }
}
