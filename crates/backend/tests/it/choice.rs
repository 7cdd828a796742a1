//! Who gets a connection, where it is not all the same: weights, hashes of the client, and clients that come again.

use crate::cluster::{NODE, nodes, object, pod_at, settings};
use crate::probe::Sight;
use crate::proxy::Kind;
use crate::space::as_root;
use crate::testbed::{CLIENT, Testbed, compiled};
use backend::iptables::Variant;
use model::{Change, Object, Protocol, Touched, World};
use program::{Packet, Program};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// A Service at 10.96.0.1:80 and node port 30000 over the pods .2 to .7, or as many of them.
fn service(annotations: Value, spec: &Value) -> Object {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "default", "annotations": annotations},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.1",
                 "ports": [{"protocol": "UDP", "port": 80, "nodePort": 30_000}]},
    });
    for (name, value) in spec.as_object().unwrap() {
        object["spec"][name] = value.clone();
    }
    crate::cluster::object(&object)
}

fn slice(hosts: &[u8], weights: &str) -> Object {
    let endpoint = |host: &u8| json!({"addresses": [format!("10.244.1.{host}")], "nodeName": NODE});
    object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "s-1", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "s"},
                     "annotations": {"podway.io/weights": weights}},
        "ports": [{"protocol": "UDP", "port": 8080}],
        "endpoints": hosts.iter().map(endpoint).collect::<Vec<_>>(),
    }))
}

fn world(objects: impl IntoIterator<Item = Object>) -> World {
    let pods = (2..8).map(|host| object(&pod_at(&format!("here-{host}"), 1, host)));
    World::from_objects(nodes().into_iter().chain(pods).chain(objects))
}

struct Node {
    testbed: Testbed,
    world: World,
    program: Program,
    port: u16,
}

impl Node {
    fn start(kind: Kind, objects: impl IntoIterator<Item = Object>) -> Self {
        let world = world(objects);
        let program = compiled(&world, &settings());
        let mut testbed = Testbed::with(kind);
        testbed.start(&program);
        Node { testbed, world, program, port: 10_000 }
    }

    fn change(&mut self, object: Object) {
        let touched: BTreeSet<Touched> =
            self.world.apply(Change::Applied(Box::new(object))).into_iter().collect();
        let (program, world) = (&mut self.program, &self.world);
        let made = touched
            .iter()
            .flat_map(|touched| compile::recompile(program, world, NODE, &settings(), touched).0);
        let made: Vec<_> = made.collect();
        self.testbed.change(&self.program, &made);
    }

    /// Who answers another connection.
    #[track_caller]
    fn ask(&mut self, from: IpAddr, to: &str) -> SocketAddr {
        self.port += 1;
        let to = to.parse().unwrap();
        let packet =
            Packet { protocol: Protocol::Udp, source: (from, self.port).into(), destination: to };
        match self.testbed.watch(packet, true, PATIENCE) {
            Sight::Reached { by, answered: true, .. } => by,
            other => panic!("{packet:?}: {other:?}"),
        }
    }
}

const IPTABLES: [Kind; 2] = [Kind::Iptables(Variant::Nft), Kind::Iptables(Variant::Legacy)];
const CLUSTER_IP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "10.1.1.111:30000";

#[test]
fn weights_are_shares_of_connections() {
    as_root("choice::weights_are_shares_of_connections", || {
        let weights = "10.244.1.2=5,10.244.1.3=2";
        for kind in [Kind::Nft].into_iter().chain(IPTABLES) {
            let node = Node::start(kind, [service(json!({}), &json!({})), slice(&[2, 3], weights)]);
            let shares = node.testbed.shares(CLUSTER_IP.parse().unwrap(), 700, PATIENCE);
            println!("{kind:?}, weights 5 and 2: {shares:?}");
            let heavy = shares[&"10.244.1.2:8080".parse().unwrap()];
            assert_eq!(shares.values().sum::<usize>(), 700);
            // Six standard deviations of a binomial distribution around 500.
            assert!((430..=570).contains(&heavy), "{shares:?}");
        }
    });
}

#[test]
fn a_hashed_client_stays_and_few_move_with_an_endpoint() {
    as_root("choice::a_hashed_client_stays_and_few_move_with_an_endpoint", || {
        for scheduler in ["mh", "sh"] {
            let annotations = json!({"podway.io/lb-algorithm": scheduler});
            let all = [2, 3, 4, 5, 6, 7];
            let objects = [service(annotations, &json!({})), slice(&all, "")];
            let mut node = Node::start(Kind::Nft, objects);
            let clients: Vec<IpAddr> =
                [CLIENT, "10.244.1.2".parse().unwrap(), "10.244.1.3".parse().unwrap()].into();
            let mut first = Vec::new();
            for client in &clients {
                let answers: BTreeSet<_> = (0..8).map(|_| node.ask(*client, CLUSTER_IP)).collect();
                assert_eq!(answers.len(), 1, "{scheduler}: {client} is with {answers:?}");
                first.extend(answers);
            }
            if scheduler == "mh" {
                // Who leaves is nobody's endpoint: all clients stay where they are.
                let stays =
                    |host: &u8| first.contains(&SocketAddr::from(([10, 244, 1, *host], 8080)));
                let (kept, others): (Vec<u8>, Vec<u8>) = all.into_iter().partition(stays);
                let left = [kept, others[1..].to_vec()].concat();
                node.change(slice(&left, ""));
                let again: Vec<_> =
                    clients.iter().map(|client| node.ask(*client, CLUSTER_IP)).collect();
                let moved = first.iter().zip(&again).filter(|(was, is)| was != is).count();
                assert!(moved <= 1, "{first:?} became {again:?}");
            }
        }
    });
}

#[test]
fn a_client_keeps_its_endpoint_on_all_front_ends_until_it_is_gone() {
    as_root("choice::a_client_keeps_its_endpoint_on_all_front_ends_until_it_is_gone", || {
        for kind in [Kind::Nft].into_iter().chain(IPTABLES) {
            keeps_its_endpoint(kind);
        }
    });
}

fn keeps_its_endpoint(kind: Kind) {
    let affinity = json!({"sessionAffinity": "ClientIP"});
    let mut node = Node::start(kind, [service(json!({}), &affinity), slice(&[2, 3, 4, 5], "")]);
    let first = node.ask(CLIENT, CLUSTER_IP);
    for front_end in [CLUSTER_IP, NODE_PORT].repeat(8) {
        assert_eq!(node.ask(CLIENT, front_end), first, "{front_end}");
    }
    let gone = match first.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => panic!("{first}"),
    };
    let left: Vec<u8> = [2, 3, 4, 5].into_iter().filter(|host| *host != gone).collect();
    node.change(slice(&left, ""));
    let second = node.ask(CLIENT, NODE_PORT);
    assert_ne!(second, first);
    for front_end in [CLUSTER_IP, NODE_PORT].repeat(8) {
        assert_eq!(node.ask(CLIENT, front_end), second, "{front_end}");
    }
    // Back again, but nobody's any more.
    node.change(slice(&[2, 3, 4, 5], ""));
    assert_eq!(node.ask(CLIENT, CLUSTER_IP), second);
    // An agent that starts anew leaves the memory alone.
    node.testbed.assert_settled(&node.program);
    assert_eq!(node.ask(CLIENT, CLUSTER_IP), second);
}

/// Memory lasts as long as the Service says, after the last connection.
#[test]
fn memory_ends() {
    as_root("choice::memory_ends", || {
        let affinity = json!({
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}},
        });
        let objects = [service(json!({}), &affinity), slice(&[2, 3, 4, 5], "")];
        let mut node = Node::start(Kind::Nft, objects);
        node.ask(CLIENT, CLUSTER_IP);
        let listed = node.testbed.listed();
        assert!(listed.contains("update @memory"), "{listed}");
        let begin = std::time::Instant::now();
        while node.testbed.remembers() {
            assert!(begin.elapsed() < PATIENCE, "still remembered");
        }
        assert!(begin.elapsed() > Duration::from_millis(500), "forgotten at once");
    });
}
