//! What is asked of a server, and how long it takes.

use crate::server::{Failure, Plan, Server};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::ops::Range;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, timeout};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCHERS: usize = 100;
const WRITES: usize = 5_000;
const WRITE_INTERVAL: Duration = Duration::from_millis(1);

/// A client of one server.
pub(crate) struct Load {
    client: Client,
}

/// A pod as a Deployment's controller makes them, about 1.3 kB in all.
fn pod(index: usize) -> Value {
    let port = json!({"name": "http", "containerPort": 8080, "protocol": "TCP"});
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5});
    let labels =
        json!({"app": "web", "pod-template-hash": "5d4f8c7b9", "shard": (index % 100).to_string()});
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9",
        "uid": "0b1c2d3e-4f50-4617-8899-aabbccddeeff", "controller": true, "blockOwnerDeletion": true});
    // Owners that nobody knows would have the pod collected.
    let annotation = json!({"bench/owner": owner.to_string()});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-5d4f8c7b9-{index}"), "labels": labels, "annotations": annotation},
        "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1.2.3", "ports": [port],
            "readinessProbe": probe, "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            "env": [{"name": "MODE", "value": "production"}]}]},
    })
}

impl Load {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        body: String,
    ) -> Result<(u16, usize), Failure> {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("accept", accept).header("content-type", "application/json");
        let response = self.client.send(request.body(Body::from(body.into_bytes()))?).await?;
        let (code, mut body) = (response.status().as_u16(), response.into_body());
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame?.data_ref().map_or(0, |data| data.len());
        }
        Ok((code, size))
    }

    /// Creates pods with so many requests under way at once.
    pub(crate) async fn create(
        &self,
        numbers: Range<usize>,
        clients: usize,
    ) -> Result<String, Failure> {
        let (count, begun) = (numbers.len(), Instant::now());
        let one = async |index| -> Result<(), Failure> {
            match self.send("POST", PODS, "application/json", pod(index).to_string()).await? {
                (201, _) => Ok(()),
                (code, _) => Err(format!("a pod was answered {code}").into()),
            }
        };
        let all = futures::stream::iter(numbers).map(one).buffer_unordered(clients);
        all.try_for_each(|()| async { Ok(()) }).await?;
        Ok(format!("{:.0}/s", count as f64 / begun.elapsed().as_secs_f64()))
    }

    /// The best of five.
    pub(crate) async fn list(&self, path: &str, accept: &str) -> Result<String, Failure> {
        let mut best = (Duration::MAX, 0);
        for _ in 0..5 {
            let begun = Instant::now();
            let (code, size) = self.send("GET", path, accept, String::new()).await?;
            if code != 200 {
                return Ok(format!("not served ({code})"));
            }
            best = best.min((begun.elapsed(), size));
        }
        Ok(format!("{:.1?}, {} KiB", best.0, best.1 >> 10))
    }

    /// Writes carry the moment they were sent; each watcher notes how old they are on arrival.
    pub(crate) async fn fan_out(&self) -> Result<Vec<(String, String)>, Failure> {
        let epoch = Instant::now();
        let watchers: Vec<_> =
            (0..WATCHERS).map(|_| tokio::spawn(delays(self.client.clone(), epoch))).collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut tick = interval(WRITE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let begun = Instant::now();
        let mut writes = Vec::new();
        for index in 0..WRITES {
            tick.tick().await;
            writes.push(tokio::spawn(write(self.client.clone(), index, epoch)));
        }
        let written = join_all(writes).await;
        let rate = WRITES as f64 / begun.elapsed().as_secs_f64();
        let answers: Vec<u128> = written.into_iter().flatten().collect::<Result<_, _>>()?;
        let mut arrivals = Vec::new();
        for delays in join_all(watchers).await {
            arrivals.extend(delays??);
        }
        let missed = WRITES * WATCHERS - arrivals.len();
        Ok(vec![
            (
                format!("writes while {WATCHERS} watch"),
                format!("{rate:.0}/s, answered after {}", percentiles(answers)),
            ),
            (
                "  and seen by a watcher after".into(),
                format!("{}, {missed} missed", percentiles(arrivals)),
            ),
        ])
    }
}

fn percentiles(mut micros: Vec<u128>) -> String {
    micros.sort_unstable();
    let at = |share: usize| {
        micros.get(micros.len() * share / 1000).copied().unwrap_or(0) as f64 / 1000.0
    };
    format!("{:.1} ms (p50), {:.1} ms (p99)", at(500), at(990))
}

/// Microseconds until it was answered.
async fn write(client: Client, index: usize, epoch: Instant) -> Result<u128, Failure> {
    let sent = epoch.elapsed().as_micros();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{index}")},
        "data": {"sent": format!("at {sent}"), "text": "x".repeat(200)}});
    Load::new(client).send("POST", MAPS, "application/json", map.to_string()).await?;
    Ok(epoch.elapsed().as_micros() - sent)
}

/// Looks for the moments in what comes, without understanding the rest of it.
async fn delays(client: Client, epoch: Instant) -> Result<Vec<u128>, Failure> {
    let target = format!("{MAPS}?watch=1&resourceVersion=0");
    let request = http::Request::get(target).body(Body::from(Vec::new()))?;
    let mut body = client.send(request).await?.into_body();
    let (mut delays, mut text) = (Vec::new(), Vec::new());
    while delays.len() < WRITES {
        let Ok(Some(frame)) = timeout(Duration::from_secs(20), body.frame()).await else { break };
        let now = epoch.elapsed().as_micros();
        text.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let moments = text[..end].split(|byte| *byte == b'\n').filter_map(moment);
        delays.extend(moments.map(|sent| now.saturating_sub(sent)));
        text.drain(..end);
    }
    Ok(delays)
}

/// `"sent":"at 123"`: nothing that Go would write as an escape.
fn moment(line: &[u8]) -> Option<u128> {
    const MARK: &[u8] = br#""sent":"at "#;
    let at = line.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits: Vec<u8> = line[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

/// How many objects of a pod's size etcd takes by itself.
pub(crate) async fn etcd(plan: &Plan) -> Result<(), Failure> {
    println!("\n{}", plan.name);
    let server = Server::start(plan).await?;
    crate::row("start to ready", format!("{:.0?}", server.took));
    crate::row("memory, idle", server.memory());
    let load = Load::new(server.client.clone());
    for (name, numbers, clients) in
        [("puts, one client", 0..300, 1), ("puts, 64 clients", 300..5000, 64)]
    {
        let (count, begun) = (numbers.len(), Instant::now());
        let put = async |index: usize| {
            // Keys and values are base64, in which any text of letters and a length of a multiple of four is.
            let (key, value) = (format!("pod{index:09}"), "podd".repeat(450));
            let body = json!({"key": key, "value": value}).to_string();
            load.send("POST", "/v3/kv/put", "application/json", body).await.map(drop)
        };
        let all = futures::stream::iter(numbers).map(put).buffer_unordered(clients);
        all.try_for_each(|()| async { Ok(()) }).await?;
        crate::row(name, format!("{:.0}/s", count as f64 / begun.elapsed().as_secs_f64()));
    }
    Ok(())
}
