//! `autoscaling/v1`: autoscalers as they were before they could measure anything but processors. What its fields cannot
//! say is in annotations (`k8s.io/kubernetes/pkg/apis/autoscaling/v1/conversion.go`).

mod behavior;
mod go;
mod metric;

use super::{Resource, batch};
use serde_json::{Value, json};

pub(super) const AUTOSCALING_V1: Resource =
    Resource { version: "v1", ..batch::HORIZONTAL_POD_AUTOSCALER };

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// Makes a stored autoscaler one of v1.
pub(super) fn to_v1(object: &mut Value) {
    let mut spec = object["spec"].take();
    let mut status = object["status"].take();
    let metrics = taken_list(&mut spec, "metrics");
    let current = taken_list(&mut status, "currentMetrics");
    let conditions = taken_list(&mut status, "conditions");
    let behavior = taken(&mut spec, "behavior");
    let (cpu, others): (Vec<_>, Vec<_>) = metrics.into_iter().partition(is_cpu_target);
    if let Some(metric) = cpu.first() {
        let percentage = metric["resource"]["target"]["averageUtilization"].clone();
        spec["targetCPUUtilizationPercentage"] = percentage;
    }
    for field in ["currentReplicas", "desiredReplicas"] {
        if status[field].is_null() {
            status[field] = 0.into();
        }
    }
    let of_cpu = current.iter().filter(|metric| is_cpu(metric));
    let mut utilizations =
        of_cpu.map(|metric| &metric["resource"]["current"]["averageUtilization"]);
    if let Some(utilization) = utilizations.rfind(|it| !it.is_null()) {
        status["currentCPUUtilizationPercentage"] = utilization.clone();
    }
    object["spec"] = spec;
    object["status"] = status;
    drop_annotations(object);
    let lists = [
        (METRICS, metric::list_in_v1(&others, "target")),
        (CURRENT_METRICS, metric::list_in_v1(&current, "current")),
        (CONDITIONS, conditions),
    ];
    for (annotation, list) in lists {
        if !list.is_empty() {
            annotate(object, annotation, &Value::Array(list));
        }
    }
    if !behavior.is_null() {
        annotate(object, BEHAVIOR, &behavior::in_go(&behavior));
    }
}

/// Makes an autoscaler of v1 one that is stored.
pub(super) fn from_v1(object: &mut Value) {
    let annotation = |name: &str| -> Option<Value> {
        let text = object["metadata"]["annotations"][name].as_str()?;
        serde_json::from_str(text).ok()
    };
    let list = |name: &str| match annotation(name) {
        Some(Value::Array(list)) => Some(list),
        _ => None,
    };
    let (metrics, current) = (list(METRICS), list(CURRENT_METRICS));
    let (conditions, behavior) = (list(CONDITIONS), annotation(BEHAVIOR).unwrap_or_default());
    let mut spec = object["spec"].take();
    let mut status = object["status"].take();
    let mut wanted = metric::specs(metrics.unwrap_or_default());
    let percentage = taken(&mut spec, "targetCPUUtilizationPercentage");
    if !percentage.is_null() || wanted.is_empty() {
        let percentage = if percentage.is_null() { 80.into() } else { percentage };
        let target = json!({"type": "Utilization", "averageUtilization": percentage});
        wanted.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    spec["metrics"] = wanted.into();
    let behavior = behavior::of_go(&behavior);
    if behavior.as_object().is_some_and(|it| !it.is_empty()) {
        spec["behavior"] = behavior;
    }
    let utilization = taken(&mut status, "currentCPUUtilizationPercentage");
    status["currentMetrics"] = match current {
        Some(current) => current.iter().map(|it| metric::of_v1(it, "current")).collect(),
        None if utilization.is_null() => Value::Null,
        None => {
            let current = json!({"averageUtilization": utilization});
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
        }
    };
    // The stored form leaves out a zero here.
    if status["currentReplicas"] == 0 {
        taken(&mut status, "currentReplicas");
    }
    if let Some(conditions) = conditions {
        status["conditions"] = conditions.into();
    }
    object["spec"] = spec;
    object["status"] = status;
    drop_annotations(object);
}

/// What the server makes of what a client of v1 says, defaults and all.
pub(crate) fn complete_v1(object: &mut Value) {
    from_v1(object);
    to_v1(object);
}

fn taken(object: &mut Value, field: &str) -> Value {
    object.as_object_mut().and_then(|fields| fields.remove(field)).unwrap_or_default()
}

fn taken_list(object: &mut Value, field: &str) -> Vec<Value> {
    match taken(object, field) {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn is_cpu_target(metric: &Value) -> bool {
    is_cpu(metric) && !metric["resource"]["target"]["averageUtilization"].is_null()
}

fn drop_annotations(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !ANNOTATIONS.contains(&name.as_str()));
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

fn annotate(object: &mut Value, annotation: &str, value: &Value) {
    object["metadata"]["annotations"][annotation] = go::json(value).into();
}

#[cfg(test)]
mod tests;
