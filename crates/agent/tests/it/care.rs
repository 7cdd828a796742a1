//! Connections under way when their Service changes.

use crate::node::{Node, in_own_namespace};
use crate::pods::{Pod, run};
use agent::Care;
use backend::Mode;
use client::Kind;
use kernel::conntrack::{Connection, Which, connections};
use kernel::netlink::Socket;
use kernel::stream::{Transport, begin_connect, listen_for};
use model::Family;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const METRICS: u16 = 10249;
/// `IPPROTO_SCTP`.
const SCTP: u8 = 132;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

fn service(protocol: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.5.5", "clusterIPs": ["10.96.5.5", "fd00:96::5"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80, "nodePort": 30080, "protocol": protocol}]},
    })
}

fn cluster_ip(family: Family) -> IpAddr {
    match family {
        Family::V4 => "10.96.5.5",
        Family::V6 => "fd00:96::5",
    }
    .parse()
    .unwrap()
}

/// The node has an address and pods of each family.
async fn become_dual_stack(node: &Node) {
    run("ip addr add fd00:1::110/64 dev eth0 nodad");
    // What a node has of the pod network never changes.
    client::delete(&node.client, Kind::NODE, None, "node-1", None).await.unwrap();
    node.apply(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:244::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"},
            {"type": "InternalIP", "address": "fd00:1::110"}]},
    }))
    .await;
}

fn slice(protocol: &str, endpoints: &[(u8, bool)]) -> Value {
    slice_of(Family::V4, protocol, endpoints)
}

/// Endpoints by the last part of their address; those that are not ready terminate.
fn slice_of(family: Family, protocol: &str, endpoints: &[(u8, bool)]) -> Value {
    let address = |host: &u8| match family {
        Family::V4 => format!("10.244.0.{host}"),
        Family::V6 => format!("fd00:244::{host:x}"),
    };
    let endpoint = |(host, ready): &(u8, bool)| {
        json!({"addresses": [address(host)],
            "conditions": {"ready": ready, "serving": true, "terminating": !ready}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family.to_string(),
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": 8080, "protocol": protocol}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn listen(pod: &Pod, family: Family) -> TcpListener {
    let at = match family {
        Family::V4 => pod.at(8080),
        Family::V6 => pod.at_v6(8080),
    };
    pod.inside(|| TcpListener::bind(at).unwrap())
}

/// A connection through the Service, and its other end.
fn connect(client: &Pod, server: &TcpListener, to: IpAddr) -> (TcpStream, TcpStream) {
    let connection = client.inside(|| TcpStream::connect((to, 80)).unwrap());
    connection.set_read_timeout(PATIENCE).unwrap();
    let (other, _) = server.accept().unwrap();
    (connection, other)
}

fn exchange((client, server): &mut (TcpStream, TcpStream)) {
    client.write_all(b"question").unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
}

#[test]
fn a_hanging_client_of_a_gone_pod_is_reset_and_one_of_a_terminating_pod_goes_on() {
    const NAME: &str =
        "care::a_hanging_client_of_a_gone_pod_is_reset_and_one_of_a_terminating_pod_goes_on";
    in_own_namespace(NAME, async || only_the_hanging_one_is_reset(Mode::Nft, Family::V4).await);
}

#[test]
fn so_it_is_with_ipv6() {
    in_own_namespace("care::so_it_is_with_ipv6", async || {
        only_the_hanging_one_is_reset(Mode::Nft, Family::V6).await;
    });
}

#[test]
fn so_it_is_where_a_relay_carries_the_connections() {
    in_own_namespace("care::so_it_is_where_a_relay_carries_the_connections", async || {
        only_the_hanging_one_is_reset(Mode::Userspace, Family::V4).await;
    });
}

async fn only_the_hanging_one_is_reset(mode: Mode, family: Family) {
    let node = Node::new("gone").await;
    become_dual_stack(&node).await;
    let (client, staying, leaving, fresh) = (Pod::new(10), Pod::new(5), Pod::new(6), Pod::new(7));
    let servers = [&staying, &leaving, &fresh].map(|pod| listen(pod, family));
    let care = Care { reset_gone_after: Some(Duration::from_millis(200)), ..Care::default() };
    let nets = ["10.244.0.0/16", "fd00:244::/32"].map(|net| net.parse().unwrap());
    let agent = node.start_agent_with(|options| {
        (options.care, options.mode) = (care, mode);
        options.settings = compile::Settings::new(nets.into());
    });
    let agent = agent.await;
    node.put_programmed(service("TCP")).await;
    let slice = |endpoints: &[(u8, bool)]| slice_of(family, "TCP", endpoints);
    node.put_programmed(slice(&[(5, true)])).await;
    let connect = |server| connect(&client, server, cluster_ip(family));
    let mut graceful = connect(&servers[0]);
    exchange(&mut graceful);
    node.put_programmed(slice(&[(5, false), (6, true)])).await;
    let mut hanging = connect(&servers[1]);
    exchange(&mut hanging);
    leaving.vanish();
    client.inside(lose_the_first_challenge);
    node.put_programmed(slice(&[(5, false), (7, true)])).await;
    // The agent shares this thread: the client's read must wait beside it.
    let (mut connection, _held) = hanging;
    let outcome = tokio::task::spawn_blocking(move || connection.read(&mut [0; 1]));
    let failure = outcome.await.unwrap().unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::ConnectionReset, "{failure}");
    exchange(&mut graceful);
    exchange(&mut connect(&servers[2]));
    node.until_metric(METRICS, "podway_connections_reset_total 1").await;
    let address = cluster_ip(family);
    let counted = format!(
        "podway_service_connections_total{{namespace=\"default\",service=\"web\",address=\"{address}\",\
         ip_family=\"{family}\",protocol=\"TCP\",port=\"80\"}} 3"
    );
    node.until_metric(METRICS, &counted).await;
    if mode == Mode::Userspace {
        relayed_octets_are_counted(&node).await;
    }
    agent.abort();
}

/// As when the queue of a device is full for a moment.
fn lose_the_first_challenge() {
    run("nft add table inet loss");
    run("nft add chain inet loss input { type filter hook input priority 0 ; }");
    run("nft add rule inet loss input tcp flags == syn numgen inc mod 9 0 drop");
}

async fn relayed_octets_are_counted(node: &Node) {
    for (name, octets) in [("request", 3 * 8 + 8), ("reply", 3 * 6 + 6)] {
        let line = format!(
            "podway_service_bytes_total{{namespace=\"default\",service=\"web\",address=\"10.96.5.5\",\
             ip_family=\"IPv4\",protocol=\"TCP\",port=\"80\",direction=\"{name}\"}} {octets}"
        );
        node.until_metric(METRICS, &line).await;
    }
    let endpoint = "podway_endpoint_connections_total{namespace=\"default\",service=\"web\",\
        endpoint=\"10.244.0.7:8080\",ip_family=\"IPv4\",protocol=\"TCP\"} 1";
    node.until_metric(METRICS, endpoint).await;
}

#[test]
fn stale_datagrams_find_the_new_endpoint_and_others_flows_stay() {
    const NAME: &str = "care::stale_datagrams_find_the_new_endpoint_and_others_flows_stay";
    in_own_namespace(NAME, async || {
        let node = Node::new("stale").await;
        let (client, old, new) = (Pod::new(10), Pod::new(5), Pod::new(6));
        let agent = node.start_agent().await;
        node.put_programmed(service("UDP")).await;
        node.put_programmed(slice("UDP", &[(5, true)])).await;
        let server = |pod: &Pod, port| {
            let socket = pod.inside(|| UdpSocket::bind(pod.at(port)).unwrap());
            socket.set_read_timeout(PATIENCE).unwrap();
            socket
        };
        let (old_server, new_server) = (server(&old, 8080), server(&new, 8080));
        let socket = server(&client, 4000);
        let ask = |server: &UdpSocket| {
            socket.send_to(b"question", ("10.96.5.5", 80)).unwrap();
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            server.send_to(b"answer", from).unwrap();
            socket.recv_from(&mut [0; 6]).unwrap();
        };
        ask(&old_server);
        // Somebody's own port that happens to have the node port's number.
        let (others, others_client) = (server(&new, 30080), server(&client, 4001));
        others_client.send_to(b"question", new.at(30080)).unwrap();
        others.recv_from(&mut [0; 8]).unwrap();
        let others_flow = || {
            let mut socket = Socket::netfilter().unwrap();
            let found = connections(&mut socket, Which::Ipv4, |connection| {
                connection.original.source_port() == Some(4001)
            });
            found.unwrap().into_iter().map(|connection| connection.id).collect::<Vec<_>>()
        };
        let before = others_flow();
        assert_eq!(before.len(), 1);
        let deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"}";
        node.put_programmed(slice("UDP", &[(6, true)])).await;
        node.until_metric(METRICS, &format!("{deleted} 1")).await;
        ask(&new_server);
        // Nobody at all, then the first one again.
        node.put_programmed(slice("UDP", &[])).await;
        node.until_metric(METRICS, &format!("{deleted} 2")).await;
        node.put_programmed(slice("UDP", &[(5, true)])).await;
        ask(&old_server);
        assert_eq!(others_flow(), before);
        agent.abort();
    });
}

/// An association through the Service, and its other end.
fn associate(
    client: &Pod,
    server: &TcpListener,
    (address, port): (&str, u16),
) -> (TcpStream, TcpStream) {
    let to = SocketAddr::new(address.parse().unwrap(), port);
    let begun = client.inside(|| begin_connect(to, Transport::Sctp).unwrap());
    let deadline = Instant::now() + PATIENCE.unwrap();
    let accepted = loop {
        match server.accept() {
            Ok((accepted, _)) => break accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "no association with {to}");
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    };
    for end in [&begun, &accepted] {
        end.set_nonblocking(false).unwrap();
        end.set_read_timeout(PATIENCE).unwrap();
    }
    (begun, accepted)
}

/// Endpoints that really answer associations of SCTP.
fn tracked() -> Vec<IpAddr> {
    let mut socket = Socket::netfilter().unwrap();
    let is_sctp = |connection: &Connection| connection.original.protocol == SCTP;
    let found = connections(&mut socket, Which::Ipv4, is_sctp).unwrap();
    found.into_iter().map(|connection| connection.reply.source).collect()
}

#[test]
#[ignore = "needs a kernel with SCTP and IPVS: scripts/vm-tests"]
fn sctp_is_carried_in_every_mode_and_forgotten_where_it_is_asked_for() {
    const NAME: &str = "care::sctp_is_carried_in_every_mode_and_forgotten_where_it_is_asked_for";
    in_own_namespace(NAME, async || {
        let node = Node::new("sctp").await;
        let (client, old, new) = (Pod::new(10), Pod::new(5), Pod::new(6));
        let listen = |pod: &Pod| pod.inside(|| listen_for(Transport::Sctp, pod.at(8080)).unwrap());
        let servers = [&old, &new].map(listen);
        node.put(service("SCTP")).await;
        for (mode, forget) in
            [(Mode::Nft, false), (Mode::Nft, true), (Mode::Iptables, true), (Mode::Ipvs, false)]
        {
            node.put(slice("SCTP", &[(5, true)])).await;
            let agent = node.start_agent_with(|options| {
                options.mode = mode;
                options.care.sctp = forget;
            });
            let agent = agent.await;
            node.put_programmed(slice("SCTP", &[(5, true)])).await;
            for door in [("10.96.5.5", 80), ("10.1.1.110", 30080)] {
                exchange(&mut associate(&client, &servers[0], door));
            }
            let mut lasting = associate(&client, &servers[0], ("10.96.5.5", 80));
            exchange(&mut lasting);
            assert!(tracked().contains(&old.address), "{mode}");
            node.put_programmed(slice("SCTP", &[(6, true)])).await;
            exchange(&mut associate(&client, &servers[1], ("10.96.5.5", 80)));
            if forget {
                let begun = Instant::now();
                while tracked().contains(&old.address) {
                    assert!(begun.elapsed() < PATIENCE.unwrap(), "{mode}: {:?}", tracked());
                    tokio::task::yield_now().await;
                }
            } else if mode == Mode::Nft {
                exchange(&mut lasting);
            }
            agent.abort();
            assert!(agent.await.unwrap_err().is_cancelled());
        }
    });
}
