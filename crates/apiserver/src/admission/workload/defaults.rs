//! What workloads mean where they say nothing (`k8s.io/kubernetes/pkg/apis/{apps,batch}/v1/defaults.go`).

use super::Fields;
use crate::admission::{child, pod, preset, text};
use crate::resources::Kind;
use serde_json::{Map, Value, json};

pub(in crate::admission) fn complete(kind: Kind, workload: &mut Fields, old: Option<&Value>) {
    let spec = child(workload, "spec");
    match kind {
        Kind::Deployment => deployment(spec),
        Kind::StatefulSet => stateful_set(spec),
        Kind::DaemonSet => daemon_set(spec),
        Kind::Job => job(workload),
        Kind::CronJob => cron_job(spec),
        Kind::ReplicationController => return replication_controller(workload),
        _ => preset(spec, "replicas", || 1.into()),
    }
    if kind != Kind::CronJob {
        template(child(workload, "spec"));
    }
    if kind == Kind::DaemonSet {
        number_template(workload, old);
    }
}

/// What is counted from the beginning.
pub(super) fn begin_status(kind: Kind, workload: &mut Fields) {
    let counts: &[&str] = match kind {
        Kind::ReplicaSet | Kind::ReplicationController => &["replicas"],
        Kind::StatefulSet => &["replicas", "availableReplicas"],
        Kind::DaemonSet => &[
            "currentNumberScheduled",
            "desiredNumberScheduled",
            "numberMisscheduled",
            "numberReady",
        ],
        _ => &[],
    };
    let status = child(workload, "status");
    counts.iter().for_each(|count| preset(status, count, || 0.into()));
}

fn template(spec: &mut Fields) {
    let template = child(spec, "template");
    child(template, "metadata");
    pod::complete(child(template, "spec"));
}

/// It selects the pods that it makes, and is called what they are called.
fn replication_controller(workload: &mut Fields) {
    let spec = child(workload, "spec");
    preset(spec, "replicas", || 1.into());
    if spec.get("template").is_none() {
        return;
    }
    template(spec);
    let labels = spec["template"]["metadata"]["labels"].clone();
    if labels.is_null() {
        return;
    }
    let is_empty = |map: &Value| map.as_object().is_none_or(Map::is_empty);
    if spec.get("selector").is_none_or(is_empty) {
        spec.insert("selector".to_owned(), labels.clone());
    }
    let metadata = child(workload, "metadata");
    if metadata.get("labels").is_none_or(is_empty) {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn deployment(spec: &mut Fields) {
    preset(spec, "replicas", || 1.into());
    preset(spec, "revisionHistoryLimit", || 10.into());
    preset(spec, "progressDeadlineSeconds", || 600.into());
    let strategy = child(spec, "strategy");
    preset(strategy, "type", || "RollingUpdate".into());
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        preset(rolling, "maxSurge", || "25%".into());
        preset(rolling, "maxUnavailable", || "25%".into());
    }
}

fn stateful_set(spec: &mut Fields) {
    preset(spec, "replicas", || 1.into());
    preset(spec, "revisionHistoryLimit", || 10.into());
    preset(spec, "podManagementPolicy", || "OrderedReady".into());
    let strategy = child(spec, "updateStrategy");
    if !strategy.contains_key("type") {
        strategy.insert("type".into(), "RollingUpdate".into());
        child(strategy, "rollingUpdate");
    }
    if text(strategy, "type") == "RollingUpdate"
        && let Some(Value::Object(rolling)) = strategy.get_mut("rollingUpdate")
    {
        preset(rolling, "partition", || 0.into());
    }
    let retention = child(spec, "persistentVolumeClaimRetentionPolicy");
    preset(retention, "whenDeleted", || "Retain".into());
    preset(retention, "whenScaled", || "Retain".into());
}

fn daemon_set(spec: &mut Fields) {
    preset(spec, "revisionHistoryLimit", || 10.into());
    let strategy = child(spec, "updateStrategy");
    preset(strategy, "type", || "RollingUpdate".into());
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        preset(rolling, "maxSurge", || 0.into());
        preset(rolling, "maxUnavailable", || 1.into());
    }
}

/// How many templates it has had so far, where the first version of the API counted them.
fn number_template(set: &mut Fields, old: Option<&Value>) {
    const NUMBER: &str = "deprecated.daemonset.template.generation";
    let number = |annotations: &Value| annotations[NUMBER].as_str()?.parse::<i64>().ok();
    let number = match old {
        None => number(&set["metadata"]["annotations"]).unwrap_or(0).max(1),
        Some(old) => {
            let changed = old["spec"]["template"] != set["spec"]["template"];
            number(&old["metadata"]["annotations"]).unwrap_or(1) + i64::from(changed)
        }
    };
    let annotations = child(child(set, "metadata"), "annotations");
    annotations.insert(NUMBER.into(), number.to_string().into());
}

fn job(job: &mut Fields) {
    let spec = child(job, "spec");
    job_spec(spec);
    let labels = &spec["template"]["metadata"]["labels"];
    let labels = labels.as_object().filter(|labels| !labels.is_empty()).cloned();
    let metadata = child(job, "metadata");
    if let Some(labels) = labels
        && metadata.get("labels").and_then(Value::as_object).is_none_or(Fields::is_empty)
    {
        metadata.insert("labels".into(), labels.into());
    }
}

fn job_spec(spec: &mut Fields) {
    child(spec, "template");
    if !spec.contains_key("parallelism") {
        preset(spec, "completions", || 1.into());
    }
    preset(spec, "parallelism", || 1.into());
    let endless = spec.contains_key("backoffLimitPerIndex");
    preset(spec, "backoffLimit", || if endless { i32::MAX } else { 6 }.into());
    preset(spec, "completionMode", || "NonIndexed".into());
    preset(spec, "suspend", || false.into());
    preset(spec, "manualSelector", || false.into());
    let replaced =
        if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    preset(spec, "podReplacementPolicy", || replaced.into());
}

/// The Jobs that come of it are completed when they are made.
fn cron_job(spec: &mut Fields) {
    preset(spec, "concurrencyPolicy", || "Allow".into());
    preset(spec, "suspend", || false.into());
    preset(spec, "successfulJobsHistoryLimit", || 3.into());
    preset(spec, "failedJobsHistoryLimit", || 1.into());
    let job = child(spec, "jobTemplate");
    child(job, "metadata");
    let spec = child(job, "spec");
    preset(spec, "template", || json!({}));
    template(spec);
}
