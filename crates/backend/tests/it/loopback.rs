//! Node ports on ::1, for processes of the node.

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
use std::net::Ipv6Addr;

/// One pod of this node, behind a node port for each protocol.
fn world() -> World {
    let ports = [("tcp", "TCP"), ("udp", "UDP")];
    let service = object(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "fd00:96::1", "ipFamilies": ["IPv6"],
                 "ports": ports.map(|(name, protocol)| json!({
                     "name": name, "protocol": protocol, "port": 80, "nodePort": 30000,
                 }))},
    }));
    let slice = object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "s-1", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv6",
        "ports": ports.map(|(name, protocol)| json!({
            "name": name, "protocol": protocol, "port": 8080,
        })),
        "endpoints": [{"addresses": ["fd00:244:1::2"], "nodeName": NODE}],
    }));
    World::from_objects(nodes().into_iter().chain(senders()).chain([service, slice]))
}

#[test]
fn the_node_reaches_its_node_ports_on_loopback() {
    as_root("loopback::the_node_reaches_its_node_ports_on_loopback", || {
        for kind in [Kind::Nft].into_iter().chain(Variant::ALL.map(Kind::Iptables)) {
            // Whatever `--nodeport-addresses` says of other addresses.
            for within in [None, Some(vec!["10.9.0.0/16"]), Some(vec!["127.0.0.0/8", "::1/128"])] {
                reaches(kind, within);
            }
        }
    });
}

fn reaches(kind: Kind, within: Option<Vec<&str>>) {
    let within = within.map(|nets| nets.iter().map(|net| net.parse().unwrap()).collect());
    let node_ports = NodePortAddresses { within, localhost: Family::ALL.into() };
    let program = compiled(&world(), &Settings { node_ports, ..settings() });
    let mut testbed = Testbed::with(kind);
    testbed.start(&program);
    let loopback = Ipv6Addr::LOCALHOST;
    let mut source = 10_000;
    let mut at = |testbed: &Testbed, protocol, patience| {
        source += 1;
        let (source, destination) = ((loopback, source).into(), (loopback, 30_000).into());
        testbed.watch(Packet { protocol, source, destination }, true, patience)
    };
    let reached = Sight::Reached {
        by: "[fd00:244:1::2]:8080".parse().unwrap(),
        source: ip("fd00:244:1::1"),
        answered: true,
    };
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(at(&testbed, protocol, PATIENCE), reached, "{kind:?}");
    }
    // Without a way back nothing comes back; with no rule that translates, no way is kept.
    assert_ne!(testbed.open_loopback(false), 0);
    assert_ne!(at(&testbed, Protocol::Tcp, SILENCE), reached, "{kind:?}");
    assert_ne!(testbed.open_loopback(true), 0);
    assert_eq!(at(&testbed, Protocol::Tcp, PATIENCE), reached, "{kind:?}");
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
