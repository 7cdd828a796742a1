//! Jobs and CronJobs (`k8s.io/kubernetes/pkg/apis/batch/validation`, `pkg/registry/batch/job`).

use super::{Fields, check};
use crate::admission::causes::Causes;
use crate::admission::{child, preset, text};
use serde_json::Value;

const COMPLETIONS: [&str; 2] = ["NonIndexed", "Indexed"];
const CONCURRENCY: [&str; 3] = ["Allow", "Forbid", "Replace"];

/// A Job that does not say otherwise finds its pods by its own uid.
pub(super) fn select_own_pods(job: &mut Fields) {
    let metadata = |field: &str| job["metadata"][field].clone();
    let (name, uid) = (metadata("name"), metadata("uid"));
    let spec = child(job, "spec");
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let labels = child(child(child(spec, "template"), "metadata"), "labels");
    for prefix in ["", "batch.kubernetes.io/"] {
        preset(labels, &format!("{prefix}job-name"), || name.clone());
        preset(labels, &format!("{prefix}controller-uid"), || uid.clone());
    }
    let labels = labels.clone();
    let selected = child(child(spec, "selector"), "matchLabels");
    preset(selected, "batch.kubernetes.io/controller-uid", || uid);
    let own = child(child(job, "metadata"), "labels");
    if own.is_empty() {
        *own = labels;
    }
}

pub(super) fn check(spec: &Fields, old: Option<&Value>, causes: &mut Causes) {
    check_spec(spec, "spec", causes);
    let template = spec.get("template").unwrap_or(&Value::Null);
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    check::selector(selector, "spec.selector", causes);
    if crate::selector::Selector::of_object(selector)
        .is_some_and(|it| !it.selects(&template["metadata"]["labels"]))
    {
        let detail = "`selector` does not match template `labels`";
        let labels = &template["metadata"]["labels"];
        causes.invalid("spec.template.metadata.labels", labels, detail);
    }
    let Some(old) = old else { return };
    let fields = ["completions", "selector", "template", "completionMode", "podFailurePolicy"];
    for field in fields {
        let value = spec.get(field).unwrap_or(&Value::Null);
        if *value != old[field] {
            causes.invalid(&format!("spec.{field}"), value, "field is immutable");
        }
    }
}

/// All that a Job and the template of one have in common.
fn check_spec(spec: &Fields, path: &str, causes: &mut Causes) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
    ] {
        let value = spec.get(field).unwrap_or(&Value::Null);
        causes.not_negative(&format!("{path}.{field}"), value);
    }
    let mode = text(spec, "completionMode");
    if !mode.is_empty() {
        causes.one_of(&format!("{path}.completionMode"), mode, &COMPLETIONS);
    }
    if mode == "Indexed" && !spec.contains_key("completions") {
        let detail = "when completion mode is Indexed";
        causes.required(&format!("{path}.completions"), detail);
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    check::template(template, &format!("{path}.template"), causes);
    let field = format!("{path}.template.spec.restartPolicy");
    match template["spec"]["restartPolicy"].as_str().unwrap_or_default() {
        "" | "Always" => causes.required(&field, "valid values: \"OnFailure\", \"Never\""),
        policy => causes.one_of(&field, policy, &["OnFailure", "Never"]),
    }
}

/// A name of the IANA database, letter for letter: where it is files, names of another case are none.
fn check_zone(name: &str, causes: &mut Causes) {
    let mut invalid = |detail: &str| causes.invalid("spec.timeZone", &name.into(), detail);
    if name.is_empty() {
        return invalid("timeZone must be nil or non-empty string");
    }
    if name.eq_ignore_ascii_case("local") {
        invalid(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
        if name == "Local" {
            return;
        }
    }
    let known =
        name == "UTC" || jiff::tz::db().get(name).is_ok_and(|zone| zone.iana_name() == Some(name));
    if !known {
        invalid(&format!("unknown time zone {name}"));
    }
}

pub(super) fn check_cron(spec: &Fields, old: Option<&Value>, causes: &mut Causes) {
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        causes.required("spec.schedule", "");
    } else if !schedule.starts_with('@') {
        let fields = schedule.split_whitespace().count();
        if fields != 5 {
            let listed: Vec<&str> = schedule.split_whitespace().collect();
            let detail =
                format!("expected exactly 5 fields, found {fields}: [{}]", listed.join(" "));
            causes.invalid("spec.schedule", &schedule.into(), &detail);
        }
    }
    let at = |field: &str| spec.get(field).unwrap_or(&Value::Null);
    causes.not_negative("spec.startingDeadlineSeconds", at("startingDeadlineSeconds"));
    let zone = at("timeZone");
    if old.is_none_or(|old| old["timeZone"] != *zone)
        && let Some(name) = zone.as_str()
    {
        check_zone(name, causes);
    }
    let policy = text(spec, "concurrencyPolicy");
    causes.one_of("spec.concurrencyPolicy", policy, &CONCURRENCY);
    if let Some(job) = at("jobTemplate")["spec"].as_object() {
        check_spec(job, "spec.jobTemplate.spec", causes);
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        causes.not_negative(&format!("spec.{field}"), at(field));
    }
}
