//! A `podway agent` beside an API of many Services: its memory, how soon a change is in the kernel, and what it costs.
//!
//! `cargo bench -p agent --bench agent -- PODWAY SERVICESxENDPOINTS …`, as root; each size in a network namespace of its
//! own. The API is the embedded one, in this process; the agent is the binary.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and ends at the first error"
)]

use apiserver::{ApiServer, Config};
use client::Client;
use futures::StreamExt;
use kernel::namespace::{in_netns, make_net};
use kernel::netlink::{Monitor, Socket};
use kernel::process::{Process, Signal};
use kernel::route::{self, Change};
use kernel::spawn::{Place, spawn};
use netstate::{Address, Link, LinkKind};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CHANGES: u32 = 300;
const BURST: u32 = 1000;
/// Requests under way at once where many objects are written.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let (podway, sizes) = arguments.split_first().unwrap();
    for size in sizes {
        let (services, endpoints) = size.split_once('x').unwrap();
        let size =
            Size { services: services.parse().unwrap(), endpoints: endpoints.parse().unwrap() };
        let run = || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(measure(podway, size));
        };
        in_netns(make_net().unwrap(), run).unwrap();
    }
}

#[derive(Clone, Copy)]
struct Size {
    services: u32,
    endpoints: u32,
}

async fn measure(podway: &str, size: Size) {
    println!("a podway agent at {} Services with {} endpoints each", size.services, size.endpoints);
    let (client, server) = api().await;
    let objects = (0..size.services).flat_map(|it| [service(it), slice(it, size.endpoints, 0)]);
    let writes = objects.map(|object| {
        let client = client.clone();
        async move { client::create(&client, &object).await.unwrap() }
    });
    let last = futures::stream::iter(writes).buffer_unordered(AT_ONCE).fold(0, newest).await;
    let begin = Instant::now();
    let agent = start(podway, &server);
    programmed(last).await;
    let took = begin.elapsed().as_secs_f64();
    let (now, most) = (memory(&agent, "VmRSS"), memory(&agent, "VmHWM"));
    println!(
        "  started, listed, programmed: {took:.2} s, {:.2} s of CPU",
        cpu(&agent).as_secs_f64()
    );
    let own = memory(&agent, "RssAnon");
    println!(
        "  resident: {now:.1} MB ({own:.1} MB of it its own, the rest its binary), {most:.1} MB at most"
    );
    single_changes(&client, &agent, size).await;
    burst(&client, &agent, size).await;
    println!("  resident after the changes: {:.1} MB", memory(&agent, "VmRSS"));
    agent.signal(Signal::SIGKILL).unwrap();
    agent.reap().unwrap();
}

/// One endpoint of one Service gets another address, when the change before is in the kernel.
async fn single_changes(client: &Client, agent: &Process, size: Size) {
    let mut rules = monitor();
    let (mut from_write, mut from_answer) = (Vec::new(), Vec::new());
    let before = cpu(agent);
    for round in 1..=CHANGES {
        let object = slice((round * 7919) % size.services, size.endpoints, round);
        let write = async {
            let begin = Instant::now();
            client::replace(client, &object).await.unwrap();
            (begin, Instant::now())
        };
        let ((begin, answered), seen) = tokio::join!(write, changed(&mut rules));
        from_write.push(seen - begin);
        from_answer.push(seen.saturating_duration_since(answered));
    }
    let cost = (cpu(agent) - before) / CHANGES;
    println!("  one change, write to kernel:  {}", percentiles(from_write));
    println!("  one change, answer to kernel: {}", percentiles(from_answer));
    println!("  one change, CPU of the agent: {:.0} µs", cost.as_secs_f64() * 1e6);
}

/// Every one of many Services loses an endpoint and gets another, as fast as the API takes it.
async fn burst(client: &Client, agent: &Process, size: Size) {
    let (begin, before) = (Instant::now(), cpu(agent));
    let writes = (0..BURST).map(|number| {
        let object = slice((number * 31) % size.services, size.endpoints, CHANGES + 1 + number);
        let client = client.clone();
        async move { client::replace(&client, &object).await.unwrap() }
    });
    let last = futures::stream::iter(writes).buffer_unordered(AT_ONCE).fold(0, newest).await;
    let written = begin.elapsed().as_secs_f64();
    programmed(last).await;
    let (took, cost) = (begin.elapsed().as_secs_f64(), (cpu(agent) - before) / BURST);
    println!(
        "  {BURST} changes at once: written in {written:.2} s, all in the kernel {:.1} ms later, {:.0} µs of CPU each",
        (took - written) * 1e3,
        cost.as_secs_f64() * 1e6
    );
}

/// A node's underlay, and an API that knows the node.
async fn api() -> (Client, String) {
    let eth0 = Link { name: "eth0".into(), kind: LinkKind::Bridge, mac: None, mtu: None, up: true };
    let address = Address { device: "eth0".into(), net: "10.1.1.110/24".parse().unwrap() };
    let lo = Change::SetUp { device: "lo".into(), up: true };
    let changes = [lo, Change::AddLink(eth0), Change::AddAddress(address)];
    route::apply(&mut Socket::route().unwrap(), &changes).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = ApiServer::new(&Config::new(address)).unwrap();
    tokio::spawn(api.serve(listener, std::future::pending()));
    let server = format!("http://{address}");
    let client = client::connect(None, Some(&server)).await.unwrap();
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"}]},
    });
    client::create(&client, &node).await.unwrap();
    (client, server)
}

fn start(podway: &str, server: &str) -> Process {
    let mut command = Command::new(podway);
    command.args(["agent", "--node", "node-1", "--server", server]);
    command.args(["--healthz-bind-address", "127.0.0.1:10256"]);
    command.env("RUST_LOG", "error").stdout(Stdio::null());
    spawn(command, Place { death_signal: Some(Signal::SIGKILL), ..Place::default() }).unwrap()
}

/// Waits until the agent has everything up to this version of an EndpointSlice in the kernel.
async fn programmed(version: u64) {
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE, "not programmed");
        // Nothing tells of a socket that begins to listen.
        let Ok(mut stream) = TcpStream::connect("127.0.0.1:10256").await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let path = format!("/programmed?EndpointSlice={version}&Node=1");
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        if answer.starts_with("HTTP/1.1 200") {
            return;
        }
    }
}

async fn newest(newest: u64, object: Value) -> u64 {
    let is_slice = object["kind"] == "EndpointSlice";
    let version = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    if is_slice { newest.max(version) } else { newest }
}

#[expect(deprecated, reason = "a monitor keeps its one descriptor for life")]
fn monitor() -> AsyncFd<Monitor> {
    AsyncFd::new(Monitor::rules().unwrap()).unwrap()
}

async fn changed(rules: &mut AsyncFd<Monitor>) -> Instant {
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

/// A line of proc_pid_status(5), in megabytes.
fn memory(agent: &Process, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// What all of its threads had (first number of `schedstat`, nanoseconds).
fn cpu(agent: &Process) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let spent = tasks.map(|task| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat"));
        text.map_or(0, |text| text.split(' ').next().unwrap().parse().unwrap())
    });
    Duration::from_nanos(spent.sum())
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
    format!("{:.2} ms p50, {:.2} ms p99", at(50), at(99))
}

fn service(number: u32) -> Value {
    let address = Ipv4Addr::from(0x0a60_8000 + number);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{number}"), "namespace": "default",
                     "labels": {"app": format!("service-{number}")}},
        "spec": {"clusterIP": address, "selector": {"app": format!("service-{number}")}, "ports": [{"port": 80}]},
    })
}

/// As the endpoint slice controller writes it. The first endpoint's address depends on `round`.
fn slice(service: u32, endpoints: u32, round: u32) -> Value {
    let endpoint = |index: u32| {
        let number = service * endpoints + index;
        let shift = if index == 0 { round * 131 } else { 0 };
        let name = format!("service-{service}-7d4b9c6f58-{number:05x}");
        json!({
            "addresses": [Ipv4Addr::from(0x0a80_0000 + (number + shift) % 0x7f_0000)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", number % 100),
            "targetRef": {"kind": "Pod", "namespace": "default", "name": name},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("service-{service}-x7k2p"), "namespace": "default",
                     "labels": {"kubernetes.io/service-name": format!("service-{service}"),
                                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
    })
}
