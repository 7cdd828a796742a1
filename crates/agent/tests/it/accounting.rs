//! What connections to Services carry, counted from what the kernel tells of them.

use crate::node::{Node, in_own_namespace};
use crate::pods::{Pod, run};
use backend::Mode;
use kernel::conntrack::{Which, connections, delete};
use kernel::netlink::Socket;
use kernel::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const HEALTH: u16 = 10256;
const METRICS: u16 = 10249;
const PATIENCE: Duration = Duration::from_secs(30);

fn service() -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "port": 80, "protocol": protocol});
    let mut tcp = port("tcp", "TCP");
    tcp["nodePort"] = json!(30080);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.5.5", "ports": [tcp, port("udp", "UDP")]},
    })
}

fn slice(hosts: &[u8]) -> Value {
    let endpoints = hosts.iter().map(|host| json!({"addresses": [format!("10.244.0.{host}")]}));
    let port =
        |name: &str, protocol: &str| json!({"name": name, "port": 8080, "protocol": protocol});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [port("tcp", "TCP"), port("udp", "UDP")],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

/// Returns when the kernel has it.
async fn put(node: &Node, object: Value) {
    let kind = object["kind"].as_str().unwrap().to_owned();
    let written = node.put(object).await;
    let version = written["metadata"]["resourceVersion"].as_str().unwrap();
    let answer = node.ask(HEALTH, &format!("/programmed?{kind}={version}")).await;
    assert_eq!(answer.status, 200);
}

/// Connections, open ones, octets of requests and replies.
type Sums = (u64, u64, u64, u64);

/// The one row of `frontends` or `endpoints` that has these members; zeros, where there is none yet.
async fn sums(node: &Node, of: &str, members: &[(&str, Value)]) -> Sums {
    let answer = node.ask(METRICS, "/accounting").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let accounts = answer.json();
    let rows = accounts[of].as_array().unwrap().iter();
    let mut rows = rows.filter(|row| members.iter().all(|(name, value)| row[*name] == *value));
    let Some(row) = rows.next() else { return (0, 0, 0, 0) };
    assert!(rows.next().is_none(), "{accounts:#}");
    let number = |name: &str| row[name].as_u64().unwrap();
    (number("connections"), number("active"), number("requestBytes"), number("replyBytes"))
}

async fn frontend(node: &Node, address: &str, protocol: &str) -> Sums {
    sums(node, "frontends", &[("address", json!(address)), ("protocol", json!(protocol))]).await
}

async fn endpoint(node: &Node, host: u8, protocol: &str) -> Sums {
    let address = format!("10.244.0.{host}:8080");
    sums(node, "endpoints", &[("endpoint", json!(address)), ("protocol", json!(protocol))]).await
}

/// Sends and receives so many octets through the Service, and leaves the connection open.
fn converse(
    client: &Pod,
    to: SocketAddr,
    server: &TcpListener,
    there: usize,
    back: usize,
) -> (TcpStream, TcpStream) {
    let mut connection = client.inside(|| TcpStream::connect(to).unwrap());
    let (mut other, _) = server.accept().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            other.read_exact(&mut vec![0; there]).unwrap();
            other.write_all(&vec![1; back]).unwrap();
        });
        connection.write_all(&vec![2; there]).unwrap();
        connection.read_exact(&mut vec![0; back]).unwrap();
    });
    (connection, other)
}

/// What connection tracking itself has counted, of all connections to this address.
fn tracked(address: &str, protocol: u8) -> (u64, u64) {
    let address = address.parse::<std::net::IpAddr>().unwrap();
    let mut socket = Socket::netfilter().unwrap();
    let found = connections(&mut socket, Which::Ipv4, |it| {
        it.original.destination == address && it.original.protocol == protocol
    });
    let counts = found.unwrap().into_iter().map(|it| it.counts.unwrap());
    counts.fold((0, 0), |(there, back), it| (there + it.original.octets, back + it.reply.octets))
}

/// Makes the kernel forget connections to this address, and say so.
fn forget(address: &str) {
    let address = address.parse::<std::net::IpAddr>().unwrap();
    let mut socket = Socket::netfilter().unwrap();
    let found =
        connections(&mut socket, Which::Ipv4, |it| it.original.destination == address).unwrap();
    for connection in found {
        delete(&mut socket, &connection.original, connection.zone, Some(connection.id)).unwrap();
    }
}

#[test]
fn real_traffic_is_counted_by_front_end_and_endpoint() {
    const NAME: &str = "accounting::real_traffic_is_counted_by_front_end_and_endpoint";
    in_own_namespace(NAME, async || {
        let node = Node::new("accounting").await;
        let (client, server) = (Pod::new(10), Pod::new(5));
        let agent = node.start_agent_with(|options| options.connection_accounting = true).await;
        put(&node, service()).await;
        put(&node, slice(&[5])).await;
        let listener = server.inside(|| TcpListener::bind(server.at(8080)).unwrap());

        // While they are open, and after they have ended.
        let cluster_ip: SocketAddr = "10.96.5.5:80".parse().unwrap();
        let first = converse(&client, cluster_ip, &listener, 100_000, 300_000);
        let second = converse(&client, cluster_ip, &listener, 50_000, 10);
        let (connections, active, there, back) = frontend(&node, "10.96.5.5", "TCP").await;
        assert_eq!((connections, active), (2, 2));
        assert_eq!((there, back), tracked("10.96.5.5", 6));
        assert!(there > 150_000 && back > 300_010, "{there} {back}");
        assert_eq!(endpoint(&node, 5, "TCP").await, (2, 2, there, back));
        drop((first, second));
        forget("10.96.5.5");
        let (connections, active, there_now, back_now) = frontend(&node, "10.96.5.5", "TCP").await;
        assert_eq!((connections, active), (2, 0));
        // The kernel still may have seen the packets that closed them.
        assert!(there_now >= there && back_now >= back, "{there_now} {back_now}");

        // The node port is a front end of its own; the endpoint is the same.
        let node_port: SocketAddr = "10.1.1.110:30080".parse().unwrap();
        let third = converse(&client, node_port, &listener, 1000, 1000);
        let of_node = frontend(&node, "node", "TCP").await;
        assert_eq!((of_node.0, of_node.1), (1, 1));
        let of_endpoint = endpoint(&node, 5, "TCP").await;
        assert_eq!((of_endpoint.0, of_endpoint.1), (3, 1));
        assert_eq!(of_endpoint.2, there_now + of_node.2);

        datagrams(&node, &client, &server).await;
        in_metrics(&node).await;

        // Where nobody is, connections are refused, which rules count: on their way out, so there must be one.
        run("ip route add default dev eth0");
        put(&node, slice(&[])).await;
        client.inside(|| TcpStream::connect(cluster_ip)).unwrap_err();
        let rejected = "podway_service_rejected_connections_total{namespace=\"default\",service=\"web\",\
            address=\"10.96.5.5\",ip_family=\"IPv4\",protocol=\"TCP\",port=\"80\"} 1";
        node.until_metric(METRICS, rejected).await;
        assert_eq!(frontend(&node, "10.96.5.5", "TCP").await.0, 2, "a refused one is none");
        drop(third);
        agent.abort();
    });
}

async fn datagrams(node: &Node, client: &Pod, server: &Pod) {
    let bind = |pod: &Pod, port| {
        let socket = pod.inside(|| UdpSocket::bind(pod.at(port)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (asker, answerer) = (bind(client, 4000), bind(server, 8080));
    for _ in 0..10 {
        asker.send_to(&[0; 500], "10.96.5.5:80").unwrap();
        let (_, from) = answerer.recv_from(&mut [0; 500]).unwrap();
        answerer.send_to(&[0; 100], from).unwrap();
        asker.recv_from(&mut [0; 100]).unwrap();
    }
    // IP and UDP headers have 28 octets.
    let expected = (1, 1, 10 * 528, 10 * 128);
    assert_eq!(frontend(node, "10.96.5.5", "UDP").await, expected);
    assert_eq!(endpoint(node, 5, "UDP").await, expected);
}

async fn in_metrics(node: &Node) {
    let text = node.ask(METRICS, "/metrics").await.body;
    let udp = "namespace=\"default\",service=\"web\",address=\"10.96.5.5\",ip_family=\"IPv4\",protocol=\"UDP\",port=\"80\"";
    let to_endpoint = "namespace=\"default\",service=\"web\",endpoint=\"10.244.0.5:8080\",ip_family=\"IPv4\",protocol=\"UDP\"";
    for line in [
        format!("podway_service_active_connections{{{udp}}} 1"),
        format!("podway_service_bytes_total{{{udp},direction=\"request\"}} 5280"),
        format!("podway_service_bytes_total{{{udp},direction=\"reply\"}} 1280"),
        format!("podway_endpoint_connections_total{{{to_endpoint}}} 1"),
        format!("podway_endpoint_active_connections{{{to_endpoint}}} 1"),
        format!("podway_endpoint_bytes_total{{{to_endpoint},direction=\"request\"}} 5280"),
        format!("podway_endpoint_bytes_total{{{to_endpoint},direction=\"reply\"}} 1280"),
        "podway_connection_events_lost_total 0".to_owned(),
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in {text}");
    }
}

/// Sends a datagram to the Service from each of these ports: so many connections.
fn flood(client: &Pod, ports: std::ops::Range<u16>) {
    client.inside(|| {
        for port in ports {
            let socket = UdpSocket::bind(client.at(port)).unwrap();
            socket.send_to(b"hello", "10.96.5.5:80").unwrap();
        }
    });
}

#[test]
fn news_that_is_lost_is_counted_and_made_up_for() {
    const NAME: &str = "accounting::news_that_is_lost_is_counted_and_made_up_for";
    in_own_namespace(NAME, async || {
        let node = Node::new("lost-news").await;
        let (client, server) = (Pod::new(10), Pod::new(5));
        let _sink = server.inside(|| UdpSocket::bind(server.at(8080)).unwrap());
        put_both(&node).await;
        let agent = node.spawn_agent(Mode::Nft);
        until_programmed(&node).await;
        flood(&client, 1024..60_000);
        let all = 60_000 - 1024;
        let (connections, active, there, _) = frontend(&node, "10.96.5.5", "UDP").await;
        assert_eq!((connections, active, there), (all, all, all * 33));
        // More ends than the agent's socket has room for, while it cannot listen.
        agent.signal(Signal::SIGSTOP).unwrap();
        run("conntrack -F");
        agent.signal(Signal::SIGCONT).unwrap();
        let (connections, active, there, _) = frontend(&node, "10.96.5.5", "UDP").await;
        assert_eq!((connections, active, there), (all, 0, all * 33));
        let text = node.ask(METRICS, "/metrics").await.body;
        let lost =
            text.lines().find_map(|it| it.strip_prefix("podway_connection_events_lost_total "));
        assert_ne!(lost, Some("0"), "{text}");
        // What comes after it counts as ever.
        flood(&client, 2000..2100);
        assert_eq!(
            frontend(&node, "10.96.5.5", "UDP").await,
            (all + 100, 100, (all + 100) * 33, 0)
        );
        agent.signal(Signal::SIGKILL).unwrap();
        agent.reap().unwrap();
    });
}

async fn put_both(node: &Node) {
    node.put(service()).await;
    node.put(slice(&[5])).await;
}

async fn until_programmed(node: &Node) {
    let written = node.put(slice(&[5])).await;
    let version = written["metadata"]["resourceVersion"].as_str().unwrap();
    let answer = node.ask(HEALTH, &format!("/programmed?EndpointSlice={version}")).await;
    assert_eq!(answer.status, 200);
}

/// What it costs: the rate of connections through a Service, without it and with it, by turns.
#[test]
#[ignore = "a measurement, not a test"]
fn what_it_costs() {
    in_own_namespace("accounting::what_it_costs", async || {
        let node = Node::new("costs").await;
        let (client, server) = (Pod::new(10), Pod::new(5));
        let listener = server.inside(|| TcpListener::bind(server.at(8080)).unwrap());
        std::thread::spawn(move || listener.incoming().for_each(drop));
        put_both(&node).await;
        for round in 0..6 {
            let accounting = round % 2 == 1;
            kernel::sysctl::write("net/netfilter/nf_conntrack_acct", "0").unwrap();
            let environment: &[_] =
                if accounting { &[("PODWAY_TEST_ACCOUNTING", "1")] } else { &[] };
            let agent = node.spawn_agent_with(Mode::Nft, environment);
            until_programmed(&node).await;
            let before = (cpu(agent.pid()), cpu(std::process::id()));
            let (begin, mut number) = (Instant::now(), 0_u32);
            while begin.elapsed() < Duration::from_secs(4) {
                client.inside(|| (0..100).for_each(|_| connect_and_close()));
                number += 100;
            }
            let each = |pid: u32, before: Duration| {
                (cpu(pid) - before).as_secs_f64() * 1e6 / f64::from(number)
            };
            let (agents, ours) = (each(agent.pid(), before.0), each(std::process::id(), before.1));
            println!(
                "accounting {accounting}: {number} connections, {ours:.2} us CPU each, of the agent {agents:.2} us"
            );
            agent.signal(Signal::SIGKILL).unwrap();
            agent.reap().unwrap();
        }
    });
}

/// The server closes first, so that no TIME_WAIT keeps the client's ports.
fn connect_and_close() {
    let mut stream = TcpStream::connect(("10.96.5.5", 80)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

/// The processor time that a process has used: fields 14 and 15 of proc_pid_stat(5), in hundredths of seconds.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
