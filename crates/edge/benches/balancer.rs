//! What the balancer costs beside HAProxy in `mode tcp`, and beside no balancer at all.
//!
//! `make bench-balancer`. A client, a node and a back end on a bridge, in namespaces of
//! their own; all share the machine's processors. Rounds of the three paths alternate.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures on stdout, talk on stderr")]

#[path = "../tests/it/child.rs"]
mod child;
#[path = "../../relay/benches/shared/haproxy.rs"]
mod haproxy;
#[path = "../../relay/benches/shared/load.rs"]
mod load;
#[path = "../tests/it/segment.rs"]
mod segment;

use haproxy::Haproxy;
use load::{connections, echo, flood, listen, median, megabytes, requests};
use segment::{Host, Segment, VIP, run, wait};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;

const PORT: u16 = 30000;
const SMALL: u16 = 9376;
const BULK: u16 = 9377;
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    if child::run() {
        return ExitCode::SUCCESS;
    }
    if !segment::is_inside() {
        let status = segment::unshare().args(std::env::args_os().skip(1)).status().unwrap();
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    measure();
    ExitCode::SUCCESS
}

fn measure() {
    let segment = Segment::new();
    let client = segment.host("client", 2);
    let node = segment.host("node", 110);
    let backend = segment.host("backend", 11);
    for host in ["client", "node"] {
        // Ports of closed connections would run out.
        run(&format!("ip netns exec {host} sysctl -qw net.ipv4.tcp_tw_reuse=1"));
    }
    backend.inside(|| {
        listen(SMALL, echo);
        listen(BULK, flood);
    });
    println!("{:<26}{:>10}{:>10}{:>10}{:>17}", "", "direct", "podway", "haproxy", "podway/haproxy");
    compare("connections/s", &client, &node, &backend, SMALL, connections);
    compare("requests/s, kept open", &client, &node, &backend, SMALL, requests);
    compare("MB/s, one connection", &client, &node, &backend, BULK, |to| megabytes(to, 1));
}

/// A way to make load against an address for one round; how much was done.
type Load = fn(SocketAddr) -> f64;

fn compare(what: &str, client: &Host, node: &Host, backend: &Host, port: u16, load: Load) {
    let target = SocketAddr::from((backend.address, port));
    let edge = node.edge(254, true, &format!("port={PORT} backends={target}"));
    edge.wait(&["active", "b0=up"]);
    let beside = SocketAddr::from((node.address, PORT));
    let _haproxy =
        Haproxy::start(&[(beside, target)], |command| node.inside(|| command.spawn().unwrap()));
    let paths = [target, (VIP, PORT).into(), beside];
    wait("haproxy", || client.inside(|| TcpStream::connect(paths[2])).ok());
    let mut done = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (path, done) in paths.iter().zip(&mut done) {
            done.push(client.inside(|| load(*path)));
        }
    }
    let [direct, podway, haproxy] = done.map(median);
    let ratio = podway / haproxy;
    println!("{what:<26}{direct:>10.0}{podway:>10.0}{haproxy:>10.0}{ratio:>17.2}");
}
