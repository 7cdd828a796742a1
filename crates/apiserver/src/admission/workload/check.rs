//! What is wrong with a workload, in the order in which the real server says it
//! (`k8s.io/kubernetes/pkg/apis/apps/validation`).

use super::Fields;
use crate::admission::causes::Causes;
use crate::admission::{metadata, names, pod, text};
use crate::resources::Kind;
use crate::selector::Selector;
use serde_json::{Value, json};
use std::borrow::Cow;

const TEMPLATE: &str = "spec.template";

pub(super) fn check(kind: Kind, spec: &Fields, old: Option<&Value>, causes: &mut Causes) {
    let at = |field: &str| spec.get(field).unwrap_or(&Value::Null);
    let changed = old.is_some_and(|old| old["selector"] != *at("selector"));
    match kind {
        Kind::DaemonSet => {
            if changed {
                causes.invalid("spec.selector", at("selector"), "field is immutable");
            }
            check_selector(kind, spec, causes);
            check_template(kind, spec, causes);
            causes.not_negative("spec.minReadySeconds", at("minReadySeconds"));
            daemon_strategy(spec, causes);
            causes.not_negative("spec.revisionHistoryLimit", at("revisionHistoryLimit"));
        }
        Kind::StatefulSet => {
            stateful_strategy(spec, causes);
            causes.not_negative("spec.replicas", at("replicas"));
            causes.not_negative("spec.minReadySeconds", at("minReadySeconds"));
            let service = text(spec, "serviceName");
            if let (None, false, Err(detail)) = (old, service.is_empty(), names::label(service)) {
                causes.invalid("spec.serviceName", &service.into(), detail);
            }
            check_selector(kind, spec, causes);
            check_template(kind, spec, causes);
            if let Some(old) = old.and_then(Value::as_object) {
                stateful_change(spec, old, causes);
            }
        }
        Kind::ReplicationController => replication_controller(spec, causes),
        _ => {
            causes.not_negative("spec.replicas", at("replicas"));
            if kind == Kind::ReplicaSet {
                causes.not_negative("spec.minReadySeconds", at("minReadySeconds"));
            }
            check_selector(kind, spec, causes);
            check_template(kind, spec, causes);
            if kind == Kind::Deployment {
                deployment(spec, causes);
            }
            if changed {
                causes.invalid("spec.selector", at("selector"), "field is immutable");
            }
        }
    }
}

fn replication_controller(spec: &Fields, causes: &mut Causes) {
    let at = |field: &str| spec.get(field).unwrap_or(&Value::Null);
    causes.not_negative("spec.minReadySeconds", at("minReadySeconds"));
    let selector = at("selector").as_object().filter(|selector| !selector.is_empty());
    if selector.is_none() {
        causes.required("spec.selector", "");
    }
    causes.not_negative("spec.replicas", at("replicas"));
    let template = at("template");
    if template.is_null() {
        return causes.required(TEMPLATE, "");
    }
    let labels = &template["metadata"]["labels"];
    if selector.into_iter().flatten().any(|(name, value)| labels[name] != *value) {
        let detail = "`selector` does not match template `labels`";
        causes.invalid("spec.template.metadata.labels", labels, detail);
    }
    self::template(template, TEMPLATE, causes);
    check_ends(Kind::ReplicationController, template, causes);
}

/// No count is negative, and there are not more of a kind of replicas than there are replicas.
pub(in crate::admission) fn check_status(kind: Kind, workload: &Fields, causes: &mut Causes) {
    let special = if kind == Kind::Deployment { "updatedReplicas" } else { "fullyLabeledReplicas" };
    let parts = [special, "readyReplicas", "availableReplicas"];
    let counts = ["replicas"].into_iter().chain(parts);
    let counts: Vec<_> = match kind {
        Kind::Deployment => ["observedGeneration"]
            .into_iter()
            .chain(counts)
            .chain(["unavailableReplicas"])
            .collect(),
        _ => counts.chain(["observedGeneration"]).collect(),
    };
    let none = Value::Null;
    let status = workload.get("status").unwrap_or(&none);
    for field in counts {
        causes.not_negative(&format!("status.{field}"), &status[field]);
    }
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    for field in parts {
        if count(field) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            causes.invalid(&format!("status.{field}"), &count(field).into(), detail);
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        causes.invalid("status.availableReplicas", &status["availableReplicas"], detail);
    }
}

fn check_selector(kind: Kind, spec: &Fields, causes: &mut Causes) {
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    if selector.is_null() {
        // A DaemonSet's is not asked for: what none selects cannot be.
        if kind != Kind::DaemonSet {
            causes.required("spec.selector", "");
        }
        return;
    }
    self::selector(selector, "spec.selector", causes);
    let empty = |field: &str| match &selector[field] {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    };
    if empty("matchLabels") && empty("matchExpressions") {
        let kind = match kind {
            Kind::StatefulSet => "statefulset",
            Kind::DaemonSet => "daemonset",
            _ => "deployment",
        };
        let detail = format!("empty selector is invalid for {kind}");
        causes.invalid("spec.selector", selector, &detail);
    }
}

/// A label selector with `matchLabels` and `matchExpressions`.
pub(in crate::admission) fn selector(selector: &Value, path: &str, causes: &mut Causes) {
    metadata::labels(&selector["matchLabels"], &format!("{path}.matchLabels"), causes);
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    for (index, expression) in expressions.enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let text = |field: &str| expression[field].as_str().unwrap_or_default();
        let values = expression["values"].as_array().map_or(0, Vec::len);
        match text("operator") {
            "In" | "NotIn" if values == 0 => causes.required(
                &format!("{path}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if values > 0 => causes.forbidden(
                &format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => causes.invalid(
                &format!("{path}.operator"),
                &other.into(),
                "not a valid selector operator",
            ),
        }
        let key = text("key");
        causes.each(&format!("{path}.key"), &key.into(), names::qualified(key));
    }
}

fn check_template(kind: Kind, spec: &Fields, causes: &mut Causes) {
    let template = spec.get("template").unwrap_or(&Value::Null);
    let labels = &template["metadata"]["labels"];
    let wanted = spec.get("selector").unwrap_or(&Value::Null);
    match Selector::of_object(wanted) {
        None if kind != Kind::DaemonSet => {
            let detail = if kind == Kind::StatefulSet { "" } else { "invalid label selector" };
            return causes.invalid("spec.selector", wanted, detail);
        }
        Some(selector) if !selector.selects(labels) => {
            let detail = "`selector` does not match template `labels`";
            causes.invalid("spec.template.metadata.labels", labels, detail);
        }
        _ => {}
    }
    self::template(&with_claims(template, spec), TEMPLATE, causes);
    check_ends(kind, template, causes);
}

/// Pods that are replaced when they end must not end by themselves.
fn check_ends(kind: Kind, template: &Value, causes: &mut Causes) {
    let policy = template["spec"]["restartPolicy"].as_str().unwrap_or_default();
    if policy != "Always" {
        causes.unsupported("spec.template.spec.restartPolicy", policy, &["Always"]);
    }
    if !template["spec"]["activeDeadlineSeconds"].is_null() {
        let kind = match kind {
            Kind::StatefulSet => "StatefulSet",
            Kind::DaemonSet => "DaemonSet",
            Kind::ReplicationController => "ReplicationController",
            _ => "ReplicaSet",
        };
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        causes.forbidden("spec.template.spec.activeDeadlineSeconds", &detail);
    }
}

/// The template with the volumes that a StatefulSet's claims become in its pods.
fn with_claims<'a>(template: &'a Value, spec: &Fields) -> Cow<'a, Value> {
    let claims = spec.get("volumeClaimTemplates").and_then(Value::as_array);
    let Some(claims) = claims.filter(|claims| !claims.is_empty()) else {
        return Cow::Borrowed(template);
    };
    let mut whole = template.clone();
    if let Some(pod) = whole["spec"].as_object_mut() {
        let volumes = pod.entry("volumes").or_insert_with(|| json!([]));
        let made = claims.iter().map(|claim| &claim["metadata"]["name"]);
        let made = made.map(|name| json!({"name": name, "emptyDir": {}}));
        volumes.as_array_mut().into_iter().for_each(|volumes| volumes.extend(made.clone()));
    }
    Cow::Owned(whole)
}

/// A pod template that stands at `path`.
pub(super) fn template(template: &Value, path: &str, causes: &mut Causes) {
    metadata::labels(&template["metadata"]["labels"], &format!("{path}.labels"), causes);
    if let Some(spec) = template["spec"].as_object() {
        pod::check(spec, &format!("{path}.spec"), false, causes);
    }
}

fn deployment(spec: &Fields, causes: &mut Causes) {
    const PATH: &str = "spec.strategy";
    let at = |field: &str| spec.get(field).unwrap_or(&Value::Null);
    let strategy = at("strategy");
    let rolling = &strategy["rollingUpdate"];
    match strategy["type"].as_str().unwrap_or_default() {
        "Recreate" if !rolling.is_null() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            causes.forbidden("spec.strategy.rollingUpdate", detail);
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (surge, unavailable) = (&rolling["maxSurge"], &rolling["maxUnavailable"]);
            let field = "spec.strategy.rollingUpdate.maxUnavailable";
            amount(unavailable, field, causes);
            amount(surge, "spec.strategy.rollingUpdate.maxSurge", causes);
            if number(unavailable) == 0 && number(surge) == 0 {
                causes.invalid(field, unavailable, "may not be 0 when `maxSurge` is 0");
            }
            not_all(unavailable, field, causes);
        }
        _ => causes.unsupported_shown(PATH, &shown(strategy), &["Recreate", "RollingUpdate"]),
    }
    causes.not_negative("spec.minReadySeconds", at("minReadySeconds"));
    causes.not_negative("spec.revisionHistoryLimit", at("revisionHistoryLimit"));
    let deadline = at("progressDeadlineSeconds");
    causes.not_negative("spec.progressDeadlineSeconds", deadline);
    let ready = at("minReadySeconds").as_i64().unwrap_or(0);
    if deadline.as_i64().is_some_and(|deadline| deadline <= ready) {
        let detail = "must be greater than minReadySeconds";
        causes.invalid("spec.progressDeadlineSeconds", deadline, detail);
    }
}

fn daemon_strategy(spec: &Fields, causes: &mut Causes) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    let rolling = &strategy["rollingUpdate"];
    match strategy["type"].as_str().unwrap_or_default() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = |field: &str| format!("spec.updateStrategy.rollingUpdate.{field}");
            let both = ["maxUnavailable", "maxSurge"];
            both.iter().for_each(|field| amount(&rolling[*field], &path(field), causes));
            both.iter().for_each(|field| not_all(&rolling[*field], &path(field), causes));
            match both.map(|field| number(&rolling[field]) != 0) {
                [true, true] => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    causes.invalid(&path("maxSurge"), &rolling["maxSurge"], detail);
                }
                [false, false] => {
                    causes.required(&path("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                _ => {}
            }
        }
        _ => {
            let supported = ["RollingUpdate", "OnDelete"];
            causes.unsupported_shown("spec.updateStrategy", &shown(strategy), &supported);
        }
    }
}

fn stateful_strategy(spec: &Fields, causes: &mut Causes) {
    let policy = text(spec, "podManagementPolicy");
    if !["OrderedReady", "Parallel"].contains(&policy) {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        causes.invalid("spec.podManagementPolicy", &policy.into(), detail);
    }
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    let rolling = &strategy["rollingUpdate"];
    match strategy["type"].as_str().unwrap_or_default() {
        "OnDelete" if !rolling.is_null() => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            causes.invalid("spec.updateStrategy.rollingUpdate", rolling, detail);
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let field = "spec.updateStrategy.rollingUpdate.partition";
            causes.not_negative(field, &rolling["partition"]);
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            causes.invalid_shown("spec.updateStrategy", &shown(strategy), detail);
        }
    }
}

fn stateful_change(spec: &Fields, old: &Fields, causes: &mut Causes) {
    const FREE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |fields: &Fields| -> Fields {
        let fields = fields.iter().filter(|(field, _)| !FREE.contains(&field.as_str()));
        fields.map(|(field, value)| (field.clone(), value.clone())).collect()
    };
    if fixed(spec) != fixed(old) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        causes.forbidden("spec", detail);
    }
}

/// As Go prints its internal type.
fn shown(strategy: &Value) -> String {
    format!(r#"{{"Type":{},"RollingUpdate":{}}}"#, strategy["type"], strategy["rollingUpdate"])
}

/// A number or a percentage.
pub(in crate::admission) fn amount(value: &Value, field: &str, causes: &mut Causes) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                causes.invalid(field, value, detail);
            }
        }
        number => causes.not_negative(field, number),
    }
}

fn not_all(value: &Value, field: &str, causes: &mut Causes) {
    if percent(value).is_some_and(|percent| percent > 100) {
        causes.invalid(field, value, "must not be greater than 100%");
    }
}

fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

fn number(value: &Value) -> i64 {
    percent(value).or(value.as_i64()).unwrap_or(0)
}
