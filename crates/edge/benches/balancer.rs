//! What the balancer costs beside HAProxy in `mode tcp`, and beside no balancer at all.
//!
//! `cargo bench -p edge --bench balancer`. A client, a node and a back end on a bridge, in namespaces of
//! their own; all share the machine's processors. Rounds of the three paths alternate.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures on stdout, talk on stderr")]

#[path = "../tests/it/child.rs"]
mod child;
#[path = "../tests/it/segment.rs"]
mod segment;

use segment::{Host, Segment, VIP, run, wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 30000;
const SMALL: u16 = 9376;
const BULK: u16 = 9377;
const MESSAGE: usize = 64;
const CLIENTS: usize = 8;
const ROUND: Duration = Duration::from_secs(1);
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
    backend.serve(SMALL, echo);
    backend.serve(BULK, flood);
    println!("{:<26}{:>10}{:>10}{:>10}{:>17}", "", "direct", "podway", "haproxy", "podway/haproxy");
    compare("connections/s", &client, &node, &backend, SMALL, connections);
    compare("requests/s, kept open", &client, &node, &backend, SMALL, requests);
    compare("MB/s, one connection", &client, &node, &backend, BULK, megabytes);
}

/// A way to make load against an address for one round; how much was done.
type Load = fn(SocketAddr) -> f64;

fn compare(what: &str, client: &Host, node: &Host, backend: &Host, port: u16, load: Load) {
    let target = SocketAddr::from((backend.address, port));
    let edge = node.edge(254, true, &format!("port={PORT} backends={target}"));
    edge.wait(&["active", "b0=up"]);
    let mut haproxy = start_haproxy(node, target);
    let paths = [target, (VIP, PORT).into(), (node.address, PORT).into()];
    wait("haproxy", || client.inside(|| TcpStream::connect(paths[2])).ok());
    let mut done = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (path, done) in paths.iter().zip(&mut done) {
            done.push(client.inside(|| load(*path)));
        }
    }
    haproxy.kill().unwrap();
    haproxy.wait().unwrap();
    let [direct, podway, haproxy] = done.map(median);
    let ratio = podway / haproxy;
    println!("{what:<26}{direct:>10.0}{podway:>10.0}{haproxy:>10.0}{ratio:>17.2}");
}

fn start_haproxy(node: &Host, target: SocketAddr) -> Child {
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
         listen web\n bind {}:{PORT}\n server b0 {target} check inter 1s\n",
        node.address
    );
    std::fs::write("/run/haproxy.cfg", config).unwrap();
    let mut command = node.command("haproxy");
    command.args(["-db", "-f", "/run/haproxy.cfg"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

impl Host {
    /// A thread for each connection.
    fn serve(&self, port: u16, answer: fn(TcpStream)) {
        let listener = self.inside(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || answer(stream));
            }
        });
    }
}

fn echo(mut stream: TcpStream) {
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {}
}

fn flood(mut stream: TcpStream) {
    let chunk = vec![0; 1 << 18];
    while stream.write_all(&chunk).is_ok() {}
}

fn connections(to: SocketAddr) -> f64 {
    by_clients(|until| {
        let mut count = 0.0;
        while Instant::now() < until {
            exchange(&mut TcpStream::connect(to).unwrap());
            count += 1.0;
        }
        count
    })
}

fn requests(to: SocketAddr) -> f64 {
    by_clients(|until| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut count = 0.0;
        while Instant::now() < until {
            exchange(&mut stream);
            count += 1.0;
        }
        count
    })
}

fn exchange(stream: &mut TcpStream) {
    let mut message = [7; MESSAGE];
    stream.write_all(&message).unwrap();
    stream.read_exact(&mut message).unwrap();
}

fn megabytes(to: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(to).unwrap();
    let mut buffer = vec![0; 1 << 18];
    let start = Instant::now();
    let mut megabytes = 0.0;
    while start.elapsed() < ROUND {
        let octets = u32::try_from(stream.read(&mut buffer).unwrap()).unwrap();
        megabytes += f64::from(octets) / 1e6;
    }
    megabytes / start.elapsed().as_secs_f64()
}

/// Per second, by all clients together.
fn by_clients(work: impl Fn(Instant) -> f64 + Sync) -> f64 {
    let start = Instant::now();
    let namespace = kernel::namespace::Namespace::current(kernel::namespace::Kind::Net).unwrap();
    let one = || kernel::namespace::in_netns(&namespace, || work(start + ROUND)).unwrap();
    #[expect(clippy::needless_collect, reason = "all must start before the first is waited for")]
    let done: f64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    done / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
