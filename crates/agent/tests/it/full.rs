//! A connection table that somebody fills to the last entry.

use crate::node::{Node, PATIENCE, in_own_namespace};
use crate::pods::{Pod, run};
use client::{Kind, Watch};
use kernel::conntrack::{Which, connections};
use kernel::netlink::{Batch, Socket};
use kernel::sysctl;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const HEALTH: u16 = 10256;
const METRICS: u16 = 10249;
const SERVICE: &str = "10.96.5.5:80";

/// `NLM_F_CREATE | NLM_F_EXCL` of linux/netlink.h.
const CREATE: u16 = 0x400 | 0x200;
// linux/netfilter/nfnetlink_conntrack.h
const NEW: u16 = 1 << 8;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const TIMEOUT: u16 = 7;
/// Seen in both directions, and not to be thrown out early: as connections are that somebody keeps alive.
const KEPT: u32 = 1 << 1 | 1 << 2 | 1 << 3;

/// Puts an entry of a UDP connection into the table.
fn enter(batch: &mut Batch, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) {
    let tuple = |from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)| {
        move |body: &mut kernel::netlink::Body<'_>| {
            body.nest(1, |body| {
                body.bytes(1, &from.0.octets());
                body.bytes(2, &to.0.octets());
            });
            body.nest(2, |body| {
                body.u8(1, 17);
                body.be16(2, from.1);
                body.be16(3, to.1);
            });
        }
    };
    batch.request(NEW, CREATE, |body| {
        body.fixed(&[2, 0, 0, 0]);
        body.nest(TUPLE_ORIGINAL, tuple(source, destination));
        body.nest(TUPLE_REPLY, tuple(destination, source));
        body.be32(STATUS, KEPT);
        body.be32(TIMEOUT, 600);
    });
}

/// Fills the table of this namespace, from this entry on, until the kernel takes no more; the entry after the last.
fn fill(culprit: Ipv4Addr, first: u32) -> u32 {
    let mut socket = Socket::netfilter().unwrap();
    for first in (first..).step_by(500) {
        let mut batch = Batch::default();
        for entry in first..first + 500 {
            let port = u16::try_from(1024 + entry % 60_000).unwrap();
            let to = Ipv4Addr::new(10, 244, 0, 100 + u8::try_from(entry / 60_000).unwrap());
            enter(&mut batch, (culprit, port), (to, 53));
        }
        let refused = socket.execute("fill the table", &mut batch).unwrap();
        assert!(refused.iter().all(|it| it.errno == kernel::Errno::ENOMEM), "{refused:?}");
        if !refused.is_empty() {
            return first + 500;
        }
    }
    unreachable!("the table has no limit")
}

#[test]
fn is_noticed_counted_and_told() {
    in_own_namespace("full::is_noticed_counted_and_told", async || {
        let node = Node::new("full").await;
        // The API is elsewhere on a real node, and who asks for metrics is connected already.
        run("nft add table inet exempt");
        for hook in ["output oifname", "prerouting iifname"] {
            let (hook, interface) = hook.split_once(' ').unwrap();
            run(&format!(
                "nft add chain inet exempt {hook} {{ type filter hook {hook} priority raw ; }}"
            ));
            run(&format!("nft add rule inet exempt {hook} {interface} lo notrack"));
        }
        let (client, server) = (Pod::new(10), Pod::new(5));
        let listener = server.inside(|| TcpListener::bind(server.at(8080)).unwrap());
        let agent = node.start_agent().await;
        let port = json!([{"port": 80, "targetPort": 8080}]);
        node.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.5.5", "ports": port},
        }))
        .await;
        let slice = node
            .apply(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
                "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["10.244.0.5"]}],
            }))
            .await;
        let version = slice["metadata"]["resourceVersion"].as_str().unwrap();
        node.ask(HEALTH, &format!("/programmed?EndpointSlice={version}")).await;
        let service: SocketAddr = SERVICE.parse().unwrap();
        let connect = |patience| client.inside(|| TcpStream::connect_timeout(&service, patience));
        drop(connect(PATIENCE).unwrap());

        let mut events = node.watch(Watch::from(Kind::EVENT));
        let culprit = Ipv4Addr::new(10, 244, 0, 66);
        let limit: u32 = sysctl::read("net/netfilter/nf_conntrack_max").unwrap().parse().unwrap();
        let mut next = fill(culprit, 0);
        let nearly = node.until_event(&mut events, "ConntrackNearlyFull").await;
        let message = nearly["message"].as_str().unwrap();
        assert!(message.contains("10.244.0.66 has opened at least"), "{message}");
        assert!(message.contains("raise net.netfilter.nf_conntrack_max"), "{message}");

        // As any client fares now; but some old entry may have ended meanwhile.
        let failure = loop {
            next = fill(culprit, next);
            if let Err(failure) = connect(Duration::from_secs(1)) {
                break failure;
            }
        };
        assert_eq!(failure.kind(), std::io::ErrorKind::TimedOut, "{failure}");
        let mut events = node.watch(Watch::from(Kind::EVENT));
        let full = node.until_event(&mut events, "ConntrackFull").await;
        let message = full["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("the connection table is full ({limit}): ")),
            "{message}"
        );
        assert_eq!(full["involvedObject"]["name"], "node-1");
        let metrics = node.ask(METRICS, "/metrics").await.body;
        let value = |name: &str| {
            let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.unwrap_or_else(|| panic!("{name} in {metrics}")).parse::<u32>().unwrap()
        };
        assert_eq!(value("podway_conntrack_limit"), limit);
        assert!(value("podway_conntrack_entries") >= limit - 10, "{metrics}");
        assert!(value("podway_conntrack_dropped_total") >= 1, "{metrics}");

        // Programming goes on meanwhile, and connections do when there is room again.
        run("conntrack -F");
        drop(connect(PATIENCE).unwrap());
        let mut socket = Socket::netfilter().unwrap();
        assert!(connections(&mut socket, Which::Both, |_| true).unwrap().len() < 100);
        drop(listener);
        agent.abort();
    });
}
