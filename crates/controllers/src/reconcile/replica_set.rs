//! ReplicaSets and ReplicationControllers → Pods.

use super::status::{Tally, differences, earliest};
use super::{Now, template};
use crate::cluster::{Cluster, Trouble};
use crate::names::Names;
use crate::record::{Pod, ReplicaSet, owner_reference, stamp};
use crate::task::Task;
use crate::write::{Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use model::PodPhase;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Pods made or deleted at once, so that a big workload does not hold up the others' work.
const BURST: usize = 50;
/// The condition of a ReplicaSet, and from there of its Deployment, whose pods the API refuses.
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) fn plan(cluster: &Cluster, task: &Task, names: &mut Names, now: Now) -> Outcome {
    let Some(set) = set_of(cluster, task) else { return Outcome::default() };
    let pods: Vec<_> = cluster.pods_of(&set.meta.uid).collect();
    let tally = Tally::of(pods.iter().copied(), set.min_ready, now.wall);
    let mut outcome = Outcome { writes: Vec::new(), again: tally.next };
    if set.meta.terminating {
        return outcome;
    }
    let trouble = cluster.trouble(task);
    let trouble = trouble.filter(|_| tally.active != set.replicas);
    // What was refused is asked for one by one.
    let most = if trouble.is_some() { 1 } else { BURST };
    match trouble.map(|trouble| trouble.wait(now.uptime)).filter(|wait| !wait.is_zero()) {
        None => outcome.writes = scale(set, &pods, most, names),
        wait => outcome.again = earliest(outcome.again, wait),
    }
    // The pods that this makes or deletes bring the set up again; nothing to do for the rest of a burst.
    outcome.writes.extend(report(set, &pods, tally, trouble, now.wall));
    outcome
}

fn set_of<'a>(cluster: &'a Cluster, task: &Task) -> Option<&'a ReplicaSet> {
    match task {
        Task::ReplicationController(key) => cluster.workloads.replication_controllers.get(key),
        Task::ReplicaSet(key) => cluster.replica_set(key),
        _ => None,
    }
}

fn scale(set: &ReplicaSet, pods: &[&Pod], most: usize, names: &mut Names) -> Vec<Write> {
    let active: Vec<_> = pods.iter().copied().filter(|pod| pod.is_active()).collect();
    let wanted = usize::try_from(set.replicas).unwrap_or(usize::MAX);
    if active.len() <= wanted {
        let missing = (wanted - active.len()).min(most);
        return (0..missing).map(|_| Write::Create(new_pod(set, names))).collect();
    }
    let excess = (active.len() - wanted).min(most);
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
    let owner = owner_reference(&set.kind.api_version(), set.kind.kind, &key.name, &set.meta.uid);
    let mut pod = template::pod(&set.template, &key.namespace, &names.name(&prefix), owner);
    pod["metadata"]["generateName"] = prefix.into();
    pod
}

fn report(
    set: &ReplicaSet,
    pods: &[&Pod],
    tally: Tally,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> Option<Write> {
    let labels = set.template.pointer("/metadata/labels").and_then(Value::as_object);
    let is_labelled = |pod: &&&Pod| {
        let has = |(name, value): (&String, &Value)| {
            pod.base.meta.labels.get(name).map(String::as_str) == value.as_str()
        };
        pod.is_active() && labels.into_iter().flatten().all(has)
    };
    let mut status = Map::from_iter([
        ("replicas".to_owned(), tally.active.into()),
        ("fullyLabeledReplicas".to_owned(), pods.iter().filter(is_labelled).count().into()),
        ("readyReplicas".to_owned(), tally.ready.into()),
        ("availableReplicas".to_owned(), tally.available.into()),
        ("observedGeneration".to_owned(), set.generation.into()),
    ]);
    if set.kind == Kind::REPLICA_SET {
        status.insert("terminatingReplicas".to_owned(), tally.terminating().into());
    }
    let mut changed = differences(&set.status, status);
    let said = set.status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let reason = if tally.active < set.replicas { "FailedCreate" } else { "FailedDelete" };
    let failure = trouble.map(|trouble| (reason, &*trouble.message));
    if let Some(conditions) = with_failure(said, failure, now) {
        changed.insert("conditions".to_owned(), conditions.into());
    }
    if changed.is_empty() {
        return None;
    }
    // The API wants it in every status.
    changed.insert("replicas".to_owned(), tally.active.into());
    let (kind, key) = (set.kind, set.meta.key.clone());
    Some(Write::PatchStatus { kind, key, patch: json!({"status": changed}) })
}

/// The conditions with or without that pods fail to come or go; `None`: they say so already. The first failure counts,
/// as long as there is one.
fn with_failure(
    said: &[Value],
    failure: Option<(&str, &str)>,
    now: Timestamp,
) -> Option<Vec<Value>> {
    let is_ours = |condition: &&Value| condition["type"] == REPLICA_FAILURE;
    match (failure, said.iter().any(|it| is_ours(&it))) {
        (Some((reason, message)), false) => {
            let failure = json!({
                "type": REPLICA_FAILURE, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": stamp(now),
            });
            Some(said.iter().cloned().chain([failure]).collect())
        }
        (None, true) => Some(said.iter().filter(|it| !is_ours(it)).cloned().collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::fixture::pod;
    use model::ObjectKey;

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

    #[test]
    fn a_replication_controller_has_its_pods_by_a_plain_selector() {
        let mut bench = Bench::new();
        let labels = json!({"app": "web"});
        let manifest = |replicas: u32| {
            json!({
                "apiVersion": "v1", "kind": "ReplicationController",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"replicas": replicas, "selector": labels,
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c"}]}}},
            })
        };
        bench.apply(json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]},
            "metadata": {"name": "orphan", "namespace": "default", "labels": labels},
        }));
        bench.apply(manifest(2));
        bench.settle();
        let owners: Vec<_> = bench.pods().iter().map(|pod| owner(pod).to_string()).collect();
        assert_eq!(owners, [r#"["v1","ReplicationController","web"]"#; 2]);
        let key = (Kind::REPLICATION_CONTROLLER, ObjectKey::new("default", "web"));
        let counts = json!({"replicas": 2, "fullyLabeledReplicas": 2, "observedGeneration": 1});
        assert_eq!(bench.stored[&key]["status"], counts);

        let orphan = ObjectKey::new("default", "orphan");
        let mut released = bench.stored[&(Kind::POD, orphan.clone())].clone();
        released["metadata"]["labels"] = json!({"app": "other"});
        bench.store(Kind::POD, &orphan, released);
        bench.settle();
        assert_eq!(bench.pods().len(), 3, "another one takes its place");
        assert_eq!(owner(&bench.stored[&(Kind::POD, orphan)]), json!([null, null, null]));

        bench.apply(manifest(0));
        bench.settle();
        assert_eq!(bench.pods().len(), 1);
    }

    fn owner(pod: &Value) -> Value {
        let owner = &pod["metadata"]["ownerReferences"][0];
        json!([owner["apiVersion"], owner["kind"], owner["name"]])
    }

    #[test]
    fn pods_that_are_refused_are_asked_for_again_one_first() {
        let mut bench = Bench::new();
        let key = ObjectKey::new("default", "web");
        let task = Task::ReplicaSet(key.clone());
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}});
        bench.apply(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }));
        let conditions = |bench: &Bench| {
            bench.stored[&(Kind::REPLICA_SET, key.clone())]["status"]["conditions"].clone()
        };
        for message in ["exceeded quota", "another reason"] {
            bench.cluster.note_refusal(task.clone(), message, bench.now);
            bench.settle();
            assert_eq!(bench.pods().len(), 0, "not yet");
            let said = &conditions(&bench)[0];
            let expected = json!({
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "exceeded quota", "lastTransitionTime": "2027-01-15T08:00:00Z",
            });
            assert_eq!(*said, expected, "the first one stays");
        }
        bench.now += std::time::Duration::from_secs(1);
        bench.cluster.mark(task.clone());
        bench.work(usize::MAX);
        assert_eq!(bench.pods().len(), 1, "one to see whether it goes");
        bench.cluster.end_trouble(&task);
        bench.settle();
        assert_eq!(bench.pods().len(), 3);
        assert_eq!(conditions(&bench), json!([]));
    }
}
