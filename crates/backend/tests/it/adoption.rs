//! An agent that comes back, and strangers at work on what is ours: what is right stays, what is wrong is
//! mended, what is not ours is left alone. Witnesses are Debian's `nft`, `ip` and `bridge`.

use crate::cluster::{NODE, nodes, object, settings};
use crate::space::{Space, address, as_root, ip, route};
use crate::testbed::compiled;
use backend::link::lower::Underlay;
use backend::nft::{Applied, Backend, lower};
use backend::{link, nft};
use kernel::netlink::Socket;
use kernel::nft::{Observed, generation, read_table};
use model::{Change, Family, Kind, ObjectKey, World};
use program::Program;
use serde_json::json;
use std::net::UdpSocket;

const NEIGHBOUR: &str = "add table ip neighbour ; \
    add chain ip neighbour input { type filter hook input priority 5 ; } ; \
    add rule ip neighbour input counter accept";

/// Two Services, on a cluster IP and a node port each; one has endpoints.
fn program() -> Program {
    let service = |name: &str, host: u8| {
        object(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "NodePort", "clusterIP": format!("10.96.0.{host}"),
                     "ports": [{"protocol": "UDP", "port": 80, "nodePort": 30_000 + u16::from(host)}]},
        }))
    };
    let slice = object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"protocol": "UDP", "port": 8080}],
        "endpoints": [{"addresses": ["10.244.1.2"]}, {"addresses": ["10.244.2.2"]}],
    }));
    compiled(
        &World::from_objects(nodes().into_iter().chain([
            service("web", 1),
            service("empty", 2),
            slice,
        ])),
        &settings(),
    )
}

/// A namespace in which packets to anywhere leave through loopback.
fn space() -> Space {
    let mut space = Space::new();
    space.change([address("lo", "10.1.1.111/32"), route("0.0.0.0/0", None, "lo")]);
    space
}

fn backend(space: &Space) -> Backend {
    space.inside(|| Backend::open().unwrap())
}

fn observed(space: &Space) -> (u32, Observed) {
    space.inside(|| {
        let mut socket = Socket::netfilter().unwrap();
        let table = read_table(&mut socket, &nft::layout::table_id(Family::V4)).unwrap();
        (generation(&mut socket).unwrap(), table.unwrap())
    })
}

#[track_caller]
fn assert_right(space: &Space, program: &Program) {
    let (_, Observed { table, unknown, .. }) = observed(space);
    assert_eq!(table, lower::table(program, Family::V4));
    assert_eq!(unknown, [].into());
    assert_eq!(backend(space).reconcile(program).unwrap(), Applied::default());
}

#[test]
fn a_new_agent_changes_nothing_and_counters_stay() {
    as_root("adoption::a_new_agent_changes_nothing_and_counters_stay", || {
        let (space, program) = (space(), program());
        assert_ne!(backend(&space).reconcile(&program).unwrap(), Applied::default());
        let sender = space.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        sender.send_to(b"hello", "10.96.0.1:80").ok();
        sender.send_to(b"hello", "10.96.0.2:80").ok();
        let before = observed(&space);
        let counts = before.1.element_counts[nft::layout::set::SERVICES].values();
        assert_eq!(counts.map(|it| it.packets).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(backend(&space).reconcile(&program).unwrap(), Applied::default());
        assert_eq!(observed(&space), before);
    });
}

/// Whatever a Service may ask for, all of it in one.
fn demanding() -> Program {
    let service = object(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalTrafficPolicy": "Local",
            "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "ports": [{"port": 80, "nodePort": 30001}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}},
    }));
    let slice = object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.244.1.2"], "nodeName": NODE}, {"addresses": ["10.244.2.2"]}],
    }));
    compiled(&World::from_objects(nodes().into_iter().chain([service, slice])), &settings())
}

#[test]
fn nft_prints_all_of_it() {
    as_root("adoption::nft_prints_all_of_it", || {
        let space = space();
        backend(&space).reconcile(&demanding()).unwrap();
        let listed = space.run("nft list table ip podway");
        for printed in [
            "meta l4proto . th dport . numgen random mod 2 map @slots-node-ports",
            "tcp . 30001 . 0x00000001 : 10.244.2.2 . 8080",
            "@allowed-sources",
            "@inside-node-ports",
        ] {
            assert!(listed.contains(printed), "{printed} in {listed}");
        }
        assert!(!listed.contains("invalid"), "{listed}");
    });
}

/// The API, DNS and some others, each with an endpoint of its own.
fn cold_start() -> Program {
    let service = |(host, (namespace, name, port)): (usize, &(&str, &str, u16))| {
        let service = object(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": format!("10.96.0.{}", host + 1), "ports": [{"port": port}]},
        }));
        let slice = object(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace,
                         "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"port": 8080}],
            "endpoints": [{"addresses": [format!("10.244.1.{}", host + 2)]}],
        }));
        [service, slice]
    };
    let services = [
        ("aaa", "web", 80),
        ("default", "kubernetes", 443),
        ("kube-system", "kube-dns", 53),
        ("kube-system", "metrics-server", 443),
    ];
    let objects = services.iter().enumerate().flat_map(service);
    compiled(&World::from_objects(nodes().into_iter().chain(objects)), &settings())
}

#[test]
fn an_empty_table_is_filled_in_stages() {
    as_root("adoption::an_empty_table_is_filled_in_stages", || {
        let (space, program) = (space(), cold_start());
        let applied = backend(&space).reconcile(&program).unwrap();
        assert_eq!(
            applied.transactions, 5,
            "a frame and two stages of IPv4, IPv6 has no Services: {applied:?}"
        );
        assert_right(&space, &program);
    });
}

#[test]
fn a_change_costs_the_same_in_a_large_cluster() {
    as_root("adoption::a_change_costs_the_same_in_a_large_cluster", || {
        let slice = |number: usize, hosts: &[u8]| {
            let endpoints =
                hosts.iter().map(|host| json!({"addresses": [format!("10.244.1.{host}")]}));
            let name = format!("s{number}");
            object(&json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": "default",
                             "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"port": 8080}],
                "endpoints": endpoints.collect::<Vec<_>>(),
            }))
        };
        let service = |number: usize| {
            object(&json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": format!("s{number}"), "namespace": "default"},
                "spec": {"clusterIP": format!("10.96.{}.{}", number / 250, number % 250),
                         "ports": [{"port": 80}]},
            }))
        };
        let cost = |services: usize| {
            let objects = (0..services).flat_map(|it| [service(it), slice(it, &[2, 3])]);
            let mut world = World::from_objects(nodes().into_iter().chain(objects));
            let (space, mut program) = (space(), compiled(&world, &settings()));
            let mut backend = backend(&space);
            backend.reconcile(&program).unwrap();
            let changed = slice(services / 2, &[2, 4]);
            let touched = world.apply(Change::Applied(Box::new(changed)));
            let changes = touched
                .iter()
                .flat_map(|it| compile::recompile(&mut program, &world, NODE, &settings(), it).0);
            let changes: Vec<_> = changes.collect();
            backend.change(&program, &changes).unwrap()
        };
        let small = cost(4);
        assert_eq!(small, Applied { chains: 0, elements: 1, transactions: 1 });
        assert_eq!(cost(1000), small);
    });
}

#[test]
fn what_strangers_did_to_the_table_is_mended() {
    as_root("adoption::what_strangers_did_to_the_table_is_mended", || {
        let (space, program) = (space(), program());
        space.run(&format!("nft {NEIGHBOUR}"));
        let mut backend = backend(&space);
        backend.reconcile(&program).unwrap();
        let neighbour = space.run("nft --handle list table ip neighbour");
        for line in [
            "flush table ip podway",
            "delete table ip podway",
            "flush chain ip podway dispatch",
            "flush chain ip podway output ; delete chain ip podway output",
            "insert rule ip podway prerouting accept",
            "add rule ip podway output ip daddr 192.0.2.1 limit rate 3/second accept",
            "add chain ip podway stranger",
            "add chain ip podway stranger { type filter hook input priority 5 ; policy drop ; }",
            "add chain ip podway stranger ; insert rule ip podway dispatch jump stranger",
            "add chain ip podway a ; add chain ip podway b ; add rule ip podway a jump b",
            "add set ip podway stranger { type ipv4_addr ; } ; insert rule ip podway output ip daddr @stranger drop",
            "add set ip podway stranger { type ipv4_addr ; flags timeout ; }",
            "add map ip podway stranger { type inet_service : verdict ; elements = { 5 : jump dispatch } ; }",
            "flush map ip podway services",
            "flush set ip podway node-addresses",
            "delete element ip podway node-addresses { 10.1.1.111 }",
            "add element ip podway service-addresses { 10.96.0.77 }",
            "add element ip podway node-ports { udp . 30009 : goto refusal }",
            "delete element ip podway services { 10.96.0.1 . udp . 80 } ; \
             add element ip podway services { 10.96.0.1 . udp . 80 : drop }",
        ] {
            space.run(&format!("nft {line}"));
            let applied = backend.reconcile(&program).unwrap();
            assert!(applied.transactions >= 1, "{line}");
            assert_right(&space, &program);
        }
        assert_eq!(space.run("nft --handle list table ip neighbour"), neighbour);
    });
}

#[test]
fn a_table_of_another_shape_is_replaced() {
    as_root("adoption::a_table_of_another_shape_is_replaced", || {
        let (space, program) = (space(), program());
        backend(&space).reconcile(&program).unwrap();
        space.run("nft delete table ip podway");
        for line in [
            "add table ip podway ; add map ip podway slots { type ipv4_addr : ipv4_addr ; }",
            "add table ip podway ; add set ip podway services { type ipv4_addr ; flags interval ; }",
            "add table ip podway ; add chain ip podway prerouting { type filter hook prerouting priority 7 ; }",
            "add table ip podway ; add chain ip podway postrouting ; add chain ip podway output ; \
             add rule ip podway output jump postrouting",
        ] {
            space.run(&format!("nft {line}"));
            let applied = backend(&space).reconcile(&program).unwrap();
            assert_eq!(applied.transactions, 2, "one for the stand-in: {line}");
            assert_right(&space, &program);
            space.run("nft delete table ip podway");
        }
    });
}

/// Whatever was there when the process ended that replaced a table.
#[test]
fn a_stand_in_that_was_left_goes() {
    as_root("adoption::a_stand_in_that_was_left_goes", || {
        let (space, program) = (space(), program());
        let left =
            "add table ip podway-stand-in ; add set ip podway-stand-in slots { type ipv4_addr ; }";
        for more in [
            "",
            "delete table ip podway",
            "add set ip podway stranger { type ipv4_addr ; flags timeout ; }",
        ] {
            backend(&space).reconcile(&program).unwrap();
            space.run(&format!("nft {left} ; {more}"));
            backend(&space).reconcile(&program).unwrap();
            assert_right(&space, &program);
            assert!(!space.run("nft list tables").contains("stand-in"), "{more}");
        }
        space.run(&format!("nft {left}"));
        space.inside(|| nft::clean(Family::V4).unwrap());
        assert!(!space.run("nft list tables").contains("ip podway"));
    });
}

/// In parts where the table is new or the socket an ordinary user's; else chains, then elements.
#[test]
fn a_large_change_arrives_whole() {
    as_root("adoption::a_large_change_arrives_whole", || {
        let space = space();
        let mut backend = backend(&space);
        backend.reconcile(&many(2, 3)).unwrap();
        assert_right(&space, &many(2, 3));
        let bounded = backend.socket().room() < 16 << 20;
        for (first, number) in [(3, 3), (3, 2), (2, 4)] {
            let program = many(first, number);
            let applied = backend.reconcile(&program).unwrap();
            assert!(applied.transactions <= 2 || bounded, "{applied:?}");
            assert_right(&space, &program);
        }
    });
}

/// Two thousand Services, each with so many endpoints from this one on.
fn many(first: u8, number: u8) -> Program {
    let endpoints: Vec<_> = (first..first + number)
        .map(|host| json!({"addresses": [format!("10.244.1.{host}")]}))
        .collect();
    let service = |index: u16| {
        let [high, low] = index.to_be_bytes();
        object(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("s{index}"), "namespace": "default"},
            "spec": {"type": "ClusterIP", "clusterIP": format!("10.97.{high}.{low}"), "ports": [{"port": 80}]},
        }))
    };
    let slice = |index: u16| {
        object(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("s{index}"), "namespace": "default",
                         "labels": {"kubernetes.io/service-name": format!("s{index}")}},
            "ports": [{"port": 8080}], "endpoints": endpoints,
        }))
    };
    let objects = (0..2000).flat_map(|index| [service(index), slice(index)]);
    compiled(&World::from_objects(nodes().into_iter().chain(objects)), &settings())
}

/// A node with an underlay device, and the door to its tunnel.
struct Tunnel {
    space: Space,
    _other: Space,
    links: link::Backend,
    underlay: Underlay,
    world: World,
    program: Program,
}

impl Tunnel {
    fn new() -> Self {
        let (mut space, mut other) = (Space::new(), Space::new());
        other.wire("eth1", None, &mut space);
        other.change([kernel::route::Change::SetUp { device: "eth1".into(), up: true }]);
        space.change([address("eth0", "10.1.1.111/24")]);
        let world = World::from_objects(nodes());
        let program = compiled(&world, &settings());
        let mut links = space.inside(|| link::Backend::open().unwrap());
        let underlay = links.underlay(ip("10.1.1.111")).unwrap();
        links.reconcile(&program, std::slice::from_ref(&underlay)).unwrap();
        Tunnel { space, _other: other, links, underlay, world, program }
    }

    fn reconcile(&mut self) -> usize {
        self.links.reconcile(&self.program, std::slice::from_ref(&self.underlay)).unwrap()
    }

    /// What the witnesses see of the tunnel, in order.
    fn seen(&self) -> Vec<String> {
        let lines = [
            "ip -4 -brief address show dev flannel.1",
            "ip -4 route show proto 77",
            "ip -4 neighbour show dev flannel.1 nud permanent",
            "bridge fdb show dev flannel.1",
            "ip -details -brief link show dev flannel.1",
        ]
        .map(|line| self.space.run(line));
        let mut lines: Vec<_> =
            lines.iter().flat_map(|text| text.lines().map(str::to_owned)).collect();
        lines.sort();
        lines
    }

    fn hear(&mut self, change: Change) -> Vec<program::Change> {
        let touched = self.world.apply(change);
        let recompile = |touched| {
            compile::recompile(&mut self.program, &self.world, NODE, &settings(), touched).0
        };
        touched.iter().flat_map(recompile).collect()
    }
}

#[test]
fn what_strangers_did_to_the_tunnel_is_mended() {
    as_root("adoption::what_strangers_did_to_the_tunnel_is_mended", || {
        let mut tunnel = Tunnel::new();
        let right = tunnel.seen();
        // A device, an unreachable subnet, and for each of two peers a route, a neighbour, a forwarding entry.
        assert_eq!(right.len(), 1 + 1 + 1 + 2 * 3, "{right:#?}");
        assert_eq!(tunnel.reconcile(), 0);
        for line in [
            "ip link delete flannel.1",
            "ip link set flannel.1 down",
            "ip link set flannel.1 address 0a:00:00:00:00:99",
            "ip link set flannel.1 mtu 1400",
            "ip address flush dev flannel.1",
            "ip address add 10.244.77.0/32 dev flannel.1",
            "ip route delete 10.244.2.0/24",
            "ip route delete unreachable 10.244.1.0/24",
            "ip route replace 10.244.2.0/24 via 10.244.3.0 dev flannel.1 onlink proto 77",
            "ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink proto 77",
            "ip route add unreachable 10.244.9.0/24 proto 77",
            "ip neighbour flush dev flannel.1 nud permanent",
            "ip neighbour replace 10.244.2.0 lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent",
            "ip neighbour add 10.244.9.0 lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent",
            "bridge fdb delete 0a:00:00:00:00:02 dev flannel.1 dst 10.1.1.112",
            "bridge fdb replace 0a:00:00:00:00:02 dev flannel.1 dst 10.1.1.119",
            "bridge fdb add 0a:00:00:00:00:99 dev flannel.1 dst 10.1.1.119",
        ] {
            tunnel.space.run(line);
            assert_ne!(tunnel.reconcile(), 0, "{line}");
            assert_eq!(tunnel.seen(), right, "{line}");
            assert_eq!(tunnel.reconcile(), 0, "{line}");
        }
        tunnel.space.run("ip link delete flannel.1");
        tunnel.space.run("ip link add flannel.1 type vxlan id 7 dstport 4789 dev eth0");
        assert_ne!(tunnel.reconcile(), 0);
        assert_eq!(tunnel.seen(), right);
    });
}

#[test]
fn a_peer_with_a_new_address_leaves_nothing_of_the_old_one() {
    as_root("adoption::a_peer_with_a_new_address_leaves_nothing_of_the_old_one", || {
        for away in [false, true] {
            let mut tunnel = Tunnel::new();
            let right = tunnel.seen();
            let renewed = object(&json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "node-2", "annotations": {
                    "flannel.alpha.coreos.com/backend-type": "vxlan",
                    "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"0a:00:00:00:00:aa"}"#,
                    "flannel.alpha.coreos.com/public-ip": "10.1.1.122",
                }},
                "spec": {"podCIDR": "10.244.2.0/24"},
                "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.122"}]},
            }));
            let changes = tunnel.hear(Change::Applied(Box::new(renewed)));
            let made = if away {
                tunnel.reconcile()
            } else {
                tunnel.links.change_peers(&changes).unwrap()
            };
            assert_ne!(made, 0);
            let renewed = |line: &String| {
                line.replace("0a:00:00:00:00:02", "0a:00:00:00:00:aa")
                    .replace("10.1.1.112", "10.1.1.122")
            };
            let mut wanted: Vec<_> = right.iter().map(renewed).collect();
            wanted.sort();
            assert_eq!(tunnel.seen(), wanted);
            assert_eq!(tunnel.reconcile(), 0);

            let changes = tunnel.hear(Change::Removed(Kind::Node, ObjectKey::new("", "node-2")));
            let made = if away {
                tunnel.reconcile()
            } else {
                tunnel.links.change_peers(&changes).unwrap()
            };
            assert_ne!(made, 0);
            wanted.retain(|line| !line.contains("10.244.2.0") && !line.contains("00:aa"));
            assert_eq!(tunnel.seen(), wanted);
            assert_eq!(tunnel.reconcile(), 0);
        }
    });
}

#[test]
fn other_peoples_routes_and_devices_stay() {
    as_root("adoption::other_peoples_routes_and_devices_stay", || {
        let mut tunnel = Tunnel::new();
        for line in [
            "ip route add 10.99.0.0/16 via 10.1.1.1 dev eth0",
            "ip route add 10.98.0.0/16 via 10.244.2.0 dev flannel.1 onlink",
            "ip route add unreachable 10.97.0.0/16",
            "ip route add 10.96.0.0/12 dev eth0 proto 77",
            "ip link add flannel.2 type vxlan id 2 dstport 8472 dev eth0",
            "bridge fdb add 0a:00:00:00:00:99 dev flannel.2 dst 10.1.1.119",
            "ip neighbour add 10.1.1.250 lladdr 0a:00:00:00:00:99 dev eth0 nud permanent",
        ] {
            tunnel.space.run(line);
        }
        let everything = |tunnel: &Tunnel| {
            ["ip route", "ip -brief link", "bridge fdb", "ip neighbour"]
                .map(|line| tunnel.space.run(line))
        };
        let before = everything(&tunnel);
        assert_eq!(tunnel.reconcile(), 0);
        tunnel.space.run("ip route delete 10.244.2.0/24");
        assert_eq!(tunnel.reconcile(), 1);
        assert_eq!(everything(&tunnel), before);
    });
}
