//! The real kube-proxy and Podway take turns on a node, under traffic: no connection fails, and nothing is left of the
//! one whose turn is over.
//!
//! `PODWAY_KUBE_PROXY` names kube-proxy's binary. Without it there is nobody to take turns with, so these tests run
//! only where they are asked for: `cargo test -p agent --test it kube_proxys -- --ignored`.

use crate::node::{Node, PATIENCE, in_own_namespace, try_ask};
use crate::pods::{Pod, serve};
use backend::{Mode, services};
use kernel::ipset;
use kernel::netlink::Socket;
use kernel::process::{Process, Signal};
use kernel::spawn::{Place, spawn};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const METRICS: u16 = 10349;
/// The cluster IP, and a node port.
const DOORS: [(&str, u16); 2] = [("10.96.5.5", 80), ("10.1.1.110", 30080)];
const PODS: [u8; 2] = [5, 6];

fn objects() -> [Value; 2] {
    let endpoints =
        PODS.map(|host| json!({"addresses": [format!("10.244.0.{host}")], "nodeName": "node-1"}));
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "NodePort", "clusterIP": "10.96.5.5",
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
        }),
    ]
}

/// kube-proxy on the node until it is stopped; its rules stay, as they do when it ends anywhere.
struct KubeProxy {
    /// `None` once it is over.
    process: Option<Process>,
    log: std::path::PathBuf,
}

impl KubeProxy {
    /// Returns when it has made all its rules.
    async fn start(node: &Node, binary: &OsString, mode: &str) -> Self {
        let log =
            std::env::temp_dir().join(format!("podway-kube-{mode}-{}.log", std::process::id()));
        let mut command = Command::new(binary);
        command.args([
            &format!("--master={}", node.server),
            &format!("--proxy-mode={mode}"),
            "--hostname-override=node-1",
            "--cluster-cidr=10.244.0.0/16",
            "--healthz-bind-address=127.0.0.1:10356",
            &format!("--metrics-bind-address=127.0.0.1:{METRICS}"),
            // The limits of connection tracking are the machine's.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]);
        let file = std::fs::File::create(&log).unwrap();
        command.stderr(file.try_clone().unwrap()).stdout(file);
        let death_signal = Some(Signal::SIGKILL);
        let process = spawn(command, Place { death_signal, ..Place::default() }).unwrap();
        let proxy = KubeProxy { process: Some(process), log };
        // It forks for each chain and each element of a set.
        let synced = tokio::time::timeout(15 * PATIENCE, async {
            while !has_synced().await {
                tokio::time::sleep(PAUSE).await;
            }
        });
        assert!(synced.await.is_ok(), "kube-proxy made no rules:\n{}", proxy.words());
        proxy
    }

    fn words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn stop(&mut self) {
        let Some(process) = self.process.take() else { return };
        process.signal(Signal::SIGKILL).unwrap();
        process.reap().unwrap();
        std::fs::remove_file(&self.log).unwrap();
    }
}

async fn has_synced() -> bool {
    const LAST: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}";
    let Ok(answer) = try_ask(METRICS, "/metrics").await else { return false };
    let values = answer.body.lines().filter(|line| line.starts_with(LAST));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).any(|at| at > 0.0)
}

/// Clients that go on: a new connection to each door, and a word through one to each that lasts.
#[derive(Default)]
struct Traffic {
    end: AtomicBool,
    rounds: AtomicUsize,
    /// Written by the client's thread, read by the test.
    failures: Mutex<Vec<String>>,
}

impl Traffic {
    fn start(client: &Pod) -> (Arc<Self>, JoinHandle<()>) {
        let traffic = Arc::new(Traffic::default());
        let flow = traffic.clone();
        (traffic, client.inside(|| std::thread::spawn(move || flow.go_on())))
    }

    fn go_on(&self) {
        let mut lasting = Vec::new();
        while !self.end.load(Ordering::Relaxed) {
            let fail = |door, error| {
                self.failures.lock().unwrap().push(format!("{door:?}: {error}"));
            };
            for door in DOORS {
                let new = connect(door).and_then(|mut new| ask(&mut new).map(|()| new));
                match new {
                    Ok(new) if lasting.len() < DOORS.len() => lasting.push(new),
                    Ok(_closed) => {}
                    Err(error) => fail(door, error),
                }
            }
            for (connection, door) in lasting.iter_mut().zip(DOORS) {
                ask(connection).unwrap_or_else(|error| fail(door, error));
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns after some more rounds, none of which may have failed.
    async fn assert_unharmed(&self, after: &str) {
        let wanted = self.rounds.load(Ordering::Relaxed) + 20;
        let more = tokio::time::timeout(3 * PATIENCE, async {
            while self.rounds.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(PAUSE).await;
            }
        });
        let timely = more.await.is_ok();
        let failures = self.failures.lock().unwrap();
        assert!(timely && failures.is_empty(), "{after}: {failures:?}");
        println!("{after}: {} rounds, none failed", self.rounds.load(Ordering::Relaxed));
    }
}

/// Between looks at what tells nobody that it changed.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

fn connect((address, port): (&str, u16)) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(address.parse().unwrap(), port), PATIENCE)
}

fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"question")?;
    stream.read_exact(&mut [0; 6])
}

/// What a witness prints.
fn listed(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// But for `KUBE-FIREWALL`, which is the kubelet's too and guards the node's loopback addresses.
fn assert_nothing_of_kube_proxy(own: Mode) {
    let tables = listed("nft list tables");
    assert!(!tables.contains("kube-proxy"), "{tables}");
    assert_eq!(ipset::names(&mut Socket::netfilter().unwrap()).unwrap(), [""; 0]);
    for family in ["iptables", "ip6tables"] {
        let rules = listed(&format!("{family}-nft-save")).replace("KUBE-FIREWALL", "");
        let theirs = if own == Mode::Iptables { "KUBE-PROXY-CANARY" } else { "KUBE-" };
        assert!(!rules.contains(theirs), "{rules}");
    }
}

/// A node with clients that go on, and kube-proxy when it is its turn.
struct Turns {
    node: Node,
    binary: OsString,
    /// kube-proxy's mode.
    theirs: &'static str,
    proxy: KubeProxy,
    traffic: Arc<Traffic>,
    thread: JoinHandle<()>,
    _pods: Vec<Pod>,
}

impl Turns {
    /// The first turn is kube-proxy's.
    async fn begin(name: &str, theirs: &'static str) -> Self {
        let binary = std::env::var_os("PODWAY_KUBE_PROXY");
        let binary = binary.expect("PODWAY_KUBE_PROXY names a kube-proxy");
        let node = Node::new(name).await;
        // Whoever installs a node does this; Podway's agent, too, kube-proxy not.
        kernel::sysctl::write("net/ipv4/ip_forward", "1").unwrap();
        let mut pods: Vec<_> = PODS.map(Pod::new).into();
        pods.iter().for_each(serve);
        for object in objects() {
            node.put(object).await;
        }
        let proxy = KubeProxy::start(&node, &binary, theirs).await;
        let client = Pod::new(10);
        let (traffic, thread) = Traffic::start(&client);
        pods.push(client);
        traffic.assert_unharmed(&format!("kube-proxy {theirs}")).await;
        Turns { node, binary, theirs, proxy, traffic, thread, _pods: pods }
    }

    async fn podways(&mut self, own: Mode) {
        self.proxy.stop();
        self.traffic.assert_unharmed("kube-proxy stopped").await;
        let agent = self.start_agent(own).await;
        self.traffic.assert_unharmed(&format!("{} taken over by {own}", self.theirs)).await;
        agent.abort();
        assert!(agent.await.unwrap_err().is_cancelled());
        assert_nothing_of_kube_proxy(own);
    }

    async fn kube_proxys(&mut self, own: Mode) {
        if own == Mode::Iptables && self.theirs != "iptables" {
            // kube-proxy begins by removing what has the names of its other modes, whosever it is.
            self.start_agent(Mode::Nft).await.abort();
        }
        self.proxy = KubeProxy::start(&self.node, &self.binary, self.theirs).await;
        for mode in [Mode::Nft, Mode::Iptables] {
            services::clean(mode, mode).unwrap();
        }
        self.traffic.assert_unharmed(&format!("{own} taken back by {}", self.theirs)).await;
        assert!(!listed("nft list tables").contains("podway"));
    }

    /// Returns when all is programmed.
    async fn start_agent(&self, mode: Mode) -> tokio::task::JoinHandle<()> {
        let agent = self.node.start_agent_with(|options| {
            options.mode = mode;
            options.take_over_kube_proxy = true;
        });
        let agent = agent.await;
        assert_eq!(self.node.ask(10256, "/programmed").await.status, 200);
        agent
    }

    fn end(mut self) {
        self.proxy.stop();
        self.traffic.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        assert_eq!(*self.traffic.failures.lock().unwrap(), [""; 0]);
    }
}

async fn take_turns(name: &str, theirs: &'static str, own: [Mode; 2]) {
    let mut turns = Turns::begin(name, theirs).await;
    for own in own {
        turns.podways(own).await;
        turns.kube_proxys(own).await;
    }
    turns.end();
}

#[test]
#[ignore = "needs a kube-proxy: PODWAY_KUBE_PROXY"]
fn kube_proxys_nftables_and_podway_take_turns() {
    const NAME: &str = "kube_proxy::kube_proxys_nftables_and_podway_take_turns";
    let own = [Mode::Nft, Mode::Iptables];
    in_own_namespace(NAME, async || take_turns("kube-nft", "nftables", own).await);
}

#[test]
#[ignore = "needs a kube-proxy: PODWAY_KUBE_PROXY"]
fn kube_proxys_iptables_and_podway_take_turns() {
    const NAME: &str = "kube_proxy::kube_proxys_iptables_and_podway_take_turns";
    let own = [Mode::Nft, Mode::Iptables];
    in_own_namespace(NAME, async || take_turns("kube-iptables", "iptables", own).await);
}

#[test]
#[ignore = "needs a kube-proxy, PODWAY_KUBE_PROXY, and a kernel with IPVS: scripts/vm-tests"]
fn kube_proxys_ipvs_and_podway_take_turns() {
    const NAME: &str = "kube_proxy::kube_proxys_ipvs_and_podway_take_turns";
    let own = [Mode::Nft, Mode::Ipvs];
    in_own_namespace(NAME, async || take_turns("kube-ipvs", "ipvs", own).await);
}
