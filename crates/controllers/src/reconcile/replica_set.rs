//! ReplicaSets → Pods.

use super::status::{Tally, differences};
use super::template;
use crate::cluster::Cluster;
use crate::names::Names;
use crate::record::{Pod, ReplicaSet, owner_reference};
use crate::write::{Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use model::{ObjectKey, PodPhase};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Pods made or deleted at once, so that a big workload does not hold up the others' work.
const BURST: usize = 50;

pub(super) fn plan(
    cluster: &Cluster,
    key: &ObjectKey,
    names: &mut Names,
    now: Timestamp,
) -> Outcome {
    let Some(set) = cluster.replica_set(key) else { return Outcome::default() };
    let pods: Vec<_> = cluster.pods_of(&set.meta.uid).collect();
    let tally = Tally::of(pods.iter().copied(), set.min_ready, now);
    let mut outcome = Outcome { writes: Vec::new(), again: tally.next };
    if !set.meta.terminating {
        outcome.writes = scale(set, &pods, names);
        // The pods that this makes or deletes bring the set up again; nothing to do for the rest of a burst.
        outcome.writes.extend(report(set, &pods, tally));
    }
    outcome
}

fn scale(set: &ReplicaSet, pods: &[&Pod], names: &mut Names) -> Vec<Write> {
    let active: Vec<_> = pods.iter().copied().filter(|pod| pod.is_active()).collect();
    let wanted = usize::try_from(set.replicas).unwrap_or(usize::MAX);
    if active.len() <= wanted {
        let missing = (wanted - active.len()).min(BURST);
        return (0..missing).map(|_| Write::Create(new_pod(set, names))).collect();
    }
    let excess = (active.len() - wanted).min(BURST);
    let victims = by_worth(active).into_iter().take(excess);
    let delete =
        |pod: &Pod| Write::Delete { kind: Kind::POD, key: pod.base.meta.key.clone(), grace: None };
    victims.map(delete).collect()
}

/// The least valuable first: those that serve nobody yet, then the cheap, the crowded, the young.
pub(super) fn by_worth(mut pods: Vec<&Pod>) -> Vec<&Pod> {
    let mut crowd = BTreeMap::<&str, usize>::new();
    for node in pods.iter().filter_map(|pod| pod.base.node.as_deref()) {
        *crowd.entry(node).or_default() += 1;
    }
    pods.sort_by_key(|pod| {
        let node = pod.base.node.as_deref();
        let phase = match pod.base.phase {
            PodPhase::Pending => 0,
            PodPhase::Unknown => 1,
            _ => 2,
        };
        let neighbours = node.and_then(|node| crowd.get(node)).copied().unwrap_or(0);
        (
            (node.is_some(), phase, pod.base.ready, pod.deletion_cost),
            Reverse(neighbours),
            Reverse(pod.ready_since),
            Reverse(pod.created),
            &pod.base.meta.key,
        )
    });
    pods
}

fn new_pod(set: &ReplicaSet, names: &mut Names) -> Value {
    let key = &set.meta.key;
    let prefix = format!("{}-", key.name);
    let owner = owner_reference("apps/v1", "ReplicaSet", &key.name, &set.meta.uid);
    let mut pod = template::pod(&set.template, &key.namespace, &names.name(&prefix), owner);
    pod["metadata"]["generateName"] = prefix.into();
    pod
}

fn report(set: &ReplicaSet, pods: &[&Pod], tally: Tally) -> Option<Write> {
    let labels = set.template.pointer("/metadata/labels").and_then(Value::as_object);
    let is_labelled = |pod: &&&Pod| {
        let has = |(name, value): (&String, &Value)| {
            pod.base.meta.labels.get(name).map(String::as_str) == value.as_str()
        };
        pod.is_active() && labels.into_iter().flatten().all(has)
    };
    let status = Map::from_iter([
        ("replicas".to_owned(), tally.active.into()),
        ("fullyLabeledReplicas".to_owned(), pods.iter().filter(is_labelled).count().into()),
        ("readyReplicas".to_owned(), tally.ready.into()),
        ("availableReplicas".to_owned(), tally.available.into()),
        ("terminatingReplicas".to_owned(), tally.terminating().into()),
        ("observedGeneration".to_owned(), set.generation.into()),
    ]);
    let mut changed = differences(&set.status, status);
    if changed.is_empty() {
        return None;
    }
    // The API wants it in every status.
    changed.insert("replicas".to_owned(), tally.active.into());
    let (kind, key) = (Kind::REPLICA_SET, set.meta.key.clone());
    Some(Write::PatchStatus { kind, key, patch: json!({"status": changed}) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::pod;

    #[test]
    fn the_least_valuable_goes_first() {
        let up = |name, node| pod(name, Some(node), Some("10.244.0.2"), true);
        let mut cheap = up("e-cheap", "b");
        cheap["metadata"]["annotations"] =
            json!({"controller.kubernetes.io/pod-deletion-cost": "-5"});
        let mut young = up("a-young", "c");
        young["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z".into();
        let mut old = up("b-old", "d");
        old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let values = [
            old,
            young,
            up("c-crowded", "a"),
            up("d-crowded", "a"),
            cheap,
            pod("f-unready", Some("e"), Some("10.244.0.3"), false),
            pod("g-starting", Some("e"), None, false),
            pod("h-pending", None, None, false),
        ];
        let pods: Vec<_> = values.iter().map(|value| Pod::parse(value).unwrap()).collect();
        let order = by_worth(pods.iter().collect());
        let names: Vec<_> = order.iter().map(|pod| &pod.base.meta.key.name[..1]).collect();
        assert_eq!(names.concat(), "hgfecdab");
    }
}
