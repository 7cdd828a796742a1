//! Deployments → ReplicaSets.

use super::rollout::{self, Bounds, Size};
use super::status::{Tally, conditions, differences, earliest};
use crate::cluster::Cluster;
use crate::names;
use crate::record::{
    Deployment, REVISION, ReplicaSet, Strategy, TEMPLATE_HASH, owner_reference, stamp,
};
use crate::write::{Condition, Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A ReplicaSet of the Deployment and its pods, counted.
#[derive(Clone, Copy)]
struct Member<'a> {
    set: &'a ReplicaSet,
    tally: Tally,
}

pub(super) fn plan(cluster: &Cluster, key: &ObjectKey, now: Timestamp) -> Outcome {
    let Some(deployment) = cluster.deployment(key) else { return Outcome::default() };
    if deployment.meta.terminating {
        return Outcome::default();
    }
    let mut sets: Vec<_> = cluster.sets_of(&deployment.meta.uid).collect();
    sets.sort_by(|a, b| {
        (a.revision(), a.created, &a.meta.key).cmp(&(b.revision(), b.created, &b.meta.key))
    });
    let tally =
        |set: &ReplicaSet| Tally::of(cluster.pods_of(&set.meta.uid), deployment.min_ready, now);
    let members: Vec<_> = sets.into_iter().map(|set| Member { set, tally: tally(set) }).collect();
    reconcile(deployment, &members, now)
}

/// `members` in the order of their revisions.
fn reconcile(deployment: &Deployment, members: &[Member<'_>], now: Timestamp) -> Outcome {
    let position = members.iter().position(|member| runs(member.set, deployment.template()));
    let new = position.map(|position| members[position]);
    let old: Vec<_> = members
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != position)
        .map(|(_, member)| *member)
        .collect();
    let mut writes = rollout(deployment, new, &old);
    writes.extend(forget(deployment, new, &old));
    let (report, deadline) = report(deployment, new, members, now);
    writes.extend(report);
    let next = members.iter().fold(None, |next, member| earliest(next, member.tally.next));
    Outcome { writes, again: earliest(next, deadline) }
}

/// The set's pods are made from this template; its hash label is ours.
fn runs(set: &ReplicaSet, template: &Value) -> bool {
    let mut stripped = (*set.template).clone();
    if let Some(labels) = stripped.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    stripped == *template
}

fn rollout(deployment: &Deployment, new: Option<Member<'_>>, old: &[Member<'_>]) -> Vec<Write> {
    if deployment.paused {
        return scale_paused(deployment, new, old);
    }
    let size = |member: &Member<'_>| Size {
        replicas: member.set.replicas,
        available: member.tally.available,
        present: member.tally.present,
    };
    let none = Size { replicas: 0, available: 0, present: 0 };
    let new_size = new.as_ref().map_or(none, size);
    let old_sizes: Vec<_> = old.iter().map(size).collect();
    let (grown, shrunk) =
        rollout::step(deployment.strategy, deployment.replicas, new_size, &old_sizes);
    let highest = old.iter().map(|member| member.set.revision()).max().unwrap_or(0);
    let mut writes = match new {
        None => vec![Write::Create(new_set(deployment, grown, highest + 1))],
        Some(new) => adjust(deployment, new.set, grown, highest),
    };
    for (member, replicas) in old.iter().zip(shrunk) {
        writes.extend(scale(deployment, member.set, replicas));
    }
    writes
}

/// A paused Deployment can still be scaled while it has pods of one template only.
fn scale_paused(
    deployment: &Deployment,
    new: Option<Member<'_>>,
    old: &[Member<'_>],
) -> Vec<Write> {
    let mut sized = new.iter().chain(old).filter(|member| member.set.replicas > 0);
    match (sized.next(), sized.next()) {
        (Some(only), None) => {
            scale(deployment, only.set, deployment.replicas).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Scales the new set; one that is old and came back (a rollback) gets the latest revision.
fn adjust(deployment: &Deployment, set: &ReplicaSet, replicas: u32, highest: u64) -> Vec<Write> {
    let mut patch = scale_patch(deployment, set, replicas);
    let revision = if set.revision() > highest { set.revision() } else { highest + 1 };
    if revision != set.revision() {
        let patch = patch.get_or_insert_with(|| json!({}));
        patch["metadata"]["annotations"][REVISION] = revision.to_string().into();
    }
    let missing = inherited(deployment)
        .filter(|(name, value)| set.meta.annotations.get(*name) != Some(value));
    for (name, value) in missing {
        let patch = patch.get_or_insert_with(|| json!({}));
        patch["metadata"]["annotations"][name] = value.as_str().into();
    }
    let said = deployment.meta.annotations.get(REVISION).map(String::as_str);
    let revision = revision.to_string();
    let annotate = (said != Some(&revision)).then(|| Write::Patch {
        kind: Kind::DEPLOYMENT,
        key: deployment.meta.key.clone(),
        patch: json!({"metadata": {"annotations": {REVISION: revision}}}),
    });
    patch.map(|patch| patch_set(set, patch)).into_iter().chain(annotate).collect()
}

fn scale(deployment: &Deployment, set: &ReplicaSet, replicas: u32) -> Option<Write> {
    scale_patch(deployment, set, replicas).map(|patch| patch_set(set, patch))
}

fn patch_set(set: &ReplicaSet, patch: Value) -> Write {
    Write::Patch { kind: Kind::REPLICA_SET, key: set.meta.key.clone(), patch }
}

fn scale_patch(deployment: &Deployment, set: &ReplicaSet, replicas: u32) -> Option<Value> {
    if set.replicas == replicas {
        return None;
    }
    let annotations = size_annotations(deployment);
    Some(json!({"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}}))
}

/// What a set takes over of its Deployment, so that `kubectl rollout history` can tell why it was made.
fn inherited(deployment: &Deployment) -> impl Iterator<Item = (&String, &String)> {
    const OWN: &str = "deployment.kubernetes.io/";
    const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let annotations = deployment.meta.annotations.iter();
    annotations.filter(|(name, _)| *name != APPLIED && !name.starts_with(OWN))
}

fn size_annotations(deployment: &Deployment) -> Value {
    let bounds = Bounds::of(deployment.strategy, deployment.replicas);
    json!({
        "deployment.kubernetes.io/desired-replicas": deployment.replicas.to_string(),
        "deployment.kubernetes.io/max-replicas": bounds.most.to_string(),
    })
}

fn new_set(deployment: &Deployment, replicas: u32, revision: u64) -> Value {
    let key = &deployment.meta.key;
    let hash = names::digest(deployment.template().to_string().as_bytes());
    let mut template = deployment.template().clone();
    template["metadata"]["labels"][TEMPLATE_HASH] = hash.as_str().into();
    let mut selector = deployment.spec["selector"].clone();
    selector["matchLabels"][TEMPLATE_HASH] = hash.as_str().into();
    let mut annotations = size_annotations(deployment);
    for (name, value) in inherited(deployment) {
        annotations[name] = value.as_str().into();
    }
    annotations[REVISION] = revision.to_string().into();
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", key.name),
            "namespace": &*key.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences":
                [owner_reference("apps/v1", "Deployment", &key.name, &deployment.meta.uid)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.min_ready.as_secs(),
            "selector": selector,
            "template": template,
        },
    })
}

/// Deletes the oldest of the empty sets that are no longer kept for a rollback, once the rollout is over.
fn forget(deployment: &Deployment, new: Option<Member<'_>>, old: &[Member<'_>]) -> Vec<Write> {
    let over = new.is_some_and(|new| new.tally.available >= deployment.replicas);
    let is_empty =
        |member: &&Member<'_>| member.set.replicas == 0 && member.tally.present == 0 && over;
    let empty: Vec<_> = old.iter().filter(is_empty).collect();
    let excess = empty.len().saturating_sub(deployment.history);
    let delete = |member: &&Member<'_>| Write::Delete {
        kind: Kind::REPLICA_SET,
        key: member.set.meta.key.clone(),
        grace: None,
    };
    empty.iter().take(excess).map(delete).collect()
}

/// Counts over all sets, and over the new one.
struct Totals {
    all: Tally,
    updated: u32,
    updated_available: u32,
}

impl Totals {
    fn of(new: Option<Member<'_>>, members: &[Member<'_>]) -> Self {
        let mut all = Tally::default();
        for Member { tally, .. } in members {
            all.active += tally.active;
            all.ready += tally.ready;
            all.available += tally.available;
        }
        let new = new.map(|new| new.tally).unwrap_or_default();
        Totals { all, updated: new.active, updated_available: new.available }
    }

    fn is_complete(&self, wanted: u32) -> bool {
        self.updated_available == wanted && self.all.active == wanted
    }
}

/// The status, where it changes, and how long until the progress deadline.
fn report(
    deployment: &Deployment,
    new: Option<Member<'_>>,
    members: &[Member<'_>],
    now: Timestamp,
) -> (Option<Write>, Option<Duration>) {
    let totals = Totals::of(new, members);
    let counts = Map::from_iter([
        ("replicas".to_owned(), totals.all.active.into()),
        ("updatedReplicas".to_owned(), totals.updated.into()),
        ("readyReplicas".to_owned(), totals.all.ready.into()),
        ("availableReplicas".to_owned(), totals.all.available.into()),
        (
            "unavailableReplicas".to_owned(),
            deployment.replicas.saturating_sub(totals.all.available).into(),
        ),
    ]);
    let mut changed = differences(&deployment.status, counts);
    let moved = !changed.is_empty();
    let generation = ("observedGeneration".to_owned(), deployment.generation.into());
    changed.extend(differences(&deployment.status, Map::from_iter([generation])));
    let (progress, deadline) = progress(deployment, new, &totals, moved, now);
    let set = [availability(deployment, &totals), progress];
    let mut listed = conditions(&deployment.status, &set, now);
    if moved || listed.is_some() {
        let so_far = || deployment.status["conditions"].as_array().cloned().unwrap_or_default();
        touch(listed.get_or_insert_with(so_far), now);
    }
    changed.extend(listed.map(|listed| ("conditions".to_owned(), listed.into())));
    let write = (!changed.is_empty()).then(|| Write::PatchStatus {
        kind: Kind::DEPLOYMENT,
        key: deployment.meta.key.clone(),
        patch: json!({"status": changed}),
    });
    (write, deadline)
}

/// Progress was made now.
fn touch(conditions: &mut [Value], now: Timestamp) {
    for condition in conditions.iter_mut().filter(|found| found["type"] == "Progressing") {
        condition["lastUpdateTime"] = stamp(now).into();
    }
}

fn availability(deployment: &Deployment, totals: &Totals) -> Condition {
    let bounds = match deployment.strategy {
        Strategy::Rolling { .. } => Bounds::of(deployment.strategy, deployment.replicas),
        Strategy::Recreate => Bounds { most: deployment.replicas, least: deployment.replicas },
    };
    let (status, reason, message) = if totals.all.available >= bounds.least {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    Condition { kind: "Available", status, reason, message: message.to_owned() }
}

/// The Progressing condition and, while it is open how it ends, the time until its deadline.
fn progress(
    deployment: &Deployment,
    new: Option<Member<'_>>,
    totals: &Totals,
    moved: bool,
    now: Timestamp,
) -> (Condition, Option<Duration>) {
    let subject = new.map_or_else(
        || format!("Deployment {:?}", &*deployment.meta.key.name),
        |new| format!("ReplicaSet {:?}", &*new.set.meta.key.name),
    );
    let condition = |status, reason, what: &str| Condition {
        kind: "Progressing",
        status,
        reason,
        message: format!("{subject} {what}."),
    };
    if totals.is_complete(deployment.replicas) {
        return (condition("True", "NewReplicaSetAvailable", "has successfully progressed"), None);
    }
    if deployment.paused {
        return (condition("Unknown", "DeploymentPaused", "is paused"), None);
    }
    let left = match last_progress(deployment).filter(|_| !moved) {
        None => deployment.progress_deadline,
        Some((_, "ProgressDeadlineExceeded")) => Duration::ZERO,
        Some((last, _)) => {
            let idle = Duration::try_from(now.duration_since(last)).unwrap_or_default();
            deployment.progress_deadline.saturating_sub(idle)
        }
    };
    if left.is_zero() {
        return (condition("False", "ProgressDeadlineExceeded", "has timed out progressing"), None);
    }
    (condition("True", "ReplicaSetUpdated", "is progressing"), Some(left))
}

/// Time and reason of the Progressing condition; the end of the last rollout is no progress of this one.
fn last_progress(deployment: &Deployment) -> Option<(Timestamp, &str)> {
    let conditions = deployment.status["conditions"].as_array()?;
    let last = conditions.iter().find(|condition| condition["type"] == "Progressing")?;
    let reason = last["reason"].as_str().filter(|reason| *reason != "NewReplicaSetAvailable")?;
    Some((last["lastUpdateTime"].as_str()?.parse().ok()?, reason))
}

#[cfg(test)]
mod tests;
