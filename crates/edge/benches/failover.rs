//! What a client of the virtual IP notices when its owner dies as by a power cut, beside keepalived.
//!
//! `cargo bench -p edge --bench failover [-- FAILOVERS]`. Two nodes and a client on a bridge, all in
//! namespaces of their own. The client opens a connection every 2 ms, whatever became of the earlier ones.
//! The owner's link is deleted and its processes are killed; both programs advertise every 100 ms with the
//! same priorities. Podway's answers pass its balancer, keepalived's come straight from the responder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures on stdout, talk on stderr")]

#[path = "../tests/it/child.rs"]
mod child;
#[path = "../tests/it/peer.rs"]
mod peer;
#[path = "../tests/it/segment.rs"]
mod segment;

use peer::Keepalived;
use segment::{Edge, Host, Segment, VIP, run, wait};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

const PORT: u16 = 30000;
const RESPONDER: u16 = 9376;
const PERIOD: Duration = Duration::from_millis(2);
/// A request without an answer after this time is lost.
const PATIENCE: Duration = Duration::from_millis(500);
const FAILOVERS: usize = 20;
const PRIORITIES: [u8; 2] = [254, 244];

fn main() -> ExitCode {
    if child::run() {
        return ExitCode::SUCCESS;
    }
    if !segment::is_inside() {
        let status = segment::unshare().args(std::env::args_os().skip(1)).status().unwrap();
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let wanted = std::env::args().skip(1).find_map(|word| word.parse().ok());
    measure(wanted.unwrap_or(FAILOVERS));
    ExitCode::SUCCESS
}

fn measure(failovers: usize) {
    let segment = Segment::new();
    let client = segment.host("client", 2);
    let (mut podway, mut keepalived) = (Vec::new(), Vec::new());
    for round in 1..=failovers {
        eprintln!("failover {round} of {failovers}");
        podway.push(fail_over(&segment, &client, start_podway));
        keepalived.push(fail_over(&segment, &client, start_keepalived));
    }
    let (podway, keepalived) = (Figures::of(podway), Figures::of(keepalived));
    println!("VIP failover, owner dead, advertisement 100 ms, {failovers} times each");
    println!("{:<24}{:>10}{:>12}{:>8}", "", "podway", "keepalived", "ratio");
    let row = |what: &str, ours: f64, theirs: f64| {
        println!("{what:<24}{ours:>10.0}{theirs:>12.0}{:>8.2}", ours / theirs);
    };
    row("longest gap, median, ms", podway.gaps.0, keepalived.gaps.0);
    row("longest gap, max, ms", podway.gaps.1, keepalived.gaps.1);
    row("requests lost, median", podway.lost.0, keepalived.lost.0);
    row("requests lost, max", podway.lost.1, keepalived.lost.1);
}

/// Processes of one node, killed when dropped.
type Processes = (Option<Keepalived>, Edge);

fn start_podway(nodes: &[Host; 2]) -> [Processes; 2] {
    let backends = nodes.each_ref().map(|node| format!("{}:{RESPONDER}", node.address)).join(",");
    let words = format!("port={PORT} backends={backends} respond={RESPONDER}");
    let start = |index: usize| (None, nodes[index].edge(PRIORITIES[index], true, &words));
    let [owner, other] = [start(0), start(1)];
    owner.1.wait(&["active", "b0=up", "b1=up"]);
    other.1.wait(&["backup"]);
    [owner, other]
}

fn start_keepalived(nodes: &[Host; 2]) -> [Processes; 2] {
    let start = |index: usize| {
        let responder = nodes[index].child(&format!("respond={PORT}"));
        (Some(Keepalived::start(&nodes[index], PRIORITIES[index], true)), responder)
    };
    [start(0), start(1)]
}

/// Lost requests, and the longest time without an answer.
fn fail_over(
    segment: &Segment,
    client: &Host,
    start: impl Fn(&[Host; 2]) -> [Processes; 2],
) -> (usize, Duration) {
    let nodes = [segment.host("a", 110), segment.host("b", 111)];
    let [owner, other] = start(&nodes);
    wait("the owner", || nodes[0].holds_vip().then_some(()));
    let load = std::thread::scope(|scope| {
        let load = scope.spawn(|| client.inside(request));
        // The client is in its stride, at a moment that has nothing to do with the advertisements.
        std::thread::sleep(Duration::from_millis(500));
        run("ip link delete dev a");
        drop(owner);
        load.join().unwrap()
    });
    drop(other);
    run("ip link delete dev b");
    run("ip netns delete a");
    run("ip netns delete b");
    load
}

/// Requests for 2.5 s.
fn request() -> (usize, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < Duration::from_millis(2500) {
            ticks.tick().await;
            sent += 1;
            // Its second writers are the requests in flight.
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                if timeout(PATIENCE, ask()).await.is_ok_and(|answered| answered) {
                    answers.lock().unwrap().push(start.elapsed());
                }
            });
        }
        sleep(PATIENCE).await;
        let answers = answers.lock().unwrap();
        let gaps = answers.windows(2).map(|pair| pair[1] - pair[0]);
        (sent - answers.len(), gaps.max().unwrap_or(Duration::MAX))
    })
}

async fn ask() -> bool {
    let to = SocketAddr::from((VIP, PORT));
    let Ok(mut stream) = TcpStream::connect(to).await else { return false };
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.is_ok_and(|octets| octets > 0)
}

/// Median and largest.
struct Figures {
    gaps: (f64, f64),
    lost: (f64, f64),
}

impl Figures {
    fn of(rounds: Vec<(usize, Duration)>) -> Self {
        let (lost, gaps): (Vec<usize>, Vec<Duration>) = rounds.into_iter().unzip();
        let number = |count: usize| f64::from(u32::try_from(count).unwrap());
        Figures {
            gaps: spread(gaps.iter().map(|gap| gap.as_secs_f64() * 1000.0).collect()),
            lost: spread(lost.into_iter().map(number).collect()),
        }
    }
}

fn spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}
