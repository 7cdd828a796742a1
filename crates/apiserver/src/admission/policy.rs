//! HorizontalPodAutoscalers and PodDisruptionBudgets (`k8s.io/kubernetes/pkg/apis/{autoscaling,policy}`).

use super::causes::Causes;
use super::preset;
use serde_json::{Map, Value, json};

pub(super) fn complete_autoscaler(spec: &mut Map<String, Value>) {
    preset(spec, "minReplicas", || 1.into());
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    let by_cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    let metrics = spec.entry("metrics").or_insert(Value::Null);
    if metrics.as_array().is_none_or(Vec::is_empty) {
        *metrics = by_cpu;
    }
}

pub(super) fn check_autoscaler(spec: &Value, causes: &mut Causes) {
    let (least, most) = (spec["minReplicas"].as_i64(), spec["maxReplicas"].as_i64().unwrap_or(0));
    if least.is_some_and(|least| least < 1) {
        let detail = "must be greater than or equal to 1";
        causes.invalid("spec.minReplicas", &spec["minReplicas"], detail);
    }
    if most < 1 {
        causes.required("spec.maxReplicas", "must be set and greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        causes.invalid("spec.maxReplicas", &most.into(), detail);
    }
    let target = |field: &str| spec["scaleTargetRef"][field].as_str().unwrap_or_default();
    for field in ["kind", "name"] {
        if target(field).is_empty() {
            causes.required(&format!("spec.scaleTargetRef.{field}"), "");
        }
    }
    let version = target("apiVersion");
    if !version.contains('/') && (version, target("kind")) != ("v1", "ReplicationController") {
        let detail = "apiVersion must specify API group";
        causes.invalid("spec.scaleTargetRef.apiVersion", &version.into(), detail);
    }
}

pub(super) fn check_budget(spec: &Value, causes: &mut Causes) {
    const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];
    const BOUNDS: [&str; 2] = ["minAvailable", "maxUnavailable"];
    if BOUNDS.iter().all(|bound| !spec[*bound].is_null()) {
        let shown = format!(
            r#"{{"MinAvailable":{},"Selector":{},"MaxUnavailable":{},"UnhealthyPodEvictionPolicy":{}}}"#,
            spec["minAvailable"],
            spec["selector"],
            spec["maxUnavailable"],
            spec["unhealthyPodEvictionPolicy"]
        );
        let detail = "minAvailable and maxUnavailable cannot be both set";
        causes.invalid_shown("spec", &shown, detail);
    }
    for bound in BOUNDS {
        check_bound(&format!("spec.{bound}"), &spec[bound], causes);
    }
    if let Some(policy) = spec["unhealthyPodEvictionPolicy"].as_str() {
        causes.one_of("spec.unhealthyPodEvictionPolicy", policy, &POLICIES);
    }
}

/// A number of pods, or so many of a hundred.
fn check_bound(field: &str, bound: &Value, causes: &mut Causes) {
    let Some(text) = bound.as_str() else { return causes.not_negative(field, bound) };
    let percent =
        text.strip_suffix('%').filter(|it| it.bytes().all(|digit| digit.is_ascii_digit()));
    match percent.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(0..=100) => {}
        Some(_) => causes.invalid(field, bound, "must not be greater than 100%"),
        None => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            causes.invalid(field, bound, detail);
        }
    }
}
