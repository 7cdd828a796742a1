//! Programming Services: the first apply, one endpoint's change and a burst of them, against kube-proxy's nftables shape.
//!
//! `cargo bench -p backend --bench services -- SERVICESxENDPOINTS[=KUBE-PROXY-SHAPE.nft] …`, as root; each size and
//! each side works in a network namespace of its own. A file with the peer's rules is loaded with `nft -f`.
//!
//! Times are CPU time, the kernel's work included, so that others may use the machine too; where one waits for the
//! clock, as for one change, it is that as well.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and ends at the first error"
)]

use backend::nft::{Applied, Backend};
use compile::Settings;
use kernel::namespace::{in_netns, make_net};
use model::{Change, Object, Touched, World};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use program::Program;
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};

const NODE: &str = "node-1";
const CHANGES: u32 = 1000;

fn main() {
    let sizes: Vec<_> = std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with("--"))
        .map(|it| Size::of(&it))
        .collect();
    println!("ms and µs of CPU time, but for the percentiles, which are by the clock");
    let heads = [
        "first apply",
        "elements",
        "kube-proxy",
        "ratio",
        "restart",
        "change",
        "p50",
        "p99",
        "burst",
    ];
    println!("{:>10} {}", "", heads.map(|head| format!("{head:>11}")).concat());
    let mut costs = Vec::new();
    for size in &sizes {
        let ours = in_netns(make_net().unwrap(), || podway(size)).unwrap();
        let theirs =
            size.peer.as_ref().map(|rules| in_netns(make_net().unwrap(), || nft(rules)).unwrap());
        let ratio = theirs.map(|it| it.as_secs_f64() / ours.first.as_secs_f64());
        let text = |value: Option<f64>, unit| {
            value.map_or("–".to_owned(), |it| format!("{it:.1}{unit}"))
        };
        let row = [
            text(Some(millis(ours.first)), " ms"),
            ours.applied.elements.to_string(),
            text(theirs.map(millis), " ms"),
            text(ratio, ""),
            text(Some(millis(ours.restart)), " ms"),
            text(Some(micros(ours.change)), " µs"),
            text(Some(micros(ours.percentile(50))), " µs"),
            text(Some(micros(ours.percentile(99))), " µs"),
            text(Some(millis(ours.burst)), " ms"),
        ];
        println!("{:>10} {}", size.name(), row.map(|cell| format!("{cell:>11}")).concat());
        costs.push((size, ours.change));
    }
    for (first, last) in costs.iter().zip(costs.iter().skip(1).rev()) {
        if first.0.endpoints == last.0.endpoints && first.0.services < last.0.services {
            let growth = micros(last.1) / micros(first.1);
            let slope =
                growth.ln() / (f64::from(last.0.services) / f64::from(first.0.services)).ln();
            println!(
                "a change's cost from {} to {}: times {growth:.2}, slope {slope:.3}",
                first.0.name(),
                last.0.name()
            );
        }
    }
}

/// How many Services, how many endpoints each of them has, and the peer's rules for as many.
struct Size {
    services: u32,
    endpoints: u32,
    peer: Option<String>,
}

impl Size {
    fn of(argument: &str) -> Self {
        let (size, peer) =
            argument.split_once('=').map_or((argument, None), |(size, peer)| (size, Some(peer)));
        let (services, endpoints) = size.split_once('x').unwrap();
        Size {
            services: services.parse().unwrap(),
            endpoints: endpoints.parse().unwrap(),
            peer: peer.map(str::to_owned),
        }
    }

    fn name(&self) -> String {
        format!("{}x{}", self.services, self.endpoints)
    }
}

struct Figures {
    applied: Applied,
    /// Making all rules where there are none.
    first: Duration,
    /// What an agent that starts again does to find that nothing differs.
    restart: Duration,
    /// One endpoint's change, from object to commit: CPU, and each by the clock.
    change: Duration,
    changes: Vec<Duration>,
    /// A thousand endpoints' changes that come at once.
    burst: Duration,
}

impl Figures {
    fn percentile(&self, share: usize) -> Duration {
        self.changes[self.changes.len() * share / 100]
    }
}

fn podway(size: &Size) -> Figures {
    let settings = Settings::new(vec!["10.128.0.0/9".parse().unwrap()]);
    let mut world = world(size);
    let mut program = compile::compile(&world, NODE, &settings).0;
    let mut backend = Backend::open().unwrap();
    let (first, applied) = spent(|| backend.reconcile(&program).unwrap());
    let (restart, again) = spent(|| backend.reconcile(&program).unwrap());
    assert_eq!(again.elements, 0, "nothing differs");
    let mut changes = Vec::new();
    let (change, ()) = spent(|| {
        for round in 1..=CHANGES {
            let slice = slice((round * 7919) % size.services, size.endpoints, round);
            let begin = Instant::now();
            let changed = recompiled(&mut world, &mut program, &settings, slice);
            backend.change(&program, &changed).unwrap();
            changes.push(begin.elapsed());
        }
    });
    changes.sort_unstable();
    let slices: Vec<_> = (0..CHANGES)
        .map(|number| slice((number * 31) % size.services, size.endpoints, CHANGES + 1 + number))
        .collect();
    let (burst, ()) = spent(|| {
        let changed =
            slices.into_iter().flat_map(|it| recompiled(&mut world, &mut program, &settings, it));
        let changed: Vec<_> = changed.collect();
        backend.change(&program, &changed).unwrap();
    });
    Figures { applied, first, restart, change: change / CHANGES, changes, burst }
}

fn recompiled(
    world: &mut World,
    program: &mut Program,
    settings: &Settings,
    slice: Object,
) -> Vec<program::Change> {
    let mut changes = Vec::new();
    for touched in world.apply(Change::Applied(Box::new(slice))) {
        assert!(matches!(touched, Touched::Service(_)));
        changes.extend(compile::recompile(program, world, NODE, settings, &touched).0);
    }
    changes
}

fn nft(rules: &str) -> Duration {
    let before = cpu(UsageWho::RUSAGE_CHILDREN);
    let status = Command::new("nft").args(["-f", rules]).status().unwrap();
    assert!(status.success(), "nft -f {rules}");
    cpu(UsageWho::RUSAGE_CHILDREN) - before
}

fn spent<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let before = cpu(UsageWho::RUSAGE_SELF);
    let outcome = work();
    (cpu(UsageWho::RUSAGE_SELF) - before, outcome)
}

fn cpu(who: UsageWho) -> Duration {
    let usage = getrusage(who).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.try_into().unwrap())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn world(size: &Size) -> World {
    let node = object(&json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "spec": {"podCIDR": "10.128.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"}]},
    }));
    let both =
        (0..size.services).flat_map(|number| [service(number), slice(number, size.endpoints, 0)]);
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
