use super::{
    FailureRule, Owner, SuccessRule, count, items, meta, number, owned_text, part, seconds, text,
    time, version,
};
use crate::cron::Schedule;
use jiff::Timestamp;
use model::{Meta, Selector};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) owner: Option<Owner>,
    pub(crate) selector: Option<Selector>,
    pub(crate) created: Option<Timestamp>,
    /// How many pods must succeed; `None`: one, and then all must end.
    pub(crate) completions: Option<u32>,
    pub(crate) parallelism: u32,
    /// So many failures are borne.
    pub(crate) backoff_limit: u32,
    /// The same of each number by itself.
    pub(crate) limit_per_index: Option<u32>,
    /// So many numbers may fail.
    pub(crate) max_failed_indices: Option<u32>,
    /// The first that a failed pod meets counts.
    pub(crate) failure_rules: Vec<FailureRule>,
    pub(crate) success_rules: Vec<SuccessRule>,
    /// A pod gets its successor when it has ended, not when it begins to.
    pub(crate) replaces_ended_only: bool,
    /// Containers that fail are started again in their pod.
    pub(crate) restarts: bool,
    /// Some other controller looks after it.
    pub(crate) foreign: bool,
    /// From its start to its end.
    pub(crate) deadline: Option<Duration>,
    /// How long it stays when it is over.
    pub(crate) ttl: Option<Duration>,
    pub(crate) suspended: bool,
    /// Each completion has a number.
    pub(crate) indexed: bool,
    pub(crate) template: Arc<Value>,
    pub(crate) status: Arc<Value>,
}

impl Job {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let completions = count(value, "/spec/completions");
        let parallelism = count(value, "/spec/parallelism");
        // A Job that says neither wants one pod.
        let single = completions.is_none() && parallelism.is_none();
        Some(Job {
            meta: meta(value)?,
            version: version(value),
            owner: Owner::of(value),
            selector: super::selector(value),
            created: time(value, "/metadata/creationTimestamp"),
            completions: if single { Some(1) } else { completions },
            parallelism: parallelism.unwrap_or(1),
            backoff_limit: count(value, "/spec/backoffLimit").unwrap_or(6),
            limit_per_index: count(value, "/spec/backoffLimitPerIndex"),
            max_failed_indices: count(value, "/spec/maxFailedIndexes"),
            replaces_ended_only: text(value, "/spec/podReplacementPolicy") == Some("Failed")
                || value.pointer("/spec/podFailurePolicy").is_some_and(Value::is_object),
            failure_rules: items(value, "/spec/podFailurePolicy/rules")
                .iter()
                .filter_map(FailureRule::parse)
                .collect(),
            success_rules: items(value, "/spec/successPolicy/rules")
                .iter()
                .map(SuccessRule::parse)
                .collect(),
            restarts: text(value, "/spec/template/spec/restartPolicy") == Some("OnFailure"),
            foreign: text(value, "/spec/managedBy")
                .is_some_and(|it| it != "kubernetes.io/job-controller"),
            deadline: seconds(value, "/spec/activeDeadlineSeconds"),
            ttl: seconds(value, "/spec/ttlSecondsAfterFinished"),
            suspended: value.pointer("/spec/suspend") == Some(&Value::Bool(true)),
            indexed: text(value, "/spec/completionMode") == Some("Indexed"),
            template: Arc::new(value.pointer("/spec/template").cloned().unwrap_or_default()),
            status: part(value, "status"),
        })
    }

    /// The uids in a list of `status.uncountedTerminatedPods`: pods that are in no number of the status yet.
    pub(crate) fn uncounted(&self, list: &str) -> Vec<&str> {
        let pointer = format!("/uncountedTerminatedPods/{list}");
        items(&self.status, &pointer).iter().filter_map(Value::as_str).collect()
    }

    /// A condition that holds.
    pub(crate) fn holding(&self, kind: &str) -> Option<&Value> {
        let mut conditions = items(&self.status, "/conditions").iter();
        conditions.find(|it| it["type"] == kind && it["status"] == "True")
    }

    /// The condition by which it is over, `Complete` or `Failed`, and since when.
    pub(crate) fn finished(&self) -> Option<(&str, Option<Timestamp>)> {
        let conditions = items(&self.status, "/conditions").iter();
        let mut holding = conditions.filter(|condition| condition["status"] == "True");
        let last = holding.find(|it| matches!(text(it, "/type"), Some("Complete" | "Failed")))?;
        Some((text(last, "/type")?, time(last, "/lastTransitionTime")))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CronJob {
    pub(crate) meta: Meta,
    pub(crate) version: u64,
    pub(crate) owner: Option<Owner>,
    pub(crate) created: Option<Timestamp>,
    /// `None`: not to be understood.
    pub(crate) schedule: Option<Schedule>,
    pub(crate) overlap: Overlap,
    /// A run that could not begin for so long is left out.
    pub(crate) starting_deadline: Option<Duration>,
    pub(crate) suspended: bool,
    pub(crate) keep_succeeded: usize,
    pub(crate) keep_failed: usize,
    pub(crate) template: Arc<Value>,
    pub(crate) status: Arc<Value>,
}

/// `spec.concurrencyPolicy`: what becomes of a run that is due while another one is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlap {
    Allow,
    Forbid,
    Replace,
}

impl CronJob {
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let keep = |field: &str, default| {
            number(value, field).and_then(|limit| limit.try_into().ok()).unwrap_or(default)
        };
        let zone = owned_text(value, "/spec/timeZone");
        let schedule = text(value, "/spec/schedule").unwrap_or_default();
        Some(CronJob {
            meta: meta(value)?,
            version: version(value),
            owner: Owner::of(value),
            created: time(value, "/metadata/creationTimestamp"),
            schedule: Schedule::parse(schedule, zone.as_deref()),
            overlap: match text(value, "/spec/concurrencyPolicy") {
                Some("Forbid") => Overlap::Forbid,
                Some("Replace") => Overlap::Replace,
                _ => Overlap::Allow,
            },
            starting_deadline: seconds(value, "/spec/startingDeadlineSeconds"),
            suspended: value.pointer("/spec/suspend") == Some(&Value::Bool(true)),
            keep_succeeded: keep("/spec/successfulJobsHistoryLimit", 3),
            keep_failed: keep("/spec/failedJobsHistoryLimit", 1),
            template: Arc::new(value.pointer("/spec/jobTemplate").cloned().unwrap_or_default()),
            status: part(value, "status"),
        })
    }
}
