//! How soon a client knows that nobody serves him.

use crate::cluster::{nodes, object, settings};
use crate::proxy::{Kind, Proxy};
use crate::space::{Space, address, as_root, ip, route};
use crate::testbed::compiled;
use backend::iptables::Variant;
use model::World;
use serde_json::json;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Whoever is not told at once repeats his SYN after a second (RFC 6298).
const AT_ONCE: Duration = Duration::from_millis(900);

/// Without endpoints, on a port that is a Service's and on one that is none; many in a row, since the kernel limits how
/// often it sends errors.
#[test]
fn a_process_of_the_node_is_refused_at_once() {
    as_root("refusal::a_process_of_the_node_is_refused_at_once", || {
        let service = object(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00:96::1"],
                     "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
                     "ports": [{"port": 80}]},
        }));
        let world = World::from_objects(nodes().into_iter().chain([service]));
        let program = compiled(&world, &settings());
        for kind in [Kind::Nft].into_iter().chain(Variant::ALL.map(Kind::Iptables)) {
            let (mut space, mut other) = (Space::new(), Space::new());
            space.wire("up", None, &mut other);
            space.change([
                address("up", "10.1.9.1/24"),
                address("up", "fd00:9::1/64"),
                route("0.0.0.0/0", Some("10.1.9.2"), "up"),
                route("::/0", Some("fd00:9::2"), "up"),
            ]);
            let mut proxy = space.inside(|| Proxy::open(kind));
            space.inside(|| proxy.reconcile(&program));
            for (host, port) in [("10.96.0.1", 80), ("fd00:96::1", 80), ("fd00:96::1", 81)] {
                refused_at_once(&space, SocketAddr::new(ip(host), port), kind);
            }
        }
    });
}

fn refused_at_once(space: &Space, to: SocketAddr, kind: Kind) {
    for _client in 0..20 {
        let begin = Instant::now();
        let outcome = space.inside(|| TcpStream::connect(to));
        let error = outcome.expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{kind:?} {to}");
        assert!(begin.elapsed() < AT_ONCE, "{kind:?} {to}: {:?}", begin.elapsed());
    }
}
