//! Node ports on 127.0.0.1 and ::1, for processes of the node.

use crate::agreement::{PATIENCE, SILENCE, senders};
use crate::cluster::{NODE, nodes, object, settings};
use crate::probe::Sight;
use crate::proxy::Kind;
use crate::space::{Space, address, as_root, ip};
use crate::testbed::{Testbed, compiled};
use backend::iptables::Variant;
use backend::link;
use compile::Settings;
use kernel::route::Change;
use model::{Family, Protocol, World};
use program::{NodePortAddresses, Packet};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One pod of this node, behind a node port for each protocol and family.
fn world() -> World {
    let ports = [("tcp", "TCP"), ("udp", "UDP")];
    let service = object(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.1",
                 "clusterIPs": ["10.96.0.1", "fd00:96::1"], "ipFamilies": ["IPv4", "IPv6"],
                 "ports": ports.map(|(name, protocol)| json!({
                     "name": name, "protocol": protocol, "port": 80, "nodePort": 30000,
                 }))},
    }));
    let slice = |family: Family| {
        object(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("s-{family}").to_lowercase(), "namespace": "default",
                         "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": family.to_string(),
            "ports": ports.map(|(name, protocol)| json!({
                "name": name, "protocol": protocol, "port": 8080,
            })),
            "endpoints": [{"addresses": [endpoint(family).ip()], "nodeName": NODE}],
        }))
    };
    let others = [service].into_iter().chain(Family::ALL.map(slice));
    World::from_objects(nodes().into_iter().chain(senders()).chain(others))
}

fn endpoint(family: Family) -> SocketAddr {
    match family {
        Family::V4 => "10.244.1.2:8080",
        Family::V6 => "[fd00:244:1::2]:8080",
    }
    .parse()
    .unwrap()
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

#[test]
fn the_node_reaches_its_node_ports_on_loopback() {
    as_root("loopback::the_node_reaches_its_node_ports_on_loopback", || {
        let kinds = [Kind::Nft, Kind::Userspace].into_iter();
        kinds.chain(Variant::ALL.map(Kind::Iptables)).for_each(reaches_whatever_is_opened);
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn with_ipvs_the_node_reaches_its_node_ports_on_loopback() {
    as_root("loopback::with_ipvs_the_node_reaches_its_node_ports_on_loopback", || {
        reaches_whatever_is_opened(Kind::Ipvs);
    });
}

/// Whatever `--nodeport-addresses` says of other addresses.
fn reaches_whatever_is_opened(kind: Kind) {
    for within in [None, Some(vec!["10.9.0.0/16"]), Some(vec!["127.0.0.0/8", "::1/128"])] {
        reaches(kind, within.clone(), true);
        // Unless loopback addresses are left out altogether.
        if within.is_none() {
            reaches(kind, within, false);
        }
    }
}

fn reaches(kind: Kind, within: Option<Vec<&str>>, open: bool) {
    let within = within.map(|nets| nets.iter().map(|net| net.parse().unwrap()).collect());
    let localhost = if open { Family::ALL.into() } else { BTreeSet::new() };
    let node_ports = NodePortAddresses { within, localhost };
    let program = compiled(&world(), &Settings { node_ports, ..settings() });
    let mut testbed = Testbed::with(kind);
    testbed.start(&program);
    let mut source = 10_000;
    let mut at = |testbed: &Testbed, family, protocol, patience| {
        source += 1;
        let own = loopback(family);
        let (source, destination) = ((own, source).into(), (own, 30_000).into());
        testbed.watch(Packet { protocol, source, destination }, true, patience)
    };
    // The testbed answers for whoever may be there, but not where relays listen beside.
    let untouched = |family| match kind {
        Kind::Userspace => Sight::Refused,
        _ => Sight::Reached {
            by: (loopback(family), 30_000).into(),
            source: loopback(family),
            answered: true,
        },
    };
    let reached = |family| {
        let source = match family {
            Family::V4 => ip("10.244.1.1"),
            Family::V6 => ip("fd00:244:1::1"),
        };
        Sight::Reached { by: endpoint(family), source, answered: true }
    };
    for (family, protocol) in Family::ALL
        .into_iter()
        .flat_map(|family| [Protocol::Tcp, Protocol::Udp].map(|protocol| (family, protocol)))
    {
        let wanted = if open { reached(family) } else { untouched(family) };
        let sight = at(&testbed, family, protocol, PATIENCE);
        assert_eq!(sight, wanted, "{kind:?}, {family}, {protocol}");
    }
    if !open || kind == Kind::Userspace {
        return;
    }
    // Without a way back nothing comes back; with no rule that translates, no way is kept.
    let reached = reached(Family::V6);
    assert_ne!(testbed.open_loopback(false), 0);
    assert_ne!(at(&testbed, Family::V6, Protocol::Tcp, SILENCE), reached, "{kind:?}");
    assert_ne!(testbed.open_loopback(true), 0);
    assert_eq!(at(&testbed, Family::V6, Protocol::Tcp, PATIENCE), reached, "{kind:?}");
    assert_eq!(testbed.open_loopback(true), 0);
}

/// Devices that come, that get IPv6 late, and that were down have their way as soon as one is possible.
#[test]
fn loopback_has_a_way_back_through_each_device() {
    as_root("loopback::loopback_has_a_way_back_through_each_device", || {
        let (mut space, mut other) = (Space::new(), Space::new());
        let mut links = space.inside(|| link::Backend::open().unwrap());
        let ways = |space: &Space| {
            let routes = space.run("ip -6 route show table local proto 77");
            let device = |line: &str| line.split_whitespace().nth(3).unwrap().to_owned();
            routes.lines().map(device).collect::<Vec<_>>()
        };
        assert_eq!(links.open_loopback(true).unwrap(), 0, "there is but one device");
        space.set("net/ipv6/conf/default/disable_ipv6", "1");
        // The kernel gives an address of its own accord, but in its own time.
        let speak = |space: &mut Space, (name, net): (&str, &str)| {
            space.set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0");
            space.change([address(name, net)]);
        };
        let (one, two) = (("one", "fd00:1::1/64"), ("two", "fd00:2::1/64"));
        for (name, _) in [one, two] {
            space.wire(name, None, &mut other);
            other.run(&format!("ip link set eth0 name {name}"));
            space.change([Change::SetUp { device: name.into(), up: true }]);
            assert_eq!(links.open_loopback(true).unwrap(), 0, "{name} has no IPv6");
        }
        speak(&mut space, one);
        assert_eq!((links.open_loopback(true).unwrap(), ways(&space)), (1, vec!["one".to_owned()]));
        speak(&mut space, two);
        assert_eq!(links.open_loopback(true).unwrap(), 1);
        assert_eq!(ways(&space), ["one", "two"]);
        space.run("ip link set two down");
        assert_eq!(ways(&space), ["one"]);
        assert_eq!(links.open_loopback(true).unwrap(), 0);
        space.run("ip link set two up");
        speak(&mut space, two);
        assert_eq!(links.open_loopback(true).unwrap(), 1);
        assert_eq!(links.open_loopback(false).unwrap(), 2);
        assert_eq!(ways(&space), [""; 0]);
    });
}
