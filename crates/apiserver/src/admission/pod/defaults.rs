//! What a pod's spec means where it says nothing (`k8s.io/kubernetes/pkg/apis/core/v1/defaults.go`).

use super::LISTS;
use crate::admission::{child, items, preset, text};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// Of every spec, also of a workload's template.
pub(in crate::admission) fn complete(spec: &mut Fields) {
    preset(spec, "restartPolicy", || "Always".into());
    preset(spec, "terminationGracePeriodSeconds", || 30.into());
    preset(spec, "dnsPolicy", || "ClusterFirst".into());
    preset(spec, "schedulerName", || "default-scheduler".into());
    preset(spec, "securityContext", || json!({}));
    match (text(spec, "serviceAccountName"), text(spec, "serviceAccount")) {
        ("", "") => {}
        ("", name) => drop(spec.insert("serviceAccountName".into(), name.to_owned().into())),
        (name, _) => drop(spec.insert("serviceAccount".into(), name.to_owned().into())),
    }
    for list in LISTS.into_iter().chain([super::guests::FIELD]) {
        items(spec, list).for_each(complete_container);
    }
    items(spec, "volumes").for_each(complete_volume);
}

/// What admission adds to each pod.
pub(super) fn add(spec: &mut Fields) {
    preset(spec, "preemptionPolicy", || "PreemptLowerPriority".into());
    preset(spec, "priority", || 0.into());
    tolerate_silence(spec);
}

/// Of pods themselves: also what a template leaves open.
pub(in crate::admission) fn complete_pod(spec: &mut Fields) {
    complete(spec);
    preset(spec, "enableServiceLinks", || true.into());
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in LISTS {
        for container in items(spec, list) {
            for port in items(container, "ports") {
                if let Some(number) = port.get("containerPort").filter(|_| on_host).cloned() {
                    preset(port, "hostPort", || number);
                }
            }
            let resources = child(container, "resources");
            if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() {
                let requests = child(resources, "requests");
                for (what, amount) in limits {
                    preset(requests, &what, || amount);
                }
            }
        }
    }
}

/// A node that is not ready, or cannot be reached, is waited for for five minutes.
fn tolerate_silence(spec: &mut Fields) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |it: &Value| {
            let any = |field: &str| it[field].as_str().unwrap_or_default().is_empty();
            (it["key"] == key || any("key")) && (it["effect"] == "NoExecute" || any("effect"))
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

fn complete_container(container: &mut Fields) {
    let image = text(container, "image");
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    preset(container, "imagePullPolicy", || if latest { "Always" } else { "IfNotPresent" }.into());
    preset(container, "terminationMessagePath", || "/dev/termination-log".into());
    preset(container, "terminationMessagePolicy", || "File".into());
    preset(container, "resources", || json!({}));
    for port in items(container, "ports") {
        preset(port, "protocol", || "TCP".into());
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(probe) {
            complete_probe(probe);
        }
    }
    for action in ["postStart", "preStop"] {
        let lifecycle = container.get_mut("lifecycle");
        if let Some(Value::Object(action)) = lifecycle.and_then(|it| it.get_mut(action)) {
            complete_request(action);
        }
    }
    for variable in items(container, "env") {
        if let Some(Value::Object(field)) =
            variable.get_mut("valueFrom").and_then(|it| it.get_mut("fieldRef"))
        {
            preset(field, "apiVersion", || "v1".into());
        }
    }
}

fn complete_probe(probe: &mut Fields) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        preset(probe, field, || value.into());
    }
    if let Some(Value::Object(call)) = probe.get_mut("grpc") {
        preset(call, "service", || "".into());
    }
    complete_request(probe);
}

fn complete_request(action: &mut Fields) {
    if let Some(Value::Object(request)) = action.get_mut("httpGet") {
        preset(request, "path", || "/".into());
        preset(request, "scheme", || "HTTP".into());
    }
}

fn complete_volume(volume: &mut Fields) {
    if volume.keys().all(|field| field == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(Value::Object(source)) = volume.get_mut(source) {
            preset(source, "defaultMode", || 0o644.into());
            complete_items(source);
        }
    }
    if let Some(Value::Object(path)) = volume.get_mut("hostPath") {
        preset(path, "type", || "".into());
    }
    let Some(Value::Object(projected)) = volume.get_mut("projected") else { return };
    for source in items(projected, "sources") {
        if let Some(Value::Object(token)) = source.get_mut("serviceAccountToken") {
            preset(token, "expirationSeconds", || 3600.into());
        }
        if let Some(Value::Object(fields)) = source.get_mut("downwardAPI") {
            complete_items(fields);
        }
    }
}

fn complete_items(source: &mut Fields) {
    for item in items(source, "items") {
        if let Some(Value::Object(field)) = item.get_mut("fieldRef") {
            preset(field, "apiVersion", || "v1".into());
        }
    }
}
