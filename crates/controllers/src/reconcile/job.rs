//! Jobs → pods that end.

use super::status::{conditions, differences, earliest};
use super::template;
use crate::cluster::Cluster;
use crate::names::Names;
use crate::record::{Job, Pod, owner_reference, stamp};
use crate::settings::Settings;
use crate::write::{Condition, Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use model::{ObjectKey, PodPhase};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(360);
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The Job's pods, counted.
struct Count<'a> {
    /// Neither ended nor on their way out.
    active: Vec<&'a Pod>,
    ready: usize,
    terminating: usize,
    succeeded: u32,
    failed: u32,
    last_failure: Option<Timestamp>,
    /// Numbers of completions that are done, and of those that are under way.
    done: BTreeSet<u32>,
    taken: BTreeSet<u32>,
}

pub(super) fn plan(
    cluster: &Cluster,
    key: &ObjectKey,
    settings: &Settings,
    names: &mut Names,
    now: Timestamp,
) -> Outcome {
    let Some(job) = cluster.workloads.jobs.get(key) else { return Outcome::default() };
    if job.meta.terminating {
        return Outcome::default();
    }
    let count = Count::of(job, cluster.pods_of(&job.meta.uid));
    if let Some((_, since)) = job.finished() {
        return finished(job, &count, since, now);
    }
    let verdict = verdict(job, &count, now);
    let mut outcome = Outcome { writes: Vec::new(), again: time_left(job, now) };
    if verdict.is_some() || job.suspended {
        outcome.writes.extend(count.active.iter().map(|pod| delete(pod)));
    } else {
        let (writes, wait) = scale(job, &count, settings.job_backoff, names, now);
        outcome.writes.extend(writes);
        outcome.again = earliest(outcome.again, wait);
    }
    outcome.writes.extend(report(job, &count, verdict, now));
    outcome
}

impl<'a> Count<'a> {
    fn of(job: &Job, pods: impl Iterator<Item = &'a Pod>) -> Self {
        let said = |field: &str| {
            job.status[field].as_u64().and_then(|count| count.try_into().ok()).unwrap_or(0)
        };
        let mut count = Count {
            active: Vec::new(),
            ready: 0,
            terminating: 0,
            succeeded: 0,
            failed: 0,
            last_failure: None,
            done: BTreeSet::new(),
            taken: BTreeSet::new(),
        };
        for pod in pods {
            count.add(pod);
        }
        // Somebody may have deleted pods that were counted once.
        count.succeeded = count.succeeded.max(said("succeeded"));
        count.failed = count.failed.max(said("failed"));
        if job.indexed {
            count.done.extend(numbers(job.status["completedIndexes"].as_str().unwrap_or_default()));
            count.succeeded = u32::try_from(count.done.len()).unwrap_or(u32::MAX);
        }
        count
    }

    fn add(&mut self, pod: &'a Pod) {
        let index: Option<u32> =
            pod.base.meta.annotations.get(INDEX).and_then(|text| text.parse().ok());
        match pod.base.phase {
            PodPhase::Succeeded => {
                self.succeeded += 1;
                self.done.extend(index);
            }
            PodPhase::Failed => {
                self.failed += 1;
                self.last_failure = self.last_failure.max(pod.ready_since.or(pod.created));
            }
            _ if pod.base.meta.terminating => self.terminating += 1,
            _ => {
                self.ready += usize::from(pod.base.ready);
                self.taken.extend(index);
                self.active.push(pod);
            }
        }
    }

    /// Restarts of containers count as failures, too, where pods stay when containers fail.
    fn failures(&self) -> u32 {
        let restarts: u32 = self.active.iter().map(|pod| pod.restarts).sum();
        self.failed.saturating_add(restarts)
    }
}

fn delete(pod: &Pod) -> Write {
    Write::Delete { kind: Kind::POD, key: pod.base.meta.key.clone(), grace: None }
}

/// The condition by which the Job is over now.
fn verdict(job: &Job, count: &Count<'_>, now: Timestamp) -> Option<Condition> {
    let condition = |kind, reason, message: &str| {
        Some(Condition { kind, status: "True", reason, message: message.to_owned() })
    };
    let complete = match job.completions {
        Some(wanted) => count.succeeded >= wanted,
        None => count.succeeded > 0 && count.active.is_empty() && count.terminating == 0,
    };
    if complete {
        let message = "Reached expected number of succeeded pods";
        return condition("Complete", "CompletionsReached", message);
    }
    if count.failures() > job.backoff_limit {
        let message = "Job has reached the specified backoff limit";
        return condition("Failed", "BackoffLimitExceeded", message);
    }
    if time_left(job, now) == Some(Duration::ZERO) {
        let message = "Job was active longer than specified deadline";
        return condition("Failed", "DeadlineExceeded", message);
    }
    None
}

/// Until its `activeDeadlineSeconds` are over.
fn time_left(job: &Job, now: Timestamp) -> Option<Duration> {
    let started = job.status["startTime"].as_str()?.parse().ok()?;
    let deadline = job.deadline.filter(|_| !job.suspended)?;
    Some(deadline.saturating_sub(since(started, now)))
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

fn scale(
    job: &Job,
    count: &Count<'_>,
    backoff: Duration,
    names: &mut Names,
    now: Timestamp,
) -> (Vec<Write>, Option<Duration>) {
    let active = u32::try_from(count.active.len()).unwrap_or(u32::MAX);
    let wanted = match job.completions {
        Some(completions) => job.parallelism.min(completions - count.succeeded),
        // One has found that there is no more to do: the others finish what they have.
        None if count.succeeded > 0 => active.min(job.parallelism),
        None => job.parallelism,
    };
    if active > wanted {
        let excess = usize::try_from(active - wanted).unwrap_or(usize::MAX);
        let mut victims = count.active.clone();
        victims.sort_by_key(|pod| (pod.base.ready, std::cmp::Reverse(pod.created)));
        return (victims.into_iter().take(excess).map(delete).collect(), None);
    }
    let missing = usize::try_from(wanted - active).unwrap_or(usize::MAX);
    let wait = wait(count, backoff, now);
    if missing == 0 || !wait.is_zero() {
        return (Vec::new(), Some(wait).filter(|wait| missing > 0 && !wait.is_zero()));
    }
    let free = (0..job.completions.unwrap_or(0))
        .filter(|number| !count.done.contains(number) && !count.taken.contains(number));
    let mut free = free.take(missing);
    let pods = (0..missing).filter_map(|_| match job.indexed {
        true => free.next().map(|number| new_pod(job, Some(number), names)),
        false => Some(new_pod(job, None, names)),
    });
    (pods.map(Write::Create).collect(), None)
}

/// After each failure twice as long, so that a pod that cannot succeed does not fail all day.
fn wait(count: &Count<'_>, backoff: Duration, now: Timestamp) -> Duration {
    let Some(last) = count.last_failure else { return Duration::ZERO };
    let doublings = count.failed.saturating_sub(1).min(16);
    let wait = backoff.saturating_mul(1 << doublings).min(LONGEST);
    wait.saturating_sub(since(last, now))
}

fn new_pod(job: &Job, index: Option<u32>, names: &mut Names) -> Value {
    let (key, uid) = (&job.meta.key, &job.meta.uid);
    let prefix = match index {
        Some(index) => format!("{}-{index}-", key.name),
        None => format!("{}-", key.name),
    };
    let owner = owner_reference("batch/v1", "Job", &key.name, uid);
    let mut pod = template::pod(&job.template, &key.namespace, &names.name(&prefix), owner);
    pod["metadata"]["generateName"] = prefix.as_str().into();
    let labels = &mut pod["metadata"]["labels"];
    for group in ["", "batch.kubernetes.io/"] {
        labels[format!("{group}controller-uid")] = uid.as_str().into();
        labels[format!("{group}job-name")] = (*key.name).into();
    }
    let Some(index) = index.map(|index| index.to_string()) else { return pod };
    labels[INDEX] = index.as_str().into();
    pod["metadata"]["annotations"][INDEX] = index.as_str().into();
    pod["spec"]["hostname"] = prefix.trim_end_matches('-').into();
    let variable = json!({"name": "JOB_COMPLETION_INDEX", "value": index});
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            match container["env"].as_array_mut() {
                Some(variables) => variables.push(variable.clone()),
                None => container["env"] = json!([variable]),
            }
        }
    }
    pod
}

/// What is left to do for a Job that is over.
fn finished(
    job: &Job,
    count: &Count<'_>,
    since_when: Option<Timestamp>,
    now: Timestamp,
) -> Outcome {
    let mut writes: Vec<_> = count.active.iter().map(|pod| delete(pod)).collect();
    writes.extend(report(job, count, None, now));
    let left = job.ttl.zip(since_when).map(|(ttl, then)| ttl.saturating_sub(since(then, now)));
    if left == Some(Duration::ZERO) {
        writes.push(Write::Delete { kind: Kind::JOB, key: job.meta.key.clone(), grace: None });
    }
    Outcome { writes, again: left.filter(|left| !left.is_zero()) }
}

fn report(
    job: &Job,
    count: &Count<'_>,
    verdict: Option<Condition>,
    now: Timestamp,
) -> Option<Write> {
    let over = verdict.is_some();
    let active = if over { 0 } else { count.active.len() };
    let mut status = Map::from_iter([
        ("active".to_owned(), active.into()),
        ("ready".to_owned(), (if over { 0 } else { count.ready }).into()),
        ("terminating".to_owned(), count.terminating.into()),
        ("succeeded".to_owned(), count.succeeded.into()),
        ("failed".to_owned(), count.failed.into()),
    ]);
    if job.indexed && !count.done.is_empty() {
        status.insert("completedIndexes".to_owned(), ranges(&count.done).into());
    }
    let mut changed = differences(&job.status, status);
    if job.status["startTime"].is_null() && !job.suspended {
        changed.insert("startTime".to_owned(), stamp(now).into());
    }
    let mut set = Vec::new();
    if job.suspended || job.status["conditions"].as_array().is_some_and(|it| !it.is_empty()) {
        let (status, reason, message) = match job.suspended {
            true => ("True", "JobSuspended", "Job suspended"),
            false => ("False", "JobResumed", "Job resumed"),
        };
        let said = job.status["conditions"].as_array().into_iter().flatten();
        if job.suspended || said.clone().any(|it| it["type"] == "Suspended") {
            set.push(Condition { kind: "Suspended", status, reason, message: message.to_owned() });
        }
    }
    if verdict.as_ref().is_some_and(|it| it.kind == "Complete") {
        changed.insert("completionTime".to_owned(), stamp(now).into());
    }
    set.extend(verdict);
    let listed = conditions(&job.status, &set, now);
    changed.extend(listed.map(|listed| ("conditions".to_owned(), listed.into())));
    if changed.is_empty() {
        return None;
    }
    let key = job.meta.key.clone();
    Some(Write::PatchStatus { kind: Kind::JOB, key, patch: json!({"status": changed}) })
}

/// `0-2,5`, as `status.completedIndexes` has it.
fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Further numbers than any Job has mean nothing.
const MOST_COMPLETIONS: u32 = 100_000;

fn numbers(text: &str) -> BTreeSet<u32> {
    let run = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last: u32 = last.parse().ok()?;
        Some(first.parse().ok()?..=last.min(MOST_COMPLETIONS))
    };
    text.split(',').filter_map(run).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{apply, pod};
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    const MINUTE: &str = "2026-01-01T00:01:00Z";

    fn job(spec: Value, status: Value) -> Value {
        let mut job = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "j", "namespace": "default", "uid": "uid-j"},
            "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
            "status": status,
        });
        crate::fixture::merge(&mut job["spec"], spec);
        job
    }

    fn member(name: &str, phase: &str, index: Option<u32>) -> Value {
        let mut pod = pod(name, Some("n"), None, false);
        pod["metadata"]["ownerReferences"] =
            json!([{"kind": "Job", "name": "j", "uid": "uid-j", "controller": true}]);
        pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["status"]["phase"] = phase.into();
        if let Some(index) = index {
            pod["metadata"]["annotations"] = json!({INDEX: index.to_string()});
        }
        pod
    }

    /// What the next look does: pods made and deleted, the condition that is set, and when to look again.
    fn look(job: Value, pods: Vec<Value>) -> (usize, usize, Option<String>, Option<u64>) {
        let mut cluster = Cluster::default();
        apply(&mut cluster, pods.into_iter().chain([job]));
        let (key, now) = (ObjectKey::new("default", "j"), MINUTE.parse().unwrap());
        let outcome = plan(&cluster, &key, &Settings::default(), &mut Names::new(1), now);
        let made = outcome.writes.iter().filter(|it| matches!(it, Write::Create(_))).count();
        let gone = outcome.writes.iter().filter(|it| matches!(it, Write::Delete { .. })).count();
        let said = outcome.writes.iter().find_map(|write| match write {
            Write::PatchStatus { patch, .. } => {
                let last = patch["status"]["conditions"].as_array()?.last()?;
                Some(format!("{}={}", last["type"], last["reason"]).replace('"', ""))
            }
            _ => None,
        });
        (made, gone, said, outcome.again.map(|wait| wait.as_secs()))
    }

    #[test]
    fn jobs_run_to_their_end() {
        let pods = |phases: &[&str]| -> Vec<_> {
            let named = phases.iter().enumerate();
            named.map(|(index, phase)| member(&format!("p{index}"), phase, None)).collect()
        };
        let none = || json!({});
        let three = json!({"completions": 3, "parallelism": 2});
        let complete = Some("Complete=CompletionsReached".to_owned());
        let failed = |reason: &str| Some(format!("Failed={reason}"));
        let started = json!({"startTime": "2026-01-01T00:00:00Z"});
        let done = json!({"conditions":
            [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:50Z"}]});
        let rows = [
            (job(none(), none()), pods(&[]), (1, 0, None, None)),
            (job(three.clone(), none()), pods(&[]), (2, 0, None, None)),
            (job(three.clone(), none()), pods(&["Succeeded", "Running"]), (1, 0, None, None)),
            (job(three.clone(), none()), pods(&["Succeeded", "Succeeded"]), (1, 0, None, None)),
            (job(three, none()), pods(&["Succeeded"; 3]), (0, 0, complete.clone(), None)),
            // The failure is a minute ago and the wait after two of them 20 s, after four 80 s.
            (job(none(), none()), pods(&["Failed"; 2]), (1, 0, None, None)),
            (job(none(), none()), pods(&["Failed"; 4]), (0, 0, None, Some(20))),
            (
                job(json!({"backoffLimit": 1}), none()),
                pods(&["Failed", "Failed", "Running"]),
                (0, 1, failed("BackoffLimitExceeded"), None),
            ),
            (
                job(json!({"activeDeadlineSeconds": 60}), started.clone()),
                pods(&["Running"]),
                (0, 1, failed("DeadlineExceeded"), Some(0)),
            ),
            (
                job(json!({"activeDeadlineSeconds": 70}), started),
                pods(&["Running"]),
                (0, 0, None, Some(10)),
            ),
            (
                job(json!({"suspend": true}), none()),
                pods(&["Running"]),
                (0, 1, Some("Suspended=JobSuspended".to_owned()), None),
            ),
            (
                job(json!({"parallelism": 3}), none()),
                pods(&["Succeeded", "Running"]),
                (0, 0, None, None),
            ),
            (job(json!({"parallelism": 3}), none()), pods(&["Succeeded"]), (0, 0, complete, None)),
            (
                job(json!({"ttlSecondsAfterFinished": 10}), done.clone()),
                pods(&[]),
                (0, 1, None, None),
            ),
            (job(json!({"ttlSecondsAfterFinished": 15}), done), pods(&[]), (0, 0, None, Some(5))),
        ];
        for (job, pods, expected) in rows {
            assert_eq!(look(job.clone(), pods.clone()), expected, "{job} {pods:?}");
        }
    }

    #[test]
    fn each_index_is_completed_once() {
        let mut cluster = Cluster::default();
        let spec = json!({"completions": 4, "parallelism": 9, "completionMode": "Indexed"});
        let pods = [member("a", "Succeeded", Some(0)), member("b", "Running", Some(2))];
        apply(&mut cluster, pods.into_iter().chain([job(spec, json!({"completedIndexes": "0"}))]));
        let (key, now) = (ObjectKey::new("default", "j"), MINUTE.parse().unwrap());
        let outcome = plan(&cluster, &key, &Settings::default(), &mut Names::new(1), now);
        let indices = outcome.writes.iter().filter_map(|write| match write {
            Write::Create(pod) => {
                let variable = &pod["spec"]["containers"][0]["env"][0];
                assert_eq!(variable["value"], pod["metadata"]["annotations"][INDEX]);
                variable["value"].as_str().map(str::to_owned)
            }
            _ => None,
        });
        assert_eq!(indices.collect::<Vec<_>>(), ["1", "3"]);
    }

    proptest! {
        #[test]
        fn indices_are_read_as_they_are_written(done in prop::collection::btree_set(0u32..40, 0..30)) {
            prop_assert_eq!(numbers(&ranges(&done)), done);
        }

        #[test]
        fn any_text_is_some_indices(text in "[0-9,-]{0,20}|\\PC{0,20}") {
            let found = numbers(&text);
            prop_assert_eq!(numbers(&ranges(&found)), found);
        }
    }
}
