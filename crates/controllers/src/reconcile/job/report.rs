//! What a Job says of itself.

use super::count::Count;
use super::indices::ranges;
use super::ledger::Ledger;
use super::verdict::Verdict;
use crate::record::{Job, stamp};
use crate::write::Write;
use client::Kind;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The status, where it changes.
pub(super) fn report(
    job: &Job,
    count: &Count<'_>,
    ledger: &Ledger<'_>,
    verdict: Option<&Verdict>,
    now: Timestamp,
) -> Option<Write> {
    let mut changed = ledger.to_status(job, count);
    changed.extend(present(job, count, verdict.is_some()));
    if job.indexed {
        changed.extend(indices(job, count));
    }
    let mut conditions = job.status["conditions"].as_array().cloned().unwrap_or_default();
    let was = conditions.clone();
    match verdict {
        Some(verdict) => conclude(job, count, ledger, verdict, &mut conditions, now),
        None => suspend(job, &mut conditions, now),
    }
    changed.extend(times(job, &was, &conditions, now));
    if conditions != was {
        changed.insert("conditions".to_owned(), conditions.into());
    }
    if changed.is_empty() {
        return None;
    }
    let key = job.meta.key.clone();
    Some(Write::PatchStatus { kind: Kind::JOB, key, patch: json!({"status": changed}) })
}

/// Pods that there are; those of a Job that ends are all told to go at this very moment.
fn present(job: &Job, count: &Count<'_>, ends: bool) -> Map<String, Value> {
    let (active, terminating) = (count.active.len(), count.terminating.len());
    let (active, ready, terminating) = match ends {
        true => (0, 0, terminating + active),
        false => (active, count.ready, terminating),
    };
    let numbers = [("active", active), ("ready", ready), ("terminating", terminating)];
    let said = |field: &str| job.status[field].as_u64();
    // Real ones say zero of the last two, and nothing of the first.
    let same = |field: &str, number: usize| {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        said(field) == Some(number) || (field == "active" && number == 0 && said(field).is_none())
    };
    let changed = numbers.into_iter().filter(|(field, number)| !same(field, *number));
    changed.map(|(field, number)| (field.to_owned(), number.into())).collect()
}

fn indices(job: &Job, count: &Count<'_>) -> Map<String, Value> {
    let said = |field: &str| job.status[field].as_str();
    let mut changed = Map::new();
    let done = ranges(&count.done);
    if said("completedIndexes").unwrap_or_default() != done {
        changed.insert("completedIndexes".to_owned(), done.into());
    }
    let lost = ranges(&count.lost);
    if job.limit_per_index.is_some() && said("failedIndexes") != Some(&lost) {
        changed.insert("failedIndexes".to_owned(), lost.into());
    }
    changed
}

/// First that it will end, and when the last pod is gone and counted, that it has.
fn conclude(
    job: &Job,
    count: &Count<'_>,
    ledger: &Ledger<'_>,
    verdict: &Verdict,
    conditions: &mut Vec<Value>,
    now: Timestamp,
) {
    let (last, first) = verdict.end.conditions();
    if !verdict.said {
        set(conditions, first, true, (&verdict.reason, &verdict.message), now);
    } else if ledger.is_closed()
        && [&count.active, &count.given_up, &count.terminating].iter().all(|it| it.is_empty())
        && !job.status["startTime"].is_null()
    {
        set(conditions, last, true, (&verdict.reason, &verdict.message), now);
    }
}

fn suspend(job: &Job, conditions: &mut Vec<Value>, now: Timestamp) {
    if job.suspended {
        set(conditions, "Suspended", true, ("JobSuspended", "Job suspended"), now);
    } else if conditions.iter().any(|it| it["type"] == "Suspended") {
        set(conditions, "Suspended", false, ("JobResumed", "Job resumed"), now);
    }
}

/// One with the same status stays as it is.
fn set(
    conditions: &mut Vec<Value>,
    kind: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let position = conditions.iter().position(|it| it["type"] == kind);
    if position.is_some_and(|position| conditions[position]["status"] == status) {
        return;
    }
    let new = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastProbeTime": stamp(now), "lastTransitionTime": stamp(now),
    });
    match position {
        Some(position) => conditions[position] = new,
        None => conditions.push(new),
    }
}

/// When it began, anew after each pause, and when it was complete.
fn times(job: &Job, was: &[Value], is: &[Value], now: Timestamp) -> Map<String, Value> {
    let holds = |conditions: &[Value], kind: &str| {
        conditions.iter().any(|it| it["type"] == kind && it["status"] == "True")
    };
    let mut changed = Map::new();
    let started = !job.status["startTime"].is_null();
    let (paused, pauses) = (holds(was, "Suspended"), holds(is, "Suspended"));
    let begins = !job.suspended && !started || paused && !pauses;
    if begins {
        changed.insert("startTime".to_owned(), stamp(now).into());
    } else if started && pauses && !paused {
        changed.insert("startTime".to_owned(), Value::Null);
    }
    if holds(is, "Complete") {
        changed.insert("completionTime".to_owned(), stamp(now).into());
    }
    changed
}
