//! A segment of nodes and a client: namespaces on a bridge, all of it inside namespaces of this test alone.

use crate::child;
use kernel::namespace::{Kind, Namespace, in_netns};
use kernel::packet::FrameSocket;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use wire::{Mac, arp, ethernet};

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 200);
/// Everything waited for comes within a second or never; this is for slow machines.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

const INSIDE: &str = "EDGE_TEST_INSIDE";

#[test]
fn child_process() {
    assert_eq!(child::run(), std::env::var_os(child::VARIABLE).is_some());
}

/// Runs the test called `name` again in new namespaces, where the tester is root and alone; inside, `body`.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run("mount -t tmpfs none /run");
        run("ip link set lo up");
        return body();
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if nix_is_not_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed");
    assert!(ran, "{name}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn nix_is_not_root() -> bool {
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

    pub(crate) fn holds_vip(&self) -> bool {
        run(&format!("ip -n {} -4 address show dev eth0", self.name)).contains("10.1.1.200/32")
    }

    /// Starts its edge with further words for [`child`].
    pub(crate) fn edge(&self, priority: u8, preempt: bool, more: &str) -> Edge {
        let words = format!(
            "address={} vip={VIP} priority={priority} preempt={preempt} {more}",
            self.address
        );
        let mut command = self.command(std::env::current_exe().unwrap());
        command.args(["segment::child_process", "--exact", "--nocapture"]);
        let mut process =
            command.env(child::VARIABLE, words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(process.stdout.take().unwrap());
        Edge { process, lines }
    }

    /// Answers every connection to `port` with its name.
    pub(crate) fn respond(&self, port: u16) {
        let name = self.name.clone();
        let namespace = self.namespace();
        std::thread::spawn(move || {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
            in_netns(namespace, || runtime().unwrap().block_on(child::respond(name, port)))
                .unwrap();
        });
        wait("the responder", || self.connect((self.address, port).into()).ok());
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))
    }

    /// What a responder answers there; empty when the connection is refused or reset.
    pub(crate) fn ask(&self, to: SocketAddr) -> String {
        let mut text = String::new();
        if let Ok(mut stream) = self.connect(to) {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.read_to_string(&mut text).ok();
        }
        text
    }

    /// Hears ARP on its interface.
    pub(crate) fn listen_arp(&self) -> FrameSocket {
        self.inside(|| FrameSocket::open("eth0", ethernet::ARP).unwrap())
    }

    pub(crate) fn mac(&self) -> Mac {
        self.listen_arp().mac().unwrap()
    }
}

/// Waits for `count` gratuitous announcements of the virtual IP by `mac`.
pub(crate) fn wait_for_announcements(socket: &FrameSocket, mac: Mac, count: usize) {
    let mut buffer = [0; 2048];
    let mut seen = 0;
    wait("gratuitous ARP", || {
        let frame = socket.receive(&mut buffer).unwrap()?;
        let packet = arp::Repr::parse(ethernet::Repr::parse(frame).unwrap().payload).unwrap();
        let ours = packet.sender == VIP && packet.target == VIP && packet.sender_mac == mac;
        seen += usize::from(ours);
        (seen >= count).then_some(())
    });
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
    process: Child,
    lines: Receiver<String>,
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

    /// Whether its status stays the same for so long.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        self.lines.recv_timeout(time).is_err()
    }

    /// As by SIGTERM; returns when it has ended.
    pub(crate) fn terminate(mut self) {
        self.signal("TERM");
        assert!(self.process.wait().unwrap().success());
    }

    /// `STOP` and `CONT` are a scheduling stall. What runs is `ip`, which became the edge by exec.
    pub(crate) fn signal(&self, name: &str) {
        run(&format!("kill -{name} {}", self.process.id()));
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
