//! What the kernel does = what the trace says = what the specification says, packet by packet.
//!
//! Longer: `PODWAY_CASES=500`; a failure again: `PODWAY_SEED=n`, both as printed.

use crate::cluster::{
    NODE, Shot, any_settings, arrival, changes, nodes, object, pod_at, settings, shot,
};
use crate::ipvs::owned;
use crate::oracle::{Fate, fate};
use crate::probe::Sight;
use crate::proxy::Kind;
use crate::space::as_root;
use crate::testbed::{CLIENT, CLIENT_V6, Testbed, compiled};
use backend::iptables::Variant;
use compile::Settings;
use model::{Change, Object, Protocol, Touched, World};
use program::{Arrival, Outcome, Packet, Program};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Duration;

/// Clusters with seeds that are always the same, and with seeds that never were.
pub(crate) const FIXED: Range<u64> = 0..56;
pub(crate) const FRESH: u64 = 8;
/// The same on an emulated machine, where all takes ten times as long.
pub(crate) const FIXED_EMULATED: Range<u64> = 0..16;
pub(crate) const FRESH_EMULATED: u64 = 4;
/// Source ports, below those that the kernel gives out itself.
pub(crate) const PORTS: Range<u16> = 10_000..29_000;
/// Packets between two changes.
const PACKETS: usize = 3;
/// An answer takes a fraction of a millisecond; a busy machine may take its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait where nobody may answer; whoever is late then is taken for silent, which is allowed.
pub(crate) const SILENCE: Duration = Duration::from_millis(60);

#[test]
fn kernel_trace_and_specification_agree() {
    as_root("agreement::kernel_trace_and_specification_agree", || {
        println!("{}", Tally::new(Kind::Nft, drawn).agree(seeds(FIXED, FRESH)));
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn ipvs_trace_and_specification_agree() {
    as_root("agreement::ipvs_trace_and_specification_agree", || {
        println!("{}", Tally::new(Kind::Ipvs, drawn).agree(seeds(FIXED_EMULATED, FRESH_EMULATED)));
    });
}

/// A change takes children, so these are fewer.
#[test]
fn kernel_trace_and_specification_agree_on_iptables() {
    as_root("agreement::kernel_trace_and_specification_agree_on_iptables", || {
        for variant in Variant::ALL {
            println!("{}", Tally::new(Kind::Iptables(variant), drawn).agree(seeds(14..20, 1)));
        }
    });
}

/// Pearson's chi-square over many connections, with a bound that chance exceeds once in three million runs.
#[test]
fn every_endpoint_gets_its_share() {
    as_root("agreement::every_endpoint_gets_its_share", || {
        shares_are_fair(Kind::Nft, &[1, 2, 3, 5, 12]);
        for variant in Variant::ALL {
            shares_are_fair(Kind::Iptables(variant), &[3, 12]);
        }
    });
}

fn shares_are_fair(kind: Kind, numbers: &[usize]) {
    let mut testbed = Testbed::with(kind);
    for number in numbers.iter().copied() {
        testbed.start(&compiled(&balanced_over(number), &settings()));
        let connections = 60 * number;
        let shares = testbed.shares("10.96.0.1:80".parse().unwrap(), connections, PATIENCE);
        println!("{kind:?}, {number} endpoints: {:?}", shares.values().collect::<Vec<_>>());
        assert_eq!(shares.values().sum::<usize>(), connections, "{shares:?}");
        assert!(shares.len() <= number, "{shares:?}");
        let far = |share: usize| (share as f64 - 60.0).powi(2) / 60.0;
        let missing = (number - shares.len()) as f64 * far(0);
        let chi_square = shares.values().map(|share| far(*share)).sum::<f64>() + missing;
        assert!(chi_square <= bound(number - 1), "{number} endpoints: {shares:?}");
    }
}

/// Endpoints come and go, and the classes of rules with them; connections meanwhile always find one.
#[test]
fn no_connection_is_lost_while_the_table_changes() {
    as_root("agreement::no_connection_is_lost_while_the_table_changes", || {
        println!("{}", lose_nothing(Kind::Nft, 100));
    });
}

/// A change takes children, so these are fewer.
#[test]
fn iptables_loses_no_connection_while_it_changes() {
    as_root("agreement::iptables_loses_no_connection_while_it_changes", || {
        for variant in Variant::ALL {
            println!("{variant:?}: {}", lose_nothing(Kind::Iptables(variant), 6));
        }
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn ipvs_loses_no_connection_while_it_changes() {
    as_root("agreement::ipvs_loses_no_connection_while_it_changes", || {
        println!("{}", lose_nothing(Kind::Ipvs, 20));
    });
}

/// How many connections there were, none of which was lost.
fn lose_nothing(kind: Kind, rounds: usize) -> String {
    let mut testbed = Testbed::with(kind);
    let mut world = balanced_over(1);
    let mut program = compiled(&world, &settings());
    testbed.start(&program);
    let mut change = |number| {
        let mut made = Vec::new();
        for object in service_over(number) {
            for touched in world.apply(Change::Applied(Box::new(object))) {
                made.extend(
                    compile::recompile(&mut program, &world, NODE, &settings(), &touched).0,
                );
            }
        }
        made
    };
    let changes: Vec<_> = [2, 7, 1, 12, 3].repeat(rounds).into_iter().map(&mut change).collect();
    let to = "10.96.0.1:80".parse().unwrap();
    let packets = PORTS.map(|port| Packet {
        protocol: Protocol::Udp,
        source: (CLIENT, port).into(),
        destination: to,
    });
    let sights = testbed.watch_while_changing(packets, PATIENCE, &program, &changes);
    assert!(!sights.is_empty());
    // IPVS ends what a datagram began when its endpoint goes, and so may lose an answer that is under way.
    let kept = |sight: &&Sight| match sight {
        Sight::Reached { answered, .. } => *answered || kind == Kind::Ipvs,
        _ => false,
    };
    assert_eq!(sights.iter().filter(kept).count(), sights.len(), "{sights:?}");
    testbed.assert_settled(&program);
    format!("{} connections during {} changes", sights.len(), changes.len())
}

/// Five standard deviations (Wilson and Hilferty's approximation).
fn bound(freedom: usize) -> f64 {
    let freedom = freedom as f64;
    let spread = 2.0 / (9.0 * freedom);
    if freedom == 0.0 { 0.0 } else { freedom * (1.0 - spread + 5.0 * spread.sqrt()).powi(3) }
}

fn balanced_over(number: usize) -> World {
    let objects = nodes().into_iter().chain((2..8).map(pod_here));
    World::from_objects(objects.chain(service_over(number)))
}

/// A Service with so many endpoints: six pods with two ports each.
fn service_over(number: usize) -> [Object; 3] {
    let service = object(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{"protocol": "UDP", "port": 80}]},
    }));
    let all: Vec<(u16, u8)> =
        [8080, 8081].into_iter().flat_map(|port| (2..8).map(move |host| (port, host))).collect();
    let slice = |port: u16| {
        let hosts = all[..number].iter().filter(|(at, _)| *at == port);
        let endpoints: Vec<_> = hosts
            .map(|(_, host)| json!({"addresses": [format!("10.244.1.{host}")], "nodeName": NODE}))
            .collect();
        object(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("s-{port}"), "namespace": "default",
                         "labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"protocol": "UDP", "port": port}], "endpoints": endpoints,
        }))
    };
    [service, slice(8080), slice(8081)]
}

pub(crate) fn seeds(fixed: Range<u64>, fresh: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("PODWAY_SEED") {
        return vec![seed];
    }
    let known = fixed.end - fixed.start;
    let cases = number("PODWAY_CASES").unwrap_or(known + fresh);
    let other = RandomState::new().hash_one(cases);
    let unknown = (known..cases).map(|case| other.wrapping_add(case));
    fixed.take(cases.try_into().unwrap()).chain(unknown).collect()
}

/// One testbed that goes through many clusters, and what was seen in it.
pub(crate) struct Tally {
    testbed: Testbed,
    draw: fn(u64) -> Drawn,
    /// The last source port: none is used twice, so that no packet belongs to an old connection.
    port: u16,
    seen: usize,
    /// Those that reached an endpoint of a Service.
    balanced: usize,
    wrong: Vec<String>,
}

impl Tally {
    pub(crate) fn new(kind: Kind, draw: fn(u64) -> Drawn) -> Self {
        Tally {
            testbed: Testbed::with(kind),
            draw,
            port: PORTS.start,
            seen: 0,
            balanced: 0,
            wrong: Vec::new(),
        }
    }

    /// How often they did, which is always.
    pub(crate) fn agree(mut self, seeds: Vec<u64>) -> String {
        seeds.into_iter().for_each(|seed| self.cluster(seed));
        let Tally { seen, balanced, wrong, .. } = self;
        assert!(wrong.is_empty(), "{} of {seen}: {}", wrong.len(), wrong.concat());
        assert!(balanced > 0, "no packet met a Service");
        format!("agreement: {seen} of {seen} packets, {balanced} to an endpoint")
    }

    /// The agent was away while the old cluster became a new one; then it hears of each change.
    fn cluster(&mut self, seed: u64) {
        let (settings, changes, shots) = (self.draw)(seed);
        let settings = Settings { schedulers: self.testbed.schedulers(), ..settings };
        let mut shots = shots.into_iter().cycle();
        let mut world = World::from_objects(nodes().into_iter().chain(senders()));
        let (missed, heard) = changes.split_at(changes.len() / 3);
        missed.iter().cloned().for_each(|change| drop(world.apply(change)));
        let mut program = compiled(&world, &settings);
        self.testbed.start(&program);
        for (number, change) in heard.iter().cloned().enumerate() {
            let touched: BTreeSet<Touched> = world.apply(change).into_iter().collect();
            let recompiled = touched.iter().flat_map(|touched| {
                compile::recompile(&mut program, &world, NODE, &settings, touched).0
            });
            let made: Vec<_> = recompiled.collect();
            self.testbed.change(&program, &made);
            if number % 4 == 3 {
                self.testbed.assert_settled(&program);
            }
            for shot in shots.by_ref().take(PACKETS) {
                let case = Case { seed, world: &world, settings: &settings, program: &program };
                self.packet(&case, shot.at(&program));
            }
        }
        self.testbed.assert_settled(&program);
    }

    fn packet(&mut self, case: &Case<'_>, mut packet: Packet) {
        self.port = if self.port == PORTS.end { PORTS.start } else { self.port + 1 };
        packet.source.set_port(self.port);
        if !self.testbed.crosses(&packet) {
            return;
        }
        let arrival = arrival(packet.source.ip());
        let mut expected = expected(case.program, packet, arrival);
        if matches!(self.testbed.kind(), Kind::Iptables(_)) {
            let sights = expected.into_iter();
            expected = sights.map(|sight| sent_back(case.program, &packet, sight)).collect();
        }
        let specified = fate(case.world, case.settings, &packet, arrival);
        let owns = self.testbed.owns(packet.destination.ip());
        if owns && specified == Fate::Untouched {
            expected = BTreeSet::from([Sight::Refused]);
        }
        let specified = owned(specified, owns);
        if packet.protocol != Protocol::Udp && expected.iter().any(is_one_way) {
            // Without a way back there is no handshake, so nobody is reached.
            return;
        }
        let answer = !expected.iter().any(is_one_way);
        let silence = expected.contains(&Sight::Unreachable) || expected.contains(&Sight::Silence);
        let patience = if silence { SILENCE } else { PATIENCE };
        let sight = self.testbed.watch(packet, answer, patience);
        self.seen += 1;
        self.balanced += usize::from(is_balanced(&specified) && is_reached(&sight));
        let traced = expected.contains(&sight) || is_unheard(sight, &expected);
        if traced && fits(&specified, &packet, sight) {
            return;
        }
        let seed = case.seed;
        let mut text = format!("\nPODWAY_SEED={seed}: {packet:?} ({arrival:?}): {sight:?}");
        write!(text, "\n  trace {expected:?}\n  specification {specified:?}\n").unwrap();
        self.wrong.push(text);
    }
}

/// What a packet meets.
struct Case<'a> {
    seed: u64,
    world: &'a World,
    settings: &'a Settings,
    program: &'a Program,
}

/// What agents are told, what becomes of a cluster, and packets.
pub(crate) type Drawn = (Settings, Vec<Change>, Vec<Shot>);

pub(crate) fn drawn(seed: u64) -> Drawn {
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let source = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let mut runner = TestRunner::new_with_rng(Config::default(), source);
    let strategy = (any_settings(), changes(), prop::collection::vec(shot(), 96));
    strategy.new_tree(&mut runner).unwrap().current()
}

/// The pods that packets come from: they are there before anything else.
pub(crate) fn senders() -> impl Iterator<Item = Object> {
    [2, 3, 4, 5].into_iter().map(pod_here)
}

fn pod_here(host: u8) -> Object {
    object(&pod_at(&format!("here-{host}"), 1, host))
}

/// All that the program's random choices can lead to.
fn expected(program: &Program, packet: Packet, arrival: Arrival) -> BTreeSet<Sight> {
    let mut sights = BTreeSet::new();
    let (mut number, mut next) = (1, 0);
    while next < number {
        let trace = program::trace(program, packet, arrival, |pool| {
            number = pool.len();
            next
        });
        sights.insert(match trace.outcome {
            Outcome::Rejected => Sight::Refused,
            Outcome::Unreachable => Sight::Unreachable,
            Outcome::Dropped => Sight::Silence,
            outcome => {
                let (by, source) = (trace.packet.destination, trace.packet.source.ip());
                let translated = by != packet.destination && source == packet.source.ip();
                let past_us = matches!(outcome, Outcome::Peer { .. })
                    && Testbed::has_shortcut(packet.source.ip());
                Sight::Reached { by, source, answered: !(translated && past_us) }
            }
        });
        next += 1;
    }
    sights
}

/// kube-proxy's rules replace the source of every connection to its own sender, also where that is a pod of another
/// node, whose Services are at home there.
fn sent_back(program: &Program, packet: &Packet, sight: Sight) -> Sight {
    let sender = packet.source.ip();
    match sight {
        Sight::Reached { by, .. } if by.ip() == sender && Testbed::has_shortcut(sender) => {
            let source = program.network_of(sender).unwrap().tunnel_address;
            Sight::Reached { by, source, answered: true }
        }
        other => other,
    }
}

fn is_one_way(sight: &Sight) -> bool {
    matches!(sight, Sight::Reached { answered: false, .. })
}

fn is_reached(sight: &Sight) -> bool {
    matches!(sight, Sight::Reached { .. })
}

fn is_balanced(fate: &Fate) -> bool {
    matches!(fate, Fate::Balanced { .. })
}

/// Nobody was reached and nobody told the sender: the kernel tells one source of dead ends five
/// times, then once a second (`ip_error` in net/ipv4/route.c), and its own TCP not at all when the
/// dead end is behind a translation.
fn is_unheard(sight: Sight, expected: &BTreeSet<Sight>) -> bool {
    sight == Sight::Silence && expected.contains(&Sight::Unreachable)
}

/// Whether the specification allows it.
fn fits(fate: &Fate, packet: &Packet, sight: Sight) -> bool {
    match (fate, sight) {
        (Fate::Refused, sight) => sight == Sight::Refused,
        (Fate::Dropped, sight) => sight == Sight::Silence,
        (_, Sight::Unreachable | Sight::Silence) => true,
        (_, Sight::Refused) => false,
        (Fate::Untouched, Sight::Reached { by, .. }) => by == packet.destination,
        (Fate::Balanced { endpoints, masqueraded }, Sight::Reached { by, source, .. }) => {
            // From the node itself the source is the node's own anyway; a pod never speaks to itself.
            let client = packet.source.ip();
            let plain = [CLIENT, CLIENT_V6].contains(&client);
            endpoints.contains(&by) && (!plain || *masqueraded == (source != client))
        }
    }
}
