//! CronJobs → Jobs, when it is time.

use super::status::differences;
use crate::cluster::Cluster;
use crate::cron::Schedule;
use crate::event::{About, Event};
use crate::record::{CronJob, Job, Overlap, owner_reference, stamp};
use crate::write::{Outcome, Write};
use client::Kind;
use jiff::Timestamp;
use model::ObjectKey;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How far back the last time that was due is looked for, nearest first: a schedule of every minute after a year's
/// pause need not be stepped through.
const WINDOWS: [Duration; 4] = [
    Duration::from_secs(3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(32 * 24 * 3600),
    Duration::MAX,
];

/// From so many missed times on they are told of.
const MANY: i64 = 100;

/// Annotation of a Job with the time that it was to begin at.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub(super) fn plan(cluster: &Cluster, key: &ObjectKey, now: Timestamp) -> Outcome {
    let Some(cron) = cluster.workloads.cron_jobs.get(key) else { return Outcome::default() };
    if cron.meta.terminating {
        return Outcome::default();
    }
    let jobs: Vec<_> = cluster.workloads.jobs.owned_by(&cron.meta.uid).collect();
    let active: Vec<_> = jobs.iter().copied().filter(|job| job.finished().is_none()).collect();
    let mut writes = forget(cron, &jobs);
    let Some(schedule) = cron.schedule.as_ref().filter(|_| !cron.suspended) else {
        writes.extend(report(cron, &jobs, &active, None));
        return writes.into();
    };
    let due = due(cron, schedule, now);
    let blocked = cron.overlap == Overlap::Forbid && !active.is_empty();
    writes.extend(due.and_then(|_| remark(cron, schedule, blocked, now)).map(Write::Tell));
    let started = due.filter(|_| !blocked);
    if let Some(time) = started {
        if cron.overlap == Overlap::Replace {
            writes.extend(active.iter().map(|job| delete(job)));
        }
        let job = new_job(cron, time, schedule);
        let name = job["metadata"]["name"].as_str().unwrap_or_default();
        if !jobs.iter().any(|job| &*job.meta.key.name == name) {
            writes.push(Write::Create(job));
        }
    }
    writes.extend(report(cron, &jobs, &active, started));
    let next = schedule.next(now).map(|next| next.duration_since(now));
    Outcome { writes, again: next.and_then(|wait| Duration::try_from(wait).ok()) }
}

/// What people should hear of a Job that is due.
fn remark(cron: &CronJob, schedule: &Schedule, blocked: bool, now: Timestamp) -> Option<Event> {
    const COMPONENT: &str = "cronjob-controller";
    let about = About::new(Kind::CRON_JOB, &cron.meta);
    if blocked {
        let message =
            "Not starting job because prior execution is running and concurrency policy is Forbid";
        return Some(about.normal(COMPONENT, "JobAlreadyActive", message));
    }
    // Counted by the distance of the first two, as kube-controller-manager counts them.
    let first = schedule.next(begin(cron, now)?)?;
    let pause = schedule.next(first)?.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / pause + 1;
    let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
    (missed > MANY).then(|| about.warning(COMPONENT, "TooManyMissedTimes", message))
}

/// What was due before that is over.
fn begin(cron: &CronJob, now: Timestamp) -> Option<Timestamp> {
    let last = cron.status["lastScheduleTime"].as_str().and_then(|text| text.parse().ok());
    let begin = last.or(cron.created)?;
    let limit = cron.starting_deadline.map(|deadline| back(now, deadline));
    Some(limit.map_or(begin, |limit| begin.max(limit)))
}

fn back(now: Timestamp, time: Duration) -> Timestamp {
    now.checked_sub(time).unwrap_or(Timestamp::MIN)
}

/// The last time at which a Job should have begun and did not.
fn due(cron: &CronJob, schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let begin = begin(cron, now)?;
    let last_since = |mut time: Timestamp| {
        let mut found = None;
        while let Some(next) = schedule.next(time).filter(|next| *next <= now) {
            (time, found) = (next, Some(next));
        }
        found
    };
    let windows = WINDOWS.into_iter().map(|window| begin.max(back(now, window)));
    windows.into_iter().find_map(last_since)
}

fn delete(job: &Job) -> Write {
    Write::Delete { kind: Kind::JOB, key: job.meta.key.clone(), grace: None }
}

/// Jobs that are over beyond those to keep, the oldest first.
fn forget(cron: &CronJob, jobs: &[&Job]) -> Vec<Write> {
    let mut writes = Vec::new();
    for (kind, keep) in [("Complete", cron.keep_succeeded), ("Failed", cron.keep_failed)] {
        let ended = jobs.iter().filter(|job| job.finished().is_some_and(|(it, _)| it == kind));
        let mut ended: Vec<_> = ended.filter(|job| !job.meta.terminating).collect();
        ended.sort_by_key(|job| (job.created, &job.meta.key));
        let excess = ended.len().saturating_sub(keep);
        writes.extend(ended.into_iter().take(excess).map(|job| delete(job)));
    }
    writes
}

fn new_job(cron: &CronJob, time: Timestamp, schedule: &Schedule) -> Value {
    let key = &cron.meta.key;
    let minutes = time.as_second() / 60;
    let template = &cron.template["metadata"];
    let mut metadata = json!({
        "name": format!("{}-{minutes}", key.name),
        "namespace": &*key.namespace,
        "annotations": {SCHEDULED: schedule.told(time)},
        "ownerReferences": [owner_reference("batch/v1", "CronJob", &key.name, &cron.meta.uid)],
    });
    if let Some(labels) = template.get("labels").filter(|labels| labels.is_object()) {
        metadata["labels"] = labels.clone();
    }
    for (name, value) in template["annotations"].as_object().into_iter().flatten() {
        metadata["annotations"][name] = value.clone();
    }
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
        "spec": cron.template["spec"],
    })
}

fn report(
    cron: &CronJob,
    jobs: &[&Job],
    active: &[&Job],
    started: Option<Timestamp>,
) -> Option<Write> {
    let reference = |job: &&Job| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "namespace": &*job.meta.key.namespace,
            "name": &*job.meta.key.name, "uid": job.meta.uid,
        })
    };
    let times = jobs.iter().filter_map(|job| job.status["completionTime"].as_str());
    let mut status = Map::new();
    let listed: Value = active.iter().map(reference).collect();
    if !active.is_empty() || cron.status["active"].as_array().is_some_and(|it| !it.is_empty()) {
        status.insert("active".to_owned(), listed);
    }
    let said = cron.status["lastSuccessfulTime"].as_str();
    let last = times.chain(said).max();
    status.extend(last.map(|last| ("lastSuccessfulTime".to_owned(), last.into())));
    status.extend(started.map(|time| ("lastScheduleTime".to_owned(), stamp(time).into())));
    let changed = differences(&cron.status, status);
    let key = cron.meta.key.clone();
    let patch = json!({"status": changed});
    (!changed.is_empty()).then_some(Write::PatchStatus { kind: Kind::CRON_JOB, key, patch })
}

#[cfg(test)]
mod tests;
