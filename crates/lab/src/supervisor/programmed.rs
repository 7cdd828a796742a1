//! Whether every node sends to every pod that a Service has: what a user means by ready.
//!
//! A pod that is ready is in an EndpointSlice a moment later, and in the nodes' kernels a moment after that: each
//! node's agent answers on its health port when it has come that far.

use crate::{Error, Result, layout};
use client::{Client, Event, Kind, Watch, watch_kinds};
use kernel::namespace::in_netns;
use model::Object;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where agents answer.
const HEALTH_PORT: u16 = 10256;
/// Between knocks: nothing tells of an agent that begins to listen.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns when it is so, or cannot be told.
pub(super) async fn wait(client: &Client, nodes: &[String]) {
    match until_it_is_so(client, nodes).await {
        Ok(()) => {}
        Err(error) => tracing::warn!(error = crate::error::chain(&error), "cannot see the nodes"),
    }
}

async fn until_it_is_so(client: &Client, nodes: &[String]) -> Result<()> {
    let mut objects = client::list(client, &Watch::from(Kind::SERVICE)).await?;
    objects.extend(client::list(client, &Watch::from(Kind::POD)).await?);
    until_in_slices(client, &served(&objects)).await;
    let mut question = Vec::new();
    for kind in [Kind::SERVICE, Kind::ENDPOINT_SLICE, Kind::NODE] {
        let objects = client::list(client, &Watch::from(kind)).await?;
        question.extend(objects.iter().filter_map(version).max().map(|it| format!("{kind}={it}")));
    }
    let question = format!("/programmed?{}", question.join("&"));
    for node in nodes {
        while !is_told_yes(node, &question).await? {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

fn version(object: &Value) -> Option<u64> {
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

/// Waits until slices hold an address of each of these pods.
async fn until_in_slices(client: &Client, pods: &BTreeSet<Vec<IpAddr>>) {
    let mut watcher = watch_kinds(client, &[Kind::ENDPOINT_SLICE.into()]);
    let mut slices = BTreeMap::new();
    let is_there = |slices: &BTreeMap<String, BTreeSet<IpAddr>>, address: &IpAddr| {
        slices.values().any(|addresses| addresses.contains(address))
    };
    while !pods.iter().all(|pod| pod.iter().any(|address| is_there(&slices, address))) {
        match watcher.next().await {
            Event::Applied { object, .. } => {
                slices.insert(name(&object), ready_addresses(&object));
            }
            Event::Deleted { object, .. } => {
                slices.remove(&name(&object));
            }
            Event::Restarted { objects, .. } => {
                slices = objects.iter().map(|it| (name(it), ready_addresses(it))).collect();
            }
            Event::Listing { .. } | Event::Listed { .. } | Event::Synced => {}
        }
    }
}

fn name(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

fn ready_addresses(slice: &Value) -> BTreeSet<IpAddr> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let addresses = ready.filter_map(|endpoint| endpoint["addresses"].as_array()).flatten();
    addresses.filter_map(|address| address.as_str()?.parse().ok()).collect()
}

/// Asks a node's agent, which waits for the answer to become yes; no: too late, or not there yet.
async fn is_told_yes(node: &str, question: &str) -> Result<bool> {
    let path = layout::node_netns(node);
    let netns = File::open(&path).map_err(Error::file("open", path))?;
    let connect = || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, HEALTH_PORT));
    let Ok(stream) = in_netns(&netns, connect)? else { return Ok(false) };
    Ok(ask(stream, question).await.unwrap_or(false))
}

async fn ask(stream: std::net::TcpStream, question: &str) -> std::io::Result<bool> {
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream)?;
    let request = format!("GET {question} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

/// The addresses of each ready pod behind Services that have an address of their own.
fn served(objects: &[Value]) -> BTreeSet<Vec<IpAddr>> {
    let objects: Vec<_> = objects.iter().filter_map(|it| Object::parse(it).ok()).collect();
    let services = objects.iter().filter_map(|it| match it {
        Object::Service(service) if !service.cluster_ips.is_empty() => Some(service),
        _ => None,
    });
    let pods = || {
        objects.iter().filter_map(|it| match it {
            Object::Pod(pod) if pod.ready && !pod.meta.terminating => Some(pod),
            _ => None,
        })
    };
    let behind = services.flat_map(|service| {
        pods().filter(|pod| {
            let selects = |selector: &model::Selector| selector.matches(&pod.meta.labels);
            pod.meta.key.namespace == service.meta.key.namespace
                && service.selector.as_ref().is_some_and(selects)
        })
    });
    behind.map(|pod| pod.addresses.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_pods_behind_addresses_are_waited_for() {
        let service = |name: &str, cluster_ip: &str, selector: Value| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"clusterIP": cluster_ip, "selector": selector, "ports": [{"port": 80}]}})
        };
        let pod = |name: &str, app: &str, ready: &str, address: &str| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"containers": [{"name": "c"}]},
                "status": {"phase": "Running", "podIP": address,
                    "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let objects = [
            service("web", "10.96.0.5", json!({"app": "web"})),
            service("headless", "None", json!({"app": "other"})),
            service("by-hand", "10.96.0.6", json!(null)),
            pod("one", "web", "True", "10.244.0.2"),
            pod("two", "web", "False", "10.244.0.3"),
            pod("three", "other", "True", "10.244.0.4"),
        ];
        assert_eq!(served(&objects), BTreeSet::from([vec![IpAddr::from([10, 244, 0, 2])]]));
    }
    #[test]
    fn slices_offer_what_is_ready() {
        let slice = json!({"endpoints": [
            {"addresses": ["10.244.0.2"]},
            {"addresses": ["10.244.0.3"], "conditions": {"ready": false}},
            {"addresses": ["fd00::4"], "conditions": {"ready": true}},
        ]});
        let expected = ["10.244.0.2", "fd00::4"].map(|address| address.parse().unwrap());
        assert_eq!(ready_addresses(&slice), BTreeSet::from(expected));
    }
}
