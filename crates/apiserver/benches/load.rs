//! How fast and how large: start-up, creates, a long list, fan-out to many watchers. Prints, never fails.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use apiserver::{ApiServer, Config};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::time::{interval, timeout};

const PODS: usize = 10_000;
const WATCHERS: usize = 100;
const WRITES: usize = 2_000;
const WRITE_INTERVAL: Duration = Duration::from_millis(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let begun = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = ApiServer::new(&Config::new(address))?;
    tokio::spawn(server.serve(listener, std::future::pending()));
    let client = Client::try_from(kube::Config::new(format!("http://{address}").parse()?))?;
    client.apiserver_version().await?;
    println!("start to first answer: {:?}, resident {} MiB", begun.elapsed(), resident());
    let pods = objects(&client, "Pod");
    let begun = Instant::now();
    futures::stream::iter(0..PODS)
        .map(Ok)
        .try_for_each_concurrent(16, |index| create(&pods, index))
        .await?;
    let rate = PODS as f64 / begun.elapsed().as_secs_f64();
    println!("{PODS} pods created: {rate:.0}/s, resident {} MiB", resident());
    for round in ["first", "second"] {
        let begun = Instant::now();
        let text = client.request_text(http_get("/api/v1/pods")?).await?;
        println!(
            "{round} list of them: {:?}, {} KiB, resident {} MiB",
            begun.elapsed(),
            text.len() >> 10,
            resident()
        );
    }
    let begun = Instant::now();
    let parsed = pods.list(&ListParams::default()).await?.items.len();
    println!("list and parse {parsed}: {:?}", begun.elapsed());
    fan_out(&client).await
}

/// Writes carry the moment they were sent; each watcher notes how old they are on arrival.
async fn fan_out(client: &Client) -> Result<(), Failure> {
    let maps = objects(client, "ConfigMap");
    let epoch = Instant::now();
    let watchers = (0..WATCHERS).map(|_| tokio::spawn(delays(maps.clone(), epoch)));
    let watchers: Vec<_> = watchers.collect();
    let mut tick = interval(WRITE_INTERVAL);
    for index in 0..WRITES {
        tick.tick().await;
        let sent = epoch.elapsed().as_micros().to_string();
        let map = json!({"metadata": {"name": format!("m{index}")}, "data": {"sent": sent}});
        let maps = maps.clone();
        tokio::spawn(async move {
            maps.create(&PostParams::default(), &serde_json::from_value(map)?)
                .await
                .map_err(Failure::from)
        });
    }
    let mut all: Vec<u128> = Vec::new();
    for delays in join_all(watchers).await {
        all.extend(delays??);
    }
    all.sort_unstable();
    let at = |percent: usize| all.get(all.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "fan-out, {WATCHERS} watchers, {WRITES} writes {:?} apart: {} arrivals, p50 {} µs, p99 {} µs, resident {} MiB",
        WRITE_INTERVAL,
        all.len(),
        at(50),
        at(99),
        resident()
    );
    Ok(())
}

async fn delays(maps: Api<DynamicObject>, epoch: Instant) -> Result<Vec<u128>, Failure> {
    let mut events = maps.watch(&WatchParams::default(), "0").await?.boxed();
    let mut delays = Vec::new();
    while delays.len() < WRITES {
        let Ok(event) = timeout(Duration::from_secs(10), events.try_next()).await else { break };
        if let Some(WatchEvent::Added(map)) = event? {
            let sent: u128 =
                map.data["data"]["sent"].as_str().unwrap_or_default().parse().unwrap_or(0);
            delays.push(epoch.elapsed().as_micros().saturating_sub(sent));
        }
    }
    Ok(delays)
}

async fn create(pods: &Api<DynamicObject>, index: usize) -> Result<(), Failure> {
    let pod = json!({
        "metadata": {"name": format!("web-{index}"), "labels": {"app": "web", "tier": "front"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "echo", "ports": [{"containerPort": 9376}],
            "readinessProbe": {"httpGet": {"port": 9376}}}]},
    });
    let created = pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    debug_assert!(created.uid().is_some());
    Ok(())
}

fn objects(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn http_get(path: &str) -> Result<hyper::Request<Vec<u8>>, Failure> {
    Ok(hyper::Request::get(path).body(Vec::new())?)
}

/// Resident memory of this process (server and clients), in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    kib >> 10
}
