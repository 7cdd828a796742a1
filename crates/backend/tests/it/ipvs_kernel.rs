//! Back end `ipvs` on a kernel that has it: schedulers, affinity, draining, and what strangers do.

use crate::cluster::{NODE, nodes, object, settings};
use crate::proxy::Kind;
use crate::space::{Space, address, as_root, ip, route};
use crate::testbed::{CLIENT, Testbed};
use backend::ipvs;
use backend::{Fate, Served};
use kernel::Error;
use model::{Change, Object, World};
use program::Program;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const SERVICE: &str = "10.96.0.1:80";
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than anybody is drained.
const LONG: Duration = Duration::from_secs(3600);

fn compiled(world: &World) -> Program {
    let settings = compile::Settings { schedulers: ipvs::SCHEDULERS.to_vec(), ..settings() };
    compile::compile(world, NODE, &settings).0
}

fn pod(host: u8) -> Object {
    object(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("p{host}"), "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": format!("10.244.1.{host}")},
    }))
}

fn service(annotations: &Value, spec: &Value) -> Object {
    let mut all = json!({
        "type": "NodePort", "clusterIP": "10.96.0.1",
        "ports": [{"protocol": "UDP", "port": 80, "nodePort": 30_000}],
    });
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    let metadata = json!({"name": "s", "namespace": "default", "annotations": annotations});
    object(&json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": all}))
}

/// The endpoints of pods 2 and 3, of which 2 may be about to go.
fn slice(protocol: &str, port: u16, weights: &str, going: bool) -> Object {
    let conditions = json!({"ready": !going, "serving": true, "terminating": going});
    object(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "default", "annotations": {"podway.io/weights": weights},
                     "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"protocol": protocol, "port": port}],
        "endpoints": [
            {"addresses": ["10.244.1.2"], "nodeName": NODE, "conditions": conditions},
            {"addresses": ["10.244.1.3"], "nodeName": NODE},
        ],
    }))
}

fn world(objects: impl IntoIterator<Item = Object>) -> World {
    World::from_objects(nodes().into_iter().chain([pod(2), pod(3)]).chain(objects))
}

#[test]
fn a_kernel_without_ipvs_is_named() {
    match ipvs::Backend::open(ipvs::Settings::default()) {
        Ok(_) | Err(ipvs::Error::Open(Error::Refused { .. })) => {}
        Err(ipvs::Error::Open(error)) => {
            assert_eq!(error.to_string(), "this kernel has no IPVS: module ip_vs");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn every_scheduler_shares_in_its_way() {
    as_root("ipvs_kernel::every_scheduler_shares_in_its_way", || {
        let mut testbed = Testbed::with(Kind::Ipvs);
        let (even, weighted) = (Some([20, 20]), Some([30, 10]));
        // Each on an address and port of its own: IPVS remembers what a client's port had there for minutes.
        let places =
            (80..).flat_map(|port| (1..5).map(move |host| (format!("10.96.0.{host}"), port)));
        for ((name, weights, shares), (ip, port)) in [
            ("lc", "10.244.1.2=3", even),
            ("wlc", "10.244.1.2=3", weighted),
            ("rr", "10.244.1.2=3", even),
            ("wrr", "10.244.1.2=3", weighted),
            ("sed", "", None),
            ("nq", "", None),
            ("dh", "", Some([40, 0])),
            ("sh", "", Some([40, 0])),
            ("mh", "", Some([40, 0])),
            ("lblc", "", None),
        ]
        .into_iter()
        .zip(places)
        {
            let spec = json!({"type": "ClusterIP", "clusterIP": ip,
                              "ports": [{"protocol": "UDP", "port": port}]});
            let service = service(&json!({"podway.io/lb-algorithm": name}), &spec);
            testbed.start(&compiled(&world([service, slice("UDP", 8080, weights, false)])));
            let to = format!("{ip}:{port}");
            let table = testbed.node().run("ipvsadm -Sn");
            assert!(table.contains(&format!("-A -u {to} -s {name}")), "{table}");
            let got = testbed.shares(to.parse().unwrap(), 40, PATIENCE);
            let mut got: Vec<_> = got.into_values().collect();
            got.resize(2, 0);
            got.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(got.iter().sum::<usize>(), 40, "{name}: {got:?}");
            assert_eq!(got, shares.map_or(got.clone(), Vec::from), "{name}: {got:?}");
        }
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn the_usual_scheduler_heeds_weights_where_they_differ() {
    as_root("ipvs_kernel::the_usual_scheduler_heeds_weights_where_they_differ", || {
        let mut testbed = Testbed::with(Kind::Ipvs);
        for (weights, scheduler, expected) in [("", "rr", [1, 1]), ("10.244.1.2=3", "wrr", [3, 1])]
        {
            let objects = [service(&json!({}), &json!({})), slice("UDP", 8080, weights, false)];
            testbed.start(&compiled(&world(objects)));
            let table = testbed.node().run("ipvsadm -Sn");
            assert!(table.contains(&format!("-A -u {SERVICE} -s {scheduler}\n")), "{table}");
            let shown = testbed.node().inside(|| backend::services::served().unwrap());
            let of = |served: &Served| SocketAddr::new(served.address.unwrap(), served.port);
            let cluster_ip = shown.iter().find(|served| of(served) == SERVICE.parse().unwrap());
            let Fate::Balanced { endpoints } = &cluster_ip.unwrap().fate else {
                panic!("{shown:?}")
            };
            let share = |host| {
                let at = SocketAddr::from(([10, 244, 1, host], 8080));
                endpoints.iter().filter(|endpoint| **endpoint == at).count()
            };
            assert_eq!([share(2), share(3)], expected);
            assert_eq!(shown.len(), 2, "cluster IP and node port: {shown:?}");
        }
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn a_client_keeps_its_endpoint() {
    as_root("ipvs_kernel::a_client_keeps_its_endpoint", || {
        let mut testbed = Testbed::with(Kind::Ipvs);
        let affinity = json!({"sessionAffinity": "ClientIP",
                              "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 77}}});
        let objects = [service(&json!({}), &affinity), slice("UDP", 8080, "", false)];
        testbed.start(&compiled(&world(objects)));
        let table = testbed.node().run("ipvsadm -Sn");
        assert!(table.contains(&format!("-A -u {SERVICE} -s rr -p 77\n")), "{table}");
        let shares = testbed.shares(SERVICE.parse().unwrap(), 20, PATIENCE);
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [20]);
    });
}

/// A connection held open, from the client through the Service to a pod.
struct Held {
    client: TcpStream,
    server: TcpStream,
    host: u8,
}

impl Held {
    fn new(testbed: &Testbed, listeners: &[TcpListener; 2]) -> Self {
        let client = testbed.client().inside(|| connected(SERVICE));
        let accepted = listeners.iter().find_map(|listener| listener.accept().ok());
        let (server, from) = accepted.expect("a connection that is open was accepted");
        assert_ne!(from.ip(), CLIENT, "the node replaces the source");
        server.set_nonblocking(false).unwrap();
        let host = match server.local_addr().unwrap() {
            SocketAddr::V4(at) => at.ip().octets()[3],
            SocketAddr::V6(at) => panic!("{at}"),
        };
        Held { client, server, host }
    }

    fn assert_passes(&self) {
        assert_heard(&self.client, &self.server);
        assert_heard(&self.server, &self.client);
    }
}

fn connected(to: &str) -> TcpStream {
    let connected = TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE);
    connected.unwrap_or_else(|error| panic!("{to}: {error}"))
}

fn assert_heard(mut from: &TcpStream, mut to: &TcpStream) {
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    from.write_all(b"word").unwrap();
    let mut word = [0; 4];
    to.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"word");
}

fn listeners(testbed: &Testbed) -> [TcpListener; 2] {
    [2, 3].map(|host| {
        let listen = || TcpListener::bind(SocketAddr::from(([10, 244, 1, host], 9090))).unwrap();
        let listener = testbed.pod(host).inside(listen);
        listener.set_nonblocking(true).unwrap();
        listener
    })
}

fn tcp_world() -> World {
    let spec = json!({"ports": [{"protocol": "TCP", "port": 80, "nodePort": 30_000}]});
    world([service(&json!({}), &spec), slice("TCP", 9090, "", false)])
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn an_endpoint_that_goes_keeps_its_connections() {
    as_root("ipvs_kernel::an_endpoint_that_goes_keeps_its_connections", || {
        let mut testbed = Testbed::with(Kind::Ipvs);
        let mut world = tcp_world();
        let mut program = compiled(&world);
        testbed.start(&program);
        let listeners = listeners(&testbed);
        let mut held = [0, 1].map(|_| Held::new(&testbed, &listeners));
        held.sort_by_key(|held| held.host);
        assert_eq!([held[0].host, held[1].host], [2, 3], "each gets one in turn");

        let mut made = Vec::new();
        for touched in world.apply(Change::Applied(Box::new(slice("TCP", 9090, "", true)))) {
            let (more, _) = compile::recompile(&mut program, &world, NODE, &settings(), &touched);
            made.extend(more);
        }
        testbed.change(&program, &made);
        let leaves = format!("-a -t {SERVICE} -r 10.244.1.2:9090 -m -w 0");
        assert!(testbed.node().run("ipvsadm -Sn").contains(&leaves));
        held.iter().for_each(Held::assert_passes);
        let new = [0; 4].map(|_| Held::new(&testbed, &listeners).host);
        assert_eq!(new, [3; 4]);

        let now = Instant::now();
        let services = testbed.proxy().ipvs();
        assert!(services.due().is_some_and(|at| at <= now + LONG));
        // The node port has it as well, and there nobody came.
        assert_eq!(services.sweep(now).unwrap(), 1);
        held[0].assert_passes();
        testbed.switch(Kind::Ipvs, &program);
        held[0].assert_passes();
        let services = testbed.proxy().ipvs();
        assert_eq!(services.sweep(now + LONG).unwrap(), 1);
        assert_eq!(services.sweep(now + LONG).unwrap(), 0);
        assert!(!testbed.node().run("ipvsadm -Sn").contains("10.244.1.2"));
        held[1].assert_passes();
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn connections_stay_when_back_ends_change() {
    as_root("ipvs_kernel::connections_stay_when_back_ends_change", || {
        let mut testbed = Testbed::with(Kind::Nft);
        let program = compiled(&tcp_world());
        testbed.start(&program);
        let listeners = listeners(&testbed);
        let mut held = vec![Held::new(&testbed, &listeners)];
        testbed.switch(Kind::Ipvs, &program);
        held.push(Held::new(&testbed, &listeners));
        held.iter().for_each(Held::assert_passes);

        let now = Instant::now();
        let mut leftover =
            testbed.node().inside(|| ipvs::Leftover::find(now, &BTreeSet::new()).unwrap().unwrap());
        testbed.switch(Kind::Nft, &program);
        held.push(Held::new(&testbed, &listeners));
        assert!(!leftover.sweep(now).unwrap(), "one of its connections is open");
        held.iter().for_each(Held::assert_passes);
        // The node port had none.
        let left = testbed.node().run("ipvsadm -Sn");
        assert!(left.contains(SERVICE) && !left.contains("30000"), "{left}");
        drop(held.remove(1));
        assert!(leftover.sweep(now + LONG).unwrap());
        assert_eq!(testbed.node().run("ipvsadm -Sn"), "");
        held.push(Held::new(&testbed, &listeners));
        held.iter().for_each(Held::assert_passes);
        let again = testbed.node().inside(|| ipvs::Leftover::find(now, &BTreeSet::new()).unwrap());
        assert!(again.is_none(), "{again:?}");
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn what_strangers_did_is_mended_and_what_is_theirs_stays() {
    as_root("ipvs_kernel::what_strangers_did_is_mended_and_what_is_theirs_stays", || {
        let mut testbed = Testbed::with(Kind::Ipvs);
        let objects = [service(&json!({}), &json!({})), slice("UDP", 8080, "", false)];
        let program = compiled(&world(objects));
        testbed.start(&program);
        let wanted = testbed.node().run("ipvsadm -Sn");
        let theirs = "-A -t 10.9.9.9:80 -s wlc\n";
        for done in [
            "ipvsadm -A -t 10.9.9.9:80 -s wlc",
            "ipvsadm -D -u 10.96.0.1:80",
            "ipvsadm -E -u 10.1.1.111:30000 -s sh",
            "ip addr del 10.96.0.1/32 dev kube-ipvs0",
        ] {
            testbed.node().run(done);
            testbed.switch(Kind::Ipvs, &program);
            assert!(testbed.node().run("ip addr show kube-ipvs0").contains("10.96.0.1/32"));
            let found = testbed.node().run("ipvsadm -Sn");
            let ours: String = found.replace(theirs, "");
            assert_eq!((ours, found.contains(theirs)), (wanted.clone(), true), "{done}");
            testbed.assert_settled(&program);
        }
        testbed.switch(Kind::Ipvs, &Program::default());
        assert_eq!(testbed.node().run("ipvsadm -Sn"), theirs);
        assert!(!testbed.node().run("ip addr show kube-ipvs0").contains("10.96.0.1"));
    });
}

/// A client, a node and a pod that know nothing but IPv6.
struct Six {
    client: Space,
    node: Space,
    pod: Space,
}

impl Six {
    fn new() -> Self {
        let (mut client, mut node, mut pod) = (Space::new(), Space::new(), Space::new());
        node.wire("client", None, &mut client);
        node.wire("pod", None, &mut pod);
        node.set("net/ipv6/conf/all/forwarding", "1");
        node.change([
            address("client", "fd00:1::111/64"),
            address("pod", "fd00:244:1::1/128"),
            route("fd00:244:1::2/128", None, "pod"),
        ]);
        client.change([
            address("eth0", "fd00:1::250/64"),
            route("::/0", Some("fd00:1::111"), "eth0"),
        ]);
        pod.change([
            address("eth0", "fd00:244:1::2/128"),
            route("fd00:244:1::1/128", None, "eth0"),
            route("::/0", Some("fd00:244:1::1"), "eth0"),
        ]);
        Six { client, node, pod }
    }

    fn program() -> Program {
        let node = object(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
            "spec": {"podCIDR": "fd00:244:1::/64", "podCIDRs": ["fd00:244:1::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "fd00:1::111"}]},
        }));
        let service = object(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
            "spec": {"type": "NodePort", "clusterIP": "fd00:96::1", "clusterIPs": ["fd00:96::1"],
                     "ipFamilies": ["IPv6"],
                     "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30_000}]},
        }));
        let slice = object(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
            "metadata": {"name": "s", "namespace": "default",
                         "labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"protocol": "TCP", "port": 8080}],
            "endpoints": [{"addresses": ["fd00:244:1::2"], "nodeName": NODE}],
        }));
        let pod = object(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": NODE, "containers": [{"name": "c"}]},
            "status": {"phase": "Running", "podIP": "fd00:244:1::2",
                       "podIPs": [{"ip": "fd00:244:1::2"}]},
        }));
        let settings = compile::Settings::new(vec!["fd00:244::/32".parse().unwrap()]);
        let world = World::from_objects([node, service, slice, pod]);
        compile::compile(&world, NODE, &settings).0
    }
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn ipv6_is_served_as_ipv4_is() {
    as_root("ipvs_kernel::ipv6_is_served_as_ipv4_is", || {
        let six = Six::new();
        let program = Six::program();
        let mut services =
            six.node.inside(|| ipvs::Backend::open(ipvs::Settings::default()).unwrap());
        six.node.inside(|| services.reconcile(&program, Instant::now()).unwrap());
        let again = six.node.inside(|| services.reconcile(&program, Instant::now()).unwrap());
        assert_eq!(again, ipvs::Applied::default());
        let table = six.node.run("ipvsadm -Sn");
        assert!(table.contains("-a -t [fd00:96::1]:80 -r [fd00:244:1::2]:8080 -m -w 1"), "{table}");
        let listener = six.pod.inside(|| TcpListener::bind("[fd00:244:1::2]:8080").unwrap());
        for place in [&six.client, &six.node, &six.pod] {
            for to in ["[fd00:96::1]:80", "[fd00:1::111]:30000"] {
                let client = place.inside(|| connected(to));
                let (server, from) = listener.accept().unwrap();
                assert_heard(&client, &server);
                assert_heard(&server, &client);
                assert_eq!(from.ip(), ip("fd00:244:1::1"), "the node replaces the source");
            }
        }
    });
}
