//! HorizontalPodAutoscalers and PodDisruptionBudgets (`k8s.io/kubernetes/pkg/apis/{autoscaling,policy}`).

use super::causes::Causes;
use super::{child, preset};
use serde_json::{Map, Value, json};

pub(super) fn complete_autoscaler(spec: &mut Map<String, Value>) {
    preset(spec, "minReplicas", || 1.into());
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    let by_cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    let metrics = spec.entry("metrics").or_insert(Value::Null);
    if metrics.as_array().is_none_or(Vec::is_empty) {
        *metrics = by_cpu;
    }
    if let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) {
        complete_behavior(behavior);
    }
}

/// Whoever says anything about how fast to scale has the rest said.
fn complete_behavior(behavior: &mut Map<String, Value>) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]});
    let down = json!({"selectPolicy": "Max", "policies": [percent]});
    for (direction, rules) in [("scaleUp", up), ("scaleDown", down)] {
        let given = child(behavior, direction);
        for (field, value) in rules.as_object().into_iter().flatten() {
            preset(given, field, || value.clone());
        }
    }
}

pub(super) fn check_autoscaler(spec: &Map<String, Value>, causes: &mut Causes) {
    let field = |name: &str| spec.get(name).unwrap_or(&Value::Null);
    let (least, most) = (field("minReplicas").as_i64(), field("maxReplicas").as_i64().unwrap_or(0));
    if least.is_some_and(|least| least < 1) {
        let detail = "must be greater than or equal to 1";
        causes.invalid("spec.minReplicas", field("minReplicas"), detail);
    }
    if most < 1 {
        causes.required("spec.maxReplicas", "must be set and greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        causes.invalid("spec.maxReplicas", &most.into(), detail);
    }
    let target = |name: &str| field("scaleTargetRef")[name].as_str().unwrap_or_default();
    for name in ["kind", "name"] {
        if target(name).is_empty() {
            causes.required(&format!("spec.scaleTargetRef.{name}"), "");
        }
    }
    let version = target("apiVersion");
    if !version.contains('/') && (version, target("kind")) != ("v1", "ReplicationController") {
        let detail = "apiVersion must specify API group";
        causes.invalid("spec.scaleTargetRef.apiVersion", &version.into(), detail);
    }
    let metrics = field("metrics").as_array();
    let outside = |metric: &Value| metric["type"] == "Object" || metric["type"] == "External";
    if least == Some(0) && !metrics.is_some_and(|metrics| metrics.iter().any(outside)) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        causes.forbidden("spec.metrics", detail);
    }
}

pub(super) fn check_budget(spec: &Map<String, Value>, causes: &mut Causes) {
    const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];
    const BOUNDS: [&str; 2] = ["minAvailable", "maxUnavailable"];
    let field = |name: &str| spec.get(name).unwrap_or(&Value::Null);
    if BOUNDS.iter().all(|bound| !field(bound).is_null()) {
        let shown = format!(
            r#"{{"MinAvailable":{},"Selector":{},"MaxUnavailable":{},"UnhealthyPodEvictionPolicy":{}}}"#,
            field("minAvailable"),
            field("selector"),
            field("maxUnavailable"),
            field("unhealthyPodEvictionPolicy")
        );
        let detail = "minAvailable and maxUnavailable cannot be both set";
        causes.invalid_shown("spec", &shown, detail);
    }
    for bound in BOUNDS {
        check_bound(&format!("spec.{bound}"), field(bound), causes);
    }
    if let Some(policy) = field("unhealthyPodEvictionPolicy").as_str() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    fn faults(check: impl Fn(&mut Causes), kind: Kind) -> String {
        let mut causes = Causes::default();
        check(&mut causes);
        let refused = causes.into_result(kind.resource(), "x").err();
        refused.map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn budgets() {
        for (spec, fault) in [
            (json!({}), ""),
            (json!({"minAvailable": "50%"}), ""),
            (json!({"maxUnavailable": 0}), ""),
            (
                json!({"maxUnavailable": -1}),
                "spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"minAvailable": "101%"}),
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"minAvailable": "many"}),
                "spec.minAvailable: Invalid value: \"many\": a valid percent string",
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "Odd"}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Odd\"",
            ),
        ] {
            let spec = spec.as_object().unwrap();
            let found = faults(|causes| check_budget(spec, causes), Kind::PodDisruptionBudget);
            assert!(
                found.contains(fault) && fault.is_empty() == found.is_empty(),
                "{spec:?}: {found}"
            );
        }
    }

    #[test]
    fn autoscalers() {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        let controller =
            json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "web"});
        for (spec, fault) in [
            (json!({"maxReplicas": 1, "scaleTargetRef": target}), ""),
            (json!({"maxReplicas": 1, "scaleTargetRef": controller}), ""),
            (
                json!({"scaleTargetRef": target}),
                "spec.maxReplicas: Required value: must be set and greater than 0",
            ),
            (
                json!({"minReplicas": 0, "maxReplicas": 1, "scaleTargetRef": target}),
                "spec.metrics: Forbidden: must specify at least one Object or External metric",
            ),
            (json!({"maxReplicas": 1}), "spec.scaleTargetRef.kind: Required value"),
        ] {
            let spec = spec.as_object().unwrap();
            let found =
                faults(|causes| check_autoscaler(spec, causes), Kind::HorizontalPodAutoscaler);
            assert!(
                found.contains(fault) && fault.is_empty() == found.is_empty(),
                "{spec:?}: {found}"
            );
        }
    }
}
