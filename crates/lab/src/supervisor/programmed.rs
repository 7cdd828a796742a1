//! Whether every node's kernel sends to every pod that a Service has: what a user means by ready.
//!
//! A pod that is ready is in an EndpointSlice a moment later, and in the nodes' tables a moment after that.

use crate::{Result, layout};
use client::{Client, Kind, Watch};
use kernel::namespace::in_netns;
use kernel::netlink::Socket;
use kernel::nft;
use model::Object;
use netstate::nft::ElementValue;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Between looks: nothing tells of changes in all of the nodes' kernels at once.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns when it is so, or cannot be told.
pub(super) async fn wait(client: &Client, nodes: &[String]) {
    match look_until_it_is_so(client, nodes).await {
        Ok(()) => {}
        Err(error) => tracing::warn!(error = crate::error::chain(&error), "cannot see the tables"),
    }
}

async fn look_until_it_is_so(client: &Client, nodes: &[String]) -> Result<()> {
    let mut objects = client::list(client, &Watch::from(Kind::SERVICE)).await?;
    objects.extend(client::list(client, &Watch::from(Kind::POD)).await?);
    let wanted = served(&objects);
    for node in nodes {
        while !tokio::task::block_in_place(|| programmed(node))?.is_superset(&wanted) {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// The addresses of ready pods behind Services that have an address of their own.
fn served(objects: &[Value]) -> BTreeSet<Ipv4Addr> {
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
    behind.flat_map(|pod| &pod.addresses).filter_map(v4).collect()
}

fn v4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

/// Every address that some map of a node's tables leads to.
fn programmed(node: &str) -> Result<BTreeSet<Ipv4Addr>> {
    let path = layout::node_netns(node);
    let netns = File::open(&path).map_err(crate::Error::file("open", path))?;
    let tables = in_netns(&netns, || -> kernel::Result<Vec<_>> {
        let mut socket = Socket::netfilter()?;
        let ids = nft::tables(&mut socket)?;
        ids.iter().map(|id| nft::read_table(&mut socket, id)).collect()
    })??;
    let sets = tables.iter().flatten().flat_map(|observed| observed.table.sets.values());
    let elements = sets.flat_map(|set| set.elements.values());
    Ok(elements.filter_map(|element| leads_to(&element.value)).collect())
}

/// The address at the head of an element's data.
fn leads_to(value: &ElementValue) -> Option<Ipv4Addr> {
    let ElementValue::Data(data) = value else { return None };
    let octets: [u8; 4] = data.as_bytes().get(..4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
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
        assert_eq!(served(&objects), BTreeSet::from([Ipv4Addr::new(10, 244, 0, 2)]));
    }
}
