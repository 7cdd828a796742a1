//! A service proxy beside the API, as a process: `podway agent`, or a kube-proxy.

use kernel::netlink::Monitor;
use kernel::process::{Process, Signal};
use kernel::spawn::{Place, spawn};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(300);
/// Longer than an agent lets connections be to endpoints that are gone.
const REST: Duration = Duration::from_secs(6);

/// Which one.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    Podway { path: PathBuf },
    KubeProxy { path: PathBuf, mode: Mode },
}

/// Of kube-proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Nftables,
    Iptables,
}

impl Mode {
    pub(crate) const ALL: [Mode; 2] = [Mode::Nftables, Mode::Iptables];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Nftables => "nftables",
            Mode::Iptables => "iptables",
        }
    }

    /// With more than so many one change takes minutes, by the iptables that has nf_tables behind it; of the other one
    /// nobody hears when it is done.
    pub(crate) fn most_services(self) -> u32 {
        match self {
            Mode::Nftables => 10_000,
            Mode::Iptables => 1_000,
        }
    }

    /// What prints its rules in a form that can be loaded again.
    pub(crate) fn listing(self) -> &'static [&'static str] {
        match self {
            Mode::Nftables => &["nft", "list", "table", "ip", "kube-proxy"],
            Mode::Iptables => &["iptables-save", "-t", "nat"],
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Podway { .. } => f.write_str("podway agent"),
            Program::KubeProxy { mode, .. } => write!(f, "kube-proxy, mode {}", mode.name()),
        }
    }
}

/// One that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    program: Program,
    process: Process,
}

impl Running {
    pub(crate) fn start(program: &Program, server: &str) -> Self {
        let mut command = match program {
            Program::Podway { path } => podway(path, server),
            Program::KubeProxy { path, mode } => kube_proxy(path, *mode, server),
        };
        command.stdout(Stdio::null());
        let place = Place { death_signal: Some(Signal::SIGKILL), ..Place::default() };
        Running { program: program.clone(), process: spawn(command, place).unwrap() }
    }

    /// Waits until it has everything in the kernel up to this version of an EndpointSlice.
    ///
    /// kube-proxy does not tell versions: it has made its rules, and knows of nothing that is not in them.
    pub(crate) async fn has_programmed(&self, version: u64) {
        let begin = Instant::now();
        while !self.is_up_to_date(version).await {
            assert!(begin.elapsed() < PATIENCE, "{} has not programmed it", self.program);
            // Nothing tells of a socket that begins to listen.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until it has done, too, what it left for after the start: so that no change pays for it.
    pub(crate) async fn has_rested(&self) {
        let (begin, mut quiet, mut before) = (Instant::now(), Instant::now(), self.cpu());
        while quiet.elapsed() < REST {
            assert!(begin.elapsed() < PATIENCE, "{} never rests", self.program);
            tokio::time::sleep(REST / 20).await;
            let now = self.cpu();
            // A timer that looks once a second is rest, too.
            if now - before > REST / 1000 {
                quiet = Instant::now();
            }
            before = now;
        }
    }

    async fn is_up_to_date(&self, version: u64) -> bool {
        match self.program {
            Program::Podway { .. } => {
                let path = format!("/programmed?EndpointSlice={version}&Node=1");
                let answer = get(10256, &path).await;
                answer.is_some_and(|text| text.starts_with("HTTP/1.1 200"))
            }
            Program::KubeProxy { .. } => {
                let Some(text) = get(10249, "/metrics").await else { return false };
                let newest = |name: &str| {
                    let family = "{ip_family=\"IPv4\"}";
                    let name =
                        format!("kubeproxy_sync_proxy_rules_{name}timestamp_seconds{family}");
                    let lines = text.lines().filter(|line| line.starts_with(&name));
                    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok());
                    values.fold(0.0, f64::max)
                };
                newest("last_") > 0.0 && newest("last_") >= newest("last_queued_")
            }
        }
    }

    /// A line of proc_pid_status(5), in megabytes.
    pub(crate) fn memory(&self, what: &str) -> f64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// What all of its threads had (first number of `schedstat`, nanoseconds); of kube-proxy's children, which make
    /// its rules, nothing.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap();
        let spent = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat"));
            text.map_or(0, |text| text.split(' ').next().unwrap().parse().unwrap())
        });
        Duration::from_nanos(spent.sum())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGKILL).unwrap();
        self.process.wait(None).unwrap();
    }
}

fn podway(path: &Path, server: &str) -> Command {
    let mut command = Command::new(path);
    command.args(["agent", "--node", "node-1", "--server", server]);
    command.args(["--healthz-bind-address", "127.0.0.1:10256"]);
    command.env("RUST_LOG", "error");
    command
}

fn kube_proxy(path: &Path, mode: Mode, server: &str) -> Command {
    let mut command = Command::new(path);
    command.args(["--master", server, "--hostname-override", "node-1"]);
    command.args(["--proxy-mode", mode.name(), "--cluster-cidr", "10.244.0.0/16"]);
    command.args(["--healthz-bind-address", "127.0.0.1:10256"]);
    // The machine's connection table is not this benchmark's.
    command.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s"]);
    command.arg("--conntrack-tcp-timeout-close-wait=0s");
    command.stderr(Stdio::null());
    command
}

/// The answer with its head; `None`: nobody answers.
async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// Hears of all changes of rules.
#[expect(deprecated, reason = "a monitor keeps its one descriptor for life")]
pub(crate) fn monitor() -> AsyncFd<Monitor> {
    AsyncFd::new(Monitor::rules().unwrap()).unwrap()
}

pub(crate) async fn changed(rules: &mut AsyncFd<Monitor>) -> Instant {
    loop {
        let mut ready = rules.readable_mut().await.unwrap();
        let seen = Instant::now();
        let changed = ready.get_inner_mut().drain().unwrap();
        ready.clear_ready();
        if changed.any() {
            return seen;
        }
    }
}
