//! DaemonSets → one pod on every node that suits.

use super::revision::{self, REVISION_HASH, Subject};
use super::schedule::Suitability;
use super::status::{Tally, differences, is_available};
use super::template;
use crate::cluster::Cluster;
use crate::names::Names;
use crate::record::{DaemonSet, Pod, owner_reference, tolerate};
use crate::write::{Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A node and the set's pods on it.
#[derive(Debug, Clone, Default)]
struct Place<'a> {
    /// A pod shall be there.
    wanted: bool,
    /// A pod that is there may stay.
    bearable: bool,
    pods: Vec<Daemon<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Daemon<'a> {
    pod: &'a Pod,
    available: bool,
    updated: bool,
}

impl<'a> Place<'a> {
    /// The one that a node counts by: while an update surges there are two.
    fn oldest(&self) -> Option<&Daemon<'a>> {
        let age = |it: &&Daemon<'_>| {
            (it.pod.base.node.is_none(), it.pod.created, it.pod.base.meta.key.clone())
        };
        self.pods.iter().min_by_key(age)
    }
}

pub(super) fn plan(
    cluster: &Cluster,
    key: &ObjectKey,
    names: &mut Names,
    now: Timestamp,
) -> Outcome {
    let Some(set) = cluster.workloads.daemon_sets.get(key) else { return Outcome::default() };
    if set.meta.terminating {
        return Outcome::default();
    }
    let revisions: Vec<_> = cluster.workloads.revisions.owned_by(&set.meta.uid).collect();
    let subject = Subject { kind: Kind::DAEMON_SET, meta: &set.meta, template: &set.template };
    let (latest, write) = subject.latest(&revisions);
    // The hash in the name, whoever made the revision.
    let hash = latest.strip_prefix(&format!("{}-", key.name)).unwrap_or(&latest).to_owned();
    let (places, ended) = places(cluster, set, &hash, now);
    let mut writes: Vec<_> = write.into_iter().collect();
    writes.extend(ended.into_iter().map(delete));
    writes.extend(settle(set, &places, &hash, names));
    let live = |name: &str| {
        let uses = |it: &Daemon<'_>| revision_of(it.pod).is_some_and(|hash| name.ends_with(hash));
        name == latest || places.values().flat_map(|place| &place.pods).any(uses)
    };
    writes.extend(revision::forget(&revisions, live, set.history));
    writes.extend(report(set, &places));
    let pods = places.values().flat_map(|place| &place.pods).map(|it| it.pod);
    Outcome { writes, again: Tally::of(pods, set.min_ready, now).next }
}

/// All nodes with what is on them, and the pods that have ended.
fn places<'a>(
    cluster: &'a Cluster,
    set: &DaemonSet,
    hash: &str,
    now: Timestamp,
) -> (BTreeMap<&'a str, Place<'a>>, Vec<&'a Pod>) {
    let mut places: BTreeMap<&str, Place<'_>> = BTreeMap::new();
    for node in cluster.nodes() {
        let suits = Suitability::of(&set.sample, node);
        let place = Place {
            wanted: suits == Suitability::Suits,
            bearable: suits != Suitability::Unbearable,
            pods: Vec::new(),
        };
        places.insert(node.name(), place);
    }
    let mut ended = Vec::new();
    for pod in cluster.pods_of(&set.meta.uid) {
        if pod.base.phase.is_over() {
            ended.extend((!pod.base.meta.terminating).then_some(pod));
            continue;
        }
        // Its node may be gone meanwhile: nothing shall be there.
        let node = pod.base.node.as_deref().or(pod.pinned.as_deref()).unwrap_or_default();
        let available = is_available(pod, set.min_ready, now);
        let updated = revision_of(pod) == Some(hash);
        places.entry(node).or_default().pods.push(Daemon { pod, available, updated });
    }
    (places, ended)
}

fn revision_of(pod: &Pod) -> Option<&str> {
    pod.base.meta.labels.get(REVISION_HASH).map(String::as_str)
}

fn delete(pod: &Pod) -> Write {
    Write::Delete { kind: Kind::POD, key: pod.base.meta.key.clone(), grace: None }
}

/// Pods that are missing or too many, and the next part of a rolling update.
fn settle(
    set: &DaemonSet,
    places: &BTreeMap<&str, Place<'_>>,
    hash: &str,
    names: &mut Names,
) -> Vec<Write> {
    let wanted = places.values().filter(|place| place.wanted).count();
    let count = |amount: Option<u32>| usize::try_from(amount.unwrap_or(0)).unwrap_or(usize::MAX);
    let of = u32::try_from(wanted).unwrap_or(u32::MAX);
    let surge = count(set.rolling.map(|rules| rules.surge.rounded_up(of)));
    let unavailable = count(set.rolling.map(|rules| rules.unavailable.rounded_up(of)));
    let rolling = set.rolling.is_some();
    // Nothing would ever be renewed; an API server that lets somebody ask for it says so nowhere.
    let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
    let mut budget = Budget::of(places, surge, unavailable);
    let mut writes = Vec::new();
    for (node, place) in places {
        let active: Vec<_> = place.pods.iter().filter(|it| it.pod.is_active()).collect();
        if !place.bearable {
            writes.extend(active.iter().map(|it| delete(it.pod)));
            continue;
        }
        if active.is_empty() {
            // One that is on its way out may still hold ports of the node.
            if place.wanted && place.pods.is_empty() {
                writes.push(Write::Create(new_pod(set, node, hash, names)));
            }
            continue;
        }
        let (new, old): (Vec<_>, Vec<_>) = active.iter().partition(|it| it.updated || !rolling);
        writes.extend(surplus(&new).map(|it| delete(it.pod)));
        writes.extend(surplus(&old).map(|it| delete(it.pod)));
        match (new.first(), old.first()) {
            (Some(new), Some(old)) if new.available || !old.pod.base.ready => {
                writes.push(delete(old.pod));
            }
            // One that surges has its new pod beside the old one, however that is.
            (None, Some(old)) if !old.available && (surge == 0 || !place.wanted) => {
                writes.push(delete(old.pod));
            }
            (None, Some(old)) if !old.available => {
                writes.push(Write::Create(new_pod(set, node, hash, names)));
            }
            (None, Some(_)) if place.wanted && take(&mut budget.surge) => {
                writes.push(Write::Create(new_pod(set, node, hash, names)));
            }
            (None, Some(old)) if !place.wanted && take(&mut budget.spare) => {
                writes.push(delete(old.pod));
            }
            (None, Some(old)) if take(&mut budget.unavailable) => writes.push(delete(old.pod)),
            _ => {}
        }
    }
    writes
}

/// All but the oldest.
fn surplus<'a, 'b>(
    pods: &[&'b &'a Daemon<'a>],
) -> impl Iterator<Item = &'a Daemon<'a>> + use<'a, 'b> {
    let mut pods: Vec<&'a Daemon<'a>> = pods.iter().map(|it| **it).collect();
    pods.sort_by_key(|it| (!it.available, it.pod.created, it.pod.base.meta.key.clone()));
    pods.into_iter().skip(1)
}

/// How much further a rolling update may go now.
struct Budget {
    surge: usize,
    unavailable: usize,
    /// While it surges: so many nodes serve beyond those that shall, and those that no longer suit may lose theirs.
    spare: usize,
}

impl Budget {
    fn of(places: &BTreeMap<&str, Place<'_>>, surge: usize, unavailable: usize) -> Self {
        let counted = || places.values().filter(|place| place.wanted || !place.pods.is_empty());
        let serves =
            |place: &&Place<'_>| place.pods.iter().any(|it| it.available && it.pod.is_active());
        // Its new pod is waited for.
        let doubled = |place: &&Place<'_>| {
            let active = || place.pods.iter().filter(|it| it.pod.is_active());
            active().any(|it| it.updated && !it.available) && active().any(|it| !it.updated)
        };
        let away = counted().filter(|place| !serves(place)).count();
        let is_served = |place: &&Place<'_>| {
            let active = || place.pods.iter().filter(|it| it.pod.is_active());
            let counts = active().find(|it| !it.updated).or_else(|| active().next());
            counts.is_some_and(|it| it.available)
        };
        let wanted = places.values().filter(|place| place.wanted).count();
        let served = if surge > 0 { places.values().filter(is_served).count() } else { 0 };
        Budget {
            spare: served.saturating_sub(wanted),
            surge: surge.saturating_sub(counted().filter(doubled).count()),
            unavailable: unavailable.saturating_sub(away),
        }
    }
}

/// Takes one of what is left; false: nothing is.
fn take(left: &mut usize) -> bool {
    let has = *left > 0;
    *left -= usize::from(has);
    has
}

/// A pod that only this node will do for.
fn new_pod(set: &DaemonSet, node: &str, hash: &str, names: &mut Names) -> Value {
    let key = &set.meta.key;
    let prefix = format!("{}-", key.name);
    let owner = owner_reference("apps/v1", "DaemonSet", &key.name, &set.meta.uid);
    let mut pod = template::pod(&set.template, &key.namespace, &names.name(&prefix), owner);
    tolerate(&mut pod);
    pod["metadata"]["generateName"] = prefix.into();
    pod["metadata"]["labels"][REVISION_HASH] = hash.into();
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let affinity = &mut pod["spec"]["affinity"]["nodeAffinity"];
    let required = &mut affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) => terms.iter_mut().for_each(|term| term["matchFields"] = json!([field])),
        None => *required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]}),
    }
    pod
}

fn report(set: &DaemonSet, places: &BTreeMap<&str, Place<'_>>) -> Option<Write> {
    let wanted = || places.values().filter(|place| place.wanted);
    let with = |holds: fn(&Daemon<'_>) -> bool| {
        wanted().filter_map(Place::oldest).filter(|it| holds(it)).count()
    };
    let desired = wanted().count();
    let misplaced = places.values().filter(|place| !place.wanted && !place.pods.is_empty()).count();
    let available = with(|it| it.available);
    let status = Map::from_iter([
        ("desiredNumberScheduled".to_owned(), desired.into()),
        ("currentNumberScheduled".to_owned(), with(|_| true).into()),
        ("numberMisscheduled".to_owned(), misplaced.into()),
        ("numberReady".to_owned(), with(|it| it.pod.base.ready).into()),
        ("updatedNumberScheduled".to_owned(), with(|it| it.updated).into()),
        ("numberAvailable".to_owned(), available.into()),
        ("numberUnavailable".to_owned(), (desired - available).into()),
        ("observedGeneration".to_owned(), set.generation.into()),
    ]);
    let mut changed = differences(&set.status, status.clone());
    if changed.is_empty() {
        return None;
    }
    // The API wants these in every status.
    let needed =
        ["desiredNumberScheduled", "currentNumberScheduled", "numberMisscheduled", "numberReady"];
    for name in needed {
        changed.insert(name.to_owned(), status[name].clone());
    }
    let key = set.meta.key.clone();
    Some(Write::PatchStatus { kind: Kind::DAEMON_SET, key, patch: json!({"status": changed}) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::fixture::node;
    use std::time::Duration;

    fn set(image: &str) -> Value {
        let labels = json!({"app": "log"});
        let containers = json!([{"name": "c", "image": image}]);
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "log", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": labels},
                "updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
        })
    }

    /// What a kubelet says of the pods.
    fn say(bench: &mut Bench, pods: Vec<Value>, ready: &str) {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        for mut pod in pods {
            pod["status"] = json!({"phase": "Running", "conditions": conditions});
            bench.store(Kind::POD, &crate::record::key(&pod).unwrap(), pod);
        }
        bench.settle();
    }

    /// Two nodes with a pod each, and ten seconds later an update.
    fn updated(ready: &str) -> Bench {
        let mut bench = Bench::new();
        for name in ["a", "b"] {
            let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            bench.store(Kind::NODE, &ObjectKey::new("", name), node(name, ready));
        }
        bench.apply(set("one"));
        bench.settle();
        let pods = bench.pods();
        say(&mut bench, pods, ready);
        bench.now += Duration::from_secs(10);
        bench.apply(set("two"));
        bench
    }

    #[test]
    fn while_it_surges_a_node_counts_by_its_old_pod() {
        let numbers = |bench: &Bench| {
            let key = (Kind::DAEMON_SET, ObjectKey::new("default", "log"));
            let status = &bench.stored[&key]["status"];
            let fields = [
                "currentNumberScheduled",
                "numberReady",
                "numberAvailable",
                "updatedNumberScheduled",
            ];
            (bench.pods().len(), fields.map(|name| status[name].as_u64().unwrap_or(0)))
        };
        let mut bench = updated("True");
        bench.settle();
        assert_eq!(numbers(&bench), (3, [2, 2, 2, 0]));
        let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == "two";
        let new = bench.pods().into_iter().filter(is_new).collect();
        say(&mut bench, new, "True");
        assert_eq!(numbers(&bench), (3, [2, 2, 2, 1]), "one is renewed, the other one surges");
    }

    #[test]
    fn an_old_pod_that_does_not_serve_goes_when_its_new_one_is_there_whatever_surges() {
        let mut bench = updated("False");
        bench.work(usize::MAX);
        assert_eq!(bench.pods().len(), 4);
        bench.settle();
        assert_eq!(bench.pods().len(), 2);
    }

    /// Names of nodes with pods of this image.
    fn nodes_with(bench: &Bench, image: &str) -> String {
        let of = |pod: &Value| pod["spec"]["containers"][0]["image"] == image;
        let field = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
                     /nodeSelectorTerms/0/matchFields/0/values/0";
        let node = |pod: Value| pod.pointer(field).unwrap().as_str().unwrap().to_owned();
        let mut nodes: Vec<_> = bench.pods().into_iter().filter(of).map(node).collect();
        nodes.sort_unstable();
        nodes.concat()
    }

    #[test]
    fn while_it_surges_a_node_that_suits_no_longer_loses_its_pod_when_others_serve() {
        let mut bench = updated("True");
        let tainted = json!({
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        bench.store(Kind::NODE, &ObjectKey::new("", "a"), node("a", tainted));
        // Two serve and one shall: the one that does not suit is one too many.
        bench.settle();
        assert_eq!(
            (nodes_with(&bench, "one"), nodes_with(&bench, "two")),
            ("b".into(), "b".into())
        );
    }

    #[test]
    fn while_it_surges_a_node_that_suits_no_longer_keeps_its_pod_as_long_as_it_is_needed() {
        let mut bench = updated("True");
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let mut moved = node("a", ready.clone());
        crate::fixture::merge(&mut moved, tainted);
        bench.store(Kind::NODE, &ObjectKey::new("", "a"), moved);
        bench.store(Kind::NODE, &ObjectKey::new("", "c"), node("c", ready));
        bench.settle();
        assert_eq!(
            (nodes_with(&bench, "one"), nodes_with(&bench, "two")),
            ("ab".into(), "bc".into()),
            "its successor does not serve yet"
        );
        let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == "two";
        let new = bench.pods().into_iter().filter(is_new).collect();
        say(&mut bench, new, "True");
        assert_eq!(
            (nodes_with(&bench, "one"), nodes_with(&bench, "two")),
            ("".into(), "bc".into())
        );
    }

    #[test]
    fn who_allows_nothing_allows_one() {
        let mut bench = updated("True");
        let mut stuck = set("two");
        stuck["spec"]["updateStrategy"] =
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}});
        bench.apply(stuck);
        bench.work(usize::MAX);
        bench.settle();
        assert_eq!(nodes_with(&bench, "one").len(), 1);
        let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == "two";
        let new = bench.pods().into_iter().filter(is_new).collect();
        say(&mut bench, new, "True");
        assert_eq!(nodes_with(&bench, "two"), "ab");
    }
}
