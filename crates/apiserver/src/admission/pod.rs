//! Pods, and the pod templates of workloads.

use super::causes::Causes;
use super::{child, items, names, preset, text};
use serde_json::{Map, Value, json};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESTARTS: [&str; 3] = ["Always", "OnFailure", "Never"];
const LISTS: [&str; 2] = ["containers", "initContainers"];

pub(super) fn admit(pod: &mut Map<String, Value>, old: Option<&Value>, causes: &mut Causes) {
    let spec = child(pod, "spec");
    complete(spec);
    check(spec, "spec", causes);
    let quality = quality(spec);
    if old.is_none() {
        let status = child(pod, "status");
        preset(status, "phase", || "Pending".into());
        preset(status, "qosClass", || quality.into());
    }
}

/// Fills in the spec's defaults.
pub(super) fn complete(spec: &mut Map<String, Value>) {
    preset(spec, "restartPolicy", || "Always".into());
    preset(spec, "terminationGracePeriodSeconds", || 30.into());
    preset(spec, "dnsPolicy", || "ClusterFirst".into());
    preset(spec, "schedulerName", || "default-scheduler".into());
    preset(spec, "enableServiceLinks", || true.into());
    preset(spec, "securityContext", || json!({}));
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in LISTS {
        items(spec, list).for_each(|container| complete_container(container, on_host));
    }
}

fn complete_container(container: &mut Map<String, Value>, on_host: bool) {
    let image = text(container, "image");
    let tag = image.rsplit('/').next().and_then(|last| last.split_once([':', '@']));
    let latest = tag.is_none_or(|(_, tag)| tag == "latest");
    preset(container, "imagePullPolicy", || if latest { "Always" } else { "IfNotPresent" }.into());
    preset(container, "terminationMessagePath", || "/dev/termination-log".into());
    preset(container, "terminationMessagePolicy", || "File".into());
    preset(container, "resources", || json!({}));
    for port in items(container, "ports") {
        preset(port, "protocol", || "TCP".into());
        if let Some(number) = port.get("containerPort").filter(|_| on_host).cloned() {
            preset(port, "hostPort", || number);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(probe) {
            complete_probe(probe);
        }
    }
}

fn complete_probe(probe: &mut Map<String, Value>) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        preset(probe, field, || value.into());
    }
    if let Some(Value::Object(request)) = probe.get_mut("httpGet") {
        preset(request, "path", || "/".into());
        preset(request, "scheme", || "HTTP".into());
    }
}

/// Checks a spec that stands at `path`.
pub(super) fn check(spec: &Map<String, Value>, path: &str, causes: &mut Causes) {
    causes.one_of(&format!("{path}.restartPolicy"), text(spec, "restartPolicy"), &RESTARTS);
    let mut seen = Vec::new();
    for list in LISTS {
        let containers = spec.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if list == "containers" && containers.is_empty() {
            causes.required(&format!("{path}.containers"), "");
        }
        for (index, container) in containers.iter().enumerate() {
            let Some(container) = container.as_object() else { continue };
            check_container(container, &format!("{path}.{list}[{index}]"), &mut seen, causes);
        }
    }
}

fn check_container(
    container: &Map<String, Value>,
    path: &str,
    seen: &mut Vec<String>,
    causes: &mut Causes,
) {
    let name = text(container, "name");
    let field = format!("{path}.name");
    match names::label(name) {
        _ if name.is_empty() => causes.required(&field, ""),
        Err(detail) => causes.invalid(&field, &name.into(), detail),
        Ok(()) if seen.iter().any(|seen| seen == name) => causes.duplicate(&field, &name.into()),
        Ok(()) => seen.push(name.to_owned()),
    }
    if text(container, "image").is_empty() {
        causes.required(&format!("{path}.image"), "");
    }
    let ports = container.get("ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, port) in ports.iter().enumerate() {
        let field = format!("{path}.ports[{index}]");
        match &port["containerPort"] {
            Value::Null => causes.required(&format!("{field}.containerPort"), ""),
            number => causes.port(&format!("{field}.containerPort"), number),
        }
        causes.one_of(
            &format!("{field}.protocol"),
            port["protocol"].as_str().unwrap_or_default(),
            &PROTOCOLS,
        );
    }
}

/// `status.qosClass`
fn quality(spec: &Map<String, Value>) -> &'static str {
    let containers = || spec.get("containers").and_then(Value::as_array).into_iter().flatten();
    let part =
        |c: &Value, part: &str| c["resources"][part].as_object().cloned().unwrap_or_default();
    let guaranteed = |c: &Value| {
        let (limits, requests) = (part(c, "limits"), part(c, "requests"));
        ["cpu", "memory"].iter().all(|what| limits.contains_key(*what))
            && requests.iter().all(|(what, amount)| limits.get(what) == Some(amount))
    };
    if containers().all(|c| part(c, "limits").is_empty() && part(c, "requests").is_empty()) {
        "BestEffort"
    } else if containers().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
