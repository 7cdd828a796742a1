//! The node's own word: it lives (its Lease) and pods can run here (its Ready condition).

use super::container::until_readable;
use super::machine::{Machine, description};
use super::plugins::{Network, NetworkList};
use super::remark::{STARTING, of_node};
use super::worker::Shared;
use super::{Config, clock};
use client::event::{About, Event};
use client::{Error, Kind};
use kernel::directory::Watch;
use model::Object;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Namespace of the nodes' Leases.
const LEASES: &str = "kube-node-lease";
/// How long one word may take; the next one is newer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Renews the Lease for ever.
pub(super) async fn keep_lease(shared: Arc<Shared>) {
    let Config { node, renewal, .. } = &shared.config;
    let seconds = renewal.as_secs().saturating_mul(4).max(1);
    let mut timer = tokio::time::interval(*renewal);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let spec = json!({
            "holderIdentity": node,
            "leaseDurationSeconds": seconds,
            "renewTime": clock::now_in_microseconds(),
        });
        match tokio::time::timeout(PATIENCE, renew(&shared, spec)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "lease not renewed"),
            Err(_late) => tracing::warn!("lease not renewed in time"),
        }
    }
}

async fn renew(shared: &Shared, spec: Value) -> Result<(), Error> {
    let (client, node) = (&shared.client, &shared.config.node);
    let patch = json!({"spec": spec});
    match client::patch_merge(client, Kind::LEASE, Some(LEASES), node, &patch).await {
        Err(Error::NotFound { .. }) => {}
        other => return other.map(drop),
    }
    let lease = json!({
        "apiVersion": Kind::LEASE.api_version(),
        "kind": Kind::LEASE.kind,
        "metadata": {"name": node, "namespace": LEASES},
        "spec": spec,
    });
    client::create(client, &lease).await.map(drop)
}

/// Keeps the Ready condition and what the node is made of as they should be, whoever changes it.
pub(super) async fn keep_ready(shared: Arc<Shared>, mut node: watch::Receiver<Option<Value>>) {
    let mut network = shared.network.clone();
    let machine = Machine::read();
    let mut told = Told::default();
    loop {
        let has_network = network.borrow_and_update().is_some();
        let found = node.borrow_and_update().clone();
        let status = found.as_ref().and_then(|found| {
            let described = description(found, &machine);
            merged(described, correction(found, has_network, &clock::now()))
        });
        for event in found.iter().flat_map(|found| told.news(found, has_network)) {
            // The kubelet ends where nobody listens.
            shared.remarks.send(event).ok();
        }
        if let Some(patch) = status.map(|status| json!({"status": status})) {
            let (client, name) = (&shared.client, &shared.config.node);
            let patched = client::patch_status(client, Kind::NODE, None, name, &patch);
            match tokio::time::timeout(PATIENCE, patched).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "condition not told"),
                Err(_late) => tracing::warn!("condition not told in time"),
            }
        }
        // The API's answer to the patch comes back as a change of the node; without one there is nothing to repeat.
        tokio::select! {
            changed = network.changed() => if changed.is_err() { return },
            changed = node.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PATIENCE) => {}
        }
    }
}

/// What people have heard of the node.
#[derive(Debug, Default)]
struct Told {
    begun: bool,
    unschedulable: bool,
    /// By the kubelet's own word.
    ready: Option<bool>,
}

impl Told {
    fn news(&mut self, node: &Value, has_network: bool) -> Vec<Event> {
        let Ok(Object::Node(parsed)) = Object::parse(node) else { return Vec::new() };
        let mut reasons = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            reasons.push(STARTING);
        }
        let unschedulable = node["spec"]["unschedulable"] == true;
        if std::mem::replace(&mut self.unschedulable, unschedulable) != unschedulable {
            reasons.push(if unschedulable { "NodeNotSchedulable" } else { "NodeSchedulable" });
        }
        // What it was before the first word of this kubelet, the API knows.
        let before =
            self.ready.replace(has_network).map(|ready| if ready { "True" } else { "False" });
        let before = before.or_else(|| ready(node)?["status"].as_str());
        if before.is_some_and(|before| (before == "True") != has_network) {
            reasons.push(if has_network { "NodeReady" } else { "NodeNotReady" });
        }
        let about = About::new(Kind::NODE, &parsed.meta);
        reasons.into_iter().map(|reason| of_node(about.clone(), reason)).collect()
    }
}

/// The node's Ready condition.
fn ready(node: &Value) -> Option<&Value> {
    let listed = node.pointer("/status/conditions").and_then(Value::as_array);
    listed.into_iter().flatten().find(|it| it["type"] == "Ready")
}

/// The fields of both.
fn merged(some: Option<Value>, more: Option<Value>) -> Option<Value> {
    match (some, more) {
        (Some(Value::Object(mut some)), Some(Value::Object(more))) => {
            some.extend(more);
            Some(some.into())
        }
        (some, more) => some.or(more),
    }
}

/// The status that makes the node's Ready condition right; none where it is.
fn correction(node: &Value, has_network: bool, now: &str) -> Option<Value> {
    let (status, reason, message) = if has_network {
        ("True", "KubeletReady", "pods can run here")
    } else {
        ("False", "NetworkNotReady", "no network configuration yet: the agent has not written it")
    };
    let listed = node.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = listed.cloned().unwrap_or_default();
    let is_ready = |it: &Value| it["type"] == "Ready";
    let before = conditions.iter().find(|it| is_ready(it));
    if before.is_some_and(|it| it["status"] == status && it["reason"] == reason) {
        return None;
    }
    let since =
        before.filter(|it| it["status"] == status).map(|it| it["lastTransitionTime"].clone());
    conditions.retain(|it| !is_ready(it));
    conditions.push(json!({
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": since.unwrap_or_else(|| now.into()),
    }));
    Some(json!({"conditions": conditions}))
}

/// The network configurations of a node, in a directory that somebody else writes.
pub(super) struct NetworkDirectory {
    config: Config,
    changes: AsyncFd<Watch>,
    network: watch::Sender<Option<Arc<NetworkList>>>,
}

impl NetworkDirectory {
    /// What is there now is known when this returns.
    pub(super) fn open(config: &Config) -> Result<(Self, Network), super::Error> {
        let directory = &config.cni_conf;
        std::fs::create_dir_all(directory).map_err(super::Error::file("create", directory))?;
        let changes = until_readable(Watch::new(directory)?)
            .map_err(super::Error::file("watch", directory))?;
        let (network, follower) = watch::channel(None);
        let opened = Self { config: config.clone(), changes, network };
        opened.read();
        Ok((opened, follower))
    }

    /// Follows it for ever.
    pub(super) async fn follow(&self) -> Result<(), super::Error> {
        let failed = || super::Error::file("watch", &self.config.cni_conf);
        loop {
            let mut ready = self.changes.readable().await.map_err(failed())?;
            self.changes.get_ref().drain()?;
            ready.clear_ready();
            self.read();
        }
    }

    fn read(&self) {
        match NetworkList::find(&self.config.cni_conf, &self.config.cni_path) {
            Ok(found) => drop(self.network.send_if_modified(|known| {
                let is_new = known.as_deref() != found.as_ref();
                *known = found.map(Arc::new);
                is_new
            })),
            // Half-written by somebody who does not rename: there will be one more change.
            Err(error) => tracing::warn!(%error, "network configuration"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_hear_what_is_new() {
        let node = |status: Option<&str>, unschedulable: bool| {
            let conditions: Vec<_> =
                status.into_iter().map(|it| json!({"type": "Ready", "status": it})).collect();
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"},
                "spec": {"unschedulable": unschedulable}, "status": {"conditions": conditions}})
        };
        let rows: &[&[(Value, bool, &[&str])]] = &[
            &[
                (node(None, false), false, &["Starting kubelet."]),
                (node(Some("False"), false), true, &["Node n status is now: NodeReady"]),
                (node(Some("False"), false), true, &[]),
                (node(Some("True"), true), true, &["Node n status is now: NodeNotSchedulable"]),
                (node(Some("Unknown"), false), true, &["Node n status is now: NodeSchedulable"]),
                (node(Some("True"), false), false, &["Node n status is now: NodeNotReady"]),
            ],
            &[(
                node(Some("Unknown"), false),
                true,
                &["Starting kubelet.", "Node n status is now: NodeReady"],
            )],
            &[(node(Some("True"), false), true, &["Starting kubelet."])],
        ];
        for rows in rows {
            let mut told = Told::default();
            for (node, has_network, expected) in *rows {
                let news = told.news(node, *has_network);
                let messages: Vec<_> = news.iter().map(|it| &*it.message).collect();
                assert_eq!(messages, *expected, "{node}");
            }
        }
    }

    #[test]
    fn only_a_wrong_condition_is_corrected() {
        let ready = |status: &str, reason: &str| json!({"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": "t0"});
        let other = json!({"type": "NetworkUnavailable", "status": "False"});
        let rows = [
            (json!([]), false, Some(("False", "now"))),
            (json!([]), true, Some(("True", "now"))),
            (json!([other]), true, Some(("True", "now"))),
            (json!([ready("False", "NetworkNotReady")]), false, None),
            (json!([ready("False", "NetworkNotReady"), other]), true, Some(("True", "now"))),
            (json!([ready("True", "KubeletReady")]), true, None),
            (json!([ready("True", "Somebody")]), true, Some(("True", "t0"))),
            (json!([ready("Unknown", "NodeStatusUnknown")]), true, Some(("True", "now"))),
        ];
        for (conditions, has_network, expected) in rows {
            let node = json!({"status": {"conditions": conditions}});
            let patch = correction(&node, has_network, "now");
            let after = patch.as_ref().map(|it| it["conditions"].as_array().unwrap());
            let made = after.and_then(|list| list.iter().find(|it| it["type"] == "Ready"));
            let made = made.map(|it| {
                (it["status"].as_str().unwrap(), it["lastTransitionTime"].as_str().unwrap())
            });
            assert_eq!(made, expected, "{conditions} {has_network}");
            let had_other = conditions.as_array().unwrap().contains(&other);
            assert!(after.is_none_or(|list| list.contains(&other) == had_other), "others stay");
        }
    }
}
