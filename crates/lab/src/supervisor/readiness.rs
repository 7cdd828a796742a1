//! Whether the cluster is ready: every node, deployment, pod and virtual IP. Pure.

use client::{Event, Kind, Replica};
use model::{VirtualIp, World};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The kinds whose objects can be unready.
pub(super) const KINDS: [Kind; 6] = [
    Kind::NODE,
    Kind::DEPLOYMENT,
    Kind::STATEFUL_SET,
    Kind::DAEMON_SET,
    Kind::POD,
    Kind::VIRTUAL_IP,
];
/// Those of them that make pods.
const WORKLOADS: [Kind; 3] = [Kind::DEPLOYMENT, Kind::STATEFUL_SET, Kind::DAEMON_SET];

/// What is known of every object that can be unready.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    objects: BTreeMap<(Kind, String), Standing>,
    /// The nodes that there will be.
    nodes: BTreeSet<String>,
    /// Nodes and virtual IPs, to tell who shall hold which.
    replica: Replica,
    synced: bool,
}

/// How far one object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    ready: u64,
    wanted: u64,
}

impl Readiness {
    pub(super) fn of_nodes(nodes: impl IntoIterator<Item = String>) -> Readiness {
        Readiness { nodes: nodes.into_iter().collect(), ..Readiness::default() }
    }

    pub(super) fn apply(&mut self, event: Event) {
        self.replica.absorb(event.clone());
        match event {
            Event::Applied { kind, object } => {
                self.objects.insert((kind, key(&object)), standing(kind, &object));
            }
            Event::Deleted { kind, object } => {
                self.objects.remove(&(kind, key(&object)));
            }
            Event::Restarted { kind, objects } => {
                self.objects.retain(|(it, _), _| *it != kind);
                let all = objects.iter().map(|it| ((kind, key(it)), standing(kind, it)));
                self.objects.extend(all);
            }
            Event::Synced => self.synced = true,
            Event::Listing { .. } | Event::Listed { .. } => {}
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.synced && self.missing().is_empty()
    }

    pub(super) fn pods(&self) -> usize {
        self.objects.keys().filter(|(kind, _)| *kind == Kind::POD).count()
    }

    /// `3 of 3 nodes and 2 of 6 pods are ready`
    pub(super) fn outline(&self) -> String {
        let ready = |kind: Kind| {
            let of_kind = self.objects.iter().filter(|((it, _), _)| *it == kind);
            of_kind.filter(|(_, standing)| standing.ready >= standing.wanted).count()
        };
        let workloads = WORKLOADS.into_iter().flat_map(|kind| self.of_kind(kind));
        let wanted: u64 = workloads.map(|standing| standing.wanted).sum();
        let pods = self.pods().max(usize::try_from(wanted).unwrap_or(usize::MAX));
        let (nodes, all) = (ready(Kind::NODE), self.nodes.len());
        format!("{nodes} of {all} nodes and {} of {pods} pods are ready", ready(Kind::POD))
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Standing> {
        self.objects.iter().filter(move |((it, _), _)| *it == kind).map(|(_, standing)| standing)
    }

    /// What is not ready, each in a few words.
    pub(super) fn missing(&self) -> Vec<String> {
        let absent = self
            .nodes
            .iter()
            .filter(|name| !self.objects.contains_key(&(Kind::NODE, (*name).clone())));
        let unready = self.objects.iter().filter(|(_, standing)| standing.ready < standing.wanted);
        let words = unready.map(|((kind, key), standing)| match standing.wanted {
            1 => format!("{kind} {key}"),
            wanted => format!("{kind} {key} ({} of {wanted})", standing.ready),
        });
        let world = self.replica.world();
        let unsettled = world.virtual_ips().filter(|vip| !is_settled(world, vip));
        let unsettled = unsettled.map(|vip| format!("{} {}", Kind::VIRTUAL_IP, vip.meta.key.name));
        absent.map(|name| format!("Node {name}")).chain(words).chain(unsettled).collect()
    }
}

/// Held by the node that it will stay with: where the first in line may take over from others, by that one.
///
/// Nodes start one after the other, so a later one in line may hold it for a moment.
fn is_settled(world: &World, vip: &VirtualIp) -> bool {
    let Some(owner) = &vip.owner else { return false };
    let priority = |node: &str| {
        let taking_part = compile::virtual_ips(world, node).0;
        taking_part.get(&vip.meta.key.name).map(|vip| vip.priority)
    };
    let ready = world.nodes().filter(|node| node.ready).map(|node| &*node.meta.key.name);
    !vip.vrrp.preempt || ready.max_by_key(|node| priority(node)) == Some(owner)
}

fn key(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    match text("/metadata/namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn standing(kind: Kind, object: &Value) -> Standing {
    let number =
        |pointer, default| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(default);
    if matches!(kind, Kind::DEPLOYMENT | Kind::STATEFUL_SET) {
        let wanted = number("/spec/replicas", 1);
        return Standing { ready: number("/status/readyReplicas", 0), wanted };
    }
    if kind == Kind::DAEMON_SET {
        // Until its controller has counted the nodes nobody knows: the API begins with 0.
        let counted = number("/status/observedGeneration", 0) > 0;
        let wanted = if counted { number("/status/desiredNumberScheduled", 0) } else { 1 };
        return Standing { ready: number("/status/numberReady", 0), wanted };
    }
    let ready = match kind {
        Kind::POD => has_finished(object) || is_ready(object),
        // Its turn comes when all nodes are known.
        Kind::VIRTUAL_IP => true,
        _ => is_ready(object),
    };
    Standing { ready: u64::from(ready), wanted: 1 }
}

/// A pod that ended well, or is about to go, never becomes ready; of a failed one its Job takes care.
fn has_finished(pod: &Value) -> bool {
    let is_of_job = pod.pointer("/metadata/ownerReferences/0/kind").is_some_and(|it| it == "Job");
    let over = match pod.pointer("/status/phase").and_then(Value::as_str) {
        Some("Succeeded") => true,
        Some("Failed") => is_of_job,
        _ => false,
    };
    over || pod.pointer("/metadata/deletionTimestamp").is_some_and(|it| !it.is_null())
}

/// The condition `Ready` is `True`.
pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn conditioned(name: &str, namespace: Option<&str>, status: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": namespace},
            "status": {"conditions": [{"type": "Ready", "status": status}]}})
    }

    fn deployment(replicas: u64, ready: u64) -> Value {
        json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": replicas},
            "status": {"readyReplicas": ready}})
    }

    /// No node wants any of them: before it was counted, and afterwards.
    fn daemons(observed: u64) -> Value {
        json!({"metadata": {"name": "log", "namespace": "default"},
            "status": {"desiredNumberScheduled": 0, "numberReady": 0, "observedGeneration": observed}})
    }

    #[test]
    fn ready_is_when_nothing_is_missing() {
        let applied = |kind, object| Event::Applied { kind, object };
        let finished = json!({"metadata": {"name": "job"}, "status": {"phase": "Succeeded"}});
        let rows = [
            (Event::Synced, "Node a"),
            (applied(Kind::NODE, conditioned("a", None, "Unknown")), "Node a"),
            (
                applied(Kind::DEPLOYMENT, deployment(2, 0)),
                "Node a, Deployment default/web (0 of 2)",
            ),
            (
                applied(Kind::NODE, conditioned("a", None, "True")),
                "Deployment default/web (0 of 2)",
            ),
            (
                applied(Kind::POD, conditioned("x", Some("default"), "False")),
                "Pod default/x, Deployment default/web (0 of 2)",
            ),
            (applied(Kind::POD, finished), "Pod default/x, Deployment default/web (0 of 2)"),
            (applied(Kind::DEPLOYMENT, deployment(2, 2)), "Pod default/x"),
            (applied(Kind::DAEMON_SET, daemons(0)), "Pod default/x, DaemonSet default/log"),
            (applied(Kind::DAEMON_SET, daemons(1)), "Pod default/x"),
            (
                Event::Deleted {
                    kind: Kind::POD,
                    object: conditioned("x", Some("default"), "False"),
                },
                "",
            ),
        ];
        let mut readiness = Readiness::of_nodes(["a".to_owned()]);
        for (event, expected) in rows {
            readiness.apply(event);
            let mut missing = readiness.missing();
            missing.sort_by_key(|words| (!words.starts_with("Node"), !words.starts_with("Pod")));
            assert_eq!(missing.join(", "), expected);
            assert_eq!(readiness.is_complete(), expected.is_empty());
        }
        assert_eq!(readiness.outline(), "1 of 1 nodes and 1 of 2 pods are ready");
    }

    #[test]
    fn a_virtual_ip_is_ready_with_the_node_it_stays_with() {
        let applied = |kind, object| Event::Applied { kind, object };
        let node = |name: &str| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        };
        let vip = |owner: &str, preempt: bool| {
            json!({"apiVersion": "podway.io/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "edge"},
                "spec": {"addresses": ["10.1.1.200"], "vrrp": {"virtualRouterId": 2, "preempt": preempt}},
                "status": {"node": owner}})
        };
        let mut readiness = Readiness::of_nodes(["a".to_owned(), "b".to_owned()]);
        for event in [Event::Synced, applied(Kind::NODE, node("a")), applied(Kind::NODE, node("b"))]
        {
            readiness.apply(event);
        }
        for (owner, preempt, expected) in
            [("", true, false), ("b", true, false), ("b", false, true), ("a", true, true)]
        {
            readiness.apply(applied(Kind::VIRTUAL_IP, vip(owner, preempt)));
            assert_eq!(readiness.is_complete(), expected, "held by {owner:?}, preempt {preempt}");
        }
    }
}
