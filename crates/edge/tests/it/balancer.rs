//! Connections through a listener.

use crate::probe::isolated;
use crate::segment::{DEADLINE, Host, Segment, VIP, run, wait};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const PORT: u16 = 30000;
const BACKEND: u16 = 9376;

fn to_vip() -> SocketAddr {
    (VIP, PORT).into()
}

fn words(hosts: &[&Host]) -> String {
    let backends: Vec<String> =
        hosts.iter().map(|host| format!("{}:{BACKEND}", host.address)).collect();
    format!("port={PORT} backends={}", backends.join(","))
}

fn answers(client: &Host, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        *answers.entry(client.ask(to_vip())).or_default() += 1;
    }
    answers
}

#[test]
fn round_robin_over_the_healthy_and_a_reset_without_any() {
    isolated("balancer::round_robin_over_the_healthy_and_a_reset_without_any", || {
        let segment = Segment::new();
        let (node, client) = (segment.host("node", 110), segment.host("client", 2));
        let (a, b, c) = (segment.host("a", 11), segment.host("b", 12), segment.host("c", 13));
        for host in [&a, &b] {
            host.respond(BACKEND);
        }
        let edge = node.edge(200, true, &words(&[&a, &b, &c]));
        edge.wait(&["active", "b0=up", "b1=up", "b2=down"]);
        let expected = BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 5)]);
        assert_eq!(answers(&client, 10), expected);

        for host in ["a", "b"] {
            run(&format!("ip -n {host} link set eth0 down"));
        }
        edge.wait(&["b0=down", "b1=down"]);
        let refused = client.connect(to_vip()).and_then(|mut stream| stream.read(&mut [0]));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);

        run("ip -n a link set eth0 up");
        edge.wait(&["b0=up", "b1=down"]);
        assert_eq!(client.ask(to_vip()), "a");
    });
}

#[test]
fn a_dead_back_end_costs_no_request_and_little_time() {
    isolated("balancer::a_dead_back_end_costs_no_request_and_little_time", || {
        let segment = Segment::new();
        let (node, client) = (segment.host("node", 110), segment.host("client", 2));
        let (a, b) = (segment.host("a", 11), segment.host("b", 12));
        for host in [&a, &b] {
            host.respond(BACKEND);
        }
        let edge = node.edge(200, true, &words(&[&a, &b]));
        edge.wait(&["active", "b0=up", "b1=up"]);
        assert_eq!(answers(&client, 4).len(), 2);
        // Packets to it vanish: its neighbour entry on the node stays valid for a while.
        run("ip link delete dev b");
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(client.ask(to_vip()), "a");
            slowest = slowest.max(start.elapsed());
        }
        // One that went to the dead one first waited for the hedge (150 ms), not for the timeout (1 s).
        assert!(slowest < Duration::from_millis(900), "{slowest:?}");
        edge.wait(&["b0=up", "b1=down"]);
    });
}

#[test]
fn a_refusing_back_end_is_skipped() {
    isolated("balancer::a_refusing_back_end_is_skipped", || {
        let segment = Segment::new();
        let (node, client) = (segment.host("node", 110), segment.host("client", 2));
        let (a, b) = (segment.host("a", 11), segment.host("b", 12));
        a.respond(BACKEND);
        let listener = b.inside(|| TcpListener::bind(("0.0.0.0", BACKEND)).unwrap());
        let edge = node.edge(200, true, &words(&[&a, &b]));
        edge.wait(&["active", "b0=up", "b1=up"]);
        drop(listener);
        assert_eq!(answers(&client, 8), BTreeMap::from([("a".to_owned(), 8)]));
        edge.wait(&["b1=down"]);
    });
}

/// As behind a node port that chose an endpoint which died a moment ago: the next attempt meets another.
#[test]
fn a_back_end_that_missed_an_attempt_is_asked_again() {
    isolated("balancer::a_back_end_that_missed_an_attempt_is_asked_again", || {
        let segment = Segment::new();
        let (node, client) = (segment.host("node", 110), segment.host("client", 2));
        let a = segment.host("a", 11);
        a.respond(BACKEND);
        let edge = node.edge(200, true, &words(&[&a]));
        edge.wait(&["active", "b0=up"]);
        let inside = "ip netns exec a nft";
        run(&format!("{inside} add table ip t"));
        run(&format!("{inside} add chain ip t in {{ type filter hook input priority 0; }}"));
        // The first SYN, which has 60 octets, and no other.
        run(&format!(
            "{inside} add rule ip t in tcp dport {BACKEND} tcp flags syn quota 60 bytes drop"
        ));
        let start = Instant::now();
        assert_eq!(client.ask(to_vip()), "a");
        let took = start.elapsed();
        assert!(took < Duration::from_millis(900), "{took:?}: it waited for TCP to repeat itself");
    });
}

/// A connection of a client through the balancer, and its other end.
fn through(
    client: &Host,
    node: &Host,
    backend: &Host,
) -> (crate::segment::Edge, TcpStream, TcpStream) {
    let listener = backend.inside(|| TcpListener::bind(("0.0.0.0", BACKEND)).unwrap());
    listener.set_nonblocking(true).unwrap();
    let edge = node.edge(200, true, &words(&[backend]));
    edge.wait(&["active", "b0=up"]);
    let near = client.connect(to_vip()).unwrap();
    let mut greeting = near.try_clone().unwrap();
    greeting.write_all(b"hello").unwrap();
    // Health checks connect too, but say nothing.
    let far = wait("the connection", || {
        let (mut far, _from) = listener.accept().ok()?;
        far.set_nonblocking(false).unwrap();
        far.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut text = [0; 5];
        far.read_exact(&mut text).is_ok().then_some(far)
    });
    near.set_read_timeout(Some(DEADLINE)).unwrap();
    (edge, near, far)
}

#[test]
fn half_closed_connections_stay_open_the_other_way() {
    isolated("balancer::half_closed_connections_stay_open_the_other_way", || {
        let segment = Segment::new();
        let (node, client) = (segment.host("node", 110), segment.host("client", 2));
        let backend = segment.host("a", 11);
        let (_edge, mut near, mut far) = through(&client, &node, &backend);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut [0; 9]).unwrap(), 0);
        let answer: Vec<u8> = (0..3_000_000u32).map(|index| index.to_le_bytes()[0]).collect();
        let sender = std::thread::spawn({
            let answer = answer.clone();
            move || far.write_all(&answer).unwrap()
        });
        let mut received = Vec::new();
        near.read_to_end(&mut received).unwrap();
        sender.join().unwrap();
        assert!(received == answer, "every octet, in order");
    });
}

fn check_reset(from_client: bool) {
    let segment = Segment::new();
    let (node, client) = (segment.host("node", 110), segment.host("client", 2));
    let backend = segment.host("a", 11);
    let (_edge, near, far) = through(&client, &node, &backend);
    let (closing, mut other) = if from_client { (near, far) } else { (far, near) };
    // Closing with unread octets makes the kernel send a reset.
    other.write_all(b"unread").unwrap();
    wait("the octets", || closing.peek(&mut [0]).ok());
    drop(closing);
    let error = other.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_by_the_client_reaches_the_back_end() {
    isolated("balancer::a_reset_by_the_client_reaches_the_back_end", || check_reset(true));
}

#[test]
fn a_reset_by_the_back_end_reaches_the_client() {
    isolated("balancer::a_reset_by_the_back_end_reaches_the_client", || check_reset(false));
}
