//! Pods get their nodes.

use crate::cluster::Cluster;
use crate::record::{Node, Pod, Taint};
use crate::write::{Condition, Write};
use client::Kind;
use model::ObjectKey;
use std::collections::BTreeMap;

/// How full a node is; the smaller one is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    /// Pods of the same owner.
    pub(crate) siblings: usize,
    pub(crate) pods: usize,
}

pub(super) fn plan(cluster: &mut Cluster, key: &ObjectKey) -> Vec<Write> {
    let Some(pod) = cluster.pod(key).filter(|pod| pod.is_pending()) else { return Vec::new() };
    let owner = pod.owner.as_ref().map(|owner| owner.uid.as_str());
    let loaded = cluster.nodes().map(|node| (node, cluster.load(node.name(), owner)));
    match choose(pod, loaded) {
        Ok(node) => {
            let node = node.to_owned();
            cluster.assume(key, &node);
            vec![Write::Bind { pod: key.clone(), node }]
        }
        Err(message) => vec![Write::SetCondition {
            kind: Kind::POD,
            key: key.clone(),
            uid: pod.base.meta.uid.clone(),
            condition: Condition {
                kind: "PodScheduled",
                status: "False",
                reason: "Unschedulable",
                message,
            },
        }],
    }
}

/// The name of the node with the fewest pods of the same owner, then the fewest pods, then by name;
/// or why there is none, for people.
fn choose<'a>(pod: &Pod, nodes: impl Iterator<Item = (&'a Node, Load)>) -> Result<&'a str, String> {
    let (mut best, mut refused) = (None, BTreeMap::<String, usize>::new());
    for (node, load) in nodes {
        match refusal(pod, node) {
            Some(reason) => *refused.entry(reason).or_default() += 1,
            None => {
                let candidate = (load, node.name());
                best = Some(best.map_or(candidate, |best| candidate.min(best)));
            }
        }
    }
    best.map(|(_, name)| name).ok_or_else(|| explain(&refused))
}

fn refusal(pod: &Pod, node: &Node) -> Option<String> {
    let labels = &node.base.meta.labels;
    let bears = |taint: &str| Taint::no_schedule(taint).is_borne_by(pod);
    if node.cordoned && !bears("node.kubernetes.io/unschedulable") {
        return Some("unschedulable".to_owned());
    }
    if !node.base.ready && !bears("node.kubernetes.io/not-ready") {
        return Some("not ready".to_owned());
    }
    if pod.pinned.as_deref().is_some_and(|name| name != node.name()) {
        return Some("not matching the pod's node affinity".to_owned());
    }
    if pod.node_selector.iter().any(|(name, value)| labels.get(name) != Some(value)) {
        return Some("not matching the pod's node selector".to_owned());
    }
    let taint = node.repels(pod)?;
    Some(format!(
        "with the taint {{{}: {}}} that the pod does not tolerate",
        taint.key, taint.value
    ))
}

/// Whether a daemon's pod shall be on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suitability {
    Suits,
    /// No new one, but one that is there stays.
    Bearable,
    Unbearable,
}

impl Suitability {
    pub(super) fn of(pod: &Pod, node: &Node) -> Self {
        let labels = &node.base.meta.labels;
        let selected =
            pod.node_selector.iter().all(|(name, value)| labels.get(name) == Some(value));
        let named = pod.base.node.as_deref().is_none_or(|name| name == node.name());
        if !selected || !named || node.expels(pod) {
            Suitability::Unbearable
        } else if refusal(pod, node).is_some() {
            Suitability::Bearable
        } else {
            Suitability::Suits
        }
    }
}

fn explain(refused: &BTreeMap<String, usize>) -> String {
    let total: usize = refused.values().sum();
    let reasons: Vec<_> =
        refused.iter().map(|(reason, count)| format!("{count} node(s) {reason}")).collect();
    if reasons.is_empty() {
        "0/0 nodes are available: the cluster has no nodes".to_owned()
    } else {
        format!("0/{total} nodes are available: {}", reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{apply, node, pod};
    use serde_json::json;

    fn bound(cluster: &mut Cluster, name: &str) -> Result<String, String> {
        match plan(cluster, &ObjectKey::new("default", name)).remove(0) {
            Write::Bind { node, .. } => Ok(node),
            Write::SetCondition { condition, .. } => Err(condition.message),
            other => panic!("{other:?}"),
        }
    }

    fn pending(name: &str, owner: &str, spec: serde_json::Value) -> serde_json::Value {
        let mut pod = pod(name, None, None, false);
        pod["metadata"]["ownerReferences"] =
            json!([{"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]);
        for (field, value) in spec.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        pod
    }

    #[test]
    fn spreads_each_owner_then_all() {
        let mut cluster = Cluster::default();
        apply(&mut cluster, ["a", "b", "c"].map(|name| node(name, json!({}))));
        for index in 0..30 {
            let owner = if index % 5 == 0 { "db" } else { "web" };
            let name = format!("{owner}-{index}");
            apply(&mut cluster, [pending(&name, owner, json!({}))]);
            bound(&mut cluster, &name).unwrap();
        }
        for owner in ["db", "web"] {
            let counts = ["a", "b", "c"].map(|node| cluster.load(node, Some(owner)).siblings);
            let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
            assert!(most - least <= 1, "{owner}: {counts:?}");
        }
        let total: usize = ["a", "b", "c"].map(|node| cluster.load(node, None).pods).iter().sum();
        assert_eq!(total, 30);
    }

    #[test]
    fn refusals() {
        let plain = json!({});
        let ssd = json!({"metadata": {"labels": {"disk": "ssd"}}});
        let down = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let cordoned = json!({"spec": {"unschedulable": true}});
        let tainted =
            json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
        let was_down = json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}});
        let wants_ssd = json!({"nodeSelector": {"disk": "ssd"}});
        let tolerates = json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]});
        let rows = [
            (vec![], json!({}), "0/0 nodes are available: the cluster has no nodes"),
            (vec![&down], json!({}), "0/1 nodes are available: 1 node(s) not ready"),
            (vec![&cordoned, &ssd], json!({}), "n1"),
            (vec![&plain, &ssd], wants_ssd.clone(), "n1"),
            (
                vec![&plain, &down],
                wants_ssd,
                "0/2 nodes are available: 1 node(s) not matching the pod's node selector, \
                 1 node(s) not ready",
            ),
            (
                vec![&tainted],
                json!({}),
                "0/1 nodes are available: 1 node(s) with the taint {gpu: yes} that the pod does \
                 not tolerate",
            ),
            (vec![&tainted], tolerates, "n0"),
            (vec![&was_down], json!({}), "n0"),
        ];
        for (nodes, spec, expected) in rows {
            let mut cluster = Cluster::default();
            let nodes = nodes.into_iter().enumerate();
            apply(
                &mut cluster,
                nodes.map(|(index, with)| node(&format!("n{index}"), with.clone())),
            );
            apply(&mut cluster, [pending("p", "web", spec)]);
            let found = bound(&mut cluster, "p").unwrap_or_else(|message| message);
            assert_eq!(found, expected);
        }
    }
}
