//! StatefulSets → pods with names that stay.

use super::revision::{self, REVISION_HASH, Subject};
use super::status::{Tally, differences};
use super::template;
use crate::bond::{Bond, Keeper, Party};
use crate::cluster::Cluster;
use crate::record::{Pod, Revision, StatefulSet, ordinal, owner_reference};
use crate::write::{Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use model::{ObjectKey, PodPhase};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ops::Range;

/// A pod, as the order of steps depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    /// Ready for long enough.
    available: bool,
    terminating: bool,
    /// It has ended: only another one will do.
    over: bool,
    /// Made from the latest template.
    updated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create(u32),
    Delete(u32),
}

/// What the order of steps depends on beside the pods.
#[derive(Debug, Clone)]
struct Rules {
    /// The numbers that there shall be.
    wanted: Range<u32>,
    parallel: bool,
    /// Numbers from here on are brought up to date, so many at once; `None`: none is.
    update: Option<(u32, u32)>,
}

pub(super) fn plan(cluster: &Cluster, key: &ObjectKey, now: Timestamp) -> Outcome {
    let Some(set) = cluster.workloads.stateful_sets.get(key) else { return Outcome::default() };
    if set.meta.terminating {
        return Outcome::default();
    }
    let revisions: Vec<_> = cluster.workloads.revisions.owned_by(&set.meta.uid).collect();
    let subject = Subject { kind: Kind::STATEFUL_SET, meta: &set.meta, template: &set.template };
    let (update, write) = subject.latest(&revisions);
    let pods: Vec<_> = cluster.pods_of(&set.meta.uid).collect();
    let tally = Tally::of(pods.iter().copied(), set.min_ready, now);
    let versions = Versions::of(set, &revisions, update);
    let numbered = pods.iter().filter_map(|pod| Some((ordinal(key, &pod.base.meta.key)?, *pod)));
    let members = numbered.clone().map(|(number, pod)| (number, member(set, pod, &versions, now)));
    let steps = steps(&rules(set), &members.collect());
    let mut writes: Vec<_> = write.into_iter().collect();
    writes.extend(numbered.flat_map(|(number, pod)| entrust(cluster, set, number, pod)));
    writes.extend(steps.into_iter().flat_map(|step| carry_out(set, step, &versions)));
    let used = |name: &str| {
        name == versions.current
            || name == versions.update
            || pods.iter().any(|pod| revision_of(pod) == Some(name))
    };
    writes.extend(revision::forget(&revisions, used, set.history));
    writes.extend(report(set, &pods, tally, &versions));
    Outcome { writes, again: tally.next }
}

/// The names of the revision that the set comes from and of the one it goes to, and their templates.
struct Versions {
    current: String,
    update: String,
    current_template: Option<Value>,
}

impl Versions {
    fn of(set: &StatefulSet, revisions: &[&Revision], update: String) -> Self {
        let said = set.status["currentRevision"].as_str().filter(|name| !name.is_empty());
        let current = said.map_or_else(|| update.clone(), str::to_owned);
        let found = revisions.iter().find(|revision| *revision.meta.key.name == *current);
        let current_template = found.and_then(|revision| revision::template(revision));
        Versions { current, update, current_template }
    }
}

fn rules(set: &StatefulSet) -> Rules {
    let wanted = set.start..set.start.saturating_add(set.replicas);
    let update = set.rolling.map(|partition| {
        let at_once = partition.unavailable.rounded_down(set.replicas).max(1);
        (set.start.saturating_add(partition.from), at_once)
    });
    Rules { wanted, parallel: set.parallel, update }
}

fn member(set: &StatefulSet, pod: &Pod, versions: &Versions, now: Timestamp) -> Member {
    let alone = Tally::of(std::iter::once(pod), set.min_ready, now);
    Member {
        available: alone.available == 1 && pod.base.phase == PodPhase::Running,
        terminating: pod.base.meta.terminating,
        over: pod.base.phase.is_over(),
        updated: revision_of(pod) == Some(&*versions.update),
    }
}

fn revision_of(pod: &Pod) -> Option<&str> {
    pod.base.meta.labels.get(REVISION_HASH).map(String::as_str)
}

/// What to do now; what comes after it waits for its effect.
fn steps(rules: &Rules, members: &BTreeMap<u32, Member>) -> Vec<Step> {
    let mut steps = Vec::new();
    for number in rules.wanted.clone() {
        match members.get(&number) {
            None => steps.push(Step::Create(number)),
            Some(member) if member.over && !member.terminating => steps.push(Step::Delete(number)),
            Some(member) if member.available && !member.terminating => continue,
            Some(_) => {}
        }
        if !rules.parallel {
            return steps;
        }
    }
    let condemned = members.iter().rev().filter(|(number, _)| !rules.wanted.contains(number));
    for (number, member) in condemned {
        if !member.terminating {
            steps.push(Step::Delete(*number));
        }
        if !rules.parallel {
            return steps;
        }
    }
    if steps.is_empty() {
        steps.extend(renewals(rules, members));
    }
    steps
}

/// Old pods to take away, the highest number first; the next look makes them anew. Those that are away already, from the
/// highest number down to there, count: so the next one goes when they serve again, whatever the lower ones do.
fn renewals(rules: &Rules, members: &BTreeMap<u32, Member>) -> Vec<Step> {
    let Some((from, at_once)) = rules.update else { return Vec::new() };
    let (mut steps, mut away) = (Vec::new(), 0);
    for number in rules.wanted.clone().rev().filter(|number| *number >= from) {
        if away >= at_once {
            break;
        }
        let member = members.get(&number).filter(|member| !member.terminating);
        if member.is_some_and(|member| !member.updated) {
            steps.push(Step::Delete(number));
        }
        let serves = member.is_some_and(|member| member.available && member.updated);
        away += u32::from(!serves);
    }
    steps
}

fn carry_out(set: &StatefulSet, step: Step, versions: &Versions) -> Vec<Write> {
    let key = &set.meta.key;
    match step {
        Step::Delete(number) => {
            let key = ObjectKey::new(&key.namespace, &format!("{}-{number}", key.name));
            vec![Write::Delete { kind: Kind::POD, key, grace: None }]
        }
        Step::Create(number) => {
            let claims =
                set.claims.iter().map(|claim| Write::Ensure(new_claim(set, number, claim)));
            claims.chain([Write::Create(new_pod(set, number, versions))]).collect()
        }
    }
}

/// Claims that are not whose the set's policy says, which may be another one than when they were made.
fn entrust(cluster: &Cluster, set: &StatefulSet, number: u32, pod: &Pod) -> Vec<Write> {
    let party = |name: &str, uid: &str| Party { name: name.to_owned(), uid: uid.to_owned() };
    let (key, meta) = (&set.meta.key, &pod.base.meta);
    let is_excess = !rules(set).wanted.contains(&number);
    let bond = Bond {
        set: party(&key.name, &set.meta.uid),
        pod: party(&meta.key.name, &meta.uid),
        keeper: match (set.sheds_claims && is_excess, set.drops_claims) {
            (true, _) => Keeper::Pod,
            (false, true) => Keeper::Set,
            (false, false) => Keeper::Nobody,
        },
    };
    let keys = set
        .claims
        .iter()
        .map(|claim| ObjectKey::new(&key.namespace, &claim_name(set, number, claim)));
    let strays = keys
        .filter(|key| cluster.claim(key).is_some_and(|claim| bond.owners(&claim.owners).is_some()));
    strays.map(|claim| Write::Entrust { claim, bond: bond.clone() }).collect()
}

/// `CLAIM-SET-NUMBER`
fn claim_name(set: &StatefulSet, number: u32, claim: &Value) -> String {
    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
    format!("{name}-{}-{number}", set.meta.key.name)
}

fn new_claim(set: &StatefulSet, number: u32, template: &Value) -> Value {
    let key = &set.meta.key;
    let mut claim = template.clone();
    claim["apiVersion"] = "v1".into();
    claim["kind"] = "PersistentVolumeClaim".into();
    claim["metadata"]["name"] = claim_name(set, number, template).into();
    claim["metadata"]["namespace"] = (&*key.namespace).into();
    for (name, value) in set.labels.as_object().into_iter().flatten() {
        claim["metadata"]["labels"][name] = value.clone();
    }
    if set.drops_claims {
        let owner = owner_reference("apps/v1", "StatefulSet", &key.name, &set.meta.uid);
        claim["metadata"]["ownerReferences"] = Value::Array(vec![owner]);
    }
    if let Some(fields) = claim.as_object_mut() {
        fields.remove("status");
    }
    claim
}

/// A volume for each claim, in the place of one of the same name.
fn mount_claims(set: &StatefulSet, number: u32, pod: &mut Value) {
    if set.claims.is_empty() {
        return;
    }
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let named =
        |volume: &Value| set.claims.iter().any(|claim| claim["metadata"]["name"] == volume["name"]);
    let own = set.claims.iter().map(|claim| {
        let reference = json!({"claimName": claim_name(set, number, claim)});
        json!({"name": claim["metadata"]["name"], "persistentVolumeClaim": reference})
    });
    let others = volumes.into_iter().filter(|volume| !named(volume));
    pod["spec"]["volumes"] = own.chain(others).collect();
}

fn new_pod(set: &StatefulSet, number: u32, versions: &Versions) -> Value {
    let key = &set.meta.key;
    let stays = set.rolling.is_some_and(|rules| number < set.start.saturating_add(rules.from));
    let old = versions.current_template.as_ref().filter(|_| stays);
    let (template, revision) = match old {
        Some(template) => (template, &versions.current),
        None => (&*set.template, &versions.update),
    };
    let name = format!("{}-{number}", key.name);
    let owner = owner_reference("apps/v1", "StatefulSet", &key.name, &set.meta.uid);
    let mut pod = template::pod(template, &key.namespace, &name, owner);
    let labels = &mut pod["metadata"]["labels"];
    labels[REVISION_HASH] = revision.as_str().into();
    labels["statefulset.kubernetes.io/pod-name"] = name.as_str().into();
    labels["apps.kubernetes.io/pod-index"] = number.to_string().into();
    pod["spec"]["hostname"] = name.into();
    if let Some(service) = &set.service {
        pod["spec"]["subdomain"] = service.as_str().into();
    }
    mount_claims(set, number, &mut pod);
    pod
}

fn report(set: &StatefulSet, pods: &[&Pod], tally: Tally, versions: &Versions) -> Option<Write> {
    let made_from = |name: &str| {
        pods.iter().filter(|pod| pod.is_active() && revision_of(pod) == Some(name)).count()
    };
    let (replicas, updated) = (set.replicas, made_from(&versions.update));
    let complete = set.rolling.is_some()
        && usize::try_from(replicas).is_ok_and(|wanted| wanted == updated)
        && tally.ready == replicas
        && tally.present == replicas;
    let current = if complete { &versions.update } else { &versions.current };
    let status = Map::from_iter([
        ("replicas".to_owned(), tally.present.into()),
        ("readyReplicas".to_owned(), tally.ready.into()),
        ("availableReplicas".to_owned(), tally.available.into()),
        ("currentReplicas".to_owned(), made_from(current).into()),
        ("updatedReplicas".to_owned(), updated.into()),
        ("currentRevision".to_owned(), current.as_str().into()),
        ("updateRevision".to_owned(), versions.update.as_str().into()),
        ("observedGeneration".to_owned(), set.generation.into()),
    ]);
    let mut changed = differences(&set.status, status);
    if set.status["collisionCount"].is_null() {
        changed.insert("collisionCount".to_owned(), 0.into());
    }
    if changed.is_empty() {
        return None;
    }
    // The API wants it in every status.
    changed.insert("replicas".to_owned(), tally.present.into());
    let key = set.meta.key.clone();
    Some(Write::PatchStatus { kind: Kind::STATEFUL_SET, key, patch: json!({"status": changed}) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    const NEW: Member = Member { available: false, terminating: false, over: false, updated: true };

    /// Carries the steps out; what is deleted is terminating until [`settle`] ends it.
    fn apply(steps: &[Step], members: &mut BTreeMap<u32, Member>) {
        for step in steps {
            match step {
                Step::Create(number) => assert_eq!(members.insert(*number, NEW), None),
                Step::Delete(number) => members.get_mut(number).unwrap().terminating = true,
            }
        }
    }

    fn settle(members: &mut BTreeMap<u32, Member>) {
        members.retain(|_, member| !member.terminating);
        members.values_mut().for_each(|member| member.available = !member.over);
    }

    fn serving(members: &BTreeMap<u32, Member>, wanted: &Range<u32>) -> usize {
        let serves = |(number, member): &(&u32, &Member)| {
            wanted.contains(number) && member.available && !member.terminating
        };
        members.iter().filter(serves).count()
    }

    proptest! {
        /// From any state: it ends with exactly the wanted pods, all up to date that shall be; on the way one after the
        /// other, and an update takes no more away at once than it may, and in order of their numbers none but those.
        #[test]
        fn sets_converge_in_order(
            start in 0u32..3,
            replicas in 0u32..6,
            parallel in any::<bool>(),
            update in prop::option::of((0u32..4, 1u32..3)),
            states in prop::collection::btree_map(0u32..8, any::<(bool, bool, bool, bool)>(), 0..8),
        ) {
            let wanted = start..start + replicas;
            let update = update.map(|(from, at_once)| (start + from, at_once));
            let rules = Rules { wanted: wanted.clone(), parallel, update };
            let member = |(available, terminating, over, updated): (bool, bool, bool, bool)| Member {
                available: available && !over, terminating, over, updated,
            };
            let mut members: BTreeMap<_, _> =
                states.into_iter().map(|(number, state)| (number, member(state))).collect();
            for _ in 0..60 {
                let before = serving(&members, &wanted);
                let steps = steps(&rules, &members);
                prop_assert!(parallel || steps.len() <= update.map_or(1, |(_, at_once)| at_once as usize).max(1), "{steps:?}");
                apply(&steps, &mut members);
                let taken = before - serving(&members, &wanted);
                let most = update.map_or(0, |(_, at_once)| at_once as usize);
                prop_assert!(taken <= most, "{steps:?}");
                let least = wanted.len() - most.min(wanted.len());
                prop_assert!(taken == 0 || parallel || serving(&members, &wanted) >= least, "{steps:?}");
                if steps.is_empty() || !parallel {
                    settle(&mut members);
                }
            }
            prop_assert_eq!(members.keys().copied().collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
            for (number, member) in &members {
                prop_assert!(member.available);
                prop_assert!(member.updated || update.is_none_or(|(from, _)| *number < from));
            }
            prop_assert_eq!(steps(&rules, &members), vec![], "nothing is left to do");
        }
    }

    #[test]
    fn updates_go_from_the_highest_number_down() {
        let up = Member { available: true, ..NEW };
        let old = Member { updated: false, ..up };
        let broken = Member { available: false, ..old };
        let going = Member { terminating: true, ..old };
        let rules = |parallel, from, at_once| Rules {
            wanted: 0..3,
            parallel,
            update: Some((from, at_once)),
        };
        let rows = [
            (rules(false, 0, 1), [old, old, old], vec![2]),
            (rules(false, 0, 1), [old, old, going], vec![]),
            (rules(false, 0, 1), [old, old, up], vec![1]),
            (rules(false, 1, 1), [old, up, up], vec![]),
            (rules(false, 2, 1), [old, old, old], vec![2]),
            // In order, one that does not serve is waited for, as ever; else only those above count.
            (rules(false, 0, 1), [broken, old, old], vec![]),
            (rules(true, 0, 1), [broken, old, old], vec![2]),
            (rules(true, 0, 1), [broken, broken, broken], vec![2]),
            (rules(true, 0, 1), [old, old, NEW], vec![]),
            (rules(true, 0, 2), [old, old, NEW], vec![1]),
            (rules(true, 0, 2), [old, old, old], vec![2, 1]),
        ];
        for (rules, members, expected) in rows {
            let found = steps(&rules, &(0..).zip(members).collect());
            let expected: Vec<_> = expected.into_iter().map(Step::Delete).collect();
            assert_eq!(found, expected, "{rules:?} {members:?}");
        }
    }

    #[test]
    fn ordered_sets_grow_and_shrink_one_by_one() {
        let up = Member { available: true, ..NEW };
        let going = Member { terminating: true, ..up };
        let rules = |replicas, parallel| Rules { wanted: 0..replicas, parallel, update: None };
        let rows = [
            (3, false, vec![], vec![Step::Create(0)]),
            (3, false, vec![(0, NEW)], vec![]),
            (3, false, vec![(0, up)], vec![Step::Create(1)]),
            (1, false, vec![(0, up), (1, up), (2, up)], vec![Step::Delete(2)]),
            (1, false, vec![(0, up), (1, up), (2, going)], vec![]),
            (3, true, vec![(1, NEW)], vec![Step::Create(0), Step::Create(2)]),
            (0, true, vec![(0, up), (1, NEW)], vec![Step::Delete(1), Step::Delete(0)]),
        ];
        for (replicas, parallel, members, expected) in rows {
            let found = steps(&rules(replicas, parallel), &members.iter().copied().collect());
            assert_eq!(found, expected, "{replicas} {parallel} {members:?}");
        }
    }

    /// Policies when pods are deleted and scaled, how many there shall be, and whose the claims of `db-0` and `db-1` are
    /// in the end, whatever they were before.
    #[test]
    fn claims_follow_the_policy_that_holds_now() {
        use crate::bench::Bench;
        let set = |deleted: &str, scaled: &str, replicas: u32| {
            let labels = json!({"app": "db"});
            let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
            json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet",
                "metadata": {"name": "db", "namespace": "default"},
                "spec": {
                    "replicas": replicas, "podManagementPolicy": "Parallel",
                    "selector": {"matchLabels": labels},
                    "persistentVolumeClaimRetentionPolicy": policy,
                    "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c"}]}},
                },
            })
        };
        let rows = [
            ("Delete", "Retain", 2, ["StatefulSet", "StatefulSet"]),
            ("Retain", "Retain", 2, ["", ""]),
            ("Retain", "Delete", 2, ["", ""]),
            ("Delete", "Delete", 2, ["StatefulSet", "StatefulSet"]),
            ("Retain", "Retain", 2, ["", ""]),
            ("Delete", "Delete", 1, ["StatefulSet", "Pod"]),
            ("Delete", "Delete", 0, ["Pod", "Pod"]),
        ];
        let mut bench = Bench::new();
        for (deleted, scaled, replicas, expected) in rows {
            bench.apply(set(deleted, scaled, replicas));
            bench.settle();
            let owners = ["data-db-0", "data-db-1"].map(|name| {
                let key = (Kind::PERSISTENT_VOLUME_CLAIM, ObjectKey::new("default", name));
                let owners = &bench.stored[&key]["metadata"]["ownerReferences"];
                owners[0]["kind"].as_str().unwrap_or_default().to_owned()
            });
            assert_eq!(owners, expected, "{deleted} {scaled} {replicas}");
        }
    }
}
