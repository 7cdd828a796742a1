//! Deployments and `ReplicaSets`.

use super::causes::Causes;
use super::{child, pod, preset, text};
use crate::resources::Kind;
use serde_json::{Map, Value, json};

pub(super) fn admit(
    kind: Kind,
    workload: &mut Map<String, Value>,
    old: Option<&Value>,
    causes: &mut Causes,
) {
    let spec = child(workload, "spec");
    preset(spec, "replicas", || 1.into());
    if kind == Kind::Deployment {
        complete_deployment(spec);
    }
    if let Some(Value::Object(template)) = spec.get_mut("template") {
        preset(template, "metadata", || json!({}));
        pod::complete(child(template, "spec"));
    }
    check(spec, old, causes);
}

fn complete_deployment(spec: &mut Map<String, Value>) {
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

fn check(spec: &Map<String, Value>, old: Option<&Value>, causes: &mut Causes) {
    let replicas = &spec["replicas"];
    if replicas.as_i64().unwrap_or(0) < 0 {
        causes.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
    }
    let none = Value::Null;
    let selector = spec.get("selector").unwrap_or(&none);
    if selector.is_null() {
        causes.required("spec.selector", "");
    } else if selector.as_object().is_some_and(Map::is_empty) {
        causes.invalid("spec.selector", selector, "empty selector is invalid for deployment");
    }
    if old.is_some_and(|old| old["spec"]["selector"] != *selector) {
        causes.invalid("spec.selector", selector, "field is immutable");
    }
    let template = spec.get("template").unwrap_or(&none);
    let labels = &template["metadata"]["labels"];
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    if wanted.into_iter().any(|(key, value)| labels[key] != *value) {
        let labels = if labels.is_null() { &json!({}) } else { labels };
        causes.invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        );
    }
    match template["spec"].as_object() {
        Some(spec) => check_template(spec, causes),
        None => causes.required("spec.template.spec.containers", ""),
    }
}

fn check_template(spec: &Map<String, Value>, causes: &mut Causes) {
    pod::check(spec, "spec.template.spec", causes);
    match text(spec, "restartPolicy") {
        "OnFailure" | "Never" => {
            causes.unsupported(
                "spec.template.spec.restartPolicy",
                text(spec, "restartPolicy"),
                &["Always"],
            );
        }
        _ => {}
    }
}
