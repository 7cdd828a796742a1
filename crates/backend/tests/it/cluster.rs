//! Random clusters of both families: three nodes, some pods, Services and slices, and sequences of changes.

use compile::{LocalDetection, Settings};
use model::{Change, Family, Kind, Object, ObjectKey, Protocol, ProxyProgram, World};
use program::{Action, Arrival, Binding, Frontend, NodePortAddresses, Packet, Program, Scope};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::net::IpAddr;

pub(crate) const NODE: &str = "node-1";

/// As agents are without options.
pub(crate) fn settings() -> Settings {
    Settings::new(["10.244.0.0/16", "fd00:244::/32"].map(|net| net.parse().unwrap()).into())
}

/// What an agent can be told, each with a meaning for some packet or other.
pub(crate) fn any_settings() -> impl Strategy<Value = Settings> {
    let detection = prop_oneof![
        3 => Just(LocalDetection::ClusterCidr),
        1 => Just(LocalDetection::NodeCidr),
        1 => Just(LocalDetection::InterfaceNamePrefix("pod".into())),
    ];
    let within = |nets: &[&str]| Some(nets.iter().map(|net| net.parse().unwrap()).collect());
    let node_ports = prop_oneof![
        3 => Just(None),
        1 => Just(within(&["0.0.0.0/0", "::/0"])),
        1 => Just(within(&["10.1.1.0/24"])),
        1 => Just(within(&["127.0.0.0/8", "::1/128", "10.1.1.0/24"])),
    ];
    let flag = || prop::bool::weighted(0.3);
    (detection, node_ports, flag(), flag()).prop_map(
        |(local_detection, within, masquerade_all, localhost)| Settings {
            local_detection,
            masquerade_all,
            node_ports: NodePortAddresses {
                within,
                localhost: ProxyProgram::Podway.loopback(localhost),
            },
            ..settings()
        },
    )
}

pub(crate) fn object(value: &Value) -> Object {
    Object::parse(value).unwrap_or_else(|error| panic!("{error}: {value}"))
}

pub(crate) fn nodes() -> Vec<Object> {
    (1..=3).map(|number| object(&node(number, None))).collect()
}

fn node(number: u8, zone: Option<&str>) -> Value {
    let labels = zone.map_or(json!({}), |zone| json!({"topology.kubernetes.io/zone": zone}));
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{number}"), "labels": labels, "annotations": {
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data":
                format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:00:0{number}"}}"#),
            "flannel.alpha.coreos.com/public-ip": format!("10.1.1.11{number}"),
            "flannel.alpha.coreos.com/backend-v6-data":
                format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:06:0{number}"}}"#),
            "flannel.alpha.coreos.com/public-ipv6": format!("fd00:1::11{number}"),
        }},
        "spec": {"podCIDRs": [format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": format!("10.1.1.11{number}")},
            {"type": "InternalIP", "address": format!("fd00:1::11{number}")},
        ]},
    })
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
    let zone = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    prop_oneof![
        8 => service().prop_map(applied),
        20 => slice().prop_map(applied),
        8 => pod().prop_map(applied),
        1 => zone.prop_map(|zone| applied(node(1, zone))),
        1 => Just(applied(service_cidr())),
        2 => (0..4_u8).prop_map(|name| removed(Kind::Service, &format!("s{name}"))),
        2 => (0..6_u8).prop_map(|name| removed(Kind::EndpointSlice, &format!("e{name}"))),
        2 => (0..6_u8).prop_map(|name| removed(Kind::Pod, &format!("p{name}"))),
        1 => Just(Change::Removed(Kind::ServiceCidr, ObjectKey::new("", "kubernetes"))),
    ]
}

fn applied(value: Value) -> Change {
    Change::Applied(Box::new(object(&value)))
}

fn removed(kind: Kind, name: &str) -> Change {
    Change::Removed(kind, ObjectKey::new("default", name))
}

fn service_cidr() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]},
    })
}

fn policy() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("Cluster"), Just("Local")]
}

fn ranges() -> impl Strategy<Value = Vec<&'static str>> {
    let range = prop_oneof![
        Just("10.1.1.0/24"),
        Just("10.1.1.250/32"),
        Just("10.244.1.2/32"),
        Just("10.244.0.0/16"),
        Just("0.0.0.0/0"),
        Just("fd00:1::/64"),
        Just("fd00:244:1::2/128"),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(range, 1..3)]
}

/// What is the same for all ports of a Service.
fn traits() -> impl Strategy<Value = Value> {
    let scheduler = prop_oneof![
        6 => Just(None),
        1 => Just(Some("mh")),
        1 => Just(Some("sh")),
        1 => Just(Some("dh")),
        1 => Just(Some("lc")),
        1 => Just(Some("best")),
    ];
    let ingress = prop_oneof![3 => Just("VIP"), 1 => Just("Proxy")];
    let flag = |weight| prop::bool::weighted(weight);
    let parts = (policy(), policy(), ranges(), scheduler, ingress, flag(0.3), flag(0.3), flag(0.2));
    parts.prop_map(|(external, internal, ranges, scheduler, mode, balanced, external_ip, sticky)| {
        let ingress = match balanced {
            true => json!([{"ip": "10.1.1.200", "ipMode": mode}, {"ip": "fd00:1::200"}]),
            false => json!([]),
        };
        json!({
            "annotations": scheduler.map(|name| json!({"podway.io/lb-algorithm": name})),
            "status": {"loadBalancer": {"ingress": ingress}},
            "spec": {
                "externalTrafficPolicy": external,
                "internalTrafficPolicy": internal,
                "loadBalancerSourceRanges": ranges,
                "externalIPs": if external_ip { json!(["10.1.1.201", "fd00:1::201"]) } else { json!([]) },
                "sessionAffinity": if sticky { "ClientIP" } else { "None" },
            },
        })
    })
}

fn service() -> impl Strategy<Value = Value> {
    let port = (port_name(), 0..3_u16, any::<bool>());
    let ports = prop::collection::vec(port, 1..3);
    (0..4_u8, 0..3_u8, ports, 0..4_u8, 0..4_u8, any::<bool>(), traits()).prop_map(
        |(name, kind, ports, ip, families, other_proxy, traits)| {
            let kind = ["ClusterIP", "NodePort", "LoadBalancer"][usize::from(kind)];
            let ports = ports.into_iter().map(|((name, protocol), port, node_port)| {
                let node_port = if node_port { json!(30_000 + port) } else { Value::Null };
                json!({"name": format!("n{name}"), "protocol": protocol, "port": 80 + port, "nodePort": node_port})
            });
            let (v4, v6) = (format!("10.96.0.{}", ip + 1), format!("fd00:96::{}", ip + 1));
            let cluster_ips = [json!([v4]), json!([v6]), json!([v4, v6]), json!([v6, v4])];
            let other_proxy = other_proxy && ip == 3;
            let label = if other_proxy { json!({"service.kubernetes.io/service-proxy-name": "x"}) } else { json!({}) };
            let mut spec = traits["spec"].clone();
            spec["type"] = json!(kind);
            spec["clusterIPs"] = cluster_ips[usize::from(families)].clone();
            spec["ports"] = ports.collect();
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": format!("s{name}"), "namespace": "default",
                             "labels": label, "annotations": traits["annotations"]},
                "spec": spec, "status": traits["status"],
            })
        },
    )
}

/// Name and protocol of a port: slices and Services mostly mean the same.
fn port_name() -> impl Strategy<Value = (u8, &'static str)> {
    prop_oneof![
        6 => Just((0, "TCP")), 6 => Just((1, "UDP")), 2 => Just((2, "SCTP")),
        1 => Just((0, "UDP")), 1 => Just((1, "TCP")),
    ]
}

/// For whom all endpoints of a slice are meant; mostly nobody in particular.
fn hints() -> impl Strategy<Value = Value> {
    let zone = |zone: &str| json!({"forZones": [{"name": zone}]});
    let node = |name: &str| json!({"forNodes": [{"name": name}], "forZones": [{"name": "a"}]});
    prop_oneof![
        6 => Just(Value::Null),
        2 => Just(zone("a")),
        1 => Just(zone("b")),
        1 => Just(node("node-1")),
        1 => Just(node("node-2")),
    ]
}

fn slice() -> impl Strategy<Value = Value> {
    let conditions = prop_oneof![
        3 => Just((None, None, None)),
        4 => (any::<Option<bool>>(), any::<Option<bool>>(), any::<Option<bool>>()),
    ];
    let endpoint = (0..3_u8, 0..6_u8, conditions, hints());
    // Most slices have what most Services want: without, nearly all of them would have no endpoint.
    let usual = vec![((0, "TCP"), 0), ((1, "UDP"), 0), ((2, "SCTP"), 1)];
    let port = (port_name(), 0..2_u16);
    let ports = prop_oneof![2 => Just(usual), 1 => prop::collection::vec(port, 1..4)];
    let weight = prop_oneof![3 => Just(1), 1 => 1..6_u16];
    let parts = (prop::collection::vec(endpoint, 0..5), ports);
    (0..6_u8, 0..4_u8, parts, any::<bool>(), weight, prop::bool::weighted(0.05)).prop_map(
        |(name, service, (endpoints, ports), v6, weight, headless)| {
            let address = |node: u8, host: u8| match v6 {
                true => format!("fd00:244:{}::{}", node + 1, host + 2),
                false => format!("10.244.{}.{}", node + 1, host + 2),
            };
            let first = endpoints.first().map(|(node, host, ..)| address(*node, *host));
            let weights = first.map_or(String::new(), |first| format!("{first}={weight}"));
            let endpoints = endpoints.into_iter().map(|(node, host, (ready, serving, terminating), hints)| {
                json!({
                    "addresses": [address(node, host)],
                    "nodeName": format!("node-{}", node + 1),
                    "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                    "hints": hints,
                })
            });
            let ports = ports.into_iter().map(|((name, protocol), port)| {
                json!({"name": format!("n{name}"), "protocol": protocol, "port": 8080 + port})
            });
            let mut labels = json!({"kubernetes.io/service-name": format!("s{service}")});
            if headless {
                labels["service.kubernetes.io/headless"] = json!("");
            }
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": format!("e{name}"), "namespace": "default", "labels": labels,
                             "annotations": {"podway.io/weights": weights}},
                "addressType": if v6 { "IPv6" } else { "IPv4" },
                "ports": ports.collect::<Vec<_>>(), "endpoints": endpoints.collect::<Vec<_>>(),
            })
        },
    )
}

fn pod() -> impl Strategy<Value = Value> {
    (0..6_u8, 0..6_u8, prop_oneof![3 => Just(1), 1 => Just(2)])
        .prop_map(|(name, host, node)| pod_at(&format!("p{name}"), node, host + 2))
}

/// A pod that runs on a node, with an address of each family.
pub(crate) fn pod_at(name: &str, node: u8, host: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": format!("node-{node}"), "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": [
            {"ip": format!("10.244.{node}.{host}")}, {"ip": format!("fd00:244:{node}::{host}")},
        ]},
    })
}

/// Packets, most of them aimed at a front end of the program that they meet.
pub(crate) fn shot() -> impl Strategy<Value = Shot> {
    let aim = prop::option::weighted(0.7, any::<prop::sample::Index>());
    (packet(), aim).prop_map(|(packet, aim)| Shot { packet, aim })
}

#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) packet: Packet,
    aim: Option<prop::sample::Index>,
}

impl Shot {
    pub(crate) fn at(&self, program: &Program) -> Packet {
        let family = Family::of(self.packet.source.ip());
        // Those that lead somewhere count more.
        let weight = |binding: &Binding| if binding.action == Action::Reject { 1 } else { 12 };
        let aims = program.services.iter().filter(|(at, _)| at.scope.family() == family);
        let weighted = aims.map(|(at, binding)| vec![*at; weight(binding)]);
        let frontends: Vec<_> = weighted.flatten().collect();
        let Some(aim) = self.aim.filter(|_| !frontends.is_empty()) else { return self.packet };
        let Frontend { scope, protocol, port } = *aim.get(&frontends);
        let address = match scope {
            Scope::Address(address) => address,
            Scope::NodePort(_) if self.packet.source.ip().is_loopback() => self.packet.source.ip(),
            Scope::NodePort(family) => program.primary_address(family).unwrap(),
        };
        let packet = Packet { protocol, destination: (address, port).into(), ..self.packet };
        // What is from loopback and goes elsewhere is the node's.
        match (packet.source.ip().is_loopback(), address.is_loopback()) {
            (true, false) => {
                let own = program.primary_address(family).unwrap();
                Packet { source: (own, packet.source.port()).into(), ..packet }
            }
            _ => packet,
        }
    }
}

/// Packets that sometimes hit something.
fn packet() -> impl Strategy<Value = Packet> {
    let v4_source = prop_oneof![
        Just("10.1.1.250"),
        Just("10.1.1.111"),
        Just("10.244.1.2"),
        Just("10.244.1.3"),
        Just("10.244.2.2"),
    ];
    let v4_destination = prop_oneof![
        4 => (1..5_u8).prop_map(|host| format!("10.96.0.{host}")),
        3 => Just("10.1.1.111".to_owned()),
        1 => Just("10.1.1.112".to_owned()),
        2 => (200..202_u8).prop_map(|host| format!("10.1.1.{host}")),
        1 => Just("10.244.1.1".to_owned()),
        1 => (1..4_u8, 2..8_u8).prop_map(|(node, host)| format!("10.244.{node}.{host}")),
    ];
    let v6_source = prop_oneof![
        Just("fd00:1::250"),
        Just("fd00:1::111"),
        Just("fd00:244:1::2"),
        Just("fd00:244:1::3"),
        Just("fd00:244:2::2"),
    ];
    let v6_destination = prop_oneof![
        4 => (1..5_u8).prop_map(|host| format!("fd00:96::{host}")),
        3 => Just("fd00:1::111".to_owned()),
        1 => Just("fd00:1::112".to_owned()),
        2 => (200..202_u16).prop_map(|host| format!("fd00:1::{host}")),
        1 => (1..4_u8, 2..8_u8).prop_map(|(node, host)| format!("fd00:244:{node}::{host}")),
    ];
    let v4 = (v4_source.prop_map(str::to_owned), v4_destination);
    let v6 = (v6_source.prop_map(str::to_owned), v6_destination);
    let loopback = prop_oneof![Just("127.0.0.1"), Just("::1")];
    let loopback = loopback.prop_map(|own| (own.to_owned(), own.to_owned()));
    let ends = prop_oneof![10 => v4, 5 => v6, 1 => loopback];
    let port = prop_oneof![80..84_u16, 30_000..30_004_u16, 8080..8083_u16];
    let protocol =
        prop_oneof![4 => Just(Protocol::Tcp), 4 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)];
    (ends, port, protocol).prop_map(|((source, destination), port, protocol)| {
        let ip = |text: String| text.parse::<IpAddr>().unwrap();
        Packet {
            protocol,
            source: (ip(source), 40_000).into(),
            destination: (ip(destination), port).into(),
        }
    })
}

/// How a packet from this source comes to node-1.
pub(crate) fn arrival(source: IpAddr) -> Arrival {
    let own = ["10.1.1.111", "fd00:1::111"].map(|own| own.parse::<IpAddr>().unwrap());
    let pods = ["10.244.1.0/24", "fd00:244:1::/64"].map(|net| net.parse::<ipnet::IpNet>().unwrap());
    let remote = ["10.244.0.0/16", "fd00:244::/32"].map(|net| net.parse::<ipnet::IpNet>().unwrap());
    if own.contains(&source) || source.is_loopback() {
        Arrival::LocalProcess
    } else if pods.iter().any(|net| net.contains(&source)) {
        Arrival::Pod
    } else if remote.iter().any(|net| net.contains(&source)) {
        Arrival::Tunnel
    } else {
        Arrival::Underlay
    }
}
