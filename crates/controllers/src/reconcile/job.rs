//! Jobs → pods that end.

mod count;
mod indices;
mod ledger;
mod policy;
mod report;
#[cfg(test)]
mod tests;
mod verdict;

use super::replica_set::by_worth;
use super::status::earliest;
use super::template;
use crate::cluster::Cluster;
use crate::names::Names;
use crate::record::{COUNTED, Job, Pod, owner_reference};
use crate::settings::Settings;
use crate::write::{Outcome, Write};
use client::Kind;
use count::{Count, FAILURES, IGNORED, annotated, failures};
use indices::{INDEX, index};
use jiff::Timestamp;
use ledger::Ledger;
use model::ObjectKey;
use report::report;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use verdict::{Verdict, time_left};

/// The longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(600);
/// Pods made at once, so that a big Job does not hold up the others' work.
const BURST: usize = 100;

pub(super) fn plan(
    cluster: &Cluster,
    key: &ObjectKey,
    settings: &Settings,
    names: &mut Names,
    now: Timestamp,
) -> Outcome {
    let job = cluster.workloads.jobs.get(key);
    if job.is_some_and(|job| job.foreign) {
        return Outcome::default();
    }
    let owned = |pod: &Pod| {
        let owner = pod.owner.as_ref().map(|owner| &owner.uid);
        job.is_some_and(|job| owner == Some(&job.meta.uid))
    };
    // Nobody will ever count the pods of a Job that is gone.
    let orphans = cluster.counted_by(key).filter(|pod| !owned(pod));
    let mut outcome = Outcome::from(orphans.filter_map(untrack).collect::<Vec<_>>());
    let Some(job) = job else { return outcome };
    let pods: Vec<_> = cluster.pods_of(&job.meta.uid).collect();
    if let Some((_, since)) = job.finished() {
        outcome.writes.extend(pods.into_iter().filter_map(untrack));
        expire(job, since, now, &mut outcome);
    } else if job.meta.terminating {
        outcome.writes.extend(pods.into_iter().filter_map(untrack));
    } else {
        advance(job, &pods, settings.job_backoff, names, now, &mut outcome);
    }
    outcome
}

fn advance(
    job: &Job,
    pods: &[&Pod],
    backoff: Duration,
    names: &mut Names,
    now: Timestamp,
    outcome: &mut Outcome,
) {
    let count = Count::of(job, pods);
    let verdict = Verdict::of(job, pods, &count, now);
    let ledger = Ledger::of(job, pods, &count, verdict.as_ref());
    outcome.writes.extend(ledger.releases());
    outcome.writes.extend(count.given_up.iter().map(|pod| delete(pod)));
    if verdict.is_some() {
        outcome.writes.extend(count.active.iter().map(|pod| delete(pod)));
    } else {
        let (writes, wait) = manage(job, &count, backoff, names, now);
        outcome.writes.extend(writes);
        outcome.again = earliest(time_left(job, now), wait);
    }
    outcome.writes.extend(report(job, &count, &ledger, verdict.as_ref(), now));
}

fn delete(pod: &Pod) -> Write {
    Write::Delete { kind: Kind::POD, key: pod.base.meta.key.clone(), grace: None }
}

/// Lets the pod go, counted or not to be counted. An active one that nobody counts is deleted at the next look.
fn untrack(pod: &Pod) -> Option<Write> {
    let others = &pod.tracked.as_ref()?.others;
    // Somebody else may have added a finalizer of his own meanwhile.
    let patch = json!({"metadata": {
        "resourceVersion": pod.version.to_string(),
        "finalizers": if others.is_empty() { Value::Null } else { json!(others) },
    }});
    Some(Write::Patch { kind: Kind::POD, key: pod.base.meta.key.clone(), patch })
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_default().to_owned()
}

/// Deletes a Job that is over when its time has come.
fn expire(job: &Job, since_when: Option<Timestamp>, now: Timestamp, outcome: &mut Outcome) {
    let left = job.ttl.zip(since_when).map(|(ttl, then)| ttl.saturating_sub(since(then, now)));
    if left == Some(Duration::ZERO) {
        let key = job.meta.key.clone();
        outcome.writes.push(Write::Delete { kind: Kind::JOB, key, grace: None });
    }
    outcome.again = left.filter(|left| !left.is_zero());
}

/// Pods that are too many or missing, and how long those are waited with.
fn manage(
    job: &Job,
    count: &Count<'_>,
    backoff: Duration,
    names: &mut Names,
    now: Timestamp,
) -> (Vec<Write>, Option<Duration>) {
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let active = length(count.active.len());
    let wanted = match job.completions {
        _ if job.suspended => 0,
        Some(completions) => completions.saturating_sub(count.succeeded).min(job.parallelism),
        // One has found that there is no more to do: the others finish what they have.
        None if count.succeeded > 0 => active,
        None => job.parallelism,
    };
    let surplus = surplus(job, count, active.saturating_sub(wanted));
    if !surplus.is_empty() {
        return (surplus.into_iter().filter_map(untrack).collect(), None);
    }
    let leaving = if job.replaces_ended_only { length(count.terminating.len()) } else { 0 };
    let missing = usize::try_from(wanted.saturating_sub(active).saturating_sub(leaving));
    let missing = missing.unwrap_or(usize::MAX).min(BURST);
    let (mut pods, mut wait) = (Vec::new(), None);
    if missing == 0 {
        return (pods, None);
    }
    if job.limit_per_index.is_none() {
        let last = count.last_failure.map(|last| (count.failures, last));
        wait = still(last, backoff, now);
        if wait.is_some() {
            return (pods, wait);
        }
    }
    if !job.indexed {
        pods.extend((0..missing).map(|_| Write::Create(new_pod(job, None, names))));
        return (pods, None);
    }
    for number in free(job, count).take(missing) {
        let before = count.waiting.get(&number).copied();
        let last = before.and_then(|pod| Some((failures(pod) + 1, pod.ended?)));
        match still(last, backoff, now) {
            None => pods.push(Write::Create(new_pod(job, Some((number, before)), names))),
            longer => wait = earliest(wait, longer),
        }
    }
    (pods, wait)
}

/// Active pods to give up: those whose number is none or another one's, and so many of the least worth.
fn surplus<'a>(job: &Job, count: &Count<'a>, least: u32) -> Vec<&'a Pod> {
    let least = usize::try_from(least).unwrap_or(usize::MAX);
    let (mut surplus, mut taken, mut left) = (Vec::new(), BTreeMap::new(), Vec::new());
    for pod in by_worth(count.active.clone()) {
        match index(pod, job.completions) {
            None if job.indexed => surplus.push(pod),
            Some(number) if job.indexed => surplus.extend(taken.insert(number, pod)),
            _ => left.push(pod),
        }
    }
    left.extend(taken.into_values());
    let more = least.saturating_sub(surplus.len());
    surplus.extend(by_worth(left).into_iter().take(more));
    surplus
}

/// Numbers that are neither done nor lost nor under way.
fn free(job: &Job, count: &Count<'_>) -> impl Iterator<Item = u32> {
    let leaving = count.terminating.iter().filter(|_| job.replaces_ended_only);
    let under_way = count.active.iter().chain(leaving);
    let mut taken: BTreeSet<_> = under_way.filter_map(|pod| index(pod, job.completions)).collect();
    taken.extend(count.done.union(&count.lost));
    (0..job.completions.unwrap_or(0)).filter(move |number| !taken.contains(number))
}

/// After each failure twice as long, so that a pod that cannot succeed does not fail all day.
fn still(last: Option<(u32, Timestamp)>, backoff: Duration, now: Timestamp) -> Option<Duration> {
    let (failures, last) = last?;
    let doublings = failures.saturating_sub(1).min(16);
    let wait = backoff.saturating_mul(1 << doublings).min(LONGEST);
    Some(wait.saturating_sub(since(last, now))).filter(|wait| !wait.is_zero())
}

fn new_pod(job: &Job, number: Option<(u32, Option<&Pod>)>, names: &mut Names) -> Value {
    let (key, uid) = (&job.meta.key, &job.meta.uid);
    let prefix = match number {
        Some((number, _)) => format!("{}-{number}-", key.name),
        None => format!("{}-", key.name),
    };
    let owner = owner_reference("batch/v1", "Job", &key.name, uid);
    let mut pod = template::pod(&job.template, &key.namespace, &names.name(&prefix), owner);
    pod["metadata"]["generateName"] = prefix.as_str().into();
    let mut finalizers =
        job.template["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    finalizers.push(COUNTED.into());
    pod["metadata"]["finalizers"] = finalizers.into();
    let labels = &mut pod["metadata"]["labels"];
    for group in ["", "batch.kubernetes.io/"] {
        labels[format!("{group}controller-uid")] = uid.as_str().into();
        labels[format!("{group}job-name")] = (*key.name).into();
    }
    if let Some((number, before)) = number {
        mark(job, &mut pod, number, before);
        pod["spec"]["hostname"] = prefix.trim_end_matches('-').into();
    }
    pod
}

/// Tells the pod its number, and its successor how often pods of that number failed.
fn mark(job: &Job, pod: &mut Value, number: u32, before: Option<&Pod>) {
    let number = number.to_string();
    pod["metadata"]["labels"][INDEX] = number.as_str().into();
    let annotations = &mut pod["metadata"]["annotations"];
    annotations[INDEX] = number.into();
    if job.limit_per_index.is_some() {
        let counts = before.map(|before| policy::counts(job, before));
        let so_far = |name| before.map_or(0, |before| annotated(before, name));
        let counted = so_far(FAILURES) + u32::from(counts == Some(true));
        annotations[FAILURES] = counted.to_string().into();
        let ignored = so_far(IGNORED) + u32::from(counts == Some(false));
        if ignored > 0 {
            annotations[IGNORED] = ignored.to_string().into();
        }
    }
    let field = json!({"fieldRef": {"fieldPath": format!("metadata.labels['{INDEX}']")}});
    let variable = json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": field});
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            match container["env"].as_array_mut() {
                Some(listed) if listed.iter().any(|it| it["name"] == variable["name"]) => {}
                Some(listed) => listed.push(variable.clone()),
                None => container["env"] = json!([variable]),
            }
        }
    }
}
