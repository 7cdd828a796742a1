//! A `podway agent` beside an API of many Services: its memory, how soon a change is in the kernel, and what it costs;
//! and a kube-proxy beside the same one.
//!
//! As root; each size and each proxy in a network namespace of its own. The API is the embedded one, in this process; the
//! proxies are the binaries.
//!
//! - `agent measure PODWAY SERVICESxENDPOINTS …`; `PODWAY_KUBE_PROXY` names a kube-proxy to measure in the same way.
//! - `agent rules KUBE-PROXY MODE SERVICESxENDPOINTS`: the rules that it makes in the mode, on standard output.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and ends at the first error"
)]

mod cluster;
mod proxy;

use client::Client;
use cluster::{Size, api, fill, newest, slice};
use futures::StreamExt;
use kernel::namespace::{in_netns, make_net};
use proxy::{Mode, Program, Running, changed, monitor};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const BURST: u32 = 1000;
/// Requests under way at once where many objects are written.
const AT_ONCE: usize = 16;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["measure", podway, sizes @ ..] => {
            let kube_proxy = std::env::var_os("PODWAY_KUBE_PROXY").map(PathBuf::from);
            for size in sizes {
                compare(Path::new(podway), kube_proxy.as_ref(), Size::of(size));
            }
        }
        ["rules", path, mode, size] => {
            let mode = Mode::ALL.into_iter().find(|it| it.name() == *mode).unwrap();
            let program = Program::KubeProxy { path: path.into(), mode };
            print!("{}", alone(rules(&program, mode, Size::of(size))));
        }
        _ => println!("agent measure PODWAY SIZE … | agent rules KUBE-PROXY MODE SIZE"),
    }
}

/// In a network namespace that nobody else has.
fn alone<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    };
    in_netns(make_net().unwrap(), run).unwrap()
}

fn compare(podway: &Path, kube_proxy: Option<&PathBuf>, size: Size) {
    println!("at {} Services with {} endpoints each", size.services, size.endpoints);
    let ours = alone(measure(&Program::Podway { path: podway.to_owned() }, size));
    for mode in Mode::ALL.into_iter().filter(|mode| size.services <= mode.most_services()) {
        let Some(path) = kube_proxy.cloned() else { continue };
        let theirs = alone(measure(&Program::KubeProxy { path, mode }, size));
        println!("  kube-proxy's as a multiple of podway's: {}", theirs.over(&ours));
    }
}

/// What can be compared.
struct Figures {
    first: Duration,
    /// The median, from write to kernel.
    change: Duration,
    resident: f64,
}

impl Figures {
    fn over(&self, other: &Figures) -> String {
        let times = |of: fn(&Figures) -> f64| of(self) / of(other);
        format!(
            "programmed {:.1}, one change {:.0}, resident {:.1}",
            times(|it| it.first.as_secs_f64()),
            times(|it| it.change.as_secs_f64()),
            times(|it| it.resident),
        )
    }
}

async fn measure(program: &Program, size: Size) -> Figures {
    println!("  {program}");
    let (client, server) = api().await;
    let last = fill(&client, size).await;
    let begin = Instant::now();
    let proxy = Running::start(program, &server);
    proxy.has_programmed(last).await;
    let first = begin.elapsed();
    let (resident, most) = (proxy.memory("VmRSS"), proxy.memory("VmHWM"));
    println!(
        "    started, listed, programmed: {:.2} s, {:.2} s of CPU",
        first.as_secs_f64(),
        proxy.cpu().as_secs_f64()
    );
    let own = proxy.memory("RssAnon");
    println!(
        "    resident: {resident:.1} MB ({own:.1} MB of it its own, the rest its binary), {most:.1} MB at most"
    );
    let change = single_changes(&client, &proxy, program, size).await;
    if matches!(program, Program::Podway { .. }) {
        burst(&client, &proxy, size).await;
    }
    println!("    resident after the changes: {:.1} MB", proxy.memory("VmRSS"));
    Figures { first, change, resident }
}

/// kube-proxy takes a second and more for each.
fn changes(program: &Program) -> u32 {
    match program {
        Program::Podway { .. } => 300,
        Program::KubeProxy { .. } => 7,
    }
}

/// One endpoint of one Service gets another address, when the change before is in the kernel; returns the median time.
async fn single_changes(
    client: &Client,
    proxy: &Running,
    program: &Program,
    size: Size,
) -> Duration {
    proxy.has_rested().await;
    let mut rules = monitor();
    let (mut from_write, mut from_answer) = (Vec::new(), Vec::new());
    let (before, number) = (proxy.cpu(), changes(program));
    for round in 1..=number {
        let object = slice((round * 7919) % size.services, size.endpoints, round);
        let write = async {
            let begin = Instant::now();
            let written = client::replace(client, &object).await.unwrap();
            (begin, Instant::now(), written)
        };
        let ((begin, answered, written), seen) = tokio::join!(write, changed(&mut rules));
        from_write.push(seen - begin);
        from_answer.push(seen.saturating_duration_since(answered));
        if matches!(program, Program::KubeProxy { .. }) {
            // One that makes its rules in several steps is not done with the first.
            proxy.has_programmed(newest(0, written).await).await;
            rules.get_mut().drain().unwrap();
        }
    }
    let cost = (proxy.cpu() - before) / number;
    println!("    one change, write to kernel:  {}", percentiles(&mut from_write));
    println!("    one change, answer to kernel: {}", percentiles(&mut from_answer));
    println!("    one change, CPU: {:.0} µs", cost.as_secs_f64() * 1e6);
    from_write[from_write.len() / 2]
}

/// Every one of many Services loses an endpoint and gets another, as fast as the API takes it.
async fn burst(client: &Client, proxy: &Running, size: Size) {
    let (begin, before) = (Instant::now(), proxy.cpu());
    let writes = (0..BURST).map(|number| {
        let object = slice((number * 31) % size.services, size.endpoints, BURST + number);
        let client = client.clone();
        async move { client::replace(&client, &object).await.unwrap() }
    });
    let last = futures::stream::iter(writes).buffer_unordered(AT_ONCE).fold(0, newest).await;
    let written = begin.elapsed().as_secs_f64();
    proxy.has_programmed(last).await;
    let (took, cost) = (begin.elapsed().as_secs_f64(), (proxy.cpu() - before) / BURST);
    println!(
        "    {BURST} changes at once: written in {written:.2} s, all in the kernel {:.1} ms later, {:.0} µs of CPU each",
        (took - written) * 1e3,
        cost.as_secs_f64() * 1e6
    );
}

/// What it programs for so many Services.
async fn rules(program: &Program, mode: Mode, size: Size) -> String {
    let (client, server) = api().await;
    let last = fill(&client, size).await;
    let proxy = Running::start(program, &server);
    proxy.has_programmed(last).await;
    let (tool, arguments) = mode.listing().split_first().unwrap();
    let output = Command::new(tool).args(arguments).output().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sorts them.
fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
    format!("{:.2} ms p50, {:.2} ms p99", at(50), at(99))
}
