//! Deployments → ReplicaSets.

mod report;

use super::Now;
use super::rollout::{self, Bounds, Share, Size};
use super::status::{Tally, earliest};
use crate::cluster::Cluster;
use crate::names;
use crate::record::{
    self, DESIRED, Deployment, MOST, REVISION, ReplicaSet, Strategy, TEMPLATE_HASH, owner_reference,
};
use crate::task::Task;
use crate::write::{Outcome, Write};
use client::Kind;
use model::ObjectKey;
use report::report;
use serde_json::{Value, json};

/// Annotation of a ReplicaSet with the revisions that it had before, as `kubectl rollout undo` makes it the latest again.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";

/// A ReplicaSet of the Deployment and its pods, counted.
#[derive(Clone, Copy)]
struct Member<'a> {
    set: &'a ReplicaSet,
    tally: Tally,
}

pub(super) fn plan(cluster: &Cluster, key: &ObjectKey, now: Now) -> Outcome {
    let Some(deployment) = cluster.deployment(key) else { return Outcome::default() };
    if deployment.meta.terminating {
        return Outcome::default();
    }
    let mut sets: Vec<_> = cluster.sets_of(&deployment.meta.uid).collect();
    sets.sort_by(|a, b| {
        (a.revision(), a.created, &a.meta.key).cmp(&(b.revision(), b.created, &b.meta.key))
    });
    let tally = |set: &ReplicaSet| {
        Tally::of(cluster.pods_of(&set.meta.uid), deployment.min_ready, now.wall)
    };
    let members: Vec<_> = sets.into_iter().map(|set| Member { set, tally: tally(set) }).collect();
    reconcile(cluster, deployment, &members, now)
}

/// `members` in the order of their revisions.
fn reconcile(
    cluster: &Cluster,
    deployment: &Deployment,
    members: &[Member<'_>],
    now: Now,
) -> Outcome {
    let position = members.iter().position(|member| runs(member.set, deployment.template()));
    let new = position.map(|position| members[position]);
    let old: Vec<_> = members
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != position)
        .map(|(_, member)| *member)
        .collect();
    let stage = Stage::of(deployment, members);
    let made = made(deployment, stage, new, &old);
    if made.as_ref().and_then(record::key).is_some_and(|key| cluster.replica_set(&key).is_some()) {
        return vec![collide(deployment)].into();
    }
    let trouble = cluster.trouble(&Task::Deployment(deployment.meta.key.clone()));
    let mut writes = resize(deployment, stage, new, &old);
    let change = made.as_ref().map_or(Change::None, |made| match trouble {
        Some(trouble) => Change::Refused(made, &trouble.message),
        None => Change::Made(made),
    });
    let (report, deadline) = report(deployment, stage, new, change, members, now.wall);
    let wait = trouble.filter(|_| made.is_some()).map(|it| it.wait(now.uptime));
    let wait = wait.filter(|wait| !wait.is_zero());
    writes.extend(made.filter(|_| wait.is_none()).map(Write::Create));
    writes.extend(forget(deployment, stage, new, &old));
    writes.extend(report);
    let next = members.iter().fold(None, |next, member| earliest(next, member.tally.next));
    Outcome { writes, again: earliest(earliest(next, deadline), wait) }
}

/// Another set has the name: with one collision more the next name is another.
fn collide(deployment: &Deployment) -> Write {
    Write::PatchStatus {
        kind: Kind::DEPLOYMENT,
        key: deployment.meta.key.clone(),
        patch: json!({"status": {"collisionCount": collisions(deployment) + 1}}),
    }
}

fn collisions(deployment: &Deployment) -> u64 {
    deployment.status["collisionCount"].as_u64().unwrap_or(0)
}

/// What becomes of the set of the current template.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    None,
    /// It is made now.
    Made(&'a Value),
    /// The API did not want it, with these words.
    Refused(&'a Value, &'a str),
}

/// What there is to do for a Deployment now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing but to keep the number of its pods.
    Paused,
    /// Another number of pods is wanted than the sets were sized for; a rollout under way waits for that.
    Scaling,
    Rolling,
}

impl Stage {
    fn of(deployment: &Deployment, members: &[Member<'_>]) -> Self {
        let sized_otherwise = |set: &ReplicaSet| {
            set.replicas > 0 && set.sized_for().is_some_and(|it| it != deployment.replicas)
        };
        if deployment.paused {
            Stage::Paused
        } else if members.iter().any(|member| sized_otherwise(member.set)) {
            Stage::Scaling
        } else {
            Stage::Rolling
        }
    }
}

/// The set's pods are made from this template; its hash label is ours.
fn runs(set: &ReplicaSet, template: &Value) -> bool {
    let mut stripped = (*set.template).clone();
    if let Some(labels) = stripped.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    stripped == *template
}

/// The next sizes: of the set of the current template, there or not, and of the old ones.
fn rolled(deployment: &Deployment, new: Option<Member<'_>>, old: &[Member<'_>]) -> (u32, Vec<u32>) {
    let size = |member: &Member<'_>| Size {
        replicas: member.set.replicas,
        available: member.tally.available,
        present: member.tally.present,
    };
    let none = Size { replicas: 0, available: 0, present: 0 };
    let old: Vec<_> = old.iter().map(size).collect();
    let new = new.as_ref().map_or(none, size);
    rollout::step(deployment.strategy, deployment.replicas, new, &old)
}

/// The same where there is no rollout, or it waits: the one set that has pods gets all; several that have some get
/// their parts, so that scaling makes no rollout go faster.
fn scaled(deployment: &Deployment, new: Option<Member<'_>>, old: &[Member<'_>]) -> (u32, Vec<u32>) {
    let wanted = deployment.replicas;
    let mut all: Vec<_> = old.iter().chain(&new).map(|member| member.set).collect();
    let mut sizes: Vec<_> = all.iter().map(|set| set.replicas).collect();
    let sized: Vec<_> = (0..all.len()).filter(|index| sizes[*index] > 0).collect();
    let is_full = |member: Member<'_>| {
        let set = member.set;
        set.replicas == wanted
            && set.sized_for() == Some(wanted)
            && member.tally.available == wanted
    };
    match (&sized[..], new) {
        ([], Some(_)) => sizes[old.len()] = wanted,
        ([], None) => {
            let newest = (0..old.len()).max_by_key(|index| (all[*index].created, *index));
            newest.into_iter().for_each(|newest| sizes[newest] = wanted);
        }
        ([only], _) => sizes[*only] = wanted,
        (_, Some(new)) if is_full(new) => sizes[..old.len()].fill(0),
        _ if deployment.strategy == Strategy::Recreate => {}
        _ => {
            let mut by_age = sized.clone();
            by_age.sort_by_key(|index| (all[*index].created, &all[*index].meta.key));
            let shares: Vec<_> =
                by_age.iter().map(|index| Share::of(all[*index], deployment)).collect();
            let spread = rollout::spread(deployment.strategy, wanted, &shares);
            by_age.into_iter().zip(spread).for_each(|(index, size)| sizes[index] = size);
        }
    }
    let new_size = new.and_then(|_| all.pop().and_then(|_| sizes.pop()));
    (new_size.unwrap_or(0), sizes)
}

impl Share {
    fn of(set: &ReplicaSet, deployment: &Deployment) -> Self {
        let so_far = deployment.status["replicas"].as_u64().and_then(|it| it.try_into().ok());
        let most = set.most_then().filter(|most| *most > 0).or(so_far).unwrap_or(0);
        Share { replicas: set.replicas, most }
    }
}

/// The set of the current template, where it is to be made.
fn made(
    deployment: &Deployment,
    stage: Stage,
    new: Option<Member<'_>>,
    old: &[Member<'_>],
) -> Option<Value> {
    if stage != Stage::Rolling || new.is_some() {
        return None;
    }
    let (size, _) = rolled(deployment, new, old);
    Some(new_set(deployment, size, highest(old) + 1))
}

fn highest(old: &[Member<'_>]) -> u64 {
    old.iter().map(|member| member.set.revision()).max().unwrap_or(0)
}

/// Brings the sets that there are to their sizes, and the new one up to date in what is not its template.
fn resize(
    deployment: &Deployment,
    stage: Stage,
    new: Option<Member<'_>>,
    old: &[Member<'_>],
) -> Vec<Write> {
    let (size, sizes) = match stage {
        Stage::Rolling => rolled(deployment, new, old),
        Stage::Paused | Stage::Scaling => scaled(deployment, new, old),
    };
    let mut writes: Vec<_> = old
        .iter()
        .zip(sizes)
        .filter_map(|(member, size)| {
            scale_patch(deployment, stage, member.set, size).map(|it| patch_set(member.set, it))
        })
        .collect();
    if let Some(new) = new {
        let patch = scale_patch(deployment, stage, new.set, size);
        writes.extend(adjust(deployment, new.set, patch, highest(old)));
    }
    writes
}

/// The new set is to have this number of pods, the annotations and `minReadySeconds` of its Deployment; one that is old
/// and came back (a rollback) gets the latest revision, and remembers which one it was.
fn adjust(
    deployment: &Deployment,
    set: &ReplicaSet,
    mut patch: Option<Value>,
    highest: u64,
) -> Vec<Write> {
    let revision = if set.revision() > highest { set.revision() } else { highest + 1 };
    if revision != set.revision() {
        let patch = patch.get_or_insert_with(|| json!({}));
        patch["metadata"]["annotations"][REVISION] = revision.to_string().into();
        if let Some(former) = set.meta.annotations.get(REVISION) {
            let before = set.meta.annotations.get(REVISION_HISTORY).map(String::as_str);
            patch["metadata"]["annotations"][REVISION_HISTORY] = history(before, former).into();
        }
    }
    let missing = inherited(deployment)
        .filter(|(name, value)| set.meta.annotations.get(*name) != Some(value));
    for (name, value) in missing {
        let patch = patch.get_or_insert_with(|| json!({}));
        patch["metadata"]["annotations"][name] = value.as_str().into();
    }
    if set.min_ready != deployment.min_ready {
        let patch = patch.get_or_insert_with(|| json!({}));
        patch["spec"]["minReadySeconds"] = deployment.min_ready.as_secs().into();
    }
    let said = deployment.meta.annotations.get(REVISION).map(String::as_str);
    let revision = revision.to_string();
    // By way of the status: an annotation that is written otherwise counts as a new generation.
    let annotate = (said != Some(&revision)).then(|| Write::PatchStatus {
        kind: Kind::DEPLOYMENT,
        key: deployment.meta.key.clone(),
        patch: json!({"metadata": {"annotations": {REVISION: revision}}}),
    });
    patch.map(|patch| patch_set(set, patch)).into_iter().chain(annotate).collect()
}

/// The revisions that a set had, with one more; the oldest go where they become too many.
fn history(before: Option<&str>, former: &str) -> String {
    const LONGEST: usize = 2000;
    let mut text = before.map_or_else(|| former.to_owned(), |before| format!("{before},{former}"));
    while text.len() > LONGEST {
        let Some((_, rest)) = text.split_once(',') else { break };
        text = rest.to_owned();
    }
    text
}

fn patch_set(set: &ReplicaSet, patch: Value) -> Write {
    Write::Patch { kind: Kind::REPLICA_SET, key: set.meta.key.clone(), patch }
}

fn scale_patch(
    deployment: &Deployment,
    stage: Stage,
    set: &ReplicaSet,
    replicas: u32,
) -> Option<Value> {
    // Sets with pods also learn what they are sized for: by that the next change of the number is noticed.
    let is_told = stage == Stage::Rolling
        || set.replicas == 0
        || set.sized_for().is_none_or(|it| it == deployment.replicas);
    if set.replicas == replicas && is_told {
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
    json!({DESIRED: deployment.replicas.to_string(), MOST: bounds.most.to_string()})
}

fn new_set(deployment: &Deployment, replicas: u32, revision: u64) -> Value {
    let key = &deployment.meta.key;
    let mut hashed = deployment.template().to_string();
    match collisions(deployment) {
        0 => {}
        count => hashed += &count.to_string(),
    }
    let hash = names::digest(hashed.as_bytes());
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

/// Deletes the oldest of the sets that are no longer kept for a rollback, once the rollout is over.
fn forget(
    deployment: &Deployment,
    stage: Stage,
    new: Option<Member<'_>>,
    old: &[Member<'_>],
) -> Vec<Write> {
    let over = new.is_some_and(|new| new.tally.available >= deployment.replicas);
    if !over && stage != Stage::Paused {
        return Vec::new();
    }
    let excess = old.len().saturating_sub(deployment.history);
    let is_empty = |member: &&Member<'_>| member.set.replicas == 0 && member.tally.present == 0;
    let delete = |member: &Member<'_>| Write::Delete {
        kind: Kind::REPLICA_SET,
        key: member.set.meta.key.clone(),
        grace: None,
    };
    old.iter().take(excess).filter(is_empty).map(delete).collect()
}

#[cfg(test)]
mod tests;
