//! Programming Services: the first apply and one endpoint's change, against kube-proxy's nftables shape.
//!
//! `cargo bench -p backend --bench services -- SERVICES ENDPOINTS [KUBE-PROXY-SHAPE.nft]`, as root; each side works
//! in a network namespace of its own. A file with the peer's rules is loaded with `nft -f`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and ends at the first error"
)]

use backend::nft::Backend;
use kernel::namespace::{in_netns, make_net};
use model::{Change, Object, ObjectKey, Touched, World};
use program::Program;
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};

const NODE: &str = "node-1";
const CHANGES: u32 = 1000;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let number =
        |index: usize, default| arguments.get(index).map_or(default, |it| it.parse().unwrap());
    let (services, endpoints) = (number(0, 10_000), number(1, 10));
    println!("{services} Services with {endpoints} endpoints each");
    let ours = in_netns(make_net().unwrap(), || podway(services, endpoints)).unwrap();
    let Some(rules) = arguments.get(2) else { return };
    let theirs = in_netns(make_net().unwrap(), || nft(rules)).unwrap();
    println!("kube-proxy's shape by nft -f    {:>9.1} ms", millis(theirs));
    println!("first apply ratio: {:.1}", theirs.as_secs_f64() / ours.as_secs_f64());
}

fn podway(services: u32, endpoints: u32) -> Duration {
    let settings = compile::Settings::new(vec!["10.128.0.0/9".parse().unwrap()]);
    let mut world = world(services, endpoints);
    let begin = Instant::now();
    let mut program = compile::compile(&world, NODE, &settings).0;
    println!("compile                         {:>9.1} ms", millis(begin.elapsed()));
    let mut backend = Backend::open().unwrap();
    let begin = Instant::now();
    let applied = backend.reconcile(&program).unwrap();
    let first = begin.elapsed();
    println!(
        "first apply                     {:>9.1} ms   {} elements, {} transaction(s)",
        millis(first),
        applied.elements,
        applied.transactions
    );
    println!("memory of world and program      {:>9.1} MB", resident_megabytes());
    let begin = Instant::now();
    assert_eq!(backend.reconcile(&program).unwrap().elements, 0, "nothing differs");
    println!("a restarted agent's comparison  {:>9.1} ms", millis(begin.elapsed()));
    changes(&mut world, &mut program, &mut backend, &settings, services, endpoints);
    first
}

/// One endpoint of one Service gets another address: all of it, from object to commit, and the commit alone.
fn changes(
    world: &mut World,
    program: &mut Program,
    backend: &mut Backend,
    settings: &compile::Settings,
    services: u32,
    endpoints: u32,
) {
    let (mut whole, mut commit) = (Vec::new(), Vec::new());
    for round in 0..CHANGES {
        let service = (round * 7919) % services;
        let change = Change::Applied(Box::new(slice(service, endpoints, round + 1)));
        let begin = Instant::now();
        let mut changes = Vec::new();
        for touched in world.apply(change) {
            assert!(matches!(touched, Touched::Service(ObjectKey { .. })));
            changes.extend(compile::recompile(program, world, NODE, settings, &touched).0);
        }
        let compiled = Instant::now();
        backend.change(program, &changes).unwrap();
        whole.push(begin.elapsed());
        commit.push(compiled.elapsed());
    }
    for (what, times) in
        [("one change, object to commit", &mut whole), ("of it lower, send, commit", &mut commit)]
    {
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
        println!("{what:31} {:>9.1} µs p50, {:.1} µs p99", at(50), at(99));
    }
}

/// What this process has resident (`VmRSS` of proc_pid_status(5)).
fn resident_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn nft(rules: &str) -> Duration {
    let begin = Instant::now();
    let status = Command::new("nft").args(["-f", rules]).status().unwrap();
    assert!(status.success(), "nft -f {rules}");
    begin.elapsed()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn world(services: u32, endpoints: u32) -> World {
    let node = object(&json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "spec": {"podCIDR": "10.128.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"}]},
    }));
    let both = (0..services).flat_map(|number| [service(number), slice(number, endpoints, 0)]);
    World::from_objects(std::iter::once(node).chain(both))
}

fn service(number: u32) -> Object {
    let [_, b, c, d] = (0x0a60_0001 + number).to_be_bytes();
    object(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{number}"), "namespace": "default"},
        "spec": {"clusterIP": format!("10.{b}.{c}.{d}"), "ports": [{"port": 80}]},
    }))
}

/// The first endpoint's address depends on `round`.
fn slice(service: u32, endpoints: u32, round: u32) -> Object {
    let address = |index: u32| {
        let shift = if index == 0 { round * 131 } else { 0 };
        let [_, b, c, d] =
            (0x0a80_0000 + (service * endpoints + index + shift) % 0x7f_0000).to_be_bytes();
        json!({"addresses": [format!("10.{b}.{c}.{d}")]})
    };
    object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("service-{service}-x"), "namespace": "default",
                     "labels": {"kubernetes.io/service-name": format!("service-{service}")}},
        "ports": [{"port": 8080}], "endpoints": (0..endpoints).map(address).collect::<Vec<_>>(),
    }))
}

fn object(value: &serde_json::Value) -> Object {
    Object::parse(value).unwrap()
}
