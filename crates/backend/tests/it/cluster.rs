//! Random clusters: three nodes, some pods, Services and slices, and sequences of changes.

use model::{Change, Kind, Object, ObjectKey, World};
use program::{Action, Binding, Frontend, Packet, Program, Scope};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) const NODE: &str = "node-1";

pub(crate) fn settings() -> compile::Settings {
    compile::Settings::new(vec!["10.244.0.0/16".parse().unwrap()])
}

pub(crate) fn object(value: &Value) -> Object {
    Object::parse(value).unwrap_or_else(|error| panic!("{error}: {value}"))
}

pub(crate) fn nodes() -> Vec<Object> {
    let node = |number: u8| {
        object(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": format!("node-{number}"), "annotations": {
                "flannel.alpha.coreos.com/backend-type": "vxlan",
                "flannel.alpha.coreos.com/backend-data":
                    format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:00:0{number}"}}"#),
                "flannel.alpha.coreos.com/public-ip": format!("10.1.1.11{number}"),
            }},
            "spec": {"podCIDR": format!("10.244.{number}.0/24")},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("10.1.1.11{number}")}]},
        }))
    };
    (1..=3).map(node).collect()
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    changes().prop_map(|changes| {
        let mut world = World::from_objects(nodes());
        changes.into_iter().for_each(|change| drop(world.apply(change)));
        world
    })
}

/// Objects that come, change and go; few names, so that they meet.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 1..40)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => service().prop_map(applied),
        10 => slice().prop_map(applied),
        4 => pod().prop_map(applied),
        1 => (0..4_u8).prop_map(|name| removed(Kind::Service, &format!("s{name}"))),
        1 => (0..6_u8).prop_map(|name| removed(Kind::EndpointSlice, &format!("e{name}"))),
        1 => (0..6_u8).prop_map(|name| removed(Kind::Pod, &format!("p{name}"))),
    ]
}

fn applied(value: Value) -> Change {
    Change::Applied(Box::new(object(&value)))
}

fn removed(kind: Kind, name: &str) -> Change {
    Change::Removed(kind, ObjectKey::new("default", name))
}

fn service() -> impl Strategy<Value = Value> {
    let port = (port_name(), 0..3_u16, any::<bool>());
    (0..4_u8, 0..3_u8, prop::collection::vec(port, 1..3), 0..4_u8, any::<bool>()).prop_map(
        |(name, kind, ports, ip, other_proxy)| {
            let kind = ["ClusterIP", "NodePort", "LoadBalancer"][usize::from(kind)];
            let ports = ports.into_iter().map(|((name, protocol), port, node_port)| {
                let node_port = if node_port { json!(30_000 + port) } else { Value::Null };
                json!({"name": format!("n{name}"), "protocol": protocol, "port": 80 + port, "nodePort": node_port})
            });
            let label = if other_proxy && ip == 3 { json!({"service.kubernetes.io/service-proxy-name": "x"}) } else { json!({}) };
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": format!("s{name}"), "namespace": "default", "labels": label},
                "spec": {"type": kind, "clusterIP": format!("10.96.0.{}", ip + 1), "ports": ports.collect::<Vec<_>>()},
            })
        },
    )
}

/// Name and protocol of a port: slices and Services mostly mean the same.
fn port_name() -> impl Strategy<Value = (u8, &'static str)> {
    prop_oneof![5 => Just((0, "TCP")), 5 => Just((1, "UDP")), 1 => Just((0, "UDP")), 1 => Just((1, "TCP"))]
}

fn slice() -> impl Strategy<Value = Value> {
    let endpoint = (0..3_u8, 0..6_u8, any::<Option<bool>>(), any::<bool>(), any::<bool>());
    let port = (port_name(), 0..2_u16);
    let (endpoints, ports) =
        (prop::collection::vec(endpoint, 0..5), prop::collection::vec(port, 1..4));
    (0..6_u8, 0..4_u8, endpoints, ports).prop_map(|(name, service, endpoints, ports)| {
        let endpoints = endpoints.into_iter().map(|(node, host, ready, serving, terminating)| {
            json!({
                "addresses": [format!("10.244.{}.{}", node + 1, host + 2)],
                "nodeName": format!("node-{}", node + 1),
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            })
        });
        let ports = ports.into_iter().map(|((name, protocol), port)| {
            json!({"name": format!("n{name}"), "protocol": protocol, "port": 8080 + port})
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("e{name}"), "namespace": "default",
                         "labels": {"kubernetes.io/service-name": format!("s{service}")}},
            "ports": ports.collect::<Vec<_>>(), "endpoints": endpoints.collect::<Vec<_>>(),
        })
    })
}

fn pod() -> impl Strategy<Value = Value> {
    (0..6_u8, 0..6_u8, prop_oneof![3 => Just(1), 1 => Just(2)]).prop_map(|(name, host, node)| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{name}"), "namespace": "default"},
            "spec": {"nodeName": format!("node-{node}"), "containers": [{"name": "c"}]},
            "status": {"phase": "Running", "podIP": format!("10.244.{node}.{}", host + 2)},
        })
    })
}

/// Packets, most of them aimed at a front end of the program that they meet.
pub(crate) fn shot() -> impl Strategy<Value = Shot> {
    let aim = prop::option::weighted(0.7, any::<prop::sample::Index>());
    (packet(), aim).prop_map(|(packet, aim)| Shot { packet, aim })
}

#[derive(Debug, Clone)]
pub(crate) struct Shot {
    packet: Packet,
    aim: Option<prop::sample::Index>,
}

impl Shot {
    pub(crate) fn at(&self, program: &Program) -> Packet {
        // Those that lead somewhere count thrice.
        let weight = |binding: &Binding| if binding.action == Action::Reject { 1 } else { 3 };
        let weighted = program.services.iter().map(|(at, binding)| vec![*at; weight(binding)]);
        let frontends: Vec<_> = weighted.flatten().collect();
        let Some(aim) = self.aim.filter(|_| !frontends.is_empty()) else { return self.packet };
        let Frontend { scope, protocol, port } = *aim.get(&frontends);
        let address = match scope {
            Scope::Address(address) => address,
            Scope::NodePort(_) => program.addresses[0],
        };
        Packet { protocol, destination: (address, port).into(), ..self.packet }
    }
}

/// Packets that sometimes hit something.
fn packet() -> impl Strategy<Value = Packet> {
    let source = prop_oneof![
        Just("10.1.1.250"),
        Just("10.1.1.111"),
        Just("10.244.1.2"),
        Just("10.244.1.3"),
        Just("10.244.2.2"),
    ];
    let destination = prop_oneof![
        4 => (1..5_u8).prop_map(|host| format!("10.96.0.{host}")),
        3 => Just("10.1.1.111".to_owned()),
        1 => Just("10.1.1.112".to_owned()),
        1 => Just("10.1.1.200".to_owned()),
        1 => (1..4_u8, 2..8_u8).prop_map(|(node, host)| format!("10.244.{node}.{host}")),
    ];
    let port = prop_oneof![80..84_u16, 30_000..30_004_u16, 8080..8083_u16];
    let protocol = prop_oneof![Just(model::Protocol::Tcp), Just(model::Protocol::Udp)];
    (source, destination, port, protocol).prop_map(|(source, destination, port, protocol)| Packet {
        protocol,
        source: format!("{source}:40000").parse().unwrap(),
        destination: format!("{destination}:{port}").parse().unwrap(),
    })
}
