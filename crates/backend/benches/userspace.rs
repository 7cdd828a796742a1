//! What the relay of proxy mode userspace costs beside HAProxy in `mode tcp`, and beside no relay at all.
//!
//! A client, a node and a server in namespaces of their own; all share the machine's processors. Rounds of the three
//! paths alternate, and each round's shares are of the direct path of the same round.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints")]

#[path = "../../relay/benches/shared/haproxy.rs"]
mod haproxy;
#[path = "../../relay/benches/shared/load.rs"]
mod load;
#[path = "../tests/it/space.rs"]
mod space;

use backend::userspace::{Backend, Carrier, Settings, is_there, serve};
use haproxy::Haproxy;
use load::{CLIENTS, answers, connections, echo, flood, listen, median, megabytes, requests};
use model::{Object, World};
use serde_json::json;
use space::{Space, address, as_root, host, ip, route};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// With this argument the program is the relay that is measured.
const RELAY: &str = "--be-the-relay";
const ROUNDS: usize = 7;
const SMALL: u16 = 8080;
const BULK: u16 = 8081;
const SERVER: &str = "10.128.0.1";
const NODE: &str = "10.244.0.1";
/// HAProxy's ports on the node's own address.
const BESIDE: u16 = 1000;

fn main() {
    if std::env::args().any(|argument| argument == RELAY) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(serve(true, std::future::pending())).unwrap();
    }
    as_root("userspace", measure);
}

/// Those of the rows that are asked for, all if none is.
fn is_asked_for(what: &str) -> bool {
    let asked: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    asked.is_empty() || asked.iter().any(|it| what.contains(it))
}

fn measure() {
    let bed = Bed::new();
    println!(
        "{:<26}{:^30}{:^24}{:>9}{:^23}",
        "", "by the second", "shares of direct", "", "µs of processors each"
    );
    println!(
        "{:<26}{:>10}{:>10}{:>10}{:>12}{:>12}{:>9}{:>8}{:>8}{:>7}",
        "", "direct", "podway", "haproxy", "podway", "haproxy", "p/h", "podway", "haproxy", "p/h"
    );
    bed.compare("connections/s", SMALL, connections);
    bed.compare("requests/s, kept open", SMALL, requests);
    bed.compare("MB/s, one connection", BULK, |to| megabytes(to, 1));
    bed.compare("MB/s, 8 connections", BULK, |to| megabytes(to, CLIENTS));
    println!("medians of {ROUNDS} rounds; p/h: podway's part of haproxy's");
}

/// Client, node and server, and on the node a relay and HAProxy.
struct Bed {
    client: Space,
    _node: Space,
    _server: Space,
    relay: Child,
    haproxy: Haproxy,
}

impl Bed {
    fn new() -> Self {
        let (mut node, mut client, mut server) = (Space::new(), Space::new(), Space::new());
        node.wire("client", None, &mut client);
        node.wire("server", None, &mut server);
        node.set("net/ipv4/ip_forward", "1");
        node.change([
            address("client", "10.244.0.1/24"),
            address("server", "10.244.1.1/24"),
            route("10.128.0.0/9", Some("10.244.1.2"), "server"),
        ]);
        client.change([address("eth0", "10.244.0.2/24"), route("0.0.0.0/0", Some(NODE), "eth0")]);
        server.change([
            address("eth0", "10.244.1.2/24"),
            route("0.0.0.0/0", Some("10.244.1.1"), "eth0"),
        ]);
        server.run(&format!("ip route add local {} dev lo", host(ip(SERVER))));
        for space in [&client, &node] {
            // Ports of closed connections would run out.
            space.set("net/ipv4/tcp_tw_reuse", "1");
        }
        server.inside(|| {
            listen(SMALL, echo);
            listen(BULK, flood);
        });
        let relay = start_relay(&node);
        let way = |port| {
            let at = |address, port| SocketAddr::new(ip(address), port);
            (at(NODE, port + BESIDE), at(SERVER, port))
        };
        let haproxy = Haproxy::start(&[SMALL, BULK].map(way), |command| {
            node.inside(|| command.spawn().unwrap())
        });
        for port in [SMALL, BULK] {
            until(|| {
                let to = (NODE, port + BESIDE);
                client.inside(|| TcpStream::connect(to).is_ok_and(|mut it| answers(&mut it)))
            });
        }
        Bed { client, _node: node, _server: server, relay, haproxy }
    }

    /// `load`: how much was done against an address in one round, by the second.
    fn compare(&self, what: &str, port: u16, load: impl Fn(SocketAddr) -> f64 + Sync) {
        if !is_asked_for(what) {
            return;
        }
        let paths = [(SERVER, port), ("10.96.1.0", port), (NODE, port + BESIDE)];
        let paths = paths.map(|(address, port)| SocketAddr::new(ip(address), port));
        let [relay, haproxy] = [self.relay.id(), self.haproxy.process.id()];
        // The first round warms caches up.
        self.client.inside(|| paths.map(&load));
        let before = [relay, haproxy].map(worked);
        let rounds: Vec<_> = (0..ROUNDS).map(|_| self.client.inside(|| paths.map(&load))).collect();
        let of = |value: fn(&[f64; 3]) -> f64| median(rounds.iter().map(value).collect());
        let done = |path: usize| rounds.iter().map(|round| round[path]).sum::<f64>();
        let work = |which: usize| {
            (worked([relay, haproxy][which]) - before[which]).as_secs_f64() / done(which + 1)
        };
        println!(
            "{what:<26}{:>10.0}{:>10.0}{:>10.0}{:>12.3}{:>12.3}{:>9.2}{:>8.1}{:>8.1}{:>7.2}",
            of(|it| it[0]),
            of(|it| it[1]),
            of(|it| it[2]),
            of(|it| it[1] / it[0]),
            of(|it| it[2] / it[0]),
            of(|it| it[1] / it[2]),
            work(0) * 1e6,
            work(1) * 1e6,
            work(0) / work(1),
        );
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.relay.kill().unwrap();
        self.relay.wait().unwrap();
    }
}

/// A process of its own, which serves what an agent would have it serve.
fn start_relay(node: &Space) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(RELAY).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let relay = node.inside(|| command.spawn().unwrap());
    until(|| node.inside(|| is_there().is_ok_and(|is_there| is_there)));
    let program = program();
    let settings = Settings { carrier: Carrier::Process, ..Settings::default() };
    node.inside(|| Backend::open(settings).unwrap().reconcile(&program).unwrap());
    relay
}

/// Two Service ports over the server.
fn program() -> program::Program {
    let ports = [("small", SMALL), ("bulk", BULK)];
    let ports = ports.map(|(name, port)| json!({"name": name, "port": port}));
    let values = [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
               "spec": {"podCIDR": "10.244.0.0/24"},
               "status": {"addresses": [{"type": "InternalIP", "address": NODE}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
               "spec": {"clusterIP": "10.96.1.0", "ports": ports}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "s"}},
               "ports": ports, "endpoints": [{"addresses": [SERVER]}]}),
    ];
    let world = World::from_objects(values.iter().map(|value| Object::parse(value).unwrap()));
    let nets = ["10.244.0.0/16", "10.128.0.0/9"].map(|net| net.parse().unwrap());
    compile::compile(&world, "n", &compile::Settings::new(nets.into())).0
}

/// How long all threads of a process have had a processor.
fn worked(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let nanoseconds = |task: std::fs::DirEntry| -> u64 {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(tasks.map(nanoseconds).sum())
}

fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within ten seconds");
        std::thread::yield_now();
    }
}
