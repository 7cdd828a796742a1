//! A segment of nodes and a client: namespaces on a bridge, all of it inside namespaces of its own.

use crate::child;
use kernel::namespace::{Kind, Namespace, in_netns};
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 200);
/// Everything waited for comes within a second or never; this is for slow machines.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

const INSIDE: &str = "EDGE_SEGMENT_INSIDE";

/// Whether this process is already inside the namespaces that [`unshare`] makes; then it prepares them.
pub(crate) fn is_inside() -> bool {
    let inside = std::env::var_os(INSIDE).is_some();
    if inside {
        run("mount -t tmpfs none /run");
        run("ip link set lo up");
    }
    inside
}

/// This program once more, in namespaces where it is root and alone; they end with it.
pub(crate) fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if is_ordinary_user() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg(std::env::current_exe().unwrap()).env(INSIDE, "1").stdin(Stdio::null());
    command
}

fn is_ordinary_user() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    uid.split_whitespace().nth(1) != Some("0")
}

/// Runs a command line without quoting.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `condition` gives something.
pub(crate) fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// The bridge.
pub(crate) struct Segment;

impl Segment {
    pub(crate) fn new() -> Self {
        run("ip link add underlay type bridge");
        run("ip link set underlay up");
        Segment
    }

    /// A host at 10.1.1.`octet`.
    pub(crate) fn host(&self, name: &str, octet: u8) -> Host {
        run(&format!("ip netns add {name}"));
        run(&format!("ip link add name {name} type veth peer name eth0 netns {name}"));
        run(&format!("ip link set dev {name} master underlay up"));
        run(&format!("ip -n {name} link set eth0 up"));
        run(&format!("ip -n {name} link set lo up"));
        run(&format!("ip -n {name} address add 10.1.1.{octet}/24 dev eth0"));
        Host { name: name.into(), address: Ipv4Addr::new(10, 1, 1, octet) }
    }
}

#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

impl Host {
    fn namespace(&self) -> Namespace {
        let path = PathBuf::from("/run/netns").join(&self.name);
        Namespace::open(Kind::Net, &path).unwrap()
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(self.namespace(), work).unwrap()
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).stdin(Stdio::null());
        command
    }

    /// Starts its edge with further words for [`child`].
    pub(crate) fn edge(&self, priority: u8, preempt: bool, more: &str) -> Edge {
        self.child(&format!("vip={VIP} priority={priority} preempt={preempt} {more}"))
    }

    /// Starts [`child`] on the host.
    pub(crate) fn child(&self, words: &str) -> Edge {
        let mut command = self.command(std::env::current_exe().unwrap());
        // In a test binary, this is the way in; elsewhere `main` looks at the variable first.
        command.args(["probe::child_process", "--exact", "--nocapture"]);
        command.env(child::VARIABLE, format!("address={} {words}", self.address));
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(process.stdout.take().unwrap());
        Edge { process, lines }
    }
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // The test harness writes before the first line of ours.
            if let Some((_noise, status)) = line.split_once("status: ") {
                sender.send(status.to_owned()).ok();
            }
        }
    });
    receiver
}

/// A node's edge process; killed when dropped.
pub(crate) struct Edge {
    pub(crate) process: Child,
    pub(crate) lines: Receiver<String>,
}

impl Edge {
    /// Waits for a status that contains these words.
    pub(crate) fn wait(&self, words: &[&str]) {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_timeout| panic!("waited in vain for {words:?}"));
            if words.iter().all(|word| line.split(' ').any(|found| found == *word)) {
                return;
            }
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
