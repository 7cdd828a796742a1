//! Connections and requests through a Service against direct ones, in the same run: podway's table, kube-proxy's shapes
//! and connection tracking alone.
//!
//! Client and server share one CPU, so that wake-ups between CPUs hide nothing, and what is measured is the time that
//! this process had on it, packets included, so that others may use the machine too. Rounds are short and take turns.
//! The server ends each connection with a FIN: one that is reset would leave an entry that the next connection of the
//! same port takes for its own.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints")]

#[path = "../tests/it/space.rs"]
mod space;

use backend::nft::Backend;
use model::{Object, World};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::json;
use space::{Space, address, as_root, host, ip, route};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Of a round. All rounds together stay below half of the client's ports, so that none is used twice.
const CONNECTIONS: usize = 200;
const REQUESTS: usize = 2_000;
const ROUNDS: usize = 51;
const DIRECT: &str = "10.128.0.1:8080";
const SERVICE: &str = "10.96.1.0:80";

/// `datapath [NAME=FILE …]`: more configurations, each a file of commands for `nft -f`, or for
/// `iptables-legacy-restore` where its name ends in `.iptables`.
fn main() {
    as_root("datapath", run);
}

fn run() {
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let mut beds = vec![
        Bed::new("direct", DIRECT, |_node| {}),
        Bed::new("connection tracking alone", DIRECT, |node| {
            node.run("nft add table ip t");
            node.run("nft add chain ip t c { type filter hook forward priority 0 ; }");
            node.run("nft add rule ip t c ct state new counter");
        }),
        // The limit of all that translates by netfilter.
        Bed::new("one dnat rule, nothing else", SERVICE, |node| {
            node.run("nft add table ip t");
            node.run("nft add chain ip t c { type nat hook prerouting priority -100 ; }");
            node.run(&format!(
                "nft add rule ip t c ip daddr 10.96.1.0 tcp dport 80 dnat to {DIRECT}"
            ));
        }),
    ];
    for services in [10, 10_000, 50_000] {
        let program = compiled(services);
        let name = format!("podway, {services} services");
        beds.push(Bed::new(&name, SERVICE, move |node| {
            node.inside(|| Backend::open().unwrap().reconcile(&program).unwrap());
        }));
    }
    for argument in std::env::args().skip(1).filter(|argument| argument.contains('=')) {
        let (name, file) = argument.split_once('=').unwrap();
        beds.push(Bed::new(name, SERVICE, |node| match file.ends_with(".iptables") {
            true => drop(node.run(&format!("iptables-legacy-restore {file}"))),
            false => drop(node.run(&format!("nft -f {file}"))),
        }));
    }
    for round in 0..ROUNDS {
        for bed in &mut beds {
            bed.measure(round);
        }
    }
    println!(
        "µs of CPU, median and quartiles; the rate as a share of direct, and of connection tracking alone"
    );
    println!("{:35} {:^36}   {:^36}", "", "one connection", "one request");
    for bed in &beds {
        let connection = figures(bed, &beds, |bed| &bed.connections);
        let request = figures(bed, &beds, |bed| &bed.requests);
        println!("{:35} {connection:>36}   {request:>36}", bed.name);
    }
}

fn figures(bed: &Bed, beds: &[Bed], of: fn(&Bed) -> &Vec<f64>) -> String {
    let at = |bed: &Bed, quarter: usize| {
        let mut times = of(bed).clone();
        times.sort_by(f64::total_cmp);
        times[times.len() * quarter / 4]
    };
    let [low, median, high] = [1, 2, 3].map(|quarter| at(bed, quarter));
    let share = |other: &Bed| at(other, 2) / median;
    format!("{median:>6.2} ({low:.2}–{high:.2}) {:.3} {:.3}", share(&beds[0]), share(&beds[1]))
}

/// Client, node and server in namespaces of their own, and the rules of one configuration in the node's.
struct Bed {
    name: String,
    to: SocketAddr,
    client: Space,
    _node: Space,
    connections: Vec<f64>,
    requests: Vec<f64>,
}

impl Bed {
    fn new(name: &str, to: &str, rules: impl FnOnce(&Space)) -> Self {
        let (mut node, mut client, mut server) = (Space::new(), Space::new(), Space::new());
        node.wire("client", None, &mut client);
        node.wire("server", None, &mut server);
        node.set("net/ipv4/ip_forward", "1");
        node.change([
            address("client", "10.244.0.1/24"),
            address("server", "10.244.1.1/24"),
            route("10.128.0.0/9", Some("10.244.1.2"), "server"),
        ]);
        client.change([
            address("eth0", "10.244.0.2/24"),
            route("0.0.0.0/0", Some("10.244.0.1"), "eth0"),
        ]);
        server.change([
            address("eth0", "10.244.1.2/24"),
            route("0.0.0.0/0", Some("10.244.1.1"), "eth0"),
        ]);
        for endpoint in ["10.128.0.1", "10.128.0.2"].map(ip) {
            server.run(&format!("ip route add local {} dev lo", host(endpoint)));
        }
        rules(&node);
        let listener = server.inside(|| TcpListener::bind("0.0.0.0:8080").unwrap());
        std::thread::spawn(move || serve(&listener));
        let (connections, requests) = (Vec::new(), Vec::new());
        Bed {
            name: name.to_owned(),
            to: to.parse().unwrap(),
            client,
            _node: node,
            connections,
            requests,
        }
    }

    fn measure(&mut self, round: usize) {
        let to = self.to;
        let (connections, requests) = self.client.inside(|| (connect(to), request(to)));
        // The first round warms caches up.
        if round > 0 {
            self.connections.push(connections.as_secs_f64() * 1e6 / CONNECTIONS as f64);
            self.requests.push(requests.as_secs_f64() * 1e6 / REQUESTS as f64);
        }
    }
}

/// One octet is a request; a client that sends another one than `c` wants to go on.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut octet = [0];
        while stream.read(&mut octet).is_ok_and(|read| read > 0) {
            stream.write_all(&octet).unwrap();
            if octet == *b"c" {
                break;
            }
        }
    }
}

/// CPU time of this process so far: client, server, and the way of their packets.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    Duration::from(time)
}

fn connect(to: SocketAddr) -> Duration {
    let begin = spent();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(b"c").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"c");
    }
    spent() - begin
}

fn request(to: SocketAddr) -> Duration {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let begin = spent();
    for _ in 0..REQUESTS {
        stream.write_all(b"r").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    spent() - begin
}

/// The same cluster as `cargo xtask kube-proxy-shape --endpoints 2` describes.
fn compiled(services: u32) -> program::Program {
    // Endpoints are pods too: what pods send to anywhere else is masqueraded.
    let nets = ["10.244.0.0/16", "10.128.0.0/9"].map(|net| net.parse().unwrap());
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"}]},
    });
    let service = |number: u32| {
        let [a, b, c, d] = (0x0a60_0100 + number).to_be_bytes();
        let name = format!("service-{number}");
        let endpoint = |which: u32| {
            let [a, b, c, d] = (0x0a80_0001 + number * 2 + which).to_be_bytes();
            json!({"addresses": [format!("{a}.{b}.{c}.{d}")]})
        };
        [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                   "spec": {"clusterIP": format!("{a}.{b}.{c}.{d}"), "ports": [{"port": 80}]}}),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                   "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                   "ports": [{"port": 8080}], "endpoints": [endpoint(0), endpoint(1)]}),
        ]
    };
    let objects = std::iter::once(node).chain((0..services).flat_map(service));
    let world = World::from_objects(objects.map(|value| Object::parse(&value).unwrap()));
    compile::compile(&world, "n", &compile::Settings::new(nets.into())).0
}
